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

/// Bytes left on the file system of an open file or folder.
pub(super) fn available(file: &File) -> Option<u64> {
    let stat = rustix::fs::fstatvfs(file).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
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

/// Syncs the content of a file.
pub(in crate::engine) fn sync(file: &File) -> io::Result<()> {
    file.sync_data().map_err(unsynced)
}

/// Of a failed sync, that it is not to be tried again, whatever the reason: the system tells of lost
/// pages once, and a second sync that succeeds means nothing.
pub(in crate::engine) fn unsynced(error: io::Error) -> io::Error {
    io::Error::other(format!("it cannot be synced: {error}"))
}

/// Says of a path what the system says.
pub(super) fn fails(path: &Path) -> impl Fn(io::Error) -> StoreError + Copy + '_ {
    |source| StoreError::Folder { folder: path.to_owned(), source }
}

/// Says of a path that it is not as it was written.
pub(super) fn damaged(path: &Path, reason: impl Into<String>) -> StoreError {
    StoreError::DamagedFile { file: path.to_owned(), reason: reason.into() }
}
