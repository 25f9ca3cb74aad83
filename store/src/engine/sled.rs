//! The default engine: sled 0.34.7, under the rules its defects demand.
//!
//! * `flush` after every batch: heavy insert-and-delete work without it deadlocks.
//! * `flush_async` is never called: it deadlocks.
//! * `flush` is not an fsync on Linux, so the database file is synced through a handle of our own.
//! * A page of more than a quarter segment becomes a blob file that nobody syncs. A page holds up
//!   to 17 pairs, so segments are large enough for that many of the largest values.
//! * Snapshots (`snap.*`) only speed up opening and a half-written one prevents it, so unfinished
//!   ones are removed first and, when opening fails, all of them are set aside.
//! * sled never syncs its settings (`conf`). They are synced before the first change; a torn file
//!   can only be left of a first start that was cut short, and is written anew.
//! * One database per process: locks and the thread pool are static.
//!
//! `clippy.toml` refuses the calls that break these rules.

use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Batch, Engine, KeyRange, MAX_VALUE_BYTES, Scan, is_empty};
use crate::StoreError;
use crate::layered::Direction;

/// Fixed when a database is created.
const SEGMENT_BYTES: usize = 8 << 20;
const _: () = assert!(17 * (MAX_VALUE_BYTES + super::MAX_KEY_BYTES) < SEGMENT_BYTES / 4);

/// sled in one folder.
pub struct SledEngine {
    // Fields are dropped in this order: the lock goes last.
    db: sled::Db,
    file: File,
    _lock: File,
}

impl SledEngine {
    /// Opens or creates the database in `folder` with a page cache of `cache_bytes`.
    ///
    /// Another process that has it open is [`StoreError::Locked`].
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let fails = |source| StoreError::Folder { folder: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(fails)?;
        // Before anything is touched: the files may be in use.
        let lock = lock(folder)?;
        let settings = folder.join("conf");
        if is_torn(&settings).map_err(fails)? {
            fs::remove_file(&settings).map_err(fails)?;
        }
        for unfinished in snapshots(folder).map_err(fails)? {
            if unfinished.extension().is_some_and(|extension| extension == "generating") {
                fs::remove_file(unfinished).map_err(fails)?;
            }
        }
        let db = match open_once(folder, cache_bytes) {
            Ok(db) => db,
            Err(first) => {
                tracing::warn!(error = %first, "the database does not open; trying without snapshots");
                for snapshot in snapshots(folder).map_err(fails)? {
                    let name = snapshot.file_name().unwrap_or_default().to_string_lossy();
                    let aside = snapshot.with_file_name(format!("set-aside.{name}"));
                    fs::rename(&snapshot, aside).map_err(fails)?;
                }
                open_once(folder, cache_bytes)?
            }
        };
        let file = File::open(folder.join("db")).map_err(fails)?;
        // The entries of new files must be as durable as what is written to them.
        File::open(&settings).and_then(|settings| settings.sync_all()).map_err(fails)?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(fails)?;
        let around = folder.parent().filter(|around| !around.as_os_str().is_empty());
        let around = around.unwrap_or(Path::new("."));
        File::open(around).and_then(|around| around.sync_all()).map_err(fails)?;
        Ok(Self { db, file, _lock: lock })
    }
}

/// Whether sled's settings are there in part: text, the last line complete, and four bytes.
fn is_torn(settings: &Path) -> io::Result<bool> {
    let bytes = match fs::read(settings) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let text = bytes.split_last_chunk::<4>().map_or(&[][..], |(text, _)| text);
    let whole = std::str::from_utf8(text)
        .is_ok_and(|text| text.contains("\nversion: ") && text.ends_with('\n'));
    Ok(!whole)
}

/// Takes the lock of a folder; the system releases it when the process ends, however it ends.
fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| StoreError::Folder { folder: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(StoreError::Folder { folder: path, source }),
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where a database is opened")]
fn open_once(folder: &Path, cache_bytes: u64) -> Result<sled::Db, StoreError> {
    let config = sled::Config::new()
        .path(folder)
        .cache_capacity(cache_bytes)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(Some(1_000));
    catch_unwind(AssertUnwindSafe(|| config.open()))
        .map_err(|_| StoreError::Engine("the database file is damaged".into()))?
        .map_err(engine_error)
}

/// Snapshots that sled would look at, finished or not.
fn snapshots(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn engine_error(error: sled::Error) -> StoreError {
    StoreError::Engine(error.to_string())
}

impl Engine for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.db.get(key).map_err(engine_error)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
        if is_empty(&range) {
            return Box::new(std::iter::empty());
        }
        let copy = |pair: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, value) = pair.map_err(engine_error)?;
            Ok((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)))
        };
        let found = self.db.range(range);
        match direction {
            Direction::Ascending => Box::new(found.map(copy)),
            Direction::Descending => Box::new(found.rev().map(copy)),
        }
    }

    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => changes.insert(key.as_slice(), value.as_ref()),
                None => changes.remove(key.as_slice()),
            }
        }
        #[expect(clippy::disallowed_methods, reason = "the committer syncs after it")]
        self.db.apply_batch(changes).map_err(engine_error)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(engine_error)?;
        self.file.sync_data().map_err(|error| StoreError::Engine(error.to_string()))
    }

    fn available_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.file).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
