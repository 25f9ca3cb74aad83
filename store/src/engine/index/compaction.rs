//! Gives back the space of values that nothing refers to any more.
//!
//! A full segment of which half is not needed is read from its beginning, a little after each
//! checkpoint; what is still referred to is written again at the end of the log. When that is durable
//! and a checkpoint no longer needs the segment, the file is removed.
//!
//! Where space is short a quarter is enough, the segment with the most to give comes first, and the one
//! that is being written is closed early for it.

use std::collections::BTreeSet;

use super::rows::Rows;
use super::value_log::{End, ValueLog};
use super::{Index, Writer, note};
use crate::StoreError;
use crate::engine::Batch;

/// Bytes of a segment looked through in one step.
const STEP_BYTES: usize = 1 << 20;
/// The same where space is short.
const SHORT_STEP_BYTES: usize = 128 << 10;
/// Where space is short, a segment is worth it that gives back so much.
const SHORT_LEAST_BYTES: u64 = 256 << 10;

/// How far the work has come.
pub(super) struct Compaction {
    /// The segment at work and how far it was looked through.
    at_work: Option<(u32, u32)>,
    /// Whether a segment may have become worth it.
    look: bool,
    /// Segments that cannot be read.
    damaged: BTreeSet<u32>,
    /// Noted as done with, to be removed once that is durable.
    done: Vec<u32>,
    /// Removed, but there is still a note about them.
    removed: Vec<u32>,
}

impl Compaction {
    /// With segments that are removed but for the note.
    pub(super) fn new(removed: Vec<u32>) -> Self {
        let (damaged, done) = (BTreeSet::new(), Vec::new());
        Self { at_work: None, look: true, damaged, done, removed }
    }

    /// Adds to a batch that a segment is done with, and drops notes that have become useless.
    pub(super) fn note(&self, rows: &mut Rows<'_>, done: Option<u32>) -> Result<(), StoreError> {
        for &segment in &self.removed {
            note::forget(rows, segment)?;
        }
        done.map_or(Ok(()), |segment| note::done(rows, segment))
    }

    /// Whether segments are done with and not removed.
    pub(super) fn has_done(&self) -> bool {
        !self.done.is_empty()
    }

    /// Whether a segment is done with, removed or not.
    pub(super) fn is_done(&self, segment: u32) -> bool {
        self.done.contains(&segment) || self.removed.contains(&segment)
    }

    /// That batch is applied.
    pub(super) fn noted(&mut self, more_dead: bool, done: Option<u32>) {
        self.removed.clear();
        self.done.extend(done);
        self.look |= more_dead || done.is_some();
    }

    /// Removes the files of segments that were noted as done with when the index was opened.
    pub(super) fn remove_retired(&self, log: &ValueLog) -> Result<(), StoreError> {
        self.removed.iter().try_for_each(|&segment| log.remove(segment))
    }

    /// Removes the segments that are done with; no checkpoint needs them.
    pub(super) fn retire(&mut self, log: &ValueLog) -> Result<(), StoreError> {
        for segment in self.done.drain(..) {
            log.remove(segment)?;
            self.removed.push(segment);
        }
        Ok(())
    }
}

impl Index {
    /// Does a little of the work; returns whether there was any. Where space is `short`, up to `most`
    /// bytes may be written before any are given back.
    pub(in crate::engine) fn compact(&self, short: bool, most: u64) -> Result<bool, StoreError> {
        let writer = &mut *self.writer.lock();
        let at_work = self.segment_at_work(writer, short.then_some(most))?;
        let Some((segment, offset)) = at_work else { return Ok(false) };
        let step = if short { SHORT_STEP_BYTES } else { STEP_BYTES };
        if offset == 0 {
            tracing::debug!(segment, "a segment of the value log is compacted");
        }
        let found = match self.log.records(segment, offset, step) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "a segment of the value log cannot be compacted");
                writer.compaction.damaged.insert(segment);
                return Ok(true);
            }
        };
        let Some(last) = found.last() else {
            self.put(writer, &Batch::new(), Some(segment))?;
            tracing::debug!(segment, "a segment of the value log was compacted");
            return Ok(true);
        };
        let next = last.at.offset + last.at.length;
        writer.compaction.at_work = Some((segment, offset));
        let mut needed = Batch::new();
        for record in found {
            if self.locate(&record.key)? == Some(record.at) {
                needed.insert(record.key, Some(record.value));
            }
        }
        self.put(writer, &needed, None)?;
        writer.compaction.at_work = Some((segment, next));
        Ok(true)
    }

    /// Takes the segment at work or, if there is none, the next that is worth it; where space is short,
    /// what must be moved of it is at most so much.
    fn segment_at_work(
        &self,
        writer: &mut Writer,
        short: Option<u64>,
    ) -> Result<Option<(u32, u32)>, StoreError> {
        if let Some((segment, offset)) = writer.compaction.at_work {
            let size = self.log.size(segment)?.unwrap_or_default();
            // It was begun when there was more room.
            if short.is_some_and(|most| {
                most < size.saturating_sub(offset.into()).min(SHORT_STEP_BYTES as u64)
            }) {
                return Ok(None);
            }
            writer.compaction.at_work = None;
            return Ok(Some((segment, offset)));
        }
        if let Some(most) = short {
            return self.most_dead(writer, most);
        }
        if !std::mem::take(&mut writer.compaction.look) {
            return Ok(None);
        }
        for (&segment, &dead) in writer.dead.range(..writer.end.segment) {
            let size = self.log.size(segment)?;
            if size.is_some_and(|size| dead >= size / 2)
                && !writer.compaction.damaged.contains(&segment)
            {
                return Ok(Some((segment, 0)));
            }
        }
        Ok(None)
    }

    /// The segment that gives back most, of those of which at most so much is needed.
    fn most_dead(&self, writer: &mut Writer, most: u64) -> Result<Option<(u32, u32)>, StoreError> {
        let mut best = None;
        for (&segment, &dead) in &writer.dead {
            let Some(size) = self.log.size(segment)? else { continue };
            let needed = size.saturating_sub(dead);
            let worth_it = dead >= (size / 4).max(SHORT_LEAST_BYTES) && needed <= most;
            if worth_it && !writer.compaction.damaged.contains(&segment) {
                best = best.max(Some((dead, segment)));
            }
        }
        let Some((_, segment)) = best else { return Ok(None) };
        if segment == writer.end.segment {
            self.close_segment(writer)?;
        }
        Ok(Some((segment, 0)))
    }

    /// Has what is written from now on go to another segment.
    fn close_segment(&self, writer: &mut Writer) -> Result<(), StoreError> {
        let end = End { segment: writer.end.segment + 1, offset: 0 };
        let mut rows = Rows::new(&self.db);
        note::end(&mut rows, end)?;
        self.write_rows(writer, rows)?;
        writer.end = end;
        Ok(())
    }
}
