use std::collections::HashSet;

use proto::group::{
    SetGroupMemberInfo, SetGroupMemberInfoReq, SetGroupMemberInfoResp, TransferGroupOwnerReq,
    TransferGroupOwnerResp,
};
use proto::sdkws::{GroupMemberInfoSetTips, GroupOwnerTransferredTips};
use store::schema;
use store::version_log::Change as What;

use super::{
    DISMISSED, MAX_NAME_BYTES, MAX_TEXT_BYTES, MAX_USERS, check_count, check_length, member,
    must_exist, required,
};
use crate::Services;
use crate::access::{Caller, role};
use crate::change::Change;
use crate::error::{Result, ServiceError};
use crate::federation::at_home;
use crate::notification::kind;

impl Services {
    /// Makes another member the owner; the old owner gets that member's rank.
    pub async fn transfer_group(
        &self,
        caller: &Caller,
        request: TransferGroupOwnerReq,
    ) -> Result<TransferGroupOwnerResp> {
        at_home!(self, caller, request, &request.group_id, "/group/transfer_group");
        required("groupID", &request.group_id)?;
        required("oldOwnerUserID", &request.old_owner_user_id)?;
        required("newOwnerUserID", &request.new_owner_user_id)?;
        self.change(caller, move |change| change.transfer(&request)).await?;
        Ok(TransferGroupOwnerResp {})
    }

    /// Changes how members are called, what they look like, and their rank.
    pub async fn set_group_member_info(
        &self,
        caller: &Caller,
        request: SetGroupMemberInfoReq,
    ) -> Result<SetGroupMemberInfoResp> {
        if request.members.is_empty() {
            return Err(ServiceError::args("members is empty"));
        }
        // They are of one group in what clients send; a mixed list is done here, and refused.
        if let [first, rest @ ..] = request.members.as_slice()
            && rest.iter().all(|member| member.group_id == first.group_id)
        {
            at_home!(self, caller, request, &first.group_id, "/group/set_group_member_info");
        }
        check_count("members", request.members.len(), MAX_USERS)?;
        let mut seen = HashSet::new();
        for edit in &request.members {
            required("groupID", &edit.group_id)?;
            required("userID", &edit.user_id)?;
            match edit.role_level.as_ref().map(|level| level.value) {
                Some(role::OWNER) => {
                    return Err(ServiceError::denied("a group is handed over by transfer_group"));
                }
                None | Some(role::ADMIN | role::ORDINARY) => {}
                Some(_) => return Err(ServiceError::args("roleLevel must be 60 or 20")),
            }
            let text = |text: &Option<proto::protobuf::StringValue>| {
                text.as_ref().map_or(String::new(), |text| text.value.clone())
            };
            check_length("nickname", &text(&edit.nickname), MAX_NAME_BYTES)?;
            check_length("faceURL", &text(&edit.face_url), MAX_TEXT_BYTES)?;
            check_length("ex", &text(&edit.ex), MAX_TEXT_BYTES)?;
            if !seen.insert((&edit.group_id, &edit.user_id)) {
                return Err(ServiceError::args("a member is named twice"));
            }
        }
        self.change(caller, move |change| {
            for edit in &request.members {
                change.must_edit_member(edit)?;
            }
            for edit in &request.members {
                change.edit_member(edit)?;
            }
            Ok(SetGroupMemberInfoResp {})
        })
        .await
    }
}

impl Change<'_, '_> {
    fn transfer(&mut self, request: &TransferGroupOwnerReq) -> Result<()> {
        let group_id = request.group_id.as_str();
        let (old_id, new_id) =
            (request.old_owner_user_id.as_str(), request.new_owner_user_id.as_str());
        let mut group = must_exist(self.tx, group_id)?;
        if group.info.status == DISMISSED {
            return Err(ServiceError::Dismissed);
        }
        if old_id == new_id {
            return Err(ServiceError::args("old and new owner are the same"));
        }
        let mut ranked = [None, None];
        for (slot, user_id) in ranked.iter_mut().zip([old_id, new_id]) {
            *slot = schema::MEMBERS.get(self.tx, (group_id, user_id))?;
        }
        let [Some(mut old), Some(mut new)] = ranked else {
            return Err(ServiceError::args("old and new owner must be members"));
        };
        self.caller.must_own_group(group_id, &group.info.owner_user_id)?;
        if old.role_level != role::OWNER {
            return Err(ServiceError::args(format!("{old_id} is not the owner")));
        }
        if new.mute_end > self.now {
            self.unmute(group_id, new_id)?;
            new.mute_end = 0;
        }
        let rank = new.role_level;
        self.set_role(group_id, old_id, &mut old, rank);
        self.set_role(group_id, new_id, &mut new, role::OWNER);
        new_id.clone_into(&mut group.info.owner_user_id);
        schema::GROUPS.put(self.tx, group_id, &group);
        self.step_order(group_id, &[old_id, new_id])?;
        let told = self.told(group_id)?;
        let tips = GroupOwnerTransferredTips {
            group: told.group,
            op_user: told.operator,
            new_group_owner: member(self.tx, group_id, new_id)?,
            old_group_owner: String::new(),
            operation_time: 0,
            old_group_owner_info: member(self.tx, group_id, old_id)?,
            group_member_version: told.version,
            group_member_version_id: told.version_id,
        };
        self.tell_group(kind::OWNER_TRANSFERRED, group_id, &[], None, &tips)?;
        Ok(())
    }

    /// Whether the caller may change a member so.
    fn must_edit_member(&self, edit: &SetGroupMemberInfo) -> Result<()> {
        let (group_id, user_id) = (edit.group_id.as_str(), edit.user_id.as_str());
        self.caller.must_be_member(self.tx, group_id)?;
        let Some(target) = schema::MEMBERS.get(self.tx, (group_id, user_id))? else {
            return Err(ServiceError::args(format!("{user_id} is not in {group_id}")));
        };
        let level = edit.role_level.as_ref().map(|level| level.value);
        self.caller.must_edit_member(self.tx, group_id, user_id, &target, level)?;
        if level.is_some() && target.role_level == role::OWNER {
            return Err(ServiceError::args("the owner's rank changes by transfer_group"));
        }
        Ok(())
    }

    fn edit_member(&mut self, edit: &SetGroupMemberInfo) -> Result<()> {
        let (group_id, user_id) = (edit.group_id.as_str(), edit.user_id.as_str());
        let mut record = super::must_be_in(self.tx, group_id, user_id)?;
        let mut named = false;
        for (text, slot) in [
            (&edit.nickname, &mut record.nickname),
            (&edit.face_url, &mut record.face_url),
            (&edit.ex, &mut record.ex),
        ] {
            if let Some(text) = text {
                slot.clone_from(&text.value);
                named = true;
            }
        }
        let mut sort_version = 0;
        match &edit.role_level {
            Some(level) => {
                self.set_role(group_id, user_id, &mut record, level.value);
                sort_version = self.step_order(group_id, &[user_id])?;
            }
            None if named => {
                schema::MEMBERS.put(self.tx, (group_id, user_id), &record);
                self.step_members(group_id, [(user_id, What::Update)])?;
            }
            None => return Ok(()),
        }
        let told = self.told(group_id)?;
        let tips = GroupMemberInfoSetTips {
            group: told.group,
            op_user: told.operator,
            operation_time: 0,
            changed_user: member(self.tx, group_id, user_id)?,
            group_member_version: told.version,
            group_member_version_id: told.version_id,
            group_sort_version: sort_version,
        };
        if let Some(level) = &edit.role_level {
            let kind = match level.value {
                role::ADMIN => kind::MEMBER_SET_TO_ADMIN,
                _ => kind::MEMBER_SET_TO_ORDINARY,
            };
            self.tell_group(kind, group_id, &[], None, &tips)?;
        }
        if named {
            self.tell_group(kind::MEMBER_INFO_SET, group_id, &[], None, &tips)?;
        }
        Ok(())
    }
}
