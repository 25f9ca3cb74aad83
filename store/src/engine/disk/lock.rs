//! The lock of a folder; the system releases it when the process ends, however it ends.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use crate::StoreError;

/// Held as long as it lives.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a folder, which is made if it is not there. Nothing else is touched before.
    pub(super) fn take(folder: &Path) -> Result<Self, StoreError> {
        let fails = |source| StoreError::Folder { folder: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(fails)?;
        let path = folder.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        Self::of(file.map_err(|source| StoreError::Folder { folder: path, source })?, folder)
    }

    /// Takes it if the folder has one, and changes nothing.
    pub(super) fn take_if_there(folder: &Path) -> Result<Option<Self>, StoreError> {
        let path = folder.join("lock");
        match File::open(&path) {
            Ok(file) => Self::of(file, folder).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Folder { folder: path, source }),
        }
    }

    fn of(file: File, folder: &Path) -> Result<Self, StoreError> {
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked(folder.to_owned())),
            Err(TryLockError::Error(source)) => {
                Err(StoreError::Folder { folder: folder.to_owned(), source })
            }
        }
    }
}
