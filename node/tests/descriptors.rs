//! A node with few files to open.
#![allow(clippy::expect_used, reason = "a test may fail")]

use std::time::Duration;

use serde_json::json;
use testnet::{Process, Result, Wire};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const PROGRAM: &str = env!("CARGO_BIN_EXE_entente");

/// Files that the node may open, and clients who try to come at once.
const FILES: usize = 300;
const CLIENTS: usize = 150;
/// Connections that say nothing.
const SILENT: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn those_who_are_in_go_on_when_there_is_no_file_left() -> Result {
    let limit = format!("--nofile={FILES}:{FILES}");
    let mut node = Process::builder(PROGRAM).under(["prlimit", &limit]).start().await?;
    let admin = node.admin().await?;
    let ids: Vec<String> = (0..CLIENTS).map(|n| format!("u{n}")).collect();
    admin.register(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let mut clients = Vec::new();
    for id in &ids {
        clients.push(admin.client(id, 2).await?);
    }
    let (mut inside, mut refused) = (Vec::new(), 0);
    for client in &clients {
        match client.connect(Wire::GOB_GZIP).await {
            Ok(socket) => inside.push(socket),
            Err(_) => refused += 1,
        }
    }
    assert!(inside.len() >= 16 && refused > 0, "{} in, {refused} refused", inside.len());

    // More of those who never log in than there are files, at both ports.
    let mut silent = Vec::new();
    for base in [node.rest().ws().to_owned(), node.rest().api().to_owned()] {
        let address = base.rsplit('/').next().expect("an address").to_owned();
        for _ in 0..SILENT / 2 {
            let connecting = timeout(Duration::from_millis(200), TcpStream::connect(&address));
            if let Ok(Ok(stream)) = connecting.await {
                silent.push(stream);
            }
        }
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", node.id().expect("it runs")))?.count();
    assert!(open < FILES, "{open} of {FILES} files are open");
    for (n, socket) in inside.iter_mut().enumerate() {
        for k in 0..5 {
            let answer = socket.send_text("u149", &format!("{n} says {k}")).await?;
            assert!(!answer.server_msg_id.is_empty());
        }
    }

    // With room again, those who were refused come in and find everything.
    drop(silent);
    let members = inside.len();
    drop(inside);
    let late = &clients[CLIENTS - 1];
    let mut socket = timeout(Duration::from_secs(20), async {
        loop {
            match late.connect(Wire::GOB_GZIP).await {
                Ok(socket) => break socket,
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    })
    .await?;
    for n in 0..members {
        let texts = socket.history(&format!("u{n}")).await?;
        assert_eq!(texts.len(), 5, "what u{n} sent");
    }
    admin.client.call("/user/get_users_info", json!({ "userIDs": ["u1"] })).await?;
    assert_eq!(node.stop().await?, Some(0));
    Ok(())
}
