//! Changing a user's conversations.

use proto::conversation::{
    ConversationReq, SetConversationsReq, SetConversationsResp, UpdateConversationsByUserReq,
    UpdateConversationsByUserResp,
};
use proto::sdkws::ConversationSetPrivateTips;
use store::record::Conversation;
use store::schema;
use store::version_log::{Change as What, List};

use super::find;
use crate::Services;
use crate::access::Caller;
use crate::change::Change;
use crate::conversation_id::{self, GROUP, NOTIFICATION, SINGLE};
use crate::error::{Result, ServiceError};
use crate::notification::{Notification, To, kind};
use crate::user::{check_count, check_length, must_exist};

/// Owners in one request.
const MAX_OWNERS: usize = 1_000;
/// Longest attached info or extension in bytes.
const MAX_TEXT_BYTES: usize = 8 * 1_024;

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
        check_count("userIDs", request.user_ids.len(), MAX_OWNERS)?;
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
        self.put_new(owner, id, &record)?;
        Ok(true)
    }

    /// Puts a conversation into a list.
    fn put_new(&mut self, owner: &str, id: &str, record: &Conversation) -> Result<()> {
        schema::CONVERSATIONS.put(self.tx, (owner, id), record);
        self.awaits_no_message(owner, id);
        self.tx.step(List::Conversations, owner, [(id, What::Insert)])?;
        Ok(())
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
                self.put_new(side, &id, &record)?;
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
