use proto::group::{
    GetGroupApplicationListReq, GetGroupApplicationListResp, GetGroupApplicationUnhandledCountReq,
    GetGroupApplicationUnhandledCountResp, GetGroupUsersReqApplicationListReq,
    GetGroupUsersReqApplicationListResp, GetSpecifiedUserGroupRequestInfoReq,
    GetSpecifiedUserGroupRequestInfoResp, GetUserReqApplicationListReq,
    GetUserReqApplicationListResp,
};
use proto::sdkws::{GroupInfo, GroupRequest as Wire};
use store::record::GroupRequest;
use store::{Read, schema};

use super::info::count;
use super::{MAX_USERS, check_count, profile, public, reachable, required};
use crate::Services;
use crate::access::{Caller, role};
use crate::error::{Result, ServiceError};
use crate::federation::{ByHome, at_home, first_page};
use crate::page::Page;
use crate::user;

/// When somebody asked to join, the group, and who asked.
type Row = (i64, String, String);

impl Services {
    /// Requests to join the groups a user is in charge of, newest first.
    pub async fn get_recv_group_application_list(
        &self,
        caller: &Caller,
        request: GetGroupApplicationListReq,
    ) -> Result<GetGroupApplicationListResp> {
        let page = Page::required(request.pagination.as_ref())?;
        required("fromUserID", &request.from_user_id)?;
        check_count("groupIDs", request.group_ids.len(), MAX_USERS)?;
        check_count("handleResults", request.handle_results.len(), MAX_USERS)?;
        caller.must_be(&request.from_user_id)?;
        let groups = {
            let view = self.store().view();
            if request.group_ids.is_empty() {
                managed(&view, &request.from_user_id)?
            } else {
                reachable(request.group_ids.clone(), |group_id| {
                    caller.must_manage_or_deny(&view, group_id)
                })?
            }
        };
        let ByHome { here, elsewhere } = self.by_home(groups)?;
        let asked = |group_ids| GetGroupApplicationListReq {
            group_ids,
            pagination: Some(first_page(page.end())),
            ..request.clone()
        };
        let path = "/group/get_recv_group_applicationList";
        let others: Vec<GetGroupApplicationListResp> =
            self.ask_homes(caller, elsewhere, path, asked).await;
        let view = self.store().view();
        let mut rows = Vec::new();
        for group_id in here {
            for row in schema::GROUP_REQUESTS.scan(&view, group_id.as_str()) {
                let ((group_id, user_id), record) = row?;
                if wanted(&request.handle_results, &record) {
                    rows.push((record.requested, group_id, user_id));
                }
            }
        }
        let others = others.into_iter().map(|listed| (listed.total, listed.group_requests));
        let (total, group_requests) = merged(&view, rows, others.collect(), page)?;
        Ok(GetGroupApplicationListResp { total, group_requests })
    }

    /// Requests a user has made, newest first.
    pub async fn get_user_req_group_application_list(
        &self,
        caller: &Caller,
        request: GetUserReqApplicationListReq,
    ) -> Result<GetUserReqApplicationListResp> {
        let page = Page::required(request.pagination.as_ref())?;
        required("userID", &request.user_id)?;
        check_count("groupIDs", request.group_ids.len(), MAX_USERS)?;
        check_count("handleResults", request.handle_results.len(), MAX_USERS)?;
        caller.must_be(&request.user_id)?;
        let mut groups = Vec::new();
        {
            let view = self.store().view();
            user::must_exist(&view, &request.user_id)?;
            for row in schema::GROUP_REQUESTS_SENT.scan(&view, request.user_id.as_str()) {
                let group_id = row?.0.1;
                if request.group_ids.is_empty() || request.group_ids.contains(&group_id) {
                    groups.push(group_id);
                }
            }
        }
        let ByHome { here, elsewhere } = self.by_home(groups)?;
        let asked = |group_ids| GetUserReqApplicationListReq {
            group_ids,
            pagination: Some(first_page(page.end())),
            ..request.clone()
        };
        let path = "/group/get_user_req_group_applicationList";
        let others: Vec<GetUserReqApplicationListResp> =
            self.ask_homes(caller, elsewhere, path, asked).await;
        let (view, user_id) = (self.store().view(), &request.user_id);
        let mut rows = Vec::new();
        for group_id in here {
            let record = schema::GROUP_REQUESTS.get(&view, (&group_id, user_id))?;
            if let Some(record) = record.filter(|record| wanted(&request.handle_results, record)) {
                rows.push((record.requested, group_id, user_id.clone()));
            }
        }
        let others = others.into_iter().map(|listed| (listed.total, listed.group_requests));
        let (total, group_requests) = merged(&view, rows, others.collect(), page)?;
        Ok(GetUserReqApplicationListResp { total, group_requests })
    }

    /// The requests of some users to join a group.
    pub async fn get_group_users_req_application_list(
        &self,
        caller: &Caller,
        request: GetGroupUsersReqApplicationListReq,
    ) -> Result<GetGroupUsersReqApplicationListResp> {
        at_home!(
            self,
            caller,
            request,
            &request.group_id,
            "/group/get_group_users_req_application_list"
        );
        required("groupID", &request.group_id)?;
        if request.user_ids.is_empty() {
            return Err(ServiceError::args("userIDs is empty"));
        }
        check_count("userIDs", request.user_ids.len(), MAX_USERS)?;
        let (view, group_id) = (self.store().view(), request.group_id.as_str());
        caller.must_manage_or_deny(&view, group_id)?;
        let info = super::must_exist(&view, group_id)?.info;
        let mut group_requests = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for user_id in request.user_ids.iter().filter(|id| seen.insert(*id)) {
            if let Some(record) = schema::GROUP_REQUESTS.get(&view, (group_id, user_id))? {
                group_requests.push(wire(&view, user_id, record, Some(info.clone()))?);
            }
        }
        let total = i64::from(count(group_requests.len()));
        Ok(GetGroupUsersReqApplicationListResp { total, group_requests })
    }

    /// One user's request to join one group.
    pub async fn get_specified_user_group_request_info(
        &self,
        caller: &Caller,
        request: GetSpecifiedUserGroupRequestInfoReq,
    ) -> Result<GetSpecifiedUserGroupRequestInfoResp> {
        at_home!(
            self,
            caller,
            request,
            &request.group_id,
            "/group/get_specified_user_group_request_info"
        );
        let (group_id, user_id) = (request.group_id.as_str(), request.user_id.as_str());
        let view = self.store().view();
        if caller.must_be(user_id).is_err() {
            caller.must_manage_or_deny(&view, group_id)?;
        }
        let mut group_requests = Vec::new();
        if let Some(record) = schema::GROUP_REQUESTS.get(&view, (group_id, user_id))? {
            let info = schema::GROUPS.get(&view, group_id)?.map(|group| group.info);
            group_requests.push(wire(&view, user_id, record, info)?);
        }
        Ok(GetSpecifiedUserGroupRequestInfoResp {
            total: count(group_requests.len()),
            group_requests,
        })
    }

    /// Number of requests that wait for a user who is in charge of groups.
    pub async fn get_group_application_unhandled_count(
        &self,
        caller: &Caller,
        request: GetGroupApplicationUnhandledCountReq,
    ) -> Result<GetGroupApplicationUnhandledCountResp> {
        caller.must_be(&request.user_id)?;
        let groups = managed(&self.store().view(), &request.user_id)?;
        let ByHome { here, elsewhere } = self.by_home(groups)?;
        let path = "/group/get_group_application_unhandled_count";
        let others: Vec<GetGroupApplicationUnhandledCountResp> =
            self.ask_homes(caller, elsewhere, path, |_| request.clone()).await;
        let mut waiting = others.iter().map(|other| other.count).sum();
        let view = self.store().view();
        for group_id in here {
            for row in schema::GROUP_REQUESTS.scan(&view, group_id.as_str()) {
                let (_, record) = row?;
                let recent = request.time == 0 || record.requested > request.time;
                waiting += i64::from(record.handle_result == 0 && recent);
            }
        }
        Ok(GetGroupApplicationUnhandledCountResp { count: waiting })
    }
}

/// IDs of the groups in which a user is owner or admin.
fn managed(from: &impl Read, user_id: &str) -> Result<Vec<String>> {
    let mut groups = Vec::new();
    for row in schema::JOINED.scan(from, user_id) {
        let group_id = row?.0.1;
        let member = schema::MEMBERS.get(from, (&group_id, user_id))?;
        if member.is_some_and(|member| member.role_level >= role::ADMIN) {
            groups.push(group_id);
        }
    }
    Ok(groups)
}

fn wanted(handle_results: &[i32], record: &GroupRequest) -> bool {
    handle_results.is_empty() || handle_results.contains(&record.handle_result)
}

/// The requests on a page, newest first, and how many there are in all.
fn listed(from: &impl Read, mut rows: Vec<Row>, page: Page) -> Result<(u32, Vec<Wire>)> {
    rows.sort_by(|a, b| (b.0, &a.1, &a.2).cmp(&(a.0, &b.1, &b.2)));
    rows.dedup();
    let total = count(rows.len());
    let mut requests = Vec::new();
    for (_, group_id, user_id) in page.of(rows) {
        let Some(record) = schema::GROUP_REQUESTS.get(from, (&group_id, &user_id))? else {
            continue;
        };
        let Some(group) = schema::GROUPS.get(from, &group_id)? else {
            return Err(ServiceError::GroupNotFound(group_id));
        };
        requests.push(wire(from, &user_id, record, Some(group.info))?);
    }
    Ok((total, requests))
}

/// The same together with lists of other nodes: how many each has, and the first of them.
fn merged(
    from: &impl Read,
    rows: Vec<Row>,
    others: Vec<(u32, Vec<Wire>)>,
    page: Page,
) -> Result<(u32, Vec<Wire>)> {
    if others.is_empty() {
        return listed(from, rows, page);
    }
    let (mut total, mut requests) = listed(from, rows, page.with_all_before())?;
    for (more, others) in others {
        total = total.saturating_add(more);
        requests.extend(others);
    }
    requests.sort_by_key(|request| std::cmp::Reverse(request.req_time));
    Ok((total, page.of(requests)))
}

/// The form that clients receive; notices say the group elsewhere.
pub(super) fn wire(
    from: &impl Read,
    user_id: &str,
    record: GroupRequest,
    group_info: Option<GroupInfo>,
) -> Result<Wire> {
    Ok(Wire {
        user_info: Some(public(profile(from, user_id)?)),
        group_info,
        handle_result: record.handle_result,
        req_msg: record.req_msg,
        handle_msg: record.handle_msg,
        req_time: record.requested,
        handle_user_id: record.handle_user_id,
        handle_time: record.handled,
        ex: record.ex,
        join_source: record.join_source,
        inviter_user_id: record.inviter_user_id,
    })
}
