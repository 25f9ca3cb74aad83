//! One node must not run twice: each start has an instance number, and of two that live the one whose
//! link is there is kept.
//!
//! Whoever comes under another number than that of a link that is there is let in once that link does
//! not answer any more: then the node was started again. If it answers, the newcomer is refused, with
//! the answer: an instance of its own has made it, which nobody else can, after the newcomer has
//! drawn its number.

use proto::federation::{Bye, ByeCode};

use crate::halt::Halt;
use crate::peer::Peer;
use crate::seal;
use crate::shared::Shared;
use crate::{Domain, FederationError};

impl Shared {
    /// Lets `instance` of the node of `origin` in unless another one of it lives.
    pub(crate) async fn only_one(
        &self,
        origin: &Domain,
        peer: &Peer,
        instance: u64,
    ) -> Result<(), FederationError> {
        let Some(there) = peer.inbound() else { return Ok(()) };
        if !there.is_of_another(instance) {
            return Ok(());
        }
        let Some(alive) = there.probe(instance).await else {
            if there.rests() && !there.ended.is_cancelled() {
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
