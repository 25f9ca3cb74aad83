//! Whatever comes from outside gets the documented error or a clean end, and changes nothing.
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prost::Message as _;
use serde_json::{Value, json};
use store::engine::{Batch, Engine, KeyRange, MemoryEngine, Scan};
use store::{Direction, StoreError};
use testnet::{Client, Node, Push, Result, Socket, Wire};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;

const SOON: Duration = Duration::from_secs(5);

async fn works(alice: &Client, bob: &Client) -> Result {
    let mut to = bob.connect(Wire::GOB_GZIP).await?;
    alice.connect(Wire::JSON).await?.send_text(&bob.user_id, "still here").await?;
    let message = to.next_message().await?;
    assert_eq!(&message.content[..], br#"{"content":"still here"}"#);
    Ok(())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).expect("compresses");
    out.finish().expect("compresses")
}

#[tokio::test]
async fn frames_that_are_none_end_their_connection_only() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let bomb = gzip(&vec![0; 64 << 20]);
    assert!(bomb.len() < 100_000, "fits into a frame");
    let frames: Vec<(Wire, Message)> = vec![
        (Wire::JSON, Message::binary(&b"{"[..])),
        (Wire::JSON, Message::binary(&b"\xff\xfe\x00"[..])),
        (Wire::JSON, Message::binary("[".repeat(100_000))),
        (Wire::JSON, Message::binary(r#"{"reqIdentifier":"1003"}"#)),
        (Wire::JSON, Message::binary(r#"{"reqIdentifier":9999,"sendID":"alice"}"#)),
        (Wire::JSON, Message::binary(r#"{"reqIdentifier":1001,"sendID":"bob"}"#)),
        (Wire::JSON, Message::text(r#"{"reqIdentifier":1001,"sendID":"alice"}"#)),
        (Wire::JSON, Message::text("hello")),
        (Wire::GOB_GZIP, Message::binary(&b"not gzip"[..])),
        (Wire::GOB_GZIP, Message::binary(gzip(b"not gob"))),
        (Wire::GOB_GZIP, Message::binary(gzip(&[0xf8, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]))),
        (Wire::GOB_GZIP, Message::binary(bomb)),
    ];
    for (wire, frame) in frames {
        let mut socket = alice.connect(wire).await?;
        socket.raw(frame.clone()).await?;
        assert!(socket.ends(SOON).await, "{frame:?} did not end the connection");
    }
    works(&alice, &bob).await?;
    node.stop().await
}

#[tokio::test]
async fn a_frame_over_the_limit_is_closed_as_too_large() -> Result {
    let node = Node::builder().limits(|limits| limits.max_frame_bytes = 10_000).start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let mut socket = alice.connect(Wire::JSON).await?;
    socket.raw(Message::binary(vec![b' '; 20_000])).await?;
    let Message::Close(Some(close)) = socket.next_raw().await? else {
        anyhow::bail!("no close frame");
    };
    assert_eq!(u16::from(close.code), 1009);
    node.stop().await
}

/// The native SDK makes one of all those of the pushes that came together.
#[tokio::test]
async fn operation_ids_of_any_length_are_taken_and_passed_on_cut() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_bob = bob.connect(Wire::GOB_GZIP).await?;
    let passed_on = async |at_bob: &mut Socket| loop {
        if let Push::Message { operation_id, .. } = at_bob.next_push().await? {
            return Result::<String>::Ok(operation_id);
        }
    };
    for pushes in [60, 3_000] {
        let operation_id = format!("Batch_{}", vec!["1764451234567890123"; pushes].join("$"));
        let read = json!({ "userID": "bob", "conversationID": "si_alice_bob", "hasReadSeq": 1 });
        let mut at_alice = alice.connect(Wire::GOB_GZIP).await?;
        let message = testnet::text_message("alice", "bob", "hello").encode_to_vec();
        let asked = at_alice.ask_as(&operation_id, 1003, message).await?;
        let answer = at_alice.answer(&asked).await?;
        assert_eq!((answer.err_code, &answer.operation_id), (0, &operation_id));
        let by_socket = passed_on(&mut at_bob).await?;

        let path = "/msg/mark_conversation_as_read";
        let answer = node.rest().post(path, &bob.token, &operation_id, read.to_string()).await?;
        assert_eq!(answer.code, 0, "{}", answer.text);
        let by_rest = passed_on(&mut at_bob).await?;
        assert_eq!((by_socket.len(), &by_rest), (64, &by_socket));
        assert!(operation_id.starts_with(&by_rest[..47]), "{by_rest}");
    }
    node.stop().await
}

#[tokio::test]
async fn ids_that_clients_cannot_store_are_refused() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    for id in ["", "a.b", "a@b", "a b", "a/b", "a\\b", "a\"b", "a'b", "a`b", "a\0b", "a\nb", "a:b"]
    {
        let users = json!({ "users": [{ "userID": id, "nickname": "n" }] });
        assert_eq!(admin.client.refused("/user/user_register", users).await?, 1001, "{id:?}");
    }
    let long = json!({ "users": [{ "userID": "x".repeat(65), "nickname": "n" }] });
    assert_eq!(admin.client.refused("/user/user_register", long).await?, 1001);
    let found = admin.client.call(
        "/user/get_users",
        json!({
            "pagination": { "pageNumber": 1, "showNumber": 10 },
        }),
    );
    assert_eq!(found.await?["total"], 0);
    node.stop().await
}

#[tokio::test]
async fn bodies_that_are_no_requests_are_refused() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let rest = node.rest();
    let deep = format!("{{\"userIDs\":{}}}", "[".repeat(200_000));
    let many = json!({ "userIDs": vec!["x"; 200_000] }).to_string();
    for body in ["", "{", "[]", "7", "{\"userIDs\":7}", "{\"userIDs\":[{}]}", &deep, &many] {
        let answer = rest.post("/user/get_users_info", &alice.token, "op", body.into()).await?;
        assert_eq!((answer.status, answer.code), (200, 1001), "{}", &body[..body.len().min(40)]);
    }
    let path = "/msg/pull_msg_by_seq";
    for (begin, end, num) in [(-1, -5, -1), (i64::MIN, i64::MAX, i64::MAX), (9, 1, 1)] {
        let range = json!({ "conversationID": "si_x_y", "begin": begin, "end": end, "num": num });
        alice.call(path, json!({ "userID": "alice", "seqRanges": [range] })).await?;
    }
    let page = |number: i64, show: i64| json!({ "pageNumber": number, "showNumber": show });
    let list = |page: Value| json!({ "userID": "alice", "pagination": page });
    let path = "/friend/get_friend_list";
    assert_eq!(alice.refused(path, list(page(0, 10))).await?, 1001);
    assert_eq!(alice.refused(path, list(page(i64::from(i32::MAX) + 1, 1))).await?, 1001);
    alice.call(path, list(page(i64::from(i32::MAX), i64::from(i32::MAX)))).await?;
    alice.call(path, list(page(1, -5))).await?;
    node.stop().await
}

#[tokio::test]
async fn half_open_handshakes_leave_room_for_others() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let address = node.rest().ws().trim_start_matches("ws://").to_owned();
    let mut silent = Vec::new();
    for at in 0..400 {
        let mut socket = tokio::net::TcpStream::connect(&address).await?;
        if at % 2 == 0 {
            socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nUpgr").await?;
        }
        silent.push(socket);
    }
    works(&alice, &bob).await?;
    node.stop().await
}

#[tokio::test]
async fn a_client_that_never_reads_is_let_go_and_loses_nothing() -> Result {
    let node = Node::builder().limits(|limits| limits.queue.frames = 32).start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let deaf = bob.connect(Wire::JSON).await?;
    let mut socket: Socket = alice.connect(Wire::GOB_GZIP).await?;
    let text = "x".repeat(30_000);
    for _ in 0..600 {
        socket.send_text("bob", &text).await?;
    }
    assert!(node.services.hub().connections("bob").is_empty(), "still connected");
    drop(deaf);
    let mut socket = bob.connect(Wire::JSON).await?;
    let newest: proto::sdkws::GetMaxSeqResp =
        socket.call(1001, &proto::sdkws::GetMaxSeqReq { user_id: "bob".into() }).await?;
    assert_eq!(newest.max_seqs["si_alice_bob"], 600);
    node.stop().await
}

/// An engine on a disk whose free space the test sets.
struct FullDisk {
    inner: MemoryEngine,
    free: Arc<AtomicU64>,
}

impl Engine for FullDisk {
    fn get(&self, key: &[u8]) -> std::result::Result<Option<bytes::Bytes>, StoreError> {
        self.inner.get(key)
    }
    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
        self.inner.scan(range, direction)
    }
    fn apply(&self, batch: &Batch) -> std::result::Result<(), StoreError> {
        self.inner.apply(batch)
    }
    fn sync(&self) -> std::result::Result<(), StoreError> {
        self.inner.sync()
    }
    fn available_bytes(&self) -> Option<u64> {
        Some(self.free.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn on_a_full_disk_sends_fail_and_come_back_with_space() -> Result {
    let free = Arc::new(AtomicU64::new(1 << 30));
    let engine = FullDisk { inner: MemoryEngine::default(), free: Arc::clone(&free) };
    let node = Node::builder().engine(Box::new(engine)).reserve_bytes(1 << 20).start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let (mut from, mut to) = (alice.connect(Wire::JSON).await?, bob.connect(Wire::GOB_GZIP).await?);
    from.send_text("bob", "before").await?;
    free.store(0, Ordering::SeqCst);
    let refused = from.send_text("bob", "nowhere to put it").await;
    assert!(refused.is_err_and(|error| error.to_string().contains("500")));
    let rename = json!({ "userInfo": { "userID": "alice", "nickname": "A" } });
    assert_eq!(alice.refused("/user/update_user_info_ex", rename).await?, 500);
    free.store(1 << 30, Ordering::SeqCst);
    from.send_text("bob", "after").await?;
    let mut texts = Vec::new();
    for push in to.pushes_until_quiet(Duration::from_millis(300)).await? {
        if let Push::Message { message, .. } = push {
            texts.push((message.seq, String::from_utf8_lossy(&message.content).into_owned()));
        }
    }
    let text = |text: &str| format!("{{\"content\":\"{text}\"}}");
    assert_eq!(texts, [(1, text("before")), (2, text("after"))]);
    node.stop().await
}

#[tokio::test]
async fn a_repeated_send_gets_the_first_answer() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let (mut from, mut to) = (alice.connect(Wire::GOB_GZIP).await?, bob.connect(Wire::JSON).await?);
    let message = testnet::text_message("alice", "bob", "once");
    let first = from.send(&message).await?;
    let again = from.send(&message).await?;
    assert_eq!((&first.server_msg_id, first.send_time), (&again.server_msg_id, again.send_time));
    let pushed = to.pushes_until_quiet(Duration::from_millis(300)).await?;
    assert_eq!(pushed.len(), 1);
    node.stop().await
}
