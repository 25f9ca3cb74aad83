use serde_json::json;
use testnet::{Node, Result, Wire};

use crate::*;

fn delete(id: &str, seqs: &[i64], user_id: &str, sync: Value) -> Value {
    json!({ "conversationID": id, "seqs": seqs, "userID": user_id, "deleteSyncOpt": sync })
}

#[tokio::test]
async fn deleting_for_oneself_leaves_the_peer_its_copy() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1", "2", "3"]).await?;
    pushed(&mut at_alice).await?;
    pushed(&mut at_bob).await?;
    let body = delete("si_alice_bob", &[1, 99], "alice", json!(null));
    assert_eq!(alice.post("/msg/delete_msgs", body).await?.text, OK);
    assert!(pushed(&mut at_alice).await?.is_empty());
    let body = delete("si_alice_bob", &[2], "alice", json!({ "isSyncSelf": true }));
    assert_eq!(alice.post("/msg/delete_msgs", body).await?.text, OK);
    let (id, notice) = pushed(&mut at_alice).await?.pop().expect("told");
    assert_eq!((id.as_str(), notice.seq, notice.content_type), ("n_alice_alice", 1, 2102));
    assert_eq!((off(&notice), notice.session_type), (STORED_OFF.to_vec(), 1));
    assert_eq!(
        detail(&notice.content),
        json!({ "userID": "alice", "conversationID": "si_alice_bob", "seqs": [2] })
    );
    assert!(pushed(&mut at_bob).await?.is_empty());
    let mine = pull(&alice, "si_alice_bob", 1, 9).await?;
    let theirs = pull(&bob, "si_alice_bob", 1, 9).await?;
    for at in [0, 1] {
        assert_eq!((&mine[at]["content"], &mine[at]["status"]), (&Value::Null, &json!(4)));
        assert_eq!(mine[at]["clientMsgID"], theirs[at]["clientMsgID"]);
        assert_eq!(theirs[at]["status"], 2);
    }
    assert_eq!(mine[2], theirs[2]);
    node.stop().await
}

#[tokio::test]
async fn deleting_for_everybody_leaves_a_placeholder() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob] = admin.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1", "2", "3", "4"]).await?;
    let before = pull(&bob, "si_alice_bob", 1, 9).await?;
    pushed(&mut at_alice).await?;
    pushed(&mut at_bob).await?;
    let body =
        delete("si_alice_bob", &[2], "alice", json!({ "IsSyncSelf": true, "IsSyncOther": true }));
    assert_eq!(alice.post("/msg/delete_msgs", body).await?.text, OK);
    for socket in [&mut at_alice, &mut at_bob] {
        let told = pushed(socket).await?;
        assert_eq!(told.len(), 1);
        let (id, notice) = &told[0];
        assert_eq!((id.as_str(), notice.seq, notice.content_type), ("n_alice_bob", 1, 2102));
        assert_eq!(detail(&notice.content)["seqs"], json!([2]));
    }
    let body = json!({ "conversationID": "si_alice_bob", "seqs": [1, 3] });
    assert_eq!(alice.refused("/msg/delete_msg_phsical_by_seq", &body).await?, 1002);
    assert_eq!(admin.client.post("/msg/delete_msg_phsical_by_seq", &body).await?.text, OK);
    assert!(pushed(&mut at_bob).await?.is_empty(), "the admin's route tells nobody");
    let after = pull(&bob, "si_alice_bob", 1, 9).await?;
    let gone = |seq: i64, time: &Value| {
        json!({
            "sendID": "", "recvID": "", "groupID": "", "clientMsgID": "", "serverMsgID": "",
            "senderPlatformID": 0, "senderNickname": "", "senderFaceURL": "", "sessionType": 0,
            "msgFrom": 0, "contentType": 0, "content": null, "seq": seq, "sendTime": time,
            "createTime": 0, "status": 4, "isRead": false, "offlinePushInfo": null,
            "atUserIDList": null, "attachedInfo": "", "ex": "",
        })
    };
    assert_eq!(after[0], gone(1, &json!(0)));
    assert_eq!((&after[1], &after[2]), (&gone(2, &json!(0)), &gone(3, &json!(0))));
    assert_eq!(after[3], before[3]);
    let body = delete("si_alice_bob", &[4], "bob", json!({ "IsSyncOther": true }));
    bob.call("/msg/delete_msgs", body).await?;
    say(&mut at_alice, "bob", &["5"]).await?;
    assert_eq!(seqs(&bob, "si_alice_bob").await?.0, 5);
    // A gap has the time of the message before it, also at the begin of a pull.
    say(&mut at_alice, "bob", &["6"]).await?;
    let body = json!({ "conversationID": "si_alice_bob", "seqs": [6] });
    admin.client.call("/msg/delete_msg_phsical_by_seq", body).await?;
    let five = pull(&bob, "si_alice_bob", 5, 5).await?[0].clone();
    assert_eq!(pull(&bob, "si_alice_bob", 6, 6).await?[0], gone(6, &five["sendTime"]));
    assert_eq!(pull(&bob, "si_alice_bob", 5, 6).await?[1], gone(6, &five["sendTime"]));
    node.stop().await
}

#[tokio::test]
async fn in_a_group_the_role_decides_what_goes_for_everybody() -> Result {
    let node = Node::start().await?;
    let [alice, bob, carol] = node.admin().await?.users(["alice", "bob", "carol"]).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ADMIN), ("carol", ORDINARY)]).await?;
    for client in [&alice, &bob, &carol] {
        let mut socket = client.connect(Wire::JSON).await?;
        say_in(&mut socket, &client.user_id, "g", &["1", "2"]).await?;
    }
    let mut at_carol = carol.connect(Wire::JSON).await?;
    let everybody = json!({ "IsSyncOther": true });
    for (client, seqs, expected) in [
        (&carol, vec![1], 1002),
        (&carol, vec![5, 1], 1002),
        (&carol, vec![5], 0),
        (&bob, vec![6], 0),
        (&bob, vec![1], 1002),
        (&alice, vec![3, 4], 0),
    ] {
        let body = delete("sg_g", &seqs, &client.user_id, everybody.clone());
        assert_eq!(client.post("/msg/delete_msgs", &body).await?.code, expected, "{body}");
    }
    let told = pushed_kinds(&mut at_carol).await?;
    assert_eq!(told, [1, 2, 3].map(|seq| ("n_g".to_owned(), 2102, seq)));
    let statuses: Vec<Value> = pull(&alice, "sg_g", 1, 9)
        .await?
        .as_array()
        .expect("messages")
        .iter()
        .map(|m| m["status"].clone())
        .collect();
    assert_eq!(statuses, [2, 2, 4, 4, 4, 4]);
    node.stop().await
}

#[tokio::test]
async fn what_is_refused() -> Result {
    let node = Node::start().await?;
    let [alice, mallory, _bob] = node.admin().await?.users(["alice", "mallory", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1"]).await?;
    let many: Vec<i64> = (1..=1_001).collect();
    for (client, body, expected) in [
        (&alice, json!({ "seqs": [1], "userID": "alice" }), 1001),
        (&alice, json!({ "conversationID": "si_alice_bob", "userID": "alice" }), 1001),
        (&alice, json!({ "conversationID": "si_alice_bob", "seqs": [1] }), 1001),
        (&alice, delete("si_alice_bob", &many, "alice", json!(null)), 1001),
        (&mallory, delete("si_alice_bob", &[1], "alice", json!(null)), 1002),
        (&mallory, delete("si_alice_bob", &[1], "mallory", json!(null)), 1002),
        (&mallory, delete("si_alice_bob", &[1], "mallory", json!({ "IsSyncOther": true })), 1002),
        (&alice, delete("si_x_y", &[1], "alice", json!(null)), 1002),
    ] {
        assert_eq!(client.refused("/msg/delete_msgs", &body).await?, expected, "{body}");
    }
    assert_eq!(pull(&alice, "si_alice_bob", 1, 9).await?[0]["status"], 2);
    node.stop().await
}

#[tokio::test]
async fn what_was_deleted_is_not_unread_and_not_the_newest() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1", "2", "3", "4"]).await?;
    let id = "si_alice_bob";
    assert_eq!(seqs(&bob, id).await?, (4, 0));
    bob.call("/msg/delete_msgs", delete(id, &[2, 4], "bob", json!(null))).await?;
    assert_eq!(seqs(&bob, id).await?, (4, 2));
    let jssdk = json!({ "conversationIDs": [id] });
    let shown = bob.call("/jssdk/get_conversations", &jssdk).await?;
    let first = &shown["conversations"][0];
    assert_eq!(
        (&shown["unreadCount"], &first["lastMsg"]["seq"], &first["lastMsg"]["status"]),
        (&json!(2), &json!(3), &json!(2))
    );
    let for_all = json!({ "IsSyncSelf": true, "IsSyncOther": true });
    alice.call("/msg/delete_msgs", delete(id, &[3, 4], "alice", for_all)).await?;
    assert_eq!(seqs(&bob, id).await?, (4, 3));
    assert_eq!(seqs(&alice, id).await?, (4, 4));
    let shown = bob.call("/jssdk/get_active_conversations", json!({})).await?;
    assert_eq!(
        (&shown["unreadCount"], &shown["conversations"][0]["lastMsg"]["seq"]),
        (&json!(1), &json!(1))
    );
    let page = json!({ "pageNumber": 1, "showNumber": 9 });
    let sorted = json!({ "userID": "bob", "pagination": page });
    let sorted = bob.call("/conversation/get_sorted_conversation_list", sorted).await?;
    assert_eq!(sorted["unreadTotal"], 1);
    assert_eq!(sorted["conversationElems"][0]["msgInfo"]["content"], r#"{"content":"1"}"#);
    // Nothing is left to be shown.
    bob.call("/msg/delete_msgs", delete(id, &[1], "bob", json!(null))).await?;
    assert_eq!(seqs(&bob, id).await?, (4, 4));
    let shown = bob.call("/jssdk/get_conversations", &jssdk).await?;
    assert_eq!(shown, json!({ "unreadCount": 0, "conversations": null }));
    // What was cleared for everybody is not unread either.
    say(&mut at_alice, "bob", &["5", "6"]).await?;
    assert_eq!(seqs(&bob, id).await?, (6, 4));
    let clear = json!({ "conversationIDs": [id], "userID": "alice",
        "deleteSyncOpt": { "IsSyncOther": true } });
    alice.call("/msg/clear_conversation_msg", clear).await?;
    assert_eq!(seqs(&bob, id).await?, (6, 6));
    node.stop().await
}
