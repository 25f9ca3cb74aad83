//! Conversations in a user's list, over the API.
#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod deleted;

use std::time::Duration;

use proto::sdkws::{GroupInfo, MsgData};
use serde_json::{Value, json};
use services::StoreError;
use store::record::{Group, Member, Present};
use store::schema;
use testnet::{Client, Node, Push, Result, Wire, text_message};

const QUIET: Duration = Duration::from_millis(60);
/// The body of an answer without data.
const OK: &str = r#"{"errCode":0,"errMsg":"","errDlt":""}"#;
const NEVER: i64 = -62_135_596_800_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

fn page(number: i32, rows: i32) -> Value {
    json!({"pageNumber": number, "showNumber": rows})
}

/// What a notification says.
fn detail(message: &MsgData) -> Value {
    let content: Value = serde_json::from_slice(&message.content).expect("JSON");
    serde_json::from_str(content["detail"].as_str().expect("a text")).expect("JSON")
}

/// A conversation of two as it is at first.
fn fresh(owner: &str, peer: &str) -> Value {
    let (a, b) = if owner <= peer { (owner, peer) } else { (peer, owner) };
    json!({
        "ownerUserID": owner, "conversationID": format!("si_{a}_{b}"), "recvMsgOpt": 0,
        "conversationType": 1, "userID": peer, "groupID": "", "isPinned": false,
        "attachedInfo": "", "isPrivateChat": false, "groupAtType": 0, "ex": "",
        "burnDuration": 0, "minSeq": 0, "maxSeq": 0, "msgDestructTime": 0,
        "latestMsgDestructTime": NEVER, "isMsgDestruct": false,
    })
}

/// A request to set fields of alice's conversation with a peer.
fn set(peer: &str, fields: Value) -> Value {
    let mut conversation = json!({
        "conversationID": format!("si_alice_{peer}"), "conversationType": 1, "userID": peer,
    });
    let all = conversation.as_object_mut().expect("an object");
    all.extend(fields.as_object().cloned().expect("an object"));
    json!({"userIDs": ["alice"], "conversation": conversation})
}

const SET: &str = "/conversation/set_conversations";

async fn text(from: &Client, to: &str) -> Result {
    let mut socket = from.connect(Wire::JSON).await?;
    socket.send_text(to, "hello").await?;
    Ok(())
}

async fn incremental(client: &Client, version_id: &Value, version: &Value) -> Result<Value> {
    let body = json!({"userID": client.user_id, "versionID": version_id, "version": version});
    client.call("/conversation/get_incremental_conversations", body).await
}

async fn one(client: &Client, id: &str) -> Result<Value> {
    let body = json!({"ownerUserID": client.user_id, "conversationID": id});
    let answer = client.call("/conversation/get_conversation", body).await?;
    Ok(answer["conversation"].clone())
}

async fn ids(client: &Client) -> Result<Value> {
    let body = json!({"userID": client.user_id, "idHash": 0});
    let full = client.call("/conversation/get_full_conversation_ids", body).await?;
    Ok(full["conversationIDs"].clone())
}

/// Puts a group with these members in place.
async fn group(node: &Node, group_id: &'static str, members: &[&'static str]) -> Result {
    let members = members.to_vec();
    let info = GroupInfo {
        group_id: group_id.into(),
        group_name: "Team".into(),
        face_url: "face-team".into(),
        group_type: 2,
        member_count: members.len() as u32,
        ..GroupInfo::default()
    };
    let stored = node.services.store().transact(move |tx| {
        schema::GROUPS.put(tx, group_id, &Group { info, ..Group::default() });
        for id in members {
            let member = Member { role_level: 20, joined: 1, ..Member::default() };
            schema::MEMBERS.put(tx, (group_id, id), &member);
            schema::JOINED.put(tx, (id, group_id), &Present {});
        }
        Ok::<_, StoreError>(())
    });
    Ok(stored.await?)
}

async fn group_text(from: &Client, group_id: &str) -> Result {
    let message = MsgData {
        group_id: group_id.into(),
        session_type: 3,
        ..text_message(&from.user_id, "", "hi")
    };
    from.connect(Wire::JSON).await?.send(&message).await?;
    Ok(())
}

#[tokio::test]
async fn the_first_message_begins_a_conversation() -> Result {
    let node = Node::start().await?;
    let [alice, bob, carol] = node.admin().await?.users(["alice", "bob", "carol"]).await?;
    let none = incremental(&alice, &json!(""), &json!(0)).await?;
    assert_eq!((&none["full"], &none["version"]), (&json!(true), &json!(1)));
    assert_eq!(
        (&none["delete"], &none["insert"], &none["update"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    let empty = json!({"ownerUserID": "alice"});
    let all = "/conversation/get_all_conversations";
    assert_eq!(alice.call(all, &empty).await?, json!({"conversations": null}));
    assert_eq!(ids(&alice).await?, Value::Null);

    text(&alice, "bob").await?;
    node.clock.advance(10);
    text(&carol, "alice").await?;
    let both = [fresh("alice", "bob"), fresh("alice", "carol")];
    assert_eq!(alice.call(all, &empty).await?, json!({"conversations": both}));
    assert_eq!(one(&bob, "si_alice_bob").await?, fresh("bob", "alice"));
    let missing = json!({"ownerUserID": "alice", "conversationID": "si_x_y"});
    assert_eq!(alice.refused("/conversation/get_conversation", missing).await?, 1004);
    let body = json!({"ownerUserID": "alice", "conversationIDs": ["si_alice_carol", "si_x_y", "si_alice_carol"]});
    let named = alice.call("/conversation/get_conversations", body).await?;
    assert_eq!(named, json!({"conversations": [fresh("alice", "carol")]}));
    let body = json!({"ownerUserID": "alice", "conversationIDs": ["si_x_y"]});
    let named = alice.call("/conversation/get_conversations", body).await?;
    assert_eq!(named, json!({"conversations": null}));

    let paged = "/conversation/get_owner_conversation";
    let body = |page: Value| json!({"userID": "alice", "pagination": page});
    let second = alice.call(paged, body(page(2, 1))).await?;
    assert_eq!(second, json!({"total": 2, "conversations": [fresh("alice", "carol")]}));
    for nothing in [page(0, 2), page(9, 2), Value::Null] {
        let empty = json!({"total": 2, "conversations": null});
        assert_eq!(alice.call(paged, body(nothing)).await?, empty);
    }

    let changed = incremental(&alice, &none["versionID"], &none["version"]).await?;
    assert_eq!((&changed["version"], &changed["full"]), (&json!(3), &json!(false)));
    assert_eq!(changed["insert"], json!(both));
    assert_eq!((&changed["update"], &changed["delete"]), (&Value::Null, &Value::Null));
    let same = incremental(&alice, &changed["versionID"], &changed["version"]).await?;
    assert_eq!((&same["version"], &same["insert"]), (&json!(3), &Value::Null));

    let full = "/conversation/get_full_conversation_ids";
    let answer = alice.call(full, json!({"userID": "alice", "idHash": 0})).await?;
    let expected = json!({
        "version": 3, "versionID": none["versionID"], "equal": false,
        "conversationIDs": ["si_alice_bob", "si_alice_carol"],
    });
    assert_eq!(answer, expected);
    let known = json!({"userID": "alice", "idHash": HASH_OF_BOTH});
    let answer = alice.call(full, known).await?;
    assert_eq!((&answer["equal"], &answer["conversationIDs"]), (&json!(true), &Value::Null));
    node.stop().await
}

/// First eight bytes of the MD5 of `["si_alice_bob","si_alice_carol"]`.
const HASH_OF_BOTH: u64 = 15_014_158_041_843_984_817;

#[tokio::test]
async fn what_is_present_is_set_and_the_owner_hears_of_it() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let pc = node.admin().await?.client("alice", 3).await?;
    text(&alice, "bob").await?;
    let base = incremental(&alice, &json!(""), &json!(0)).await?;
    let (mut web, mut at_pc) =
        (alice.connect(Wire::JSON).await?, pc.connect(Wire::GOB_GZIP).await?);
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let fields = json!({
        "recvMsgOpt": 2, "isPinned": true, "attachedInfo": "ai", "ex": "cx", "groupAtType": 1,
        "burnDuration": 30, "msgDestructTime": 86_400, "isMsgDestruct": true,
        "minSeq": 77, "maxSeq": 88,
    });
    assert_eq!(alice.post(SET, set("bob", fields.clone())).await?.text, OK);
    for socket in [&mut web, &mut at_pc] {
        let Push::Message { conversation_id, message, .. } = socket.next_push().await? else {
            panic!("not a message");
        };
        assert_eq!((conversation_id.as_str(), message.content_type), ("n_alice_alice", 1300));
        assert_eq!((message.session_type, message.msg_from, message.seq), (1, 200, 0));
        let on: Vec<&String> = message.options.iter().filter(|o| *o.1).map(|o| o.0).collect();
        assert_eq!(on, ["senderSync"]);
        let expected = json!({"userID": "alice", "conversationIDList": ["si_alice_bob"]});
        assert_eq!(detail(&message), expected);
    }
    let mut expected = fresh("alice", "bob");
    let all = expected.as_object_mut().expect("an object");
    let ignored = ["minSeq", "maxSeq"];
    let fields = fields.as_object().expect("an object").clone();
    all.extend(fields.into_iter().filter(|(key, _)| !ignored.contains(&key.as_str())));
    assert_eq!(one(&alice, "si_alice_bob").await?, expected);
    assert_eq!(one(&bob, "si_alice_bob").await?, fresh("bob", "alice"));
    let changed = incremental(&alice, &base["versionID"], &base["version"]).await?;
    assert_eq!((&changed["version"], &changed["update"]), (&json!(3), &json!([expected])));
    let me = json!({"userID": "alice"});
    for route in ["get_not_notify_conversation_ids", "get_pinned_conversation_ids"] {
        let route = format!("/conversation/{route}");
        let listed = json!({"conversationIDs": ["si_alice_bob"]});
        assert_eq!(alice.call(&route, &me).await?, listed);
        let none = json!({"conversationIDs": null});
        assert_eq!(bob.call(&route, json!({"userID": "bob"})).await?, none);
    }

    // What is so already changes nothing, and what is absent stays.
    alice.call(SET, set("bob", json!({"isPinned": true}))).await?;
    alice.call(SET, set("bob", json!({"minSeq": 5}))).await?;
    alice.call(SET, set("bob", json!({}))).await?;
    assert_eq!(web.pushes_until_quiet(QUIET).await?, []);
    alice.call(SET, set("bob", json!({"recvMsgOpt": 0, "ex": ""}))).await?;
    let after = one(&alice, "si_alice_bob").await?;
    assert_eq!(
        (&after["recvMsgOpt"], &after["ex"], &after["isPinned"]),
        (&json!(0), &json!(""), &json!(true))
    );
    let changed = incremental(&alice, &changed["versionID"], &changed["version"]).await?;
    assert_eq!(changed["version"], 4);
    assert_eq!(at_bob.pushes_until_quiet(QUIET).await?, []);
    node.stop().await
}

#[tokio::test]
async fn conversations_are_made_of_their_parties() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob, mallory] = admin.users(["alice", "bob", "mallory"]).await?;
    group(&node, "g1", &["alice", "bob"]).await?;
    let base = incremental(&alice, &json!(""), &json!(0)).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    alice.call(SET, set("bob", json!({"isPinned": true}))).await?;
    let told = at_alice.next_notification(1300).await?;
    assert_eq!(detail(&told)["conversationIDList"], json!(["si_alice_bob"]));
    let made = incremental(&alice, &base["versionID"], &base["version"]).await?;
    assert_eq!((&made["insert"][0]["isPinned"], &made["update"]), (&json!(true), &Value::Null));
    let missing = json!({"ownerUserID": "bob", "conversationID": "si_alice_bob"});
    assert_eq!(bob.refused("/conversation/get_conversation", missing).await?, 1004);

    let of = |fields: Value| {
        let mut body = set("bob", json!({"isPinned": true}));
        let all = body["conversation"].as_object_mut().expect("an object");
        all.extend(fields.as_object().cloned().expect("an object"));
        body
    };
    for wrong in [
        json!({"conversationType": 0}),
        json!({"conversationType": 9}),
        json!({"userID": ""}),
        json!({"conversationType": 3, "conversationID": "sg_g1"}),
        json!({"conversationID": "si_bob_mallory"}),
        json!({"conversationID": "si_alice_mallory"}),
        json!({"ex": "x".repeat(20_000)}),
        json!({"attachedInfo": "x".repeat(20_000)}),
    ] {
        assert_eq!(alice.refused(SET, of(wrong.clone())).await?, 1001, "{wrong}");
    }
    assert_eq!(alice.refused(SET, set("nobody", json!({"isPinned": true}))).await?, 1004);
    for body in [
        json!({"conversation": set("bob", json!({}))["conversation"]}),
        json!({"userIDs": [], "conversation": set("bob", json!({}))["conversation"]}),
        json!({"userIDs": ["alice"]}),
        json!({"userIDs": ["alice"], "conversation": {}}),
    ] {
        assert_eq!(alice.refused(SET, body).await?, 1001);
    }

    let team = |owners: &[&str], ex: &str| {
        let conversation =
            json!({"conversationID": "sg_g1", "conversationType": 3, "groupID": "g1", "ex": ex});
        json!({"userIDs": owners, "conversation": conversation})
    };
    assert_eq!(alice.refused(SET, team(&["alice", "bob"], "x")).await?, 1002);
    assert_eq!(mallory.refused(SET, team(&["alice"], "x")).await?, 1002);
    // Having a group's conversation would show its messages.
    assert_eq!(mallory.refused(SET, team(&["mallory"], "x")).await?, 1002);
    assert_eq!(admin.client.refused(SET, team(&["alice", "mallory"], "x")).await?, 1002);
    assert_eq!(ids(&mallory).await?, Value::Null);
    let mut at_bob = bob.connect(Wire::JSON).await?;
    admin.client.call(SET, team(&["alice", "bob"], "by-admin")).await?;
    for (client, socket) in [(&alice, &mut at_alice), (&bob, &mut at_bob)] {
        let told = socket.next_notification(1300).await?;
        let id = &client.user_id;
        assert_eq!(detail(&told), json!({"userID": id, "conversationIDList": ["sg_g1"]}));
        assert_eq!(one(client, "sg_g1").await?["ex"], "by-admin");
    }
    node.stop().await
}

#[tokio::test]
async fn a_group_shows_from_the_first_day_on() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    group(&node, "g1", &["alice", "bob"]).await?;
    assert_eq!(ids(&alice).await?, json!(["sg_g1"]));
    let base = incremental(&alice, &json!(""), &json!(0)).await?;
    group_text(&bob, "g1").await?;
    // What does not change the list needs no step of its log.
    let after = incremental(&alice, &base["versionID"], &base["version"]).await?;
    assert_eq!((&after["version"], &after["insert"]), (&base["version"], &Value::Null));
    let expected = json!({
        "conversationType": 3, "userID": "", "groupID": "g1", "conversationID": "sg_g1",
    });
    let shown = one(&alice, "sg_g1").await?;
    for (key, value) in expected.as_object().expect("an object") {
        assert_eq!(&shown[key], value);
    }
    let delete = json!({"ownerUserID": "alice", "conversationIDs": ["sg_g1"]});
    alice.call("/conversation/delete_conversations", delete).await?;
    assert_eq!(ids(&alice).await?, Value::Null);
    assert_eq!(ids(&bob).await?, json!(["sg_g1"]));
    group_text(&bob, "g1").await?;
    assert_eq!(ids(&alice).await?, json!(["sg_g1"]));
    node.stop().await
}

#[tokio::test]
async fn burning_after_reading_is_for_both() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let (mut at_alice, mut at_bob) =
        (alice.connect(Wire::JSON).await?, bob.connect(Wire::JSON).await?);
    let private = |on: bool| set("bob", json!({"isPrivateChat": on}));
    assert_eq!(alice.post(SET, private(true)).await?.text, OK);
    let expected = json!({
        "recvID": "bob", "sendID": "alice", "isPrivate": true, "conversationID": "si_alice_bob",
    });
    for socket in [&mut at_alice, &mut at_bob] {
        let chat = socket.next_message().await?;
        assert_eq!((chat.content_type, chat.seq, detail(&chat)), (1701, 1, expected.clone()));
        let told = socket.next_notification(1701).await?;
        assert_eq!((told.send_id.as_str(), told.recv_id.as_str()), ("alice", "bob"));
        assert_eq!((told.options.get("isSendMsg"), detail(&told)), (Some(&true), expected.clone()));
        assert_eq!(socket.pushes_until_quiet(QUIET).await?, []);
    }
    for client in [&alice, &bob] {
        assert_eq!(one(client, "si_alice_bob").await?["isPrivateChat"], true);
        let first = incremental(client, &json!(""), &json!(0)).await?;
        assert!(first["version"].as_u64() > Some(1));
    }
    alice.call(SET, private(false)).await?;
    assert_eq!(detail(&at_bob.next_notification(1701).await?)["isPrivate"], false);
    assert_eq!(one(&bob, "si_alice_bob").await?["isPrivateChat"], false);

    // Whoever is blocked changes nothing at the other side.
    let black = json!({"ownerUserID": "bob", "blackUserID": "alice"});
    bob.call("/friend/add_black", black).await?;
    assert_eq!(alice.refused(SET, private(true)).await?, 1302);
    for client in [&alice, &bob] {
        assert_eq!(one(client, "si_alice_bob").await?["isPrivateChat"], false);
    }
    node.stop().await
}

#[tokio::test]
async fn the_extension_of_the_conversations_with_a_user_is_set() -> Result {
    let node = Node::start().await?;
    let [alice, bob, carol] = node.admin().await?.users(["alice", "bob", "carol"]).await?;
    text(&alice, "bob").await?;
    text(&carol, "bob").await?;
    let delete = json!({"ownerUserID": "bob", "conversationIDs": ["si_alice_bob"]});
    bob.call("/conversation/delete_conversations", delete).await?;
    let base = incremental(&alice, &json!(""), &json!(0)).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let update = "/conversation/update_conversations_by_user";
    let ex = json!({"userID": "bob", "ex": "peer-ex"});
    assert_eq!(alice.refused(update, &ex).await?, 1002);
    assert_eq!(bob.post(update, &ex).await?.text, OK);
    assert_eq!(bob.post(update, json!({"userID": "bob"})).await?.text, OK);
    assert_eq!(at_alice.pushes_until_quiet(QUIET).await?, []);
    let changed = incremental(&alice, &base["versionID"], &base["version"]).await?;
    assert_eq!(changed["update"][0]["ex"], "peer-ex");
    assert_eq!(one(&carol, "si_bob_carol").await?["ex"], "peer-ex");
    assert_eq!(one(&bob, "si_bob_carol").await?["ex"], "");
    node.stop().await
}

#[tokio::test]
async fn conversations_are_sorted_with_their_last_messages() -> Result {
    let node = Node::start().await?;
    let [alice, bob, carol] = node.admin().await?.users(["alice", "bob", "carol"]).await?;
    node.admin().await?.register(&["dave"]).await?;
    group(&node, "g1", &["alice", "bob"]).await?;
    let sorted = "/conversation/get_sorted_conversation_list";
    let body = |ids: Value, page: Value| json!({"userID": "alice", "conversationIDs": ids, "pagination": page});
    let none = json!({"userID": "dave", "conversationIDs": [], "pagination": page(1, 10)});
    assert_eq!(node.admin().await?.client.refused(sorted, none).await?, 1004);
    let silent = alice.call(sorted, body(json!([]), page(1, 10))).await?;
    assert_eq!((&silent["conversationTotal"], &silent["unreadTotal"]), (&json!(0), &json!(0)));
    text(&alice, "bob").await?;
    node.clock.advance(10);
    text(&carol, "alice").await?;
    text(&carol, "alice").await?;
    node.clock.advance(10);
    group_text(&bob, "g1").await?;
    node.clock.advance(10);
    alice.call(SET, set("dave", json!({"ex": "no message yet"}))).await?;
    alice.call(SET, set("bob", json!({"isPinned": true, "recvMsgOpt": 2}))).await?;

    let answer = alice.call(sorted, body(json!([]), page(1, 10))).await?;
    assert_eq!((&answer["conversationTotal"], &answer["unreadTotal"]), (&json!(3), &json!(3)));
    let elements = answer["conversationElems"].as_array().expect("a list");
    let seen: Vec<(&Value, &Value, &Value, &Value)> = elements
        .iter()
        .map(|e| (&e["conversationID"], &e["unreadCount"], &e["IsPinned"], &e["recvMsgOpt"]))
        .collect();
    let expected = [
        (json!("si_alice_bob"), json!(0), json!(true), json!(2)),
        (json!("si_alice_dave"), json!(0), json!(false), json!(0)),
        (json!("sg_g1"), json!(1), json!(false), json!(0)),
        (json!("si_alice_carol"), json!(2), json!(false), json!(0)),
    ];
    assert_eq!(seen, expected.each_ref().map(|(a, b, c, d)| (a, b, c, d)));
    assert_eq!(elements[1]["msgInfo"], Value::Null);
    let (single, team) = (&elements[0]["msgInfo"], &elements[2]["msgInfo"]);
    assert_eq!((&single["senderName"], &single["faceURL"]), (&json!("bob"), &json!("face-bob")));
    assert_eq!(
        (&single["sendID"], &single["content"]),
        (&json!("alice"), &json!(r#"{"content":"hello"}"#))
    );
    assert!(single["LatestMsgRecvTime"].as_i64() > Some(0));
    for (key, value) in [
        ("senderName", json!("bob")),
        ("faceURL", json!("")),
        ("groupID", json!("g1")),
        ("groupName", json!("Team")),
        ("groupFaceURL", json!("face-team")),
        ("groupType", json!(2)),
        ("groupMemberCount", json!(2)),
        ("sessionType", json!(3)),
    ] {
        assert_eq!(team[key], value, "{key}");
    }
    let second = alice.call(sorted, body(json!([]), page(2, 1))).await?;
    assert_eq!(second["conversationElems"][0]["conversationID"], "si_alice_dave");
    assert_eq!(second["conversationTotal"], 3);
    let named = json!(["si_alice_carol", "si_x_y", "si_alice_carol"]);
    let named = alice.call(sorted, body(named, page(1, 10))).await?;
    assert_eq!((&named["conversationTotal"], &named["unreadTotal"]), (&json!(1), &json!(2)));
    assert_eq!(alice.refused(sorted, body(json!(["si_x_y"]), page(1, 10))).await?, 1004);
    assert_eq!(alice.refused(sorted, body(json!([]), Value::Null)).await?, 1001);
    assert_eq!(alice.refused(sorted, json!({"pagination": page(1, 10)})).await?, 1001);
    node.stop().await
}

#[tokio::test]
async fn conversations_are_for_their_owner_and_admins() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, mallory, _] = admin.users(["alice", "mallory", "bob"]).await?;
    text(&alice, "bob").await?;
    let user = json!({"userID": "alice", "pagination": page(1, 10)});
    let owner = json!({"ownerUserID": "alice", "conversationID": "si_alice_bob"});
    let named = json!({"ownerUserID": "alice", "conversationIDs": ["si_alice_bob"]});
    let routes = [
        ("get_all_conversations", owner.clone(), 1001),
        ("get_conversation", owner, 1001),
        ("get_conversations", named.clone(), 1001),
        ("get_owner_conversation", user.clone(), 1002),
        ("get_sorted_conversation_list", user.clone(), 1001),
        ("set_conversations", set("bob", json!({"isPinned": true})), 1001),
        ("get_full_conversation_ids", user.clone(), 1002),
        ("get_incremental_conversations", user.clone(), 1002),
        ("get_not_notify_conversation_ids", user.clone(), 1002),
        ("get_pinned_conversation_ids", user.clone(), 1002),
        ("update_conversations_by_user", user, 1002),
        ("delete_conversations", named, 1002),
    ];
    for (route, body, empty) in routes {
        let route = format!("/conversation/{route}");
        assert_eq!(mallory.refused(&route, &body).await?, 1002, "{route}");
        assert_eq!(mallory.refused(&route, json!({})).await?, empty, "{route}");
        assert_eq!(admin.client.post(&route, &body).await?.code, 0, "{route}");
    }
    node.stop().await
}

/// Data of a program that did not keep the indices.
#[tokio::test]
async fn older_data_gets_its_indices_at_the_start() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob] = admin.users(["alice", "bob"]).await?;
    text(&bob, "alice").await?;
    let stored = json!({"key": "k", "data": "d", "sendUserID": "shop", "recvUserID": "alice",
        "reliabilityLevel": 2});
    admin.client.call("/msg/send_business_notification", stored).await?;
    let delete = json!({"ownerUserID": "alice", "conversationIDs": ["si_alice_bob"]});
    alice.call("/conversation/delete_conversations", delete).await?;
    let forgotten = node.services.store().transact(|tx| {
        schema::STREAMS.delete(tx, ("alice", "n_alice_shop"));
        schema::STREAMS.delete(tx, ("shop", "n_alice_shop"));
        schema::DELETED_CONVERSATIONS.delete(tx, ("si_alice_bob", "alice"));
        schema::COUNTERS.delete(tx, schema::counter::INDICES);
        tx.set_awaited("si_alice_bob", false)
    });
    forgotten.await?;
    node.services.resume().await?;
    let newest = alice.call("/msg/newest_seq", json!({"userID": "alice"})).await?;
    assert_eq!(newest["maxSeqs"], json!({"n_alice_shop": 1}));
    let base = incremental(&alice, &json!(""), &json!(0)).await?;
    text(&bob, "alice").await?;
    let back = incremental(&alice, &base["versionID"], &base["version"]).await?;
    assert_eq!(back["insert"][0]["conversationID"], "si_alice_bob");
    node.stop().await
}
