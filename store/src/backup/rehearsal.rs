//! Restoring a backup to see whether it can be.

use std::io::Read;
use std::path::Path;

use super::{BackupError, Behind, NewEpoch, Nothing, Reached, Summary, restore_with};
use crate::engine::DiskEngine;
use crate::verify::{Report, verify};
use crate::{Options, Store};

/// What came of it.
#[derive(Debug, Clone)]
pub struct Rehearsal {
    /// What the backup holds.
    pub summary: Summary,
    /// How far the journal behind it came.
    pub reached: Option<Reached>,
    /// What was looked at.
    pub report: Report,
}

/// Restores the database of a backup into `folder`, which must be absent or empty and is of no use
/// afterwards, opens it and checks all of it. What the backup holds beside is read, and not kept.
///
/// # Errors
/// It cannot be restored.
pub fn rehearse(
    input: impl Read,
    behind: Option<Behind<'_>>,
    folder: &Path,
    cache_bytes: u64,
) -> Result<Rehearsal, BackupError> {
    let new = NewEpoch { salt: [1; 16], skip: 0 };
    let (summary, reached) =
        restore_with(input, &mut Nothing, behind, folder, cache_bytes, new, |_| {})?;
    let engine = DiskEngine::open(folder, cache_bytes)?;
    let options = Options { reserve_bytes: 0, ..Options::default() };
    let store = Store::open(Box::new(engine), options)?;
    let report = verify(&store.strict_view(), |_| {});
    store.close();
    Ok(Rehearsal { summary, reached, report: report? })
}
