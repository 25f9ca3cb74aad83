//! Load: many clients at work on one node, what they get checked, what it costs measured.
//!
//! Every message carries who sent it, its place among that session's messages and when it was due,
//! so each receiver can tell what is lost, doubled or out of order and how long it took.

mod between;
mod catch_up;
mod chat;
mod drive;
mod goals;
mod group;
mod hostile;
mod idle;
mod latency;
mod logins;
mod marker;
mod mix;
mod openim;
mod options;
mod others;
mod overload;
mod pacer;
mod peer;
mod plot;
mod population;
mod pull;
mod raw_relay;
mod report;
mod run;
mod soak;
mod stage;
mod start;
mod steady;
mod storm;
mod target;
mod text;
mod usage;
mod windows;
mod xmpp;

use std::net::Ipv4Addr;

use anyhow::Context as _;
use clap::ValueEnum as _;

pub use options::Options;

use crate::Result;
use chat::Loop;
use drive::Sizes;
use options::Scenario;
use report::Report;
use stage::{Stage, progress};
use target::Target;

/// Files that the largest scenario has open at once.
const FILES: u64 = 200_000;
/// Share of all files, in eighths, that connections may be; the node keeps some for itself.
const CONNECTIONS: u64 = 7;
/// Contents of mixed sizes, in bytes; the largest fits into a message of 60 KiB.
const SMALLEST: usize = 20;
const LARGEST: usize = 56 * 1024;
/// Messages a second of the pair that is alone.
const LONE_RATE: u32 = 20;
/// Connections from one loopback address; the system has about 28,000 ports for each.
const PER_SOURCE: usize = 20_000;

/// Runs what the options ask for and prints what was found; `false` if a run has failed.
#[expect(clippy::print_stdout, reason = "it prints what it measured")]
pub fn run(options: &Options) -> Result<bool> {
    usage::raise_file_limit(FILES);
    let runtime = runtime(options.threads)?;
    let scenarios = match options.scenarios.as_slice() {
        [] => Scenario::value_variants().to_vec(),
        some => some.to_vec(),
    };
    let all = options.scenarios.is_empty();
    let mut reports = Vec::new();
    for scenario in scenarios.into_iter().filter(|it| !all || !it.is_long()) {
        let kind = name(scenario);
        let done = runtime.block_on(run_scenario(scenario, options));
        for mut report in done.with_context(|| format!("{kind} failed"))? {
            report.kind = kind;
            println!("{}", report.to_text());
            reports.push(report);
        }
    }
    print!("{}", goals::table(&reports));
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&reports)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(folder) = &options.plots {
        for file in plot::write(folder, &reports)? {
            println!("{}", file.display());
        }
    }
    Ok(reports.iter().all(|report| report.faults.is_empty()))
}

/// Serves the raw relay until it is killed.
pub fn raw_relay() -> Result<bool> {
    usage::raise_file_limit(FILES);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(raw_relay::serve())?;
    Ok(true)
}

fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        more => {
            tokio::runtime::Builder::new_multi_thread().worker_threads(more).enable_all().build()
        }
    }
}

async fn run_scenario(scenario: Scenario, options: &Options) -> Result<Vec<Report>> {
    let closed = Loop::Closed(options.window);
    let fixed = Sizes::Fixed(options.content);
    match scenario {
        Scenario::Chat => return chats(closed, fixed, options).await,
        Scenario::Paced => return chats(Loop::Open(options.rate), fixed, options).await,
        Scenario::Lone => {
            let alone = Options { pairs: 1, ..options.clone() };
            return chats(Loop::Open(LONE_RATE), fixed, &alone).await;
        }
        Scenario::Sizes => {
            return chats(closed, Sizes::Between(SMALLEST, LARGEST), options).await;
        }
        Scenario::Between => return between::between(options).await,
        Scenario::Hostile => return hostile::hostile(options).await,
        _ => {}
    }
    let mut target = Target::node(options).await?;
    let progress = progress(name(scenario));
    let stage = Stage { target: &target, options, progress: &progress };
    let report = match scenario {
        Scenario::Group10 => group::group(&stage, 10).await,
        Scenario::Group500 => group::group(&stage, 500).await,
        Scenario::Group100000 => group::group(&stage, 100_000).await,
        Scenario::Flood => one(catch_up::flood(&stage).await),
        Scenario::CatchUp => one(catch_up::catch_up(&stage).await),
        Scenario::Mix => one(mix::mix(&stage).await),
        Scenario::Logins => one(logins::logins(&stage).await),
        Scenario::Idle => one(idle::idle(&stage).await),
        Scenario::Storm | Scenario::Start | Scenario::Soak | Scenario::Overload
            if !target.is_own() =>
        {
            Ok(Vec::new())
        }
        Scenario::Soak => one(soak::soak(&stage).await),
        Scenario::Overload => overload::overload(&stage).await,
        Scenario::Storm => one(storm::storm(&mut target, options, &progress).await),
        _ => one(start::start(&mut target, options, &progress).await),
    };
    progress.finish_and_clear();
    let reports = report?;
    target.stop().await?;
    Ok(reports)
}

/// How the command line calls a scenario.
fn name(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Chat => "chat",
        Scenario::Paced => "paced",
        Scenario::Lone => "lone",
        Scenario::Sizes => "sizes",
        Scenario::Group10 => "group-10",
        Scenario::Group500 => "group-500",
        Scenario::Group100000 => "group-100000",
        Scenario::Flood => "flood",
        Scenario::CatchUp => "catch-up",
        Scenario::Mix => "mix",
        Scenario::Logins => "logins",
        Scenario::Idle => "idle",
        Scenario::Storm => "storm",
        Scenario::Start => "start",
        Scenario::Soak => "soak",
        Scenario::Overload => "overload",
        Scenario::Between => "between",
        Scenario::Hostile => "hostile",
    }
}

fn one(report: Result<Report>) -> Result<Vec<Report>> {
    report.map(|report| vec![report])
}

/// Runs a chat of pairs: with the raw relay, with a node, and with other servers if asked for.
async fn chats(pace: Loop, sizes: Sizes, options: &Options) -> Result<Vec<Report>> {
    let name = format!("1:1, {} pairs, {sizes}, {pace}", options.pairs);
    let mut reports = Vec::new();
    let mut limit = None;
    if !options.no_raw {
        let raw = chat_on(Target::raw().await?, &name, pace, sizes, options).await?;
        limit = raw.value("acknowledged").filter(|limit| *limit > 0.0);
        reports.push(raw);
    }
    let mut ours = chat_on(Target::node(options).await?, &name, pace, sizes, options).await?;
    let acknowledged = ours.value("acknowledged");
    if let Some((ours_rate, limit)) = acknowledged.zip(limit) {
        ours.number("share of raw", ours_rate / limit, "");
    }
    let mut best = None;
    if options.peers && matches!((pace, sizes), (Loop::Closed(_), Sizes::Fixed(_))) {
        for kind in others::Kind::ALL {
            let report = if kind.is_installed() {
                chat_on(Target::other(kind).await?, &name, pace, sizes, options).await?
            } else {
                kind.missing(&name)
            };
            let rate = report.value("acknowledged").filter(|rate| *rate > 0.0);
            best = best.into_iter().chain(rate).reduce(f64::max);
            reports.push(report);
        }
    }
    if let Some((ours_rate, best)) = acknowledged.zip(best) {
        ours.number("times the better peer", ours_rate / best, "×");
    }
    reports.insert(usize::from(!options.no_raw), ours);
    Ok(reports)
}

async fn chat_on(
    target: Target,
    name: &str,
    pace: Loop,
    sizes: Sizes,
    options: &Options,
) -> Result<Report> {
    let progress = progress(name);
    let stage = Stage { target: &target, options, progress: &progress };
    let report = Report::new(name, &target);
    let report = chat::chat(&stage, pace, sizes, report).await?;
    progress.finish_and_clear();
    target.stop().await?;
    Ok(report)
}

/// So many connections as are wanted, or as many as the limit on open files leaves room for.
fn possible(wanted: usize) -> usize {
    let files = usage::raise_file_limit(FILES) / 8 * CONNECTIONS;
    wanted.min(usize::try_from(files).unwrap_or(usize::MAX))
}

/// The address that the connection number `at` comes from.
fn source(at: usize) -> Option<Ipv4Addr> {
    let host = u8::try_from(at / PER_SOURCE + 1).ok()?;
    (host > 1).then_some(Ipv4Addr::new(127, 0, 0, host))
}
