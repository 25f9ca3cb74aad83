use proto::group::{CreateGroupReq, CreateGroupResp};
use proto::sdkws::{
    GroupCreatedTips, GroupInfo, GroupInfoSetAnnouncementTips, GroupMemberFullInfo,
};
use store::record::{Group, Present};
use store::{Read, schema};

use super::MAX_USERS;
use super::members::Newcomer;
use super::{
    BY_INVITATION, DISMISSED, MAX_NAME_BYTES, TOLD_TOGETHER, WORK_GROUP, check_count, check_length,
    check_texts, check_unique, required,
};
use crate::Services;
use crate::access::{Caller, role};
use crate::change::{Change, taken};
use crate::conversation_id;
use crate::error::{Result, ServiceError};
use crate::new_id::check_new_id;
use crate::notification::kind;

/// Random IDs tried before giving up.
const TRIES: usize = 10;

impl Services {
    /// Makes a group.
    pub async fn create_group(
        &self,
        caller: &Caller,
        mut request: CreateGroupReq,
    ) -> Result<CreateGroupResp> {
        check_count("memberUserIDs", request.member_user_ids.len(), MAX_USERS)?;
        check_count("adminUserIDs", request.admin_user_ids.len(), MAX_USERS)?;
        required("ownerUserID", &request.owner_user_id)?;
        let Some(info) = request.group_info.clone() else {
            return Err(ServiceError::args("groupInfo is empty"));
        };
        if info.group_type != WORK_GROUP {
            return Err(ServiceError::args("groupType must be 2"));
        }
        if info.status == DISMISSED {
            return Err(ServiceError::args("status is invalid"));
        }
        check_texts(&info)?;
        check_length("creatorUserID", &info.creator_user_id, MAX_NAME_BYTES)?;
        check_length("notificationUserID", &info.notification_user_id, MAX_NAME_BYTES)?;
        if !info.group_id.is_empty() {
            // UUIDs, as other systems have them.
            check_new_id("groupID", &info.group_id)?;
        }
        caller.must_be(&request.owner_user_id)?;
        for list in [&mut request.member_user_ids, &mut request.admin_user_ids] {
            list.iter_mut().for_each(|id| *id = self.typed(id));
        }
        let named = request.member_user_ids.iter().chain(&request.admin_user_ids);
        self.fetch_profiles(named.map(String::as_str)).await?;
        self.change(caller, move |change| change.create_group(request, info)).await
    }
}

impl Change<'_, '_> {
    fn create_group(
        &mut self,
        request: CreateGroupReq,
        mut info: GroupInfo,
    ) -> Result<CreateGroupResp> {
        let operator = self.caller.user_id.clone();
        let newcomers = newcomers(&request, &operator);
        let users = newcomers.iter().map(|newcomer| &newcomer.user_id);
        check_unique("the list of members", users.clone())?;
        for user_id in users.chain([&operator]) {
            if !schema::USERS.contains(self.tx, user_id)? {
                return Err(ServiceError::UserNotFound(user_id.clone()));
            }
        }
        if info.group_id.is_empty() {
            info.group_id = self.new_group_id()?;
        } else if schema::GROUPS.contains(self.tx, &info.group_id)? {
            return Err(ServiceError::GroupExists(info.group_id));
        } else {
            must_not_be_a_pair(self.tx, &info.group_id)?;
        }
        let group_id = info.group_id.clone();
        info.create_time = self.now;
        info.member_count = 0;
        info.owner_user_id.clear();
        let mut group = Group { info, next_join: 1 };
        let members = self.add_members(&group_id, &mut group, newcomers)?;
        schema::GROUPS.put(self.tx, &group_id, &group);
        schema::GROUP_ORDER.put(self.tx, (group.info.create_time, &group_id), &Present {});
        self.tell_created(&group_id, &group.info, members, request.send_message)?;
        Ok(CreateGroupResp { group_info: Some(group.info) })
    }

    fn tell_created(
        &mut self,
        group_id: &str,
        info: &GroupInfo,
        mut members: Vec<GroupMemberFullInfo>,
        in_chat: Option<bool>,
    ) -> Result<()> {
        let told = self.told(group_id)?;
        // Clients fetch all members of a new group anyway.
        members.truncate(TOLD_TOGETHER);
        let tips = GroupCreatedTips {
            group: told.group.clone(),
            op_user: told.operator.clone(),
            group_owner_user: members.iter().find(|m| m.role_level == role::OWNER).cloned(),
            member_list: members,
            operation_time: info.create_time,
            group_member_version: told.version,
            group_member_version_id: told.version_id.clone(),
        };
        self.tell_group(kind::GROUP_CREATED, group_id, &[], in_chat, &tips)?;
        if !info.notification.is_empty() {
            let tips = GroupInfoSetAnnouncementTips {
                op_user: told.operator,
                group: told.group,
                group_member_version: told.version,
                group_member_version_id: told.version_id,
            };
            self.tell_group(kind::ANNOUNCEMENT_SET, group_id, &[], Some(true), &tips)?;
        }
        Ok(())
    }

    /// An unused decimal ID.
    fn new_group_id(&self) -> Result<String> {
        for _ in 0..TRIES {
            let id = (self.services.random_u64() & 0xffff_ffff).to_string();
            if !schema::GROUPS.contains(self.tx, &id)? {
                return Ok(id);
            }
        }
        Err(ServiceError::Data("no unused group ID was found".into()))
    }
}

fn newcomers(request: &CreateGroupReq, operator: &str) -> Vec<Newcomer> {
    let newcomer = |user_id: &String, role_level| Newcomer {
        user_id: user_id.clone(),
        role_level,
        join_source: BY_INVITATION,
        inviter_user_id: operator.to_owned(),
        operator_user_id: operator.to_owned(),
    };
    let owner = [newcomer(&request.owner_user_id, role::OWNER)];
    let admins = request.admin_user_ids.iter().map(|id| newcomer(id, role::ADMIN));
    let members = request.member_user_ids.iter().map(|id| newcomer(id, role::ORDINARY));
    owner.into_iter().chain(admins).chain(members).collect()
}

/// The stream of group `a_b` would be that of the users `a` and `b`.
fn must_not_be_a_pair(from: &impl Read, group_id: &str) -> Result<()> {
    let stream = conversation_id::stream_of(&conversation_id::group(group_id));
    let mut of_others = schema::CONVERSATION_HEADS.contains(from, &stream)?;
    for (at, _) in group_id.match_indices('_') {
        let (a, b) = (&group_id[..at], &group_id[at + 1..]);
        of_others |= schema::USERS.contains(from, a)? && schema::USERS.contains(from, b)?;
    }
    if of_others { Err(taken(&stream)) } else { Ok(()) }
}
