use md5::{Digest as _, Md5};
use proto::group::{
    CmsGroup, GetGroupAbstractInfoReq, GetGroupAbstractInfoResp, GetGroupsInfoReq,
    GetGroupsInfoResp, GetGroupsReq, GetGroupsResp, GroupAbstractInfo, SetGroupInfoExReq,
    SetGroupInfoExResp, SetGroupInfoReq, SetGroupInfoResp,
};
use proto::protobuf::StringValue;
use proto::sdkws::{
    GroupInfo, GroupInfoSetAnnouncementTips, GroupInfoSetNameTips, GroupInfoSetTips,
};
use store::version_log::Change as What;
use store::{Direction, Read, schema};

use super::{
    DISMISSED, INFO_ELEMENT, check_count, check_ids, check_texts, member_info, must_exist, profile,
    reachable, required,
};
use crate::Services;
use crate::access::Caller;
use crate::change::{Change, json};
use crate::error::{Result, ServiceError};
use crate::federation::at_home;
use crate::notification::kind;
use crate::page::{Page, STEP_ROWS};
use crate::search_text::SearchText;

/// Groups named in one request, at most.
const MAX_GROUPS: usize = 10_000;

impl Services {
    /// Changes the fields of a group that are not empty.
    pub async fn set_group_info(
        &self,
        caller: &Caller,
        request: SetGroupInfoReq,
    ) -> Result<SetGroupInfoResp> {
        let Some(set) = request.group_info_for_set else {
            return Err(ServiceError::args("groupInfoForSet is empty"));
        };
        required("groupID", &set.group_id)?;
        let request = SetGroupInfoReq { group_info_for_set: Some(set.clone()) };
        at_home!(self, caller, request, &set.group_id, "/group/set_group_info");
        let text = |value: String| (!value.is_empty()).then_some(StringValue { value });
        let edit = SetGroupInfoExReq {
            group_id: set.group_id,
            group_name: text(set.group_name),
            notification: text(set.notification),
            introduction: text(set.introduction),
            face_url: text(set.face_url),
            ex: set.ex,
            need_verification: set.need_verification,
            look_member_info: set.look_member_info,
            apply_member_friend: set.apply_member_friend,
        };
        self.edit_group(caller, edit).await?;
        Ok(SetGroupInfoResp {})
    }

    /// Changes the fields of a group that are present.
    pub async fn set_group_info_ex(
        &self,
        caller: &Caller,
        mut request: SetGroupInfoExReq,
    ) -> Result<SetGroupInfoExResp> {
        at_home!(self, caller, request, &request.group_id, "/group/set_group_info_ex");
        if let Some(text) = &mut request.notification {
            text.value = text.value.trim().to_owned();
        }
        self.edit_group(caller, request).await?;
        Ok(SetGroupInfoExResp {})
    }

    async fn edit_group(&self, caller: &Caller, edit: SetGroupInfoExReq) -> Result<()> {
        let group_id = edit.group_id.clone();
        if self.change(caller, move |change| change.set_group_info(edit)).await? {
            tokio::spawn(self.clone().mark_everybody(group_id));
        }
        Ok(())
    }

    /// The groups named that exist, dismissed ones too.
    pub async fn get_groups_info(
        &self,
        _caller: &Caller,
        request: GetGroupsInfoReq,
    ) -> Result<GetGroupsInfoResp> {
        if request.group_ids.is_empty() {
            return Err(ServiceError::args("groupIDs is empty"));
        }
        check_count("groupIDs", request.group_ids.len(), MAX_GROUPS)?;
        let group_ids: Vec<String> = request.group_ids.iter().map(|id| self.typed(id)).collect();
        let mut seen = std::collections::HashSet::new();
        let (mut group_infos, mut unknown) = (Vec::new(), Vec::new());
        {
            let view = self.store().view();
            for group_id in group_ids.iter().filter(|id| seen.insert(*id)) {
                match schema::GROUPS.get(&view, group_id)? {
                    Some(group) => group_infos.push(group.info),
                    None => unknown.push(group_id.clone()),
                }
            }
        }
        group_infos.extend(self.groups_elsewhere(&unknown).await?);
        Ok(GetGroupsInfoResp { group_infos })
    }

    /// A group by ID, or those whose name contains a text, newest first, for app admins.
    pub async fn get_groups(
        &self,
        caller: &Caller,
        request: GetGroupsReq,
    ) -> Result<GetGroupsResp> {
        let page = Page::required(request.pagination.as_ref())?;
        if !request.group_id.is_empty() {
            caller.must_list_accounts(self.settings())?;
            let view = self.store().view();
            let found = schema::GROUPS.get(&view, &request.group_id)?;
            let groups =
                found.map(|group| cms(&view, group.info)).transpose()?.into_iter().collect();
            let groups: Vec<CmsGroup> = groups;
            return Ok(GetGroupsResp { total: count(groups.len()), groups: page.of(groups) });
        }
        caller.must_be_admin()?;
        let by_name = SearchText::if_any("groupName", &request.group_name)?;
        let mut found = Vec::new();
        self.each_in_order(&schema::GROUP_ORDER, i64::MIN, |view, _, group_id| {
            let Some(group) = schema::GROUPS.get(view, &group_id)? else {
                return Ok(std::ops::ControlFlow::Continue(()));
            };
            let named = by_name.as_ref().is_none_or(|name| name.is_in(&group.info.group_name));
            if named && group.info.status != DISMISSED {
                found.push(group_id);
            }
            Ok(std::ops::ControlFlow::Continue(()))
        })
        .await?;
        found.reverse();
        let total = count(found.len());
        let view = self.store().view();
        let mut groups = Vec::new();
        for group_id in page.of(found) {
            groups.push(cms(&view, must_exist(&view, &group_id)?.info)?);
        }
        Ok(GetGroupsResp { total, groups })
    }

    /// Number of members and a hash over them, by which clients compare; of those groups that the
    /// caller may see, if there is one.
    pub async fn get_group_abstract_info(
        &self,
        caller: &Caller,
        mut request: GetGroupAbstractInfoReq,
    ) -> Result<GetGroupAbstractInfoResp> {
        check_ids("groupIDs", &request.group_ids)?;
        {
            let view = self.store().view();
            let ids = std::mem::take(&mut request.group_ids);
            request.group_ids = reachable(ids, |group_id| {
                caller.must_be_member(&view, group_id)?;
                if !schema::GROUPS.contains(&view, group_id)? {
                    return Err(ServiceError::GroupNotFound(group_id.to_owned()));
                }
                Ok(())
            })?;
        }
        let mut group_abstract_infos = Vec::with_capacity(request.group_ids.len());
        for group_id in request.group_ids {
            group_abstract_infos.push(self.abstract_of(group_id).await?);
        }
        Ok(GetGroupAbstractInfoResp { group_abstract_infos })
    }

    async fn abstract_of(&self, group_id: String) -> Result<GroupAbstractInfo> {
        let (mut hash, mut members, mut next) = (Md5::new(), 0, String::new());
        hash.update("[");
        self.in_steps(|view| {
            let (mut seen, from) = (0, next.clone());
            let first = (group_id.as_str(), from.as_str());
            let rows = schema::MEMBERS.range(view, first, &*group_id, Direction::Ascending);
            for row in rows.take(STEP_ROWS) {
                let ((_, user_id), record) = row?;
                if members > 0 {
                    hash.update(",");
                }
                let profile = profile(view, &user_id)?;
                hash.update(json(&member_info(&group_id, &profile, record))?);
                seen += 1;
                members += 1;
                // The least text after the ID.
                next = format!("{user_id}\0");
            }
            Ok(seen == STEP_ROWS)
        })
        .await?;
        hash.update("]");
        let digest = hash.finalize();
        Ok(GroupAbstractInfo {
            group_id,
            group_member_number: count(members),
            group_member_list_hash: u64::from_be_bytes(std::array::from_fn(|at| digest[at])),
        })
    }
}

pub(super) fn count(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}

fn cms(from: &impl Read, info: GroupInfo) -> Result<CmsGroup> {
    let owner = schema::MEMBERS.get(from, (&info.group_id, &info.owner_user_id))?;
    Ok(CmsGroup {
        group_owner_user_name: owner.map(|owner| owner.nickname).unwrap_or_default(),
        group_owner_user_id: info.owner_user_id.clone(),
        group_info: Some(info),
    })
}

impl Change<'_, '_> {
    /// Returns whether the members have to be shown that there is an announcement.
    fn set_group_info(&mut self, edit: SetGroupInfoExReq) -> Result<bool> {
        let group_id = edit.group_id.as_str();
        let mut group = must_exist(self.tx, group_id)?;
        self.caller.must_manage_or_miss(self.tx, group_id)?;
        if group.info.status == DISMISSED {
            return Err(ServiceError::Dismissed);
        }
        // A blank name is taken as "no change at all".
        if edit.group_name.as_ref().is_some_and(|name| name.value.trim().is_empty()) {
            return Ok(false);
        }
        let info = &mut group.info;
        let announced = edit.notification.map(|text| text.value);
        if let Some(text) = &announced {
            info.notification.clone_from(text);
            info.notification_update_time = self.now;
            info.notification_user_id.clone_from(&self.caller.user_id);
        }
        if let Some(name) = &edit.group_name {
            info.group_name.clone_from(&name.value);
        }
        let mut other = false;
        for (text, slot) in [
            (&edit.introduction, &mut info.introduction),
            (&edit.face_url, &mut info.face_url),
            (&edit.ex, &mut info.ex),
        ] {
            if let Some(text) = text {
                slot.clone_from(&text.value);
                other = true;
            }
        }
        for (number, slot) in [
            (&edit.need_verification, &mut info.need_verification),
            (&edit.look_member_info, &mut info.look_member_info),
            (&edit.apply_member_friend, &mut info.apply_member_friend),
        ] {
            if let Some(number) = number {
                *slot = number.value;
                other = true;
            }
        }
        if announced.is_none() && edit.group_name.is_none() && !other {
            return Ok(false);
        }
        check_texts(info)?;
        schema::GROUPS.put(self.tx, group_id, &group);
        self.step_members(group_id, [(INFO_ELEMENT, What::Update)])?;
        let announced = announced.map(|text| !text.is_empty());
        self.tell_info(group_id, announced, edit.group_name.is_some(), other)?;
        if announced == Some(true) {
            self.note_announcement(group_id);
        }
        Ok(announced == Some(true))
    }

    fn tell_info(
        &mut self,
        group_id: &str,
        announced: Option<bool>,
        named: bool,
        other: bool,
    ) -> Result<()> {
        let told = self.told(group_id)?;
        if announced.is_some() {
            let tips = GroupInfoSetAnnouncementTips {
                op_user: told.operator.clone(),
                group: told.group.clone(),
                group_member_version: told.version,
                group_member_version_id: told.version_id.clone(),
            };
            self.tell_group(kind::ANNOUNCEMENT_SET, group_id, &[], announced, &tips)?;
        }
        if named {
            let tips = GroupInfoSetNameTips {
                op_user: told.operator.clone(),
                group: told.group.clone(),
                group_member_version: told.version,
                group_member_version_id: told.version_id.clone(),
            };
            self.tell_group(kind::GROUP_NAME_SET, group_id, &[], None, &tips)?;
        }
        if other {
            let tips = GroupInfoSetTips {
                op_user: told.operator,
                mute_time: 0,
                group: told.group,
                group_member_version: told.version,
                group_member_version_id: told.version_id,
            };
            self.tell_group(kind::GROUP_INFO_SET, group_id, &[], None, &tips)?;
        }
        Ok(())
    }
}
