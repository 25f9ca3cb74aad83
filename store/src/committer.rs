//! The one thread that changes the data.
//!
//! It takes what waits in the queue, runs the transactions one after the other over a common layer
//! of changes, applies that layer as one batch, syncs once and only then answers. A lone
//! transaction is committed at once; many share a sync.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use crate::engine::Batch;
use crate::message_log::Tails;
use crate::store::Shared;
use crate::transaction::AfterCommit;
use crate::{StoreError, Tx};

/// Transactions in one commit.
const MAX_JOBS: usize = 512;
/// Keys changed by one commit, after which no further transaction joins.
const MAX_CHANGES: usize = 8_192;

/// Answers come before the sync: the fault that `testnet power-cut` must notice.
const BROKEN_ORDER: bool = cfg!(feature = "acknowledge-before-sync");
#[cfg(all(feature = "acknowledge-before-sync", not(debug_assertions)))]
compile_error!("acknowledge-before-sync loses data; it is for debug builds of the test suite");

/// A transaction and its caller.
pub(crate) trait Job: Send {
    /// Runs the transaction; `false` leaves no trace of it.
    fn run(&mut self, tx: &mut Tx<'_>) -> bool;
    /// Answers the caller.
    fn finish(self: Box<Self>, outcome: Result<(), StoreError>);
}

pub(crate) struct Committer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) jobs: mpsc::UnboundedReceiver<Box<dyn Job>>,
    pub(crate) tails: Tails,
    pub(crate) reserve_bytes: u64,
}

impl Committer {
    pub(crate) fn run(mut self) {
        while let Some(first) = self.jobs.blocking_recv() {
            if let Err(error) = self.commit(first) {
                // What the engine holds now is unknown; readers keep the last durable state.
                tracing::error!(%error, "the store no longer accepts changes");
                break;
            }
        }
        self.jobs.close();
        while let Ok(job) = self.jobs.try_recv() {
            job.finish(Err(StoreError::Closed));
        }
    }

    /// Runs what waits, on the thread of the caller.
    pub(crate) fn run_waiting(&mut self) {
        while let Ok(job) = self.jobs.try_recv() {
            if let Err(error) = self.commit(job) {
                tracing::error!(%error, "the store no longer accepts changes");
                self.jobs.close();
            }
        }
    }

    fn commit(&mut self, first: Box<dyn Job>) -> Result<(), StoreError> {
        if let Some(available) = self.shared.engine.available_bytes()
            && available < self.reserve_bytes
        {
            first.finish(Err(StoreError::DiskFull { available, reserve: self.reserve_bytes }));
            return Ok(());
        }
        let mut changes = Batch::new();
        let mut waiting: Vec<(Box<dyn Job>, Result<(), StoreError>)> = Vec::new();
        let mut after: Vec<AfterCommit> = Vec::new();
        let mut next = Some(first);
        while let Some(mut job) = next {
            let outcome = self.try_job(job.as_mut(), &mut changes, &mut after);
            waiting.push((job, outcome));
            next = if waiting.len() < MAX_JOBS && changes.len() < MAX_CHANGES {
                self.jobs.try_recv().ok()
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
                if BROKEN_ORDER { self.shared.engine.sync() } else { Ok(()) }
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
        let engine = self.shared.engine.as_ref();
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
        let engine = self.shared.engine.as_ref();
        let mut replaced = Batch::new();
        for key in changes.keys() {
            replaced.insert(key.clone(), engine.get(key)?);
        }
        let durable = Arc::clone(&self.shared.durable.read());
        let after = durable.follow(replaced)?;
        engine.apply(&changes)?;
        if !BROKEN_ORDER {
            engine.sync()?;
        }
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        *self.shared.durable.write() = after;
        Ok(())
    }
}
