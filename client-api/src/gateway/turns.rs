//! Turns of clients who send as fast as they can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How long a calm send counts as a sign that others may send too.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Share of the turns that may be taken meanwhile, so that a batch with their messages is soon on
/// disk.
const SHARE: u32 = 8;

/// A turn; it ends when this is dropped.
pub(super) type Turn = OwnedSemaphorePermit;

/// So many sends may be under way at the same time, of all who hurry. The others do not wait, but
/// while there are such, fewer turns are given.
pub(super) struct Turns {
    free: Arc<Semaphore>,
    began: Instant,
    /// When a calm send was seen last, in milliseconds since the beginning; 0 never.
    calm: AtomicU64,
}

impl Turns {
    /// At most `most` at a time.
    pub(super) fn new(most: usize) -> Self {
        let free = Semaphore::new(most.clamp(SHARE as usize, u32::MAX as usize));
        Self { free: Arc::new(free), began: Instant::now(), calm: AtomicU64::new(0) }
    }

    /// Notes a send that is not in a hurry.
    pub(super) fn calm(&self, now: Instant) {
        self.calm.store(self.millis(now).max(1), Ordering::Relaxed);
    }

    /// A turn, if one is free and nobody waits for it.
    pub(super) fn try_take(&self, now: Instant) -> Option<Turn> {
        Arc::clone(&self.free).try_acquire_many_owned(self.width(now)).ok()
    }

    /// Waits for a turn; whoever asks first gets it first.
    pub(super) async fn take(&self, now: Instant) -> Turn {
        match Arc::clone(&self.free).acquire_many_owned(self.width(now)).await {
            Ok(turn) => turn,
            // Nobody closes it; the connection ends with the node.
            Err(_) => std::future::pending().await,
        }
    }

    fn width(&self, now: Instant) -> u32 {
        let calm = self.calm.load(Ordering::Relaxed);
        let recent =
            calm != 0 && self.millis(now).saturating_sub(calm) < REMEMBERED.as_millis() as u64;
        if recent { SHARE } else { 1 }
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from((now - self.began).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn there_are_fewer_turns_while_others_send() {
        let turns = Turns::new(64);
        let now = turns.began + Duration::from_secs(1);
        let held: Vec<Turn> = std::iter::from_fn(|| turns.try_take(now)).collect();
        assert_eq!(held.len(), 64);
        drop(held);
        turns.calm(now);
        let held: Vec<Turn> = std::iter::from_fn(|| turns.try_take(now)).collect();
        assert_eq!(held.len(), 8);
        assert_eq!(turns.width(now + REMEMBERED), 1);
        let waits = turns.take(now);
        let mut waits = std::pin::pin!(waits);
        assert!(futures_util::poll!(waits.as_mut()).is_pending());
        drop(held);
        drop(waits.await);
    }
}
