//! Where every pair is found: sled 0.34.7, under the rules its defects demand, and a log for the values.
//!
//! The index is made from the [journal](super::disk), in large steps, by one thread. sled rewrites
//! what it holds several times over, and its memory and the time it takes to open grow with the number
//! of pairs. So messages and other long values go to a [log](value_log) of append-only files, and sled
//! holds where they are: of 32 neighbouring messages in one pair. A value is durable before the step
//! that refers to it reaches sled; that step also notes where the log ends and what all pairs
//! [come to](Sum). [`compaction`] gives back the space of values that are no longer referred to.
//!
//! * `flush` after every batch: heavy insert-and-delete work without it deadlocks.
//! * `flush_async` is never called: it deadlocks.
//! * `flush` is not an fsync on Linux, so the database file is synced through a handle of our own
//!   after every batch: sled writes over what it takes for durable elsewhere.
//! * A page of more than a quarter segment becomes a blob file that nobody syncs. A page holds up
//!   to 17 pairs, so long values stay outside.
//! * sled cuts its file at the first bytes that it cannot read, without a word. So nothing is opened
//!   before it was checked, and what may have changed since it was listed is checked on a copy.
//! * Snapshots (`snap.*`) only speed up opening and a half-written one prevents it, so unfinished
//!   ones are removed first and, when opening fails, all of them are set aside.
//! * sled never syncs its settings (`conf`). They are synced before the first change; a torn file
//!   can only be left of a first start that was cut short, and is written anew.
//! * One database per process: locks and the thread pool are static.
//!
//! `clippy.toml` refuses the calls that break these rules.

mod block;
mod compaction;
pub(super) mod folder;
mod location;
mod note;
mod row;
mod rows;
#[cfg(test)]
mod tests;
mod value_log;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::ops::{Bound, RangeBounds as _};
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use self::block::Block;
use self::compaction::Compaction;
use self::location::Location;
use self::note::Notes;
pub(super) use self::note::Sum;
pub(super) use self::row::check_key;
use self::row::{Place, Row};
use self::rows::Rows;
use self::value_log::{End, Records, SEGMENT_BYTES, SHORT_SEGMENT_BYTES, ValueLog};
use super::disk::sync;
use super::{Batch, Direction, KeyRange, Pair, Scan, is_empty};
use crate::StoreError;

/// sled and the value log.
pub(super) struct Index {
    db: sled::Db,
    file: File,
    path: PathBuf,
    log: ValueLog,
    writer: Mutex<Writer>,
    /// Bytes that are taken and that sled has not used.
    prepared: AtomicU64,
}

/// What only the thread that writes needs.
struct Writer {
    sum: Option<Sum>,
    end: End,
    /// A segment of the log that has so many is full.
    segment_bytes: u32,
    /// Space is short: segments are smaller, so that little must be moved to give one back.
    short: bool,
    /// Bytes of each segment that nothing refers to any more.
    dead: BTreeMap<u32, u64>,
    compaction: Compaction,
}

impl Writer {
    /// Bytes of a segment that is full.
    fn full_bytes(&self) -> u32 {
        if self.short { self.segment_bytes.min(SHORT_SEGMENT_BYTES) } else { self.segment_bytes }
    }
}

impl Index {
    /// Opens or creates sled in `folder`, with a page cache of `cache_bytes`, over the values in
    /// `values`, of which nothing is changed yet.
    pub(super) fn open(folder: &Path, values: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        Self::open_with(folder, values, cache_bytes, SEGMENT_BYTES)
    }

    fn open_with(
        folder: &Path,
        values: &Path,
        cache_bytes: u64,
        segment_bytes: u32,
    ) -> Result<Self, StoreError> {
        let db = folder::open(folder, cache_bytes)?;
        let path = folder.join("db");
        let opened = File::options().read(true).write(true).open(&path);
        let file = opened.map_err(|source| StoreError::Folder { folder: path.clone(), source })?;
        let Notes { sum, end, dead, retired } = Notes::read(&db)?;
        let compaction = Compaction::new(retired);
        let writer = Mutex::new(Writer { sum, end, segment_bytes, short: false, dead, compaction });
        let (log, prepared) = (ValueLog::new(values), AtomicU64::new(0));
        Ok(Self { db, file, path, log, writer, prepared })
    }

    /// What its pairs come to, as it is noted; `None` if that was never noted.
    pub(super) fn sum(&self) -> Option<Sum> {
        self.writer.lock().sum
    }

    /// Reads every pair and compares what they come to with what is noted.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let damaged = || StoreError::DamagedFile {
            file: self.path.clone(),
            reason: "its entries are not those that were written".into(),
        };
        let counted =
            catch_unwind(AssertUnwindSafe(|| self.count_pairs())).map_err(|_| damaged())?;
        match (self.sum(), counted) {
            (Some(sum), Ok(pairs)) if sum.pairs == pairs => Ok(()),
            _ => Err(damaged()),
        }
    }

    fn count_pairs(&self) -> Result<u64, StoreError> {
        let mut pairs = 0_u64;
        for pair in self.db.iter() {
            let (key, value) = pair.map_err(sled_error)?;
            if key != note::SUM_KEY {
                pairs = pairs.wrapping_add(note::hash(&key, &value));
            }
        }
        Ok(pairs)
    }

    /// Begins to write: what was never noted of the value log is cut off, and what all pairs come to
    /// is noted if it never was.
    pub(super) fn begin(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        self.log.cut(writer.end)?;
        writer.compaction.remove_retired(&self.log)?;
        if writer.sum.is_none() {
            writer.sum = Some(Sum { step: 0, batch: 0, pairs: self.count_pairs()? });
            let mut rows = Rows::new(&self.db);
            note::layout(&mut rows)?;
            self.write_rows(&mut writer, rows)?;
        }
        Ok(())
    }

    /// Segments of the value log that are needed, and how long they are at least.
    pub(super) fn values(&self) -> Result<Vec<(u32, u64)>, StoreError> {
        let writer = self.writer.lock();
        let mut values = self.log.list(writer.end.segment)?;
        values.retain(|(segment, _)| !writer.compaction.is_done(*segment));
        for (segment, bytes) in &mut values {
            if *segment == writer.end.segment {
                *bytes = writer.end.offset.into();
            }
        }
        Ok(values)
    }

    fn raw(&self, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        self.db.get(key).map_err(sled_error)
    }

    fn block(&self, key: &[u8]) -> Result<Block, StoreError> {
        self.raw(key)?.map_or_else(|| Ok(Block::default()), |value| Block::decode(&value))
    }

    /// Where in the value log the value of a key is, if it is there.
    fn locate(&self, key: &[u8]) -> Result<Option<Location>, StoreError> {
        match Place::of(key)? {
            Place::Block(block, slot) => Ok(self.block(&block)?.get(slot)),
            Place::Row => match self.raw(key)?.map(|value| Row::decode(&value)).transpose()? {
                Some(Row::Outside(at)) => Ok(Some(at)),
                _ => Ok(None),
            },
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
                    let reason = format!("segment {:08x} is missing", at.segment);
                    return Err(StoreError::DamagedValue { key: key.to_vec(), reason });
                }
                Some(now) => at = now,
                // Now it is deleted, or short enough for sled.
                None => return self.get(key),
            }
        }
    }

    /// Writes changes, durably: values first, then what refers to them. With the last of them, the
    /// index has every batch up to `batch`.
    pub(super) fn write(&self, changes: &Batch, batch: Option<u64>) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        let before = writer.sum;
        if let Some(sum) = &mut writer.sum {
            sum.batch = batch.unwrap_or(sum.batch);
        }
        self.put(&mut writer, changes, None).inspect_err(|_| {
            // It may be tried again, with something else in between.
            writer.sum = before;
        })
    }

    fn put(&self, writer: &mut Writer, batch: &Batch, done: Option<u32>) -> Result<(), StoreError> {
        let mut changes = Changes {
            index: self,
            rows: Rows::new(&self.db),
            records: Records::after(writer.end, writer.full_bytes()),
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
            note::end(&mut rows, records.end())?;
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
            note::dead(&mut rows, segment, bytes)?;
        }
        writer.compaction.note(&mut rows, done)?;
        self.write_rows(writer, rows)?;
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

    fn write_rows(&self, writer: &mut Writer, rows: Rows<'_>) -> Result<(), StoreError> {
        let (rows, sum) = rows.into_batch(writer.sum.unwrap_or_default());
        #[expect(clippy::disallowed_methods, reason = "it is synced at once")]
        self.db.apply_batch(rows).map_err(sled_error)?;
        self.db.flush().map_err(sled_error)?;
        let synced = sync(&self.file);
        synced.map_err(|source| StoreError::Folder { folder: self.path.clone(), source })?;
        self.note_prepared(writer.short);
        writer.sum = Some(sum);
        Ok(())
    }

    /// Reads every record of the value log; returns whether all are as they were written.
    pub(super) fn read_values(
        &self,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<bool, StoreError> {
        let mut sound = true;
        for (segment, bytes) in self.values()? {
            sound &= self.log.is_sound(segment, bytes, go_on)?;
        }
        Ok(sound)
    }

    /// Bytes that are taken and that sled has not used, about.
    pub(super) fn prepared(&self) -> u64 {
        self.prepared.load(Ordering::Relaxed)
    }

    fn note_prepared(&self, short: bool) {
        let taken = |db: std::fs::Metadata| (db.blocks() * 512).saturating_sub(db.len());
        let prepared = if short { self.file.metadata().map_or(0, taken) } else { 0 };
        self.prepared.store(prepared, Ordering::Relaxed);
    }

    /// Whether segments of the value log are done with and not removed.
    pub(super) fn has_done(&self) -> bool {
        self.writer.lock().compaction.has_done()
    }

    /// Gets ready for a step. Where space is short, segments are, too, and space is taken beforehand for
    /// the bytes by which sled may grow; its size stays what it is.
    pub(super) fn prepare(&self, short: bool, bytes: u64) -> Result<(), StoreError> {
        self.writer.lock().short = short;
        if !short {
            self.note_prepared(false);
            return Ok(());
        }
        let fails = |source| StoreError::Folder { folder: self.path.clone(), source };
        let size = self.file.metadata().map_err(fails)?.len();
        let taken = rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, size, bytes);
        self.note_prepared(true);
        match taken {
            // Such a file system gives space only when it is written.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            taken => taken.map_err(|error| fails(error.into())),
        }
    }

    /// Removes the segments of the value log that are done with.
    pub(super) fn retire(&self) -> Result<(), StoreError> {
        self.writer.lock().compaction.retire(&self.log)
    }

    /// The value under `key`.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let at = match Place::of(key) {
            // No table has such a key.
            Err(_) => None,
            Ok(Place::Block(block, slot)) => self.block(&block)?.get(slot),
            Ok(Place::Row) => match self.raw(key)?.map(|value| Row::decode(&value)).transpose()? {
                Some(Row::Inline(value)) => return Ok(Some(value)),
                Some(Row::Outside(at)) => Some(at),
                None => None,
            },
        };
        at.map_or(Ok(None), |at| self.resolve(key, at))
    }

    /// All pairs within `range`.
    pub(super) fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
        let below = row::range(&range);
        if is_empty(&range) || is_empty(&below) {
            return Box::new(std::iter::empty());
        }
        let pairs = self.db.range(below);
        let pairs: Box<dyn Iterator<Item = _>> = match direction {
            Direction::Ascending => Box::new(pairs),
            Direction::Descending => Box::new(pairs.rev()),
        };
        Box::new(Expanded { index: self, pairs, range, direction, messages: VecDeque::new() })
    }

    /// How many pairs there are.
    pub(super) fn count(&self) -> Result<u64, StoreError> {
        let mut count = 0;
        for pair in self.db.range(row::range(&(Bound::Unbounded, Bound::Unbounded))) {
            let (key, value) = pair.map_err(sled_error)?;
            count += row::messages_of(&key, &value)?.map_or(1, |messages| messages.len() as u64);
        }
        Ok(count)
    }
}

/// One batch on its way into sled.
struct Changes<'a> {
    index: &'a Index,
    rows: Rows<'a>,
    records: Records,
    dead: BTreeMap<u32, u64>,
    /// The block being changed: keys come in order, so those of one block together.
    block: Option<Open>,
}

/// A block that is being changed.
struct Open {
    key: Vec<u8>,
    before: Option<sled::IVec>,
    block: Block,
}

impl Changes<'_> {
    fn add(&mut self, key: &[u8], value: Option<&Bytes>) -> Result<(), StoreError> {
        match Place::of(key)? {
            Place::Row => self.add_row(key, value),
            Place::Block(block, slot) => self.add_message(block, slot, key, value),
        }
    }

    fn add_row(&mut self, key: &[u8], value: Option<&Bytes>) -> Result<(), StoreError> {
        let before = self.index.raw(key)?;
        if let Some(Row::Outside(at)) = before.as_ref().map(|row| Row::decode(row)).transpose()? {
            self.dies(at);
        }
        let after = value.map(|value| {
            let row = if row::is_outside(value) {
                Row::Outside(self.records.push(key, value))
            } else {
                Row::Inline(value.clone())
            };
            row.encode()
        });
        self.rows.set_from(key.to_vec(), before, after);
        Ok(())
    }

    fn add_message(
        &mut self,
        key_of_block: Vec<u8>,
        slot: usize,
        key: &[u8],
        value: Option<&Bytes>,
    ) -> Result<(), StoreError> {
        if self.block.as_ref().is_none_or(|open| open.key != key_of_block) {
            self.close_block();
            let before = self.index.raw(&key_of_block)?;
            let block = before.as_ref().map(|value| Block::decode(value)).transpose()?;
            let block = block.unwrap_or_default();
            self.block = Some(Open { key: key_of_block, before, block });
        }
        let at = value.map(|value| self.records.push(key, value));
        let before = self.block.as_mut().and_then(|open| open.block.set(slot, at));
        if let Some(before) = before {
            self.dies(before);
        }
        Ok(())
    }

    fn close_block(&mut self) {
        if let Some(Open { key, before, block }) = self.block.take() {
            let after = (!block.is_empty()).then(|| block.encode());
            self.rows.set_from(key, before, after);
        }
    }

    fn dies(&mut self, at: Location) {
        *self.dead.entry(at.segment).or_default() += u64::from(at.length);
    }
}

fn sled_error(error: sled::Error) -> StoreError {
    StoreError::Engine(match error {
        sled::Error::Io(error) => error.to_string(),
        sled::Error::Corruption { .. } => "the database file is damaged".into(),
        other => other.to_string(),
    })
}

/// The pairs of a range, made from those in sled.
struct Expanded<'a> {
    index: &'a Index,
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
                if let Some(value) = self.index.resolve(&key, at)? {
                    return Ok(Some((key.into(), value)));
                }
            }
            let Some(pair) = self.pairs.next() else { return Ok(None) };
            let (key, value) = pair.map_err(sled_error)?;
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
                        Row::Outside(at) => self.index.resolve(&key, at)?,
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
