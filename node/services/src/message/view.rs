//! How one stored message looks to one user.

use proto::sdkws::MsgData;
use serde::Serialize;
use serde_json::Value;
use store::message_log::ERASED;
use store::record::{MessageMarks, Revoke};
use store::{Read, message_log, schema};

use crate::change::json;
use crate::conversation;
use crate::conversation_id::{self, SINGLE};
use crate::error::Result;
use crate::notification::{detail, kind};

const QUOTE: i32 = 114;

/// What of a conversation a user may see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// Number of the conversation's log.
    pub(crate) number: u64,
    /// Lowest visible seq; 0 and 1 mean from the start.
    pub(crate) low: i64,
    /// Highest visible seq.
    pub(crate) high: i64,
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
    let (newest, _) = message_log::newest_of(from, head.number)?;
    let mut window = Window { number: head.number, low: head.min_seq, high: newest };
    if conversation_id::is_stream(conversation_id) {
        let open = if head.group_id.is_empty() {
            head.pair.iter().any(|user| user == user_id)
        } else {
            schema::MEMBERS.contains(from, (&head.group_id, user_id))?
        };
        return Ok(open.then_some(window));
    }
    // The pair is kept with the conversation: an ID that another pair's IDs join to is no key.
    if head.group_id.is_empty() && !head.pair.iter().any(|user| user == user_id) {
        return Ok(None);
    }
    let Some(record) = conversation::find(from, user_id, conversation_id)? else {
        return Ok(None);
    };
    window.low = window.low.max(record.min_seq);
    if record.max_seq != 0 {
        window.high = window.high.min(record.max_seq);
    }
    Ok(Some(window))
}

/// Shows messages of one conversation to one user.
pub(crate) struct Shown<'a, R> {
    from: &'a R,
    user_id: &'a str,
    conversation_id: &'a str,
    number: u64,
}

impl<'a, R: Read> Shown<'a, R> {
    pub(crate) fn new(
        from: &'a R,
        user_id: &'a str,
        conversation_id: &'a str,
        number: u64,
    ) -> Self {
        Self { from, user_id, conversation_id, number }
    }

    /// The message at `seq`; a placeholder where there is none.
    pub(crate) fn at(&self, seq: i64) -> Result<MsgData> {
        let key = (self.number, seq.cast_unsigned());
        match schema::MESSAGES.get(self.from, key)? {
            Some(message) if !message_log::is_erased(&message) => self.show(message),
            _ => self.placeholder(seq),
        }
    }

    /// A stand-in for a message that is gone: its seq, status 4, and the time of the one before.
    ///
    /// Clients sort by time; without it they would ask for the gap again and again.
    fn placeholder(&self, seq: i64) -> Result<MsgData> {
        use store::Direction::Descending;
        let mut send_time = 0;
        for row in message_log::messages(self.from, self.number, 0, seq, Descending) {
            let (_, message) = row?;
            if !message_log::is_erased(&message) {
                send_time = message.send_time;
                break;
            }
        }
        Ok(MsgData { seq, status: ERASED, send_time, ..Default::default() })
    }

    /// A stored message as the user sees it.
    pub(crate) fn show(&self, mut message: MsgData) -> Result<MsgData> {
        let key = (self.number, message.seq.cast_unsigned());
        let marks = schema::MESSAGE_MARKS.get(self.from, key)?.unwrap_or_default();
        if message.session_type == SINGLE && !conversation_id::is_stream(self.conversation_id) {
            message.is_read = marks.read || self.is_read(&message)?;
        }
        self.apply_marks(&mut message, &marks)?;
        if message.content_type == QUOTE {
            self.repair_quote(&mut message)?;
        }
        Ok(message)
    }

    fn is_read(&self, message: &MsgData) -> Result<bool> {
        let key = (message.recv_id.as_str(), self.conversation_id);
        let position = schema::READ_POSITIONS.get(self.from, key)?;
        Ok(position.is_some_and(|position| position.receipt_seq >= message.seq))
    }

    fn apply_marks(&self, message: &mut MsgData, marks: &MessageMarks) -> Result<()> {
        if marks.deleted_by.iter().any(|user| user == self.user_id) {
            message.content = Default::default();
            message.status = ERASED;
        }
        if let Some(revoke) = &marks.revoke {
            message.content = revoked_content(message, revoke)?.into();
            message.content_type = kind::REVOKE;
        }
        Ok(())
    }

    /// A quote of a message that was revoked meanwhile no longer shows it.
    fn repair_quote(&self, message: &mut MsgData) -> Result<()> {
        let Ok(mut content) = serde_json::from_slice::<Value>(&message.content) else {
            return Ok(());
        };
        let Some(quoted) = content.get_mut("quoteMessage").and_then(Value::as_object_mut) else {
            return Ok(());
        };
        let Some(seq) = quoted.get("seq").and_then(Value::as_i64).filter(|seq| *seq > 0) else {
            return Ok(());
        };
        let key = (self.number, seq.cast_unsigned());
        let marks = schema::MESSAGE_MARKS.get(self.from, key)?.unwrap_or_default();
        let Some(revoke) = marks.revoke else { return Ok(()) };
        let Some(source) = schema::MESSAGES.get(self.from, key)? else { return Ok(()) };
        quoted.retain(|name, _| !name.ends_with("Elem"));
        quoted.insert("contentType".into(), kind::REVOKE.into());
        quoted.insert("content".into(), revoked_content(&source, &revoke)?.into());
        message.content = json(&content)?.into();
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

fn revoked_content(source: &MsgData, revoke: &Revoke) -> Result<String> {
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
