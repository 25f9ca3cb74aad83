//! Moments that come back: a node makes backups by itself and ships its journal behind them, and what
//! is restored of random moments is compared with what it was asked for and when.

pub(crate) mod state;
pub(crate) mod told;
pub(crate) mod work;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::Value;

use crate::process::copy_folder;
use crate::random::Random;
use crate::verdict::{is_as_expected, must_exist};
use crate::{Process, Result, Wire, text_message};
use state::State;
use told::{ALL, now_ms};
use work::{Load, NAMED, PLATFORM, Work};

/// Time until something is there.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of so many moments one is at a full backup, and one when something was answered.
const AT_AN_EDGE: usize = 4;

/// Options of `testnet moments`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Each moment is restored with `entente restore --until` into a new folder, which \
    `entente verify` must find in order. What was acknowledged before the moment must be there, nothing \
    that was sent after it, and each conversation must begin as it did in the end.\n\n\
    Exit code 1: a restored state is not that of its moment; the folders are kept."
)]
pub struct Options {
    /// Moments to restore.
    #[arg(long, value_name = "N", default_value_t = 20)]
    moments: usize,
    /// Of so many moments one is also read by clients of a node that is started on it.
    #[arg(long, value_name = "N", default_value_t = 5)]
    real: usize,
    /// Full backups under load.
    #[arg(long, value_name = "N", default_value_t = 3)]
    backups: usize,
    /// Seconds of work before each of them, and after the last; once, the node is killed then.
    #[arg(long, value_name = "N", default_value_t = 3)]
    seconds: u64,
    /// Seed of all choices; a new one if left out. What the node does differs from run to run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Program to try.
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/entente")]
    server: PathBuf,
    /// Folder for folders that fail.
    #[arg(long, value_name = "FOLDER", default_value = "target/moments")]
    keep: PathBuf,
    /// End well only if a moment fails: for a program that is broken on purpose.
    #[arg(long)]
    must_fail: bool,
}

/// Works, restores and compares; whether every state was that of its moment.
#[expect(clippy::print_stdout, reason = "the program's own answer")]
pub fn run(options: &Options) -> Result<bool> {
    must_exist(&options.server)?;
    let seed = options.seed.unwrap_or_else(|| rand::random::<u32>().into());
    println!("seed {seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let started = Instant::now();
    let failed = runtime.block_on(all(options, seed))?;
    println!("{:.0} s", started.elapsed().as_secs_f64());
    Ok(is_as_expected(failed, options.must_fail))
}

#[expect(clippy::print_stdout, reason = "the program's own answer")]
async fn all(options: &Options, seed: u64) -> Result<bool> {
    let mut random = Random::new(seed);
    let worked = Worked::make(options, &mut random).await?;
    let (messages, changes) = worked.work.told.count();
    println!(
        "{messages} messages and {changes} changes in {:.1} s, {} full backups",
        (worked.until_ms - worked.from_ms) as f64 / 1_000.0,
        worked.made_ms.len()
    );
    let progress = ProgressBar::new(options.moments as u64);
    let (mut failed, mut read_by_clients, mut commits, mut compared) = (0, 0, 0, 0);
    let mut from: BTreeMap<String, usize> = BTreeMap::new();
    for number in 0..options.moments {
        let moment = worked.moment(&mut random);
        let real = options.real > 0 && number % options.real == 0;
        let tried = worked.restore(&options.server, moment, real).await;
        let tried = tried.with_context(|| format!("moment {moment}, seed {seed}"))?;
        if tried.wrong.is_empty() {
            read_by_clients += usize::from(real);
            commits += tried.commits;
            compared += tried.messages;
            *from.entry(tried.backup).or_default() += 1;
        } else {
            failed += 1;
            let kept = options.keep.join(format!("{seed}-{number}"));
            worked.keep(&tried.node, &kept)?;
            progress.suspend(|| {
                println!("FAILED moment {moment}, seed {seed}; kept in {}", kept.display());
                tried.wrong.iter().for_each(|line| println!("  {line}"));
            });
        }
        progress.inc(1);
        if options.must_fail && failed > 0 {
            break;
        }
    }
    progress.finish_and_clear();
    let in_order: usize = from.values().sum();
    println!("moments as they were        {in_order}");
    println!("  also read by clients      {read_by_clients}");
    println!("  by the full backup        {:?}", from.values().collect::<Vec<_>>());
    println!("messages compared           {compared}");
    println!("commits of the journal      {commits}");
    println!("moments that failed         {failed}");
    Ok(failed > 0)
}

/// A node that has worked and was stopped.
struct Worked {
    node: Process,
    backups: PathBuf,
    work: Work,
    /// When each full backup was made.
    made_ms: Vec<i64>,
    from_ms: i64,
    until_ms: i64,
    /// What was there in the end.
    end: State,
}

/// A moment that was restored.
struct Tried {
    node: Process,
    wrong: Vec<String>,
    /// The full backup it began with, and commits of the journal behind it.
    backup: String,
    commits: u64,
    messages: usize,
}

impl Worked {
    async fn make(options: &Options, random: &mut Random) -> Result<Self> {
        let mut node = Process::builder(&options.server)
            .variable("ENTENTE_LOG_LEVEL", "error")
            .keep_log()
            .prepare()?;
        let backups = node.scratch().join("backups");
        fs::create_dir(&backups)?;
        node.set_variable("ENTENTE_BACKUP_FOLDER", &backups.display().to_string());
        node.launch().await?;
        until_backed_up(&node).await?;
        let work = Work::prepare(&node).await?;
        // From then on there is everybody who is asked about.
        let from_ms = now_ms();
        let killed = random.below(options.backups + 1);
        let mut load = work.start(random);
        for stretch in 0..=options.backups {
            let worked =
                options.seconds * 500 + random.below(1_000 * options.seconds as usize) as u64;
            tokio::time::sleep(Duration::from_millis(worked)).await;
            if stretch == killed {
                node.kill().await?;
                load.end().await?;
                node.launch().await?;
                load = work.start(random);
            }
            if stretch < options.backups {
                said(&node, "backup", &["now"]).await?;
            }
        }
        stop(&mut node, load).await?;
        let mut made_ms = Vec::new();
        let found = said(&node, "backup", &["list"]).await?;
        for one in found["backups"].as_array().into_iter().flatten() {
            made_ms.push(one["made_ms"].as_i64().context("a backup that is not readable")?);
        }
        ensure!(made_ms.len() > options.backups, "too few backups: {found}");
        let until_ms = work.told.last_ms();
        let data = node.data();
        let end = tokio::task::spawn_blocking(move || State::in_store(&data)).await??;
        let wrong = [work.told.wrong(&end, ALL), end.not_as_in(&end)].concat();
        ensure!(wrong.is_empty(), "before anything was restored: {wrong:#?}");
        Ok(Self { node, backups, work, made_ms, from_ms, until_ms, end })
    }

    /// Any moment, the one of a full backup, or one in which something was answered.
    fn moment(&self, random: &mut Random) -> i64 {
        let edge = match random.below(AT_AN_EDGE) {
            0 => self.made_ms.get(random.below(self.made_ms.len())).copied(),
            1 => self.work.told.some_answer_ms(random.next() as usize),
            _ => None,
        };
        let length = usize::try_from(self.until_ms - self.from_ms).unwrap_or_default();
        let anywhere = self.from_ms + random.below(length + 500) as i64;
        let near = random.below(3) as i64 - 1;
        edge.map_or(anywhere, |edge| edge + near).max(self.from_ms)
    }

    /// Restores a moment and compares.
    async fn restore(&self, server: &Path, moment: i64, real: bool) -> Result<Tried> {
        let node = Process::builder(server).variable("ENTENTE_LOG_LEVEL", "error").prepare()?;
        let until = moment.to_string();
        let folder = self.backups.display().to_string();
        let words = ["--without-secrets", "--until", &until, &folder];
        let mut tried =
            Tried { node, wrong: Vec::new(), backup: String::new(), commits: 0, messages: 0 };
        let restored = match said(&tried.node, "restore", &words).await {
            Ok(restored) => restored,
            Err(error) => {
                tried.wrong.push(format!("{error:#}"));
                return Ok(tried);
            }
        };
        tried.backup = restored["backup"].to_string();
        tried.commits = restored["commits"].as_u64().context("no commits")?;
        let reached = restored["until_ms"].as_i64().context("no time")?;
        if reached > moment {
            tried.wrong.push(format!("it says that it is of {reached}"));
        }
        if let Err(error) = said(&tried.node, "verify", &[]).await {
            tried.wrong.push(format!("{error:#}"));
        }
        if real {
            tried.node.launch().await?;
            let state = State::seen(&tried.node, &self.work.told.conversations()).await?;
            self.compare(&state, moment, &mut tried);
            goes_on(&tried.node).await?;
            tried.node.stop().await?;
        } else {
            let data = tried.node.data();
            let state = tokio::task::spawn_blocking(move || State::in_store(&data)).await?;
            match state {
                Ok(state) => self.compare(&state, moment, &mut tried),
                Err(error) => tried.wrong.push(format!("{error:#}")),
            }
        }
        Ok(tried)
    }

    fn compare(&self, state: &State, moment: i64, tried: &mut Tried) {
        tried.messages = state.messages();
        tried.wrong.extend(self.work.told.wrong(state, (moment, moment)));
        tried.wrong.extend(state.not_as_in(&self.end));
    }

    fn keep(&self, restored: &Process, kept: &Path) -> Result {
        if kept.exists() {
            fs::remove_dir_all(kept)?;
        }
        copy_folder(&self.backups, &kept.join("backups"))?;
        copy_folder(&self.node.data(), &kept.join("data"))?;
        if restored.data().exists() {
            copy_folder(&restored.data(), &kept.join("restored"))?;
        }
        Ok(())
    }
}

/// Lets the work end, and then the node.
async fn stop(node: &mut Process, load: Load) -> Result {
    load.end().await?;
    ensure!(node.stop().await? == Some(0), "the node did not stop: {}", node.log()?);
    Ok(())
}

/// Users of a restored node can write.
async fn goes_on(node: &Process) -> Result {
    let client = node.admin().await?.client(NAMED, PLATFORM).await?;
    let mut socket = client.connect(Wire::GOB_GZIP).await?;
    socket.send(&text_message(NAMED, "s1", "after the restore")).await?;
    Ok(())
}

/// Waits until the node has made a backup by itself.
pub(crate) async fn until_backed_up(node: &Process) -> Result {
    let began = now_ms();
    loop {
        let found = said(node, "backup", &["list"]).await?;
        if found["backups"][0]["checked"]["ok"] == true {
            return Ok(());
        }
        let patience = i64::try_from(PATIENCE.as_millis()).unwrap_or_default();
        ensure!(now_ms() - began < patience, "there is no backup: {}", node.log()?);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What a command of the program says as JSON; an error if it fails.
pub(crate) async fn said(node: &Process, command: &str, words: &[&str]) -> Result<Value> {
    let output = node.command(command).args(words).arg("--json").output().await?;
    let (out, error) = (&output.stdout, &output.stderr);
    ensure!(
        output.status.success(),
        "{command} {}: {}: {}{}",
        words.join(" "),
        output.status,
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(error)
    );
    Ok(serde_json::from_slice(out)?)
}
