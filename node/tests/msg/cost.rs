use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use store::Direction;
use store::engine::{Batch, Engine, KeyRange, MemoryEngine, Scan};
use testnet::{Node, Result, Wire};

use crate::*;

/// Counts the keys that are read and written.
#[derive(Default)]
struct Counting {
    engine: MemoryEngine,
    read: AtomicUsize,
    written: AtomicUsize,
}

impl Engine for Counting {
    fn get(&self, key: &[u8]) -> std::result::Result<Option<Bytes>, StoreError> {
        self.read.fetch_add(1, Relaxed);
        self.engine.get(key)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
        let rows = self.engine.scan(range, direction);
        Box::new(rows.inspect(|_| {
            self.read.fetch_add(1, Relaxed);
        }))
    }

    fn apply(&self, batch: &Batch) -> std::result::Result<(), StoreError> {
        self.written.fetch_add(batch.len(), Relaxed);
        self.engine.apply(batch)
    }

    fn sync(&self) -> std::result::Result<(), StoreError> {
        self.engine.sync()
    }

    fn available_bytes(&self) -> Option<u64> {
        self.engine.available_bytes()
    }
}

/// Keys read and written by a message into a group of this size, of which some have deleted the chat
/// before another message came.
async fn cost(members: usize, deleted: usize) -> Result<(usize, usize)> {
    let engine = Arc::new(Counting::default());
    let node = Node::builder().engine(Box::new(Arc::clone(&engine))).start().await?;
    let admin = node.admin().await?;
    let alice = admin.user("alice").await?;
    let names: Vec<String> = (1..members).map(|n| format!("m{n}")).collect();
    let mut all = vec![("alice", OWNER)];
    all.extend(names.iter().map(|name| (name.as_str(), ORDINARY)));
    group(&node, "g", &all).await?;
    let mut socket = alice.connect(Wire::JSON).await?;
    say_in(&mut socket, "alice", "g", &["first"]).await?;
    for owner in names.iter().take(deleted) {
        let delete = json!({ "ownerUserID": owner, "conversationIDs": ["sg_g"] });
        admin.client.call("/conversation/delete_conversations", delete).await?;
    }
    if deleted > 0 {
        say_in(&mut socket, "alice", "g", &["brings it back"]).await?;
    }
    pushed(&mut socket).await?;
    let before = (engine.read.load(Relaxed), engine.written.load(Relaxed));
    say_in(&mut socket, "alice", "g", &["second"]).await?;
    let after = (engine.read.load(Relaxed), engine.written.load(Relaxed));
    node.stop().await?;
    Ok((after.0 - before.0, after.1 - before.1))
}

#[tokio::test]
async fn a_group_message_costs_the_same_in_a_large_group() -> Result {
    let (read, written) = cost(3, 0).await?;
    assert_eq!(cost(10_000, 0).await?, (read, written));
    assert_eq!(cost(100, 20).await?, (read, written), "they have it back");
    assert!(read <= 20, "{read} keys read");
    assert_eq!(written, 2, "the message and how far the sender has read");
    Ok(())
}

#[tokio::test]
async fn a_lone_message_is_not_held_back() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let mut took = Vec::new();
    for _ in 0..51 {
        let begin = std::time::Instant::now();
        at_alice.send_text("bob", "x").await?;
        at_bob.next_message().await?;
        took.push(begin.elapsed());
    }
    took.sort();
    assert!(took[25] < Duration::from_millis(20), "{:?} on the way", took[25]);
    node.stop().await
}
