//! How the default engine treats its folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use proto::sdkws::MsgData;
use store::engine::{Batch, DiskEngine, Engine, MAX_VALUE_BYTES};
use store::record::ConversationHead;
use store::verify::verify;
use store::{Append, Options, Store, StoreError};

const CACHE: u64 = 16 << 20;

fn fill(folder: &Path, keys: u32) {
    let engine = DiskEngine::open(folder, CACHE).unwrap();
    for n in 0..keys {
        let value = Bytes::from(vec![7; 300]);
        engine.apply(&Batch::from([(n.to_be_bytes().to_vec(), Some(value))])).unwrap();
        engine.sync().unwrap();
    }
}

fn must_hold(folder: &Path, keys: u32) {
    let engine = DiskEngine::open(folder, CACHE).unwrap();
    for n in 0..keys {
        assert!(engine.get(&n.to_be_bytes()).unwrap().is_some(), "key {n}");
    }
}

fn snapshots(folder: &Path) -> Vec<PathBuf> {
    let named = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("snap.");
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(named).collect()
}

#[test]
fn a_second_user_of_a_folder_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let first = DiskEngine::open(folder.path(), CACHE).unwrap();
    let snapshot = folder.path().join("snap.0000000000000001.generating");
    fs::write(&snapshot, b"under way").unwrap();
    let second = DiskEngine::open(folder.path(), CACHE);
    assert!(matches!(second, Err(StoreError::Locked(path)) if path == folder.path()));
    assert!(snapshot.exists(), "the files of a running database were touched");
    drop(first);
    DiskEngine::open(folder.path(), CACHE).unwrap();
    assert!(!snapshot.exists());
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    for path in [file.clone(), file.join("below")] {
        match DiskEngine::open(&path, CACHE) {
            Err(StoreError::Folder { folder, .. }) => assert_eq!(folder, path),
            other => panic!("{:?}", other.err()),
        }
    }
}

#[test]
fn damaged_snapshots_do_not_prevent_opening() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 4] = [
        ("unfinished", |folder| {
            fs::write(folder.join("snap.00000000FFFFFFFF.generating"), b"half").unwrap();
        }),
        ("empty", |folder| {
            snapshots(folder).iter().for_each(|file| fs::write(file, b"").unwrap());
        }),
        ("garbage", |folder| {
            snapshots(folder).iter().for_each(|file| fs::write(file, [0xAB; 999]).unwrap());
        }),
        ("missing", |folder| {
            snapshots(folder).iter().for_each(|file| fs::remove_file(file).unwrap());
        }),
    ];
    for (name, damage) in cases {
        let folder = tempfile::tempdir().unwrap();
        let killed = tempfile::tempdir().unwrap();
        fill(folder.path(), 200);
        fill(folder.path(), 1);
        let engine = DiskEngine::open(folder.path(), CACHE).unwrap();
        support::copy(folder.path(), killed.path());
        drop(engine);
        let killed = killed.path();
        assert!(!snapshots(killed).is_empty(), "the case {name} damages nothing");
        damage(killed);
        must_hold(killed, 200);
    }
}

#[test]
fn a_damaged_database_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), 50);
    let other = b"segment_size: 4096\nuse_compression: false\nversion: 0.34\n.crc";
    fs::write(folder.path().join("conf"), other).unwrap();
    assert!(DiskEngine::open(folder.path(), CACHE).is_err());
    assert_eq!(fs::read(folder.path().join("conf")).unwrap(), other, "it was replaced");
}

#[test]
fn settings_torn_by_a_power_cut_are_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), 50);
    let settings = fs::read(folder.path().join("conf")).unwrap();
    let engine = DiskEngine::open(folder.path(), CACHE).unwrap();
    let zeros = vec![0; settings.len()];
    for left in [&settings[..0], &settings[..20], &settings[..settings.len() - 4], &zeros] {
        let killed = tempfile::tempdir().unwrap();
        support::copy(folder.path(), killed.path());
        fs::write(killed.path().join("conf"), left).unwrap();
        must_hold(killed.path(), 50);
        let now = fs::read(killed.path().join("conf")).unwrap();
        assert_eq!(now, settings, "after {} bytes", left.len());
    }
    drop(engine);
}

#[test]
fn the_largest_values_make_no_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let engine = DiskEngine::open(folder.path(), CACHE).unwrap();
    for n in 0..300_u32 {
        let key = (n * 7 % 300).to_be_bytes().to_vec();
        let value = Bytes::from(vec![n.to_le_bytes()[0]; MAX_VALUE_BYTES]);
        engine.apply(&Batch::from([(key, Some(value))])).unwrap();
        engine.sync().unwrap();
        let blobs = folder.path().join("blobs");
        let blobs = fs::read_dir(blobs).map_or(0, Iterator::count);
        assert_eq!(blobs, 0, "after {n}");
    }
    drop(engine);
    must_hold(folder.path(), 300);
}

#[test]
fn verify_names_the_messages_that_the_disk_has_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let engine = DiskEngine::open(folder.path(), CACHE).unwrap();
        Store::open(Box::new(engine), Options::default()).unwrap()
    };
    let store = open();
    for n in 0..40_u8 {
        let message = MsgData { content: vec![n; 100].into(), ..MsgData::default() };
        let pair = vec!["a".to_owned(), "b".to_owned()];
        let append = Append {
            conversation: "si_a_b".into(),
            head: ConversationHead { session_type: 1, pair, ..ConversationHead::default() },
            message: message.encode_to_vec(),
            now: 1_000,
            repeat: None,
        };
        store.transact_blocking(move |tx| tx.append(append)).unwrap();
    }
    let sound = verify(&store.view(), |_| ()).unwrap();
    assert!(sound.is_clean());
    store.close();

    let segment = fs::read_dir(folder.path().join("values")).unwrap().next().unwrap();
    let segment = segment.unwrap().path();
    let mut bytes = fs::read(&segment).unwrap();
    for content in [[7; 20], [23; 20]] {
        let at = bytes.windows(20).position(|window| window == content).unwrap();
        bytes[at] ^= 1;
    }
    fs::write(&segment, bytes).unwrap();
    let report = verify(&open().strict_view(), |_| ()).unwrap();
    let found: Vec<&str> = report.findings.iter().map(|finding| finding.table).collect();
    assert_eq!(found, ["MESSAGES", "MESSAGES"], "{:?}", report.findings);
    assert_eq!(report.records, sound.records, "the others are checked too");
    assert!(report.findings[0].problem.contains("not as they were written"));
}
