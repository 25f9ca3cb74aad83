//! A node that moves what is needed of a segment of the value log to its end.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::{Aim, Kills, Marks, TRIES, Watched, prepare};
use crate::random::Random;
use crate::{Process, Result, Wire, text_message};

const COMPACTION: Marks = Marks {
    begins: "a segment of the value log is compacted",
    ends: "a segment of the value log was compacted",
};
/// Bytes of a message.
const MESSAGE_BYTES: usize = 60_000;
/// So many of them an answer holds.
const PAGE: i64 = 15;
/// Of so many messages two are kept and the others deleted.
const OF: usize = 5;
/// Messages that are more than a segment of the value log.
const MOST: usize = 5_000;

/// Large messages: those of one chat are kept, those of another one deleted.
#[derive(Default)]
struct Large {
    kept: Vec<String>,
}

pub(super) async fn rounds(
    server: &Path,
    rounds: usize,
    random: &mut Random,
    kills: &mut Kills,
    progress: &mut impl FnMut(),
) -> Result {
    let mut node = prepare(server, &[("ENTENTE_STORE_CHECKPOINT", "64 KiB")])?;
    node.launch().await?;
    node.admin().await?.register(&["k0", "k1", "d0", "d1"]).await?;
    let mut watched = Watched::start(node).await?;
    let mut large = Large::default();
    let mut aim = Aim::new();
    let mut anything = false;
    for _ in 0..rounds {
        for _ in 0..TRIES {
            if !anything {
                large.fill(&watched.node).await?;
            }
            let load = watched.work.start(random);
            let hit = aim.kill(&mut watched.node, &COMPACTION, random).await?;
            load.end().await?;
            // A segment that is not done with is begun anew by the next start.
            anything = hit;
            kills.add(hit);
            watched.come_back().await?;
            large.check(&watched.node).await?;
            if hit {
                break;
            }
        }
        progress();
    }
    watched.node.stop().await?;
    crate::crash::verify(&watched.node).await
}

impl Large {
    /// Fills a segment, and deletes more than half of it.
    async fn fill(&mut self, node: &Process) -> Result {
        let admin = node.admin().await?;
        let values = node.data().join("store").join("values");
        let segments = || Ok::<_, anyhow::Error>(std::fs::read_dir(&values)?.count());
        let before = segments()?;
        let (kept, deleted) = (admin.client("k0", 2).await?, admin.client("d0", 2).await?);
        let mut kept = kept.connect(Wire::GOB_GZIP).await?;
        let mut deleted = deleted.connect(Wire::GOB_GZIP).await?;
        let text = "x".repeat(MESSAGE_BYTES);
        for number in 0..MOST {
            if segments()? > before {
                break;
            }
            if number % OF < 2 {
                let message = text_message("k0", "k1", &text);
                kept.send(&message).await?;
                self.kept.push(message.client_msg_id);
            } else {
                deleted.send(&text_message("d0", "d1", &text)).await?;
            }
        }
        ensure!(segments()? > before, "no segment is full");
        // What is younger than a second is not deleted.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let body = json!({ "conversationIDs": ["si_d0_d1"], "timestamp": 1 });
        admin.client.call("/msg/delete_msg_physical", body).await?;
        Ok(())
    }

    async fn check(&self, node: &Process) -> Result {
        let client = node.admin().await?.client("k1", 2).await?;
        let mut socket = client.connect(Wire::GOB_GZIP).await?;
        let found = socket.history_by("si_k0_k1", 1, PAGE).await?;
        ensure!(found.len() == self.kept.len(), "{} of {}", found.len(), self.kept.len());
        for ((place, message), id) in (1..).zip(&found).zip(&self.kept) {
            let is_it = message.seq == place && message.client_msg_id == *id;
            ensure!(is_it, "{} with seq {} in place {place}", message.client_msg_id, message.seq);
            let text: serde_json::Value =
                serde_json::from_slice(&message.content).context("its content")?;
            let whole = text["content"].as_str().is_some_and(|text| text.len() == MESSAGE_BYTES);
            ensure!(whole, "{id} is not as it was sent");
        }
        Ok(())
    }
}
