//! More than a node can do: well-behaved users must hardly notice, memory must stay bounded, and
//! all must be well again soon after.

mod deaf;
mod flood;
mod half_open;

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::report::{Report, Series};
use super::stage::Stage;
use super::steady::Steady;
use super::windows::Window;
use super::{population, soak};
use crate::Result;
use flood::Flood;

/// Pairs of well-behaved users, and messages they send a second in all.
const PAIRS: usize = 100;
const RATE: u32 = 100;
/// Clients who send as fast as they can.
const FLOODERS: usize = 200;
/// How many times the capacity they offer.
const TIMES: f64 = 10.0;
/// Time to look at a node that is left in peace.
const CALM: Duration = Duration::from_secs(15);
/// Time after which all must be as before.
const RECOVERS: Duration = Duration::from_secs(5);
/// Most that the p99 of the well-behaved may grow.
const GROWTH: f64 = 5.0;
/// Memory that the node must not exceed, in MiB.
const CEILING_MIB: f64 = 512.0;
/// Time between two looks.
const TICK: Duration = Duration::from_secs(1);

/// Runs it; a report for each kind of trouble.
pub(crate) async fn overload(stage: &Stage<'_>) -> Result<Vec<Report>> {
    let target = stage.target;
    let capacity = soak::capacity(stage).await?;
    stage.says("registering users");
    let good = population::settle(target, PAIRS * 2).await?;
    let flooders = population::settle(target, FLOODERS).await?;
    let mut watch = Watch { stage, steady: Steady::start(stage, &good, RATE).await? };
    let flood = Duration::from_secs(stage.options.flood.max(5));
    let mut reports = Vec::new();

    let one: Vec<_> = flooders.iter().take(2).cloned().collect();
    for (name, users) in [("one client floods", one), ("ten times the capacity", flooders)] {
        let mut report = Report::new(format!("{name}, {} clients", users.len()), target);
        let offered = capacity * TIMES;
        let seconds = if users.len() > 2 { flood } else { flood / 4 };
        report.number("capacity", capacity, "/s");
        report.number("offered", offered, "/s");
        watch.calm(&mut report).await?;
        let flood = Flood::start(stage, users, offered)?;
        let began = Instant::now();
        watch.trouble(&mut report, seconds).await?;
        flood.end(began.elapsed().as_secs_f64(), &mut report)?;
        watch.after(&mut report).await?;
        reports.push(report);
    }

    let mut report = Report::new(format!("{} clients never read", deaf::CLIENTS), target);
    watch.calm(&mut report).await?;
    let deaf = deaf::start(stage).await?;
    watch.trouble(&mut report, deaf::LASTS).await?;
    deaf.end(&mut report).await?;
    watch.after(&mut report).await?;
    reports.push(report);

    let mut report = Report::new(format!("{} handshakes never end", half_open::CLIENTS), target);
    watch.calm(&mut report).await?;
    let half_open = half_open::start(target.gateway);
    watch.trouble(&mut report, half_open::LASTS).await?;
    half_open.end(&mut report).await?;
    watch.after(&mut report).await?;
    if let Some(first) = reports.first_mut() {
        watch.steady.end(first).await?;
    }
    reports.push(report);
    Ok(reports)
}

/// The well-behaved users and the node's memory.
pub(super) struct Watch<'a, 'b> {
    pub(super) stage: &'a Stage<'b>,
    pub(super) steady: Steady,
}

impl Watch<'_, '_> {
    /// Looks for some time; returns the latencies of all of it and the largest memory in MiB.
    pub(super) async fn look(
        &mut self,
        report: &mut Report,
        what: &str,
        span: Duration,
    ) -> Result<(Window, f64)> {
        self.steady.turn();
        self.steady.end_of_phase();
        let [mut memory, mut latency] = [("memory", "MiB"), ("well-behaved, p99", "ms")]
            .map(|(name, unit)| Series { name: name.to_owned(), unit, points: Vec::new() });
        let offset = report.series.first().and_then(|series| series.points.last());
        let offset = offset.map_or(0.0, |(at, _)| *at);
        let began = Instant::now();
        let mut most: f64 = 0.0;
        self.stage.progress.set_length(span.as_secs());
        while began.elapsed() < span {
            tokio::time::sleep(TICK.min(span.saturating_sub(began.elapsed()))).await;
            let condition = self.stage.target.condition()?.context("its process is not known")?;
            let window = self.steady.turn();
            let mib = condition.resident as f64 / 1_048_576.0;
            let at = offset + began.elapsed().as_secs_f64();
            memory.points.push((at, mib));
            latency.points.push((at, window.p99));
            most = most.max(mib);
            self.stage.progress.set_position(began.elapsed().as_secs());
            self.stage
                .progress
                .set_message(format!("{what}: {mib:.0} MiB, p99 {:.1} ms", window.p99));
        }
        if report.series.is_empty() {
            report.series = vec![memory, latency];
        } else {
            for (series, more) in report.series.iter_mut().zip([memory, latency]) {
                series.points.extend(more.points);
            }
        }
        Ok((self.steady.end_of_phase(), most))
    }

    pub(super) async fn calm(&mut self, report: &mut Report) -> Result {
        let (window, most) = self.look(report, "calm", CALM).await?;
        report.number("well-behaved before, p50", window.p50, "ms");
        report.number("well-behaved before, p99", window.p99, "ms");
        report.number("server memory before", most, "MiB");
        Ok(())
    }

    async fn trouble(&mut self, report: &mut Report, span: Duration) -> Result {
        let (window, most) = self.look(report, "trouble", span).await?;
        report.number("well-behaved meanwhile, p50", window.p50, "ms");
        report.number("well-behaved meanwhile, p99", window.p99, "ms");
        report.number("well-behaved meanwhile, max", window.max, "ms");
        report.number("server memory meanwhile, most", most, "MiB");
        let before = report.value("well-behaved before, p99").unwrap_or(0.0);
        let growth = window.p99 / before.max(f64::MIN_POSITIVE);
        report.number("growth of p99", growth, "×");
        if growth > GROWTH {
            report.fault(format!("p99 grew from {before:.2} to {:.2} ms", window.p99));
        }
        if most > CEILING_MIB {
            report.fault(format!("the node took {most:.0} MiB"));
        }
        Ok(())
    }

    pub(super) async fn after(&mut self, report: &mut Report) -> Result {
        tokio::time::sleep(RECOVERS).await;
        let (window, most) = self.look(report, "after", CALM).await?;
        report.number("well-behaved 5 s after, p99", window.p99, "ms");
        report.number("server memory after", most, "MiB");
        let before = report.value("well-behaved before, p99").unwrap_or(0.0);
        if window.p99 > before * 2.0 + 2.0 {
            report.fault(format!("p99 is {:.2} ms after, was {before:.2} ms", window.p99));
        }
        Ok(())
    }
}
