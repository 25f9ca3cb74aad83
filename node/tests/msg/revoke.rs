use serde_json::json;
use testnet::{Node, Result, Socket, Wire, text_message};

use crate::*;

fn revoke(id: &str, seq: i64, user_id: &str) -> Value {
    json!({ "conversationID": id, "seq": seq, "userID": user_id })
}

#[tokio::test]
async fn a_sender_takes_a_message_back() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let message = MsgData {
        ex: "mx".into(),
        sender_nickname: "Al".into(),
        ..text_message("alice", "bob", "oops")
    };
    let sent = at_alice.send(&message).await?;
    let quote = MsgData {
        content_type: 114,
        content: json!({
            "text": "re",
            "quoteMessage": { "clientMsgID": sent.client_msg_id, "seq": 1, "contentType": 101, "content": "", "textElem": { "content": "oops" } },
        })
        .to_string()
        .into(),
        ..text_message("bob", "alice", "")
    };
    at_bob.send(&quote).await?;
    let lost = MsgData {
        content: json!({ "text": "re", "quoteMessage": { "seq": 0, "contentType": 101, "content": "e30=" } }).to_string().into(),
        ..quote.clone()
    };
    at_bob.send(&MsgData { client_msg_id: "lost".into(), ..lost }).await?;
    pushed(&mut at_alice).await?;
    pushed(&mut at_bob).await?;

    assert_eq!(alice.post("/msg/revoke_msg", revoke("si_alice_bob", 1, "alice")).await?.text, OK);
    let mut time = Value::Null;
    for socket in [&mut at_alice, &mut at_bob] {
        let (id, notice) = pushed(socket).await?.pop().expect("told");
        assert_eq!((id.as_str(), notice.seq, notice.content_type), ("n_alice_bob", 1, 2101));
        assert_eq!((notice.send_id.as_str(), notice.recv_id.as_str()), ("alice", "bob"));
        assert_eq!((notice.session_type, off(&notice)), (1, STORED_OFF.to_vec()));
        let tips = detail(&notice.content);
        time = tips["revokeTime"].clone();
        assert_eq!(
            tips,
            json!({
                "revokerUserID": "alice", "clientMsgID": sent.client_msg_id, "revokeTime": time,
                "sesstionType": 1, "seq": 1, "conversationID": "si_alice_bob", "isAdminRevoke": false,
            })
        );
    }
    let messages = pull(&bob, "si_alice_bob", 1, 9).await?;
    assert_eq!(messages[0]["contentType"], 2101);
    assert_eq!((&messages[0]["seq"], &messages[0]["sendID"]), (&json!(1), &json!("alice")));
    let revoked = content(&messages[0]);
    assert_eq!(
        detail(revoked.as_bytes()),
        json!({
            "revokerID": "alice", "revokerRole": 0, "clientMsgID": sent.client_msg_id,
            "revokerNickname": "alice", "revokeTime": time, "sourceMessageSendTime": sent.send_time,
            "sourceMessageSendID": "alice", "sourceMessageSenderNickname": "Al",
            "sessionType": 1, "seq": 1, "ex": "mx",
        })
    );
    let quoting: Value = serde_json::from_str(&content(&messages[1]))?;
    assert_eq!(quoting["text"], "re");
    assert_eq!(quoting["quoteMessage"]["contentType"], 2101);
    assert_eq!(quoting["quoteMessage"]["content"], revoked);
    assert_eq!(quoting["quoteMessage"]["textElem"], Value::Null);
    let lost: Value = serde_json::from_str(&content(&messages[2]))?;
    assert_eq!(lost["quoteMessage"], json!({ "seq": 0, "contentType": 101, "content": "{}" }));

    assert_eq!(alice.refused("/msg/revoke_msg", revoke("si_alice_bob", 1, "alice")).await?, 1404);
    node.stop().await
}

#[tokio::test]
async fn an_app_admin_takes_back_what_anybody_said() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob] = admin.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1", "2"]).await?;
    pushed(&mut at_alice).await?;
    pushed(&mut at_bob).await?;
    admin.client.call("/msg/revoke_msg", revoke("si_alice_bob", 1, "imAdmin")).await?;
    admin.client.call("/msg/revoke_msg", revoke("si_alice_bob", 2, "alice")).await?;
    // Both are told, also of what the admin did in its own name.
    for socket in [&mut at_alice, &mut at_bob] {
        for seq in [1, 2] {
            let tips = detail(&socket.next_notification(2101).await?.content);
            assert_eq!((&tips["seq"], &tips["isAdminRevoke"]), (&json!(seq), &json!(true)));
            assert_eq!(tips["revokerUserID"], "imAdmin");
        }
    }
    let messages = pull(&bob, "si_alice_bob", 1, 9).await?;
    let revoker = |at: usize| detail(content(&messages[at]).as_bytes())["revokerID"].clone();
    assert_eq!((revoker(0), revoker(1)), (json!("imAdmin"), json!("alice")));
    node.stop().await
}

#[tokio::test]
async fn roles_in_a_group_decide() -> Result {
    let node = Node::start().await?;
    let names = ["alice", "bob", "carol", "dave", "erin"];
    let [alice, bob, carol, dave, erin] = node.admin().await?.users(names).await?;
    group(
        &node,
        "g",
        &[
            ("alice", OWNER),
            ("bob", ADMIN),
            ("carol", ORDINARY),
            ("dave", ADMIN),
            ("erin", ORDINARY),
        ],
    )
    .await?;
    for client in [&alice, &bob, &carol, &dave, &erin] {
        let mut socket = client.connect(Wire::JSON).await?;
        say_in(&mut socket, &client.user_id, "g", &["1", "2", "3"]).await?;
    }
    // Seqs: alice 1-3, bob 4-6, carol 7-9, dave 10-12, erin 13-15.
    leave(&node, "g", "erin", 15).await?;
    let mut watching = carol.connect(Wire::JSON).await?;
    for (what, client, seq, expected) in [
        ("an ordinary member, the owner's", &carol, 1, 1002),
        ("an ordinary member, own", &carol, 7, 0),
        ("an admin, own", &bob, 4, 0),
        ("an admin, an ordinary member's", &bob, 8, 0),
        ("an admin, another admin's", &bob, 10, 1002),
        ("an admin, the owner's", &bob, 1, 1002),
        ("an admin, of who has left", &bob, 13, 0),
        ("the owner, an admin's", &alice, 10, 0),
        ("who has left, own", &erin, 14, 1002),
        ("twice", &alice, 10, 1404),
        ("no such message", &alice, 99, 1004),
    ] {
        let answer = client.post("/msg/revoke_msg", revoke("sg_g", seq, &client.user_id)).await?;
        assert_eq!(answer.code, expected, "{what}: {}", answer.text);
    }
    let told = pushed(&mut watching).await?;
    let told: Vec<_> = told
        .iter()
        .map(|(id, m)| (id.as_str(), m.seq, m.send_id.as_str(), detail(&m.content)["seq"].clone()))
        .collect();
    assert_eq!(
        told,
        [
            ("n_g", 1, "carol", json!(7)),
            ("n_g", 2, "bob", json!(4)),
            ("n_g", 3, "bob", json!(8)),
            ("n_g", 4, "bob", json!(13)),
            ("n_g", 5, "alice", json!(10)),
        ]
    );
    let messages = pull(&alice, "sg_g", 8, 10).await?;
    let role = |at: usize| detail(content(&messages[at]).as_bytes())["revokerRole"].clone();
    assert_eq!((role(0), role(2)), (json!(60), json!(100)));
    node.stop().await
}

#[tokio::test]
async fn what_is_refused() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob, mallory] = admin.users(["alice", "bob", "mallory"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1"]).await?;
    bob.call(
        "/msg/mark_conversation_as_read",
        json!({ "conversationID": "si_alice_bob", "userID": "bob", "hasReadSeq": 1 }),
    )
    .await?;
    for (client, body, expected) in [
        (&alice, json!({ "seq": 1, "userID": "alice" }), 1001),
        (&alice, json!({ "conversationID": "si_alice_bob", "userID": "alice" }), 1001),
        (&alice, json!({ "conversationID": "si_alice_bob", "seq": 1 }), 1001),
        (&mallory, revoke("si_alice_bob", 1, "alice"), 1002),
        (&mallory, revoke("si_alice_bob", 1, "mallory"), 1004),
        (&bob, revoke("si_alice_bob", 1, "bob"), 1002),
        (&alice, revoke("si_alice_bob", 2, "alice"), 1004),
        (&alice, revoke("n_alice_bob", 1, "alice"), 1004),
        (&bob, revoke("n_alice_bob", 1, "bob"), 1004),
        (&alice, revoke("si_x_y", 1, "alice"), 1004),
        (&admin.client, revoke("si_x_y", 1, "imAdmin"), 1004),
    ] {
        assert_eq!(client.refused("/msg/revoke_msg", &body).await?, expected, "{body}");
    }
    // What a user deleted or cleared is no longer there for that user.
    alice
        .call(
            "/msg/delete_msgs",
            json!({ "conversationID": "si_alice_bob", "seqs": [1], "userID": "alice" }),
        )
        .await?;
    assert_eq!(alice.refused("/msg/revoke_msg", revoke("si_alice_bob", 1, "alice")).await?, 1004);
    node.stop().await
}

/// A message as others carry it: the SDKs' own form.
fn carried(of: &Value, text: &str) -> Value {
    json!({
        "clientMsgID": of["clientMsgID"], "seq": of["seq"], "sessionType": of["sessionType"],
        "sendID": of["sendID"], "recvID": of["recvID"], "groupID": of["groupID"],
        "contentType": 101, "content": "", "textElem": { "content": text },
    })
}

#[tokio::test]
async fn what_was_revoked_is_gone_wherever_it_was_carried() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob, carol] = admin.users(["alice", "bob", "carol"]).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ORDINARY), ("carol", ORDINARY)]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    say_in(&mut at_alice, "alice", "g", &["keep this", "SECRET"]).await?;
    let said = pull(&bob, "sg_g", 1, 2).await?;
    let (kept, secret) = (carried(&said[0], "keep this"), carried(&said[1], "SECRET"));
    let quote = json!({ "text": "re", "quoteMessage": secret });
    let mut quoting = json!({ "contentType": 114, "seq": 0, "quoteElem": quote });
    let merged = json!({
        "title": "chat", "abstractList": ["alice: keep this", "alice: SECRET", "and SECRET too"],
        "multiMessage": [kept, secret, quoting.clone()],
    });
    let at = json!({ "text": "@bob", "atUserList": ["bob"], "quoteMessage": secret });
    // A carried message may have its content as a text, too.
    quoting["content"] = quote.to_string().into();
    let nested = json!({ "text": "re", "quoteMessage": quoting });
    let send = async |socket: &mut Socket, kind: i32, content: &Value, message: MsgData| {
        let content = content.to_string().into();
        socket.send(&MsgData { content_type: kind, content, ..message }).await
    };
    for (kind, content) in [(114, &quote), (106, &at), (107, &merged), (114, &nested)] {
        send(&mut at_bob, kind, content, group_text("bob", "g", "")).await?;
    }
    // Forwarded to somebody else.
    send(&mut at_bob, 107, &merged, text_message("bob", "carol", "")).await?;
    let search = json!({ "sendID": "bob", "pagination": { "pageNumber": 1, "showNumber": 9 } });
    let before = pull(&carol, "sg_g", 3, 9).await?;
    assert!((0..4).all(|at| content(&before[at]).contains("SECRET")));

    alice.call("/msg/revoke_msg", revoke("sg_g", 2, "alice")).await?;
    let pulled = pull(&carol, "sg_g", 3, 9).await?;
    for at in 0..4 {
        let content = content(&pulled[at]);
        assert!(!content.contains("SECRET"), "{content}");
        assert!(content.contains("2101"), "{content}");
    }
    let merged: Value = serde_json::from_str(&content(&pulled[2]))?;
    assert_eq!(merged["multiMessage"][0], kept);
    assert_eq!(merged["abstractList"], json!(["alice: keep this", "", ""]));
    let revoked = content(&pull(&carol, "sg_g", 2, 2).await?[0]);
    assert_eq!(merged["multiMessage"][1]["content"], revoked);
    let at: Value = serde_json::from_str(&content(&pulled[1]))?;
    assert_eq!(at["quoteMessage"]["content"], revoked);
    assert_eq!(at["text"], "@bob");
    // Whoever was not in the group does not hear who revoked it.
    let forwarded = content(&pull(&carol, "si_bob_carol", 1, 1).await?[0]);
    assert!(!forwarded.contains("SECRET") && !forwarded.contains("revoker"), "{forwarded}");
    let forwarded: Value = serde_json::from_str(&forwarded)?;
    assert_eq!(forwarded["multiMessage"][1]["contentType"], 2101);
    assert_eq!(forwarded["multiMessage"][0], kept);
    let found = admin.client.call("/msg/search_msg", search).await?;
    assert_eq!(found["chatLogsNum"], 5);
    assert!(!found.to_string().contains("SECRET"), "{found}");
    let ids = json!({ "conversationIDs": ["sg_g", "si_bob_carol"] });
    let last = carol.call("/jssdk/get_conversations", ids).await?;
    for shown in last["conversations"].as_array().expect("a list") {
        let content = content(&shown["lastMsg"]);
        assert!(content.contains("2101") && !content.contains("SECRET"), "{content}");
    }
    node.stop().await
}

/// The number of a message is that of the conversation it comes from, or nobody's.
#[tokio::test]
async fn what_was_not_revoked_stays_where_it_is_carried() -> Result {
    let node = Node::start().await?;
    let [alice, bob, _] = node.admin().await?.users(["alice", "bob", "carol"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["here"]).await?;
    say(&mut at_alice, "carol", &["there"]).await?;
    let there = carried(&pull(&alice, "si_alice_carol", 1, 1).await?[0], "there");
    let quote = json!({ "text": "re", "quoteMessage": there }).to_string();
    let message = MsgData { content_type: 114, ..text_message("alice", "bob", "") };
    at_alice.send(&MsgData { content: quote.clone().into(), ..message }).await?;
    alice.call("/msg/revoke_msg", revoke("si_alice_bob", 1, "alice")).await?;
    assert_eq!(content(&pull(&bob, "si_alice_bob", 2, 2).await?[0]), quote);
    node.stop().await
}

#[tokio::test]
async fn what_was_deleted_for_everybody_is_gone_where_it_was_carried() -> Result {
    let node = Node::start().await?;
    let [alice, bob, _] = node.admin().await?.users(["alice", "bob", "carol"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["SECRET"]).await?;
    let secret = carried(&pull(&alice, "si_alice_bob", 1, 1).await?[0], "SECRET");
    let quote = json!({ "text": "re", "quoteMessage": secret }).to_string();
    for to in ["bob", "carol"] {
        let message = MsgData { content_type: 114, ..text_message("alice", to, "") };
        at_alice.send(&MsgData { content: quote.clone().into(), ..message }).await?;
    }
    // What somebody deletes alone is there for the others.
    let delete = |others: bool| {
        json!({
            "conversationID": "si_alice_bob", "seqs": [1], "userID": "alice",
            "deleteSyncOpt": { "IsSyncSelf": true, "IsSyncOther": others },
        })
    };
    alice.call("/msg/delete_msgs", delete(false)).await?;
    assert_eq!(content(&pull(&bob, "si_alice_bob", 2, 2).await?[0]), quote);
    alice.call("/msg/delete_msgs", delete(true)).await?;
    for (reader, chat, seq) in [(&bob, "si_alice_bob", 2), (&alice, "si_alice_carol", 1)] {
        let shown = content(&pull(reader, chat, seq, seq).await?[0]);
        assert!(!shown.contains("SECRET") && shown.contains("2101"), "{shown}");
    }
    node.stop().await
}

/// JSON in a text starts the limits of its reader anew: texts in texts are deep and short.
#[tokio::test]
async fn a_message_of_texts_in_texts_is_read() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob] = admin.users(["alice", "bob"]).await?;
    let deep = testnet::texts_in_texts();
    let mut at_alice = alice.connect(Wire::JSON).await?;
    for kind in [114, 106, 107] {
        let message = MsgData { content_type: kind, ..text_message("alice", "bob", "") };
        at_alice.send(&MsgData { content: deep.clone().into(), ..message }).await?;
    }
    let messages = pull(&bob, "si_alice_bob", 1, 9).await?;
    assert!((0..3).all(|at| content(&messages[at]) == deep));
    let search = json!({ "sendID": "alice", "pagination": { "pageNumber": 1, "showNumber": 9 } });
    let found = admin.client.call("/msg/search_msg", search).await?;
    assert_eq!(found["chatLogsNum"], 3);
    for (route, body) in [
        ("/jssdk/get_active_conversations", json!({ "ownerUserID": "bob", "count": 9 })),
        ("/jssdk/get_conversations", json!({ "conversationIDs": ["si_alice_bob"] })),
    ] {
        let last = bob.call(route, body).await?;
        assert_eq!(content(&last["conversations"][0]["lastMsg"]), deep);
    }
    let mut at_bob = bob.connect(Wire::GOB_GZIP).await?;
    assert_eq!(at_bob.history_from("si_alice_bob", 1).await?.len(), 3);
    node.stop().await
}
