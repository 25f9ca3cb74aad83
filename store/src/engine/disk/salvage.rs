//! What can be had of a folder that is damaged, without changing it.

use std::path::Path;

use super::checkpoint::Checkpoint;
use super::copy::IndexCopy;
use super::journal::{self, Record};
use super::lock::Lock;
use super::opening;
use crate::StoreError;
use crate::engine::index::Index;
use crate::engine::{Batch, Position, Scan};

/// What is left of a folder.
pub(crate) struct Salvage {
    /// What can be read of the index.
    index: Option<Index>,
    /// Whether that is a state in which the index once was.
    sound: bool,
    /// The index has every batch up to this one.
    batch: u64,
    /// Batches of the journal that can be read, in order.
    records: Vec<Record>,
    /// The last batch that was certainly written.
    last: u64,
    /// ID of the journal, where it is known.
    journal: Option<u64>,
    _copy: Option<IndexCopy>,
    _lock: Option<Lock>,
}

/// Batches that are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hole {
    /// Number of the first.
    pub(crate) first: u64,
    /// Number of the last.
    pub(crate) last: u64,
    /// When the batch before and the batch behind were written, Unix milliseconds, where it is known.
    pub(crate) between: (Option<i64>, Option<i64>),
}

impl Salvage {
    /// Looks at a folder; nobody else may use it meanwhile.
    pub(crate) fn of(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let lock = Lock::take_if_there(folder)?;
        let checkpoint = Checkpoint::read(&opening::checkpoint_path(folder)).ok().flatten();
        let (index, copy) = match opening::open_copy(folder, None, cache_bytes) {
            Ok((index, copy)) => (Some(index), Some(copy)),
            Err(StoreError::DamagedFile { .. } | StoreError::Engine(_)) => (None, None),
            Err(error) => return Err(error),
        };
        let sum = index.as_ref().and_then(Index::sum).unwrap_or_default();
        let sound = index.as_ref().is_some_and(|index| index.check().is_ok());
        let journal = opening::journal_folder(folder);
        let mut id = checkpoint.as_ref().map(|checkpoint| checkpoint.journal);
        let found = journal::salvage::read(&journal, id)
            .map_err(|source| StoreError::Folder { folder: journal, source })?;
        id = id.or(found.journal);
        let newest = found.records.last_key_value().map_or(0, |(number, _)| *number);
        let noted = checkpoint.map_or(0, |checkpoint| checkpoint.batch);
        let last = newest.max(found.mark).max(noted).max(sum.batch);
        let records: Vec<Record> = found.records.into_values().collect();
        // A journal that is whole needs nothing else.
        let whole = records.len() as u64 == last && records.first().is_some_and(|r| r.number == 1);
        let keeps_index = sound || !whole;
        Ok(Self {
            index: index.filter(|_| keeps_index),
            sound: sound || whole,
            batch: if keeps_index { sum.batch } else { 0 },
            records,
            last,
            journal: id,
            _copy: copy,
            _lock: lock,
        })
    }

    /// Whether what is there is a state in which the data once was, if not the last.
    pub(crate) fn is_sound(&self) -> bool {
        self.sound
    }

    /// Goes on from another state, at this place in the journal; returns whether batches can be told
    /// to follow it: not without a place, nor from one in another journal.
    pub(crate) fn go_on_from(&mut self, position: Option<Position>) -> bool {
        self.index = None;
        let of_this = position.filter(|position| Some(position.journal) == self.journal);
        self.batch = of_this.map_or(self.last, |position| position.batch);
        of_this.is_some()
    }

    /// What the index has; damaged values are errors, and the scan goes on behind them.
    pub(crate) fn index(&self) -> Option<Scan<'_>> {
        use std::ops::Bound::Unbounded;
        let index = self.index.as_ref()?;
        Some(index.scan((Unbounded, Unbounded), crate::Direction::Ascending))
    }

    /// What was changed since, in order.
    pub(crate) fn batches(&self) -> impl Iterator<Item = &Batch> {
        let since = self.records.iter().filter(|record| record.number > self.batch);
        since.map(|record| &record.batch)
    }

    /// The batches that are missing.
    pub(crate) fn holes(&self) -> Vec<Hole> {
        let mut holes = Vec::new();
        let (mut known, mut at) = (self.batch, None);
        for record in self.records.iter().filter(|record| record.number > self.batch) {
            if record.number > known + 1 {
                let between = (at, Some(record.written_ms));
                holes.push(Hole { first: known + 1, last: record.number - 1, between });
            }
            (known, at) = (record.number, Some(record.written_ms));
        }
        if known < self.last {
            holes.push(Hole { first: known + 1, last: self.last, between: (at, None) });
        }
        holes
    }
}
