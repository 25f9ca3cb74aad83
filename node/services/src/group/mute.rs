use proto::group::{
    CancelMuteGroupMemberReq, CancelMuteGroupMemberResp, CancelMuteGroupReq, CancelMuteGroupResp,
    MuteGroupMemberReq, MuteGroupMemberResp, MuteGroupReq, MuteGroupResp,
};
use proto::sdkws::{
    GroupCancelMutedTips, GroupMemberCancelMutedTips, GroupMemberMutedTips, GroupMutedTips,
};
use store::record::{Member, Number};
use store::version_log::Change as What;
use store::{Direction, schema};

use super::{INFO_ELEMENT, MUTED, NORMAL, member, must_be_in, must_exist, required};
use crate::Services;
use crate::access::Caller;
use crate::change::Change;
use crate::error::{Result, ServiceError};
use crate::federation::at_home;
use crate::notification::kind;

impl Services {
    /// Silences a member for some time.
    pub async fn mute_group_member(
        &self,
        caller: &Caller,
        request: MuteGroupMemberReq,
    ) -> Result<MuteGroupMemberResp> {
        at_home!(self, caller, request, &request.group_id, "/group/mute_group_member");
        required("groupID", &request.group_id)?;
        required("userID", &request.user_id)?;
        if request.muted_seconds == 0 {
            return Err(ServiceError::args("mutedSeconds is 0"));
        }
        self.change(caller, move |change| {
            let (group_id, user_id) = (&request.group_id, &request.user_id);
            let target = must_be_in(change.tx, group_id, user_id)?;
            change.caller.must_silence(change.tx, group_id, &target)?;
            let until = change.now + i64::from(request.muted_seconds) * 1_000;
            change.set_mute_end(group_id, user_id, until)?;
            let told = change.told(group_id)?;
            let tips = GroupMemberMutedTips {
                group: told.group,
                op_user: told.operator,
                operation_time: 0,
                muted_user: member(change.tx, group_id, user_id)?,
                muted_seconds: request.muted_seconds,
                group_member_version: told.version,
                group_member_version_id: told.version_id,
            };
            change.tell_group(kind::MEMBER_MUTED, group_id, &[], None, &tips)?;
            Ok(MuteGroupMemberResp {})
        })
        .await
    }

    /// Lets a silenced member speak again.
    pub async fn cancel_mute_group_member(
        &self,
        caller: &Caller,
        request: CancelMuteGroupMemberReq,
    ) -> Result<CancelMuteGroupMemberResp> {
        at_home!(self, caller, request, &request.group_id, "/group/cancel_mute_group_member");
        required("groupID", &request.group_id)?;
        required("userID", &request.user_id)?;
        self.change(caller, move |change| {
            let (group_id, user_id) = (&request.group_id, &request.user_id);
            let target = must_be_in(change.tx, group_id, user_id)?;
            change.caller.must_silence(change.tx, group_id, &target)?;
            change.unmute(group_id, user_id)?;
            Ok(CancelMuteGroupMemberResp {})
        })
        .await
    }

    /// Lets only those in charge of a group speak.
    pub async fn mute_group(
        &self,
        caller: &Caller,
        request: MuteGroupReq,
    ) -> Result<MuteGroupResp> {
        at_home!(self, caller, request, &request.group_id, "/group/mute_group");
        required("groupID", &request.group_id)?;
        self.change(caller, move |change| {
            let group_id = request.group_id.as_str();
            change.set_status(group_id, MUTED)?;
            let told = change.told(group_id)?;
            let tips = GroupMutedTips {
                group: told.group,
                op_user: told.operator,
                operation_time: 0,
                group_member_version: told.version,
                group_member_version_id: told.version_id,
            };
            change.tell_group(kind::GROUP_MUTED, group_id, &[], None, &tips)?;
            Ok(MuteGroupResp {})
        })
        .await
    }

    /// Lets everybody in a group speak again.
    pub async fn cancel_mute_group(
        &self,
        caller: &Caller,
        request: CancelMuteGroupReq,
    ) -> Result<CancelMuteGroupResp> {
        at_home!(self, caller, request, &request.group_id, "/group/cancel_mute_group");
        required("groupID", &request.group_id)?;
        self.change(caller, move |change| {
            let group_id = request.group_id.as_str();
            change.set_status(group_id, NORMAL)?;
            let told = change.told(group_id)?;
            let tips = GroupCancelMutedTips {
                group: told.group,
                op_user: told.operator,
                operation_time: 0,
                group_member_version: told.version,
                group_member_version_id: told.version_id,
            };
            change.tell_group(kind::GROUP_CANCEL_MUTED, group_id, &[], None, &tips)?;
            Ok(CancelMuteGroupResp {})
        })
        .await
    }
}

/// Kept mutes looked at in one step.
const STEP: usize = 1_000;

impl Services {
    /// Forgets the mutes of those who have left that have ended: to be called now and then.
    pub(crate) async fn forget_mutes(&self) -> Result<()> {
        let caller = Caller::node("");
        let mut after: Option<(String, String)> = None;
        loop {
            let (ended, last) = {
                let (view, now) = (self.store().view(), self.now());
                let (mut ended, mut last) = (Vec::new(), None);
                let (group_id, user_id) = after.clone().unwrap_or_default();
                let first = (group_id.as_str(), user_id.as_str());
                let rows = schema::KEPT_MUTES.range(&view, first, (), Direction::Ascending);
                for row in rows.take(STEP) {
                    let (key, until) = row?;
                    if until.value <= now {
                        ended.push(key.clone());
                    }
                    last = Some(key);
                }
                (ended, last)
            };
            if !ended.is_empty() {
                self.change_to_make_room(&caller, move |change| {
                    for (group_id, user_id) in &ended {
                        schema::KEPT_MUTES.delete(change.tx, (group_id, user_id));
                    }
                    Ok(())
                })
                .await?;
            }
            if last.is_none() || last == after {
                return Ok(());
            }
            after = last;
        }
    }
}

impl Change<'_, '_> {
    /// Keeps the mute of a member who leaves, if it has not ended.
    pub(crate) fn keep_mute(&mut self, group_id: &str, user_id: &str, member: &Member) {
        if member.mute_end > self.now {
            let until = Number { value: member.mute_end };
            schema::KEPT_MUTES.put(self.tx, (group_id, user_id), &until);
        }
    }

    /// Until when somebody is muted who comes into a group; 0: is not.
    pub(crate) fn take_mute(&mut self, group_id: &str, user_id: &str) -> Result<i64> {
        let key = (group_id, user_id);
        let Some(until) = schema::KEPT_MUTES.get(self.tx, key)? else { return Ok(0) };
        schema::KEPT_MUTES.delete(self.tx, key);
        Ok(if until.value > self.now { until.value } else { 0 })
    }

    /// Forgets the mutes of all who have left a group.
    pub(super) fn forget_mutes_of(&mut self, group_id: &str) -> Result<()> {
        let rows = schema::KEPT_MUTES.scan(self.tx, group_id).map(|row| Ok(row?.0.1));
        for user_id in rows.collect::<Result<Vec<String>>>()? {
            schema::KEPT_MUTES.delete(self.tx, (group_id, &user_id));
        }
        Ok(())
    }

    fn set_mute_end(&mut self, group_id: &str, user_id: &str, until: i64) -> Result<()> {
        let mut record = must_be_in(self.tx, group_id, user_id)?;
        record.mute_end = until;
        schema::MEMBERS.put(self.tx, (group_id, user_id), &record);
        self.step_members(group_id, [(user_id, What::Update)])
    }

    /// Ends the silence of a member and tells the group.
    pub(super) fn unmute(&mut self, group_id: &str, user_id: &str) -> Result<()> {
        self.set_mute_end(group_id, user_id, 0)?;
        let told = self.told(group_id)?;
        let tips = GroupMemberCancelMutedTips {
            group: told.group,
            op_user: told.operator,
            operation_time: 0,
            muted_user: member(self.tx, group_id, user_id)?,
            group_member_version: told.version,
            group_member_version_id: told.version_id,
        };
        self.tell_group(kind::MEMBER_CANCEL_MUTED, group_id, &[], None, &tips)?;
        Ok(())
    }

    fn set_status(&mut self, group_id: &str, status: i32) -> Result<()> {
        self.caller.must_manage_or_deny(self.tx, group_id)?;
        let mut group = must_exist(self.tx, group_id)?;
        if group.info.status == super::DISMISSED {
            return Err(ServiceError::Dismissed);
        }
        group.info.status = status;
        schema::GROUPS.put(self.tx, group_id, &group);
        self.step_members(group_id, [(INFO_ELEMENT, What::Update)])
    }
}
