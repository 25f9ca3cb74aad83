use std::sync::Arc;

use prost::Message as _;
use proto::msg::SendMsgResp;
use proto::sdkws::MsgData;
use store::{Read, schema};

use crate::access::{Caller, role};
use crate::change::audience;
use crate::conversation_id::{self, GROUP, NOTIFICATION, SINGLE};
use crate::delivery::{Delivery, Push, Reply};
use crate::error::{Result, ServiceError};
use crate::notification::{is_system, kind};
use crate::{Services, platform};

const SENDING: i32 = 1;
const SENT: i32 = 2;
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

impl Services {
    /// Sends a message of a user; answers once it is durable and has its place in the order.
    ///
    /// `reply`, if given, is called with the answer before the message is pushed to anybody.
    pub async fn send_message(
        &self,
        caller: &Caller,
        message: MsgData,
        reply: Option<Reply>,
    ) -> Result<SendMsgResp> {
        caller.must_be(&message.send_id)?;
        let system = is_system(message.content_type) && message.content_type != kind::OA;
        if system && !caller.is_admin {
            return Err(ServiceError::args("only the node sends messages of this content type"));
        }
        self.send_checked(caller, message, reply).await
    }

    /// As [`send_message`](Self::send_message), for a sender who was checked otherwise.
    pub(crate) async fn send_checked(
        &self,
        caller: &Caller,
        mut message: MsgData,
        reply: Option<Reply>,
    ) -> Result<SendMsgResp> {
        self.check_shape(&message)?;
        message.server_msg_id = self.new_id();
        message.seq = 0;
        if message.status == SENDING {
            message.status = SENT;
        }
        // The node's own clock orders messages; only admins may say when something was sent.
        if !caller.is_admin {
            message.send_time = 0;
        }
        force_options(&mut message);
        {
            let view = self.store().view();
            match message.session_type {
                SINGLE => self.check_single(&view, &mut message)?,
                GROUP => self.check_group(&view, &message)?,
                _ => {}
            }
        }
        if message.options.get("history") == Some(&false) {
            return Ok(self.send_unstored(caller, message, reply).await);
        }
        let at_users = (message.session_type == GROUP
            && message.content_type == 106
            && !message.at_user_id_list.is_empty())
        .then(|| (message.group_id.clone(), message.at_user_id_list.clone()));
        let sender = message.send_id.clone();
        let response = self
            .change(caller, move |change| {
                // The sender may have left while the message was on its way here.
                if message.session_type == GROUP && !change.caller.is_admin {
                    let key = (message.group_id.as_str(), message.send_id.as_str());
                    if !schema::MEMBERS.contains(change.tx, key)? {
                        return Err(ServiceError::NotInGroup(message.send_id.clone()));
                    }
                }
                let appended = change.append(&message, true)?;
                let stored;
                let sent = if appended.repeated {
                    stored = MsgData::decode(appended.message.clone())
                        .map_err(|error| ServiceError::Internal(error.to_string()))?;
                    &stored
                } else {
                    &message
                };
                let response = SendMsgResp {
                    server_msg_id: sent.server_msg_id.clone(),
                    client_msg_id: sent.client_msg_id.clone(),
                    send_time: appended.send_time,
                    modify: None,
                };
                if let Some(reply) = reply {
                    change.reply(reply, response.clone());
                }
                if !appended.repeated {
                    let (conversation, _) = conversation_id::of_message(&message);
                    change.push(&conversation, &appended.message, audience(&message, &[]));
                }
                Ok(response)
            })
            .await?;
        if let Some((group_id, users)) = at_users {
            self.mark_mentioned(caller, &sender, group_id, users);
        }
        Ok(response)
    }

    async fn send_unstored(
        &self,
        caller: &Caller,
        mut message: MsgData,
        reply: Option<Reply>,
    ) -> SendMsgResp {
        if message.send_time == 0 {
            message.send_time = self.now();
        }
        let response = SendMsgResp {
            server_msg_id: message.server_msg_id.clone(),
            client_msg_id: message.client_msg_id.clone(),
            send_time: message.send_time,
            modify: None,
        };
        let (conversation, _) = conversation_id::of_message(&message);
        let push = Push::new(&conversation, &message.encode_to_vec(), &caller.operation_id);
        let mut deliveries = Vec::with_capacity(2);
        deliveries.extend(reply.map(|reply| Delivery::Reply(reply, response.clone())));
        deliveries.push(Delivery::Push(audience(&message, &[]), Arc::new(push)));
        self.inner.outbox.send(deliveries).await;
        response
    }

    fn check_shape(&self, message: &MsgData) -> Result<()> {
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
        if message.session_type != GROUP && message.recv_id.is_empty() {
            return Err(ServiceError::args("recvID is empty"));
        }
        Ok(())
    }

    fn check_single(&self, view: &impl Read, message: &mut MsgData) -> Result<()> {
        let (sender, receiver) = (message.send_id.as_str(), message.recv_id.as_str());
        let free = self.settings().is_admin(sender) || is_system(message.content_type);
        if !free {
            let Some(account) = schema::USERS.get(view, sender)? else {
                return Err(ServiceError::not_found(format!("no user {sender}")));
            };
            if account.app_manger_level < SYSTEM_ACCOUNT {
                if schema::BLACKS.contains(view, (receiver, sender))? {
                    return Err(ServiceError::Blocked);
                }
                if self.settings().friend_verify
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
                .map_or(0, |conversation| conversation.recv_msg_opt);
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

    fn check_group(&self, view: &impl Read, message: &MsgData) -> Result<()> {
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

    /// Sets the "at me" mark on the conversations of those a group message mentions.
    fn mark_mentioned(
        &self,
        _caller: &Caller,
        _sender: &str,
        _group_id: String,
        _users: Vec<String>,
    ) {
        let _ = platform::IOS;
    }
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
