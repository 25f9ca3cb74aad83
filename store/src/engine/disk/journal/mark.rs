//! How far the journal has certainly come: a file with the number of a batch that is durable.
//!
//! | bytes | content |
//! | --- | --- |
//! | 8 | number of the batch |
//! | 4 | CRC-32 of it |
//!
//! It is written after each sync of the journal, and not synced itself: after a process was killed it
//! is exact, after a power cut it is a batch that was durable, if not the last. So a journal that ends
//! before it has lost something. It lies in one sector, which a disk writes as a whole or not at all.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::StoreError;

fn path(folder: &Path) -> PathBuf {
    folder.join("mark")
}

fn encode(number: u64) -> [u8; 12] {
    let number = number.to_be_bytes();
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number);
    bytes[8..].copy_from_slice(&crc32fast::hash(&number).to_be_bytes());
    bytes
}

/// The file while the journal is written.
pub(super) struct Mark(File);

impl Mark {
    pub(super) fn set(&self, number: u64) -> io::Result<()> {
        self.0.write_all_at(&encode(number), 0)
    }
}

/// Makes the file anew, durably.
pub(super) fn create(folder: &Path, number: u64) -> io::Result<()> {
    // What is there is written over: on a full disk its space might not be had again.
    let file = File::options().write(true).create(true).truncate(false).open(path(folder))?;
    let mark = encode(number);
    file.write_all_at(&mark, 0)?;
    file.set_len(mark.len() as u64)?;
    file.sync_all()
}

pub(super) fn open(folder: &Path) -> io::Result<Mark> {
    File::options().write(true).open(path(folder)).map(Mark)
}

/// The batch that is certainly there.
pub(super) fn read(folder: &Path) -> Result<u64, StoreError> {
    let path = path(folder);
    let damaged =
        |reason: &str| StoreError::DamagedFile { file: path.clone(), reason: reason.into() };
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged("it is missing"));
        }
        Err(source) => return Err(StoreError::Folder { folder: path, source }),
    };
    let number = bytes.first_chunk::<8>().map(|number| u64::from_be_bytes(*number));
    match number {
        Some(number) if bytes == encode(number) => Ok(number),
        _ => Err(damaged("it is not as it was written")),
    }
}
