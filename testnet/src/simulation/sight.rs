//! What a list, a count, a newest message and a version log say about a user agrees with what that
//! user can read, on whichever node.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use proto::conversation::{
    Conversation, DeleteConversationsReq, GetAllConversationsReq, GetFullOwnerConversationIDsReq,
    GetIncrementalConversationReq, GetOwnerConversationReq, GetSortedConversationListReq,
};
use proto::jssdk::GetActiveConversationsReq;
use proto::msg::{
    DeleteMsgsReq, DeleteSyncOpt, GetConversationsHasReadAndMaxSeqReq, GetLastMessageReq,
    MarkConversationAsReadReq, Seqs,
};
use proto::sdkws::{GetMaxSeqReq, MsgData, RequestPagination};
use services::Services;
use store::schema;

use super::work::{User, World};
use crate::Result;

/// Status of a message that is gone.
const GONE: i32 = 4;
/// More than anybody has conversations.
const ALL: i32 = 500;

/// What a device has of its user's conversations.
#[derive(Debug, Default)]
pub(super) struct Copy {
    version_id: String,
    version: u64,
    rows: BTreeMap<String, Conversation>,
}

/// A conversation that a user has taken off the list: how far it went, and that the user was asked
/// into the group again since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Removed {
    through: i64,
    pub(super) asked_again: bool,
}

fn by_id(rows: Vec<Conversation>) -> BTreeMap<String, Conversation> {
    rows.into_iter().map(|row| (row.conversation_id.clone(), row)).collect()
}

impl World {
    /// What a user's list holds, by ID.
    fn listed(user: User, services: &Services) -> Result<BTreeMap<String, Conversation>> {
        let request = GetAllConversationsReq { owner_user_id: user.id() };
        let answer = services.get_all_conversations(&Self::caller(user), &request)?;
        Ok(by_id(answer.conversations))
    }

    /// Whether a conversation is in a user's list; who took it off sees nothing of it.
    pub(super) fn is_listed(&self, user: User, id: &str) -> Result<bool> {
        Ok(Self::listed(user, self.nodes[user.node].services()?)?.contains_key(id))
    }

    fn seqs(user: User, services: &Services, ids: &[String]) -> Result<BTreeMap<String, Seqs>> {
        let request = GetConversationsHasReadAndMaxSeqReq {
            user_id: user.id(),
            conversation_ids: ids.to_vec(),
            return_pinned: false,
        };
        Ok(services.read_and_max_seqs(&Self::caller(user), &request)?.seqs.into_iter().collect())
    }

    /// A user reads, deletes a message, or takes a conversation off the list.
    pub(super) async fn tidy_up(&mut self) -> Result {
        let user = self.any_user();
        let Some(services) = self.services(user) else { return Ok(()) };
        let caller = Self::caller(user);
        let listed: Vec<String> = Self::listed(user, &services)?.into_keys().collect();
        if listed.is_empty() {
            return Ok(());
        }
        let id = listed[self.random.below(listed.len())].clone();
        let seqs = Self::seqs(user, &services, std::slice::from_ref(&id))?;
        let newest = seqs.get(&id).map_or(0, |seqs| seqs.max_seq);
        let seq = (newest - self.random.below(4) as i64).max(1);
        match self.random.below(4) {
            0 => {
                let request = MarkConversationAsReadReq {
                    conversation_id: id.clone(),
                    user_id: user.id(),
                    has_read_seq: seq,
                    seqs: Vec::new(),
                };
                services.mark_conversation_as_read(&caller, request).await?;
                self.note(|| format!("{user:?} reads {id} up to {seq}"));
            }
            1 if newest > 0 => {
                let request = DeleteMsgsReq {
                    conversation_id: id.clone(),
                    seqs: vec![seq],
                    user_id: user.id(),
                    delete_sync_opt: Some(DeleteSyncOpt {
                        is_sync_self: true,
                        is_sync_other: false,
                    }),
                };
                services.delete_msgs(&caller, request).await?;
                self.deleted.insert((user, id.clone(), seq));
                self.note(|| format!("{user:?} deletes {seq} of {id}"));
            }
            _ => {
                let request = DeleteConversationsReq {
                    owner_user_id: user.id(),
                    conversation_ids: vec![id.clone()],
                    need_delete_time: 0,
                };
                services.delete_conversations(&caller, request).await?;
                self.note(|| format!("{user:?} removes {id}, which went to {newest}"));
                self.removed.insert((user, id), Removed { through: newest, asked_again: false });
            }
        }
        Ok(())
    }

    /// A user's device asks what has changed; what it has then is what there is.
    fn sync(&mut self, user: User, services: &Services) -> Result {
        let listed = Self::listed(user, services)?;
        let copy = self.copies.entry(user).or_default();
        let request = GetIncrementalConversationReq {
            user_id: user.id(),
            version: copy.version,
            version_id: copy.version_id.clone(),
        };
        let changed = services.get_incremental_conversations(&Self::caller(user), &request)?;
        (copy.version, copy.version_id) = (changed.version, changed.version_id);
        if changed.full {
            copy.rows = listed.clone();
        }
        for id in changed.delete {
            copy.rows.remove(&id);
        }
        copy.rows.extend(by_id(changed.insert));
        copy.rows.extend(by_id(changed.update));
        for id in listed.keys().chain(copy.rows.keys()) {
            let (there, has) = (listed.get(id), copy.rows.get(id));
            ensure!(there == has, "a device has {has:?}, the list {there:?}");
        }
        Ok(())
    }

    /// The lists and counts of a user agree with each other; so it is at any moment.
    pub(super) fn check_lists(&mut self, user: User) -> Result {
        let Some(services) = self.services(user) else { return Ok(()) };
        self.sync(user, &services)?;
        let caller = Self::caller(user);
        let listed = Self::listed(user, &services)?;
        let ids: BTreeSet<&String> = listed.keys().collect();

        let request = GetFullOwnerConversationIDsReq { user_id: user.id(), id_hash: 0 };
        let full = services.get_full_conversation_ids(&caller, &request)?.conversation_ids;
        ensure!(full.iter().collect::<BTreeSet<_>>() == ids, "{full:?} instead of {ids:?}");
        let pagination = Some(RequestPagination { page_number: 1, show_number: ALL });
        let request = GetOwnerConversationReq { user_id: user.id(), pagination };
        let owner = services.get_owner_conversation(&caller, &request)?;
        ensure!(owner.total == ids.len() as i64, "{} instead of {ids:?}", owner.total);
        ensure!(by_id(owner.conversations) == listed, "the pages show something else");

        let seqs = Self::seqs(user, &services, &[])?;
        ensure!(seqs.keys().collect::<BTreeSet<_>>() == ids, "{seqs:?} instead of {ids:?}");
        let newest = services.max_seqs(&caller, &GetMaxSeqReq { user_id: user.id() })?.max_seqs;
        let chats = newest.iter().filter(|(id, _)| !id.starts_with("n_"));
        let chats: BTreeMap<&String, i64> = chats.map(|(id, newest)| (id, *newest)).collect();
        let wanted = seqs.iter().filter(|(_, seqs)| seqs.max_seq > 0);
        let wanted: BTreeMap<&String, i64> = wanted.map(|(id, seqs)| (id, seqs.max_seq)).collect();
        ensure!(chats == wanted, "newest are {chats:?} instead of {wanted:?}");

        let view = self.nodes[user.node].store()?.view();
        for (id, row) in listed.iter().filter(|(_, row)| !row.group_id.is_empty()) {
            let member = schema::MEMBERS.contains(&view, (&row.group_id, &user.id()))?;
            ensure!(member || row.max_seq > 0, "{id} has no end for one who has left");
            ensure!(row.max_seq == 0 || seqs[id].max_seq <= row.max_seq, "{id} is shown active");
            ensure!(!member || row.max_seq == 0, "{id} ends for a member");
        }

        let unread = |seqs: &Seqs| seqs.max_seq - seqs.has_read_seq;
        ensure!(seqs.values().all(|seqs| unread(seqs) >= 0), "less than nothing unread: {seqs:?}");
        let total: i64 = seqs.values().map(unread).sum();
        let active = GetActiveConversationsReq { owner_user_id: user.id(), count: i64::from(ALL) };
        let active = services.get_active_conversations(&caller, &active)?;
        ensure!(active.unread_count == total, "{} unread, not {total}", active.unread_count);
        if ids.is_empty() {
            return Ok(());
        }
        let request = GetSortedConversationListReq {
            user_id: user.id(),
            conversation_ids: Vec::new(),
            pagination,
        };
        let sorted = services.get_sorted_conversation_list(&caller, &request)?;
        ensure!(sorted.unread_total == total, "{} unread, not {total}", sorted.unread_total);
        for row in &sorted.conversation_elems {
            let wanted = unread(&seqs[&row.conversation_id]);
            ensure!(row.unread_count == wanted, "{row:?}: {wanted} unread");
        }
        let rows: BTreeSet<&String> =
            sorted.conversation_elems.iter().map(|row| &row.conversation_id).collect();
        ensure!(rows == ids, "sorted are {rows:?} instead of {ids:?}");
        Ok(())
    }

    /// What each user is shown agrees with what that user can pull.
    pub(super) async fn check_sight(&mut self) -> Result {
        for user in self.users() {
            self.check_lists(user).with_context(|| format!("{user:?}"))?;
            let services = self.nodes[user.node].services()?.clone();
            let listed = Self::listed(user, &services)?;
            for id in listed.keys() {
                self.check_conversation(user, &services, id)
                    .await
                    .with_context(|| format!("{user:?} in {id}"))?;
            }
            self.check_removed(user, &services, &listed)?;
        }
        Ok(())
    }

    async fn check_conversation(&self, user: User, services: &Services, id: &String) -> Result {
        let ids = std::slice::from_ref(id);
        let request = GetLastMessageReq { user_id: user.id(), conversation_ids: ids.to_vec() };
        services.fetch_last(&Self::caller(user), &user.id(), ids).await?;
        let last = services.last_messages(&Self::caller(user), &request)?.msgs.get(id).cloned();
        let seqs = Self::seqs(user, services, ids)?.remove(id).unwrap_or_default();
        let pulled = self.pull(user, id).await?;
        let newest = pulled.last().map_or(0, |message| message.seq);
        ensure!(seqs.max_seq == newest, "it goes to {}, pulled to {newest}", seqs.max_seq);
        let there: Vec<&MsgData> = pulled.iter().filter(|message| message.status != GONE).collect();
        ensure!(
            last.as_ref() == there.last().copied(),
            "it ends with {last:?} instead of {:?}",
            there.last()
        );
        for message in &there {
            let deleted = self.deleted.contains(&(user, id.clone(), message.seq));
            ensure!(!deleted, "{} was deleted", message.seq);
        }
        let view = self.nodes[user.node].store()?.view();
        let position = schema::READ_POSITIONS.get(&view, (&user.id(), id))?;
        let read = position.map_or(0, |position| position.read_seq);
        let wanted = there.iter().filter(|message| message.seq > read).count() as i64;
        let unread = seqs.max_seq - seqs.has_read_seq;
        ensure!(unread == wanted, "{unread} unread instead of {wanted} above {read}: {seqs:?}");
        Ok(())
    }

    /// What was taken off the list comes back with something newer that the user sees, or when the
    /// user comes back, and else not.
    fn check_removed(
        &self,
        user: User,
        services: &Services,
        listed: &BTreeMap<String, Conversation>,
    ) -> Result {
        let view = self.nodes[user.node].store()?.view();
        for ((_, id), removed) in self.removed.iter().filter(|((owner, _), _)| *owner == user) {
            let seqs = Self::seqs(user, services, std::slice::from_ref(id))?;
            let newest = seqs.get(id).map_or(0, |seqs| seqs.max_seq);
            let there = listed.contains_key(id);
            let back = newest > removed.through || removed.asked_again;
            ensure!(!there || back, "{user:?}: {id} is back: {newest}, {removed:?}");
            let (stored, _) = store::message_log::newest(&view, id)?;
            let member = match id.strip_prefix("sg_") {
                Some(group) => schema::MEMBERS.contains(&view, (group, &user.id()))?,
                None => true,
            };
            let said = member && stored > removed.through;
            ensure!(there || !said, "{user:?}: {id} does not come back: {stored}, {removed:?}");
        }
        Ok(())
    }
}
