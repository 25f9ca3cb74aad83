//! Backups that are cut short, and backups taken while messages arrive.
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proto::sdkws::{PullMessageBySeqsReq, PullMessageBySeqsResp, SeqRange};
use serde_json::{Value, json};
use testnet::{Client, Process, Result, Wire, text_message};
use tokio::process::Command;
use tokio::time::sleep;

const PROGRAM: &str = env!("CARGO_BIN_EXE_entente");

/// Users that make a backup take a while, with about as many kilobytes.
const USERS: usize = 20_000;

/// Kills of a backup, each at another moment.
const KILLS: u64 = 4;

const SENDERS: usize = 16;

async fn fill(node: &Process) -> Result {
    let admin = node.admin().await?;
    let ids: Vec<usize> = (0..USERS).collect();
    for chunk in ids.chunks(1_000) {
        let users: Vec<Value> = chunk
            .iter()
            .map(|id| json!({ "userID": format!("u{id}"), "nickname": "N", "ex": "x".repeat(1_000) }))
            .collect();
        admin.client.call("/user/user_register", json!({ "users": users })).await?;
    }
    Ok(())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn run(node: &Process, name: &str, arguments: &[&str]) -> Result<Output> {
    Ok(node.command(name).args(arguments).output().await?)
}

async fn verify(node: &Process) -> Result {
    let output = run(node, "verify", &[]).await?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// Stops a node and takes its data away.
async fn empty(node: &mut Process) -> Result {
    assert_eq!(node.stop().await?, Some(0));
    Ok(std::fs::remove_dir_all(node.data().join("store"))?)
}

/// A node that does not run and has no data.
async fn emptied() -> Result<Process> {
    let mut node = Process::builder(PROGRAM).start().await?;
    empty(&mut node).await?;
    Ok(node)
}

/// Starts a backup and waits until more than `bytes` of it are written.
async fn begun(mut command: Command, partial: &Path, bytes: u64) -> Result<tokio::process::Child> {
    let mut backup = command.spawn()?;
    while std::fs::metadata(partial).map_or(0, |file| file.len()) <= bytes {
        anyhow::ensure!(backup.try_wait()?.is_none(), "the backup ended before it was killed");
        sleep(Duration::from_micros(200)).await;
    }
    Ok(backup)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_killed_does_no_harm() -> Result {
    let mut node = Process::builder(PROGRAM).start().await?;
    fill(&node).await?;
    let (file, partial) = (node.scratch().join("backup"), node.scratch().join("backup.partial"));
    let other = emptied().await?;
    for serving in [true, false] {
        if !serving {
            assert_eq!(node.stop().await?, Some(0));
        }
        for kill in 0..KILLS {
            let mut command = node.command("backup");
            command.arg(&file).stderr(std::process::Stdio::piped());
            let mut backup = begun(command, &partial, kill * (2 << 20)).await?;
            if serving {
                // The node writes the backup; the command waits for it.
                node.kill().await?;
                let output = backup.wait_with_output().await?;
                assert_eq!(output.status.code(), Some(1), "{}", said(&output));
                assert!(!said(&output).is_empty());
            } else {
                backup.kill().await?;
            }
            assert!(!file.exists(), "only a whole backup has its name");
            if serving {
                assert!(!partial.exists(), "the half one is gone");
            } else {
                let half = partial.to_str().expect("text");
                let refused = run(&other, "restore", &[half]).await?;
                assert_eq!(refused.status.code(), Some(1));
                assert!(
                    said(&refused).contains("the backup is cut off")
                        || said(&refused).contains("this is not a backup"),
                    "{}",
                    said(&refused)
                );
                assert!(!other.data().join("store").exists(), "nothing is left of it");
                assert!(!other.data().join("restoring").exists(), "nothing is left of it");
            }
            verify(&node).await?;
            if serving {
                node.launch().await?;
            }
        }
    }
    let path = file.to_str().expect("text");
    let written = run(&node, "backup", &[path]).await?;
    assert!(written.status.success(), "{}", said(&written));
    assert!(!partial.exists(), "the half one is gone");
    let restored = run(&other, "restore", &[path]).await?;
    assert!(restored.status.success(), "{}", said(&restored));
    verify(&other).await
}

/// Per sender: the clientMsgIDs that were acknowledged, in order.
type Acknowledged = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

async fn send_on(client: Client, acknowledged: Acknowledged) -> Result {
    let mut socket = client.connect(Wire::GOB_GZIP).await?;
    for n in 0.. {
        let message = text_message(&client.user_id, "receiver", &format!("number {n}"));
        // Fails when the node is killed.
        if socket.send(&message).await.is_err() {
            break;
        }
        acknowledged.lock().entry(client.user_id.clone()).or_default().push(message.client_msg_id);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_holds_all_that_was_acknowledged_before() -> Result {
    let mut node = Process::builder(PROGRAM).start().await?;
    let admin = node.admin().await?;
    let senders: Vec<String> = (0..SENDERS).map(|n| format!("s{n}")).collect();
    let all: Vec<&str> = senders.iter().map(String::as_str).chain(["receiver"]).collect();
    admin.register(&all).await?;
    let acknowledged = Acknowledged::default();
    let mut tasks = Vec::new();
    for sender in &senders {
        let client = admin.client(sender, 2).await?;
        tasks.push(tokio::spawn(send_on(client, Arc::clone(&acknowledged))));
    }
    let mut backups = Vec::new();
    for n in 0..3 {
        sleep(Duration::from_millis(400)).await;
        let before = acknowledged.lock().clone();
        let file = node.scratch().join(format!("backup{n}"));
        let path = file.to_str().expect("text");
        let written = run(&node, "backup", &[path]).await?;
        assert!(written.status.success(), "{}", said(&written));
        backups.push((file, before, acknowledged.lock().clone()));
    }
    node.kill().await?;
    for task in tasks {
        task.await??;
    }
    for (file, before, after) in backups {
        let mut other = emptied().await?;
        let path = file.to_str().expect("text");
        let restored = run(&other, "restore", &[path]).await?;
        assert!(restored.status.success(), "{}", said(&restored));
        verify(&other).await?;
        other.launch().await?;
        let receiver = other.admin().await?.client("receiver", 2).await?;
        let mut socket = receiver.connect(Wire::GOB_GZIP).await?;
        for sender in &senders {
            let stored = socket.history(sender).await?;
            let (before, after) = (&before[sender], &after[sender]);
            let ids: Vec<&String> = stored.iter().map(|message| &message.client_msg_id).collect();
            for (at, message) in stored.iter().enumerate() {
                assert_eq!(message.seq, at as i64 + 1, "a gap in what {sender} sent");
            }
            // In the order in which they were sent, so the oldest are compared with the oldest.
            assert!(ids.len() >= before.len(), "{} of {} are there", ids.len(), before.len());
            assert!(ids.iter().zip(after).all(|(stored, sent)| *stored == sent), "other messages");
        }
        assert_eq!(other.stop().await?, Some(0));
    }
    Ok(())
}

/// What the SDK asks for when a pushed message does not follow what it has.
async fn pulled(
    socket: &mut testnet::Socket,
    user: &str,
    from: i64,
    to: i64,
) -> Result<Vec<(i64, i32)>> {
    let range = SeqRange { conversation_id: "si_ada_bob".into(), begin: from, end: to, num: 10 };
    let request = PullMessageBySeqsReq {
        user_id: user.into(),
        seq_ranges: vec![range],
        ..PullMessageBySeqsReq::default()
    };
    let answer: PullMessageBySeqsResp = socket.call(1002, &request).await?;
    let messages = answer.msgs.into_values().flat_map(|pulled| pulled.msgs);
    Ok(messages.map(|message| (message.seq, message.status)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_node_gives_no_seq_that_a_client_may_know() -> Result {
    let mut node = Process::builder(PROGRAM).start().await?;
    let [ada, bob] = node.admin().await?.users(["ada", "bob"]).await?;
    let mut at_ada = ada.connect(Wire::GOB_GZIP).await?;
    for n in 1..=5 {
        at_ada.send_text("bob", &format!("saved {n}")).await?;
    }
    let read = json!({ "conversationID": "si_ada_bob", "userID": "bob", "hasReadSeq": 2 });
    bob.call("/msg/mark_conversation_as_read", read).await?;
    let file = node.scratch().join("backup");
    let path = file.to_str().expect("text");
    assert!(run(&node, "backup", &[path]).await?.status.success());
    for n in 1..=3 {
        at_ada.send_text("bob", &format!("lost {n}")).await?;
    }
    empty(&mut node).await?;
    let restored = run(&node, "restore", &[path, "--lost", "50"]).await?;
    assert!(restored.status.success(), "{}", said(&restored));
    node.launch().await?;

    let seqs = async || {
        let body = json!({ "userID": "bob", "conversationIDs": ["si_ada_bob"] });
        let found = bob.call("/msg/get_conversations_has_read_and_max_seq", body).await?;
        let seqs = &found["seqs"]["si_ada_bob"];
        Result::Ok((seqs["maxSeq"].as_i64(), seqs["hasReadSeq"].as_i64()))
    };
    assert_eq!(seqs().await?, (Some(5), Some(2)));
    let mut at_ada = ada.connect(Wire::GOB_GZIP).await?;
    let mut at_bob = bob.connect(Wire::GOB_GZIP).await?;
    let cleo = node.admin().await?.user("cleo").await?;
    at_ada.send_text("cleo", "a chat that nobody had before").await?;
    let listed = cleo.call("/conversation/get_all_conversations", json!({ "ownerUserID": "cleo" }));
    let listed = listed.await?;
    assert_eq!(listed["conversations"][0]["conversationID"], "si_ada_cleo", "{listed}");
    at_ada.send_text("bob", "new").await?;
    assert_eq!(at_bob.next_message().await?.seq, 56);
    assert_eq!(seqs().await?, (Some(56), Some(52)), "four are unread");
    // Bob's client has the lost ones up to seq 8.
    let newest = pulled(&mut at_bob, "bob", 9, 56).await?;
    let gone = (47..56).map(|seq| (seq, 4));
    assert_eq!(newest, gone.chain([(56, 2)]).collect::<Vec<_>>());

    let read = json!({ "conversationID": "si_ada_bob", "userID": "bob", "hasReadSeq": 56 });
    bob.call("/msg/mark_conversation_as_read", read).await?;
    assert_eq!(seqs().await?, (Some(56), Some(56)));
    let all = at_ada.history_from("si_ada_bob", 1).await?;
    let shown = all.iter().filter(|message| message.status != 4);
    let read: Vec<(i64, bool)> = shown.map(|message| (message.seq, message.is_read)).collect();
    assert_eq!(read, [1, 2, 3, 4, 5, 56].map(|seq| (seq, true)));
    verify(&node).await?;
    assert_eq!(node.stop().await?, Some(0));
    Ok(())
}
