//! What another node may make this one do in a time.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// What one other node may cost. Events beyond it wait, requests beyond it are refused.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Events in a second.
    pub events: u32,
    /// Bytes of events in a second.
    pub bytes: u32,
    /// Requests in a second.
    pub requests: u32,
    /// Events in a second of one of its users or groups.
    pub events_each: u32,
    /// Bytes of events in a second of one of them.
    pub bytes_each: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            events: 20_000,
            bytes: 32 << 20,
            requests: 1_000,
            events_each: 5_000,
            bytes_each: 16 << 20,
        }
    }
}

/// Of so many events one may be refused: those who send what they may not send wait sooner.
const ONE_REFUSED_OF: u32 = 400;

/// Users and groups of one node of which is kept what they may still use; beyond, all begin anew.
const MOST_ACCOUNTS: usize = 4_096;

/// Faults of one key in a second.
const FAULTS: u32 = 10;

/// How many seconds' worth may be used at once, after a time of rest.
const BURST: f64 = 2.0;

/// One kind of cost, as it fills up again with time.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    /// What may be used; below zero after a large batch.
    level: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: u32) -> Self {
        let rate = f64::from(rate.max(1));
        Self { rate, level: rate * BURST, at: Instant::now() }
    }

    fn refill(&mut self) {
        let now = Instant::now();
        let more = (now - self.at).as_secs_f64() * self.rate;
        self.level = (self.level + more).min(self.rate * BURST);
        self.at = now;
    }

    /// Uses so much; returns how long to wait before the next use.
    fn charge(&mut self, cost: f64) -> Duration {
        self.refill();
        self.level -= cost;
        Duration::from_secs_f64((-self.level / self.rate).max(0.0))
    }

    /// Uses one if there is one.
    fn take(&mut self) -> bool {
        self.refill();
        let enough = self.level >= 1.0;
        if enough {
            self.level -= 1.0;
        }
        enough
    }
}

/// What is left of a budget.
#[derive(Debug)]
pub(crate) struct Spending {
    events: Bucket,
    refused: Bucket,
    bytes: Bucket,
    requests: Bucket,
    budget: Budget,
    /// Events and bytes of its users and groups.
    accounts: HashMap<String, (Bucket, Bucket)>,
}

/// What an event costs, and on whose account: one of the users or groups of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) account: String,
    pub(crate) bytes: usize,
}

impl Spending {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self {
            budget: *budget,
            accounts: HashMap::new(),
            events: Bucket::new(budget.events),
            refused: Bucket::new(budget.events / ONE_REFUSED_OF),
            bytes: Bucket::new(budget.bytes),
            requests: Bucket::new(budget.requests),
        }
    }

    /// Charges a batch to the node; returns how long to wait before the next.
    pub(crate) fn batch(&mut self, events: usize, bytes: usize) -> Duration {
        self.events.charge(events as f64).max(self.bytes.charge(bytes as f64))
    }

    /// Charges events to those on whose account they are; returns how long to wait before the next
    /// batch. Who is over its budget makes all of its node wait: what is behind cannot overtake.
    pub(crate) fn each(&mut self, costs: impl IntoIterator<Item = Cost>) -> Duration {
        if self.accounts.len() > MOST_ACCOUNTS {
            self.accounts.clear();
        }
        let budget = self.budget;
        let new = || (Bucket::new(budget.events_each), Bucket::new(budget.bytes_each));
        let mut wait = Duration::ZERO;
        for Cost { account, bytes } in costs {
            let (events, of_bytes) = self.accounts.entry(account).or_insert_with(new);
            wait = wait.max(events.charge(1.0)).max(of_bytes.charge(bytes as f64));
        }
        wait
    }

    /// Charges events that were refused; returns how long to wait before the next batch.
    pub(crate) fn refused(&mut self, events: usize) -> Duration {
        self.refused.charge(events as f64)
    }

    /// How long to wait before the next batch.
    pub(crate) fn wait(&mut self) -> Duration {
        let buckets = [&mut self.events, &mut self.refused, &mut self.bytes];
        let each = self.accounts.values_mut().flat_map(|(events, bytes)| [events, bytes]);
        let waits = buckets.into_iter().chain(each).map(|bucket| bucket.charge(0.0));
        waits.max().unwrap_or_default()
    }

    /// Whether one more request may be answered.
    pub(crate) fn request(&mut self) -> bool {
        self.requests.take()
    }
}

/// Links that ended by the fault of whoever opened them, by its key: the next ones wait.
#[derive(Debug)]
pub(crate) struct Faults(Bucket);

impl Default for Faults {
    fn default() -> Self {
        Self(Bucket::new(FAULTS))
    }
}

impl Faults {
    /// Charges faults; returns how long the next link waits.
    pub(crate) fn charge(&mut self, faults: u32) -> Duration {
        self.0.charge(f64::from(faults))
    }

    /// Whether they are forgiven.
    pub(crate) fn is_over(&mut self) -> bool {
        self.0.refill();
        self.0.level >= self.0.rate * BURST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_used_up_comes_back_with_time() {
        let budget =
            Budget { events: 100, bytes: 1_000_000, requests: 10, events_each: 10, bytes_each: 50 };
        let mut spending = Spending::new(&budget);
        assert_eq!(spending.batch(200, 0), Duration::ZERO);
        assert_eq!(spending.batch(50, 0), Duration::from_millis(500));
        assert_eq!(spending.batch(0, 3_000_000), Duration::from_secs(1));
        assert_eq!((0..30).filter(|_| spending.request()).count(), 20);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(spending.batch(200, 1_000), Duration::ZERO);
        assert_eq!((0..30).filter(|_| spending.request()).count(), 20);
        assert_eq!(spending.refused(3), Duration::from_secs(1));
        assert_eq!(spending.wait(), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(spending.wait(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn one_user_is_charged_for_itself() {
        let budget = Budget { events_each: 10, bytes_each: 50, ..Budget::default() };
        let mut spending = Spending::new(&budget);
        let mut charge = |account: &str, events: usize, bytes| {
            let cost = Cost { account: account.to_owned(), bytes };
            spending.each(std::iter::repeat_n(cost, events))
        };
        assert_eq!(charge("a", 20, 0), Duration::ZERO);
        assert_eq!(charge("a", 10, 0), Duration::from_secs(1));
        assert_eq!(charge("b", 1, 100), Duration::ZERO);
        assert_eq!(charge("b", 1, 100), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn faults_make_the_next_links_wait_and_are_forgiven() {
        let mut faults = Faults::default();
        assert_eq!(faults.charge(2 * FAULTS), Duration::ZERO);
        assert_eq!(faults.charge(FAULTS), Duration::from_secs(1));
        assert!(!faults.is_over());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(faults.charge(0), Duration::ZERO);
        assert!(faults.is_over());
    }
}
