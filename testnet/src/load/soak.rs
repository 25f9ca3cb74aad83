//! A long run at half of what the node can do, while clients come and go and members of a group
//! change: memory, descriptors and tasks must stay where they are, latency too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::chat::{self, Loop};
use super::drive::Sizes;
use super::openim::{Client, Login};
use super::report::{Report, Series};
use super::run::Span;
use super::stage::Stage;
use super::steady::Steady;
use super::target::Target;
use super::usage::Condition;
use super::windows::{Window, median};
use super::{population, pull};
use crate::Result;

/// Clients that come and go, and how long they stay and stay away.
const ROAMERS: usize = 50;
const STAY: Duration = Duration::from_millis(1_500);
const AWAY: Duration = Duration::from_millis(500);
/// Members who come and go in the group, and the pause between two changes.
const COMING: usize = 20;
const CHANGE: Duration = Duration::from_millis(250);
/// Time in which caches fill, before anything is compared; a share of the run.
const SETTLES: f64 = 0.25;
/// Shares of the capacity that are tried, how long each, and the median latency in milliseconds
/// with which the node keeps up.
const SHARES: [f64; 8] = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2];
const TRIED: Duration = Duration::from_secs(8);
const KEEPS_UP_MS: f64 = 10.0;
/// Most that a mean may differ between the first and the last third of what is compared.
const DRIFT: f64 = 0.03;
/// Growth of memory in MiB that is noise.
const NOISE_MIB: f64 = 4.0;
/// Most by which p99 may grow, and what is noise in milliseconds.
const CREEP: f64 = 1.25;
const NOISE_MS: f64 = 2.0;

/// How long a node that has just started is watched, as a share of the run, where latency crept.
const CONTROL: f64 = 0.4;

/// A moment of a run: seconds since its start, how the node did, latencies since the moment before.
type Moment = (f64, Condition, Window);

/// Runs it.
///
/// Where latency crept, a node that has just started does the same work at the end: what it is slow
/// at too is the machine's doing, which others may use meanwhile.
pub(crate) async fn soak(stage: &Stage<'_>) -> Result<Report> {
    let Stage { target, options, .. } = stage;
    let capacity = sustained(stage).await?;
    let rate = capacity / 2;
    let seconds = options.soak.max(30);
    let mut report = Report::new(format!("{seconds} s at {rate}/s, half of capacity"), target);
    report.number("capacity", capacity.into(), "/s");
    let seen = work(stage, rate, Duration::from_secs(seconds), &mut report).await?;
    let crept = compare(&seen, &mut report);
    if crept.is_empty() {
        return Ok(report);
    }
    let fresh = Target::node(options).await?;
    let control = Stage { target: &fresh, ..*stage };
    let mut beside = Report::new("control", &fresh);
    let span = Duration::from_secs(seconds).mul_f64(CONTROL);
    let seen = work(&control, rate, span, &mut beside).await?;
    report.faults.extend(beside.faults);
    for (name, before, after, of) in crept {
        let now = median(settled(&seen).iter().map(|(_, _, window)| of(window)));
        report.number(&format!("{name}, a fresh node at the end"), now, "ms");
        if creeps(now, after) {
            report.fault(format!(
                "{name} crept from {before:.2} to {after:.2} ms, a fresh node has {now:.2} ms"
            ));
        }
    }
    fresh.stop().await?;
    Ok(report)
}

/// Messages at a fixed rate, clients that come and go, a group that changes.
async fn work(
    stage: &Stage<'_>,
    rate: u32,
    span: Duration,
    report: &mut Report,
) -> Result<Vec<Moment>> {
    let Stage { target, options, progress } = stage;
    let users = population::settle(target, options.pairs * 2).await?;
    let steady = Steady::start(stage, &users, rate).await?;
    let stop = CancellationToken::new();
    let mut churn = JoinSet::new();
    let roamers = population::settle(target, ROAMERS).await?;
    for (at, login) in roamers.into_iter().enumerate() {
        let (gateway, wire) = (target.gateway, options.wire());
        let first = AWAY.mul_f64(at as f64 / ROAMERS as f64 * 4.0);
        let roam = roam(gateway, wire, login, first);
        churn.spawn(until(stop.clone(), roam));
    }
    churn.spawn(until(stop.clone(), change_group(stage).await?));
    let step = (span / 180).max(Duration::from_secs(1));
    let began = Instant::now();
    let mut seen = Vec::new();
    progress.set_length(span.as_secs());
    steady.turn();
    while began.elapsed() < span {
        tokio::time::sleep(step).await;
        let condition = target.condition()?.context("its process is not known")?;
        let window = steady.turn();
        seen.push((began.elapsed().as_secs_f64(), condition, window));
        progress.set_position(began.elapsed().as_secs());
        progress.set_message(format!(
            "{} MiB, p99 {:.1} ms",
            condition.resident / 1_048_576,
            window.p99
        ));
        while let Some(ended) = churn.try_join_next() {
            ended??;
        }
    }
    report.seconds = began.elapsed().as_secs_f64();
    report.number("acknowledged", steady.acknowledged() as f64 / report.seconds, "/s");
    stop.cancel();
    while let Some(ended) = churn.join_next().await {
        ended??;
    }
    steady.end(report).await?;
    Ok(seen)
}

/// What the node can do at a fixed rate: the greatest share of what it can do at its own pace that
/// it delivers without falling behind.
///
/// A fixed rate costs more for each message, for fewer of them share a write.
async fn sustained(stage: &Stage<'_>) -> Result<u32> {
    let most = capacity(stage).await?;
    let users = population::settle(stage.target, stage.options.pairs * 2).await?;
    for share in SHARES {
        let rate = (most * share) as u32;
        let steady = Steady::start(stage, &users, rate).await?;
        tokio::time::sleep(TRIED / 2).await;
        steady.turn();
        tokio::time::sleep(TRIED / 2).await;
        let window = steady.turn();
        let mut tried = Report::new("sustained", stage.target);
        steady.end(&mut tried).await?;
        ensure!(tried.faults.is_empty(), "{:?}", tried.faults);
        if window.p50 <= KEEPS_UP_MS {
            return Ok(rate);
        }
    }
    bail!("it falls behind at any rate that was tried");
}

/// What the node can do: messages a second that pairs send as fast as they are acknowledged.
pub(super) async fn capacity(stage: &Stage<'_>) -> Result<f64> {
    let closed = Loop::Closed(1);
    let mut report = Report::new("capacity", stage.target);
    let fixed = Sizes::Fixed(stage.options.content);
    let span = Span { warm_up: Duration::from_secs(2), measured: Duration::from_secs(6) };
    report = chat::chat_for(stage, closed, fixed, span, report).await?;
    ensure!(report.faults.is_empty(), "{:?}", report.faults);
    report.value("acknowledged").context("nothing was acknowledged")
}

async fn until<F>(stop: CancellationToken, work: F) -> Result
where
    F: Future<Output = Result>,
{
    stop.run_until_cancelled(work).await.unwrap_or(Ok(()))
}

/// Comes, fetches what is new, goes, again and again.
async fn roam(
    gateway: std::net::SocketAddr,
    wire: crate::Wire,
    login: Login,
    first: Duration,
) -> Result {
    tokio::time::sleep(first).await;
    loop {
        let mut client = Client::connect(gateway, &login, wire, None).await?;
        pull::newest(&mut client, &login.user_id).await?;
        tokio::time::sleep(STAY).await;
        drop(client);
        tokio::time::sleep(AWAY).await;
    }
}

/// Makes a group; the work is to take members in and out.
async fn change_group(stage: &Stage<'_>) -> Result<impl Future<Output = Result> + use<>> {
    let target = stage.target;
    let admin = target.admin.clone().context("the relay has no groups")?;
    let owner = population::settle(target, 1).await?;
    let owner = owner.into_iter().next().context("no owner")?;
    let coming = population::names(COMING)?;
    population::register(target, &coming).await?;
    let rest = admin.client.rest.clone();
    let owner = crate::Client {
        rest,
        user_id: owner.user_id,
        platform_id: super::openim::PLATFORM,
        token: owner.token,
    };
    let body = json!({
        "ownerUserID": owner.user_id, "memberUserIDs": coming,
        "groupInfo": { "groupName": "soak", "groupType": 2 },
    });
    let made = owner.call("/group/create_group", body).await?;
    let group_id = made["groupInfo"]["groupID"].as_str().context("no groupID")?.to_owned();
    let owner = Arc::new(owner);
    Ok(async move {
        for user_id in coming.iter().cycle() {
            let body = json!({ "groupID": group_id, "kickedUserIDs": [user_id], "reason": "" });
            owner.call("/group/kick_group", body).await?;
            tokio::time::sleep(CHANGE).await;
            let body = json!({ "groupID": group_id, "invitedUserIDs": [user_id], "reason": "" });
            owner.call("/group/invite_user_to_group", body).await?;
            tokio::time::sleep(CHANGE).await;
        }
        Ok(())
    })
}

/// What came after the node had settled.
fn settled(seen: &[Moment]) -> &[Moment] {
    seen.get((seen.len() as f64 * SETTLES) as usize..).unwrap_or_default()
}

/// Whether a latency in milliseconds is more than noise above another.
fn creeps(before: f64, after: f64) -> bool {
    after > before * CREEP + NOISE_MS
}

/// How a number is read.
type OfCondition = fn(&Condition) -> f64;
type OfWindow = fn(&Window) -> f64;

/// A latency that crept: its name, its median in the first and in the last third, and how it is read.
type Crept = (&'static str, f64, f64, OfWindow);

/// Compares the first and the last third of what came after the node had settled; what drifted is a
/// fault, latencies that crept are returned.
fn compare(seen: &[Moment], report: &mut Report) -> Vec<Crept> {
    let compared = settled(seen);
    let third = (compared.len() / 3).max(1);
    let first = compared.get(..third).unwrap_or_default();
    let last = compared.get(compared.len().saturating_sub(third)..).unwrap_or_default();
    let mut series = |name: &str, unit, of: &dyn Fn(&Moment) -> f64| {
        let points = seen.iter().map(|moment| (moment.0, of(moment))).collect();
        report.series.push(Series { name: name.to_owned(), unit, points });
        let values = |of_third: &[Moment]| of_third.iter().map(of).collect::<Vec<_>>();
        (values(first), values(last))
    };
    let resources: [(_, _, OfCondition, _); 3] = [
        ("memory", "MiB", |c| c.resident as f64 / 1_048_576.0, NOISE_MIB),
        ("descriptors", "", |c| c.files as f64, 0.0),
        ("tasks", "", |c| c.tasks as f64, 0.0),
    ];
    let latencies: [(_, OfWindow); 2] =
        [("send to delivered, p99", |w| w.p99), ("send to delivered, p50", |w| w.p50)];
    let resources = resources.map(|(name, unit, of, noise)| {
        let (first, last) = series(name, unit, &|moment| of(&moment.1));
        (name, unit, noise, mean(&first), mean(&last))
    });
    let latencies = latencies.map(|(name, of)| {
        let (first, last) = series(name, "ms", &|moment| of(&moment.2));
        (name, median(first), median(last), of)
    });
    for (name, unit, noise, before, after) in resources {
        report.number(name, after, unit);
        let drift = after / before.max(f64::MIN_POSITIVE) - 1.0;
        report.number(&format!("{name}, drift"), drift * 100.0, "%");
        if drift > DRIFT && after - before > noise {
            report.fault(format!("{name} drifted from {before:.1} to {after:.1}"));
        }
    }
    for (name, before, after, _) in &latencies {
        report.number(&format!("{name}, first third"), *before, "ms");
        report.number(&format!("{name}, last third"), *after, "ms");
    }
    latencies.into_iter().filter(|(_, before, after, _)| creeps(*before, *after)).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
