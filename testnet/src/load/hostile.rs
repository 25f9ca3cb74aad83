//! Nodes that do not keep to the protocol, beside two that do: what these notice of it, and what
//! each of the others costs.
//!
//! Calm and attack alternate, for a machine is not as fast in one minute as in the next. The hostile
//! nodes stand for machines elsewhere: what they compute themselves gets only the time that the
//! well-behaved leave. They take up the machine all the same; so they attack a bystander too, a node
//! with which the others have nothing to do, and the two attacks are compared.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use federation::identity::Identity;
use federation::signed::Use;
use federation::transport::{Endpoint, Lane, Link, Quic, Transport as _};
use federation::{PublicKey, peer_id};
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use proto::federation::{
    Batch, BatchPayload, Event, EventKind, Frame, FriendRequest, GroupLogRequest, Hello,
    HistoryRequest, Profile, Request, frame, request,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;

use super::between::Sides;
use super::options::Options;
use super::overload::Watch;
use super::population;
use super::report::Report;
use super::stage::progress;
use super::steady::Steady;
use super::target::Target;
use super::windows::{Window, median};
use crate::organisations::{ELSEWHERE, Organisation, federation, multiaddr};
use crate::{Process, Result};

/// Pairs of well-behaved users across the two nodes, and their messages a second in all.
const PAIRS: usize = 100;
const RATE: u32 = 200;
/// Nodes of each kind.
const OF_EACH: usize = 2;
/// Streams that one of them tries to have open.
const STREAMS: usize = 5_000;
/// Pause between two things that one of them does.
const PAUSE: Duration = Duration::from_millis(10);
/// Friend requests in one batch.
const REQUESTS: usize = 20;
/// Largest growth of the p99 in percent, and memory of one of them in MiB.
const MOST_GROWTH: f64 = 10.0;
const MOST_MIB: f64 = 8.0;
/// Times that they are at it, how long each time, and how long it is calm before.
const ROUNDS: usize = 8;
const LASTS: Duration = Duration::from_secs(10);
/// Time after which what a round began with has passed.
const SETTLES: Duration = Duration::from_secs(1);
/// Whom they attack, in the order in which they learn of them.
const BYSTANDER: usize = 0;
const HERE: usize = 1;
/// The log of the bystander.
const QUIET: [(&str, &str); 1] = [("ENTENTE_LOG_LEVEL", "error")];
/// The epoch of their streams.
const EPOCH: u64 = 9;

type Frames = Framed<Box<dyn Link>, LengthDelimitedCodec>;

/// What a hostile node does.
#[derive(Debug, Clone, Copy)]
enum Does {
    /// Opens streams and says nothing.
    OpensStreams,
    /// Sends what is no frame, and frames that are too large.
    SendsGarbage,
    /// Sends batches that somebody else has signed.
    Forges,
    /// Sends friend requests and reads no acknowledgement.
    NeverReads,
    /// Asks for groups that it is not in.
    Pries,
}

const ALL: [Does; 5] =
    [Does::OpensStreams, Does::SendsGarbage, Does::Forges, Does::NeverReads, Does::Pries];

/// Runs it: one report.
pub(crate) async fn hostile(options: &Options) -> Result<Vec<Report>> {
    let progress = progress("hostile");
    let mut sides = Sides::start(options, &progress, &[], false).await?;
    progress.set_message("registering users");
    let writers = population::settle(&sides.here, PAIRS).await?;
    let readers = population::settle(&sides.there, PAIRS).await?;
    let mut peers: Vec<Mallory> = (0..ALL.len() * OF_EACH).map(Mallory::new).collect();
    let mut bystander = Organisation::prepare(&options.server, 2, &QUIET).await?;
    bystander.node.launch().await?;
    let (domain, address) = (bystander.domain, bystander.address);
    let mut bystander = Target::of("bystander", bystander.node).await?;
    let user = population::settle(&bystander, 1).await?;
    for mallory in &mut peers {
        let victim = user.first().context("nobody")?.user_id.clone();
        let bystander = bystander.process()?;
        mallory.aim(bystander, (&domain, address), &victim).await?;
        let victim = writers.first().context("nobody")?.user_id.clone();
        let (domain, address) = (sides.domain_here.clone(), sides.federation_here);
        mallory.aim(sides.here.process()?, (&domain, address), &victim).await?;
    }
    let stage = sides.stage();
    let domain = sides.domain_there.clone();
    let steady = Steady::across(&stage, &writers, (&sides.there, &readers, &domain), RATE).await?;
    let count = peers.len();
    let mut report =
        Report::new(format!("{count} hostile nodes beside {PAIRS} pairs"), stage.target);
    let mut watch = Watch { stage: &stage, steady };
    watch.calm(&mut report).await?;
    let attack = Attack::start(peers)?;
    let (mut calm, mut beside, mut attacked) = (Vec::new(), Vec::new(), Vec::new());
    let mut most = 0.0_f64;
    for _ in 0..ROUNDS {
        tokio::time::sleep(SETTLES).await;
        calm.push(watch.look(&mut report, "calm", LASTS).await?.0);
        attack.aim(Some(BYSTANDER));
        tokio::time::sleep(SETTLES).await;
        beside.push(watch.look(&mut report, "attack on a bystander", LASTS).await?.0);
        attack.aim(Some(HERE));
        tokio::time::sleep(SETTLES).await;
        let (window, memory) = watch.look(&mut report, "attack", LASTS).await?;
        attacked.push(window);
        most = most.max(memory);
        attack.aim(None);
    }
    let of = |windows: &[Window], read: fn(&Window) -> f64| median(windows.iter().map(read));
    let rounds = [
        ("in calm rounds", &calm),
        ("beside an attacked node", &beside),
        ("under attack", &attacked),
    ];
    for (when, windows) in rounds {
        report.number(&format!("well-behaved {when}, p50"), of(windows, |seen| seen.p50), "ms");
        report.number(&format!("well-behaved {when}, p99"), of(windows, |seen| seen.p99), "ms");
    }
    let (aside, under) = (of(&beside, |seen| seen.p99), of(&attacked, |seen| seen.p99));
    let growth = (under / aside.max(f64::MIN_POSITIVE) - 1.0) * 100.0;
    report.number("growth of p99 by being attacked", growth, "%");
    let memory = most - report.value("server memory before").unwrap_or_default();
    let each = memory / count as f64;
    report.number("memory of each", each, "MiB");
    let tried = attack.end()?;
    let attacking = (LASTS + SETTLES).as_secs_f64() * 2.0 * ROUNDS as f64;
    report.number("attacks", tried as f64 / attacking, "/s");
    if growth > MOST_GROWTH {
        report.fault(format!("the p99 of the others grew by {growth:.0} %"));
    }
    if each > MOST_MIB {
        report.fault(format!("each took {each:.1} MiB"));
    }
    watch.after(&mut report).await?;
    watch.steady.end(&mut report).await?;
    let shown = federation(sides.here.process()?, &["peers"]).await?;
    let refused = |peer: &serde_json::Value| {
        let kinds =
            ["here", "links"].into_iter().filter_map(|kind| peer["refusals"][kind].as_object());
        kinds.flat_map(|codes| codes.values()).filter_map(serde_json::Value::as_u64).sum::<u64>()
    };
    let all = shown["peers"].as_array().map(|peers| peers.iter().map(refused).sum::<u64>());
    report.number("refused and shown", all.unwrap_or_default() as f64, "");
    sides.stop().await?;
    bystander.stop().await?;
    progress.finish_and_clear();
    Ok(vec![report])
}

/// The hostile nodes at work, on a thread of their own.
struct Attack {
    aim: watch::Sender<Option<usize>>,
    tried: Arc<AtomicU64>,
    stop: CancellationToken,
    thread: JoinHandle<Result>,
}

impl Attack {
    /// They wait at first.
    fn start(peers: Vec<Mallory>) -> Result<Self> {
        let (aim, told) = watch::channel(None);
        let (tried, stop) = (Arc::<AtomicU64>::default(), CancellationToken::new());
        let (counted, stopped) = (Arc::clone(&tried), stop.clone());
        let thread = std::thread::Builder::new().name("hostile".into()).spawn(move || {
            only_when_idle()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut attack = JoinSet::new();
                for (at, mallory) in peers.into_iter().enumerate() {
                    let hostile = Hostile {
                        quic: mallory.listen(stopped.clone()).await?,
                        mallory,
                        aim: told.clone(),
                        at: BYSTANDER,
                        tried: Arc::clone(&counted),
                    };
                    attack.spawn(async move { hostile.attack(ALL[at % ALL.len()]).await });
                }
                stopped.cancelled().await;
                Ok(())
            })
        })?;
        Ok(Self { aim, tried, stop, thread })
    }

    fn aim(&self, at: Option<usize>) {
        self.aim.send_replace(at);
    }

    /// Ends it; returns how often something was tried.
    fn end(self) -> Result<u64> {
        self.stop.cancel();
        let ended = self.thread.join();
        ended.map_err(|_| anyhow::anyhow!("the hostile nodes ended unexpectedly"))??;
        Ok(self.tried.load(Ordering::Relaxed))
    }
}

/// From now on this thread, and those that it starts, run only where nobody else wants to.
fn only_when_idle() -> Result {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let set = std::process::Command::new("chrt").args(["--idle", "--pid", "0", &thread]).status();
    ensure!(set.context("chrt, of util-linux, is missing")?.success(), "chrt failed");
    Ok(())
}

/// A hostile node, whose key the operators of its targets trust.
struct Mallory {
    identity: Identity,
    domain: String,
    targets: Vec<Attacked>,
}

/// A node as those see it who attack it.
struct Attacked {
    domain: String,
    key: PublicKey,
    address: String,
    /// A user of it.
    victim: String,
}

impl Mallory {
    fn new(at: usize) -> Self {
        let identity = Identity::new(rand::random(), 0);
        Self { identity, domain: format!("mallory{at}.example"), targets: Vec::new() }
    }

    /// Learns of one more target, where it is pinned.
    async fn aim(
        &mut self,
        node: &Process,
        (domain, at): (&str, SocketAddr),
        victim: &str,
    ) -> Result {
        let own = peer_id::to_text(&self.identity.public_key())?;
        // Nobody has to find it.
        federation(node, &["pin", &self.domain, &own, ELSEWHERE.1]).await?;
        let shown = federation(node, &["key", "show"]).await?;
        let key = peer_id::parse(shown["peer_id"].as_str().context("no peer ID")?)?;
        let address = multiaddr(at);
        let victim = format!("{victim}@{domain}");
        self.targets.push(Attacked { domain: domain.to_owned(), key, address, victim });
        Ok(())
    }

    async fn listen(&self, stop: CancellationToken) -> Result<Quic> {
        let (links, _) = mpsc::channel(1);
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Quic::start(&self.identity, Endpoint::on(listen), links, stop).await?)
    }

    fn batch(&self, target: &Attacked, signer: &Identity, first_seq: u64, at: u64) -> Bytes {
        let requests = (0..REQUESTS as u64).map(|number| {
            let body = FriendRequest {
                from: Some(Profile {
                    user_id: format!("m{}x{number}@{}", at, self.domain),
                    nickname: "M".to_owned(),
                    ..Profile::default()
                }),
                to: target.victim.clone(),
                message: "hello".to_owned(),
                ex: String::new(),
            };
            let kind = EventKind::EventFriendRequest as u32;
            Event { kind, body: body.encode_to_vec().into(), time_ms: 1 }
        });
        let payload = BatchPayload {
            origin: self.domain.clone(),
            audience: target.domain.clone(),
            epoch: EPOCH,
            first_seq,
            time_ms: 1,
            events: requests.collect(),
            mark: None,
        };
        let payload = payload.encode_to_vec();
        let signature = Some(signer.sign(Use::Batch, &payload));
        encoded(frame::Body::Batch(Batch { payload: payload.into(), signature }))
    }
}

/// One at work.
struct Hostile {
    mallory: Mallory,
    quic: Quic,
    aim: watch::Receiver<Option<usize>>,
    /// Whom it attacks now.
    at: usize,
    tried: Arc<AtomicU64>,
}

impl Hostile {
    fn target(&self) -> Result<&Attacked> {
        self.mallory.targets.get(self.at).context("nobody to attack")
    }

    async fn open(&self, lane: Lane) -> Result<Frames> {
        let target = self.target()?;
        let link = self.quic.open(target.key, vec![target.address.clone()], lane).await?;
        Ok(LengthDelimitedCodec::builder().max_frame_length(16 << 20).new_framed(link))
    }

    /// A link of the events lane on which it was greeted, and the seq where the stream stands.
    async fn greeted(&self) -> Result<(Frames, u64)> {
        let mut frames = self.open(Lane::Events).await?;
        let hello = Hello {
            versions: vec![1],
            origin: self.mallory.domain.clone(),
            audience: self.target()?.domain.clone(),
            epoch: EPOCH,
            acknowledged: 0,
            document: None,
            ..Hello::default()
        };
        frames.send(encoded(frame::Body::Hello(hello))).await?;
        let answer = frames.next().await.context("the link ended")??;
        match Frame::decode(answer.freeze())?.body {
            Some(frame::Body::Welcome(welcome)) => Ok((frames, welcome.seq)),
            other => anyhow::bail!("not welcome: {other:?}"),
        }
    }

    /// Goes on until it is ended.
    async fn attack(mut self, does: Does) {
        let mut held = Vec::new();
        for at in 0_u64.. {
            let aim = self.aim.wait_for(Option::is_some).await.map(|aim| *aim);
            let Ok(Some(aim)) = aim else { return };
            if aim != self.at {
                held.clear();
                self.at = aim;
            }
            self.tried.fetch_add(1, Ordering::Relaxed);
            let (mut aim, at_now) = (self.aim.clone(), self.at);
            let attack = async {
                match does {
                    Does::OpensStreams => self.hold(&mut held).await,
                    Does::SendsGarbage => self.garbage(at).await,
                    Does::Forges => self.forge(at).await,
                    Does::NeverReads => self.never_read().await,
                    Does::Pries => self.pry(at).await,
                }
            };
            tokio::select! {
                // Being refused stops nobody.
                _ = attack => {}
                _ = aim.wait_for(|aim| *aim != Some(at_now)) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn hold(&self, held: &mut Vec<Frames>) -> Result {
        if held.len() < STREAMS {
            let lane = match held.len() % 3 {
                0 => Lane::Events,
                1 => Lane::Control,
                _ => Lane::Media,
            };
            held.push(self.open(lane).await?);
        }
        Ok(())
    }

    async fn garbage(&self, at: u64) -> Result {
        let (mut frames, _) = self.greeted().await?;
        let bytes = if at.is_multiple_of(10) { 2 << 20 } else { 1_024 };
        frames.send(Bytes::from(vec![0xff; bytes])).await?;
        frames.next().await;
        Ok(())
    }

    async fn forge(&self, at: u64) -> Result {
        let (mut frames, seq) = self.greeted().await?;
        let somebody = Identity::new([at as u8; 32], 0);
        frames.send(self.mallory.batch(self.target()?, &somebody, seq + 1, at)).await?;
        frames.next().await;
        Ok(())
    }

    async fn never_read(&self) -> Result {
        let (mut frames, seq) = self.greeted().await?;
        for at in 0.. {
            frames
                .send(self.mallory.batch(
                    self.target()?,
                    &self.mallory.identity,
                    seq + 1 + at * REQUESTS as u64,
                    at,
                ))
                .await?;
            tokio::time::sleep(PAUSE).await;
            self.tried.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn pry(&self, at: u64) -> Result {
        let mut frames = self.open(Lane::Control).await?;
        let group = format!("{at}@{}", self.target()?.domain);
        let body = if at.is_multiple_of(2) {
            request::Body::GroupLog(GroupLogRequest { group, ..GroupLogRequest::default() })
        } else {
            let user = format!("m@{}", self.mallory.domain);
            request::Body::History(HistoryRequest { group, user, first: 1, last: 100 })
        };
        let request = Request {
            origin: self.mallory.domain.clone(),
            audience: self.target()?.domain.clone(),
            body: Some(body),
            ..Request::default()
        };
        frames.send(Bytes::from(request.encode_to_vec())).await?;
        frames.next().await;
        Ok(())
    }
}

fn encoded(body: frame::Body) -> Bytes {
    Bytes::from(Frame { body: Some(body) }.encode_to_vec())
}
