//! Every kind of damage is found, and sound data has none.
#![allow(clippy::unit_arg, reason = "shorter closures")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use proto::sdkws::{GroupInfo, MsgData, UserInfo};
use store::engine::{Batch, Engine, MemoryEngine};
use store::record::*;
use store::verify::{Finding, Report, verify};
use store::version_log::{Change, List, SORT_ELEMENT};
use store::{Append, Store, StoreError, Tx, schema};

const FRIENDS: u8 = List::Friends as u8;

/// Two users, a group of both, requests, two conversations, logs and an object.
fn sound(tx: &mut Tx<'_>) -> Result<(), StoreError> {
    for (user, time) in [("alice", 1), ("bob", 2)] {
        let info = UserInfo { user_id: user.into(), ..Default::default() };
        schema::USERS.put(tx, user, &info);
        schema::USER_ORDER.put(tx, (time, user), &Present {});
    }
    support::set_count(tx, "users", 2);
    support::set_count(tx, "anything else", 77);
    schema::FRIEND_REQUESTS.put(tx, ("alice", "bob"), &FriendRequest::default());
    schema::FRIEND_REQUESTS_SENT.put(tx, ("bob", "alice"), &Present {});

    let info = GroupInfo {
        group_id: "g".into(),
        owner_user_id: "alice".into(),
        member_count: 2,
        ..Default::default()
    };
    schema::GROUPS.put(tx, "g", &Group { info, next_join: 3 });
    schema::GROUP_ORDER.put(tx, (1, "g"), &Present {});
    for (user, role_level, order) in [("alice", 100, 1), ("bob", 20, 2)] {
        let member = Member { role_level, order, ..Default::default() };
        schema::MEMBERS.put(tx, ("g", user), &member);
        let rank = 255 - u8::try_from(role_level).unwrap();
        schema::MEMBER_ORDER.put(tx, ("g", rank, order, user), &Present {});
        schema::JOINED.put(tx, (user, "g"), &Present {});
    }
    schema::GROUP_REQUESTS.put(tx, ("g", "carol"), &GroupRequest::default());
    schema::GROUP_REQUESTS_SENT.put(tx, ("carol", "g"), &Present {});

    let pair = vec!["alice".into(), "bob".into()];
    let single = ConversationHead { session_type: 1, pair, ..Default::default() };
    let group = ConversationHead { session_type: 3, group_id: "g".into(), ..Default::default() };
    for (conversation, head) in [("si_alice_bob", single), ("sg_g", group)] {
        for n in 1..=5 {
            tx.append(Append {
                conversation: conversation.into(),
                head: head.clone(),
                message: MsgData { send_id: "alice".into(), ..Default::default() }.encode_to_vec(),
                now: n * 10,
                repeat: None,
            })?;
        }
    }
    tx.erase(1, 3)?;
    let marks = MessageMarks { read: true, ..Default::default() };
    schema::MESSAGE_MARKS.put(tx, (1, 2), &marks);
    let position = ReadPosition { read_seq: 5, receipt_seq: 4 };
    schema::READ_POSITIONS.put(tx, ("bob", "si_alice_bob"), &position);

    tx.step(List::Friends, "alice", [("bob", Change::Insert), ("carol", Change::Insert)])?;
    tx.step(List::Friends, "alice", [("carol", Change::Delete), (SORT_ELEMENT, Change::Update)])?;
    tx.step(List::Members, "g", [("", Change::Update)])?;

    let object = Object { key: "content".into(), ..Default::default() };
    schema::OBJECTS.put(tx, "picture", &object);
    schema::OBJECT_NAMES.put(tx, ("content", "picture"), &Present {});
    Ok(())
}

fn checked(engine: &Arc<MemoryEngine>) -> Report {
    verify(&support::open(engine).view(), |_| {}).unwrap()
}

fn changed(engine: &Arc<MemoryEngine>, change: impl FnOnce(&mut Tx<'_>) + Send + 'static) {
    let store: Store = support::open(engine);
    store.transact_blocking(move |tx| Ok::<_, StoreError>(change(tx))).unwrap();
}

fn sound_engine() -> Arc<MemoryEngine> {
    let engine = Arc::new(MemoryEngine::default());
    support::open(&engine).transact_blocking(sound).unwrap();
    engine
}

#[test]
fn sound_data_has_no_findings() {
    let engine = sound_engine();
    let mut told = Vec::new();
    let report = verify(&support::open(&engine).view(), |n| told.push(n)).unwrap();
    assert!(report.is_clean(), "{:#?}", report.findings);
    assert_eq!(report.records, 46);
    assert_eq!(told, [46]);
    assert!(checked(&Arc::new(MemoryEngine::default())).is_clean());
}

/// A change, and of each finding it leads to the table and a part of the text.
type Case = (fn(&mut Tx<'_>), &'static [(&'static str, &'static str)]);

#[rustfmt::skip]
const DAMAGE: &[Case] = &[
    // Accounts.
    (|tx| schema::META.put(tx, 1, &Meta::default()), &[("META", "second")]),
    (|tx| schema::META.put(tx, 0, &Meta { schema: 1, salt: vec![0; 16], ..Meta::default() }),
        &[("META", "epoch is missing")]),
    (|tx| schema::USERS.delete(tx, "bob"),
        &[("COUNTERS", "it says 2, there are 1"), ("USER_ORDER", "1 users, but 2 places"),
          ("USER_ORDER", "no such user")]),
    (|tx| schema::USERS.put(tx, "bob", &UserInfo { user_id: "eve".into(), ..Default::default() }),
        &[("USERS", "account of \"eve\"")]),
    (|tx| schema::USER_ORDER.delete(tx, (2, "bob")), &[("USER_ORDER", "2 users, but 1 places")]),
    (|tx| support::set_count(tx, "users", 3), &[("COUNTERS", "it says 3, there are 2")]),
    (|tx| schema::FRIEND_REQUESTS.delete(tx, ("alice", "bob")),
        &[("FRIEND_REQUESTS_SENT", "no such request")]),
    (|tx| schema::FRIEND_REQUESTS_SENT.delete(tx, ("bob", "alice")),
        &[("FRIEND_REQUESTS", "missing among those the sender sent")]),
    // Groups.
    (|tx| schema::GROUP_ORDER.delete(tx, (1, "g")), &[("GROUP_ORDER", "1 groups, but 0 places")]),
    (|tx| schema::GROUP_ORDER.put(tx, (7, "h"), &Present {}),
        &[("GROUP_ORDER", "1 groups, but 2 places"), ("GROUP_ORDER", "no such group")]),
    (|tx| edit_group(tx, |info| info.member_count = 9),
        &[("GROUPS", "it says 9 members, there are 2")]),
    (|tx| edit_group(tx, |info| info.group_id = "h".into()), &[("GROUPS", "the group \"h\"")]),
    (|tx| edit_group(tx, |info| info.owner_user_id = "bob".into()),
        &[("GROUPS", "owner \"bob\" is no member with that role")]),
    (|tx| schema::MEMBERS.delete(tx, ("g", "bob")),
        &[("GROUPS", "it says 2 members, there are 1"), ("JOINED", "no member"),
          ("MEMBER_ORDER", "no member has this role")]),
    (|tx| schema::MEMBERS.put(tx, ("g", "bob"), &Member { role_level: 60, order: 2, ..Default::default() }),
        &[("MEMBERS", "no place in the order"), ("MEMBER_ORDER", "no member has this role")]),
    (|tx| schema::MEMBERS.put(tx, ("g", "bob"), &Member { role_level: 999, order: 2, ..Default::default() }),
        &[("MEMBERS", "role 999"), ("MEMBER_ORDER", "no member has this role")]),
    (|tx| schema::MEMBER_ORDER.delete(tx, ("g", 155, 1, "alice")),
        &[("MEMBERS", "no place in the order")]),
    (|tx| schema::JOINED.delete(tx, ("bob", "g")), &[("MEMBERS", "missing among those of the user")]),
    (|tx| schema::GROUPS.delete(tx, "g"),
        &[("GROUP_ORDER", "0 groups, but 1 places"), ("GROUP_ORDER", "no such group"),
          ("MEMBERS", "no such group")]),
    (|tx| schema::GROUP_REQUESTS.delete(tx, ("g", "carol")),
        &[("GROUP_REQUESTS_SENT", "no such request")]),
    (|tx| schema::GROUP_REQUESTS_SENT.delete(tx, ("carol", "g")),
        &[("GROUP_REQUESTS", "missing among those the user sent")]),
    // Conversations.
    (|tx| edit_head(tx, |head| head.number = 2),
        &[("CONVERSATION_HEADS", "two conversations have this number"),
          ("MESSAGES", "no conversation has this number")]),
    (|tx| edit_head(tx, |head| head.number = 9),
        &[("COUNTERS", "it says 2, the number 9 is in use"),
          ("MESSAGES", "no conversation has this number"), ("READ_POSITIONS", "last message is 0")]),
    (|tx| edit_head(tx, |head| head.pair.reverse()), &[("CONVERSATION_HEADS", "neither for two")]),
    (|tx| edit_head(tx, |head| head.group_id = "g".into()),
        &[("CONVERSATION_HEADS", "neither for two")]),
    (|tx| support::set_count(tx, "conversations", 1),
        &[("COUNTERS", "it says 1, the number 2 is in use")]),
    (|tx| schema::MESSAGES.delete(tx, (1, 1)), &[("MESSAGES", "seq 1 should be next")]),
    (|tx| schema::MESSAGES.delete(tx, (1, 4)), &[("MESSAGES", "seq 4 should be next")]),
    (|tx| schema::MESSAGES.delete(tx, (1, 5)), &[("READ_POSITIONS", "read up to 5, the last message is 4")]),
    (|tx| schema::MESSAGES.put(tx, (1, 4), &MsgData { seq: 4, send_time: 30, ..Default::default() }),
        &[("MESSAGES", "sent at 30, the one before at 30")]),
    (|tx| schema::MESSAGES.put(tx, (1, 4), &MsgData { seq: 5, send_time: 40, ..Default::default() }),
        &[("MESSAGES", "says that its seq is 5")]),
    // One that does not decode keeps its place: the next one is in order.
    (|tx| schema::MESSAGES.put_raw(tx, (1, 4), Bytes::from_static(b"\xFF\xFF")),
        &[("MESSAGES", "")]),
    (|tx| schema::MESSAGE_MARKS.put(tx, (1, 6), &MessageMarks { read: true, ..Default::default() }),
        &[("MESSAGE_MARKS", "no such message")]),
    (|tx| schema::HIDDEN_MESSAGES.put(tx, (1, 6, "bob"), &Present {}),
        &[("HIDDEN_MESSAGES", "no such message")]),
    (|tx| schema::READ_POSITIONS.put(tx, ("bob", "sg_g"), &ReadPosition { read_seq: 5, receipt_seq: 6 }),
        &[("READ_POSITIONS", "read up to 6, the last message is 5")]),
    // Version logs.
    (|tx| schema::VERSION_LOGS.put(tx, (FRIENDS, "alice"), &LogHead { version: 2 }),
        &[("VERSION_CHANGES", "the log is only at version 2")]),
    (|tx| schema::VERSION_LOGS.delete(tx, (FRIENDS, "alice")),
        &[("VERSION_CHANGES", "the log is only at version 0")]),
    (|tx| schema::VERSION_LOGS.put(tx, (FRIENDS, "eve"), &LogHead { version: 1 }),
        &[("VERSION_LOGS", "at version 1")]),
    (|tx| schema::VERSION_CHANGES.delete(tx, (FRIENDS, "alice", 2, 0)),
        &[("VERSION_ELEMENTS", "not its own")]),
    (|tx| schema::VERSION_ELEMENTS.delete(tx, (FRIENDS, "alice", "bob")),
        &[("VERSION_CHANGES", "not the newest change of \"bob\"")]),
    (|tx| schema::VERSION_CHANGES.put(tx, (FRIENDS, "alice", 2, 0), &LogChange { element: "bob".into(), change: 0 }),
        &[("VERSION_CHANGES", "no change of kind 0")]),
    (|tx| schema::VERSION_CHANGES.put(tx, (FRIENDS, "alice", 2, 5), &LogChange { element: "bob".into(), change: 1 }),
        &[("VERSION_CHANGES", "not the newest change of \"bob\"")]),
    // Objects.
    (|tx| schema::OBJECT_NAMES.delete(tx, ("content", "picture")),
        &[("OBJECTS", "does not know the name")]),
    (|tx| schema::OBJECTS.delete(tx, "picture"), &[("OBJECT_NAMES", "does not stand for")]),
    (|tx| schema::OBJECT_NAMES.put(tx, ("other", "picture"), &Present {}),
        &[("OBJECT_NAMES", "does not stand for")]),
    // Values that do not decode, in a table that nothing else refers to.
    (|tx| schema::TOKENS.put_raw(tx, ("bob", 1, "t"), Bytes::from_static(b"\xFF")), &[("TOKENS", "")]),
];

fn edit_group(tx: &mut Tx<'_>, edit: impl FnOnce(&mut GroupInfo)) {
    let mut group = schema::GROUPS.get(tx, "g").unwrap().unwrap();
    edit(&mut group.info);
    schema::GROUPS.put(tx, "g", &group);
}

fn edit_head(tx: &mut Tx<'_>, edit: impl FnOnce(&mut ConversationHead)) {
    let mut head = schema::CONVERSATION_HEADS.get(tx, "si_alice_bob").unwrap().unwrap();
    edit(&mut head);
    schema::CONVERSATION_HEADS.put(tx, "si_alice_bob", &head);
}

#[test]
fn every_kind_of_damage_is_found_and_nothing_else() {
    for (at, (damage, expected)) in DAMAGE.iter().enumerate() {
        let engine = sound_engine();
        changed(&engine, damage);
        let found = checked(&engine).findings;
        for (table, problem) in *expected {
            let fits = |f: &&Finding| f.table == *table && f.problem.contains(problem);
            assert!(found.iter().any(|f| fits(&f)), "case {at}: {table} {problem}: {found:#?}");
        }
        let tables =
            |tables: &mut dyn Iterator<Item = &'static str>| -> BTreeSet<&str> { tables.collect() };
        assert_eq!(
            tables(&mut found.iter().map(|finding| finding.table)),
            tables(&mut expected.iter().map(|(table, _)| *table)),
            "case {at}: {found:#?}"
        );
    }
}

#[test]
fn keys_that_no_table_has_are_found() {
    let engine = sound_engine();
    let raw: [&[u8]; 5] = [&[0xEE, 1, 2], &[], &[0x10], &[0x10, b'a', 0, 9], &[0x43, 0]];
    for key in raw {
        engine.apply(&Batch::from([(key.to_vec(), Some(Bytes::new()))])).unwrap();
    }
    let report = checked(&engine);
    let found: Vec<&str> = report.findings.iter().map(|finding| finding.table).collect();
    assert_eq!(found, ["(unknown)", "USERS", "USERS", "MESSAGES", "(unknown)"]);
}

#[test]
fn findings_can_be_read_by_people_and_programs() {
    let engine = sound_engine();
    changed(&engine, |tx| schema::JOINED.delete(tx, ("bob", "g")));
    let report = checked(&engine);
    let [finding] = report.findings.as_slice() else { panic!("{report:#?}") };
    let problem = "the group is missing among those of the user";
    assert_eq!(finding.to_string(), format!("MEMBERS (\"g\", \"bob\"): {problem}"));
    assert_eq!(
        serde_json::to_value(&report).unwrap(),
        serde_json::json!({
            "records": 45,
            "findings": [{ "table": "MEMBERS", "key": "(\"g\", \"bob\")", "problem": problem }],
            "omitted": 0,
        })
    );
}

#[test]
fn a_report_has_an_end() {
    let engine = sound_engine();
    changed(&engine, |tx| {
        for n in 0..1_500_u32 {
            let name = format!("{n}{}", "x".repeat(1_000));
            schema::JOINED.put(tx, (&name, "g"), &Present {});
        }
    });
    let report = checked(&engine);
    assert_eq!((report.findings.len(), report.omitted), (1_000, 500));
    assert!(report.findings.iter().all(|finding| finding.key.len() <= 200));
    assert!(!report.is_clean());
}
