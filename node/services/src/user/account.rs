//! Registering accounts and looking them up by ID.

use std::collections::HashSet;

use proto::sdkws::UserInfo;
use proto::user::account_check_resp::SingleUserStatus;
use proto::user::{
    AccountCheckReq, AccountCheckResp, GetDesignateUsersReq, GetDesignateUsersResp,
    UserRegisterReq, UserRegisterResp,
};
use store::schema;

use super::{MAX_USERS, NEVER_MS, check_count, check_profile, check_user_id, insert_user};
use crate::Services;
use crate::access::Caller;
use crate::error::{Result, ServiceError};

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
        check_count("users", request.users.len(), MAX_USERS)?;
        for user in &request.users {
            check_user_id(&user.user_id)?;
            if user.nickname.is_empty() {
                return Err(ServiceError::args("nickname is empty"));
            }
            check_profile(&user.nickname, &user.face_url, &user.ex)?;
        }
        caller.must_be_admin()?;
        no_repeats(request.users.iter().map(|user| &user.user_id))?;
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
    ///
    /// Users of other nodes may be written as people type them.
    pub async fn get_users_info(
        &self,
        _caller: &Caller,
        request: GetDesignateUsersReq,
    ) -> Result<GetDesignateUsersResp> {
        if request.user_ids.is_empty() {
            return Err(ServiceError::args("userIDs is empty"));
        }
        check_count("userIDs", request.user_ids.len(), MAX_USERS)?;
        let user_ids: Vec<String> = request.user_ids.iter().map(|id| self.typed(id)).collect();
        self.fetch_profiles(user_ids.iter().map(String::as_str)).await?;
        let view = self.store().view();
        let mut seen = HashSet::new();
        let mut users_info = Vec::new();
        for user_id in &user_ids {
            if seen.insert(user_id)
                && let Some(user) = schema::USERS.get(&view, user_id)?
            {
                users_info.push(user);
            }
        }
        Ok(GetDesignateUsersResp { users_info })
    }

    /// Which of the given IDs are registered, in the order asked for.
    pub fn account_check(
        &self,
        caller: &Caller,
        request: &AccountCheckReq,
    ) -> Result<AccountCheckResp> {
        if request.check_user_ids.is_empty() {
            return Err(ServiceError::args("checkUserIDs is empty"));
        }
        check_count("checkUserIDs", request.check_user_ids.len(), MAX_USERS)?;
        no_repeats(request.check_user_ids.iter())?;
        caller.must_be_admin()?;
        let view = self.store().view();
        let results = request.check_user_ids.iter().map(|user_id| {
            Ok(SingleUserStatus {
                user_id: user_id.clone(),
                account_status: i32::from(schema::USERS.contains(&view, user_id)?),
            })
        });
        Ok(AccountCheckResp { results: results.collect::<Result<_>>()? })
    }

    /// Makes sure that the configured admins exist under their configured names.
    pub async fn seed_admins(&self) -> Result<()> {
        let settings = self.settings();
        let names =
            settings.admin_nicknames.iter().cloned().chain(std::iter::repeat(String::new()));
        let admins: Vec<(String, String)> =
            settings.admin_users.iter().cloned().zip(names).collect();
        let Some((first, _)) = admins.first() else { return Ok(()) };
        self.change_to_make_room(&Caller::node(first), move |change| {
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
                            app_manger_level: super::SYSTEM_LEVEL,
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

fn no_repeats<'a>(user_ids: impl Iterator<Item = &'a String>) -> Result<()> {
    let mut seen = HashSet::new();
    for user_id in user_ids {
        if !seen.insert(user_id) {
            return Err(ServiceError::args(format!("userID {user_id} is repeated")));
        }
    }
    Ok(())
}
