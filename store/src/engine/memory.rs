use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use parking_lot::RwLock;

use super::{Batch, Direction, Engine, KeyRange, Pair, Scan, is_empty};
use crate::StoreError;

/// Rows fetched per lock by a scan.
const CHUNK: usize = 64;

/// An engine that forgets everything when it is dropped; for tests and simulation.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    rows: RwLock<BTreeMap<Bytes, Bytes>>,
}

impl Engine for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.rows.read().get(key).cloned())
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
        Box::new(Chunks { rows: &self.rows, range: Some(range), direction, ready: Vec::new() })
    }

    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut rows = self.rows.write();
        for (key, value) in batch {
            match value {
                Some(value) => rows.insert(Bytes::copy_from_slice(key), value.clone()),
                None => rows.remove(key.as_slice()),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn available_bytes(&self) -> Option<u64> {
        None
    }
}

/// A scan that holds the lock only while it fetches its next rows.
struct Chunks<'a> {
    rows: &'a RwLock<BTreeMap<Bytes, Bytes>>,
    range: Option<KeyRange>,
    direction: Direction,
    /// Rows already fetched, the next one last.
    ready: Vec<Pair>,
}

impl Chunks<'_> {
    fn fetch(&mut self) {
        // `BTreeMap::range` panics on bounds that are the wrong way round.
        let Some((from, to)) = self.range.take().filter(|range| !is_empty(range)) else { return };
        let rows = self.rows.read();
        let bounds = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
        let found = rows.range::<[u8], _>(bounds);
        let copy = |(key, value): (&Bytes, &Bytes)| (key.clone(), value.clone());
        self.ready = match self.direction {
            Direction::Ascending => found.take(CHUNK).map(copy).collect(),
            Direction::Descending => found.rev().take(CHUNK).map(copy).collect(),
        };
        if self.ready.len() == CHUNK
            && let Some((last, _)) = self.ready.last()
        {
            self.range = Some(match self.direction {
                Direction::Ascending => (Bound::Excluded(last.to_vec()), to),
                Direction::Descending => (from, Bound::Excluded(last.to_vec())),
            });
        }
        self.ready.reverse();
    }
}

impl Iterator for Chunks<'_> {
    type Item = Result<Pair, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            self.fetch();
        }
        self.ready.pop().map(Ok)
    }
}
