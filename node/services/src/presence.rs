//! Logging in on a connection, and who is online.

use std::sync::Arc;

use proto::OperationId;
use proto::push::{DelUserPushTokenReq, DelUserPushTokenResp};
use proto::sdkws::{SubUserOnlineStatus, SubUserOnlineStatusTips};
use store::schema;

use crate::Services;
use crate::access::Caller;
use crate::auth::digest;
use crate::error::{Result, ServiceError};
use crate::hub::{Connection, QueueLimits, Registered};
use crate::platform::{self, Class};

/// Users one connection may watch.
const MAX_WATCHED: usize = 10_000;

impl Services {
    /// Checks a login: the token must be in force and belong to the user and platform.
    pub fn check_login(
        &self,
        token: &str,
        user_id: &str,
        platform_id: i32,
        operation_id: &OperationId,
    ) -> Result<Caller> {
        let caller = self.check_token(token, operation_id)?;
        if caller.user_id != user_id {
            return Err(ServiceError::TokenInvalid(format!(
                "token uid {} != userID {user_id}",
                caller.user_id
            )));
        }
        if caller.platform_id != platform_id {
            return Err(ServiceError::TokenInvalid(format!(
                "token platform {} != platformID {platform_id}",
                caller.platform_id
            )));
        }
        Ok(caller)
    }

    /// Brings a connection online, kicking those that the multi-login policy ends.
    pub async fn connect(
        &self,
        caller: &Caller,
        token: &str,
        limits: QueueLimits,
    ) -> Result<Registered> {
        let hub = self.hub();
        let (user_id, platform) = (caller.user_id.as_str(), caller.platform_id);
        let registered = hub.connection(user_id, platform, token, limits);
        hub.register(&registered.connection, || -> Result<Vec<String>> {
            let view = self.store().view();
            schema::JOINED.scan(&view, user_id).map(|row| Ok(row?.0.1)).collect()
        })?;
        let policy = self.settings().multi_login_policy;
        let class = platform::class(platform);
        let kicked = hub.kick(user_id, |other| {
            let other_class = platform::class(other.platform_id);
            other.token != token
                && match policy {
                    1 => other.platform_id == platform,
                    4 => other_class == class,
                    5 => class != Some(Class::Pc) && other_class != Some(Class::Pc),
                    _ => false,
                }
        });
        if !kicked.is_empty() {
            let own = digest(token);
            let ended: Vec<String> = kicked.iter().map(|other| digest(&other.token)).collect();
            self.kick_tokens(user_id, move |on, held| {
                held != own
                    && (if policy == 4 { false } else { on == platform }
                        || ended.iter().any(|e| e == held))
            })
            .await?;
        }
        Ok(registered)
    }

    /// Takes a connection offline.
    pub fn disconnect(&self, connection: &Connection) {
        self.hub().unregister(connection);
    }

    /// Changes whom a connection watches; answers with the status of those it asked for.
    pub fn watch(
        &self,
        connection: &Arc<Connection>,
        request: &SubUserOnlineStatus,
    ) -> Result<SubUserOnlineStatusTips> {
        let hub = self.hub();
        if hub.watched(connection) + request.subscribe_user_id.len() > MAX_WATCHED {
            return Err(ServiceError::args(format!("at most {MAX_WATCHED} users are watched")));
        }
        self.watch_elsewhere(&request.subscribe_user_id);
        Ok(hub.watch(connection, &request.subscribe_user_id, &request.unsubscribe_user_id))
    }

    /// Forgets the push token of a device that logs out.
    pub async fn delete_push_token(
        &self,
        caller: &Caller,
        request: DelUserPushTokenReq,
    ) -> Result<DelUserPushTokenResp> {
        caller.must_be(&request.user_id)?;
        if !(1..=9).contains(&request.platform_id) {
            return Err(ServiceError::args("platformID is invalid"));
        }
        self.change_to_make_room(caller, move |change| {
            let platform = request.platform_id.cast_unsigned();
            schema::PUSH_TOKENS.delete(change.tx, (&request.user_id, platform));
            Ok(DelUserPushTokenResp {})
        })
        .await
    }
}
