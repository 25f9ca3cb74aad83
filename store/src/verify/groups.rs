//! Groups, their members and the requests to join.

use bytes::Bytes;
use proto::qualified::is_remote;

use super::Check;
use crate::StoreError;
use crate::record::{Group, Member};
use crate::schema::{
    GROUP_ORDER, GROUP_REQUESTS, GROUP_REQUESTS_SENT, GROUPS, JOINED, KEPT_MUTES, MEMBER_ORDER,
    MEMBERS,
};

/// Role of the owner.
const OWNER: i32 = 100;

impl Check<'_, '_> {
    pub(super) fn groups(&mut self, key: &[u8], value: &Bytes) -> Result<(), StoreError> {
        let view = self.view;
        if let Some((id, group)) = GROUPS.row(key, value)? {
            if !is_remote(&id) {
                self.totals.groups += 1;
            }
            self.group(&id, &group)?;
        } else if let Some((key, _)) = GROUP_ORDER.row(key, value)? {
            self.totals.groups_in_order += 1;
            if !GROUPS.contains(view, &key.1)? {
                self.add(&GROUP_ORDER, &key, "there is no such group");
            }
        } else if let Some((key, member)) = MEMBERS.row(key, value)? {
            self.member(&key, &member)?;
        } else if let Some((key, _)) = MEMBER_ORDER.row(key, value)? {
            let (group, rank, order, user) = &key;
            let member = self.other(&MEMBERS, (group, user))?;
            if member.is_none_or(|member| rank_of(&member) != Some(*rank) || member.order != *order)
            {
                self.add(&MEMBER_ORDER, &key, "no member has this role and place");
            }
        } else if let Some((key, _)) = JOINED.row(key, value)? {
            if !MEMBERS.contains(view, (&key.1, &key.0))? {
                self.add(&JOINED, &key, "the user is no member");
            }
        } else if let Some((key, _)) = KEPT_MUTES.row(key, value)? {
            if MEMBERS.contains(view, (&key.0, &key.1))? {
                self.add(&KEPT_MUTES, &key, "the user is a member again");
            }
        } else if let Some((key, _)) = GROUP_REQUESTS.row(key, value)? {
            if !GROUP_REQUESTS_SENT.contains(view, (&key.1, &key.0))? {
                self.add(&GROUP_REQUESTS, &key, "it is missing among those the user sent");
            }
        } else if let Some((key, _)) = GROUP_REQUESTS_SENT.row(key, value)?
            && !GROUP_REQUESTS.contains(view, (&key.1, &key.0))?
        {
            self.add(&GROUP_REQUESTS_SENT, &key, "the group has no such request");
        }
        Ok(())
    }

    fn group(&mut self, id: &String, group: &Group) -> Result<(), StoreError> {
        if group.info.group_id != *id {
            self.add(&GROUPS, id, format!("it is the group {:?}", group.info.group_id));
        }
        let mut members = 0_u32;
        for row in
            MEMBERS.range_raw(self.view, id.as_str(), id.as_str(), super::Direction::Ascending)
        {
            match row {
                Err(error) if !error.is_damage() => return Err(error),
                _ => members += 1,
            }
        }
        // Of a group of another node, not all members may be here yet.
        if group.info.member_count != members && !is_remote(id) {
            let said = group.info.member_count;
            self.add(&GROUPS, id, format!("it says {said} members, there are {members}"));
        }
        let owner = &group.info.owner_user_id;
        if members > 0 && !owner.is_empty() {
            let member = self.other(&MEMBERS, (id, owner))?;
            if member.is_none_or(|member| member.role_level != OWNER) {
                self.add(&GROUPS, id, format!("its owner {owner:?} is no member with that role"));
            }
        }
        Ok(())
    }

    fn member(&mut self, key: &(String, String), member: &Member) -> Result<(), StoreError> {
        let (group, user) = key;
        if !GROUPS.contains(self.view, group)? {
            self.add(&MEMBERS, key, "there is no such group");
        }
        match rank_of(member) {
            None => {
                self.add(&MEMBERS, key, format!("role {} does not exist", member.role_level));
            }
            Some(rank) => {
                if !MEMBER_ORDER.contains(self.view, (group, rank, member.order, user))? {
                    self.add(&MEMBERS, key, "it has no place in the order of the members");
                }
            }
        }
        if !JOINED.contains(self.view, (user, group))? {
            self.add(&MEMBERS, key, "the group is missing among those of the user");
        }
        Ok(())
    }
}

/// Place of a role in the order of the members: the owner first.
fn rank_of(member: &Member) -> Option<u8> {
    u8::try_from(member.role_level).ok().map(|level| u8::MAX - level)
}
