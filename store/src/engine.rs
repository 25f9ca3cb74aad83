//! The seam between the store and an ordered key-value engine.

mod memory;
mod sled;

pub use self::memory::MemoryEngine;
pub use self::sled::SledEngine;

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::StoreError;
use crate::layered::Direction;

/// Changes to apply as one: a value to store, or `None` to delete the key.
pub type Batch = BTreeMap<Vec<u8>, Option<Bytes>>;

/// A key and its value.
pub type Pair = (Bytes, Bytes);

/// An iterator over pairs in key order (or against it).
pub type Scan<'a> = Box<dyn Iterator<Item = Result<Pair, StoreError>> + 'a>;

/// Bounds of a scan over raw keys.
pub type KeyRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// An ordered key-value engine.
///
/// Only the committer thread calls [`apply`](Engine::apply) and [`sync`](Engine::sync); reads come
/// from any thread. A batch is atomic: after a crash either all of it is there or nothing. Batches
/// survive in the order in which they were applied.
pub trait Engine: Send + Sync + 'static {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// All pairs within `range`, ascending or descending.
    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_>;

    /// Makes the whole batch visible to readers. Not yet durable.
    fn apply(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Makes every applied batch survive a power cut.
    fn sync(&self) -> Result<(), StoreError>;

    /// Bytes that can still be written, where the engine knows.
    fn available_bytes(&self) -> Option<u64>;
}
