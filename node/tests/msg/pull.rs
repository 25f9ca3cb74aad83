use prost::Message as _;
use proto::msg::{
    ConversationSeqs, GetConversationsHasReadAndMaxSeqReq, GetConversationsHasReadAndMaxSeqResp,
    GetLastMessageReq, GetLastMessageResp, GetSeqMessageReq, GetSeqMessageResp,
};
use proto::sdkws::{
    GetMaxSeqReq, GetMaxSeqResp, PullMessageBySeqsReq, PullMessageBySeqsResp, PullMsgs, SeqRange,
};
use serde_json::json;
use testnet::{Node, Result, Socket, Wire};

use crate::*;

async fn range(
    socket: &mut Socket,
    user_id: &str,
    (id, begin, end, num): (&str, i64, i64, i64),
    order: i32,
) -> Result<Option<PullMsgs>> {
    let request = PullMessageBySeqsReq {
        user_id: user_id.into(),
        seq_ranges: vec![SeqRange { conversation_id: id.into(), begin, end, num }],
        order,
    };
    let mut answer: PullMessageBySeqsResp = socket.call(1002, &request).await?;
    let (mut own, other) = (&mut answer.msgs, answer.notification_msgs.len());
    if id.starts_with("n_") {
        own = &mut answer.notification_msgs;
    } else {
        assert_eq!(other, 0);
    }
    Ok(own.remove(id))
}

fn numbers(pulled: &PullMsgs) -> Vec<i64> {
    pulled.msgs.iter().map(|message| message.seq).collect()
}

async fn by_seqs(
    socket: &mut Socket,
    user_id: &str,
    id: &str,
    seqs: &[i64],
    order: i32,
) -> Result<PullMsgs> {
    let request = GetSeqMessageReq {
        user_id: user_id.into(),
        conversations: vec![ConversationSeqs { conversation_id: id.into(), seqs: seqs.to_vec() }],
        order,
    };
    let mut answer: GetSeqMessageResp = socket.call(1005, &request).await?;
    let map = if id.starts_with("n_") { &mut answer.notification_msgs } else { &mut answer.msgs };
    Ok(map.remove(id).expect("an entry for every conversation asked for"))
}

#[tokio::test]
async fn ranges_are_cut_to_the_newest() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1", "2", "3", "4", "5", "6"]).await?;
    let mut at_bob = bob.connect(Wire::GOB_GZIP).await?;
    let id = "si_alice_bob";
    for (asked, order, seqs, is_end) in [
        ((id, 1, 3, 10), 0, vec![1, 2, 3], false),
        ((id, 0, 3, 3), 0, vec![1, 2, 3], false),
        ((id, 1, 3, 1), 0, vec![3], false),
        ((id, 1, 6, 2), 0, vec![5, 6], true),
        ((id, 1, 6, 2), 1, vec![5, 6], false),
        ((id, 1, 100, 100), 0, vec![1, 2, 3, 4, 5, 6], true),
        ((id, 0, 2, 5), 1, vec![1, 2], true),
        ((id, i64::MIN, i64::MAX, i64::MAX), 0, vec![1, 2, 3, 4, 5, 6], true),
    ] {
        let pulled = range(&mut at_bob, "bob", asked, order).await?.expect("an entry");
        assert_eq!(
            (numbers(&pulled), pulled.is_end, pulled.end_seq),
            (seqs, is_end, 0),
            "{asked:?} {order}"
        );
    }
    for asked in [
        (id, 7, 9, 3),
        (id, 1, 3, 0),
        (id, 1, 3, -1),
        (id, 3, 1, 5),
        (id, -9, 0, 5),
        ("si_x_y", 1, 9, 9),
        ("n_alice_bob", 1, 9, 9),
        ("", 1, 9, 9),
    ] {
        let pulled = range(&mut at_bob, "bob", asked, 0).await?.expect("an entry");
        assert_eq!(numbers(&pulled), [0; 0], "{asked:?}");
    }
    // Of a notification stream everything comes, whatever num is.
    for seq in [1, 2, 3] {
        let body = json!({ "conversationID": id, "seq": seq, "userID": "alice" });
        alice.call("/msg/revoke_msg", body).await?;
    }
    let pulled = range(&mut at_bob, "bob", ("n_alice_bob", 0, 9, 1), 0).await?.expect("an entry");
    assert_eq!((numbers(&pulled), pulled.is_end), (vec![1, 2, 3], true));
    // Someone else's bounds.
    edit(&node, "bob", id, |record| record.min_seq = 3).await?;
    let pulled = range(&mut at_bob, "bob", (id, 1, 4, 10), 1).await?.expect("an entry");
    assert_eq!((numbers(&pulled), pulled.is_end), (vec![3, 4], true));
    let pulled = range(&mut at_bob, "bob", (id, 1, 2, 10), 0).await?.expect("an entry");
    assert_eq!((numbers(&pulled), pulled.is_end), (vec![], false));
    node.stop().await
}

#[tokio::test]
async fn lists_come_in_the_order_asked_for() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1", "2", "3", "4", "5", "6"]).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    edit(&node, "bob", "si_alice_bob", |record| record.min_seq = 2).await?;
    for (seqs, order, expected) in [
        (vec![4, 2], 0, (vec![4, 2], false, 0)),
        (vec![2, 5000], 0, (vec![2], true, 6)),
        (vec![5000], 0, (vec![], true, 6)),
        (vec![5000], 1, (vec![], false, 0)),
        (vec![0, -1], 1, (vec![], false, 0)),
        (vec![1, 3], 1, (vec![3], true, 2)),
        (vec![1, 3], 0, (vec![3], false, 0)),
    ] {
        let pulled = by_seqs(&mut at_bob, "bob", "si_alice_bob", &seqs, order).await?;
        assert_eq!((numbers(&pulled), pulled.is_end, pulled.end_seq), expected, "{seqs:?} {order}");
    }
    let nothing = by_seqs(&mut at_bob, "bob", "si_x_y", &[1], 0).await?;
    assert_eq!(nothing, PullMsgs { msgs: vec![], is_end: true, end_seq: 0 });
    by_seqs(&mut at_bob, "bob", "n_alice_bob", &[1], 0).await?;
    node.stop().await
}

#[tokio::test]
async fn newest_seqs_and_last_messages() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob, _] = admin.users(["alice", "bob", "carol"]).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ORDINARY)]).await?;
    group(&node, "silent", &[("alice", OWNER), ("bob", ORDINARY)]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1", "2", "3"]).await?;
    say_in(&mut at_alice, "alice", "g", &["1"]).await?;
    for seqs in [json!([2]), json!([3])] {
        let body = json!({ "conversationID": "si_alice_bob", "seqs": seqs, "userID": "bob", "deleteSyncOpt": { "IsSyncSelf": true } });
        bob.call("/msg/delete_msgs", body).await?;
    }
    let request = GetMaxSeqReq { user_id: "bob".into() };
    let newest: GetMaxSeqResp = at_bob.call(1001, &request).await?;
    let expected = [("n_bob_bob", 2), ("sg_g", 1), ("si_alice_bob", 3)];
    assert_eq!(newest.max_seqs, expected.map(|(id, seq)| (id.to_owned(), seq)).into());
    assert!(newest.min_seqs.is_empty());
    let body = json!({ "userID": "bob" });
    assert_eq!(
        bob.call("/msg/newest_seq", &body).await?,
        json!({ "maxSeqs": { "n_bob_bob": 2, "sg_g": 1, "si_alice_bob": 3 } })
    );

    let asked = GetLastMessageReq {
        user_id: "bob".into(),
        conversation_ids: ["si_alice_bob", "sg_g", "si_x_y", "sg_silent"].map(String::from).into(),
    };
    let last: GetLastMessageResp = at_bob.call(1007, &asked).await?;
    let found: Vec<_> = last.msgs.iter().map(|(id, m)| (id.as_str(), m.seq, m.status)).collect();
    assert_eq!(found, [("sg_g", 1, 2), ("si_alice_bob", 1, 2)], "deleted: the one before");
    let erase = json!({ "conversationID": "si_alice_bob", "seqs": [3, 2] });
    admin.client.call("/msg/delete_msg_phsical_by_seq", erase).await?;
    let last: GetLastMessageResp = at_bob.call(1007, &asked).await?;
    assert_eq!(last.msgs["si_alice_bob"].seq, 1, "erased for everybody: the one before");

    edit(&node, "bob", "si_alice_bob", |record| record.pinned = true).await?;
    let asked = GetConversationsHasReadAndMaxSeqReq {
        user_id: "bob".into(),
        conversation_ids: ["si_alice_bob", "si_x_y"].map(String::from).into(),
        return_pinned: true,
    };
    let answer: GetConversationsHasReadAndMaxSeqResp = at_bob.call(1006, &asked).await?;
    assert_eq!(answer.pinned_conversation_ids, ["si_alice_bob"]);
    let seqs = &answer.seqs["si_alice_bob"];
    assert_eq!((seqs.max_seq, seqs.has_read_seq, seqs.max_seq_time > 0), (3, 2, true));
    assert_eq!(answer.seqs["si_x_y"], Default::default());
    let data = bob.call("/msg/get_conversations_has_read_and_max_seq", &body).await?;
    let ids: Vec<_> = data["seqs"].as_object().expect("a map").keys().collect();
    assert_eq!(ids, ["sg_g", "sg_silent", "si_alice_bob"]);
    assert_eq!(data["pinnedConversationIDs"], json!(null));
    let time = bob.call("/msg/get_server_time", json!({})).await?;
    assert!(time["serverTime"].as_i64().expect("a number") > 1_700_000_000_000);
    node.stop().await
}

#[tokio::test]
async fn who_has_left_a_group_sees_it_up_to_there() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ORDINARY)]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say_in(&mut at_alice, "alice", "g", &["1", "2"]).await?;
    let body = json!({ "conversationID": "sg_g", "seq": 1, "userID": "alice" });
    alice.call("/msg/revoke_msg", body).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    assert!(range(&mut at_bob, "bob", ("n_g", 1, 9, 9), 0).await?.is_some());
    leave(&node, "g", "bob", 2).await?;
    node.clock.advance(60_000);
    say_in(&mut at_alice, "alice", "g", &["3"]).await?;
    let pulled = range(&mut at_bob, "bob", ("sg_g", 1, 9, 9), 0).await?.expect("an entry");
    assert_eq!((numbers(&pulled), pulled.is_end), (vec![1, 2], true));
    assert_eq!(numbers(&by_seqs(&mut at_bob, "bob", "sg_g", &[2, 3], 0).await?), [2]);
    let closed = range(&mut at_bob, "bob", ("n_g", 1, 9, 9), 0).await?.expect("an entry");
    assert_eq!((numbers(&closed), closed.is_end), (vec![], true));
    let body = json!({ "userID": "bob", "conversationIDs": ["sg_g"] });
    let route = "/msg/get_conversations_has_read_and_max_seq";
    let (his, hers) =
        (bob.call(route, &body).await?, alice.call(route, json!({ "userID": "alice" })).await?);
    assert_eq!(his["seqs"]["sg_g"]["maxSeq"], 2);
    assert_eq!(his["seqs"]["sg_g"]["maxSeqTime"], json!(pulled.msgs[1].send_time));
    assert_ne!(his["seqs"]["sg_g"]["maxSeqTime"], hers["seqs"]["sg_g"]["maxSeqTime"]);
    let asked = GetLastMessageReq { user_id: "bob".into(), conversation_ids: vec!["sg_g".into()] };
    let last: GetLastMessageResp = at_bob.call(1007, &asked).await?;
    assert_eq!(last.msgs["sg_g"].seq, 2);
    node.stop().await
}

#[tokio::test]
async fn a_stranger_reads_nothing() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, _, mallory] = admin.users(["alice", "bob", "mallory"]).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ORDINARY)]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1"]).await?;
    say_in(&mut at_alice, "alice", "g", &["1"]).await?;
    for id in ["si_alice_bob", "sg_g"] {
        let body = json!({ "conversationID": id, "seq": 1, "userID": "alice" });
        alice.call("/msg/revoke_msg", body).await?;
    }
    // Not even with records of the conversations, as clients can make them.
    for (id, session_type) in [("si_alice_bob", 1), ("sg_g", 3)] {
        edit(&node, "mallory", id, move |record| record.session_type = session_type).await?;
    }
    let mut socket = mallory.connect(Wire::JSON).await?;
    assert_eq!(mallory.call("/msg/newest_seq", json!({ "userID": "mallory" })).await?, json!({}));
    for id in ["si_alice_bob", "sg_g", "n_alice_bob", "n_g", "n_alice_alice"] {
        let pulled = range(&mut socket, "mallory", (id, 1, 9, 9), 0).await?.expect("an entry");
        assert_eq!((numbers(&pulled), pulled.is_end), (vec![], true), "{id}");
        assert!(by_seqs(&mut socket, "mallory", id, &[1], 0).await?.msgs.is_empty(), "{id}");
        assert_eq!(seqs(&mallory, id).await?, (0, 0), "{id}");
        let asked =
            GetLastMessageReq { user_id: "mallory".into(), conversation_ids: vec![id.into()] };
        let last: GetLastMessageResp = socket.call(1007, &asked).await?;
        assert!(last.msgs.is_empty(), "{id}");
    }
    use proto::Message as _;
    let user_id = || "alice".to_owned();
    for (opcode, data) in [
        (1001, GetMaxSeqReq { user_id: user_id() }.encode_to_vec()),
        (1002, PullMessageBySeqsReq { user_id: user_id(), ..Default::default() }.encode_to_vec()),
        (1005, GetSeqMessageReq { user_id: user_id(), ..Default::default() }.encode_to_vec()),
        (
            1006,
            GetConversationsHasReadAndMaxSeqReq { user_id: user_id(), ..Default::default() }
                .encode_to_vec(),
        ),
        (1007, GetLastMessageReq { user_id: user_id(), ..Default::default() }.encode_to_vec()),
    ] {
        assert_eq!(socket.exchange(opcode, data).await?.err_code, 1002, "{opcode}");
    }
    for (route, body, expected) in [
        ("newest_seq", json!({ "userID": "alice" }), 1002),
        ("newest_seq", json!({}), 1002),
        ("pull_msg_by_seq", json!({ "userID": "alice" }), 1002),
        ("get_conversations_has_read_and_max_seq", json!({ "userID": "alice" }), 1002),
        ("get_conversations_has_read_and_max_seq", json!({}), 1001),
    ] {
        assert_eq!(
            mallory.refused(&format!("/msg/{route}"), &body).await?,
            expected,
            "{route} {body}"
        );
        let answer =
            admin.client.post(&format!("/msg/{route}"), json!({ "userID": "alice" })).await?;
        assert_eq!(answer.code, 0, "an admin may: {route}");
    }
    node.stop().await
}

/// What was asked for is there with its value, however empty: the JS SDK reads it without a look.
#[tokio::test]
async fn every_conversation_asked_for_has_an_entry_with_a_value() -> Result {
    use proto::Message as _;
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1"]).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let id = "si_alice_bob";
    // A map with one entry, of which the value has no bytes.
    let entry = |tag: u8, id: &str| {
        let id = id.as_bytes();
        let mut bytes = vec![tag, id.len() as u8 + 4, 0x0a, id.len() as u8];
        bytes.extend(id);
        bytes.extend([0x12, 0]);
        bytes
    };
    for (id, tag) in [(id, 0x0a), ("si_x_y", 0x0a), ("n_alice_bob", 0x12)] {
        let conversations = vec![ConversationSeqs { conversation_id: id.into(), seqs: vec![0] }];
        let asked = GetSeqMessageReq { user_id: "bob".into(), conversations, order: 0 };
        let answer = at_bob.exchange(1005, asked.encode_to_vec()).await?;
        assert_eq!(answer.data.unwrap_or_default(), entry(tag, id), "{id}");
    }
    let range = SeqRange { conversation_id: id.into(), begin: 5, end: 0, num: 1 };
    let seq_ranges = vec![range];
    let asked = PullMessageBySeqsReq { user_id: "bob".into(), seq_ranges, order: 0 };
    let answer = at_bob.exchange(1002, asked.encode_to_vec()).await?;
    assert_eq!(answer.data.unwrap_or_default(), entry(0x0a, id));
    let asked = GetConversationsHasReadAndMaxSeqReq {
        user_id: "bob".into(),
        conversation_ids: vec!["si_x_y".into()],
        return_pinned: false,
    };
    let answer = at_bob.exchange(1006, asked.encode_to_vec()).await?;
    assert_eq!(answer.data.unwrap_or_default(), entry(0x0a, "si_x_y"));
    node.stop().await
}

/// The native SDK reads no frame over 1 MiB; its connection would end at the same pull for ever.
#[tokio::test]
async fn what_is_too_much_for_a_native_client_is_cut_to_its_newest() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::GOB_GZIP).await?;
    let total = 60;
    for at in 0..total {
        // Nothing that compresses well.
        let bytes: Vec<u8> = (0..22_000_u64).map(|byte| noise(at * 22_000 + byte)).collect();
        at_alice.send_text("bob", &hex::encode(bytes)).await?;
    }
    let range = SeqRange { conversation_id: "si_alice_bob".into(), begin: 1, end: 60, num: 60 };
    let by_range =
        PullMessageBySeqsReq { user_id: "bob".into(), seq_ranges: vec![range], order: 1 };
    let wanted =
        ConversationSeqs { conversation_id: "si_alice_bob".into(), seqs: (1..=60).collect() };
    let by_seqs = GetSeqMessageReq { user_id: "bob".into(), conversations: vec![wanted], order: 1 };
    let mut native = bob.connect(Wire::GOB_GZIP).await?;
    for (opcode, request) in [(1002, by_range.encode_to_vec()), (1005, by_seqs.encode_to_vec())] {
        let answer = native.exchange(opcode, request).await?;
        let data = answer.data.unwrap_or_default();
        assert!(data.len() < 2 << 20, "{opcode}: {} bytes", data.len());
        let pulled = GetSeqMessageResp::decode(data)?.msgs["si_alice_bob"].clone();
        let seqs: Vec<i64> = pulled.msgs.iter().map(|message| message.seq).collect();
        let first = seqs[0];
        assert!(first > 1 && seqs.len() > 10, "{opcode}: {seqs:?}");
        assert_eq!(seqs, (first..=60).collect::<Vec<_>>(), "{opcode}: the newest");
        assert!(!pulled.is_end, "{opcode}: there are older ones");
    }
    let mut js = bob.connect(Wire::JSON).await?;
    let all: GetSeqMessageResp = js.call(1002, &by_range).await?;
    assert_eq!(all.msgs["si_alice_bob"].msgs.len(), 60);
    node.stop().await
}

/// A byte that follows from a number and looks random.
fn noise(number: u64) -> u8 {
    let mixed = (number ^ (number >> 7)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as u8
}
