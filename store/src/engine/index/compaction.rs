//! Gives back the space of values that nothing refers to any more.
//!
//! A full segment of which half is not needed is read from its beginning, a little after each
//! checkpoint; what is still referred to is written again at the end of the log. When that is durable
//! and a checkpoint no longer needs the segment, the file is removed.

use std::collections::BTreeSet;

use super::rows::Rows;
use super::value_log::ValueLog;
use super::{Index, Writer, note};
use crate::StoreError;
use crate::engine::Batch;

/// Bytes of a segment looked through in one step.
const STEP_BYTES: usize = 1 << 20;

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
    /// Does a little of the work; returns whether there was any.
    pub(in crate::engine) fn compact(&self) -> Result<bool, StoreError> {
        let writer = &mut *self.writer.lock();
        let Some((segment, offset)) = self.segment_at_work(writer)? else { return Ok(false) };
        let found = match self.log.records(segment, offset, STEP_BYTES) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "a segment of the value log cannot be compacted");
                writer.compaction.damaged.insert(segment);
                return Ok(true);
            }
        };
        let Some(last) = found.last() else {
            self.put(writer, &Batch::new(), Some(segment))?;
            return Ok(true);
        };
        let next = last.at.offset + last.at.length;
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

    /// Takes the segment at work or, if there is none, the next that is worth it.
    fn segment_at_work(&self, writer: &mut Writer) -> Result<Option<(u32, u32)>, StoreError> {
        if let Some(at_work) = writer.compaction.at_work.take() {
            return Ok(Some(at_work));
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
}
