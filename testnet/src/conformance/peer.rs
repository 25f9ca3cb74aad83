//! The peer that tries a node: a key, an endpoint and a stream of events.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use federation::identity::Identity;
use federation::signed::Use;
use federation::transport::{Endpoint, Incoming, Lane, Link, Quic, Transport as _};
use federation::{PublicKey, peer_id};
use futures_util::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use prost::Message;
use proto::federation::{
    Ack, Batch, BatchPayload, ByeCode, Event, EventKind, Frame, Hello, Profile, Profiles, Request,
    Response, SignedDocument, Welcome, frame, request, response,
};
use proto::sdkws::MsgData;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;

use super::Target;
use crate::Result;
use crate::organisations::federation;

/// Domain of the peer.
pub(super) const OWN: &str = "conformance.example";
/// Its user, who is in the group of the target.
pub(super) const USER: &str = "p@conformance.example";
/// Epoch of its stream.
pub(super) const EPOCH: u64 = 4_711;

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) type Frames = Framed<Box<dyn Link>, LengthDelimitedCodec>;

/// Requests that the target made, with the answers that it got.
type Asked = Arc<Mutex<Vec<request::Body>>>;

pub(super) struct Peer {
    pub(super) identity: Identity,
    quic: Quic,
    key: Option<PublicKey>,
    target: Option<Target>,
    stream: Option<Frames>,
    pub(super) seq: u64,
    asked: Asked,
    stop: CancellationToken,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Applied,
    Refused(i32),
    PutAside,
}

impl Peer {
    pub(super) async fn start(seed: &str) -> Result<Self> {
        let seed: [u8; 32] = match seed {
            "" => rand::random(),
            seed => hex::decode(seed)?.try_into().ok().context("the key has 64 hex digits")?,
        };
        let identity = Identity::new(seed, 0);
        let (links, incoming) = mpsc::channel(64);
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let stop = CancellationToken::new();
        let quic = Quic::start(&identity, Endpoint::on(listen), links, stop.clone()).await?;
        let asked = Asked::default();
        tokio::spawn(serve(incoming, Arc::clone(&asked)));
        let (key, target, stream) = (None, None, None);
        Ok(Self { identity, quic, key, target, stream, seq: 0, asked, stop })
    }

    pub(super) fn peer_id(&self) -> Result<String> {
        Ok(peer_id::to_text(&self.identity.public_key())?)
    }

    pub(super) fn address(&self) -> Result<String> {
        self.quic.addresses().first().cloned().context("it listens nowhere")
    }

    pub(super) fn aim(&mut self, target: Target) -> Result {
        self.key = Some(peer_id::parse(&target.peer_id)?);
        self.target = Some(target);
        Ok(())
    }

    pub(super) fn target(&self) -> Result<&Target> {
        self.target.as_ref().context("no target")
    }

    /// Domain of the target.
    pub(super) fn domain(&self) -> String {
        self.target.as_ref().map(|target| target.domain.clone()).unwrap_or_default()
    }

    /// A user of the target.
    pub(super) fn alice(&self) -> String {
        self.target.as_ref().map(|target| target.user.clone()).unwrap_or_default()
    }

    /// The group of the target with the peer's user in it.
    pub(super) fn group(&self) -> String {
        self.target.as_ref().and_then(|target| target.group.clone()).unwrap_or_default()
    }

    pub(super) async fn open(&self, lane: Lane) -> Result<Frames> {
        let addresses = vec![self.target()?.address.clone()];
        let link = self.quic.open(self.key.context("no target")?, addresses, lane).await?;
        Ok(LengthDelimitedCodec::builder().max_frame_length(16 << 20).new_framed(link))
    }

    pub(super) fn hello(&self) -> Hello {
        Hello {
            versions: vec![1],
            origin: OWN.into(),
            audience: self.domain(),
            epoch: EPOCH,
            acknowledged: 0,
            document: None,
            ..Hello::default()
        }
    }

    /// What is said to a hello.
    pub(super) async fn greet(&self, hello: Hello) -> Result<(Frames, frame::Body)> {
        let mut frames = self.open(Lane::Events).await?;
        say(&mut frames, frame::Body::Hello(hello)).await?;
        let answer = hear(&mut frames).await?;
        Ok((frames, answer))
    }

    /// Refused with this code.
    pub(super) async fn refuses_hello(&self, hello: Hello, code: ByeCode) -> Result {
        match self.greet(hello).await?.1 {
            frame::Body::Bye(bye) if bye.code() == code => Ok(()),
            other => bail!("{code:?} expected: {other:?}"),
        }
    }

    /// A link on which the node waits for events, and where it stands.
    pub(super) async fn welcomed(&self) -> Result<(Frames, Welcome)> {
        match self.greet(self.hello()).await? {
            (frames, frame::Body::Welcome(welcome)) => Ok((frames, welcome)),
            (_, other) => bail!("not welcome: {other:?}"),
        }
    }

    pub(super) fn payload(&self, first_seq: u64, events: Vec<Event>) -> BatchPayload {
        BatchPayload {
            origin: OWN.into(),
            audience: self.domain(),
            epoch: EPOCH,
            first_seq,
            time_ms: 1,
            events,
            mark: None,
        }
    }

    pub(super) fn batch(&self, payload: &BatchPayload) -> Batch {
        let payload = payload.encode_to_vec();
        let signature = Some(self.identity.sign(Use::Batch, &payload));
        Batch { payload: payload.into(), signature }
    }

    /// A batch that must end the link with this code, on a link of its own.
    pub(super) async fn refuses_batch(&mut self, batch: Batch, code: ByeCode) -> Result {
        self.stream = None;
        let (mut frames, _) = self.welcomed().await?;
        say(&mut frames, frame::Body::Batch(batch)).await?;
        match hear(&mut frames).await? {
            frame::Body::Bye(bye) if bye.code() == code => Ok(()),
            other => bail!("{code:?} expected: {other:?}"),
        }
    }

    /// Sends events that must be acknowledged.
    pub(super) async fn send(&mut self, events: Vec<Event>) -> Result<Ack> {
        if let Some(frames) = self.stream.take()
            && let Ok(ack) = self.send_on(frames, &events).await
        {
            return Ok(ack);
        }
        // Another link has taken the place of that one.
        let (frames, welcome) = self.welcomed().await?;
        self.seq = welcome.seq;
        self.send_on(frames, &events).await
    }

    async fn send_on(&mut self, mut frames: Frames, events: &[Event]) -> Result<Ack> {
        let count = events.len() as u64;
        let batch = self.batch(&self.payload(self.seq + 1, events.to_vec()));
        say(&mut frames, frame::Body::Batch(batch)).await?;
        match hear(&mut frames).await? {
            frame::Body::Ack(ack) => {
                ensure!(ack.seq == self.seq + count, "acknowledged {}, sent {count}", ack.seq);
                self.seq = ack.seq;
                self.stream = Some(frames);
                Ok(ack)
            }
            other => bail!("not acknowledged: {other:?}"),
        }
    }

    /// Sends one event, which must come to this.
    pub(super) async fn comes_to(&mut self, event: Event, expected: Outcome) -> Result {
        let before = self.put_aside().await?;
        let ack = self.send(vec![event]).await?;
        let refused = ack.refusals.first().map(|refusal| refusal.code);
        let after = self.put_aside().await?;
        let outcome = match refused {
            Some(code) => Outcome::Refused(code),
            None if after > before => Outcome::PutAside,
            // From outside, what is put aside looks like what is applied.
            None if after.is_none() && expected == Outcome::PutAside => Outcome::PutAside,
            None => Outcome::Applied,
        };
        ensure!(outcome == expected, "{expected:?} expected: {outcome:?} {:?}", ack.refusals);
        Ok(())
    }

    /// How much of the peer's events the target has put aside, if that can be seen.
    async fn put_aside(&self) -> Result<Option<u64>> {
        let Some(inside) = &self.target()?.inside else { return Ok(None) };
        let listed = federation(&inside.organisation.node, &["peers"]).await?;
        let peers = listed["peers"].as_array().context("no peers")?;
        let own = peers.iter().find(|peer| peer["domain"] == OWN).context("not a peer")?;
        Ok(own["quarantined"].as_u64())
    }

    pub(super) async fn ask_as(&self, request: Request) -> Result<Response> {
        let mut frames = self.open(Lane::Control).await?;
        frames.send(Bytes::from(request.encode_to_vec())).await?;
        Ok(Response::decode(heard(&mut frames).await?)?)
    }

    pub(super) fn request(&self, body: Option<request::Body>) -> Request {
        Request { origin: OWN.into(), audience: self.domain(), body, ..Request::default() }
    }

    pub(super) async fn ask(&self, body: request::Body) -> Result<Response> {
        self.ask_as(self.request(Some(body))).await
    }

    /// A request that must be answered with this code, and with nothing but it.
    pub(super) async fn refuses(&self, body: request::Body, code: i32) -> Result {
        let response = self.ask(body).await?;
        ensure!(response.bye.is_none() && response.code == code, "{code} expected: {response:?}");
        ensure!(response.body.is_none() && !response.reason.is_empty(), "{response:?}");
        Ok(())
    }

    /// What a request is answered with.
    pub(super) async fn answers(&self, body: request::Body) -> Result<Option<response::Body>> {
        let response = self.ask(body).await?;
        ensure!(response.bye.is_none() && response.code == 0, "refused: {response:?}");
        Ok(response.body)
    }

    pub(super) fn document(&self, document: &proto::federation::NodeDocument) -> SignedDocument {
        let document = document.encode_to_vec();
        let signatures = vec![self.identity.sign(Use::Document, &document)];
        SignedDocument { document: document.into(), signatures }
    }

    /// Waits until the target has asked for something.
    pub(super) async fn was_asked(&self, what: impl Fn(&request::Body) -> bool) -> Result {
        let began = std::time::Instant::now();
        while !self.asked.lock().iter().any(&what) {
            ensure!(began.elapsed() < PATIENCE, "it did not ask: {:?}", self.asked.lock());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The peer has every user that it is asked for, and nothing else.
fn answer(request: Option<&request::Body>) -> Response {
    match request {
        Some(request::Body::Profiles(wanted)) => {
            let profiles = wanted.user_ids.iter().map(|id| profile(id)).collect();
            let body = Some(response::Body::Profiles(Profiles { profiles }));
            Response { body, ..Response::default() }
        }
        Some(request::Body::Greeting(_)) => Response::default(),
        _ => Response { code: 1_004, reason: "nothing".into(), ..Response::default() },
    }
}

/// Notes what the target asks for, and answers that there is nothing.
async fn serve(mut incoming: mpsc::Receiver<Incoming>, asked: Asked) {
    while let Some(Incoming { lane, link, .. }) = incoming.recv().await {
        let asked = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut frames: Frames =
                LengthDelimitedCodec::builder().max_frame_length(16 << 20).new_framed(link);
            match lane {
                Lane::Control => {
                    let Ok(request) = heard(&mut frames).await else { return };
                    let Ok(request) = Request::decode(request) else { return };
                    let response = answer(request.body.as_ref());
                    asked.lock().extend(request.body);
                    let _ = frames.send(Bytes::from(response.encode_to_vec())).await;
                }
                Lane::Events => {
                    let Ok(frame::Body::Hello(hello)) = hear(&mut frames).await else { return };
                    let welcome = Welcome {
                        version: 1,
                        epoch: hello.epoch,
                        seq: hello.acknowledged,
                        ..Welcome::default()
                    };
                    if say(&mut frames, frame::Body::Welcome(welcome)).await.is_err() {
                        return;
                    }
                    while let Ok(frame::Body::Batch(batch)) = hear(&mut frames).await {
                        let Ok(payload) = BatchPayload::decode(batch.payload) else { return };
                        let seq = payload.first_seq + payload.events.len() as u64 - 1;
                        let ack = Ack { seq, ..Ack::default() };
                        if say(&mut frames, frame::Body::Ack(ack)).await.is_err() {
                            return;
                        }
                    }
                }
                Lane::Media => {}
            }
        });
    }
}

pub(super) async fn say(frames: &mut Frames, body: frame::Body) -> Result {
    frames.send(Bytes::from(Frame { body: Some(body) }.encode_to_vec())).await?;
    Ok(())
}

pub(super) async fn heard(frames: &mut Frames) -> Result<Bytes> {
    let heard = tokio::time::timeout(PATIENCE, frames.next()).await.context("nothing is said")?;
    Ok(heard.context("the link ended without a word")??.freeze())
}

pub(super) async fn hear(frames: &mut Frames) -> Result<frame::Body> {
    Frame::decode(heard(frames).await?)?.body.context("an empty frame")
}

/// The code with which the node hangs up now.
pub(super) async fn hangs_up(frames: &mut Frames, code: ByeCode) -> Result {
    match hear(frames).await? {
        frame::Body::Bye(bye) if bye.code() == code => Ok(()),
        other => bail!("{code:?} expected: {other:?}"),
    }
}

/// Everything until the link ends, which it must.
pub(super) async fn ends(frames: &mut Frames) -> Result {
    let ended =
        tokio::time::timeout(PATIENCE, async { while let Some(Ok(_)) = frames.next().await {} });
    ended.await.context("the link does not end")
}

pub(super) fn event(kind: EventKind, body: &impl Message) -> Event {
    Event { kind: kind as u32, body: body.encode_to_vec().into(), time_ms: 1 }
}

/// A text of the peer's user, but for where it goes.
pub(super) fn text(id: &str) -> MsgData {
    MsgData {
        send_id: USER.into(),
        content_type: 101,
        content: json!({ "content": id }).to_string().into_bytes().into(),
        client_msg_id: id.into(),
        server_msg_id: format!("server-{id}"),
        status: 2,
        ..MsgData::default()
    }
}

pub(super) fn profile(user_id: &str) -> Profile {
    Profile { user_id: user_id.into(), nickname: "P".into(), ..Profile::default() }
}
