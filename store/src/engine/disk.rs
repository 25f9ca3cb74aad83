//! The default engine: a [journal], the [index](super::index) made from it, and between them, in memory,
//! the [overlay] of what the index does not have yet.
//!
//! A commit is one record of the journal and one sync. Now and then the overlay is written to the
//! index in a few large steps; then a [checkpoint] is noted, and the journal up to there is not needed
//! any more. [`opening`] says what each start does about what it finds, and `docs/reliability.md`
//! shows the order of things on disk.

mod checkpoint;
mod closing;
mod copy;
mod file;
mod journal;
mod keeper;
mod listing;
mod lock;
mod opening;
mod overlay;
mod room;
mod salvage;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use self::closing::{Seal, Stop};
use self::copy::IndexCopy;
pub(super) use self::file::{sync, sync_folder, unsynced};
use self::journal::Journal;
pub use self::journal::{End, Follower, Reached};
pub(crate) use self::journal::{Resumed, Shipped};
use self::keeper::Kept;
use self::lock::Lock;
use self::opening::Opened;
use self::overlay::Overlay;
pub(crate) use self::salvage::{Hole, Salvage};
use super::index::{Index, check_key};
use super::{Batch, Direction, Engine, KeyRange, Position, Scan};
use crate::StoreError;

/// How much memory an engine takes.
#[derive(Debug, Clone, Copy)]
pub struct DiskOptions {
    /// Bytes of sled's page cache.
    pub cache_bytes: u64,
    /// Bytes of changes from which on they are written to the index. Commits wait for that when there
    /// are four times as many.
    pub checkpoint_bytes: usize,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20, checkpoint_bytes: 8 << 20 }
    }
}

/// Files of a folder, as an engine.
pub struct DiskEngine {
    // Fields are dropped in this order: changes end, the index is let go, then its files are listed.
    _stop: Option<Stop>,
    data: Arc<Data>,
    _seal: Option<Seal>,
    _copy: Option<IndexCopy>,
    _lock: Option<Lock>,
}

/// What commits, readers and the keeper share.
struct Data {
    folder: PathBuf,
    /// The folder, open.
    entry: File,
    index: Index,
    overlay: Overlay,
    /// `None`: the folder is only read.
    journal: Option<Mutex<Journal>>,
    /// ID of the journal.
    id: u64,
    /// As [`DiskOptions::checkpoint_bytes`].
    checkpoint_bytes: usize,
    kept: Kept,
}

impl DiskEngine {
    /// Opens the data in `folder`, or begins with none, with a page cache of `cache_bytes`.
    ///
    /// # Errors
    /// [`StoreError::Locked`]: another process has it open. [`StoreError::DamagedFile`]: something that
    /// was stored is not there, or not as it was; nothing was changed.
    pub fn open(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        Self::open_with(folder, DiskOptions { cache_bytes, ..DiskOptions::default() })
    }

    /// As [`open`](Self::open).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(folder: &Path, options: DiskOptions) -> Result<Self, StoreError> {
        let lock = Lock::take(folder)?;
        let opened = opening::to_write(folder, options.cache_bytes)?;
        let data = Data::new(folder, opened, options.checkpoint_bytes)?;
        let (stop, seal) = closing::prepare(&data)?;
        Ok(Self { _stop: Some(stop), data, _seal: Some(seal), _copy: None, _lock: Some(lock) })
    }

    /// Opens the data in `folder` to look at it, and changes nothing there: it refuses changes.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_read_only(folder: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let lock = Lock::take_if_there(folder)?;
        let (opened, copy) = opening::to_read(folder, cache_bytes)?;
        let data = Data::new(folder, opened, usize::MAX)?;
        Ok(Self { _stop: None, data, _seal: None, _copy: Some(copy), _lock: lock })
    }

    /// Bytes left on the file system of a folder, if that can be told.
    #[must_use]
    pub fn available_in(folder: &Path) -> Option<u64> {
        file::available(&File::open(folder).ok()?)
    }

    /// Bytes that opening a folder may write, about, beside a copy of its index.
    #[must_use]
    pub fn bytes_to_open(folder: &Path) -> u64 {
        // sled clears the end of its last segment and lists its pages, in some bytes for each.
        let index = std::fs::metadata(folder.join("db")).map_or(0, |db| db.len());
        (1 << 20) + index / 64
    }

    /// The journal, for who writes.
    fn journal(&self) -> Result<&Mutex<Journal>, StoreError> {
        let journal = self.data.journal.as_ref();
        journal.ok_or_else(|| StoreError::Engine("the data was opened only to be read".into()))
    }
}

impl Data {
    fn new(
        folder: &Path,
        opened: Opened,
        checkpoint_bytes: usize,
    ) -> Result<Arc<Self>, StoreError> {
        let entry = File::open(folder)
            .map_err(|source| StoreError::Folder { folder: folder.to_owned(), source })?;
        let Opened { index, overlay, journal, id } = opened;
        let (folder, journal) = (folder.to_owned(), journal.map(Mutex::new));
        let kept = Kept::default();
        Ok(Arc::new(Self { folder, entry, index, overlay, journal, id, checkpoint_bytes, kept }))
    }

    /// Bytes of changes at which commits wait.
    fn most_bytes(&self) -> usize {
        self.checkpoint_bytes.saturating_mul(4)
    }

    /// Bytes left on the file system, with those that the index has taken beforehand.
    fn available(&self) -> Option<u64> {
        file::available(&self.entry).map(|available| available + self.index.prepared())
    }

    /// Of a failure for want of space, that it is one.
    fn as_full(&self, error: StoreError) -> StoreError {
        if error.is_of_a_full_disk() {
            let available = self.available().unwrap_or_default();
            return StoreError::DiskFull { available, reserve: available };
        }
        error
    }
}

impl Engine for DiskEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.data.overlay.get(key) {
            Some(value) => Ok(value),
            None => self.data.index.get(key),
        }
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
        self.data.overlay.scan(range, direction, |range| self.data.index.scan(range, direction))
    }

    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        for key in batch.keys() {
            check_key(key)?;
        }
        if self.data.kept.is_put_off() && self.data.overlay.active_bytes() >= self.data.most_bytes()
        {
            let available = self.data.available().unwrap_or_default();
            return Err(StoreError::DiskFull { available, reserve: available });
        }
        let bytes = {
            // Held for both: what is frozen is exactly what the journal has.
            let mut journal = self.journal()?.lock();
            journal.append(batch).map_err(|error| self.data.as_full(error))?;
            self.data.overlay.put(batch)
        };
        if bytes >= self.data.checkpoint_bytes {
            self.data.kept.wake();
        }
        if bytes >= self.data.most_bytes() { self.data.wait_for_room() } else { Ok(()) }
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.journal()?.lock().sync()
    }

    fn available_bytes(&self) -> Option<u64> {
        self.data.available()
    }

    fn only_reads(&self) -> bool {
        self.data.journal.is_none()
    }

    fn count(&self) -> Result<Option<u64>, StoreError> {
        let index = &self.data.index;
        let mut count = index.count()?;
        for (key, value) in self.data.overlay.rows() {
            match (value.is_some(), index.get(&key)?.is_some()) {
                (true, false) => count += 1,
                (false, true) => count = count.saturating_sub(1),
                _ => {}
            }
        }
        Ok(Some(count))
    }

    fn position(&self) -> Option<Position> {
        let journal = self.data.journal.as_ref()?;
        Some(Position { journal: self.data.id, batch: journal.lock().number() })
    }

    fn follow(&self, after: u64) -> Option<Follower> {
        let folder = opening::journal_folder(&self.data.folder);
        self.data.journal.is_some().then(|| Follower::new(folder, self.data.id, after))
    }

    fn followed(&self, batch: u64) {
        if let Some(journal) = &self.data.journal {
            journal.lock().followed(batch);
        }
    }

    fn read_all(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<bool, StoreError> {
        self.data.index.read_values(go_on)
    }
}
