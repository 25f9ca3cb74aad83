//! Backups of a running store, and what is refused when they are restored.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Bound::Unbounded;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use proptest::prelude::*;
use prost::Message as _;
use proto::sdkws::MsgData;
use sha2::{Digest as _, Sha256};
use store::backup::{self, BackupError, Beside, NewEpoch, NewFile, Nothing, Summary, Take};
use store::engine::{DiskEngine, Engine, MemoryEngine};
use store::record::{ConversationHead, SeqGap};
use store::version_log::{Change, List, version};
use store::{Append, Direction, Options, Read as _, Store, StoreError, Tx, message_log, schema};
use support::{add_one, count};

const OLD: [u8; 16] = [1; 16];
const NEW: [u8; 16] = [2; 16];
const CACHE: u64 = 16 << 20;

fn quiet(_: u64) {}

fn epoch(salt: [u8; 16]) -> NewEpoch {
    NewEpoch { salt, skip: 100 }
}

fn open(engine: impl Engine) -> Store {
    Store::open(Box::new(engine), Options { salt: OLD, ..Options::default() }).unwrap()
}

fn append(tx: &mut Tx<'_>, conversation: &str, id: i64) -> Result<i64, StoreError> {
    let data = MsgData {
        send_id: "a".into(),
        client_msg_id: format!("{id}"),
        content: vec![7; 200].into(),
        ..Default::default()
    };
    let head = ConversationHead {
        session_type: 1,
        pair: vec!["a".into(), "b".into()],
        ..Default::default()
    };
    let append = Append {
        conversation: conversation.into(),
        head,
        message: data.encode_to_vec(),
        now: 1_000 + id,
        repeat: None,
    };
    Ok(tx.append(append)?.seq)
}

/// A change that keeps several tables in step with each other.
fn change(tx: &mut Tx<'_>, n: i64) -> Result<(), StoreError> {
    // The counters lie before the messages in the keyspace, the version logs behind them.
    add_one(tx, "one");
    add_one(tx, "two");
    append(tx, ["x", "y", "z"][n.cast_unsigned() as usize % 3], n)?;
    tx.step(List::Friends, "a", [(format!("f{}", n % 50).as_str(), Change::Update)])?;
    Ok(())
}

fn filled(engine: impl Engine, changes: i64) -> Store {
    let store = open(engine);
    for n in 0..changes {
        store.transact_blocking(move |tx| change(tx, n)).unwrap();
    }
    store
}

fn must_be_in_step(store: &Store) -> i64 {
    let view = store.view();
    let one = count(&view, "one");
    assert_eq!(count(&view, "two"), one);
    assert_eq!(schema::MESSAGES.scan(&view, ()).count() as i64, one);
    let log = version(&view, List::Friends, "a").unwrap();
    assert_eq!(log.version as i64, one + 1);
    let report = store::verify::verify(&view, quiet).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    one
}

fn everything(engine: &dyn Engine) -> Vec<(bytes::Bytes, bytes::Bytes)> {
    engine.scan((Unbounded, Unbounded), Direction::Ascending).map(Result::unwrap).collect()
}

#[test]
fn a_restored_store_goes_on_where_the_backup_was() {
    let engine = Arc::new(MemoryEngine::default());
    let store = filled(Arc::clone(&engine), 300);
    let mut file = Vec::new();
    let mut told = Vec::new();
    let written = backup::write(store.view(), &mut file, |n| told.push(n)).unwrap();
    let records = everything(&engine).len() as u64;
    let schema = schema::VERSION;
    assert_eq!(written, Summary { format: 2, records, files: 0, schema, epoch: 1, position: None });
    assert_eq!(told.last(), Some(&records));
    assert_eq!(backup::inspect(file.as_slice(), quiet).unwrap(), written);

    let copy = Arc::new(MemoryEngine::default());
    let restored = backup::read(file.as_slice(), &copy, epoch(NEW), quiet).unwrap();
    assert_eq!(restored, Summary { epoch: 2, ..written });
    let without_meta = |engine: &MemoryEngine| {
        let mut rows = everything(engine);
        rows.retain(|(key, _)| key[0] != schema::META.tag());
        rows
    };
    assert!(without_meta(&copy) == without_meta(&engine));

    let again = open(Arc::clone(&copy));
    assert_eq!(must_be_in_step(&again), 300);
    assert_eq!(again.view().salt(), NEW);
    let id = |store: &Store| version(&store.view(), List::Friends, "a").unwrap().id;
    assert_ne!(id(&again), id(&store), "clients must synchronise in full");
    let seq = again.transact_blocking(|tx| append(tx, "x", 1_000)).unwrap();
    assert_eq!(seq, 201, "conversations go on, with no seq that a client may know");

    // A backup of the restored data is the third epoch.
    let mut file = Vec::new();
    backup::write(again.view(), &mut file, quiet).unwrap();
    let third = backup::read(file.as_slice(), &MemoryEngine::default(), epoch(OLD), quiet).unwrap();
    assert_eq!(third.epoch, 3);
}

#[test]
fn seqs_that_clients_may_know_are_left_out_after_a_restore() {
    let say = |store: &Store, conversation: &'static str, id| {
        store.transact_blocking(move |tx| append(tx, conversation, id)).unwrap()
    };
    let restored = |store: &Store| {
        let (mut file, engine) = (Vec::new(), Arc::new(MemoryEngine::default()));
        backup::write(store.view(), &mut file, quiet).unwrap();
        backup::read(file.as_slice(), &engine, epoch(NEW), quiet).unwrap();
        engine
    };
    let head = |store: &Store, conversation| {
        schema::CONVERSATION_HEADS.get(&store.view(), conversation).unwrap().unwrap()
    };
    let first = open(Arc::new(MemoryEngine::default()));
    for id in 0..3 {
        assert_eq!(say(&first, "talked", id), id + 1);
        assert_eq!(say(&first, "rested", id), id + 1);
    }

    let engine = restored(&first);
    let second = open(Arc::clone(&engine));
    assert_eq!((say(&second, "talked", 10), say(&second, "talked", 11)), (104, 105));
    assert_eq!(say(&second, "began", 12), 101, "it may have been there and be lost");
    assert_eq!(head(&second, "began").min_seq, 101, "nobody looks for what was never there");
    second.close();
    let second = open(engine);
    assert_eq!(say(&second, "talked", 13), 106, "a start is no restore");

    let third = open(restored(&second));
    assert_eq!(say(&third, "rested", 20), 204, "it skips both");
    assert_eq!(say(&third, "talked", 21), 207);
    let talked = head(&third, "talked");
    let gaps = [SeqGap { after: 3, until: 103 }, SeqGap { after: 106, until: 206 }];
    assert_eq!(talked.gaps, gaps);
    let left_out = [(0, 200), (3, 200), (50, 153), (104, 100), (206, 0), (207, 0)];
    for (seq, expected) in left_out {
        assert_eq!(talked.left_out(seq, 207), expected, "after {seq}");
    }
    assert_eq!(talked.left_out(0, 106), 100, "a gap counts once there is something behind it");
    let report = store::verify::verify(&third.view(), |_| ()).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn the_default_engine_is_backed_up_to_a_file_and_restored_to_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("backup"));
    let store = filled(DiskEngine::open(&data, CACHE).unwrap(), 200);
    let mut new = NewFile::create(&file, false).unwrap();
    let written = backup::write(store.view(), &mut new, quiet).unwrap();
    new.keep().unwrap();
    store.close();

    let target = folder.path().join("new");
    // Left behind by a restore that was cut short.
    fs::create_dir(folder.path().join("new.restoring")).unwrap();
    fs::write(folder.path().join("new.restoring/db"), b"rubbish").unwrap();
    let input = || File::open(&file).unwrap();
    let restored =
        backup::restore(input(), &mut Nothing, &target, CACHE, epoch(NEW), quiet).unwrap();
    assert_eq!(restored.records, written.records);
    let again = open(DiskEngine::open(&target, CACHE).unwrap());
    assert_eq!(must_be_in_step(&again), 200);
    again.close();

    let outcome = backup::restore(input(), &mut Nothing, &target, CACHE, epoch(NEW), quiet);
    assert!(matches!(outcome, Err(BackupError::NotEmpty(path)) if path == target));
    assert_eq!(names(folder.path()), ["backup", "data", "new"]);
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn a_damaged_backup_leaves_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = Vec::new();
    backup::write(filled(MemoryEngine::default(), 20).view(), &mut file, quiet).unwrap();
    file.pop();
    let target = folder.path().join("data");
    let outcome = backup::restore(file.as_slice(), &mut Nothing, &target, CACHE, epoch(NEW), quiet);
    assert!(matches!(outcome, Err(BackupError::Truncated { .. })));
    assert!(names(folder.path()).is_empty());

    let full = folder.path().join("full");
    File::create(&full).unwrap();
    let outcome = backup::restore(file.as_slice(), &mut Nothing, &full, CACHE, epoch(NEW), quiet);
    assert!(matches!(outcome, Err(BackupError::Io(_))));
    let engine = MemoryEngine::default();
    engine.apply(&[(vec![9], Some(bytes::Bytes::new()))].into()).unwrap();
    let outcome = backup::read(file.as_slice(), &engine, epoch(NEW), quiet);
    assert!(matches!(outcome, Err(BackupError::NotEmpty(_))));
}

#[test]
fn a_restore_that_fails_half_way_is_not_taken_for_data() {
    let mut file = Vec::new();
    backup::write(filled(MemoryEngine::default(), 2_500).view(), &mut file, quiet).unwrap();
    let last = file.len() - 1;
    file[last] ^= 1;
    let engine = Arc::new(MemoryEngine::default());
    let outcome = backup::read(file.as_slice(), &engine, epoch(NEW), quiet);
    assert!(matches!(outcome, Err(BackupError::Damaged { .. })), "{outcome:?}");
    assert!(!everything(&engine).is_empty(), "the case tests nothing");
    let outcome = Store::open(Box::new(engine), Options::default());
    assert!(matches!(outcome, Err(StoreError::Damaged { table: "META", .. })));
}

#[test]
fn what_is_no_backup_or_newer_is_refused() {
    let mut file = Vec::new();
    backup::write(filled(MemoryEngine::default(), 3).view(), &mut file, quiet).unwrap();
    let inspect = |file: &[u8]| backup::inspect(file, quiet);
    for no_backup in [b"".as_slice(), b"entente", b"PK and something else", &file[1..]] {
        assert!(matches!(inspect(no_backup), Err(BackupError::NotABackup)));
    }
    let with = |at: usize, bytes: &[u8]| {
        let mut file = file.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    assert!(matches!(
        inspect(&with(16, &3_u32.to_be_bytes())),
        Err(BackupError::NewerFormat { found: 3, known: 2 })
    ));
    let newer = schema::VERSION + 1;
    assert!(matches!(
        inspect(&with(20, &newer.to_be_bytes())),
        Err(BackupError::Store(StoreError::NewerSchema { found, .. })) if found == newer
    ));
    // A length that would take all memory.
    assert!(matches!(
        inspect(&with(25, &0xFFFF_FFF0_u32.to_be_bytes())),
        Err(BackupError::Damaged { .. })
    ));
    let mut longer = file.clone();
    longer.push(0);
    assert!(matches!(inspect(&longer), Err(BackupError::Damaged { .. })));
    for length in 16..file.len() {
        let cut = inspect(&file[..length]);
        assert!(matches!(cut, Err(BackupError::Truncated { .. })), "{length}: {cut:?}");
    }
}

/// A backup as programs wrote it before there were records.
fn of_format_1(pairs: &[(bytes::Bytes, bytes::Bytes)]) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap().to_be_bytes();
    let mut file = b"entente backup\r\n\0\0\0\x01".to_vec();
    file.extend(schema::VERSION.to_be_bytes());
    for (key, value) in pairs {
        for part in [&number(key.len())[..], &number(value.len()), key, value] {
            file.extend(part);
        }
    }
    file.extend([0xFF; 4]);
    file.extend((pairs.len() as u64).to_be_bytes());
    let sum = Sha256::digest(&file);
    file.extend(sum);
    file
}

#[test]
fn a_backup_of_the_first_format_is_restored() {
    let engine = Arc::new(MemoryEngine::default());
    let first = filled(Arc::clone(&engine), 300);
    let file = of_format_1(&everything(&engine));
    let copy = Arc::new(MemoryEngine::default());
    let restored = backup::read(file.as_slice(), &copy, epoch(NEW), quiet).unwrap();
    assert_eq!((restored.format, restored.files), (1, 0));
    assert_eq!(must_be_in_step(&open(copy)), 300);
    first.close();
    for length in 16..file.len().min(2_000) {
        let cut = backup::inspect(&file[..length], quiet);
        assert!(matches!(cut, Err(BackupError::Truncated { .. })), "{length}: {cut:?}");
    }
    for at in (0..file.len()).step_by(97) {
        let mut changed = file.clone();
        changed[at] ^= 0x10;
        assert!(backup::inspect(changed.as_slice(), quiet).is_err(), "byte {at}");
    }
}

/// What a backup held beside the database.
#[derive(Default)]
struct Seen {
    note: Vec<u8>,
    sealed: Vec<u8>,
    files: Vec<(String, Vec<u8>)>,
}

impl Take for Seen {
    fn note(&mut self, note: &[u8]) -> Result<(), BackupError> {
        self.note = note.to_vec();
        Ok(())
    }

    fn sealed(&mut self, sealed: &[u8]) -> Result<(), BackupError> {
        self.sealed = sealed.to_vec();
        Ok(())
    }

    fn file(&mut self, name: &str) -> Result<(), BackupError> {
        self.files.push((name.into(), Vec::new()));
        Ok(())
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.files.last_mut().unwrap().1.extend(bytes);
        Ok(())
    }
}

/// Three files, one of them empty, one of several pieces.
fn files() -> Vec<(String, Vec<u8>)> {
    let large = (0..600_000_u32).map(|n| (n % 251) as u8).collect();
    vec![("a".into(), vec![1, 2, 3]), ("b/c".into(), Vec::new()), ("d".into(), large)]
}

fn with_files(changes: i64) -> Vec<u8> {
    let mut files = files().into_iter().map(|(name, content)| {
        let content: Box<dyn io::Read> = Box::new(io::Cursor::new(content));
        Ok((name, content))
    });
    let beside = Beside { note: b"a note", sealed: b"sealed", files: &mut files };
    let (store, mut file) = (filled(MemoryEngine::default(), changes), Vec::new());
    let written = backup::write_with(store.view(), beside, &mut file, quiet).unwrap();
    assert_eq!(written.files, 3);
    file
}

#[test]
fn what_is_beside_the_database_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (file, target, mut seen) = (with_files(50), folder.path().join("data"), Seen::default());
    let restored =
        backup::restore(file.as_slice(), &mut seen, &target, CACHE, epoch(NEW), quiet).unwrap();
    assert_eq!(restored.files, 3);
    assert_eq!((seen.note.as_slice(), seen.sealed.as_slice()), (&b"a note"[..], &b"sealed"[..]));
    assert!(seen.files == files());
}

#[test]
fn damage_is_named_by_its_place() {
    let file = with_files(2_000);
    for at in (24..file.len()).step_by(file.len() / 200) {
        let mut changed = file.clone();
        changed[at] ^= 1;
        let begin = match backup::inspect(changed.as_slice(), quiet) {
            Err(BackupError::Damaged { at, .. } | BackupError::Truncated { at }) => at,
            other => panic!("byte {at}: {other:?}"),
        };
        let begin = usize::try_from(begin).unwrap();
        assert!(begin <= at && at - begin < 400_000, "byte {at} is said to be behind {begin}");
    }
    for length in (24..file.len()).step_by(file.len() / 200) {
        let cut = backup::inspect(&file[..length], quiet);
        let Err(BackupError::Truncated { at }) = cut else { panic!("{length}: {cut:?}") };
        assert!(usize::try_from(at).unwrap() <= length);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_changed_byte_goes_unnoticed(at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let mut file = Vec::new();
        backup::write(filled(MemoryEngine::default(), 5).view(), &mut file, quiet).unwrap();
        let at = at.index(file.len());
        file[at] ^= flip;
        prop_assert!(backup::inspect(file.as_slice(), quiet).is_err());
    }

    #[test]
    fn nothing_makes_the_reader_panic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        for format in [1, 2] {
            let mut file = b"entente backup\r\n\0\0\0".to_vec();
            file.extend([format, 0, 0, 0, 1]);
            file.extend(&tail);
            prop_assert!(backup::inspect(file.as_slice(), quiet).is_err());
        }
    }
}

/// A slow disk: between its writes others commit.
struct Slow<'a> {
    file: Vec<u8>,
    between: &'a mut dyn FnMut(),
}

impl Write for Slow<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.between)();
        let taken = bytes.get(..64 << 10).unwrap_or(bytes);
        self.file.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_backup_is_one_moment_and_commits_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let sled = DiskEngine::open(folder.path(), CACHE).unwrap();
    let engines: [Box<dyn Engine>; 2] = [Box::new(MemoryEngine::default()), Box::new(sled)];
    for engine in engines {
        let store = filled(Arc::<dyn Engine>::from(engine), 3_000);
        let view = store.view();
        let mut next = 3_000;
        let mut between = || {
            // Would wait for ever if the backup held up commits.
            for _ in 0..20 {
                let n = next;
                store.transact_blocking(move |tx| change(tx, n)).unwrap();
                next += 1;
            }
        };
        let mut out = Slow { file: Vec::new(), between: &mut between };
        backup::write(view, &mut out, quiet).unwrap();
        let file = out.file;
        assert!(next > 3_300, "few writes: the case tests little");
        let copy = MemoryEngine::default();
        backup::read(file.as_slice(), &copy, epoch(NEW), quiet).unwrap();
        assert_eq!(must_be_in_step(&open(copy)), 3_000);
        assert_eq!(must_be_in_step(&store), next);
    }
}

#[test]
fn backups_among_many_writers_are_consistent() {
    let folder = tempfile::tempdir().unwrap();
    let sled = DiskEngine::open(folder.path(), CACHE).unwrap();
    let engines: [Box<dyn Engine>; 2] = [Box::new(MemoryEngine::default()), Box::new(sled)];
    for engine in engines {
        let store = filled(Arc::<dyn Engine>::from(engine), 100);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for writer in 0..4_i64 {
                let (store, done) = (&store, &done);
                scope.spawn(move || {
                    let mut n = 1_000 * (writer + 1);
                    while !done.load(SeqCst) {
                        store.transact_blocking(move |tx| change(tx, n)).unwrap();
                        n += 1;
                    }
                });
            }
            let mut last = 0;
            for _ in 0..8 {
                let mut file = Vec::new();
                backup::write(store.view(), &mut file, quiet).unwrap();
                let copy = MemoryEngine::default();
                backup::read(file.as_slice(), &copy, epoch(NEW), quiet).unwrap();
                let copy = open(copy);
                let moment = must_be_in_step(&copy);
                assert!(moment >= last);
                last = moment;
                let newest = message_log::newest(&copy.view(), "x").unwrap();
                assert!(newest.0 > 0);
            }
            done.store(true, SeqCst);
        });
        must_be_in_step(&store);
    }
}
