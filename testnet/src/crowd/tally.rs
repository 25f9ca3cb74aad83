//! What a crowd did, counted, and what went wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Faults that are told one by one.
const TOLD: usize = 20;

/// Counters of all phones together.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) rest_calls: AtomicU64,
    pub(super) gateway_requests: AtomicU64,
    pub(super) messages: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) pushes: AtomicU64,
    pub(super) batches: AtomicU64,
    /// Times a phone came back.
    pub(super) returns: AtomicU64,
    /// Of these with an empty store.
    pub(super) fresh: AtomicU64,
    /// Connections that the node ended.
    pub(super) cut: AtomicU64,
    /// Longest operation ID of a request, in bytes.
    pub(super) longest: AtomicUsize,
    /// Longest operation ID that came with a push, in bytes.
    pub(super) longest_pushed: AtomicUsize,
    slowest_us: AtomicU64,
    last_cut: Mutex<Option<String>>,
    faults: Mutex<BTreeMap<String, u64>>,
}

impl Tally {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes how long an answer took.
    pub(super) fn answered(&self, within: Duration) {
        let us = u64::try_from(within.as_micros()).unwrap_or(u64::MAX);
        self.slowest_us.fetch_max(us, Ordering::Relaxed);
    }

    /// The slowest answer.
    pub(super) fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest_us.load(Ordering::Relaxed))
    }

    /// Notes why the node ended a connection.
    pub(super) fn last_cut(&self, why: String) {
        *self.last_cut.lock() = Some(why);
    }

    /// Why the node ended a connection the last time.
    pub(super) fn why_cut(&self) -> Option<String> {
        self.last_cut.lock().clone()
    }

    /// Notes something that must not be.
    pub(super) fn fault(&self, what: impl Into<String>) {
        *self.faults.lock().entry(what.into()).or_default() += 1;
    }

    /// How much was wrong, and the kinds of it.
    pub(super) fn faults(&self) -> (u64, Vec<String>) {
        let faults = self.faults.lock();
        let kinds = faults.iter().take(TOLD).map(|(what, count)| format!("{count} × {what}"));
        (faults.values().sum(), kinds.collect())
    }
}
