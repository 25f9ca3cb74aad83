//! What apps report about their devices.

use serde_json::{Value, json};
use services::Services;
use store::schema;
use testnet::{Node, Result};

fn push_token(services: &Services, user_id: &str, platform: u32) -> Result<Option<String>> {
    let token = schema::PUSH_TOKENS.get(&services.store().view(), (user_id, platform))?;
    Ok(token.map(|token| token.token))
}

#[tokio::test]
async fn a_push_token_belongs_to_its_user() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, mallory] = admin.users(["alice", "mallory"]).await?;
    let route = "/third/fcm_update_token";
    let body = json!({"platformID": 2, "fcmToken": "fcm-1", "account": "alice", "expireTime": 0});
    assert_eq!(mallory.refused(route, &body).await?, 1002);
    assert_eq!(push_token(&node.services, "alice", 2)?, None);
    let answer = alice.post(route, &body).await?;
    assert_eq!(answer.text, r#"{"errCode":0,"errMsg":"","errDlt":""}"#);
    assert_eq!(push_token(&node.services, "alice", 2)?.as_deref(), Some("fcm-1"));
    let by_admin = json!({"platformID": 12, "fcmToken": "fcm-2", "account": "alice"});
    admin.client.call(route, by_admin).await?;
    assert_eq!(push_token(&node.services, "alice", 12)?.as_deref(), Some("fcm-2"));
    for (key, wrong) in [
        ("platformID", json!(0)),
        ("platformID", json!(13)),
        ("platformID", Value::Null),
        ("fcmToken", json!("")),
        ("fcmToken", json!("x".repeat(5_000))),
        ("account", json!("")),
    ] {
        let mut body = body.clone();
        body[key] = wrong;
        assert_eq!(alice.refused(route, &body).await?, 1001, "{body}");
    }
    node.stop().await
}

#[tokio::test]
async fn a_badge_belongs_to_its_user() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, mallory] = admin.users(["alice", "mallory"]).await?;
    let route = "/third/set_app_badge";
    let badge = || {
        let badge = schema::BADGES.get(&node.services.store().view(), "alice").expect("reads");
        badge.map(|badge| badge.value)
    };
    let body = json!({"userID": "alice", "appUnreadCount": 5});
    assert_eq!(mallory.refused(route, &body).await?, 1002);
    assert_eq!(badge(), None);
    alice.call(route, &body).await?;
    assert_eq!(badge(), Some(5));
    admin.client.call(route, json!({"userID": "alice"})).await?;
    assert_eq!(badge(), Some(0));
    assert_eq!(alice.refused(route, json!({"appUnreadCount": 5})).await?, 1001);
    node.stop().await
}

#[tokio::test]
async fn logs_are_kept_found_and_forgotten() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?.client;
    let [alice, mallory] = node.admin().await?.users(["alice", "mallory"]).await?;
    let (upload, search, delete) =
        ("/third/logs/upload", "/third/logs/search", "/third/logs/delete");
    let files = json!([
        {"filename": "a.zip", "URL": "http://x.example/a.zip"},
        {"filename": "b.zip", "URL": "http://x.example/b.zip"},
    ]);
    let report = json!({
        "platform": 5, "fileURLs": files, "appFramework": "web", "version": "3.8", "ex": "lx",
    });
    let answer = alice.post(upload, &report).await?;
    assert_eq!(answer.text, r#"{"errCode":0,"errMsg":"","errDlt":""}"#);
    mallory.call(upload, &report).await?;
    assert_eq!(alice.refused(upload, json!({"platform": 5})).await?, 500);
    assert_eq!(alice.refused(upload, json!({"platform": 5, "fileURLs": []})).await?, 500);
    let many = vec![json!({"filename": "a", "URL": "b"}); 101];
    assert_eq!(alice.refused(upload, json!({"fileURLs": many})).await?, 1001);

    let page = json!({"pageNumber": 1, "showNumber": 10});
    let mine = json!({"keyword": "ALICE", "startTime": 0, "endTime": 0, "pagination": page});
    assert_eq!(alice.refused(search, &mine).await?, 1002);
    for text in ["(", "*", "[", "+86", "."] {
        let none = json!({"keyword": text, "pagination": page});
        assert_eq!(admin.call(search, none).await?["total"], 0, "{text}");
    }
    let found = admin.call(search, &mine).await?;
    assert_eq!(found["total"], 2);
    let infos = found["logsInfos"].as_array().expect("a list");
    let ids: Vec<&str> = infos.iter().map(|info| info["logID"].as_str().expect("an ID")).collect();
    assert!(ids.iter().all(|id| id.len() == 10 && !id.starts_with('0')), "{ids:?}");
    let times: Vec<i64> =
        infos.iter().map(|info| info["createTime"].as_i64().expect("a time")).collect();
    assert!(times[0] > times[1]);
    let expected = format!(
        r#"{{"userID":"alice","platform":"Web","url":"http://x.example/b.zip","createTime":{},"nickname":"alice","logID":"{}","filename":"b.zip","systemType":"","ex":"lx","version":"3.8"}}"#,
        times[0], ids[0],
    );
    assert!(admin.post(search, &mine).await?.text.contains(&expected));

    let all = |start: i64, end: i64, page: Value| json!({"keyword": "", "startTime": start, "endTime": end, "pagination": page});
    assert_eq!(admin.call(search, all(0, 0, page.clone())).await?["total"], 4);
    assert_eq!(
        admin.call(search, all(1, 2, page.clone())).await?,
        json!({"logsInfos": null, "total": 0})
    );
    let one = json!({"pageNumber": 2, "showNumber": 1});
    let second = admin.call(search, all(0, 0, one)).await?;
    assert_eq!(
        (&second["total"], second["logsInfos"].as_array().map(Vec::len)),
        (&json!(4), Some(1))
    );
    assert_eq!(
        admin.call(search, all(0, 0, json!({}))).await?,
        json!({"logsInfos": null, "total": 4})
    );
    assert_eq!(admin.refused(search, all(9, 3, page.clone())).await?, 1001);
    assert_eq!(admin.refused(search, json!({"keyword": ""})).await?, 1001);

    assert_eq!(alice.refused(delete, json!({"logIDs": ids})).await?, 1002);
    assert_eq!(admin.refused(delete, json!({"logIDs": [ids[0], "nope"]})).await?, 1004);
    assert_eq!(admin.refused(delete, json!({"logIDs": []})).await?, 500);
    assert_eq!(admin.call(search, &mine).await?["total"], 2);
    let answer = admin.post(delete, json!({"logIDs": [ids[0], ids[1], ids[0]]})).await?;
    assert_eq!(answer.text, r#"{"errCode":0,"errMsg":"","errDlt":""}"#);
    assert_eq!(admin.call(search, &mine).await?["total"], 0);
    node.stop().await
}

#[tokio::test]
async fn a_long_list_of_logs_is_searched_to_its_end() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?.client;
    let alice = node.admin().await?.user("alice").await?;
    let files: Vec<Value> =
        (0..100).map(|n| json!({"filename": n.to_string(), "URL": "u"})).collect();
    for _ in 0..23 {
        alice.call("/third/logs/upload", json!({"fileURLs": files})).await?;
    }
    let mut seen = std::collections::BTreeSet::new();
    for number in 1..=3 {
        let page = json!({"pageNumber": number, "showNumber": 1_000});
        let found = admin.call("/third/logs/search", json!({"pagination": page})).await?;
        assert_eq!(found["total"], 2_300);
        for info in found["logsInfos"].as_array().into_iter().flatten() {
            seen.insert(info["logID"].as_str().expect("an ID").to_owned());
        }
    }
    assert_eq!(seen.len(), 2_300);
    node.stop().await
}

#[tokio::test]
async fn the_oldest_logs_make_room() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?.client;
    let files = |names: [&str; 2]| {
        let file = |name: &str| json!({"filename": name, "URL": "u"});
        json!({"fileURLs": names.map(file)})
    };
    admin.call("/third/logs/upload", files(["1", "2"])).await?;
    node.clock.advance(10);
    // As if the node held all it may hold.
    let full = node.services.store().transact(|tx| {
        schema::COUNTERS.put(tx, "client_logs", &store::record::Number { value: 100_000 });
        Ok::<_, store::StoreError>(())
    });
    full.await?;
    admin.call("/third/logs/upload", files(["3", "4"])).await?;
    let page = json!({"pageNumber": 1, "showNumber": 10});
    let found = admin.call("/third/logs/search", json!({"pagination": page})).await?;
    let infos = found["logsInfos"].as_array().into_iter().flatten();
    let names: Vec<&str> = infos.filter_map(|info| info["filename"].as_str()).collect();
    assert_eq!(names, ["4", "3"]);
    node.stop().await
}
