//! Who is online.

use std::collections::BTreeMap;

use proto::msggateway::get_users_online_status_resp::{SuccessDetail, SuccessResult};
use proto::msggateway::{
    GetUsersOnlineStatusReq, GetUsersOnlineStatusResp, SingleDetail, SinglePlatformToken,
};
use proto::user::{
    GetSubscribeUsersStatusReq, GetSubscribeUsersStatusResp, GetUserStatusReq, GetUserStatusResp,
    OnlineStatus, SubscribeOrCancelUsersStatusReq, SubscribeOrCancelUsersStatusResp,
};

use super::{MAX_USERS, check_count};
use crate::Services;
use crate::access::Caller;
use crate::error::{Result, ServiceError};

/// Status of a user with a connection.
const ONLINE: i32 = 1;

impl Services {
    /// The platforms on which users are online, in the order asked for.
    pub async fn get_users_status(
        &self,
        _caller: &Caller,
        request: GetUserStatusReq,
    ) -> Result<GetUserStatusResp> {
        if request.user_ids.is_empty() {
            return Err(ServiceError::args("userIDs is empty"));
        }
        check_count("userIDs", request.user_ids.len(), MAX_USERS)?;
        self.refresh_presence(&request.user_ids).await;
        let status_list = request.user_ids.iter().map(|user_id| {
            let platform_ids = self.hub().online_platforms(user_id);
            let status = i32::from(!platform_ids.is_empty());
            OnlineStatus { user_id: user_id.clone(), status, platform_ids }
        });
        Ok(GetUserStatusResp { status_list: status_list.collect() })
    }

    /// Does nothing: clients watch others over their connection.
    pub fn subscribe_users_status(
        &self,
        _caller: &Caller,
        request: &SubscribeOrCancelUsersStatusReq,
    ) -> Result<SubscribeOrCancelUsersStatusResp> {
        if request.user_id.is_empty() {
            return Err(ServiceError::args("userID is empty"));
        }
        if request.user_ids.is_empty() {
            return Err(ServiceError::args("userIDs is empty"));
        }
        if !matches!(request.genre, 1 | 2) {
            return Err(ServiceError::args("genre is neither 1 nor 2"));
        }
        Ok(SubscribeOrCancelUsersStatusResp::default())
    }

    /// Does nothing: clients watch others over their connection.
    pub fn get_subscribe_users_status(
        &self,
        _caller: &Caller,
        request: &GetSubscribeUsersStatusReq,
    ) -> Result<GetSubscribeUsersStatusResp> {
        if request.user_id.is_empty() {
            return Err(ServiceError::args("userID is empty"));
        }
        Ok(GetSubscribeUsersStatusResp::default())
    }

    /// The connections of users, in the order asked for.
    pub fn get_users_online_status(
        &self,
        caller: &Caller,
        request: &GetUsersOnlineStatusReq,
    ) -> Result<GetUsersOnlineStatusResp> {
        caller.must_be_admin()?;
        check_count("userIDs", request.user_ids.len(), MAX_USERS)?;
        let results = request.user_ids.iter().map(|user_id| {
            let connections = self.hub().connections(user_id);
            let details = connections.iter().map(|connection| SuccessDetail {
                platform_id: connection.platform_id,
                conn_id: format!("{:032x}", connection.id),
                is_background: connection.is_background(),
                token: connection.token.clone(),
            });
            SuccessResult {
                user_id: user_id.clone(),
                status: i32::from(!connections.is_empty()),
                detail_platform_status: details.collect(),
            }
        });
        Ok(GetUsersOnlineStatusResp { success_result: results.collect(), failed_result: vec![] })
    }

    /// The tokens of those users who are online, by platform.
    ///
    /// Where the directory is open, whoever may not see them gets an empty list.
    pub fn get_users_online_token_detail(
        &self,
        caller: &Caller,
        request: &GetUsersOnlineStatusReq,
    ) -> Result<Vec<SingleDetail>> {
        caller.must_list_accounts(self.settings())?;
        if caller.must_be_admin().is_err() {
            return Ok(Vec::new());
        }
        check_count("userIDs", request.user_ids.len(), MAX_USERS)?;
        let mut online = Vec::new();
        for user_id in &request.user_ids {
            let mut platforms: BTreeMap<i32, Vec<String>> = BTreeMap::new();
            for connection in self.hub().connections(user_id) {
                platforms.entry(connection.platform_id).or_default().push(connection.token.clone());
            }
            if platforms.is_empty() {
                continue;
            }
            let tokens = platforms.into_iter().map(|(platform_id, token)| SinglePlatformToken {
                platform_id,
                total: i32::try_from(token.len()).unwrap_or(i32::MAX),
                token,
            });
            online.push(SingleDetail {
                user_id: user_id.clone(),
                status: ONLINE,
                single_platform_token: tokens.collect(),
            });
        }
        Ok(online)
    }
}
