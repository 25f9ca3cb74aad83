//! Connections that do nothing but keep themselves alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::chat::HANDSHAKES;
use super::openim::Client;
use super::peer::Session as _;
use super::report::{Cost, Report};
use super::stage::Stage;
use super::{population, possible, source};
use crate::Result;

/// Time between two heartbeats of the native SDK.
const HEARTBEAT: Duration = Duration::from_secs(24);
/// Longer than a node waits for a client that says nothing.
const HELD: Duration = Duration::from_secs(35);

/// Opens many connections, holds them, and says what each costs.
pub(crate) async fn idle(stage: &Stage<'_>) -> Result<Report> {
    let Stage { target, options, progress } = stage;
    let count = possible(options.connections);
    let mut report = Report::new(format!("{count} idle connections"), target);
    stage.says("registering users");
    let users = population::settle(target, count).await?;
    // What the node remembers of registering is not the price of a connection.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = target.usage()?;
    stage.says("connecting");
    progress.set_length(count as u64);
    let began = Instant::now();
    let mut clients = Vec::with_capacity(count);
    let mut connecting = stream::iter(users.iter().enumerate())
        .map(|(at, login)| Client::connect(target.gateway, login, options.wire(), source(at)))
        .buffer_unordered(HANDSHAKES);
    while let Some(client) = connecting.next().await {
        match client {
            Ok(client) => clients.push(client),
            Err(error) => report.fault(format!("{error:#}")),
        }
        progress.inc(1);
    }
    drop(connecting);
    let connected = clients.len() as f64;
    report.number("connected", connected, "");
    report.number("connected per second", connected / began.elapsed().as_secs_f64(), "/s");
    let after = target.usage()?;

    let (end, lost) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for (at, mut client) in clients.into_iter().enumerate() {
        // Spread over the time between two, as clients who came at different times are.
        let first = HEARTBEAT.mul_f64((at % 1_000) as f64 / 1_000.0);
        let (end, lost) = (end.clone(), Arc::clone(&lost));
        tasks.spawn(async move {
            let alive = async {
                let mut timer = tokio::time::interval_at(Instant::now() + first, HEARTBEAT);
                loop {
                    tokio::select! {
                        _ = timer.tick() => client.ping().await?,
                        event = client.next() => drop(event?),
                    }
                }
            };
            let alive: Option<Result> = end.run_until_cancelled(alive).await;
            if alive.is_some() {
                lost.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let cost = Cost::now(target)?;
    let held = Instant::now();
    progress.set_length(HELD.as_secs());
    while held.elapsed() < HELD {
        tokio::time::sleep(Duration::from_millis(500)).await;
        progress.set_position(held.elapsed().as_secs());
        progress.set_message(format!("{} lost", lost.load(Ordering::Relaxed)));
    }
    Cost::now(target)?.since(&cost).tell(held.elapsed().as_secs_f64(), 0.0, &mut report);
    if let (Some(before), Some(after), Some(now)) = (before, after, target.usage()?)
        && connected > 0.0
    {
        let each = |resident: u64| resident.saturating_sub(before.resident) as f64 / connected;
        report.number("memory per connection, connected", each(after.resident) / 1_024.0, "KiB");
        report.number("memory per idle connection", each(now.resident) / 1_024.0, "KiB");
    }
    report.seconds = held.elapsed().as_secs_f64();
    let lost = lost.load(Ordering::Relaxed);
    if lost > 0 {
        report.fault(format!("{lost} connections were lost"));
    }
    end.cancel();
    while tasks.join_next().await.is_some() {}
    Ok(report)
}
