use std::collections::BTreeMap;

use proto::msg::{
    GetConversationsHasReadAndMaxSeqReq, GetConversationsHasReadAndMaxSeqResp, GetLastMessageReq,
    GetLastMessageResp, GetSeqMessageReq, GetSeqMessageResp, Seqs,
};
use proto::sdkws::{
    GetMaxSeqReq, GetMaxSeqResp, PullMessageBySeqsReq, PullMessageBySeqsResp, PullMsgs, SeqRange,
};
use store::message_log::ERASED;
use store::{Direction, Read, message_log, schema};

use super::view::{Shown, window};
use crate::Services;
use crate::access::{Caller, takes_part};
use crate::conversation;
use crate::conversation_id;
use crate::error::{Result, ServiceError};

const DESCENDING: i32 = 1;

/// Messages in one answer; a range that would bring more is cut to its newest ones.
const MAX_MESSAGES: i64 = 2_000;
/// Conversations or ranges in one request.
const MAX_RANGES: usize = 10_000;

impl Services {
    /// The newest seq of every conversation of a user and of the streams beside them.
    pub fn max_seqs(&self, caller: &Caller, request: &GetMaxSeqReq) -> Result<GetMaxSeqResp> {
        caller.must_be(&request.user_id)?;
        let view = self.store().view();
        let mut ids = vec![conversation_id::own_stream(&request.user_id)];
        for (chat, _) in conversation::list(&view, &request.user_id)? {
            ids.push(conversation_id::stream_of(&chat));
            ids.push(chat);
        }
        let mut max_seqs = BTreeMap::new();
        for id in ids {
            let (newest, _) = message_log::newest(&view, &id)?;
            if newest > 0 {
                max_seqs.insert(id, newest);
            }
        }
        Ok(GetMaxSeqResp { max_seqs, min_seqs: BTreeMap::new() })
    }

    /// Messages by ranges of seqs.
    ///
    /// Of a chat at most the newest `num` of each range, of a notification stream all. A range that
    /// holds nothing for the user is left out.
    pub fn pull_by_ranges(
        &self,
        caller: &Caller,
        request: &PullMessageBySeqsReq,
    ) -> Result<PullMessageBySeqsResp> {
        caller.must_be(&request.user_id)?;
        if request.seq_ranges.len() > MAX_RANGES {
            return Err(ServiceError::args(format!("at most {MAX_RANGES} ranges")));
        }
        let mut answer = PullMessageBySeqsResp::default();
        let mut left = MAX_MESSAGES;
        for range in &request.seq_ranges {
            let view = self.store().view();
            let Some(pulled) =
                pull_range(&view, &request.user_id, range, request.order, &mut left)?
            else {
                continue;
            };
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
        caller.must_be(&request.user_id)?;
        if request.conversations.len() > MAX_RANGES {
            return Err(ServiceError::args(format!("at most {MAX_RANGES} conversations")));
        }
        let mut answer = GetSeqMessageResp::default();
        let mut left = MAX_MESSAGES;
        for wanted in &request.conversations {
            let view = self.store().view();
            let (user_id, id) = (request.user_id.as_str(), wanted.conversation_id.as_str());
            let mut pulled = PullMsgs::default();
            if let Some(window) = window(&view, user_id, id)? {
                let shown = Shown::new(&view, user_id, id, window.number);
                for &seq in wanted.seqs.iter().filter(|seq| **seq > 0) {
                    if seq < window.low {
                        if request.order == DESCENDING {
                            (pulled.is_end, pulled.end_seq) = (true, window.low);
                        }
                    } else if seq > window.high {
                        if request.order != DESCENDING {
                            (pulled.is_end, pulled.end_seq) = (true, window.high);
                        }
                    } else if left > 0 {
                        left -= 1;
                        pulled.msgs.push(shown.at(seq)?);
                    }
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
        let ids: Vec<String> = if request.conversation_ids.is_empty() {
            list.into_iter().map(|(id, _)| id).collect()
        } else {
            request.conversation_ids.clone()
        };
        for id in ids {
            let seqs = seqs(&view, user_id, &id)?;
            answer.seqs.insert(id, seqs);
        }
        Ok(answer)
    }

    /// The newest message of each conversation, as the user sees it.
    pub fn last_messages(
        &self,
        caller: &Caller,
        request: &GetLastMessageReq,
    ) -> Result<GetLastMessageResp> {
        caller.must_be(&request.user_id)?;
        if request.conversation_ids.len() > MAX_RANGES {
            return Err(ServiceError::args(format!("at most {MAX_RANGES} conversations")));
        }
        let mut answer = GetLastMessageResp::default();
        for id in &request.conversation_ids {
            let view = self.store().view();
            if let Some(message) = newest_shown(&view, &request.user_id, id)? {
                answer.msgs.insert(id.clone(), message);
            }
        }
        Ok(answer)
    }
}

/// The newest message of a conversation that is not erased, as a user sees it.
pub(crate) fn newest_shown(
    from: &impl Read,
    user_id: &str,
    conversation_id: &str,
) -> Result<Option<proto::sdkws::MsgData>> {
    let Some(window) = window(from, user_id, conversation_id)? else { return Ok(None) };
    let (low, high) = (window.low, window.high);
    for row in message_log::messages(from, window.number, low, high, Direction::Descending) {
        let (_, message) = row?;
        if message.status < ERASED {
            let shown = Shown::new(from, user_id, conversation_id, window.number);
            return shown.show(message).map(Some);
        }
    }
    Ok(None)
}

fn pull_range(
    view: &impl Read,
    user_id: &str,
    range: &SeqRange,
    order: i32,
    left: &mut i64,
) -> Result<Option<PullMsgs>> {
    let id = range.conversation_id.as_str();
    let Some(window) = window(view, user_id, id)? else { return Ok(None) };
    let begin = range.begin.max(window.low).max(1);
    let end = range.end.min(window.high);
    if end < begin {
        return Ok(None);
    }
    let span = end - begin + 1;
    let wanted = if conversation_id::is_stream(id) { span } else { span.min(range.num.max(0)) };
    let count = wanted.min(*left);
    *left -= count;
    let shown = Shown::new(view, user_id, id, window.number);
    let first = end - count + 1;
    let mut msgs = Vec::new();
    let mut next = first;
    for row in message_log::messages(view, window.number, first, end, Direction::Ascending) {
        let (seq, message) = row?;
        while next < seq {
            msgs.push(shown.at(next)?);
            next += 1;
        }
        msgs.push(if message_log::is_erased(&message) {
            shown.at(seq)?
        } else {
            shown.show(message)?
        });
        next = seq + 1;
    }
    while next <= end {
        msgs.push(shown.at(next)?);
        next += 1;
    }
    let is_end =
        if order == DESCENDING { range.begin <= window.low } else { window.high <= range.end };
    Ok(Some(PullMsgs { msgs, is_end, end_seq: 0 }))
}

/// Max seq (as far as the user may see), read seq and time of the newest message.
pub(crate) fn seqs(from: &impl Read, user_id: &str, conversation_id: &str) -> Result<Seqs> {
    if !takes_part(from, user_id, conversation_id)? {
        return Ok(Seqs::default());
    }
    let (mut max_seq, max_seq_time) = message_log::newest(from, conversation_id)?;
    if let Some(record) = schema::CONVERSATIONS.get(from, (user_id, conversation_id))?
        && record.max_seq != 0
    {
        max_seq = record.max_seq;
    }
    let position = schema::READ_POSITIONS.get(from, (user_id, conversation_id))?;
    let has_read_seq = position.map_or(0, |position| position.read_seq);
    Ok(Seqs { max_seq, has_read_seq, max_seq_time })
}
