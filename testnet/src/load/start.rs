//! A node at rest: memory, size on disk and time to start, empty and with many messages stored.

use std::time::Duration;

use anyhow::Context as _;

use super::chat::connect;
use super::drive::{Pace, Shared, Sizes, Work};
use super::options::Options;
use super::peer::To;
use super::report::Report;
use super::run::{Cast, run};
use super::stage::Stage;
use super::target::Target;
use super::text::Texts;
use super::{catch_up, population};
use crate::Result;

/// Pairs that write.
const PAIRS: usize = 100;
/// Messages of each that wait for their acknowledgement.
const WINDOW: usize = 16;
/// Longest time to fill a node.
const FILLING: Duration = Duration::from_secs(4 * 3_600);
/// Time in which a node that started settles.
const SETTLES: Duration = Duration::from_secs(3);

/// Fills a node, kills it and starts it again, and stops it and starts it again.
pub(crate) async fn start(
    target: &mut Target,
    options: &Options,
    progress: &indicatif::ProgressBar,
) -> Result<Report> {
    let count = options.stored;
    let mut report = Report::new(format!("start with {count} messages stored"), target);
    let program = std::fs::metadata(&options.server)?.len();
    report.number("program", program as f64 / 1_048_576.0, "MiB");
    tokio::time::sleep(SETTLES).await;
    memory(target, &mut report, "memory, nothing stored")?;
    let stage = Stage { target, options, progress };
    stage.says("registering users");
    let users = population::settle(target, PAIRS * 2).await?;
    let clients = connect(target, &users, options.wire()).await?;
    let empty = target.stored()?.context("its data folder is not known")?;
    let shared = Shared::new(count);
    let texts = Texts::new(1);
    let mut sessions = Vec::new();
    for (number, client) in (0_u32..).zip(clients) {
        let other = users.get(number as usize ^ 1).context("no partner")?;
        let work = Work {
            number,
            to: To::User(other.user_id.clone()),
            reaches: 1,
            pace: if number % 2 == 0 { Pace::Window(WINDOW) } else { Pace::Silent },
            sizes: Sizes::Fixed(options.content),
            texts: texts.fork(number.into()),
        };
        sessions.push((client, work));
    }
    let mut filling = Report::new("filling", target);
    let span = super::run::Span { measured: FILLING, ..catch_up::long(options) };
    run(target, Cast { sessions, shared }, span, progress, &mut filling).await?;
    report.faults.append(&mut filling.faults);
    for name in ["acknowledged", "written for each"] {
        report.numbers.extend(filling.numbers.iter().filter(|n| n.name == name).cloned());
    }
    tokio::time::sleep(SETTLES).await;
    memory(target, &mut report, "memory after writing")?;
    progress.set_message("killing");
    let started = target.kill_and_start().await?;
    report.number("start after a kill", started.as_secs_f64() * 1_000.0, "ms");
    progress.set_message("starting again");
    let started = target.restart().await?;
    report.number("start to first answer", started.as_secs_f64() * 1_000.0, "ms");
    let stored = target.stored()?.unwrap_or_default().saturating_sub(empty);
    let each = stored as f64 / count as f64;
    report.number("on disk per message", each, "bytes");
    report.number("on disk, times the content", each / options.content as f64, "");
    tokio::time::sleep(SETTLES).await;
    memory(target, &mut report, "memory after starting again")?;
    Ok(report)
}

fn memory(target: &Target, report: &mut Report, name: &str) -> Result {
    if let Some(usage) = target.usage()? {
        report.number(name, usage.resident as f64 / 1_048_576.0, "MiB");
    }
    Ok(())
}
