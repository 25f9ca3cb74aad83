//! What is in the journal and not yet in the index: two tables in memory that lie over it.
//!
//! Commits change the active table. When it is large enough it is frozen, and the next one takes its
//! place; once the index has what the frozen one holds, that is dropped.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::engine::{Batch, Direction, KeyRange, Scan};
use crate::layered::{lay, overlap};

/// What a row takes beside its key and value, about.
const ROW_BYTES: usize = 96;

/// Changed rows: a value, or `None` for a row that is deleted.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: RwLock<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    rows: BTreeMap<Vec<u8>, Option<Bytes>>,
    bytes: usize,
}

impl Table {
    fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.rows.read().rows.get(key).cloned()
    }

    /// Rows from the front of a range (or its end, if it is read backwards).
    fn some(
        &self,
        range: &KeyRange,
        direction: Direction,
        most: usize,
    ) -> VecDeque<(Vec<u8>, Option<Bytes>)> {
        let rows = self.rows.read();
        let within = rows.rows.range::<Vec<u8>, _>(overlap(range));
        let owned = |(key, value): (&Vec<u8>, &Option<Bytes>)| (key.clone(), value.clone());
        match direction {
            Direction::Ascending => within.take(most).map(owned).collect(),
            Direction::Descending => within.rev().take(most).map(owned).collect(),
        }
    }

    /// The rows after `last`, up to so many and about so many bytes.
    pub(super) fn after(&self, last: Option<&[u8]>, most: usize, most_bytes: usize) -> Batch {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.rows.read();
        let mut found = Batch::new();
        let mut bytes = 0;
        for (key, value) in rows.rows.range::<[u8], _>((from, Bound::Unbounded)) {
            if found.len() == most || bytes >= most_bytes {
                break;
            }
            bytes += value.as_ref().map_or(0, Bytes::len);
            found.insert(key.clone(), value.clone());
        }
        found
    }

    fn put(&self, batch: &Batch) -> usize {
        let mut table = self.rows.write();
        let Rows { rows, bytes } = &mut *table;
        for (key, value) in batch {
            let size = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
            *bytes += size(value);
            match rows.insert(key.clone(), value.clone()) {
                Some(before) => *bytes -= size(&before),
                None => *bytes += key.len() + ROW_BYTES,
            }
        }
        *bytes
    }

    fn bytes(&self) -> usize {
        self.rows.read().bytes
    }
}

/// The tables at one moment; the upper goes first.
#[derive(Debug, Clone, Default)]
struct Tables {
    active: Arc<Table>,
    frozen: Option<Arc<Table>>,
}

/// The tables.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    tables: RwLock<Tables>,
}

impl Overlay {
    /// What a key was changed to; `None` if the index has it.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let tables = self.tables.read().clone();
        let active = tables.active.get(key);
        active.or_else(|| tables.frozen.and_then(|frozen| frozen.get(key)))
    }

    /// Adds changes; returns the bytes in the active table.
    pub(super) fn put(&self, batch: &Batch) -> usize {
        let active = Arc::clone(&self.tables.read().active);
        active.put(batch)
    }

    /// Freezes the active table, if none is frozen and it holds anything; returns the frozen one.
    pub(super) fn freeze(&self) -> Option<Arc<Table>> {
        let mut tables = self.tables.write();
        if tables.frozen.is_none() && tables.active.bytes() > 0 {
            tables.frozen = Some(std::mem::take(&mut tables.active));
        }
        tables.frozen.clone()
    }

    /// The index has what the frozen table holds.
    pub(super) fn drop_frozen(&self) {
        self.tables.write().frozen = None;
    }

    /// Every changed row.
    pub(super) fn rows(&self) -> Batch {
        let tables = self.tables.read().clone();
        let lower = tables.frozen.map(|frozen| frozen.rows.read().rows.clone());
        let mut rows = lower.unwrap_or_default();
        rows.extend(tables.active.rows.read().rows.clone());
        rows
    }

    /// Bytes in the active table.
    pub(super) fn active_bytes(&self) -> usize {
        let active = Arc::clone(&self.tables.read().active);
        active.bytes()
    }

    /// Lays the tables over a scan of the index; `below` is called when they are held.
    pub(super) fn scan<'a>(
        &self,
        range: KeyRange,
        direction: Direction,
        below: impl FnOnce(KeyRange) -> Scan<'a>,
    ) -> Scan<'a> {
        // Held first: what leaves them while the scan goes on was in them, or is in the index.
        let tables = self.tables.read().clone();
        let mut scan = below(range.clone());
        for table in tables.frozen.into_iter().chain([tables.active]) {
            let above = Walk {
                table,
                ahead: Some(range.clone()),
                direction,
                ready: VecDeque::new(),
                chunk: FIRST_CHUNK,
            };
            scan = lay(above, scan, direction);
        }
        scan
    }
}

/// Rows fetched at once: few at first, since many scans want one.
const FIRST_CHUNK: usize = 4;
const LARGEST_CHUNK: usize = 128;

/// The rows of a table within a range, while others may change it.
struct Walk {
    table: Arc<Table>,
    /// What still lies ahead; `None` at the end.
    ahead: Option<KeyRange>,
    direction: Direction,
    ready: VecDeque<(Vec<u8>, Option<Bytes>)>,
    chunk: usize,
}

impl Iterator for Walk {
    type Item = (Vec<u8>, Option<Bytes>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            let (from, to) = self.ahead.take()?;
            let range = (from, to);
            self.ready = self.table.some(&range, self.direction, self.chunk);
            if self.ready.len() == self.chunk
                && let Some((last, _)) = self.ready.back()
            {
                let last = Bound::Excluded(last.clone());
                self.ahead = Some(match self.direction {
                    Direction::Ascending => (last, range.1),
                    Direction::Descending => (range.0, last),
                });
            }
            self.chunk = (self.chunk * 4).min(LARGEST_CHUNK);
        }
        self.ready.pop_front()
    }
}
