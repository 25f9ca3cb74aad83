use proto::msg::SendMsgResp;
use serde_json::json;
use store::record::{Black, Friend};
use store::schema;
use testnet::{Node, Result, Socket, Wire, text_message};

use crate::*;

/// The error code with which a message is refused; 0 if it is sent.
async fn code(socket: &mut Socket, message: &MsgData) -> Result<i32> {
    use proto::Message as _;
    Ok(socket.exchange(1003, message.encode_to_vec()).await?.err_code)
}

async fn put(node: &Node, change: impl FnOnce(&mut store::Tx<'_>) + Send + 'static) -> Result {
    let done = node.services.store().transact(move |tx| {
        change(tx);
        Ok::<_, StoreError>(())
    });
    Ok(done.await?)
}

/// Sets a user's global receive option and level.
async fn account(node: &Node, user_id: &'static str, option: i32, level: i32) -> Result {
    let mut user = schema::USERS.get(&node.services.store().view(), user_id)?.expect("registered");
    user.global_recv_msg_opt = option;
    user.app_manger_level = level;
    put(node, move |tx| schema::USERS.put(tx, user_id, &user)).await
}

#[tokio::test]
async fn a_message_gets_its_place_and_its_marks() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let message = MsgData {
        seq: 77,
        send_time: 5,
        is_read: true,
        server_msg_id: "mine".into(),
        options: [("notPrivate".to_owned(), false)].into(),
        attached_info: r#"{"isPrivateChat":true,"burnDuration":30}"#.into(),
        ex: "x".into(),
        ..text_message("alice", "bob", "hi")
    };
    let sent = at_alice.send(&message).await?;
    assert_eq!(sent.client_msg_id, message.client_msg_id);
    assert!(sent.server_msg_id.len() == 32 && sent.modify.is_none());
    assert!(sent.send_time > 1_700_000_000_000, "only admins say when something was sent");
    let expected = MsgData {
        seq: 1,
        send_time: sent.send_time,
        server_msg_id: sent.server_msg_id.clone(),
        status: 2,
        is_read: false,
        ..message
    };
    for socket in [&mut at_alice, &mut at_bob] {
        assert_eq!(pushed(socket).await?, [("si_alice_bob".to_owned(), expected.clone())]);
    }
    assert_eq!(
        (seqs(&alice, "si_alice_bob").await?, seqs(&bob, "si_alice_bob").await?),
        ((1, 1), (1, 0))
    );
    node.stop().await
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_and_is_not_sent_again() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let message = text_message("alice", "bob", "once");
    let first: SendMsgResp = at_alice.send(&message).await?;
    assert_eq!(at_alice.send(&message).await?, first);
    assert_eq!(pushed(&mut at_bob).await?.len(), 1);
    assert_eq!(seqs(&bob, "si_alice_bob").await?, (1, 0));
    // Another sender's message may carry the same ID.
    let same =
        MsgData { client_msg_id: message.client_msg_id, ..text_message("bob", "alice", "mine") };
    assert_ne!(at_bob.send(&same).await?.server_msg_id, first.server_msg_id);
    // Without an ID the node gives one.
    let bare = MsgData { client_msg_id: String::new(), ..text_message("alice", "bob", "x") };
    assert_eq!(at_alice.send(&bare).await?.client_msg_id.len(), 32);
    node.stop().await
}

#[tokio::test]
async fn what_is_only_for_who_is_online() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ORDINARY)]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let seven = [
        "conversationUpdate",
        "history",
        "offlinePush",
        "persistent",
        "senderConversationUpdate",
        "senderSync",
        "unreadCount",
    ];
    let typing = MsgData {
        content_type: 113,
        content: r#"{"msgTips":"yes"}"#.into(),
        ..text_message("alice", "bob", "")
    };
    let sent = at_alice.send(&typing).await?;
    let (id, message) = pushed(&mut at_bob).await?.pop().expect("typing");
    assert_eq!((id.as_str(), message.seq, message.status), ("si_alice_bob", 0, 2));
    assert_eq!((off(&message), message.send_time), (seven.to_vec(), sent.send_time));
    assert!(pushed(&mut at_alice).await?.is_empty(), "no echo of what is not stored");
    assert_eq!(seqs(&bob, "si_alice_bob").await?, (0, 0));

    let in_group =
        MsgData { session_type: 3, group_id: "g".into(), recv_id: String::new(), ..typing };
    at_alice.send(&in_group).await?;
    for socket in [&mut at_alice, &mut at_bob] {
        assert_eq!(pushed_kinds(socket).await?, [("sg_g".to_owned(), 113, 0)]);
    }

    let quiet = MsgData {
        options: [("senderSync".to_owned(), false)].into(),
        ..text_message("alice", "bob", "no echo")
    };
    at_alice.send(&quiet).await?;
    assert_eq!(pushed_kinds(&mut at_bob).await?, [("si_alice_bob".to_owned(), 101, 1)]);
    assert!(pushed(&mut at_alice).await?.is_empty());
    node.stop().await
}

#[tokio::test]
async fn a_note_to_oneself_is_one_conversation_and_one_push() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let mut socket = alice.connect(Wire::JSON).await?;
    socket.send_text("alice", "note").await?;
    assert_eq!(pushed_kinds(&mut socket).await?, [("si_alice_alice".to_owned(), 101, 1)]);
    assert_eq!(seqs(&alice, "si_alice_alice").await?, (1, 1));
    assert_eq!(pull(&alice, "si_alice_alice", 1, 1).await?[0]["isRead"], false);
    node.stop().await
}

#[tokio::test]
async fn malformed_messages_are_refused() -> Result {
    let node = Node::start().await?;
    let [alice, _bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut socket = alice.connect(Wire::JSON).await?;
    let good = || text_message("alice", "bob", "x");
    for (what, message, expected) in [
        ("sender of another", MsgData { send_id: "bob".into(), ..good() }, 1002),
        ("no sender", MsgData { send_id: String::new(), ..good() }, 1001),
        ("no content", MsgData { content: Default::default(), ..good() }, 1001),
        ("session 2", MsgData { session_type: 2, ..good() }, 1001),
        ("session 0", MsgData { session_type: 0, ..good() }, 1001),
        ("session 4 without 1400", MsgData { session_type: 4, ..good() }, 1001),
        ("1400 without session 4", MsgData { content_type: 1400, ..good() }, 1001),
        ("OA of an ordinary user", MsgData { session_type: 4, content_type: 1400, ..good() }, 1002),
        ("no receiver", MsgData { recv_id: String::new(), ..good() }, 1001),
        ("no group", MsgData { session_type: 3, ..good() }, 1001),
        ("system type", MsgData { content_type: 2001, ..good() }, 1001),
        (
            "notification",
            MsgData { options: [("isNotNotification".to_owned(), false)].into(), ..good() },
            1001,
        ),
        ("too large", MsgData { content: vec![b'x'; 70_000].into(), ..good() }, 1001),
        ("unknown receiver", MsgData { recv_id: "nobody".into(), ..good() }, 1004),
        (
            "unknown group",
            MsgData { session_type: 3, group_id: "none".into(), recv_id: String::new(), ..good() },
            1004,
        ),
        ("as it should be", good(), 0),
    ] {
        assert_eq!(code(&mut socket, &message).await?, expected, "{what}");
    }
    node.stop().await
}

#[tokio::test]
async fn checks_of_a_single_chat_in_their_order() -> Result {
    let node = Node::builder().settings(|settings| settings.friend_verify = true).start().await?;
    let admin = node.admin().await?;
    let [alice, bob] = admin.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let text = || text_message("alice", "bob", "x");
    let friend =
        |tx: &mut store::Tx<'_>| schema::FRIENDS.put(tx, ("bob", "alice"), &Friend::default());
    assert_eq!(code(&mut at_alice, &text()).await?, 1303);
    put(&node, |tx| schema::FRIENDS.put(tx, ("alice", "bob"), &Friend::default())).await?;
    assert_eq!(code(&mut at_alice, &text()).await?, 1303, "the receiver's list counts");
    put(&node, friend).await?;
    assert_eq!(code(&mut at_alice, &text()).await?, 0);
    put(&node, |tx| schema::BLACKS.put(tx, ("bob", "alice"), &Black::default())).await?;
    assert_eq!(code(&mut at_alice, &text()).await?, 1302);
    assert_eq!(code(&mut at_bob, &text_message("bob", "alice", "x")).await?, 0);
    // System accounts pass, and so do admins.
    account(&node, "alice", 0, 4).await?;
    assert_eq!(code(&mut at_alice, &text()).await?, 0);
    account(&node, "alice", 0, 0).await?;
    put(&node, |tx| schema::BLACKS.delete(tx, ("bob", "alice"))).await?;

    account(&node, "bob", 1, 0).await?;
    assert_eq!(code(&mut at_alice, &text()).await?, 1001);
    let mut at_admin = admin.client.connect(Wire::JSON).await?;
    assert_eq!(code(&mut at_admin, &text_message("imAdmin", "bob", "x")).await?, 1001);
    account(&node, "bob", 2, 0).await?;
    pushed(&mut at_bob).await?;
    assert_eq!(code(&mut at_alice, &text()).await?, 0);
    assert_eq!(off(&at_bob.next_message().await?), ["offlinePush"]);
    account(&node, "bob", 0, 0).await?;
    edit(&node, "bob", "si_alice_bob", |record| record.recv_msg_opt = 1).await?;
    assert_eq!(code(&mut at_alice, &text()).await?, 1001);
    edit(&node, "bob", "si_alice_bob", |record| record.recv_msg_opt = 2).await?;
    assert_eq!(code(&mut at_alice, &text()).await?, 0);
    assert_eq!(off(&at_bob.next_message().await?), ["offlinePush"]);
    node.stop().await
}

#[tokio::test]
async fn checks_of_a_group_in_their_order() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob, carol, mallory] = admin.users(["alice", "bob", "carol", "mallory"]).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ADMIN), ("carol", ORDINARY)]).await?;
    let mut sockets = Vec::new();
    for client in [&alice, &bob, &carol, &mallory] {
        sockets.push(client.connect(Wire::JSON).await?);
    }
    let names = ["alice", "bob", "carol", "mallory"];
    let mut codes = async || -> Result<Vec<i32>> {
        let mut codes = Vec::new();
        for (socket, name) in sockets.iter_mut().zip(names) {
            codes.push(code(socket, &group_text(name, "g", "x")).await?);
        }
        Ok(codes)
    };
    assert_eq!(codes().await?, [0, 0, 0, 1203]);
    let now = 4_000_000_000_000;
    put(&node, move |tx| {
        for (name, role_level) in [("alice", OWNER), ("bob", ADMIN), ("carol", ORDINARY)] {
            let member = Member { role_level, mute_end: now, ..Member::default() };
            schema::MEMBERS.put(tx, ("g", name), &member);
        }
    })
    .await?;
    assert_eq!(codes().await?, [0, 1402, 1402, 1203], "admins are muted too, the owner is not");
    group(&node, "g", &[("alice", OWNER), ("bob", ADMIN), ("carol", ORDINARY)]).await?;
    let status = async |status: i32| {
        let mut group = schema::GROUPS.get(&node.services.store().view(), "g")?.expect("a group");
        group.info.status = status;
        put(&node, move |tx| schema::GROUPS.put(tx, "g", &group)).await
    };
    status(3).await?;
    assert_eq!(codes().await?, [0, 0, 1403, 1203]);
    status(2).await?;
    assert_eq!(codes().await?, [1204, 1204, 1204, 1204]);
    status(0).await?;
    // An app admin needs no membership; nobody's receive option stops a group message.
    edit(&node, "carol", "sg_g", |record| {
        record.session_type = 3;
        record.recv_msg_opt = 1;
    })
    .await?;
    let mut at_admin = admin.client.connect(Wire::JSON).await?;
    assert_eq!(code(&mut at_admin, &group_text("imAdmin", "g", "x")).await?, 0);
    node.stop().await
}

#[tokio::test]
async fn a_group_message_reaches_all_members_and_nobody_else() -> Result {
    let node = Node::start().await?;
    let [alice, bob, mallory] = node.admin().await?.users(["alice", "bob", "mallory"]).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ORDINARY)]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::GOB_GZIP).await?;
    let mut at_mallory = mallory.connect(Wire::JSON).await?;
    let quiet = MsgData {
        options: [("senderSync".to_owned(), false)].into(),
        ..group_text("alice", "g", "to all")
    };
    at_alice.send(&quiet).await?;
    for socket in [&mut at_alice, &mut at_bob] {
        assert_eq!(pushed_kinds(socket).await?, [("sg_g".to_owned(), 101, 1)]);
    }
    assert!(pushed(&mut at_mallory).await?.is_empty());
    assert_eq!((seqs(&alice, "sg_g").await?, seqs(&bob, "sg_g").await?), ((1, 1), (1, 0)));
    assert_eq!(seqs(&mallory, "sg_g").await?, (0, 0));
    node.stop().await
}

#[tokio::test]
async fn two_pairs_never_share_a_conversation() -> Result {
    let node = Node::start().await?;
    let [first, _, second, _] = node.admin().await?.users(["a", "b_c", "a_b", "c"]).await?;
    let mut at_first = first.connect(Wire::JSON).await?;
    let mut at_second = second.connect(Wire::JSON).await?;
    at_first.send_text("b_c", "secret").await?;
    assert_eq!(code(&mut at_second, &text_message("a_b", "c", "x")).await?, 1001);
    let typing = MsgData { content_type: 113, ..text_message("a_b", "c", "x") };
    assert_eq!(code(&mut at_second, &typing).await?, 1001);
    assert_eq!(pull(&second, "si_a_b_c", 1, 9).await?, json!(null));
    assert_eq!(seqs(&second, "si_a_b_c").await?, (0, 0));
    node.stop().await
}
