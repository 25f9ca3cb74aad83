//! Repeats recorded operations and compares what each connected device is pushed and what each
//! user finds when synchronising afterwards.
#![allow(clippy::expect_used, clippy::print_stdout, reason = "a test")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use proto::msg::{
    GetConversationsHasReadAndMaxSeqReq as SeqsReq,
    GetConversationsHasReadAndMaxSeqResp as SeqsResp,
};
use proto::sdkws::{
    GetMaxSeqReq, GetMaxSeqResp, MsgData, SubUserOnlineStatus, SubUserOnlineStatusTips,
};
use proto::{Message as _, msg::SendMsgResp};
use serde_json::{Map, Value, json};
use testnet::recording::{Learnt, Outcome, decoded, differences, encoded};
use testnet::{Admin, Client, Node, Push, Result, Socket, Wire};

const FILE: &str = "traces.jsonl";
/// Users whose lists are followed.
const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
/// Longest wait for a push that was recorded.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time in which a push that was not recorded would come.
const QUIET: Duration = Duration::from_millis(60);

/// The original stores it; a text takes its seq.
const STORED_TYPING: &str = "1:1 typing without options";
const TOKEN_KICKED: i64 = 1506;

/// Operations that are not repeated, because the original went wrong and all that follows would
/// be one message off.
const LEFT_OUT: [&str; 1] = ["group text after the kick"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings")
}

/// What a user knows of a list: identity and version of its log.
type Version = (String, u64);

/// What a user has seen so far.
#[derive(Default)]
struct Known {
    lists: BTreeMap<&'static str, Version>,
    members: BTreeMap<String, Version>,
    refused: BTreeMap<String, bool>,
    newest: BTreeMap<String, i64>,
    read: BTreeMap<String, [i64; 2]>,
}

struct Scene {
    node: Node,
    admin: Admin,
    clients: BTreeMap<String, Client>,
    sockets: BTreeMap<String, Socket>,
    known: BTreeMap<&'static str, Known>,
    groups: Vec<String>,
    learnt: Learnt,
}

impl Scene {
    async fn start() -> Result<Self> {
        let node = Node::start().await?;
        let admin = node.admin().await?;
        let users: Vec<Value> = ["Alice", "Bob", "Carol", "Dave", "Erin"]
            .iter()
            .map(|name| {
                let lower = name.to_lowercase();
                let face = format!("http://face.example/{lower}.png");
                json!({ "userID": format!("fc_{lower}"), "nickname": name, "faceURL": face })
            })
            .collect();
        admin.client.call("/user/user_register", json!({ "users": users })).await?;
        let account = json!({ "userID": "fc_notif", "nickName": "Notice", "appMangerLevel": 3 });
        admin.client.call("/user/add_notification_account", account).await?;
        let mut clients = BTreeMap::new();
        let mut sockets = BTreeMap::new();
        for (name, user_id, platform) in [
            ("alice", "fc_alice", 5),
            ("alicePC", "fc_alice", 3),
            ("bob", "fc_bob", 5),
            ("carol", "fc_carol", 5),
            ("dave", "fc_dave", 5),
        ] {
            let client = admin.client(user_id, platform).await?;
            sockets.insert(name.to_owned(), client.connect(Wire::JSON).await?);
            clients.insert(name.to_owned(), client);
        }
        let known = USERS.iter().map(|name| (*name, Known::default())).collect();
        let groups = Vec::new();
        let learnt = Learnt::default();
        let mut scene = Self { node, admin, clients, sockets, known, groups, learnt };
        for name in USERS {
            scene.sync(name).await?;
        }
        Ok(scene)
    }

    /// Repeats one line; returns where it differs.
    async fn line(&mut self, line: &Value) -> Result<Vec<String>> {
        let mut found = self.operate(line).await.with_context(|| line["action"].to_string())?;
        self.pushes(line, &mut found).await?;
        let mut synced = Map::new();
        for name in USERS {
            let changed = self.sync(name).await?;
            if changed.as_object().is_some_and(|changed| !changed.is_empty()) {
                synced.insert(name.to_owned(), changed);
            }
        }
        let recorded = line.get("sync").cloned().unwrap_or_else(|| json!({}));
        let mut recorded = self.learnt.apply(&recorded);
        let mut synced = Value::Object(synced);
        strip_versions(&mut recorded);
        strip_versions(&mut synced);
        found.extend(differences(&recorded, &synced).into_iter().map(|what| format!("sync{what}")));
        Ok(found)
    }

    /// Does what was done; returns where the direct answer differs.
    async fn operate(&mut self, line: &Value) -> Result<Vec<String>> {
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        let by = text("by");
        let mut request = self.learnt.apply(&line["request"]);
        if text("action") == STORED_TYPING {
            request["message"]["contentType"] = 101.into();
        }
        if let Some(route) = request["route"].as_str() {
            let client = if by == "admin" { &self.admin.client } else { &self.clients[by] };
            let answer = client.post(route, &request["body"]).await?;
            let recorded: Value = match line.get("response") {
                Some(response) => response.clone(),
                None => serde_json::from_str(text("responseText"))?,
            };
            self.learnt.from_answers(&recorded, &answer.body);
            if route == "/group/create_group"
                && let Some(id) = answer.body["data"]["groupInfo"]["groupID"].as_str()
            {
                self.groups.push(id.to_owned());
            }
            return Ok(differences(&self.learnt.apply(&recorded), &answer.body));
        }
        if let Some(identifier) = request["identifier"].as_i64() {
            let identifier = i32::try_from(identifier)?;
            let message = &request["message"];
            let data = match identifier {
                1003 => encoded::<MsgData>(message)?.encode_to_vec(),
                2005 => encoded::<SubUserOnlineStatus>(message)?.encode_to_vec(),
                other => anyhow::bail!("unknown identifier {other}"),
            };
            let socket = self.sockets.get_mut(by).context("not connected")?;
            let response = socket.exchange(identifier, data).await?;
            let data = match response.data {
                None => Value::Null,
                Some(data) if identifier == 1003 => decoded(&SendMsgResp::decode(data)?)?,
                Some(data) => decoded(&SubUserOnlineStatusTips::decode(data)?)?,
            };
            let now =
                json!({ "errCode": response.err_code, "errMsg": response.err_msg, "data": data });
            self.learnt.from_answers(&line["answer"], &now);
            return Ok(differences(&line["answer"], &now));
        }
        self.connect_or_look(line).await
    }

    /// Lines without a request: connections that come, go and are looked at.
    async fn connect_or_look(&mut self, line: &Value) -> Result<Vec<String>> {
        let mut found = Vec::new();
        match line["action"].as_str().unwrap_or_default() {
            "a subscribed user comes online" => {
                let erin = self.admin.client("fc_erin", 5).await?;
                self.sockets.insert("erin".into(), erin.connect(Wire::JSON).await?);
                found.extend(self.alice_sees_erin(&[5]).await?);
            }
            "a subscribed user goes offline" => {
                self.sockets.remove("erin").context("not connected")?.cut();
                found.extend(self.alice_sees_erin(&[]).await?);
            }
            "a second token for dave on platform 5 was issued" => {
                let client = self.admin.client("fc_dave", 5).await?;
                self.clients.insert("dave, new".into(), client);
            }
            "dave connects with the new token" => {
                let client = self.clients.remove("dave, new").context("no token")?;
                let first = self.sockets.remove("dave").context("not connected")?;
                self.sockets.insert("dave, first".into(), first);
                self.sockets.insert("dave".into(), client.connect(Wire::JSON).await?);
                self.clients.insert("dave".into(), client);
            }
            action => {
                let by = if action.contains("first") { "dave, first" } else { text(line, "by") };
                let socket = self.sockets.get_mut(by).context("not connected")?;
                let ended = socket.ends(Duration::from_millis(300)).await;
                if ended != line["connection"].as_str().is_some_and(|state| state != "open") {
                    found.push(format!("the connection has ended: {ended}"));
                }
                if ended {
                    self.sockets.remove(by);
                }
            }
        }
        Ok(found)
    }

    /// The recording lacks this push, which comes in a split deployment.
    async fn alice_sees_erin(&mut self, platforms: &[i32]) -> Result<Vec<String>> {
        let socket = self.sockets.get_mut("alice").context("not connected")?;
        let push = tokio::time::timeout(PATIENCE, socket.next_push()).await??;
        let Push::Status(tips) = push else { return Ok(vec![format!("pushed {push:?}")]) };
        let erin = tips.subscribers.first().context("nobody")?;
        let right = erin.user_id == "fc_erin" && erin.online_platform_ids == platforms;
        Ok(if right { Vec::new() } else { vec![format!("pushed {erin:?}")] })
    }

    /// Compares what every connection is pushed.
    async fn pushes(&mut self, line: &Value, found: &mut Vec<String>) -> Result {
        let frames = line["frames"].as_array().cloned().unwrap_or_default();
        let waits = self.sockets.iter_mut().map(|(name, socket)| {
            let expected: Vec<&Value> = line["pushes"][name]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|index| frames.get(usize::try_from(index.as_u64()?).ok()?))
                .collect();
            async move {
                let mut pushes = Vec::new();
                while pushes.len() < expected.len()
                    && let Ok(Ok(push)) = tokio::time::timeout(PATIENCE, socket.next_push()).await
                {
                    pushes.push(push);
                }
                while let Ok(Ok(push)) = tokio::time::timeout(QUIET, socket.next_push()).await {
                    pushes.push(push);
                }
                (name.clone(), expected, pushes)
            }
        });
        for (name, expected, pushes) in join_all(waits).await {
            // The recorder had turned to the new connection.
            if name == "dave, first" {
                continue;
            }
            compare_pushes(&name, &expected, pushes, &self.learnt, found)?;
        }
        Ok(())
    }

    /// What changed for a user since the last time.
    async fn sync(&mut self, name: &'static str) -> Result<Value> {
        let mut changed = Map::new();
        let client = &self.clients[name];
        let id = client.user_id.clone();
        let known = self.known.get_mut(name).context("not followed")?;
        for (list, route) in [
            ("friends", "/friend/get_incremental_friends"),
            ("joinedGroups", "/group/get_incremental_join_groups"),
            ("conversations", "/conversation/get_incremental_conversations"),
        ] {
            let (version_id, version) = known.lists.entry(list).or_default();
            let body = json!({ "userID": id, "versionID": version_id, "version": version });
            let answer = client.post(route, body).await?;
            if answer.code == TOKEN_KICKED {
                return Ok(json!({}));
            }
            anyhow::ensure!(answer.code == 0, "{route}: {}", answer.text);
            let data = answer.body["data"].clone();
            let now = version_of(&data);
            if now.1 != *version || now.0 != *version_id {
                known.lists.insert(list, now);
                changed.insert(list.to_owned(), data);
            }
        }
        let mut members = Map::new();
        for group in &self.groups {
            let (version_id, version) = known.members.entry(group.clone()).or_default();
            let body = json!({ "groupID": group, "versionID": version_id, "version": version });
            let answer = client.post("/group/get_incremental_group_members", body).await?;
            let data = answer.body["data"].clone();
            let refused = answer.code != 0;
            let before = known.refused.insert(group.clone(), refused);
            if refused {
                known.members.remove(group);
                if before != Some(true) && (before == Some(false) || name == "alice") {
                    members.insert(group.clone(), json!({ "errCode": answer.code }));
                }
                continue;
            }
            let now = version_of(&data);
            if now.1 != *version || now.0 != *version_id {
                known.members.insert(group.clone(), now);
                if name == "alice" || data["full"] == true {
                    members.insert(group.clone(), data);
                }
            }
        }
        if !members.is_empty() {
            changed.insert("members".into(), members.into());
        }
        let socket = self.sockets.get_mut(name);
        if let Some(socket) = socket {
            let newest: GetMaxSeqResp =
                socket.call(1001, &GetMaxSeqReq { user_id: id.clone() }).await?;
            let newest: BTreeMap<String, i64> = newest.max_seqs.into_iter().collect();
            changed_values("newestSeqs", &mut known.newest, newest, &mut changed);
            let request = SeqsReq { user_id: id, ..SeqsReq::default() };
            let seqs: SeqsResp = socket.call(1006, &request).await?;
            let read = seqs
                .seqs
                .into_iter()
                .map(|(id, seqs)| (id, [seqs.max_seq, seqs.has_read_seq]))
                .collect();
            changed_values("maxAndReadSeq", &mut known.read, read, &mut changed);
        }
        Ok(changed.into())
    }
}

fn text<'a>(line: &'a Value, key: &str) -> &'a str {
    line[key].as_str().unwrap_or_default()
}

fn version_of(data: &Value) -> Version {
    (text(data, "versionID").to_owned(), data["version"].as_u64().unwrap_or_default())
}

fn changed_values<T: PartialEq + Clone + serde::Serialize>(
    key: &str,
    known: &mut BTreeMap<String, T>,
    now: BTreeMap<String, T>,
    changed: &mut Map<String, Value>,
) {
    let differing: Map<String, Value> = now
        .iter()
        .filter(|(id, value)| known.get(*id) != Some(value))
        .map(|(id, value)| (id.clone(), json!(value).to_string().into()))
        .collect();
    if !differing.is_empty() {
        changed.insert(key.to_owned(), differing.into());
    }
    *known = now;
}

/// Numbers of steps differ; seqs become texts of the exact value.
fn strip_versions(value: &mut Value) {
    for user in value.as_object_mut().into_iter().flat_map(Map::values_mut) {
        for (key, list) in user.as_object_mut().into_iter().flatten() {
            let Some(list) = list.as_object_mut() else { continue };
            for key in ["from", "version", "versionID"] {
                list.remove(key);
            }
            match key.as_str() {
                "members" => {
                    for group in list.values_mut().filter_map(Value::as_object_mut) {
                        for key in ["from", "version", "versionID"] {
                            group.remove(key);
                        }
                    }
                }
                "newestSeqs" | "maxAndReadSeq" => {
                    let exact = std::mem::take(list).into_iter().map(|(id, value)| {
                        let exact = value.as_str().map_or(value.to_string(), str::to_owned);
                        let known = if id.starts_with("n_") { "some" } else { &exact };
                        (format!("{id} = {known}"), Value::Null)
                    });
                    *list = exact.collect();
                }
                _ => {}
            }
        }
    }
}

/// Compares one connection's pushes; those of one kind in order, the kinds among each other not.
fn compare_pushes(
    name: &str,
    expected: &[&Value],
    pushes: Vec<Push>,
    learnt: &Learnt,
    found: &mut Vec<String>,
) -> Result {
    let mut came = Vec::new();
    let mut kicked = false;
    for push in pushes {
        match push {
            Push::Message { conversation_id, message, .. } => {
                came.push((conversation_id, decoded(&*message)?));
            }
            Push::Kicked => kicked = true,
            Push::Status(tips) => found.push(format!("{name} is pushed {tips:?} too much")),
        }
    }
    for frame in expected {
        if frame["reqIdentifier"] == 2002 {
            if !kicked {
                found.push(format!("{name} is not kicked"));
            }
            kicked = false;
            continue;
        }
        let recorded = learnt.apply(&frame["msg"]);
        let conversation_id = learnt.apply_text(text(frame, "conversationID"));
        let kind = &recorded["contentType"];
        let place = came
            .iter()
            .position(|(id, message)| *id == conversation_id && message["contentType"] == *kind);
        let Some(place) = place else {
            found.push(format!("{name} lacks {kind} in {conversation_id}"));
            continue;
        };
        let (_, now) = came.remove(place);
        let mut different = differences(&recorded, &now);
        let notification = conversation_id.starts_with("n_");
        for key in ["seq", "sessionType", "msgFrom", "status"] {
            // How many notifications there were is compared by the pushes.
            if (key != "seq" || !notification) && recorded[key] != now[key] {
                different.push(format!(".{key} is {}, not {}", now[key], recorded[key]));
            }
        }
        found.extend(
            different.into_iter().map(|what| format!("{name}: {kind} in {conversation_id}{what}")),
        );
    }
    for (id, message) in came {
        found.push(format!("{name} gets {} in {id} too much", message["contentType"]));
    }
    if kicked {
        found.push(format!("{name} is kicked"));
    }
    Ok(())
}

#[tokio::test]
async fn operations_push_and_change_what_was_recorded() -> Result {
    let mut scene = Scene::start().await?;
    let mut outcome = Outcome::default();
    let recorded = std::fs::read_to_string(folder().join(FILE))?;
    for (at, line) in recorded.lines().enumerate() {
        let line: Value = serde_json::from_str(line)?;
        let action = text(&line, "action");
        let found = if LEFT_OUT.contains(&action) {
            vec!["not repeated".to_owned()]
        } else {
            scene.line(&line).await?
        };
        outcome.add(FILE, at + 1, action, &found);
    }
    let (agreed, all) = outcome.counts();
    println!("{agreed} of {all} recorded operations agree");
    outcome.judge(&folder().join("differences.json"), &[FILE])?;
    scene.node.stop().await
}
