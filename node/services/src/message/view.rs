//! How one stored message looks to one user.

use proto::sdkws::MsgData;
use serde::Serialize;
use store::message_log::ERASED;
use store::record::{ConversationHead, MessageMarks, Revoke};
use store::{Direction, Read, message_log, schema};

use super::admin_send::FROM_USER;
use super::carried;
use crate::conversation;
use crate::conversation_id::{self, GROUP, SINGLE};
use crate::error::Result;
use crate::notification::{detail, kind};

/// Rows looked back for the time of a gap.
const MAX_STEPS: usize = 256;

/// What stands for a message that is gone.
pub(crate) fn placeholder(seq: i64, send_time: i64) -> MsgData {
    MsgData { seq, status: ERASED, send_time, ..Default::default() }
}

/// What a message says in place of one that the disk has lost.
const DAMAGED: &str = "[This message was damaged on the server and cannot be shown]";
/// Content type of a text.
const TEXT: i32 = 101;
/// Status of a message that was sent.
const SENT: i32 = 2;

#[derive(Serialize)]
struct TextElem {
    content: &'static str,
}

/// What of a conversation a user may see.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Window {
    /// Number of the conversation's log.
    pub(crate) number: u64,
    /// Lowest visible seq; 0 and 1 mean from the start.
    pub(crate) low: i64,
    /// Highest visible seq.
    pub(crate) high: i64,
    /// It is a notification stream.
    pub(crate) stream: bool,
}

/// All that is left of a conversation, whoever asks; `None` if there is no such conversation.
pub(crate) fn readable(from: &impl Read, conversation_id: &str) -> Result<Option<Window>> {
    let Some(head) = schema::CONVERSATION_HEADS.get(from, conversation_id)? else {
        return Ok(None);
    };
    window_of(from, conversation_id, &head).map(Some)
}

fn window_of(from: &impl Read, conversation_id: &str, head: &ConversationHead) -> Result<Window> {
    let (newest, _) = message_log::newest_of(from, head.number)?;
    let stream = conversation_id::is_stream(conversation_id);
    Ok(Window { number: head.number, low: head.min_seq, high: newest, stream })
}

/// The window of a user on a conversation; `None` if the user has no part in it.
///
/// A chat must be in the user's list. A notification stream is open to the pair, or to the present
/// members of the group.
pub(crate) fn window(
    from: &impl Read,
    user_id: &str,
    conversation_id: &str,
) -> Result<Option<Window>> {
    let Some(head) = schema::CONVERSATION_HEADS.get(from, conversation_id)? else {
        return Ok(None);
    };
    let mut window = window_of(from, conversation_id, &head)?;
    // The pair is kept with the conversation: an ID that another pair's IDs join to is no key.
    let present = if head.group_id.is_empty() {
        head.pair.iter().any(|user| user == user_id)
    } else {
        schema::MEMBERS.contains(from, (&head.group_id, user_id))?
    };
    if window.stream {
        return Ok(present.then_some(window));
    }
    let Some(record) = conversation::find(from, user_id, conversation_id)? else {
        return Ok(None);
    };
    // Clients make records of whatever conversation they like; one that ends somewhere is a former
    // member's.
    if !present && (head.group_id.is_empty() || record.max_seq == 0) {
        return Ok(None);
    }
    window.low = window.low.max(record.min_seq);
    window.high = conversation::end(&record, window.high);
    Ok(Some(window))
}

/// Shows messages of one conversation to one user.
pub(crate) struct Shown<'a, R> {
    from: &'a R,
    user_id: &'a str,
    conversation_id: &'a str,
    number: u64,
    /// In a chat of two: who, and up to where each has reported to have read.
    receipts: Vec<(String, i64)>,
}

impl<'a, R: Read> Shown<'a, R> {
    pub(crate) fn new(
        from: &'a R,
        user_id: &'a str,
        conversation_id: &'a str,
        window: &Window,
    ) -> Result<Self> {
        let mut receipts = Vec::new();
        if !window.stream && conversation_id.starts_with("si_") {
            let head = schema::CONVERSATION_HEADS.get(from, conversation_id)?;
            for user in head.map(|head| head.pair).unwrap_or_default() {
                let position = schema::READ_POSITIONS.get(from, (&user, conversation_id))?;
                receipts.push((user, position.map_or(0, |position| position.receipt_seq)));
            }
        }
        Ok(Self { from, user_id, conversation_id, number: window.number, receipts })
    }

    /// The message at `seq`; a placeholder where there is none.
    pub(crate) fn at(&self, seq: i64) -> Result<MsgData> {
        let key = (self.number, seq.cast_unsigned());
        match schema::MESSAGES.get(self.from, key)? {
            Some(message) if !message_log::is_erased(&message) => self.show(message),
            Some(damaged) if message_log::is_damaged(&damaged) => self.damaged(seq),
            erased => self.placeholder(seq, erased.map_or(0, |erased| erased.send_time)),
        }
    }

    /// A stand-in for a message that is gone: its seq, status 4, and the time of the one before.
    ///
    /// Clients sort by time; without it they would ask for the gap again and again. In a long row of
    /// gaps it is the time of the gap itself, which sorts as well.
    fn placeholder(&self, seq: i64, own_time: i64) -> Result<MsgData> {
        let mut send_time = 0;
        let rows = message_log::messages(self.from, self.number, 0, seq, Direction::Descending);
        for (steps, row) in rows.enumerate() {
            let (_, message) = row?;
            if !message_log::is_erased(&message) {
                send_time = message.send_time;
                break;
            }
            if steps == MAX_STEPS {
                send_time = own_time;
                break;
            }
        }
        Ok(placeholder(seq, send_time))
    }

    /// What says that the disk has lost a message: a text of the one who may have written it, with the
    /// time of the one before.
    pub(crate) fn damaged(&self, seq: i64) -> Result<MsgData> {
        let gap = self.placeholder(seq, 0)?;
        let hidden = (self.number, seq.cast_unsigned(), self.user_id);
        if schema::HIDDEN_MESSAGES.contains(self.from, hidden)? {
            return Ok(gap);
        }
        let head = schema::CONVERSATION_HEADS.get(self.from, self.conversation_id)?;
        let head = head.unwrap_or_default();
        let other = head.pair.iter().find(|user| *user != self.user_id);
        let (session_type, send_id) = if self.conversation_id.starts_with("sg_") {
            (GROUP, head.group_id.clone())
        } else {
            (SINGLE, other.cloned().unwrap_or_default())
        };
        let id = format!("damaged-{}-{seq}", self.conversation_id);
        let content = detail(&TextElem { content: DAMAGED })?;
        Ok(MsgData {
            send_id,
            recv_id: if session_type == SINGLE { self.user_id.to_owned() } else { String::new() },
            group_id: head.group_id,
            client_msg_id: id.clone(),
            server_msg_id: id,
            session_type,
            msg_from: FROM_USER,
            content_type: TEXT,
            content: content.into(),
            seq,
            send_time: gap.send_time,
            create_time: gap.send_time,
            status: SENT,
            ..MsgData::default()
        })
    }

    /// A stored message as the user sees it.
    pub(crate) fn show(&self, mut message: MsgData) -> Result<MsgData> {
        let key = (self.number, message.seq.cast_unsigned());
        let marks = schema::MESSAGE_MARKS.get(self.from, key)?.unwrap_or_default();
        if message.session_type == SINGLE && message.send_id != message.recv_id {
            message.is_read = self.receipts.iter().any(|(user, through)| {
                *user == message.recv_id && (marks.read || message.seq <= *through)
            });
        }
        self.apply_marks(&mut message, &marks)?;
        if let Some(repaired) = carried::repaired(self.from, self.conversation_id, &message)? {
            message.content = repaired.into();
        }
        Ok(message)
    }

    fn apply_marks(&self, message: &mut MsgData, marks: &MessageMarks) -> Result<()> {
        let key = (self.number, message.seq.cast_unsigned(), self.user_id);
        if schema::HIDDEN_MESSAGES.contains(self.from, key)? {
            message.content = Default::default();
            message.status = ERASED;
        }
        if let Some(revoke) = &marks.revoke {
            message.content = revoked_content(message, revoke)?.into();
            message.content_type = kind::REVOKE;
        }
        Ok(())
    }
}

/// What a revoked message says instead.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Revoked<'a> {
    #[serde(rename = "revokerID")]
    revoker_id: &'a str,
    revoker_role: i32,
    #[serde(rename = "clientMsgID")]
    client_msg_id: &'a str,
    revoker_nickname: &'a str,
    revoke_time: i64,
    source_message_send_time: i64,
    #[serde(rename = "sourceMessageSendID")]
    source_message_send_id: &'a str,
    source_message_sender_nickname: &'a str,
    session_type: i32,
    seq: i64,
    ex: &'a str,
}

pub(super) fn revoked_content(source: &MsgData, revoke: &Revoke) -> Result<String> {
    detail(&Revoked {
        revoker_id: &revoke.user_id,
        revoker_role: revoke.role,
        client_msg_id: &source.client_msg_id,
        revoker_nickname: &revoke.nickname,
        revoke_time: revoke.time,
        source_message_send_time: source.send_time,
        source_message_send_id: &source.send_id,
        source_message_sender_nickname: &source.sender_nickname,
        session_type: source.session_type,
        seq: source.seq,
        ex: &source.ex,
    })
}
