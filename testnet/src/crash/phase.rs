//! Kills that hit a node, or a command, in the middle of something in particular.
//!
//! What a node is doing is said by its log. A round waits until it has begun, and kills it a little
//! later; if it was over by then, the kill is counted and the round tries again.

mod command;
mod compaction;
mod serving;
mod upgrade;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use tempfile::TempDir;

use crate::moments::state::State;
use crate::moments::told::ALL;
use crate::moments::work::Work;
use crate::random::Random;
use crate::{Process, Result};

/// Tries of a round to hit what it is about.
const TRIES: usize = 30;
/// Time in which something must begin.
const BEGINS: Duration = Duration::from_secs(10);
/// Longest and shortest delay between a beginning and a kill.
const LONGEST: Duration = Duration::from_secs(2);
const SHORTEST: Duration = Duration::from_millis(1);
/// What the node is to say.
const LOG: &str = "error,store=debug,entente=debug";

/// What a kill hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Phase {
    /// A node under load, or one that starts, whatever it does.
    Load,
    /// A node that takes a checkpoint.
    Checkpoint,
    /// A node that gives back the space of deleted messages.
    Compaction,
    /// A node that ships its journal.
    Shipping,
    /// A node that makes a full backup, or restores one on trial.
    Backup,
    /// `entente restore`.
    Restore,
    /// `entente repair`.
    Repair,
    /// The first start on a folder that was written before there were journals.
    Upgrade,
}

/// Kills in a phase.
#[derive(Debug, Default, Clone, Copy)]
pub struct Kills {
    /// All of them.
    pub all: usize,
    /// Those that hit it.
    pub hits: usize,
}

impl Kills {
    fn add(&mut self, hit: bool) {
        self.all += 1;
        self.hits += usize::from(hit);
    }
}

/// Kills in a phase, other than [`Phase::Load`], until it was hit `rounds` times.
pub async fn rounds(
    server: &Path,
    phase: Phase,
    rounds: usize,
    seed: u64,
    progress: &mut impl FnMut(),
) -> Result<Kills> {
    let random = &mut Random::new(seed ^ (phase as u64) << 32);
    let mut kills = Kills::default();
    if rounds == 0 {
        return Ok(kills);
    }
    let done = async {
        match phase {
            Phase::Load => Ok(()),
            Phase::Checkpoint => {
                serving::checkpoints(server, rounds, random, &mut kills, progress).await
            }
            Phase::Compaction => {
                compaction::rounds(server, rounds, random, &mut kills, progress).await
            }
            Phase::Shipping => {
                serving::shipping(server, rounds, random, &mut kills, progress).await
            }
            Phase::Backup => serving::backups(server, rounds, random, &mut kills, progress).await,
            Phase::Restore => command::restores(server, rounds, random, &mut kills, progress).await,
            Phase::Repair => command::repairs(server, rounds, random, &mut kills, progress).await,
            Phase::Upgrade => upgrade::rounds(server, rounds, random, &mut kills, progress).await,
        }
    };
    let done = done.await;
    done.with_context(|| format!("{phase:?}, after {kills:?}, seed {seed}"))?;
    Ok(kills)
}

/// What the log says when something begins and when it has ended.
struct Marks {
    begins: &'static str,
    ends: &'static str,
}

impl Marks {
    /// Whether the last that began has not ended.
    fn is_under_way(&self, log: &str) -> bool {
        log.rfind(self.begins).is_some_and(|begun| log.rfind(self.ends) < Some(begun))
    }

    fn begun(&self, log: &str) -> usize {
        log.matches(self.begins).count()
    }
}

/// How long after a beginning a kill comes: at random, up to a time that follows what was hit.
struct Aim(Duration);

impl Aim {
    fn new() -> Self {
        Self(Duration::from_millis(100))
    }

    async fn wait(&self, random: &mut Random) {
        let most = usize::try_from(self.0.as_micros()).unwrap_or(usize::MAX);
        tokio::time::sleep(Duration::from_micros(random.below(most) as u64)).await;
    }

    fn learn(&mut self, hit: bool) {
        self.0 = if hit { (self.0 * 5 / 4).min(LONGEST) } else { (self.0 / 2).max(SHORTEST) };
    }

    /// Kills a node that runs, a little after something has begun; whether that was not over.
    async fn kill(
        &mut self,
        node: &mut Process,
        marks: &Marks,
        random: &mut Random,
    ) -> Result<bool> {
        let before = marks.begun(&node.log()?);
        let began = Instant::now();
        while marks.begun(&node.log()?) <= before && began.elapsed() < BEGINS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.wait(random).await;
        node.kill().await?;
        let hit = marks.is_under_way(&node.log()?);
        self.learn(hit);
        Ok(hit)
    }
}

/// A node under work, and what was there when it was looked at last.
struct Watched {
    node: Process,
    work: Work,
    before: State,
}

impl Watched {
    async fn start(node: Process) -> Result<Self> {
        let work = Work::prepare(&node).await?;
        Ok(Self { node, work, before: State::default() })
    }

    /// Looks at it after a kill, and starts it again.
    async fn come_back(&mut self) -> Result {
        super::verify(&self.node).await?;
        self.node.forget_log()?;
        self.node.launch().await?;
        let state = State::seen(&self.node, &self.work.told.conversations()).await?;
        let wrong = [self.work.told.wrong(&state, ALL), self.before.not_as_in(&state)].concat();
        ensure!(wrong.is_empty(), "after the kill: {wrong:#?}");
        self.before = state;
        Ok(())
    }
}

/// A node with a log, which does not run yet.
fn prepare(server: &Path, variables: &[(&str, &str)]) -> Result<Process> {
    let builder = Process::builder(server).keep_log().variable("ENTENTE_LOG_LEVEL", LOG);
    let set = |builder: crate::ProcessBuilder, (name, value): &(&str, &str)| {
        builder.variable(name, value)
    };
    variables.iter().fold(builder, set).prepare()
}

/// A node that makes backups by itself, and the folder of them.
async fn with_backups(server: &Path) -> Result<(Process, TempDir)> {
    let folder = tempfile::tempdir()?;
    let place = folder.path().display().to_string();
    let mut node = prepare(server, &[("ENTENTE_BACKUP_FOLDER", &place)])?;
    node.launch().await?;
    crate::moments::until_backed_up(&node).await?;
    Ok((node, folder))
}
