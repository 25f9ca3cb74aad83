//! Nodes that do not keep to the protocol, beside two that do: what these notice of it, and what
//! each of the others costs.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
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
use tokio::sync::mpsc;
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
use crate::Result;
use crate::organisations::federation;

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
/// How long they are at it.
const LASTS: Duration = Duration::from_secs(20);
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
    let victim = writers.first().context("nobody")?.user_id.clone();
    let mut peers = Vec::new();
    for at in 0..ALL.len() * OF_EACH {
        peers.push(Mallory::start(at, &mut sides, &victim).await?);
    }
    let stage = sides.stage();
    let domain = sides.domain_there.clone();
    let steady = Steady::across(&stage, &writers, (&sides.there, &readers, &domain), RATE).await?;
    let count = peers.len();
    let mut report =
        Report::new(format!("{count} hostile nodes beside {PAIRS} pairs"), stage.target);
    let mut watch = Watch { stage: &stage, steady };
    watch.calm(&mut report).await?;
    let mut attack = JoinSet::new();
    for (at, mallory) in peers.into_iter().enumerate() {
        attack.spawn(async move { mallory.attack(ALL[at % ALL.len()]).await });
    }
    let (window, most) = watch.look(&mut report, "attack", LASTS).await?;
    report.number("well-behaved meanwhile, p50", window.p50, "ms");
    report.number("well-behaved meanwhile, p99", window.p99, "ms");
    let before = report.value("well-behaved before, p99").unwrap_or_default();
    let growth = (window.p99 / before.max(f64::MIN_POSITIVE) - 1.0) * 100.0;
    report.number("growth of p99", growth, "%");
    let memory = most - report.value("server memory before").unwrap_or_default();
    let each = memory / count as f64;
    report.number("memory of each", each, "MiB");
    if growth > MOST_GROWTH {
        report.fault(format!("the p99 of the others grew by {growth:.0} %"));
    }
    if each > MOST_MIB {
        report.fault(format!("each took {each:.1} MiB"));
    }
    attack.shutdown().await;
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
    progress.finish_and_clear();
    Ok(vec![report])
}

/// A hostile node, whose key the operator of the target trusts.
struct Mallory {
    identity: Identity,
    quic: Quic,
    domain: String,
    audience: String,
    victim: String,
    key: PublicKey,
    address: String,
    stop: CancellationToken,
}

impl Mallory {
    async fn start(at: usize, sides: &mut Sides<'_>, victim: &str) -> Result<Self> {
        let (audience, at_target) = (sides.domain_here.clone(), sides.federation_here);
        let identity = Identity::new(rand::random(), 0);
        let (links, _) = mpsc::channel(1);
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let stop = CancellationToken::new();
        let quic = Quic::start(&identity, Endpoint::on(listen), links, stop.clone()).await?;
        let domain = format!("mallory{at}.example");
        let own = peer_id::to_text(&identity.public_key())?;
        let address = quic.addresses().first().cloned().context("it listens nowhere")?;
        let node = sides.here.process()?;
        federation(node, &["pin", &domain, &own, &address]).await?;
        let shown = federation(node, &["key", "show"]).await?;
        let key = peer_id::parse(shown["peer_id"].as_str().context("no peer ID")?)?;
        let address = format!("/ip4/{}/udp/{}/quic-v1", at_target.ip(), at_target.port());
        let victim = format!("{victim}@{audience}");
        Ok(Self { identity, quic, domain, audience, victim, key, address, stop })
    }

    async fn open(&self, lane: Lane) -> Result<Frames> {
        let link = self.quic.open(self.key, vec![self.address.clone()], lane).await?;
        Ok(LengthDelimitedCodec::builder().max_frame_length(16 << 20).new_framed(link))
    }

    /// A link of the events lane on which it was greeted, and the seq where the stream stands.
    async fn greeted(&self) -> Result<(Frames, u64)> {
        let mut frames = self.open(Lane::Events).await?;
        let hello = Hello {
            versions: vec![1],
            origin: self.domain.clone(),
            audience: self.audience.clone(),
            epoch: EPOCH,
            acknowledged: 0,
            document: None,
        };
        frames.send(encoded(frame::Body::Hello(hello))).await?;
        let answer = frames.next().await.context("the link ended")??;
        match Frame::decode(answer.freeze())?.body {
            Some(frame::Body::Welcome(welcome)) => Ok((frames, welcome.seq)),
            other => anyhow::bail!("not welcome: {other:?}"),
        }
    }

    fn batch(&self, signer: &Identity, first_seq: u64, at: u64) -> Bytes {
        let requests = (0..REQUESTS as u64).map(|number| {
            let body = FriendRequest {
                from: Some(Profile {
                    user_id: format!("m{}x{number}@{}", at, self.domain),
                    nickname: "M".to_owned(),
                    ..Profile::default()
                }),
                to: self.victim.clone(),
                message: "hello".to_owned(),
                ex: String::new(),
            };
            let kind = EventKind::EventFriendRequest as u32;
            Event { kind, body: body.encode_to_vec().into(), time_ms: 1 }
        });
        let payload = BatchPayload {
            origin: self.domain.clone(),
            audience: self.audience.clone(),
            epoch: EPOCH,
            first_seq,
            time_ms: 1,
            events: requests.collect(),
        };
        let payload = payload.encode_to_vec();
        let signature = Some(signer.sign(Use::Batch, &payload));
        encoded(frame::Body::Batch(Batch { payload: payload.into(), signature }))
    }

    /// Goes on until it is ended.
    async fn attack(self, does: Does) {
        let mut held = Vec::new();
        for at in 0_u64.. {
            // Being refused stops nobody.
            let _ = match does {
                Does::OpensStreams => self.hold(&mut held).await,
                Does::SendsGarbage => self.garbage(at).await,
                Does::Forges => self.forge(at).await,
                Does::NeverReads => self.never_read().await,
                Does::Pries => self.pry(at).await,
            };
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
        frames.send(self.batch(&somebody, seq + 1, at)).await?;
        frames.next().await;
        Ok(())
    }

    async fn never_read(&self) -> Result {
        let (mut frames, seq) = self.greeted().await?;
        for at in 0.. {
            frames.send(self.batch(&self.identity, seq + 1 + at * REQUESTS as u64, at)).await?;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn pry(&self, at: u64) -> Result {
        let mut frames = self.open(Lane::Control).await?;
        let group = format!("{at}@{}", self.audience);
        let body = if at.is_multiple_of(2) {
            request::Body::GroupLog(GroupLogRequest { group, ..GroupLogRequest::default() })
        } else {
            let user = format!("m@{}", self.domain);
            request::Body::History(HistoryRequest { group, user, first: 1, last: 100 })
        };
        let request = Request {
            origin: self.domain.clone(),
            audience: self.audience.clone(),
            document: None,
            body: Some(body),
        };
        frames.send(Bytes::from(request.encode_to_vec())).await?;
        frames.next().await;
        Ok(())
    }
}

impl Drop for Mallory {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn encoded(body: frame::Body) -> Bytes {
    Bytes::from(Frame { body: Some(body) }.encode_to_vec())
}
