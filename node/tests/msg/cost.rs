use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use prost::Message as _;
use proto::msg::GetLastMessageReq;
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

/// Keys read by a request of `alice`.
async fn read_by(engine: &Counting, alice: &Client, route: &str, body: Value) -> Result<usize> {
    let before = engine.read.load(Relaxed);
    alice.call(route, body).await?;
    Ok(engine.read.load(Relaxed) - before)
}

#[tokio::test]
async fn a_conversation_named_often_costs_as_much_as_once() -> Result {
    let engine = Arc::new(Counting::default());
    let node = Node::builder().engine(Box::new(Arc::clone(&engine))).start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    say(&mut at_bob, "alice", &["x"; 100]).await?;
    let seqs: Vec<i64> = (1..=100).collect();
    let delete = json!({ "conversationID": "si_alice_bob", "seqs": seqs, "userID": "alice" });
    alice.call("/msg/delete_msgs", delete).await?;
    pushed(&mut at_bob).await?;
    let page = json!({ "pageNumber": 1, "showNumber": 1_000 });
    for route in [
        "/jssdk/get_conversations",
        "/conversation/get_sorted_conversation_list",
        "/msg/get_conversations_has_read_and_max_seq",
    ] {
        let named = |times: usize| {
            let ids = vec!["si_alice_bob"; times];
            json!({ "userID": "alice", "conversationIDs": ids, "pagination": page })
        };
        let once = read_by(&engine, &alice, route, named(1)).await?;
        let often = read_by(&engine, &alice, route, named(1_000)).await?;
        assert!(once > 100 && often <= once + 10, "{route}: {once} {often}");
    }
    let mut at_alice = alice.connect(Wire::GOB_GZIP).await?;
    let mut costs = Vec::new();
    for times in [1, 1_000] {
        let conversation_ids = vec!["si_alice_bob".to_owned(); times];
        let request = GetLastMessageReq { user_id: "alice".into(), conversation_ids };
        let before = engine.read.load(Relaxed);
        let asked = at_alice.ask(1007, request.encode_to_vec()).await?;
        assert_eq!(at_alice.answer(&asked).await?.err_code, 0);
        costs.push(engine.read.load(Relaxed) - before);
    }
    assert!(costs[0] > 100 && costs[1] <= costs[0] + 10, "{costs:?}");
    node.stop().await
}

/// What is looked through for the newest messages is bounded for all conversations of a request.
#[tokio::test]
async fn many_conversations_of_deleted_messages_share_their_steps() -> Result {
    const EACH: i64 = 3_000;
    let engine = Arc::new(Counting::default());
    let node = Node::builder().engine(Box::new(Arc::clone(&engine))).start().await?;
    let admin = node.admin().await?;
    let [alice] = admin.users(["alice"]).await?;
    let mut ids = Vec::new();
    for n in 0..6 {
        let peer = admin.user(&format!("p{n}")).await?;
        peer.connect(Wire::JSON).await?.send_text("alice", "hello").await?;
        let id = format!("si_alice_p{n}");
        let chat = id.clone();
        let hidden = node.services.store().transact(move |tx| {
            let head = schema::CONVERSATION_HEADS.get(tx, &chat)?.unwrap_or_default();
            for seq in 1..=EACH.cast_unsigned() {
                let message = MsgData { seq: seq.cast_signed(), ..MsgData::default() };
                schema::MESSAGES.put(tx, (head.number, seq), &message);
                schema::HIDDEN_MESSAGES.put(tx, (head.number, seq, "alice"), &Present {});
            }
            Ok::<_, StoreError>(())
        });
        hidden.await?;
        ids.push(id);
    }
    let body = |ids: &[String]| json!({ "ownerUserID": "alice", "conversationIDs": ids });
    let one = read_by(&engine, &alice, "/jssdk/get_conversations", body(&ids[..1])).await?;
    let all = read_by(&engine, &alice, "/jssdk/get_conversations", body(&ids)).await?;
    assert!(one > EACH as usize && all < 5 * one, "{one} {all}");
    node.stop().await
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
