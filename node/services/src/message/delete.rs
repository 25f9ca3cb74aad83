//! Deleting single messages, for oneself or for everybody.

use std::collections::BTreeSet;

use proto::msg::{
    DeleteMsgPhysicalBySeqReq, DeleteMsgPhysicalBySeqResp, DeleteMsgsReq, DeleteMsgsResp,
};
use proto::qualified::is_remote;
use proto::sdkws::DeleteMsgsTips;
use store::record::Present;
use store::{message_log, schema};

use super::view::window;
use super::{everybody_in, required, required_list};
use crate::Services;
use crate::access::{Caller, role_over_message, takes_part};
use crate::change::Change;
use crate::conversation;
use crate::conversation_id::group_of;
use crate::error::{Result, ServiceError};
use crate::federation::at_home;
use crate::notification::{Notification, To, kind};

/// Stands for everybody among those who have deleted a message.
pub(super) const EVERYBODY: &str = "";

impl Services {
    /// Deletes messages for a user, or with `IsSyncOther` for everybody.
    pub async fn delete_msgs(
        &self,
        caller: &Caller,
        request: DeleteMsgsReq,
    ) -> Result<DeleteMsgsResp> {
        required("conversationID", &request.conversation_id)?;
        required_list("seqs", &request.seqs)?;
        required("userID", &request.user_id)?;
        caller.must_be(&request.user_id)?;
        if request.delete_sync_opt.is_some_and(|sync| sync.is_sync_other) {
            at_home!(self, caller, request, group_of(&request.conversation_id), "/msg/delete_msgs");
        }
        self.change_to_make_room(caller, move |change| delete(change, request)).await
    }

    /// Erases messages for everybody, without telling anybody.
    pub async fn delete_msg_physical_by_seq(
        &self,
        caller: &Caller,
        request: DeleteMsgPhysicalBySeqReq,
    ) -> Result<DeleteMsgPhysicalBySeqResp> {
        caller.must_be_admin()?;
        required("conversationID", &request.conversation_id)?;
        required_list("seqs", &request.seqs)?;
        self.change_to_make_room(caller, move |change| {
            let DeleteMsgPhysicalBySeqReq { conversation_id, seqs } = request;
            let head = schema::CONVERSATION_HEADS.get(change.tx, &conversation_id)?;
            if let Some(head) = head {
                for seq in seqs {
                    erase(change, head.number, seq)?;
                }
            }
            Ok(DeleteMsgPhysicalBySeqResp {})
        })
        .await
    }
}

/// Deletes messages on behalf of the caller.
pub(crate) fn delete(
    change: &mut Change<'_, '_>,
    request: DeleteMsgsReq,
) -> Result<DeleteMsgsResp> {
    let DeleteMsgsReq { conversation_id, seqs, user_id, delete_sync_opt } = request;
    if !takes_part(change.tx, &user_id, &conversation_id)? {
        return Err(ServiceError::denied(format!(
            "{user_id} does not take part in {conversation_id}"
        )));
    }
    let missing = || ServiceError::not_found(format!("no conversation {conversation_id}"));
    let record = conversation::find(change.tx, &user_id, &conversation_id)?.ok_or_else(missing)?;
    let window = window(change.tx, &user_id, &conversation_id)?.ok_or_else(missing)?;
    let number = window.number;
    let seen: BTreeSet<i64> = seqs
        .iter()
        .copied()
        .filter(|seq| (window.low.max(1)..=window.high).contains(seq))
        .collect();
    let sync = delete_sync_opt.unwrap_or_default();
    let everybody = sync.is_sync_other;
    if everybody {
        cross(change, &user_id, &record.user_id, number, &seen)?;
    }
    for &seq in &seen {
        if everybody {
            must_be_theirs(change, &user_id, &record.group_id, number, seq)?;
            erase(change, number, seq)?;
            change.changed_in_group(&record.group_id, seq);
        } else {
            hide(change, &user_id, number, seq)?;
        }
    }
    // Clients delete what they are told: no more than the user could see, and had a right to.
    if !seen.is_empty() && (everybody || sync.is_sync_self) {
        let seqs = seqs.into_iter().filter(|seq| seen.contains(seq)).collect();
        let to = if everybody { everybody_in(&record) } else { To::User(&user_id) };
        let tips = DeleteMsgsTips { user_id: user_id.clone(), conversation_id, seqs };
        let notification =
            Notification { stored: true, ..Notification::new(kind::DELETE_MSGS, &user_id, to) };
        change.notify(&notification, &tips)?;
    }
    Ok(DeleteMsgsResp {})
}

/// Tells the peer's node which messages are gone for both.
fn cross(
    change: &mut Change<'_, '_>,
    user_id: &str,
    peer: &str,
    number: u64,
    seqs: &BTreeSet<i64>,
) -> Result<()> {
    if !is_remote(peer) {
        return Ok(());
    }
    let mut messages = Vec::new();
    for &seq in seqs {
        let message = schema::MESSAGES.get(change.tx, (number, seq.cast_unsigned()))?;
        if let Some(message) = message.filter(|message| !message_log::is_erased(message)) {
            messages.extend(change.reference(&message.send_id, number, seq)?);
        }
    }
    change.cross_delete(user_id, peer, messages)
}

/// In a group, only who could revoke a message may delete it for everybody.
fn must_be_theirs(
    change: &Change<'_, '_>,
    user_id: &str,
    group_id: &str,
    number: u64,
    seq: i64,
) -> Result<()> {
    if group_id.is_empty() || change.caller.is_admin {
        return Ok(());
    }
    match schema::MESSAGES.get(change.tx, (number, seq.cast_unsigned()))? {
        Some(message) if !message_log::is_erased(&message) => {
            role_over_message(change.tx, group_id, user_id, &message.send_id).map(drop)
        }
        _ => Ok(()),
    }
}

fn hide(change: &mut Change<'_, '_>, user_id: &str, number: u64, seq: i64) -> Result<()> {
    let key = (number, seq.cast_unsigned());
    if !schema::MESSAGES.contains(change.tx, key)? {
        return Ok(());
    }
    schema::HIDDEN_MESSAGES.put(change.tx, (key.0, key.1, user_id), &Present {});
    Ok(())
}

/// Erases one message and what was noted about it.
pub(crate) fn erase(change: &mut Change<'_, '_>, number: u64, seq: i64) -> Result<()> {
    if change.tx.erase(number, seq)? {
        forget(change, number, seq)?;
        let key = (number, seq.cast_unsigned(), EVERYBODY);
        schema::HIDDEN_MESSAGES.put(change.tx, key, &Present {});
    }
    Ok(())
}

/// Removes what was noted about a message.
pub(crate) fn forget(change: &mut Change<'_, '_>, number: u64, seq: i64) -> Result<()> {
    let key = (number, seq.cast_unsigned());
    schema::MESSAGE_MARKS.delete(change.tx, key);
    let users: Vec<String> = schema::HIDDEN_MESSAGES
        .scan(change.tx, key)
        .map(|row| row.map(|((_, _, user_id), Present {})| user_id))
        .collect::<std::result::Result<_, _>>()?;
    for user_id in &users {
        schema::HIDDEN_MESSAGES.delete(change.tx, (key.0, key.1, user_id));
    }
    Ok(())
}
