//! Orders to a running testnet, over a socket in its folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::Result;

/// What a running testnet can be told to do.
#[derive(Debug, Clone, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Cut two organisations off each other.
    Partition {
        /// One of them.
        a: String,
        /// The other.
        b: String,
    },
    /// Join two organisations again, and end what `slow` has set.
    Heal {
        /// One of them.
        a: String,
        /// The other.
        b: String,
    },
    /// Make the link between two organisations slow or lossy.
    Slow {
        /// One of them.
        a: String,
        /// The other.
        b: String,
        /// Milliseconds that every datagram takes.
        #[arg(long, default_value_t = 100)]
        delay: u64,
        /// Datagrams of a hundred that are lost.
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
        loss: u32,
        /// Most further milliseconds that a datagram takes: they overtake each other.
        #[arg(long, default_value_t = 0)]
        jitter: u64,
        /// Datagrams of a hundred that come twice.
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
        duplicate: u32,
        /// Kilobytes a second that fit through; 0: all.
        #[arg(long, default_value_t = 0)]
        rate: u64,
    },
    /// End a node at once, as a power cut would.
    Kill {
        /// Its organisation.
        name: String,
    },
    /// Start a node that was ended.
    Start {
        /// Its organisation.
        name: String,
    },
    /// End the testnet.
    Down,
}

/// Where the testnet is.
#[derive(Debug, Clone, Args)]
pub struct Where {
    /// Folder of a testnet; what an earlier run left there is used again.
    #[arg(long, value_name = "DIR", default_value = "target/testnet", global = true)]
    pub(super) folder: PathBuf,
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("control.sock")
}

/// Gives an order to the testnet that runs in a folder.
pub fn order(place: &Where, order: &Order) -> Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let path = socket(&place.folder);
        let stream = UnixStream::connect(&path)
            .await
            .with_context(|| format!("no testnet runs in {}", place.folder.display()))?;
        let (read, mut write) = stream.into_split();
        write.write_all(format!("{}\n", serde_json::to_string(order)?).as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(read).read_line(&mut answer).await?;
        match serde_json::from_str::<std::result::Result<(), String>>(&answer)? {
            Ok(()) => Ok(true),
            Err(reason) => bail!(reason),
        }
    })
}

/// An order, and where its outcome goes.
type Waiting = (Order, oneshot::Sender<std::result::Result<(), String>>);

/// Takes orders.
pub(super) fn listen(folder: &Path) -> Result<mpsc::Receiver<Waiting>> {
    let path = socket(folder);
    if path.exists() {
        std::fs::remove_file(&path)?;
    }
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("cannot listen on {}", path.display()))?;
    let (orders, waiting) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = take(stream, &orders).await;
        }
    });
    Ok(waiting)
}

async fn take(stream: UnixStream, orders: &mpsc::Sender<Waiting>) -> Result {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read).read_line(&mut line).await?;
    let (answer, answered) = oneshot::channel();
    orders.send((serde_json::from_str(&line)?, answer)).await?;
    let outcome = answered.await?;
    write.write_all(format!("{}\n", serde_json::to_string(&outcome)?).as_bytes()).await?;
    Ok(())
}
