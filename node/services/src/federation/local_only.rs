//! Users and groups that have nothing to do with other nodes, because an operator says so.
//!
//! To other nodes they do not exist. What was between them and others before stays where it is.

use proto::qualified::{home_of, is_remote};
use store::record::Present;
use store::{Read, schema};

use crate::Services;
use crate::access::Caller;
use crate::change::Change;
use crate::error::{Result, ServiceError};
use crate::{group, user};

/// What stays on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalOnly {
    /// A user.
    User,
    /// A group.
    Group,
}

impl LocalOnly {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }

    /// Whether this one stays on its node.
    pub(crate) fn holds(self, from: &impl Read, id: &str) -> Result<bool> {
        Ok(schema::LOCAL_ONLY.contains(from, (self.name(), id))?)
    }
}

/// Refuses what a user does with other nodes who has nothing to do with them.
pub(crate) fn may_cross(from: &impl Read, user_id: &str) -> Result<()> {
    if LocalOnly::User.holds(from, user_id)? {
        return Err(ServiceError::denied(format!("{user_id} has nothing to do with other nodes")));
    }
    Ok(())
}

impl Services {
    /// Says of a user or a group of this node whether it stays there.
    ///
    /// A group with members elsewhere cannot.
    pub async fn set_local_only(
        &self,
        caller: &Caller,
        what: LocalOnly,
        id: &str,
        on: bool,
    ) -> Result<()> {
        caller.must_be_admin()?;
        let id = id.to_owned();
        if !on {
            return self
                .change_to_make_room(caller, move |change| {
                    schema::LOCAL_ONLY.delete(change.tx, (what.name(), &id));
                    Ok(())
                })
                .await;
        }
        self.change(caller, move |change| {
            let key = (what.name(), id.as_str());
            if is_remote(&id) {
                return Err(ServiceError::args(format!("{id} is of another node")));
            }
            match what {
                LocalOnly::User => drop(user::must_exist(change.tx, &id)?),
                LocalOnly::Group => {
                    group::must_exist(change.tx, &id)?;
                    if change.has_members_elsewhere(&id)? {
                        return Err(ServiceError::args(format!("{id} has members elsewhere")));
                    }
                }
            }
            schema::LOCAL_ONLY.put(change.tx, key, &Present {});
            Ok(())
        })
        .await
    }

    /// What stays on this node: kind and ID of each.
    pub fn local_only(&self) -> Result<Vec<(String, String)>> {
        let view = self.store().view();
        let rows = schema::LOCAL_ONLY.scan(&view, ());
        Ok(rows.map(|row| row.map(|(key, _)| key)).collect::<std::result::Result<_, _>>()?)
    }
}

impl Change<'_, '_> {
    fn has_members_elsewhere(&self, group_id: &str) -> Result<bool> {
        Ok(is_remote(group_id)
            || schema::GROUP_NODES.scan(self.tx, group_id).next().transpose()?.is_some())
    }

    /// Refuses to bring together in a group who has nothing to do with other nodes, and others.
    pub(crate) fn may_enter(&self, group_id: &str, user_id: &str) -> Result<()> {
        let refused = |reason: String| Err(ServiceError::denied(reason));
        if !is_remote(user_id) {
            if LocalOnly::User.holds(self.tx, user_id)? && self.has_members_elsewhere(group_id)? {
                return refused(format!("{user_id} has nothing to do with other nodes"));
            }
            return Ok(());
        }
        if LocalOnly::Group.holds(self.tx, group_id)? {
            return refused(format!("{group_id} takes nobody of other nodes"));
        }
        if home_of(user_id).is_none() || self.has_members_elsewhere(group_id)? {
            return Ok(());
        }
        for row in schema::LOCAL_ONLY.scan(self.tx, LocalOnly::User.name()) {
            let ((_, member), _) = row?;
            if schema::MEMBERS.contains(self.tx, (group_id, &member))? {
                return refused(format!("{member} has nothing to do with other nodes"));
            }
        }
        Ok(())
    }
}
