//! Copies of an index, which are looked into where nothing may be changed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::file::{available, damaged, fails};
use crate::StoreError;
use crate::engine::index::folder as index_folder;

/// What begins the name of the folder of a copy.
const COPY: &str = "entente-copy-";
/// In that: the copy, and a file that is locked as long as somebody has use for it.
const INDEX: &str = "index";
const HELD: &str = "held";
/// Bytes left beside a copy, for what is written while it is checked.
const BESIDE_COPY_BYTES: u64 = 8 << 20;

/// A copy; it is removed when this is dropped, or by who comes next if this process is killed.
pub(super) struct IndexCopy {
    folder: TempDir,
    _held: File,
}

impl IndexCopy {
    /// Copies the files of the index, into `copies` or where the system keeps what is needed for a
    /// moment.
    pub(super) fn make(folder: &Path, copies: Option<&Path>) -> Result<Self, StoreError> {
        let within = place(folder, copies)?;
        drop_left(&within);
        let begun = begin(&within).map_err(fails(&within))?;
        let index = begun.path();
        for entry in fs::read_dir(folder).map_err(fails(folder))? {
            let name = entry.map_err(fails(folder))?.file_name();
            if name.to_str().is_some_and(index_folder::is_file) {
                let to = index.join(&name);
                fs::copy(folder.join(&name), &to).map_err(fails(&to))?;
            }
        }
        if !index.join("db").exists() {
            return Err(damaged(&folder.join("db"), "it is missing"));
        }
        Ok(begun)
    }

    /// Where the files are.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join(INDEX)
    }
}

fn begin(within: &Path) -> io::Result<IndexCopy> {
    let folder = tempfile::Builder::new().prefix(COPY).tempdir_in(within)?;
    let held = File::create(folder.path().join(HELD))?;
    held.lock()?;
    fs::create_dir(folder.path().join(INDEX))?;
    Ok(IndexCopy { folder, _held: held })
}

/// A place with room for a copy of the index.
fn place(folder: &Path, copies: Option<&Path>) -> Result<PathBuf, StoreError> {
    let size = fs::metadata(folder.join("db")).map_or(0, |db| db.len());
    let has_room = |place: &PathBuf| {
        let available = File::open(place).ok().and_then(|place| available(&place));
        available.is_none_or(|available| available >= size + BESIDE_COPY_BYTES)
    };
    let temporary = std::env::temp_dir();
    let places = [copies.map(Path::to_owned), Some(temporary.clone()), Some("/dev/shm".into())];
    let place = places.into_iter().flatten().find(has_room);
    place.ok_or_else(|| {
        let needed = size + BESIDE_COPY_BYTES;
        let reason = format!("{needed} bytes are needed for a moment; TMPDIR may name a place");
        fails(&temporary)(io::Error::new(io::ErrorKind::StorageFull, reason))
    })
}

/// Removes copies that processes have left which were killed, in a folder that others use, too. What
/// cannot be removed stays.
fn drop_left(within: &Path) {
    for copy in copies_in(within) {
        // One without that file is just being made.
        if File::open(copy.join(HELD)).is_ok_and(|held| held.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(copy);
        }
    }
}

/// Removes every copy in a folder of data, which nobody else uses.
pub(super) fn drop_all(folder: &Path) {
    for copy in copies_in(folder) {
        let _ = fs::remove_dir_all(copy);
    }
}

fn copies_in(folder: &Path) -> Vec<PathBuf> {
    let is_copy = |entry: &fs::DirEntry| {
        entry.file_name().to_str().is_some_and(|name| name.starts_with(COPY))
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(is_copy).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_has_left_goes_and_nothing_else() {
        let (place, folder) = (TempDir::new().expect("made"), TempDir::new().expect("made"));
        fs::write(folder.path().join("db"), "an index").expect("writes");
        let make = || IndexCopy::make(folder.path(), Some(place.path())).expect("copies");
        let (kept, left) = (make(), make());
        fs::create_dir(place.path().join("entente-copying")).expect("made");
        let IndexCopy { folder: left, _held } = left;
        let left = left.keep();
        drop(_held);
        let new = make();
        assert!(!left.exists());
        for copy in [&kept, &new] {
            assert_eq!(fs::read(copy.path().join("db")).expect("reads"), b"an index");
        }
        drop((kept, new));
        let IndexCopy { folder: left, _held } = make();
        let left = left.keep();
        fs::remove_file(left.join(HELD)).expect("removes");
        drop(make());
        assert!(left.exists(), "it may be just being made");
        drop_all(place.path());
        assert_eq!(fs::read_dir(place.path()).expect("reads").count(), 1);
    }
}
