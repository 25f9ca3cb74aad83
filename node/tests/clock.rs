//! A clock that jumps by an hour.
#![allow(clippy::expect_used, reason = "a test may fail")]

use testnet::{Node, Result, Wire, text_message};

const HOUR_MS: i64 = 3_600_000;

#[tokio::test]
async fn an_hour_either_way_breaks_no_order_and_no_login() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob] = admin.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::GOB_GZIP).await?;
    let mut at_bob = bob.connect(Wire::GOB_GZIP).await?;
    let first = text_message("alice", "bob", "first");
    let mut sent = vec![at_alice.send(&first).await?];
    // Forward, back, and an hour behind where it began.
    for jump in [HOUR_MS, -HOUR_MS, -HOUR_MS, HOUR_MS] {
        node.clock.advance(jump);
        sent.push(at_alice.send_text("bob", "on the old connection").await?);
        // Logging in works with a token from before the jump, and with one from after it.
        let phone = admin.client("bob", 2).await?;
        for device in [&bob, &phone] {
            at_bob.cut();
            at_bob = device.connect(Wire::GOB_GZIP).await?;
            sent.push(at_alice.send_text("bob", "on a new connection").await?);
            assert_eq!(at_bob.next_message().await?.seq, sent.len() as i64);
        }
        let again = at_alice.send(&first).await?;
        assert_eq!(again.server_msg_id, sent[0].server_msg_id, "a repeat is still known");
    }
    let times: Vec<i64> = sent.iter().map(|answer| answer.send_time).collect();
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
    let stored = at_bob.history("alice").await?;
    let stored: Vec<(i64, i64)> =
        stored.iter().map(|message| (message.seq, message.send_time)).collect();
    assert_eq!(stored, (1..).zip(times).collect::<Vec<_>>());
    node.stop().await
}
