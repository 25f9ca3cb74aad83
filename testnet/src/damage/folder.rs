//! Folders as they lie on disk: copied, listed, compared.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};

use crate::Result;

/// Copies the files of a folder; sockets are left out.
pub(crate) fn copy(from: &Path, to: &Path) -> Result {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Every file in a folder, by its path in it, in order.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    walk(folder, Path::new(""), &mut found)?;
    found.sort();
    Ok(found)
}

fn walk(folder: &Path, below: &Path, found: &mut Vec<PathBuf>) -> Result {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (kind, path) = (entry.file_type()?, below.join(entry.file_name()));
        if kind.is_dir() {
            walk(&entry.path(), &path, found)?;
        } else if kind.is_file() {
            found.push(path);
        }
    }
    Ok(())
}

/// Bytes of all files.
pub(super) fn bytes(folder: &Path) -> Result<u64> {
    files(folder)?.iter().try_fold(0, |sum, file| Ok(sum + folder.join(file).metadata()?.len()))
}

/// Length and hash of a file.
pub(crate) type Print = (usize, u64);

/// What every file is.
pub(crate) fn prints(folder: &Path) -> Result<BTreeMap<PathBuf, Print>> {
    let mut prints = BTreeMap::new();
    for file in files(folder)? {
        let print = print(&folder.join(&file))?;
        prints.insert(file, print);
    }
    Ok(prints)
}

/// What one file is.
pub(super) fn print(file: &Path) -> Result<Print> {
    let bytes = fs::read(file)?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    Ok((bytes.len(), hasher.finish()))
}

/// A file that is not as it was, is new or is gone.
pub(super) fn changed(
    before: &BTreeMap<PathBuf, Print>,
    after: &BTreeMap<PathBuf, Print>,
) -> Option<PathBuf> {
    let gone_or_other = before.iter().find(|(file, print)| after.get(*file) != Some(print));
    let new = || after.iter().find(|(file, _)| !before.contains_key(*file));
    gone_or_other.or_else(new).map(|(file, _)| file.clone())
}
