//! When a node stops to deal with others: its data went back in time, or it runs twice.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Domain;

/// Why a node deals with no other one any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// Its data went back in time. It has a new epoch, which counts once the store is opened again.
    NewEpoch {
        /// Who knows more of it.
        peer: Domain,
    },
    /// Its data went back in time again, too soon after the last time.
    BackAgain {
        /// Who knows more of it.
        peer: Domain,
    },
    /// Its data went back in time, and a new epoch could not be stored.
    NoEpoch {
        /// Who knows more of it.
        peer: Domain,
        /// Why not.
        error: String,
    },
    /// Another instance of it runs.
    Doubled {
        /// Who has a link with that one.
        peer: Domain,
    },
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewEpoch { peer } => {
                write!(f, "the data went back in time, as {peer} shows; it begins a new epoch")
            }
            Self::BackAgain { peer } => write!(
                f,
                "the data went back in time for the second time within an hour, as {peer} shows: \
                 does a copy of this node run elsewhere? End it, and start this node again an hour \
                 later"
            ),
            Self::NoEpoch { peer, error } => write!(
                f,
                "the data went back in time, as {peer} shows, and a new epoch cannot be stored \
                 ({error}): start this node again"
            ),
            Self::Doubled { peer } => write!(
                f,
                "this node runs twice: {peer} has a link with another instance under its keys, which \
                 answers. End one of the two; if it is the other one, start this one again"
            ),
        }
    }
}

/// Whether the node has stopped to deal with others.
pub(crate) struct Halts {
    /// Ends what goes on with others; also when the node stops.
    pub(crate) quiet: CancellationToken,
    begun: AtomicBool,
    halt: watch::Sender<Option<Halt>>,
}

impl Halts {
    /// Nothing has stopped; `stop` is when the node does.
    pub(crate) fn new(stop: &CancellationToken) -> Self {
        Self {
            quiet: stop.child_token(),
            begun: AtomicBool::new(false),
            halt: watch::Sender::new(None),
        }
    }

    /// Stops; false: somebody else has done so.
    pub(crate) fn begin(&self) -> bool {
        let first = !self.begun.swap(true, Ordering::AcqRel);
        self.quiet.cancel();
        first
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Says why, once what had to be done is done.
    pub(crate) fn finish(&self, halt: Halt) {
        match &halt {
            Halt::NewEpoch { .. } => tracing::warn!("{halt}"),
            _ => tracing::error!("this node deals with no other one any more: {halt}"),
        }
        self.halt.send_replace(Some(halt));
    }

    pub(crate) fn halt(&self) -> Option<Halt> {
        self.halt.borrow().clone()
    }

    /// Waits until it has stopped.
    pub(crate) async fn halted(&self) -> Halt {
        let mut halt = self.halt.subscribe();
        loop {
            if let Some(halt) = halt.borrow_and_update().clone() {
                return halt;
            }
            if halt.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
