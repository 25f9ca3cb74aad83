//! The one thread that changes the data.
//!
//! It takes what waits in the queue, runs the transactions one after the other over a common layer
//! of changes, applies that layer as one batch, syncs once and only then answers. A lone
//! transaction is committed at once; many share a sync. What stands behind gets a share of each
//! commit, so that nobody waits long for it, and it for nobody.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::engine::{Batch, Engine as _};
use crate::message_log::Tails;
use crate::room::Purpose;
use crate::store::Shared;
use crate::transaction::AfterCommit;
use crate::waiting::{Place, Queued, Waiting};
use crate::{StoreError, Tx};

/// Transactions in one commit.
const MAX_JOBS: usize = 512;
/// Keys changed by one commit, after which no further transaction joins.
const MAX_CHANGES: usize = 8_192;
/// Time in a commit for transactions that stand behind: where others share it, and where they are
/// alone, but others may come.
const BEHIND_OTHERS: Duration = Duration::from_millis(2);
const BEHIND_ALONE: Duration = Duration::from_millis(10);

/// A transaction and its caller.
pub(crate) trait Job: Send {
    /// What it is for.
    fn purpose(&self) -> Purpose;
    /// Runs the transaction; `false` leaves no trace of it.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Answers the caller.
    fn finish(self: Box<Self>, outcome: Result<(), StoreError>);
}

pub(crate) struct Committer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) jobs: Waiting,
    pub(crate) tails: Tails,
    /// Answers come before the sync: a fault that `testnet power-cut` must notice.
    pub(crate) answers_first: bool,
}

/// What a commit has room for.
#[derive(Default)]
struct Share {
    /// Somebody else is in it.
    others: bool,
    /// Time taken by transactions that stand behind.
    behind: Duration,
}

impl Share {
    fn note(&mut self, place: Place, took: Duration) {
        match place {
            Place::Next => self.others = true,
            Place::Behind => self.behind += took.max(Duration::from_nanos(1)),
        }
    }

    /// Whether one more that stands behind may join.
    fn is_left(&self) -> bool {
        self.behind < if self.others { BEHIND_OTHERS } else { BEHIND_ALONE }
    }
}

impl Committer {
    pub(crate) fn run(mut self) {
        while let Some(first) = self.jobs.wait() {
            if let Err(error) = self.commit(first) {
                // What the engine holds now is unknown; readers keep the last durable state.
                tracing::error!(%error, "the store no longer accepts changes");
                break;
            }
        }
        self.jobs.close();
        while let Some((_, job)) = self.jobs.take(true) {
            job.finish(Err(StoreError::Closed));
        }
    }

    /// Runs what waits, on the thread of the caller.
    pub(crate) fn run_waiting(&mut self) {
        while let Some(first) = self.jobs.take(true) {
            if let Err(error) = self.commit(first) {
                tracing::error!(%error, "the store no longer accepts changes");
                self.jobs.close();
            }
        }
    }

    fn commit(&mut self, first: Queued) -> Result<(), StoreError> {
        let room = self.shared.room();
        let mut changes = Batch::new();
        let mut waiting: Vec<(Box<dyn Job>, Result<(), StoreError>)> = Vec::new();
        let mut after: Vec<AfterCommit> = Vec::new();
        let mut share = Share::default();
        let mut next = Some(first);
        while let Some((place, mut job)) = next {
            let began = Instant::now();
            let outcome = match room.must_suffice(job.purpose(), 0) {
                Ok(()) => self.try_job(job.as_mut(), &mut changes, &mut after),
                refused => refused,
            };
            share.note(place, began.elapsed());
            waiting.push((job, outcome));
            next = if waiting.len() < MAX_JOBS && changes.len() < MAX_CHANGES {
                self.jobs.take(share.is_left())
            } else if share.behind.is_zero() {
                self.jobs.take_behind()
            } else {
                None
            };
        }
        let stored = if changes.is_empty() { Ok(()) } else { self.store(changes) };
        match stored {
            Ok(()) => {
                for work in after {
                    // The change is durable whatever becomes of what follows from it.
                    if catch_unwind(AssertUnwindSafe(work)).is_err() {
                        tracing::error!("work after a commit failed unexpectedly");
                    }
                }
                for (job, outcome) in waiting {
                    job.finish(outcome);
                }
                if self.answers_first { self.shared.engine.sync() } else { Ok(()) }
            }
            Err(StoreError::DiskFull { available, reserve }) => {
                // Nothing of it is there; what is remembered of it must not be, either.
                self.tails.forget_all();
                for (job, outcome) in waiting {
                    let full = StoreError::DiskFull { available, reserve };
                    job.finish(outcome.and(Err(full)));
                }
                Ok(())
            }
            Err(error) => {
                for (job, _) in waiting {
                    job.finish(Err(StoreError::Engine(error.to_string())));
                }
                Err(error)
            }
        }
    }

    fn try_job(
        &mut self,
        job: &mut dyn Job,
        changes: &mut Batch,
        after: &mut Vec<AfterCommit>,
    ) -> Result<(), StoreError> {
        let engine = &self.shared.engine;
        let mut tx = Tx::new(engine, self.shared.salt, changes, &mut self.tails);
        match catch_unwind(AssertUnwindSafe(|| job.run(&mut tx))) {
            Ok(true) => {
                after.extend(tx.keep()?);
                Ok(())
            }
            Ok(false) => {
                tx.undo();
                Ok(())
            }
            Err(_) => {
                tx.undo();
                Err(StoreError::Panicked)
            }
        }
    }

    /// Applies and syncs one batch; until it is durable, views show what was there before.
    fn store(&self, changes: Batch) -> Result<(), StoreError> {
        let engine = &self.shared.engine;
        let mut replaced = Batch::new();
        for key in changes.keys() {
            let before = match engine.get(key) {
                // Nobody can read it any more; what takes its place must not fail for it.
                Err(StoreError::DamagedValue { .. }) => None,
                before => before?,
            };
            replaced.insert(key.clone(), before);
        }
        let durable = Arc::clone(&self.shared.durable.read());
        let after = durable.follow(replaced)?;
        match engine.apply(&changes) {
            Err(full @ StoreError::DiskFull { .. }) => {
                *self.shared.durable.write() = after.undo(&durable)?;
                return Err(full);
            }
            applied => applied?,
        }
        if !self.answers_first {
            engine.sync()?;
        }
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        *self.shared.durable.write() = after;
        Ok(())
    }
}
