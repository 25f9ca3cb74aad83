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
    Ack, Batch, BatchPayload, Bye, ByeCode, Event, Frame, Hello, Mark, Ping, Refusal, Welcome,
    frame,
};
use store::record::Cursor;
use store::{StoreError, fault, outbox};

use crate::budget::Cost;
use crate::frame::{Frames, MAX_EVENTS_FRAME, decode, encode, frames, receive, send};
use crate::instance::Probes;
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
    let (stream, peer, instance, welcome) = match greet(&shared, &mut frames, incoming.peer).await {
        Ok(greeted) => greeted,
        Err(error) => {
            let _ = send(&mut frames, &bye(&error)).await;
            return Err(error);
        }
    };
    let (ended, probes) = peer.take_over(instance);
    let _ends = ended.clone().drop_guard();
    peer.reachable.notify_one();
    send(&mut frames, &Frame { body: Some(frame::Body::Welcome(welcome)) }).await?;
    let (mut sink, frames) = frames.split();
    let served = ended.run_until_cancelled(stream.serve(&mut sink, frames, &peer, probes)).await;
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
    let (code, reason) = (ByeCode::ByeUnspecified.into(), "the link ends".to_owned());
    let closing = Bye { code, reason, alive: None };
    Frame { body: Some(frame::Body::Bye(error.bye().unwrap_or(closing))) }
}

/// Finds out who it is and where the stream stands.
async fn greet(
    shared: &Arc<Shared>,
    frames: &mut Frames,
    key: PublicKey,
) -> Result<(Greeted, Arc<Peer>, u64, Welcome), FederationError> {
    let patience = shared.settings.timing.answer;
    let Some(frame::Body::Hello(hello)) = receive::<Frame>(frames, patience).await?.body else {
        return Err(FederationError::Protocol("the first frame must be a hello".into()));
    };
    let Hello { versions, origin, audience, epoch, acknowledged, document, .. } = hello;
    let Hello { instance, mark, receipt, .. } = hello;
    if !versions.contains(&VERSION) {
        let reason = format!("this node speaks version {VERSION}");
        return Err(FederationError::Bye { code: ByeCode::ByeVersion, reason });
    }
    let origin = shared.origin(&origin, &audience)?;
    if epoch == 0 || acknowledged > MAX_SEQ {
        return Err(FederationError::Protocol("no such place in a stream".into()));
    }
    shared.admit(&origin, &key, document).await?;
    let peer = shared.peer(&origin);
    shared.only_one(&origin, &peer, instance).await?;
    shared.judge(&origin, mark).await?;
    shared.judge_receipt(&origin, receipt)?;
    let known = outbox::cursor(&shared.store.view(), origin.as_str())?;
    let cursor = begin_at(known, epoch, acknowledged);
    if known.epoch != 0 && known.epoch != epoch {
        tracing::warn!(
            %origin,
            "the data of the other node was restored from a backup, or went back in time: its stream \
             begins anew, and it asks for what it has lost"
        );
    } else if known.epoch == epoch && cursor.seq > known.seq {
        tracing::warn!(
            %origin,
            from = known.seq + 1,
            to = cursor.seq,
            "events are not sent again that this node has acknowledged and does not have: its data \
             was restored, or is an older copy"
        );
    }
    let (document, mark) = (Some(shared.document()), known.mark);
    let welcome = Welcome { version: VERSION, epoch, seq: cursor.seq, document, mark };
    Ok((Greeted { shared: Arc::clone(shared), origin, cursor }, peer, instance, welcome))
}

/// Where a stream goes on, given what the origin says was acknowledged.
///
/// A new epoch begins where the origin stands. Within one, the origin only knows of more when this
/// node has lost what it acknowledged, by a restore; that cannot be sent again.
fn begin_at(cursor: Cursor, epoch: u64, acknowledged: u64) -> Cursor {
    if cursor.epoch != epoch || acknowledged > cursor.seq {
        return Cursor { epoch, seq: acknowledged, ..cursor };
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
        mut probes: Probes,
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
            let reads = !rests && applying.len() < UNDER_WAY;
            probes.set_rests(!reads);
            tokio::select! {
                () = &mut rest, if rests => rests = false,
                instance = probes.next() => {
                    let ping = frame::Body::Ping(Ping { instance });
                    sink.send(encode(&Frame { body: Some(ping) })).await?;
                }
                frame = frames.next(), if reads => {
                    let Some(frame) = frame else { return Ok(()) };
                    let frame = frame?.freeze();
                    let bytes = frame.len();
                    let batch = match decode::<Frame>(frame)?.body {
                        Some(frame::Body::Batch(batch)) => batch,
                        Some(frame::Body::Pong(pong)) => {
                            probes.answered(pong);
                            continue;
                        }
                        Some(frame::Body::Bye(bye)) => return Err(bye.into()),
                        _ => return Err(FederationError::Protocol("not a batch".into())),
                    };
                    let (payload, events) = self.open(batch, taken).await?;
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
                    let begin = self.begin(payload.epoch, payload.mark, faults);
                    if faults.acknowledges_first {
                        let ack = Ack { seq: last, refusals: Vec::new(), receipt: None };
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
                    let receipt = self.shared.receipt(&self.origin, (self.cursor.epoch, last));
                    let refusals = std::mem::take(&mut refusals);
                    let ack = Ack { seq: last, refusals, receipt: Some(receipt) };
                    sink.send(encode(&Frame { body: Some(frame::Body::Ack(ack)) })).await?;
                }
            }
        }
    }

    /// Checks a batch and takes its events out.
    async fn open(
        &self,
        batch: Batch,
        taken: u64,
    ) -> Result<(BatchPayload, Vec<Event>), FederationError> {
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
            tx.advance(origin.as_str(), Cursor { epoch, seq, mark: None });
            Ok(())
        });
        moved.await
    }

    /// What begins a transaction: nothing is applied twice, and nothing is left out. `mark` is that of
    /// the last event of the batch.
    fn begin(&self, epoch: u64, mark: Option<Mark>, faults: Faults) -> Begin {
        let (origin, start) = (self.origin.clone(), self.cursor);
        Arc::new(move |tx, first_seq, last| {
            let durable = outbox::cursor(tx, origin.as_str())?;
            let durable = if durable.epoch == start.epoch && durable.seq >= start.seq {
                durable
            } else {
                start
            };
            if first_seq > durable.seq + 1 {
                return Ok(None);
            }
            let mark = mark.filter(|mark| (mark.epoch, mark.seq) == (epoch, last));
            let mark = mark.filter(|_| last > durable.seq).or(durable.mark);
            tx.advance(origin.as_str(), Cursor { epoch, seq: durable.seq.max(last), mark });
            Ok(Some(if faults.moves_cursor_first { first_seq - 1 } else { durable.seq }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_stream_goes_on() {
        let at = |epoch, seq| Cursor { epoch, seq, mark: None };
        assert_eq!(begin_at(at(0, 0), 7, 0), at(7, 0));
        assert_eq!(begin_at(at(7, 5), 7, 3), at(7, 5));
        assert_eq!(begin_at(at(7, 5), 7, 9), at(7, 9));
        assert_eq!(begin_at(at(7, 5), 8, 2), at(8, 2));
    }
}
