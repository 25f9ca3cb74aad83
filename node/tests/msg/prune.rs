use std::time::Duration;

use serde_json::json;
use testnet::{Node, Result, Wire};

use crate::*;

const DAY_MS: i64 = 86_400_000;
const DAY: Duration = Duration::from_secs(86_400);

/// What `entente verify` finds in the messages of a node.
fn findings(node: &Node) -> Result<Vec<String>> {
    let report = store::verify::verify(&node.services.store().view(), |_| {})?;
    let findings = report.findings.iter().map(|finding| format!("{finding:?}"));
    Ok(findings.filter(|finding| finding.contains("MESSAGE")).collect())
}

#[tokio::test]
async fn old_messages_are_removed_from_the_front() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob] = admin.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1", "2", "3"]).await?;
    node.clock.advance(2 * DAY_MS);
    say(&mut at_alice, "bob", &["4", "5"]).await?;
    let route = "/msg/delete_msg_physical";
    let body = |ids: &[&str], seconds: i64| json!({ "conversationIDs": ids, "timestamp": seconds });
    assert_eq!(alice.refused(route, body(&["si_alice_bob"], 86_400)).await?, 1002);
    assert_eq!(admin.client.refused(route, body(&[], 86_400)).await?, 1001);
    assert_eq!(admin.client.refused(route, body(&["si_alice_bob"], 0)).await?, 1001);
    // What clients of old sent was the time of day: nothing is that old.
    admin.client.call(route, body(&["si_alice_bob"], 1_795_412_251)).await?;
    assert_eq!(pull(&bob, "si_alice_bob", 1, 9).await?.as_array().map(Vec::len), Some(5));

    assert_eq!(admin.client.post(route, body(&["si_alice_bob", "si_x_y"], 86_400)).await?.text, OK);
    let left = pull(&bob, "si_alice_bob", 1, 9).await?;
    assert_eq!((left.as_array().map(Vec::len), &left[0]["seq"]), (Some(2), &json!(4)));
    assert!(findings(&node)?.is_empty());
    // All of it old: the seq goes on where it was.
    node.clock.advance(2 * DAY_MS);
    admin.client.call(route, body(&["si_alice_bob"], 86_400)).await?;
    assert_eq!(pull(&bob, "si_alice_bob", 1, 9).await?, json!(null));
    say(&mut at_alice, "bob", &["6"]).await?;
    let left = pull(&bob, "si_alice_bob", 1, 9).await?;
    assert_eq!((left.as_array().map(Vec::len), &left[0]["seq"]), (Some(1), &json!(6)));
    node.stop().await
}

#[tokio::test]
async fn messages_disappear_for_who_wants_that() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1", "2"]).await?;
    edit(&node, "bob", "si_alice_bob", |record| {
        record.destruct = true;
        record.destruct_time = 3_600;
    })
    .await?;
    node.clock.advance(DAY_MS);
    say(&mut at_alice, "bob", &["3"]).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    assert_eq!(node.services.destruct_messages().await?, 1);
    assert_eq!(pushed_kinds(&mut at_bob).await?, [("n_bob_bob".to_owned(), 1300, 0)]);
    let left = pull(&bob, "si_alice_bob", 1, 9).await?;
    assert_eq!((left.as_array().map(Vec::len), &left[0]["seq"]), (Some(1), &json!(3)));
    assert_eq!(pull(&alice, "si_alice_bob", 1, 9).await?.as_array().map(Vec::len), Some(3));
    // Not again before the time is over.
    assert_eq!(node.services.destruct_messages().await?, 0);
    node.clock.advance(3_600_001);
    assert_eq!(node.services.destruct_messages().await?, 1);
    assert_eq!(pull(&bob, "si_alice_bob", 1, 9).await?, json!(null));
    node.stop().await
}

#[tokio::test]
async fn sends_are_forgotten_after_a_day() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    admin.users(["alice", "bob"]).await?;
    let send = async |operation_id: &str| {
        let body = json!({
            "sendID": "alice", "recvID": "bob", "content": { "content": "x" }, "contentType": 101,
            "sessionType": 1,
        });
        let token = &admin.client.token;
        node.rest().post("/msg/send_msg", token, operation_id, body.to_string()).await
    };
    let noted = || -> Vec<String> {
        let view = node.services.store().view();
        schema::SEND_STATUS.scan(&view, ()).map(|row| row.expect("reads").0).collect()
    };
    for n in 0..3 {
        send(&format!("old-{n}")).await?;
    }
    node.clock.advance(DAY_MS - 1_000);
    send("new").await?;
    node.services.tidy_messages().await?;
    assert_eq!(noted().len(), 4);
    node.clock.advance(1_000);
    node.services.tidy_messages().await?;
    assert_eq!(noted(), ["new"]);
    node.stop().await
}

#[tokio::test]
async fn messages_are_kept_as_long_as_the_operator_wants() -> Result {
    let node = Node::builder().settings(|settings| settings.retain = 30 * DAY).start().await?;
    let admin = node.admin().await?;
    let [alice, bob] = admin.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1", "2"]).await?;
    say(&mut at_alice, "alice", &["1"]).await?;
    let revoke = json!({ "conversationID": "si_alice_bob", "seq": 1, "userID": "alice" });
    alice.call("/msg/revoke_msg", revoke).await?;
    let hide = json!({ "conversationID": "si_alice_bob", "seqs": [1, 2], "userID": "bob" });
    bob.call("/msg/delete_msgs", hide).await?;
    node.clock.advance(20 * DAY_MS);
    say(&mut at_alice, "bob", &["3"]).await?;
    let counts = async || -> Result<Vec<usize>> {
        let mut counts = Vec::new();
        for id in ["si_alice_bob", "si_alice_alice", "n_alice_bob"] {
            counts.push(pull(&alice, id, 1, 100).await?.as_array().map_or(0, Vec::len));
        }
        Ok(counts)
    };
    node.services.tidy_messages().await?;
    assert_eq!(counts().await?, [3, 1, 1]);
    node.clock.advance(11 * DAY_MS);
    for _ in 0..2 {
        node.services.tidy_messages().await?;
        assert_eq!(counts().await?, [1, 0, 0]);
        assert!(findings(&node)?.is_empty());
    }
    assert_eq!(seqs(&bob, "si_alice_bob").await?.0, 3);
    say(&mut at_alice, "alice", &["2"]).await?;
    assert_eq!(pull(&alice, "si_alice_alice", 1, 100).await?[0]["seq"], 2);
    node.stop().await
}
