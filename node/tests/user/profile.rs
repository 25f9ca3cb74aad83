//! Changing a profile, and who hears of it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use proto::sdkws::{GroupInfo, MsgData};
use serde_json::{Value, json};
use store::record::{Friend, Group, Member, Present, ProfileNews};
use store::version_log::{self, List};
use store::{StoreError, schema};
use testnet::{Client, Node, Push, Result, Socket, Wire};

use crate::OK;

const QUIET: Duration = Duration::from_millis(150);

/// Puts each of `friends` into the owner's list and the owner into theirs.
async fn befriend(node: &Node, owner: &'static str, friends: Vec<String>) -> Result {
    let stored = node.services.store().transact(move |tx| {
        for friend in &friends {
            schema::FRIENDS.put(tx, (owner, friend), &Friend::default());
            schema::FRIENDS.put(tx, (friend, owner), &Friend::default());
        }
        Ok::<_, StoreError>(())
    });
    Ok(stored.await?)
}

async fn make_group(
    node: &Node,
    group_id: &'static str,
    status: i32,
    members: Vec<(&'static str, Member)>,
) -> Result {
    let stored = node.services.store().transact(move |tx| {
        let info = GroupInfo { group_id: group_id.into(), status, ..Default::default() };
        schema::GROUPS.put(tx, group_id, &Group { info, next_join: 9 });
        for (user_id, member) in members {
            schema::MEMBERS.put(tx, (group_id, user_id), &member);
            schema::JOINED.put(tx, (user_id, group_id), &Present {});
        }
        Ok::<_, StoreError>(())
    });
    Ok(stored.await?)
}

fn version(node: &Node, list: List, owner: &str) -> Result<u64> {
    Ok(version_log::version(&node.services.store().view(), list, owner)?.version)
}

fn changed(node: &Node, list: List, owner: &str) -> Result<Vec<String>> {
    let view = node.services.store().view();
    let changes = version_log::changes_since(&view, list, owner, 1, 100)?.context("many")?;
    Ok(changes.into_iter().map(|change| change.element).collect())
}

async fn info(client: &Client, user_id: &str) -> Result<Value> {
    let data = client.call("/user/get_users_info", json!({"userIDs": [user_id]})).await?;
    Ok(data["usersInfo"][0].clone())
}

/// Content type, sender, receiver and tips of every push until nothing more comes.
async fn told(socket: &mut Socket) -> Result<Vec<(i32, String, String, Value)>> {
    let mut told = Vec::new();
    for push in socket.pushes_until_quiet(QUIET).await? {
        let Push::Message { conversation_id, message, .. } = push else {
            bail!("unexpected {push:?}");
        };
        assert!(conversation_id.starts_with("n_"), "{conversation_id}");
        told.push((
            message.content_type,
            message.send_id.clone(),
            message.recv_id.clone(),
            tips(&message)?,
        ));
    }
    told.sort_by(|a, b| (a.0, &a.2).cmp(&(b.0, &b.2)));
    Ok(told)
}

fn tips(message: &MsgData) -> Result<Value> {
    let content: Value = serde_json::from_slice(&message.content)?;
    Ok(serde_json::from_str(content["detail"].as_str().context("no detail")?)?)
}

fn row(kind: i32, from: &str, to: &str, of: &str) -> (i32, String, String, Value) {
    (kind, from.into(), to.into(), json!({"userID": of}))
}

#[tokio::test]
async fn only_fields_that_are_given_change() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?.client;
    let [bob, mallory] = node.admin().await?.users(["bob", "mallory"]).await?;
    let (old, ex) = ("/user/update_user_info", "/user/update_user_info_ex");
    let before = info(&bob, "bob").await?;
    let body = json!({"userInfo": {
        "userID": "bob", "nickname": "Bobby", "faceURL": "f2", "ex": "bx", "appMangerLevel": 2,
        "globalRecvMsgOpt": 1, "createTime": 5,
    }});
    for route in [old, ex] {
        assert_eq!(mallory.refused(route, &body).await?, 1002);
        for body in [
            json!({}),
            json!({"userInfo": {}}),
            json!({"userInfo": {"nickname": "x"}}),
            json!({"userInfo": {"userID": "bob", "nickname": "x".repeat(513)}}),
            json!({"userInfo": {"userID": "bob", "ex": "x".repeat(20_000)}}),
        ] {
            assert_eq!(bob.refused(route, &body).await?, 1001, "{body}");
        }
        let unknown = json!({"userInfo": {"userID": "nobody", "nickname": "x"}});
        assert_eq!(admin.refused(route, unknown).await?, 1004);
    }
    assert_eq!(info(&bob, "bob").await?, before);
    assert_eq!(bob.post(old, &body).await?.text, OK);
    let mut expected = before;
    for (key, value) in [("nickname", "Bobby"), ("faceURL", "f2"), ("ex", "bx")] {
        expected[key] = json!(value);
    }
    expected["globalRecvMsgOpt"] = json!(1);
    assert_eq!(info(&bob, "bob").await?, expected);
    let empty = json!({"userInfo": {
        "userID": "bob", "nickname": "", "faceURL": "", "ex": "", "globalRecvMsgOpt": 0,
    }});
    bob.call(old, &empty).await?;
    assert_eq!(info(&bob, "bob").await?, expected);
    let nothing = json!({"userInfo": {"userID": "bob", "nickname": null}});
    bob.call(ex, &nothing).await?;
    assert_eq!(info(&bob, "bob").await?, expected);
    assert_eq!(bob.post(ex, &empty).await?.text, OK);
    for key in ["nickname", "faceURL", "ex"] {
        expected[key] = json!("");
    }
    expected["globalRecvMsgOpt"] = json!(0);
    assert_eq!(info(&bob, "bob").await?, expected);
    admin.call(ex, json!({"userInfo": {"userID": "bob", "nickname": "Bob"}})).await?;
    assert_eq!(info(&bob, "bob").await?["nickname"], "Bob");
    node.stop().await
}

#[tokio::test]
async fn the_receive_option_is_the_users_own() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?.client;
    let [bob, mallory] = node.admin().await?.users(["bob", "mallory"]).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let route = "/user/set_global_msg_recv_opt";
    let body = json!({"userID": "bob", "globalRecvMsgOpt": 2});
    assert_eq!(mallory.refused(route, &body).await?, 1002);
    assert_eq!(info(&bob, "bob").await?["globalRecvMsgOpt"], 0);
    assert_eq!(bob.post(route, &body).await?.text, OK);
    assert_eq!(info(&bob, "bob").await?["globalRecvMsgOpt"], 2);
    admin.call(route, json!({"userID": "bob"})).await?;
    assert_eq!(info(&bob, "bob").await?["globalRecvMsgOpt"], 0);
    assert_eq!(bob.refused(route, json!({"globalRecvMsgOpt": 2})).await?, 1001);
    assert_eq!(bob.refused(route, json!({"userID": "bob", "globalRecvMsgOpt": 3})).await?, 1001);
    assert_eq!(bob.refused(route, json!({"userID": "bob", "globalRecvMsgOpt": -1})).await?, 1001);
    assert_eq!(admin.refused(route, json!({"userID": "nobody"})).await?, 1004);
    assert_eq!(
        told(&mut at_bob).await?,
        [row(1303, "bob", "bob", "bob"), row(1303, "imAdmin", "bob", "bob")]
    );
    node.stop().await
}

#[tokio::test]
async fn friends_hear_of_a_new_name() -> Result {
    let node = Node::start().await?;
    let [alice, bob, carol, dave] =
        node.admin().await?.users(["alice", "bob", "carol", "dave"]).await?;
    befriend(&node, "alice", vec!["bob".into(), "carol".into(), "dave".into()]).await?;
    // Dave has taken alice off his list.
    node.services
        .store()
        .transact(|tx| {
            schema::FRIENDS.delete(tx, ("dave", "alice"));
            Ok::<_, StoreError>(())
        })
        .await?;
    let mut at_alice = alice.connect(Wire::GOB_GZIP).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let mut at_dave = dave.connect(Wire::JSON).await?;
    drop(carol);
    let route = "/user/update_user_info_ex";
    alice.call(route, json!({"userInfo": {"userID": "alice", "ex": "ux"}})).await?;
    let same = json!({"userInfo": {"userID": "alice", "nickname": "alice"}});
    alice.call(route, same).await?;
    let only_self = row(1303, "alice", "alice", "alice");
    assert_eq!(told(&mut at_alice).await?, [only_self.clone(), only_self.clone()]);
    assert_eq!(version(&node, List::Friends, "bob")?, 1);

    alice.call(route, json!({"userInfo": {"userID": "alice", "nickname": "Alice A"}})).await?;
    assert_eq!(
        told(&mut at_alice).await?,
        [row(1209, "alice", "bob", "alice"), row(1209, "alice", "carol", "alice"), only_self]
    );
    assert_eq!(told(&mut at_bob).await?, [row(1209, "alice", "bob", "alice")]);
    assert!(told(&mut at_dave).await?.is_empty());
    for friend in ["bob", "carol"] {
        assert_eq!(changed(&node, List::Friends, friend)?, ["alice"]);
    }
    for other in ["alice", "dave"] {
        assert_eq!(version(&node, List::Friends, other)?, 1);
    }
    let admin = node.admin().await?.client;
    admin.call(route, json!({"userInfo": {"userID": "alice", "faceURL": "f9"}})).await?;
    assert_eq!(told(&mut at_alice).await?, [row(1303, "imAdmin", "alice", "alice")]);
    assert_eq!(told(&mut at_bob).await?, [row(1209, "imAdmin", "bob", "alice")]);
    assert_eq!(version(&node, List::Friends, "bob")?, 3);
    node.stop().await
}

#[tokio::test]
async fn a_notification_of_a_profile_has_the_known_form() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    befriend(&node, "alice", vec!["bob".into()]).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let route = "/user/update_user_info";
    alice.call(route, json!({"userInfo": {"userID": "alice", "nickname": "A"}})).await?;
    let Push::Message { conversation_id, message, operation_id } = at_bob.next_push().await? else {
        panic!("not a message");
    };
    assert_eq!(conversation_id, "n_alice_bob");
    assert!(operation_id.starts_with("op-"));
    assert_eq!(&message.content[..], br#"{"detail":"{\"userID\":\"alice\"}"}"#);
    assert_eq!((message.session_type, message.msg_from, message.seq), (1, 200, 0));
    assert_eq!((message.client_msg_id.len(), message.server_msg_id.len()), (32, 32));
    assert!(message.send_time > 0 && message.create_time > 0);
    let on: Vec<&str> =
        message.options.iter().filter(|(_, on)| **on).map(|(key, _)| key.as_str()).collect();
    assert_eq!((message.options.len(), on), (11, vec!["senderSync"]));
    assert!(!message.offline_push_info.expect("push info").title.is_empty());
    node.stop().await
}

#[tokio::test]
async fn groups_hear_of_a_new_name_that_shows() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let plain = || Member { role_level: 20, joined: 77, ..Default::default() };
    let named = |nickname: &str, face_url: &str| Member {
        nickname: nickname.into(),
        face_url: face_url.into(),
        ..plain()
    };
    let owner = || Member { role_level: 100, ..plain() };
    make_group(&node, "g1", 0, vec![("alice", plain()), ("bob", owner())]).await?;
    make_group(&node, "g2", 0, vec![("alice", named("Ali", "")), ("bob", owner())]).await?;
    make_group(&node, "g3", 0, vec![("alice", named("Ali", "f")), ("bob", owner())]).await?;
    make_group(&node, "g4", 2, vec![("alice", plain()), ("bob", owner())]).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let route = "/user/update_user_info_ex";
    alice.call(route, json!({"userInfo": {"userID": "alice", "nickname": "Alice A"}})).await?;
    let told_bob = told(&mut at_bob).await?;
    let heads: Vec<(i32, &str, &str)> =
        told_bob.iter().map(|(kind, from, to, _)| (*kind, from.as_str(), to.as_str())).collect();
    assert_eq!(heads, [(1516, "alice", "g1"), (1516, "alice", "g2")]);
    let member = json!({
        "groupID": "g1", "userID": "alice", "roleLevel": 20, "joinTime": 77,
        "nickname": "Alice A", "faceURL": "face-alice", "appMangerLevel": 0, "joinSource": 0,
        "operatorUserID": "", "ex": "", "muteEndTime": 0, "inviterUserID": "",
    });
    let tips = &told_bob[0].3;
    assert_eq!(tips["changedUser"], member);
    assert_eq!(tips["opUser"], member);
    assert_eq!(tips["group"]["groupID"], "g1");
    let log = version_log::version(&node.services.store().view(), List::Members, "g1")?;
    assert_eq!(tips["groupMemberVersion"], 2);
    assert_eq!(tips["groupMemberVersionID"], log.id);
    assert_eq!((&tips["groupSortVersion"], &tips["operationTime"]), (&json!(0), &json!(0)));
    assert_eq!(told_bob[1].3["changedUser"]["nickname"], "Ali");
    assert_eq!(changed(&node, List::Members, "g1")?, ["alice"]);
    assert_eq!(changed(&node, List::Members, "g2")?, ["alice"]);
    for untouched in ["g3", "g4"] {
        assert_eq!(version(&node, List::Members, untouched)?, 1);
    }

    let admin = node.admin().await?.client;
    admin.call(route, json!({"userInfo": {"userID": "alice", "faceURL": "f9"}})).await?;
    let told_bob = told(&mut at_bob).await?;
    let operator = &told_bob[0].3["opUser"];
    assert_eq!((&operator["roleLevel"], &operator["appMangerLevel"]), (&json!(60), &json!(2)));
    assert_eq!(operator["nickname"], "superAdmin");
    assert_eq!(told_bob[0].3["changedUser"]["faceURL"], "f9");
    node.stop().await
}

/// Waits until every friend's log has been stepped once.
async fn all_told(node: &Node, friends: &[String]) -> Result {
    for friend in friends {
        let begun = Instant::now();
        while version(node, List::Friends, friend)? == 1 {
            ensure!(begun.elapsed() < Duration::from_secs(20), "{friend} was not told");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(version(node, List::Friends, friend)?, 2);
    }
    Ok(())
}

#[tokio::test]
async fn a_user_with_5_000_friends_changes_the_name() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut friends: Vec<String> = (1..5_000).map(|n| format!("a{n}")).collect();
    friends.push("bob".into());
    befriend(&node, "alice", friends.clone()).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let body = json!({"userInfo": {"userID": "alice", "nickname": "Alice A"}});
    alice.call("/user/update_user_info_ex", body).await?;
    all_told(&node, &friends).await?;
    assert_eq!(told(&mut at_alice).await?, [row(1303, "alice", "alice", "alice")]);
    assert_eq!(told(&mut at_bob).await?, [row(1209, "alice", "bob", "alice")]);
    assert!(schema::PROFILE_NEWS.get(&node.services.store().view(), "alice")?.is_none());
    node.stop().await
}

#[tokio::test]
async fn friends_are_told_after_a_restart() -> Result {
    let node = Node::start().await?;
    let [_, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let friends: Vec<String> = (1_000..1_500).map(|n| format!("a{n}")).collect();
    befriend(&node, "alice", friends.clone()).await?;
    befriend(&node, "alice", vec!["bob".into()]).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    // As if the node had stopped after the first hundred.
    let stored = node.services.store().transact(|tx| {
        let news = ProfileNews {
            next: "a1100".into(),
            from: "imAdmin".into(),
            operation_id: "before".into(),
        };
        schema::PROFILE_NEWS.put(tx, "alice", &news);
        Ok::<_, StoreError>(())
    });
    stored.await?;
    node.services.resume().await?;
    all_told(&node, &friends[100..]).await?;
    for friend in &friends[..100] {
        assert_eq!(version(&node, List::Friends, friend)?, 1);
    }
    assert_eq!(told(&mut at_bob).await?, [row(1209, "imAdmin", "bob", "alice")]);
    assert!(schema::PROFILE_NEWS.get(&node.services.store().view(), "alice")?.is_none());
    node.stop().await
}
