//! Batches of one node are applied in the order in which they came, however long it takes to check
//! the signatures in each.

use std::collections::HashMap;

use parking_lot::Mutex;
use proto::qualified::Domain;
use tokio::sync::oneshot;

/// The last batch of each node.
#[derive(Default)]
pub(crate) struct Turns {
    last: Mutex<HashMap<Domain, oneshot::Receiver<()>>>,
}

/// The place of one batch in the order.
pub struct Turn {
    before: Option<oneshot::Receiver<()>>,
    over: Over,
}

/// When it is dropped, the next batch may go.
pub(super) struct Over {
    _next: oneshot::Sender<()>,
}

impl Turns {
    /// The place behind all batches of a node so far.
    pub(super) fn take(&self, origin: &Domain) -> Turn {
        let (next, behind) = oneshot::channel();
        let before = self.last.lock().insert(origin.clone(), behind);
        Turn { before, over: Over { _next: next } }
    }
}

impl Turn {
    /// Waits until the batch before has its place in the store's queue.
    pub(super) async fn comes(self) -> Over {
        if let Some(before) = self.before {
            // An error means that it is over, too.
            let _ = before.await;
        }
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_for_the_first() {
        let turns = Turns::default();
        let origin: Domain = "alpha.example".parse().expect("a domain");
        let (first, second) = (turns.take(&origin), turns.take(&origin));
        let second = tokio::spawn(second.comes());
        let over = first.comes().await;
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(over);
        second.await.expect("its turn comes");
        turns.take(&origin).comes().await;
    }
}
