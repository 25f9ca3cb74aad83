use proto::relation::{
    AddBlackReq, AddBlackResp, GetIncrementalBlacksReq, GetIncrementalBlacksResp,
    GetPaginationBlacksReq, GetPaginationBlacksResp, GetSpecifiedBlacksReq, GetSpecifiedBlacksResp,
    RemoveBlackReq, RemoveBlackResp,
};
use proto::sdkws::{BlackAddedTips, BlackDeletedTips, BlackInfo, PublicUserInfo};
use store::record::Black;
use store::version_log::{Change as What, List};
use store::{Read, schema};

use super::{MAX_READ_USERS, MAX_TEXT_BYTES, check_ids, from_to, must_be_given};
use crate::Services;
use crate::access::Caller;
use crate::error::{Result, ServiceError};
use crate::incremental::incremental;
use crate::notification::{Notification, To, kind};
use crate::page::Page;
use crate::user::{check_length, must_exist};

impl Services {
    /// Blocks a user.
    pub async fn add_black(&self, caller: &Caller, request: AddBlackReq) -> Result<AddBlackResp> {
        must_be_given("ownerUserID", &request.owner_user_id)?;
        must_be_given("blackUserID", &request.black_user_id)?;
        check_length("ex", &request.ex, MAX_TEXT_BYTES)?;
        caller.must_be(&request.owner_user_id)?;
        self.must_be_known(&request.black_user_id).await?;
        self.change(caller, move |change| {
            let (owner, other) = (request.owner_user_id.as_str(), request.black_user_id.as_str());
            must_exist(change.tx, owner)?;
            must_exist(change.tx, other)?;
            if owner == other {
                return Err(ServiceError::not_found("a user cannot block itself"));
            }
            if schema::BLACKS.contains(change.tx, (owner, other))? {
                return Err(ServiceError::Failed(format!("{other} is blocked already")));
            }
            let record = Black {
                created: change.now,
                operator_user_id: change.caller.user_id.clone(),
                ex: request.ex,
                order: change.now.cast_unsigned(),
            };
            schema::BLACKS.put(change.tx, (owner, other), &record);
            let (services, to, from) =
                (change.services.clone(), owner.to_owned(), other.to_owned());
            change.tx.after_commit(move || services.withdraw_verdict(&from, &to));
            change.tx.step(List::Blacks, owner, [(other, What::Insert)])?;
            let tips = BlackAddedTips { from_to_user_id: from_to(owner, other) };
            let added = Notification::new(kind::BLACK_ADDED, owner, To::User(other));
            change.later(|change| change.notify(&added, &tips))?;
            Ok(AddBlackResp {})
        })
        .await
    }

    /// Unblocks a user.
    pub async fn remove_black(
        &self,
        caller: &Caller,
        request: RemoveBlackReq,
    ) -> Result<RemoveBlackResp> {
        must_be_given("ownerUserID", &request.owner_user_id)?;
        must_be_given("blackUserID", &request.black_user_id)?;
        caller.must_be(&request.owner_user_id)?;
        self.change_to_make_room(caller, move |change| {
            let (owner, other) = (request.owner_user_id.as_str(), request.black_user_id.as_str());
            if schema::BLACKS.contains(change.tx, (owner, other))? {
                schema::BLACKS.delete(change.tx, (owner, other));
                change.tx.step(List::Blacks, owner, [(other, What::Delete)])?;
            }
            let tips = BlackDeletedTips { from_to_user_id: from_to(owner, other) };
            let deleted = Notification::new(kind::BLACK_DELETED, owner, To::User(other));
            change.later(|change| change.notify(&deleted, &tips))?;
            Ok(RemoveBlackResp {})
        })
        .await
    }

    /// A page of the users a user has blocked.
    pub fn get_black_list(
        &self,
        caller: &Caller,
        request: &GetPaginationBlacksReq,
    ) -> Result<GetPaginationBlacksResp> {
        must_be_given("userID", &request.user_id)?;
        let page = Page::required(request.pagination.as_ref())?;
        caller.must_be(&request.user_id)?;
        let view = self.store().view();
        let rows = schema::BLACKS.scan(&view, request.user_id.as_str()).map(|row| {
            let ((_, other), record) = row?;
            Ok((other, record))
        });
        let mut blocked = rows.collect::<Result<Vec<_>>>()?;
        blocked.sort_by(|(a_id, a), (b_id, b)| (a.order, a_id).cmp(&(b.order, b_id)));
        let total = i32::try_from(blocked.len()).unwrap_or(i32::MAX);
        let mut blacks = Vec::new();
        for (other, record) in page.of(blocked) {
            blacks.push(black_info(&view, &request.user_id, &other, record)?);
        }
        in_seconds(&mut blacks);
        Ok(GetPaginationBlacksResp { blacks, total })
    }

    /// Those of the users named who are blocked.
    pub fn get_specified_blacks(
        &self,
        caller: &Caller,
        request: &GetSpecifiedBlacksReq,
    ) -> Result<GetSpecifiedBlacksResp> {
        caller.must_be(&request.owner_user_id)?;
        check_ids("userIDList", &request.user_id_list, MAX_READ_USERS)?;
        let view = self.store().view();
        let blacks = found(&view, &request.owner_user_id, &request.user_id_list)?;
        let total = i32::try_from(blacks.len()).unwrap_or(i32::MAX);
        Ok(GetSpecifiedBlacksResp { blacks, total })
    }

    /// Blocked users that changed since the caller last asked.
    pub fn get_incremental_blacks(
        &self,
        caller: &Caller,
        request: &GetIncrementalBlacksReq,
    ) -> Result<GetIncrementalBlacksResp> {
        must_be_given("userID", &request.user_id)?;
        caller.must_be(&request.user_id)?;
        let (view, owner) = (self.store().view(), request.user_id.as_str());
        let changed =
            incremental(&view, List::Blacks, owner, &request.version_id, request.version)?;
        let (mut insert, mut update) =
            (found(&view, owner, &changed.insert)?, found(&view, owner, &changed.update)?);
        in_seconds(&mut insert);
        in_seconds(&mut update);
        Ok(GetIncrementalBlacksResp {
            version: changed.now.version,
            version_id: changed.now.id,
            full: changed.full,
            delete: changed.delete,
            insert,
            update,
        })
    }
}

/// Those of `ids` whom `owner` has blocked, creation in milliseconds.
fn found(from: &impl Read, owner: &str, ids: &[String]) -> Result<Vec<BlackInfo>> {
    let mut infos = Vec::new();
    for id in ids {
        if let Some(record) = schema::BLACKS.get(from, (owner, id))? {
            infos.push(black_info(from, owner, id, record)?);
        }
    }
    Ok(infos)
}

/// Lists give the time of creation in seconds.
fn in_seconds(blacks: &mut [BlackInfo]) {
    for info in blacks {
        info.create_time /= 1_000;
    }
}

fn black_info(from: &impl Read, owner: &str, other: &str, record: Black) -> Result<BlackInfo> {
    let profile = schema::USERS.get(from, other)?;
    let black_user_info = profile.map(|user| PublicUserInfo {
        user_id: user.user_id,
        nickname: user.nickname,
        face_url: user.face_url,
        ex: user.ex,
    });
    Ok(BlackInfo { black_user_info, ..bare_black_info(owner, record) })
}

/// A block without profile, creation in milliseconds.
pub(super) fn bare_black_info(owner: &str, record: Black) -> BlackInfo {
    BlackInfo {
        owner_user_id: owner.to_owned(),
        create_time: record.created,
        black_user_info: None,
        add_source: 0,
        operator_user_id: record.operator_user_id,
        ex: record.ex,
    }
}
