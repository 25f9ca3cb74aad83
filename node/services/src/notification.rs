//! Notifications: what the node itself says about a change.

use std::collections::BTreeMap;

use prost::Message as _;
use proto::qualified::is_remote;
use proto::sdkws::{MsgData, OfflinePushInfo};
use serde::Serialize;

use crate::change::{Change, audience, json};
use crate::conversation_id::{self, GROUP, SINGLE};
use crate::delivery::{Delivery, Push, PushEach};
use crate::error::Result;
use crate::settings::NotificationSetting;

/// `msgFrom` of what the node says.
pub(crate) const FROM_SYSTEM: i32 = 200;

/// Most notifications of one change of which the sender's own devices get copies.
const SENDER_COPIES: usize = 32;

/// Content types of notifications.
#[expect(missing_docs, reason = "named as the change they tell of")]
pub mod kind {
    pub const FRIEND_APPROVED: i32 = 1201;
    pub const FRIEND_REJECTED: i32 = 1202;
    pub const FRIEND_APPLICATION: i32 = 1203;
    pub const FRIEND_DELETED: i32 = 1205;
    pub const FRIEND_REMARK_SET: i32 = 1206;
    pub const BLACK_ADDED: i32 = 1207;
    pub const BLACK_DELETED: i32 = 1208;
    pub const FRIEND_INFO_UPDATED: i32 = 1209;
    pub const FRIENDS_INFO_UPDATED: i32 = 1210;
    pub const CONVERSATION_CHANGED: i32 = 1300;
    pub const USER_INFO_UPDATED: i32 = 1303;
    pub const OA: i32 = 1400;
    pub const GROUP_CREATED: i32 = 1501;
    pub const GROUP_INFO_SET: i32 = 1502;
    pub const JOIN_APPLICATION: i32 = 1503;
    pub const MEMBER_QUIT: i32 = 1504;
    pub const APPLICATION_ACCEPTED: i32 = 1505;
    pub const APPLICATION_REJECTED: i32 = 1506;
    pub const OWNER_TRANSFERRED: i32 = 1507;
    pub const MEMBER_KICKED: i32 = 1508;
    pub const MEMBER_INVITED: i32 = 1509;
    pub const MEMBER_ENTER: i32 = 1510;
    pub const GROUP_DISMISSED: i32 = 1511;
    pub const MEMBER_MUTED: i32 = 1512;
    pub const MEMBER_CANCEL_MUTED: i32 = 1513;
    pub const GROUP_MUTED: i32 = 1514;
    pub const GROUP_CANCEL_MUTED: i32 = 1515;
    pub const MEMBER_INFO_SET: i32 = 1516;
    pub const MEMBER_SET_TO_ADMIN: i32 = 1517;
    pub const MEMBER_SET_TO_ORDINARY: i32 = 1518;
    pub const ANNOUNCEMENT_SET: i32 = 1519;
    pub const GROUP_NAME_SET: i32 = 1520;
    pub const PRIVATE_CHAT: i32 = 1701;
    pub const CLEAR_CONVERSATION: i32 = 1703;
    pub const BUSINESS: i32 = 2001;
    pub const REVOKE: i32 = 2101;
    pub const DELETE_MSGS: i32 = 2102;
    pub const READ_RECEIPT: i32 = 2200;
}

/// Whether a content type is one of the system's own.
pub fn is_system(content_type: i32) -> bool {
    (1000..=5000).contains(&content_type)
}

/// Where a notification goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum To<'a> {
    /// One user (and the sender's other devices).
    User(&'a str),
    /// All members of a group, and users who just left it.
    Group(&'a str, &'a [String]),
    /// The peer of a notification chat.
    Account(&'a str),
}

/// A notification to send.
pub(crate) struct Notification<'a> {
    /// Content type.
    pub(crate) kind: i32,
    /// Who it comes from.
    pub(crate) from: &'a str,
    pub(crate) to: To<'a>,
    /// Overrides whether it appears in the chat.
    pub(crate) in_chat: Option<bool>,
    /// Stored with a seq, so that it is replayed to devices that were away.
    pub(crate) stored: bool,
    /// Name and face of the sender, where the notification carries them.
    pub(crate) sender: Option<(String, String)>,
}

impl<'a> Notification<'a> {
    /// A notification with the configured delivery, not stored.
    pub(crate) fn new(kind: i32, from: &'a str, to: To<'a>) -> Self {
        Self { kind, from, to, in_chat: None, stored: false, sender: None }
    }
}

/// What became of a notification.
pub(crate) struct Notified {
    /// Seq of its copy in the chat, 0 if there is none.
    pub(crate) chat_seq: i64,
    /// When it was sent.
    pub(crate) send_time: i64,
}

impl Change<'_, '_> {
    /// Sends a notification; its copy in the chat, if any, goes first.
    ///
    /// Returns the seq of that copy, 0 if there is none.
    pub(crate) fn notify(
        &mut self,
        notification: &Notification<'_>,
        tips: &impl Serialize,
    ) -> Result<i64> {
        let setting =
            self.settings().notifications.get(&notification.kind).cloned().unwrap_or_default();
        let in_chat = notification.in_chat.unwrap_or(setting.is_send_msg);
        let message = self.notification_message(notification, &setting, in_chat, tips)?;
        let leavers = match notification.to {
            To::Group(_, leavers) => leavers,
            _ => &[],
        };
        Ok(self.send_notification(message, setting.offline_push, leavers)?.chat_seq)
    }

    /// As [`notify`](Self::notify), to a user who may be on another node, about a group of this one.
    pub(crate) fn notify_of_group(
        &mut self,
        group_id: &str,
        notification: &Notification<'_>,
        tips: &impl Serialize,
    ) -> Result<()> {
        if let To::User(user_id) = notification.to
            && is_remote(user_id)
        {
            let setting =
                self.settings().notifications.get(&notification.kind).cloned().unwrap_or_default();
            let message = self.notification_message(notification, &setting, false, tips)?;
            return self.cross_notice(group_id, &message);
        }
        self.notify(notification, tips)?;
        Ok(())
    }

    /// Sends a message that is a notification, as its options say; its copy in the chat goes first.
    pub(crate) fn send_notification(
        &mut self,
        mut message: MsgData,
        offline_push: bool,
        leavers: &[String],
    ) -> Result<Notified> {
        let mut notified = Notified { chat_seq: 0, send_time: self.now };
        if message.options.get("isSendMsg") != Some(&false) {
            let mut copy = message.clone();
            copy.options =
                [("offlinePush".to_owned(), offline_push), ("unreadCount".to_owned(), true)].into();
            let appended = self.append(&copy, false)?;
            notified = Notified { chat_seq: appended.seq, send_time: appended.send_time };
            let (conversation, _) = conversation_id::of_message(&copy);
            self.push(&conversation, &appended.message, audience(&copy, leavers));
        }
        let (conversation, _) = conversation_id::of_message(&message);
        if message.options.get("history") != Some(&false) {
            message.send_time = 0;
            let appended = self.append(&message, false)?;
            if notified.chat_seq == 0 {
                notified.send_time = appended.send_time;
            }
            self.push(&conversation, &appended.message, audience(&message, leavers));
        } else {
            message.send_time = notified.send_time;
            self.push(&conversation, &message.encode_to_vec(), audience(&message, leavers));
        }
        Ok(notified)
    }

    /// Sends the same notification from the caller to each of many users.
    ///
    /// A message is made only for those online. The caller's own devices get copies of a few; more
    /// would overrun them.
    pub(crate) fn notify_each(
        &mut self,
        kind: i32,
        users: Vec<String>,
        tips: &impl Serialize,
    ) -> Result<()> {
        let from = self.caller.user_id.clone();
        let setting = self.settings().notifications.get(&kind).cloned().unwrap_or_default();
        if setting.is_send_msg || setting.offline_push {
            for user in &users {
                self.notify(&Notification::new(kind, &from, To::User(user)), tips)?;
            }
            return Ok(());
        }
        let notification = Notification::new(kind, &from, To::User(""));
        let mut pattern = self.notification_message(&notification, &setting, false, tips)?;
        pattern.send_time = self.now;
        let copies = (users.len() <= SENDER_COPIES).then_some(from);
        let (services, operation_id) = (self.services.clone(), self.caller.operation_id.clone());
        let make = move |user: &str| {
            let message = MsgData {
                recv_id: user.to_owned(),
                client_msg_id: services.new_id(),
                server_msg_id: services.new_id(),
                ..pattern.clone()
            };
            let (conversation, _) = conversation_id::of_message(&message);
            Push::new(&conversation, &message.encode_to_vec(), &operation_id)
        };
        self.deliver(Delivery::PushEach(PushEach { users, copies, make: Box::new(make) }));
        Ok(())
    }

    fn notification_message(
        &self,
        notification: &Notification<'_>,
        setting: &NotificationSetting,
        in_chat: bool,
        tips: &impl Serialize,
    ) -> Result<MsgData> {
        let (session_type, recv_id, group_id) = match notification.to {
            To::User(user_id) => (SINGLE, user_id, ""),
            To::Account(user_id) => (conversation_id::NOTIFICATION, user_id, ""),
            To::Group(group_id, _) => (GROUP, group_id, group_id),
        };
        let (sender_nickname, sender_face_url) = notification.sender.clone().unwrap_or_default();
        let options = notification_options(in_chat, notification.stored, setting.offline_push);
        Ok(MsgData {
            send_id: notification.from.to_owned(),
            recv_id: recv_id.to_owned(),
            group_id: group_id.to_owned(),
            client_msg_id: self.services.new_id(),
            server_msg_id: self.services.new_id(),
            sender_nickname,
            sender_face_url,
            session_type,
            msg_from: FROM_SYSTEM,
            content_type: notification.kind,
            content: detail(tips)?.into(),
            create_time: self.now,
            options,
            offline_push_info: Some(OfflinePushInfo {
                title: setting.title.clone(),
                desc: setting.desc.clone(),
                ex: setting.ext.clone(),
                ..Default::default()
            }),
            ..Default::default()
        })
    }
}

/// The options of a notification: in the chat too, stored with a seq, pushed to who is offline.
pub(crate) fn notification_options(
    in_chat: bool,
    stored: bool,
    offline_push: bool,
) -> BTreeMap<String, bool> {
    let options = [
        ("isNotNotification", false),
        ("isSendMsg", in_chat),
        ("history", stored),
        ("persistent", stored),
        ("offlinePush", offline_push && !in_chat),
        ("unreadCount", false),
        ("conversationUpdate", false),
        ("senderConversationUpdate", false),
        ("notPrivate", false),
        ("reactionFromCache", false),
        ("senderSync", true),
    ];
    options.map(|(key, on)| (key.to_owned(), on)).into()
}

/// `{"detail":"…"}` around the JSON text of the tips.
pub(crate) fn detail(tips: &impl Serialize) -> Result<String> {
    let text = json(tips)?;
    json(&serde_json::json!({ "detail": text }))
}
