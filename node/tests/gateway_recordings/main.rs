//! Repeats recorded handshakes, frames, requests and comings and goings of devices on the
//! WebSocket, and compares what comes back.
#![allow(clippy::expect_used, reason = "a test may fail")]

mod device;
mod frame;
mod handshake;
mod request;
mod timer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use testnet::{Admin, Node, NodeBuilder, Result};

/// Time in which something has to come, and after which nothing comes any more.
const QUIET: Duration = Duration::from_millis(250);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings")
}

fn lines(file: &str) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(folder().join(file))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

async fn scene() -> Result<(Node, Admin)> {
    scene_with(Node::builder()).await
}

async fn scene_with(builder: NodeBuilder) -> Result<(Node, Admin)> {
    let node = builder.start().await?;
    let admin = node.admin().await?;
    admin.register(&["fd_alice", "fd_bob", "fd_frank"]).await?;
    let group = json!({
        "ownerUserID": "fd_alice",
        "groupInfo": { "groupID": "fd_w1", "groupName": "W", "groupType": 2 },
    });
    admin.client.call("/group/create_group", group).await?;
    Ok((node, admin))
}

fn url(node: &Node, query: &[(String, String)]) -> Result<String> {
    let base = format!("{}/", node.rest().ws());
    Ok(reqwest::Url::parse_with_params(&base, query)?.to_string())
}
