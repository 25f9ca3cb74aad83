use std::time::Duration;

use prost::Message as _;
use proto::sdkws::MsgData;
use serde_json::json;
use testnet::{Push, Result, Wire};

use super::{ALICE, BOB, CHAT_AT_ALPHA, CHAT_AT_BETA, Pair, until};

/// Opcode of a message.
const SEND: i32 = 1003;

#[tokio::test]
async fn messages_keep_their_order_while_the_other_node_is_asked() -> Result {
    let pair = Pair::start().await?;
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    let mut asked = Vec::new();
    for n in 0..60 {
        let message = testnet::text_message("alice", BOB, &n.to_string());
        asked.push(at_alice.ask(SEND, message.encode_to_vec()).await?);
    }
    for asked in asked {
        assert_eq!(at_alice.answer(&asked).await?.err_code, 0);
    }
    pair.settle().await?;
    let expected: Vec<String> =
        (0..60).map(|n| json!({ "content": n.to_string() }).to_string()).collect();
    let mut at_bob = pair.bob.connect(Wire::JSON).await?;
    for seen in [
        at_alice.history_from(CHAT_AT_ALPHA, 1).await?,
        at_bob.history_from(CHAT_AT_BETA, 1).await?,
    ] {
        let texts = seen.iter().map(|m| String::from_utf8_lossy(&m.content).into_owned());
        assert_eq!(texts.collect::<Vec<_>>(), expected);
    }
    Ok(())
}

#[tokio::test]
async fn messages_arrive_once_and_in_order_both_ways() -> Result {
    let pair = Pair::start().await?;
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    let mut at_bob = pair.bob.connect(Wire::GOB_GZIP).await?;
    for n in 0..100 {
        at_alice.send_text(BOB, &format!("a{n}")).await?;
        at_bob.send_text(ALICE, &format!("b{n}")).await?;
    }
    pair.settle().await?;
    let seen_by_alice = at_alice.history_from(CHAT_AT_ALPHA, 1).await?;
    let seen_by_bob = at_bob.history_from(CHAT_AT_BETA, 1).await?;
    for (seen, bob, alice) in [(&seen_by_alice, BOB, "alice"), (&seen_by_bob, "bob", ALICE)] {
        assert_eq!(seen.len(), 200);
        for (author, mark) in [(alice, 'a'), (bob, 'b')] {
            let texts: Vec<String> = seen
                .iter()
                .filter(|message| message.send_id == author)
                .map(|message| String::from_utf8_lossy(&message.content).into_owned())
                .collect();
            let expected: Vec<String> =
                (0..100).map(|n| json!({ "content": format!("{mark}{n}") }).to_string()).collect();
            assert_eq!(texts, expected);
        }
        assert!(seen.windows(2).all(|pair| {
            pair[0].seq + 1 == pair[1].seq && pair[0].send_time < pair[1].send_time
        }));
    }
    for node in [&pair.alpha, &pair.beta] {
        let report = store::verify::verify(&node.services.store().view(), |_| {})?;
        assert!(report.is_clean(), "{report:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_receipt_names_the_messages_as_their_author_knows_them() -> Result {
    let pair = Pair::start().await?;
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    let mut at_bob = pair.bob.connect(Wire::JSON).await?;
    // Bob's node knows them as 2 and 3, Alice's as 1 and 3.
    at_bob.send_text(ALICE, "first at beta").await?;
    pair.settle().await?;
    at_alice.send_text(BOB, "second").await?;
    pair.settle().await?;
    at_bob.send_text(ALICE, "third").await?;
    pair.settle().await?;
    at_alice.send_text(BOB, "fourth").await?;
    pair.settle().await?;
    let read = json!({
        "conversationID": CHAT_AT_BETA, "userID": "bob", "hasReadSeq": 4, "seqs": [2, 4],
    });
    pair.bob.call("/msg/mark_conversation_as_read", read).await?;
    let told = at_alice.next_notification(2200).await?;
    let tips: serde_json::Value = serde_json::from_slice(&told.content)?;
    let tips: serde_json::Value = serde_json::from_str(tips["detail"].as_str().unwrap_or(""))?;
    assert_eq!(tips["markAsReadUserID"], BOB);
    assert_eq!(tips["conversationID"], CHAT_AT_ALPHA);
    assert_eq!(tips["hasReadSeq"], 4);
    let seqs: Vec<i64> =
        tips["seqs"].as_array().into_iter().flatten().filter_map(|seq| seq.as_i64()).collect();
    assert_eq!(seqs, [2, 4]);
    Ok(())
}

#[tokio::test]
async fn a_receipt_for_thousands_reaches_their_author() -> Result {
    let pair = Pair::start().await?;
    let mut at_alice = pair.alice.connect(Wire::GOB_GZIP).await?;
    let total = 1_500;
    let mut asked = Vec::new();
    for _ in 0..total {
        let message = testnet::text_message("alice", BOB, "hello");
        asked.push(at_alice.ask(SEND, message.encode_to_vec()).await?);
    }
    for asked in asked {
        at_alice.answer(&asked).await?;
    }
    pair.settle().await?;
    let seqs: Vec<i64> = (1..=total).collect();
    let read = json!({
        "conversationID": CHAT_AT_BETA, "userID": "bob", "hasReadSeq": total, "seqs": seqs,
    });
    pair.bob.call("/msg/mark_conversation_as_read", read).await?;
    pair.settle().await?;
    let all = at_alice.history_from(CHAT_AT_ALPHA, 1).await?;
    assert_eq!(all.iter().filter(|message| message.is_read).count(), seqs.len());
    Ok(())
}

#[tokio::test]
async fn a_message_is_taken_back_on_both_nodes() -> Result {
    let pair = Pair::start().await?;
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    let mut at_bob = pair.bob.connect(Wire::JSON).await?;
    at_bob.send_text(ALICE, "before").await?;
    pair.settle().await?;
    at_alice.send_text(BOB, "a mistake").await?;
    pair.settle().await?;
    let revoke = json!({ "conversationID": CHAT_AT_ALPHA, "seq": 2, "userID": "alice" });
    pair.alice.call("/msg/revoke_msg", revoke).await?;
    let told = at_bob.next_notification(2101).await?;
    let text = String::from_utf8_lossy(&told.content).into_owned();
    assert!(text.contains(CHAT_AT_BETA) && text.contains(r#"\"seq\":2"#), "{text}");
    let seen = at_bob.history_from(CHAT_AT_BETA, 1).await?;
    assert_eq!(seen.last().map(|message| message.content_type), Some(2101));

    let foreign = json!({ "conversationID": CHAT_AT_ALPHA, "seq": 1, "userID": "alice" });
    assert_eq!(pair.alice.refused("/msg/revoke_msg", foreign).await?, 1002);
    Ok(())
}

#[tokio::test]
async fn messages_deleted_for_both_are_gone_on_both_nodes() -> Result {
    let pair = Pair::start().await?;
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    let mut at_bob = pair.bob.connect(Wire::JSON).await?;
    at_bob.send_text(ALICE, "one").await?;
    pair.settle().await?;
    at_alice.send_text(BOB, "two").await?;
    at_alice.send_text(BOB, "three").await?;
    pair.settle().await?;
    let delete = json!({
        "conversationID": CHAT_AT_ALPHA, "seqs": [1, 2], "userID": "alice",
        "deleteSyncOpt": { "IsSyncSelf": true, "IsSyncOther": true },
    });
    pair.alice.call("/msg/delete_msgs", delete).await?;
    at_bob.next_notification(2102).await?;
    let left = |messages: Vec<proto::sdkws::MsgData>| {
        messages.iter().filter(|message| message.content_type == 101).count()
    };
    assert_eq!(left(at_bob.history_from(CHAT_AT_BETA, 1).await?), 1);
    let clear = json!({
        "conversationIDs": [CHAT_AT_BETA], "userID": "bob",
        "deleteSyncOpt": { "IsSyncSelf": true, "IsSyncOther": true },
    });
    pair.bob.call("/msg/clear_conversation_msg", clear).await?;
    at_alice.next_notification(1703).await?;
    assert_eq!(left(at_alice.history_from(CHAT_AT_ALPHA, 1).await?), 0);
    Ok(())
}

#[tokio::test]
async fn who_is_blocked_is_told_as_on_one_node() -> Result {
    let pair = Pair::start().await?;
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    at_alice.send_text(BOB, "let in").await?;
    pair.settle().await?;
    let block = json!({ "ownerUserID": "bob", "blackUserID": ALICE });
    pair.bob.call("/friend/add_black", block).await?;
    until(async || Ok(at_alice.send_text(BOB, "kept out").await.is_err())).await?;
    let refused = at_alice.send_text(BOB, "kept out").await.expect_err("blocked");
    assert!(format!("{refused:#}").contains("1302"), "{refused:#}");
    Ok(())
}

#[tokio::test]
async fn a_message_that_is_refused_later_is_followed_by_a_tip() -> Result {
    let pair = Pair::start().await?;
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    at_alice.send_text(BOB, "let in").await?;
    pair.settle().await?;
    // Alice's node still relies on the yes it has got when Bob's records the block behind its back.
    let view_of_beta = pair.beta.services.store();
    view_of_beta
        .transact(|tx| {
            let black = store::record::Black::default();
            store::schema::BLACKS.put(tx, ("bob", ALICE), &black);
            Ok::<_, store::StoreError>(())
        })
        .await?;
    at_alice.send_text(BOB, "kept out").await?;
    let tip = loop {
        if let Push::Message { message, .. } = at_alice.next_push().await?
            && message.content_type == 110
        {
            break message;
        }
    };
    assert_eq!((&*tip.send_id, &*tip.recv_id, tip.seq), (BOB, "alice", 3));
    assert!(String::from_utf8_lossy(&tip.content).contains("910"));
    Ok(())
}

#[tokio::test]
async fn typing_is_seen_and_not_kept() -> Result {
    let pair = Pair::start().await?;
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    let mut at_bob = pair.bob.connect(Wire::JSON).await?;
    at_alice.send_text(BOB, "hello").await?;
    pair.settle().await?;
    let mut typing = testnet::text_message("alice", BOB, "typing");
    typing.content_type = 113;
    typing.options = [("history".to_owned(), false), ("persistent".to_owned(), false)].into();
    at_alice.send(&typing).await?;
    let seen = loop {
        if let Push::Message { message, .. } = at_bob.next_push().await?
            && message.content_type == 113
        {
            break message;
        }
    };
    assert_eq!((&*seen.send_id, seen.seq), (ALICE, 0));
    assert_eq!(at_bob.history_from(CHAT_AT_BETA, 1).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn who_is_online_elsewhere_is_shown() -> Result {
    let pair = Pair::start().await?;
    let who = json!({ "userIDs": [BOB] });
    let status = pair.alice.call("/user/get_users_status", &who).await?;
    assert_eq!(status["statusList"][0]["status"], 0);
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    let watch = proto::sdkws::SubUserOnlineStatus {
        subscribe_user_id: vec![BOB.to_owned()],
        unsubscribe_user_id: Vec::new(),
    };
    let _: proto::sdkws::SubUserOnlineStatusTips = at_alice.call(2005, &watch).await?;
    let at_bob = pair.bob.connect(Wire::JSON).await?;
    let mut next_status = async || loop {
        if let Push::Status(tips) = at_alice.next_push().await? {
            return Ok::<_, anyhow::Error>(tips.subscribers[0].clone());
        }
    };
    let status = next_status().await?;
    assert_eq!((&*status.user_id, &status.online_platform_ids[..]), (BOB, &[5][..]));
    drop(at_bob);
    assert!(next_status().await?.online_platform_ids.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_is_written_to_a_node_that_is_down_waits_for_it() -> Result {
    let pair = Pair::start().await?;
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    at_alice.send_text(BOB, "before").await?;
    pair.settle().await?;
    let Pair { alpha, beta, .. } = pair;
    beta.stop().await?;
    for n in 0..5 {
        at_alice.send_text(BOB, &format!("meanwhile {n}")).await?;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let peers = alpha.federation().map(|f| f.peers()).transpose()?.unwrap_or_default();
    assert_eq!(peers.iter().map(|peer| peer.queued).sum::<u64>(), 5);
    Ok(())
}

#[tokio::test]
async fn users_with_hyphens_write_to_each_other() -> Result {
    let pair = Pair::start().await?;
    let jean = pair.alpha.admin().await?.user("jean-luc").await?;
    let anne = pair.beta.admin().await?.user("anne-marie").await?;
    jean.connect(Wire::GOB_GZIP).await?.send_text("anne-marie@beta_example", "engage").await?;
    pair.settle().await?;
    let mut at_anne = anne.connect(Wire::JSON).await?;
    at_anne.send_text("jean-luc@alpha_example", "aye").await?;
    pair.settle().await?;
    let mut at_jean = jean.connect(Wire::JSON).await?;
    let seen = [
        at_anne.history("jean-luc@alpha_example").await?,
        at_jean.history("anne-marie@beta_example").await?,
    ];
    for seen in seen {
        let texts = seen.iter().map(|m| String::from_utf8_lossy(&m.content).into_owned());
        let expected = ["engage", "aye"].map(|text| json!({ "content": text }).to_string());
        assert_eq!(texts.collect::<Vec<_>>(), expected);
    }
    Ok(())
}

#[tokio::test]
async fn deep_messages_are_read_on_both_nodes() -> Result {
    let pair = Pair::start().await?;
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    let lists = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    let deep = [testnet::texts_in_texts(), lists];
    for content in &deep {
        let message = testnet::text_message("alice", BOB, "");
        let content = content.clone().into();
        at_alice.send(&MsgData { content_type: 114, content, ..message }).await?;
    }
    pair.settle().await?;
    let mut at_bob = pair.bob.connect(Wire::JSON).await?;
    for seen in [
        at_alice.history_from(CHAT_AT_ALPHA, 1).await?,
        at_bob.history_from(CHAT_AT_BETA, 1).await?,
    ] {
        assert_eq!(seen.len(), deep.len());
        assert!(seen.iter().zip(&deep).all(|(seen, deep)| *seen.content == *deep.as_bytes()));
    }
    Ok(())
}
