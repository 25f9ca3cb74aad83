//! The node restarts, and every client comes back and fetches what is new.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::chat::connect;
use super::drive::{Pace, Shared, Sizes, Work};
use super::latency::Percentiles;
use super::openim::{Client, Login};
use super::options::Options;
use super::peer::{Session as _, To};
use super::report::Report;
use super::run::{Cast, run};
use super::stage::Stage;
use super::target::Target;
use super::text::Texts;
use super::{catch_up, population, possible, pull, source};
use crate::Result;

/// Pauses of the native SDK between its attempts, in seconds.
const PAUSES: [u64; 5] = [1, 2, 4, 8, 16];
/// All clients must be back within this.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the clients of a storm tell.
#[derive(Default)]
struct Told {
    /// Attempts while nothing listened: the node was down.
    refused: AtomicU64,
    /// Attempts that failed though something listened.
    failed: AtomicU64,
    /// How the first of them failed.
    first: Mutex<Option<String>>,
    synced: AtomicU64,
}

/// Restarts the node under many clients.
pub(crate) async fn storm(
    target: &mut Target,
    options: &Options,
    progress: &indicatif::ProgressBar,
) -> Result<Report> {
    let count = possible(options.returning) / 2 * 2;
    let mut report = Report::new(format!("restart under {count} clients"), target);
    let stage = Stage { target, options, progress };
    stage.says("registering users");
    let users = population::settle(target, count).await?;
    stage.says("writing one message in each pair");
    write(&stage, &users).await?;
    stage.says("connecting");
    let clients = connect(target, &users, options.wire()).await?;
    let told = Arc::new(Told::default());
    let users = Arc::new(users);
    let mut tasks = JoinSet::new();
    let (gateway, wire) = (target.gateway, options.wire());
    for (at, mut client) in clients.into_iter().enumerate() {
        let (told, users) = (Arc::clone(&told), Arc::clone(&users));
        tasks.spawn(async move {
            while client.next().await.is_ok() {}
            drop(client);
            let mut attempt = 0;
            loop {
                let pause = PAUSES.get(attempt % PAUSES.len()).copied().unwrap_or(1);
                tokio::time::sleep(Duration::from_secs(pause)).await;
                attempt += 1;
                let Some(login) = users.get(at) else { anyhow::bail!("no such user") };
                let back = async {
                    let client = Client::connect(gateway, login, wire, source(at)).await?;
                    sync(client, &users, at).await
                };
                match back.await {
                    Ok(client) => {
                        told.synced.fetch_add(1, Ordering::Relaxed);
                        return Ok((Instant::now(), client));
                    }
                    Err(error) if is_refused(&error) => {
                        told.refused.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => {
                        told.failed.fetch_add(1, Ordering::Relaxed);
                        told.first.lock().get_or_insert_with(|| format!("{error:#}"));
                    }
                }
            }
        });
    }
    let stopping = Instant::now();
    let start = target.restart().await?;
    let ready = Instant::now();
    progress.set_length(count as u64);
    while told.synced.load(Ordering::Relaxed) < count as u64 && ready.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(100)).await;
        progress.set_position(told.synced.load(Ordering::Relaxed));
        progress.set_message(format!("{} failed", told.failed.load(Ordering::Relaxed)));
    }
    let synced = told.synced.load(Ordering::Relaxed);
    if synced < count as u64 {
        tasks.abort_all();
        report.fault(format!("only {synced} of {count} clients came back"));
    }
    let mut times = Vec::with_capacity(count);
    let mut held = Vec::with_capacity(count);
    while let Some(ended) = tasks.join_next().await {
        let Ok(ended) = ended else { continue };
        let ended: Result<(Instant, Client)> = ended;
        let (at, client) = ended?;
        times.push(u32::try_from(at.saturating_duration_since(ready).as_micros())?);
        held.push(client);
    }
    let last = times.iter().max().copied().unwrap_or(0);
    report.seconds = ready.elapsed().as_secs_f64();
    report.number("stop to ready", (ready - stopping).as_secs_f64(), "s");
    report.number("of that, start", start.as_secs_f64(), "s");
    report.number("ready to all synced", f64::from(last) / 1e6, "s");
    report.number("attempts refused while down", told.refused.load(Ordering::Relaxed) as f64, "");
    report.number("attempts that failed", told.failed.load(Ordering::Relaxed) as f64, "");
    report.notes.extend(told.first.lock().take());
    if let Some(usage) = target.usage()? {
        report.number("server memory", usage.resident as f64 / 1_048_576.0, "MiB");
        report.number("server CPU since start", usage.cpu_seconds, "s");
    }
    report.latencies.push(Percentiles::new("ready to synced", times)?);
    Ok(report)
}

/// What the native SDK does after a login: asks for the newest seqs, fetches what is new.
async fn sync(mut client: Client, users: &[Login], at: usize) -> Result<Client> {
    let one = users.get(at & !1).context("no partner")?;
    let other = users.get(at | 1).context("no partner")?;
    let me = users.get(at).context("no such user")?;
    let conversation = format!("si_{}_{}", one.user_id, other.user_id);
    let newest = pull::newest(&mut client, &me.user_id).await?;
    let seq = newest.max_seqs.get(&conversation).copied().unwrap_or(0);
    ensure!(seq == 1, "{conversation} is at {seq} instead of 1");
    let found = pull::range(&mut client, &me.user_id, &conversation, 1, 1).await?;
    ensure!(found.first().is_some_and(Option::is_some), "{conversation} has a foreign message");
    Ok(client)
}

async fn write(stage: &Stage<'_>, users: &[Login]) -> Result {
    let Stage { target, options, .. } = stage;
    let writers: Vec<Login> = users.iter().step_by(2).cloned().collect();
    let clients = connect(target, &writers, options.wire()).await?;
    let shared = Shared::new(writers.len() as u64);
    let texts = Texts::new(1);
    let mut sessions = Vec::new();
    for ((number, client), other) in (0_u32..).zip(clients).zip(users.iter().skip(1).step_by(2)) {
        let work = Work {
            number,
            to: To::User(other.user_id.clone()),
            reaches: 0,
            pace: Pace::Once,
            sizes: Sizes::Fixed(options.content),
            texts: texts.fork(number.into()),
        };
        sessions.push((client, work));
    }
    let mut report = Report::new("writing", target);
    let span = catch_up::long(options);
    run(target, Cast { sessions, shared }, span, stage.progress, &mut report).await?;
    ensure!(report.faults.is_empty(), "writing failed: {:?}", report.faults);
    Ok(())
}

fn is_refused(error: &anyhow::Error) -> bool {
    let refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(refused))
}
