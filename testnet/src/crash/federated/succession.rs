//! The home of a group is killed under load, and its successor takes the group over; or the home
//! moves while everybody lives.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::task::JoinSet;

use super::{LOAD_MS, Report, World, check_ids, until};
use crate::organisations::{federation, run};
use crate::random::Random;
use crate::{Result, Wire, text_message};

/// Time in which a group must be writable again.
const WRITABLE: Duration = Duration::from_secs(60);
/// Every so many rounds the home moves and nobody is killed.
const MOVES_EVERY: usize = 4;

/// What became of the group.
#[derive(Debug, Default, Clone)]
pub struct Takeovers {
    /// Homes that were killed and replaced.
    pub taken_over: usize,
    /// Homes that moved.
    pub moved: usize,
    /// Longest time from the order to take over until a member on a third node had a message in the
    /// group.
    pub writable: Duration,
    /// Messages to the group acknowledged and found.
    pub messages: usize,
    /// The same in chats of two, where they were looked at.
    pub in_chats: usize,
}

/// Waits until a check holds.
async fn in_the_end(mut check: impl AsyncFnMut() -> Result) -> Result {
    let mut last = Ok(());
    let began = Instant::now();
    while began.elapsed() < super::SETTLES {
        last = check().await;
        if last.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    last
}

/// Lets the home of a group be lost or move `rounds` times; an error says what was lost.
pub async fn rounds(
    server: &Path,
    nodes: usize,
    rounds: usize,
    seed: u64,
    mut progress: impl FnMut(usize),
) -> Result<Takeovers> {
    let mut random = Random::new(seed);
    let mut world = World::start(server, nodes).await?;
    let mut done = Takeovers::default();
    let mut home = 0;
    for round in 0..rounds {
        let next = (home + 1 + random.below(nodes - 1)) % nodes;
        let moves = (round + 1) % MOVES_EVERY == 0;
        let step = async {
            world.change_home(&mut random, home, next, moves, &mut done).await?;
            world.check_home(next).await?;
            world.check_all(&mut done).await
        };
        step.await.with_context(|| format!("round {round}, {home} to {next}, seed {seed}"))?;
        home = next;
        progress(round);
    }
    world.end().await?;
    Ok(done)
}

/// Restores the home of a group to an older state; an error says what was lost in the group, or in
/// chats of two.
pub async fn restored(server: &Path, nodes: usize, seed: u64) -> Result<Takeovers> {
    let mut random = Random::new(seed);
    let mut world = World::start(server, nodes).await?;
    let mut done = Takeovers::default();
    world.write_for(Duration::from_millis(200 + random.below(LOAD_MS) as u64)).await;
    let file = world.nodes[0].scratch().join("backup");
    let path = file.to_str().context("not text")?;
    run(&world.nodes[0], "backup", &[path]).await?;
    world.write_for(Duration::from_millis(200 + random.below(LOAD_MS) as u64)).await;
    // What nobody else knows of cannot be had back.
    world.settle().await?;
    world.nodes[0].kill().await?;
    std::fs::remove_dir_all(world.nodes[0].data().join("store"))?;
    run(&world.nodes[0], "restore", &[path]).await?;
    world.nodes[0].launch().await?;
    world.write_for(Duration::from_millis(200)).await;
    world.check_all(&mut done).await?;
    world.check_chats(&mut done).await?;
    world.end().await?;
    Ok(done)
}

/// Puts an older copy of its data in place of that of the home of a group; an error says what was lost
/// in the group, or in chats of two.
pub async fn put_back(server: &Path, nodes: usize, seed: u64) -> Result<Takeovers> {
    let mut random = Random::new(seed);
    let mut world = World::start(server, nodes).await?;
    let mut done = Takeovers::default();
    world.write_for(Duration::from_millis(200 + random.below(LOAD_MS) as u64)).await;
    world.nodes[0].kill().await?;
    let copies = tempfile::tempdir()?;
    let copy = copies.path().join("copy");
    world.nodes[0].copy_data(&copy)?;
    world.nodes[0].launch().await?;
    world.write_for(Duration::from_millis(200 + random.below(LOAD_MS) as u64)).await;
    // What nobody else knows of cannot be had back.
    world.settle().await?;
    world.nodes[0].kill().await?;
    world.nodes[0].put_data(&copy)?;
    world.nodes[0].launch().await?;
    world.write_for(Duration::from_millis(200)).await;
    world.check_all(&mut done).await?;
    in_the_end(async || {
        let mut report = Report::default();
        // What was written before it noticed stands before what comes back.
        world.check_pairs_in(false, &mut report).await?;
        done.in_chats = report.messages;
        Ok(())
    })
    .await?;
    world.end().await?;
    Ok(done)
}

impl World {
    /// Lets everybody write for a while.
    async fn write_for(&self, while_: Duration) {
        let mut load = JoinSet::new();
        self.begin_writing(&mut load, |_| true);
        tokio::time::sleep(while_).await;
        load.shutdown().await;
    }

    /// Makes node `next` the home after node `home`, under load.
    async fn change_home(
        &mut self,
        random: &mut Random,
        home: usize,
        next: usize,
        moves: bool,
        done: &mut Takeovers,
    ) -> Result {
        let (at_home, at_next) = (self.form(&self.group, 0, home), self.form(&self.group, 0, next));
        let domain = self.domains[next].clone();
        federation(&self.nodes[home], &["group", "successor", &at_home, &domain]).await?;
        until("the successor knows", async || {
            let shown = federation(&self.nodes[next], &["group", "show", &at_next]).await?;
            Ok(shown["successor"].as_str() == Some(&domain))
        })
        .await?;
        for link in &self.links {
            link.disturb(&mut *random);
        }
        let mut load = JoinSet::new();
        self.begin_writing(&mut load, |_| true);
        tokio::time::sleep(Duration::from_millis(random.below(LOAD_MS) as u64)).await;
        if !moves {
            self.nodes[home].kill().await?;
            tokio::time::sleep(Duration::from_millis(random.below(LOAD_MS) as u64)).await;
        }
        self.heal_links();
        let began = Instant::now();
        if moves {
            federation(&self.nodes[home], &["group", "move", &at_home, &domain]).await?;
            done.moved += 1;
        } else {
            federation(&self.nodes[next], &["group", "take-over", &at_next]).await?;
            done.taken_over += 1;
            self.write_from_a_third(home, next).await?;
            done.writable = done.writable.max(began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(random.below(LOAD_MS) as u64)).await;
        if !moves {
            self.nodes[home].launch().await?;
            // It does not know yet that it is not the home any more.
            self.begin_writing(&mut load, |user| user.node == home);
            tokio::time::sleep(Duration::from_millis(random.below(LOAD_MS) as u64)).await;
        }
        load.shutdown().await;
        Ok(())
    }

    /// A member who is on neither node writes, and somebody at the new home reads it.
    async fn write_from_a_third(&self, home: usize, next: usize) -> Result {
        let third = self.users.iter().find(|user| user.node != home && user.node != next);
        let reader = self.users.iter().find(|user| user.node == next).context("no reader")?;
        let Some(third) = third else { return Ok(()) };
        let mut message = text_message(&third.id, "", "the group lives");
        message.client_msg_id = format!("lives-{}", message.client_msg_id);
        message.group_id = self.form(&self.group, 0, third.node);
        message.session_type = 3;
        // As an SDK does: its own writing of a moment ago may have taken the connection away.
        let began = Instant::now();
        let send = async || third.client.connect(Wire::JSON).await?.send(&message).await;
        while let Err(error) = send().await {
            ensure!(began.elapsed() < WRITABLE, "the group is not writable again: {error:#}");
        }
        let chat = format!("sg_{}", self.form(&self.group, 0, next));
        loop {
            let read =
                async || reader.client.connect(Wire::JSON).await?.history_from(&chat, 1).await;
            let seen = read().await.unwrap_or_default();
            if seen.iter().any(|seen| seen.client_msg_id == message.client_msg_id) {
                return Ok(());
            }
            ensure!(began.elapsed() < WRITABLE, "the group is not writable again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Every node agrees where the home is.
    async fn check_home(&self, home: usize) -> Result {
        for (at, node) in self.nodes.iter().enumerate() {
            let group = self.form(&self.group, 0, at);
            until("all know the new home", async || {
                let shown = federation(node, &["group", "show", &group]).await?;
                Ok(shown["home"].as_str() == Some(self.domains[home].as_str()))
            })
            .await?;
        }
        Ok(())
    }

    /// Everybody sees the same messages of the group with the same seqs, and all that were
    /// acknowledged.
    async fn check_all(&self, done: &mut Takeovers) -> Result {
        self.settle().await?;
        in_the_end(async || self.same_for_all(done).await).await
    }

    /// Both users of every chat of two see the same, and all that was acknowledged.
    async fn check_chats(&self, done: &mut Takeovers) -> Result {
        in_the_end(async || {
            let mut report = Report::default();
            self.check_pairs(&mut report).await?;
            done.in_chats = report.messages;
            Ok(())
        })
        .await
    }

    async fn same_for_all(&self, done: &mut Takeovers) -> Result {
        let mut expected: Option<Vec<(i64, String)>> = None;
        for user in &self.users {
            let id = format!("sg_{}", self.form(&self.group, 0, user.node));
            let mut socket = user.client.connect(Wire::GOB_GZIP).await?;
            let seen = socket.history_from(&id, 1).await?;
            // Seqs that were left out look like messages that are gone.
            let seen: Vec<(i64, String)> = seen
                .into_iter()
                .filter(|message| !message.client_msg_id.is_empty())
                .map(|message| (message.seq, message.client_msg_id))
                .collect();
            let before = expected.get_or_insert_with(|| seen.clone());
            let differs = before.iter().zip(&seen).find(|(a, b)| a != b);
            ensure!(
                *before == seen,
                "{} sees {} messages of the group, others {}; first difference {differs:?}",
                user.id,
                seen.len(),
                before.len()
            );
        }
        let all: Vec<String> = expected.unwrap_or_default().into_iter().map(|(_, id)| id).collect();
        done.messages = 0;
        for user in &self.users {
            let acknowledged = user.acknowledged.lock()[1].clone();
            done.messages += acknowledged.len();
            let own = format!("{}-", user.id);
            let ids: Vec<String> = all.iter().filter(|id| id.starts_with(&own)).cloned().collect();
            check_ids(&ids, &acknowledged, &format!("{} to the group", user.id))?;
        }
        Ok(())
    }
}
