use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use proto::msg::{
    GetConversationsHasReadAndMaxSeqReq, GetConversationsHasReadAndMaxSeqResp, GetLastMessageReq,
    GetLastMessageResp, GetSeqMessageReq, GetSeqMessageResp, SendMsgResp,
};
use proto::push::DelUserPushTokenReq;
use proto::sdkws::{
    GetMaxSeqReq, GetMaxSeqResp, MsgData, PullMessageBySeqsReq, PullMessageBySeqsResp,
    SetAppBackgroundStatusReq, SubUserOnlineStatus, SubUserOnlineStatusTips,
};
use proto::{Message, envelope::Response};
use serde::Serialize;
use serde_json::{Value, json};
use testnet::recording::{Learnt, Outcome, decoded, differences, encoded};
use testnet::{Admin, Client, Node, Push, Result, Socket, Wire, text_message};

use super::{QUIET, folder, lines};

const FILE: &str = "ws-opcodes.jsonl";

/// What the original stored and a node does not; something else takes the seq.
const NOT_STORED: [&str; 3] = [
    "receiver's global option 1",
    "same clientMsgID, second",
    "notification type from an ordinary user (2001, isNotNotification false)",
];

struct Scene {
    node: Node,
    admin: Admin,
    owner: Client,
    sockets: BTreeMap<String, Socket>,
    learnt: Learnt,
    statuses: Vec<Value>,
}

impl Scene {
    async fn start() -> Result<Self> {
        let node = Node::start().await?;
        let admin = node.admin().await?;
        admin.register(&["fd_alice", "fd_bob", "fd_carol", "fd_frank", "fd_mallory"]).await?;
        let owner = admin.client("fd_alice", 3).await?;
        let group = json!({
            "ownerUserID": "fd_alice",
            "memberUserIDs": ["fd_bob", "fd_frank"],
            "groupInfo": { "groupID": "fd_w1", "groupName": "W", "groupType": 2 },
        });
        owner.call("/group/create_group", group).await?;
        let business = json!({
            "key": "k", "data": "d", "sendUserID": "fd_alice", "recvUserID": "fd_bob",
            "reliabilityLevel": 2,
        });
        admin.client.call("/msg/send_business_notification", business).await?;
        let black = json!({ "ownerUserID": "fd_bob", "blackUserID": "fd_mallory" });
        admin.client.call("/friend/add_black", black).await?;
        let mut sockets = BTreeMap::new();
        for name in ["alice", "bob", "mallory"] {
            let client = admin.client(&format!("fd_{name}"), 5).await?;
            sockets.insert(name.to_owned(), client.connect(Wire::JSON).await?);
        }
        let (learnt, statuses) = (Learnt::default(), Vec::new());
        Ok(Self { node, admin, owner, sockets, learnt, statuses })
    }

    /// What was done over REST between the recorded requests.
    async fn prepare(&self, case: &str) -> Result {
        let (admin, owner) = (&self.admin.client, &self.owner);
        let bob = json!({ "groupID": "fd_w1", "userID": "fd_bob", "mutedSeconds": 60 });
        let group = json!({ "groupID": "fd_w1" });
        let option = |option: i32| {
            json!({
                "userIDs": ["fd_bob"],
                "conversation": {
                    "conversationID": "si_fd_alice_fd_bob", "conversationType": 1,
                    "userID": "fd_alice", "recvMsgOpt": option,
                },
            })
        };
        match case {
            "muted member" => {
                owner.call("/group/mute_group_member", bob).await?;
            }
            "muted group" => {
                owner.call("/group/cancel_mute_group_member", bob).await?;
                owner.call("/group/mute_group", group).await?;
            }
            "receiver's global option 1" => {
                owner.call("/group/cancel_mute_group", group).await?;
                let global = json!({ "userID": "fd_bob", "globalRecvMsgOpt": 1 });
                admin.call("/user/set_global_msg_recv_opt", global).await?;
            }
            "receiver's conversation option 1" => {
                admin.call("/conversation/set_conversations", option(1)).await?;
            }
            "same clientMsgID, first" => {
                admin.call("/conversation/set_conversations", option(0)).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Repeats one line; returns where it differs.
    async fn line(&mut self, line: &Value) -> Result<Vec<String>> {
        let case = line["case"].as_str().unwrap_or_default();
        self.prepare(case).await?;
        if line.get("answerText").is_none() {
            return self.without_answer(line, case).await;
        }
        let recorded: Value = serde_json::from_str(line["answerText"].as_str().expect("a text"))?;
        let identifier = i32::try_from(line["identifier"].as_i64().context("no number")?)?;
        let by = line["by"].as_str().unwrap_or_default();
        let request = match case {
            "IM admin sends as another user" => json!({
                "sendID": "fd_alice", "recvID": "fd_bob", "clientMsgID": "by-admin",
                "senderPlatformID": 5, "sessionType": 1, "msgFrom": 100, "contentType": 101,
                "content": { "content": "hi" },
            }),
            _ => self.learnt.apply(&line["request"]),
        };
        let data = match case {
            "data empty" => Vec::new(),
            "data not protobuf" => vec![0xff; 9],
            _ => data_of(identifier, &request)?,
        };
        let socket = self.sockets.get_mut(by).context("not connected")?;
        let response = socket.exchange(identifier, data).await?;
        if NOT_STORED.contains(&case) {
            let global = json!({ "userID": "fd_bob", "globalRecvMsgOpt": 0 });
            self.admin.client.call("/user/set_global_msg_recv_opt", global).await?;
            let alice = self.sockets.get_mut("alice").context("not connected")?;
            let mut message = text_message("fd_alice", "fd_bob", "in its place");
            (message.sender_nickname, message.sender_platform_id) = ("Nick".into(), 5);
            alice.send(&message).await?;
        }
        let mut found = Vec::new();
        for (key, now) in [
            ("reqIdentifier", json!(response.req_identifier)),
            ("errCode", json!(response.err_code)),
            ("errMsg", json!(response.err_msg)),
        ] {
            if recorded[key] != now {
                found.push(format!(".{key} is {now}, not {}", recorded[key]));
            }
        }
        if recorded["data"].is_null() != response.data.is_none() {
            found.push(format!(".data is {:?}, not {}", response.data, recorded["data"]));
        }
        let now = answer_of(identifier, response)?;
        if line.get("answer").is_some() {
            self.learnt.from_answers(&line["answer"], &now);
            found.extend(differences(&self.learnt.apply(&line["answer"]), &now));
        }
        Ok(found)
    }

    async fn device(&self, name: &str, platform: i32) -> Result<Client> {
        self.admin.client(&format!("fd_{name}"), platform).await
    }

    /// Lines that show pushes and the state of connections.
    async fn without_answer(&mut self, line: &Value, case: &str) -> Result<Vec<String>> {
        match case {
            "push: carol comes online on 5, then 3, leaves 5, leaves 3" => {
                if self.statuses.is_empty() {
                    let first = self.device("carol", 5).await?.connect(Wire::JSON).await?;
                    self.keep_status().await?;
                    let second = self.device("carol", 3).await?.connect(Wire::JSON).await?;
                    self.keep_status().await?;
                    first.cut();
                    self.keep_status().await?;
                    second.cut();
                    self.keep_status().await?;
                }
                let now = self.statuses.remove(0);
                Ok(differences(&line["decoded"], &now))
            }
            "push after 'same ID in both lists'" => {
                let carol = self.device("carol", 5).await?.connect(Wire::JSON).await?;
                self.keep_status().await?;
                self.sockets.insert("carol".into(), carol);
                let now = self.statuses.remove(0);
                Ok(differences(&line["decodedPushes"][0], &now))
            }
            "connection after that answer" | "connection after the answer" => {
                let mut socket = self.sockets.remove("alice").context("not connected")?;
                let ended = socket.ends(Duration::from_secs(2)).await;
                let alice = self.device("alice", 5).await?.connect(Wire::JSON).await?;
                self.sockets.insert("alice".into(), alice);
                Ok(if ended { Vec::new() } else { vec!["the connection is open".into()] })
            }
            "same token connects again" => {
                let client = self.device("alice", 3).await?;
                let mut first = client.connect(Wire::JSON).await?;
                let request = DelUserPushTokenReq { user_id: "fd_alice".into(), platform_id: 3 };
                first.exchange(2003, request.encode_to_vec()).await?;
                client.connect(Wire::JSON).await?.cut();
                Ok(Vec::new())
            }
            "IM admin connects on platform 10" => {
                let socket = self.admin.client.connect(Wire::JSON).await?;
                self.sockets.insert("admin".into(), socket);
                Ok(Vec::new())
            }
            other => anyhow::bail!("unknown case {other}"),
        }
    }

    /// Waits for the next status that alice is pushed.
    async fn keep_status(&mut self) -> Result {
        let socket = self.sockets.get_mut("alice").context("not connected")?;
        loop {
            let push = tokio::time::timeout(8 * QUIET, socket.next_push()).await??;
            if let Push::Status(tips) = push {
                self.statuses.push(decoded(&tips)?);
                return Ok(());
            }
        }
    }
}

fn data_of(identifier: i32, request: &Value) -> Result<Vec<u8>> {
    Ok(match identifier {
        1001 => encoded::<GetMaxSeqReq>(request)?.encode_to_vec(),
        1002 => encoded::<PullMessageBySeqsReq>(request)?.encode_to_vec(),
        1003 | 1004 => encoded::<MsgData>(request)?.encode_to_vec(),
        1005 => encoded::<GetSeqMessageReq>(request)?.encode_to_vec(),
        1006 => encoded::<GetConversationsHasReadAndMaxSeqReq>(request)?.encode_to_vec(),
        1007 => encoded::<GetLastMessageReq>(request)?.encode_to_vec(),
        2003 => encoded::<DelUserPushTokenReq>(request)?.encode_to_vec(),
        2004 => encoded::<SetAppBackgroundStatusReq>(request)?.encode_to_vec(),
        2005 => encoded::<SubUserOnlineStatus>(request)?.encode_to_vec(),
        other => anyhow::bail!("unknown identifier {other}"),
    })
}

/// The data of an answer; `null` where there is none.
fn answer_of(identifier: i32, response: Response) -> Result<Value> {
    fn read<T: Message + Default + Serialize>(data: bytes::Bytes) -> Result<Value> {
        decoded(&T::decode(data)?)
    }
    let Some(data) = response.data else { return Ok(Value::Null) };
    match identifier {
        1001 => read::<GetMaxSeqResp>(data),
        1002 => read::<PullMessageBySeqsResp>(data),
        1003 => read::<SendMsgResp>(data),
        1005 => read::<GetSeqMessageResp>(data),
        1006 => read::<GetConversationsHasReadAndMaxSeqResp>(data),
        1007 => read::<GetLastMessageResp>(data),
        2005 => read::<SubUserOnlineStatusTips>(data),
        _ => Ok(json!({})),
    }
}

#[tokio::test]
async fn requests_are_answered_as_recorded() -> Result {
    let mut scene = Scene::start().await?;
    let mut outcome = Outcome::default();
    for (at, line) in lines(FILE)?.iter().enumerate() {
        let what = format!("{} {}", line["identifier"], line["case"]);
        let found = scene.line(line).await.with_context(|| what.clone())?;
        outcome.add(FILE, at + 1, &what, &found);
    }
    outcome.judge(&folder().join("differences.json"), &[FILE])?;
    scene.node.stop().await
}
