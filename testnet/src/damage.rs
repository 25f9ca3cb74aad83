//! Damage: folders of a node are damaged at random, and each must be refused, or serve all it held, or
//! say what it lacks. Folders that are in order must raise no alarm.

mod built;
pub(crate) mod folder;
mod harm;
pub(crate) mod look;
mod round;
mod sight;
pub(crate) mod sound;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use indicatif::ProgressBar;

use crate::Result;
use crate::random::Random;
use crate::verdict::{is_as_expected, must_exist};
use built::Built;
use round::{Outcome, Totals};

/// Options of `testnet damage`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Most rounds open the store in a process of its own and compare every entry; \
    every n-th, and each that damages something beside the store, starts the node and compares \
    what clients see. `entente verify` is run in all of them.\n\n\
    Exit code 1: something was lost and nobody was told, or a sound folder was refused; such \
    folders are kept."
)]
pub struct Options {
    /// Messages in the folder.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    messages: usize,
    /// Damages.
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    rounds: usize,
    /// Folders without damage.
    #[arg(long, value_name = "N", default_value_t = 200)]
    sound: usize,
    /// Of so many rounds one starts the node, whatever was damaged.
    #[arg(long, value_name = "N", default_value_t = 20)]
    real: usize,
    /// Seed of all choices; a new one if left out. What the node writes differs from run to run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Program to try.
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/entente")]
    server: PathBuf,
    /// Folder for folders that fail.
    #[arg(long, value_name = "FOLDER", default_value = "target/damage")]
    keep: PathBuf,
    /// End well only if a round fails: for a node that is broken on purpose.
    #[arg(long)]
    must_fail: bool,
}

/// Options of `testnet damage-look`.
#[derive(Debug, Clone, Args)]
pub struct LookOptions {
    /// Folder of a store; it is changed.
    folder: PathBuf,
    /// File with what must be in it; without it, what is in it is printed.
    facts: Option<PathBuf>,
}

/// Opens one store and prints what it is like.
pub fn look(options: &LookOptions) -> Result<bool> {
    look::print(&options.folder, options.facts.as_deref())
}

/// Damages and looks; whether nothing was lost without a word.
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
    let built = Built::make(&options.server, options.messages, &mut random).await?;
    for state in &built.states {
        println!(
            "{}: {} entries, {} files, {} KiB",
            state.name,
            state.entries,
            folder::files(&state.folder)?.len(),
            folder::bytes(&state.folder)? >> 10
        );
    }
    let progress = ProgressBar::new((options.rounds + options.sound) as u64);
    let mut totals = Totals::default();
    for number in 0..options.rounds {
        let mut random = Random::new(seed ^ crate::random::mix(number as u64 + 1));
        let real = options.real > 0 && number % options.real == 0;
        let round = round::play(&options.server, &built, &mut random, real);
        let round = round.await.with_context(|| format!("round {number}, seed {seed}"))?;
        if let Outcome::Lost(why) = &round.outcome {
            let kept = options.keep.join(format!("{seed}-{number}"));
            keep(&round.folder, &kept)?;
            progress.suspend(|| {
                println!(
                    "FAILED round {number}, seed {seed}: {}, {}: {why}; kept in {}",
                    round.state,
                    round.harm,
                    kept.display()
                );
            });
        }
        totals.add(&round);
        progress.inc(1);
        if options.must_fail && totals.lost > 0 {
            break;
        }
    }
    let mut alarms = 0;
    for number in 0..options.sound {
        let mut random = Random::new(seed ^ crate::random::mix(!(number as u64)));
        let tried = sound::play(&options.server, &built, number, &mut random);
        let tried = tried.await.with_context(|| format!("sound folder {number}, seed {seed}"))?;
        if let Some(alarm) = tried.alarm {
            alarms += 1;
            let kept = options.keep.join(format!("{seed}-sound-{number}"));
            keep(&tried.node.data(), &kept)?;
            progress.suspend(|| {
                let (kind, kept) = (tried.kind, kept.display());
                println!("FALSE ALARM {number}, seed {seed}: {kind}: {alarm}; kept in {kept}");
            });
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    totals.print();
    println!("sound folders              {}", options.sound);
    println!("  false alarms             {alarms}");
    Ok(totals.lost > 0 || alarms > 0)
}

fn keep(folder: &Path, kept: &Path) -> Result {
    if kept.exists() {
        fs::remove_dir_all(kept)?;
    }
    folder::copy(folder, kept)
}
