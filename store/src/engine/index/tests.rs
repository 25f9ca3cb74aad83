use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

const CACHE: u64 = 16 << 20;
const SEGMENT: u32 = 64 << 10;
const TAG: u8 = crate::schema::MESSAGES.tag();

fn open(folder: &Path) -> Index {
    let index = Index::open_with(folder, &folder.join("values"), CACHE, SEGMENT).unwrap();
    index.begin().unwrap();
    index.check().unwrap();
    index
}

fn key(number: u64, seq: u64) -> Vec<u8> {
    let mut key = vec![TAG];
    key.extend(number.to_be_bytes());
    key.extend(seq.to_be_bytes());
    key
}

fn value(number: u64, seq: u64) -> Bytes {
    let length = 200 + usize::try_from(seq * 37 % 900).unwrap();
    let byte = (number * 31 + seq).to_le_bytes()[0];
    Bytes::from(vec![byte; length])
}

fn apply(engine: &Index, changes: impl IntoIterator<Item = (Vec<u8>, Option<Bytes>)>) {
    engine.write(&changes.into_iter().collect(), None).unwrap();
    engine.compact(false, 0).unwrap();
    engine.retire().unwrap();
}

fn fill(engine: &Index, seqs: std::ops::Range<u64>) {
    for seq in seqs {
        apply(engine, (1..4).map(|number| (key(number, seq), Some(value(number, seq)))));
    }
}

fn all(engine: &Index) -> Vec<(Bytes, Bytes)> {
    let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    engine.scan(all, Direction::Ascending).map(Result::unwrap).collect()
}

fn expected(seqs: impl Fn(u64) -> bool) -> Vec<(Bytes, Bytes)> {
    let rows = (1..4).flat_map(|number| (1..400).map(move |seq| (number, seq)));
    let rows = rows.filter(|(_, seq)| seqs(*seq));
    rows.map(|(number, seq)| (key(number, seq).into(), value(number, seq))).collect()
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder.join("values")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn bytes(folder: &Path) -> u64 {
    segments(folder).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

#[test]
fn where_space_is_short_the_segment_that_is_written_is_given_back_too() {
    let folder = tempfile::tempdir().unwrap();
    let values = folder.path().join("values");
    let engine = Index::open_with(folder.path(), &values, CACHE, SEGMENT_BYTES).unwrap();
    engine.begin().unwrap();
    engine.prepare(true, 1 << 20).unwrap();
    assert!(engine.prepared() >= 1 << 20);
    let size = || fs::metadata(folder.path().join("db")).unwrap().len();
    let before = size();
    let rows = |seqs: std::ops::Range<u64>, deleted: bool| {
        let keys = seqs.flat_map(|seq| (1..4).map(move |number| (number, seq)));
        keys.map(move |(number, seq)| (key(number, seq), (!deleted).then(|| value(number, seq))))
            .collect::<Batch>()
    };
    engine.write(&rows(1..400, false), None).unwrap();
    assert_eq!(segments(folder.path()).len(), 1);
    let full = bytes(folder.path());
    // Without room to move what is needed, nothing is done.
    engine.write(&rows(1..360, true), None).unwrap();
    assert!(!engine.compact(true, full / 100).unwrap());
    while engine.compact(true, full).unwrap() {}
    assert!(engine.has_done());
    engine.retire().unwrap();
    let left = bytes(folder.path());
    assert!(left < full / 5, "{left} of {full} bytes are left");
    let kept = expected(|seq| seq >= 360);
    assert_eq!(all(&engine), kept);
    drop(engine);
    let engine = open(folder.path());
    assert_eq!(all(&engine), kept);
    // With nothing left to move, the log ends in a segment that is not there yet.
    engine.write(&rows(1..400, false), None).unwrap();
    engine.write(&rows(1..400, true), None).unwrap();
    while engine.compact(true, full).unwrap() {}
    engine.retire().unwrap();
    drop(engine);
    let engine = open(folder.path());
    assert_eq!(all(&engine), []);
    engine.write(&rows(1..3, false), None).unwrap();
    assert_eq!(all(&engine), expected(|seq| seq < 3));
    assert!(size() >= before);
}

#[test]
fn the_space_of_what_was_deleted_is_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    fill(&engine, 1..400);
    let long = Bytes::from(vec![7; 20_000]);
    apply(&engine, [(b"long".to_vec(), Some(long.clone()))]);
    let full = bytes(folder.path());
    let first = segments(folder.path())[0].clone();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // Of what is not deleted, a reader misses nothing while it is moved.
        let reader = scope.spawn(|| {
            let kept = expected(|seq| seq % 10 == 0);
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                let found = all(&engine);
                assert!(kept.iter().all(|pair| found.contains(pair)));
                rounds += 1;
            }
            rounds
        });
        for seq in (1..400).filter(|seq| seq % 10 != 0) {
            apply(&engine, (1..4).map(|number| (key(number, seq), None)));
        }
        // With every batch a little is done.
        for at in 0..200_u32 {
            apply(&engine, [(b"other".to_vec(), Some(Bytes::from(vec![at.to_le_bytes()[0]])))]);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    let left = bytes(folder.path());
    assert!(left < full / 4, "{left} of {full} bytes are left");
    assert!(!first.exists());
    let kept = expected(|seq| seq % 10 == 0);
    let check = |engine: &Index| {
        let mut found = all(engine);
        let named = found.split_off(kept.len());
        assert_eq!(found, kept);
        assert_eq!(named[0], (Bytes::from("long"), long.clone()));
        assert_eq!(named.len(), 2);
    };
    check(&engine);
    drop(engine);
    let engine = open(folder.path());
    check(&engine);
    assert!(bytes(folder.path()) <= left);
    fill(&engine, 400..410);
    assert_eq!(all(&engine).len(), kept.len() + 32);
}

#[test]
fn overwriting_one_value_does_not_fill_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    for round in 0..500_u32 {
        let long = Bytes::from(vec![round.to_le_bytes()[0]; 10_000]);
        apply(&engine, [(b"long".to_vec(), Some(long.clone())), (key(1, 1), Some(long))]);
    }
    let left = bytes(folder.path());
    assert!(left < 6 * u64::from(SEGMENT), "{left} bytes are left");
    assert_eq!(all(&engine).len(), 2);
}

#[test]
fn what_was_never_acknowledged_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    fill(&engine, 1..400);
    drop(engine);
    let last = segments(folder.path()).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    fs::write(&last, [whole.as_slice(), b"half a record"].concat()).unwrap();
    let beyond = folder.path().join("values/000fffff");
    fs::write(&beyond, b"a segment that was just begun").unwrap();
    let engine = open(folder.path());
    assert_eq!(fs::read(&last).unwrap(), whole);
    assert!(!beyond.exists());
    assert!(all(&engine) == expected(|_| true));
    fill(&engine, 400..500);
    assert_eq!(all(&engine).len(), 3 * 499);
}

#[test]
fn damage_is_an_error_and_not_a_wrong_value() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    fill(&engine, 1..400);
    drop(engine);
    let first = segments(folder.path())[0].clone();
    let whole = fs::read(&first).unwrap();
    let keys: Vec<Vec<u8>> = (1..30).map(|seq| key(1, seq)).collect();
    for at in (0..5_000).step_by(97) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&first, &bytes).unwrap();
        let engine = open(folder.path());
        let wrong = keys.iter().zip(1..).filter(|(key, seq)| match engine.get(key) {
            Ok(found) => {
                assert_eq!(found, Some(value(1, *seq)));
                false
            }
            Err(_) => true,
        });
        assert!(wrong.count() <= 1, "one byte damages one value");
    }
    fs::remove_file(&first).unwrap();
    let engine = open(folder.path());
    assert!(engine.get(&key(1, 1)).is_err());
    assert_eq!(engine.get(&key(1, 399)).unwrap(), Some(value(1, 399)));
    // What cannot be read is not taken for unneeded.
    for seq in 1..390 {
        apply(&engine, [(key(2, seq), None), (key(3, seq), None)]);
    }
    assert_eq!(engine.get(&key(1, 399)).unwrap(), Some(value(1, 399)));
}

#[test]
fn keys_that_no_table_has_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let engine = open(folder.path());
    for key in [vec![TAG], vec![TAG; 16], vec![TAG; 18], vec![0xFF], vec![0xFF, b'e']] {
        let batch = [(key.clone(), Some(Bytes::new()))].into_iter().collect();
        assert!(engine.write(&batch, None).is_err());
        assert_eq!(engine.get(&key).unwrap(), None);
    }
    assert!(all(&engine).is_empty());
}
