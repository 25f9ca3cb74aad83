//! Epochs of the data: another one begins when it went back in time.
//!
//! What others know of the time that was lost does not count any more then: clients synchronise anew,
//! and no seq is given twice.

use crate::backup::NewEpoch;
use crate::record::Meta;

/// The meta record of the epoch behind that of `meta`.
pub(crate) fn next(meta: Meta, new: NewEpoch) -> Meta {
    let skipped = meta.skipped.saturating_add(new.skip.into());
    Meta { epoch: meta.epoch + 1, salt: new.salt.to_vec(), skipped, ..meta }
}
