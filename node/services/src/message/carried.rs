//! Messages that other messages carry: quoted, or merged into one.
//!
//! They are copies that the sender made. What was revoked or deleted for everybody meanwhile is taken out
//! of them.

use proto::qualified::is_remote;
use proto::sdkws::MsgData;
use serde_json::{Map, Value};
use store::record::MessageMarks;
use store::{Read, message_log, schema};

use super::content::kind::{AT, QUOTE};
use super::is_elsewhere;
use super::view::revoked_content;
use crate::change::json;
use crate::conversation_id::{self, GROUP, NOTIFICATION};
use crate::error::Result;
use crate::fault::Fault;
use crate::notification::kind::REVOKE;

const MERGED: i32 = 107;
/// A carried message.
const QUOTED: &str = "quoteMessage";
/// A list of carried messages.
const MANY: &str = "multiMessage";
/// What a client shows of such a list, in its order.
const ABSTRACTS: &str = "abstractList";
/// `{}` as some clients write it.
const EMPTY_BASE64: &str = "e30=";
/// Arrays, objects and carried messages in each other that are looked into, texts of JSON in texts
/// included: the rest stays as it is. Messages that are carried by a carried one take a few each.
const MAX_DEPTH: usize = 64;
/// Marks looked through for a message that another node names by a seq of its own.
const MAX_MARKS: usize = 256;

/// The content of a message of a conversation without what was revoked; `None` if it is as it was.
pub(super) fn repaired(
    from: &impl Read,
    conversation_id: &str,
    message: &MsgData,
) -> Result<Option<String>> {
    let carries = match message.content_type {
        QUOTE => true,
        AT | MERGED => !Fault::MentionsKeepRevoked.is_on(),
        _ => false,
    };
    if !carries {
        return Ok(None);
    }
    let Ok(mut content) = serde_json::from_slice::<Value>(&message.content) else {
        return Ok(None);
    };
    let by_other_node = message.group_id.is_empty() && is_remote(&message.send_id);
    let mut repair = Repair { from, conversation_id, by_other_node, depth: 0, changed: false };
    repair.within(&mut content)?;
    if repair.changed { json(&content).map(Some) } else { Ok(None) }
}

struct Repair<'a, R> {
    from: &'a R,
    conversation_id: &'a str,
    /// Its seqs are those of another node.
    by_other_node: bool,
    /// Values around the one that is looked into.
    depth: usize,
    changed: bool,
}

impl<R: Read> Repair<'_, R> {
    /// Repairs what a value holds. Every way down leads through here: the reader of JSON limits the depth
    /// of each text, not that of texts in texts.
    fn within(&mut self, value: &mut Value) -> Result<()> {
        if self.depth == MAX_DEPTH {
            return Ok(());
        }
        self.depth += 1;
        let repaired = self.each_within(value);
        self.depth -= 1;
        repaired
    }

    fn each_within(&mut self, value: &mut Value) -> Result<()> {
        match value {
            Value::Array(list) => list.iter_mut().try_for_each(|value| self.within(value)),
            Value::Object(fields) => {
                self.many(fields)?;
                for (name, value) in fields {
                    match name.as_str() {
                        QUOTED => drop(self.carried(value)?),
                        MANY => {}
                        "content" => self.within_text(value)?,
                        _ => self.within(value)?,
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Repairs JSON in a text.
    fn within_text(&mut self, value: &mut Value) -> Result<()> {
        let Some(text) = value.as_str() else { return self.within(value) };
        if !text.contains(QUOTED) && !text.contains(MANY) {
            return Ok(());
        }
        let Ok(mut content) = serde_json::from_str::<Value>(text) else { return Ok(()) };
        let changed = std::mem::take(&mut self.changed);
        self.within(&mut content)?;
        if self.changed {
            *value = json(&content)?.into();
        }
        self.changed |= changed;
        Ok(())
    }

    /// Repairs the messages that were merged, and what is shown of them.
    fn many(&mut self, fields: &mut Map<String, Value>) -> Result<()> {
        let Some(Value::Array(messages)) = fields.get_mut(MANY) else { return Ok(()) };
        let mut revoked = Vec::new();
        for (at, message) in messages.iter_mut().enumerate() {
            let text = message.pointer("/textElem/content").and_then(Value::as_str);
            let text = text.unwrap_or_default().to_owned();
            if self.carried(message)? {
                revoked.push((at, text));
            }
        }
        let Some(Value::Array(abstracts)) = fields.get_mut(ABSTRACTS) else { return Ok(()) };
        for (at, shown) in abstracts.iter_mut().enumerate() {
            let says = |text: &str| {
                !text.is_empty() && shown.as_str().is_some_and(|shown| shown.contains(text))
            };
            if revoked.iter().any(|(place, text)| *place == at || says(text)) {
                *shown = "".into();
            }
        }
        Ok(())
    }

    /// Repairs a carried message; returns whether it was revoked.
    fn carried(&mut self, value: &mut Value) -> Result<bool> {
        let Some(fields) = value.as_object_mut() else { return Ok(false) };
        if fields.get("content").and_then(Value::as_str) == Some(EMPTY_BASE64) {
            fields.insert("content".into(), "{}".into());
            self.changed = true;
        }
        let Some(revoked) = self.revoked(fields)? else {
            self.within(value)?;
            return Ok(false);
        };
        fields.retain(|name, _| !name.ends_with("Elem"));
        fields.insert("contentType".into(), REVOKE.into());
        fields.insert("content".into(), revoked.into());
        self.changed = true;
        Ok(true)
    }

    /// What a carried message says instead, if it was revoked or deleted for everybody.
    fn revoked(&self, fields: &Map<String, Value>) -> Result<Option<String>> {
        let text = |name| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name| fields.get(name).and_then(Value::as_i64).unwrap_or_default();
        let source = source(number("sessionType"), text("sendID"), text("recvID"), text("groupID"));
        let id = source.as_deref().unwrap_or(self.conversation_id);
        let Some(head) = schema::CONVERSATION_HEADS.get(self.from, id)? else { return Ok(None) };
        let (seq, client_msg_id) = (number("seq"), text("clientMsgID"));
        let here = id == self.conversation_id;
        let same = |message: &MsgData| {
            // Of what another node has erased, the ID is not known everywhere.
            let erased = message.client_msg_id.is_empty() && !self.by_other_node;
            message.client_msg_id == client_msg_id || (here && (client_msg_id.is_empty() || erased))
        };
        let found = match self.at(head.number, seq, same)? {
            None if here && self.by_other_node && !client_msg_id.is_empty() => {
                self.mark_of(head.number, client_msg_id)?
            }
            found => found,
        };
        let Some((message, marks)) = found else { return Ok(None) };
        match marks.revoke {
            // Of another conversation, who sees this one need not know more.
            Some(revoke) if here => revoked_content(&message, &revoke).map(Some),
            None if !message_log::is_erased(&message) => Ok(None),
            _ => Ok(Some("{}".into())),
        }
    }

    /// The message at a seq and its marks, as far as it is on this node.
    fn at(
        &self,
        conversation: u64,
        seq: i64,
        same: impl Fn(&MsgData) -> bool,
    ) -> Result<Option<(MsgData, MessageMarks)>> {
        if seq < 1 {
            return Ok(None);
        }
        let key = (conversation, seq.cast_unsigned());
        let message = schema::MESSAGES.get(self.from, key)?;
        let Some(message) = message.filter(|m| !is_elsewhere(m) && same(m)) else {
            return Ok(None);
        };
        let marks = schema::MESSAGE_MARKS.get(self.from, key)?.unwrap_or_default();
        Ok(Some((message, marks)))
    }

    /// The message with an ID among those that have marks.
    fn mark_of(
        &self,
        conversation: u64,
        client_msg_id: &str,
    ) -> Result<Option<(MsgData, MessageMarks)>> {
        let rows = schema::MESSAGE_MARKS.scan_back(self.from, conversation);
        for row in rows.take(MAX_MARKS) {
            let (key, marks) = row?;
            let message = schema::MESSAGES.get(self.from, key)?;
            if let Some(message) = message.filter(|m| m.client_msg_id == client_msg_id) {
                return Ok(Some((message, marks)));
            }
        }
        Ok(None)
    }
}

/// The conversation that a carried message comes from, if it says so.
fn source(session_type: i64, sender: &str, receiver: &str, group_id: &str) -> Option<String> {
    if session_type == i64::from(GROUP) || !group_id.is_empty() {
        return (!group_id.is_empty()).then(|| conversation_id::group(group_id));
    }
    if sender.is_empty() || receiver.is_empty() {
        return None;
    }
    Some(if session_type == i64::from(NOTIFICATION) {
        conversation_id::notification(sender, receiver)
    } else {
        conversation_id::single(sender, receiver)
    })
}
