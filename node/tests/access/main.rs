//! Who may do what: every route and opcode, called by everybody.
//!
//! `table.tsv` has a row for each: path (or opcode), body, and the error code that each caller gets,
//! in the order of `CALLERS`. A route without a row fails the test, and so does a row without a
//! route. Every request concerns the user `mem` or the group `g1`. With UPDATE_ACCESS set the test
//! writes what it saw; look at the difference before committing it.
#![allow(clippy::expect_used, reason = "a test may fail")]

mod opcode;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::json;
use testnet::{Admin, Client, Node, Result};

/// Who calls: nobody, somebody with an expired token, a stranger, the participant `mem`, the
/// group's admin, its owner, an app admin.
const CALLERS: [&str; 7] = ["none", "expired", "str", "mem", "adm", "own", "imAdmin"];

/// A node on which everybody stands in the relation the table speaks of.
struct Scene {
    node: Node,
    admin: Admin,
    clients: Vec<Client>,
}

impl Scene {
    async fn set() -> Result<Self> {
        let node = Node::start().await?;
        let admin = node.admin().await?;
        let [own, adm, mem, oth, stranger, app, _far] =
            admin.users(["own", "adm", "mem", "oth", "str", "app", "far"]).await?;
        let account =
            json!({ "userID": "bot", "nickName": "Bot", "faceURL": "f", "appMangerLevel": 3 });
        admin.client.call("/user/add_notification_account", account).await?;
        for (group_id, verification) in [("g1", 0), ("open", 2)] {
            let group = json!({
                "groupID": group_id, "groupName": "G", "groupType": 2,
                "needVerification": verification,
            });
            let body = match group_id {
                "g1" => json!({
                    "ownerUserID": "own", "adminUserIDs": ["adm"],
                    "memberUserIDs": ["mem", "oth"], "groupInfo": group,
                }),
                _ => json!({ "ownerUserID": "own", "groupInfo": group }),
            };
            own.call("/group/create_group", body).await?;
        }
        let import = json!({ "ownerUserID": "mem", "friendUserIDs": ["oth"] });
        admin.client.call("/friend/import_friend", import).await?;
        let ask = json!({ "fromUserID": "app", "toUserID": "mem", "reqMsg": "" });
        app.call("/friend/add_friend", ask).await?;
        let join = json!({ "groupID": "g1", "joinSource": 3, "inviterUserID": "app" });
        app.call("/group/join_group", join).await?;
        let note = json!({ "userID": "mem", "type": 1, "uuid": "u1", "value": "v" });
        mem.call("/user/process_user_command_add", note).await?;
        for (from, to) in [(&mem, "oth"), (&oth, "mem")] {
            let message = json!({
                "sendID": from.user_id, "recvID": to, "contentType": 101, "sessionType": 1,
                "senderPlatformID": 5, "content": { "content": "hi" },
            });
            admin.client.call("/msg/send_msg", message).await?;
        }
        let mut clients = vec![stranger, mem, adm, own];
        clients.push(admin.client.clone());
        Ok(Self { node, admin, clients })
    }

    /// The token of a caller.
    fn token(&self, caller: &str) -> String {
        match caller {
            "none" => String::new(),
            "expired" => expired(),
            id => {
                let client = self.clients.iter().find(|client| client.user_id == id);
                client.map(|client| client.token.clone()).expect("a known caller")
            }
        }
    }

    async fn call(&self, caller: &str, path: &str, body: &str) -> Result<i64> {
        let token = self.token(caller);
        let rest = self.admin.client.rest.clone();
        let answer = rest.post(path, &token, "access", body.to_owned()).await?;
        anyhow::ensure!(answer.code >= 0, "{path}: {} {}", answer.status, answer.text);
        Ok(answer.code)
    }
}

/// A token of `mem` that was good once.
fn expired() -> String {
    let claims = json!({ "UserID": "mem", "PlatformID": 5, "exp": 1_700_000_001, "iat": 1 });
    let key = jsonwebtoken::EncodingKey::from_secret(b"openIM123");
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("encodes")
}

struct Row {
    path: String,
    body: String,
    codes: Vec<String>,
}

fn table() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/access/table.tsv")
}

fn rows() -> Result<Vec<Row>> {
    let text = std::fs::read_to_string(table())?;
    let row = |line: &str| {
        let mut cells = line.split('\t').map(str::to_owned);
        let (path, body) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        Row { path, body, codes: cells.filter(|cell| !cell.is_empty()).collect() }
    };
    Ok(text.lines().filter(|line| !line.starts_with('#')).map(row).collect())
}

/// The codes that everybody gets on one route; a success is followed by a new scene.
async fn seen(path: &str, body: &str) -> Result<Vec<String>> {
    let mut scene = Scene::set().await?;
    let mut codes = Vec::new();
    for caller in CALLERS {
        let code = match path.parse::<i32>() {
            Ok(number) => opcode::call(&scene, caller, number).await?,
            Err(_) => scene.call(caller, path, body).await?,
        };
        if code == 0 && caller != "imAdmin" {
            scene.node.stop().await?;
            scene = Scene::set().await?;
        }
        codes.push(code.to_string());
    }
    Ok(codes)
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_gets_what_the_table_says() -> Result {
    let rows = rows()?;
    let tasks: Vec<_> = rows
        .iter()
        .map(|row| {
            let (path, body) = (row.path.clone(), row.body.clone());
            async move { seen(&path, &body).await }
        })
        .collect();
    let mut lines = vec![format!("# path\tbody\t{}", CALLERS.join("\t"))];
    let mut wrong = Vec::new();
    for (row, task) in rows.iter().zip(tasks) {
        let codes = tokio::spawn(task).await??;
        if codes != row.codes {
            wrong.push(format!(
                "{}: {} instead of {}",
                row.path,
                codes.join(" "),
                row.codes.join(" ")
            ));
        }
        lines.push(format!("{}\t{}\t{}", row.path, row.body, codes.join("\t")));
    }
    if std::env::var_os("UPDATE_ACCESS").is_some() {
        std::fs::write(table(), lines.join("\n") + "\n")?;
        return Ok(());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_route_and_opcode_has_a_row() -> Result {
    let rows: BTreeSet<String> = rows()?.into_iter().map(|row| row.path).collect();
    let routes = client_api::routes().into_iter().map(|(path, _)| path.to_owned());
    let opcodes = client_api::opcodes().iter().map(ToString::to_string);
    let known: BTreeSet<String> = routes.chain(opcodes).collect();
    let without: Vec<_> = known.difference(&rows).collect();
    let stale: Vec<_> = rows.difference(&known).collect();
    assert!(without.is_empty() && stale.is_empty(), "no row: {without:?}; no route: {stale:?}");
    Ok(())
}

/// What app admins alone may list, everybody may where the operator wants it as with OpenIM.
#[tokio::test]
async fn an_open_directory_is_open_to_everybody() -> Result {
    let node = Node::builder().settings(|settings| settings.open_directory = true).start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let page = json!({ "pageNumber": 1, "showNumber": 10 });
    for (path, body) in [
        ("/user/get_users", json!({ "pagination": page })),
        ("/user/get_all_users_uid", json!({ "pagination": page })),
        ("/statistics/user/register", json!({ "start": 1, "end": 86_400_000 })),
        ("/group/get_groups", json!({ "pagination": page, "groupID": "none" })),
    ] {
        alice.call(path, body).await?;
    }
    // Tokens are nobody's to see.
    let _socket = alice.connect(testnet::Wire::JSON).await?;
    let body = json!({ "userIDs": ["alice"] });
    let answer = alice.post("/user/get_users_online_token_detail", body).await?;
    assert!(answer.text.ends_with(r#""data":null}"#), "{}", answer.text);
    node.stop().await
}
