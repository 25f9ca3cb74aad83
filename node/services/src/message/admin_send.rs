//! Messages that app admins and programs have the node send, for any user.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::msg::{GetSendMsgStatusReq, GetSendMsgStatusResp, SendMsgResp};
use proto::sdkws::{MsgData, OfflinePushInfo};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use store::record::Present;
use store::{Direction, schema};

use super::content;
use super::send::{Sending, note_sent, response};
use crate::access::Caller;
use crate::change::json;
use crate::conversation_id::{GROUP, NOTIFICATION, SINGLE};
use crate::error::{Result, ServiceError};
use crate::notification::{self, FROM_SYSTEM, detail, kind};
use crate::user::must_exist;
use crate::{Services, platform};

/// `msgFrom` of what users say.
pub(super) const FROM_USER: i32 = 100;
/// Group that nobody is in any more.
const GROUP_DISMISSED: i32 = 2;
/// Level from which an account is the system's own.
const SYSTEM_ACCOUNT: i32 = 2;
/// Receivers of one batch.
const MAX_RECEIVERS: usize = 10_000;
/// Messages of a batch under way at a time.
const AT_A_TIME: usize = 64;
/// For how long a send is remembered, in milliseconds.
pub(super) const STATUS_MS: i64 = 24 * 60 * 60 * 1_000;
/// What [`Services::get_send_msg_status`] says of a message that was sent.
const SUCCEEDED: i32 = 2;

/// A message to send for a user.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SendMsg {
    /// Receiver; unused in a group.
    #[serde(rename = "recvID")]
    pub recv_id: String,
    /// Sender.
    #[serde(rename = "sendID")]
    pub send_id: String,
    /// Group, if it goes to one.
    #[serde(rename = "groupID")]
    pub group_id: String,
    /// Name of the sender, as shown.
    pub sender_nickname: String,
    /// Face of the sender, as shown.
    #[serde(rename = "senderFaceURL")]
    pub sender_face_url: String,
    /// Platform it seems to come from.
    #[serde(rename = "senderPlatformID")]
    pub sender_platform_id: i32,
    /// Its content, an object as its type wants it.
    pub content: Option<Map<String, Value>>,
    /// Its type.
    pub content_type: i32,
    /// 1 single, 3 group, 4 notification.
    pub session_type: i32,
    /// Only for who is online; not stored.
    pub is_online_only: bool,
    /// Not pushed to who is offline.
    pub not_offline_push: bool,
    /// Milliseconds; 0 for now.
    pub send_time: i64,
    /// Text of the offline push.
    pub offline_push_info: Option<OfflinePushInfo>,
    /// Extension.
    pub ex: String,
}

/// Who gets a batch.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Receivers {
    /// Everybody who is registered.
    pub is_send_all: bool,
    /// These users; has to be there even if everybody gets it.
    #[serde(rename = "recvIDs")]
    pub recv_ids: Option<Vec<String>>,
}

/// What became of a batch.
#[derive(Debug, Clone, Default)]
pub struct BatchSent {
    /// Receivers and the answers of their sends, in the order of the request.
    pub results: Vec<(String, SendMsgResp)>,
    /// Receivers whose send was refused.
    pub failed: Vec<String>,
}

/// A reply that a webhook's receiver sends with the key it was given.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SimpleMsg {
    /// Sender; only for groups.
    #[serde(rename = "sendID")]
    pub send_id: String,
    /// Its text.
    pub content: String,
    /// Text of the offline push.
    pub offline_push_info: Option<OfflinePushInfo>,
    /// Extension.
    pub ex: String,
}

/// Whom a simple reply answers: sender, receiver and group of the message.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct ReplyKey {
    #[serde(rename = "sendID")]
    send_id: String,
    #[serde(rename = "recvID")]
    recv_id: String,
    #[serde(rename = "groupID")]
    group_id: String,
}

/// A notification of a business system.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BusinessNotification {
    /// Its key.
    pub key: String,
    /// Its data.
    pub data: String,
    /// Sender; need not be registered.
    #[serde(rename = "sendUserID")]
    pub send_user_id: String,
    /// Receiver, if it goes to a user.
    #[serde(rename = "recvUserID")]
    pub recv_user_id: String,
    /// Group, if it goes to one.
    #[serde(rename = "recvGroupID")]
    pub recv_group_id: String,
    /// It also appears in the chat.
    pub send_msg: bool,
    /// 2: stored and replayed to who was offline; absent is 1.
    pub reliability_level: Option<i32>,
}

#[derive(Serialize)]
struct BusinessTips<'a> {
    key: &'a str,
    data: &'a str,
}

impl Services {
    /// Sends a message for a user.
    pub async fn send_msg(&self, caller: &Caller, request: SendMsg) -> Result<SendMsgResp> {
        caller.must_be_admin()?;
        let message = self.compose(request)?;
        self.send_checked(caller, message, Sending { reply: None, noted: true }).await
    }

    /// Sends one message for a user to many; who cannot be reached does not stop it.
    pub async fn batch_send_msg(
        &self,
        caller: &Caller,
        request: SendMsg,
        receivers: Receivers,
    ) -> Result<BatchSent> {
        caller.must_be_admin()?;
        let named = receivers.recv_ids.unwrap_or_default();
        if named.len() > MAX_RECEIVERS {
            return Err(ServiceError::args(format!("at most {MAX_RECEIVERS} receivers")));
        }
        let mut message = self.compose(request)?;
        message.client_msg_id = self.new_id();
        let mut sent = BatchSent::default();
        if !receivers.is_send_all {
            for chunk in named.chunks(AT_A_TIME) {
                self.send_to_each(caller, &message, chunk, &mut sent).await;
            }
            return Ok(sent);
        }
        let mut after = None;
        loop {
            let page = self.users_after(after.as_ref())?;
            let Some(last) = page.last().cloned() else { return Ok(sent) };
            let ids: Vec<String> = page.into_iter().map(|(_, user_id)| user_id).collect();
            self.send_to_each(caller, &message, &ids, &mut sent).await;
            after = Some(last);
        }
    }

    async fn send_to_each(
        &self,
        caller: &Caller,
        message: &MsgData,
        receivers: &[String],
        sent: &mut BatchSent,
    ) {
        let sends: Vec<_> = receivers
            .iter()
            .map(|receiver| {
                let (services, caller) = (self.clone(), caller.clone());
                let message = MsgData { recv_id: receiver.clone(), ..message.clone() };
                let sending = Sending { reply: None, noted: true };
                tokio::spawn(async move { services.send_checked(&caller, message, sending).await })
            })
            .collect();
        for (receiver, send) in receivers.iter().zip(sends) {
            match send.await {
                Ok(Ok(response)) => sent.results.push((receiver.clone(), response)),
                Ok(Err(_)) | Err(_) => sent.failed.push(receiver.clone()),
            }
        }
    }

    /// The next users in the order of registration.
    fn users_after(&self, after: Option<&(i64, String)>) -> Result<Vec<(i64, String)>> {
        let view = self.store().view();
        let (time, id) = after.map_or((i64::MIN, ""), |(time, id)| (*time, id.as_str()));
        let rows = schema::USER_ORDER.range(&view, (time, id), (), Direction::Ascending);
        let keys = rows.map(|row| row.map(|(key, Present {})| key));
        let later = keys.skip_while(|key| key.as_ref().is_ok_and(|key| Some(key) == after));
        Ok(later.take(AT_A_TIME).collect::<std::result::Result<_, _>>()?)
    }

    /// Sends the reply of a program to a message, as the key of that message says.
    ///
    /// `key` is base64 of JSON with `sendID`, `recvID` and `groupID` of the message.
    pub async fn send_simple_msg(
        &self,
        caller: &Caller,
        key: &str,
        request: SimpleMsg,
    ) -> Result<SendMsgResp> {
        let key = reply_key(key)?;
        let (session_type, send_id, recv_id) = if key.group_id.is_empty() {
            (SINGLE, key.recv_id, key.send_id)
        } else {
            (GROUP, request.send_id, String::new())
        };
        if send_id.is_empty() {
            return Err(ServiceError::args("sendID is missing"));
        }
        caller.must_be(&send_id)?;
        let sender = must_exist(&self.store().view(), &send_id)?;
        let message = MsgData {
            send_id,
            recv_id,
            group_id: key.group_id,
            client_msg_id: self.new_id(),
            sender_platform_id: platform::ADMIN,
            sender_nickname: sender.nickname,
            sender_face_url: sender.face_url,
            session_type,
            msg_from: FROM_USER,
            content_type: content::kind::MARKDOWN,
            content: json(&json!({ "Content": request.content }))?.into(),
            offline_push_info: request.offline_push_info,
            ex: request.ex,
            ..Default::default()
        };
        self.send_checked(caller, message, Sending { reply: None, noted: true }).await
    }

    /// Sends a notification of a business system to a user or a group.
    pub async fn send_business_notification(
        &self,
        caller: &Caller,
        request: BusinessNotification,
    ) -> Result<SendMsgResp> {
        match (request.recv_user_id.is_empty(), request.recv_group_id.is_empty()) {
            (true, true) => return Err(ServiceError::args("nobody to send it to")),
            (false, false) => return Err(ServiceError::args("either a user or a group")),
            _ => {}
        }
        caller.must_be_admin()?;
        let stored = request.reliability_level == Some(2);
        let message = MsgData {
            send_id: request.send_user_id,
            recv_id: request.recv_user_id,
            client_msg_id: self.new_id(),
            server_msg_id: self.new_id(),
            session_type: if request.recv_group_id.is_empty() { SINGLE } else { GROUP },
            group_id: request.recv_group_id,
            msg_from: FROM_SYSTEM,
            content_type: kind::BUSINESS,
            content: detail(&BusinessTips { key: &request.key, data: &request.data })?.into(),
            create_time: self.now(),
            options: notification::notification_options(request.send_msg, stored, false),
            ..Default::default()
        };
        self.check_shape(&message)?;
        self.change(caller, move |change| {
            if message.session_type == GROUP {
                let group = schema::GROUPS.get(change.tx, &message.group_id)?;
                let Some(group) = group else {
                    return Err(ServiceError::not_found("no such group"));
                };
                if group.info.status == GROUP_DISMISSED {
                    return Err(ServiceError::Dismissed);
                }
            } else {
                must_exist(change.tx, &message.recv_id)?;
            }
            note_sent(change);
            let answer = response(&message, change.now);
            let notified = change.send_notification(message, false, &[])?;
            Ok(SendMsgResp { send_time: notified.send_time, ..answer })
        })
        .await
    }

    /// Whether what was asked for under the operation ID of this call has been sent.
    pub fn get_send_msg_status(
        &self,
        caller: &Caller,
        _request: &GetSendMsgStatusReq,
    ) -> Result<GetSendMsgStatusResp> {
        let noted = schema::SEND_STATUS.get(&self.store().view(), &caller.operation_id)?;
        let sent = noted.is_some_and(|noted| self.now() - noted.value < STATUS_MS);
        Ok(GetSendMsgStatusResp { status: if sent { SUCCEEDED } else { 0 } })
    }

    /// The message of a request.
    fn compose(&self, request: SendMsg) -> Result<MsgData> {
        let content = request.content.unwrap_or_default();
        content::check(request.content_type, &content)?;
        let mut session_type = request.session_type;
        let mut text = json(&content)?;
        if request.content_type == kind::OA {
            session_type = NOTIFICATION;
            text = json(&json!({ "detail": text }))?;
            let account = schema::USERS.get(&self.store().view(), &request.send_id)?;
            match account {
                None => return Err(ServiceError::UserNotFound(request.send_id)),
                Some(account) if account.app_manger_level < SYSTEM_ACCOUNT => {
                    return Err(ServiceError::denied("not an account for notifications"));
                }
                Some(_) => {}
            }
        }
        let mut off: &[&str] = &[];
        if request.is_online_only {
            off = &["history", "persistent", "senderSync", "conversationUpdate"];
        }
        let mut options: std::collections::BTreeMap<String, bool> =
            off.iter().map(|key| ((*key).to_owned(), false)).collect();
        if request.not_offline_push {
            options.insert("offlinePush".into(), false);
        }
        let at_user_id_list = match request.content_type {
            content::kind::AT => content::mentioned(&content),
            _ => Vec::new(),
        };
        Ok(MsgData {
            send_id: request.send_id,
            recv_id: request.recv_id,
            group_id: request.group_id,
            client_msg_id: self.new_id(),
            sender_platform_id: request.sender_platform_id,
            sender_nickname: request.sender_nickname,
            sender_face_url: request.sender_face_url,
            session_type,
            msg_from: FROM_SYSTEM,
            content_type: request.content_type,
            content: text.into(),
            send_time: request.send_time,
            create_time: self.now(),
            options,
            offline_push_info: request.offline_push_info,
            at_user_id_list,
            ex: request.ex,
            ..Default::default()
        })
    }
}

fn reply_key(key: &str) -> Result<ReplyKey> {
    if key.is_empty() {
        return Err(ServiceError::args("key is missing"));
    }
    let text = STANDARD.decode(key).map_err(|_| ServiceError::args("key is no base64"))?;
    let key: ReplyKey =
        proto::json::from_slice(&text).map_err(|_| ServiceError::args("key is no JSON"))?;
    if key.group_id.is_empty() && key.send_id.is_empty() {
        return Err(ServiceError::args("key names nobody to answer"));
    }
    Ok(key)
}
