//! Transactions that wait for the committer: what users of this node do goes first, work that may
//! wait stands behind.

use std::collections::VecDeque;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::committer::Job;

/// Where a transaction stands in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Before all that stands behind.
    Next,
    /// Behind.
    Behind,
}

/// A transaction on its way to the committer.
pub(crate) type Queued = (Place, Box<dyn Job>);

pub(crate) struct Waiting {
    arriving: UnboundedReceiver<Queued>,
    next: VecDeque<Box<dyn Job>>,
    behind: VecDeque<Box<dyn Job>>,
}

impl Waiting {
    pub(crate) fn new(arriving: UnboundedReceiver<Queued>) -> Self {
        Self { arriving, next: VecDeque::new(), behind: VecDeque::new() }
    }

    /// The first, waiting for it; `None` once there will be none.
    pub(crate) fn wait(&mut self) -> Option<Queued> {
        self.take(true).or_else(|| {
            self.arriving.blocking_recv().and_then(|queued| {
                self.put(queued);
                self.take(true)
            })
        })
    }

    /// The first of what is there; of what stands behind only if `behind`.
    pub(crate) fn take(&mut self, behind: bool) -> Option<Queued> {
        while let Ok(queued) = self.arriving.try_recv() {
            self.put(queued);
        }
        if let Some(job) = self.next.pop_front() {
            return Some((Place::Next, job));
        }
        if behind { self.take_behind() } else { None }
    }

    /// The first of those that stand behind.
    pub(crate) fn take_behind(&mut self) -> Option<Queued> {
        self.behind.pop_front().map(|job| (Place::Behind, job))
    }

    /// Accepts nothing more; what is there stays.
    pub(crate) fn close(&mut self) {
        self.arriving.close();
    }

    fn put(&mut self, (place, job): Queued) {
        match place {
            Place::Next => self.next.push_back(job),
            Place::Behind => self.behind.push_back(job),
        }
    }
}
