use serde_json::json;
use testnet::{Node, Result, Wire};

use crate::*;

fn clear(ids: &[&str], user_id: &str, sync: Value) -> Value {
    json!({ "conversationIDs": ids, "userID": user_id, "deleteSyncOpt": sync })
}

/// Version of a user's conversation list.
fn version(node: &Node, user_id: &str) -> u64 {
    use store::version_log::{List, version};
    version(&node.services.store().view(), List::Conversations, user_id).expect("a version").version
}

fn record(node: &Node, user_id: &str, id: &str) -> store::record::Conversation {
    let found = schema::CONVERSATIONS.get(&node.services.store().view(), (user_id, id));
    found.expect("reads").unwrap_or_default()
}

#[tokio::test]
async fn clearing_for_oneself_hides_what_was_said() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    say(&mut at_bob, "alice", &["1", "2", "3"]).await?;
    pushed(&mut at_alice).await?;
    pushed(&mut at_bob).await?;
    let before = version(&node, "alice");
    let body = clear(&["si_alice_bob", "si_x_y", "si_alice_bob"], "alice", json!(null));
    assert_eq!(alice.post("/msg/clear_conversation_msg", body).await?.text, OK);
    let told = pushed(&mut at_alice).await?;
    assert_eq!(told.len(), 1);
    assert_eq!(
        (told[0].0.as_str(), told[0].1.content_type, told[0].1.seq),
        ("n_alice_alice", 1300, 0)
    );
    assert_eq!(
        detail(&told[0].1.content),
        json!({ "userID": "alice", "conversationIDList": ["si_alice_bob"] })
    );
    assert_eq!(version(&node, "alice"), before + 1);
    assert_eq!(record(&node, "alice", "si_alice_bob").min_seq, 4);
    assert_eq!(pull(&alice, "si_alice_bob", 1, 100).await?, json!(null));
    assert_eq!(pull(&bob, "si_alice_bob", 1, 100).await?.as_array().map(Vec::len), Some(3));
    assert_eq!(
        (seqs(&alice, "si_alice_bob").await?, seqs(&bob, "si_alice_bob").await?),
        ((3, 3), (3, 3))
    );
    assert!(pushed(&mut at_bob).await?.is_empty());

    say(&mut at_bob, "alice", &["4"]).await?;
    assert_eq!(pull(&alice, "si_alice_bob", 1, 100).await?.as_array().map(Vec::len), Some(1));
    pushed(&mut at_alice).await?;
    let body = clear(&["si_alice_bob"], "alice", json!({ "IsSyncSelf": true }));
    alice.call("/msg/clear_conversation_msg", body).await?;
    let told = pushed(&mut at_alice).await?;
    let kinds: Vec<_> = told.iter().map(|(id, m)| (id.as_str(), m.content_type, m.seq)).collect();
    assert_eq!(kinds, [("n_alice_alice", 1300, 0), ("n_alice_alice", 1703, 0)]);
    assert_eq!(off(&told[1].1), UNSTORED_OFF);
    assert_eq!(
        detail(&told[1].1.content),
        json!({ "userID": "alice", "conversationIDs": ["si_alice_bob"] })
    );
    node.stop().await
}

#[tokio::test]
async fn clearing_for_everybody_tells_everybody() -> Result {
    let node = Node::start().await?;
    let [alice, bob, carol] = node.admin().await?.users(["alice", "bob", "carol"]).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ADMIN), ("carol", ORDINARY)]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1", "2"]).await?;
    say_in(&mut at_alice, "alice", "g", &["1", "2"]).await?;
    pushed(&mut at_alice).await?;
    pushed(&mut at_bob).await?;
    let everybody = json!({ "IsSyncSelf": true, "IsSyncOther": true });
    let body = clear(&["si_alice_bob"], "bob", everybody.clone());
    assert_eq!(bob.post("/msg/clear_conversation_msg", body).await?.text, OK);
    for socket in [&mut at_alice, &mut at_bob] {
        let told = pushed(socket).await?;
        let kinds: Vec<_> =
            told.iter().map(|(id, m)| (id.as_str(), m.content_type, m.seq)).collect();
        assert_eq!(kinds, [("n_alice_bob", 1703, 0)]);
        assert_eq!((told[0].1.send_id.as_str(), told[0].1.recv_id.as_str()), ("bob", "alice"));
    }
    for client in [&alice, &bob] {
        assert_eq!(pull(client, "si_alice_bob", 1, 100).await?, json!(null));
    }
    assert_eq!(seqs(&bob, "si_alice_bob").await?, (2, 2));

    let group_body = |user: &str| clear(&["sg_g"], user, everybody.clone());
    let route = "/msg/clear_conversation_msg";
    assert_eq!(carol.refused(route, group_body("carol")).await?, 1002);
    bob.call(route, group_body("bob")).await?;
    assert_eq!(pushed_kinds(&mut at_alice).await?, [("n_g".to_owned(), 1703, 0)]);
    assert_eq!(pull(&carol, "sg_g", 1, 100).await?, json!(null));
    say_in(&mut at_alice, "alice", "g", &["3"]).await?;
    assert_eq!(pull(&carol, "sg_g", 1, 100).await?[0]["seq"], 3);
    node.stop().await
}

#[tokio::test]
async fn clearing_everything_goes_through_the_whole_list() -> Result {
    let node = Node::start().await?;
    let [alice, bob, carol] = node.admin().await?.users(["alice", "bob", "carol"]).await?;
    group(&node, "g", &[("alice", OWNER), ("carol", ORDINARY)]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "carol", &["1"]).await?;
    say(&mut at_alice, "bob", &["1"]).await?;
    say_in(&mut at_alice, "alice", "g", &["1", "2"]).await?;
    let mut at_carol = carol.connect(Wire::JSON).await?;
    let body = json!({ "userID": "carol", "deleteSyncOpt": { "IsSyncSelf": true } });
    assert_eq!(carol.post("/msg/user_clear_all_msg", body).await?.text, OK);
    let told = pushed(&mut at_carol).await?;
    let kinds: Vec<_> = told.iter().map(|(_, m)| m.content_type).collect();
    assert_eq!(kinds, [1300, 1300, 1703]);
    assert_eq!(detail(&told[2].1.content)["conversationIDs"].as_array().map(Vec::len), Some(2));
    for id in ["si_alice_carol", "sg_g"] {
        assert_eq!(pull(&carol, id, 1, 100).await?, json!(null), "{id}");
    }
    assert_eq!((seqs(&carol, "sg_g").await?, record(&node, "carol", "sg_g").min_seq), ((2, 2), 3));
    assert_eq!(pull(&bob, "si_alice_bob", 1, 9).await?.as_array().map(Vec::len), Some(1));
    node.stop().await
}

#[tokio::test]
async fn what_is_refused() -> Result {
    let node = Node::start().await?;
    let [alice, mallory, _bob] = node.admin().await?.users(["alice", "mallory", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1"]).await?;
    for (route, client, body, expected) in [
        ("clear_conversation_msg", &alice, json!({ "userID": "alice" }), 1001),
        ("clear_conversation_msg", &alice, json!({ "conversationIDs": ["si_alice_bob"] }), 1001),
        ("clear_conversation_msg", &mallory, clear(&["si_alice_bob"], "alice", json!(null)), 1002),
        ("user_clear_all_msg", &alice, json!({}), 1001),
        ("user_clear_all_msg", &mallory, json!({ "userID": "alice" }), 1002),
    ] {
        assert_eq!(client.refused(&format!("/msg/{route}"), &body).await?, expected, "{body}");
    }
    // A record that somebody made for the chat of others opens nothing.
    edit(&node, "mallory", "si_alice_bob", |record| {
        record.session_type = 1;
        record.user_id = "bob".into();
    })
    .await?;
    let everybody = json!({ "IsSyncOther": true });
    mallory
        .call("/msg/clear_conversation_msg", clear(&["si_alice_bob"], "mallory", everybody))
        .await?;
    mallory
        .call("/msg/clear_conversation_msg", clear(&["si_alice_bob"], "mallory", json!(null)))
        .await?;
    assert_eq!(
        record(&node, "mallory", "si_alice_bob").min_seq,
        1,
        "how far it goes stays unknown"
    );
    assert_eq!(pull(&alice, "si_alice_bob", 1, 9).await?.as_array().map(Vec::len), Some(1));
    node.stop().await
}

/// One group in which that is not allowed is not in the way of the rest.
#[tokio::test]
async fn all_is_cleared_as_far_as_allowed() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ORDINARY)]).await?;
    group(&node, "left", &[("alice", OWNER), ("bob", ORDINARY)]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    for group_id in ["g", "left"] {
        say_in(&mut at_alice, "alice", group_id, &["1"]).await?;
    }
    say(&mut at_alice, "bob", &["1"]).await?;
    leave(&node, "left", "bob", 1).await?;
    let everybody = json!({ "userID": "bob", "deleteSyncOpt": { "IsSyncOther": true } });
    assert_eq!(bob.post("/msg/user_clear_all_msg", everybody).await?.text, OK);
    for id in ["sg_g", "sg_left", "si_alice_bob"] {
        assert_eq!(pull(&bob, id, 1, 9).await?, Value::Null, "{id}");
        let hers = pull(&alice, id, 1, 9).await?.as_array().map_or(0, Vec::len);
        assert_eq!(hers, usize::from(id != "si_alice_bob"), "{id}");
    }
    node.stop().await
}
