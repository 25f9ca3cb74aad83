//! Taking messages back.

use proto::msg::{RevokeMsgReq, RevokeMsgResp};
use proto::sdkws::{MsgData, RevokeMsgTips};
use store::record::Revoke;
use store::{message_log, schema};

use super::required;
use super::view::{readable, window};
use crate::Services;
use crate::access::{Caller, role_over_message};
use crate::change::Change;
use crate::conversation_id::{GROUP, SINGLE, group_of};
use crate::error::{Result, ServiceError};
use crate::federation::at_home;
use crate::notification::{Notification, To, kind};

impl Services {
    /// Revokes a message for everybody: it keeps its seq and says who revoked it.
    pub async fn revoke_msg(
        &self,
        caller: &Caller,
        request: RevokeMsgReq,
    ) -> Result<RevokeMsgResp> {
        required("conversationID", &request.conversation_id)?;
        if request.seq < 1 {
            return Err(ServiceError::args("seq is invalid"));
        }
        required("userID", &request.user_id)?;
        caller.must_be(&request.user_id)?;
        at_home!(self, caller, request, group_of(&request.conversation_id), "/msg/revoke_msg");
        self.change_to_make_room(caller, move |change| revoke(change, &request)).await
    }
}

/// Revokes a message on behalf of the caller.
pub(crate) fn revoke(change: &mut Change<'_, '_>, request: &RevokeMsgReq) -> Result<RevokeMsgResp> {
    let RevokeMsgReq { conversation_id, seq, user_id } = request;
    let (number, message) = load(change, user_id, conversation_id, *seq)?;
    let key = (number, seq.cast_unsigned());
    let mut marks = schema::MESSAGE_MARKS.get(change.tx, key)?.unwrap_or_default();
    if marks.revoke.is_some() || message.content_type == kind::REVOKE {
        return Err(ServiceError::AlreadyRevoked);
    }
    if schema::HIDDEN_MESSAGES.contains(change.tx, (key.0, key.1, user_id))? {
        return Err(missing());
    }
    let role = role(change, user_id, &message)?;
    let nickname = schema::USERS.get(change.tx, user_id)?.unwrap_or_default().nickname;
    marks.revoke = Some(Revoke { role, user_id: user_id.clone(), nickname, time: change.now });
    schema::MESSAGE_MARKS.put(change.tx, key, &marks);
    change.cross_revoke(user_id, &message, number, *seq)?;
    change.changed_in_group(&message.group_id, *seq);

    let tips = RevokeMsgTips {
        revoker_user_id: change.caller.user_id.clone(),
        client_msg_id: message.client_msg_id.clone(),
        revoke_time: change.now,
        sesstion_type: message.session_type,
        seq: *seq,
        conversation_id: conversation_id.clone(),
        is_admin_revoke: change.caller.is_admin,
    };
    let (from, to) = match message.session_type {
        GROUP => (user_id, To::Group(&message.group_id, &[])),
        // Into the stream of the pair, whoever revokes: both have to be told.
        _ if *user_id == message.recv_id => (user_id, To::User(&message.send_id)),
        _ => (&message.send_id, To::User(&message.recv_id)),
    };
    let notification = Notification { stored: true, ..Notification::new(kind::REVOKE, from, to) };
    change.notify(&notification, &tips)?;
    Ok(RevokeMsgResp {})
}

/// The number of the conversation and the message, if the user can see it.
fn load(
    change: &Change<'_, '_>,
    user_id: &str,
    conversation_id: &str,
    seq: i64,
) -> Result<(u64, MsgData)> {
    let window = match window(change.tx, user_id, conversation_id)? {
        Some(window) => window,
        None if change.caller.is_admin => {
            readable(change.tx, conversation_id)?.ok_or_else(missing)?
        }
        None => return Err(missing()),
    };
    if window.stream || seq < window.low || seq > window.high {
        return Err(missing());
    }
    match schema::MESSAGES.get(change.tx, (window.number, seq.cast_unsigned()))? {
        Some(message) if !message_log::is_erased(&message) => Ok((window.number, message)),
        _ => Err(missing()),
    }
}

fn missing() -> ServiceError {
    ServiceError::not_found("no such message")
}

/// The role in which the user revokes the message; refuses who may not.
fn role(change: &Change<'_, '_>, user_id: &str, message: &MsgData) -> Result<i32> {
    if change.caller.is_admin {
        return Ok(0);
    }
    match message.session_type {
        SINGLE => {
            change.caller.must_be(&message.send_id)?;
            let account = schema::USERS.get(change.tx, user_id)?.unwrap_or_default();
            Ok(account.app_manger_level)
        }
        GROUP => role_over_message(change.tx, &message.group_id, user_id, &message.send_id),
        _ => Err(ServiceError::Failed("messages of this chat stay".into())),
    }
}
