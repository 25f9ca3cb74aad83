//! The data of this node went back in time: it begins another epoch, as after a restore.

use store::backup::NewEpoch;
use store::{StoreError, epoch};

use proto::qualified::Domain;

use crate::Services;

/// Seqs that every conversation leaves out: clients may have messages with them that are lost here.
const LEFT_OUT: u32 = 1_000;
/// Time in which a node begins no second epoch by itself. Two copies of a node that run in turn, each
/// ahead of the other for a while, would begin one after the other.
const PAUSE_MS: i64 = 3_600_000;

impl Services {
    /// A number for a run of the node, never 0.
    pub fn new_instance(&self) -> u64 {
        self.random_u64().max(1)
    }

    /// Begins another epoch, which counts from the next opening of the store on; false if the node
    /// has done so by itself within the last hour.
    pub async fn take_epoch(&self) -> Result<bool, StoreError> {
        let (mut salt, now_ms) = ([0; 16], self.now());
        salt[..8].copy_from_slice(&self.random_u64().to_be_bytes());
        salt[8..].copy_from_slice(&self.random_u64().to_be_bytes());
        self.store()
            .transact(move |tx| {
                let taken = epoch::taken(tx)?;
                if taken != 0 && now_ms.saturating_sub(taken).saturating_abs() < PAUSE_MS {
                    return Ok(false);
                }
                tx.take_epoch(NewEpoch { salt, skip: LEFT_OUT }, now_ms)?;
                Ok(true)
            })
            .await
    }

    /// What comes before anything is sent to the node of `domain` in a new epoch: what was lost comes
    /// back, while the other node still knows its places. An error says why it does not.
    pub async fn ready_for(&self, domain: &Domain) -> Result<(), String> {
        self.healed_once(domain).await.map_err(|error| error.to_string())
    }
}
