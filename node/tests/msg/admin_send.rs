use serde_json::json;
use testnet::{Node, Result, Wire};

use crate::*;

fn text(from: &str, to: &str) -> Value {
    json!({
        "sendID": from, "recvID": to, "groupID": "", "senderNickname": "Nick", "senderFaceURL": "f",
        "senderPlatformID": 5, "content": { "content": "a <&> b" }, "contentType": 101,
        "sessionType": 1, "isOnlineOnly": false, "notOfflinePush": false, "sendTime": 0,
        "offlinePushInfo": { "title": "t", "desc": "d" }, "ex": "mx",
    })
}

fn with(mut body: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

fn without(mut body: Value, key: &str) -> Value {
    body.as_object_mut().expect("an object").remove(key);
    body
}

#[tokio::test]
async fn an_admin_sends_for_a_user() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob] = admin.users(["alice", "bob"]).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ORDINARY)]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let sent = admin.client.call("/msg/send_msg", text("alice", "bob")).await?;
    assert_eq!(sent.as_object().expect("an object").len(), 3, "no modify: {sent}");
    for socket in [&mut at_alice, &mut at_bob] {
        let (id, message) = pushed(socket).await?.pop().expect("a message");
        assert_eq!((id.as_str(), message.seq, message.status), ("si_alice_bob", 1, 0));
        assert_eq!((message.msg_from, message.sender_platform_id), (200, 5));
        assert_eq!(
            (message.sender_nickname.as_str(), message.sender_face_url.as_str()),
            ("Nick", "f")
        );
        assert_eq!(&message.content[..], br#"{"content":"a \u003c\u0026\u003e b"}"#);
        assert!(message.options.is_empty() && message.create_time > 0);
        assert_eq!(message.offline_push_info.expect("push text").title, "t");
        assert_eq!(json!(message.client_msg_id), sent["clientMsgID"]);
        assert_eq!(json!(message.send_time), sent["sendTime"]);
    }
    // Only for who is online.
    admin
        .client
        .call("/msg/send_msg", with(text("alice", "bob"), json!({ "isOnlineOnly": true })))
        .await?;
    let (_, message) = pushed(&mut at_bob).await?.pop().expect("a message");
    assert_eq!(
        (message.seq, off(&message)),
        (0, vec!["conversationUpdate", "history", "persistent", "senderSync"])
    );
    assert!(pushed(&mut at_alice).await?.is_empty());
    admin
        .client
        .call("/msg/send_msg", with(text("alice", "bob"), json!({ "notOfflinePush": true })))
        .await?;
    assert_eq!(off(&pushed(&mut at_bob).await?[0].1), ["offlinePush"]);
    // An old time counts as far as the order of the conversation allows; one to come does not.
    let old = with(text("bob", "bob"), json!({ "sendTime": 1_700_000_000_000_i64 }));
    assert_eq!(
        admin.client.call("/msg/send_msg", old).await?["sendTime"],
        json!(1_700_000_000_000_i64)
    );
    let later = with(text("alice", "bob"), json!({ "sendTime": i64::MAX }));
    assert!(
        admin.client.call("/msg/send_msg", later).await?["sendTime"].as_i64() < Some(i64::MAX / 2)
    );

    let at = with(
        text("alice", ""),
        json!({ "groupID": "g", "sessionType": 3, "contentType": 106, "content": { "text": "@", "atUserList": ["bob"] } }),
    );
    pushed(&mut at_bob).await?;
    admin.client.call("/msg/send_msg", at).await?;
    let told = pushed(&mut at_bob).await?;
    assert_eq!(told[0].1.at_user_id_list, ["bob"]);
    assert_eq!((told[0].0.as_str(), told[1].1.content_type), ("sg_g", 1300));
    node.stop().await
}

#[tokio::test]
async fn an_oa_notification_comes_from_a_system_account() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let bob = admin.user("bob").await?;
    admin.user("notif").await?;
    let oa = with(
        text("notif", "bob"),
        json!({ "contentType": 1400, "sessionType": 1, "content": { "notificationName": "Shop", "notificationType": 1, "text": "sale", "mixType": 0 } }),
    );
    assert_eq!(admin.client.refused("/msg/send_msg", &oa).await?, 1002);
    let unknown = with(oa.clone(), json!({ "sendID": "nobody" }));
    assert_eq!(admin.client.refused("/msg/send_msg", unknown).await?, 1101);
    let mut user = schema::USERS.get(&node.services.store().view(), "notif")?.expect("registered");
    user.app_manger_level = 3;
    let put = node.services.store().transact(move |tx| {
        schema::USERS.put(tx, "notif", &user);
        Ok::<_, StoreError>(())
    });
    put.await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    admin.client.call("/msg/send_msg", oa).await?;
    let (id, message) = pushed(&mut at_bob).await?.pop().expect("a message");
    assert_eq!((id.as_str(), message.session_type, message.seq), ("sn_bob_notif", 4, 1));
    assert_eq!(detail(&message.content)["notificationName"], "Shop");
    assert_eq!(seqs(&bob, "sn_bob_notif").await?, (1, 0));
    // Reading it is nobody else's business.
    let body = json!({ "conversationID": "sn_bob_notif", "userID": "bob", "hasReadSeq": 1 });
    bob.call("/msg/mark_conversation_as_read", body).await?;
    assert_eq!(pushed_kinds(&mut at_bob).await?, [("n_bob_bob".to_owned(), 2200, 0)]);
    let body = json!({ "conversationID": "sn_bob_notif", "seq": 1, "userID": "bob" });
    assert_eq!(bob.refused("/msg/revoke_msg", body).await?, 500);
    node.stop().await
}

#[tokio::test]
async fn what_send_msg_refuses() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, _] = admin.users(["alice", "bob"]).await?;
    let good = || text("alice", "bob");
    assert_eq!(alice.refused("/msg/send_msg", good()).await?, 1002);
    let in_group = with(good(), json!({ "sessionType": 3 }));
    for (body, status, code) in [
        (without(good(), "sendID"), 400, 1001),
        (without(good(), "recvID"), 400, 1001),
        (without(good(), "content"), 400, 1001),
        (without(good(), "contentType"), 400, 1001),
        (without(good(), "sessionType"), 400, 1001),
        (in_group.clone(), 400, 1001),
        (with(good(), json!({ "content": "text" })), 400, 1001),
        (with(good(), json!({ "contentType": 107 })), 200, 1001),
        (with(good(), json!({ "contentType": 1201 })), 200, 1001),
        (with(good(), json!({ "content": { "x": "y" } })), 200, 500),
        (with(good(), json!({ "sessionType": 2, "groupID": "g" })), 200, 1001),
        (with(good(), json!({ "sessionType": 4 })), 200, 1001),
        (with(good(), json!({ "sendID": "nobody" })), 200, 1004),
        (with(good(), json!({ "recvID": "nobody" })), 200, 1004),
        (with(in_group, json!({ "groupID": "none" })), 200, 1004),
        (with(good(), json!({ "content": { "content": 5 } })), 200, 0),
    ] {
        let answer = admin.client.post("/msg/send_msg", &body).await?;
        assert_eq!((answer.status, answer.code), (status, code), "{body}: {}", answer.text);
    }
    // The body is looked at first, then who sends it.
    assert_eq!(alice.post("/msg/send_msg", json!({})).await?.status, 400);
    node.stop().await
}

#[tokio::test]
async fn one_message_to_many() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob, _carol] = admin.users(["alice", "bob", "carol"]).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let batch = |to: Value| with(without(text("alice", ""), "recvID"), to);
    let route = "/msg/batch_send_msg";
    let body = batch(json!({ "recvIDs": ["bob", "nobody", "carol"] }));
    let data = admin.client.call(route, &body).await?;
    let results = data["results"].as_array().expect("results");
    let to: Vec<_> = results.iter().map(|result| result["recvID"].as_str()).collect();
    assert_eq!(to, [Some("bob"), Some("carol")]);
    assert_eq!(results[0]["clientMsgID"], results[1]["clientMsgID"]);
    assert_ne!(results[0]["serverMsgID"], results[1]["serverMsgID"]);
    assert_eq!(data["failedUserIDs"], json!(["nobody"]));
    assert_eq!(pushed_kinds(&mut at_bob).await?, [("si_alice_bob".to_owned(), 101, 1)]);
    let nobody = admin.client.call(route, batch(json!({ "recvIDs": [] }))).await?;
    assert_eq!(nobody, json!({ "results": null, "failedUserIDs": null }));
    let all = admin.client.call(route, batch(json!({ "recvIDs": [], "isSendAll": true }))).await?;
    assert_eq!(all["results"].as_array().map(Vec::len), Some(4), "{all}");

    assert_eq!(alice.refused(route, &body).await?, 1002);
    for body in [batch(json!({})), without(body.clone(), "content")] {
        let answer = admin.client.post(route, body).await?;
        assert_eq!((answer.status, answer.code), (400, 1001));
    }
    let many = batch(json!({ "recvIDs": vec!["bob"; 10_001] }));
    assert_eq!(admin.client.refused(route, many).await?, 1001);
    node.stop().await
}

#[tokio::test]
async fn a_simple_reply_goes_back_where_the_message_came_from() -> Result {
    use base64::Engine as _;
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob, mallory] = admin.users(["alice", "bob", "mallory"]).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ORDINARY)]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let route = |key: Value| {
        let key = base64::engine::general_purpose::STANDARD.encode(key.to_string());
        format!("/msg/send_simple_msg?key={}", key.replace('=', "%3D"))
    };
    let single = route(json!({ "sendID": "alice", "recvID": "bob", "groupID": "" }));
    let body = json!({ "sendID": "", "content": "simple", "ex": "sx" });
    let sent = bob.call(&single, &body).await?;
    assert_eq!(sent.as_object().map(|object| object.len()), Some(3));
    let (id, message) = pushed(&mut at_alice).await?.pop().expect("a message");
    assert_eq!((id.as_str(), message.send_id.as_str()), ("si_alice_bob", "bob"));
    assert_eq!(&message.content[..], br#"{"Content":"simple"}"#);
    assert_eq!(
        (message.content_type, message.msg_from, message.sender_platform_id),
        (118, 100, 10)
    );
    assert_eq!((message.status, message.create_time), (0, 0));
    assert_eq!(
        (message.sender_nickname.as_str(), message.sender_face_url.as_str()),
        ("bob", "face-bob")
    );
    let in_group = route(json!({ "sendID": "alice", "recvID": "", "groupID": "g" }));
    alice.call(&in_group, with(body.clone(), json!({ "sendID": "alice" }))).await?;
    assert_eq!(pushed_kinds(&mut at_alice).await?, [("sg_g".to_owned(), 118, 1)]);

    for (client, route, body, status, code) in [
        (&mallory, single.clone(), body.clone(), 200, 1002),
        (&alice, in_group.clone(), body.clone(), 200, 1001),
        (&bob, "/msg/send_simple_msg".to_owned(), body.clone(), 200, 1001),
        (&bob, "/msg/send_simple_msg?key=%25%25".to_owned(), body.clone(), 200, 1001),
        (&bob, route(json!({ "sendID": "", "recvID": "bob" })), body.clone(), 200, 1001),
        (&bob, single.clone(), json!({ "sendID": "" }), 400, 1001),
        (
            &admin.client,
            route(json!({ "sendID": "alice", "recvID": "nobody" })),
            body.clone(),
            200,
            1004,
        ),
    ] {
        let answer = client.post(&route, &body).await?;
        assert_eq!((answer.status, answer.code), (status, code), "{route}: {}", answer.text);
    }
    node.stop().await
}

#[tokio::test]
async fn business_notifications() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob] = admin.users(["alice", "bob"]).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ORDINARY)]).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let route = "/msg/send_business_notification";
    let body = |more: Value| with(json!({ "key": "k", "data": "d", "sendUserID": "shop" }), more);
    let to_user = json!({ "recvUserID": "bob" });
    let sent = admin.client.call(route, body(to_user.clone())).await?;
    let told = pushed(&mut at_bob).await?;
    assert_eq!(told.len(), 1);
    let (id, message) = &told[0];
    assert_eq!((id.as_str(), message.seq, message.content_type), ("n_bob_shop", 0, 2001));
    assert_eq!(&message.content[..], br#"{"detail":"{\"key\":\"k\",\"data\":\"d\"}"}"#);
    assert_eq!((off(message), message.offline_push_info.clone()), (UNSTORED_OFF.to_vec(), None));
    assert_eq!(
        (json!(message.client_msg_id), json!(message.send_time)),
        (sent["clientMsgID"].clone(), sent["sendTime"].clone())
    );

    let stored = with(to_user.clone(), json!({ "reliabilityLevel": 2, "sendUserID": "alice" }));
    admin.client.call(route, body(stored)).await?;
    let told = pushed(&mut at_bob).await?;
    assert_eq!(
        (told[0].0.as_str(), told[0].1.seq, off(&told[0].1)),
        ("n_alice_bob", 1, STORED_OFF.to_vec())
    );

    // To somebody who was away, and has no chat with the sender, it is there later.
    drop(at_bob);
    let stored = with(to_user.clone(), json!({ "reliabilityLevel": 2 }));
    admin.client.call(route, body(stored)).await?;
    let quiet = json!({ "recvGroupID": "g", "reliabilityLevel": 2, "sendUserID": "shop" });
    admin.client.call(route, body(quiet)).await?;
    // A deleted chat does not hide its stream.
    let delete = json!({ "ownerUserID": "bob", "conversationIDs": ["sg_g"] });
    bob.call("/conversation/delete_conversations", delete).await?;
    let newest = bob.call("/msg/newest_seq", json!({ "userID": "bob" })).await?;
    let expected = json!({ "n_alice_bob": 1, "n_bob_shop": 1, "n_g": 1 });
    assert_eq!(newest["maxSeqs"], expected);
    let missed = pull(&bob, "n_bob_shop", 1, 1).await?;
    assert_eq!(missed[0]["contentType"], 2001);
    let mut at_bob = bob.connect(Wire::JSON).await?;

    let in_chat = json!({ "recvGroupID": "g", "sendMsg": true, "reliabilityLevel": 2, "sendUserID": "alice" });
    admin.client.call(route, body(in_chat)).await?;
    let told = pushed(&mut at_bob).await?;
    let kinds: Vec<_> =
        told.iter().map(|(id, m)| (id.as_str(), m.seq, m.recv_id.as_str())).collect();
    assert_eq!(kinds, [("sg_g", 1, ""), ("n_g", 2, "")]);
    assert_eq!(
        told[0].1.options,
        [("offlinePush".to_owned(), false), ("unreadCount".to_owned(), true)].into()
    );
    assert_eq!(told[0].1.client_msg_id, told[1].1.client_msg_id);
    assert!(told[1].1.options["isSendMsg"] && !told[1].1.options["offlinePush"]);

    assert_eq!(alice.refused(route, body(to_user.clone())).await?, 1002);
    for (body, status, code) in [
        (without(body(to_user.clone()), "sendUserID"), 400, 1001),
        (body(json!({})), 200, 1001),
        (body(json!({ "recvUserID": "bob", "recvGroupID": "g" })), 200, 1001),
        (body(json!({ "recvUserID": "nobody" })), 200, 1004),
        (body(json!({ "recvGroupID": "none" })), 200, 1004),
        (body(json!({ "recvUserID": "bob", "data": "x".repeat(100_000) })), 200, 1001),
    ] {
        let answer = admin.client.post(route, &body).await?;
        assert_eq!((answer.status, answer.code), (status, code), "{}", answer.text);
    }
    node.stop().await
}

#[tokio::test]
async fn whether_a_send_went_through_is_remembered_for_a_day() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    admin.users(["alice", "bob"]).await?;
    let (rest, token) = (node.rest(), &admin.client.token);
    let status = async |operation_id: &str| -> Result<Value> {
        let route = "/msg/check_msg_is_send_success";
        let answer = rest.post(route, token, operation_id, "{}".into()).await?;
        Ok(answer.body["data"].clone())
    };
    let send = async |operation_id: &str, to: &str, changes: Value| {
        let body = with(text("alice", to), changes).to_string();
        rest.post("/msg/send_msg", token, operation_id, body).await
    };
    send("sent", "bob", json!({})).await?;
    send("ephemeral", "bob", json!({ "isOnlineOnly": true })).await?;
    send("refused", "nobody", json!({})).await?;
    assert_eq!(status("sent").await?, json!({ "status": 2 }));
    assert_eq!(status("ephemeral").await?, json!({ "status": 2 }));
    assert_eq!(status("refused").await?, json!({ "status": 0 }));
    assert_eq!(status("unknown").await?, json!({ "status": 0 }));
    node.clock.advance(86_400_001);
    let admin = node.admin().await?;
    let again =
        rest.post("/msg/check_msg_is_send_success", &admin.client.token, "sent", "{}".into());
    assert_eq!(again.await?.body["data"], json!({ "status": 0 }));
    node.stop().await
}
