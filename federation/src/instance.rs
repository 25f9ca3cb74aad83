//! The instance of another node at the end of a link, and asking it whether it lives.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::federation::Pong;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Time in which an instance that lives answers.
const ANSWERS: Duration = Duration::from_secs(3);
/// Questions that wait for an answer on one link.
const MOST_PROBES: usize = 16;

/// Asks the instance at the end of a link whether it lives.
pub(crate) struct Probe {
    /// The other instance.
    pub(crate) other: u64,
    answer: oneshot::Sender<Pong>,
}

/// A link on which events come in.
#[derive(Clone)]
pub(crate) struct Inbound {
    /// Ends it.
    pub(crate) ended: CancellationToken,
    instance: u64,
    probes: mpsc::Sender<Probe>,
    /// Nothing is read from it now.
    rests: Arc<AtomicBool>,
}

/// The other end of an [`Inbound`], which asks on the link.
pub(crate) struct Probes {
    asked: mpsc::Receiver<Probe>,
    waiting: HashMap<u64, oneshot::Sender<Pong>>,
    rests: Arc<AtomicBool>,
}

impl Inbound {
    pub(crate) fn new(instance: u64) -> (Self, Probes) {
        let (probes, asked) = mpsc::channel(MOST_PROBES);
        let rests = Arc::new(AtomicBool::new(false));
        let inbound =
            Self { ended: CancellationToken::new(), instance, probes, rests: Arc::clone(&rests) };
        (inbound, Probes { asked, waiting: HashMap::new(), rests })
    }

    pub(crate) fn is_of(&self, instance: u64) -> bool {
        self.instance == instance
    }

    /// Whether it is known that the other end is not of this instance.
    pub(crate) fn is_of_another(&self, instance: u64) -> bool {
        instance != 0 && self.instance != 0 && self.instance != instance
    }

    /// Whether nothing is read from it now.
    pub(crate) fn rests(&self) -> bool {
        self.rests.load(Ordering::Relaxed)
    }

    /// Asks the instance there whether it lives, while `other` asks to be let in.
    pub(crate) async fn probe(&self, other: u64) -> Option<Pong> {
        let (answer, answered) = oneshot::channel();
        self.probes.try_send(Probe { other, answer }).ok()?;
        tokio::time::timeout(ANSWERS, answered).await.ok()?.ok()
    }
}

impl Probes {
    /// The next instance to ask about.
    pub(crate) async fn next(&mut self) -> u64 {
        match self.asked.recv().await {
            Some(Probe { other, answer }) => {
                self.waiting.retain(|_, waiting| !waiting.is_closed());
                self.waiting.insert(other, answer);
                other
            }
            None => std::future::pending().await,
        }
    }

    /// An answer has come.
    pub(crate) fn answered(&mut self, pong: Pong) {
        if let Some(answer) = self.waiting.remove(&pong.other) {
            // Whoever asked may wait no more.
            let _ = answer.send(pong);
        }
    }

    /// Notes whether anything is read from the link now.
    pub(crate) fn set_rests(&self, rests: bool) {
        self.rests.store(rests, Ordering::Relaxed);
    }
}
