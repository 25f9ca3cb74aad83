//! Reading a user's conversations.

use proto::conversation::{
    Conversation as Wire, GetAllConversationsReq, GetAllConversationsResp, GetConversationReq,
    GetConversationResp, GetConversationsReq, GetConversationsResp, GetFullOwnerConversationIDsReq,
    GetFullOwnerConversationIDsResp, GetIncrementalConversationReq, GetIncrementalConversationResp,
    GetNotNotifyConversationIDsReq, GetNotNotifyConversationIDsResp, GetOwnerConversationReq,
    GetOwnerConversationResp, GetPinnedConversationIDsReq, GetPinnedConversationIDsResp,
};
use store::Read;
use store::record::Conversation;
use store::version_log::{List, version};

use super::{find, list, to_wire};
use crate::Services;
use crate::access::Caller;
use crate::error::{Result, ServiceError};
use crate::incremental::{id_hash, incremental};
use crate::page::Page;
use crate::user::check_count;

/// Conversations named in one request, at most.
const MAX_IDS: usize = 10_000;
/// Receives messages without being disturbed.
const NOT_NOTIFY: i32 = 2;

impl Services {
    /// All conversations of a user.
    pub fn get_all_conversations(
        &self,
        caller: &Caller,
        request: &GetAllConversationsReq,
    ) -> Result<GetAllConversationsResp> {
        let owner = request.owner_user_id.as_str();
        if owner.is_empty() {
            return Err(ServiceError::args("ownerUserID is empty"));
        }
        caller.must_be(owner)?;
        let conversations = wire_all(owner, list(&self.store().view(), owner)?);
        Ok(GetAllConversationsResp { conversations })
    }

    /// One conversation of a user.
    pub fn get_conversation(
        &self,
        caller: &Caller,
        request: &GetConversationReq,
    ) -> Result<GetConversationResp> {
        let (owner, id) = (request.owner_user_id.as_str(), request.conversation_id.as_str());
        for (what, value) in [("ownerUserID", owner), ("conversationID", id)] {
            if value.is_empty() {
                return Err(ServiceError::args(format!("{what} is empty")));
            }
        }
        caller.must_be(owner)?;
        match find(&self.store().view(), owner, id)? {
            Some(record) => {
                Ok(GetConversationResp { conversation: Some(to_wire(owner, id, record)) })
            }
            None => Err(ServiceError::not_found(format!("{owner} has no conversation {id}"))),
        }
    }

    /// Those of the conversations named that the user has.
    pub fn get_conversations(
        &self,
        caller: &Caller,
        request: &GetConversationsReq,
    ) -> Result<GetConversationsResp> {
        let owner = request.owner_user_id.as_str();
        if owner.is_empty() {
            return Err(ServiceError::args("ownerUserID is empty"));
        }
        if request.conversation_ids.is_empty() {
            return Err(ServiceError::args("conversationIDs is empty"));
        }
        check_count("conversationIDs", request.conversation_ids.len(), MAX_IDS)?;
        caller.must_be(owner)?;
        let mut ids = request.conversation_ids.clone();
        ids.sort();
        ids.dedup();
        let conversations = found(&self.store().view(), owner, &ids)?;
        Ok(GetConversationsResp { conversations })
    }

    /// A page of a user's conversations.
    pub fn get_owner_conversation(
        &self,
        caller: &Caller,
        request: &GetOwnerConversationReq,
    ) -> Result<GetOwnerConversationResp> {
        caller.must_be(&request.user_id)?;
        let page = Page::or_empty(request.pagination.as_ref());
        let conversations = list(&self.store().view(), &request.user_id)?;
        let total = i64::try_from(conversations.len()).unwrap_or(i64::MAX);
        let conversations = wire_all(&request.user_id, page.of(conversations));
        Ok(GetOwnerConversationResp { total, conversations })
    }

    /// IDs of all conversations, unless the caller has the same.
    pub fn get_full_conversation_ids(
        &self,
        caller: &Caller,
        request: &GetFullOwnerConversationIDsReq,
    ) -> Result<GetFullOwnerConversationIDsResp> {
        caller.must_be(&request.user_id)?;
        let view = self.store().view();
        let ids: Vec<String> =
            list(&view, &request.user_id)?.into_iter().map(|(id, _)| id).collect();
        let equal = id_hash(&ids)? == request.id_hash;
        let now = version(&view, List::Conversations, &request.user_id)?;
        Ok(GetFullOwnerConversationIDsResp {
            version: now.version,
            version_id: now.id,
            equal,
            conversation_ids: if equal { Vec::new() } else { ids },
        })
    }

    /// Conversations that changed since the caller last asked.
    pub fn get_incremental_conversations(
        &self,
        caller: &Caller,
        request: &GetIncrementalConversationReq,
    ) -> Result<GetIncrementalConversationResp> {
        caller.must_be(&request.user_id)?;
        let (view, owner) = (self.store().view(), request.user_id.as_str());
        let changed =
            incremental(&view, List::Conversations, owner, &request.version_id, request.version)?;
        // Whatever the log says of an element, the list is as it is now.
        let (mut insert, mut update, mut delete) = (Vec::new(), Vec::new(), Vec::new());
        for id in changed.insert.into_iter().chain(changed.delete) {
            match find(&view, owner, &id)? {
                Some(record) => insert.push(to_wire(owner, &id, record)),
                None => delete.push(id),
            }
        }
        for id in changed.update {
            match find(&view, owner, &id)? {
                Some(record) => update.push(to_wire(owner, &id, record)),
                None => delete.push(id),
            }
        }
        Ok(GetIncrementalConversationResp {
            version: changed.now.version,
            version_id: changed.now.id,
            full: changed.full,
            delete,
            insert,
            update,
        })
    }

    /// IDs of the conversations whose messages come without disturbing.
    pub fn get_not_notify_conversation_ids(
        &self,
        caller: &Caller,
        request: &GetNotNotifyConversationIDsReq,
    ) -> Result<GetNotNotifyConversationIDsResp> {
        caller.must_be(&request.user_id)?;
        let conversation_ids =
            self.ids_where(&request.user_id, |record| record.recv_msg_opt == NOT_NOTIFY)?;
        Ok(GetNotNotifyConversationIDsResp { conversation_ids })
    }

    /// IDs of the pinned conversations.
    pub fn get_pinned_conversation_ids(
        &self,
        caller: &Caller,
        request: &GetPinnedConversationIDsReq,
    ) -> Result<GetPinnedConversationIDsResp> {
        caller.must_be(&request.user_id)?;
        let conversation_ids = self.ids_where(&request.user_id, |record| record.pinned)?;
        Ok(GetPinnedConversationIDsResp { conversation_ids })
    }

    fn ids_where(&self, owner: &str, fits: impl Fn(&Conversation) -> bool) -> Result<Vec<String>> {
        let all = list(&self.store().view(), owner)?.into_iter();
        Ok(all.filter(|(_, record)| fits(record)).map(|(id, _)| id).collect())
    }
}

fn wire_all(owner: &str, conversations: Vec<(String, Conversation)>) -> Vec<Wire> {
    conversations.into_iter().map(|(id, record)| to_wire(owner, &id, record)).collect()
}

/// Those of `ids` that the owner has.
fn found(from: &impl Read, owner: &str, ids: &[String]) -> Result<Vec<Wire>> {
    let mut conversations = Vec::new();
    for id in ids {
        if let Some(record) = find(from, owner, id)? {
            conversations.push(to_wire(owner, id, record));
        }
    }
    Ok(conversations)
}
