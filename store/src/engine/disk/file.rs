//! Files that are there as a whole or not at all, and what is said of those that are not as they should
//! be.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::StoreError;

/// Makes the entries of a folder durable.
pub(in crate::engine) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Puts a file in place of another, durably; after a crash one of the two is there.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => sync_folder(folder),
        None => Ok(()),
    }
}

/// Says of a path what the system says.
pub(super) fn fails(path: &Path) -> impl Fn(io::Error) -> StoreError + Copy + '_ {
    |source| StoreError::Folder { folder: path.to_owned(), source }
}

/// Says of a path that it is not as it was written.
pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> StoreError {
    StoreError::DamagedFile { file: path.to_owned(), reason: reason.into() }
}
