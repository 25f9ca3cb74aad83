//! Crashes: a node is killed under load at random moments, over and over on one data folder.
//!
//! After each start everything that was acknowledged must be there, once and in order, the lists
//! of friends and members must agree with what was acknowledged and with their version logs, and
//! `entente verify` must find nothing.

mod chat;
pub mod federated;
mod list;
pub mod phase;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum as _};
use indicatif::ProgressBar;
use serde_json::json;
use tokio::task::JoinSet;

use crate::random::Random;
use crate::verdict::must_exist;
use crate::{Admin, Client, Process, Result};
use chat::Chats;
use list::{Kind, Watched};
pub use phase::{Kills, Phase};

/// Longest time under load before a kill.
const LOAD_MS: usize = 400;
/// Longest time a start gets before a kill that hits it.
const START_MS: usize = 60;
/// Users who come and go in the lists.
const COMING: usize = 40;

/// Options of `testnet crash`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Exit code 1: something that was acknowledged is gone or wrong.")]
pub struct Options {
    /// Kills; of those of a phase, only such as hit it.
    #[arg(long, value_name = "N", default_value_t = 20)]
    rounds: usize,
    /// What they hit, in turn; all if left out.
    #[arg(long, value_name = "PHASE", value_delimiter = ',', conflicts_with = "nodes")]
    phases: Vec<Phase>,
    /// Users who send.
    #[arg(long, value_name = "N", default_value_t = 16)]
    senders: usize,
    /// Nodes; with more than one they federate over links that lose, delay and cut.
    #[arg(long, value_name = "N", default_value_t = 1)]
    nodes: usize,
    /// With several nodes: kill the home of a group and let its successor take it over, or move it.
    #[arg(long, requires = "nodes")]
    homes: bool,
    /// Seed of the moments; a new one if left out.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Program to kill.
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/entente")]
    server: PathBuf,
}

/// What was done without anything lost.
#[derive(Debug, Default, Clone, Copy)]
pub struct Report {
    /// Kills under load.
    pub kills: usize,
    /// Further kills of a node that was just starting.
    pub kills_at_start: usize,
    /// Messages acknowledged and found.
    pub messages: usize,
    /// Messages whose acknowledgement a kill cut off and that were there nevertheless.
    pub unanswered_kept: usize,
    /// Changes of friends and members acknowledged and found.
    pub changes: usize,
}

/// Kills and checks; an error says what was lost.
#[expect(clippy::print_stdout, reason = "the program's own answer")]
pub fn run(options: &Options) -> Result<bool> {
    must_exist(&options.server)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = options.seed.unwrap_or_else(|| now.map_or(1, |now| u64::from(now.subsec_nanos())));
    println!("seed {seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let progress = ProgressBar::new(options.rounds as u64);
    let started = Instant::now();
    let outcome = runtime.block_on(async {
        let (server, count) = (&options.server, options.rounds);
        let step = |_| progress.inc(1);
        if options.homes {
            let done =
                federated::succession::rounds(server, options.nodes, count, seed, step).await?;
            println!("homes killed and taken over  {}", done.taken_over);
            println!("homes moved                  {}", done.moved);
            println!("longest time to write again  {:.2} s", done.writable.as_secs_f64());
            let messages = done.messages;
            Ok(Report { kills: done.taken_over, messages, ..Report::default() })
        } else if options.nodes > 1 {
            federated::rounds(server, options.nodes, count, seed, step).await
        } else {
            one_node(options, seed, &progress).await
        }
    });
    progress.finish_and_clear();
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            println!("FAILED: {error:#}");
            return Ok(false);
        }
    };
    println!("kills under load            {}", report.kills);
    println!("kills of a starting node    {}", report.kills_at_start);
    println!("messages, all there         {}", report.messages);
    println!("  kept without an answer    {}", report.unanswered_kept);
    println!("changes of lists, all there {}", report.changes);
    println!("{:.0} s", started.elapsed().as_secs_f64());
    Ok(true)
}

/// Kills in each phase.
#[expect(clippy::print_stdout, reason = "the program's own answer")]
async fn one_node(options: &Options, seed: u64, progress: &ProgressBar) -> Result<Report> {
    let all = Phase::value_variants();
    let phases = if options.phases.is_empty() { all } else { &options.phases };
    let mut report = Report::default();
    for (at, phase) in phases.iter().enumerate() {
        // The first ones get what is left over.
        let count = options.rounds / phases.len() + usize::from(at < options.rounds % phases.len());
        if *phase == Phase::Load {
            let step = |_| progress.inc(1);
            report = rounds(&options.server, count, options.senders, seed, step).await?;
            continue;
        }
        let step = &mut || progress.inc(1);
        let kills = phase::rounds(&options.server, *phase, count, seed, step).await?;
        let Kills { all, hits } = kills;
        progress.suspend(|| println!("{:28}{all}, {hits} of them in it", format!("{phase:?}")));
        ensure!(hits >= count, "{phase:?} was hit {hits} times only");
    }
    Ok(report)
}

/// Kills the node `rounds` times on one data folder and checks it after each start.
pub async fn rounds(
    server: &Path,
    rounds: usize,
    senders: usize,
    seed: u64,
    mut progress: impl FnMut(usize),
) -> Result<Report> {
    let mut random = Random::new(seed);
    let mut node = Process::builder(server).variable("ENTENTE_LOG_LEVEL", "error").start().await?;
    let mut work = Work::prepare(&node, senders).await?;
    let mut report = Report::default();
    for round in 0..rounds {
        let step = async {
            let load = work.start(random.next());
            tokio::time::sleep(Duration::from_millis(random.below(LOAD_MS) as u64)).await;
            node.kill().await?;
            report.kills += 1;
            work.stopped(load).await?;
            if random.once_in(4) {
                node.spawn()?;
                tokio::time::sleep(Duration::from_millis(random.below(START_MS) as u64)).await;
                node.kill().await?;
                report.kills_at_start += 1;
            }
            verify(&node).await?;
            node.launch().await?;
            work.check(&node, &mut report).await
        };
        step.await.with_context(|| format!("round {round}, seed {seed}"))?;
        progress(round);
    }
    node.stop().await?;
    verify(&node).await?;
    Ok(report)
}

async fn verify(node: &Process) -> Result {
    let verified = node.command("verify").output().await?;
    let text = String::from_utf8_lossy(&verified.stdout);
    ensure!(verified.status.success(), "verify: {text}");
    Ok(())
}

/// The users and what was acknowledged to them.
struct Work {
    chats: Arc<Chats>,
    clients: Vec<Client>,
    lists: Vec<Watched>,
}

struct Load {
    senders: JoinSet<()>,
    lists: JoinSet<Watched>,
}

impl Work {
    async fn prepare(node: &Process, senders: usize) -> Result<Self> {
        let admin = node.admin().await?;
        let names: Vec<String> = (0..senders.max(2)).map(|at| format!("s{at}")).collect();
        let coming: Vec<String> = (0..COMING).map(|at| format!("c{at}")).collect();
        let all: Vec<&str> = names.iter().chain(&coming).map(String::as_str).collect();
        admin.register(&all).await?;
        let clients = log_in(&admin, &names).await?;
        let owner = clients.first().context("no client")?.clone();
        let body = json!({
            "ownerUserID": names[0], "memberUserIDs": names[1..],
            "groupInfo": { "groupID": "g", "groupName": "g", "groupType": 2 },
        });
        owner.call("/group/create_group", body).await?;
        let lists = [Kind::Friends, Kind::Members]
            .map(|kind| Watched::new(kind, owner.clone(), admin.client.clone(), coming.clone()));
        Ok(Self { chats: Arc::new(Chats::new(names)), clients, lists: lists.into() })
    }

    /// Sends and changes until the node goes away.
    fn start(&mut self, seed: u64) -> Load {
        let mut load = Load { senders: JoinSet::new(), lists: JoinSet::new() };
        for (at, client) in self.clients.iter().cloned().enumerate() {
            let chats = Arc::clone(&self.chats);
            load.senders.spawn(async move { chats.send(at, &client).await });
        }
        for (at, mut list) in self.lists.drain(..).enumerate() {
            let mut random = Random::new(seed ^ at as u64);
            load.lists.spawn(async move {
                list.change(&mut random).await;
                list
            });
        }
        load
    }

    async fn stopped(&mut self, mut load: Load) -> Result {
        while let Some(ended) = load.senders.join_next().await {
            ended?;
        }
        while let Some(list) = load.lists.join_next().await {
            self.lists.push(list?);
        }
        self.lists.sort_by_key(Watched::kind);
        Ok(())
    }

    async fn check(&mut self, node: &Process, report: &mut Report) -> Result {
        // Logins are as durable as everything else: the old tokens still count.
        self.chats.check(&self.clients, report).await?;
        for list in &mut self.lists {
            list.check(report).await?;
        }
        let new = node.admin().await?;
        ensure!(!new.client.token.is_empty(), "the admin cannot log in");
        Ok(())
    }
}

async fn log_in(admin: &Admin, names: &[String]) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for name in names {
        clients.push(admin.client(name, 2).await?);
    }
    Ok(clients)
}
