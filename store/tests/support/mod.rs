//! An engine whose faults are scripted, and small helpers.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use store::engine::{Batch, Engine, KeyRange, MemoryEngine, Position, Scan};
use store::record::Number;
use store::{Direction, Options, Read, Store, StoreError, Tx, schema};

/// The memory engine, with faults.
pub(crate) struct ScriptedEngine {
    pub(crate) inner: MemoryEngine,
    /// What it says is left on the disk.
    pub(crate) available: AtomicU64,
    pub(crate) fail_apply: AtomicBool,
    /// Batches find no space, and are not applied.
    pub(crate) full_apply: AtomicBool,
    pub(crate) only_reads: AtomicBool,
    pub(crate) fail_sync: AtomicBool,
    /// Batches that it has.
    batches: AtomicU64,
    /// How often it was synced.
    pub(crate) syncs: AtomicUsize,
    held: Mutex<Held>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    hold: bool,
    waiting: bool,
}

impl ScriptedEngine {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryEngine::default(),
            available: AtomicU64::new(u64::MAX),
            fail_apply: AtomicBool::new(false),
            full_apply: AtomicBool::new(false),
            only_reads: AtomicBool::new(false),
            batches: AtomicU64::new(0),
            fail_sync: AtomicBool::new(false),
            syncs: AtomicUsize::new(0),
            held: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Makes the next sync wait until [`release`](Self::release).
    pub(crate) fn hold_sync(&self) {
        self.held.lock().hold = true;
    }

    /// Waits until a batch is applied and its sync waits.
    pub(crate) fn until_held(&self) {
        let mut held = self.held.lock();
        while !held.waiting {
            let late = self.changed.wait_for(&mut held, Duration::from_secs(10)).timed_out();
            assert!(!late, "no sync came");
        }
    }

    pub(crate) fn release(&self) {
        self.held.lock().hold = false;
        self.changed.notify_all();
    }
}

impl Engine for ScriptedEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.inner.get(key)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
        self.inner.scan(range, direction)
    }

    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        if self.full_apply.load(SeqCst) {
            return Err(StoreError::DiskFull { available: 0, reserve: 0 });
        }
        self.inner.apply(batch)?;
        self.batches.fetch_add(1, SeqCst);
        if self.fail_apply.load(SeqCst) {
            return Err(StoreError::Engine("scripted: apply".into()));
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.syncs.fetch_add(1, SeqCst);
        let mut held = self.held.lock();
        while held.hold {
            held.waiting = true;
            self.changed.notify_all();
            self.changed.wait(&mut held);
        }
        held.waiting = false;
        drop(held);
        if self.fail_sync.load(SeqCst) {
            return Err(StoreError::Engine("scripted: sync".into()));
        }
        Ok(())
    }

    fn available_bytes(&self) -> Option<u64> {
        Some(self.available.load(SeqCst))
    }

    fn position(&self) -> Option<Position> {
        Some(Position { journal: 1, batch: self.batches.load(SeqCst) })
    }

    fn only_reads(&self) -> bool {
        self.only_reads.load(SeqCst)
    }
}

pub(crate) fn open(engine: &Arc<impl Engine>) -> Store {
    Store::open(Box::new(Arc::clone(engine)), Options::default()).expect("opens")
}

pub(crate) fn count(from: &impl Read, name: &str) -> i64 {
    schema::COUNTERS.get(from, name).expect("reads").unwrap_or_default().value
}

pub(crate) fn set_count(tx: &mut Tx<'_>, name: &str, value: i64) {
    schema::COUNTERS.put(tx, name, &Number { value });
}

pub(crate) fn add_one(tx: &mut Tx<'_>, name: &str) {
    let value = count(tx, name) + 1;
    set_count(tx, name, value);
}

/// Copies a folder: of an open engine, what a killed process leaves.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let path = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &path);
        } else {
            fs::copy(entry.path(), path).unwrap();
        }
    }
}

/// Every file of a folder and what is in it.
pub(crate) fn content(folder: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}
