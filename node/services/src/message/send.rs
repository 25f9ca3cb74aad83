use std::sync::Arc;

use prost::Message as _;
use proto::msg::SendMsgResp;
use proto::qualified::is_remote;
use proto::sdkws::MsgData;
use store::record::Number;
use store::{Read, schema};

use super::mention::mark_named;
use crate::access::{Caller, role};
use crate::change::{Change, audience, taken};
use crate::conversation_id::{self, GROUP, NOTIFICATION, SINGLE};
use crate::delivery::{Delivery, Push, Reply};
use crate::error::{Result, ServiceError};
use crate::notification::{is_system, kind};
use crate::{Services, user};

const SENDING: i32 = 1;
/// Status of a message that was sent.
pub(crate) const SENT: i32 = 2;
const TYPING: i32 = 113;
const REVOKE_LEGACY: i32 = 111;

const GROUP_DISMISSED: i32 = 2;
const GROUP_MUTED: i32 = 3;
/// Group type of the past whose messages are not checked.
const SUPER_GROUP: i32 = 1;
/// Level from which an account is the system's own.
const SYSTEM_ACCOUNT: i32 = 2;

const NOT_RECEIVE: i32 = 1;
const NOT_NOTIFY: i32 = 2;

/// What goes along with a message.
#[derive(Default)]
pub(crate) struct Sending {
    /// Answers the sender before the message is pushed to anybody.
    pub(crate) reply: Option<Reply>,
    /// Notes under the operation ID that it was sent.
    pub(crate) noted: bool,
}

impl Services {
    /// Sends a message of a user; answers once it is durable and has its place in the order.
    ///
    /// `reply`, if given, is called with the answer before the message is pushed to anybody.
    pub async fn send_message(
        &self,
        caller: &Caller,
        mut message: MsgData,
        reply: Option<Reply>,
    ) -> Result<SendMsgResp> {
        if message.send_id.is_empty() {
            return Err(ServiceError::args("sendID is empty"));
        }
        for id in [&mut message.recv_id, &mut message.group_id] {
            if is_remote(id) {
                *id = self.typed(id);
            }
        }
        caller.must_be(&message.send_id)?;
        if !caller.is_admin {
            self.check_ordinary(&message)?;
            // The node's own clock orders messages; only admins may say when something was sent.
            message.send_time = 0;
            message.status = SENT;
            message.is_read = false;
        }
        self.send_checked(caller, message, Sending { reply, noted: false }).await
    }

    /// As [`send_message`](Self::send_message), for a sender who was checked otherwise.
    pub(crate) async fn send_checked(
        &self,
        caller: &Caller,
        mut message: MsgData,
        sending: Sending,
    ) -> Result<SendMsgResp> {
        self.check_shape(&message)?;
        message.server_msg_id = self.new_id();
        if message.client_msg_id.is_empty() {
            message.client_msg_id = self.new_id();
        }
        message.seq = 0;
        if message.status == SENDING {
            message.status = SENT;
        }
        // A time to come would hold up the order of all that follows.
        message.send_time = message.send_time.min(self.now());
        force_options(&mut message);
        let unstored = message.options.get("history") == Some(&false);
        if message.session_type == GROUP
            && !unstored
            && let Some(home) = self.group_home(&self.store().view(), &message.group_id)?
        {
            return self.send_to_home(caller, &home, message, sending).await;
        }
        let mut turn = None;
        if message.session_type == SINGLE && is_remote(&message.recv_id) {
            if !unstored {
                turn = self.check_elsewhere(&message).await?;
            }
        } else {
            let view = self.store().view();
            match message.session_type {
                SINGLE => self.check_single(&view, &mut message)?,
                GROUP => self.check_group(&view, &message)?,
                _ => drop(user::must_exist(&view, &message.recv_id)?),
            }
        }
        if unstored {
            return self.send_unstored(caller, message, sending).await;
        }
        let message = Arc::new(message);
        let sent = Arc::clone(&message);
        let (response, to_all) =
            self.change(caller, move |change| store(change, &sent, sending)).await?;
        drop(turn);
        if to_all {
            tokio::spawn(self.clone().mark_everybody(message.group_id.clone()));
        }
        Ok(response)
    }

    async fn send_unstored(
        &self,
        caller: &Caller,
        mut message: MsgData,
        sending: Sending,
    ) -> Result<SendMsgResp> {
        if message.send_time == 0 {
            message.send_time = self.now();
        }
        let (conversation, parties) = conversation_id::of_message(&message);
        let head = schema::CONVERSATION_HEADS.get(&self.store().view(), &conversation)?;
        if head.is_some_and(|head| !head.same_parties(&parties)) {
            return Err(taken(&conversation));
        }
        if sending.noted {
            self.change(caller, |change| {
                note_sent(change);
                Ok(())
            })
            .await?;
        }
        let response = response(&message, message.send_time);
        let push = Push::new(&conversation, &message.encode_to_vec(), &caller.operation_id);
        let mut deliveries = Vec::with_capacity(2);
        let answered = Box::new(response.clone());
        deliveries.extend(sending.reply.map(|reply| Delivery::Reply(reply, answered)));
        deliveries.push(Delivery::Push(audience(&message, &[]), Arc::new(push)));
        self.inner.outbox.send(deliveries).await;
        self.cross_ephemeral(&message);
        Ok(response)
    }

    /// What only admins and the system's own accounts may send.
    fn check_ordinary(&self, message: &MsgData) -> Result<()> {
        if is_system(message.content_type) && message.content_type != kind::OA {
            return Err(ServiceError::args("only the node sends messages of this content type"));
        }
        if conversation_id::is_notification(message) {
            return Err(ServiceError::args("only the node sends notifications"));
        }
        if message.session_type == NOTIFICATION && message.content_type == kind::OA {
            let account = schema::USERS.get(&self.store().view(), &message.send_id)?;
            if account.is_none_or(|account| account.app_manger_level < SYSTEM_ACCOUNT) {
                return Err(ServiceError::denied("only system accounts send such messages"));
            }
        }
        Ok(())
    }

    pub(crate) fn check_shape(&self, message: &MsgData) -> Result<()> {
        if message.send_id.is_empty() {
            return Err(ServiceError::args("sendID is empty"));
        }
        if message.content.is_empty() {
            return Err(ServiceError::args("content is empty"));
        }
        if (message.session_type == NOTIFICATION) != (message.content_type == kind::OA) {
            return Err(ServiceError::args("contentType does not fit sessionType"));
        }
        if ![SINGLE, GROUP, NOTIFICATION].contains(&message.session_type) {
            return Err(ServiceError::args("unknown sessionType"));
        }
        let limit = self.settings().message_max_bytes;
        if message.encoded_len() > limit {
            return Err(ServiceError::args(format!("the message is larger than {limit} bytes")));
        }
        if message.session_type == GROUP && message.group_id.is_empty() {
            return Err(ServiceError::args("groupID is empty"));
        }
        if message.session_type != GROUP && message.recv_id.is_empty() {
            return Err(ServiceError::args("recvID is empty"));
        }
        Ok(())
    }

    pub(crate) fn check_single(&self, view: &impl Read, message: &mut MsgData) -> Result<()> {
        let sender = message.send_id.as_str();
        let free = self.settings().is_admin(sender) || is_system(message.content_type);
        if !free && !schema::USERS.contains(view, sender)? {
            return Err(ServiceError::not_found(format!("no user {sender}")));
        }
        self.check_receiver(view, message)
    }

    /// Whether the receiver takes a message, whether the sender is known here or not.
    pub(crate) fn check_receiver(&self, view: &impl Read, message: &mut MsgData) -> Result<()> {
        let (sender, receiver) = (message.send_id.as_str(), message.recv_id.as_str());
        let free = self.settings().is_admin(sender) || is_system(message.content_type);
        if !free {
            let account = schema::USERS.get(view, sender)?;
            if account.is_none_or(|account| account.app_manger_level < SYSTEM_ACCOUNT) {
                if schema::BLACKS.contains(view, (receiver, sender))? {
                    return Err(ServiceError::Blocked);
                }
                let unasked = || self.is_first_contact(view, sender, receiver);
                if (self.settings().friend_verify || unasked()?)
                    && !schema::FRIENDS.contains(view, (receiver, sender))?
                {
                    return Err(ServiceError::NotFriend);
                }
            }
        }
        if conversation_id::is_notification(message) {
            return Ok(());
        }
        let Some(account) = schema::USERS.get(view, receiver)? else {
            return Err(ServiceError::not_found(format!("no user {receiver}")));
        };
        let mut option = account.global_recv_msg_opt;
        if option == 0 {
            let chat = conversation_id::single(sender, receiver);
            option = schema::CONVERSATIONS
                .get(view, (receiver, &chat))?
                .filter(|conversation| conversation.user_id == sender)
                .map_or(0, |conversation| conversation.recv_msg_opt);
            if option == NOT_RECEIVE && message.content_type == kind::READ_RECEIPT {
                option = 0;
            }
        }
        match option {
            NOT_RECEIVE => Err(ServiceError::args("the message is not sent")),
            NOT_NOTIFY => {
                message.options.insert("offlinePush".into(), false);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether somebody of another node writes to a user who has to agree to that first.
    fn is_first_contact(&self, view: &impl Read, sender: &str, receiver: &str) -> Result<bool> {
        if !self.settings().consent || !is_remote(sender) {
            return Ok(false);
        }
        // They have written to each other before: as friends, or the receiver began.
        let chat = conversation_id::single(sender, receiver);
        Ok(!schema::CONVERSATION_HEADS.contains(view, &chat)?)
    }

    pub(crate) fn check_group(&self, view: &impl Read, message: &MsgData) -> Result<()> {
        let group_id = message.group_id.as_str();
        let Some(group) = schema::GROUPS.get(view, group_id)? else {
            return Err(ServiceError::not_found(format!("no group {group_id}")));
        };
        if group.info.status == GROUP_DISMISSED && message.content_type != kind::GROUP_DISMISSED {
            return Err(ServiceError::Dismissed);
        }
        if group.info.group_type == SUPER_GROUP
            || self.settings().is_admin(&message.send_id)
            || is_system(message.content_type)
        {
            return Ok(());
        }
        let Some(member) = schema::MEMBERS.get(view, (group_id, &message.send_id))? else {
            return Err(ServiceError::NotInGroup(message.send_id.clone()));
        };
        if member.role_level == role::OWNER {
            return Ok(());
        }
        if member.mute_end >= self.now() {
            return Err(ServiceError::Muted(member.mute_end));
        }
        if group.info.status == GROUP_MUTED && member.role_level != role::ADMIN {
            return Err(ServiceError::GroupMuted);
        }
        Ok(())
    }
}

/// Stores a message of the caller that was checked and pushes it; returns whether it mentions
/// everybody.
pub(crate) fn accept(change: &mut Change<'_, '_>, message: &MsgData) -> Result<bool> {
    Ok(store(change, message, Sending::default())?.1)
}

/// Stores a message and pushes it; also says whether it mentions everybody.
fn store(
    change: &mut Change<'_, '_>,
    message: &MsgData,
    sending: Sending,
) -> Result<(SendMsgResp, bool)> {
    // The sender may have left while the message was on its way here.
    if message.session_type == GROUP && !change.caller.is_admin {
        let key = (message.group_id.as_str(), message.send_id.as_str());
        if !schema::MEMBERS.contains(change.tx, key)? {
            return Err(ServiceError::NotInGroup(message.send_id.clone()));
        }
    }
    // Or the home of the group may have moved.
    if message.session_type == GROUP && change.group_home(&message.group_id)?.is_some() {
        let response = response(message, change.now);
        if let Some(reply) = sending.reply {
            change.reply(reply, response.clone());
        }
        change.send_away(message.clone())?;
        return Ok((response, false));
    }
    let appended = change.append(message, true)?;
    let response = if appended.repeated {
        let first = MsgData::decode(appended.message.clone())
            .map_err(|error| ServiceError::Internal(error.to_string()))?;
        response(&first, appended.send_time)
    } else {
        response(message, appended.send_time)
    };
    if let Some(reply) = sending.reply {
        change.reply(reply, response.clone());
    }
    if sending.noted {
        note_sent(change);
    }
    if appended.repeated {
        return Ok((response, false));
    }
    let (conversation, _) = conversation_id::of_message(message);
    change.push(&conversation, &appended.message, audience(message, &[]));
    change.cross_message(message, appended.conversation, appended.seq)?;
    let to_all = mark_named(change, message)?;
    Ok((response, to_all))
}

pub(crate) fn response(message: &MsgData, send_time: i64) -> SendMsgResp {
    SendMsgResp {
        server_msg_id: message.server_msg_id.clone(),
        client_msg_id: message.client_msg_id.clone(),
        send_time,
        modify: None,
    }
}

/// Notes that what was asked for under this operation ID has been sent.
pub(super) fn note_sent(change: &mut Change<'_, '_>) {
    let operation_id = change.caller.operation_id.clone();
    schema::SEND_STATUS.put(change.tx, &operation_id, &Number { value: change.now });
}

/// Switches off what messages of some types never do.
fn force_options(message: &mut MsgData) {
    let off: &[&str] = match message.content_type {
        TYPING => &[
            "history",
            "persistent",
            "senderSync",
            "conversationUpdate",
            "senderConversationUpdate",
            "unreadCount",
            "offlinePush",
        ],
        REVOKE_LEGACY => &["unreadCount", "offlinePush"],
        kind::READ_RECEIPT => {
            &["conversationUpdate", "senderConversationUpdate", "unreadCount", "offlinePush"]
        }
        _ => &[],
    };
    for key in off {
        message.options.insert((*key).to_owned(), false);
    }
}
