//! The default engine: sled 0.34.7, under the rules its defects demand, and a log for the values.
//!
//! sled rewrites what it holds several times over, and its memory and the time it takes to open
//! grow with the number of pairs. So messages and other long values go to a [log](value_log) of
//! append-only files, and sled holds where they are: of 32 neighbouring messages in one pair. A
//! value is durable before the batch that refers to it reaches sled; that batch also notes where
//! the log ends. [`compaction`] gives back the space of values that are no longer referred to.
//!
//! * `flush` after every batch: heavy insert-and-delete work without it deadlocks.
//! * `flush_async` is never called: it deadlocks.
//! * `flush` is not an fsync on Linux, so the database file is synced through a handle of our own.
//! * A page of more than a quarter segment becomes a blob file that nobody syncs. A page holds up
//!   to 17 pairs, so long values stay outside.
//! * Snapshots (`snap.*`) only speed up opening and a half-written one prevents it, so unfinished
//!   ones are removed first and, when opening fails, all of them are set aside.
//! * sled never syncs its settings (`conf`). They are synced before the first change; a torn file
//!   can only be left of a first start that was cut short, and is written anew.
//! * One database per process: locks and the thread pool are static.
//!
//! `clippy.toml` refuses the calls that break these rules.

mod block;
mod compaction;
mod folder;
mod location;
mod note;
mod row;
#[cfg(test)]
mod tests;
mod value_log;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::ops::{Bound, RangeBounds as _};
use std::path::Path;

use bytes::Bytes;
use parking_lot::Mutex;

use self::block::Block;
use self::compaction::Compaction;
use self::location::Location;
use self::note::Notes;
use self::row::{Place, Row};
use self::value_log::{End, Records, SEGMENT_BYTES, ValueLog};
use super::{Batch, Direction, Engine, KeyRange, Pair, Scan, is_empty};
use crate::StoreError;

/// sled and the value log in one folder.
pub struct SledEngine {
    // Fields are dropped in this order: the lock goes last.
    db: sled::Db,
    file: File,
    log: ValueLog,
    writer: Mutex<Writer>,
    _lock: File,
}

/// What only the committer needs.
struct Writer {
    end: End,
    /// A segment of the log that has so many is full.
    segment_bytes: u32,
    /// Bytes of each segment that nothing refers to any more.
    dead: BTreeMap<u32, u64>,
    compaction: Compaction,
}

impl SledEngine {
    /// Opens or creates the database in `folder` with a page cache of `cache_bytes`.
    ///
    /// Another process that has it open is [`StoreError::Locked`].
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        Self::open_with(folder, cache_bytes, SEGMENT_BYTES)
    }

    fn open_with(folder: &Path, cache_bytes: u64, segment_bytes: u32) -> Result<Self, StoreError> {
        let fails = |source| StoreError::Folder { folder: folder.to_owned(), source };
        let (db, lock) = folder::open(folder, cache_bytes)?;
        let file = File::open(folder.join("db")).map_err(fails)?;
        let notes = Notes::read(&db)?;
        let log = ValueLog::open(&folder.join("values"), notes.end)?;
        folder::sync_folder(folder).map_err(fails)?;
        for &segment in &notes.retired {
            log.remove(segment)?;
        }
        let compaction = Compaction::new(notes.retired);
        let writer = Writer { end: notes.end, segment_bytes, dead: notes.dead, compaction };
        Ok(Self { db, file, log, writer: Mutex::new(writer), _lock: lock })
    }

    fn row(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        self.db.get(key).map_err(engine_error)?.map(|value| Row::decode(&value)).transpose()
    }

    fn block(&self, key: &[u8]) -> Result<Block, StoreError> {
        let found = self.db.get(key).map_err(engine_error)?;
        found.map_or_else(|| Ok(Block::default()), |value| Block::decode(&value))
    }

    /// Where in the value log the value of a key is, if it is there.
    fn locate(&self, key: &[u8]) -> Result<Option<Location>, StoreError> {
        match Place::of(key)? {
            Place::Block(block, slot) => Ok(self.block(&block)?.get(slot)),
            Place::Row => Ok(match self.row(key)? {
                Some(Row::Outside(at)) => Some(at),
                _ => None,
            }),
        }
    }

    /// The value of a key whose place was looked up; the place may have changed meanwhile.
    fn resolve(&self, key: &[u8], mut at: Location) -> Result<Option<Bytes>, StoreError> {
        loop {
            if let Some(value) = self.log.read(at, key)? {
                return Ok(Some(value));
            }
            match self.locate(key)? {
                Some(now) if now == at => {
                    let segment = at.segment;
                    return Err(StoreError::Engine(format!("segment {segment:08x} is missing")));
                }
                Some(now) => at = now,
                // Now it is deleted, or short enough for sled.
                None => return self.get(key),
            }
        }
    }

    /// Makes changes visible: values first, durably, then what refers to them.
    fn put(&self, writer: &mut Writer, batch: &Batch, done: Option<u32>) -> Result<(), StoreError> {
        let mut changes = Changes {
            engine: self,
            rows: sled::Batch::default(),
            records: Records::after(writer.end, writer.segment_bytes),
            dead: BTreeMap::new(),
            block: None,
        };
        for (key, value) in batch {
            changes.add(key, value.as_ref())?;
        }
        changes.close_block();
        let Changes { mut rows, records, dead: newly_dead, .. } = changes;
        if !records.is_empty() {
            self.log.append(&records)?;
            note::end(&mut rows, records.end());
        }
        let mut dead = BTreeMap::new();
        for (segment, bytes) in newly_dead {
            let before = writer.dead.get(&segment).copied().unwrap_or_default();
            dead.insert(segment, before + bytes);
        }
        if let Some(segment) = done {
            dead.remove(&segment);
        }
        for (&segment, &bytes) in &dead {
            note::dead(&mut rows, segment, bytes);
        }
        writer.compaction.note(&mut rows, done);
        #[expect(clippy::disallowed_methods, reason = "the committer syncs after it")]
        self.db.apply_batch(rows).map_err(engine_error)?;
        if !records.is_empty() {
            writer.end = records.end();
        }
        writer.compaction.noted(!dead.is_empty(), done);
        writer.dead.extend(dead);
        if let Some(segment) = done {
            writer.dead.remove(&segment);
        }
        Ok(())
    }
}

/// One batch on its way into sled.
struct Changes<'a> {
    engine: &'a SledEngine,
    rows: sled::Batch,
    records: Records,
    dead: BTreeMap<u32, u64>,
    /// The block being changed: keys come in order, so those of one block together.
    block: Option<(Vec<u8>, Block)>,
}

impl Changes<'_> {
    fn add(&mut self, key: &[u8], value: Option<&Bytes>) -> Result<(), StoreError> {
        match Place::of(key)? {
            Place::Row => self.add_row(key, value),
            Place::Block(block, slot) => self.add_message(block, slot, key, value),
        }
    }

    fn add_row(&mut self, key: &[u8], value: Option<&Bytes>) -> Result<(), StoreError> {
        if let Some(Row::Outside(at)) = self.engine.row(key)? {
            self.dies(at);
        }
        match value {
            None => self.rows.remove(key),
            Some(value) if row::is_outside(value) => {
                let at = self.records.push(key, value);
                self.rows.insert(key, Row::Outside(at).encode());
            }
            Some(value) => self.rows.insert(key, Row::Inline(value.clone()).encode()),
        }
        Ok(())
    }

    fn add_message(
        &mut self,
        block_key: Vec<u8>,
        slot: usize,
        key: &[u8],
        value: Option<&Bytes>,
    ) -> Result<(), StoreError> {
        if self.block.as_ref().is_none_or(|(open, _)| *open != block_key) {
            self.close_block();
            let block = self.engine.block(&block_key)?;
            self.block = Some((block_key, block));
        }
        let at = value.map(|value| self.records.push(key, value));
        let before = self.block.as_mut().and_then(|(_, block)| block.set(slot, at));
        if let Some(before) = before {
            self.dies(before);
        }
        Ok(())
    }

    fn close_block(&mut self) {
        match self.block.take() {
            Some((key, block)) if block.is_empty() => self.rows.remove(key),
            Some((key, block)) => self.rows.insert(key, block.encode()),
            None => {}
        }
    }

    fn dies(&mut self, at: Location) {
        *self.dead.entry(at.segment).or_default() += u64::from(at.length);
    }
}

fn engine_error(error: sled::Error) -> StoreError {
    StoreError::Engine(error.to_string())
}

impl Engine for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let at = match Place::of(key) {
            // No table has such a key.
            Err(_) => None,
            Ok(Place::Block(block, slot)) => self.block(&block)?.get(slot),
            Ok(Place::Row) => match self.row(key)? {
                Some(Row::Inline(value)) => return Ok(Some(value)),
                Some(Row::Outside(at)) => Some(at),
                None => None,
            },
        };
        at.map_or(Ok(None), |at| self.resolve(key, at))
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
        let below = row::range(&range);
        if is_empty(&range) || is_empty(&below) {
            return Box::new(std::iter::empty());
        }
        let pairs = self.db.range(below);
        let pairs: Box<dyn Iterator<Item = _>> = match direction {
            Direction::Ascending => Box::new(pairs),
            Direction::Descending => Box::new(pairs.rev()),
        };
        Box::new(Expanded { engine: self, pairs, range, direction, messages: VecDeque::new() })
    }

    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        self.put(&mut writer, batch, None)?;
        self.compact(&mut writer)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(engine_error)?;
        self.file.sync_data().map_err(|error| StoreError::Engine(error.to_string()))?;
        self.writer.lock().compaction.retire(&self.log)
    }

    fn available_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.file).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn count(&self) -> Result<Option<u64>, StoreError> {
        let mut count = 0;
        for pair in self.db.range(row::range(&(Bound::Unbounded, Bound::Unbounded))) {
            let (key, value) = pair.map_err(engine_error)?;
            count += row::messages_of(&key, &value)?.map_or(1, |messages| messages.len() as u64);
        }
        Ok(Some(count))
    }
}

/// The pairs of a range, made from those in sled.
struct Expanded<'a> {
    engine: &'a SledEngine,
    pairs: Box<dyn Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>> + 'a>,
    range: KeyRange,
    direction: Direction,
    /// Messages of the block at hand that are still to be shown.
    messages: VecDeque<(Vec<u8>, Location)>,
}

impl Expanded<'_> {
    fn step(&mut self) -> Result<Option<Pair>, StoreError> {
        loop {
            while let Some((key, at)) = self.messages.pop_front() {
                if let Some(value) = self.engine.resolve(&key, at)? {
                    return Ok(Some((key.into(), value)));
                }
            }
            let Some(pair) = self.pairs.next() else { return Ok(None) };
            let (key, value) = pair.map_err(engine_error)?;
            match row::messages_of(&key, &value)? {
                Some(mut messages) => {
                    messages.retain(|(key, _)| self.range.contains(key));
                    if self.direction == Direction::Descending {
                        messages.reverse();
                    }
                    self.messages = messages.into();
                }
                None => {
                    let found = match Row::decode(&value)? {
                        Row::Inline(value) => Some(value),
                        Row::Outside(at) => self.engine.resolve(&key, at)?,
                    };
                    if let Some(value) = found {
                        return Ok(Some((Bytes::copy_from_slice(&key), value)));
                    }
                }
            }
        }
    }
}

impl Iterator for Expanded<'_> {
    type Item = Result<Pair, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
