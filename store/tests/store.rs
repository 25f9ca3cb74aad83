//! Transactions, views and the committer.
#![allow(clippy::unit_arg, reason = "shorter closures")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use bytes::Bytes;
use parking_lot::Mutex;
use store::engine::{Batch, Engine, MAX_VALUE_BYTES, MemoryEngine};
use store::record::Meta;
use store::{Options, Store, StoreError, schema};
use support::{ScriptedEngine, add_one, count, open, set_count};
use tokio::task::yield_now;

/// An error of the caller, beside the store's.
#[derive(Debug)]
enum Refused {
    ByRule,
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

#[tokio::test]
async fn a_refused_transaction_leaves_nothing() {
    let store = open(&Arc::new(MemoryEngine::default()));
    let ran = Arc::new(AtomicUsize::new(0));
    let after = Arc::clone(&ran);
    store.transact(|tx| Ok::<_, Refused>(set_count(tx, "old", 1))).await.unwrap();
    let outcome = store
        .transact(move |tx| {
            set_count(tx, "new", 1);
            set_count(tx, "old", 2);
            set_count(tx, "old", 3);
            schema::COUNTERS.delete(tx, "old");
            assert_eq!(count(tx, "old"), 0);
            tx.after_commit(move || _ = after.fetch_add(1, SeqCst));
            Err::<(), _>(Refused::ByRule)
        })
        .await;
    assert!(matches!(outcome, Err(Refused::ByRule)));
    let view = store.view();
    assert_eq!((count(&view, "old"), count(&view, "new")), (1, 0));
    assert!(!schema::COUNTERS.contains(&view, "new").unwrap());
    assert_eq!(ran.load(SeqCst), 0);
}

#[tokio::test]
async fn a_group_shares_a_sync_and_each_transaction_stands_for_itself() {
    let engine = ScriptedEngine::new();
    let store = open(&engine);
    engine.hold_sync();
    let first = {
        let store = store.clone();
        tokio::spawn(async move { store.transact(|tx| Ok::<_, Refused>(add_one(tx, "n"))).await })
    };
    yield_now().await;
    engine.until_held();
    let syncs = engine.syncs.load(SeqCst);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    for n in 0..30_usize {
        let (store, order) = (store.clone(), Arc::clone(&order));
        waiting.push(tokio::spawn(async move {
            store
                .transact(move |tx| {
                    add_one(tx, "n");
                    let seen = count(tx, "n");
                    tx.after_commit(move || order.lock().push(n));
                    match n % 3 {
                        0 => Ok(seen),
                        1 => Err(Refused::ByRule),
                        _ => panic!("scripted"),
                    }
                })
                .await
        }));
    }
    yield_now().await;
    assert!(order.lock().is_empty());
    engine.release();
    first.await.unwrap().unwrap();
    for (n, task) in (0_usize..).zip(waiting) {
        match (n % 3, task.await.unwrap()) {
            // Sees those before it that were kept, and none of the others.
            (0, Ok(seen)) => assert_eq!(seen, i64::try_from(n / 3).unwrap() + 2),
            (1, Err(Refused::ByRule)) | (2, Err(Refused::Store(StoreError::Panicked))) => {}
            other => panic!("{n}: {other:?}"),
        }
    }
    assert_eq!(*order.lock(), (0..30).step_by(3).collect::<Vec<_>>());
    assert_eq!(count(&store.view(), "n"), 11);
    assert_eq!(engine.syncs.load(SeqCst), syncs + 1, "thirty transactions, one sync");
}

#[tokio::test]
async fn a_panic_costs_one_transaction() {
    let store = open(&Arc::new(MemoryEngine::default()));
    let outcome: Result<(), StoreError> = store
        .transact(|tx| {
            set_count(tx, "half", 1);
            panic!("scripted")
        })
        .await;
    assert!(matches!(outcome, Err(StoreError::Panicked)));
    store.transact(|tx| Ok::<_, StoreError>(set_count(tx, "whole", 1))).await.unwrap();
    assert_eq!((count(&store.view(), "half"), count(&store.view(), "whole")), (0, 1));
}

#[tokio::test]
async fn a_panic_after_the_commit_stops_nothing() {
    let store = open(&Arc::new(MemoryEngine::default()));
    let ran = Arc::new(AtomicUsize::new(0));
    let after = Arc::clone(&ran);
    store
        .transact(move |tx| {
            tx.after_commit(|| panic!("scripted"));
            tx.after_commit(move || _ = after.fetch_add(1, SeqCst));
            Ok::<_, StoreError>(set_count(tx, "n", 1))
        })
        .await
        .unwrap();
    assert_eq!((count(&store.view(), "n"), ran.load(SeqCst)), (1, 1));
    store.transact(|tx| Ok::<_, StoreError>(add_one(tx, "n"))).await.unwrap();
}

#[tokio::test]
async fn a_caller_that_goes_away_changes_nothing_for_the_others() {
    let store = open(&Arc::new(MemoryEngine::default()));
    let gone = {
        let store = store.clone();
        tokio::spawn(
            async move { store.transact(|tx| Ok::<_, StoreError>(add_one(tx, "n"))).await },
        )
    };
    yield_now().await;
    gone.abort();
    store.transact(|tx| Ok::<_, StoreError>(add_one(tx, "n"))).await.unwrap();
    assert_eq!(count(&store.view(), "n"), 2);
}

#[test]
fn views_show_only_what_is_durable() {
    let engine = ScriptedEngine::new();
    let store = open(&engine);
    store.transact_blocking(|tx| Ok::<_, StoreError>(set_count(tx, "n", 1))).unwrap();
    let before = store.view();
    engine.hold_sync();
    let other = store.clone();
    let writer = thread::spawn(move || {
        other.transact_blocking(|tx| {
            set_count(tx, "m", 2);
            Ok::<_, StoreError>(set_count(tx, "n", 2))
        })
    });
    engine.until_held();
    let during = store.view();
    engine.release();
    writer.join().unwrap().unwrap();
    for view in [&before, &during] {
        assert_eq!((count(view, "n"), count(view, "m")), (1, 0));
        assert_eq!(schema::COUNTERS.scan(view, ()).count(), 1);
        assert_eq!(schema::COUNTERS.scan_back(view, ()).count(), 1);
    }
    let after = store.view();
    assert_eq!((count(&after, "n"), count(&after, "m")), (2, 2));
}

#[test]
fn a_view_that_is_held_delays_nobody() {
    let store = open(&Arc::new(MemoryEngine::default()));
    let held = store.view();
    for _ in 0..100 {
        store.transact_blocking(|tx| Ok::<_, StoreError>(add_one(tx, "n"))).unwrap();
        assert_eq!(count(&held, "n"), 0);
    }
    assert_eq!(count(&store.view(), "n"), 100);
}

#[test]
fn a_full_disk_refuses_changes_until_there_is_room() {
    let engine = ScriptedEngine::new();
    let reserve = Options::default().reserve_bytes;
    let store = open(&engine);
    engine.available.store(reserve - 1, SeqCst);
    for _ in 0..3 {
        let ran = Arc::new(AtomicUsize::new(0));
        let inside = Arc::clone(&ran);
        let outcome = store.transact_blocking(move |tx| {
            inside.fetch_add(1, SeqCst);
            Ok::<_, StoreError>(add_one(tx, "n"))
        });
        let Err(StoreError::DiskFull { available, reserve: kept }) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!((available, kept), (reserve - 1, reserve));
        assert_eq!(ran.load(SeqCst), 0);
    }
    engine.available.store(reserve, SeqCst);
    store.transact_blocking(|tx| Ok::<_, StoreError>(add_one(tx, "n"))).unwrap();
    assert_eq!(count(&store.view(), "n"), 1);
}

#[tokio::test]
async fn what_makes_room_may_use_the_reserve_down_to_a_floor() {
    let engine = ScriptedEngine::new();
    let (reserve, floor) = (Options::default().reserve_bytes, Options::default().least_bytes());
    let store = open(&engine);
    let full = |outcome| matches!(outcome, Err(StoreError::DiskFull { .. }));
    engine.available.store(reserve - 1, SeqCst);
    store.transact_to_make_room(|tx| Ok::<_, StoreError>(add_one(tx, "n"))).await.unwrap();
    assert!(full(store.transact(|tx| Ok::<_, StoreError>(add_one(tx, "n"))).await));
    engine.available.store(floor, SeqCst);
    store.transact_to_make_room(|tx| Ok::<_, StoreError>(add_one(tx, "n"))).await.unwrap();
    // In one commit with one that is refused.
    engine.hold_sync();
    let first = store.transact_to_make_room(|tx| Ok::<_, StoreError>(add_one(tx, "n")));
    let both = async {
        let refused = store.transact(|tx| Ok::<_, StoreError>(add_one(tx, "n")));
        let kept = store.transact_to_make_room(|tx| Ok::<_, StoreError>(add_one(tx, "n")));
        let released = async {
            engine.release();
            Ok::<_, StoreError>(())
        };
        tokio::join!(refused, kept, released)
    };
    let (first, (refused, kept, _)) = tokio::join!(first, both);
    assert!(first.is_ok() && full(refused) && kept.is_ok());
    engine.available.store(floor - 1, SeqCst);
    assert!(full(store.transact_to_make_room(|tx| Ok::<_, StoreError>(add_one(tx, "n"))).await));
    assert_eq!(count(&store.view(), "n"), 4);
    // However small the reserve, there is some for what makes room.
    let none = Options { reserve_bytes: 0, ..Options::default() };
    let engine = ScriptedEngine::new();
    let store = Store::open(Box::new(Arc::clone(&engine)), none.clone()).unwrap();
    engine.available.store(none.least_bytes(), SeqCst);
    assert!(none.least_bytes() > 0);
    assert!(full(store.transact(|tx| Ok::<_, StoreError>(add_one(tx, "n"))).await));
    store.transact_to_make_room(|tx| Ok::<_, StoreError>(add_one(tx, "n"))).await.unwrap();
    engine.available.store(u64::MAX, SeqCst);
    engine.only_reads.store(true, SeqCst);
    assert!(full(store.transact_to_make_room(|tx| Ok::<_, StoreError>(add_one(tx, "n"))).await));
    assert!(matches!(store.must_have_room(0), Err(StoreError::DiskFull { .. })));
}

#[test]
fn a_batch_for_which_there_is_no_space_leaves_nothing_and_the_next_is_taken() {
    let engine = ScriptedEngine::new();
    let store = open(&engine);
    let say = |n: i64| {
        let append = store::Append {
            conversation: "si_a_b".into(),
            head: store::record::ConversationHead::default(),
            message: Vec::new(),
            now: 1_000 + n,
            repeat: Some(("a".into(), n.to_string())),
        };
        store.transact_blocking(move |tx| tx.append(append))
    };
    assert_eq!(say(1).unwrap().seq, 1);
    let before = store.view();
    engine.full_apply.store(true, SeqCst);
    for n in 2..4 {
        let refused = say(n);
        assert!(matches!(refused, Err(StoreError::DiskFull { .. })), "{refused:?}");
    }
    assert_eq!(store.view().position(), engine.position());
    engine.full_apply.store(false, SeqCst);
    // It is no repeat, and takes the seq that the refused ones did not get.
    let said = say(2).unwrap();
    assert_eq!((said.seq, said.repeated), (2, false));
    assert_eq!(store.view().position(), engine.position());
    assert_eq!(store::message_log::newest_of(&before, 1).unwrap().0, 1);
    assert_eq!(store::message_log::newest_of(&store.view(), 1).unwrap().0, 2);
}

#[test]
fn after_a_failed_engine_call_nothing_is_accepted_and_views_stay_true() {
    for apply in [false, true] {
        let engine = ScriptedEngine::new();
        let fail = if apply { &engine.fail_apply } else { &engine.fail_sync };
        let store = open(&engine);
        store.transact_blocking(|tx| Ok::<_, StoreError>(set_count(tx, "n", 1))).unwrap();
        fail.store(true, SeqCst);
        let ran = Arc::new(AtomicUsize::new(0));
        let after = Arc::clone(&ran);
        let failed = store.transact_blocking(move |tx| {
            tx.after_commit(move || _ = after.fetch_add(1, SeqCst));
            Ok::<_, StoreError>(set_count(tx, "n", 2))
        });
        assert!(matches!(failed, Err(StoreError::Engine(_))), "{failed:?}");
        assert_eq!(ran.load(SeqCst), 0);
        fail.store(false, SeqCst);
        for _ in 0..3 {
            let later = store.transact_blocking(|tx| Ok::<_, StoreError>(add_one(tx, "n")));
            assert!(matches!(later, Err(StoreError::Closed)), "{later:?}");
            assert_eq!(count(&store.view(), "n"), 1);
        }
        store.close();
    }
}

#[tokio::test]
async fn those_who_wait_when_the_engine_fails_are_answered() {
    let engine = ScriptedEngine::new();
    let store = open(&engine);
    engine.hold_sync();
    let mut waiting = Vec::new();
    for n in 0..20 {
        let store = store.clone();
        waiting.push(tokio::spawn(async move {
            store.transact(|tx| Ok::<_, StoreError>(add_one(tx, "n"))).await
        }));
        if n == 0 {
            yield_now().await;
            engine.until_held();
        }
    }
    yield_now().await;
    engine.fail_sync.store(true, SeqCst);
    engine.release();
    for (n, task) in waiting.into_iter().enumerate() {
        match (n, task.await.unwrap()) {
            (0, Err(StoreError::Engine(_))) | (1.., Err(StoreError::Closed)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_value_over_the_limit_costs_its_transaction_only() {
    let store = open(&Arc::new(MemoryEngine::default()));
    let outcome = store.transact_blocking(|tx| {
        set_count(tx, "n", 1);
        let value = Bytes::from(vec![0; MAX_VALUE_BYTES + 1]);
        schema::MESSAGES.put_raw(tx, (1, 1), value);
        Ok::<_, StoreError>(())
    });
    match outcome {
        Err(StoreError::TooLarge { what: "value", table: "MESSAGES", bytes, limit }) => {
            assert_eq!((bytes, limit), (MAX_VALUE_BYTES + 1, MAX_VALUE_BYTES));
        }
        other => panic!("{other:?}"),
    }
    let outcome = store.transact_blocking(|tx| {
        set_count(tx, &"k".repeat(5_000), 1);
        Ok::<_, StoreError>(())
    });
    assert!(matches!(outcome, Err(StoreError::TooLarge { what: "key", table: "COUNTERS", .. })));
    assert_eq!(count(&store.view(), "n"), 0);
    store.transact_blocking(|tx| Ok::<_, StoreError>(add_one(tx, "n"))).unwrap();
}

fn with_meta(meta: &Meta) -> MemoryEngine {
    use prost::Message as _;
    let engine = MemoryEngine::default();
    let key = vec![schema::META.tag(), 0];
    engine.apply(&Batch::from([(key, Some(meta.encode_to_vec().into()))])).unwrap();
    engine
}

#[test]
fn data_that_is_not_ours_is_refused() {
    let open = |engine| Store::open(Box::new(engine), Options::default());
    let newer =
        Meta { schema: schema::VERSION + 1, epoch: 1, salt: vec![0; 16], ..Meta::default() };
    match open(with_meta(&newer)) {
        Err(StoreError::NewerSchema { found, known }) => {
            assert_eq!((found, known), (schema::VERSION + 1, schema::VERSION));
        }
        other => panic!("{:?}", other.err()),
    }
    let no_salt = Meta { schema: schema::VERSION, epoch: 1, salt: vec![0; 3], ..Meta::default() };
    let outcome = open(with_meta(&no_salt));
    assert!(matches!(outcome, Err(StoreError::Damaged { table: "META", .. })));

    let engine = MemoryEngine::default();
    engine.apply(&Batch::from([(vec![0x10, 0], Some(Bytes::new()))])).unwrap();
    let outcome = open(engine);
    assert!(matches!(outcome, Err(StoreError::Damaged { table: "META", .. })));
}

#[test]
fn the_first_salt_stays() {
    let engine = Arc::new(MemoryEngine::default());
    for salt in [[1; 16], [2; 16]] {
        let options = Options { salt, ..Options::default() };
        let store = Store::open(Box::new(Arc::clone(&engine)), options).unwrap();
        let view = store.view();
        assert_eq!(store::Read::salt(&view), [1; 16]);
        let meta = schema::META.get(&view, 0).unwrap().unwrap();
        assert_eq!(
            meta,
            Meta { schema: schema::VERSION, epoch: 1, salt: vec![1; 16], ..Meta::default() }
        );
        let seen =
            store.transact_blocking(|tx| Ok::<_, StoreError>(store::Read::salt(&*tx))).unwrap();
        assert_eq!(seen, [1; 16]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_finishes_what_was_accepted() {
    let engine = ScriptedEngine::new();
    let store = open(&engine);
    engine.hold_sync();
    let mut waiting = Vec::new();
    for _ in 0..50 {
        let store = store.clone();
        waiting.push(thread::spawn(move || {
            store.transact_blocking(|tx| Ok::<_, StoreError>(add_one(tx, "n")))
        }));
    }
    engine.until_held();
    let closer = store.clone();
    let closing = thread::spawn(move || closer.close());
    engine.release();
    closing.join().unwrap();
    let mut done = 0;
    for thread in waiting {
        match thread.join().unwrap() {
            Ok(()) => done += 1,
            Err(StoreError::Closed) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(done > 0);
    assert_eq!(count(&store.view(), "n"), done, "what was answered is there, nothing else");
    let late = store.transact(|tx| Ok::<_, StoreError>(add_one(tx, "n"))).await;
    assert!(matches!(late, Err(StoreError::Closed)));
    store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_lose_no_update() {
    let store = open(&Arc::new(MemoryEngine::default()));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..50 {
                let transaction = |tx: &mut store::Tx<'_>| {
                    add_one(tx, "a");
                    add_one(tx, "b");
                    Ok::<_, StoreError>(())
                };
                store.transact(transaction).await.unwrap();
                let view = store.view();
                assert_eq!(count(&view, "a"), count(&view, "b"));
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(count(&store.view(), "a"), 1_600);
}
