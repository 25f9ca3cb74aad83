//! What a connection has to write.

use std::collections::VecDeque;
use std::sync::Arc;

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

/// What waits for one connection, oldest first.
///
/// A channel of tokio keeps 1.6 KB for each idle connection; this keeps nothing while it is empty.
pub(super) struct Queue {
    limit: usize,
    waiting: Mutex<VecDeque<Outgoing>>,
    arrived: Notify,
}

impl Queue {
    /// An empty queue that holds at most `limit`.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, waiting: Mutex::default(), arrived: Notify::new() }
    }

    /// Adds one; `false` if the queue is full.
    pub(super) fn push(&self, outgoing: Outgoing) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= self.limit {
            return false;
        }
        waiting.push_back(outgoing);
        drop(waiting);
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
        if waiting.len() > most {
            let rest = waiting.split_off(most);
            return std::mem::replace(&mut *waiting, rest);
        }
        std::mem::take(&mut *waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let queue = Queue::new(3);
        for text in ["one", "two", "three"] {
            assert!(queue.push(frame(text)));
        }
        assert!(!queue.push(frame("four")));
        assert_eq!(texts(queue.take(2).await), ["one", "two"]);
        assert!(queue.push(frame("five")));
        assert_eq!(texts(queue.take(2).await), ["three", "five"]);
        assert!(queue.take_now(2).is_empty());
    }

    #[tokio::test]
    async fn what_comes_later_is_waited_for() {
        let queue = Arc::new(Queue::new(1));
        let taken = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { texts(queue.take(1).await) }
        });
        tokio::task::yield_now().await;
        assert!(queue.push(frame("late")));
        assert_eq!(taken.await.unwrap(), ["late"]);
    }
}
