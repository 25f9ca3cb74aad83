//! Repeats what the original server was asked, and compares the answers.
//!
//! `recordings/differences.json` lists every line that is answered otherwise on purpose, with its
//! reason; a line that differs without being listed fails the test, and so does a listed one that
//! agrees.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a test")]

mod object;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};
use services::environment::Clock as _;
use testnet::recording::{Learnt, Outcome, differences, forged};
use testnet::{Admin, Client, Node, Result, Socket, Wire};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings")
}

fn lines(file: &str) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(folder().join(file))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Users that exist before the first line, by prefix.
const USERS: [(&str, &[&str]); 3] = [
    ("fa_", &["alice", "bob", "carol", "dave", "erin", "frank", "mallory"]),
    ("fb_", &["alice", "bob", "carol", "carol2", "dave", "erin", "frank", "gina", "mallory"]),
    ("fe_", &["alice", "bob"]),
];

struct Replay {
    node: Node,
    admin: Admin,
    prefix: &'static str,
    tokens: HashMap<String, String>,
    learnt: Learnt,
    upload: object::Upload,
    outcome: Outcome,
    /// Alice is online all the time.
    _online: Option<Socket>,
}

/// Time at which the recording began, in Unix milliseconds.
const RECORDED_MS: i64 = 1_795_412_236_000;

impl Replay {
    async fn start(prefix: &'static str) -> Result<Self> {
        // As the original is.
        let node = Node::builder().settings(|settings| settings.open_directory = true);
        let node = node.time(RECORDED_MS).start().await?;
        let admin = node.admin().await?;
        let (_, names) = USERS.iter().find(|(p, _)| *p == prefix).expect("known prefix");
        let users: Vec<Value> = names
            .iter()
            .map(|name| {
                let mut capital = name.to_string();
                capital[..1].make_ascii_uppercase();
                json!({
                    "userID": format!("{prefix}{name}"),
                    "nickname": capital,
                    "faceURL": format!("http://face.example/{name}.png"),
                })
            })
            .collect();
        admin.client.call("/user/user_register", json!({ "users": users })).await?;
        if prefix == "fb_" {
            let account = json!({
                "userID": format!("{prefix}notif"),
                "nickName": "Notif",
                "faceURL": "http://face.example/notif.png",
                "appMangerLevel": 3,
            });
            admin.client.call("/user/add_notification_account", account).await?;
        }
        let (tokens, learnt) = (HashMap::new(), Learnt::default());
        let outcome = Outcome::default();
        let upload = object::Upload::default();
        let mut replay =
            Self { node, admin, prefix, tokens, learnt, upload, outcome, _online: None };
        let token = replay.token("alice").await?;
        let alice = Client {
            rest: replay.node.rest(),
            user_id: format!("{prefix}alice"),
            platform_id: 5,
            token,
        };
        replay._online = Some(alice.connect(Wire::JSON).await?);
        Ok(replay)
    }

    async fn token(&mut self, name: &str) -> Result<String> {
        if name == "admin" {
            return Ok(self.admin.client.token.clone());
        }
        if let Some(token) = self.tokens.get(name) {
            return Ok(token.clone());
        }
        let placeholder = format!("<token:{name}>");
        let issued = self.learnt.apply_text(&placeholder);
        if issued != placeholder {
            return Ok(issued);
        }
        let client = self.admin.client(&format!("{}{name}", self.prefix), 5).await?;
        self.tokens.insert(name.to_owned(), client.token.clone());
        self.learnt.text(&format!("<token:{name}>"), &client.token);
        Ok(client.token)
    }

    async fn file(&mut self, file: &str) -> Result {
        for (at, line) in lines(file)?.iter().enumerate() {
            self.prepare(line).await?;
            let found = match line.get("step") {
                Some(_) => self.storage(line).await?,
                None => self.line(line, at).await?,
            };
            let what = format!("{} ({}{})", line["route"], line["case"], line["step"]);
            self.outcome.add(file, at + 1, &what, &found);
        }
        Ok(())
    }

    /// Does what was done between the recorded calls.
    async fn prepare(&mut self, line: &Value) -> Result {
        let case = line["case"].as_str().unwrap_or_default();
        match (line["route"].as_str().unwrap_or_default(), case) {
            ("/auth/get_user_token", "notification account") => {
                let account = json!({
                    "userID": "fa_notif",
                    "nickName": "Notif",
                    "faceURL": "",
                    "appMangerLevel": 3,
                });
                self.admin.client.call("/user/add_notification_account", account).await?;
            }
            ("/auth/parse_token", "kicked token after a new one was issued") => {
                // Tokens of one second are equal.
                self.node.clock.advance(1_000);
                self.admin.client("fa_frank", 2).await?;
            }
            ("/auth/parse_token", case) if case.starts_with("kicked token, before") => {
                // Tokens of one second are equal.
                let now = self.node.clock.now_ms();
                self.node.clock.advance(1_000 - now % 1_000);
                self.issue("frank2c", "fa_frank", 2).await?;
                let logout = json!({ "platformID": 2, "userID": "fa_frank" });
                self.admin.client.call("/auth/force_logout", logout).await?;
            }
            ("/auth/parse_token", case) if case.starts_with("after issuing again") => {
                self.issue("frank2c", "fa_frank", 2).await?;
            }
            ("/auth/parse_token", case) if case.starts_with("token replaced by a newer") => {
                self.issue("frank5a", "fa_frank", 5).await?;
                self.node.clock.advance(1_000);
                self.issue("frank5b", "fa_frank", 5).await?;
            }
            ("/user/get_users_info", "escaping in answers") => {
                let ex = "<a&b>\u{2028}é\u{1f600}\"\\/\u{7f}\t";
                let info = json!({ "userInfo": { "userID": "fa_erin", "ex": ex } });
                self.admin.client.call("/user/update_user_info_ex", info).await?;
            }
            ("/msg/send_msg", "blocked by receiver") => {
                let black = json!({ "ownerUserID": "fb_bob", "blackUserID": "fb_mallory" });
                self.admin.client.call("/friend/add_black", black).await?;
            }
            ("/group/join_group", "ok, for somebody else") => {
                // Refused when the other one asks, so frank asks himself.
                let token = self.token("frank").await?;
                let body = line["requestBody"].to_string();
                let rest = self.node.rest();
                let answer = rest.post("/group/join_group", &token, "by-frank", body).await?;
                anyhow::ensure!(answer.code == 0, "{}", answer.text);
            }
            _ => {}
        }
        Ok(())
    }

    /// Issues a token that the recording calls `name`.
    async fn issue(&mut self, name: &str, user_id: &str, platform: i32) -> Result {
        let client = self.admin.client(user_id, platform).await?;
        self.learnt.text(&format!("<token:{name}>"), &client.token);
        Ok(())
    }

    /// Repeats one recorded call; returns where the answer differs.
    async fn line(&mut self, line: &Value, at: usize) -> Result<Vec<String>> {
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        let token = match text("caller") {
            "none" => String::new(),
            "forged" => {
                let good = self.token("alice").await?;
                forged(text("case"), "fa_alice", &good)
            }
            name => self.token(name).await?,
        };
        let method = if text("method").is_empty() { "POST" } else { text("method") };
        if let Some(asked) = line["requestBody"]["token"].as_str()
            && asked == "<token:other>"
        {
            let made = forged(text("case"), "fa_alice", "a.b.c");
            self.learnt.text(asked, &made);
        }
        let body = match line.get("requestText").and_then(Value::as_str) {
            Some(raw) => match raw.strip_prefix("base64:") {
                Some(encoded) => {
                    use base64::Engine as _;
                    base64::engine::general_purpose::STANDARD.decode(encoded)?
                }
                None => self.learnt.apply_text(raw).into_bytes(),
            },
            None => match line.get("requestBody") {
                Some(body) => without_anchors(self.learnt.apply(body)).to_string().into_bytes(),
                None => Vec::new(),
            },
        };
        let rest = self.node.rest();
        let url = format!("{}{}", rest.api(), self.learnt.apply_text(text("route")));
        let mut request = rest.http().request(method.parse()?, url).body(body);
        let mut headers = HashMap::new();
        let operation_id = format!("recorded {at}");
        if method == "POST" {
            headers.insert("operationID", operation_id.as_str());
            headers.insert("Content-Type", "application/json");
        }
        if !token.is_empty() {
            headers.insert("token", &token);
        }
        for (name, value) in line["requestHeaders"].as_object().into_iter().flatten() {
            match value.as_str() {
                Some("(not sent)") | None => headers.remove(name.as_str()),
                Some(value) => headers.insert(name, value),
            };
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = request.send().await?;
        let mut found = Vec::new();
        let status = u64::from(response.status().as_u16());
        if Some(status) != line["status"].as_u64() {
            found.push(format!("status is {status}, not {}", line["status"]));
        }
        if line["responseHeaders"].get("Location").is_some()
            != response.headers().contains_key("location")
        {
            found.push(format!("location is {:?}", response.headers().get("location")));
        }
        let now = response.text().await?;
        // Internals of the original.
        let recorded = text("responseText").trim_end_matches(" | -> <trace>");
        match (serde_json::from_str::<Value>(recorded), serde_json::from_str::<Value>(&now)) {
            (Ok(recorded), Ok(now)) => {
                self.learnt.from_answers(&recorded, &now);
                self.remember_upload(&recorded, &now);
                found.extend(differences(&self.learnt.apply(&recorded), &now));
                if text("route") == "/auth/get_user_token" && now["errCode"] == 0 {
                    let asked = &line["requestBody"];
                    let user = asked["userID"].as_str().unwrap_or_default();
                    let name = user.trim_start_matches(self.prefix);
                    self.tokens.remove(name);
                    let placeholder = format!("<token:{name}{}>", asked["platformID"]);
                    let token = now["data"]["token"].as_str().unwrap_or_default();
                    self.learnt.text(&placeholder, token);
                }
            }
            (Err(_), Err(_)) if recorded.trim_end() == now.trim_end() => {}
            _ => found.push(format!("body is {now:?}, not {recorded:?}")),
        }
        Ok(found)
    }
}

/// The original searches by regular expressions, the node for texts as they stand: the anchors of a
/// recorded expression are left out.
fn without_anchors(mut body: Value) -> Value {
    for key in ["userID", "nickName", "groupName", "keyword"] {
        let text = body.get(key).and_then(Value::as_str);
        if let Some(text) = text.and_then(|text| text.strip_prefix('^')) {
            body[key] = json!(text.trim_end_matches('$'));
        }
    }
    body
}

/// Repeats files in order on one node and judges the outcome.
async fn replay(prefix: &'static str, files: &[&str]) -> Result {
    let mut replay = Replay::start(prefix).await?;
    if prefix == "fe_" {
        replay.learn_contents()?;
    }
    for file in files {
        replay.file(file).await?;
    }
    let (agreed, all) = replay.outcome.counts();
    println!("{agreed} of {all} recorded calls agree");
    replay.outcome.judge(&folder().join("differences.json"), files)?;
    replay.node.stop().await
}

#[tokio::test]
async fn accounts_and_friends() -> Result {
    replay("fa_", &["rest-user.jsonl", "rest-auth.jsonl", "rest-friend.jsonl"]).await
}

#[tokio::test]
async fn transport() -> Result {
    replay("fa_", &["rest-transport.jsonl"]).await
}

#[tokio::test]
async fn groups_messages_and_the_rest() -> Result {
    replay(
        "fb_",
        &[
            "rest-group.jsonl",
            "rest-msg.jsonl",
            "rest-conversation.jsonl",
            "rest-jssdk.jsonl",
            "rest-third.jsonl",
            "rest-statistics.jsonl",
            "rest-object.jsonl",
        ],
    )
    .await
}

#[tokio::test]
async fn uploads() -> Result {
    replay("fe_", &["rest-object-on.jsonl"]).await
}
