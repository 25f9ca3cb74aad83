use std::collections::{BTreeMap, BTreeSet, HashSet};

use prost::Message as _;
use proto::msg::{
    GetConversationsHasReadAndMaxSeqReq, GetConversationsHasReadAndMaxSeqResp, GetLastMessageReq,
    GetLastMessageResp, GetSeqMessageReq, GetSeqMessageResp, GetServerTimeReq, GetServerTimeResp,
    Seqs,
};
use proto::sdkws::{
    GetMaxSeqReq, GetMaxSeqResp, MsgData, PullMessageBySeqsReq, PullMessageBySeqsResp, PullMsgs,
    SeqRange,
};
use store::message_log::ERASED;
use store::record::Present;
use store::{Direction, Read, message_log, schema};

use super::delete::EVERYBODY;
use super::view::{Shown, Window, placeholder, window};
use crate::Services;
use crate::access::Caller;
use crate::conversation;
use crate::conversation_id;
use crate::error::{Result, ServiceError};
use crate::fault::Fault;

const DESCENDING: i32 = 1;

/// Messages in one answer.
const MAX_MESSAGES: i64 = 10_000;
/// Bytes of messages in one answer; of what would bring more the newest are sent.
pub const MAX_PULLED_BYTES: usize = 8 << 20;
/// Rows that one request looks through for the newest messages that are there.
const MAX_STEPS: usize = 10_000;
/// Rows that it looks through in any conversation, however many were looked through in others.
const MIN_STEPS: usize = 4;
/// Notes of deleted messages looked through for those that are not unread; of a conversation with more
/// of them some count as unread.
const MAX_DELETED: usize = 1_000;
/// Conversations or ranges in one request.
const MAX_RANGES: usize = 10_000;

impl Services {
    /// The newest seq that a user sees of every conversation and of the streams beside them.
    pub fn max_seqs(&self, caller: &Caller, request: &GetMaxSeqReq) -> Result<GetMaxSeqResp> {
        caller.must_be(&request.user_id)?;
        let view = self.store().view();
        let user_id = request.user_id.as_str();
        let mut ids = BTreeSet::from([conversation_id::own_stream(user_id)]);
        for (chat, _) in conversation::list(&view, user_id)? {
            ids.insert(conversation_id::stream_of(&chat));
            ids.insert(chat);
        }
        // There may be no chat beside a stream, or a deleted one.
        for row in schema::STREAMS.scan(&view, user_id) {
            ids.insert(row?.0.1);
        }
        for row in schema::JOINED.scan(&view, user_id) {
            ids.insert(conversation_id::stream_of(&conversation_id::group(&row?.0.1)));
        }
        let mut max_seqs = BTreeMap::new();
        for id in ids {
            if let Some(window) = window(&view, user_id, &id)?
                && window.high > 0
            {
                max_seqs.insert(id, window.high);
            }
        }
        Ok(GetMaxSeqResp { max_seqs, min_seqs: BTreeMap::new() })
    }

    /// Messages by ranges of seqs.
    ///
    /// Of a chat at most the newest `num` of each range, of a notification stream all. There is an
    /// entry for every conversation asked for, also if it holds nothing for the user.
    pub fn pull_by_ranges(
        &self,
        caller: &Caller,
        request: &PullMessageBySeqsReq,
    ) -> Result<PullMessageBySeqsResp> {
        self.pull_ranges_within(caller, request, MAX_PULLED_BYTES)
    }

    /// As [`pull_by_ranges`](Self::pull_by_ranges), with at most so many bytes of messages and the
    /// last of them.
    pub fn pull_ranges_within(
        &self,
        caller: &Caller,
        request: &PullMessageBySeqsReq,
        bytes: usize,
    ) -> Result<PullMessageBySeqsResp> {
        caller.must_be(&request.user_id)?;
        if request.seq_ranges.len() > MAX_RANGES {
            return Err(ServiceError::args(format!("at most {MAX_RANGES} ranges")));
        }
        let mut answer = PullMessageBySeqsResp::default();
        let mut budget = Budget::new(bytes);
        for range in &request.seq_ranges {
            let view = self.store().view();
            let pulled = pull_range(&view, &request.user_id, range, request.order, &mut budget)?;
            let id = range.conversation_id.clone();
            if conversation_id::is_stream(&id) {
                answer.notification_msgs.insert(id, pulled);
            } else {
                answer.msgs.insert(id, pulled);
            }
        }
        Ok(answer)
    }

    /// Messages by lists of seqs; an entry for every conversation asked for.
    pub fn pull_by_seqs(
        &self,
        caller: &Caller,
        request: &GetSeqMessageReq,
    ) -> Result<GetSeqMessageResp> {
        self.pull_seqs_within(caller, request, MAX_PULLED_BYTES)
    }

    /// As [`pull_by_seqs`](Self::pull_by_seqs), with at most so many bytes of messages and the last
    /// of them.
    pub fn pull_seqs_within(
        &self,
        caller: &Caller,
        request: &GetSeqMessageReq,
        bytes: usize,
    ) -> Result<GetSeqMessageResp> {
        caller.must_be(&request.user_id)?;
        if request.conversations.len() > MAX_RANGES {
            return Err(ServiceError::args(format!("at most {MAX_RANGES} conversations")));
        }
        let mut answer = GetSeqMessageResp::default();
        let mut budget = Budget::new(bytes);
        for wanted in &request.conversations {
            let view = self.store().view();
            let (user_id, id) = (request.user_id.as_str(), wanted.conversation_id.as_str());
            let mut pulled = PullMsgs::default();
            {
                // Whoever has no part in it finds an empty conversation.
                let window = window(&view, user_id, id)?.unwrap_or_default();
                let shown = Shown::new(&view, user_id, id, &window)?;
                // Newest first, so that the oldest are left out if it gets too much.
                let ascending = wanted.seqs.first() < wanted.seqs.last();
                let mut seqs: Vec<i64> =
                    wanted.seqs.iter().copied().filter(|seq| *seq > 0).collect();
                if ascending {
                    seqs.reverse();
                }
                for seq in seqs {
                    if seq < window.low {
                        if request.order == DESCENDING {
                            (pulled.is_end, pulled.end_seq) = (true, window.low);
                        }
                    } else if seq > window.high {
                        if request.order != DESCENDING {
                            (pulled.is_end, pulled.end_seq) = (true, window.high);
                        }
                    } else if !budget.is_spent() {
                        let message = shown.at(seq)?;
                        budget.spend(&message);
                        pulled.msgs.push(message);
                    }
                }
                if ascending {
                    pulled.msgs.reverse();
                }
            }
            let id = id.to_owned();
            if conversation_id::is_stream(&id) {
                answer.notification_msgs.insert(id, pulled);
            } else {
                answer.msgs.insert(id, pulled);
            }
        }
        Ok(answer)
    }

    /// How far conversations go and how far the user has read them.
    pub fn read_and_max_seqs(
        &self,
        caller: &Caller,
        request: &GetConversationsHasReadAndMaxSeqReq,
    ) -> Result<GetConversationsHasReadAndMaxSeqResp> {
        if request.user_id.is_empty() {
            return Err(ServiceError::args("userID is empty"));
        }
        caller.must_be(&request.user_id)?;
        if request.conversation_ids.len() > MAX_RANGES {
            return Err(ServiceError::args(format!("at most {MAX_RANGES} conversations")));
        }
        let view = self.store().view();
        let user_id = request.user_id.as_str();
        let mut answer = GetConversationsHasReadAndMaxSeqResp::default();
        let list = conversation::list(&view, user_id)?;
        if request.return_pinned {
            answer.pinned_conversation_ids =
                list.iter().filter(|(_, c)| c.pinned).map(|(id, _)| id.clone()).collect();
        }
        let ids: BTreeSet<String> = if request.conversation_ids.is_empty() {
            list.into_iter().map(|(id, _)| id).collect()
        } else {
            request.conversation_ids.iter().cloned().collect()
        };
        for id in ids {
            let seqs = seqs(&view, user_id, &id)?;
            answer.seqs.insert(id, seqs);
        }
        Ok(answer)
    }

    /// The time of the node.
    pub fn get_server_time(
        &self,
        _caller: &Caller,
        _request: &GetServerTimeReq,
    ) -> Result<GetServerTimeResp> {
        Ok(GetServerTimeResp { server_time: self.now() })
    }

    /// The newest message of each conversation, as the user sees it.
    pub fn last_messages(
        &self,
        caller: &Caller,
        request: &GetLastMessageReq,
    ) -> Result<GetLastMessageResp> {
        self.last_messages_within(caller, request, MAX_PULLED_BYTES)
    }

    /// As [`last_messages`](Self::last_messages), with at most so many bytes of messages and the last
    /// of them: those of the conversations named first.
    pub fn last_messages_within(
        &self,
        caller: &Caller,
        request: &GetLastMessageReq,
        bytes: usize,
    ) -> Result<GetLastMessageResp> {
        caller.must_be(&request.user_id)?;
        if request.conversation_ids.len() > MAX_RANGES {
            return Err(ServiceError::args(format!("at most {MAX_RANGES} conversations")));
        }
        let mut answer = GetLastMessageResp::default();
        let (mut budget, mut steps) = (Budget::new(bytes), Steps::default());
        for id in each_once(&request.conversation_ids) {
            if budget.is_spent() {
                break;
            }
            let view = self.store().view();
            if let Some(message) = newest_shown(&view, &request.user_id, id, &mut steps)? {
                budget.spend(&message);
                answer.msgs.insert(id.clone(), message);
            }
        }
        Ok(answer)
    }
}

/// IDs in their order, each the first time it is named.
pub(crate) fn each_once(ids: &[String]) -> impl Iterator<Item = &String> {
    let mut seen = HashSet::new();
    ids.iter().filter(move |id| seen.insert(id.as_str()))
}

/// Rows that one request may still look through for the newest messages.
pub(crate) struct Steps(usize);

impl Default for Steps {
    fn default() -> Self {
        Self(MAX_STEPS)
    }
}

/// The newest message of a conversation that is there for a user: neither erased nor deleted by the
/// user; `None` also if it is not found in the steps that the request has.
pub(crate) fn newest_shown(
    from: &impl Read,
    user_id: &str,
    conversation_id: &str,
    steps: &mut Steps,
) -> Result<Option<MsgData>> {
    let Some(window) = window(from, user_id, conversation_id)? else { return Ok(None) };
    let (low, high) = (window.low, window.high);
    let rows = message_log::messages(from, window.number, low, high, Direction::Descending);
    for row in rows.take(steps.0.max(MIN_STEPS)) {
        steps.0 = steps.0.saturating_sub(1);
        let (seq, message) = row?;
        let key = (window.number, seq.cast_unsigned(), user_id);
        let deleted = schema::HIDDEN_MESSAGES.contains(from, key)?;
        if message.status < ERASED && (!deleted || Fault::DeletedMessageIsLast.is_on()) {
            return Shown::new(from, user_id, conversation_id, &window)?.show(message).map(Some);
        }
    }
    Ok(None)
}

/// What one answer may still hold.
struct Budget {
    messages: i64,
    bytes: usize,
}

impl Budget {
    fn new(bytes: usize) -> Self {
        Self { messages: MAX_MESSAGES, bytes }
    }

    fn is_spent(&self) -> bool {
        self.messages == 0 || self.bytes == 0
    }

    fn spend(&mut self, message: &MsgData) {
        self.messages -= 1;
        self.bytes = self.bytes.saturating_sub(message.encoded_len());
    }
}

fn pull_range(
    view: &impl Read,
    user_id: &str,
    range: &SeqRange,
    order: i32,
    budget: &mut Budget,
) -> Result<PullMsgs> {
    let id = range.conversation_id.as_str();
    let Some(window) = window(view, user_id, id)? else {
        return Ok(PullMsgs { is_end: true, ..PullMsgs::default() });
    };
    let mut begin = range.begin.max(window.low).max(1);
    let end = range.end.min(window.high);
    if !window.stream {
        begin = begin.max(end.saturating_sub(range.num.max(0)).saturating_add(1));
    }
    let shown = Shown::new(view, user_id, id, &window)?;
    // Newest first, so that the oldest are left out if it gets too much.
    let mut msgs = Vec::new();
    let mut rows = message_log::messages(view, window.number, begin, end, Direction::Descending);
    let mut row = rows.next().transpose()?;
    let mut seq = end;
    while seq >= begin && !budget.is_spent() {
        let message = match row.take() {
            Some((at, message)) if at == seq => {
                row = rows.next().transpose()?;
                if message_log::is_damaged(&message) {
                    Some(shown.damaged(seq)?)
                } else if message_log::is_erased(&message) {
                    None
                } else {
                    Some(shown.show(message)?)
                }
            }
            other => {
                row = other;
                None
            }
        };
        let message = message.unwrap_or_else(|| placeholder(seq, 0));
        budget.spend(&message);
        msgs.push(message);
        seq -= 1;
    }
    msgs.reverse();
    // A gap takes the time of the message before it.
    for at in 0..msgs.len() {
        let before = at.checked_sub(1).and_then(|before| msgs.get(before)).map(|m| m.send_time);
        let Some(message) = msgs.get_mut(at) else { break };
        if message.send_time == 0 && message.client_msg_id.is_empty() {
            *message = match before {
                Some(send_time) => placeholder(message.seq, send_time),
                None => shown.at(message.seq)?,
            };
        }
    }
    let all = seq < begin;
    let is_end = if order == DESCENDING {
        all && range.begin <= window.low
    } else {
        window.high <= range.end
    };
    Ok(PullMsgs { msgs, is_end, end_seq: 0 })
}

/// Max seq, read seq and time of the newest message, as far as the user sees the conversation.
///
/// Clients take the difference for the number of unread messages. So what is not there to be read
/// counts as read: what lies below the window, seqs that a restore has left out, and messages that
/// were deleted.
pub(crate) fn seqs(from: &impl Read, user_id: &str, conversation_id: &str) -> Result<Seqs> {
    let Some(window) = window(from, user_id, conversation_id)? else {
        return Ok(Seqs::default());
    };
    let max_seq = window.high;
    let mut rows = message_log::messages(from, window.number, 0, max_seq, Direction::Descending);
    let max_seq_time = rows.next().transpose()?.map_or(0, |(_, newest)| newest.send_time);
    let position = schema::READ_POSITIONS.get(from, (user_id, conversation_id))?;
    let read_seq = position.map_or(0, |position| position.read_seq);
    let before = if Fault::HistoryIsUnread.is_on() { 0 } else { window.low - 1 };
    let read_seq = read_seq.max(before).min(max_seq);
    let head = schema::CONVERSATION_HEADS.get(from, conversation_id)?.unwrap_or_default();
    let not_there = head.left_out(read_seq, max_seq) + deleted(from, &window, user_id, read_seq)?;
    Ok(Seqs { max_seq, has_read_seq: (read_seq + not_there).min(max_seq), max_seq_time })
}

/// How many messages above a seq were deleted for everybody or by the user.
fn deleted(from: &impl Read, window: &Window, user_id: &str, above: i64) -> Result<i64> {
    if above >= window.high {
        return Ok(0);
    }
    let first = (window.number, above.cast_unsigned() + 1);
    let last = (window.number, window.high.cast_unsigned());
    let rows = schema::HIDDEN_MESSAGES.range(from, first, last, Direction::Ascending);
    let mut seqs = BTreeSet::new();
    for row in rows.take(MAX_DELETED) {
        let ((_, seq, user), Present {}) = row?;
        if user == EVERYBODY || user == user_id {
            seqs.insert(seq);
        }
    }
    Ok(i64::try_from(seqs.len()).unwrap_or(i64::MAX))
}
