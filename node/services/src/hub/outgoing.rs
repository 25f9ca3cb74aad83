//! What a connection has to write.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::delivery::Push;

/// Something a connection has to write.
pub enum Outgoing {
    /// A message.
    Push(Arc<Push>),
    /// Online status of a watched user: an encoded `SubUserOnlineStatusTips`.
    Status(Bytes),
    /// An answer, ready to be written.
    Frame(Bytes),
    /// The login is over: tell the client, then close.
    Kick,
}

impl Outgoing {
    fn bytes(&self) -> usize {
        match self {
            Self::Push(push) => push.data.len(),
            Self::Status(bytes) | Self::Frame(bytes) => bytes.len(),
            Self::Kick => 0,
        }
    }
}

/// How much may wait for connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Frames for one.
    pub frames: usize,
    /// Bytes for one.
    pub bytes: usize,
    /// Bytes for all together; above it, 64 KiB for one.
    pub all_bytes: usize,
}

/// Bytes that may wait for one connection while too much waits for all. Who reads has less.
const PRESSED_BYTES: usize = 64 * 1024;

/// What waits for one connection, oldest first.
///
/// A channel of tokio keeps 1.6 KB for each idle connection; this keeps nothing while it is empty.
pub(super) struct Queue {
    limits: QueueLimits,
    /// Bytes that wait for all connections.
    all: Arc<AtomicUsize>,
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Outgoing>,
    bytes: usize,
}

impl Queue {
    /// An empty queue; `all` counts the bytes of all queues.
    pub(super) fn new(limits: QueueLimits, all: Arc<AtomicUsize>) -> Self {
        Self { limits, all, waiting: Mutex::default(), arrived: Notify::new() }
    }

    /// Adds one; `false` if there is no room. An empty queue has room for one of any size.
    pub(super) fn push(&self, outgoing: Outgoing) -> bool {
        let QueueLimits { frames, bytes, all_bytes } = self.limits;
        let size = outgoing.bytes();
        let mut waiting = self.waiting.lock();
        let pressed = self.all.load(Ordering::Relaxed) + size > all_bytes;
        let bytes = if pressed { bytes.min(PRESSED_BYTES) } else { bytes };
        let full = waiting.frames.len() >= frames || waiting.bytes + size > bytes;
        if full && !waiting.frames.is_empty() {
            return false;
        }
        waiting.frames.push_back(outgoing);
        waiting.bytes += size;
        drop(waiting);
        self.all.fetch_add(size, Ordering::Relaxed);
        self.arrived.notify_one();
        true
    }

    /// Waits until there is something and takes up to `most`; one task only may wait.
    ///
    /// Nothing is lost if the future is dropped.
    pub(super) async fn take(&self, most: usize) -> VecDeque<Outgoing> {
        loop {
            let taken = self.take_now(most);
            if !taken.is_empty() {
                return taken;
            }
            self.arrived.notified().await;
        }
    }

    /// Takes up to `most` of what is there.
    pub(super) fn take_now(&self, most: usize) -> VecDeque<Outgoing> {
        let mut waiting = self.waiting.lock();
        let (taken, bytes) = if waiting.frames.len() > most {
            let rest = waiting.frames.split_off(most);
            let taken = std::mem::replace(&mut waiting.frames, rest);
            let bytes = taken.iter().map(Outgoing::bytes).sum();
            (taken, bytes)
        } else {
            (std::mem::take(&mut waiting.frames), waiting.bytes)
        };
        waiting.bytes -= bytes;
        drop(waiting);
        self.all.fetch_sub(bytes, Ordering::Relaxed);
        taken
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.take_now(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: QueueLimits = QueueLimits { frames: 3, bytes: 100, all_bytes: 1_000 };

    fn frame(text: &'static str) -> Outgoing {
        Outgoing::Frame(Bytes::from_static(text.as_bytes()))
    }

    fn texts(batch: VecDeque<Outgoing>) -> Vec<Bytes> {
        let text = |outgoing| match outgoing {
            Outgoing::Frame(text) => text,
            _ => Bytes::new(),
        };
        batch.into_iter().map(text).collect()
    }

    #[tokio::test]
    async fn in_order_up_to_its_limit() {
        let all = Arc::new(AtomicUsize::new(0));
        let queue = Queue::new(LIMITS, Arc::clone(&all));
        for text in ["one", "two", "three"] {
            assert!(queue.push(frame(text)));
        }
        assert!(!queue.push(frame("four")));
        assert_eq!(texts(queue.take(2).await), ["one", "two"]);
        assert_eq!(all.load(Ordering::Relaxed), 5);
        assert!(queue.push(frame("five")));
        assert_eq!(texts(queue.take(2).await), ["three", "five"]);
        assert!(queue.take_now(2).is_empty());
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn bytes_are_bounded_for_one_and_for_all() {
        let all = Arc::new(AtomicUsize::new(0));
        let limits = QueueLimits { frames: 100, bytes: 10 << 16, all_bytes: 12 << 16 };
        let [one, two] = [(); 2].map(|()| Queue::new(limits, Arc::clone(&all)));
        let half = || Outgoing::Frame(Bytes::from(vec![0; PRESSED_BYTES / 2]));
        assert_eq!((0..100).filter(|_| one.push(half())).count(), 20, "its own limit");
        assert_eq!((0..100).filter(|_| two.push(half())).count(), 4, "the limit for all");
        assert!(!two.push(frame("1")));
        two.take_now(3);
        assert!(two.push(frame("1")), "little waits for it");
        drop(one);
        assert_eq!((0..100).filter(|_| two.push(half())).count(), 18);
        drop(two);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn what_comes_later_is_waited_for() {
        let queue = Arc::new(Queue::new(LIMITS, Arc::default()));
        let taken = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { texts(queue.take(1).await) }
        });
        tokio::task::yield_now().await;
        assert!(queue.push(frame("late")));
        assert_eq!(taken.await.unwrap(), ["late"]);
    }
}
