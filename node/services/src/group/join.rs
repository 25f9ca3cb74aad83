use proto::group::{
    GroupApplicationResponseReq, GroupApplicationResponseResp, InviteUserToGroupReq,
    InviteUserToGroupResp, JoinGroupReq, JoinGroupResp,
};
use proto::qualified::is_remote;
use proto::sdkws::{
    GroupApplicationAcceptedTips, GroupApplicationRejectedTips, GroupMemberFullInfo,
    JoinGroupApplicationTips, MemberEnterTips, MemberInvitedTips,
};
use store::record::{Group, GroupRequest, Present};
use store::schema;

use super::members::Newcomer;
use super::{
    BY_INVITATION, DISMISSED, MAX_TEXT_BYTES, TOLD_TOGETHER, check_ids, check_length, managers,
    member, must_exist, profile, public, request, required,
};
use crate::Services;
use crate::access::{Caller, role};
use crate::change::Change;
use crate::conversation_id;
use crate::error::{Result, ServiceError};
use crate::federation::at_home;
use crate::notification::{Notification, To, kind};
use crate::user;

/// Whoever wants to may join.
const OPEN: i32 = 2;
/// Invited users need approval too.
const ALL_NEED_APPROVAL: i32 = 1;

const WAITING: i32 = 0;
const AGREED: i32 = 1;
const REFUSED: i32 = -1;

const AS_APPLICANT: i32 = 0;
const AS_MANAGER: i32 = 1;

impl Services {
    /// Joins a group that is open, or asks to.
    pub async fn join_group(
        &self,
        caller: &Caller,
        request: JoinGroupReq,
    ) -> Result<JoinGroupResp> {
        if let Some(home) = self.home_elsewhere(&request.group_id)? {
            return self.join_elsewhere(&home, caller, request).await;
        }
        required("groupID", &request.group_id)?;
        if !(1..=4).contains(&request.join_source) {
            return Err(ServiceError::args("joinSource is invalid"));
        }
        check_length("reqMessage", &request.req_message, MAX_TEXT_BYTES)?;
        check_length("ex", &request.ex, MAX_TEXT_BYTES)?;
        // The applicant goes by the name of inviter in this request.
        if request.inviter_user_id.is_empty() {
            return Err(if request.join_source == BY_INVITATION {
                ServiceError::args("inviterUserID is empty")
            } else {
                ServiceError::not_found("inviterUserID is empty")
            });
        }
        caller.must_be(&request.inviter_user_id)?;
        self.change(caller, move |change| change.join(request)).await?;
        Ok(JoinGroupResp {})
    }

    /// Answers somebody who asked to join.
    pub async fn group_application_response(
        &self,
        caller: &Caller,
        request: GroupApplicationResponseReq,
    ) -> Result<GroupApplicationResponseResp> {
        at_home!(self, caller, request, &request.group_id, "/group/group_application_response");
        required("groupID", &request.group_id)?;
        required("fromUserID", &request.from_user_id)?;
        check_length("handledMsg", &request.handled_msg, MAX_TEXT_BYTES)?;
        if ![AGREED, REFUSED].contains(&request.handle_result) {
            return Err(ServiceError::args("handleResult must be 1 or -1"));
        }
        self.change(caller, move |change| change.answer_application(request)).await?;
        Ok(GroupApplicationResponseResp {})
    }

    /// Brings users into a group, or asks for them where the group wants approval.
    pub async fn invite_user_to_group(
        &self,
        caller: &Caller,
        mut request: InviteUserToGroupReq,
    ) -> Result<InviteUserToGroupResp> {
        request.invited_user_ids.iter_mut().for_each(|id| *id = self.typed(id));
        at_home!(self, caller, request, &request.group_id, "/group/invite_user_to_group");
        required("groupID", &request.group_id)?;
        check_ids("invitedUserIDs", &request.invited_user_ids)?;
        self.fetch_profiles(request.invited_user_ids.iter().map(String::as_str)).await?;
        self.change(caller, move |change| change.invite(&request)).await?;
        Ok(InviteUserToGroupResp {})
    }
}

impl Change<'_, '_> {
    fn join(&mut self, asked: JoinGroupReq) -> Result<()> {
        let (group_id, applicant) = (asked.group_id.as_str(), asked.inviter_user_id.as_str());
        user::must_exist(self.tx, applicant)?;
        let mut group = must_exist(self.tx, group_id)?;
        if group.info.status == DISMISSED {
            return Err(ServiceError::Dismissed);
        }
        if schema::MEMBERS.contains(self.tx, (group_id, applicant))? {
            return Err(ServiceError::args(format!("{applicant} is in the group already")));
        }
        if group.info.need_verification == OPEN {
            let newcomer = Newcomer {
                user_id: applicant.to_owned(),
                role_level: role::ORDINARY,
                join_source: 0,
                inviter_user_id: applicant.to_owned(),
                operator_user_id: self.caller.user_id.clone(),
            };
            self.add_members(group_id, &mut group, vec![newcomer])?;
            schema::GROUPS.put(self.tx, group_id, &group);
            return self.tell_entered(group_id, applicant);
        }
        self.may_enter(group_id, applicant)?;
        let record = self.unanswered(&asked);
        self.put_request(group_id, applicant, &record);
        self.tell_application(group_id, &group, applicant, applicant, record)
    }

    /// Notes a request to join a group of another node, whose home decides.
    pub(crate) fn asked_elsewhere(&mut self, asked: &JoinGroupReq) -> Result<()> {
        let (group_id, applicant) = (self.services.typed(&asked.group_id), &asked.inviter_user_id);
        if is_remote(applicant) || !schema::USERS.contains(self.tx, applicant)? {
            return Ok(());
        }
        self.put_request(&group_id, applicant, &self.unanswered(asked));
        Ok(())
    }

    /// A request to join that nobody has answered yet.
    fn unanswered(&self, asked: &JoinGroupReq) -> GroupRequest {
        GroupRequest {
            handle_result: WAITING,
            req_msg: asked.req_message.clone(),
            requested: self.now,
            ex: asked.ex.clone(),
            join_source: asked.join_source,
            ..Default::default()
        }
    }

    fn put_request(&mut self, group_id: &str, user_id: &str, record: &GroupRequest) {
        schema::GROUP_REQUESTS.put(self.tx, (group_id, user_id), record);
        schema::GROUP_REQUESTS_SENT.put(self.tx, (user_id, group_id), &Present {});
    }

    /// Tells those in charge, who asks and who acts; everybody gets it once.
    fn tell_application(
        &mut self,
        group_id: &str,
        group: &Group,
        user_id: &str,
        applicant: &str,
        record: GroupRequest,
    ) -> Result<()> {
        let tips = JoinGroupApplicationTips {
            group: Some(group.info.clone()),
            applicant: Some(public(profile(self.tx, applicant)?)),
            req_msg: record.req_msg.clone(),
            uuid: self.services.new_id(),
            request: Some(request::wire(self.tx, user_id, record, None)?),
        };
        let from = self.caller.user_id.clone();
        let mut told = managers(self.tx, group_id)?;
        for user_id in [applicant, &from] {
            if !told.iter().any(|known| known == user_id) {
                told.push(user_id.to_owned());
            }
        }
        for user_id in &told {
            let notice = Notification::new(kind::JOIN_APPLICATION, &from, To::User(user_id));
            self.notify_of_group(group_id, &notice, &tips)?;
        }
        Ok(())
    }

    fn tell_entered(&mut self, group_id: &str, user_id: &str) -> Result<()> {
        let told = self.told(group_id)?;
        let tips = MemberEnterTips {
            group: told.group,
            entrant_user: member(self.tx, group_id, user_id)?,
            operation_time: self.now,
            group_member_version: told.version,
            group_member_version_id: told.version_id,
        };
        self.tell_group(kind::MEMBER_ENTER, group_id, &[], None, &tips)?;
        self.tell_opened(group_id, &[user_id.to_owned()])
    }

    fn tell_invited(
        &mut self,
        group_id: &str,
        invited: Vec<GroupMemberFullInfo>,
        inviter: Option<GroupMemberFullInfo>,
        in_chat: Option<bool>,
    ) -> Result<()> {
        let users: Vec<String> = invited.iter().map(|member| member.user_id.clone()).collect();
        let told = self.told(group_id)?;
        let tips = MemberInvitedTips {
            group: told.group,
            inviter_user: inviter.or_else(|| told.operator.clone()),
            op_user: told.operator,
            invited_user_list: invited,
            operation_time: 0,
            group_member_version: told.version,
            group_member_version_id: told.version_id,
        };
        self.tell_group(kind::MEMBER_INVITED, group_id, &[], in_chat, &tips)?;
        self.tell_opened(group_id, &users)
    }

    /// Tells new members that the group's conversation is open to them.
    fn tell_opened(&mut self, group_id: &str, user_ids: &[String]) -> Result<()> {
        let chat = conversation_id::group(group_id);
        for user_id in user_ids {
            self.conversations_changed(user_id, vec![chat.clone()])?;
        }
        Ok(())
    }

    fn answer_application(&mut self, answer: GroupApplicationResponseReq) -> Result<()> {
        let (group_id, applicant) = (answer.group_id.as_str(), answer.from_user_id.as_str());
        let mut group = must_exist(self.tx, group_id)?;
        self.caller.must_manage_or_miss(self.tx, group_id)?;
        let Some(mut record) = schema::GROUP_REQUESTS.get(self.tx, (group_id, applicant))? else {
            return Err(ServiceError::not_found(format!("{applicant} did not ask to join")));
        };
        if record.handle_result != WAITING {
            return Err(ServiceError::GroupRequestHandled);
        }
        user::must_exist(self.tx, applicant)?;
        let enters = answer.handle_result == AGREED
            && !schema::MEMBERS.contains(self.tx, (group_id, applicant))?;
        if enters && group.info.status == DISMISSED {
            return Err(ServiceError::Dismissed);
        }
        record.handle_result = answer.handle_result;
        record.handle_msg.clone_from(&answer.handled_msg);
        record.handle_user_id.clone_from(&self.caller.user_id);
        record.handled = self.now;
        self.put_request(group_id, applicant, &record);
        let mut entered = Vec::new();
        if enters {
            let newcomer = Newcomer {
                user_id: applicant.to_owned(),
                role_level: role::ORDINARY,
                join_source: record.join_source,
                inviter_user_id: record.inviter_user_id.clone(),
                operator_user_id: self.caller.user_id.clone(),
            };
            entered = self.add_members(group_id, &mut group, vec![newcomer])?;
            schema::GROUPS.put(self.tx, group_id, &group);
        }
        let inviter = record.inviter_user_id.clone();
        self.tell_answer(group_id, &group, applicant, record)?;
        if !enters {
            return Ok(());
        }
        if inviter.is_empty() {
            return self.tell_entered(group_id, applicant);
        }
        let inviter = member(self.tx, group_id, &inviter)?;
        self.tell_invited(group_id, entered, inviter, None)
    }

    /// Tells those in charge and the applicant what became of a request.
    fn tell_answer(
        &mut self,
        group_id: &str,
        group: &Group,
        applicant: &str,
        record: GroupRequest,
    ) -> Result<()> {
        let from = self.caller.user_id.clone();
        let agreed = record.handle_result == AGREED;
        let accepted = GroupApplicationAcceptedTips {
            group: Some(group.info.clone()),
            op_user: Some(self.operator(group_id)?),
            handle_msg: record.handle_msg.clone(),
            receiver_as: AS_MANAGER,
            uuid: self.services.new_id(),
            request: Some(request::wire(self.tx, applicant, record, None)?),
        };
        let mut told: Vec<(String, i32)> =
            managers(self.tx, group_id)?.into_iter().map(|id| (id, AS_MANAGER)).collect();
        told.retain(|(user_id, _)| user_id != applicant);
        told.push((applicant.to_owned(), AS_APPLICANT));
        for (user_id, receiver_as) in told {
            if agreed {
                let tips = GroupApplicationAcceptedTips { receiver_as, ..accepted.clone() };
                let kind = kind::APPLICATION_ACCEPTED;
                let notice = Notification::new(kind, &from, To::User(&user_id));
                self.notify_of_group(group_id, &notice, &tips)?;
            } else {
                let tips = GroupApplicationRejectedTips {
                    group: accepted.group.clone(),
                    op_user: accepted.op_user.clone(),
                    handle_msg: accepted.handle_msg.clone(),
                    receiver_as,
                    uuid: accepted.uuid.clone(),
                    request: accepted.request.clone(),
                };
                let kind = kind::APPLICATION_REJECTED;
                let notice = Notification::new(kind, &from, To::User(&user_id));
                self.notify_of_group(group_id, &notice, &tips)?;
            }
        }
        Ok(())
    }

    fn invite(&mut self, asked: &InviteUserToGroupReq) -> Result<()> {
        let group_id = asked.group_id.as_str();
        let mut group = must_exist(self.tx, group_id)?;
        if group.info.status == DISMISSED {
            return Err(ServiceError::Dismissed);
        }
        self.caller.must_be_member(self.tx, group_id)?;
        for user_id in &asked.invited_user_ids {
            user::must_exist(self.tx, user_id)?;
            if schema::MEMBERS.contains(self.tx, (group_id, user_id))? {
                return Err(ServiceError::Failed(format!("{user_id} is in the group already")));
            }
        }
        let manages = self.caller.must_manage_or_deny(self.tx, group_id).is_ok();
        let operator = self.caller.user_id.clone();
        if group.info.need_verification == ALL_NEED_APPROVAL && !manages {
            for user_id in &asked.invited_user_ids {
                let record = GroupRequest {
                    handle_result: WAITING,
                    requested: self.now,
                    join_source: BY_INVITATION,
                    inviter_user_id: operator.clone(),
                    ..Default::default()
                };
                self.put_request(group_id, user_id, &record);
                self.tell_application(group_id, &group, user_id, &operator, record)?;
            }
            return Ok(());
        }
        for chunk in asked.invited_user_ids.chunks(TOLD_TOGETHER) {
            let newcomers = chunk.iter().map(|user_id| Newcomer {
                user_id: user_id.clone(),
                role_level: role::ORDINARY,
                join_source: BY_INVITATION,
                inviter_user_id: operator.clone(),
                operator_user_id: operator.clone(),
            });
            let invited = self.add_members(group_id, &mut group, newcomers.collect())?;
            schema::GROUPS.put(self.tx, group_id, &group);
            self.tell_invited(group_id, invited, None, asked.send_message)?;
        }
        Ok(())
    }
}
