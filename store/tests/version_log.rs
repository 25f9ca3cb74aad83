//! The logs that incremental synchronisation reads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use store::engine::MemoryEngine;
use store::version_log::{Change, Changed, List, SORT_ELEMENT, changes_since, version};
use store::{Options, Store, StoreError, schema};

fn step(store: &Store, list: List, owner: &str, elements: &[(&str, Change)]) -> u64 {
    let owner = owner.to_owned();
    let elements: Vec<(String, Change)> =
        elements.iter().map(|(element, change)| ((*element).to_owned(), *change)).collect();
    store
        .transact_blocking(move |tx| {
            tx.step(list, &owner, elements.iter().map(|(name, change)| (name.as_str(), *change)))
        })
        .unwrap()
}

fn changed(element: &str, change: Change, version: u64) -> Changed {
    Changed { element: element.into(), change, version }
}

#[test]
fn a_log_tells_the_newest_change_of_each_element() {
    let store = support::open(&Arc::new(MemoryEngine::default()));
    let friends = List::Friends;
    assert_eq!(version(&store.view(), friends, "alice").unwrap().version, 1);
    assert_eq!(changes_since(&store.view(), friends, "alice", 1, 10).unwrap(), Some(vec![]));

    let both = [("bob", Change::Insert), ("carol", Change::Insert)];
    assert_eq!(step(&store, friends, "alice", &both), 2);
    assert_eq!(step(&store, friends, "alice", &[("bob", Change::Update)]), 3);
    assert_eq!(step(&store, friends, "alice", &[("carol", Change::Delete)]), 4);
    let order = [("dave", Change::Insert), (SORT_ELEMENT, Change::Update)];
    assert_eq!(step(&store, friends, "alice", &order), 5);

    let view = store.view();
    let since = |after, limit| changes_since(&view, friends, "alice", after, limit).unwrap();
    let all = vec![
        changed("bob", Change::Update, 3),
        changed("carol", Change::Delete, 4),
        changed("dave", Change::Insert, 5),
        changed(SORT_ELEMENT, Change::Update, 5),
    ];
    assert_eq!(since(0, 10), Some(all.clone()));
    assert_eq!(since(1, 4), Some(all.clone()));
    assert_eq!(since(3, 10), Some(all[1..].to_vec()));
    assert_eq!(since(5, 10), Some(vec![]));
    assert_eq!(since(u64::MAX, 10), Some(vec![]));
    assert_eq!(version(&view, friends, "alice").unwrap().version, 5);
    // More than the limit is not told in part.
    assert_eq!(since(1, 3), None);
    assert_eq!(since(4, 2), Some(all[2..].to_vec()));
    assert_eq!(since(4, 1), None);
    assert_eq!(since(5, 0), Some(vec![]));
}

#[test]
fn an_element_twice_in_a_step_counts_once() {
    let store = support::open(&Arc::new(MemoryEngine::default()));
    let twice = [("bob", Change::Delete), ("carol", Change::Update), ("bob", Change::Insert)];
    step(&store, List::Members, "group", &twice);
    let told = changes_since(&store.view(), List::Members, "group", 1, 10).unwrap();
    let expected = [changed("carol", Change::Update, 2), changed("bob", Change::Insert, 2)];
    assert_eq!(told.unwrap(), expected);
}

#[test]
fn logs_do_not_mix() {
    let store = support::open(&Arc::new(MemoryEngine::default()));
    step(&store, List::Friends, "a", &[("x", Change::Insert)]);
    step(&store, List::Friends, "ab", &[("y", Change::Insert)]);
    step(&store, List::Blacks, "a", &[("", Change::Update)]);
    let view = store.view();
    let told = |list, owner| changes_since(&view, list, owner, 0, 10).unwrap().unwrap();
    assert_eq!(told(List::Friends, "a"), [changed("x", Change::Insert, 2)]);
    assert_eq!(told(List::Friends, "ab"), [changed("y", Change::Insert, 2)]);
    assert_eq!(told(List::Blacks, "a"), [changed("", Change::Update, 2)]);
    assert_eq!(told(List::Members, "a"), []);
    let ids: Vec<String> = [
        (List::Friends, "a"),
        (List::Friends, "ab"),
        (List::Blacks, "a"),
        (List::JoinedGroups, "never written"),
    ]
    .map(|(list, owner)| version(&view, list, owner).unwrap().id)
    .to_vec();
    for (at, id) in ids.iter().enumerate() {
        assert_eq!(id.len(), 24);
        assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()));
        assert!(!ids[..at].contains(id));
    }
}

#[test]
fn ids_follow_the_salt() {
    let id = |salt| {
        let options = Options { salt, ..Options::default() };
        let store = Store::open(Box::new(MemoryEngine::default()), options).unwrap();
        step(&store, List::Friends, "alice", &[("bob", Change::Insert)]);
        version(&store.view(), List::Friends, "alice").unwrap().id
    };
    assert_eq!(id([1; 16]), id([1; 16]));
    assert_ne!(id([1; 16]), id([2; 16]));
}

#[test]
fn an_unknown_change_is_damage() {
    let store = support::open(&Arc::new(MemoryEngine::default()));
    let entry = store::record::LogChange { element: "bob".into(), change: 9 };
    store
        .transact_blocking(move |tx| {
            schema::VERSION_CHANGES.put(tx, (List::Friends as u8, "alice", 2, 0), &entry);
            Ok::<_, StoreError>(())
        })
        .unwrap();
    let told = changes_since(&store.view(), List::Friends, "alice", 0, 10);
    assert!(matches!(told, Err(StoreError::Damaged { table: "VERSION_CHANGES", .. })));
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![Just(Change::Insert), Just(Change::Delete), Just(Change::Update)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_client_that_applies_the_changes_has_the_list(
        steps in vec(vec(("[a-e]", change()), 0..4), 1..20), after in 1..20_u64,
    ) {
        let store = support::open(&Arc::new(MemoryEngine::default()));
        let mut newest: BTreeMap<String, (u64, Change)> = BTreeMap::new();
        for (elements, number) in steps.iter().zip(2..) {
            let elements: Vec<(&str, Change)> =
                elements.iter().map(|(name, change)| (name.as_str(), *change)).collect();
            prop_assert_eq!(step(&store, List::Friends, "alice", &elements), number);
            newest.extend(elements.iter().map(|(e, c)| ((*e).to_owned(), (number, *c))));
        }
        let told = changes_since(&store.view(), List::Friends, "alice", after, 100).unwrap();
        let told: BTreeMap<String, (u64, Change)> =
            told.unwrap().into_iter().map(|c| (c.element, (c.version, c.change))).collect();
        newest.retain(|_, (version, _)| *version > after);
        prop_assert_eq!(told, newest);
    }
}
