//! Who may do what: every check of a caller against an object is here.

mod group;

use proto::OperationId;
use store::{Read, schema};

use crate::conversation_id;
use crate::error::{Result, ServiceError};
use crate::platform;
use crate::settings::Settings;

/// Who calls, as the token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// User of the token.
    pub user_id: String,
    /// Platform of the token.
    pub platform_id: i32,
    /// Operation ID of the request; pushes that follow from it carry it.
    pub operation_id: OperationId,
    /// The user is an app admin.
    pub is_admin: bool,
}

/// Rank of a group member.
pub mod role {
    /// Owner.
    pub const OWNER: i32 = 100;
    /// Admin.
    pub const ADMIN: i32 = 60;
    /// Ordinary member.
    pub const ORDINARY: i32 = 20;
}

impl Caller {
    /// The node itself, acting for an app admin.
    pub fn node(admin: &str) -> Self {
        Self {
            user_id: admin.to_owned(),
            platform_id: platform::ADMIN,
            operation_id: "node".into(),
            is_admin: true,
        }
    }

    /// The caller is `user_id` or an app admin.
    pub fn must_be(&self, user_id: &str) -> Result<()> {
        if self.is_admin || self.user_id == user_id {
            return Ok(());
        }
        Err(ServiceError::denied(format!("{} may not act for {user_id}", self.user_id)))
    }

    /// The caller is one of two users or an app admin.
    pub fn must_be_one_of(&self, a: &str, b: &str) -> Result<()> {
        self.must_be(a).or_else(|_| self.must_be(b))
    }

    /// The caller is an app admin.
    pub fn must_be_admin(&self) -> Result<()> {
        if self.is_admin {
            return Ok(());
        }
        Err(ServiceError::denied(format!("{} is not an app admin", self.user_id)))
    }

    /// The caller may go through the accounts of the node: an app admin, or everybody where the
    /// directory is open.
    pub fn must_list_accounts(&self, settings: &Settings) -> Result<()> {
        if settings.open_directory { Ok(()) } else { self.must_be_admin() }
    }

    /// The user whose own things a request is about; a request that names none is about the caller.
    pub fn acts_for<'a>(&'a self, owner: &'a str) -> Result<&'a str> {
        if owner.is_empty() {
            return Ok(&self.user_id);
        }
        self.must_be(owner).map(|()| owner)
    }

    /// The caller is a member of the group or an app admin.
    pub fn must_be_member(&self, from: &impl Read, group_id: &str) -> Result<()> {
        if self.is_admin || schema::MEMBERS.contains(from, (group_id, &self.user_id))? {
            return Ok(());
        }
        Err(ServiceError::denied(format!("{} is not in group {group_id}", self.user_id)))
    }

    /// The caller is owner or admin of the group, or an app admin.
    ///
    /// A caller who is not a member gets `stranger`.
    pub fn must_manage(
        &self,
        from: &impl Read,
        group_id: &str,
        stranger: impl FnOnce() -> ServiceError,
    ) -> Result<()> {
        if self.is_admin {
            return Ok(());
        }
        match schema::MEMBERS.get(from, (group_id, &self.user_id))? {
            None => Err(stranger()),
            Some(member) if member.role_level >= role::ADMIN => Ok(()),
            Some(_) => Err(ServiceError::denied(format!(
                "{} does not manage group {group_id}",
                self.user_id
            ))),
        }
    }

    /// The caller takes part in a conversation and so may read what it may see of it.
    ///
    /// That is: one of the pair, or a present or former member of the group; a former one has a
    /// conversation with an upper bound. Notification streams follow their chat.
    pub fn must_take_part(&self, from: &impl Read, conversation_id: &str) -> Result<()> {
        if self.is_admin || takes_part(from, &self.user_id, conversation_id)? {
            return Ok(());
        }
        Err(ServiceError::denied(format!(
            "{} does not take part in {conversation_id}",
            self.user_id
        )))
    }
}

/// Whether a user takes part in a conversation.
pub fn takes_part(from: &impl Read, user_id: &str, conversation_id: &str) -> Result<bool> {
    let Some(head) = schema::CONVERSATION_HEADS.get(from, conversation_id)? else {
        return Ok(false);
    };
    if head.group_id.is_empty() {
        return Ok(head.pair.iter().any(|user| user == user_id));
    }
    if schema::MEMBERS.contains(from, (&head.group_id, user_id))? {
        return Ok(true);
    }
    // A record alone says nothing, clients make them; one that ends somewhere is a former member's.
    let chat = conversation_id::group(&head.group_id);
    let record = schema::CONVERSATIONS.get(from, (user_id, &chat))?;
    Ok(record.is_some_and(|record| record.max_seq != 0))
}

/// The role in which a member of a group may take back a message of `author`.
///
/// Everybody may take back own messages, the owner all, an admin those of ordinary members and of
/// people who are no longer there.
pub(crate) fn role_over_message(
    from: &impl Read,
    group_id: &str,
    user_id: &str,
    author: &str,
) -> Result<i32> {
    let Some(member) = schema::MEMBERS.get(from, (group_id, user_id))? else {
        return Err(ServiceError::denied(format!("{user_id} is not in group {group_id}")));
    };
    let may = match member.role_level {
        _ if user_id == author => true,
        role::OWNER => true,
        role::ADMIN => schema::MEMBERS
            .get(from, (group_id, author))?
            .is_none_or(|author| author.role_level < role::ADMIN),
        _ => false,
    };
    if may {
        return Ok(member.role_level);
    }
    Err(ServiceError::denied(format!("{user_id} may not touch messages of {author}")))
}
