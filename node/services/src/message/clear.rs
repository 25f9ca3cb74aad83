//! Clearing whole conversations, for oneself or for everybody.

use std::collections::BTreeSet;

use proto::msg::{
    ClearConversationsMsgReq, ClearConversationsMsgResp, DeleteSyncOpt, UserClearAllMsgReq,
    UserClearAllMsgResp,
};
use proto::sdkws::ClearConversationTips;
use store::{message_log, schema};

use super::pull::seqs;
use super::{everybody_in, required, required_list};
use crate::Services;
use crate::access::{Caller, takes_part};
use crate::change::Change;
use crate::conversation;
use crate::error::{Result, ServiceError};
use crate::notification::{Notification, To, kind};

/// Conversations cleared in one transaction.
const CHUNK: usize = 100;

impl Services {
    /// Clears conversations of a user, or with `IsSyncOther` for everybody in them.
    pub async fn clear_conversation_msg(
        &self,
        caller: &Caller,
        request: ClearConversationsMsgReq,
    ) -> Result<ClearConversationsMsgResp> {
        required_list("conversationIDs", &request.conversation_ids)?;
        required("userID", &request.user_id)?;
        caller.must_be(&request.user_id)?;
        let ClearConversationsMsgReq { conversation_ids, user_id, delete_sync_opt } = request;
        let distinct: BTreeSet<String> = conversation_ids.into_iter().collect();
        let sync = delete_sync_opt.unwrap_or_default();
        let ids = distinct.into_iter().collect();
        self.clear(caller, &user_id, ids, sync, clear_for_everybody).await?;
        Ok(ClearConversationsMsgResp {})
    }

    /// Clears all conversations of a user, or with `IsSyncOther` for everybody in them; those that the
    /// user may not clear for everybody, for the user.
    pub async fn user_clear_all_msg(
        &self,
        caller: &Caller,
        request: UserClearAllMsgReq,
    ) -> Result<UserClearAllMsgResp> {
        required("userID", &request.user_id)?;
        caller.must_be(&request.user_id)?;
        let UserClearAllMsgReq { user_id, delete_sync_opt } = request;
        let listed = conversation::list(&self.store().view(), &user_id)?;
        let ids = listed.into_iter().map(|(id, _)| id).collect();
        let sync = delete_sync_opt.unwrap_or_default();
        self.clear(caller, &user_id, ids, sync, clear_as_far_as_allowed).await?;
        Ok(UserClearAllMsgResp {})
    }

    async fn clear(
        &self,
        caller: &Caller,
        user_id: &str,
        ids: Vec<String>,
        sync: DeleteSyncOpt,
        for_everybody: ClearOne,
    ) -> Result<()> {
        for chunk in ids.chunks(CHUNK) {
            let (user_id, chunk) = (user_id.to_owned(), chunk.to_vec());
            self.change_to_make_room(caller, move |change| {
                let mut cleared = Vec::new();
                for id in chunk {
                    let done = if sync.is_sync_other {
                        for_everybody(change, &user_id, &id, None)?
                    } else {
                        clear_for_oneself(change, &user_id, &id)?
                    };
                    if done {
                        cleared.push(id);
                    }
                }
                if sync.is_sync_self && !sync.is_sync_other && !cleared.is_empty() {
                    tell(change, &user_id, To::User(&user_id), cleared)?;
                }
                Ok(())
            })
            .await?;
        }
        if sync.is_sync_other && self.store().is_full() {
            self.inner.runtime.spawn(self.clone().remove_cleared(ids));
        }
        Ok(())
    }
}

/// Clears one conversation, as far as a seq; `false` if it is not there.
type ClearOne = fn(&mut Change<'_, '_>, &str, &str, Option<i64>) -> Result<bool>;

/// As [`clear_for_everybody`], for the user alone where that is not allowed.
fn clear_as_far_as_allowed(
    change: &mut Change<'_, '_>,
    user_id: &str,
    id: &str,
    through: Option<i64>,
) -> Result<bool> {
    match clear_for_everybody(change, user_id, id, through) {
        Err(ServiceError::NoPermission(_)) => clear_for_oneself(change, user_id, id),
        done => done,
    }
}

/// Hides what was said so far from the user; `false` if the conversation is not there.
fn clear_for_oneself(change: &mut Change<'_, '_>, user_id: &str, id: &str) -> Result<bool> {
    if conversation::find(change.tx, user_id, id)?.is_none() {
        return Ok(false);
    }
    let newest = seqs(change.tx, user_id, id)?.max_seq;
    if change.edit_conversation(user_id, id, |record| record.min_seq = newest + 1)? {
        change.conversations_changed(user_id, vec![id.to_owned()])?;
    }
    change.raise_read(user_id, id, newest)?;
    Ok(true)
}

/// Hides what was said so far, or `through` a seq, from everybody; `false` if the conversation is
/// not there.
///
/// Either side of a pair may, and who manages the group.
pub(crate) fn clear_for_everybody(
    change: &mut Change<'_, '_>,
    user_id: &str,
    id: &str,
    through: Option<i64>,
) -> Result<bool> {
    let Some(record) = conversation::find(change.tx, user_id, id)? else { return Ok(false) };
    let Some(mut head) = schema::CONVERSATION_HEADS.get(change.tx, id)? else { return Ok(false) };
    if !takes_part(change.tx, user_id, id)? {
        return Ok(false);
    }
    if !head.group_id.is_empty() {
        let stranger = || ServiceError::denied(format!("{user_id} left {}", head.group_id));
        change.caller.must_manage(change.tx, &head.group_id, stranger)?;
    }
    let (newest, _) = message_log::newest_of(change.tx, head.number)?;
    let newest = through.map_or(newest, |through| through.clamp(0, newest));
    head.min_seq = head.min_seq.max(newest + 1);
    schema::CONVERSATION_HEADS.put(change.tx, id, &head);
    change.cross_clear(user_id, &record.user_id, head.number, newest)?;
    change.cleared_in_group(&record.group_id, head.min_seq);
    change.raise_read(user_id, id, newest)?;
    tell(change, user_id, everybody_in(&record), vec![id.to_owned()])?;
    Ok(true)
}

fn tell(
    change: &mut Change<'_, '_>,
    user_id: &str,
    to: To<'_>,
    conversation_ids: Vec<String>,
) -> Result<()> {
    let tips = ClearConversationTips { user_id: user_id.to_owned(), conversation_ids };
    change.notify(&Notification::new(kind::CLEAR_CONVERSATION, user_id, to), &tips)?;
    Ok(())
}
