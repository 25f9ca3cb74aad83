//! Streams of events between nodes: what waits for another node, and how far its own stream has
//! been applied here.
//!
//! An event is queued in the transaction of the change that it tells of, and removed once the other
//! node has made it durable. The place of an event in its stream counts from 1 per destination.

use crate::engine::Direction;
use crate::layered::Read;
use crate::record::{Cursor, OutboxHead, Queued};
use crate::schema::{CURSORS, OUTBOX, OUTBOX_HEADS};
use crate::{StoreError, Tx};

/// Which run of the streams of this node it is: another one after every restore, never 0.
pub fn stream_epoch(from: &impl Read) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = from.salt();
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
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

impl Tx<'_> {
    /// Puts an event at the end of the stream to `destination`; returns its place.
    pub fn queue(&mut self, destination: &str, event: &Queued) -> Result<u64, StoreError> {
        let mut head = head(self, destination)?;
        head.last += 1;
        OUTBOX.put(self, (destination, head.last), event);
        OUTBOX_HEADS.put(self, destination, &head);
        Ok(head.last)
    }

    /// Removes the events that `destination` has, all up to `seq`.
    pub fn acknowledge(&mut self, destination: &str, seq: u64) -> Result<(), StoreError> {
        let mut head = head(self, destination)?;
        let seq = seq.min(head.last);
        if seq <= head.acknowledged {
            return Ok(());
        }
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
