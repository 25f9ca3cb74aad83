//! Backup of a running node into one file, and restoring from it.
//!
//! | bytes | content |
//! | --- | --- |
//! | 16 | `entente backup` CR LF |
//! | 4 | version of this format |
//! | 4 | version of the schema |
//! | 4 + 4 + n + m, repeated | length of the key, length of the value, key, value; keys rise |
//! | 4 | `FFFFFFFF` in place of a length: no pair follows |
//! | 8 | number of pairs |
//! | 32 | SHA-256 of everything before it |
//!
//! Numbers are big-endian. A backup is the state of the moment in which its [`View`] was taken;
//! commits go on meanwhile. Nothing of a file counts before its last byte is checked: the meta
//! record is stored last, and a folder gets its name when everything is in it.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest, Sha256};

use crate::engine::{Batch, Direction, Engine, MAX_KEY_BYTES, MAX_VALUE_BYTES, SledEngine};
use crate::record::Meta;
use crate::schema::{self, META};
use crate::{StoreError, View};

const MAGIC: &[u8; 16] = b"entente backup\r\n";
/// Version of the format that this program writes.
const FORMAT: u32 = 1;
/// Stands in place of the length of a key after the last pair.
const END: u32 = u32::MAX;
/// Pairs between two reports of progress.
const PROGRESS_EVERY: u64 = 1_000;
/// Pairs and bytes of one batch while restoring.
const BATCH_PAIRS: usize = 2_000;
const BATCH_BYTES: usize = 4 << 20;

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
    #[error("the backup is cut off")]
    Truncated,
    /// The file is not as it was written.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// There is data where the backup should be restored.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
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
    /// Pairs, the meta record included.
    pub records: u64,
    /// Version of the schema.
    pub schema: u32,
    /// Epoch of the data: that of the backup, after restoring that of the new data.
    pub epoch: u64,
}

/// Writes the state that `view` shows; `progress` hears the number of pairs written so far.
///
/// Commits neither wait nor are waited for. What they replace is kept in memory as long as it lies
/// ahead: at most one copy of every key that is overwritten meanwhile. The caller makes `out`
/// durable; [`write_file`] does all of it.
pub fn write(
    view: View<'_>,
    out: impl Write,
    mut progress: impl FnMut(u64),
) -> Result<Summary, BackupError> {
    let meta = META.get(&view, 0)?.ok_or_else(|| no_meta("the store"))?;
    let mut out = Hashed { inner: BufWriter::new(out), hash: Sha256::new() };
    out.write_all(MAGIC)?;
    out.write_all(&FORMAT.to_be_bytes())?;
    out.write_all(&meta.schema.to_be_bytes())?;
    let mut records = 0_u64;
    for pair in view.into_scan() {
        let (key, value) = pair?;
        out.write_all(&length(&key)?.to_be_bytes())?;
        out.write_all(&length(&value)?.to_be_bytes())?;
        out.write_all(&key)?;
        out.write_all(&value)?;
        records += 1;
        if records.is_multiple_of(PROGRESS_EVERY) {
            progress(records);
        }
    }
    out.write_all(&END.to_be_bytes())?;
    out.write_all(&records.to_be_bytes())?;
    let Hashed { mut inner, hash } = out;
    inner.write_all(&hash.finalize())?;
    inner.flush()?;
    progress(records);
    Ok(Summary { records, schema: meta.schema, epoch: meta.epoch })
}

/// As [`write()`], into a new file that has its name only once it is complete and durable.
pub fn write_file(
    view: View<'_>,
    path: &Path,
    progress: impl FnMut(u64),
) -> Result<Summary, BackupError> {
    if path.exists() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file exists").into());
    }
    let partial = beside(path, ".partial");
    let written = File::create(&partial).map_err(BackupError::from).and_then(|file| {
        let summary = write(view, &file, progress)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        sync_parent(path)?;
        Ok(summary)
    });
    if written.is_err() {
        // What is left of it is of no use; the error counts.
        let _ = fs::remove_file(&partial);
    }
    written
}

/// Reads a whole backup and checks it, without using it.
pub fn inspect(input: impl Read, progress: impl FnMut(u64)) -> Result<Summary, BackupError> {
    let (summary, _) = read_pairs(input, progress, |_, _| Ok(()))?;
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

/// Restores a backup into an empty engine, as a new epoch.
///
/// After an error the engine holds data without a meta record, which no store opens.
pub fn read(
    input: impl Read,
    engine: &dyn Engine,
    new: NewEpoch,
    progress: impl FnMut(u64),
) -> Result<Summary, BackupError> {
    use std::ops::Bound::Unbounded;
    if let Some(pair) = engine.scan((Unbounded, Unbounded), Direction::Ascending).next() {
        pair?;
        return Err(BackupError::NotEmpty(PathBuf::from("the engine")));
    }
    let mut batch = Batch::new();
    let mut bytes = 0;
    let (mut summary, meta) = read_pairs(input, progress, |key, value| {
        bytes += key.len() + value.len();
        batch.insert(key, Some(value));
        if batch.len() >= BATCH_PAIRS || bytes >= BATCH_BYTES {
            engine.apply(&batch)?;
            engine.sync()?;
            batch.clear();
            bytes = 0;
        }
        Ok(())
    })?;
    summary.epoch = meta.epoch + 1;
    let skipped = meta.skipped.saturating_add(new.skip.into());
    let meta = Meta { epoch: summary.epoch, salt: new.salt.to_vec(), skipped, ..meta };
    batch.insert(META.raw_key(&0_u8), Some(meta.encode_to_vec().into()));
    engine.apply(&batch)?;
    engine.sync()?;
    Ok(summary)
}

/// Restores a backup into the default engine in `folder`, which must be absent or empty.
///
/// The folder appears when it is complete; after an error nothing is left behind.
pub fn restore(
    input: impl Read,
    folder: &Path,
    cache_bytes: u64,
    new: NewEpoch,
    progress: impl FnMut(u64),
) -> Result<Summary, BackupError> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(BackupError::NotEmpty(folder.to_owned())),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let partial = beside(folder, ".restoring");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let restored = SledEngine::open(&partial, cache_bytes)
        .map_err(BackupError::from)
        .and_then(|engine| read(input, &engine, new, progress))
        .and_then(|summary| {
            fs::rename(&partial, folder)?;
            sync_parent(folder)?;
            Ok(summary)
        });
    if restored.is_err() {
        let _ = fs::remove_dir_all(&partial);
    }
    restored
}

/// Passes on every pair but the meta record; returns that once everything is checked.
fn read_pairs(
    input: impl Read,
    mut progress: impl FnMut(u64),
    mut pass_on: impl FnMut(Vec<u8>, Bytes) -> Result<(), BackupError>,
) -> Result<(Summary, Meta), BackupError> {
    let mut input = Hashed { inner: BufReader::new(input), hash: Sha256::new() };
    let mut magic = [0; MAGIC.len()];
    match input.fill(&mut magic) {
        Ok(()) if magic == *MAGIC => {}
        Ok(()) | Err(BackupError::Truncated) => return Err(BackupError::NotABackup),
        Err(error) => return Err(error),
    }
    let format = input.number()?;
    if format > FORMAT {
        return Err(BackupError::NewerFormat { found: format, known: FORMAT });
    }
    let schema = input.number()?;
    if schema > schema::VERSION {
        let (found, known) = (schema, schema::VERSION);
        return Err(StoreError::NewerSchema { found, known }.into());
    }
    let mut records = 0_u64;
    let mut meta = None;
    let mut last: Option<Vec<u8>> = None;
    loop {
        let key_length = input.number()?;
        if key_length == END {
            break;
        }
        let value_length = input.number()?;
        let key = input.bytes(key_length, MAX_KEY_BYTES)?;
        let value = Bytes::from(input.bytes(value_length, MAX_VALUE_BYTES)?);
        if last.as_ref().is_some_and(|last| *last >= key) {
            return Err(damaged("the keys do not rise"));
        }
        schema::check(&key, value.clone()).map_err(damaged)?;
        records += 1;
        if records.is_multiple_of(PROGRESS_EVERY) {
            progress(records);
        }
        last = Some(key.clone());
        if key == META.raw_key(&0_u8) {
            meta = Some(Meta::decode(value).map_err(damaged)?);
        } else {
            pass_on(key, value)?;
        }
    }
    let mut count = [0; 8];
    input.fill(&mut count)?;
    if u64::from_be_bytes(count) != records {
        return Err(damaged("pairs are missing"));
    }
    let Hashed { mut inner, hash } = input;
    let mut sum = [0; 32];
    inner.read_exact(&mut sum).map_err(cut_off)?;
    if hash.finalize().as_slice() != sum {
        return Err(damaged("the checksum is wrong"));
    }
    if inner.read(&mut [0])? != 0 {
        return Err(damaged("something follows its end"));
    }
    progress(records);
    let meta = meta.ok_or_else(|| no_meta("the backup"))?;
    Ok((Summary { records, schema, epoch: meta.epoch }, meta))
}

fn damaged(reason: impl ToString) -> BackupError {
    BackupError::Damaged(reason.to_string())
}

fn no_meta(of: &str) -> BackupError {
    damaged(format!("{of} has no meta record"))
}

fn cut_off(error: io::Error) -> BackupError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => BackupError::Truncated,
        _ => error.into(),
    }
}

fn length(bytes: &Bytes) -> Result<u32, BackupError> {
    u32::try_from(bytes.len()).map_err(damaged)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// A reader or writer that hashes what passes.
struct Hashed<I> {
    inner: I,
    hash: Sha256,
}

impl<W: Write> Hashed<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl<R: Read> Hashed<R> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        self.inner.read_exact(bytes).map_err(cut_off)?;
        self.hash.update(bytes);
        Ok(())
    }

    fn number(&mut self) -> Result<u32, BackupError> {
        let mut number = [0; 4];
        self.fill(&mut number)?;
        Ok(u32::from_be_bytes(number))
    }

    fn bytes(&mut self, length: u32, limit: usize) -> Result<Vec<u8>, BackupError> {
        let length = usize::try_from(length).ok().filter(|length| *length <= limit);
        let mut bytes = vec![0; length.ok_or_else(|| damaged("a length is over the limit"))?];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}
