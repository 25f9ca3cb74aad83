//! What was deleted from a user's list, and comes back.

use std::time::Duration;

use serde_json::{Value, json};
use services::StoreError;
use store::record::Conversation;
use store::schema;
use testnet::{Admin, Client, Node, Result, Wire};

use super::{DAY_MS, OK, QUIET, SET, fresh, group, group_text, ids, incremental, one, set, text};

/// The group g1 of alice, who has written in it, and many others, who have all deleted its
/// conversation: so many that bringing it back takes several transactions.
async fn deleted_by_many(node: &Node, admin: &Admin) -> Result<(Client, Vec<&'static str>)> {
    let alice = admin.user("alice").await?;
    let names = (0..1_100).map(|n| format!("m{n:04}").leak() as &'static str);
    let others: Vec<&'static str> = names.collect();
    group(node, "g1", &[&others[..], &["alice"]].concat()).await?;
    group_text(&alice, "g1").await?;
    for owner in &others {
        let delete = json!({"ownerUserID": owner, "conversationIDs": ["sg_g1"]});
        admin.client.call("/conversation/delete_conversations", delete).await?;
    }
    Ok((alice, others))
}

#[tokio::test]
async fn a_deleted_conversation_comes_back_with_a_message() -> Result {
    let node = Node::start().await?;
    let [alice, bob, carol] = node.admin().await?.users(["alice", "bob", "carol"]).await?;
    for peer in ["bob", "carol"] {
        text(&alice, peer).await?;
        node.clock.advance(10);
    }
    alice.call(SET, set("bob", json!({"isPinned": true, "ex": "cx"}))).await?;
    let base = incremental(&alice, &json!(""), &json!(0)).await?;
    let delete = "/conversation/delete_conversations";
    let named = |ids: &[&str]| json!({"ownerUserID": "alice", "conversationIDs": ids});
    let mut at_alice = alice.connect(Wire::JSON).await?;
    assert_eq!(alice.post(delete, named(&["si_alice_bob", "si_x_y"])).await?.text, OK);
    assert_eq!(at_alice.pushes_until_quiet(QUIET).await?, []);
    assert_eq!(ids(&alice).await?, json!(["si_alice_carol"]));
    assert_eq!(ids(&bob).await?, json!(["si_alice_bob"]));
    let missing = json!({"ownerUserID": "alice", "conversationID": "si_alice_bob"});
    assert_eq!(alice.refused("/conversation/get_conversation", missing).await?, 1004);
    let gone = incremental(&alice, &base["versionID"], &base["version"]).await?;
    assert_eq!(gone["delete"], json!(["si_alice_bob", "si_x_y"]));
    let two = base["version"].as_u64().map(|version| version + 2);
    assert_eq!(gone["version"].as_u64(), two);

    text(&bob, "alice").await?;
    text(&bob, "alice").await?;
    assert_eq!(one(&alice, "si_alice_bob").await?, fresh("alice", "bob"));
    let back = incremental(&alice, &gone["versionID"], &gone["version"]).await?;
    assert_eq!(back["version"].as_u64(), two.map(|version| version + 1), "one step");
    assert_eq!((&back["delete"], &back["insert"]), (&Value::Null, &json!([fresh("alice", "bob")])));
    let back = incremental(&alice, &base["versionID"], &base["version"]).await?;
    assert_eq!(
        (&back["delete"], &back["insert"]),
        (&json!(["si_x_y"]), &json!([fresh("alice", "bob")]))
    );

    // Setting something brings it back too.
    alice.call(delete, named(&["si_alice_bob"])).await?;
    alice.call(SET, set("bob", json!({"isPinned": true}))).await?;
    assert_eq!(one(&alice, "si_alice_bob").await?["isPinned"], true);

    node.clock.advance(3 * DAY_MS);
    text(&carol, "alice").await?;
    let silent = |days: i64| json!({"ownerUserID": "alice", "needDeleteTime": days});
    alice.call(delete, silent(4)).await?;
    assert_eq!(ids(&alice).await?.as_array().map(Vec::len), Some(2));
    alice.call(delete, silent(2)).await?;
    assert_eq!(ids(&alice).await?, json!(["si_alice_carol"]));

    let both = json!({"ownerUserID": "alice", "conversationIDs": ["si_x_y"], "needDeleteTime": 1});
    for wrong in [json!({"ownerUserID": "alice"}), both, silent(-1), named(&[&"x".repeat(300)])] {
        assert_eq!(alice.refused(delete, wrong).await?, 1001);
    }
    node.stop().await
}

/// A group in which nothing was said when it was deleted from a list.
#[tokio::test]
async fn a_first_message_brings_a_deleted_conversation_back() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    group(&node, "g1", &["alice", "bob"]).await?;
    alice.call(SET, set("bob", json!({"ex": "no message yet"}))).await?;
    let both = json!(["sg_g1", "si_alice_bob"]);
    assert_eq!(ids(&alice).await?, both);
    let delete = json!({"ownerUserID": "alice", "conversationIDs": both});
    alice.call("/conversation/delete_conversations", delete).await?;
    assert_eq!(ids(&alice).await?, Value::Null);
    let base = incremental(&alice, &json!(""), &json!(0)).await?;
    group_text(&bob, "g1").await?;
    text(&bob, "alice").await?;
    let back = incremental(&alice, &base["versionID"], &base["version"]).await?;
    let back: Vec<&Value> = back["insert"].as_array().into_iter().flatten().collect();
    let back: Vec<&Value> = back.iter().map(|shown| &shown["conversationID"]).collect();
    assert_eq!(back, [&json!("sg_g1"), &json!("si_alice_bob")]);
    node.stop().await
}

#[tokio::test]
async fn a_conversation_comes_back_to_all_who_had_deleted_it() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let (alice, others) = deleted_by_many(&node, &admin).await?;
    let version = |owner: &'static str, id: Value, version: Value| {
        let body = json!({"userID": owner, "versionID": id, "version": version});
        admin.client.call("/conversation/get_incremental_conversations", body)
    };
    let base = version("m0000", json!(""), json!(0)).await?;
    group_text(&alice, "g1").await?;
    group_text(&alice, "g1").await?;
    let mut stepped = 0;
    for _ in 0..500 {
        stepped = 0;
        for owner in &others {
            let now = store::version_log::version(
                &node.services.store().view(),
                store::version_log::List::Conversations,
                owner,
            )?;
            assert!(now.version <= 3, "once for each: {}", now.version);
            stepped += usize::from(now.version == 3);
        }
        if stepped == others.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(stepped, others.len());
    let back = version("m0000", base["versionID"].clone(), base["version"].clone()).await?;
    assert_eq!(back["insert"][0]["conversationID"], "sg_g1");
    let report = store::verify::verify(&node.services.store().view(), |_| {})?;
    let findings = report.findings.iter().filter(|found| {
        ["DELETED_CONVERSATIONS", "RETURNS", "CONVERSATIONS"].contains(&found.table)
    });
    assert_eq!(findings.count(), 0, "{report:?}");
    node.stop().await
}

/// Somebody who deletes a conversation again, while it comes back to others, waits for the next message.
#[tokio::test]
async fn a_conversation_comes_back_to_those_after_one_who_deleted_it_again() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let (alice, others) = deleted_by_many(&node, &admin).await?;
    // The first in line have deleted what comes, too.
    let again = node.services.store().transact(|tx| {
        for n in 0..600 {
            let key = (format!("m{n:04}"), "sg_g1");
            let record = schema::CONVERSATIONS.get(tx, (&key.0, key.1))?.unwrap_or_default();
            let record = Conversation { hidden_through: Some(2), ..record };
            schema::CONVERSATIONS.put(tx, (&key.0, key.1), &record);
        }
        Ok::<_, StoreError>(())
    });
    again.await?;
    let all_stepped = async |from: usize, to: u64| -> Result {
        for _ in 0..500 {
            let view = node.services.store().view();
            let list = store::version_log::List::Conversations;
            let mut versions = Vec::new();
            for owner in &others[from..] {
                versions.push(store::version_log::version(&view, list, owner)?.version);
            }
            if versions.iter().all(|version| *version == to) {
                return Ok(());
            }
            drop(view);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("those from {from} on did not get to {to}")
    };
    group_text(&alice, "g1").await?;
    all_stepped(600, 3).await?;
    while schema::RETURNS.contains(&node.services.store().view(), "sg_g1")? {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    group_text(&alice, "g1").await?;
    all_stepped(0, 3).await?;
    node.stop().await
}
