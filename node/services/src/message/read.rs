//! How far users have read, and telling the peer.

use std::collections::BTreeSet;

use proto::msg::{
    MarkConversationAsReadReq, MarkConversationAsReadResp, MarkMsgsAsReadReq, MarkMsgsAsReadResp,
    SetConversationHasReadSeqReq, SetConversationHasReadSeqResp,
};
use proto::qualified::is_remote;
use proto::sdkws::MarkAsReadTips;
use store::record::Conversation;
use store::{Direction, message_log, schema};

use super::pull::seqs;
use super::{MAX_ELEMENTS, required};
use crate::Services;
use crate::access::Caller;
use crate::change::Change;
use crate::conversation;
use crate::conversation_id::SINGLE;
use crate::error::{Result, ServiceError};
use crate::notification::{Notification, To, kind};
use crate::user::check_count;

/// Seqs a receipt names; older ones are marked all the same.
const MAX_RECEIPT_SEQS: usize = 2_000;
/// Seqs in one request. SDKs name every message that the user had not read.
const MAX_SEQS: usize = 100_000;

impl Services {
    /// Marks single messages as read; the last of the seqs is how far the user has read.
    pub async fn mark_msgs_as_read(
        &self,
        caller: &Caller,
        request: MarkMsgsAsReadReq,
    ) -> Result<MarkMsgsAsReadResp> {
        required("conversationID", &request.conversation_id)?;
        let Some(has_read_seq) = request.seqs.last().copied() else {
            return Err(ServiceError::args("seqs is empty"));
        };
        required("userID", &request.user_id)?;
        must_be_seqs(&request.seqs)?;
        caller.must_be(&request.user_id)?;
        self.change(caller, move |change| {
            let MarkMsgsAsReadReq { conversation_id, seqs, user_id } = request;
            must_be_reachable(change, &user_id, &conversation_id, has_read_seq)?;
            let record = must_be_listed(change, &user_id, &conversation_id)?;
            change.raise_read(&user_id, &conversation_id, has_read_seq)?;
            let mut tips = MarkAsReadTips {
                mark_as_read_user_id: user_id.clone(),
                conversation_id,
                seqs: Vec::new(),
                has_read_seq,
            };
            if record.session_type != SINGLE {
                tell(change, &tips, &record)?;
                return Ok(MarkMsgsAsReadResp {});
            }
            for seqs in seqs.chunks(MAX_RECEIPT_SEQS) {
                let marked = seqs.iter().copied().collect();
                mark_messages(change, &user_id, &tips.conversation_id, &marked)?;
                tips.seqs = seqs.to_vec();
                tell(change, &tips, &record)?;
            }
            Ok(MarkMsgsAsReadResp {})
        })
        .await
    }

    /// Marks a conversation as read up to a seq, and the messages given.
    pub async fn mark_conversation_as_read(
        &self,
        caller: &Caller,
        request: MarkConversationAsReadReq,
    ) -> Result<MarkConversationAsReadResp> {
        required("conversationID", &request.conversation_id)?;
        required("userID", &request.user_id)?;
        must_be_seq(request.has_read_seq)?;
        must_be_seqs(&request.seqs)?;
        caller.must_be(&request.user_id)?;
        self.change(caller, move |change| {
            let MarkConversationAsReadReq { conversation_id, user_id, has_read_seq, seqs } =
                request;
            let record = must_be_listed(change, &user_id, &conversation_id)?;
            let known = super::pull::seqs(change.tx, &user_id, &conversation_id)?;
            let through = has_read_seq.min(known.max_seq);
            let position = schema::READ_POSITIONS.get(change.tx, (&user_id, &conversation_id))?;
            let read_before = position.map_or(0, |position| position.read_seq);
            let has_read_seq = change.raise_read(&user_id, &conversation_id, through)?;
            let mut tips = MarkAsReadTips {
                mark_as_read_user_id: user_id.clone(),
                conversation_id,
                seqs: Vec::new(),
                has_read_seq,
            };
            if record.session_type == SINGLE {
                let most = MAX_RECEIPT_SEQS as i64;
                let first = (read_before + 1).max(through - most + 1);
                let mut marked: BTreeSet<i64> = (first..=through).collect();
                marked.extend(seqs.into_iter().filter(|seq| *seq <= known.max_seq));
                if let Some(oldest) = marked.iter().nth_back(MAX_RECEIPT_SEQS - 1).copied() {
                    // Too many to name each: all before counts as read.
                    marked = marked.split_off(&oldest);
                    let before = (oldest - 1).min(through);
                    raise_receipt(change, &user_id, &tips.conversation_id, before)?;
                }
                mark_messages(change, &user_id, &tips.conversation_id, &marked)?;
                tips.seqs = marked.into_iter().collect();
            }
            tell(change, &tips, &record)?;
            Ok(MarkConversationAsReadResp {})
        })
        .await
    }

    /// Sets how far a user has read; only the user's own devices are told.
    pub async fn set_conversation_has_read_seq(
        &self,
        caller: &Caller,
        request: SetConversationHasReadSeqReq,
    ) -> Result<SetConversationHasReadSeqResp> {
        required("conversationID", &request.conversation_id)?;
        required("userID", &request.user_id)?;
        must_be_seq(request.has_read_seq)?;
        caller.must_be(&request.user_id)?;
        self.change(caller, move |change| {
            let SetConversationHasReadSeqReq { conversation_id, user_id, has_read_seq, .. } =
                request;
            must_be_reachable(change, &user_id, &conversation_id, has_read_seq)?;
            change.raise_read(&user_id, &conversation_id, has_read_seq)?;
            let tips = MarkAsReadTips {
                mark_as_read_user_id: user_id,
                conversation_id,
                seqs: Vec::new(),
                has_read_seq,
            };
            tell(change, &tips, &Conversation::default())?;
            Ok(SetConversationHasReadSeqResp {})
        })
        .await
    }
}

/// Marks what `author` wrote as read by `reader`, both users of a chat of two, and tells them.
pub(crate) fn mark_read(
    change: &mut Change<'_, '_>,
    reader: &str,
    author: &str,
    conversation_id: &str,
    through: i64,
    seqs: &BTreeSet<i64>,
) -> Result<()> {
    let has_read_seq = change.raise_read(reader, conversation_id, through)?;
    mark_messages(change, reader, conversation_id, seqs)?;
    let tips = MarkAsReadTips {
        mark_as_read_user_id: reader.to_owned(),
        conversation_id: conversation_id.to_owned(),
        seqs: seqs.iter().copied().collect(),
        has_read_seq,
    };
    let chat = Conversation {
        session_type: SINGLE,
        user_id: author.to_owned(),
        ..Conversation::default()
    };
    tell(change, &tips, &chat)
}

fn must_be_seq(seq: i64) -> Result<()> {
    if seq < 1 {
        return Err(ServiceError::args("hasReadSeq is invalid"));
    }
    Ok(())
}

fn must_be_seqs(seqs: &[i64]) -> Result<()> {
    check_count("seqs", seqs.len(), MAX_SEQS)?;
    if seqs.iter().any(|seq| *seq < 1) {
        return Err(ServiceError::args("a seq is at least 1"));
    }
    Ok(())
}

/// The conversation goes as far as `seq`, as far as the user can tell.
fn must_be_reachable(
    change: &Change<'_, '_>,
    user_id: &str,
    conversation_id: &str,
    seq: i64,
) -> Result<()> {
    let max_seq = seqs(change.tx, user_id, conversation_id)?.max_seq;
    if seq > max_seq {
        return Err(ServiceError::args("hasReadSeq is above the newest seq"));
    }
    Ok(())
}

fn must_be_listed(
    change: &Change<'_, '_>,
    user_id: &str,
    conversation_id: &str,
) -> Result<Conversation> {
    conversation::find(change.tx, user_id, conversation_id)?
        .ok_or_else(|| ServiceError::not_found(format!("no conversation {conversation_id}")))
}

/// Marks what the peer wrote at `seqs` as read by the user.
///
/// One number says up to where everything is read; only what lies above a gap is marked singly.
fn mark_messages(
    change: &mut Change<'_, '_>,
    user_id: &str,
    conversation_id: &str,
    seqs: &BTreeSet<i64>,
) -> Result<()> {
    let Some(head) = schema::CONVERSATION_HEADS.get(change.tx, conversation_id)? else {
        return Ok(());
    };
    if !head.pair.iter().any(|user| user == user_id) {
        return Ok(());
    }
    let key = (user_id, conversation_id);
    let position = schema::READ_POSITIONS.get(change.tx, key)?.unwrap_or_default();
    let Some(last) = seqs.last().copied() else { return Ok(()) };
    let mut through = position.receipt_seq;
    let (first, steps) = (through + 1, MAX_RECEIPT_SEQS + MAX_ELEMENTS);
    let rows = message_log::messages(change.tx, head.number, first, last, Direction::Ascending);
    for row in rows.take(steps) {
        let (seq, message) = row?;
        let read = seqs.contains(&seq)
            || message.send_id == user_id
            || message_log::is_erased(&message)
            || marks(change, head.number, seq)?.read;
        if !read {
            break;
        }
        through = seq;
    }
    for &seq in seqs.range(through + 1..) {
        let row = schema::MESSAGES.get(change.tx, (head.number, seq.cast_unsigned()))?;
        let mut marks = marks(change, head.number, seq)?;
        if row.is_some_and(|message| message.send_id != user_id) && !marks.read {
            marks.read = true;
            schema::MESSAGE_MARKS.put(change.tx, (head.number, seq.cast_unsigned()), &marks);
        }
    }
    raise_receipt(change, user_id, conversation_id, through)
}

fn marks(change: &Change<'_, '_>, number: u64, seq: i64) -> Result<store::record::MessageMarks> {
    let marks = schema::MESSAGE_MARKS.get(change.tx, (number, seq.cast_unsigned()))?;
    Ok(marks.unwrap_or_default())
}

fn raise_receipt(
    change: &mut Change<'_, '_>,
    user_id: &str,
    conversation_id: &str,
    seq: i64,
) -> Result<()> {
    let key = (user_id, conversation_id);
    let mut position = schema::READ_POSITIONS.get(change.tx, key)?.unwrap_or_default();
    if seq > position.receipt_seq {
        position.receipt_seq = seq;
        schema::READ_POSITIONS.put(change.tx, key, &position);
    }
    Ok(())
}

/// Sends the receipt: to the peer of a single chat, otherwise to the reader's own devices only.
///
/// These take the difference to the newest seq for the number of unread messages: they are told what the
/// reader gets when asking, in which what is not there counts as read. That is nothing for the peer: where
/// it makes a difference they are told once more.
fn tell(
    change: &mut Change<'_, '_>,
    tips: &MarkAsReadTips,
    conversation: &Conversation,
) -> Result<()> {
    let reader = tips.mark_as_read_user_id.as_str();
    let to_peer = conversation.session_type == SINGLE && conversation.user_id != reader;
    let to = if to_peer { conversation.user_id.as_str() } else { reader };
    let notification = Notification {
        stored: to_peer,
        ..Notification::new(kind::READ_RECEIPT, reader, To::User(to))
    };
    let own = if is_remote(reader) {
        tips.has_read_seq
    } else {
        seqs(change.tx, reader, &tips.conversation_id)?.has_read_seq
    };
    let own = MarkAsReadTips { has_read_seq: own, ..tips.clone() };
    if !to_peer {
        return change.notify(&notification, &own).map(drop);
    }
    change.notify(&notification, tips)?;
    let position =
        schema::READ_POSITIONS.get(change.tx, (reader, tips.conversation_id.as_str()))?;
    if position.is_some_and(|position| own.has_read_seq > position.read_seq) {
        change.notify(&Notification::new(kind::READ_RECEIPT, reader, To::User(reader)), &own)?;
    }
    change.cross_read(reader, to, &tips.conversation_id, tips.has_read_seq, &tips.seqs)
}
