use proto::relation::{
    DeleteFriendReq, DeleteFriendResp, GetDesignatedFriendsReq, GetDesignatedFriendsResp,
    GetFriendIDsReq, GetFriendIDsResp, GetFullFriendUserIDsReq, GetFullFriendUserIDsResp,
    GetIncrementalFriendsReq, GetIncrementalFriendsResp, GetPaginationFriendsReq,
    GetPaginationFriendsResp, GetSpecifiedFriendsInfoInfo, GetSpecifiedFriendsInfoReq,
    GetSpecifiedFriendsInfoResp, IsFriendReq, IsFriendResp, SetFriendRemarkReq,
    SetFriendRemarkResp, UpdateFriendsReq, UpdateFriendsResp,
};
use proto::sdkws::{FriendDeletedTips, FriendInfo, FriendInfoChangedTips, FriendsInfoUpdateTips};
use store::version_log::{Change as What, List, SORT_ELEMENT, version};
use store::{Read, schema};

use super::{
    MAX_READ_USERS, MAX_TEXT_BYTES, MAX_USERS, bare_friend_info, black, check_ids, friend_info,
    friends_of, from_to, must_be_given,
};
use crate::Services;
use crate::access::Caller;
use crate::error::{Result, ServiceError};
use crate::incremental::{id_hash, incremental};
use crate::notification::{Notification, To, kind};
use crate::page::Page;
use crate::user::check_length;

impl Services {
    /// Takes a friend off the owner's list; the other side keeps the owner.
    pub async fn delete_friend(
        &self,
        caller: &Caller,
        request: DeleteFriendReq,
    ) -> Result<DeleteFriendResp> {
        must_be_given("ownerUserID", &request.owner_user_id)?;
        must_be_given("friendUserID", &request.friend_user_id)?;
        caller.must_be(&request.owner_user_id)?;
        self.change_to_make_room(caller, move |change| {
            let (owner, friend) = (request.owner_user_id.as_str(), request.friend_user_id.as_str());
            schema::FRIENDS.delete(change.tx, (owner, friend));
            change.tx.step(List::Friends, owner, [(friend, What::Delete)])?;
            let tips =
                FriendDeletedTips { from_to_user_id: from_to(owner, friend), ..Default::default() };
            change
                .notify(&Notification::new(kind::FRIEND_DELETED, owner, To::User(friend)), &tips)?;
            change.cross_friend_listed(owner, friend)?;
            let (services, request) = (change.services.clone(), request.clone());
            change.tx.after_commit(move || {
                services.withdraw_verdict(&request.friend_user_id, &request.owner_user_id);
            });
            Ok(DeleteFriendResp {})
        })
        .await
    }

    /// A page of a user's friends.
    pub fn get_friend_list(
        &self,
        caller: &Caller,
        request: &GetPaginationFriendsReq,
    ) -> Result<GetPaginationFriendsResp> {
        let page = Page::required(request.pagination.as_ref())?;
        must_be_given("userID", &request.user_id)?;
        caller.must_be(&request.user_id)?;
        let view = self.store().view();
        let friends = friends_of(&view, &request.user_id)?;
        let total = i32::try_from(friends.len()).unwrap_or(i32::MAX);
        let rows = page.of(friends).into_iter();
        let friends_info =
            rows.map(|(id, friend)| friend_info(&view, &request.user_id, &id, friend));
        Ok(GetPaginationFriendsResp { friends_info: friends_info.collect::<Result<_>>()?, total })
    }

    /// Those of the users named who are friends.
    pub fn get_designated_friends(
        &self,
        caller: &Caller,
        request: &GetDesignatedFriendsReq,
    ) -> Result<GetDesignatedFriendsResp> {
        must_be_given("ownerUserID", &request.owner_user_id)?;
        check_ids("friendUserIDs", &request.friend_user_ids, MAX_READ_USERS)?;
        caller.must_be(&request.owner_user_id)?;
        let view = self.store().view();
        let friends_info = found(&view, &request.owner_user_id, &request.friend_user_ids)?;
        Ok(GetDesignatedFriendsResp { friends_info })
    }

    /// Profile, friendship and block of each user named.
    pub fn get_specified_friends_info(
        &self,
        caller: &Caller,
        request: &GetSpecifiedFriendsInfoReq,
    ) -> Result<GetSpecifiedFriendsInfoResp> {
        must_be_given("ownerUserID", &request.owner_user_id)?;
        check_ids("userIDList", &request.user_id_list, MAX_USERS)?;
        caller.must_be(&request.owner_user_id)?;
        let view = self.store().view();
        let owner = request.owner_user_id.as_str();
        let mut infos = Vec::new();
        for user_id in &request.user_id_list {
            let Some(profile) = schema::USERS.get(&view, user_id)? else { continue };
            let friend = schema::FRIENDS.get(&view, (owner, user_id))?;
            let blocked = schema::BLACKS.get(&view, (owner, user_id))?;
            infos.push(GetSpecifiedFriendsInfoInfo {
                user_info: Some(profile),
                friend_info: friend.map(|friend| bare_friend_info(owner, friend)),
                black_info: blocked.map(|record| black::bare_black_info(owner, record)),
            });
        }
        Ok(GetSpecifiedFriendsInfoResp { infos })
    }

    /// Sets the name the owner gives a friend.
    pub async fn set_friend_remark(
        &self,
        caller: &Caller,
        request: SetFriendRemarkReq,
    ) -> Result<SetFriendRemarkResp> {
        must_be_given("ownerUserID", &request.owner_user_id)?;
        must_be_given("friendUserID", &request.friend_user_id)?;
        check_length("remark", &request.remark, MAX_TEXT_BYTES)?;
        caller.must_be(&request.owner_user_id)?;
        self.change(caller, move |change| {
            let (owner, friend) = (request.owner_user_id.as_str(), request.friend_user_id.as_str());
            let Some(mut record) = schema::FRIENDS.get(change.tx, (owner, friend))? else {
                return Err(ServiceError::not_found(format!("{friend} is no friend of {owner}")));
            };
            record.remark = request.remark;
            schema::FRIENDS.put(change.tx, (owner, friend), &record);
            change.tx.step(List::Friends, owner, [(friend, What::Update)])?;
            let tips = FriendInfoChangedTips {
                from_to_user_id: from_to(owner, friend),
                ..Default::default()
            };
            let told = Notification::new(kind::FRIEND_REMARK_SET, owner, To::User(friend));
            change.notify(&told, &tips)?;
            Ok(SetFriendRemarkResp {})
        })
        .await
    }

    /// Sets pin, remark and extension of friends; what is absent stays.
    pub async fn update_friends(
        &self,
        caller: &Caller,
        request: UpdateFriendsReq,
    ) -> Result<UpdateFriendsResp> {
        must_be_given("ownerUserID", &request.owner_user_id)?;
        check_ids("friendUserIDs", &request.friend_user_ids, MAX_USERS)?;
        for (what, text) in [("remark", &request.remark), ("ex", &request.ex)] {
            check_length(what, text.as_ref().map_or("", |text| &text.value), MAX_TEXT_BYTES)?;
        }
        caller.must_be(&request.owner_user_id)?;
        self.change(caller, move |change| {
            let owner = request.owner_user_id.as_str();
            for friend in &request.friend_user_ids {
                let Some(mut record) = schema::FRIENDS.get(change.tx, (owner, friend))? else {
                    continue;
                };
                if let Some(pinned) = &request.is_pinned {
                    record.pinned = pinned.value;
                }
                if let Some(remark) = &request.remark {
                    record.remark.clone_from(&remark.value);
                }
                if let Some(ex) = &request.ex {
                    record.ex.clone_from(&ex.value);
                }
                schema::FRIENDS.put(change.tx, (owner, friend), &record);
            }
            let order = request.is_pinned.as_ref().map(|_| (SORT_ELEMENT, What::Update));
            if order.is_some() || request.remark.is_some() || request.ex.is_some() {
                let friends = request.friend_user_ids.iter().map(|id| (id.as_str(), What::Update));
                change.tx.step(List::Friends, owner, order.into_iter().chain(friends))?;
            }
            let tips = FriendsInfoUpdateTips {
                from_to_user_id: from_to("", owner),
                friend_ids: request.friend_user_ids.clone(),
                ..Default::default()
            };
            let told = Notification::new(kind::FRIENDS_INFO_UPDATED, owner, To::User(owner));
            change.notify(&told, &tips)?;
            Ok(UpdateFriendsResp {})
        })
        .await
    }

    /// Whether two users have each other in their lists.
    pub fn is_friend(&self, caller: &Caller, request: &IsFriendReq) -> Result<IsFriendResp> {
        let (one, two) = (request.user_id1.as_str(), request.user_id2.as_str());
        must_be_given("userID1", one)?;
        must_be_given("userID2", two)?;
        caller.must_be_one_of(one, two)?;
        let view = self.store().view();
        Ok(IsFriendResp {
            in_user1_friends: schema::FRIENDS.contains(&view, (one, two))?,
            in_user2_friends: schema::FRIENDS.contains(&view, (two, one))?,
        })
    }

    /// IDs of all friends.
    pub fn get_friend_id(
        &self,
        caller: &Caller,
        request: &GetFriendIDsReq,
    ) -> Result<GetFriendIDsResp> {
        must_be_given("userID", &request.user_id)?;
        caller.must_be(&request.user_id)?;
        let friends = friends_of(&self.store().view(), &request.user_id)?;
        Ok(GetFriendIDsResp { friend_ids: friends.into_iter().map(|(id, _)| id).collect() })
    }

    /// Friends that changed since the caller last asked.
    pub fn get_incremental_friends(
        &self,
        caller: &Caller,
        request: &GetIncrementalFriendsReq,
    ) -> Result<GetIncrementalFriendsResp> {
        caller.must_be(&request.user_id)?;
        let (view, owner) = (self.store().view(), request.user_id.as_str());
        let changed =
            incremental(&view, List::Friends, owner, &request.version_id, request.version)?;
        Ok(GetIncrementalFriendsResp {
            version: changed.now.version,
            version_id: changed.now.id,
            full: changed.full,
            delete: changed.delete,
            insert: found(&view, owner, &changed.insert)?,
            update: found(&view, owner, &changed.update)?,
            sort_version: changed.sort_version,
        })
    }

    /// IDs of all friends, unless the caller has the same.
    pub fn get_full_friend_user_ids(
        &self,
        caller: &Caller,
        request: &GetFullFriendUserIDsReq,
    ) -> Result<GetFullFriendUserIDsResp> {
        must_be_given("userID", &request.user_id)?;
        caller.must_be(&request.user_id)?;
        let view = self.store().view();
        let friends = friends_of(&view, &request.user_id)?;
        let ids: Vec<String> = friends.into_iter().map(|(id, _)| id).collect();
        let equal = id_hash(&ids)? == request.id_hash;
        let now = version(&view, List::Friends, &request.user_id)?;
        Ok(GetFullFriendUserIDsResp {
            version: now.version,
            version_id: now.id,
            equal,
            user_ids: if equal { Vec::new() } else { ids },
        })
    }
}

/// Those of `ids` who are friends of `owner`.
fn found(from: &impl Read, owner: &str, ids: &[String]) -> Result<Vec<FriendInfo>> {
    let mut infos = Vec::new();
    for id in ids {
        if let Some(friend) = schema::FRIENDS.get(from, (owner, id))? {
            infos.push(friend_info(from, owner, id, friend)?);
        }
    }
    Ok(infos)
}
