//! Putting members into a group, taking them out, ranking them.

use proto::sdkws::GroupMemberFullInfo;
use store::record::{Conversation, Group, Member, Present};
use store::version_log::{Change as What, List, SORT_ELEMENT};
use store::{message_log, schema};

use super::{DISMISSED, member_info, profile, rank};
use crate::access::role;
use crate::change::Change;
use crate::conversation_id::{self, GROUP};
use crate::delivery::Delivery;
use crate::error::Result;
use crate::fault::Fault;

/// Somebody who comes into a group.
#[derive(Debug, Clone)]
pub(super) struct Newcomer {
    pub(super) user_id: String,
    pub(super) role_level: i32,
    pub(super) join_source: i32,
    pub(super) inviter_user_id: String,
    pub(super) operator_user_id: String,
}

impl Change<'_, '_> {
    /// Puts users into a group, as one step of its member log; those who are in it stay as they are.
    ///
    /// Returns the new members. `group` is changed, not written.
    pub(super) fn add_members(
        &mut self,
        group_id: &str,
        group: &mut Group,
        newcomers: Vec<Newcomer>,
    ) -> Result<Vec<GroupMemberFullInfo>> {
        let chat = conversation_id::group(group_id);
        let (newest, _) = message_log::newest(self.tx, &chat)?;
        let mut added = Vec::new();
        for newcomer in newcomers {
            let user_id = newcomer.user_id.as_str();
            if schema::MEMBERS.contains(self.tx, (group_id, user_id))? {
                continue;
            }
            self.may_enter(group_id, user_id)?;
            let mute_end = self.take_mute(group_id, user_id)?;
            let record = Member {
                role_level: newcomer.role_level,
                joined: self.now,
                join_source: newcomer.join_source,
                operator_user_id: newcomer.operator_user_id,
                inviter_user_id: newcomer.inviter_user_id,
                mute_end,
                order: group.next_join,
                ..Default::default()
            };
            group.next_join += 1;
            group.info.member_count += 1;
            if record.role_level == role::OWNER {
                user_id.clone_into(&mut group.info.owner_user_id);
            }
            let order = (group_id, rank(record.role_level), record.order, user_id);
            schema::MEMBERS.put(self.tx, (group_id, user_id), &record);
            schema::MEMBER_ORDER.put(self.tx, order, &Present {});
            schema::JOINED.put(self.tx, (user_id, group_id), &Present {});
            self.tx.step(List::JoinedGroups, user_id, [(group_id, What::Insert)])?;
            self.open_conversation(user_id, group_id, &chat, newest)?;
            added.push(member_info(group_id, &profile(self.tx, user_id)?, record));
        }
        if !added.is_empty() {
            let elements: Vec<_> =
                added.iter().map(|member| (member.user_id.as_str(), What::Insert)).collect();
            self.step_members(group_id, elements)?;
            let users = added.iter().map(|member| member.user_id.clone()).collect();
            self.deliver(Delivery::Joined(group_id.to_owned(), users));
        }
        Ok(added)
    }

    /// Lifts the upper bound of a member who comes back, and puts the conversation back into the list;
    /// bounds the history of a new one if the node is set so.
    fn open_conversation(
        &mut self,
        user_id: &str,
        group_id: &str,
        chat: &str,
        newest: i64,
    ) -> Result<()> {
        let hides_history = !self.settings().history_for_new_members && newest > 0;
        let before = schema::CONVERSATIONS.get(self.tx, (user_id, chat))?;
        if before.is_some() || hides_history {
            let mut record = before.unwrap_or_else(|| Conversation {
                session_type: GROUP,
                group_id: group_id.to_owned(),
                order: self.now.cast_unsigned(),
                ..Default::default()
            });
            record.max_seq = 0;
            if !Fault::ReturnedMemberSeesNothing.is_on() {
                record.hidden_through = None;
            }
            if hides_history {
                record.min_seq = newest + 1;
            }
            schema::CONVERSATIONS.put(self.tx, (user_id, chat), &record);
            self.awaits_no_message(user_id, chat);
        }
        self.tx.step(List::Conversations, user_id, [(chat, What::Insert)])?;
        Ok(())
    }

    /// Takes members out of a group, as one step of its member log; `group` is changed, not written.
    pub(super) fn remove_members(
        &mut self,
        group_id: &str,
        group: &mut Group,
        user_ids: &[String],
    ) -> Result<()> {
        for user_id in user_ids {
            self.remove_member(group_id, group, user_id)?;
        }
        self.step_members(group_id, user_ids.iter().map(|id| (id.as_str(), What::Delete)))
    }

    /// Takes a member out without stepping the member log.
    pub(super) fn remove_member(
        &mut self,
        group_id: &str,
        group: &mut Group,
        user_id: &str,
    ) -> Result<()> {
        let Some(member) = schema::MEMBERS.get(self.tx, (group_id, user_id))? else {
            return Ok(());
        };
        // The conversation outlives the membership: it gets a record of its own.
        let chat = conversation_id::group(group_id);
        if !schema::CONVERSATIONS.contains(self.tx, (user_id, &chat))? {
            let record = Conversation {
                session_type: GROUP,
                group_id: group_id.to_owned(),
                order: member.joined.cast_unsigned(),
                ..Default::default()
            };
            schema::CONVERSATIONS.put(self.tx, (user_id, &chat), &record);
        }
        // Nobody comes back into a dismissed group.
        if group.info.status != DISMISSED {
            self.keep_mute(group_id, user_id, &member);
        }
        let order = (group_id, rank(member.role_level), member.order, user_id);
        schema::MEMBERS.delete(self.tx, (group_id, user_id));
        schema::MEMBER_ORDER.delete(self.tx, order);
        schema::JOINED.delete(self.tx, (user_id, group_id));
        self.tx.step(List::JoinedGroups, user_id, [(group_id, What::Delete)])?;
        group.info.member_count = group.info.member_count.saturating_sub(1);
        if member.role_level == role::OWNER {
            group.info.owner_user_id.clear();
        }
        Ok(())
    }

    /// Ends what former members see of the chat at a seq (or at its end, for 0).
    pub(super) fn close_conversation(
        &mut self,
        group_id: &str,
        user_ids: &[String],
        seq: i64,
    ) -> Result<()> {
        let chat = conversation_id::group(group_id);
        let end = if seq > 0 { seq } else { message_log::newest(self.tx, &chat)?.0 };
        for user_id in user_ids {
            self.bound_conversation(user_id, &chat, end)?;
            self.tx.step(List::Conversations, user_id, [(chat.as_str(), What::Update)])?;
        }
        self.deliver(Delivery::Left(group_id.to_owned(), user_ids.to_vec()));
        Ok(())
    }

    /// Ends what a former member sees of the chat at a seq, stepping nothing; 0: nothing was ever said.
    pub(crate) fn bound_conversation(&mut self, user_id: &str, chat: &str, end: i64) -> Result<()> {
        let key = (user_id, chat);
        self.awaits_no_message(user_id, chat);
        if end == 0 {
            // There is nothing to be kept, and 0 would mean no bound.
            schema::CONVERSATIONS.delete(self.tx, key);
        } else if let Some(mut record) = schema::CONVERSATIONS.get(self.tx, key)? {
            record.max_seq = end;
            schema::CONVERSATIONS.put(self.tx, key, &record);
        }
        Ok(())
    }

    /// Gives a member another rank, stepping nothing; the caller steps the member log.
    pub(super) fn set_role(
        &mut self,
        group_id: &str,
        user_id: &str,
        member: &mut Member,
        role_level: i32,
    ) {
        let old = (group_id, rank(member.role_level), member.order, user_id);
        schema::MEMBER_ORDER.delete(self.tx, old);
        member.role_level = role_level;
        let new = (group_id, rank(role_level), member.order, user_id);
        schema::MEMBER_ORDER.put(self.tx, new, &Present {});
        schema::MEMBERS.put(self.tx, (group_id, user_id), member);
    }

    /// Steps the member log for members whose rank changed; returns the new version.
    pub(super) fn step_order(&mut self, group_id: &str, user_ids: &[&str]) -> Result<u64> {
        let members = user_ids.iter().map(|id| (*id, What::Update));
        let elements = [(SORT_ELEMENT, What::Update)].into_iter().chain(members);
        Ok(self.tx.step(List::Members, group_id, elements)?)
    }
}
