//! What every engine promises, checked for each of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use store::Direction::{self, Ascending, Descending};
use store::engine::{Batch, DiskEngine, Engine, KeyRange, MAX_VALUE_BYTES, MemoryEngine};
use store::schema;

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
    assert!(engine.count().unwrap().is_none_or(|count| count == 1_000));
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

/// Neighbouring messages may lie together; that must not show.
fn messages_are_pairs_like_others(engine: &dyn Engine) {
    let message = |number: u64, seq: u64| {
        let tag = schema::MESSAGES.tag();
        [&[tag], number.to_be_bytes().as_slice(), seq.to_be_bytes().as_slice()].concat()
    };
    let others = [vec![schema::MESSAGES.tag() - 1, 7], vec![schema::MESSAGES.tag() + 1]];
    let mut model = BTreeMap::new();
    for round in 0..400_u64 {
        let mut changes = Batch::new();
        for n in 0..8 {
            let random = (round * 8 + n).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
            let key = match random % 50 {
                0 => others[usize::try_from(random / 50 % 2).unwrap()].clone(),
                _ => message(random / 50 % 3, random / 150 % 100),
            };
            let value = (!random.is_multiple_of(3)).then(|| Bytes::from(random.to_string()));
            changes.insert(key, value);
        }
        apply(engine, changes.clone());
        for (key, value) in changes {
            match value {
                Some(value) => model.insert(key, value),
                None => model.remove(&key),
            };
        }
        if round % 40 != 0 {
            continue;
        }
        let mut bounds = vec![Unbounded];
        let mut points = others.to_vec();
        points.extend([0, 31, 32, 33, 64, 99].map(|seq| message(1, seq)));
        points.extend([message(0, 0), message(2, u64::MAX), message(1, 32)[..9].to_vec()]);
        points.extend([message(1, 32)[..13].to_vec(), [message(1, 32), vec![0]].concat()]);
        for point in points {
            assert_eq!(engine.get(&point).unwrap(), model.get(&point).cloned());
            bounds.extend([Included(point.clone()), Excluded(point)]);
        }
        for from in &bounds {
            for to in &bounds {
                let range = (from.clone(), to.clone());
                let within = |key: &Vec<u8>| std::ops::RangeBounds::contains(&range, key);
                let mut expected: Vec<(Bytes, Bytes)> = model
                    .iter()
                    .filter(|(key, _)| within(key))
                    .map(|(key, value)| (key.clone().into(), value.clone()))
                    .collect();
                for direction in [Ascending, Descending] {
                    let found = engine.scan(range.clone(), direction);
                    let found: Vec<_> = found.map(Result::unwrap).collect();
                    assert!(found == expected, "{range:?} {direction:?}");
                    expected.reverse();
                }
            }
        }
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
                super::$test(&super::DiskEngine::open(folder.path(), 16 << 20).unwrap());
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
    messages_are_pairs_like_others,
);

#[test]
fn everything_synced_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = BTreeMap::new();
    for round in 0..4_u32 {
        let engine = DiskEngine::open(folder.path(), 16 << 20).unwrap();
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
