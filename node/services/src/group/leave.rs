use proto::group::{KickGroupMemberReq, KickGroupMemberResp, QuitGroupReq, QuitGroupResp};
use proto::sdkws::{GroupMemberFullInfo, MemberKickedTips, MemberQuitTips};
use store::record::Group;
use store::schema;

use super::{
    TOLD_TOGETHER, check_ids, member, member_info, must_be_in, must_exist, profile, required,
};
use crate::Services;
use crate::access::{Caller, role};
use crate::change::Change;
use crate::conversation_id;
use crate::error::{Result, ServiceError};
use crate::federation::at_home;
use crate::notification::kind;

impl Services {
    /// Leaves a group.
    pub async fn quit_group(
        &self,
        caller: &Caller,
        mut request: QuitGroupReq,
    ) -> Result<QuitGroupResp> {
        at_home!(self, caller, request, &request.group_id, "/group/quit_group");
        required("groupID", &request.group_id)?;
        if request.user_id.is_empty() {
            request.user_id.clone_from(&caller.user_id);
        }
        caller.must_be(&request.user_id)?;
        self.change_to_make_room(caller, move |change| {
            let (group_id, user_id) = (request.group_id.as_str(), request.user_id.as_str());
            let mut group = must_exist(change.tx, group_id)?;
            let record = must_be_in(change.tx, group_id, user_id)?;
            if record.role_level == role::OWNER {
                return Err(ServiceError::denied("the owner cannot quit the group"));
            }
            let quit_user = member(change.tx, group_id, user_id)?;
            let leavers = [user_id.to_owned()];
            change.remove_members(group_id, &mut group, &leavers)?;
            schema::GROUPS.put(change.tx, group_id, &group);
            let told = change.told(group_id)?;
            let tips = MemberQuitTips {
                group: told.group,
                quit_user,
                operation_time: 0,
                group_member_version: told.version,
                group_member_version_id: told.version_id,
            };
            let seq = change.tell_group(kind::MEMBER_QUIT, group_id, &leavers, None, &tips)?;
            change.close_and_tell(group_id, &leavers, seq)?;
            Ok(QuitGroupResp {})
        })
        .await
    }

    /// Throws members out of a group.
    pub async fn kick_group(
        &self,
        caller: &Caller,
        request: KickGroupMemberReq,
    ) -> Result<KickGroupMemberResp> {
        at_home!(self, caller, request, &request.group_id, "/group/kick_group");
        required("groupID", &request.group_id)?;
        check_ids("kickedUserIDs", &request.kicked_user_ids)?;
        if request.kicked_user_ids.contains(&caller.user_id) {
            return Err(ServiceError::args("kickedUserIDs holds the caller"));
        }
        self.change_to_make_room(caller, move |change| {
            let group_id = request.group_id.as_str();
            let mut group = must_exist(change.tx, group_id)?;
            let infos = change.must_kick(&group, &request.kicked_user_ids)?;
            let parts = request.kicked_user_ids.chunks(TOLD_TOGETHER);
            for (kicked, infos) in parts.zip(infos.chunks(TOLD_TOGETHER)) {
                change.remove_members(group_id, &mut group, kicked)?;
                schema::GROUPS.put(change.tx, group_id, &group);
                let told = change.told(group_id)?;
                let tips = MemberKickedTips {
                    group: told.group,
                    op_user: told.operator,
                    kicked_user_list: infos.to_vec(),
                    operation_time: 0,
                    group_member_version: told.version,
                    group_member_version_id: told.version_id,
                };
                let (kind, in_chat) = (kind::MEMBER_KICKED, request.send_message);
                let seq = change.tell_group(kind, group_id, kicked, in_chat, &tips)?;
                change.close_and_tell(group_id, kicked, seq)?;
            }
            Ok(KickGroupMemberResp {})
        })
        .await
    }
}

impl Change<'_, '_> {
    /// Bounds what leavers see and tells them; the last thing said of a leaving.
    fn close_and_tell(&mut self, group_id: &str, leavers: &[String], seq: i64) -> Result<()> {
        self.close_conversation(group_id, leavers, seq)?;
        let chat = conversation_id::group(group_id);
        for user_id in leavers {
            self.conversations_changed(user_id, vec![chat.clone()])?;
        }
        Ok(())
    }

    /// The members to be thrown out, if the caller may do that.
    fn must_kick(&self, group: &Group, kicked: &[String]) -> Result<Vec<GroupMemberFullInfo>> {
        let group_id = group.info.group_id.as_str();
        if kicked.contains(&group.info.owner_user_id) {
            return Err(ServiceError::args("the owner cannot be kicked"));
        }
        let mut targets = Vec::with_capacity(kicked.len());
        for user_id in kicked {
            let Some(target) = schema::MEMBERS.get(self.tx, (group_id, user_id))? else {
                return Err(ServiceError::UserNotFound(user_id.clone()));
            };
            targets.push((user_id.as_str(), target));
        }
        self.caller.must_remove(self.tx, group_id, targets.iter().map(|(_, target)| target))?;
        let infos = targets.into_iter().map(|(user_id, target)| {
            Ok(member_info(group_id, &profile(self.tx, user_id)?, target))
        });
        infos.collect()
    }
}
