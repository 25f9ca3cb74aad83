//! Backup of a running node into one file, and restoring from it.
//!
//! | bytes | content |
//! | --- | --- |
//! | 16 | `entente backup` CR LF |
//! | 4 | version of this format |
//! | 4 | version of the schema |
//! | records | what the backup holds |
//!
//! A record is its kind (1 byte), the length of its content (4), the content, and the CRC-32 of all
//! that (4), so that damage is found where it is. Kinds, in this order:
//!
//! | kind | content |
//! | --- | --- |
//! | 1 | a note about the backup; the store does not know what it means |
//! | 2 | something sealed, likewise |
//! | 3 | the journal of the database, its ID (8) and the last batch (8) of which the pairs have all |
//! | 4, repeated | pairs of the database, keys rise: length of the key (4), of the value (4), key, value |
//! | 5, repeated | the name of a file |
//! | 6, repeated | the next piece of that file |
//! | 7 | number of pairs (8), number of files (8), SHA-256 of everything before this record (32) |
//!
//! Numbers are big-endian. Format 1 has no records: lengths, key and value of each pair, `FFFFFFFF`
//! in place of a length, the number of pairs (8), and the SHA-256 of everything before it.
//!
//! A backup is the state of the moment in which its [`View`](crate::View) was taken; commits go on meanwhile.
//! Nothing of a file counts before its last byte is checked: the meta record is stored last, and a
//! folder gets its name when everything is in it.

mod new_file;
mod reader;
mod rehearsal;
mod shipper;
mod writer;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use prost::Message as _;

use crate::engine::{
    Bulk, Direction, DiskEngine, Engine, MAX_KEY_BYTES, MAX_VALUE_BYTES, Position, Shipped,
};
use crate::record::Meta;
use crate::schema::{self, META};
use crate::{StoreError, epoch};

pub use crate::engine::{End, Reached};
pub use new_file::NewFile;
pub use reader::{Head, head};
pub use rehearsal::{Rehearsal, rehearse};
pub use shipper::{ShipError, Shipper, journal_beside, reaches_ms};
pub use writer::{Beside, File, write, write_with};

const MAGIC: &[u8; 16] = b"entente backup\r\n";
/// Version of the format that this program writes.
const FORMAT: u32 = 2;
/// Pairs between two reports of progress.
const PROGRESS_EVERY: u64 = 1_000;
/// Bytes after which a record of pairs or of a file is complete.
const RECORD_BYTES: usize = 256 << 10;
/// Largest content of a record.
const MAX_RECORD_BYTES: usize = RECORD_BYTES + MAX_KEY_BYTES + MAX_VALUE_BYTES + 8;

/// Kinds of records.
mod kind {
    pub(super) const NOTE: u8 = 1;
    pub(super) const SEALED: u8 = 2;
    pub(super) const POSITION: u8 = 3;
    pub(super) const PAIRS: u8 = 4;
    pub(super) const FILE: u8 = 5;
    pub(super) const PIECE: u8 = 6;
    pub(super) const END: u8 = 7;
}

/// Why a backup could not be written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The file does not begin as a backup does.
    #[error("this is not a backup")]
    NotABackup,
    /// The file was written in a newer format.
    #[error("the backup has format {found}, this program knows up to {known}")]
    NewerFormat {
        /// Format of the file.
        found: u32,
        /// Newest format this program reads.
        known: u32,
    },
    /// The file ends too early.
    #[error("the backup is cut off: it ends within what begins at byte {at}")]
    Truncated {
        /// Where the part begins of which the end is missing.
        at: u64,
    },
    /// The file is not as it was written.
    #[error("the backup is damaged: {reason}, in what begins at byte {at}")]
    Damaged {
        /// Where the damaged part begins.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// There is data where the backup should be restored.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// What the backup holds beside the database could not be taken.
    #[error("{0}")]
    Beside(String),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store failed, or the schema of the backup is newer than this program.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Version of its format.
    pub format: u32,
    /// Pairs, the meta record included.
    pub records: u64,
    /// Files.
    pub files: u64,
    /// Version of the schema.
    pub schema: u32,
    /// Epoch of the data: that of the backup, after restoring that of the new data.
    pub epoch: u64,
    /// Where in the journal of the data it was taken, if there was one.
    pub position: Option<Position>,
}

/// Takes what a backup holds beside the database, in the order of the backup. None of it is known to
/// be whole before the backup was read to its end.
pub trait Take {
    /// The note about the backup.
    fn note(&mut self, _note: &[u8]) -> Result<(), BackupError> {
        Ok(())
    }

    /// What is sealed.
    fn sealed(&mut self, _sealed: &[u8]) -> Result<(), BackupError> {
        Ok(())
    }

    /// A file begins.
    fn file(&mut self, _name: &str) -> Result<(), BackupError> {
        Ok(())
    }

    /// The next piece of it.
    fn piece(&mut self, _bytes: &[u8]) -> Result<(), BackupError> {
        Ok(())
    }
}

/// Takes nothing.
#[derive(Debug)]
pub struct Nothing;

impl Take for Nothing {}

/// Reads a whole backup and checks it, without using it.
pub fn inspect(input: impl Read, progress: impl FnMut(u64)) -> Result<Summary, BackupError> {
    let (summary, _) = reader::read_all(input, &mut Nothing, progress, |_, _| Ok(()))?;
    Ok(summary)
}

/// What is new after a restore.
#[derive(Debug, Clone, Copy)]
pub struct NewEpoch {
    /// 16 random bytes.
    pub salt: [u8; 16],
    /// Seqs that every conversation leaves out before its next message: at least as many as it may
    /// have got messages after the backup. Clients that have those would take new messages with the
    /// same seqs for them.
    pub skip: u32,
}

/// Restores the database of a backup into an empty engine, as a new epoch.
///
/// After an error the engine holds data without a meta record, which no store opens.
pub fn read(
    input: impl Read,
    engine: &dyn Engine,
    new: NewEpoch,
    progress: impl FnMut(u64),
) -> Result<Summary, BackupError> {
    read_with(input, &mut Nothing, None, engine, new, progress).map(|(summary, _)| summary)
}

/// The journal that was shipped behind a backup.
#[derive(Debug, Clone, Copy)]
pub struct Behind<'a> {
    /// Its folder.
    pub folder: &'a Path,
    /// What was written later does not count, Unix milliseconds.
    pub until_ms: Option<i64>,
}

pub(crate) fn read_with(
    input: impl Read,
    beside: &mut dyn Take,
    behind: Option<Behind<'_>>,
    engine: &dyn Engine,
    new: NewEpoch,
    progress: impl FnMut(u64),
) -> Result<(Summary, Option<Reached>), BackupError> {
    use std::ops::Bound::Unbounded;
    if let Some(pair) = engine.scan((Unbounded, Unbounded), Direction::Ascending).next() {
        pair?;
        return Err(BackupError::NotEmpty(PathBuf::from("the engine")));
    }
    let mut bulk = Bulk::new(engine);
    let (mut summary, mut meta) =
        reader::read_all(input, beside, progress, |key, value| Ok(bulk.put(key, Some(value))?))?;
    let reached = behind.map(|behind| follow(behind, summary.position, &mut bulk, &mut meta));
    let reached = reached.transpose()?;
    let meta = epoch::next(meta, new);
    summary.epoch = meta.epoch;
    bulk.put(META.raw_key(&0_u8), Some(meta.encode_to_vec().into()))?;
    bulk.flush()?;
    Ok((summary, reached))
}

/// Lays the shipped journal over what a backup has.
fn follow(
    behind: Behind<'_>,
    position: Option<Position>,
    bulk: &mut Bulk<'_>,
    meta: &mut Meta,
) -> Result<Reached, BackupError> {
    let Some(position) = position else {
        let reason = "the backup does not say where the journal goes on".to_owned();
        let end = End::Broken { file: behind.folder.to_owned(), reason };
        return Ok(Reached { commits: 0, last_ms: None, end });
    };
    let mut failed = None;
    let reached = Shipped::read(behind.folder, position, behind.until_ms, &mut |batch| {
        let mut new_meta = None;
        for (key, value) in &batch {
            let Some(value) = value else { continue };
            schema::check(key, value.clone()).map_err(|error| error.to_string())?;
            if *key == META.raw_key(&0_u8) {
                new_meta = Meta::decode(value.clone()).ok();
            }
        }
        if let Some(new_meta) = new_meta {
            *meta = new_meta;
        }
        let changes = batch.into_iter().filter(|(key, _)| *key != META.raw_key(&0_u8));
        for (key, value) in changes {
            if let Err(error) = bulk.put(key, value) {
                let said = error.to_string();
                failed.get_or_insert(error);
                return Err(said);
            }
        }
        Ok(())
    })?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(reached),
    }
}

/// Restores a backup into the default engine in `folder`, which must be absent or empty; `beside`
/// takes what else it holds.
///
/// The folder appears when it is complete; after an error nothing is left behind.
pub fn restore(
    input: impl Read,
    beside: &mut dyn Take,
    folder: &Path,
    cache_bytes: u64,
    new: NewEpoch,
    progress: impl FnMut(u64),
) -> Result<Summary, BackupError> {
    let restored = restore_with(input, beside, None, folder, cache_bytes, new, progress);
    restored.map(|(summary, _)| summary)
}

/// As [`restore`], and what was shipped of the journal behind the backup; says how far that came. What
/// is broken there ends it, and is no error.
pub fn restore_with(
    input: impl Read,
    beside: &mut dyn Take,
    behind: Option<Behind<'_>>,
    folder: &Path,
    cache_bytes: u64,
    new: NewEpoch,
    progress: impl FnMut(u64),
) -> Result<(Summary, Option<Reached>), BackupError> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(BackupError::NotEmpty(folder.to_owned())),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    complete(folder, ".restoring", |partial| {
        let engine = DiskEngine::open(partial, cache_bytes)?;
        read_with(input, beside, behind, &engine, new, progress)
    })
}

/// Makes a folder of data under another name beside it; it gets its own once it is complete.
pub(crate) fn complete<T>(
    folder: &Path,
    suffix: &str,
    make: impl FnOnce(&Path) -> Result<T, BackupError>,
) -> Result<T, BackupError> {
    let partial = beside_it(folder, suffix);
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let made = make(&partial).and_then(|made| {
        fs::rename(&partial, folder)?;
        sync_parent(folder)?;
        Ok(made)
    });
    if made.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    made
}

fn no_meta(of: &str) -> String {
    format!("{of} has no meta record")
}

fn beside_it(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
