//! A file that has its name only once it is complete and durable.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::{beside_it, sync_parent};

/// Only the owner may read and write it.
const PRIVATE: u32 = 0o600;

/// A file in the making, under another name, for its owner only. Dropped before it is kept, it is
/// gone.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    replace: bool,
    kept: bool,
}

impl NewFile {
    /// Begins a file that will be at `path`, in place of one that is there if `replace`.
    ///
    /// # Errors
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists): there is a file, and it is not to be replaced;
    /// [`ResourceBusy`](io::ErrorKind::ResourceBusy): somebody else writes it.
    pub fn create(path: &Path, replace: bool) -> io::Result<Self> {
        must_be_free(path, replace)?;
        let partial = beside_it(path, ".partial");
        // One that is there was left by a program that was ended, or is being written.
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE)
            .open(&partial)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let what = "somebody else writes it at the moment";
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, what));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let new = Self { path: path.to_owned(), partial, file, replace, kept: false };
        new.file.set_permissions(Permissions::from_mode(PRIVATE))?;
        new.file.set_len(0)?;
        Ok(new)
    }

    /// Gives the file its name for good.
    pub fn keep(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        must_be_free(&self.path, self.replace)?;
        fs::rename(&self.partial, &self.path)?;
        self.kept = true;
        sync_parent(&self.path)
    }
}

impl io::Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // What is left of it is of no use.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

fn must_be_free(path: &Path, replace: bool) -> io::Result<()> {
    if !replace && fs::symlink_metadata(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is such a file already"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_is_whole_private_and_replaces_only_if_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, partial) = (folder.path().join("f"), folder.path().join("f.partial"));
        // As a program that was ended leaves it.
        fs::write(&partial, "older and longer").expect("writes");
        fs::set_permissions(&partial, Permissions::from_mode(0o666)).expect("opens it");
        let mut file = NewFile::create(&path, false).expect("creates");
        let busy = NewFile::create(&path, true).expect_err("it is being written");
        assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);
        file.write_all(b"new").expect("writes");
        assert!(!path.exists());
        file.keep().expect("keeps");
        assert_eq!(fs::read(&path).expect("reads"), b"new");
        let mode = fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE);

        let refused = NewFile::create(&path, false).expect_err("it exists");
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        let mut file = NewFile::create(&path, true).expect("replaces");
        file.write_all(b"newer").expect("writes");
        drop(file);
        assert!(!partial.exists(), "what is not kept is gone");
        assert_eq!(fs::read(&path).expect("reads"), b"new");
        let mut file = NewFile::create(&path, true).expect("replaces");
        file.write_all(b"newest").expect("writes");
        file.keep().expect("keeps");
        assert_eq!(fs::read(&path).expect("reads"), b"newest");
    }
}
