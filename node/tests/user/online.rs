//! Who is online.

use serde_json::json;
use testnet::{Node, Result, Wire};

use crate::ok;

#[tokio::test]
async fn status_shows_the_platforms() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let pc = node.admin().await?.client("alice", 3).await?;
    let route = "/user/get_users_status";
    let body = json!({"userIDs": ["alice", "carol", "alice"]});
    let offline = r#"{"statusList":[{"userID":"alice","status":0,"platformIDs":null},{"userID":"carol","status":0,"platformIDs":null},{"userID":"alice","status":0,"platformIDs":null}]}"#;
    assert_eq!(bob.post(route, &body).await?.text, ok(offline));
    let _web = alice.connect(Wire::JSON).await?;
    let _pc = pc.connect(Wire::JSON).await?;
    let online = r#"{"statusList":[{"userID":"alice","status":1,"platformIDs":[3,5]},{"userID":"carol","status":0,"platformIDs":null},{"userID":"alice","status":1,"platformIDs":[3,5]}]}"#;
    assert_eq!(bob.post(route, &body).await?.text, ok(online));
    assert_eq!(bob.refused(route, json!({"userID": "bob"})).await?, 1001);
    assert_eq!(bob.refused(route, json!({"userIDs": []})).await?, 1001);
    node.stop().await
}

#[tokio::test]
async fn subscribing_over_rest_does_nothing() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let route = "/user/subscribe_users_status";
    for genre in [1, 2] {
        let body = json!({"userID": "alice", "userIDs": ["bob"], "genre": genre});
        assert_eq!(alice.post(route, body).await?.text, ok(r#"{"statusList":null}"#));
    }
    for body in [
        json!({"userIDs": ["bob"], "genre": 1}),
        json!({"userID": "alice", "genre": 1}),
        json!({"userID": "alice", "userIDs": [], "genre": 1}),
        json!({"userID": "alice", "userIDs": ["bob"]}),
        json!({"userID": "alice", "userIDs": ["bob"], "genre": 3}),
    ] {
        assert_eq!(alice.refused(route, &body).await?, 1001, "{body}");
    }
    let route = "/user/get_subscribe_users_status";
    let answer = alice.post(route, json!({"userID": "alice"})).await?;
    assert_eq!(answer.text, ok(r#"{"statusList":null}"#));
    assert_eq!(alice.refused(route, json!({})).await?, 1001);
    node.stop().await
}

#[tokio::test]
async fn only_admins_see_connections_and_tokens() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?.client;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let _socket = alice.connect(Wire::JSON).await?;
    let body = json!({"userIDs": ["alice", "bob", "nobody"]});

    let route = "/user/get_users_online_status";
    assert_eq!(bob.refused(route, &body).await?, 1002);
    let answer = admin.post(route, &body).await?;
    let connection = &answer.body["data"][0]["detailPlatformStatus"][0]["connID"];
    let connection = connection.as_str().expect("an ID");
    assert_eq!(connection.len(), 32);
    let expected = format!(
        r#"[{{"userID":"alice","status":1,"detailPlatformStatus":[{{"platformID":5,"connID":"{connection}","isBackground":false,"token":"{}"}}]}},{{"userID":"bob","status":0,"detailPlatformStatus":null}},{{"userID":"nobody","status":0,"detailPlatformStatus":null}}]"#,
        alice.token
    );
    assert_eq!(answer.text, ok(&expected));
    assert_eq!(admin.post(route, json!({})).await?.text, ok("null"));

    let route = "/user/get_users_online_token_detail";
    assert_eq!(bob.refused(route, &body).await?, 1002);
    let expected = format!(
        r#"[{{"userID":"alice","status":1,"singlePlatformToken":[{{"platformID":5,"total":1,"token":["{}"]}}]}}]"#,
        alice.token
    );
    assert_eq!(admin.post(route, &body).await?.text, ok(&expected));
    assert_eq!(admin.post(route, json!({"userIDs": ["bob"]})).await?.text, ok("null"));
    for route in ["/user/get_users_online_status", "/user/get_users_online_token_detail"] {
        let answer = admin.rest.post(route, &admin.token, "op", "{".into()).await?;
        assert_eq!((answer.status, answer.code), (400, 1001));
    }
    node.stop().await
}
