//! Two nodes that federate: what it costs to write to the other one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use indicatif::ProgressBar;
use proto::sdkws::{PullMessageBySeqsReq, PullMessageBySeqsResp, SeqRange};
use serde_json::json;
use tokio::sync::mpsc;

use super::catch_up::long;
use super::chat::{Loop, chat, connect};
use super::drive::{Pace, Shared, Sizes, Work};
use super::openim::{Client, PLATFORM, PULL};
use super::options::Options;
use super::peer::To;
use super::report::Report;
use super::run::{Cast, Span, run};
use super::stage::{Stage, progress};
use super::target::Target;
use super::text::Texts;
use super::{group, pacer, population, pull};
use crate::Result;
use crate::link::Link;
use crate::organisations::{ELSEWHERE, Organisation, elsewhere, federation};
use crate::upload::upload;

/// Messages a second at which latencies are compared.
const RATE: u32 = 200;
/// Pairs who chat where latencies are compared.
const PAIRS: usize = 100;
/// Messages of one sender that wait for their acknowledgement, where as many as possible are sent.
const WINDOW: usize = 16;
/// Messages of the newest page of a chat, as the apps ask.
const PAGE: i64 = 20;
/// How long the way is cut while a file is fetched: the connection ends, the fetching does not.
const CUT: Duration = Duration::from_secs(15);
/// Longest time for anything to arrive.
const PATIENCE: Duration = Duration::from_secs(300);

/// Lets two nodes do what they can, not what one lets the other do.
const NO_BUDGETS: [(&str, &str); 4] = [
    ("ENTENTE_FEDERATION_EVENTS_PER_SECOND_EACH", "1000000"),
    ("ENTENTE_FEDERATION_EVENT_BYTES_PER_SECOND_EACH", "2000000000"),
    ("ENTENTE_FEDERATION_EVENTS_PER_SECOND", "1000000"),
    ("ENTENTE_FEDERATION_EVENT_BYTES_PER_SECOND", "2000000000"),
];

/// Two nodes, and what is between them.
pub(super) struct Sides<'a> {
    pub(super) here: Target,
    pub(super) there: Target,
    pub(super) domain_here: String,
    pub(super) domain_there: String,
    /// Where the node here listens for others.
    pub(super) federation_here: SocketAddr,
    /// The way from there to here, which counts what goes over it.
    back: Arc<Link>,
    /// The way from here to there.
    forth: Arc<Link>,
    options: &'a Options,
    progress: &'a ProgressBar,
}

/// Runs everything, one after the other, on two nodes.
pub(crate) async fn between(options: &Options) -> Result<Vec<Report>> {
    let progress = progress("between");
    let mut reports = latencies(options, &progress).await?;
    reports.push(rate(options, &progress).await?);
    reports.push(catch_up(options, &progress).await?);
    reports.push(large_group(options, &progress).await?);
    reports.push(file(options, &progress).await?);
    progress.finish_and_clear();
    Ok(reports)
}

impl<'a> Sides<'a> {
    /// Two nodes that trust each other, `counted` behind relays that count.
    pub(super) async fn start(
        options: &'a Options,
        progress: &'a ProgressBar,
        budgets: &[(&str, &str)],
        counted: bool,
    ) -> Result<Self> {
        progress.set_message("starting two nodes");
        let mut variables =
            vec![("ENTENTE_LOG_LEVEL", "error"), ("ENTENTE_WS_MAX_CONNECTIONS", "200000")];
        variables.extend(budgets);
        if counted {
            variables.push(ELSEWHERE);
        }
        let mut sides = Vec::new();
        for index in 0..2 {
            sides.push(Organisation::prepare(&options.server, index, &variables).await?);
        }
        let [mut one, mut other] =
            <[_; 2]>::try_from(sides).map_err(|_| anyhow::anyhow!("two nodes were prepared"))?;
        let (forth, back) = if counted {
            (one.pin_through_relay(&other).await?, other.pin_through_relay(&one).await?)
        } else {
            one.pin(&other, other.address.port()).await?;
            other.pin(&one, one.address.port()).await?;
            (Arc::default(), Arc::default())
        };
        let federation_here = one.address;
        one.node.launch().await?;
        other.node.launch().await?;
        Ok(Self {
            here: Target::of("here", one.node).await?,
            there: Target::of("there", other.node).await?,
            domain_here: one.domain,
            domain_there: other.domain,
            federation_here,
            back,
            forth,
            options,
            progress,
        })
    }

    pub(super) fn stage(&self) -> Stage<'_> {
        Stage { target: &self.here, options: self.options, progress: self.progress }
    }

    /// Pairs of whom one is here and writes, and the other there.
    async fn pairs(&self, pairs: usize, pace: Loop, span: Span, report: &mut Report) -> Result {
        self.progress.set_message("registering users");
        let wire = self.options.wire();
        let writers = population::settle(&self.here, pairs).await?;
        let readers = population::settle(&self.there, pairs).await?;
        self.progress.set_message("connecting");
        let at_writers = connect(&self.here, &writers, wire).await?;
        let at_readers = connect(&self.there, &readers, wire).await?;
        let shared = Shared::new(self.options.messages);
        let (texts, mut arrivals, mut sessions) = (Texts::new(1), Vec::new(), Vec::new());
        for (pair, (writer, reader)) in (0_u32..).zip(at_writers.into_iter().zip(at_readers)) {
            let other = &readers.get(pair as usize).context("no partner")?.user_id;
            let writes = match pace {
                Loop::Closed(window) => Pace::Window(window),
                Loop::Open(_) => {
                    let (tell, told) = mpsc::unbounded_channel();
                    arrivals.push(tell);
                    Pace::Arrivals(told)
                }
            };
            let to = To::User(elsewhere(other, &self.domain_there));
            for (number, client, pace) in
                [(pair * 2, writer, writes), (pair * 2 + 1, reader, Pace::Silent)]
            {
                let sizes = Sizes::Fixed(self.options.content);
                let texts = texts.fork(number.into());
                let to = to.clone();
                sessions.push((client, Work { number, to, reaches: 1, pace, sizes, texts }));
            }
        }
        let pacer = match pace {
            Loop::Open(rate) => Some(pacer::start(rate, arrivals, shared.clone())),
            Loop::Closed(_) => None,
        };
        run(&self.here, Cast { sessions, shared }, span, self.progress, report).await?;
        pacer::join(pacer)
    }

    pub(super) async fn stop(self) -> Result {
        self.here.stop().await?;
        self.there.stop().await
    }
}

/// The same work within a node and across.
async fn latencies(options: &Options, progress: &ProgressBar) -> Result<Vec<Report>> {
    let sides = Sides::start(options, progress, &NO_BUDGETS, false).await?;
    let pace = Loop::Open(RATE);
    let sizes = Sizes::Fixed(options.content);
    let few = Options { pairs: PAIRS, ..options.clone() };
    let stage = Stage { options: &few, ..sides.stage() };
    let name = |where_: &str| format!("1:1 {where_}, {PAIRS} pairs, {sizes}, {pace}");
    let local = Report::new(name("within a node"), &sides.here);
    let local = chat(&stage, pace, sizes, local).await?;
    let mut across = Report::new(name("across"), &sides.here);
    sides.pairs(PAIRS, pace, Span::of(options), &mut across).await?;
    let of = |report: &Report| {
        report.latencies.iter().find(|latency| latency.name == "send to delivered").cloned()
    };
    if let Some((within, beyond)) = of(&local).zip(of(&across)) {
        across.number("added, p50", beyond.p50 - within.p50, "ms");
        across.number("added, p99", beyond.p99 - within.p99, "ms");
    }
    sides.stop().await?;
    Ok(vec![local, across])
}

/// As many messages one way as possible.
async fn rate(options: &Options, progress: &ProgressBar) -> Result<Report> {
    let sides = Sides::start(options, progress, &NO_BUDGETS, false).await?;
    let pace = Loop::Closed(WINDOW);
    let name = format!("1:1 across, one way, {PAIRS} pairs, {} bytes, {pace}", options.content);
    let mut report = Report::new(name, &sides.here);
    sides.pairs(PAIRS, pace, Span::of(options), &mut report).await?;
    sides.stop().await?;
    Ok(report)
}

/// The other node is away while messages for it gather, and then comes back.
async fn catch_up(options: &Options, progress: &ProgressBar) -> Result<Report> {
    let mut sides = Sides::start(options, progress, &NO_BUDGETS, false).await?;
    let queued = options.queued;
    let mut report = Report::new(format!("a node comes back to {queued} events"), &sides.here);
    progress.set_message("registering users");
    let writers = population::settle(&sides.here, PAIRS).await?;
    let readers = population::settle(&sides.there, PAIRS).await?;
    let clients = connect(&sides.here, &writers, options.wire()).await?;
    // One message of each, so that the two nodes know the users of each other.
    let (shared, work) = (Shared::new(PAIRS as u64), long(options));
    let sessions = |clients: Vec<Client>, pace: fn() -> Pace| {
        let texts = Texts::new(1);
        let pairs = (0_u32..).zip(clients.into_iter().zip(&readers));
        let works = pairs.map(|(number, (client, reader))| {
            let to = To::User(elsewhere(&reader.user_id, &sides.domain_there));
            let (sizes, texts) = (Sizes::Fixed(options.content), texts.fork(number.into()));
            (client, Work { number, to, reaches: 0, pace: pace(), sizes, texts })
        });
        works.collect::<Vec<_>>()
    };
    let first = Cast { sessions: sessions(clients, || Pace::Once), shared };
    let mut writing = Report::new("writing", &sides.here);
    run(&sides.here, first, work, progress, &mut writing).await?;
    let code = sides.there.process()?.stop().await?;
    ensure!(code == Some(0), "the node ended with {code:?}");
    let clients = connect(&sides.here, &writers, options.wire()).await?;
    let many = || Pace::Window(WINDOW);
    let cast = Cast { sessions: sessions(clients, many), shared: Shared::new(queued) };
    run(&sides.here, cast, work, progress, &mut writing).await?;
    report.faults.append(&mut writing.faults);
    progress.set_message("coming back");
    let began = Instant::now();
    sides.there.process()?.launch().await?;
    let up = began.elapsed();
    loop {
        let peers = federation(sides.here.process()?, &["peers"]).await?;
        if peers["peers"][0]["queued"] == 0 {
            break;
        }
        ensure!(began.elapsed() < PATIENCE, "events are stuck: {peers}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seconds = (began.elapsed() - up).as_secs_f64();
    report.seconds = seconds;
    report.number("events", queued as f64 / seconds, "/s");
    report.number("start of the node", up.as_secs_f64() * 1_000.0, "ms");
    let mut arrived = 0;
    for reader in &readers {
        let mut client = Client::connect(sides.there.gateway, reader, options.wire(), None).await?;
        let newest = pull::newest(&mut client, &reader.user_id).await?.max_seqs;
        let chats = newest.iter().filter(|(id, _)| id.starts_with("si_"));
        arrived += chats.map(|(_, seq)| *seq).sum::<i64>().unsigned_abs();
    }
    if arrived != queued + PAIRS as u64 {
        report.fault(format!("{arrived} of {} messages arrived", queued + PAIRS as u64));
    }
    sides.stop().await?;
    Ok(report)
}

/// Somebody of another node enters a large group and reads what was said last.
async fn large_group(options: &Options, progress: &ProgressBar) -> Result<Report> {
    let sides = Sides::start(options, progress, &NO_BUDGETS, true).await?;
    let (members, messages) = (options.members, options.group_messages);
    let name = format!("entering a group of {members} with {messages} messages elsewhere");
    let mut report = Report::new(name, &sides.here);
    progress.set_message("making the group");
    let (group_id, users) = group::make(&sides.stage(), members, 1).await?;
    let clients = connect(&sides.here, &users, options.wire()).await?;
    let works = clients.into_iter().map(|client| {
        let (to, sizes) = (To::Group(group_id.clone()), Sizes::Fixed(options.content));
        let (pace, texts) = (Pace::Window(256), Texts::new(1));
        (client, Work { number: 0, to, reaches: 0, pace, sizes, texts })
    });
    let cast = Cast { sessions: works.collect(), shared: Shared::new(messages) };
    let mut writing = Report::new("writing", &sides.here);
    run(&sides.here, cast, long(options), progress, &mut writing).await?;
    report.faults.append(&mut writing.faults);

    progress.set_message("entering");
    let newcomer = population::settle(&sides.there, 1).await?;
    let login = newcomer.first().context("nobody enters")?;
    let mut client = Client::connect(sides.there.gateway, login, options.wire(), None).await?;
    let admin = sides.here.admin.as_ref().context("no admin")?;
    let invited = elsewhere(&login.user_id, &sides.domain_there);
    // The two nodes know each other by then.
    admin.client.call("/user/get_users_info", json!({ "userIDs": [invited] })).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = sides.back.bytes() + sides.forth.bytes();
    let began = Instant::now();
    let body = json!({ "groupID": group_id, "reason": "", "invitedUserIDs": [invited] });
    admin.client.call("/group/invite_user_to_group", body).await?;
    let chat = format!("sg_{}", elsewhere(&group_id, &sides.domain_here));
    let text = loop {
        ensure!(began.elapsed() < PATIENCE, "the newcomer reads nothing");
        let newest = pull::newest(&mut client, &login.user_id).await?.max_seqs;
        let Some(end) = newest.get(&chat).copied() else {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        };
        let begin = (end - PAGE + 1).max(1);
        let range = SeqRange { conversation_id: chat.clone(), begin, end, num: PAGE };
        let request = PullMessageBySeqsReq {
            user_id: login.user_id.clone(),
            seq_ranges: vec![range],
            order: 0,
        };
        let pulled: PullMessageBySeqsResp = client.call(PULL, &request).await?;
        let page = pulled.msgs.get(&chat).map(|page| page.msgs.as_slice()).unwrap_or_default();
        if let Some(message) = page.iter().rev().find(|message| message.content_type == 101) {
            break message.content.len();
        }
    };
    let took = began.elapsed();
    ensure!(text > 0, "the message is empty");
    let bytes = sides.back.bytes() + sides.forth.bytes() - before;
    report.seconds = took.as_secs_f64();
    report.number("invited to first message read", took.as_secs_f64() * 1_000.0, "ms");
    report.number("fetched", bytes as f64 / 1_024.0, "KiB");
    sides.stop().await?;
    Ok(report)
}

/// A file is fetched from the other node, whole and with a cut.
async fn file(options: &Options, progress: &ProgressBar) -> Result<Report> {
    let mut report = Report::default();
    for cut in [false, true] {
        // The relay that cuts is slower than the nodes.
        let sides = Sides::start(options, progress, &NO_BUDGETS, cut).await?;
        if !cut {
            report = Report::new(format!("a file of {} MiB across", options.file_mib), &sides.here);
        }
        progress.set_message("uploading");
        let users = population::settle(&sides.here, 1).await?;
        let user = &users.first().context("nobody uploads")?.user_id;
        let admin = sides.here.admin.as_ref().context("no admin")?;
        let content: Vec<u8> =
            (0..options.file_mib << 20).map(|at| (at >> 3) as u8 ^ at as u8).collect();
        let uploader = admin.client(user, PLATFORM).await?;
        let link = upload(&uploader, &format!("{user}/file"), "", &content).await?;
        let (_, path) = link.split_once("/object/").context("no link")?;
        let there = sides.there.admin.as_ref().context("no admin")?;
        let link = format!("{}/object/{path}", there.client.rest.api());
        let rest = there.client.rest.clone();
        progress.set_message("fetching");
        let before = sides.back.bytes() + sides.forth.bytes();
        let began = Instant::now();
        let fetching = tokio::spawn(async move { rest.http().get(link).send().await });
        if cut {
            let half = before + (content.len() / 2) as u64;
            while sides.back.bytes() + sides.forth.bytes() < half && !fetching.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            sides.back.set_cut(true);
            sides.forth.set_cut(true);
            tokio::time::sleep(CUT).await;
            sides.back.set_cut(false);
            sides.forth.set_cut(false);
        }
        let answer = fetching.await??;
        let took = began.elapsed().as_secs_f64();
        let Some(location) = answer.headers().get("location") else {
            let what = if cut { "the file, with a cut" } else { "the file" };
            report.fault(format!("{what}: {} {}", answer.status(), answer.text().await?));
            sides.stop().await?;
            continue;
        };
        let location = location.to_str()?;
        let whole = there.client.rest.http().get(location).send().await?.bytes().await?;
        if whole != content {
            report.fault("the content is another one".to_owned());
        }
        if cut {
            let bytes = (sides.back.bytes() + sides.forth.bytes() - before) as f64;
            report.number("bytes fetched with a cut", bytes / content.len() as f64, "× its size");
        } else {
            report.seconds = took;
            report.number("fetched", content.len() as f64 / 1e6 / took, "MB/s");
        }
        sides.stop().await?;
    }
    Ok(report)
}
