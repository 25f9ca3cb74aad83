//! One run: sessions at work for a time, measured from outside, and checked at the end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tokio::task::JoinSet;

use super::drive::{Outcome, Shared, Work, drive};
use super::latency::{Percentiles, Sample};
use super::options::Options;
use super::peer::Session;
use super::report::{Cost, FAULTS_TOLD, Report};
use super::target::Target;
use crate::Result;

/// Time that messages under way at the end get to arrive.
const DRAIN: Duration = Duration::from_secs(20);
/// Time between two looks at the counters.
const TICK: Duration = Duration::from_millis(100);

/// The database grows in steps; fewer messages say nothing about its size.
const WORTH_DIVIDING: u64 = 50_000;

/// How long a run lasts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
}

impl Span {
    pub(crate) fn of(options: &Options) -> Self {
        Self { warm_up: Duration::from_secs(options.warm_up), measured: options.measured() }
    }
}

/// Sessions and what is expected of them.
pub(crate) struct Cast<S> {
    pub(crate) sessions: Vec<(S, Work)>,
    pub(crate) shared: Arc<Shared>,
}

/// Runs the sessions and fills the report.
pub(crate) async fn run<S: Session>(
    target: &Target,
    cast: Cast<S>,
    span: Span,
    progress: &ProgressBar,
    report: &mut Report,
) -> Result {
    let Cast { sessions, shared } = cast;
    let stored_before = target.stored()?;
    let mut tasks = JoinSet::new();
    for (session, work) in sessions {
        tasks.spawn(drive(session, work, Arc::clone(&shared)));
    }
    watch(&shared, span.warm_up, progress, "warming up").await;
    let from = shared.clock.now();
    let (before, sent_before) = (Cost::now(target)?, shared.sent.load(Ordering::Relaxed));
    watch(&shared, span.measured, progress, "measuring").await;
    let (cost, until) = (Cost::now(target)?.since(&before), shared.clock.now());
    let offered = shared.sent.load(Ordering::Relaxed) - sent_before;
    shared.sent_all.store(true, Ordering::Relaxed);
    let complete = drain(&shared, target.echoes).await;
    shared.end.cancel();
    let mut outcomes = Vec::with_capacity(tasks.len());
    while let Some(outcome) = tasks.join_next().await {
        outcomes.push(outcome?);
    }
    progress.finish_and_clear();
    check(&shared, &outcomes, complete, target.echoes, report);

    let seconds = (until - from) as f64 / 1e9;
    let within = |sample: &&Sample| {
        let at = u64::from(sample.at_ms) * 1_000_000;
        (from..until).contains(&at)
    };
    let all = |of: fn(&Outcome) -> &Vec<Sample>| {
        let samples = outcomes.iter().flat_map(of).filter(within).map(|sample| sample.micros);
        samples.collect::<Vec<u32>>()
    };
    let (acknowledged, delivered) = (all(|o| &o.acknowledgements), all(|o| &o.deliveries));
    report.seconds = seconds;
    report.number("sent", offered as f64 / seconds, "/s");
    report.number("acknowledged", acknowledged.len() as f64 / seconds, "/s");
    report.number("delivered", delivered.len() as f64 / seconds, "/s");
    cost.tell(seconds, acknowledged.len() as f64, report);
    let total = shared.acknowledged.load(Ordering::Relaxed);
    if let Some((before, after)) = stored_before.zip(target.stored()?)
        && total >= WORTH_DIVIDING
    {
        let bytes = after.saturating_sub(before) as f64 / total as f64;
        report.number("on disk per message", bytes, "bytes");
    }
    if shared.due.load(Ordering::Relaxed) > total * 2 {
        let mut last: HashMap<(u32, u32), u32> = HashMap::new();
        for sample in outcomes.iter().flat_map(|o| &o.deliveries).filter(within) {
            let slowest = last.entry(sample.message).or_default();
            *slowest = sample.micros.max(*slowest);
        }
        report.latencies.push(Percentiles::new("send to last one has it", last.into_values())?);
    }
    report.latencies.push(Percentiles::new("send to acknowledged", acknowledged)?);
    report.latencies.push(Percentiles::new("send to delivered", delivered)?);
    Ok(())
}

/// Lets the sessions work for a time, or until they may send no more.
async fn watch(shared: &Shared, span: Duration, progress: &ProgressBar, what: &'static str) {
    let began = Instant::now();
    progress.set_length(span.as_millis() as u64);
    let mut last = (began, shared.acknowledged.load(Ordering::Relaxed));
    while began.elapsed() < span && shared.budget.load(Ordering::Relaxed) > 0 {
        tokio::time::sleep(TICK.min(span.saturating_sub(began.elapsed()))).await;
        let (now, count) = (Instant::now(), shared.acknowledged.load(Ordering::Relaxed));
        if now - last.0 > Duration::from_millis(500) {
            let rate = (count - last.1) as f64 / (now - last.0).as_secs_f64();
            let faults = shared.faults.load(Ordering::Relaxed);
            progress.set_message(format!("{what}: {rate:.0} acknowledged/s, {faults} faults"));
            last = (now, count);
        }
        progress.set_position(began.elapsed().as_millis() as u64);
    }
}

/// Waits until everything sent has arrived everywhere.
pub(crate) async fn drain(shared: &Shared, echoes: bool) -> bool {
    let began = Instant::now();
    loop {
        // A session that saw the end of sending too late may still add one.
        tokio::time::sleep(TICK).await;
        let sent = shared.sent.load(Ordering::Relaxed);
        if shared.acknowledged.load(Ordering::Relaxed) >= sent
            && shared.delivered.load(Ordering::Relaxed) >= shared.due.load(Ordering::Relaxed)
            && (!echoes || shared.echoed.load(Ordering::Relaxed) >= sent)
        {
            // What is doubled comes now.
            tokio::time::sleep(TICK * 2).await;
            return true;
        }
        if began.elapsed() > DRAIN || shared.faults.load(Ordering::Relaxed) > 0 {
            return false;
        }
    }
}

/// Notes what was lost, doubled or out of order.
pub(crate) fn check(
    shared: &Shared,
    outcomes: &[Outcome],
    complete: bool,
    echoes: bool,
    report: &mut Report,
) {
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let sent: HashMap<u32, u32> = outcomes.iter().map(|o| (o.number, o.sent)).collect();
    report.faults.extend(outcomes.iter().flat_map(|o| o.faults.iter().cloned()).take(FAULTS_TOLD));
    for outcome in outcomes {
        for (sender, &received) in &outcome.received {
            let sent = sent.get(sender).copied().unwrap_or(0);
            if received != sent {
                report.fault(format!(
                    "session {} has {received} of {sent} messages of session {sender}",
                    outcome.number
                ));
            }
        }
    }
    let total = load(&shared.sent);
    let wanted = load(&shared.due);
    let echoed = if echoes { total } else { 0 };
    for (what, count, wanted) in [
        ("acknowledged", load(&shared.acknowledged), total),
        ("delivered", load(&shared.delivered), wanted),
        ("pushed back to the sender", load(&shared.echoed), echoed),
    ] {
        if count != wanted {
            report.fault(format!("{count} {what} instead of {wanted}"));
        }
    }
    if !complete && report.faults.is_empty() {
        report.fault("not everything arrived in time".to_owned());
    }
    report.number("messages checked", load(&shared.delivered) as f64, "");
}
