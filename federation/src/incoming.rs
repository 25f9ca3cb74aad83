//! The receiving end of a stream of events.
//!
//! A batch is checked (signature, audience, place in the stream) before its events are looked at,
//! applied in transactions that move the cursor too, and acknowledged once those are durable.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{FuturesOrdered, SplitSink};
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use prost::Message as _;
use proto::federation::{
    Ack, Batch, BatchPayload, Bye, ByeCode, Event, Frame, Hello, Refusal, Welcome, frame,
};
use store::record::Cursor;
use store::{StoreError, fault, outbox};

use crate::budget::Cost;
use crate::frame::{Frames, MAX_EVENTS_FRAME, decode, encode, frames, receive, send};
use crate::peer::Peer;
use crate::rules::Begin;
use crate::shared::Shared;
use crate::signed::{Use, verify};
use crate::transport::Incoming;
use crate::{Domain, FederationError, PublicKey, VERSION};

/// Most events in one batch.
const MAX_EVENTS: usize = 4_096;
/// Time in which a fault can show.
const FAULT_SHOWS: Duration = Duration::from_millis(50);
/// Largest place in a stream.
const MAX_SEQ: u64 = u64::MAX / 2;
/// Batches that are being applied; the link waits beyond them.
const UNDER_WAY: usize = 4;

/// Faults that `testnet simulate` must notice.
#[derive(Clone, Copy)]
struct Faults {
    /// Acknowledges what is not durable.
    acknowledges_first: bool,
    /// Moves the cursor apart from what it counts.
    moves_cursor_first: bool,
}

impl Faults {
    fn chosen() -> Self {
        Self {
            acknowledges_first: fault::is_on("acknowledge-before-commit"),
            moves_cursor_first: fault::is_on("cursor-apart"),
        }
    }
}

/// Serves one link of the events lane until it ends.
pub(crate) async fn serve(shared: Arc<Shared>, incoming: Incoming) -> Result<(), FederationError> {
    let mut frames = frames(incoming.link, MAX_EVENTS_FRAME);
    let (stream, peer, welcome) = match greet(&shared, &mut frames, incoming.peer).await {
        Ok(greeted) => greeted,
        Err(error) => {
            let _ = send(&mut frames, &bye(&error)).await;
            return Err(error);
        }
    };
    let ended = peer.take_over();
    peer.reachable.notify_one();
    send(&mut frames, &Frame { body: Some(frame::Body::Welcome(welcome)) }).await?;
    let (mut sink, frames) = frames.split();
    let served = ended.run_until_cancelled(stream.serve(&mut sink, frames, &peer)).await;
    match served {
        Some(Err(error)) => {
            peer.refused_link(&error.to_string());
            let _ = sink.send(encode(&bye(&error))).await;
            Err(error)
        }
        _ => Ok(()),
    }
}

fn bye(error: &FederationError) -> Frame {
    let closing = Bye { code: ByeCode::ByeUnspecified.into(), reason: "the link ends".to_owned() };
    Frame { body: Some(frame::Body::Bye(error.bye().unwrap_or(closing))) }
}

/// Finds out who it is and where the stream stands.
async fn greet(
    shared: &Arc<Shared>,
    frames: &mut Frames,
    key: PublicKey,
) -> Result<(Greeted, Arc<Peer>, Welcome), FederationError> {
    let patience = shared.settings.timing.answer;
    let Some(frame::Body::Hello(hello)) = receive::<Frame>(frames, patience).await?.body else {
        return Err(FederationError::Protocol("the first frame must be a hello".into()));
    };
    let Hello { versions, origin, audience, epoch, acknowledged, document } = hello;
    if !versions.contains(&VERSION) {
        let reason = format!("this node speaks version {VERSION}");
        return Err(FederationError::Bye { code: ByeCode::ByeVersion, reason });
    }
    let origin = shared.origin(&origin, &audience)?;
    if epoch == 0 || acknowledged > MAX_SEQ {
        return Err(FederationError::Protocol("no such place in a stream".into()));
    }
    shared.admit(&origin, &key, document).await?;
    let cursor = outbox::cursor(&shared.store.view(), origin.as_str())?;
    let cursor = begin_at(cursor, epoch, acknowledged);
    let welcome =
        Welcome { version: VERSION, epoch, seq: cursor.seq, document: Some(shared.document()) };
    let peer = shared.peer(&origin);
    Ok((Greeted { shared: Arc::clone(shared), origin, cursor }, peer, welcome))
}

/// Where a stream goes on, given what the origin says was acknowledged.
///
/// A new epoch begins where the origin stands. Within one, the origin only knows of more when this
/// node has lost what it acknowledged, by a restore; that cannot be sent again.
fn begin_at(cursor: Cursor, epoch: u64, acknowledged: u64) -> Cursor {
    if cursor.epoch != epoch || acknowledged > cursor.seq {
        return Cursor { epoch, seq: acknowledged };
    }
    cursor
}

/// A greeted stream.
struct Greeted {
    shared: Arc<Shared>,
    origin: Domain,
    /// Where it stands when the link begins.
    cursor: Cursor,
}

impl Greeted {
    async fn serve(
        &self,
        sink: &mut SplitSink<Frames, bytes::Bytes>,
        mut frames: impl Stream<Item = std::io::Result<bytes::BytesMut>> + Unpin,
        peer: &Peer,
    ) -> Result<(), FederationError> {
        let faults = Faults::chosen();
        let mut taken = self.cursor.seq;
        let mut applying = FuturesOrdered::new();
        let mut refusals: Vec<Refusal> = Vec::new();
        // Over its budget: until then nothing is read.
        let has_to_wait = peer.has_to_wait();
        let rest = tokio::time::sleep(has_to_wait);
        tokio::pin!(rest);
        let mut rests = !has_to_wait.is_zero();
        loop {
            tokio::select! {
                () = &mut rest, if rests => rests = false,
                frame = frames.next(), if !rests && applying.len() < UNDER_WAY => {
                    let Some(frame) = frame else { return Ok(()) };
                    let frame = frame?.freeze();
                    let bytes = frame.len();
                    let (payload, events) = self.open(frame, taken).await?;
                    let costs = events.iter().filter_map(|event| {
                        let account = self.shared.rules.account(event)?;
                        Some(Cost { account, bytes: event.body.len() })
                    });
                    let wait = peer.charge(events.len(), bytes, costs.collect());
                    rests = !wait.is_zero();
                    rest.as_mut().reset(tokio::time::Instant::now() + wait);
                    let last = payload.first_seq + events.len() as u64 - 1;
                    taken = last;
                    peer.received.fetch_add(events.len() as u64, Ordering::Relaxed);
                    let numbered: Vec<_> = (payload.first_seq..).zip(events).collect();
                    let begin = self.begin(payload.epoch, faults);
                    if faults.acknowledges_first {
                        let ack = Ack { seq: last, refusals: Vec::new() };
                        sink.send(encode(&Frame { body: Some(frame::Body::Ack(ack)) })).await?;
                    }
                    if faults.moves_cursor_first {
                        self.move_cursor(payload.epoch, last).await?;
                    }
                    let applied = self.shared.rules.apply(&self.origin, numbered, begin);
                    applying.push_back(async move {
                        if faults.acknowledges_first || faults.moves_cursor_first {
                            tokio::time::sleep(FAULT_SHOWS).await;
                        }
                        (last, applied.await)
                    });
                }
                Some((last, applied)) = applying.next(), if !applying.is_empty() => {
                    let applied = applied?;
                    for refusal in &applied {
                        peer.refused_here(refusal.code);
                    }
                    if !applied.is_empty() {
                        let wait = peer.charge_refused(applied.len());
                        rests |= !wait.is_zero();
                        let until = rest.deadline().max(tokio::time::Instant::now() + wait);
                        rest.as_mut().reset(until);
                    }
                    refusals.extend(applied);
                    if faults.acknowledges_first {
                        continue;
                    }
                    let ack = Ack { seq: last, refusals: std::mem::take(&mut refusals) };
                    sink.send(encode(&Frame { body: Some(frame::Body::Ack(ack)) })).await?;
                }
            }
        }
    }

    /// Checks a frame and takes its events out.
    async fn open(
        &self,
        frame: bytes::Bytes,
        taken: u64,
    ) -> Result<(BatchPayload, Vec<Event>), FederationError> {
        let batch = match decode::<Frame>(frame)?.body {
            Some(frame::Body::Batch(batch)) => batch,
            Some(frame::Body::Bye(bye)) => return Err(bye.into()),
            _ => return Err(FederationError::Protocol("not a batch".into())),
        };
        let (signer, batch) = tokio::task::spawn_blocking(move || {
            let Batch { payload, signature } = batch;
            (verify(Use::Batch, &payload, &signature.unwrap_or_default()), payload)
        })
        .await
        .map_err(|_| FederationError::Protocol("a signature could not be checked".into()))?;
        let refuse =
            |code, reason: &str| Err(FederationError::Bye { code, reason: reason.to_owned() });
        let Some(signer) = signer else {
            return refuse(ByeCode::ByeSignature, "the signature of a batch does not verify");
        };
        if !self.shared.trust.known(&self.origin)?.believes(&signer, (self.shared.now)()) {
            return refuse(
                ByeCode::ByeSignature,
                "the key of a batch does not speak for its origin",
            );
        }
        let mut payload = BatchPayload::decode(batch)
            .map_err(|_| FederationError::Protocol("a batch does not decode".into()))?;
        if payload.origin != self.origin.as_str() {
            return refuse(ByeCode::ByeIdentity, "a batch of another origin");
        }
        if payload.audience != self.shared.settings.domain.as_str() {
            return refuse(ByeCode::ByeAudience, "a batch for another audience");
        }
        if payload.epoch != self.cursor.epoch || payload.first_seq != taken + 1 {
            return refuse(ByeCode::ByeOrder, "not the event that comes next");
        }
        if payload.events.is_empty() || payload.events.len() > MAX_EVENTS {
            return refuse(ByeCode::ByeTooLarge, "an empty batch, or too many events");
        }
        let events = std::mem::take(&mut payload.events);
        Ok((payload, events))
    }

    /// Moves the cursor on its own, before anything is applied: a fault.
    async fn move_cursor(&self, epoch: u64, seq: u64) -> Result<(), StoreError> {
        let origin = self.origin.clone();
        let moved = self.shared.store.transact(move |tx| {
            tx.advance(origin.as_str(), Cursor { epoch, seq });
            Ok(())
        });
        moved.await
    }

    /// What begins a transaction: nothing is applied twice, and nothing is left out.
    fn begin(&self, epoch: u64, faults: Faults) -> Begin {
        let (origin, start) = (self.origin.clone(), self.cursor);
        Arc::new(move |tx, first_seq, last| {
            let durable = outbox::cursor(tx, origin.as_str())?;
            let durable = if durable.epoch == start.epoch && durable.seq >= start.seq {
                durable
            } else {
                start
            };
            if first_seq > durable.seq + 1 {
                return Err(StoreError::Engine(format!("events of {origin} are out of order")));
            }
            tx.advance(origin.as_str(), Cursor { epoch, seq: durable.seq.max(last) });
            Ok(if faults.moves_cursor_first { first_seq - 1 } else { durable.seq })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_stream_goes_on() {
        let at = |epoch, seq| Cursor { epoch, seq };
        assert_eq!(begin_at(at(0, 0), 7, 0), at(7, 0));
        assert_eq!(begin_at(at(7, 5), 7, 3), at(7, 5));
        assert_eq!(begin_at(at(7, 5), 7, 9), at(7, 9));
        assert_eq!(begin_at(at(7, 5), 8, 2), at(8, 2));
    }
}
