use serde_json::json;
use testnet::{Node, Result, Wire};

use crate::*;

#[tokio::test]
async fn reading_a_chat_tells_the_peer_and_the_own_devices() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::GOB_GZIP).await?;
    say(&mut at_alice, "bob", &["1", "2", "3", "4"]).await?;
    assert_eq!(seqs(&bob, "si_alice_bob").await?, (4, 0));
    pushed(&mut at_alice).await?;
    pushed(&mut at_bob).await?;

    let body =
        json!({ "conversationID": "si_alice_bob", "userID": "bob", "hasReadSeq": 2, "seqs": [4] });
    assert_eq!(bob.post("/msg/mark_conversation_as_read", body).await?.text, OK);
    for socket in [&mut at_alice, &mut at_bob] {
        let (id, receipt) = pushed(socket).await?.pop().expect("a receipt");
        assert_eq!((id.as_str(), receipt.seq), ("n_alice_bob", 1));
        assert_eq!((receipt.send_id.as_str(), receipt.recv_id.as_str()), ("bob", "alice"));
        assert_eq!((receipt.content_type, receipt.session_type, receipt.msg_from), (2200, 1, 200));
        assert_eq!(
            detail(&receipt.content),
            json!({ "markAsReadUserID": "bob", "conversationID": "si_alice_bob", "seqs": [1, 2, 4], "hasReadSeq": 2 })
        );
        assert_eq!(off(&receipt), STORED_OFF);
        assert_eq!(receipt.offline_push_info, Some(Default::default()));
    }
    assert_eq!(seqs(&bob, "si_alice_bob").await?, (4, 2));
    let is_read = |messages: &Value| -> Vec<bool> {
        let list = messages.as_array().expect("messages");
        list.iter().map(|m| m["isRead"].as_bool().expect("a flag")).collect()
    };
    assert_eq!(is_read(&pull(&alice, "si_alice_bob", 1, 9).await?), [true, true, false, true]);
    assert_eq!(is_read(&pull(&bob, "si_alice_bob", 1, 9).await?), [true, true, false, true]);

    // Lower again: nothing is taken back, the receipt still says how far it has gone.
    let body =
        json!({ "conversationID": "si_alice_bob", "userID": "bob", "hasReadSeq": 1, "seqs": [] });
    bob.call("/msg/mark_conversation_as_read", body).await?;
    let receipt = at_alice.next_notification(2200).await?;
    assert_eq!(detail(&receipt.content)["seqs"], json!(null));
    assert_eq!(detail(&receipt.content)["hasReadSeq"], 2);

    // Sending reads what was before for the sender, without telling the peer.
    at_bob.send_text("alice", "5").await?;
    assert_eq!(seqs(&bob, "si_alice_bob").await?, (5, 5));
    assert_eq!(
        is_read(&pull(&alice, "si_alice_bob", 1, 9).await?),
        [true, true, false, true, false]
    );

    let body = json!({ "conversationID": "si_alice_bob", "userID": "bob", "seqs": [3] });
    assert_eq!(bob.post("/msg/mark_msgs_as_read", body).await?.text, OK);
    let receipt = at_alice.next_notification(2200).await?;
    assert_eq!(
        detail(&receipt.content),
        json!({ "markAsReadUserID": "bob", "conversationID": "si_alice_bob", "seqs": [3], "hasReadSeq": 3 })
    );
    assert_eq!(
        is_read(&pull(&alice, "si_alice_bob", 1, 9).await?),
        [true, true, true, true, false]
    );

    // The stream keeps the receipts for devices that were away.
    let stored = pull(&alice, "n_alice_bob", 1, 99).await?;
    let kinds: Vec<_> =
        stored.as_array().expect("receipts").iter().map(|m| &m["contentType"]).collect();
    assert_eq!(kinds, [2200, 2200, 2200]);
    node.stop().await
}

#[tokio::test]
async fn far_behind_and_far_ahead() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1", "2", "3"]).await?;
    let body = json!({ "conversationID": "si_alice_bob", "userID": "bob", "hasReadSeq": i64::MAX, "seqs": [] });
    bob.call("/msg/mark_conversation_as_read", body).await?;
    let receipt = at_alice.next_notification(2200).await?;
    assert_eq!(detail(&receipt.content)["seqs"], json!([1, 2, 3]));
    assert_eq!(detail(&receipt.content)["hasReadSeq"], 3);
    assert_eq!(seqs(&bob, "si_alice_bob").await?, (3, 3));
    node.stop().await
}

#[tokio::test]
async fn reading_a_group_is_nobody_elses_business() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ORDINARY)]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    say_in(&mut at_alice, "alice", "g", &["1", "2", "3"]).await?;
    pushed(&mut at_alice).await?;
    pushed(&mut at_bob).await?;
    for (route, body, has_read_seq) in [
        (
            "mark_conversation_as_read",
            json!({ "conversationID": "sg_g", "userID": "bob", "hasReadSeq": 1, "seqs": [1] }),
            1,
        ),
        ("mark_msgs_as_read", json!({ "conversationID": "sg_g", "userID": "bob", "seqs": [2] }), 2),
        (
            "set_conversation_has_read_seq",
            json!({ "conversationID": "sg_g", "userID": "bob", "hasReadSeq": 3 }),
            3,
        ),
    ] {
        assert_eq!(bob.post(&format!("/msg/{route}"), body).await?.text, OK);
        assert_eq!(seqs(&bob, "sg_g").await?, (3, has_read_seq), "{route}");
        let (id, receipt) = pushed(&mut at_bob).await?.pop().expect("a receipt");
        assert_eq!((id.as_str(), receipt.seq, receipt.session_type), ("n_bob_bob", 0, 1));
        assert_eq!(off(&receipt), UNSTORED_OFF);
        assert_eq!(
            detail(&receipt.content),
            json!({ "markAsReadUserID": "bob", "conversationID": "sg_g", "seqs": null, "hasReadSeq": has_read_seq })
        );
    }
    assert!(pushed(&mut at_alice).await?.is_empty());
    node.stop().await
}

/// Clients take the difference to the newest seq for the number of unread messages.
#[tokio::test]
async fn the_own_devices_are_told_what_the_server_says_is_read() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ORDINARY)]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1", "2", "3", "4", "5", "6"]).await?;
    say_in(&mut at_alice, "alice", "g", &["1", "2", "3", "4", "5", "6"]).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    for (id, to_peer) in [("si_alice_bob", vec![4]), ("sg_g", vec![])] {
        let delete = json!({ "conversationID": id, "seqs": [6], "userID": "bob" });
        bob.call("/msg/delete_msgs", delete).await?;
        pushed(&mut at_alice).await?;
        pushed(&mut at_bob).await?;
        let read = json!({ "conversationID": id, "userID": "bob", "hasReadSeq": 4, "seqs": [] });
        bob.call("/msg/mark_conversation_as_read", read).await?;
        assert_eq!(seqs(&bob, id).await?, (6, 5), "{id}");
        let told = |receipts: Vec<(String, MsgData)>| -> Vec<Value> {
            receipts.iter().map(|(_, r)| detail(&r.content)["hasReadSeq"].clone()).collect()
        };
        assert_eq!(told(pushed(&mut at_bob).await?).last(), Some(&json!(5)), "{id}");
        assert_eq!(told(pushed(&mut at_alice).await?), to_peer, "{id}");
    }
    node.stop().await
}

#[tokio::test]
async fn what_is_refused() -> Result {
    let node = Node::start().await?;
    let [alice, bob, mallory] = node.admin().await?.users(["alice", "bob", "mallory"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1", "2"]).await?;
    let id = "si_alice_bob";
    for (route, body, code) in [
        ("mark_msgs_as_read", json!({ "seqs": [1], "userID": "bob" }), 1001),
        ("mark_msgs_as_read", json!({ "conversationID": id, "userID": "bob" }), 1001),
        ("mark_msgs_as_read", json!({ "conversationID": id, "seqs": [1] }), 1001),
        ("mark_msgs_as_read", json!({ "conversationID": id, "seqs": [0], "userID": "bob" }), 1001),
        ("mark_msgs_as_read", json!({ "conversationID": id, "seqs": [3], "userID": "bob" }), 1001),
        (
            "mark_msgs_as_read",
            json!({ "conversationID": "si_x_y", "seqs": [1], "userID": "bob" }),
            1001,
        ),
        ("mark_conversation_as_read", json!({ "userID": "bob", "hasReadSeq": 1 }), 1001),
        ("mark_conversation_as_read", json!({ "conversationID": id, "hasReadSeq": 1 }), 1001),
        ("mark_conversation_as_read", json!({ "conversationID": id, "userID": "bob" }), 1001),
        (
            "mark_conversation_as_read",
            json!({ "conversationID": id, "userID": "bob", "hasReadSeq": 1, "seqs": [0] }),
            1001,
        ),
        (
            "mark_conversation_as_read",
            json!({ "conversationID": "si_x_y", "userID": "bob", "hasReadSeq": 1 }),
            1004,
        ),
        ("set_conversation_has_read_seq", json!({ "userID": "bob", "hasReadSeq": 1 }), 1001),
        ("set_conversation_has_read_seq", json!({ "conversationID": id, "hasReadSeq": 1 }), 1001),
        ("set_conversation_has_read_seq", json!({ "conversationID": id, "userID": "bob" }), 1001),
        (
            "set_conversation_has_read_seq",
            json!({ "conversationID": id, "userID": "bob", "hasReadSeq": 3 }),
            1001,
        ),
    ] {
        assert_eq!(bob.refused(&format!("/msg/{route}"), &body).await?, code, "{route} {body}");
    }
    for (route, body) in [
        ("mark_msgs_as_read", json!({ "conversationID": id, "seqs": [1], "userID": "bob" })),
        (
            "mark_conversation_as_read",
            json!({ "conversationID": id, "hasReadSeq": 1, "userID": "bob" }),
        ),
        (
            "set_conversation_has_read_seq",
            json!({ "conversationID": id, "hasReadSeq": 1, "userID": "bob" }),
        ),
    ] {
        let route = format!("/msg/{route}");
        assert_eq!(mallory.refused(&route, &body).await?, 1002, "{route}");
        // In the own name it is a conversation the stranger does not have.
        let mut own = body.clone();
        own["userID"] = "mallory".into();
        assert!([1001, 1004].contains(&mallory.refused(&route, &own).await?), "{route}");
    }
    assert_eq!(seqs(&bob, id).await?, (2, 0));
    node.stop().await
}

/// SDKs name every message that the user had not read.
#[tokio::test]
async fn thousands_are_read_at_once() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::GOB_GZIP).await?;
    let total = 4_500;
    for _ in 0..total {
        at_alice.send_text("bob", "hello").await?;
    }
    let mut at_alice = alice.connect(Wire::GOB_GZIP).await?;
    let seqs: Vec<i64> = (1..=total).collect();
    let body = json!({ "conversationID": "si_alice_bob", "userID": "bob", "seqs": &seqs[..2_300] });
    bob.call("/msg/mark_msgs_as_read", body).await?;
    let mut told = Vec::new();
    while told.len() < 2_300 {
        let receipt = at_alice.next_notification(2200).await?;
        told.extend(detail(&receipt.content)["seqs"].as_array().cloned().unwrap_or_default());
    }
    assert_eq!(json!(told), json!(seqs[..2_300]));
    let body = json!({
        "conversationID": "si_alice_bob", "userID": "bob", "hasReadSeq": total, "seqs": seqs,
    });
    bob.call("/msg/mark_conversation_as_read", body).await?;
    let receipt = at_alice.next_notification(2200).await?;
    let named = detail(&receipt.content)["seqs"].clone();
    assert_eq!(named, json!(seqs[2_500..]), "the newest, and all before count as read");
    let all = pull(&alice, "si_alice_bob", 1, total).await?;
    assert!(all.as_array().is_some_and(|all| all.iter().all(|message| message["isRead"] == true)));
    node.stop().await
}
