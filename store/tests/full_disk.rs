//! An engine on a file system without space: what it refuses leaves nothing, and it goes on with space.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]
#![allow(clippy::print_stderr, reason = "it says that it does nothing")]

mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use store::StoreError;
use store::engine::{Batch, DiskEngine, Engine};

use crate::support::copy;

const CACHE: u64 = 8 << 20;
/// Says that a process is in a mount namespace of its own.
const INSIDE: &str = "TEST_OWN_MOUNTS";
const DISK_MIB: u64 = 32;

fn batch(n: u64, bytes: usize) -> Batch {
    let mut message = vec![store::schema::MESSAGES.tag()];
    message.extend(1_u64.to_be_bytes());
    message.extend(n.to_be_bytes());
    Batch::from([(message, Some(Bytes::from(vec![n.to_le_bytes()[0]; bytes])))])
}

fn apply(engine: &DiskEngine, n: u64, bytes: usize) -> Result<(), StoreError> {
    engine.apply(&batch(n, bytes))?;
    engine.sync()
}

fn holds(engine: &DiskEngine, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        let (key, value) = batch(n, 1).pop_first().unwrap();
        let found = engine.get(&key).unwrap().unwrap_or_else(|| panic!("{n} is missing"));
        assert!(found.starts_with(&value.unwrap()), "{n}");
    }
}

#[test]
fn a_segment_that_was_not_begun_is_begun_later() {
    let work = tempfile::tempdir().unwrap();
    let live = work.path().join("live");
    let engine = DiskEngine::open(&live, CACHE).unwrap();
    (0..10).for_each(|n| apply(&engine, n, 100).unwrap());
    let killed = work.path().join("killed");
    copy(&live, &killed);
    drop(engine);
    // The process ended between making the file and writing its head.
    let names = fs::read_dir(killed.join("journal")).unwrap().map(|entry| entry.unwrap());
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let last = names.filter_map(|name| u64::from_str_radix(&name, 16).ok()).max().unwrap();
    File::create(killed.join("journal").join(format!("{:016x}", last + 1))).unwrap();
    let engine = DiskEngine::open(&killed, CACHE).unwrap();
    (10..200).for_each(|n| apply(&engine, n, 60_000).unwrap());
    let again = work.path().join("again");
    copy(&killed, &again);
    drop(engine);
    let engine = DiskEngine::open(&again, CACHE).unwrap();
    holds(&engine, 0..200);
}

/// A file system in memory, gone with the process that has it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={DISK_MIB}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at);
        assert!(mount.status().unwrap().success());
        Self(at.to_owned())
    }

    /// Fills it but for so many bytes.
    fn fill(&self, but: u64) -> PathBuf {
        let path = self.0.join("somebody-elses");
        let left = DiskEngine::available_in(&self.0).unwrap().saturating_sub(but);
        let mut file = File::create(&path).unwrap();
        file.write_all(&vec![0; usize::try_from(left).unwrap()]).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Runs a test again with mounts of its own; `false`: this is that process.
fn runs_elsewhere(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let may = Command::new("unshare").args(["-m", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: {test} mounts a file system, for which it must be root");
        return true;
    }
    let mut again = Command::new("unshare");
    again.arg("-m").arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    assert!(again.env(INSIDE, "1").status().unwrap().success());
    true
}

#[test]
fn a_journal_without_space_goes_on_with_space() {
    if runs_elsewhere("a_journal_without_space_goes_on_with_space") {
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&work.path().join("small"));
    let live = disk.0.join("live");
    let engine = DiskEngine::open(&live, CACHE).unwrap();
    let mut taken = Vec::new();
    let mut n = 0;
    // Batches of other sizes each time, so that what half was written of one lies behind another.
    for (round, bytes) in [(1_u64, 900), (2, 40_000), (3, 5_000), (4, 60_000)] {
        let file = disk.fill(700_000 * round);
        let mut refused = 0;
        while refused < 20 {
            n += 1;
            let bytes = if refused % 2 == 1 { bytes / 10 } else { bytes };
            match apply(&engine, n, bytes) {
                Ok(()) => taken.push(n),
                Err(StoreError::DiskFull { .. }) => refused += 1,
                Err(other) => panic!("{other}"),
            }
            assert!(n < 100_000, "it is not full");
        }
        fs::remove_file(file).unwrap();
        n += 1;
        apply(&engine, n, bytes).unwrap();
        taken.push(n);
        let killed = work.path().join(format!("killed-{round}"));
        copy(&live, &killed);
        let engine = DiskEngine::open(&killed, CACHE).unwrap();
        holds(&engine, taken.iter().copied());
        assert_eq!(engine.count().unwrap().unwrap(), taken.len() as u64);
    }
    // Everything reaches the index after all.
    drop(engine);
    let engine = DiskEngine::open(&live, CACHE).unwrap();
    holds(&engine, taken.iter().copied());
    // What is deleted is given back.
    let before = DiskEngine::available_in(&disk.0).unwrap();
    for n in &taken {
        engine.apply(&batch(*n, 0).into_keys().map(|key| (key, None)).collect()).unwrap();
    }
    engine.sync().unwrap();
    let begun = Instant::now();
    while DiskEngine::available_in(&disk.0).unwrap() < before + (1 << 20) {
        assert!(begun.elapsed() < Duration::from_secs(30), "nothing is given back");
        std::thread::sleep(Duration::from_millis(100));
    }
}
