use proto::qualified::is_remote;
use proto::relation::{
    ApplyToAddFriendReq, ApplyToAddFriendResp, GetDesignatedFriendsApplyReq,
    GetDesignatedFriendsApplyResp, GetPaginationFriendsApplyFromReq,
    GetPaginationFriendsApplyFromResp, GetPaginationFriendsApplyToReq,
    GetPaginationFriendsApplyToResp, GetSelfUnhandledApplyCountReq, GetSelfUnhandledApplyCountResp,
    ImportFriendReq, ImportFriendResp, RespondFriendApplyReq, RespondFriendApplyResp,
};
use proto::sdkws::{
    FriendApplicationApprovedTips, FriendApplicationRejectedTips, FriendApplicationTips,
    FriendRequest as Wire,
};
use store::record::{Friend, FriendRequest, Present};
use store::version_log::{Change as What, List};
use store::{Read, schema};

use super::{
    BY_APPLICATION, IMPORTED, MAX_TEXT_BYTES, MAX_USERS, are_different, from_to, must_be_given,
};
use crate::Services;
use crate::access::Caller;
use crate::change::Change;
use crate::error::{Result, ServiceError};
use crate::notification::{Notification, To, kind};
use crate::page::Page;
use crate::user::{check_count, check_length, must_exist};

/// Most new friends of whom a user hears in a frame each.
const FEW: usize = 32;

/// Not answered yet.
pub(crate) const WAITING: i32 = 0;
/// Accepted.
pub(crate) const AGREED: i32 = 1;
/// Declined.
pub(crate) const REFUSED: i32 = -1;

impl Services {
    /// Asks another user to become a friend.
    pub async fn add_friend(
        &self,
        caller: &Caller,
        mut request: ApplyToAddFriendReq,
    ) -> Result<ApplyToAddFriendResp> {
        request.to_user_id = self.typed(&request.to_user_id);
        must_be_given("toUserID", &request.to_user_id)?;
        must_be_given("fromUserID", &request.from_user_id)?;
        check_length("reqMsg", &request.req_msg, MAX_TEXT_BYTES)?;
        check_length("ex", &request.ex, MAX_TEXT_BYTES)?;
        caller.must_be(&request.from_user_id)?;
        if request.from_user_id == request.to_user_id {
            return Err(ServiceError::FriendOfSelf);
        }
        self.must_be_known(&request.to_user_id).await?;
        self.change(caller, move |change| {
            let ApplyToAddFriendReq { from_user_id, to_user_id, req_msg, ex } = request;
            change.cross_friend_request(&from_user_id, &to_user_id, &req_msg, &ex)?;
            change.request_friendship(&from_user_id, &to_user_id, req_msg, ex)
        })
        .await?;
        Ok(ApplyToAddFriendResp {})
    }

    /// Answers a friend request.
    pub async fn add_friend_response(
        &self,
        caller: &Caller,
        request: RespondFriendApplyReq,
    ) -> Result<RespondFriendApplyResp> {
        must_be_given("toUserID", &request.to_user_id)?;
        must_be_given("fromUserID", &request.from_user_id)?;
        check_length("handleMsg", &request.handle_msg, MAX_TEXT_BYTES)?;
        caller.must_be(&request.to_user_id)?;
        if ![AGREED, REFUSED].contains(&request.handle_result) {
            return Err(ServiceError::args("handleResult is 1 or -1"));
        }
        self.change(caller, move |change| {
            let RespondFriendApplyReq { from_user_id, to_user_id, handle_msg, .. } = &request;
            let agree = request.handle_result == AGREED;
            change.cross_friend_answer(from_user_id, to_user_id, agree, handle_msg)?;
            change.answer_request(&request)
        })
        .await?;
        Ok(RespondFriendApplyResp {})
    }

    /// Makes users friends of a user without asking, on behalf of an app admin.
    pub async fn import_friend(
        &self,
        caller: &Caller,
        request: ImportFriendReq,
    ) -> Result<ImportFriendResp> {
        must_be_given("ownerUserID", &request.owner_user_id)?;
        if request.friend_user_ids.is_empty() {
            return Err(ServiceError::args("friendUserIDs is empty"));
        }
        check_count("friendUserIDs", request.friend_user_ids.len(), MAX_USERS)?;
        caller.must_be_admin()?;
        if request.friend_user_ids.iter().chain([&request.owner_user_id]).any(|id| is_remote(id)) {
            return Err(ServiceError::args("users of other nodes are asked, not imported"));
        }
        self.change(caller, move |change| {
            let owner = request.owner_user_id.as_str();
            for user_id in [owner].into_iter().chain(request.friend_user_ids.iter().map(|f| &**f)) {
                must_exist(change.tx, user_id)?;
            }
            let friends = &request.friend_user_ids;
            if !are_different(friends) || friends.iter().any(|friend| friend == owner) {
                return Err(ServiceError::not_found("not as many different users"));
            }
            let operator = change.caller.user_id.clone();
            let mut new = Vec::new();
            for (at, friend) in friends.iter().enumerate() {
                if change.make_friend(owner, friend, at, IMPORTED, &operator)? {
                    new.push((friend.as_str(), What::Insert));
                }
                if change.make_friend(friend, owner, 0, IMPORTED, &operator)? {
                    change.tx.step(List::Friends, friend, [(owner, What::Insert)])?;
                }
            }
            if !new.is_empty() {
                change.tx.step(List::Friends, owner, new)?;
            }
            if friends.len() <= FEW {
                change.tell_imported(owner, friends)?;
            } else {
                change.in_few_frames(owner, |change| change.tell_imported(owner, friends))?;
            }
            Ok(ImportFriendResp {})
        })
        .await
    }

    /// Requests a user has received, newest first.
    pub fn get_friend_apply_list(
        &self,
        caller: &Caller,
        request: &GetPaginationFriendsApplyToReq,
    ) -> Result<GetPaginationFriendsApplyToResp> {
        must_be_given("userID", &request.user_id)?;
        let page = Page::required(request.pagination.as_ref())?;
        caller.must_be(&request.user_id)?;
        let view = self.store().view();
        let rows = schema::FRIEND_REQUESTS.scan(&view, request.user_id.as_str()).map(|row| {
            let ((to, from), record) = row?;
            Ok((from, to, record))
        });
        let (total, friend_requests) = listed(&view, rows, &request.handle_results, page)?;
        Ok(GetPaginationFriendsApplyToResp { friend_requests, total })
    }

    /// Requests a user has sent, newest first.
    pub fn get_self_friend_apply_list(
        &self,
        caller: &Caller,
        request: &GetPaginationFriendsApplyFromReq,
    ) -> Result<GetPaginationFriendsApplyFromResp> {
        must_be_given("userID", &request.user_id)?;
        let page = Page::required(request.pagination.as_ref())?;
        caller.must_be(&request.user_id)?;
        let view = self.store().view();
        let sent = schema::FRIEND_REQUESTS_SENT.scan(&view, request.user_id.as_str());
        let rows = sent.filter_map(|row| {
            let find = || -> Result<_> {
                let ((from, to), _) = row?;
                let record = schema::FRIEND_REQUESTS.get(&view, (&to, &from))?;
                Ok(record.map(|record| (from, to, record)))
            };
            find().transpose()
        });
        let (total, friend_requests) = listed(&view, rows, &request.handle_results, page)?;
        Ok(GetPaginationFriendsApplyFromResp { friend_requests, total })
    }

    /// The requests between two users, in both directions.
    pub fn get_designated_friend_apply(
        &self,
        caller: &Caller,
        request: &GetDesignatedFriendsApplyReq,
    ) -> Result<GetDesignatedFriendsApplyResp> {
        let (from, to) = (request.from_user_id.as_str(), request.to_user_id.as_str());
        must_be_given("fromUserID", from)?;
        must_be_given("toUserID", to)?;
        caller.must_be_one_of(from, to)?;
        let view = self.store().view();
        let mut friend_requests = Vec::new();
        for (from, to) in [(from, to), (to, from)] {
            if let Some(record) = schema::FRIEND_REQUESTS.get(&view, (to, from))? {
                friend_requests.push(wire(&view, from, to, record)?);
            }
        }
        Ok(GetDesignatedFriendsApplyResp { friend_requests })
    }

    /// Number of requests a user has not answered yet.
    pub fn get_self_unhandled_apply_count(
        &self,
        caller: &Caller,
        request: &GetSelfUnhandledApplyCountReq,
    ) -> Result<GetSelfUnhandledApplyCountResp> {
        caller.must_be(&request.user_id)?;
        let view = self.store().view();
        let mut count = 0;
        for row in schema::FRIEND_REQUESTS.scan(&view, request.user_id.as_str()) {
            let (_, record) = row?;
            let recent = request.time == 0 || record.created > request.time;
            count += i64::from(record.handle_result == WAITING && recent);
        }
        Ok(GetSelfUnhandledApplyCountResp { count })
    }
}

impl Change<'_, '_> {
    /// Puts a friend request in front of its receiver.
    pub(crate) fn request_friendship(
        &mut self,
        from: &str,
        to: &str,
        req_msg: String,
        ex: String,
    ) -> Result<()> {
        must_exist(self.tx, from)?;
        must_exist(self.tx, to)?;
        if schema::FRIENDS.contains(self.tx, (from, to))?
            && schema::FRIENDS.contains(self.tx, (to, from))?
        {
            return Err(ServiceError::AlreadyFriends);
        }
        let before = schema::FRIEND_REQUESTS.get(self.tx, (to, from))?.unwrap_or_default();
        let record = FriendRequest {
            handle_result: WAITING,
            handle_msg: String::new(),
            req_msg,
            ex,
            created: self.now,
            ..before
        };
        schema::FRIEND_REQUESTS.put(self.tx, (to, from), &record);
        schema::FRIEND_REQUESTS_SENT.put(self.tx, (from, to), &Present {});
        let tips = FriendApplicationTips {
            from_to_user_id: from_to(from, to),
            request: Some(wire(self.tx, from, to, record)?),
        };
        self.notify(&Notification::new(kind::FRIEND_APPLICATION, from, To::User(to)), &tips)?;
        Ok(())
    }

    /// Answers a friend request on behalf of its receiver.
    pub(crate) fn answer_request(&mut self, request: &RespondFriendApplyReq) -> Result<()> {
        let (from, to) = (request.from_user_id.as_str(), request.to_user_id.as_str());
        let agree = request.handle_result == AGREED;
        let Some(mut record) = schema::FRIEND_REQUESTS.get(self.tx, (to, from))? else {
            return Err(ServiceError::not_found(format!("no friend request from {from} to {to}")));
        };
        if record.handle_result != WAITING {
            return Err(if agree {
                ServiceError::args("the friend request is already handled")
            } else {
                ServiceError::FriendRequestHandled
            });
        }
        record.handle_result = request.handle_result;
        record.handled = self.now;
        if !request.handle_msg.is_empty() {
            record.handle_msg.clone_from(&request.handle_msg);
        }
        if agree {
            record.handler_user_id.clone_from(&self.caller.user_id);
        }
        schema::FRIEND_REQUESTS.put(self.tx, (to, from), &record);
        let (handle_msg, from_to_user_id) = (request.handle_msg.clone(), from_to(from, to));
        let told = Some(wire(self.tx, from, to, record)?);
        if !agree {
            let tips = FriendApplicationRejectedTips { from_to_user_id, handle_msg, request: told };
            let rejected = Notification::new(kind::FRIEND_REJECTED, to, To::User(from));
            self.notify(&rejected, &tips)?;
            return Ok(());
        }
        self.agree_opposite(from, to)?;
        for (owner, friend) in [(from, to), (to, from)] {
            if self.make_friend(owner, friend, 0, BY_APPLICATION, from)? {
                self.tx.step(List::Friends, owner, [(friend, What::Insert)])?;
            }
        }
        let tips = FriendApplicationApprovedTips {
            from_to_user_id,
            handle_msg,
            request: told,
            ..Default::default()
        };
        let approved = Notification::new(kind::FRIEND_APPROVED, to, To::User(from));
        self.notify(&approved, &tips)?;
        Ok(())
    }

    /// Tells a user and new friends of each other, whether they were friends before or not.
    fn tell_imported(&mut self, owner: &str, friends: &[String]) -> Result<()> {
        for friend in friends {
            let tips = FriendApplicationApprovedTips {
                from_to_user_id: from_to(owner, friend),
                ..Default::default()
            };
            let told = Notification::new(kind::FRIEND_APPROVED, friend, To::User(owner));
            self.notify(&told, &tips)?;
        }
        Ok(())
    }

    /// A request that waits in the other direction is answered with the same agreement.
    fn agree_opposite(&mut self, from: &str, to: &str) -> Result<()> {
        if let Some(mut opposite) = schema::FRIEND_REQUESTS.get(self.tx, (from, to))?
            && opposite.handle_result == WAITING
        {
            opposite.handle_result = AGREED;
            opposite.handled = self.now;
            opposite.handler_user_id.clone_from(&self.caller.user_id);
            schema::FRIEND_REQUESTS.put(self.tx, (from, to), &opposite);
        }
        Ok(())
    }

    /// Puts a friend into the owner's list; returns `false` if it is there already.
    ///
    /// `at` orders those who are added at the same time.
    pub(crate) fn make_friend(
        &mut self,
        owner: &str,
        friend: &str,
        at: usize,
        add_source: i32,
        operator: &str,
    ) -> Result<bool> {
        if schema::FRIENDS.contains(self.tx, (owner, friend))? {
            return Ok(false);
        }
        let record = Friend {
            created: self.now,
            add_source,
            operator_user_id: operator.to_owned(),
            order: (self.now.cast_unsigned() << 16) | (at as u64 & 0xffff),
            ..Default::default()
        };
        schema::FRIENDS.put(self.tx, (owner, friend), &record);
        Ok(true)
    }
}

/// The requests on a page, newest first, and how many there are in all.
fn listed(
    from: &impl Read,
    rows: impl Iterator<Item = Result<(String, String, FriendRequest)>>,
    handle_results: &[i32],
    page: Page,
) -> Result<(i32, Vec<Wire>)> {
    let mut found = Vec::new();
    for row in rows {
        let row = row?;
        if handle_results.is_empty() || handle_results.contains(&row.2.handle_result) {
            found.push(row);
        }
    }
    let total = i32::try_from(found.len()).unwrap_or(i32::MAX);
    found.sort_by_key(|(_, _, record)| std::cmp::Reverse(record.created));
    let rows = page.of(found).into_iter();
    let requests = rows.map(|(sender, receiver, record)| wire(from, &sender, &receiver, record));
    Ok((total, requests.collect::<Result<_>>()?))
}

/// The form that clients receive.
fn wire(
    read: &impl Read,
    from_user_id: &str,
    to_user_id: &str,
    record: FriendRequest,
) -> Result<Wire> {
    let from = schema::USERS.get(read, from_user_id)?.unwrap_or_default();
    let to = schema::USERS.get(read, to_user_id)?.unwrap_or_default();
    Ok(Wire {
        from_user_id: from_user_id.to_owned(),
        from_nickname: from.nickname,
        from_face_url: from.face_url,
        to_user_id: to_user_id.to_owned(),
        to_nickname: to.nickname,
        to_face_url: to.face_url,
        handle_result: record.handle_result,
        req_msg: record.req_msg,
        create_time: record.created,
        handler_user_id: record.handler_user_id,
        handle_msg: record.handle_msg,
        handle_time: record.handled,
        ex: record.ex,
    })
}
