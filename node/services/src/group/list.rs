use proto::group::{
    GetGroupMemberListReq, GetGroupMemberListResp, GetGroupMemberUserIDsReq,
    GetGroupMemberUserIDsResp, GetGroupMembersInfoReq, GetGroupMembersInfoResp,
    GetJoinedGroupListReq, GetJoinedGroupListResp,
};
use proto::sdkws::GroupInfo;
use store::{Direction, Read, schema};

use super::info::count;
use super::{DISMISSED, check_count, member, required};
use crate::Services;
use crate::access::Caller;
use crate::error::{Result, ServiceError};
use crate::page::{Page, STEP_ROWS};
use crate::search_text::SearchText;

/// Members named in one request, at most.
const MAX_IDS: usize = 10_000;

impl Services {
    /// The members named that are in the group.
    pub fn get_group_members_info(
        &self,
        caller: &Caller,
        request: &GetGroupMembersInfoReq,
    ) -> Result<GetGroupMembersInfoResp> {
        required("groupID", &request.group_id)?;
        if request.user_ids.is_empty() {
            return Err(ServiceError::args("userIDs is empty"));
        }
        check_count("userIDs", request.user_ids.len(), MAX_IDS)?;
        let view = self.store().view();
        caller.must_be_member(&view, &request.group_id)?;
        let mut seen = std::collections::HashSet::new();
        let mut members = Vec::new();
        for user_id in request.user_ids.iter().filter(|id| seen.insert(*id)) {
            members.extend(member(&view, &request.group_id, user_id)?);
        }
        Ok(GetGroupMembersInfoResp { members })
    }

    /// A page of a group's members, or of those whose name there contains a text: by rank, then as
    /// they joined.
    pub async fn get_group_member_list(
        &self,
        caller: &Caller,
        request: GetGroupMemberListReq,
    ) -> Result<GetGroupMemberListResp> {
        let page = Page::required(request.pagination.as_ref())?;
        required("groupID", &request.group_id)?;
        if !(0..=5).contains(&request.filter) {
            return Err(ServiceError::args("filter is invalid"));
        }
        let group_id = request.group_id.as_str();
        if request.keyword.is_empty() {
            let view = self.store().view();
            caller.must_be_member(&view, group_id)?;
            let group = schema::GROUPS.get(&view, group_id)?.unwrap_or_default();
            let mut members = Vec::new();
            for (at, row) in schema::MEMBER_ORDER.scan(&view, group_id).enumerate() {
                if page.ends_before(at) {
                    break;
                }
                if page.contains(at) {
                    members.extend(member(&view, group_id, &row?.0.3)?);
                }
            }
            return Ok(GetGroupMemberListResp { total: group.info.member_count, members });
        }
        caller.must_be_member(&self.store().view(), group_id)?;
        self.search_members(group_id, &SearchText::new("keyword", &request.keyword)?, page).await
    }

    async fn search_members(
        &self,
        group_id: &str,
        name: &SearchText,
        page: Page,
    ) -> Result<GetGroupMemberListResp> {
        let (mut members, mut found) = (Vec::new(), 0);
        let mut next = (0, 0, String::new());
        self.in_steps(|view| {
            let first = (group_id, next.0, next.1, next.2.as_str());
            let rows = schema::MEMBER_ORDER.range(view, first, group_id, Direction::Ascending);
            let rows = rows.take(STEP_ROWS).map(|row| Ok(row?.0)).collect::<Result<Vec<_>>>()?;
            let more = rows.len() == STEP_ROWS;
            for (_, rank, order, user_id) in rows {
                let shown = member(view, group_id, &user_id)?;
                if let Some(shown) = shown.filter(|shown| name.is_in(&shown.nickname)) {
                    if page.contains(found) {
                        members.push(shown);
                    }
                    found += 1;
                }
                // The least text after the ID.
                next = (rank, order, format!("{user_id}\0"));
            }
            Ok(more)
        })
        .await?;
        Ok(GetGroupMemberListResp { total: count(found), members })
    }

    /// IDs of all members: by rank, then as they joined.
    pub fn get_group_member_user_id(
        &self,
        caller: &Caller,
        request: &GetGroupMemberUserIDsReq,
    ) -> Result<GetGroupMemberUserIDsResp> {
        required("groupID", &request.group_id)?;
        let view = self.store().view();
        caller.must_be_member(&view, &request.group_id)?;
        Ok(GetGroupMemberUserIDsResp { user_ids: member_ids(&view, &request.group_id)? })
    }

    /// A page of the groups a user is in.
    pub fn get_joined_group_list(
        &self,
        caller: &Caller,
        request: &GetJoinedGroupListReq,
    ) -> Result<GetJoinedGroupListResp> {
        let page = Page::required(request.pagination.as_ref())?;
        required("fromUserID", &request.from_user_id)?;
        caller.must_be(&request.from_user_id)?;
        let groups = joined(&self.store().view(), &request.from_user_id)?;
        Ok(GetJoinedGroupListResp { total: count(groups.len()), groups: page.of(groups) })
    }
}

/// IDs of a group's members: by rank, then as they joined.
pub(super) fn member_ids(from: &impl Read, group_id: &str) -> Result<Vec<String>> {
    schema::MEMBER_ORDER.scan(from, group_id).map(|row| Ok(row?.0.3)).collect()
}

/// The groups a user is in, by name and age; dismissed ones are left out.
pub(super) fn joined(from: &impl Read, user_id: &str) -> Result<Vec<GroupInfo>> {
    let mut groups = Vec::new();
    for row in schema::JOINED.scan(from, user_id) {
        let group = schema::GROUPS.get(from, &row?.0.1)?;
        groups.extend(group.map(|group| group.info).filter(|info| info.status != DISMISSED));
    }
    groups.sort_by(|a, b| {
        (&a.group_name, a.create_time, &a.group_id).cmp(&(
            &b.group_name,
            b.create_time,
            &b.group_id,
        ))
    });
    Ok(groups)
}
