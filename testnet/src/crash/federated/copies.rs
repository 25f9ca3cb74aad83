//! Copies of a data folder: one is put back in place of newer data, or runs beside it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::{PLATFORM, until};
use crate::organisations::{Organisation, elsewhere, federation, run};
use crate::{Client, Process, Result, Wire, free_port, text_message};

/// Content type of a text.
const TEXT: i32 = 101;
/// Time in which a node that was killed and started again must be heard again.
const HEARD_AGAIN: Duration = Duration::from_secs(30);

/// Alice at one node, Bob at another, and what they have written.
struct Two {
    alpha: Process,
    beta: Process,
    domains: [String; 2],
    /// Where the first node listens for others.
    address: String,
    written: Vec<String>,
}

impl Two {
    async fn start(server: &Path) -> Result<Self> {
        let variables = [("ENTENTE_LOG_LEVEL", "warn")];
        let mut alpha = Organisation::prepare(server, 0, &variables).await?;
        let mut beta = Organisation::prepare(server, 1, &variables).await?;
        alpha.pin(&beta, beta.address.port()).await?;
        beta.pin(&alpha, alpha.address.port()).await?;
        for (node, user) in [(&mut alpha.node, "alice"), (&mut beta.node, "bob")] {
            node.set_log();
            node.launch().await?;
            node.admin().await?.register(&[user]).await?;
        }
        Ok(Self {
            domains: [alpha.domain, beta.domain],
            address: alpha.address.to_string(),
            alpha: alpha.node,
            beta: beta.node,
            written: Vec::new(),
        })
    }

    /// Alice writes `ours` messages and Bob `theirs`, in turn; a node that starts again meanwhile is
    /// waited for.
    async fn write(&mut self, what: &str, ours: usize, theirs: usize) -> Result {
        for number in 0..ours.max(theirs) {
            if number < ours {
                self.send(true, format!("alice-{what}-{number}")).await?;
            }
            if number < theirs {
                self.send(false, format!("bob-{what}-{number}")).await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, by_alice: bool, id: String) -> Result {
        let (node, user, to) = self.side(by_alice);
        let mut message = text_message(user, &to, "survives");
        message.client_msg_id.clone_from(&id);
        until("a message is taken", async || {
            let Ok(client) = client(node, user).await else { return Ok(false) };
            let Ok(mut socket) = client.connect(Wire::GOB_GZIP).await else { return Ok(false) };
            Ok(socket.send(&message).await.is_ok())
        })
        .await?;
        self.written.push(id);
        Ok(())
    }

    fn side(&self, of_alice: bool) -> (&Process, &'static str, String) {
        if of_alice {
            (&self.alpha, "alice", elsewhere("bob", &self.domains[1]))
        } else {
            (&self.beta, "bob", elsewhere("alice", &self.domains[0]))
        }
    }

    /// What one of them has of the chat.
    async fn seen(&self, by_alice: bool) -> Result<Vec<(String, i64, i64)>> {
        let (node, user, other) = self.side(by_alice);
        let mut socket = client(node, user).await?.connect(Wire::GOB_GZIP).await?;
        let mut pair = [user, other.as_str()];
        pair.sort_unstable();
        let all = socket.window_of(&format!("si_{}_{}", pair[0], pair[1])).await?;
        let texts = all.into_iter().filter(|message| message.content_type == TEXT);
        Ok(texts.map(|text| (text.client_msg_id, text.seq, text.send_time)).collect())
    }

    /// Waits until both have all that was written, each once and in an order that clients keep.
    async fn agree(&self) -> Result {
        let wanted: BTreeSet<&String> = self.written.iter().collect();
        for by_alice in [true, false] {
            let began = Instant::now();
            loop {
                let seen = self.seen(by_alice).await.unwrap_or_default();
                let there: BTreeSet<&String> = seen.iter().map(|(id, ..)| id).collect();
                if there == wanted {
                    ensure!(there.len() == seen.len(), "a message is there twice: {seen:?}");
                    let order = seen.is_sorted_by(|a, b| a.1 < b.1 && a.2 < b.2);
                    ensure!(order, "seqs and times do not rise together: {seen:?}");
                    break;
                }
                let missing: Vec<_> = wanted.difference(&there).collect();
                ensure!(began.elapsed() < HEARD_AGAIN, "alice {by_alice}: missing are {missing:?}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        for node in [&self.alpha, &self.beta] {
            until("nothing waits", async || {
                let Ok(peers) = federation(node, &["peers"]).await else { return Ok(false) };
                let peers = peers["peers"].as_array().cloned().unwrap_or_default();
                Ok(peers.iter().all(|peer| peer["queued"] == 0 && peer["quarantined"] == 0))
            })
            .await?;
        }
        Ok(())
    }

    async fn end(mut self) -> Result {
        for node in [&mut self.alpha, &mut self.beta] {
            node.stop().await?;
            super::super::verify(node).await?;
        }
        Ok(())
    }
}

async fn client(node: &Process, user: &str) -> Result<Client> {
    node.admin().await?.client(user, PLATFORM).await
}

fn must_say(node: &Process, words: &str) -> Result {
    let log = node.log()?;
    ensure!(log.contains(words), "{words:?} is not in the log: {log}");
    Ok(())
}

/// A backup is restored, and the other node, to which both have written since, heals what is missing.
pub async fn restored(server: &Path) -> Result {
    let mut two = Two::start(server).await?;
    two.write("before", 3, 3).await?;
    two.agree().await?;
    let file = two.alpha.scratch().join("backup");
    let path = file.to_str().context("not text")?.to_owned();
    run(&two.alpha, "backup", &[&path]).await?;
    two.write("lost", 6, 6).await?;
    two.agree().await?;
    two.alpha.stop().await?;
    std::fs::remove_dir_all(two.alpha.data().join("store"))?;
    run(&two.alpha, "restore", &[&path]).await?;
    two.alpha.launch().await?;
    two.write("after", 3, 3).await?;
    two.agree().await?;
    two.end().await
}

/// An older copy of a folder is put back after `lost` messages of Alice and of Bob. With `alone`, the
/// other node is away until Alice has written eight others.
pub async fn put_back(server: &Path, lost: (usize, usize), alone: bool) -> Result {
    let mut two = Two::start(server).await?;
    two.write("before", 3, 3).await?;
    two.agree().await?;
    two.alpha.stop().await?;
    let copies = TempDir::new()?;
    let copy = copies.path().join("copy");
    two.alpha.copy_data(&copy)?;
    two.alpha.launch().await?;
    two.write("lost", lost.0, lost.1).await?;
    two.agree().await?;
    if alone {
        two.beta.stop().await?;
    }
    two.alpha.stop().await?;
    two.alpha.put_data(&copy)?;
    two.alpha.launch().await?;
    if alone {
        two.write("others", 8, 0).await?;
        two.beta.launch().await?;
    }
    two.write("after", 3, 3).await?;
    two.agree().await?;
    must_say(&two.alpha, "the data of this node went back in time")?;
    must_say(&two.beta, "was restored from a backup, or went back in time")?;
    let log = two.alpha.log()?;
    ensure!(log.matches("starting again with a new epoch").count() == 1, "{log}");
    two.end().await
}

/// A copy of a running node is started beside it: it is refused and stops, the first one goes on; once
/// that is gone the copy may take its place.
pub async fn doubled(server: &Path) -> Result {
    let mut two = Two::start(server).await?;
    two.write("before", 3, 3).await?;
    two.agree().await?;
    two.alpha.stop().await?;
    let listen = format!("127.0.0.1:{}", free_port()?);
    let mut copy = two.alpha.copied(&[(&two.address, &listen)])?;
    two.alpha.launch().await?;
    two.write("first", 3, 3).await?;
    two.agree().await?;
    copy.launch().await?;
    until("the copy stops", async || {
        let health = run(&copy, "health", &[]).await?;
        Ok(health["federation_stopped"].as_str().is_some_and(|why| why.contains("runs twice")))
    })
    .await?;
    let peers = federation(&copy, &["peers"]).await?;
    ensure!(peers["peers"][0]["state"] == "stopped", "{peers}");
    must_say(&copy, "this node runs twice")?;
    must_say(&two.alpha, "another instance of this node")?;
    must_say(&two.beta, "the node runs twice")?;
    let peers = federation(&two.beta, &["peers"]).await?;
    ensure!(peers["peers"][0]["doubled"] == true, "{peers}");
    two.write("more", 3, 3).await?;
    two.agree().await?;
    let health = run(&two.alpha, "health", &[]).await?;
    ensure!(health["federation_stopped"].is_null(), "the first one stopped: {health}");
    copy.stop().await?;
    two.end().await
}

/// A node is killed and started again at once, over and over: it is not taken for two.
pub async fn started_again(server: &Path, times: usize) -> Result<Duration> {
    let mut two = Two::start(server).await?;
    let mut longest = Duration::ZERO;
    for time in 0..times {
        two.write(&format!("before-{time}"), 1, 1).await?;
        two.agree().await?;
        two.alpha.kill().await?;
        two.alpha.launch().await?;
        let began = Instant::now();
        two.write(&format!("after-{time}"), 1, 1).await?;
        two.agree().await?;
        longest = longest.max(began.elapsed());
        let health = run(&two.alpha, "health", &[]).await?;
        ensure!(health["federation_stopped"].is_null(), "{health}");
    }
    for node in [&two.alpha, &two.beta] {
        let log = node.log()?;
        ensure!(!log.contains("runs twice") && !log.contains("back in time"), "{log}");
    }
    two.end().await?;
    Ok(longest)
}
