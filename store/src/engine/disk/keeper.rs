//! The thread that brings the index up to date and takes checkpoints.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::Data;
use super::checkpoint::{Checkpoint, Stage};
use super::opening::checkpoint_path;
use crate::StoreError;

/// How long what was changed stays out of the index, at most.
const REST: Duration = Duration::from_secs(20);
/// Rows and bytes of one step of the index.
const STEP_ROWS: usize = 4_096;
const STEP_BYTES: usize = 4 << 20;
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

    /// Whether everything was written so far.
    pub(super) fn is_sound(&self) -> bool {
        self.state.lock().failed.is_none()
    }

    /// Waits for something to do; returns whether it is the last time.
    fn rest(&self) -> bool {
        let mut state = self.state.lock();
        if !state.full && !state.closing {
            self.work.wait_for(&mut state, REST);
        }
        state.full = false;
        state.closing
    }

    fn fail(&self, error: &StoreError) {
        tracing::error!(%error, "the index takes no more changes");
        self.state.lock().failed = Some(error.to_string());
        self.done.notify_all();
    }
}

impl Data {
    /// Waits until the index has taken enough changes.
    pub(super) fn wait_for_room(&self) -> Result<(), StoreError> {
        let mut state = self.kept.state.lock();
        while self.overlay.active_bytes() >= self.most_bytes() {
            if let Some(reason) = &state.failed {
                return Err(StoreError::Engine(reason.clone()));
            }
            self.kept.done.wait(&mut state);
        }
        Ok(())
    }

    /// Takes checkpoints until the engine is closed.
    pub(super) fn keep(&self) {
        loop {
            let last = self.kept.rest();
            if let Err(error) = self.take_checkpoint() {
                // The journal has it all; the next start goes on from there.
                self.kept.fail(&error);
                return;
            }
            if last {
                return;
            }
        }
    }

    /// Brings the index up to date and notes how far it is.
    fn take_checkpoint(&self) -> Result<(), StoreError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let (frozen, batch) = {
            let mut journal = journal.lock();
            if self.overlay.active_bytes() > 0 {
                // The index must have nothing that a power cut could take from the journal.
                journal.sync()?;
            }
            (self.overlay.freeze(), journal.number())
        };
        let mut changed = false;
        if let Some(frozen) = frozen {
            let mut step = frozen.after(None, STEP_ROWS, STEP_BYTES);
            while let Some((last, _)) = step.last_key_value() {
                let next = frozen.after(Some(last), STEP_ROWS, STEP_BYTES);
                self.index.write(&step, next.is_empty().then_some(batch))?;
                step = next;
            }
            self.overlay.drop_frozen();
            self.kept.done.notify_all();
            changed = true;
        }
        for _ in 0..COMPACTION_STEPS {
            if self.overlay.active_bytes() >= self.checkpoint_bytes || !self.index.compact()? {
                break;
            }
            changed = true;
        }
        if changed {
            self.checkpoint(Stage::Open)?.write(&checkpoint_path(&self.folder))?;
            self.index.retire()?;
            journal.lock().release(batch)?;
        }
        Ok(())
    }

    /// How far the index is.
    pub(super) fn checkpoint(&self, stage: Stage) -> Result<Checkpoint, StoreError> {
        Checkpoint::of(&self.index, self.id, stage)
    }
}
