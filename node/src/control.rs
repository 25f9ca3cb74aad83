//! The control socket: how a command reaches the node that serves a data folder.
//!
//! A Unix socket in the data folder, for the owner only. A command sends one operation as a line of
//! JSON and gets lines of JSON back: progress, and at the end the result.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::operation::{Node, Operation, Progress};

/// Longest line of a command.
const MAX_LINE_BYTES: u64 = 64 * 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Progress(u64),
    Done(Value),
    Failed(String),
}

/// Listens on `socket`; inside a runtime.
pub(crate) fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    // Whoever holds the lock of the data folder owns the socket: one left behind is stale.
    if socket.exists() {
        fs::remove_file(socket).with_context(|| format!("cannot remove {}", socket.display()))?;
    }
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves operations until `stop`.
pub(crate) async fn serve(
    listener: UnixListener,
    socket: &Path,
    node: Node,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let (stream, _) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted?,
        };
        let node = node.clone();
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                outcome = answer(stream, node) => {
                    if let Err(error) = outcome {
                        tracing::debug!(%error, "control connection failed");
                    }
                }
            }
        });
    }
    let _ = fs::remove_file(socket);
    Ok(())
}

async fn answer(mut stream: UnixStream, node: Node) -> anyhow::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    BufReader::new(read).take(MAX_LINE_BYTES).read_line(&mut line).await?;
    let operation: Operation = serde_json::from_str(&line)?;
    let (tell, mut told) = mpsc::unbounded_channel();
    let run = tokio::spawn(async move {
        let done = tell.clone();
        let mut progress = move |count| {
            let _ = tell.send(Line::Progress(count));
        };
        let outcome = operation.run(&node, &mut progress).await;
        let _ = done.send(match outcome {
            Ok(result) => Line::Done(result),
            Err(error) => Line::Failed(format!("{error:#}")),
        });
    });
    while let Some(line) = told.recv().await {
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        write.write_all(&text).await?;
    }
    Ok(run.await?)
}

/// Runs an operation in the node that listens on `socket`; `None` if none does.
pub(crate) async fn ask(
    socket: &Path,
    operation: &Operation,
    progress: Progress<'_>,
) -> anyhow::Result<Option<Value>> {
    let Ok(mut stream) = UnixStream::connect(socket).await else { return Ok(None) };
    let mut text = serde_json::to_vec(operation)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Line::Progress(count) => progress(count),
            Line::Done(result) => return Ok(Some(result)),
            Line::Failed(error) => bail!(error),
        }
    }
    bail!("the node ended before it was done")
}
