//! Small records: user commands and client settings.

use serde_json::{Value, json};
use testnet::{Node, Result};

use crate::{OK, ok};

#[tokio::test]
async fn commands_are_kept_by_type() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let of_type = json!({"userID": "alice", "type": 7});
    let (get, get_all) = ("/user/process_user_command_get", "/user/process_user_command_get_all");
    assert_eq!(alice.post(get, &of_type).await?.text, ok(r#"{"CommandResp":null}"#));
    let add = "/user/process_user_command_add";
    for body in [
        json!({"userID": "alice", "type": 8, "uuid": "first"}),
        json!({"userID": "alice", "type": 7, "uuid": "u1", "value": "v1"}),
        json!({"userID": "alice", "type": 7, "uuid": "u2", "value": "v2", "ex": "e2"}),
        json!({"userID": "alice", "type": 7, "uuid": "u1", "value": "v1b"}),
    ] {
        assert_eq!(alice.post(add, body).await?.text, OK);
        node.clock.advance(1);
    }
    let list = |data: &Value| -> Vec<(i64, String, String, String)> {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let entry = |e: &Value| {
            (
                e["type"].as_i64().expect("a type"),
                text(&e["uuid"]),
                text(&e["value"]),
                text(&e["ex"]),
            )
        };
        data["CommandResp"].as_array().map(|l| l.iter().map(entry).collect()).unwrap_or_default()
    };
    let row = |kind, uuid: &str, value: &str, ex: &str| {
        (kind, uuid.to_owned(), value.to_owned(), ex.to_owned())
    };
    let sevens = [row(7, "u1", "v1", ""), row(7, "u2", "v2", "e2"), row(7, "u1", "v1b", "")];
    assert_eq!(list(&alice.call(get, &of_type).await?), sevens);
    let answer = alice.post(get_all, json!({"userID": "alice"})).await?;
    let mut all = vec![row(8, "first", "", "")];
    all.extend(sevens);
    assert_eq!(list(&answer.body["data"]), all);
    let created = answer.body["data"]["CommandResp"][0]["createTime"].as_i64().expect("a time");
    assert!((1_000_000_000..100_000_000_000).contains(&created), "{created} is no time in seconds");
    assert!(answer.text.contains(&format!(
        r#"{{"type":8,"createTime":{created},"uuid":"first","value":"","ex":""}}"#
    )));

    let update = "/user/process_user_command_update";
    let change = json!({"userID": "alice", "type": 7, "uuid": "u1", "ex": "new"});
    assert_eq!(alice.post(update, change).await?.text, OK);
    let nothing = json!({"userID": "alice", "type": 7, "uuid": "unknown"});
    assert_eq!(alice.post(update, nothing).await?.text, OK);
    let unknown = json!({"userID": "alice", "type": 7, "uuid": "unknown", "value": "x"});
    assert_eq!(alice.refused(update, unknown).await?, 1004);
    let rows = list(&alice.call(get, &of_type).await?);
    assert_eq!(rows[0], row(7, "u1", "v1", "new"));
    assert_eq!(rows[2], row(7, "u1", "v1b", ""));

    let delete = "/user/process_user_command_delete";
    let gone = json!({"userID": "alice", "type": 7, "uuid": "u1"});
    assert_eq!(alice.post(delete, &gone).await?.text, OK);
    assert_eq!(
        list(&alice.call(get, &of_type).await?),
        [row(7, "u2", "v2", "e2"), row(7, "u1", "v1b", "")]
    );
    let unknown = json!({"userID": "alice", "type": 8, "uuid": "u1"});
    assert_eq!(alice.refused(delete, unknown).await?, 1004);
    node.stop().await
}

#[tokio::test]
async fn commands_are_checked() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?.client;
    let [alice, mallory] = node.admin().await?.users(["alice", "mallory"]).await?;
    let full = json!({"userID": "alice", "type": 7, "uuid": "u1", "value": "v1"});
    for (name, keys) in [
        ("add", &["userID", "type", "uuid"][..]),
        ("get", &["userID", "type"]),
        ("get_all", &["userID"]),
        ("update", &["userID", "type", "uuid"]),
        ("delete", &["userID", "type", "uuid"]),
    ] {
        let route = format!("/user/process_user_command_{name}");
        assert_eq!(mallory.refused(&route, &full).await?, 1002, "{route}");
        for key in keys {
            let mut body = full.clone();
            body.as_object_mut().expect("an object").remove(*key);
            assert_eq!(alice.refused(&route, &body).await?, 1001, "{route} {body}");
        }
        admin.call(&route, &full).await?;
    }
    let add = "/user/process_user_command_add";
    for (key, size) in [("uuid", 257), ("value", 20_000), ("ex", 20_000)] {
        let mut body = full.clone();
        body[key] = json!("x".repeat(size));
        assert_eq!(alice.refused(add, &body).await?, 1001, "{key}");
        if key != "uuid" {
            assert_eq!(alice.refused("/user/process_user_command_update", &body).await?, 1001);
        }
    }
    for _ in 0..1_000 {
        alice.call(add, &full).await?;
    }
    assert_eq!(alice.refused(add, &full).await?, 1001);
    alice.call("/user/process_user_command_delete", &full).await?;
    alice.call(add, &full).await?;
    node.stop().await
}

#[tokio::test]
async fn settings_of_all_are_overlaid_by_own() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?.client;
    let [alice, mallory] = node.admin().await?.users(["alice", "mallory"]).await?;
    let (get, set) = ("/user/get_user_client_config", "/user/set_user_client_config");
    let mine = json!({"userID": "alice"});
    assert_eq!(alice.post(get, &mine).await?.text, ok("{}"));
    let own =
        json!({"userID": "alice", "configs": {"CONVERSATION_ACTIVE_NUM": "40", "theme": "dark"}});
    assert_eq!(alice.refused(set, &own).await?, 1002);
    assert_eq!(admin.post(set, &own).await?.text, OK);
    admin.call(set, json!({"configs": {"theme": "light", "z": "1"}})).await?;
    admin.call(set, &mine).await?;
    assert_eq!(
        alice.post(get, &mine).await?.text,
        ok(r#"{"configs":{"CONVERSATION_ACTIVE_NUM":"40","theme":"dark","z":"1"}}"#)
    );
    assert_eq!(
        mallory.post(get, json!({})).await?.text,
        ok(r#"{"configs":{"theme":"light","z":"1"}}"#)
    );
    assert_eq!(mallory.refused(get, &mine).await?, 1002);
    assert_eq!(admin.refused(get, json!({"userID": "nobody"})).await?, 1004);
    let unknown = json!({"userID": "nobody", "configs": {"a": "b"}});
    assert_eq!(admin.refused(set, unknown).await?, 1004);
    let number = json!({"userID": "alice", "configs": {"a": 1}});
    assert_eq!(admin.refused(set, number).await?, 1001);
    let long = json!({"configs": {"a": "x".repeat(20_000)}});
    assert_eq!(admin.refused(set, long).await?, 1001);
    let many = |from: usize| -> serde_json::Map<String, Value> {
        (from..from + 600).map(|n| (n.to_string(), json!(""))).collect()
    };
    admin.call(set, json!({"userID": "mallory", "configs": many(0)})).await?;
    let more = json!({"userID": "mallory", "configs": many(600)});
    assert_eq!(admin.refused(set, more).await?, 1001);

    let delete = "/user/del_user_client_config";
    let keys = json!({"userID": "alice", "keys": ["theme", "unknown"]});
    assert_eq!(alice.refused(delete, &keys).await?, 1002);
    assert_eq!(admin.post(delete, &keys).await?.text, OK);
    admin.call(delete, json!({"userID": "nobody", "keys": ["a"]})).await?;
    admin.call(delete, &mine).await?;
    assert_eq!(
        alice.post(get, &mine).await?.text,
        ok(r#"{"configs":{"CONVERSATION_ACTIVE_NUM":"40","theme":"light","z":"1"}}"#)
    );
    node.stop().await
}

#[tokio::test]
async fn settings_are_paged_by_admins() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?.client;
    let alice = node.admin().await?.user("alice").await?;
    let set = "/user/set_user_client_config";
    admin.call(set, json!({"userID": "alice", "configs": {"a": "40", "theme": "dark"}})).await?;
    admin.call(set, json!({"configs": {"theme": "light"}})).await?;
    let route = "/user/page_user_client_config";
    let page = json!({"pageNumber": 1, "showNumber": 10});
    let body = |user: &str, key: &str| json!({"userID": user, "key": key, "pagination": page});
    assert_eq!(alice.refused(route, body("alice", "")).await?, 1002);
    let a = r#"{"key":"a","userID":"alice","value":"40"}"#;
    let theme = r#"{"key":"theme","userID":"alice","value":"dark"}"#;
    let global = r#"{"key":"theme","userID":"","value":"light"}"#;
    for (user, key, total, list) in [
        ("alice", "", 2, format!("[{a},{theme}]")),
        ("alice", "theme", 1, format!("[{theme}]")),
        ("", "theme", 2, format!("[{global},{theme}]")),
        ("", "", 3, format!("[{global},{a},{theme}]")),
        ("bob", "", 0, "null".into()),
    ] {
        let text = admin.post(route, body(user, key)).await?.text;
        assert_eq!(text, ok(&format!(r#"{{"total":{total},"configs":{list}}}"#)));
    }
    let none = admin.post(route, json!({"userID": "alice"})).await?;
    assert_eq!(none.text, ok(r#"{"total":2,"configs":null}"#));
    let second = json!({"pagination": {"pageNumber": 3, "showNumber": 1}});
    let text = admin.post(route, second).await?.text;
    assert_eq!(text, ok(&format!(r#"{{"total":3,"configs":[{theme}]}}"#)));
    node.stop().await
}
