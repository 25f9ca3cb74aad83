//! Pairs of users who chat: one of each writes to the other.

use std::fmt;

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc;

use super::drive::{Pace, Shared, Sizes, Work};
use super::openim::{Client, Login};
use super::pacer;
use super::peer::{Session, To};
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
    report: Report,
) -> Result<Report> {
    chat_for(stage, pace, sizes, Span::of(stage.options), report).await
}

/// As [`chat`], for another time.
pub(crate) async fn chat_for(
    stage: &Stage<'_>,
    pace: Loop,
    sizes: Sizes,
    span: Span,
    mut report: Report,
) -> Result<Report> {
    let Stage { target, options, .. } = stage;
    ensure!(options.pairs > 0, "there must be at least one pair");
    stage.says("registering users");
    let chat = Chat { stage, pace, sizes, span };
    if let Some(other) = target.as_other() {
        let users = population::names(options.pairs * 2)?;
        let clients = other.clients(&users).await?;
        chat.run(&users, clients, &mut report).await?;
        return Ok(report);
    }
    let users = population::settle(target, options.pairs * 2).await?;
    stage.says("connecting");
    let clients = connect(target, &users, options.wire()).await?;
    let users: Vec<String> = users.into_iter().map(|login| login.user_id).collect();
    chat.run(&users, clients, &mut report).await?;
    Ok(report)
}

/// A chat, whatever the clients speak.
struct Chat<'a, 'b> {
    stage: &'a Stage<'b>,
    pace: Loop,
    sizes: Sizes,
    span: Span,
}

impl Chat<'_, '_> {
    async fn run<S: Session>(
        &self,
        users: &[String],
        clients: Vec<S>,
        report: &mut Report,
    ) -> Result {
        let Stage { target, options, progress } = self.stage;
        let sizes = self.sizes;
        let shared = Shared::new(options.messages);
        let texts = Texts::new(1);
        let mut arrivals = Vec::new();
        let mut sessions = Vec::with_capacity(clients.len());
        // Users 2n and 2n + 1 are a pair; the even one writes.
        for (number, client) in (0_u32..).zip(clients) {
            let other = users.get(number as usize ^ 1).context("no partner")?;
            let pace = match self.pace {
                _ if number % 2 == 1 => Pace::Silent,
                Loop::Closed(window) => Pace::Window(window),
                Loop::Open(_) => {
                    let (tell, told) = mpsc::unbounded_channel();
                    arrivals.push(tell);
                    Pace::Arrivals(told)
                }
            };
            let to = To::User(other.clone());
            let texts = texts.fork(number.into());
            sessions.push((client, Work { number, to, reaches: 1, pace, sizes, texts }));
        }
        let pacer = match self.pace {
            Loop::Open(rate) => Some(pacer::start(rate, arrivals, shared.clone())),
            Loop::Closed(_) => None,
        };
        let cast = Cast { sessions, shared };
        run(target, cast, self.span, progress, report).await?;
        pacer::join(pacer)
    }
}

/// Logs all users in.
pub(crate) async fn connect(target: &Target, users: &[Login], wire: Wire) -> Result<Vec<Client>> {
    stream::iter(users.iter().enumerate())
        .map(|(at, login)| Client::connect(target.gateway, login, wire, source(at)))
        .buffered(HANDSHAKES)
        .try_collect()
        .await
}
