//! Who may do what in a group.

use store::record::Member;
use store::{Read, schema};

use super::{Caller, role};
use crate::error::{Result, ServiceError};

impl Caller {
    /// The caller is owner or admin of the group, or an app admin; strangers are denied too.
    pub fn must_manage_or_deny(&self, from: &impl Read, group_id: &str) -> Result<()> {
        self.must_manage(from, group_id, || self.stranger(group_id))
    }

    /// As [`must_manage_or_deny`](Self::must_manage_or_deny), but to strangers nothing is there.
    pub fn must_manage_or_miss(&self, from: &impl Read, group_id: &str) -> Result<()> {
        self.must_manage(from, group_id, || {
            ServiceError::not_found(format!("{} is not in group {group_id}", self.user_id))
        })
    }

    /// The caller owns the group, or is an app admin.
    pub fn must_own_group(&self, group_id: &str, owner: &str) -> Result<()> {
        if self.is_admin || self.user_id == owner {
            return Ok(());
        }
        Err(ServiceError::denied(format!("{} does not own group {group_id}", self.user_id)))
    }

    /// The caller may mute a member: the owner anybody else, an admin ordinary members.
    pub fn must_silence(&self, from: &impl Read, group_id: &str, member: &Member) -> Result<()> {
        if self.is_admin {
            return Ok(());
        }
        if member.role_level >= role::OWNER {
            return Err(ServiceError::denied("the owner of a group is not muted"));
        }
        let Some(caller) = schema::MEMBERS.get(from, (group_id, &self.user_id))? else {
            let reason = format!("{} is not in group {group_id}", self.user_id);
            return Err(ServiceError::not_found(reason));
        };
        self.must_outrank(group_id, &caller, member)
    }

    /// The caller may remove members: the owner anybody else, an admin ordinary members.
    pub fn must_remove<'a>(
        &self,
        from: &impl Read,
        group_id: &str,
        members: impl IntoIterator<Item = &'a Member>,
    ) -> Result<()> {
        if self.is_admin {
            return Ok(());
        }
        let Some(caller) = schema::MEMBERS.get(from, (group_id, &self.user_id))? else {
            return Err(self.stranger(group_id));
        };
        members.into_iter().try_for_each(|member| self.must_outrank(group_id, &caller, member))
    }

    /// The caller may change a member: everybody oneself, whoever manages the group those below.
    ///
    /// `level` is the new role, if it changes; nobody raises the own one.
    pub fn must_edit_member(
        &self,
        from: &impl Read,
        group_id: &str,
        user_id: &str,
        member: &Member,
        level: Option<i32>,
    ) -> Result<()> {
        if self.is_admin {
            return Ok(());
        }
        let Some(caller) = schema::MEMBERS.get(from, (group_id, &self.user_id))? else {
            return Err(self.stranger(group_id));
        };
        if user_id != self.user_id {
            return self.must_outrank(group_id, &caller, member);
        }
        if level.is_some_and(|level| level > caller.role_level) {
            return Err(ServiceError::denied(format!("{user_id} may not raise the own role")));
        }
        Ok(())
    }

    fn must_outrank(&self, group_id: &str, caller: &Member, member: &Member) -> Result<()> {
        if caller.role_level >= role::ADMIN && caller.role_level > member.role_level {
            return Ok(());
        }
        Err(ServiceError::denied(format!("{} has no such rank in {group_id}", self.user_id)))
    }

    fn stranger(&self, group_id: &str) -> ServiceError {
        ServiceError::denied(format!("{} is not in group {group_id}", self.user_id))
    }
}
