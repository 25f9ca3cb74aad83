//! What the files of a closed index are, so that the next start sees whether they still are.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use super::checkpoint::Listed;
use super::file::sync_folder;
use crate::{StoreError, fault};

/// Bytes of which damage is told apart.
pub(super) const BLOCK_BYTES: usize = 1 << 20;

/// Makes the files durable that are directly in a folder and whose names `is_listed`, and lists them.
pub(super) fn list(folder: &Path, is_listed: impl Fn(&str) -> bool) -> io::Result<Vec<Listed>> {
    let mut listed = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(name) = name.to_str().filter(|name| is_listed(name))
            && entry.file_type()?.is_file()
        {
            // sled may have written to it without a sync when it was let go.
            File::open(entry.path())?.sync_all()?;
            let (bytes, sums) = sums(&entry.path())?;
            listed.push(Listed { name: name.to_owned(), bytes, sums });
        }
    }
    sync_folder(folder)?;
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(listed)
}

/// Length of a file and the checksum of each block.
fn sums(path: &Path) -> io::Result<(u64, Vec<u32>)> {
    let mut file = File::open(path)?;
    let (mut bytes, mut sums, mut block) = (0, Vec::new(), Vec::new());
    loop {
        block.clear();
        let read = file.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        if read == 0 {
            return Ok((bytes, sums));
        }
        bytes += read as u64;
        sums.push(crc32fast::hash(&block));
    }
}

/// Compares the files with what they were.
pub(super) fn check(folder: &Path, listed: &[Listed]) -> Result<(), StoreError> {
    if fault::is_on("unchecked-opening") {
        return Ok(());
    }
    for before in listed {
        let path = folder.join(&before.name);
        let damaged = |reason: String| StoreError::DamagedFile { file: path.clone(), reason };
        let (bytes, now) = match sums(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged("it is missing".into()));
            }
            Err(source) => return Err(StoreError::Folder { folder: path, source }),
        };
        if bytes != before.bytes {
            return Err(damaged(format!("it has {bytes} bytes, and had {}", before.bytes)));
        }
        if let Some(block) = now.iter().zip(&before.sums).position(|(now, before)| now != before) {
            let from = block * BLOCK_BYTES;
            let to = bytes.min((from + BLOCK_BYTES) as u64);
            return Err(damaged(format!("bytes {from} to {to} are not as they were written")));
        }
    }
    Ok(())
}
