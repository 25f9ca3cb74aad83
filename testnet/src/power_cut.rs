//! Losing power: a node is recorded while it works, and disks are built from the record as they
//! could look after a power cut at any moment; each must open and hold what was acknowledged.

mod backed;
mod disk;
mod fact;
mod image;
mod restore;
mod trace;
mod workload;

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use indicatif::ProgressBar;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::random::Random;
use crate::verdict::{is_as_expected, must_exist};
use crate::{Process, Result};
use backed::{Backed, Held};
use disk::{Disk, Loss, Made};
use fact::{Done, Fact};
use restore::Restore;

/// Time an image gets to be checked.
const PATIENCE: Duration = Duration::from_secs(120);
/// Findings shown of one image.
const SHOWN: usize = 5;

/// Options of `testnet power-cut`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Needs strace. Exit code 1: an image does not open or something that was \
    acknowledged is not in it; such images are kept.")]
pub struct Options {
    /// Images to build and check.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    images: usize,
    /// Records to build them from; each begins with an image of the one before.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Messages of each of the six senders in a round.
    #[arg(long, value_name = "N", default_value_t = 400)]
    messages: usize,
    /// Of so many images one is also restored from the backups in it; 0: none.
    #[arg(long, value_name = "N", default_value_t = 3)]
    restores: usize,
    /// Seed of all choices; a new one if left out. What the node writes differs from run to run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Program to record.
    #[arg(long, value_name = "PROGRAM", default_value = "target/release/entente")]
    server: PathBuf,
    /// Folder for images that fail.
    #[arg(long, value_name = "FOLDER", default_value = "target/power-cut")]
    keep: PathBuf,
    /// End well only if images fail: for a node that is broken on purpose.
    #[arg(long)]
    must_fail: bool,
}

/// Options of `testnet power-cut-image`.
#[derive(Debug, Clone, Args)]
pub struct ImageOptions {
    /// Data folder to check; it is changed.
    folder: PathBuf,
    /// File with what must be in it.
    facts: PathBuf,
    /// How often it was opened before, and once more.
    #[arg(default_value_t = 1)]
    opening: i64,
}

/// Checks one image; whether everything is there.
#[expect(clippy::print_stdout, reason = "the program's own answer")]
pub fn check_image(options: &ImageOptions) -> Result<bool> {
    let wrong = image::check(&options.folder, &options.facts, options.opening)?;
    for line in &wrong {
        println!("{line}");
    }
    Ok(wrong.is_empty())
}

/// Records, cuts and checks; whether nothing was lost.
#[expect(clippy::print_stdout, reason = "the program's own answer")]
pub fn run(options: &Options) -> Result<bool> {
    ensure!(options.rounds > 0 && options.images >= options.rounds, "an image a round at least");
    must_exist(&options.server)?;
    let strace = std::process::Command::new("strace").arg("--version").output();
    strace.context("strace is missing; on Debian: apt-get install strace")?;
    let seed = options.seed.unwrap_or_else(fresh_seed);
    println!("seed {seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let started = Instant::now();
    let totals = runtime.block_on(all_rounds(options, seed))?;
    totals.print();
    println!("{:.0} s", started.elapsed().as_secs_f64());
    let lost = totals.failed > 0;
    Ok(is_as_expected(lost, options.must_fail))
}

fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |now| now.as_nanos() as u64 >> 10 & 0xffff_ffff)
}

#[derive(Default)]
struct Totals {
    images: usize,
    failed: usize,
    facts: usize,
    at_stake: usize,
    restored: usize,
    shipped: usize,
    losses: BTreeMap<Loss, usize>,
}

impl Totals {
    #[expect(clippy::print_stdout, reason = "the program's own answer")]
    fn print(&self) {
        println!("images                      {}", self.images);
        println!("  cut with unsynced writes  {}", self.at_stake);
        for (loss, images) in &self.losses {
            println!("  {:24}  {images}", format!("{loss:?}"));
        }
        println!("acknowledged facts checked  {}", self.facts);
        println!("restored from backups       {}", self.restored);
        println!("  messages that had to be   {}", self.shipped);
        println!("images that failed          {}", self.failed);
    }
}

/// What one round leaves to the next.
struct Start {
    folder: TempDir,
    facts: Vec<Fact>,
    held: Held,
}

async fn all_rounds(options: &Options, seed: u64) -> Result<Totals> {
    let mut random = Random::new(seed);
    let mut totals = Totals::default();
    let mut start = None;
    for round in 0..options.rounds {
        let images =
            options.images / options.rounds + usize::from(round < options.images % options.rounds);
        start = one_round(options, round, images, &mut random, start, &mut totals).await?;
    }
    Ok(totals)
}

#[expect(clippy::print_stdout, reason = "the program's own answer")]
async fn one_round(
    options: &Options,
    round: usize,
    images: usize,
    random: &mut Random,
    start: Option<Start>,
    totals: &mut Totals,
) -> Result<Option<Start>> {
    let record = tempfile::tempdir()?;
    let file = record.path().join("record");
    let mut node = Process::builder(&options.server)
        .variable("ENTENTE_LOG_LEVEL", "error")
        .variable("ENTENTE_BACKUP_KEEP", "2")
        .under(
            ["strace", "-D", "-f", "--seccomp-bpf", "-y", "-xx", "-s", "33554432", "-o"]
                .map(String::from)
                .into_iter()
                .chain([file.display().to_string(), "-e".into(), trace::CALLS.into()]),
        )
        .prepare()?;
    let root = fs::canonicalize(node.scratch())?;
    let (mut before, mut held) = (Vec::new(), Held::new());
    if let Some(start) = &start {
        copy(start.folder.path(), &root)?;
        before.clone_from(&start.facts);
        held.clone_from(&start.held);
    }
    let backups = root.join(backed::FOLDER);
    fs::create_dir_all(&backups)?;
    // What was not complete is of no use.
    held.retain(|name, _| backups.join(format!("{name}.backup")).exists());
    node.set_variable("ENTENTE_BACKUP_FOLDER", &backups.display().to_string());
    let (mut disk, files, folders) = Disk::load(&root)?;
    let began = Instant::now();
    node.launch().await?;
    // Another full one, amid the work; it ends with the node.
    let another = tokio::spawn(node.command("backup").arg("now").output());
    let mut done = workload::run(&node, round, options.messages, random.next()).await?;
    if round.is_multiple_of(2) {
        node.kill().await?;
    } else {
        node.stop().await?;
    }
    another.await??;
    let took = began.elapsed();
    wait_for_end(&file).await?;
    let mut trace = trace::read(BufReader::new(fs::File::open(&file)?), &root, &files, &folders)?;
    once_written(&node, &mut done, &before)?;
    let backed = Backed::of(&trace.events, &root, &files);
    let acknowledged = trace.operations.values().filter(|o| o.answered.is_some()).count();
    println!(
        "round {round}: recorded {} calls, {} KiB written ({} KiB over older \
         data), {} messages and {acknowledged} \
         changes acknowledged in {:.0} s, {} shipped",
        trace.events.len(),
        trace.bytes_written >> 10,
        trace.bytes_rewritten >> 10,
        trace.messages.len(),
        took.as_secs_f64(),
        backed.shipped(),
    );
    let mut events = std::mem::take(&mut trace.events);
    let possible = disk.begin(&events);
    let mut cuts: Vec<usize> =
        (0..images).filter_map(|_| possible.get(random.below(possible.len())).copied()).collect();
    cuts.sort_unstable();
    let mut checks = Checks::new(options, images);
    for (number, cut) in cuts.into_iter().enumerate() {
        disk.advance(&mut events, cut)?;
        let facts = fact::required(&done, &trace, cut, &before);
        let folder = tempfile::tempdir()?;
        let made = disk.image(random, folder.path())?;
        let then = backed.held(&trace, cut, &held, &before);
        let restore = options.restores > 0 && number.is_multiple_of(options.restores);
        let restore = restore.then(|| Restore {
            server: options.server.clone(),
            must_be_there: !held.is_empty() || backed.must_be_there(cut),
            facts: then
                .iter()
                .map(|(name, ids)| (name.clone(), backed::facts(ids, &done, &before)))
                .collect(),
        });
        let image = Image { round, number, cut, made, folder, facts, held: then, restore };
        checks.add(image, totals).await?;
        if options.must_fail && totals.failed > 0 {
            break;
        }
    }
    let next = checks.finish(totals).await?;
    Ok(next.or(start))
}

/// Files that the first start makes must stay as they are from the first answer on.
fn once_written(node: &Process, done: &mut Done, before: &[Fact]) -> Result {
    for name in ["data/secret", "data/config.toml"] {
        let text = fs::read_to_string(node.scratch().join(name))?;
        let fact = Fact::File { name: name.trim_start_matches("data/").into(), text };
        if let Some(step) = done.steps.first_mut()
            && !before.contains(&fact)
        {
            step.facts.push(fact);
        }
    }
    Ok(())
}

/// Waits until the tracer has written everything.
async fn wait_for_end(record: &Path) -> Result {
    let started = Instant::now();
    let mut length = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = fs::metadata(record)?.len();
        if now == length && now > 0 {
            return Ok(());
        }
        length = now;
        ensure!(started.elapsed() < PATIENCE, "the record does not end");
    }
}

struct Image {
    round: usize,
    number: usize,
    cut: usize,
    made: Made,
    folder: TempDir,
    facts: Vec<Fact>,
    held: Held,
    restore: Option<Restore>,
}

/// Images that are checked at the same time, each by a process of its own.
struct Checks<'a> {
    options: &'a Options,
    running: JoinSet<Result<(Image, Vec<String>)>>,
    at_once: usize,
    progress: ProgressBar,
    /// Images from this one on may be the start of the next round.
    next_from: usize,
    next: Option<Start>,
}

impl<'a> Checks<'a> {
    fn new(options: &'a Options, images: usize) -> Self {
        Self {
            options,
            running: JoinSet::new(),
            at_once: std::thread::available_parallelism().map_or(1, usize::from),
            progress: ProgressBar::new(images as u64),
            next_from: images * 3 / 4,
            next: None,
        }
    }

    async fn add(&mut self, image: Image, totals: &mut Totals) -> Result {
        if self.running.len() >= self.at_once {
            self.one(totals).await?;
        }
        self.running.spawn(check(image));
        Ok(())
    }

    /// Waits for all; returns a start for the next round.
    async fn finish(mut self, totals: &mut Totals) -> Result<Option<Start>> {
        while !self.running.is_empty() {
            self.one(totals).await?;
        }
        self.progress.finish_and_clear();
        Ok(self.next)
    }

    #[expect(clippy::print_stdout, reason = "the program's own answer")]
    async fn one(&mut self, totals: &mut Totals) -> Result {
        let Some(checked) = self.running.join_next().await else { return Ok(()) };
        let (image, wrong) = checked??;
        let untouched = image.folder.path().join("untouched");
        self.progress.inc(1);
        totals.images += 1;
        if let Some(restore) = &image.restore {
            totals.restored += 1;
            totals.shipped += restore.facts.values().map(Vec::len).max().unwrap_or_default();
        }
        totals.facts += image.facts.len();
        totals.at_stake += usize::from(image.made.at_stake > 0);
        *totals.losses.entry(image.made.loss).or_default() += 1;
        if wrong.is_empty() {
            let wanted = image.number >= self.next_from && image.made.loss != Loss::Nothing;
            if self.next.is_none() && wanted {
                fs::remove_dir_all(image.folder.path().join("data"))?;
                fs::rename(untouched, image.folder.path().join("data"))?;
                self.next =
                    Some(Start { folder: image.folder, facts: image.facts, held: image.held });
            }
            return Ok(());
        }
        totals.failed += 1;
        let name = format!("{}-{}", image.round, image.number);
        let kept = self.options.keep.join(&name);
        if totals.failed <= 20 {
            fs::create_dir_all(&kept)?;
            let (folder, facts) = (kept.join("data"), kept.join("facts.json"));
            copy(&untouched, &folder)?;
            let backups = image.folder.path().join(backed::FOLDER);
            if backups.exists() {
                copy(&backups, &kept.join(backed::FOLDER))?;
            }
            fs::write(&facts, serde_json::to_vec(&image.facts)?)?;
        }
        self.progress.suspend(|| {
            println!(
                "FAILED round {} image {} ({:?} lost at line {}, {} bytes at stake), see {}",
                image.round,
                image.number,
                image.made.loss,
                image.cut,
                image.made.at_stake,
                kept.display(),
            );
            for line in wrong.iter().take(SHOWN) {
                println!("  {line}");
            }
        });
        Ok(())
    }
}

async fn check(image: Image) -> Result<(Image, Vec<String>)> {
    // The check changes what it opens.
    let data = image.folder.path().join("data");
    let untouched = image.folder.path().join("untouched");
    if !data.exists() {
        fs::create_dir(&data)?;
    }
    copy(&data, &untouched)?;
    let facts = image.folder.path().join("facts.json");
    fs::write(&facts, serde_json::to_vec(&image.facts)?)?;
    for opening in 1..=2 {
        let wrong = open(&data, &facts, opening).await?;
        if !wrong.is_empty() {
            return Ok((image, wrong));
        }
    }
    let wrong = match &image.restore {
        Some(restore) => restore.check(image.folder.path()).await?,
        None => Vec::new(),
    };
    Ok((image, wrong))
}

/// Checks an image in a process of its own: it may hang or crash, and locks end with it.
async fn open(data: &Path, facts: &Path, opening: i64) -> Result<Vec<String>> {
    let output = Command::new(std::env::current_exe()?)
        .arg("power-cut-image")
        .args([data, facts])
        .arg(opening.to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Ok(output) = tokio::time::timeout(PATIENCE, output).await else {
        return Ok(vec!["it hangs".to_owned()]);
    };
    let output = output?;
    let mut lines: Vec<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    if !output.status.success() && lines.is_empty() {
        lines.push(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    for line in &mut lines {
        *line = format!("opening {opening}: {line}");
    }
    Ok(lines)
}

/// Copies a folder with everything in it.
fn copy(from: &Path, to: &Path) -> Result {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_dir() {
            copy(&path, &to.join(name))?;
        } else if path.is_file() {
            fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}
