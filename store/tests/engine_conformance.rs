//! What every engine promises, checked for each of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use store::Direction::{self, Ascending, Descending};
use store::engine::{Batch, Engine, KeyRange, MAX_VALUE_BYTES, MemoryEngine, SledEngine};

fn key(number: u32) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn put(number: u32, value: &str) -> (Vec<u8>, Option<Bytes>) {
    (key(number), Some(Bytes::copy_from_slice(value.as_bytes())))
}

fn apply(engine: &dyn Engine, changes: impl IntoIterator<Item = (Vec<u8>, Option<Bytes>)>) {
    engine.apply(&changes.into_iter().collect::<Batch>()).expect("applies");
    engine.sync().expect("syncs");
}

fn scan(engine: &dyn Engine, range: KeyRange, direction: Direction) -> Vec<u32> {
    let number = |pair: Result<(Bytes, Bytes), _>| {
        let (key, _) = pair.expect("a pair");
        u32::from_be_bytes(key.as_ref().try_into().expect("four bytes"))
    };
    engine.scan(range, direction).map(number).collect()
}

fn values_are_read_overwritten_and_deleted(engine: &dyn Engine) {
    assert_eq!(engine.get(&key(1)).unwrap(), None);
    apply(engine, [put(1, "one"), put(2, "two"), (b"".to_vec(), Some(Bytes::new()))]);
    assert_eq!(engine.get(&key(1)).unwrap().as_deref(), Some(b"one".as_slice()));
    assert_eq!(engine.get(b"").unwrap(), Some(Bytes::new()));
    assert_eq!(engine.get(&key(1)[..3]).unwrap(), None);
    apply(engine, [put(1, "uno"), (key(2), None), (key(3), None)]);
    assert_eq!(engine.get(&key(1)).unwrap().as_deref(), Some(b"uno".as_slice()));
    assert_eq!(engine.get(&key(2)).unwrap(), None);
    apply(engine, [(b"".to_vec(), None)]);
    assert_eq!(scan(engine, (Unbounded, Unbounded), Ascending), [1]);
    apply(engine, []);
}

fn scans_respect_every_kind_of_bound(engine: &dyn Engine) {
    // More pairs than any engine fetches at once.
    let present: Vec<u32> = (0..1_000).map(|n| n * 2).collect();
    apply(engine, present.iter().map(|n| put(*n, "v")));
    let points = [0, 1, 2, 3, 250, 251, 1_997, 1_998, 1_999, 5_000];
    let mut bounds = vec![Unbounded];
    bounds.extend(points.iter().flat_map(|point| [Included(*point), Excluded(*point)]));
    let within = |n: u32, from: Bound<u32>, to: Bound<u32>| {
        let after = match from {
            Included(from) => n >= from,
            Excluded(from) => n > from,
            Unbounded => true,
        };
        after
            && match to {
                Included(to) => n <= to,
                Excluded(to) => n < to,
                Unbounded => true,
            }
    };
    for from in &bounds {
        for to in &bounds {
            let mut expected: Vec<u32> =
                present.iter().copied().filter(|n| within(*n, *from, *to)).collect();
            let range = (from.map(key), to.map(key));
            assert_eq!(scan(engine, range.clone(), Ascending), expected, "{from:?} {to:?}");
            expected.reverse();
            assert_eq!(scan(engine, range, Descending), expected, "{from:?} {to:?} back");
        }
    }
    // A key sorts before those that it is a prefix of.
    apply(engine, [(vec![0, 0, 0, 2, 0], Some(Bytes::new()))]);
    let range = (Excluded(key(2)), Excluded(key(4)));
    let found: Vec<Bytes> = engine.scan(range, Ascending).map(|pair| pair.unwrap().0).collect();
    assert_eq!(found, [vec![0, 0, 0, 2, 0]]);
}

fn scans_survive_writes(engine: &dyn Engine) {
    // So few stay that pages fill, split, empty and merge between them all the time.
    const APART: u32 = 40;
    let stable: Vec<u32> = (0..200).map(|n| n * APART).collect();
    apply(engine, stable.iter().map(|n| put(*n, "stable")));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut round = 0_u32;
            while !done.load(Ordering::Relaxed) {
                let first = (round / 2).wrapping_mul(977) % 7_000;
                let value = round.is_multiple_of(2).then(|| Bytes::from_static(b"passing"));
                let passing = (first..first + 900).filter(|n| !n.is_multiple_of(APART));
                apply(engine, passing.map(|n| (key(n), value.clone())));
                round += 1;
            }
        });
        for turn in 0..100 {
            let direction = if turn % 2 == 0 { Ascending } else { Descending };
            let mut seen = scan(engine, (Unbounded, Unbounded), direction);
            if direction == Descending {
                seen.reverse();
            }
            assert!(seen.is_sorted_by(|a, b| a < b), "in order, each key once");
            seen.retain(|n| n.is_multiple_of(APART));
            assert_eq!(seen, stable);
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn readers_see_whole_values(engine: &dyn Engine) {
    let value = |n: u8| Some(Bytes::from(vec![n; 1_000]));
    apply(engine, [(key(1), value(0))]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..200 {
                apply(engine, [(key(1), value(n))]);
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut last = 0;
        while !done.load(Ordering::Relaxed) {
            let value = engine.get(&key(1)).unwrap().expect("never absent");
            assert!(value.len() == 1_000 && value.iter().all(|byte| *byte == value[0]));
            assert!(value[0] >= last, "never goes back");
            last = value[0];
        }
    });
}

fn the_largest_values_are_kept(engine: &dyn Engine) {
    let value = |n: u32| Bytes::from(vec![n.to_le_bytes()[0]; MAX_VALUE_BYTES]);
    for n in 0..40 {
        apply(engine, [(key(n), Some(value(n)))]);
    }
    for n in 0..40 {
        assert_eq!(engine.get(&key(n)).unwrap(), Some(value(n)));
    }
}

macro_rules! conformance {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $test() { super::$test(&super::MemoryEngine::default()); })*
        }
        mod sled {
            $(#[test] fn $test() {
                let folder = tempfile::tempdir().unwrap();
                super::$test(&super::SledEngine::open(folder.path(), 16 << 20).unwrap());
            })*
        }
    };
}

conformance!(
    values_are_read_overwritten_and_deleted,
    scans_respect_every_kind_of_bound,
    scans_survive_writes,
    readers_see_whole_values,
    the_largest_values_are_kept,
);

#[test]
fn everything_synced_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = BTreeMap::new();
    for round in 0..4_u32 {
        let engine = SledEngine::open(folder.path(), 16 << 20).unwrap();
        let found: BTreeMap<Vec<u8>, Bytes> = engine
            .scan((Unbounded, Unbounded), Ascending)
            .map(|pair| pair.map(|(key, value)| (key.to_vec(), value)).unwrap())
            .collect();
        assert!(found == model, "round {round}");
        for batch in 0..20 {
            let mut changes = Batch::new();
            for n in 0..50 {
                let number = (batch * 50 + n) * 7 % (600 + round * 100);
                let value = ((number + round) % 3 != 0)
                    .then(|| Bytes::from(format!("{round} {batch}").repeat(1 + n as usize)));
                match &value {
                    Some(value) => model.insert(key(number), value.clone()),
                    None => model.remove(&key(number)),
                };
                changes.insert(key(number), value);
            }
            engine.apply(&changes).unwrap();
            engine.sync().unwrap();
        }
    }
}
