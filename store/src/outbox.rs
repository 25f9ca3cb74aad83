//! Streams of events between nodes: what waits for another node, and how far its own stream has
//! been applied here.
//!
//! An event is queued in the transaction of the change that it tells of, and removed once the other
//! node has made it durable. The place of an event in its stream counts from 1 per destination.

use prost::Message as _;
use proto::federation::Mark;
use sha2::{Digest as _, Sha256};

use crate::engine::Direction;
use crate::layered::Read;
use crate::record::{Cursor, OutboxHead, Queued};
use crate::schema::{CURSORS, OUTBOX, OUTBOX_HEADS};
use crate::{StoreError, Tx, epoch};

/// Which run of the streams of this node it is: another one after every restore, never 0.
pub fn stream_epoch(from: &impl Read) -> u64 {
    epoch::of_salt(from.salt())
}

/// Where the stream to `destination` stands.
pub fn head(from: &impl Read, destination: &str) -> Result<OutboxHead, StoreError> {
    Ok(OUTBOX_HEADS.get(from, destination)?.unwrap_or_default())
}

/// Every node that something has ever been queued for, and where its stream stands.
pub fn heads(
    from: &impl Read,
) -> impl Iterator<Item = Result<(String, OutboxHead), StoreError>> + '_ {
    OUTBOX_HEADS.scan(from, ())
}

/// The events for `destination` behind `after`, in order.
pub fn queued<'a>(
    from: &'a impl Read,
    destination: &'a str,
    after: u64,
) -> impl Iterator<Item = Result<(u64, Queued), StoreError>> + 'a {
    OUTBOX
        .range(from, (destination, after.saturating_add(1)), destination, Direction::Ascending)
        .map(|row| row.map(|((_, seq), queued)| (seq, queued)))
}

/// How far the stream of `origin` has been applied; zeros where nothing ever came.
pub fn cursor(from: &impl Read, origin: &str) -> Result<Cursor, StoreError> {
    Ok(CURSORS.get(from, origin)?.unwrap_or_default())
}

/// What tells an event, and all before it, from others that might stand at its place.
fn mark(before: u64, seq: u64, event: &Queued) -> u64 {
    let mut hash = Sha256::new();
    hash.update(before.to_be_bytes());
    hash.update(seq.to_be_bytes());
    hash.update(event.encode_to_vec());
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = hash.finalize().into();
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
}

impl Tx<'_> {
    /// Puts an event at the end of the stream to `destination`; returns its place.
    pub fn queue(&mut self, destination: &str, event: &Queued) -> Result<u64, StoreError> {
        let mut head = head(self, destination)?;
        head.last += 1;
        head.mark = mark(head.mark, head.last, event);
        let event = Queued { mark: head.mark, ..event.clone() };
        OUTBOX.put(self, (destination, head.last), &event);
        OUTBOX_HEADS.put(self, destination, &head);
        Ok(head.last)
    }

    /// Removes the events that `destination` has, all up to `seq`, and keeps its receipt.
    pub fn acknowledge(
        &mut self,
        destination: &str,
        seq: u64,
        receipt: Option<Mark>,
    ) -> Result<(), StoreError> {
        let mut head = head(self, destination)?;
        let seq = seq.min(head.last);
        if seq <= head.acknowledged {
            return Ok(());
        }
        let last = OUTBOX.get(self, (destination, seq))?;
        head.acknowledged_mark = last.map_or(0, |last| last.mark);
        head.receipt = receipt.or(head.receipt);
        for gone in head.acknowledged + 1..=seq {
            OUTBOX.delete(self, (destination, gone));
        }
        head.acknowledged = seq;
        OUTBOX_HEADS.put(self, destination, &head);
        Ok(())
    }

    /// Notes that the stream of `origin` has been applied up to `cursor`.
    pub fn advance(&mut self, origin: &str, cursor: Cursor) {
        CURSORS.put(self, origin, &cursor);
    }
}
