//! The seam between the store and an ordered key-value engine.

mod bulk;
mod disk;
mod index;
mod memory;
mod stand_in;

pub(crate) use self::bulk::Bulk;
pub use self::disk::{DiskEngine, DiskOptions, End, Follower, Reached};
pub(crate) use self::disk::{Hole, Resumed, Salvage, Shipped};
pub use self::memory::MemoryEngine;
pub(crate) use self::stand_in::{StandIns, stand_in};

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::StoreError;

/// Changes to apply as one: a value to store, or `None` to delete the key.
pub type Batch = BTreeMap<Vec<u8>, Option<Bytes>>;

/// A key and its value.
pub type Pair = (Bytes, Bytes);

/// An iterator over pairs in key order (or against it).
pub type Scan<'a> = Box<dyn Iterator<Item = Result<Pair, StoreError>> + 'a>;

/// Bounds of a scan over raw keys.
pub type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Order of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Ascending,
    /// Greatest key first.
    Descending,
}

/// Largest value: larger ones are files of their own in sled, which nobody makes durable.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Longest key.
pub const MAX_KEY_BYTES: usize = 4 * 1024;

/// Whether no key can lie within `range`.
pub(crate) fn is_empty((from, to): &KeyRange) -> bool {
    use Bound::{Excluded, Included};
    match (from, to) {
        (Included(a), Included(b)) => a > b,
        (Included(a) | Excluded(a), Included(b) | Excluded(b)) => a >= b,
        _ => false,
    }
}

/// A place in the journal of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// ID of the journal.
    pub journal: u64,
    /// Number of a batch.
    pub batch: u64,
}

impl Position {
    /// The place behind the next batch.
    pub(crate) fn next(self) -> Self {
        Self { batch: self.batch + 1, ..self }
    }

    /// Reads both numbers, big-endian.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&journal, batch) = bytes.split_first_chunk()?;
        let batch = u64::from_be_bytes(batch.try_into().ok()?);
        Some(Self { journal: u64::from_be_bytes(journal), batch })
    }
}

/// An ordered key-value engine.
///
/// Only the committer thread calls [`apply`](Engine::apply) and [`sync`](Engine::sync); reads come
/// from any thread. A batch is atomic: after a crash either all of it is there or nothing. Batches
/// survive in the order in which they were applied.
pub trait Engine: Send + Sync + 'static {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// All pairs within `range`, ascending or descending.
    ///
    /// While batches are applied it shows of each key some state since it began, and keys that
    /// are not written to exactly once.
    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_>;

    /// Makes the whole batch visible to readers. Not yet durable.
    ///
    /// After [`StoreError::DiskFull`] all is as it was before, and another batch may come.
    fn apply(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Makes every applied batch survive a power cut.
    fn sync(&self) -> Result<(), StoreError>;

    /// Bytes that can still be written, where the engine knows.
    fn available_bytes(&self) -> Option<u64>;

    /// Whether it was opened only to be read, and refuses changes.
    fn only_reads(&self) -> bool {
        false
    }

    /// About how many pairs there are, where the engine can tell without reading all values; it
    /// takes a while.
    fn count(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    /// The last batch that was applied, if the engine keeps a journal: one for each
    /// [`apply`](Engine::apply).
    fn position(&self) -> Option<Position> {
        None
    }

    /// Reads along behind a batch, if the engine keeps a journal.
    fn follow(&self, after: u64) -> Option<Follower> {
        let _ = after;
        None
    }

    /// Whoever follows has every batch up to this one. What comes behind it is kept for a while; with
    /// `u64::MAX` nothing is.
    fn followed(&self, batch: u64) {
        let _ = batch;
    }

    /// Reads what was stored long ago, where that may have been damaged unnoticed; returns whether all
    /// of it is as it was written. `go_on` hears of every part how many bytes it had, and may end it.
    fn read_all(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<bool, StoreError> {
        let _ = go_on;
        Ok(true)
    }
}

impl<E: Engine + ?Sized> Engine for Arc<E> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.as_ref().get(key)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
        self.as_ref().scan(range, direction)
    }

    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        self.as_ref().apply(batch)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.as_ref().sync()
    }

    fn available_bytes(&self) -> Option<u64> {
        self.as_ref().available_bytes()
    }

    fn only_reads(&self) -> bool {
        self.as_ref().only_reads()
    }

    fn count(&self) -> Result<Option<u64>, StoreError> {
        self.as_ref().count()
    }

    fn position(&self) -> Option<Position> {
        self.as_ref().position()
    }

    fn follow(&self, after: u64) -> Option<Follower> {
        self.as_ref().follow(after)
    }

    fn followed(&self, batch: u64) {
        self.as_ref().followed(batch);
    }

    fn read_all(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<bool, StoreError> {
        self.as_ref().read_all(go_on)
    }
}
