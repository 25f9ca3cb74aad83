//! Opening sled in a folder, whatever a crash has left there.

use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::engine_error;
use crate::StoreError;
use crate::engine::MAX_KEY_BYTES;

/// Fixed when a database is created.
const SEGMENT_BYTES: usize = 512 << 10;
/// A page holds up to 17 pairs and must not reach a quarter of a segment.
const _: () = assert!(17 * (MAX_KEY_BYTES + super::row::MAX_ROW_BYTES) < SEGMENT_BYTES / 4);

/// How long sled may go on with a file after its database was dropped.
const LAST_WORK: Duration = Duration::from_secs(5);

/// Opens or creates the database in `folder`; the lock is held as long as the file lives.
pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<(sled::Db, File), StoreError> {
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
    // The entries of new files must be as durable as what is written to them.
    File::open(&settings).and_then(|settings| settings.sync_all()).map_err(fails)?;
    sync_folder(folder).map_err(fails)?;
    let around = folder.parent().filter(|around| !around.as_os_str().is_empty());
    sync_folder(around.unwrap_or(Path::new("."))).map_err(fails)?;
    Ok((db, lock))
}

/// Makes the entries of a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
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
    let begun = Instant::now();
    loop {
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()))
            .map_err(|_| StoreError::Engine("the database file is damaged".into()))?;
        match opened {
            // Threads of sled may still be at work for a database that this process has dropped.
            Err(error) if is_locked(&error) && begun.elapsed() < LAST_WORK => {
                thread::sleep(Duration::from_millis(10));
            }
            opened => return opened.map_err(engine_error),
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
