//! Whatever happens to a file of the data, it is noticed, or nothing that was stored is different.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use store::StoreError;
use store::engine::{Batch, Direction, DiskEngine, Engine};

use crate::support::copy;

const CACHE: u64 = 8 << 20;
const ROUNDS: usize = 60;

type Facts = BTreeMap<Bytes, Result<Bytes, String>>;

fn message(conversation: u64, seq: u64) -> Vec<u8> {
    let mut key = vec![store::schema::MESSAGES.tag()];
    key.extend(conversation.to_be_bytes());
    key.extend(seq.to_be_bytes());
    key
}

fn batch(n: u64) -> Batch {
    let text =
        |length: u64| Bytes::from(vec![n.to_le_bytes()[0]; usize::try_from(length).unwrap()]);
    let mut batch = Batch::new();
    batch.insert(message(n % 7, n), Some(text(100 + n * 37 % 900)));
    batch.insert([&[0x10][..], &(n % 50).to_be_bytes()].concat(), Some(text(20 + n % 30)));
    if n.is_multiple_of(3) {
        batch.insert(message(n / 2 % 7, n / 2), None);
    }
    if n.is_multiple_of(11) {
        batch.insert([&[0x11][..], &n.to_be_bytes()].concat(), Some(text(3_000)));
    }
    batch
}

fn write(engine: &DiskEngine, batches: std::ops::Range<u64>) {
    for n in batches {
        engine.apply(&batch(n)).unwrap();
        engine.sync().unwrap();
    }
}

fn facts(engine: &DiskEngine) -> Facts {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let mut facts = Facts::new();
    for pair in engine.scan(all, Direction::Ascending) {
        match pair {
            Ok((key, value)) => drop(facts.insert(key, Ok(value))),
            Err(StoreError::DamagedValue { key, reason }) => {
                drop(facts.insert(key.into(), Err(reason)))
            }
            Err(other) => panic!("{other}"),
        }
    }
    facts
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if fs::metadata(&path).unwrap().len() > 0 {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Does something to a file; says what.
fn damage(path: &Path, older: &Path, folder: &Path, rng: &mut StdRng) -> String {
    let mut bytes = fs::read(path).unwrap();
    let length = bytes.len();
    let at = rng.random_range(0..length);
    let what = match rng.random_range(0..9) {
        0 | 1 => {
            bytes[at] ^= 1 << rng.random_range(0..8);
            format!("a bit at {at}")
        }
        2 => {
            let run = rng.random_range(1..512).min(length - at);
            rng.fill_bytes(&mut bytes[at..at + run]);
            format!("{run} bytes at {at}")
        }
        kind @ (3 | 4) => {
            let block = if kind == 3 { 512 } else { 4_096 };
            let from = at / block * block;
            let to = (from + block).min(length);
            bytes[from..to].fill(0);
            format!("a block of {block} at {from}")
        }
        5 => {
            bytes.truncate(at);
            format!("cut to {at}")
        }
        6 => {
            fs::remove_file(path).unwrap();
            return "deleted".into();
        }
        7 => {
            let all = files(folder);
            let other = &all[rng.random_range(0..all.len())];
            let content = fs::read(other).unwrap();
            fs::write(other, &bytes).unwrap();
            bytes = content;
            format!("swapped with {}", other.display())
        }
        _ => {
            let Ok(before) = fs::read(older.join(path.strip_prefix(folder).unwrap())) else {
                fs::remove_file(path).unwrap();
                return "deleted, as it was not there before".into();
            };
            bytes = before;
            "as it was before".into()
        }
    };
    fs::write(path, bytes).unwrap();
    what
}

/// Whether the damage was noticed; panics if it was not and something is different.
fn is_noticed(folder: &Path, facts_before: &Facts, what: &str) -> bool {
    let before: Vec<_> =
        files(folder).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    let read_only = DiskEngine::open_read_only(folder, CACHE).map(|engine| facts(&engine));
    for (bytes, path) in &before {
        assert!(&fs::read(path).unwrap() == bytes, "{what}: {} was changed", path.display());
    }
    let opened = DiskEngine::open(folder, CACHE);
    let (engine, seen) = match (opened, read_only) {
        (Ok(engine), Ok(seen)) => (engine, seen),
        (Err(_), Err(_)) => {
            for (bytes, path) in &before {
                assert!(
                    &fs::read(path).unwrap() == bytes,
                    "{what}: {} was changed",
                    path.display()
                );
            }
            return true;
        }
        (opened, read) => panic!("{what}: {:?}, {:?}", opened.err(), read.err()),
    };
    let now = facts(&engine);
    assert_eq!(now, seen, "{what}");
    let wrong = now.values().filter(|value| value.is_err()).count();
    for (key, value) in facts_before {
        match now.get(key) {
            Some(Err(_)) => {}
            found => assert_eq!(found, Some(value), "{what}: {key:?}"),
        }
    }
    assert_eq!(now.len(), facts_before.len(), "{what}");
    wrong > 0
}

fn run(rounds: usize, close: bool) {
    let work = tempfile::tempdir().unwrap();
    let (live, older, sound) =
        (work.path().join("live"), work.path().join("older"), work.path().join("sound"));
    let engine = DiskEngine::open(&live, CACHE).unwrap();
    write(&engine, 0..1_500);
    drop(engine);
    copy(&live, &older);
    let engine = DiskEngine::open(&live, CACHE).unwrap();
    write(&engine, 1_500..3_000);
    let expected = facts(&engine);
    let engine = if close {
        drop(engine);
        None
    } else {
        Some(engine)
    };
    // With the engine open, this is what a killed process leaves.
    copy(&live, &sound);
    drop(engine);
    let mut rng = StdRng::seed_from_u64(7);
    let mut noticed = 0;
    for round in 0..rounds {
        let folder = work.path().join("damaged");
        copy(&sound, &folder);
        let files = files(&folder);
        let path = &files[rng.random_range(0..files.len())];
        let what = damage(path, &older, &folder, &mut rng);
        let what = format!("round {round}: {} {what}", path.display());
        noticed += usize::from(is_noticed(&folder, &expected, &what));
        fs::remove_dir_all(&folder).unwrap();
    }
    assert!(noticed > rounds / 3, "{noticed} of {rounds} were noticed");
    let again = DiskEngine::open(&sound, CACHE).unwrap();
    assert_eq!(facts(&again), expected);
}

#[test]
fn damage_to_a_closed_folder_is_noticed() {
    run(ROUNDS, true);
}

#[test]
fn damage_to_a_folder_of_a_killed_process_is_noticed() {
    run(ROUNDS, false);
}

#[test]
fn an_older_checkpoint_does_not_hide_what_the_journal_has() {
    let work = tempfile::tempdir().unwrap();
    let live = work.path().join("live");
    let engine = DiskEngine::open(&live, CACHE).unwrap();
    write(&engine, 0..100);
    drop(engine);
    let closed = work.path().join("closed");
    copy(&live, &closed);
    let engine = DiskEngine::open(&live, CACHE).unwrap();
    write(&engine, 100..200);
    // The index as if nothing had been written to it since, beside what the journal has.
    fs::remove_dir_all(closed.join("journal")).unwrap();
    copy(&live.join("journal"), &closed.join("journal"));
    drop(engine);
    match DiskEngine::open(&closed, CACHE) {
        Err(StoreError::DamagedFile { file, .. }) => assert!(file.ends_with("checkpoint")),
        other => panic!("{:?}", other.err()),
    }
}
