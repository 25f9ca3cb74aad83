//! The journal shipped behind a backup: restoring to a moment, going on after an end, and what is
//! missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use store::backup::{
    self, Behind, End, NewEpoch, NewFile, Nothing, Reached, ShipError, Shipper, journal_beside,
    rehearse,
};
use store::engine::{DiskEngine, DiskOptions, Position};
use store::record::UserCommand;
use store::{Options, Store, StoreError, schema};

const NEW: NewEpoch = NewEpoch { salt: [2; 16], skip: 100 };
const CACHE: u64 = 8 << 20;

fn open(folder: &Path) -> Store {
    // Checkpoints come often, so that the journal is written anew soon.
    let options = DiskOptions { cache_bytes: CACHE, checkpoint_bytes: 64 << 10 };
    let engine = DiskEngine::open_with(folder, options).unwrap();
    Store::open(Box::new(engine), Options { reserve_bytes: 0, ..Options::default() }).unwrap()
}

/// Puts row `n`, of so many bytes.
fn put(store: &Store, n: u64, bytes: usize) {
    let value = UserCommand { value: "x".repeat(bytes), ..UserCommand::default() };
    let put = store.transact_blocking(move |tx| {
        schema::USER_COMMANDS.put(tx, ("ada", 1, n), &value);
        Ok::<_, StoreError>(())
    });
    put.unwrap();
}

fn rows(store: &Store) -> Vec<u64> {
    let view = store.view();
    let rows = schema::USER_COMMANDS.scan(&view, ());
    rows.map(|row| row.unwrap().0.2).collect()
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A folder with data, a backup of it, and where its journal goes.
struct Case {
    folder: tempfile::TempDir,
    position: Position,
}

impl Case {
    /// With rows 0 to 9 in the backup.
    fn new() -> (Self, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("data"));
        (0..10).for_each(|n| put(&store, n, 10));
        let mut file = NewFile::create(&folder.path().join("a.backup"), false).unwrap();
        let written = backup::write(store.view(), &mut file, |_| {}).unwrap();
        file.keep().unwrap();
        (Self { folder, position: written.position.unwrap() }, store)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn backup(&self) -> PathBuf {
        self.folder.path().join("a.backup")
    }

    fn journal(&self) -> PathBuf {
        journal_beside(&self.backup())
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.journal()).unwrap();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    fn begin(&self, store: &Store) -> Shipper {
        let mut shipper = Shipper::new(store.clone());
        shipper.begin(&self.journal(), self.position).unwrap();
        shipper
    }

    /// The rows that a restore brings, and how far it came.
    fn restored(&self, until_ms: Option<i64>) -> (Vec<u64>, Reached) {
        let target = self.folder.path().join("restored");
        let folder = self.journal();
        let behind = Some(Behind { folder: &folder, until_ms });
        let input = File::open(self.backup()).unwrap();
        let restored =
            backup::restore_with(input, &mut Nothing, behind, &target, CACHE, NEW, |_| {});
        let (summary, reached) = restored.unwrap();
        assert_eq!(summary.epoch, 2);
        let store = open(&target);
        let rows = rows(&store);
        let report = store::verify::verify(&store.strict_view(), |_| {}).unwrap();
        assert!(report.is_clean(), "{:?}", report.findings);
        store.close();
        fs::remove_dir_all(target).unwrap();
        (rows, reached.unwrap())
    }
}

fn shipped(shipper: &mut Shipper) {
    for (folder, outcome) in shipper.ship() {
        outcome.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    }
}

fn upto(last: u64) -> Vec<u64> {
    (0..last).collect()
}

#[test]
fn a_restore_goes_to_any_moment() {
    let (case, store) = Case::new();
    let mut shipper = case.begin(&store);
    let mut moments = Vec::new();
    for n in 10..40 {
        put(&store, n, 10);
        // A moment is the last millisecond before the next commit.
        moments.push((now_ms(), n + 1));
        thread::sleep(Duration::from_millis(3));
        if n % 7 == 0 {
            shipped(&mut shipper);
        }
    }
    shipped(&mut shipper);
    assert_eq!(shipper.ship().len(), 1, "nothing is shipped twice");
    for (at, expected) in moments.iter().copied().step_by(4) {
        let (rows, reached) = case.restored(Some(at));
        assert_eq!(rows, upto(expected), "until {at}");
        assert!(reached.last_ms.unwrap() <= at);
        assert_eq!(reached.end, if expected == 40 { End::Journal } else { End::Time });
    }
    let (rows, reached) = case.restored(None);
    assert_eq!((rows, reached.commits, reached.end), (upto(40), 30, End::Journal));
    assert_eq!(reached.last_ms, backup::reaches_ms(&case.journal()).unwrap());
    assert_eq!(reached.last_ms, shipper.reaches_ms(&case.journal()));
    let (rows, reached) = case.restored(Some(0));
    assert_eq!((rows, reached.commits, reached.last_ms), (upto(10), 0, None));
    drop(shipper);
    store.close();
}

#[test]
fn shipping_goes_on_after_a_stop_and_after_a_kill() {
    let (case, mut store) = Case::new();
    shipped(&mut case.begin(&store));
    for start in 0..6_u64 {
        let first = 10 + start * 30;
        (first..first + 20).for_each(|n| put(&store, n, 2_000));
        let mut shipper = Shipper::new(store.clone());
        assert_eq!(shipper.go_on(&case.journal(), case.position).unwrap(), Ok(()));
        shipped(&mut shipper);
        (first + 20..first + 30).for_each(|n| put(&store, n, 2_000));
        drop(shipper);
        store.close();
        if start % 2 == 0 {
            // As one that was killed in the middle of a write leaves it.
            let last = case.files().pop().unwrap();
            let bytes = fs::read(&last).unwrap();
            fs::write(&last, &bytes[..bytes.len() - 700]).unwrap();
        }
        store = open(&case.data());
    }
    let mut shipper = Shipper::new(store.clone());
    assert_eq!(shipper.go_on(&case.journal(), case.position).unwrap(), Ok(()));
    shipped(&mut shipper);
    assert_eq!(case.restored(None).0, upto(190));
    drop(shipper);
    store.close();
}

#[test]
fn who_is_a_little_behind_misses_nothing_and_who_is_far_behind_is_told() {
    let (case, store) = Case::new();
    let mut shipper = case.begin(&store);
    // 30 MiB: more than what is kept where nobody follows.
    let mut n = 10;
    let mut write = |mebibytes: u64| {
        for _ in 0..mebibytes * 20 {
            put(&store, n, 52_000);
            n += 1;
        }
        n
    };
    let last = write(30);
    shipped(&mut shipper);
    assert_eq!(case.restored(None).0, upto(last));
    // Far more than is kept for anybody.
    write(90);
    let outcomes = shipper.ship();
    assert!(matches!(outcomes.as_slice(), [(_, Err(ShipError::Gap))]), "{outcomes:?}");
    assert!(shipper.ship().is_empty(), "it is told once");
    // Where nothing was told of it, the next start finds it.
    let mut again = Shipper::new(store.clone());
    assert!(again.go_on(&case.journal(), case.position).unwrap().is_err());
    assert_eq!(case.restored(None).0, upto(last), "what was shipped is good");
    drop((shipper, again));
    store.close();
    let journal = fs::read_dir(case.data().join("journal")).unwrap();
    assert!(journal.count() < 24, "the journal stays small");
}

#[test]
fn a_folder_that_cannot_be_written_is_tried_again() {
    let (case, store) = Case::new();
    let mut shipper = case.begin(&store);
    // Where the first file would be is a folder.
    let in_the_way = case.journal().join(format!("{:016x}", case.position.batch + 1));
    fs::create_dir(&in_the_way).unwrap();
    for n in 10..13 {
        put(&store, n, 10);
        let outcomes = shipper.ship();
        assert!(matches!(outcomes.as_slice(), [(_, Err(ShipError::Io(_)))]), "{outcomes:?}");
    }
    assert_eq!(rows(&store), upto(13), "commits go on");
    fs::remove_dir(&in_the_way).unwrap();
    shipped(&mut shipper);
    assert_eq!(case.restored(None).0, upto(13));

    // What was shipped is gone: nothing can follow it.
    fs::remove_file(case.files().pop().unwrap()).unwrap();
    put(&store, 13, 10);
    let outcomes = shipper.ship();
    assert!(matches!(outcomes.as_slice(), [(_, Err(ShipError::Gap))]), "{outcomes:?}");
    drop(shipper);
    store.close();
}

#[test]
fn another_history_is_not_gone_on_with() {
    let (case, store) = Case::new();
    let copy = case.folder.path().join("copy");
    store.close();
    fs::create_dir(&copy).unwrap();
    let copied = std::process::Command::new("cp")
        .args(["-a", &format!("{}/.", case.data().display()), &copy.display().to_string()])
        .status();
    assert!(copied.unwrap().success());

    let store = open(&case.data());
    let mut shipper = case.begin(&store);
    (10..14).for_each(|n| put(&store, n, 10));
    shipped(&mut shipper);
    drop(shipper);
    store.close();

    // The folder as it was before: it is behind, and then it has other batches under those numbers.
    let store = open(&copy);
    let mut shipper = Shipper::new(store.clone());
    let refused = |shipper: &mut Shipper| {
        shipper.go_on(&case.journal(), case.position).unwrap().expect_err("another history")
    };
    assert!(refused(&mut shipper).contains("older"));
    (110..120).for_each(|n| put(&store, n, 10));
    assert!(refused(&mut shipper).contains("does not go on"));
    drop(shipper);
    store.close();

    // Another database altogether.
    let other = open(&case.folder.path().join("other"));
    let mut shipper = Shipper::new(other.clone());
    assert!(refused(&mut shipper).contains("another database"));
    drop(shipper);
    other.close();
    assert_eq!(case.restored(None).0, upto(14));
}

/// Shipped files of some batches each, and the row behind each of them.
fn in_files(case: &Case, store: &Store) -> Vec<u64> {
    let mut last = Vec::new();
    let mut shipper = case.begin(store);
    let mut n = 10;
    while case.journal().exists() && last.len() < 3 {
        let files = case.files().len();
        put(store, n, 60_000);
        n += 1;
        shipped(&mut shipper);
        if case.files().len() > files {
            last.push(n - 1);
        }
    }
    last.remove(0);
    last
}

#[test]
fn a_hole_and_damage_end_a_restore_there() {
    let (case, store) = Case::new();
    let firsts = in_files(&case, &store);
    let all = rows(&store).len() as u64;
    store.close();
    assert_eq!(case.restored(None).0, upto(all));
    let files = case.files();
    assert_eq!(files.len(), 3);
    let whole: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let put_back = || {
        for (file, bytes) in files.iter().zip(&whole) {
            fs::write(file, bytes).unwrap();
        }
    };

    // A file is missing, or cut off in the middle of the journal, or exactly between two batches.
    fs::remove_file(&files[1]).unwrap();
    let (rows, reached) = case.restored(None);
    assert_eq!(rows, upto(firsts[0]));
    assert!(matches!(&reached.end, End::Broken { reason, .. } if reason.contains("are missing")));
    // The time wanted is before the hole.
    let before = {
        put_back();
        let some = reached.last_ms.unwrap();
        fs::remove_file(&files[1]).unwrap();
        some - 1
    };
    let (_, reached) = case.restored(Some(before));
    assert_eq!(reached.end, End::Time);
    put_back();
    for cut in [whole[0].len() - 9, whole[0].len() / 2, 50, 20] {
        fs::write(&files[0], &whole[0][..cut]).unwrap();
        let (rows, reached) = case.restored(None);
        assert!(rows.len() < usize::try_from(firsts[0]).unwrap());
        assert!(matches!(reached.end, End::Broken { .. }), "{reached:?}");
    }
    put_back();

    // Anything that is changed is noticed; only the end of the last file may be one that was never
    // written to its end.
    for (n, bytes) in whole.iter().enumerate() {
        let places = [0, 5, 12, 20, 30, 39, 40, 45, 50, 62, 70, bytes.len() / 2, bytes.len() - 1];
        for at in places {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            fs::write(&files[n], &damaged).unwrap();
            let (rows, reached) = case.restored(None);
            assert!((rows.len() as u64) < all, "file {n}, byte {at}");
            assert_eq!(rows, upto(rows.len() as u64));
            let End::Broken { file, .. } = &reached.end else {
                panic!("file {n}, byte {at}: {reached:?}")
            };
            assert_eq!(*file, files[n]);
        }
        put_back();
    }

    // Half a batch at the very end: nobody has said that it is there.
    for cut in [1, 9, 1_000] {
        fs::write(&files[2], &whole[2][..whole[2].len() - cut]).unwrap();
        let (rows, reached) = case.restored(None);
        assert_eq!((rows.len() as u64, reached.end), (all - 1, End::Journal));
    }
    put_back();
    assert_eq!(case.restored(None).0, upto(all));
}

#[test]
fn the_head_of_a_backup_says_where_it_was_taken() {
    let (case, store) = Case::new();
    store.close();
    let head = backup::head(File::open(case.backup()).unwrap()).unwrap();
    assert_eq!((head.format, head.position, head.note.len()), (2, Some(case.position), 0));
    assert!(backup::head(&b"something else"[..]).is_err());
    assert_eq!(journal_beside(Path::new("a/b.backup")), Path::new("a/b.journal"));
    assert_eq!(journal_beside(Path::new("a/b.x")), Path::new("a/b.x.journal"));
}

#[test]
fn a_rehearsal_says_what_a_restore_would_bring() {
    let (case, store) = Case::new();
    let mut shipper = case.begin(&store);
    (10..14).for_each(|n| put(&store, n, 10));
    shipped(&mut shipper);
    drop(shipper);
    store.close();
    let folder = case.journal();
    let tried = |name: &str| {
        let behind = Some(Behind { folder: &folder, until_ms: None });
        let input = File::open(case.backup()).unwrap();
        rehearse(input, behind, &case.folder.path().join(name), CACHE)
    };
    let found = tried("one").unwrap();
    assert!(found.report.is_clean());
    assert_eq!(found.report.records, 15, "14 rows and the meta record");
    assert_eq!(found.reached.map(|reached| reached.commits), Some(4));
    let mut bytes = fs::read(case.backup()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(case.backup(), bytes).unwrap();
    assert!(tried("two").is_err());
}
