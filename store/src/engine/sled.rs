//! The default engine: sled 0.34.7, under the rules its defects demand.
//!
//! * `flush` after every batch: heavy insert-and-delete work without it deadlocks.
//! * `flush_async` is never called: it deadlocks.
//! * `flush` is not an fsync on Linux, so the database file is synced through a handle of our own.
//! * Values stay below 64 KiB: larger ones become blob files that nobody syncs.
//! * Snapshots (`snap.*`) only speed up opening and a half-written one prevents it, so unfinished
//!   ones are removed first and, when opening fails, all of them are set aside.
//! * One database per process: locks and the thread pool are static.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Batch, Engine, KeyRange, Scan};
use crate::StoreError;
use crate::layered::Direction;

/// Largest value the engine accepts.
pub(crate) const MAX_VALUE_BYTES: usize = 64 * 1024;

/// sled in one folder.
pub struct SledEngine {
    db: sled::Db,
    file: File,
}

impl SledEngine {
    /// Opens or creates the database in `folder` with a page cache of `cache_bytes`.
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(io_error)?;
        set_aside(folder, |name| name.ends_with(".generating"))?;
        let db = match open_once(folder, cache_bytes) {
            Ok(db) => db,
            Err(first) => {
                tracing::warn!(error = %first, "opening without snapshots");
                set_aside(folder, |name| name.starts_with("snap."))?;
                open_once(folder, cache_bytes)?
            }
        };
        let file = File::open(folder.join("db")).map_err(io_error)?;
        Ok(Self { db, file })
    }
}

fn open_once(folder: &Path, cache_bytes: u64) -> Result<sled::Db, StoreError> {
    let config =
        sled::Config::new().path(folder).cache_capacity(cache_bytes).flush_every_ms(Some(1_000));
    catch_unwind(AssertUnwindSafe(|| config.open()))
        .map_err(|_| StoreError::Engine("the database file is damaged".into()))?
        .map_err(engine_error)
}

/// Renames the snapshots whose file name fits, so that sled does not see them.
fn set_aside(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<(), StoreError> {
    for entry in fs::read_dir(folder).map_err(io_error)? {
        let path: PathBuf = entry.map_err(io_error)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with("snap.") && fits(name) {
            fs::rename(&path, path.with_file_name(format!("set-aside.{name}")))
                .map_err(io_error)?;
        }
    }
    Ok(())
}

fn engine_error(error: sled::Error) -> StoreError {
    StoreError::Engine(error.to_string())
}

fn io_error(error: io::Error) -> StoreError {
    StoreError::Engine(error.to_string())
}

impl Engine for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.db.get(key).map_err(engine_error)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
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
                Some(value) if value.len() > MAX_VALUE_BYTES => {
                    return Err(StoreError::Engine(format!(
                        "a value of {} bytes is over the limit of {MAX_VALUE_BYTES}",
                        value.len()
                    )));
                }
                Some(value) => changes.insert(key.as_slice(), value.as_ref()),
                None => changes.remove(key.as_slice()),
            }
        }
        self.db.apply_batch(changes).map_err(engine_error)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(engine_error)?;
        self.file.sync_data().map_err(io_error)
    }

    fn available_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.file).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
