//! Conversations that are taken off a user's list, and come back with their next message.
//!
//! Who waits for the next message of a conversation is kept with it, and that there is somebody in its
//! head, which is in memory: a message costs nothing for it where nobody has deleted the conversation.

use proto::conversation::{DeleteConversationsReq, DeleteConversationsResp};
use store::record::{Conversation, Present};
use store::version_log::{Change as What, List};
use store::{Direction, message_log, schema};

use super::{end, find, list};
use crate::Services;
use crate::access::Caller;
use crate::change::Change;
use crate::day::DAY_MS;
use crate::error::{Result, ServiceError};
use crate::fault::Fault;
use crate::message::seqs;
use crate::user::{check_count, check_length};

/// Conversations in one request.
const MAX_ELEMENTS: usize = 1_000;
/// Longest conversation ID in bytes: two user IDs and what joins them.
const MAX_ID_BYTES: usize = 256;
/// Users to whom a conversation comes back in one transaction; what others say has to wait for it.
const PART: usize = 500;

impl Services {
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
        self.change_to_make_room(caller, move |change| {
            let owner = request.owner_user_id.as_str();
            let mut ids = request.conversation_ids;
            if !named {
                let before = change.now.saturating_sub(days.saturating_mul(DAY_MS));
                for (id, _) in list(change.tx, owner)? {
                    let seqs = seqs(change.tx, owner, &id)?;
                    if seqs.max_seq > 0 && seqs.max_seq_time < before {
                        ids.push(id);
                    }
                }
            }
            for id in &ids {
                if let Some(record) = find(change.tx, owner, id)? {
                    change.delete_conversation(owner, id, record)?;
                }
                change.tx.step(List::Conversations, owner, [(id.as_str(), What::Delete)])?;
            }
            Ok(DeleteConversationsResp {})
        })
        .await
    }

    /// Goes on with the conversations that the last stop of the node left half come back.
    pub(crate) fn resume_returns(&self) -> Result<()> {
        let view = self.store().view();
        for row in schema::RETURNS.scan(&view, ()) {
            tokio::spawn(self.clone().bring_all_back(row?.0, String::new()));
        }
        Ok(())
    }

    /// Brings a conversation back to the users from `first` on, some at a time so that other changes are
    /// not held up.
    async fn bring_all_back(self, id: String, mut first: String) {
        let caller = Caller::node("");
        loop {
            let id = id.clone();
            match self.change(&caller, move |change| change.bring_some_back(&id, &first)).await {
                Ok(Some(next)) => {
                    first = next;
                    tokio::task::yield_now().await;
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "a conversation comes back to all at the next start");
                    break;
                }
            }
        }
    }
}

impl Change<'_, '_> {
    /// Hides a conversation from a list, until its next message if the owner will see that.
    fn delete_conversation(&mut self, owner: &str, id: &str, record: Conversation) -> Result<()> {
        let (newest, _) = message_log::newest(self.tx, id)?;
        let hidden = Conversation {
            hidden_through: Some(end(&record, newest)),
            session_type: record.session_type,
            user_id: record.user_id,
            group_id: record.group_id,
            // Both sides have the same.
            private_chat: record.private_chat,
            burn_duration: record.burn_duration,
            order: self.now.cast_unsigned(),
            min_seq: record.min_seq,
            max_seq: record.max_seq,
            ..Default::default()
        };
        schema::CONVERSATIONS.put(self.tx, (owner, id), &hidden);
        if hidden.max_seq == 0 {
            schema::DELETED_CONVERSATIONS.put(self.tx, (id, owner), &Present {});
            self.tx.set_awaited(id, true)?;
        }
        Ok(())
    }

    /// A conversation does not come back to a user with its next message: it is there already, or
    /// the user no longer hears what is said in it.
    pub(crate) fn awaits_no_message(&mut self, owner: &str, id: &str) {
        schema::DELETED_CONVERSATIONS.delete(self.tx, (id, owner));
    }

    /// A message has come to a conversation that somebody had deleted: it is back in the lists.
    pub(crate) fn bring_back(&mut self, id: &str) -> Result<()> {
        if Fault::ReturnIsNotLogged.is_on() {
            return Ok(());
        }
        // Otherwise they come back already, some at a time.
        if schema::RETURNS.contains(self.tx, id)? {
            return Ok(());
        }
        if let Some(next) = self.bring_some_back(id, "")? {
            schema::RETURNS.put(self.tx, id, &Present {});
            let (services, id) = (self.services.clone(), id.to_owned());
            self.tx.after_commit(move || {
                let runtime = services.inner.runtime.clone();
                runtime.spawn(services.bring_all_back(id, next));
            });
        }
        Ok(())
    }

    /// Notes in the lists of some users, from `first` on, that a conversation is back; returns the first of
    /// the next ones.
    fn bring_some_back(&mut self, id: &str, first: &str) -> Result<Option<String>> {
        let rows =
            schema::DELETED_CONVERSATIONS.range(self.tx, (id, first), id, Direction::Ascending);
        let rows = rows.take(PART + 1);
        let mut owners = rows.map(|row| Ok(row?.0.1)).collect::<Result<Vec<String>>>()?;
        let next = if owners.len() > PART { owners.pop() } else { None };
        for owner in &owners {
            // Whoever has deleted it again since waits for another message. What was lost in a restore
            // and comes again is older than the deletion, too.
            if find(self.tx, owner, id)?.is_some() {
                self.awaits_no_message(owner, id);
                self.tx.step(List::Conversations, owner, [(id, What::Insert)])?;
            }
        }
        if next.is_none() {
            let left = schema::DELETED_CONVERSATIONS.scan(self.tx, id).take(PART);
            let left = left.map(|row| Ok(row?.0.1)).collect::<Result<Vec<String>>>()?;
            for owner in left.iter().filter(|_| !first.is_empty()) {
                // Deleted again and back again while others came back.
                if find(self.tx, owner, id)?.is_some() {
                    return Ok(Some(String::new()));
                }
            }
            if schema::RETURNS.contains(self.tx, id)? {
                schema::RETURNS.delete(self.tx, id);
            }
            self.tx.set_awaited(id, !left.is_empty())?;
        }
        Ok(next)
    }
}
