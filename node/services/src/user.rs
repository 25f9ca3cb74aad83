//! Accounts.

use std::collections::HashSet;

use proto::sdkws::UserInfo;
use proto::user::{GetDesignateUsersReq, GetDesignateUsersResp, UserRegisterReq, UserRegisterResp};
use store::record::{Number, Present};
use store::{Read, Tx, schema};

use crate::Services;
use crate::access::Caller;
use crate::error::{Result, ServiceError};

/// Longest user ID in bytes.
const MAX_USER_ID_BYTES: usize = 64;
/// What clients see for a time that was never set.
pub(crate) const NEVER_MS: i64 = -62_135_596_800_000;
/// Name of the counter of accounts.
const USERS: &str = "users";

impl Services {
    /// Registers accounts, all or none.
    pub async fn user_register(
        &self,
        caller: &Caller,
        request: UserRegisterReq,
    ) -> Result<UserRegisterResp> {
        if request.users.is_empty() {
            return Err(ServiceError::args("users is empty"));
        }
        let mut seen = HashSet::new();
        for user in &request.users {
            check_user_id(&user.user_id)?;
            if user.nickname.is_empty() {
                return Err(ServiceError::args("nickname is empty"));
            }
        }
        caller.must_be_admin()?;
        for user in &request.users {
            if !seen.insert(user.user_id.as_str()) {
                return Err(ServiceError::args(format!("userID {} is repeated", user.user_id)));
            }
        }
        self.change(caller, move |change| {
            for user in &request.users {
                if schema::USERS.contains(change.tx, &user.user_id)? {
                    return Err(ServiceError::Registered(user.user_id.clone()));
                }
            }
            for mut user in request.users {
                user.create_time = change.now;
                insert_user(change.tx, &user, change.now)?;
            }
            Ok(UserRegisterResp {})
        })
        .await
    }

    /// The profiles of the users that exist, in the order asked for.
    pub fn get_users_info(
        &self,
        _caller: &Caller,
        request: &GetDesignateUsersReq,
    ) -> Result<GetDesignateUsersResp> {
        if request.user_ids.is_empty() {
            return Err(ServiceError::args("userIDs is empty"));
        }
        let view = self.store().view();
        let mut seen = HashSet::new();
        let mut users_info = Vec::new();
        for user_id in &request.user_ids {
            if seen.insert(user_id)
                && let Some(user) = schema::USERS.get(&view, user_id)?
            {
                users_info.push(user);
            }
        }
        Ok(GetDesignateUsersResp { users_info })
    }

    /// Makes sure that the configured admins exist under their configured names.
    pub async fn seed_admins(&self) -> Result<()> {
        let settings = self.settings();
        let names =
            settings.admin_nicknames.iter().cloned().chain(std::iter::repeat(String::new()));
        let admins: Vec<(String, String)> =
            settings.admin_users.iter().cloned().zip(names).collect();
        let Some((first, _)) = admins.first() else { return Ok(()) };
        self.change(&Caller::node(first), move |change| {
            for (user_id, nickname) in &admins {
                let nickname = if nickname.is_empty() { user_id } else { nickname };
                match schema::USERS.get(change.tx, user_id)? {
                    Some(user) if user.nickname == *nickname => {}
                    Some(mut user) => {
                        user.nickname.clone_from(nickname);
                        schema::USERS.put(change.tx, user_id, &user);
                    }
                    None => {
                        let user = UserInfo {
                            user_id: user_id.clone(),
                            nickname: nickname.clone(),
                            create_time: NEVER_MS,
                            app_manger_level: 2,
                            ..Default::default()
                        };
                        insert_user(change.tx, &user, NEVER_MS)?;
                    }
                }
            }
            Ok(())
        })
        .await
    }
}

/// An ID that every client can store: letters, digits and `_`.
///
/// Native clients name a database table after each conversation; dots, quotes, white space and the
/// like break them, and `@` is how users of other nodes are written.
pub(crate) fn check_user_id(user_id: &str) -> Result<()> {
    if user_id.is_empty() {
        return Err(ServiceError::args("userID is empty"));
    }
    if user_id.len() > MAX_USER_ID_BYTES {
        return Err(ServiceError::args(format!("a userID has at most {MAX_USER_ID_BYTES} bytes")));
    }
    if let Some(bad) = user_id.chars().find(|c| !c.is_alphanumeric() && *c != '_') {
        return Err(ServiceError::args(format!(
            "userID may hold letters, digits and _, not {bad:?}"
        )));
    }
    Ok(())
}

pub(crate) fn insert_user(tx: &mut Tx<'_>, user: &UserInfo, order: i64) -> Result<()> {
    schema::USERS.put(tx, &user.user_id, user);
    schema::USER_ORDER.put(tx, (order, &user.user_id), &Present {});
    let total = schema::COUNTERS.get(tx, USERS)?.unwrap_or_default().value + 1;
    schema::COUNTERS.put(tx, USERS, &Number { value: total });
    Ok(())
}

/// A user that must exist.
pub(crate) fn must_exist(from: &impl Read, user_id: &str) -> Result<UserInfo> {
    let user = schema::USERS.get(from, user_id)?;
    user.ok_or_else(|| ServiceError::not_found(format!("no user {user_id}")))
}
