//! Notification accounts: senders that nobody logs in to.

use proto::sdkws::UserInfo;
use proto::user::{
    AddNotificationAccountReq, AddNotificationAccountResp, NotificationAccountInfo,
    SearchNotificationAccountReq, SearchNotificationAccountResp, UpdateNotificationAccountInfoReq,
    UpdateNotificationAccountInfoResp,
};
use store::{Read, schema};

use super::{NOTIFICATION_LEVEL, check_profile, check_user_id, insert_user};
use crate::Services;
use crate::access::Caller;
use crate::error::{Result, ServiceError};
use crate::page::Page;

/// How often a free ID is looked for.
const ID_TRIES: usize = 20;

impl Services {
    /// Creates a notification account, under an ID of its own choice if none is given.
    pub async fn add_notification_account(
        &self,
        caller: &Caller,
        request: AddNotificationAccountReq,
    ) -> Result<AddNotificationAccountResp> {
        if request.nick_name.is_empty() {
            return Err(ServiceError::args("nickName is empty"));
        }
        caller.must_be_admin()?;
        if request.app_manger_level < NOTIFICATION_LEVEL {
            return Err(ServiceError::args("appMangerLevel is not that of a notification account"));
        }
        if !request.user_id.is_empty() {
            check_user_id(&request.user_id)?;
        }
        check_profile(&request.nick_name, &request.face_url, "")?;
        self.change(caller, move |change| {
            let user_id = if request.user_id.is_empty() {
                free_id(change.services, change.tx)?
            } else if schema::USERS.contains(change.tx, &request.user_id)? {
                return Err(ServiceError::args(format!("userID {} is used", request.user_id)));
            } else {
                request.user_id
            };
            let user = UserInfo {
                user_id,
                nickname: request.nick_name,
                face_url: request.face_url,
                create_time: change.now,
                app_manger_level: request.app_manger_level,
                ..Default::default()
            };
            insert_user(change.tx, &user, change.now)?;
            Ok(AddNotificationAccountResp {
                user_id: user.user_id,
                face_url: user.face_url,
                nick_name: user.nickname,
                app_manger_level: user.app_manger_level,
            })
        })
        .await
    }

    /// Changes the name or face of a notification account.
    pub async fn update_notification_account(
        &self,
        caller: &Caller,
        request: UpdateNotificationAccountInfoReq,
    ) -> Result<UpdateNotificationAccountInfoResp> {
        if request.user_id.is_empty() {
            return Err(ServiceError::args("userID is empty"));
        }
        if request.nick_name.is_empty() && request.face_url.is_empty() {
            return Err(ServiceError::args("nickName and faceURL are both empty"));
        }
        check_profile(&request.nick_name, &request.face_url, "")?;
        caller.must_be_admin()?;
        self.change(caller, move |change| {
            let user_id = request.user_id.as_str();
            let Some(mut user) = schema::USERS.get(change.tx, user_id)? else {
                return Err(ServiceError::args(format!("no user {user_id}")));
            };
            if !request.nick_name.is_empty() {
                user.nickname = request.nick_name;
            }
            if !request.face_url.is_empty() {
                user.face_url = request.face_url;
            }
            schema::USERS.put(change.tx, user_id, &user);
            Ok(UpdateNotificationAccountInfoResp {})
        })
        .await
    }

    /// Notification accounts with an ID, a name or a level.
    pub fn search_notification_account(
        &self,
        caller: &Caller,
        request: &SearchNotificationAccountReq,
    ) -> Result<SearchNotificationAccountResp> {
        let page = Page::required(request.pagination.as_ref())?;
        caller.must_be_admin()?;
        let view = self.store().view();
        let shows = |user: &UserInfo| {
            user.app_manger_level >= NOTIFICATION_LEVEL
                && request.app_manager_level.is_none_or(|level| user.app_manger_level == level)
                && !self.settings().is_admin(&user.user_id)
        };
        let keyword = request.keyword.as_str();
        let named = if keyword.is_empty() { None } else { schema::USERS.get(&view, keyword)? };
        let mut found = Vec::new();
        if let Some(user) = named {
            found.push(user);
        } else {
            for row in schema::SYSTEM_ACCOUNTS.scan(&view, ()) {
                if let Some(user) = schema::USERS.get(&view, &row?.0.1)?
                    && (keyword.is_empty() || user.nickname == keyword)
                {
                    found.push(user);
                }
            }
        }
        found.retain(shows);
        let total = i64::try_from(found.len()).unwrap_or(i64::MAX);
        let accounts = page.of(found).into_iter().map(|user| NotificationAccountInfo {
            user_id: user.user_id,
            face_url: user.face_url,
            nick_name: user.nickname,
            app_manger_level: user.app_manger_level,
        });
        Ok(SearchNotificationAccountResp { total, notification_accounts: accounts.collect() })
    }
}

/// Ten random digits that are no user's ID, the first not 0.
fn free_id(services: &Services, from: &impl Read) -> Result<String> {
    for _ in 0..ID_TRIES {
        let id = services.random_digits();
        if !schema::USERS.contains(from, &id)? {
            return Ok(id);
        }
    }
    Err(ServiceError::Failed("no free userID".into()))
}
