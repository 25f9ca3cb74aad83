//! What the JS SDK asks for at its start.
#![allow(clippy::expect_used, reason = "a test may fail")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::Message as _;
use proto::jssdk::{GetActiveConversationsReq, GetActiveConversationsResp};
use serde_json::{Value, json};
use testnet::{Client, Node, Result, Wire};

const ACTIVE: &str = "/jssdk/get_active_conversations";
const NAMED: &str = "/jssdk/get_conversations";

async fn text(from: &Client, to: &str) -> Result {
    from.connect(Wire::JSON).await?.send_text(to, "hello").await?;
    Ok(())
}

/// Alice with conversations with bob (her friend), carol and dave, in this order.
async fn alice_and_peers(node: &Node) -> Result<[Client; 4]> {
    let admin = node.admin().await?;
    let clients = admin.users(["alice", "bob", "carol", "dave"]).await?;
    let [alice, bob, carol, _] = &clients;
    let friends = json!({"ownerUserID": "alice", "friendUserIDs": ["bob"]});
    admin.client.call("/friend/import_friend", friends).await?;
    node.clock.advance(10);
    text(bob, "alice").await?;
    node.clock.advance(10);
    text(carol, "alice").await?;
    node.clock.advance(10);
    text(alice, "dave").await?;
    Ok(clients)
}

fn ids(answer: &Value) -> Vec<&str> {
    let rows = answer["conversations"].as_array().into_iter().flatten();
    rows.map(|row| row["conversation"]["conversationID"].as_str().expect("a text")).collect()
}

#[tokio::test]
async fn active_conversations_come_with_all_that_belongs_to_them() -> Result {
    let node = Node::start().await?;
    let [alice, bob, ..] = alice_and_peers(&node).await?;
    let answer = alice.call(ACTIVE, json!({"ownerUserID": "alice", "count": 20})).await?;
    assert_eq!(ids(&answer), ["si_alice_dave", "si_alice_carol", "si_alice_bob"]);
    assert_eq!(answer["unreadCount"], 3);
    let with_bob = &answer["conversations"][2];
    assert_eq!((&with_bob["maxSeq"], &with_bob["readSeq"]), (&json!(2), &json!(0)));
    assert_eq!(with_bob["conversation"]["ownerUserID"], "alice");
    let last = &with_bob["lastMsg"];
    assert_eq!((&last["sendID"], &last["seq"]), (&json!("bob"), &json!(2)));
    assert_eq!(last["content"], STANDARD.encode(r#"{"content":"hello"}"#));
    assert_eq!((&with_bob["user"]["userID"], &with_bob["group"]), (&json!("bob"), &Value::Null));
    let friend = &with_bob["friend"];
    assert_eq!((&friend["friendUserID"], &friend["addSource"]), (&json!("bob"), &json!(1)));
    assert!(friend["createTime"].as_i64() > Some(1_000_000_000_000), "milliseconds");
    let with_dave = &answer["conversations"][0];
    assert_eq!((&with_dave["friend"], &with_dave["readSeq"]), (&Value::Null, &json!(1)));

    // Pinned ones come first, the count cuts the list and not what is unread.
    let pin = json!({
        "conversationID": "si_alice_bob", "conversationType": 1, "userID": "bob", "isPinned": true,
    });
    let pin = json!({"userIDs": ["alice"], "conversation": pin});
    alice.call("/conversation/set_conversations", pin).await?;
    let cut = alice.call(ACTIVE, json!({"count": 2})).await?;
    assert_eq!(ids(&cut), ["si_alice_bob", "si_alice_dave"]);
    assert_eq!(cut["unreadCount"], 3);
    for count in [0, -1, 501] {
        assert_eq!(ids(&alice.call(ACTIVE, json!({"count": count})).await?).len(), 3);
    }
    // Nobody sees the list of somebody else; app admins do.
    let others = json!({"ownerUserID": "alice", "count": 20});
    assert_eq!(bob.refused(ACTIVE, &others).await?, 1002);
    assert_eq!(ids(&bob.call(ACTIVE, json!({"count": 20})).await?), ["si_alice_bob"]);
    let admin = node.admin().await?.client;
    assert_eq!(admin.call(ACTIVE, &others).await?, alice.call(ACTIVE, &others).await?);
    let nothing = json!({"unreadCount": 0, "conversations": null});
    assert_eq!(admin.call(ACTIVE, json!({})).await?, nothing);
    node.stop().await
}

#[tokio::test]
async fn conversations_are_named() -> Result {
    let node = Node::start().await?;
    let [alice, _, _, dave] = alice_and_peers(&node).await?;
    let named = |ids: Value| json!({"ownerUserID": "alice", "conversationIDs": ids});
    let asked = named(json!(["si_alice_carol", "si_x_y", "si_alice_bob"]));
    let answer = alice.call(NAMED, &asked).await?;
    assert_eq!(ids(&answer), ["si_alice_carol", "si_alice_bob"]);
    assert_eq!(answer["unreadCount"], 3);
    let nothing = json!({"unreadCount": 0, "conversations": null});
    assert_eq!(dave.refused(NAMED, &asked).await?, 1002);
    let own = json!({"ownerUserID": "dave", "conversationIDs": ["si_alice_carol"]});
    assert_eq!(dave.call(NAMED, own).await?, nothing);
    for none in [json!([]), Value::Null, json!(["si_x_y"])] {
        assert_eq!(alice.call(NAMED, named(none)).await?, nothing);
    }
    let many: Vec<String> = (0..10_001).map(|n| n.to_string()).collect();
    assert_eq!(alice.refused(NAMED, named(json!(many))).await?, 1001);
    node.stop().await
}

async fn post(client: &Client, route: &str, kind: &str, body: Vec<u8>) -> Result<Value> {
    let request = client.rest.http().post(format!("{}{route}", client.rest.api()));
    let request = request.header("token", &client.token).header("operationID", "op");
    let response = request.header("Content-Type", kind).body(body).send().await?;
    Ok(serde_json::from_str(&response.text().await?)?)
}

#[tokio::test]
async fn requests_come_as_protobuf_too() -> Result {
    let node = Node::start().await?;
    let [alice, ..] = alice_and_peers(&node).await?;
    let request = GetActiveConversationsReq { owner_user_id: "alice".into(), count: 2 };
    let asked = request.encode_to_vec();
    for kind in ["application/x-protobuf", "application/protobuf; v=1"] {
        let answer = post(&alice, ACTIVE, kind, asked.clone()).await?;
        let data = STANDARD.decode(answer["data"].as_str().expect("a text"))?;
        let active = GetActiveConversationsResp::decode(&*data)?;
        let json: Value = serde_json::from_str(&proto::json::to_string(&active)?)?;
        assert_eq!(json, alice.call(ACTIVE, json!({"count": 2})).await?);
    }
    let named = proto::jssdk::GetConversationsReq::default().encode_to_vec();
    let answer = post(&alice, NAMED, "application/x-protobuf", named).await?;
    // The SDK makes nothing of an answer without bytes.
    let nothing = STANDARD.encode([0x08, 0]);
    assert_eq!(answer, json!({"errCode": 0, "errMsg": "", "errDlt": "", "data": nothing}));
    let kind = "application/json; charset=utf-8";
    let answer = post(&alice, ACTIVE, kind, b"{\"count\":1}".to_vec()).await?;
    assert_eq!(ids(&answer["data"]), ["si_alice_dave"]);
    for (kind, body) in [
        ("text/plain", &b"x"[..]),
        ("application/x-protobuf", b"\xff\xff"),
        ("application/json", b"{"),
    ] {
        assert_eq!(post(&alice, ACTIVE, kind, body.to_vec()).await?["errCode"], 1001, "{kind}");
    }
    node.stop().await
}
