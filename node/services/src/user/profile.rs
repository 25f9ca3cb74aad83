//! Changing a profile, and who is told.

use proto::OperationId;
use proto::protobuf::{Int32Value, StringValue};
use proto::qualified::is_remote;
use proto::sdkws::{GroupMemberInfoSetTips, UserInfo, UserInfoUpdatedTips, UserInfoWithEx};
use proto::user::{
    SetGlobalRecvMessageOptReq, SetGlobalRecvMessageOptResp, UpdateUserInfoExReq,
    UpdateUserInfoExResp, UpdateUserInfoReq, UpdateUserInfoResp,
};
use store::record::ProfileNews;
use store::version_log::{self, Change as What, List};
use store::{Direction, schema};

use super::{check_profile, must_exist};
use crate::Services;
use crate::access::Caller;
use crate::change::Change;
use crate::error::{Result, ServiceError};
use crate::group::{DISMISSED, member_info};
use crate::notification::{Notification, To, kind};
use crate::platform;

/// Friends told of a new name or face in one change.
const FRIENDS_PER_CHANGE: usize = 200;

impl Services {
    /// Changes the fields of a profile that are not empty.
    pub async fn update_user_info(
        &self,
        caller: &Caller,
        request: UpdateUserInfoReq,
    ) -> Result<UpdateUserInfoResp> {
        let Some(info) = request.user_info else {
            return Err(ServiceError::args("userInfo is empty"));
        };
        let text = |value: String| (!value.is_empty()).then_some(StringValue { value });
        let edit = UserInfoWithEx {
            user_id: info.user_id,
            nickname: text(info.nickname),
            face_url: text(info.face_url),
            ex: text(info.ex),
            global_recv_msg_opt: (info.global_recv_msg_opt != 0)
                .then_some(Int32Value { value: info.global_recv_msg_opt }),
        };
        self.edit_profile(caller, edit).await?;
        Ok(UpdateUserInfoResp {})
    }

    /// Changes the fields of a profile that are present.
    pub async fn update_user_info_ex(
        &self,
        caller: &Caller,
        request: UpdateUserInfoExReq,
    ) -> Result<UpdateUserInfoExResp> {
        let Some(edit) = request.user_info else {
            return Err(ServiceError::args("userInfo is empty"));
        };
        self.edit_profile(caller, edit).await?;
        Ok(UpdateUserInfoExResp {})
    }

    /// Sets whether a user wants messages at all.
    pub async fn set_global_msg_recv_opt(
        &self,
        caller: &Caller,
        request: SetGlobalRecvMessageOptReq,
    ) -> Result<SetGlobalRecvMessageOptResp> {
        if !(0..=2).contains(&request.global_recv_msg_opt) {
            return Err(ServiceError::args("globalRecvMsgOpt is invalid"));
        }
        let edit = UserInfoWithEx {
            user_id: request.user_id,
            global_recv_msg_opt: Some(Int32Value { value: request.global_recv_msg_opt }),
            ..Default::default()
        };
        self.edit_profile(caller, edit).await?;
        Ok(SetGlobalRecvMessageOptResp {})
    }

    async fn edit_profile(&self, caller: &Caller, edit: UserInfoWithEx) -> Result<()> {
        if edit.user_id.is_empty() {
            return Err(ServiceError::args("userID is empty"));
        }
        check_profile(given(&edit.nickname), given(&edit.face_url), given(&edit.ex))?;
        caller.must_be(&edit.user_id)?;
        if is_remote(&edit.user_id) {
            return Err(ServiceError::args("only its own node changes a profile"));
        }
        let user_id = edit.user_id.clone();
        if self.change(caller, move |change| change.edit_profile(edit)).await? {
            tokio::spawn(self.clone().tell_remaining_friends(user_id));
        }
        Ok(())
    }

    /// Takes up what the last stop of the node interrupted.
    pub async fn resume(&self) -> Result<()> {
        self.fill_indices().await?;
        let waiting: Vec<String> = {
            let view = self.store().view();
            let users = schema::PROFILE_NEWS.scan(&view, ()).map(|row| Ok(row?.0));
            users.collect::<Result<_>>()?
        };
        for user_id in waiting {
            tokio::spawn(self.clone().tell_remaining_friends(user_id));
        }
        self.resume_dismissals()?;
        self.resume_mentions()?;
        self.resume_returns()
    }

    /// As [`tell_remaining_friends`](Self::tell_remaining_friends), from within a change.
    pub(crate) fn tell_friends_later(&self, user_id: String) {
        self.inner.runtime.spawn(self.clone().tell_remaining_friends(user_id));
    }

    /// Tells the friends who have not yet been told of a new name or face, some at a time so that
    /// other changes are not held up.
    async fn tell_remaining_friends(self, user_id: String) {
        loop {
            match self.tell_more_friends(&user_id).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(%error, "friends are told of a new name at the next start");
                    break;
                }
            }
        }
    }

    /// Returns whether friends are left to be told.
    async fn tell_more_friends(&self, user_id: &str) -> Result<bool> {
        let news = schema::PROFILE_NEWS.get(&self.store().view(), user_id)?;
        let Some(news) = news else { return Ok(false) };
        let caller = Caller {
            is_admin: self.settings().is_admin(&news.from),
            user_id: news.from,
            platform_id: platform::ADMIN,
            operation_id: OperationId::new(&news.operation_id),
        };
        let user_id = user_id.to_owned();
        self.change(&caller, move |change| match schema::PROFILE_NEWS.get(change.tx, &user_id)? {
            Some(news) => change.tell_friends(&user_id, &news.next),
            None => Ok(false),
        })
        .await
    }
}

fn given(text: &Option<StringValue>) -> &str {
    text.as_ref().map_or("", |text| &text.value)
}

impl Change<'_, '_> {
    /// Changes a profile; returns whether friends are left to be told.
    pub(crate) fn edit_profile(&mut self, edit: UserInfoWithEx) -> Result<bool> {
        let before = must_exist(self.tx, &edit.user_id)?;
        let mut user = before.clone();
        if let Some(nickname) = edit.nickname {
            user.nickname = nickname.value;
        }
        if let Some(face_url) = edit.face_url {
            user.face_url = face_url.value;
        }
        if let Some(ex) = edit.ex {
            user.ex = ex.value;
        }
        if let Some(option) = edit.global_recv_msg_opt {
            user.global_recv_msg_opt = option.value;
        }
        if user != before {
            schema::USERS.put(self.tx, &user.user_id, &user);
            self.cross_profile(&user.user_id)?;
        }
        let (from, tips) =
            (self.caller.user_id.clone(), UserInfoUpdatedTips { user_id: user.user_id.clone() });
        let told = Notification::new(kind::USER_INFO_UPDATED, &from, To::User(&user.user_id));
        self.notify(&told, &tips)?;
        if user.nickname == before.nickname && user.face_url == before.face_url {
            return Ok(false);
        }
        self.tell_groups(&user)?;
        self.tell_friends(&user.user_id, "")
    }

    /// Steps the member logs of the groups in which the new name or face shows.
    fn tell_groups(&mut self, user: &UserInfo) -> Result<()> {
        let user_id = user.user_id.as_str();
        let joined = schema::JOINED.scan(self.tx, user_id).map(|row| Ok(row?.0.1));
        for group_id in joined.collect::<Result<Vec<String>>>()? {
            let Some(member) = schema::MEMBERS.get(self.tx, (&group_id, user_id))? else {
                continue;
            };
            if !member.nickname.is_empty() && !member.face_url.is_empty() {
                continue;
            }
            let Some(group) = schema::GROUPS.get(self.tx, &group_id)? else { continue };
            if group.info.status == DISMISSED {
                continue;
            }
            let version = self.tx.step(List::Members, &group_id, [(user_id, What::Update)])?;
            let log = version_log::version(self.tx, List::Members, &group_id)?;
            let tips = GroupMemberInfoSetTips {
                group: Some(group.info),
                op_user: Some(self.operator(&group_id)?),
                changed_user: Some(member_info(&group_id, user, member)),
                group_member_version: version,
                group_member_version_id: log.id,
                ..Default::default()
            };
            let from = self.caller.user_id.clone();
            let told = Notification::new(kind::MEMBER_INFO_SET, &from, To::Group(&group_id, &[]));
            self.notify(&told, &tips)?;
        }
        Ok(())
    }

    /// Steps the friend logs of those who have the user in their list, from the friend `next` on.
    ///
    /// One change tells only so many; the rest is noted and told by the changes that follow, each
    /// of which begins where the one before it ended. Returns whether friends are left.
    fn tell_friends(&mut self, user_id: &str, next: &str) -> Result<bool> {
        let rows = schema::FRIENDS.range(self.tx, (user_id, next), user_id, Direction::Ascending);
        let listed = rows.take(FRIENDS_PER_CHANGE + 1).map(|row| Ok(row?.0.1));
        let mut listed = listed.collect::<Result<Vec<String>>>()?;
        let left = if listed.len() > FRIENDS_PER_CHANGE { listed.pop() } else { None };
        match &left {
            Some(next) => {
                let news = ProfileNews {
                    next: next.clone(),
                    from: self.caller.user_id.clone(),
                    operation_id: self.caller.operation_id.to_string(),
                };
                schema::PROFILE_NEWS.put(self.tx, user_id, &news);
            }
            None => schema::PROFILE_NEWS.delete(self.tx, user_id),
        }
        let mut friends = Vec::with_capacity(listed.len());
        for friend in listed {
            // Whoever took the user off the list shows neither name nor face.
            if schema::FRIENDS.contains(self.tx, (&friend, user_id))? {
                self.tx.step(List::Friends, &friend, [(user_id, What::Update)])?;
                friends.push(friend);
            }
        }
        let tips = UserInfoUpdatedTips { user_id: user_id.to_owned() };
        self.notify_each(kind::FRIEND_INFO_UPDATED, friends, &tips)?;
        Ok(left.is_some())
    }
}
