//! Conversations in a user's list.
//!
//! A pair's conversation has a record for each side from its first message on. A group's
//! conversation follows from membership: it needs a record only once it differs from the default.

mod delete;
mod list;
mod setting;
mod sorted;

use std::collections::HashSet;

use proto::conversation::Conversation as Wire;
use store::record::Conversation;
use store::version_log::{Change as What, List};
use store::{Read, message_log, schema};

use crate::change::Change;
use crate::conversation_id::{self, GROUP};
use crate::error::Result;
use crate::fault::Fault;
use crate::notification::{Notification, To, kind};
use crate::user::NEVER_MS;

/// A conversation in a user's list; `None` if it is not there.
pub(crate) fn find(
    from: &impl Read,
    owner: &str,
    conversation_id: &str,
) -> Result<Option<Conversation>> {
    match schema::CONVERSATIONS.get(from, (owner, conversation_id))? {
        Some(record) => Ok(listed(from, owner, conversation_id, &record)?.then_some(record)),
        None => derived(from, owner, conversation_id),
    }
}

/// All conversations in a user's list, oldest first.
pub(crate) fn list(from: &impl Read, owner: &str) -> Result<Vec<(String, Conversation)>> {
    let mut found = Vec::new();
    let mut recorded = HashSet::new();
    for row in schema::CONVERSATIONS.scan(from, owner) {
        let ((_, id), record) = row?;
        recorded.insert(id.clone());
        if listed(from, owner, &id, &record)? {
            found.push((id, record));
        }
    }
    for row in schema::JOINED.scan(from, owner) {
        let id = conversation_id::group(&row?.0.1);
        if !recorded.contains(&id)
            && let Some(record) = derived(from, owner, &id)?
        {
            found.push((id, record));
        }
    }
    found.sort_by(|a, b| (a.1.order, &a.0).cmp(&(b.1.order, &b.0)));
    Ok(found)
}

/// Whether a record shows in the list: not deleted, or come back with a newer message that its owner
/// sees.
fn listed(
    from: &impl Read,
    owner: &str,
    conversation_id: &str,
    record: &Conversation,
) -> Result<bool> {
    // Who has left a group sees it up to there; a record without that says nothing about the past.
    let group_id = conversation_id::group_of(conversation_id);
    if !group_id.is_empty()
        && record.max_seq == 0
        && !schema::MEMBERS.contains(from, (group_id, owner))?
    {
        return Ok(false);
    }
    match record.hidden_through {
        None => Ok(true),
        Some(seq) => {
            let newest = message_log::newest(from, conversation_id)?.0;
            let seen = if Fault::LeftGroupComesBack.is_on() { newest } else { end(record, newest) };
            Ok(seen > seq)
        }
    }
}

/// Highest seq that the owner of a record sees of a conversation that has come to `newest`.
pub(crate) fn end(record: &Conversation, newest: i64) -> i64 {
    if record.max_seq == 0 { newest } else { newest.min(record.max_seq) }
}

/// The default conversation of a group's member, from the first day on.
fn derived(from: &impl Read, owner: &str, conversation_id: &str) -> Result<Option<Conversation>> {
    let Some(group_id) = conversation_id.strip_prefix("sg_") else { return Ok(None) };
    Ok(schema::MEMBERS.get(from, (group_id, owner))?.map(|member| Conversation {
        session_type: GROUP,
        group_id: group_id.to_owned(),
        order: member.joined.cast_unsigned(),
        ..Default::default()
    }))
}

/// The form that clients receive.
pub(crate) fn to_wire(owner: &str, conversation_id: &str, record: Conversation) -> Wire {
    Wire {
        owner_user_id: owner.to_owned(),
        conversation_id: conversation_id.to_owned(),
        recv_msg_opt: record.recv_msg_opt,
        conversation_type: record.session_type,
        user_id: record.user_id,
        group_id: record.group_id,
        is_pinned: record.pinned,
        attached_info: record.attached_info,
        is_private_chat: record.private_chat,
        group_at_type: record.group_at_type,
        ex: record.ex,
        burn_duration: record.burn_duration,
        min_seq: record.min_seq,
        max_seq: record.max_seq,
        msg_destruct_time: record.destruct_time,
        latest_msg_destruct_time: if record.destructed == 0 { NEVER_MS } else { record.destructed },
        is_msg_destruct: record.destruct,
    }
}

impl Change<'_, '_> {
    /// Changes a conversation in a user's list, writing its record and stepping its version log.
    ///
    /// Returns whether anything changed; `false` too if the conversation is not there.
    pub(crate) fn edit_conversation(
        &mut self,
        owner: &str,
        conversation_id: &str,
        edit: impl FnOnce(&mut Conversation),
    ) -> Result<bool> {
        let record = match schema::CONVERSATIONS.get(self.tx, (owner, conversation_id))? {
            Some(record) => Some(record),
            None => derived(self.tx, owner, conversation_id)?,
        };
        let Some(before) = record else { return Ok(false) };
        let mut after = before.clone();
        edit(&mut after);
        if after == before {
            return Ok(false);
        }
        schema::CONVERSATIONS.put(self.tx, (owner, conversation_id), &after);
        self.tx.step(List::Conversations, owner, [(conversation_id, What::Update)])?;
        Ok(true)
    }

    /// Tells a user's devices that conversations changed.
    pub(crate) fn conversations_changed(
        &mut self,
        owner: &str,
        conversation_ids: Vec<String>,
    ) -> Result<()> {
        let tips = proto::sdkws::ConversationUpdateTips {
            user_id: owner.to_owned(),
            conversation_id_list: conversation_ids,
        };
        let notification = Notification::new(kind::CONVERSATION_CHANGED, owner, To::User(owner));
        self.notify(&notification, &tips)?;
        Ok(())
    }
}
