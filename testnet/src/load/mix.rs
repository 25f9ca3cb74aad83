//! Everything together: chats and groups at a fixed rate, and beside them typing, read receipts,
//! pages of history and REST reads.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use proto::msg::SendMsgResp;
use proto::sdkws::MsgData;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::chat::{Loop, connect};
use super::drive::{Pace, Shared, Sizes, Work};
use super::latency::Percentiles;
use super::openim::{Client, Login, PLATFORM, SEND};
use super::peer::{Session as _, To};
use super::report::Report;
use super::run::{Cast, Span, run};
use super::stage::Stage;
use super::text::Texts;
use super::{group, pacer, population, pull};
use crate::Result;

/// Groups, and members of each; two of them write.
const GROUPS: usize = 20;
const MEMBERS: usize = 20;
const WRITERS: usize = 2;
/// Clients that do each kind of thing beside chatting, and their pause between two.
const HELPERS: usize = 10;
const PAUSE: Duration = Duration::from_millis(100);
/// Content type of a typing notice.
const TYPING: i32 = 113;

/// What is done beside chatting.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Typing,
    MarkRead,
    History,
    UserInfo,
    Conversations,
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::Typing, "typing notice"),
    (Kind::MarkRead, "mark as read (REST)"),
    (Kind::History, "page of history"),
    (Kind::UserInfo, "user information (REST)"),
    (Kind::Conversations, "conversations (REST)"),
];

/// Runs the mix.
pub(crate) async fn mix(stage: &Stage<'_>) -> Result<Report> {
    let Stage { target, options, .. } = stage;
    let pairs = (options.pairs / 2).max(HELPERS);
    stage.says("registering users");
    let users = population::settle(target, pairs * 2).await?;
    let clients = connect(target, &users, options.wire()).await?;
    let shared = Shared::new(options.messages);
    let texts = Texts::new(1);
    let mut arrivals = Vec::new();
    let mut sessions: Vec<(Client, Work)> = Vec::new();
    let mut add = |client, writes, to, reaches| -> Result {
        let number = u32::try_from(sessions.len())?;
        let pace = if writes {
            let (tell, told) = mpsc::unbounded_channel();
            arrivals.push(tell);
            Pace::Arrivals(told)
        } else {
            Pace::Silent
        };
        let sizes = Sizes::Between(40, options.content.max(41) * 4);
        let texts = texts.fork(number.into());
        sessions.push((client, Work { number, to, reaches, pace, sizes, texts }));
        Ok(())
    };
    for (at, client) in clients.into_iter().enumerate() {
        let other = users.get(at ^ 1).context("no partner")?;
        add(client, at % 2 == 0, To::User(other.user_id.clone()), 1)?;
    }
    stage.says("making groups");
    for _ in 0..GROUPS {
        let (group_id, members) = group::make(stage, MEMBERS, MEMBERS).await?;
        let clients = connect(target, &members, options.wire()).await?;
        for (at, client) in clients.into_iter().enumerate() {
            add(client, at < WRITERS, To::Group(group_id.clone()), MEMBERS as u64 - 1)?;
        }
    }
    let pace = Loop::Open(options.rate);
    let name = format!("mix: {pairs} pairs, {GROUPS} groups of {MEMBERS}, {pace}");
    let mut report = Report::new(name, target);
    let mut helpers = JoinSet::new();
    for (which, (kind, _)) in KINDS.into_iter().enumerate() {
        for helper in 0..HELPERS {
            // Receivers of the first pairs.
            let me = users.get(helper * 2 + 1).context("no helper")?.clone();
            let other = users.get(helper * 2).context("no partner")?.clone();
            let client = Client::connect(target.gateway, &me, options.wire(), None).await?;
            let rest = target.admin.as_ref().context("the relay has no REST")?.client.rest.clone();
            let device = crate::Client {
                rest,
                user_id: me.user_id.clone(),
                platform_id: PLATFORM,
                token: me.token.clone(),
            };
            let helper = Helper { client, device, me, other };
            let shared = Arc::clone(&shared);
            helpers.spawn(async move { (which, helper.work(kind, &shared).await) });
        }
    }
    let pacer = pacer::start(options.rate, arrivals, Arc::clone(&shared));
    let cast = Cast { sessions, shared };
    run(target, cast, Span::of(options), stage.progress, &mut report).await?;
    pacer::join(Some(pacer))?;
    let mut micros = KINDS.map(|_| Vec::new());
    while let Some(helped) = helpers.join_next().await {
        let (which, times) = helped?;
        match times {
            Ok(times) => micros.get_mut(which).into_iter().for_each(|all| all.extend(&times)),
            Err(error) => report.fault(format!("{error:#}")),
        }
    }
    for ((_, name), micros) in KINDS.into_iter().zip(micros) {
        report.latencies.push(Percentiles::new(name, micros)?);
    }
    Ok(report)
}

/// A second connection of a user, and its REST client.
struct Helper {
    client: Client,
    device: crate::Client,
    me: Login,
    other: Login,
}

impl Helper {
    /// Does one kind of thing again and again until nobody sends any more.
    async fn work(mut self, kind: Kind, shared: &Shared) -> Result<Vec<u32>> {
        let mut micros = Vec::new();
        while !shared.sent_all.load(Ordering::Relaxed) {
            tokio::time::sleep(PAUSE).await;
            let began = Instant::now();
            self.act(kind).await.with_context(|| format!("{kind:?}"))?;
            micros.push(u32::try_from(began.elapsed().as_micros())?);
            while let Some(event) = self.client.ready() {
                event?;
            }
        }
        Ok(micros)
    }

    async fn act(&mut self, kind: Kind) -> Result {
        let (me, other) = (&self.me.user_id, &self.other.user_id);
        let conversation = format!("si_{other}_{me}");
        match kind {
            Kind::Typing => {
                let typing = MsgData {
                    send_id: me.clone(),
                    recv_id: other.clone(),
                    client_msg_id: format!("typing-{me}"),
                    sender_platform_id: PLATFORM,
                    session_type: 1,
                    msg_from: 100,
                    content_type: TYPING,
                    content: br#"{"msgTips":"yes"}"#.to_vec().into(),
                    options: [("history".to_owned(), false)].into(),
                    ..MsgData::default()
                };
                self.client.call::<SendMsgResp>(SEND, &typing).await?;
            }
            Kind::MarkRead => {
                let newest = pull::newest(&mut self.client, me).await?;
                let seq = newest.max_seqs.get(&conversation).copied().unwrap_or(0);
                if seq > 0 {
                    let body = json!({
                        "userID": me, "conversationID": conversation, "hasReadSeq": seq, "seqs": [],
                    });
                    self.device.call("/msg/mark_conversation_as_read", body).await?;
                }
            }
            Kind::History => {
                let newest = pull::newest(&mut self.client, me).await?;
                let end = newest.max_seqs.get(&conversation).copied().unwrap_or(0);
                if end > 0 {
                    let begin = (end - pull::PAGE + 1).max(1);
                    pull::range(&mut self.client, me, &conversation, begin, end).await?;
                }
            }
            Kind::UserInfo => {
                let body = json!({ "userIDs": [me, other] });
                self.device.call("/user/get_users_info", body).await?;
            }
            Kind::Conversations => {
                let body = json!({ "userID": me, "version": 0, "versionID": "" });
                self.device.call("/conversation/get_incremental_conversations", body).await?;
            }
        }
        Ok(())
    }
}
