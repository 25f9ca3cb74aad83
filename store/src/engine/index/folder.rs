//! Opening sled in a folder, whatever a crash has left there.

use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::sled_error;
use crate::StoreError;
use crate::engine::MAX_KEY_BYTES;
use crate::engine::disk::sync_folder;

/// Fixed when a database is created.
const SEGMENT_BYTES: usize = 512 << 10;
/// A page holds up to 17 pairs and must not reach a quarter of a segment.
const _: () = assert!(17 * (MAX_KEY_BYTES + super::row::MAX_ROW_BYTES) < SEGMENT_BYTES / 4);

/// How long sled may go on with a file after its database was dropped.
const LAST_WORK: Duration = Duration::from_secs(5);

/// Opens or creates the database in `folder`, which nobody else may use.
pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<sled::Db, StoreError> {
    let fails = |source| StoreError::Folder { folder: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(fails)?;
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
    // The entries of new files must be as durable as what is written to them.
    File::open(&settings).and_then(|settings| settings.sync_all()).map_err(fails)?;
    sync_folder(folder).map_err(fails)?;
    let around = folder.parent().filter(|around| !around.as_os_str().is_empty());
    sync_folder(around.unwrap_or(Path::new("."))).map_err(fails)?;
    Ok(db)
}

/// Whether a file of this name belongs to the database.
pub(in crate::engine) fn is_file(name: &str) -> bool {
    matches!(name, "db" | "conf") || name.starts_with("snap.")
}

/// Waits until sled's threads have let go of a database that was dropped; `false` if they do not.
pub(in crate::engine) fn is_let_go(folder: &Path) -> bool {
    let begun = Instant::now();
    loop {
        match File::open(folder.join("db")).map(|file| file.try_lock()) {
            Ok(Ok(())) => return true,
            Ok(Err(TryLockError::WouldBlock)) if begun.elapsed() < LAST_WORK => {
                thread::sleep(Duration::from_millis(1));
            }
            _ => return false,
        }
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

#[expect(clippy::disallowed_methods, reason = "the one place where a database is opened")]
fn open_once(folder: &Path, cache_bytes: u64) -> Result<sled::Db, StoreError> {
    let config = sled::Config::new()
        .path(folder)
        .cache_capacity(cache_bytes)
        .segment_size(SEGMENT_BYTES)
        // Every change is flushed; between changes the files stay as they are.
        .flush_every_ms(None);
    let begun = Instant::now();
    loop {
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()))
            .map_err(|_| StoreError::Engine("the database file is damaged".into()))?;
        match opened {
            // Threads of sled may still be at work for a database that this process has dropped.
            Err(error) if is_locked(&error) && begun.elapsed() < LAST_WORK => {
                thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.map_err(sled_error),
        }
    }
}

/// Whether sled could not lock its file; nobody else has it open, since the folder is locked.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
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
