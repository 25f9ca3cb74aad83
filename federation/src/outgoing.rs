//! The sending end of a stream of events: one worker per destination.
//!
//! It reads what is queued, signs it in batches, keeps a window of them on the way, and removes
//! what the other node has made durable. What is on the way when a link fails is sent again; the
//! receiver says where it stands.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use proto::federation::{
    Ack, Batch, BatchPayload, Event, Frame, Hello, Mark, Refusal, Welcome, frame,
};
use store::{StoreError, outbox};

use crate::frame::{MAX_EVENTS_FRAME, decode, encode, frames, receive, send};
use crate::peer::{LinkState, Peer};
use crate::seal;
use crate::shared::Shared;
use crate::signed::Use;
use crate::transport::Lane;
use crate::{Domain, FederationError, VERSION};

/// Most events in one batch.
const BATCH_EVENTS: usize = 512;
/// Bytes of events after which a batch is full.
const BATCH_BYTES: usize = 256 * 1024;
/// Bytes on the way without acknowledgement.
const WINDOW_BYTES: usize = 2 << 20;

pub(crate) struct Outgoing {
    pub(crate) shared: Arc<Shared>,
    pub(crate) destination: Domain,
    pub(crate) peer: Arc<Peer>,
}

/// What is on the way.
#[derive(Default)]
struct Window {
    /// Last seq and bytes of each batch.
    batches: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Window {
    fn push(&mut self, last: u64, bytes: usize) {
        self.batches.push_back((last, bytes));
        self.bytes += bytes;
    }

    fn acknowledge(&mut self, seq: u64) {
        while let Some((_, bytes)) = self.batches.pop_front_if(|(last, _)| *last <= seq) {
            self.bytes -= bytes;
        }
    }
}

impl Outgoing {
    /// Delivers until the node stops.
    pub(crate) async fn run(self) {
        let stop = self.shared.halts.quiet.clone();
        let mut failures = 0;
        loop {
            match self.has_events() {
                Ok(true) => {}
                Ok(false) => {
                    tokio::select! {
                        () = self.peer.wake.notified() => continue,
                        () = stop.cancelled() => return,
                    }
                }
                Err(error) => tracing::error!(%error, "the outbox cannot be read"),
            }
            let session = stop.run_until_cancelled(self.session(&mut failures)).await;
            let Some(Err(error)) = session else { return };
            tracing::debug!(destination = %self.destination, %error, "link to another node");
            self.peer.failed(error.to_string());
            let delay = self.shared.settings.timing.backoff(failures);
            failures += 1;
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.peer.reachable.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn has_events(&self) -> Result<bool, StoreError> {
        let head = outbox::head(&self.shared.store.view(), self.destination.as_str())?;
        Ok(head.last > head.acknowledged)
    }

    /// One link, from the greeting to its end.
    async fn session(
        &self,
        failures: &mut u32,
    ) -> Result<std::convert::Infallible, FederationError> {
        let shared = &self.shared;
        self.peer.set_state(LinkState::Connecting);
        // What others have of the places to come must be known before these are given again.
        let ready = shared.rules.ready_for(&self.destination).await;
        ready.map_err(FederationError::NotReady)?;
        let link = shared.open(&self.destination, Lane::Events).await?;
        let mut frames = frames(link, MAX_EVENTS_FRAME);
        let (head, epoch, mark) = {
            let (view, domain) = (shared.store.view(), self.destination.as_str());
            let mark = outbox::cursor(&view, domain)?.mark;
            (outbox::head(&view, domain)?, outbox::stream_epoch(&view), mark)
        };
        let hello = Hello {
            versions: vec![VERSION],
            origin: shared.settings.domain.to_string(),
            audience: self.destination.to_string(),
            epoch,
            acknowledged: head.acknowledged,
            document: Some(shared.document()),
            instance: shared.instance,
            mark,
            receipt: head.receipt,
        };
        send(&mut frames, &Frame { body: Some(frame::Body::Hello(hello)) }).await?;
        let patience = shared.settings.timing.answer;
        let welcome = match receive::<Frame>(&mut frames, patience).await?.body {
            Some(frame::Body::Welcome(welcome)) => welcome,
            Some(frame::Body::Bye(bye)) => return Err(shared.refused_by(&self.destination, bye)),
            _ => return Err(FederationError::Protocol("no welcome after a hello".into())),
        };
        let position = self.position(epoch, head.acknowledged, head.last, welcome).await?;
        self.peer.set_state(LinkState::Up);
        *failures = 0;
        let mut flow = Flow {
            outgoing: self,
            epoch,
            sent: position,
            acknowledged: position,
            window: Window::default(),
            told: None,
        };
        flow.run(frames).await
    }

    /// From where to send, given what the other side says.
    async fn position(
        &self,
        epoch: u64,
        acknowledged: u64,
        last: u64,
        welcome: Welcome,
    ) -> Result<u64, FederationError> {
        if welcome.version != VERSION {
            return Err(FederationError::Protocol("an unknown version was chosen".into()));
        }
        self.shared.judge(&self.destination, welcome.mark).await?;
        if welcome.epoch != epoch || welcome.seq < acknowledged || welcome.seq > last {
            let reason = format!("it stands at {} of {acknowledged}..={last}", welcome.seq);
            return Err(FederationError::Protocol(reason));
        }
        if let Some(document) = &welcome.document {
            let (key, _) = self.shared.trust.route(&self.destination).await?;
            let document = Some(document.clone());
            self.shared.trust.authenticate(&self.destination, &key, document).await?;
        }
        if welcome.seq > acknowledged {
            self.acknowledge(welcome.seq, Vec::new(), None).await?;
        }
        Ok(welcome.seq)
    }

    fn acknowledge(&self, seq: u64, refusals: Vec<Refusal>, receipt: Option<Mark>) -> Removal<'_> {
        self.shared.rules.acknowledged(&self.destination, seq, refusals, receipt)
    }
}

/// A link on which events flow.
struct Flow<'a> {
    outgoing: &'a Outgoing,
    epoch: u64,
    sent: u64,
    acknowledged: u64,
    window: Window,
    /// What the other side has acknowledged and is not yet removed.
    told: Option<(u64, Vec<Refusal>, Option<Mark>)>,
}

impl Flow<'_> {
    async fn run(
        &mut self,
        frames: crate::frame::Frames,
    ) -> Result<std::convert::Infallible, FederationError> {
        let outgoing = self.outgoing;
        let (mut sink, mut stream) = frames.split();
        let mut removing: Option<Removal<'_>> = None;
        // There may be events that are not on the way yet.
        let mut more = true;
        let mut next = None;
        let mut unflushed = false;
        loop {
            if removing.is_none()
                && let Some((seq, refusals, receipt)) = self.told.take()
            {
                removing = Some(outgoing.acknowledge(seq, refusals, receipt));
            }
            if next.is_none() && more && self.window.bytes < WINDOW_BYTES {
                next = self.batch()?;
                more = next.is_some();
            }
            let writing = poll_fn(|context| match next {
                Some(_) => sink.poll_ready_unpin(context),
                None => sink.poll_flush_unpin(context),
            });
            tokio::select! {
                written = writing, if next.is_some() || unflushed => {
                    written?;
                    unflushed = next.is_some();
                    if let Some(batch) = next.take() {
                        sink.start_send_unpin(batch)?;
                    }
                }
                frame = stream.next() => {
                    if let Some(pong) = self.frame(frame)? {
                        sink.send(pong).await?;
                    }
                }
                removed = finish(&mut removing) => removed?,
                () = outgoing.peer.wake.notified(), if !more => more = true,
            }
        }
    }

    /// The next events as a signed frame; `None` when all are on the way.
    fn batch(&mut self) -> Result<Option<bytes::Bytes>, FederationError> {
        let (outgoing, shared) = (self.outgoing, &self.outgoing.shared);
        let view = shared.store.view();
        let mut events: Vec<Event> = Vec::new();
        let (mut bytes, mut mark) = (0, 0);
        let first_seq = self.sent + 1;
        for row in outbox::queued(&view, outgoing.destination.as_str(), self.sent) {
            let (seq, queued) = row?;
            if seq != self.sent + 1 {
                let reason = format!("event {} is missing", self.sent + 1);
                return Err(StoreError::Damaged { table: "OUTBOX", reason }.into());
            }
            mark = queued.mark;
            let event = shared.rules.write_out(&view, &queued)?;
            bytes += event.encoded_len();
            events.push(event);
            self.sent = seq;
            if events.len() >= BATCH_EVENTS || bytes >= BATCH_BYTES {
                break;
            }
        }
        if events.is_empty() {
            return Ok(None);
        }
        shared.rules.seal(&mut events);
        let payload = BatchPayload {
            origin: shared.settings.domain.to_string(),
            audience: outgoing.destination.to_string(),
            epoch: self.epoch,
            first_seq,
            time_ms: (shared.now)(),
            events,
            mark: shared.mark(&outgoing.destination, (self.epoch, self.sent), mark),
        };
        let payload = payload.encode_to_vec();
        let signature = shared.identity().sign(Use::Batch, &payload);
        self.window.push(self.sent, payload.len());
        let batch = Batch { payload: payload.into(), signature: Some(signature) };
        Ok(Some(encode(&Frame { body: Some(frame::Body::Batch(batch)) })))
    }

    /// Takes a frame; returns the answer to it.
    fn frame(
        &mut self,
        frame: Option<std::io::Result<bytes::BytesMut>>,
    ) -> Result<Option<bytes::Bytes>, FederationError> {
        let Some(frame) = frame else {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        };
        match decode::<Frame>(frame?.freeze())?.body {
            Some(frame::Body::Ack(ack)) => self.acknowledged(ack).map(|()| None),
            Some(frame::Body::Ping(ping)) => Ok(Some(self.pong(ping.instance))),
            Some(frame::Body::Bye(bye)) => {
                Err(self.outgoing.shared.refused_by(&self.outgoing.destination, bye))
            }
            _ => Err(FederationError::Protocol("neither an ack nor a bye".into())),
        }
    }

    /// Says that this instance lives, while another one asks to be let in.
    fn pong(&self, other: u64) -> bytes::Bytes {
        let Outgoing { shared, destination, peer } = self.outgoing;
        if other != shared.instance && peer.note_other() {
            tracing::warn!(
                %destination,
                "the other node says that another instance of this node, under the same keys, asks \
                 it to be let in. This one goes on"
            );
        }
        let pong = seal::alive(shared.identity(), destination, shared.instance, other);
        encode(&Frame { body: Some(frame::Body::Pong(pong)) })
    }

    fn acknowledged(&mut self, ack: Ack) -> Result<(), FederationError> {
        if ack.seq > self.sent || ack.seq < self.acknowledged {
            return Err(FederationError::Protocol("an ack of what was not sent".into()));
        }
        let expected = self.acknowledged + 1..=ack.seq;
        if ack.refusals.iter().any(|refusal| !expected.contains(&refusal.seq)) {
            return Err(FederationError::Protocol("a refusal of what was not sent".into()));
        }
        self.acknowledged = ack.seq;
        self.window.acknowledge(ack.seq);
        for refusal in &ack.refusals {
            self.outgoing.peer.refused_there(refusal.code);
        }
        let (told, refusals, receipt) = self.told.get_or_insert_default();
        *told = ack.seq;
        refusals.extend(ack.refusals);
        *receipt = ack.receipt;
        Ok(())
    }
}

/// Removes what was acknowledged.
type Removal<'a> = BoxFuture<'a, Result<(), FederationError>>;

/// Waits for a removal; for ever if there is none.
async fn finish(removing: &mut Option<Removal<'_>>) -> Result<(), FederationError> {
    let Some(removal) = removing else { return std::future::pending().await };
    let outcome = removal.await;
    *removing = None;
    outcome
}

impl crate::shared::Timing {
    /// How long to wait after so many failures in a row: twice as long each time, with jitter.
    fn backoff(&self, failures: u32) -> Duration {
        let doubled = self.first_backoff.saturating_mul(1 << failures.min(16));
        doubled.min(self.longest_backoff).mul_f64(rand::random_range(0.5..=1.0))
    }
}
