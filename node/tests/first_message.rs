//! The shortest way through the whole node: two users, one message.

use std::time::Duration;

use testnet::{Node, Process, Push, Result, Wire};

#[tokio::test]
async fn a_message_reaches_the_other_user_and_the_own_devices() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::GOB_GZIP).await?;
    let sent = at_alice.send_text("bob", "hello").await?;
    assert_eq!(sent.server_msg_id.len(), 32);
    for socket in [&mut at_alice, &mut at_bob] {
        let Push::Message { conversation_id, message, .. } = socket.next_push().await? else {
            panic!("not a message");
        };
        assert_eq!(conversation_id, "si_alice_bob");
        assert_eq!((message.seq, message.send_time), (1, sent.send_time));
        assert_eq!(&message.content[..], br#"{"content":"hello"}"#);
    }
    node.stop().await
}

#[tokio::test]
async fn the_program_keeps_what_it_acknowledged() -> Result {
    let mut node = Process::builder(env!("CARGO_BIN_EXE_entente")).start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut socket = alice.connect(Wire::GOB_GZIP).await?;
    for n in 0..20 {
        socket.send_text("bob", &n.to_string()).await?;
    }
    node.kill().await?;
    node.launch().await?;
    let mut socket = bob.connect(Wire::JSON).await?;
    let request = proto::sdkws::PullMessageBySeqsReq {
        user_id: "bob".into(),
        seq_ranges: vec![proto::sdkws::SeqRange {
            conversation_id: "si_alice_bob".into(),
            begin: 1,
            end: 100,
            num: 100,
        }],
        order: 0,
    };
    let pulled: proto::sdkws::PullMessageBySeqsResp = socket.call(1002, &request).await?;
    let seqs: Vec<i64> = pulled.msgs["si_alice_bob"].msgs.iter().map(|m| m.seq).collect();
    assert_eq!(seqs, (1..=20).collect::<Vec<i64>>());
    assert!(socket.pushes_until_quiet(Duration::from_millis(100)).await?.is_empty());
    assert_eq!(node.stop().await?, Some(0));
    Ok(())
}
