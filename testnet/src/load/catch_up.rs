//! Clients that were away: one conversation written as fast as it goes, then fetched.

use std::time::Instant;

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};

use super::chat::{HANDSHAKES, Loop, connect};
use super::drive::{Pace, Shared, Sizes, Work};
use super::latency::Percentiles;
use super::openim::Client;
use super::options::Options;
use super::peer::To;
use super::report::{Cost, Report};
use super::run::{Cast, Span, run};
use super::stage::Stage;
use super::text::Texts;
use super::{group, population, pull};
use crate::Result;

/// Messages of one sender that wait for their acknowledgement.
const WINDOW: usize = 256;
/// Clients that catch up at the same time.
const CLIENTS: usize = 20;
/// Messages written into one conversation as fast as they go.
const FLOOD: u64 = 5_000;

/// One conversation, 5,000 messages as fast as they go; all stored, in order.
pub(crate) async fn flood(stage: &Stage<'_>) -> Result<Report> {
    let Stage { target, options, .. } = stage;
    stage.says("registering users");
    let users = population::settle(target, 2).await?;
    let clients = connect(target, &users, options.wire()).await?;
    let [one, other] = users.as_slice() else { anyhow::bail!("two users were asked for") };
    let shared = Shared::new(FLOOD);
    let mut sessions = Vec::new();
    for (number, client) in (0_u32..).zip(clients) {
        let pace = if number == 0 { Pace::Window(WINDOW) } else { Pace::Silent };
        let to = To::User(other.user_id.clone());
        let sizes = Sizes::Fixed(options.content);
        let texts = Texts::new(u64::from(number) + 1);
        sessions.push((client, Work { number, to, reaches: 1, pace, sizes, texts }));
    }
    let pace = Loop::Closed(WINDOW);
    let mut report = Report::new(format!("one conversation, {FLOOD} messages, {pace}"), target);
    let span = Span { warm_up: std::time::Duration::ZERO, ..Span::of(options) };
    run(target, Cast { sessions, shared }, span, stage.progress, &mut report).await?;
    let mut client = Client::connect(target.gateway, other, options.wire(), None).await?;
    let conversation = format!("si_{}_{}", one.user_id, other.user_id);
    let stored = pull::whole(&mut client, &other.user_id, &conversation, FLOOD as usize).await;
    if let Err(error) = stored {
        report.fault(format!("{error:#}"));
    }
    Ok(report)
}

/// Clients that log in and fetch thousands of missed messages of a group.
pub(crate) async fn catch_up(stage: &Stage<'_>) -> Result<Report> {
    let Stage { target, options, .. } = stage;
    stage.says("making the group");
    let (group_id, users) = group::make(stage, CLIENTS + 1, CLIENTS + 1).await?;
    let missed = options.missed;
    stage.says("writing what they will miss");
    write(stage, &users, To::Group(group_id.clone())).await?;
    let name = format!("{CLIENTS} clients catch up with {missed} messages each");
    let mut report = Report::new(name, target);
    let conversation = format!("sg_{group_id}");
    let (before, began) = (Cost::now(target)?, Instant::now());
    stage.says("catching up");
    let conversation = conversation.as_str();
    let times: Vec<Result<u32>> = stream::iter(users.iter().skip(1))
        .map(|login| async move {
            let began = Instant::now();
            let mut client = Client::connect(target.gateway, login, options.wire(), None).await?;
            pull::whole(&mut client, &login.user_id, conversation, missed).await?;
            Ok(u32::try_from(began.elapsed().as_micros())?)
        })
        .buffer_unordered(HANDSHAKES)
        .collect()
        .await;
    let seconds = began.elapsed().as_secs_f64();
    report.seconds = seconds;
    let mut micros = Vec::new();
    for time in times {
        match time {
            Ok(time) => micros.push(time),
            Err(error) => report.fault(format!("{error:#}")),
        }
    }
    let fetched = (micros.len() * missed) as f64;
    report.number("messages fetched", fetched / seconds, "/s");
    Cost::now(target)?.since(&before).tell(seconds, fetched, &mut report);
    report.latencies.push(Percentiles::new("login to caught up", micros)?);
    Ok(report)
}

/// Has the first user write what the others will miss.
async fn write(stage: &Stage<'_>, users: &[super::openim::Login], to: To) -> Result {
    let Stage { target, options, .. } = stage;
    let writer = users.first().context("nobody writes")?;
    let client = Client::connect(target.gateway, writer, options.wire(), None).await?;
    let work = Work {
        number: 0,
        to,
        reaches: 0,
        pace: Pace::Window(WINDOW),
        sizes: Sizes::Fixed(options.content),
        texts: Texts::new(1),
    };
    let shared = Shared::new(options.missed as u64);
    let mut report = Report::new("writing", target);
    let span = long(options);
    run(target, Cast { sessions: vec![(client, work)], shared }, span, stage.progress, &mut report)
        .await?;
    anyhow::ensure!(report.faults.is_empty(), "writing failed: {:?}", report.faults);
    Ok(())
}

/// Time enough to send everything.
pub(crate) fn long(options: &Options) -> Span {
    let enough = std::time::Duration::from_secs(600);
    Span { warm_up: std::time::Duration::ZERO, measured: enough.max(options.measured()) }
}
