//! Random transactions, compared with a plain map.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use store::engine::{DiskEngine, Engine, MemoryEngine};
use store::record::Number;
use store::{Direction, Options, Read, Store, StoreError, schema};

type Key = (String, u64);
type Model = BTreeMap<Key, i64>;

#[derive(Debug, Clone)]
enum Op {
    Put(Key, i64),
    Delete(Key),
}

fn key() -> impl Strategy<Value = Key> {
    ("[\u{0}\u{1}ab]{0,2}", 0..4_u64)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (key(), any::<i64>()).prop_map(|(key, value)| Op::Put(key, value)),
        1 => key().prop_map(Op::Delete),
    ]
}

/// Operations of a transaction and whether it is refused at its end.
fn transactions() -> impl Strategy<Value = Vec<(Vec<Op>, bool)>> {
    vec((vec(op(), 0..12), prop::bool::weighted(0.25)), 1..12)
}

/// Rows of a table, whose keys are rendered with [`name`].
fn read(from: &impl Read, range: Option<(&Key, &Key)>, direction: Direction) -> Vec<(Key, i64)> {
    let table = &schema::SEND_STATUS;
    let row = |row: Result<(String, Number), StoreError>| {
        let (text, number) = row.unwrap();
        let (text, at) = text.rsplit_once('/').unwrap();
        ((text.to_owned(), at.parse().unwrap()), number.value)
    };
    match (range, direction) {
        (None, Direction::Ascending) => table.scan(from, ()).map(row).collect(),
        (None, Direction::Descending) => table.scan_back(from, ()).map(row).collect(),
        (Some((first, last)), _) => {
            let (first, last) = (name(first), name(last));
            table.range(from, first.as_str(), last.as_str(), direction).map(row).collect()
        }
    }
}

fn name((text, number): &Key) -> String {
    format!("{text}/{number}")
}

fn compare(from: &impl Read, model: &Model, first: &Key, last: &Key) {
    // The order of the rendered keys is the order of the table.
    let by_name: BTreeMap<String, (Key, i64)> =
        model.iter().map(|(key, value)| (name(key), (key.clone(), *value))).collect();
    let mut all: Vec<(Key, i64)> = by_name.values().cloned().collect();
    let mut some: Vec<(Key, i64)> = by_name
        .iter()
        .filter(|(at, _)| **at >= name(first) && **at <= name(last))
        .map(|(_, row)| row.clone())
        .collect();
    assert_eq!(read(from, None, Direction::Ascending), all);
    assert_eq!(read(from, Some((first, last)), Direction::Ascending), some);
    all.reverse();
    some.reverse();
    assert_eq!(read(from, None, Direction::Descending), all);
    assert_eq!(read(from, Some((first, last)), Direction::Descending), some);
    for at in [first, last] {
        let found = schema::SEND_STATUS.get(from, &name(at)).unwrap();
        assert_eq!(found.map(|number| number.value), model.get(at).copied());
    }
}

fn run(engine: impl Engine, transactions: &[(Vec<Op>, bool)], first: &Key, last: &Key) {
    let store = Store::open(Box::new(engine), Options::default()).unwrap();
    let mut model = Model::new();
    let mut history = Vec::new();
    for (ops, refuse) in transactions {
        history.push((store.view(), model.clone()));
        let mut after = model.clone();
        for op in ops {
            match op {
                Op::Put(key, value) => after.insert(key.clone(), *value),
                Op::Delete(key) => after.remove(key),
            };
        }
        let (ops, refuse) = (ops.clone(), *refuse);
        let (expected, first, last) = (after.clone(), first.clone(), last.clone());
        let outcome = store.transact_blocking(move |tx| {
            for op in &ops {
                match op {
                    Op::Put(key, value) => {
                        schema::SEND_STATUS.put(tx, &name(key), &Number { value: *value });
                    }
                    Op::Delete(key) => schema::SEND_STATUS.delete(tx, &name(key)),
                }
            }
            compare(tx, &expected, &first, &last);
            if refuse { Err(StoreError::Closed) } else { Ok(()) }
        });
        match outcome {
            Ok(()) if !refuse => model = after,
            Err(StoreError::Closed) if refuse => {}
            other => panic!("{other:?}"),
        }
    }
    history.push((store.view(), model));
    // Every earlier state can still be read from the view that was taken of it.
    for (view, model) in &history {
        compare(view, model, first, last);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn memory_agrees_with_a_map(
        transactions in transactions(), first in key(), last in key(),
    ) {
        run(MemoryEngine::default(), &transactions, &first, &last);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sled_agrees_with_a_map(
        transactions in transactions(), first in key(), last in key(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let engine = DiskEngine::open(folder.path(), 16 << 20).unwrap();
        run(engine, &transactions, &first, &last);
    }
}
