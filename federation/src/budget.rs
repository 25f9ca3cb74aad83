//! What another node may make this one do in a time.

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
}

impl Default for Budget {
    fn default() -> Self {
        Self { events: 20_000, bytes: 32 << 20, requests: 1_000 }
    }
}

/// Of so many events one may be refused: those who send what they may not send wait sooner.
const ONE_REFUSED_OF: u32 = 100;

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
}

impl Spending {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self {
            events: Bucket::new(budget.events),
            refused: Bucket::new(budget.events / ONE_REFUSED_OF),
            bytes: Bucket::new(budget.bytes),
            requests: Bucket::new(budget.requests),
        }
    }

    /// Charges a batch; returns how long to wait before the next.
    pub(crate) fn batch(&mut self, events: usize, bytes: usize) -> Duration {
        self.events.charge(events as f64).max(self.bytes.charge(bytes as f64))
    }

    /// Charges events that were refused; returns how long to wait before the next batch.
    pub(crate) fn refused(&mut self, events: usize) -> Duration {
        self.refused.charge(events as f64)
    }

    /// How long to wait before the next batch.
    pub(crate) fn wait(&mut self) -> Duration {
        let buckets = [&mut self.events, &mut self.refused, &mut self.bytes];
        let waits = buckets.into_iter().map(|bucket| bucket.charge(0.0));
        waits.max().unwrap_or_default()
    }

    /// Whether one more request may be answered.
    pub(crate) fn request(&mut self) -> bool {
        self.requests.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_used_up_comes_back_with_time() {
        let budget = Budget { events: 100, bytes: 1_000_000, requests: 10 };
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
}
