//! Values outside sled: checksummed records in append-only segment files.
//!
//! | bytes | content of a record |
//! | --- | --- |
//! | 4 | its length, all of it |
//! | 4 | CRC-32 of everything else in it |
//! | 2 | length of the key |
//! | n + m | key, value |
//!
//! Numbers are big-endian; records follow one another without gaps. What lies beyond the [`End`]
//! that sled has noted was never acknowledged and is cut off when the log is opened.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use super::location::Location;
use crate::StoreError;
use crate::engine::disk::{sync, sync_folder, unsynced};
use crate::engine::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// A segment that has grown so far is followed by another one.
pub(super) const SEGMENT_BYTES: u32 = 64 << 20;
/// The same where space is short.
pub(super) const SHORT_SEGMENT_BYTES: u32 = 4 << 20;
/// Length, checksum, length of the key.
const HEAD_BYTES: usize = 10;
/// Segments whose files stay open.
const OPEN_SEGMENTS: usize = 32;
/// Read at once when all of it is read.
const PART_BYTES: usize = 1 << 20;
const MAX_RECORD_BYTES: usize = HEAD_BYTES + MAX_KEY_BYTES + MAX_VALUE_BYTES;

/// Where the next record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

impl End {
    /// Of an empty log.
    pub(super) const START: Self = Self { segment: 1, offset: 0 };
}

/// Records to append as one.
#[derive(Debug)]
pub(super) struct Records {
    start: End,
    bytes: Vec<u8>,
}

impl Records {
    /// Records that follow what ends at `end`, in a new segment if that one has so many bytes.
    pub(super) fn after(end: End, segment_bytes: u32) -> Self {
        let full = end.offset >= segment_bytes;
        let start = if full { End { segment: end.segment + 1, offset: 0 } } else { end };
        Self { start, bytes: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Where the log ends when they are appended.
    pub(super) fn end(&self) -> End {
        End { offset: self.start.offset + length(self.bytes.len()), ..self.start }
    }

    /// Adds a value; keys and values are within the limits of an engine.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Location {
        let End { segment, offset } = self.end();
        let record = HEAD_BYTES + key.len() + value.len();
        let at = Location { segment, offset, length: length(record) };
        let start = self.bytes.len();
        self.bytes.reserve(record);
        self.bytes.extend_from_slice(&at.length.to_be_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        let key_length = u16::try_from(key.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&key_length.to_be_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        let sum = checksum(&self.bytes[start..]);
        self.bytes[start + 4..start + 8].copy_from_slice(&sum.to_be_bytes());
        at
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Of a record with its length, without the checksum itself.
fn checksum(record: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&record[..4]);
    hash.update(&record[8..]);
    hash.finalize()
}

/// Splits a record into key and value, both as ranges of it; `None` if it is not whole.
fn parts(record: &[u8]) -> Option<(std::ops::Range<usize>, std::ops::Range<usize>)> {
    let (head, _) = record.split_first_chunk::<HEAD_BYTES>()?;
    let [l0, l1, l2, l3, c0, c1, c2, c3, k0, k1] = *head;
    let stated = u32::from_be_bytes([l0, l1, l2, l3]);
    let key_end = HEAD_BYTES + usize::from(u16::from_be_bytes([k0, k1]));
    let whole = usize::try_from(stated).is_ok_and(|stated| stated == record.len())
        && key_end <= record.len()
        && u32::from_be_bytes([c0, c1, c2, c3]) == checksum(record);
    whole.then_some((HEAD_BYTES..key_end, key_end..record.len()))
}

/// A record as it was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) key: Vec<u8>,
    pub(super) value: Bytes,
    pub(super) at: Location,
}

/// The segments of one folder.
pub(super) struct ValueLog {
    folder: PathBuf,
    /// Those that were needed last, up to [`OPEN_SEGMENTS`].
    files: RwLock<HashMap<u32, Arc<File>>>,
}

impl ValueLog {
    /// The log in `folder`.
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), files: RwLock::default() }
    }

    /// Removes what was written beyond the end.
    pub(super) fn cut(&self, end: End) -> Result<(), StoreError> {
        self.cut_files(end).map_err(|error| self.fails(error))
    }

    /// The segments up to `last` that have a file, and their sizes in bytes.
    pub(super) fn list(&self, last: u32) -> Result<Vec<(u32, u64)>, StoreError> {
        let list = || {
            let mut found = Vec::new();
            for entry in fs::read_dir(&self.folder)? {
                let entry = entry?;
                let segment = segment(&entry.path()).filter(|segment| *segment <= last);
                if let Some(segment) = segment {
                    found.push((segment, entry.metadata()?.len()));
                }
            }
            found.sort_unstable();
            Ok(found)
        };
        list().map_err(|error| self.fails(error))
    }

    fn cut_files(&self, end: End) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if segment(&path).is_some_and(|segment| segment > end.segment) {
                fs::remove_file(path)?;
            }
        }
        if let Some(file) = self.file(end.segment)? {
            let length = file.metadata()?.len();
            if length > end.offset.into() {
                file.set_len(end.offset.into())?;
                file.sync_all()?;
            }
        }
        sync_folder(&self.folder)
    }

    fn path(&self, segment: u32) -> PathBuf {
        self.folder.join(format!("{segment:08x}"))
    }

    fn fails(&self, source: io::Error) -> StoreError {
        StoreError::Folder { folder: self.folder.clone(), source }
    }

    /// The file of a segment; `None` if it is gone.
    fn file(&self, segment: u32) -> io::Result<Option<Arc<File>>> {
        if let Some(file) = self.files.read().get(&segment) {
            return Ok(Some(Arc::clone(file)));
        }
        match File::options().read(true).write(true).open(self.path(segment)) {
            Ok(file) => Ok(Some(self.keep(segment, file))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes records and makes them durable.
    pub(super) fn append(&self, records: &Records) -> Result<(), StoreError> {
        self.write(records).map_err(|error| self.fails(error))
    }

    fn write(&self, Records { start, bytes }: &Records) -> io::Result<()> {
        let file = match self.file(start.segment)? {
            Some(file) => file,
            None if start.offset == 0 => self.create(start.segment)?,
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        if let Err(error) = file.write_all_at(bytes, start.offset.into()) {
            // What was half written must not stand behind the end when another segment follows.
            file.set_len(start.offset.into())?;
            return Err(error);
        }
        sync(&file)
    }

    fn create(&self, segment: u32) -> io::Result<Arc<File>> {
        let path = self.path(segment);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        sync_folder(&self.folder).map_err(unsynced)?;
        Ok(self.keep(segment, file))
    }

    /// Keeps a file open, in place of another if there are many; never of the newest, which is
    /// being written.
    fn keep(&self, segment: u32, file: File) -> Arc<File> {
        let mut files = self.files.write();
        if files.len() >= OPEN_SEGMENTS {
            let newest = files.keys().max().copied();
            let another = files.keys().find(|other| Some(**other) != newest).copied();
            another.and_then(|other| files.remove(&other));
        }
        Arc::clone(files.entry(segment).or_insert(Arc::new(file)))
    }

    /// The value of `key` at a place; `None` if the segment is gone.
    pub(super) fn read(&self, at: Location, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let Some(file) = self.file(at.segment).map_err(|error| self.fails(error))? else {
            return Ok(None);
        };
        let size = usize::try_from(at.length).unwrap_or(usize::MAX);
        if size > MAX_RECORD_BYTES {
            return Err(lost(key, at));
        }
        let mut record = vec![0; size];
        match file.read_exact_at(&mut record, at.offset.into()) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(lost(key, at));
            }
            outcome => outcome.map_err(|error| self.fails(error))?,
        }
        match parts(&record) {
            Some((found, value)) if record[found.clone()] == *key => {
                Ok(Some(Bytes::from(record).slice(value)))
            }
            _ => Err(lost(key, at)),
        }
    }

    /// Size of a segment in bytes; `None` if it is gone.
    pub(super) fn size(&self, segment: u32) -> Result<Option<u64>, StoreError> {
        let size = self.file(segment).and_then(|file| {
            file.map(|file| file.metadata().map(|metadata| metadata.len())).transpose()
        });
        size.map_err(|error| self.fails(error))
    }

    /// The records of a full segment from `offset` on, of about so many bytes; none at its end.
    pub(super) fn records(
        &self,
        segment: u32,
        mut offset: u32,
        most_bytes: usize,
    ) -> Result<Vec<Found>, StoreError> {
        let file = self.file(segment).and_then(|file| file.ok_or(io::ErrorKind::NotFound.into()));
        let file = file.map_err(|error| self.fails(error))?;
        let mut bytes = vec![0; most_bytes.max(MAX_RECORD_BYTES)];
        let read = read_at(&file, &mut bytes, offset.into()).map_err(|error| self.fails(error))?;
        let mut rest = &bytes[..read];
        let mut found = Vec::new();
        while let Some((&stated, _)) = rest.split_first_chunk::<4>() {
            let at = Location { segment, offset, length: u32::from_be_bytes(stated) };
            let size = usize::try_from(at.length).unwrap_or(usize::MAX);
            if size > rest.len() && !found.is_empty() {
                break;
            }
            let record = rest.get(..size).ok_or_else(|| damaged(at))?;
            let (key, value) = parts(record).ok_or_else(|| damaged(at))?;
            let value = Bytes::copy_from_slice(&record[value]);
            found.push(Found { key: record[key].to_vec(), value, at });
            offset += at.length;
            rest = &rest[size..];
        }
        if found.is_empty() && !rest.is_empty() {
            return Err(damaged(Location { segment, offset, length: length(rest.len()) }));
        }
        Ok(found)
    }

    /// Reads the first `bytes` of a segment; returns whether all records are as they were written.
    pub(super) fn is_sound(
        &self,
        segment: u32,
        bytes: u64,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<bool, StoreError> {
        let mut offset = 0;
        while u64::from(offset) < bytes {
            let Ok(found) = self.records(segment, offset, PART_BYTES) else {
                // It may have been compacted meanwhile.
                return Ok(self.size(segment)?.is_none());
            };
            let Some(last) = found.last() else { return Ok(false) };
            let next = last.at.offset + last.at.length;
            if !go_on((next - offset).into()) {
                return Ok(true);
            }
            offset = next;
        }
        Ok(true)
    }

    /// Removes a segment that nothing refers to any more.
    pub(super) fn remove(&self, segment: u32) -> Result<(), StoreError> {
        self.files.write().remove(&segment);
        match fs::remove_file(self.path(segment)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.fails(error)),
            _ => Ok(()),
        }
    }
}

/// The segment whose file this is.
fn segment(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str().filter(|name| name.len() == 8)?;
    u32::from_str_radix(name, 16).ok()
}

/// Reads as many bytes as there are, up to the length of `bytes`.
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

fn damaged(at: Location) -> StoreError {
    StoreError::Engine(not_as_written(at))
}

fn lost(key: &[u8], at: Location) -> StoreError {
    StoreError::DamagedValue { key: key.to_vec(), reason: not_as_written(at) }
}

fn not_as_written(Location { segment, offset, length }: Location) -> String {
    format!("{length} bytes at {offset} of segment {segment:08x} are not as they were written")
}
