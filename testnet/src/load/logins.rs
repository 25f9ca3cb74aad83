//! Logins at a fixed rate: token check, connection, first push.

use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::task::JoinSet;

use super::latency::Percentiles;
use super::marker::{Clock, Marker};
use super::openim::Client;
use super::peer::{Event, Session as _, To};
use super::report::{Cost, Report};
use super::stage::Stage;
use super::{population, source};
use crate::Result;

/// Longest wait for the first push.
const PATIENCE: Duration = Duration::from_secs(30);

/// Logs users in at a fixed rate. Each writes to itself at once, so that there is a first push.
pub(crate) async fn logins(stage: &Stage<'_>) -> Result<Report> {
    let Stage { target, options, progress } = stage;
    let rate = options.logins.max(1);
    let count = rate as usize * usize::try_from(options.measured().as_secs())?;
    let mut report = Report::new(format!("{rate} logins/s"), target);
    stage.says("registering users");
    let users = population::settle(target, count).await?;
    stage.says("logging in");
    progress.set_length(count as u64);
    let (clock, before) = (Clock::start(), Cost::now(target)?);
    let (gateway, wire) = (target.gateway, options.wire());
    let mut tasks = JoinSet::new();
    let step = 1e9 / f64::from(rate);
    for (number, login) in (0_u32..).zip(users) {
        let due = (f64::from(number) * step) as u64;
        tokio::time::sleep_until(clock.at(due).into()).await;
        progress.inc(1);
        tasks.spawn(async move {
            let once = async {
                let mut client =
                    Client::connect(gateway, &login, wire, source(number as usize)).await?;
                let connected = clock.now();
                let marker = Marker { sender: number, number: 0, due };
                let to = To::User(login.user_id.clone());
                client.feed(&to, marker, r#"{"content":"here I am"}"#).await?;
                client.flush().await?;
                let mut pushed = false;
                while !pushed {
                    match client.next().await? {
                        Event::Message { marker: seen, .. } => pushed = seen == marker,
                        Event::Acknowledged(_) => {}
                        Event::Refused(why) => anyhow::bail!("refused: {why}"),
                    }
                }
                // The client is kept: a node full of users is what the next ones come to.
                Result::Ok((due, connected, clock.now(), client))
            };
            tokio::time::timeout(PATIENCE, once).await?
        });
    }
    let (mut connected, mut pushed, mut held) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(ended) = tasks.join_next().await {
        match ended? {
            Ok((due, at, push, client)) => {
                connected.push(u32::try_from(at.saturating_sub(due) / 1_000)?);
                pushed.push(u32::try_from(push.saturating_sub(due) / 1_000)?);
                held.push(client);
            }
            Err(error) => report.fault(format!("{error:#}")),
        }
    }
    let seconds = Instant::now().duration_since(clock.at(0)).as_secs_f64();
    ensure!(seconds > 0.0, "no time has passed");
    report.seconds = seconds;
    report.number("logins", held.len() as f64 / seconds, "/s");
    Cost::now(target)?.since(&before).tell(seconds, held.len() as f64, &mut report);
    report.latencies.push(Percentiles::new("login to connected", connected)?);
    report.latencies.push(Percentiles::new("login to first push", pushed)?);
    Ok(report)
}
