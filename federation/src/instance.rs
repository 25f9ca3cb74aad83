//! One node must not run twice: each start has an instance number, and of two that live the one whose
//! link is there is kept.
//!
//! Whoever comes under another number than that of a link that is there is let in once that link does
//! not answer any more: then the node was started again. If it answers, the newcomer is refused, with
//! the answer: an instance of its own has made it, which nobody else can, after the newcomer has
//! drawn its number.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::federation::{Bye, ByeCode, Pong};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::halt::Halt;
use crate::peer::Peer;
use crate::seal;
use crate::shared::Shared;
use crate::{Domain, FederationError};

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

    async fn probe(&self, other: u64) -> Option<Pong> {
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

impl Shared {
    /// Lets `instance` of the node of `origin` in unless another one of it lives.
    pub(crate) async fn only_one(
        &self,
        origin: &Domain,
        peer: &Peer,
        instance: u64,
    ) -> Result<(), FederationError> {
        let Some(there) = peer.inbound() else { return Ok(()) };
        if instance == 0 || there.instance == 0 || there.instance == instance {
            return Ok(());
        }
        let Some(alive) = there.probe(instance).await else {
            if there.rests.load(Ordering::Relaxed) && !there.ended.is_cancelled() {
                let reason = "another instance of the node may be there; later".to_owned();
                return Err(FederationError::Bye { code: ByeCode::ByeBusy, reason });
            }
            there.ended.cancel();
            return Ok(());
        };
        if peer.note_doubled() {
            tracing::warn!(
                %origin,
                "the node runs twice, under the same keys: the instance that was there first is kept, \
                 the other one is refused. Its operator has to end one of them"
            );
        }
        Err(FederationError::Doubled(alive))
    }

    /// What the node of `peer` said when it hung up; this node stops if that proves that it runs
    /// twice.
    pub(crate) fn refused_by(&self, peer: &Domain, bye: Bye) -> FederationError {
        let proof = bye.alive.filter(|_| bye.code() == ByeCode::ByeDoubled);
        let proven = proof.is_some_and(|alive| {
            seal::is_other_alive(self.identity(), peer, self.instance, &alive)
        });
        if proven && self.halts.begin() {
            self.halts.finish(Halt::Doubled { peer: peer.clone() });
        }
        bye.into()
    }
}
