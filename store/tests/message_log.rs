//! The log of messages of a conversation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;
use proto::sdkws::MsgData;
use store::engine::MemoryEngine;
use store::message_log::{is_erased, messages, messages_raw, newest, newest_of};
use store::record::ConversationHead;
use store::{Append, Appended, Direction, Options, Store, StoreError, schema};

const MINUTE: i64 = 60_000;
/// Some moment after 1970.
const NOW: i64 = 1_700_000_000_000;

fn pair(a: &str, b: &str) -> ConversationHead {
    ConversationHead { session_type: 1, pair: vec![a.into(), b.into()], ..Default::default() }
}

fn message(conversation: &str, head: &ConversationHead, id: &str, now: i64) -> Append {
    let data = MsgData {
        send_id: "alice".into(),
        client_msg_id: id.into(),
        content: format!("text of {id}").into(),
        ..Default::default()
    };
    Append {
        conversation: conversation.into(),
        head: head.clone(),
        message: data.encode_to_vec(),
        now,
        repeat: Some(("alice".into(), id.into())),
    }
}

fn append(store: &Store, append: Append) -> Result<Appended, StoreError> {
    store.transact_blocking(move |tx| tx.append(append))
}

fn with_window(engine: &Arc<MemoryEngine>, minutes: i64, messages: usize) -> Store {
    let options = Options {
        dedupe_window_ms: minutes * MINUTE,
        dedupe_messages: messages,
        ..Options::default()
    };
    Store::open(Box::new(Arc::clone(engine)), options).unwrap()
}

#[test]
fn messages_are_numbered_and_timed() {
    let store = support::open(&Arc::new(MemoryEngine::default()));
    let head = pair("alice", "bob");
    // The clock stands still, goes back and jumps ahead.
    let clock = [NOW, NOW, NOW - 5 * MINUTE, NOW + 1, NOW + 50, i64::MIN, NOW + 51];
    let times = [NOW, NOW + 1, NOW + 2, NOW + 3, NOW + 50, NOW + 51, NOW + 52];
    for (at, (now, expected)) in clock.into_iter().zip(times).enumerate() {
        let done = append(&store, message("c", &head, &format!("m{at}"), now)).unwrap();
        assert_eq!((done.seq, done.send_time), (i64::try_from(at).unwrap() + 1, expected));
        assert!(!done.repeated);
        let stored = MsgData::decode(done.message).unwrap();
        assert_eq!((stored.seq, stored.send_time), (done.seq, done.send_time));
        assert_eq!(stored.content, format!("text of m{at}").into_bytes());
    }
    let view = store.view();
    assert_eq!(newest(&view, "c").unwrap(), (7, NOW + 52));
    assert_eq!(newest(&view, "other").unwrap(), (0, 0));
    let number = schema::CONVERSATION_HEADS.get(&view, "c").unwrap().unwrap().number;
    assert_eq!(newest_of(&view, number).unwrap(), (7, NOW + 52));
    assert_eq!(newest_of(&view, number + 1).unwrap(), (0, 0));
    let seqs = |first, last, direction| -> Vec<i64> {
        messages(&view, number, first, last, direction).map(|row| row.unwrap().0).collect()
    };
    assert_eq!(seqs(2, 4, Direction::Ascending), [2, 3, 4]);
    assert_eq!(seqs(5, i64::MAX, Direction::Descending), [7, 6, 5]);
    assert_eq!(seqs(i64::MIN, 1, Direction::Ascending), [1]);
    assert_eq!(seqs(4, 2, Direction::Ascending), [0_i64; 0]);
    for row in messages_raw(&view, number, 1, 7, Direction::Ascending) {
        let (seq, raw) = row.unwrap();
        assert_eq!(MsgData::decode(raw).unwrap().seq, seq);
    }
}

#[test]
fn conversations_do_not_mix() {
    let engine = Arc::new(MemoryEngine::default());
    for round in 0..3 {
        let store = support::open(&engine);
        for c in ["x", "y", "z"] {
            for n in 1..=3 {
                let id = format!("{round}{c}{n}");
                let done = append(&store, message(c, &pair("alice", c), &id, NOW)).unwrap();
                assert_eq!(done.seq, round * 3 + n);
            }
        }
    }
    let store = support::open(&engine);
    let view = store.view();
    let heads: Vec<_> =
        schema::CONVERSATION_HEADS.scan(&view, ()).map(|row| row.unwrap().1.number).collect();
    assert_eq!(heads, [1, 2, 3]);
}

#[test]
fn repeats_are_recognised_within_the_window() {
    let engine = Arc::new(MemoryEngine::default());
    let head = pair("alice", "bob");
    let first = {
        let store = with_window(&engine, 10, 100);
        let first = append(&store, message("c", &head, "m1", NOW)).unwrap();
        append(&store, message("c", &head, "m2", NOW + MINUTE)).unwrap();
        first
    };
    // Both with the tail in memory and with one that is read from the log.
    for _ in 0..2 {
        let store = with_window(&engine, 10, 100);
        for _ in 0..2 {
            let again = append(&store, message("c", &head, "m1", NOW + 9 * MINUTE)).unwrap();
            assert!(again.repeated);
            assert_eq!((again.seq, again.send_time), (first.seq, first.send_time));
            assert_eq!(again.message, first.message);
        }
        assert_eq!(newest(&store.view(), "c").unwrap().0, 2);
    }
    // Another sender's message with the same ID is another message.
    let store = with_window(&engine, 10, 100);
    let mut other = message("c", &head, "m1", NOW + 9 * MINUTE);
    let data = MsgData { send_id: "bob".into(), client_msg_id: "m1".into(), ..Default::default() };
    other.message = data.encode_to_vec();
    other.repeat = Some(("bob".into(), "m1".into()));
    assert_eq!(append(&store, other).unwrap().seq, 3);
    // No repeat is looked for where the caller does not want it.
    let mut always = message("c", &head, "m1", NOW + 9 * MINUTE);
    always.repeat = None;
    assert_eq!(append(&store, always).unwrap().seq, 4);
}

#[test]
fn repeats_are_forgotten_after_the_window() {
    let head = pair("alice", "bob");
    for reopen in [false, true] {
        let engine = Arc::new(MemoryEngine::default());
        let mut store = with_window(&engine, 10, 100);
        append(&store, message("c", &head, "m1", NOW)).unwrap();
        if reopen {
            store = with_window(&engine, 10, 100);
        }
        let late = append(&store, message("c", &head, "m1", NOW + 10 * MINUTE + 1)).unwrap();
        assert_eq!((late.seq, late.repeated), (2, false));
    }
    for reopen in [false, true] {
        let engine = Arc::new(MemoryEngine::default());
        let mut store = with_window(&engine, 10, 3);
        for n in 0..6 {
            append(&store, message("c", &head, &format!("m{n}"), NOW + n)).unwrap();
        }
        if reopen {
            store = with_window(&engine, 10, 3);
        }
        assert!(append(&store, message("c", &head, "m3", NOW + 9)).unwrap().repeated);
        assert!(!append(&store, message("c", &head, "m0", NOW + 9)).unwrap().repeated);
    }
}

#[test]
fn a_refused_append_leaves_no_gap_and_no_memory() {
    let store = support::open(&Arc::new(MemoryEngine::default()));
    let head = pair("alice", "bob");
    for n in 1..=5 {
        let (refused, kept) = (
            message("c", &head, &format!("m{n}"), NOW + 1_000),
            message("c", &head, &format!("m{n}"), NOW + n),
        );
        let outcome = store.transact_blocking(move |tx| {
            tx.append(refused.clone())?;
            assert!(tx.append(refused)?.repeated);
            Err::<(), _>(StoreError::Closed)
        });
        assert!(matches!(outcome, Err(StoreError::Closed)));
        let done = append(&store, kept).unwrap();
        assert_eq!((done.seq, done.send_time, done.repeated), (n, NOW + n, false));
    }
}

#[test]
fn another_pair_with_the_same_conversation_id_is_refused() {
    let engine = Arc::new(MemoryEngine::default());
    let ours = pair("a", "b_c");
    let theirs = pair("a_b", "c");
    let store = support::open(&engine);
    append(&store, message("si_a_b_c", &ours, "m1", NOW)).unwrap();
    // With the tail in memory, and from the log.
    for store in [store, support::open(&engine)] {
        for _ in 0..2 {
            let outcome = append(&store, message("si_a_b_c", &theirs, "m2", NOW));
            let Err(StoreError::ConversationTaken(id)) = outcome else { panic!("{outcome:?}") };
            assert_eq!(id, "si_a_b_c");
        }
        assert_eq!(newest(&store.view(), "si_a_b_c").unwrap().0, 1);
    }
    let store = support::open(&engine);
    append(&store, message("si_a_b_c", &ours, "m2", NOW)).unwrap();
}

#[test]
fn an_erased_message_keeps_its_place() {
    let engine = Arc::new(MemoryEngine::default());
    let head = pair("alice", "bob");
    let store = support::open(&engine);
    for n in 1..=3 {
        append(&store, message("c", &head, &format!("m{n}"), NOW + n)).unwrap();
    }
    let number = schema::CONVERSATION_HEADS.get(&store.view(), "c").unwrap().unwrap().number;
    for (seq, found) in [(3, true), (3, true), (4, false), (0, false)] {
        let erased = store.transact_blocking(move |tx| tx.erase(number, seq)).unwrap();
        assert_eq!(erased, found);
    }
    for store in [store, support::open(&engine)] {
        let view = store.view();
        let rows: Vec<(i64, MsgData)> =
            messages(&view, number, 1, 3, Direction::Ascending).map(Result::unwrap).collect();
        assert_eq!(rows.iter().map(|(_, row)| row.seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(
            rows.iter().map(|(_, row)| is_erased(row)).collect::<Vec<_>>(),
            [false, false, true]
        );
        assert_eq!(rows[2].1.send_time, NOW + 3);
        assert!(rows[2].1.content.is_empty() && rows[2].1.send_id.is_empty());
        assert_eq!(newest(&view, "c").unwrap(), (3, NOW + 3));
    }
    let store = support::open(&engine);
    assert_eq!(append(&store, message("c", &head, "m4", NOW)).unwrap().seq, 4);
}

#[test]
fn an_erased_message_does_not_come_back_when_it_is_sent_again() {
    let engine = Arc::new(MemoryEngine::default());
    let head = pair("alice", "bob");
    let store = support::open(&engine);
    append(&store, message("c", &head, "m1", NOW)).unwrap();
    let number = schema::CONVERSATION_HEADS.get(&store.view(), "c").unwrap().unwrap().number;
    assert!(store.transact_blocking(move |tx| tx.erase(number, 1)).unwrap());
    // With the tail in memory, then with one read again.
    for store in [store, support::open(&engine)] {
        let again = append(&store, message("c", &head, "m1", NOW + 1)).unwrap();
        assert_eq!((again.repeated, again.seq, again.send_time), (true, 1, NOW));
    }
}

#[test]
fn a_number_is_never_given_twice() {
    let engine = Arc::new(MemoryEngine::default());
    let store = support::open(&engine);
    append(&store, message("first", &pair("a", "b"), "m", NOW)).unwrap();
    append(&store, message("second", &pair("a", "c"), "m", NOW)).unwrap();
    // Even when nothing else tells that it was in use.
    let gone = store.transact_blocking(|tx| {
        schema::MESSAGES.delete(tx, (2, 1));
        schema::CONVERSATION_HEADS.delete(tx, "second");
        Ok::<_, StoreError>(())
    });
    gone.unwrap();
    let store = support::open(&engine);
    append(&store, message("third", &pair("a", "d"), "m", NOW)).unwrap();
    let head = schema::CONVERSATION_HEADS.get(&store.view(), "third").unwrap().unwrap();
    assert_eq!(head.number, 3);
}

#[derive(Debug, Clone)]
struct Step {
    conversation: u8,
    id: u8,
    clock: i64,
    refuse: bool,
    reopen: bool,
}

fn step() -> impl Strategy<Value = Step> {
    (0..3_u8, 0..12_u8, -50..200_i64, prop::bool::weighted(0.2), prop::bool::weighted(0.1))
        .prop_map(|(conversation, id, clock, refuse, reopen)| Step {
            conversation,
            id,
            clock,
            refuse,
            reopen,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn every_log_is_contiguous_rising_and_free_of_repeats(steps in vec(step(), 1..80)) {
        let engine = Arc::new(MemoryEngine::default());
        let mut store = support::open(&engine);
        let mut now = NOW;
        let mut model: BTreeMap<String, Vec<(String, i64)>> = BTreeMap::new();
        for step in steps {
            if step.reopen {
                store = support::open(&engine);
            }
            now += step.clock;
            let conversation = format!("c{}", step.conversation);
            let id = format!("m{}", step.id);
            let message = message(&conversation, &pair("alice", &conversation), &id, now);
            let refuse = step.refuse;
            let outcome = store.transact_blocking(move |tx| {
                let done = tx.append(message)?;
                if refuse { Err(StoreError::Closed) } else { Ok(done) }
            });
            if refuse {
                prop_assert!(outcome.is_err());
                continue;
            }
            let done = outcome.unwrap();
            let log = model.entry(conversation).or_default();
            if let Some(at) = log.iter().position(|(known, _)| *known == id) {
                prop_assert!(done.repeated);
                prop_assert_eq!((done.seq, done.send_time), (at as i64 + 1, log[at].1));
            } else {
                prop_assert!(!done.repeated && done.send_time >= now);
                prop_assert_eq!(done.seq, log.len() as i64 + 1);
                prop_assert!(log.last().is_none_or(|(_, before)| done.send_time > *before));
                log.push((id, done.send_time));
            }
        }
        let view = store.view();
        for (conversation, log) in model {
            let last = log.last().map_or(0, |(_, time)| *time);
            prop_assert_eq!(newest(&view, &conversation).unwrap(), (log.len() as i64, last));
        }
    }
}
