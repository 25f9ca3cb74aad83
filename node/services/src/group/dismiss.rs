//! The end of a group.

use proto::OperationId;
use proto::group::{DismissGroupReq, DismissGroupResp};
use proto::sdkws::GroupDismissedTips;
use store::record::Dismissal;
use store::version_log::{Change as What, List};
use store::{message_log, schema};

use super::{DISMISSED, INFO_ELEMENT, must_exist, required};
use crate::access::Caller;
use crate::change::Change;
use crate::conversation_id;
use crate::delivery::Delivery;
use crate::error::{Result, ServiceError};
use crate::federation::at_home;
use crate::notification::kind;
use crate::{Services, platform};

/// Members let go in one transaction; what others say has to wait for it.
const PART: usize = 500;

impl Services {
    /// Dismisses a group: nobody can write any more, and all members leave.
    ///
    /// With `deleteMember` nobody is told.
    pub async fn dismiss_group(
        &self,
        caller: &Caller,
        request: DismissGroupReq,
    ) -> Result<DismissGroupResp> {
        at_home!(self, caller, request, &request.group_id, "/group/dismiss_group");
        required("groupID", &request.group_id)?;
        let group_id = request.group_id.clone();
        if self.change_to_make_room(caller, move |change| change.dismiss(&request)).await? {
            // Goes on when the caller no longer waits.
            let rest = tokio::spawn(self.clone().let_all_go(group_id));
            rest.await.map_err(|error| ServiceError::Internal(error.to_string()))?;
        }
        Ok(DismissGroupResp {})
    }

    /// Goes on with the groups that the last stop of the node left half dismissed.
    pub(crate) fn resume_dismissals(&self) -> Result<()> {
        let view = self.store().view();
        for row in schema::DISMISSALS.scan(&view, ()) {
            tokio::spawn(self.clone().let_all_go(row?.0));
        }
        Ok(())
    }

    /// Lets the remaining members go, some at a time so that other changes are not held up.
    async fn let_all_go(self, group_id: String) {
        loop {
            match self.let_more_go(&group_id).await {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(%error, "a group is dismissed to its end at the next start");
                    break;
                }
            }
        }
    }

    /// Returns whether members are left.
    async fn let_more_go(&self, group_id: &str) -> Result<bool> {
        let dismissal = schema::DISMISSALS.get(&self.store().view(), group_id)?;
        let Some(dismissal) = dismissal else { return Ok(false) };
        let caller = Caller {
            user_id: dismissal.op_user.unwrap_or_default().user_id,
            platform_id: platform::ADMIN,
            operation_id: OperationId::new(&dismissal.operation_id),
            is_admin: false,
        };
        let group_id = group_id.to_owned();
        self.change_to_make_room(&caller, move |change| change.let_go(&group_id)).await
    }
}

impl Change<'_, '_> {
    /// Returns whether members are left.
    fn dismiss(&mut self, asked: &DismissGroupReq) -> Result<bool> {
        let group_id = asked.group_id.as_str();
        let mut group = must_exist(self.tx, group_id)?;
        if group.info.owner_user_id.is_empty() {
            return Err(ServiceError::not_found(format!("{group_id} has no owner any more")));
        }
        self.caller.must_own_group(group_id, &group.info.owner_user_id)?;
        if group.info.status == DISMISSED {
            return Err(ServiceError::Dismissed);
        }
        group.info.status = DISMISSED;
        self.forget_mutes_of(group_id)?;
        schema::GROUPS.put(self.tx, group_id, &group);
        self.step_members(group_id, [(INFO_ELEMENT, What::Update)])?;
        let setting = self.settings().notifications.get(&kind::GROUP_DISMISSED);
        let shown = setting.is_some_and(|setting| setting.is_send_msg);
        let dismissal = Dismissal {
            group: Some(group.info),
            op_user: Some(self.operator(group_id)?),
            operation_id: self.caller.operation_id.to_string(),
            silent: asked.delete_member,
            in_chat: !asked.delete_member && asked.send_message.unwrap_or(shown),
        };
        schema::DISMISSALS.put(self.tx, group_id, &dismissal);
        self.let_go(group_id)
    }

    /// Lets some members of a dismissed group go; when all are gone, tells those online.
    ///
    /// Not before, because told clients ask at once which groups their user is still in. Returns
    /// whether members are left.
    fn let_go(&mut self, group_id: &str) -> Result<bool> {
        let Some(dismissal) = schema::DISMISSALS.get(self.tx, group_id)? else { return Ok(false) };
        let mut group = must_exist(self.tx, group_id)?;
        let rows = schema::MEMBERS.scan(self.tx, group_id).take(PART + 1);
        let mut users = rows.map(|row| Ok(row?.0.1)).collect::<Result<Vec<String>>>()?;
        let left = users.len() > PART;
        users.truncate(PART);
        let chat = conversation_id::group(group_id);
        // They see the chat up to the word of its end.
        let end = message_log::newest(self.tx, &chat)?.0 + i64::from(dismissal.in_chat);
        for user_id in &users {
            self.remove_member(group_id, &mut group, user_id)?;
            self.bound_conversation(user_id, &chat, end)?;
            self.tx.step(List::Conversations, user_id, [(chat.as_str(), What::Update)])?;
        }
        if !left {
            group.info.member_count = 0;
        }
        schema::GROUPS.put(self.tx, group_id, &group);
        if !left {
            self.tell_dismissed(group_id, dismissal)?;
        }
        Ok(left)
    }

    fn tell_dismissed(&mut self, group_id: &str, dismissal: Dismissal) -> Result<()> {
        schema::DISMISSALS.delete(self.tx, group_id);
        if !dismissal.silent {
            let tips = GroupDismissedTips {
                group: dismissal.group,
                op_user: dismissal.op_user,
                operation_time: 0,
            };
            let in_chat = Some(dismissal.in_chat);
            self.tell_group(kind::GROUP_DISMISSED, group_id, &[], in_chat, &tips)?;
        }
        self.deliver(Delivery::Dismissed(group_id.to_owned()));
        Ok(())
    }
}
