//! Messages, over the API.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail as tests do")]

mod admin_send;
mod clear;
mod cost;
mod delete;
mod mention;
mod prune;
mod pull;
mod read;
mod revoke;
mod search;
mod send;

use std::time::Duration;

use proto::sdkws::{GroupInfo, MsgData};
use serde_json::{Value, json};
use services::StoreError;
use store::record::{Group, Member, Present};
use store::schema;
use testnet::{Client, Node, Push, Result, Socket, text_message};

const QUIET: Duration = Duration::from_millis(60);

/// The body of an answer without data.
const OK: &str = r#"{"errCode":0,"errMsg":"","errDlt":""}"#;

const OWNER: i32 = 100;
const ADMIN: i32 = 60;
const ORDINARY: i32 = 20;

/// Puts a group with these members in place; connect them afterwards.
async fn group(node: &Node, group_id: &str, members: &[(&str, i32)]) -> Result {
    let info = GroupInfo {
        group_id: group_id.into(),
        group_name: "Team".into(),
        face_url: "face-team".into(),
        group_type: 2,
        member_count: members.len() as u32,
        ..GroupInfo::default()
    };
    let group_id = group_id.to_owned();
    let members: Vec<(String, i32)> = members.iter().map(|(id, r)| ((*id).into(), *r)).collect();
    node.services
        .store()
        .transact(move |tx| {
            schema::GROUPS.put(tx, &group_id, &Group { info, ..Group::default() });
            for (id, role_level) in &members {
                let member = Member { role_level: *role_level, joined: 1, ..Member::default() };
                schema::MEMBERS.put(tx, (&group_id, id), &member);
                schema::JOINED.put(tx, (id, &group_id), &Present {});
            }
            Ok::<_, StoreError>(())
        })
        .await?;
    Ok(())
}

/// Takes a member out of a group, as quitting leaves it: the conversation ends at `max_seq`.
async fn leave(node: &Node, group_id: &str, user_id: &str, max_seq: i64) -> Result {
    let (group_id, user_id) = (group_id.to_owned(), user_id.to_owned());
    node.services
        .store()
        .transact(move |tx| {
            schema::MEMBERS.delete(tx, (&group_id, &user_id));
            schema::JOINED.delete(tx, (&user_id, &group_id));
            let chat = format!("sg_{group_id}");
            let mut record = schema::CONVERSATIONS.get(tx, (&user_id, &chat))?.unwrap_or_default();
            record.session_type = 3;
            record.group_id = group_id;
            record.max_seq = max_seq;
            schema::CONVERSATIONS.put(tx, (&user_id, &chat), &record);
            Ok::<_, StoreError>(())
        })
        .await?;
    Ok(())
}

/// Changes a user's record of a conversation.
async fn edit(
    node: &Node,
    owner: &str,
    id: &str,
    change: impl FnOnce(&mut store::record::Conversation) + Send + 'static,
) -> Result {
    let (owner, id) = (owner.to_owned(), id.to_owned());
    node.services
        .store()
        .transact(move |tx| {
            let mut record = schema::CONVERSATIONS.get(tx, (&owner, &id))?.unwrap_or_default();
            change(&mut record);
            schema::CONVERSATIONS.put(tx, (&owner, &id), &record);
            Ok::<_, StoreError>(())
        })
        .await?;
    Ok(())
}

fn group_text(from: &str, group_id: &str, text: &str) -> MsgData {
    MsgData { session_type: 3, group_id: group_id.into(), ..text_message(from, "", text) }
}

/// Sends texts one after the other.
async fn say(socket: &mut Socket, to: &str, texts: &[&str]) -> Result {
    for text in texts {
        socket.send_text(to, text).await?;
    }
    Ok(())
}

/// Sends texts into a group one after the other.
async fn say_in(socket: &mut Socket, from: &str, group_id: &str, texts: &[&str]) -> Result {
    for text in texts {
        socket.send(&group_text(from, group_id, text)).await?;
    }
    Ok(())
}

/// What a user gets of seqs `begin..=end` of a conversation; `null` if nothing.
async fn pull(client: &Client, id: &str, begin: i64, end: i64) -> Result<Value> {
    let body = json!({
        "userID": client.user_id,
        "seqRanges": [{ "conversationID": id, "begin": begin, "end": end, "num": 1000 }],
    });
    let data = client.call("/msg/pull_msg_by_seq", body).await?;
    let map = if id.starts_with("n_") { "notificationMsgs" } else { "msgs" };
    Ok(data[map][id]["Msgs"].clone())
}

/// The decoded content of a pulled message.
fn content(message: &Value) -> String {
    use base64::Engine as _;
    let text = message["content"].as_str().unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
    String::from_utf8(bytes).expect("UTF-8")
}

/// `detail` of a notification or of a revoked message.
fn detail(content: &[u8]) -> Value {
    let outer: Value = serde_json::from_slice(content).expect("JSON");
    serde_json::from_str(outer["detail"].as_str().expect("detail is text")).expect("JSON")
}

/// Everything pushed until it is quiet: conversation and message.
async fn pushed(socket: &mut Socket) -> Result<Vec<(String, MsgData)>> {
    let pushes = socket.pushes_until_quiet(QUIET).await?;
    Ok(pushes
        .into_iter()
        .filter_map(|push| match push {
            Push::Message { conversation_id, message, .. } => Some((conversation_id, *message)),
            _ => None,
        })
        .collect())
}

/// Conversation, content type and seq of everything pushed until it is quiet.
async fn pushed_kinds(socket: &mut Socket) -> Result<Vec<(String, i32, i64)>> {
    let all = pushed(socket).await?;
    Ok(all.into_iter().map(|(id, m)| (id, m.content_type, m.seq)).collect())
}

/// `[maxSeq, hasReadSeq]` of a conversation for a user.
async fn seqs(client: &Client, id: &str) -> Result<(i64, i64)> {
    let body = json!({ "userID": client.user_id, "conversationIDs": [id] });
    let data = client.call("/msg/get_conversations_has_read_and_max_seq", body).await?;
    let seqs = &data["seqs"][id];
    Ok((seqs["maxSeq"].as_i64().expect("a number"), seqs["hasReadSeq"].as_i64().expect("a number")))
}

/// Option keys that are off.
fn off(message: &MsgData) -> Vec<&str> {
    message.options.iter().filter(|(_, on)| !**on).map(|(key, _)| key.as_str()).collect()
}

/// Options of a notification that is stored.
const STORED_OFF: [&str; 8] = [
    "conversationUpdate",
    "isNotNotification",
    "isSendMsg",
    "notPrivate",
    "offlinePush",
    "reactionFromCache",
    "senderConversationUpdate",
    "unreadCount",
];

/// Options of a notification that is not stored.
const UNSTORED_OFF: [&str; 10] = [
    "conversationUpdate",
    "history",
    "isNotNotification",
    "isSendMsg",
    "notPrivate",
    "offlinePush",
    "persistent",
    "reactionFromCache",
    "senderConversationUpdate",
    "unreadCount",
];
