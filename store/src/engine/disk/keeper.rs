//! The thread that brings the index up to date and takes checkpoints.
//!
//! sled does not survive a write for which there is no space: it stops for good, or waits for ever. So
//! each step is begun only with [room](super::room) for it; without, it is put off, and what was
//! changed stays in the journal and in memory.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Data;
use super::checkpoint::{Checkpoint, Stage};
use super::opening::checkpoint_path;
use super::overlay::Table;
use super::room::{self, Room};
use crate::StoreError;

/// How long what was changed stays out of the index, at most.
const REST: Duration = Duration::from_secs(20);
/// The same where space is short: what is given back should be seen soon.
const SHORT_REST: Duration = Duration::from_secs(2);
/// Steps of compaction after a checkpoint while there are changes.
const COMPACTION_STEPS: usize = 8;

/// What the keeper and the others tell each other.
#[derive(Default)]
pub(super) struct Kept {
    state: Mutex<State>,
    work: Condvar,
    done: Condvar,
}

#[derive(Default)]
struct State {
    full: bool,
    closing: bool,
    /// There was no room to write, the last time.
    put_off: bool,
    /// The index has everything.
    complete: bool,
    /// Why the index no longer takes changes.
    failed: Option<String>,
}

impl Kept {
    /// There is enough to write.
    pub(super) fn wake(&self) {
        let mut state = self.state.lock();
        state.full = true;
        self.work.notify_one();
    }

    /// Nothing more will be changed.
    pub(super) fn close(&self) {
        self.state.lock().closing = true;
        self.work.notify_one();
    }

    /// Whether what is changed cannot be written for want of space.
    pub(super) fn is_put_off(&self) -> bool {
        self.state.lock().put_off
    }

    /// Whether everything was written.
    pub(super) fn is_complete(&self) -> bool {
        self.state.lock().complete
    }

    /// Waits for something to do; returns whether it is the last time.
    fn rest(&self, most: Duration) -> bool {
        let mut state = self.state.lock();
        // Where there is no room there is nothing to hurry for.
        if (!state.full || state.put_off) && !state.closing {
            self.work.wait_for(&mut state, most);
        }
        state.full = false;
        state.closing
    }

    /// Notes how a checkpoint went.
    fn note(&self, outcome: &Result<(), StoreError>, last: bool) {
        let mut state = self.state.lock();
        match outcome {
            Ok(()) => (state.put_off, state.complete) = (false, last),
            Err(error) => {
                if !state.put_off {
                    tracing::warn!(%error, "too little space: checkpoints are put off");
                }
                state.put_off = true;
            }
        }
        self.done.notify_all();
    }

    fn fail(&self, error: &StoreError) {
        tracing::error!(%error, "the index takes no more changes");
        self.state.lock().failed = Some(error.to_string());
        self.done.notify_all();
    }
}

/// What the thread has begun.
#[derive(Default)]
struct Begun {
    /// A frozen table, and the last batch in it.
    frozen: Option<(Arc<Table>, u64)>,
    /// Its last row that the index has.
    last: Option<Vec<u8>>,
    /// The index was changed since the last checkpoint; it has every batch up to this one.
    unchecked: Option<u64>,
}

impl Data {
    /// Waits until the index has taken enough changes.
    pub(super) fn wait_for_room(&self) -> Result<(), StoreError> {
        let mut state = self.kept.state.lock();
        while self.overlay.active_bytes() >= self.most_bytes() {
            if let Some(reason) = &state.failed {
                return Err(StoreError::Engine(reason.clone()));
            }
            if state.put_off {
                return Ok(());
            }
            self.kept.done.wait(&mut state);
        }
        Ok(())
    }

    /// Takes checkpoints until the engine is closed.
    pub(super) fn keep(&self) {
        let mut begun = Begun::default();
        loop {
            let rest = if self.room().is_short() { SHORT_REST } else { REST };
            let last = self.kept.rest(rest);
            let outcome = self.take_checkpoint(&mut begun, last);
            match &outcome {
                Err(error) if !error.is_of_a_full_disk() => {
                    // The journal has it all; the next start goes on from there.
                    self.kept.fail(error);
                    return;
                }
                _ => self.kept.note(&outcome, last),
            }
            if last {
                return;
            }
        }
    }

    /// Brings the index up to date and notes how far it is.
    fn take_checkpoint(&self, begun: &mut Begun, last: bool) -> Result<(), StoreError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        tracing::debug!("a checkpoint begins");
        journal.lock().spare(self.room().is_short())?;
        loop {
            if begun.frozen.is_none() {
                let mut journal = journal.lock();
                if self.overlay.active_bytes() > 0 {
                    // The index must have nothing that a power cut could take from the journal.
                    journal.sync()?;
                }
                begun.frozen = self.overlay.freeze().map(|frozen| (frozen, journal.number()));
            }
            let Some((frozen, batch)) = begun.frozen.clone() else { break };
            self.write_frozen(&frozen, batch, &mut begun.last)?;
            self.overlay.drop_frozen();
            self.kept.done.notify_all();
            *begun = Begun { unchecked: Some(batch), ..Begun::default() };
            if !last {
                break;
            }
        }
        match self.compact(begun, last) {
            // The index has everything; what is deleted is given back later.
            Err(error) if error.is_of_a_full_disk() => {
                tracing::debug!(%error, "too little space to give some back");
            }
            compacted => compacted?,
        }
        self.note_checkpoint(begun)
    }

    /// Writes the rows of a frozen table after `written` to the index.
    fn write_frozen(
        &self,
        frozen: &Table,
        batch: u64,
        written: &mut Option<Vec<u8>>,
    ) -> Result<(), StoreError> {
        loop {
            let room = self.room();
            let step = frozen.after(written.as_deref(), room.step_rows(), room.step_bytes());
            let Some((last, _)) = step.last_key_value() else { return Ok(()) };
            let is_end = frozen.after(Some(last), 1, 1).is_empty();
            self.make_room(room, room.step_bytes())?;
            self.index.write(&step, is_end.then_some(batch))?;
            *written = Some(last.clone());
        }
    }

    /// Gives back the space of what is deleted: a little, or all of it where space is short; then a stop
    /// does not wait for all of it.
    fn compact(&self, begun: &mut Begun, last: bool) -> Result<(), StoreError> {
        let mut steps = 0;
        while self.overlay.active_bytes() < self.checkpoint_bytes {
            let room = self.room();
            if (last || !room.is_short()) && steps == COMPACTION_STEPS {
                break;
            }
            self.make_room(room, room.step_bytes())?;
            if !self.index.compact(room.is_short(), room.compaction_bytes())? {
                break;
            }
            steps += 1;
            begun.unchecked.get_or_insert_with(|| self.index.sum().unwrap_or_default().batch);
            if room.is_short() && self.index.has_done() {
                self.note_checkpoint(begun)?;
            }
        }
        Ok(())
    }

    /// Notes how far the index is, if it was changed, and gives back what is not needed then.
    fn note_checkpoint(&self, begun: &mut Begun) -> Result<(), StoreError> {
        let Some(batch) = begun.unchecked else { return Ok(()) };
        self.checkpoint(Stage::Open)?.write(&checkpoint_path(&self.folder))?;
        begun.unchecked = None;
        self.index.retire()?;
        if let Some(journal) = &self.journal {
            journal.lock().release(batch)?;
        }
        tracing::debug!(batch, "a checkpoint was taken");
        Ok(())
    }

    /// What there is room for.
    fn room(&self) -> Room {
        Room::of(self.available())
    }

    /// Refuses unless the index can be changed by so many bytes; where space is short, it is taken
    /// beforehand.
    fn make_room(&self, room: Room, bytes: usize) -> Result<(), StoreError> {
        room.must_hold(bytes)?;
        self.index.prepare(room.is_short(), room::index_bytes(bytes))
    }

    /// How far the index is.
    pub(super) fn checkpoint(&self, stage: Stage) -> Result<Checkpoint, StoreError> {
        Checkpoint::of(&self.index, self.id, stage)
    }
}
