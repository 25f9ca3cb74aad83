//! Epochs of the data: another one begins when it went back in time, by a restore or in another way.
//!
//! What others know of the time that was lost does not count any more then: clients synchronise
//! anew, no seq is given twice, and the streams to other nodes begin anew.

use crate::backup::NewEpoch;
use crate::layered::Read;
use crate::outbox::stream_epoch;
use crate::record::Meta;
use crate::schema::{HEALED, META};
use crate::{StoreError, Tx};

/// Past epochs that are remembered.
const REMEMBERED: usize = 64;

pub(crate) fn of_salt([a, b, c, d, e, f, g, h, ..]: [u8; 16]) -> u64 {
    u64::from_be_bytes([a, b, c, d, e, f, g, h]).max(1)
}

fn remember(meta: &mut Meta, epoch: u64) {
    if !meta.past.contains(&epoch) {
        meta.past.push(epoch);
        let beyond = meta.past.len().saturating_sub(REMEMBERED);
        meta.past.drain(..beyond);
    }
}

/// The meta record of the epoch behind that of `meta`.
pub(crate) fn next(mut meta: Meta, new: NewEpoch) -> Meta {
    if let Ok(salt) = meta.salt.as_slice().try_into() {
        remember(&mut meta, of_salt(salt));
    }
    let skipped = meta.skipped.saturating_add(new.skip.into());
    Meta { epoch: meta.epoch + 1, salt: new.salt.to_vec(), skipped, taken: 0, ..meta }
}

/// Whether the streams of this node have, or had, this epoch.
pub fn is_known(from: &impl Read, epoch: u64) -> Result<bool, StoreError> {
    let meta = META.get(from, 0)?.unwrap_or_default();
    Ok(epoch == stream_epoch(from) || meta.past.contains(&epoch))
}

/// Whether another epoch began, and the node of `domain` was not yet asked for what was lost.
pub fn is_open(from: &impl Read, domain: &str) -> Result<bool, StoreError> {
    let later = META.get(from, 0)?.is_some_and(|meta| meta.epoch > 1);
    let asked = HEALED.get(from, domain)?.map(|asked| asked.value.cast_unsigned());
    Ok(later && asked != Some(stream_epoch(from)))
}

/// When the node has begun the present epoch by itself, because its data went back in time, in Unix
/// milliseconds; 0: it has not, or was restored since.
pub fn taken(from: &impl Read) -> Result<i64, StoreError> {
    Ok(META.get(from, 0)?.unwrap_or_default().taken)
}

impl Tx<'_> {
    /// Begins another epoch. It counts from the next opening of the store on.
    pub fn take_epoch(&mut self, new: NewEpoch, now_ms: i64) -> Result<(), StoreError> {
        let meta = META.get(self, 0)?.unwrap_or_default();
        META.put(self, 0, &Meta { taken: now_ms, ..next(meta, new) });
        Ok(())
    }

    /// Notes that the streams of this node had an epoch of which it did not know.
    pub fn note_epoch(&mut self, epoch: u64) -> Result<(), StoreError> {
        let mut meta = META.get(self, 0)?.unwrap_or_default();
        remember(&mut meta, epoch);
        META.put(self, 0, &meta);
        Ok(())
    }
}
