//! Groups, over the API.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail as tests do")]

mod create;
mod info;
mod join;
mod large;
mod leave;
mod list;
mod rank;
mod request;
mod sync;

use std::time::Duration;

use proto::sdkws::MsgData;
use serde_json::{Value, json};
use testnet::{Client, Node, Push, Result, Socket, Wire};

const QUIET: Duration = Duration::from_millis(80);

/// The body of an answer without data.
const OK: &str = r#"{"errCode":0,"errMsg":"","errDlt":""}"#;

/// A node with group `g1`: alice owns it, bob is an admin, carol a member; mallory is not in it.
struct Team {
    node: Node,
    admin: Client,
    alice: Client,
    bob: Client,
    carol: Client,
    dave: Client,
    mallory: Client,
}

impl Team {
    async fn start() -> Result<Self> {
        Self::on(Node::start().await?).await
    }

    async fn on(node: Node) -> Result<Self> {
        let admin = node.admin().await?;
        let names = ["alice", "bob", "carol", "dave", "mallory"];
        let [alice, bob, carol, dave, mallory] = admin.users(names).await?;
        let team = Self { node, admin: admin.client, alice, bob, carol, dave, mallory };
        let body = json!({
            "ownerUserID": "alice", "adminUserIDs": ["bob"], "memberUserIDs": ["carol"],
            "groupInfo": {"groupID": "g1", "groupName": "Team", "groupType": 2},
        });
        team.alice.call("/group/create_group", body).await?;
        Ok(team)
    }

    async fn group(&self) -> Result<Value> {
        let data = self.alice.call("/group/get_groups_info", json!({"groupIDs": ["g1"]})).await?;
        Ok(data["groupInfos"][0].clone())
    }

    async fn member(&self, user_id: &str) -> Result<Value> {
        let body = json!({"groupID": "g1", "userIDs": [user_id]});
        let data = self.admin.call("/group/get_group_members_info", body).await?;
        Ok(data["members"][0].clone())
    }

    /// IDs of the members, by rank.
    async fn members(&self) -> Result<Vec<String>> {
        let data =
            self.admin.call("/group/get_group_member_user_id", json!({"groupID": "g1"})).await?;
        Ok(texts(&data["userIDs"]))
    }

    async fn need_verification(&self, need: i32) -> Result {
        let body = json!({"groupID": "g1", "needVerification": need});
        self.alice.call("/group/set_group_info_ex", body).await?;
        Ok(())
    }

    async fn stop(self) -> Result {
        self.node.stop().await
    }
}

fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
}

/// A call that has to be refused with a code.
async fn refused(client: &Client, route: &str, body: Value, code: i64) -> Result {
    assert_eq!(client.refused(route, &body).await?, code, "{} {route} {body}", client.user_id);
    Ok(())
}

/// Something a group or user was told.
struct Notice {
    conversation_id: String,
    message: MsgData,
    detail: Value,
}

impl Notice {
    fn keys(&self) -> Vec<&str> {
        self.detail.as_object().expect("an object").keys().map(String::as_str).collect()
    }

    fn in_chat(&self) -> bool {
        !self.conversation_id.starts_with("n_")
    }

    fn on(&self) -> Vec<&str> {
        let options = self.message.options.iter();
        options.filter(|(_, on)| **on).map(|(key, _)| key.as_str()).collect()
    }
}

/// Every notice pushed until it is quiet.
async fn notices(socket: &mut Socket) -> Result<Vec<Notice>> {
    let mut notices = Vec::new();
    for push in socket.pushes_until_quiet(QUIET).await? {
        let Push::Message { conversation_id, message, .. } = push else { continue };
        let outer: Value = serde_json::from_slice(&message.content)?;
        let detail = serde_json::from_str(outer["detail"].as_str().expect("a detail"))?;
        notices.push(Notice { conversation_id, message: *message, detail });
    }
    Ok(notices)
}

/// What is told outside chats, as content types; conversation changes left out.
fn kinds(notices: &[Notice]) -> Vec<i32> {
    let told = notices.iter().filter(|notice| !notice.in_chat());
    told.map(|notice| notice.message.content_type).filter(|kind| *kind != 1300).collect()
}

/// The seqs of what is told in chats, by content type.
fn in_chat(notices: &[Notice]) -> Vec<(i32, i64)> {
    let told = notices.iter().filter(|notice| notice.in_chat());
    told.map(|notice| (notice.message.content_type, notice.message.seq)).collect()
}

/// The one notice of a kind outside the chat.
fn only(notices: &[Notice], kind: i32) -> &Notice {
    let mut found = notices.iter().filter(|n| !n.in_chat() && n.message.content_type == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind} among {:?}", kinds(notices)));
    assert!(found.next().is_none(), "{kind} came twice");
    first
}

/// How often a user is told that the conversation of `g1` changed.
fn conversation_changes(notices: &[Notice], user_id: &str) -> usize {
    let told = json!({"userID": user_id, "conversationIDList": ["sg_g1"]});
    let changed = notices.iter().filter(|n| n.message.content_type == 1300 && n.detail == told);
    changed.count()
}

/// The version of a group's member list, as a client knows it.
async fn version(client: &Client) -> Result<(String, u64)> {
    let body = json!({"groupID": "g1", "versionID": "", "version": 0});
    let data = client.call("/group/get_incremental_group_members", body).await?;
    let id = data["versionID"].as_str().expect("an ID").to_owned();
    Ok((id, data["version"].as_u64().expect("a number")))
}

async fn connected(client: &Client) -> Result<Socket> {
    client.connect(Wire::JSON).await
}
