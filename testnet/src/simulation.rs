//! Organisations over simulated links, in paused time: random work and random faults, and at the
//! end everybody must know the same.
//!
//! A seed sets who does what and what fails: links are cut, reset or healed, nodes restart and their
//! clocks are apart. Every message that was acknowledged must in the end be with its author and its
//! receiver, once and in order; a group must look the same on all nodes with members; friendships
//! must agree; each user's lists and counts must agree with what that user can read; `verify` must
//! find nothing, and nothing may be left in an outbox or in quarantine.

mod checks;
mod copies;
mod organisation;
mod sight;
mod work;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Args;
use indicatif::ProgressBar;
use parking_lot::Mutex;

use crate::Result;
use work::World;

/// Seeds that have once failed; CI plays them again.
pub const REGRESSIONS: &str = include_str!("simulation/seeds.txt");

/// Options of `testnet simulate`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Exit code 1: the organisations do not agree; the seed repeats it.")]
pub struct Options {
    /// Seeds to play.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// The first of them; the others follow.
    #[arg(long, value_name = "N", default_value_t = 1)]
    first: u64,
    /// Actions of each seed.
    #[arg(long, value_name = "N", default_value_t = 150)]
    steps: usize,
    /// Organisations.
    #[arg(long, value_name = "N", default_value_t = 5)]
    nodes: usize,
    /// Put an older copy of a node's data back, or run a copy beside it, in each seed.
    #[arg(long)]
    copies: bool,
    /// Print every action.
    #[arg(long)]
    trace: bool,
}

/// Plays seeds and prints what was found; `false` if a seed failed.
#[expect(clippy::print_stdout, reason = "the program's own answer")]
pub fn run(options: &Options) -> Result<bool> {
    let progress = ProgressBar::new(options.seeds);
    let began = Instant::now();
    let next = AtomicU64::new(options.first);
    let end = options.first.saturating_add(options.seeds);
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let failures: Mutex<Vec<(u64, String)>> = Mutex::default();
    let messages = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let play = if options.copies { play_copies } else { play };
                    match play(seed, options.steps, options.nodes, options.trace) {
                        Ok(acknowledged) => {
                            messages.fetch_add(acknowledged as u64, Ordering::Relaxed);
                        }
                        Err(error) => {
                            let mut failures = failures.lock();
                            failures.push((seed, format!("{error:#}")));
                            if failures.len() >= 5 {
                                stop.store(true, Ordering::Relaxed);
                            }
                        }
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    progress.inc(1);
                }
            });
        }
    });
    progress.finish_and_clear();
    let failures = failures.into_inner();
    for (seed, error) in &failures {
        println!("FAILED: seed {seed}, {} steps, {} nodes: {error}", options.steps, options.nodes);
    }
    println!(
        "{} seeds, {} failed, {} messages, {:.0} s",
        done.load(Ordering::Relaxed),
        failures.len(),
        messages.load(Ordering::Relaxed),
        began.elapsed().as_secs_f64()
    );
    Ok(failures.is_empty())
}

/// Plays one seed in which an older copy of a node's data is put back, or runs beside it; returns how
/// many messages were acknowledged and found.
pub fn play_copies(seed: u64, steps: usize, nodes: usize, trace: bool) -> Result<usize> {
    paused()?.block_on(async {
        let mut world = World::start(seed, nodes, trace).await?;
        world.play_copies(steps).await?;
        Ok(world.acknowledged())
    })
}

fn paused() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?)
}

/// Plays one seed; returns how many messages were acknowledged.
pub fn play(seed: u64, steps: usize, nodes: usize, trace: bool) -> Result<usize> {
    paused()?.block_on(async {
        let mut world = World::start(seed, nodes, trace).await?;
        for _ in 0..steps {
            world.step().await?;
        }
        world.heal().await?;
        world.check().await?;
        Ok(world.acknowledged())
    })
}
