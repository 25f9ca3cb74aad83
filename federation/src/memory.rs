//! What other nodes remember of this one: whether its data went back in time is seen by that.
//!
//! Every batch brings the receiver a mark of its last event, every ack brings the origin a receipt.
//! They are given back at each greeting. One that this node has made in its present epoch, and that
//! stands for more than its data holds or for another event, means that the data is an older copy.

use std::sync::Arc;

use proto::federation::{Known, Mark};
use store::{epoch, outbox, schema};

use crate::halt::Halt;
use crate::seal::Seal;
use crate::shared::Shared;
use crate::{Domain, FederationError};

impl Shared {
    /// The mark of the event at a place of the stream to `destination`.
    pub(crate) fn mark(&self, destination: &Domain, place: (u64, u64), value: u64) -> Option<Mark> {
        (value != 0).then(|| Seal::Mark.make(self.identity(), destination, place, value))
    }

    /// The receipt for the stream of `origin` up to a place.
    pub(crate) fn receipt(&self, origin: &Domain, place: (u64, u64)) -> Mark {
        let own = outbox::stream_epoch(&self.store.view());
        Seal::Receipt.make(self.identity(), origin, place, own)
    }

    /// What this node has of another one.
    pub(crate) fn known_of(&self, peer: &Domain) -> Result<Known, FederationError> {
        let view = self.store.view();
        let mark = outbox::cursor(&view, peer.as_str())?.mark;
        Ok(Known { mark, receipt: outbox::head(&view, peer.as_str())?.receipt })
    }

    /// Looks at the mark that `peer` has of the stream to it; fails if that shows that this node went
    /// back in time.
    pub(crate) async fn judge(
        self: &Arc<Self>,
        peer: &Domain,
        mark: Option<Mark>,
    ) -> Result<(), FederationError> {
        let own = |mark: &Mark| Seal::Mark.holds(self.identity(), peer, mark);
        let Some(mark) = mark.filter(own) else { return Ok(()) };
        let unknown = {
            let view = self.store.view();
            if mark.epoch == outbox::stream_epoch(&view) {
                let head = outbox::head(&view, peer.as_str())?;
                let value = if mark.seq == head.acknowledged {
                    head.acknowledged_mark
                } else {
                    let queued = schema::OUTBOX.get(&view, (peer.as_str(), mark.seq))?;
                    queued.map_or(0, |queued| queued.mark)
                };
                if mark.seq > head.last || (value != 0 && value != mark.value) {
                    return Err(self.went_back(peer));
                }
                false
            } else if epoch::is_known(&view, mark.epoch)? {
                false
            } else if epoch::is_open(&view, peer.as_str())? {
                // This node was restored to before an earlier restore.
                true
            } else {
                return Err(self.went_back(peer));
            }
        };
        if unknown {
            self.store.transact(move |tx| tx.note_epoch(mark.epoch)).await?;
        }
        Ok(())
    }

    /// Looks at the receipt that `peer` has for its stream; fails if that shows that this node went
    /// back in time.
    pub(crate) fn judge_receipt(
        self: &Arc<Self>,
        peer: &Domain,
        receipt: Option<Mark>,
    ) -> Result<(), FederationError> {
        let own = |receipt: &Mark| Seal::Receipt.holds(self.identity(), peer, receipt);
        let Some(receipt) = receipt.filter(own) else { return Ok(()) };
        let view = self.store.view();
        // Of another epoch of this node: what was lost since is looked for already.
        if receipt.value != outbox::stream_epoch(&view) {
            return Ok(());
        }
        let cursor = outbox::cursor(&view, peer.as_str())?;
        let same = cursor.epoch == receipt.epoch || cursor.epoch == 0;
        if same && cursor.seq < receipt.seq { Err(self.went_back(peer)) } else { Ok(()) }
    }

    /// The data of this node is older than what `peer` has of it: nothing more is sent until it has
    /// another epoch.
    fn went_back(self: &Arc<Self>, peer: &Domain) -> FederationError {
        if self.halts.begin() {
            tracing::warn!(
                %peer,
                "the data of this node went back in time: the other node has more of it, so an \
                 older copy of the data folder or of the machine was put back. Nothing is sent \
                 until the data has a new epoch, as after a restore"
            );
            let (shared, peer) = (Arc::clone(self), peer.clone());
            self.runtime.spawn(async move {
                let halt = match shared.rules.went_back().await {
                    Ok(true) => Halt::NewEpoch { peer },
                    Ok(false) => Halt::BackAgain { peer },
                    Err(error) => Halt::NoEpoch { peer, error: error.to_string() },
                };
                shared.halts.finish(halt);
            });
        }
        FederationError::Halted
    }
}
