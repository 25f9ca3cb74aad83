//! Friends, friend requests and the black list, over the API.
#![allow(clippy::expect_used, reason = "a test may fail")]

mod black;
mod request;

use std::collections::BTreeSet;
use std::time::Duration;

use proto::sdkws::MsgData;
use serde_json::{Value, json};
use testnet::{Client, Node, Push, Result, Socket, Wire};

const QUIET: Duration = Duration::from_millis(60);
/// The body of an answer without data.
const OK: &str = r#"{"errCode":0,"errMsg":"","errDlt":""}"#;

fn page(number: i32, rows: i32) -> Value {
    json!({"pageNumber": number, "showNumber": rows})
}

fn request(from: &str, to: &str) -> Value {
    json!({"fromUserID": from, "toUserID": to, "reqMsg": "hi", "ex": "rx"})
}

fn answer(from: &str, to: &str, result: i32) -> Value {
    json!({"fromUserID": from, "toUserID": to, "handleResult": result, "handleMsg": "well"})
}

fn from_to(from: &str, to: &str) -> Value {
    json!({"fromUserID": from, "toUserID": to})
}

/// What a notification says.
fn detail(message: &MsgData) -> Value {
    let content: Value = serde_json::from_slice(&message.content).expect("JSON");
    serde_json::from_str(content["detail"].as_str().expect("a text")).expect("JSON")
}

/// Checks the frame of an unstored notification.
fn check_notification(message: &MsgData, from: &str, to: &str, in_chat: bool, push: bool) {
    assert_eq!((message.send_id.as_str(), message.recv_id.as_str()), (from, to));
    assert_eq!((message.session_type, message.msg_from, message.seq), (1, 200, 0));
    let on: Vec<&str> =
        message.options.iter().filter(|(_, on)| **on).map(|(key, _)| key.as_str()).collect();
    let mut expected = vec!["senderSync"];
    if in_chat {
        expected.insert(0, "isSendMsg");
    }
    if push {
        expected.insert(0, "offlinePush");
    }
    assert_eq!(on, expected);
    assert_eq!(message.options.len(), 11);
}

async fn befriend(from: &Client, to: &Client) -> Result {
    from.call("/friend/add_friend", request(&from.user_id, &to.user_id)).await?;
    to.call("/friend/add_friend_response", answer(&from.user_id, &to.user_id, 1)).await?;
    Ok(())
}

async fn incremental(client: &Client, version_id: &Value, version: &Value) -> Result<Value> {
    let body = json!({"userID": client.user_id, "versionID": version_id, "version": version});
    client.call("/friend/get_incremental_friends", body).await
}

#[tokio::test]
async fn admins_import_friends() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob, carol] = admin.users(["alice", "bob", "carol"]).await?;
    let import = "/friend/import_friend";
    let friends = |ids: &[&str]| json!({"ownerUserID": "alice", "friendUserIDs": ids});
    assert_eq!(alice.refused(import, friends(&["bob"])).await?, 1002);
    let admin = admin.client;
    assert_eq!(admin.refused(import, friends(&[])).await?, 1001);
    assert_eq!(admin.refused(import, json!({"friendUserIDs": ["bob"]})).await?, 1001);
    assert_eq!(admin.refused(import, friends(&["bob", "nobody"])).await?, 1004);
    assert_eq!(admin.refused(import, friends(&["bob", "alice"])).await?, 1004);
    assert_eq!(admin.refused(import, friends(&["bob", "bob"])).await?, 1004);
    let many: Vec<String> = (0..1_001).map(|n| n.to_string()).collect();
    let many = json!({"ownerUserID": "alice", "friendUserIDs": many});
    assert_eq!(admin.refused(import, many).await?, 1001);
    let none = json!({"userID": "alice"});
    assert_eq!(alice.call("/friend/get_friend_id", &none).await?, json!({"friendIDs": null}));

    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_carol = carol.connect(Wire::GOB_GZIP).await?;
    assert_eq!(admin.post(import, friends(&["carol", "bob"])).await?.text, OK);
    for friend in ["carol", "bob"] {
        let told = at_alice.next_notification(1201).await?;
        check_notification(&told, friend, "alice", true, false);
        let expected = json!({
            "fromToUserID": from_to("alice", friend), "handleMsg": "",
            "friendVersion": 0, "friendVersionID": "", "request": null,
        });
        assert_eq!(detail(&told), expected);
    }
    assert_eq!(at_carol.next_notification(1201).await?.send_id, "carol");
    assert_eq!(at_carol.pushes_until_quiet(QUIET).await?, []);
    let first = incremental(&alice, &json!(""), &json!(0)).await?;
    assert_eq!((&first["full"], &first["version"]), (&json!(true), &json!(2)));
    assert_eq!(
        alice.call("/friend/get_friend_id", &none).await?["friendIDs"],
        json!(["carol", "bob"])
    );
    for client in [&bob, &carol] {
        let ids = client.call("/friend/get_friend_id", json!({"userID": client.user_id})).await?;
        assert_eq!(ids["friendIDs"], json!(["alice"]));
    }
    // Who is a friend already stays as is and hears of it again.
    let remark = json!({"ownerUserID": "alice", "friendUserID": "bob", "remark": "Bobby"});
    alice.call("/friend/set_friend_remark", remark).await?;
    at_alice.pushes_until_quiet(QUIET).await?;
    admin.call(import, friends(&["bob"])).await?;
    assert_eq!(at_alice.next_notification(1201).await?.send_id, "bob");
    let named = json!({"ownerUserID": "alice", "friendUserIDs": ["bob", "alice"]});
    let named = alice.call("/friend/get_designated_friends", named).await?;
    assert_eq!(named["friendsInfo"].as_array().map(Vec::len), Some(1));
    let bob = &named["friendsInfo"][0];
    assert_eq!((&bob["remark"], &bob["addSource"]), (&json!("Bobby"), &json!(1)));
    assert_eq!(bob["operatorUserID"], "imAdmin");
    node.stop().await
}

/// Pushes that came to a socket: chat messages and notifications.
async fn counted(socket: &mut Socket) -> Result<(usize, usize)> {
    let pushes = socket.pushes_until_quiet(Duration::from_millis(300)).await?;
    let streams = pushes.iter().filter(|push| {
        matches!(push, Push::Message { conversation_id, .. } if conversation_id.starts_with("n_"))
    });
    let streams = streams.count();
    Ok((pushes.len() - streams, streams))
}

#[tokio::test]
async fn thousands_of_friends_are_one_step_and_few_frames() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let alice = admin.user("alice").await?;
    let ids: Vec<String> = (0..2_000).map(|n| format!("u{n:04}")).collect();
    for part in ids.chunks(1_000) {
        admin.register(&part.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    }
    let friend = admin.client("u0007", 5).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_friend = friend.connect(Wire::JSON).await?;
    let none = incremental(&alice, &json!(""), &json!(0)).await?;
    for part in ids.chunks(1_000) {
        let body = json!({"ownerUserID": "alice", "friendUserIDs": part});
        admin.client.call("/friend/import_friend", body).await?;
        // More messages than a connection may have waiting.
        assert_eq!(counted(&mut at_alice).await?, (1_000, 1_000));
    }
    assert_eq!(counted(&mut at_friend).await?, (1, 1));
    let after = incremental(&alice, &none["versionID"], &none["version"]).await?;
    assert_eq!((&after["version"], &after["full"]), (&json!(3), &json!(true)));
    assert_eq!((&after["insert"], &after["delete"]), (&Value::Null, &Value::Null));
    let mut listed = Vec::new();
    for number in 1.. {
        let body = json!({"userID": "alice", "pagination": page(number, 100)});
        let found = alice.call("/friend/get_friend_list", body).await?;
        assert_eq!(found["total"], 2_000);
        let rows = found["friendsInfo"].as_array().cloned().unwrap_or_default();
        listed.extend(
            rows.iter().map(|f| f["friendUser"]["userID"].as_str().expect("an ID").to_owned()),
        );
        if rows.len() < 100 {
            break;
        }
    }
    assert_eq!(listed, ids);
    node.stop().await
}

#[tokio::test]
async fn friends_are_changed_and_ordered() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob, _, _] = admin.users(["alice", "bob", "carol", "dave"]).await?;
    let friends = json!({"ownerUserID": "alice", "friendUserIDs": ["bob", "carol", "dave"]});
    admin.client.call("/friend/import_friend", friends).await?;
    let (mut at_alice, mut at_bob) =
        (alice.connect(Wire::JSON).await?, bob.connect(Wire::JSON).await?);
    let base = incremental(&alice, &json!(""), &json!(0)).await?;

    let remark = json!({"ownerUserID": "alice", "friendUserID": "bob", "remark": "Bobby"});
    assert_eq!(alice.post("/friend/set_friend_remark", remark).await?.text, OK);
    for socket in [&mut at_alice, &mut at_bob] {
        let told = socket.next_notification(1206).await?;
        check_notification(&told, "alice", "bob", false, false);
        let expected = json!({
            "fromToUserID": from_to("alice", "bob"), "friendVersion": 0, "friendVersionID": "",
            "friendSortVersion": 0,
        });
        assert_eq!(detail(&told), expected);
    }
    let stranger = json!({"ownerUserID": "alice", "friendUserID": "nobody", "remark": "x"});
    assert_eq!(alice.refused("/friend/set_friend_remark", stranger).await?, 1004);

    let update = "/friend/update_friends";
    let pin = json!({
        "ownerUserID": "alice", "friendUserIDs": ["dave", "nobody"], "isPinned": true, "ex": "fx",
    });
    assert_eq!(alice.post(update, pin).await?.text, OK);
    let told = at_alice.next_notification(1210).await?;
    check_notification(&told, "alice", "alice", false, false);
    let expected = json!({
        "fromToUserID": from_to("", "alice"), "friendVersion": 0, "friendVersionID": "",
        "friendIDs": ["dave", "nobody"],
    });
    assert_eq!(detail(&told), expected);
    assert_eq!(at_bob.pushes_until_quiet(QUIET).await?, []);

    let changed = incremental(&alice, &base["versionID"], &base["version"]).await?;
    assert_eq!((&changed["version"], &changed["sortVersion"]), (&json!(4), &json!(4)));
    assert_eq!((&changed["full"], &changed["delete"]), (&json!(false), &Value::Null));
    assert_eq!(changed["insert"], Value::Null);
    let updated = changed["update"].as_array().expect("a list");
    let seen: Vec<(&Value, &Value, &Value, &Value)> = updated
        .iter()
        .map(|f| (&f["friendUser"]["userID"], &f["remark"], &f["ex"], &f["isPinned"]))
        .collect();
    let expected = [
        (json!("bob"), json!("Bobby"), json!(""), json!(false)),
        (json!("dave"), json!(""), json!("fx"), json!(true)),
    ];
    assert_eq!(seen, expected.each_ref().map(|(a, b, c, d)| (a, b, c, d)));

    // Without a field there is nothing to do but to tell; empty texts clear.
    alice.call(update, json!({"ownerUserID": "alice", "friendUserIDs": ["bob"]})).await?;
    at_alice.next_notification(1210).await?;
    let same = incremental(&alice, &changed["versionID"], &changed["version"]).await?;
    assert_eq!((&same["version"], &same["sortVersion"]), (&json!(4), &json!(0)));
    let clear = json!({"ownerUserID": "alice", "friendUserIDs": ["bob"], "remark": ""});
    alice.call(update, clear).await?;
    let cleared = incremental(&alice, &changed["versionID"], &changed["version"]).await?;
    assert_eq!((&cleared["update"][0]["remark"], &cleared["sortVersion"]), (&json!(""), &json!(0)));
    let twice = json!({"ownerUserID": "alice", "friendUserIDs": ["bob", "bob"], "remark": ""});
    assert_eq!(alice.refused(update, twice).await?, 1001);
    let long = json!({"ownerUserID": "alice", "friendUserIDs": ["x".repeat(300)], "remark": ""});
    assert_eq!(alice.refused(update, long).await?, 1001);

    let full = "/friend/get_full_friend_user_ids";
    let all = alice.call(full, json!({"userID": "alice", "idHash": 0})).await?;
    assert_eq!(all["userIDs"], json!(["dave", "bob", "carol"]));
    assert_eq!((&all["equal"], &all["version"]), (&json!(false), &json!(5)));
    assert_eq!(all["versionID"], base["versionID"]);
    let known = alice.call(full, json!({"userID": "alice", "idHash": HASH_OF_THREE})).await?;
    assert_eq!((&known["equal"], &known["userIDs"]), (&json!(true), &Value::Null));

    let delete = "/friend/delete_friend";
    let carol = json!({"ownerUserID": "alice", "friendUserID": "carol"});
    assert_eq!(alice.post(delete, &carol).await?.text, OK);
    let told = at_alice.next_notification(1205).await?;
    check_notification(&told, "alice", "carol", false, false);
    let expected = json!({
        "fromToUserID": from_to("alice", "carol"), "friendVersion": 0, "friendVersionID": "",
    });
    assert_eq!(detail(&told), expected);
    assert_eq!(alice.post(delete, &carol).await?.text, OK);
    at_alice.next_notification(1205).await?;
    let gone = incremental(&alice, &all["versionID"], &all["version"]).await?;
    assert_eq!((&gone["delete"], &gone["version"]), (&json!(["carol"]), &json!(7)));
    let both = json!({"userID1": "alice", "userID2": "carol"});
    let one_side = json!({"inUser1Friends": false, "inUser2Friends": true});
    assert_eq!(alice.call("/friend/is_friend", both).await?, one_side);
    node.stop().await
}

/// First eight bytes of the MD5 of `["dave","bob","carol"]`.
const HASH_OF_THREE: u64 = 1_069_803_028_621_694_379;

/// Every route with a body for alice, and what a stranger gets.
fn routes() -> Vec<(&'static str, Value)> {
    let paged = json!({"userID": "alice", "pagination": page(1, 10)});
    let sync = json!({"userID": "alice", "versionID": "", "version": 0});
    let pair = json!({"ownerUserID": "alice", "friendUserID": "bob", "remark": "r"});
    let black = json!({"ownerUserID": "alice", "blackUserID": "bob"});
    let named = json!({"ownerUserID": "alice", "friendUserIDs": ["bob"], "remark": "r"});
    let list = json!({"ownerUserID": "alice", "userIDList": ["bob"]});
    vec![
        ("/friend/add_friend", request("alice", "bob")),
        ("/friend/get_friend_apply_list", paged.clone()),
        ("/friend/get_self_friend_apply_list", paged.clone()),
        ("/friend/get_designated_friend_apply", from_to("alice", "bob")),
        ("/friend/get_self_unhandled_apply_count", json!({"userID": "alice"})),
        ("/friend/add_friend_response", answer("bob", "alice", 1)),
        ("/friend/get_friend_list", paged.clone()),
        ("/friend/get_designated_friends", named.clone()),
        ("/friend/get_specified_friends_info", list.clone()),
        ("/friend/set_friend_remark", pair.clone()),
        ("/friend/update_friends", named.clone()),
        ("/friend/import_friend", named),
        ("/friend/is_friend", json!({"userID1": "alice", "userID2": "bob"})),
        ("/friend/get_friend_id", json!({"userID": "alice"})),
        ("/friend/get_incremental_friends", sync.clone()),
        ("/friend/get_full_friend_user_ids", json!({"userID": "alice", "idHash": 0})),
        ("/friend/delete_friend", pair),
        ("/friend/add_black", black.clone()),
        ("/friend/get_black_list", paged),
        ("/friend/get_specified_blacks", list),
        ("/friend/get_incremental_blacks", sync),
        ("/friend/remove_black", black),
    ]
}

#[tokio::test]
async fn lists_are_for_their_owner_and_admins() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob, mallory] = admin.users(["alice", "bob", "mallory"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    for (route, body) in routes() {
        assert_eq!(mallory.refused(route, body).await?, 1002, "{route}");
    }
    assert_eq!(at_alice.pushes_until_quiet(QUIET).await?, []);
    bob.call("/friend/add_friend", request("bob", "alice")).await?;
    let mut seen = BTreeSet::new();
    for (route, body) in routes() {
        assert!(seen.insert(route));
        assert_eq!(admin.client.post(route, body).await?.code, 0, "{route}");
    }
    assert_eq!(seen.len(), 22);
    node.stop().await
}

#[tokio::test]
async fn missing_arguments_are_refused() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?.client;
    // Where an empty user is just not the caller.
    let unchecked = [
        ("/friend/get_self_unhandled_apply_count", "userID"),
        ("/friend/get_incremental_friends", "userID"),
        ("/friend/get_specified_blacks", "ownerUserID"),
    ];
    for (route, body) in routes() {
        let optional =
            ["reqMsg", "ex", "remark", "handleMsg", "time", "versionID", "version", "idHash"];
        let object = body.as_object().expect("an object");
        for key in object.keys().filter(|key| !optional.contains(&key.as_str())) {
            if unchecked.contains(&(route, key)) {
                continue;
            }
            let mut body = body.clone();
            body.as_object_mut().expect("an object").remove(key);
            assert_eq!(admin.refused(route, body).await?, 1001, "{route} without {key}");
        }
    }
    node.stop().await
}
