//! Changing a user's conversations.

use proto::conversation::{
    ConversationReq, DeleteConversationsReq, DeleteConversationsResp, SetConversationsReq,
    SetConversationsResp, UpdateConversationsByUserReq, UpdateConversationsByUserResp,
};
use proto::sdkws::ConversationSetPrivateTips;
use store::record::Conversation;
use store::version_log::{Change as What, List};
use store::{message_log, schema};

use super::{find, list};
use crate::Services;
use crate::access::Caller;
use crate::change::Change;
use crate::conversation_id::{self, GROUP, NOTIFICATION, SINGLE};
use crate::error::{Result, ServiceError};
use crate::notification::{Notification, To, kind};
use crate::user::{check_count, check_length, must_exist};

/// Owners or conversations in one request.
const MAX_ELEMENTS: usize = 1_000;
/// Longest attached info or extension in bytes.
const MAX_TEXT_BYTES: usize = 8 * 1_024;
/// Longest conversation ID in bytes: two user IDs and what joins them.
const MAX_ID_BYTES: usize = 256;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

impl Services {
    /// Sets how a conversation is for each of its owners; what is absent stays.
    pub async fn set_conversations(
        &self,
        caller: &Caller,
        request: SetConversationsReq,
    ) -> Result<SetConversationsResp> {
        if request.user_ids.is_empty() {
            return Err(ServiceError::args("userIDs is empty"));
        }
        check_count("userIDs", request.user_ids.len(), MAX_ELEMENTS)?;
        let Some(wanted) = request.conversation else {
            return Err(ServiceError::args("conversation is empty"));
        };
        check_wanted(&wanted)?;
        for user_id in &request.user_ids {
            caller.must_be(user_id)?;
        }
        let mut owners = request.user_ids;
        owners.sort();
        owners.dedup();
        self.change(caller, move |change| {
            for owner in &owners {
                let id = change.check_identity(owner, &wanted)?;
                if sets_something(&wanted) && change.set_for(owner, &id, &wanted)? {
                    change.conversations_changed(owner, vec![id])?;
                }
            }
            if let Some(private) = &wanted.is_private_chat
                && wanted.conversation_type == SINGLE
            {
                for owner in &owners {
                    change.set_private(owner, &wanted, private.value)?;
                }
            }
            Ok(SetConversationsResp {})
        })
        .await
    }

    /// Takes conversations off a user's list: those named, or those silent for some days.
    ///
    /// Their messages stay; a new message brings a conversation back.
    pub async fn delete_conversations(
        &self,
        caller: &Caller,
        request: DeleteConversationsReq,
    ) -> Result<DeleteConversationsResp> {
        caller.must_be(&request.owner_user_id)?;
        let (days, named) = (request.need_delete_time, !request.conversation_ids.is_empty());
        if (days != 0) == named {
            return Err(ServiceError::args("either conversationIDs or needDeleteTime is given"));
        }
        if days < 0 {
            return Err(ServiceError::args("needDeleteTime is negative"));
        }
        check_count("conversationIDs", request.conversation_ids.len(), MAX_ELEMENTS)?;
        for id in &request.conversation_ids {
            check_length("conversationID", id, MAX_ID_BYTES)?;
        }
        self.change(caller, move |change| {
            let owner = request.owner_user_id.as_str();
            let mut ids = request.conversation_ids;
            if !named {
                let before = change.now.saturating_sub(days.saturating_mul(DAY_MS));
                for (id, _) in list(change.tx, owner)? {
                    let (newest, time) = message_log::newest(change.tx, &id)?;
                    if newest > 0 && time < before {
                        ids.push(id);
                    }
                }
            }
            for id in &ids {
                if let Some(record) = find(change.tx, owner, id)? {
                    let hidden = Conversation {
                        session_type: record.session_type,
                        user_id: record.user_id,
                        group_id: record.group_id,
                        // Both sides have the same.
                        private_chat: record.private_chat,
                        burn_duration: record.burn_duration,
                        order: change.now.cast_unsigned(),
                        min_seq: record.min_seq,
                        max_seq: record.max_seq,
                        hidden_through: Some(message_log::newest(change.tx, id)?.0),
                        ..Default::default()
                    };
                    schema::CONVERSATIONS.put(change.tx, (owner, id), &hidden);
                }
                change.tx.step(List::Conversations, owner, [(id.as_str(), What::Delete)])?;
            }
            Ok(DeleteConversationsResp {})
        })
        .await
    }

    /// Sets the extension of everybody's conversation with a user.
    pub async fn update_conversations_by_user(
        &self,
        caller: &Caller,
        request: UpdateConversationsByUserReq,
    ) -> Result<UpdateConversationsByUserResp> {
        caller.must_be(&request.user_id)?;
        let Some(ex) = request.ex else { return Ok(UpdateConversationsByUserResp {}) };
        check_length("ex", &ex.value, MAX_TEXT_BYTES)?;
        self.change(caller, move |change| {
            // A pair's conversation is in both lists, also when the user has deleted it: the user's
            // own one names the peers.
            let own = schema::CONVERSATIONS.scan(change.tx, request.user_id.as_str());
            let own = own.map(|row| row.map(|((_, id), record)| (id, record)));
            for (id, own) in own.collect::<std::result::Result<Vec<_>, _>>()? {
                if own.session_type == SINGLE && !own.user_id.is_empty() {
                    change.edit_conversation(&own.user_id, &id, |record| {
                        record.ex.clone_from(&ex.value);
                    })?;
                }
            }
            Ok(UpdateConversationsByUserResp {})
        })
        .await
    }
}

fn check_wanted(wanted: &ConversationReq) -> Result<()> {
    match wanted.conversation_type {
        SINGLE | NOTIFICATION if wanted.user_id.is_empty() => {
            Err(ServiceError::args("userID is empty"))
        }
        GROUP if wanted.group_id.is_empty() => Err(ServiceError::args("groupID is empty")),
        SINGLE | NOTIFICATION | GROUP => {
            for (what, text) in [("attachedInfo", &wanted.attached_info), ("ex", &wanted.ex)] {
                let text = text.as_ref().map_or("", |text| &text.value);
                check_length(what, text, MAX_TEXT_BYTES)?;
            }
            Ok(())
        }
        _ => Err(ServiceError::args("unknown conversationType")),
    }
}

/// Whether any field but the private chat is to be set.
fn sets_something(wanted: &ConversationReq) -> bool {
    wanted.recv_msg_opt.is_some()
        || wanted.attached_info.is_some()
        || wanted.ex.is_some()
        || wanted.is_pinned.is_some()
        || wanted.group_at_type.is_some()
        || wanted.msg_destruct_time.is_some()
        || wanted.is_msg_destruct.is_some()
        || wanted.burn_duration.is_some()
}

fn set(record: &mut Conversation, wanted: &ConversationReq) {
    fn put<T: Clone>(slot: &mut T, value: Option<&T>) {
        if let Some(value) = value {
            slot.clone_from(value);
        }
    }
    put(&mut record.recv_msg_opt, wanted.recv_msg_opt.as_ref().map(|v| &v.value));
    put(&mut record.attached_info, wanted.attached_info.as_ref().map(|v| &v.value));
    put(&mut record.ex, wanted.ex.as_ref().map(|v| &v.value));
    put(&mut record.pinned, wanted.is_pinned.as_ref().map(|v| &v.value));
    put(&mut record.group_at_type, wanted.group_at_type.as_ref().map(|v| &v.value));
    put(&mut record.destruct_time, wanted.msg_destruct_time.as_ref().map(|v| &v.value));
    put(&mut record.destruct, wanted.is_msg_destruct.as_ref().map(|v| &v.value));
    put(&mut record.burn_duration, wanted.burn_duration.as_ref().map(|v| &v.value));
}

impl Change<'_, '_> {
    /// ID of the conversation that a request means for an owner.
    ///
    /// It follows from the parties: a record under another ID would show the owner the messages of
    /// others. A group's conversation is for its members, or for those who have it still.
    fn check_identity(&self, owner: &str, wanted: &ConversationReq) -> Result<String> {
        let id = match wanted.conversation_type {
            SINGLE => conversation_id::single(owner, &wanted.user_id),
            NOTIFICATION => conversation_id::notification(owner, &wanted.user_id),
            _ => conversation_id::group(&wanted.group_id),
        };
        if !wanted.conversation_id.is_empty() && wanted.conversation_id != id {
            return Err(ServiceError::args(format!(
                "conversationID is {}, the parties make it {id}",
                wanted.conversation_id
            )));
        }
        if wanted.conversation_type == GROUP
            && !schema::MEMBERS.contains(self.tx, (&wanted.group_id, owner))?
            && !schema::CONVERSATIONS.contains(self.tx, (owner, &id))?
        {
            return Err(ServiceError::denied(format!("{owner} is not in {}", wanted.group_id)));
        }
        Ok(id)
    }

    /// Sets the fields for one owner; returns whether anything changed.
    fn set_for(&mut self, owner: &str, id: &str, wanted: &ConversationReq) -> Result<bool> {
        if find(self.tx, owner, id)?.is_some() {
            return self.edit_conversation(owner, id, |record| set(record, wanted));
        }
        let mut record = self.new_conversation(owner, id, wanted)?;
        set(&mut record, wanted);
        schema::CONVERSATIONS.put(self.tx, (owner, id), &record);
        self.tx.step(List::Conversations, owner, [(id, What::Insert)])?;
        Ok(true)
    }

    fn new_conversation(
        &self,
        owner: &str,
        id: &str,
        wanted: &ConversationReq,
    ) -> Result<Conversation> {
        if wanted.conversation_type != GROUP {
            must_exist(self.tx, &wanted.user_id)?;
        }
        let hidden = schema::CONVERSATIONS.get(self.tx, (owner, id))?.unwrap_or_default();
        Ok(Conversation {
            session_type: wanted.conversation_type,
            user_id: wanted.user_id.clone(),
            group_id: wanted.group_id.clone(),
            private_chat: hidden.private_chat,
            burn_duration: hidden.burn_duration,
            order: self.now.cast_unsigned(),
            min_seq: hidden.min_seq,
            max_seq: hidden.max_seq,
            ..Default::default()
        })
    }

    /// Switches burning after reading, for both sides.
    fn set_private(&mut self, owner: &str, wanted: &ConversationReq, private: bool) -> Result<()> {
        let peer = wanted.user_id.as_str();
        if !self.caller.is_admin && schema::BLACKS.contains(self.tx, (peer, owner))? {
            return Err(ServiceError::Blocked);
        }
        let id = self.check_identity(owner, wanted)?;
        for (side, other) in [(owner, peer), (peer, owner)] {
            if find(self.tx, side, &id)?.is_none() {
                let mirrored = ConversationReq { user_id: other.to_owned(), ..wanted.clone() };
                let record = self.new_conversation(side, &id, &mirrored)?;
                schema::CONVERSATIONS.put(self.tx, (side, &id), &record);
                self.tx.step(List::Conversations, side, [(id.as_str(), What::Insert)])?;
            }
            self.edit_conversation(side, &id, |record| record.private_chat = private)?;
        }
        let tips = ConversationSetPrivateTips {
            recv_id: peer.to_owned(),
            send_id: owner.to_owned(),
            is_private: private,
            conversation_id: id,
        };
        self.notify(&Notification::new(kind::PRIVATE_CHAT, owner, To::User(peer)), &tips)?;
        Ok(())
    }
}
