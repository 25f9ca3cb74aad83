//! Pairs of users who chat: one of each writes to the other.

use std::fmt;

use anyhow::ensure;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc;

use super::drive::{Pace, Shared, Sizes, Work};
use super::openim::{Client, Login};
use super::pacer;
use super::peer::To;
use super::report::Report;
use super::run::{Cast, Span, run};
use super::stage::Stage;
use super::target::Target;
use super::text::Texts;
use super::{population, source};
use crate::{Result, Wire};

/// Handshakes under way at the same time.
pub(crate) const HANDSHAKES: usize = 64;

/// How the senders of a chat send.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Loop {
    /// So many messages of each wait for their acknowledgement.
    Closed(usize),
    /// So many messages a second in all.
    Open(u32),
}

impl fmt::Display for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(window) => write!(f, "closed loop, {window} at once each"),
            Self::Open(rate) => write!(f, "{rate}/s"),
        }
    }
}

/// Runs a chat of many pairs.
pub(crate) async fn chat(
    stage: &Stage<'_>,
    pace: Loop,
    sizes: Sizes,
    mut report: Report,
) -> Result<Report> {
    let Stage { target, options, progress } = stage;
    ensure!(options.pairs > 0, "there must be at least one pair");
    stage.says("registering users");
    let users = population::settle(target, options.pairs * 2).await?;
    stage.says("connecting");
    let clients = connect(target, &users, options.wire()).await?;
    let shared = Shared::new(options.messages);
    let texts = Texts::new(1);
    let mut arrivals = Vec::new();
    let mut sessions = Vec::with_capacity(clients.len());
    // Users 2n and 2n + 1 are a pair; the even one writes.
    for (number, client) in (0_u32..).zip(clients) {
        let other = &users[number as usize ^ 1];
        let pace = match pace {
            _ if number % 2 == 1 => Pace::Silent,
            Loop::Closed(window) => Pace::Window(window),
            Loop::Open(_) => {
                let (tell, told) = mpsc::unbounded_channel();
                arrivals.push(tell);
                Pace::Arrivals(told)
            }
        };
        let to = To::User(other.user_id.clone());
        let texts = texts.fork(number.into());
        sessions.push((client, Work { number, to, reaches: 1, pace, sizes, texts }));
    }
    let pacer = match pace {
        Loop::Open(rate) => Some(pacer::start(rate, arrivals, shared.clone())),
        Loop::Closed(_) => None,
    };
    let cast = Cast { sessions, shared };
    run(target, cast, Span::of(options), progress, &mut report).await?;
    pacer::join(pacer)?;
    Ok(report)
}

/// Logs all users in.
pub(crate) async fn connect(target: &Target, users: &[Login], wire: Wire) -> Result<Vec<Client>> {
    stream::iter(users.iter().enumerate())
        .map(|(at, login)| Client::connect(target.gateway, login, wire, source(at)))
        .buffered(HANDSHAKES)
        .try_collect()
        .await
}
