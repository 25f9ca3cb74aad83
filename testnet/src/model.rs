//! A model of who must see what, and random work that holds a node against it.
//!
//! `State` is the model: some hundred lines that know the rules and nothing of how they are kept; what a
//! user may see is one of them (`sight`). A seed makes a row of actions; each is done in a `World`, and
//! its answer, every push to every device and, now and then, everything that can be read must be what
//! the model says: lists, counts, newest messages, windows, searches, and the copies that devices keep
//! by the version logs. One world is the services over the memory engine in paused time, the other a
//! real process with real connections.

mod action;
mod content;
mod copy;
mod device;
mod expected;
mod friend;
mod group;
mod list;
mod log;
mod look;
mod memory;
mod message;
mod play;
mod process;
mod request;
mod sight;
mod world;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use parking_lot::Mutex;

use crate::Result;
use crate::verdict::must_exist;
use memory::Memory;
use process::Real;

/// Seeds that have once failed; CI plays them again.
pub const REGRESSIONS: &str = include_str!("model/seeds.txt");

/// Options of `testnet model`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Exit code 1: the node and the model disagree; the seed repeats it.")]
pub struct Options {
    /// What is held against the model.
    #[arg(long, value_enum, default_value_t = Kind::Memory)]
    world: Kind,
    /// Seeds to play.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// The first of them; the others follow.
    #[arg(long, value_name = "N", default_value_t = 1)]
    first: u64,
    /// Actions of each seed.
    #[arg(long, value_name = "N", default_value_t = 200)]
    steps: usize,
    /// Print every action.
    #[arg(long)]
    trace: bool,
    /// Program to start in the process world.
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/entente")]
    server: PathBuf,
}

/// The worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The services over the memory engine, in paused time.
    Memory,
    /// A real node with real connections.
    Process,
}

/// Plays seeds and prints what was found; `false` if a seed failed.
#[expect(clippy::print_stdout, reason = "the program's own answer")]
pub fn run(options: &Options) -> Result<bool> {
    if options.world == Kind::Process {
        must_exist(&options.server)?;
    }
    let progress = ProgressBar::new(options.seeds);
    let began = Instant::now();
    let next = AtomicU64::new(options.first);
    let end = options.first.saturating_add(options.seeds);
    let (failed, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let failures: Mutex<Vec<(u64, String)>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || failed.load(Ordering::Relaxed) {
                        break;
                    }
                    if let Err(error) = play_one(options, seed) {
                        failed.store(true, Ordering::Relaxed);
                        failures.lock().push((seed, format!("{error:#}")));
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    progress.inc(1);
                }
            });
        }
    });
    progress.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let seeds = done.load(Ordering::Relaxed);
    let steps = seeds * options.steps as u64;
    println!(
        "{seeds} seeds of {} actions, {:.0} actions/s, {seconds:.0} s",
        options.steps,
        steps as f64 / seconds
    );
    let failures = failures.into_inner();
    for (seed, error) in &failures {
        println!("FAILED seed {seed}: {error}");
        println!(
            "  again: testnet model --world {} --seeds 1 --first {seed} --steps {} --trace",
            world_name(options.world),
            options.steps
        );
    }
    Ok(failures.is_empty())
}

fn world_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Memory => "memory",
        Kind::Process => "process",
    }
}

fn play_one(options: &Options, seed: u64) -> Result {
    match options.world {
        Kind::Memory => play_in_memory(seed, options.steps, options.trace),
        Kind::Process => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let world = Real::start(&options.server, play::hides_history(seed)).await?;
                play::play(world, seed, options.steps, options.trace).await
            })
        }
    }
}

/// Plays one seed against the services over the memory engine.
pub fn play_in_memory(seed: u64, steps: usize, trace: bool) -> Result {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    runtime.block_on(async {
        let world = Memory::start(seed, play::hides_history(seed)).await?;
        play::play(world, seed, steps, trace).await
    })
}

/// Plays one seed against a real process of the program at `server`.
pub async fn play_in_process(server: &std::path::Path, seed: u64, steps: usize) -> Result {
    let world = Real::start(server, play::hides_history(seed)).await?;
    play::play(world, seed, steps, false).await
}

/// The seeds of [`REGRESSIONS`] with their numbers of actions.
pub fn regressions() -> Result<Vec<(u64, usize)>> {
    let lines =
        REGRESSIONS.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let mut number = || words.next().with_context(|| format!("not a seed: {line}"));
            Ok((number()?.parse()?, number()?.parse()?))
        })
        .collect()
}
