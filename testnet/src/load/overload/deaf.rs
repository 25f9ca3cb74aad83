//! Clients who log in, are sent a lot and never read.

use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::Result;
use crate::load::chat::connect;
use crate::load::group;
use crate::load::marker::{Clock, Marker};
use crate::load::openim::Client;
use crate::load::peer::{Session as _, To};
use crate::load::report::Report;
use crate::load::stage::Stage;
use crate::load::text::Texts;

/// Groups of those who never read, and how many of them are in each.
const GROUPS: usize = 20;
const IN_EACH: usize = 50;
/// Those who never read.
pub(super) const CLIENTS: usize = GROUPS * IN_EACH;
/// How long they are written to.
pub(super) const LASTS: Duration = Duration::from_secs(30);
/// Bytes of a message to them, and the pause between two in one group.
const CONTENT: usize = 4_000;
const PAUSE: Duration = Duration::from_millis(40);
/// Bytes that their system takes for them.
const RECEIVE_BUFFER: u32 = 4_096;

pub(super) struct Deaf {
    clients: Vec<Client>,
    stop: CancellationToken,
    speakers: tokio::task::JoinHandle<Result<u32>>,
}

/// Puts them into groups and lets another member of each speak.
pub(super) async fn start(stage: &Stage<'_>) -> Result<Deaf> {
    let Stage { target, options, .. } = stage;
    let mut clients = Vec::with_capacity(CLIENTS);
    let mut speakers = Vec::with_capacity(GROUPS);
    for _ in 0..GROUPS {
        let (group_id, members) = group::make(stage, IN_EACH + 1, IN_EACH + 1).await?;
        let (speaker, deaf) = members.split_first().context("no members")?;
        for login in deaf {
            let buffer = Some(RECEIVE_BUFFER);
            let client =
                Client::connect_with(target.gateway, login, options.wire(), None, buffer).await?;
            clients.push(client);
        }
        let speaker = connect(target, std::slice::from_ref(speaker), options.wire()).await?;
        speakers.extend(speaker.into_iter().map(|speaker| (To::Group(group_id.clone()), speaker)));
    }
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let speakers = tokio::spawn(async move {
        let (clock, mut texts) = (Clock::start(), Texts::new(3));
        let mut number = 0;
        while !stopped.is_cancelled() {
            for (to, speaker) in &mut speakers {
                let marker = Marker { sender: u32::MAX >> 4, number, due: clock.now() };
                speaker.feed(to, marker, &texts.content(CONTENT)).await?;
                speaker.flush().await?;
                tokio::time::sleep(PAUSE / GROUPS as u32).await;
                while let Some(event) = speaker.ready() {
                    event?;
                }
            }
            number += 1;
        }
        Ok(number)
    });
    Ok(Deaf { clients, stop, speakers })
}

impl Deaf {
    pub(super) async fn end(self, report: &mut Report) -> Result {
        self.stop.cancel();
        let said = self.speakers.await??;
        let mut ended = 0_u32;
        for mut client in self.clients {
            // What the system has taken for it is read; then comes the end, or nothing more.
            let to_the_end = async { while client.next().await.is_ok() {} };
            let ends = tokio::time::timeout(Duration::from_millis(500), to_the_end).await;
            ended += u32::from(ends.is_ok());
        }
        report.number("messages to each of them", f64::from(said), "");
        report.number("ended by the node", f64::from(ended), "");
        if ended < CLIENTS as u32 {
            report.fault(format!("{} of them are still connected", CLIENTS as u32 - ended));
        }
        Ok(())
    }
}
