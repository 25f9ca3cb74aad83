use testnet::{Node, Result, Wire};

use crate::*;

fn at(from: &str, users: &[&str]) -> MsgData {
    MsgData {
        content_type: 106,
        content: json!({ "text": "@", "atUserList": users, "isAtSelf": false }).to_string().into(),
        at_user_id_list: users.iter().map(|user| (*user).to_owned()).collect(),
        ..group_text(from, "g", "")
    }
}

fn mark(node: &Node, user_id: &str) -> i32 {
    let found = schema::CONVERSATIONS.get(&node.services.store().view(), (user_id, "sg_g"));
    found.expect("reads").map_or(0, |record| record.group_at_type)
}

/// Waits until the members' marks are these.
async fn marks(node: &Node, expected: [(&str, i32); 4]) {
    for _ in 0..100 {
        if expected.iter().all(|(user, at)| mark(node, user) == *at) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let found = expected.map(|(user, _)| (user, mark(node, user)));
    panic!("{found:?}, not {expected:?}");
}

#[tokio::test]
async fn who_is_mentioned_is_marked_and_told() -> Result {
    let node = Node::start().await?;
    let names = ["alice", "bob", "carol", "mallory"];
    let [alice, bob, carol, mallory] = node.admin().await?.users(names).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ADMIN), ("carol", ORDINARY)]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let mut at_carol = carol.connect(Wire::JSON).await?;
    let mut at_mallory = mallory.connect(Wire::JSON).await?;

    at_alice.send(&at("alice", &["carol", "mallory", "nobody"])).await?;
    assert_eq!(["alice", "bob", "carol", "mallory"].map(|user| mark(&node, user)), [0, 0, 1, 0]);
    let told = pushed(&mut at_carol).await?;
    let kinds: Vec<_> = told.iter().map(|(id, m)| (id.as_str(), m.content_type)).collect();
    assert_eq!(kinds, [("sg_g", 106), ("n_carol_carol", 1300)]);
    assert_eq!(told[0].1.at_user_id_list, ["carol", "mallory", "nobody"]);
    assert_eq!(
        detail(&told[1].1.content),
        json!({ "userID": "carol", "conversationIDList": ["sg_g"] })
    );
    assert!(pushed(&mut at_mallory).await?.is_empty());

    // The same mark again is no change.
    at_alice.send(&at("alice", &["carol"])).await?;
    assert_eq!(pushed_kinds(&mut at_carol).await?.len(), 1);

    at_bob.send(&at("bob", &["AtAllTag"])).await?;
    marks(&node, [("alice", 2), ("bob", 0), ("carol", 2), ("mallory", 0)]).await;
    at_alice.send(&at("alice", &["AtAllTag", "carol"])).await?;
    marks(&node, [("alice", 2), ("bob", 2), ("carol", 3), ("mallory", 0)]).await;

    // A text that merely lists users mentions nobody, nor does a chat of two.
    edit(&node, "carol", "sg_g", |record| record.group_at_type = 0).await?;
    at_alice.send(&MsgData { content_type: 101, ..at("alice", &["carol"]) }).await?;
    at_alice
        .send(&MsgData {
            session_type: 1,
            group_id: String::new(),
            recv_id: "carol".into(),
            ..at("alice", &["carol"])
        })
        .await?;
    assert_eq!(mark(&node, "carol"), 0);
    node.stop().await
}

#[tokio::test]
async fn everybody_is_marked_in_a_large_group() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let names: Vec<String> = (0..450).map(|n| format!("m{n:03}")).collect();
    let mut members = vec![("alice", OWNER)];
    members.extend(names.iter().map(|name| (name.as_str(), ORDINARY)));
    group(&node, "g", &members).await?;
    let mut socket = alice.connect(Wire::JSON).await?;
    for _ in 0..3 {
        socket.send(&at("alice", &["AtAllTag"])).await?;
    }
    marks(&node, [("m000", 2), ("m200", 2), ("m449", 2), ("alice", 0)]).await;
    assert!(names.iter().all(|name| mark(&node, name) == 2));
    while schema::GROUP_CALLS.contains(&node.services.store().view(), "g")? {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    node.stop().await
}

#[tokio::test]
async fn what_a_stop_interrupted_is_taken_up_again() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let members = [("alice", OWNER), ("bob", ORDINARY), ("carol", ORDINARY), ("dave", ORDINARY)];
    group(&node, "g", &members).await?;
    let mut socket = alice.connect(Wire::JSON).await?;
    say_in(&mut socket, "alice", "g", &["1"]).await?;
    let left = store::record::GroupCall {
        after: "bob".into(),
        sender: "alice".into(),
        named: vec!["carol".into()],
        operation_id: "op".into(),
        mark: 0,
    };
    let put = node.services.store().transact(move |tx| {
        schema::GROUP_CALLS.put(tx, "g", &left);
        Ok::<_, StoreError>(())
    });
    put.await?;
    node.services.resume().await?;
    marks(&node, [("dave", 2), ("carol", 0), ("bob", 0), ("alice", 0)]).await;
    node.stop().await
}
