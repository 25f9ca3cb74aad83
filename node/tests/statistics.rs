//! Reports for the operator.

use anyhow::Context as _;
use proto::sdkws::{GroupInfo, MsgData};
use serde_json::{Value, json};
use services::environment::Clock as _;
use store::record::{Group, Member, Present};
use store::{StoreError, schema};
use testnet::{Client, Node, Result, Wire, text_message};

const DAY_MS: i64 = 86_400_000;

/// The first millisecond of the UTC day of the node's clock, and the day as text.
async fn today(node: &Node, admin: &Client) -> Result<(i64, String)> {
    let start = node.clock.now_ms().div_euclid(DAY_MS) * DAY_MS;
    let body = json!({"start": start, "end": start + DAY_MS});
    let data = admin.call("/statistics/user/register", body).await?;
    let count = data["count"].as_object().context("no counts")?;
    assert_eq!(count.len(), 1);
    Ok((start, count.keys().next().context("no day")?.clone()))
}

/// Early in a UTC day, so that no test runs over midnight.
async fn start() -> Result<Node> {
    let node = Node::start().await?;
    let now = node.clock.now_ms();
    node.clock.advance(DAY_MS - now.rem_euclid(DAY_MS) + 3_600_000);
    Ok(node)
}

async fn make_group(
    node: &Node,
    group_id: &'static str,
    created: i64,
    users: &[&'static str],
) -> Result {
    let users = users.to_vec();
    let made = node.services.store().transact(move |tx| {
        let info = GroupInfo {
            group_id: group_id.into(),
            group_name: format!("Name of {group_id}"),
            owner_user_id: "alice".into(),
            create_time: created,
            member_count: 2,
            group_type: 2,
            ..Default::default()
        };
        schema::GROUPS.put(tx, group_id, &Group { info, next_join: 9 });
        schema::GROUP_ORDER.put(tx, (created, group_id), &Present {});
        for user_id in users {
            let member = Member { role_level: 20, ..Default::default() };
            schema::MEMBERS.put(tx, (group_id, user_id), &member);
            schema::JOINED.put(tx, (user_id, group_id), &Present {});
        }
        Ok::<_, StoreError>(())
    });
    Ok(made.await?)
}

fn group_text(from: &str, group_id: &str) -> MsgData {
    MsgData { group_id: group_id.into(), session_type: 3, ..text_message(from, "", "hi") }
}

#[tokio::test]
async fn registrations_are_counted_by_day() -> Result {
    let node = start().await?;
    let admin = node.admin().await?.client;
    let route = "/statistics/user/register";
    node.admin().await?.register(&["alice"]).await?;
    let (first, day) = today(&node, &admin).await?;
    node.clock.advance(2 * DAY_MS);
    node.admin().await?.register(&["b1", "b2"]).await?;
    node.clock.advance(1_000);
    let cut = { node.clock.now_ms() };
    node.clock.advance(1_000);
    node.admin().await?.register(&["b3"]).await?;

    let alice = node.admin().await?.client("alice", 5).await?;
    let body = json!({"start": first, "end": first + DAY_MS});
    assert_eq!(alice.refused(route, &body).await?, 1002);
    let text = admin.post(route, &body).await?.text;
    let expected = format!(
        r#"{{"errCode":0,"errMsg":"","errDlt":"","data":{{"total":5,"before":1,"count":{{"{day}":1}}}}}}"#
    );
    assert_eq!(text, expected);
    let whole = json!({"start": first, "end": first + 9 * DAY_MS});
    let data = admin.call(route, whole).await?;
    let counts: Vec<i64> =
        data["count"].as_object().expect("counts").values().filter_map(Value::as_i64).collect();
    assert_eq!(counts, [1, 3]);
    // Ranges that cut a day count to the millisecond.
    let later = admin.call(route, json!({"start": cut, "end": cut + DAY_MS})).await?;
    assert_eq!(
        (&later["before"], later["count"].as_object().map(|c| c.len())),
        (&json!(4), Some(1))
    );
    assert_eq!(later["count"].as_object().and_then(|c| c.values().next()), Some(&json!(1)));
    let earlier = admin.call(route, json!({"start": first, "end": cut})).await?;
    let counts: Vec<i64> =
        earlier["count"].as_object().expect("counts").values().filter_map(Value::as_i64).collect();
    assert_eq!(counts, [1, 2]);
    let nothing = admin.post(route, json!({"start": 1, "end": 2})).await?;
    assert_eq!(
        nothing.text,
        r#"{"errCode":0,"errMsg":"","errDlt":"","data":{"total":5,"before":1}}"#
    );
    for (start, end) in [(0, 5), (5, 0), (-1, 5), (9, 3)] {
        assert_eq!(admin.refused(route, json!({"start": start, "end": end})).await?, 1001);
    }
    node.stop().await
}

#[tokio::test]
async fn new_groups_are_counted_by_day() -> Result {
    let node = start().await?;
    let admin = node.admin().await?.client;
    let alice = node.admin().await?.user("alice").await?;
    let route = "/statistics/group/create";
    for (id, created) in [("g1", DAY_MS + 5), ("g2", DAY_MS + 6), ("g3", 3 * DAY_MS)] {
        make_group(&node, id, created, &[]).await?;
    }
    let body = json!({"start": DAY_MS + 6, "end": 3 * DAY_MS});
    let text = admin.post(route, &body).await?.text;
    assert_eq!(
        text,
        r#"{"errCode":0,"errMsg":"","errDlt":"","data":{"total":3,"before":1,"count":{"1970-01-02":1}}}"#
    );
    assert_eq!(alice.refused(route, &body).await?, 1002);
    assert_eq!(alice.refused(route, json!({"start": 9, "end": 3})).await?, 1001);
    assert_eq!(admin.refused(route, json!({"start": 9})).await?, 1001);
    assert_eq!(admin.refused(route, json!({"end": 9})).await?, 1001);
    node.stop().await
}

#[tokio::test]
async fn senders_are_ranked() -> Result {
    let node = start().await?;
    let admin = node.admin().await?.client;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    make_group(&node, "g1", 5, &["alice", "bob"]).await?;
    let (start, day) = today(&node, &admin).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    for n in 0..3 {
        at_alice.send_text("bob", &n.to_string()).await?;
    }
    at_bob.send_text("alice", "b").await?;
    for _ in 0..4 {
        at_bob.send(&group_text("bob", "g1")).await?;
    }
    let route = "/statistics/user/active";
    let body = |start: i64, end: i64, ase: bool, group: bool, number: i32, show: i32| {
        json!({
            "start": start, "end": end, "ase": ase, "group": group,
            "pagination": {"pageNumber": number, "showNumber": show},
        })
    };
    let end = start + DAY_MS;
    let ranking = |data: &Value| -> Vec<(String, i64)> {
        let users = data["users"].as_array().cloned().unwrap_or_default();
        let entry = |user: &Value| {
            (
                user["user"]["userID"].as_str().unwrap_or_default().to_owned(),
                user["count"].as_i64().unwrap_or(-1),
            )
        };
        users.iter().map(entry).collect()
    };
    let single = admin.call(route, body(start, end, false, false, 1, 10)).await?;
    assert_eq!((&single["msgCount"], &single["userCount"]), (&json!(4), &json!(2)));
    assert_eq!(single["dateCount"], json!({ day.as_str(): 4 }));
    assert_eq!(ranking(&single), [("alice".into(), 3), ("bob".into(), 1)]);
    assert_eq!(single["users"][0]["user"]["nickname"], "alice");
    let all = admin.call(route, body(start, end, false, true, 1, 1)).await?;
    assert_eq!((&all["msgCount"], ranking(&all)), (&json!(8), vec![("bob".into(), 5)]));
    let second = admin.call(route, body(start, end, false, true, 2, 1)).await?;
    assert_eq!(ranking(&second), [("alice".into(), 3)]);
    let least = admin.call(route, body(start, end, true, true, 1, 1)).await?;
    assert_eq!(ranking(&least), [("alice".into(), 3)]);
    let none = admin.post(route, body(1, 2, false, true, 1, 2)).await?;
    assert_eq!(
        none.text,
        r#"{"errCode":0,"errMsg":"","errDlt":"","data":{"msgCount":0,"userCount":0,"users":null}}"#
    );
    assert_eq!(alice.refused(route, body(start, end, false, true, 1, 1)).await?, 1002);
    assert_eq!(admin.refused(route, json!({"start": start, "end": end})).await?, 1001);
    assert_eq!(admin.refused(route, body(start, end, false, true, 1, 0)).await?, 1001);
    node.stop().await
}

#[tokio::test]
async fn groups_are_ranked() -> Result {
    let node = start().await?;
    let admin = node.admin().await?.client;
    let [alice, _] = node.admin().await?.users(["alice", "bob"]).await?;
    make_group(&node, "g1", 5, &["alice", "bob"]).await?;
    make_group(&node, "g2", 5, &["alice", "bob"]).await?;
    let (start, _) = today(&node, &admin).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    at_alice.send_text("bob", "not in a group").await?;
    at_alice.send(&group_text("alice", "g1")).await?;
    // A message of the next day; a later start finds only that.
    node.clock.advance(DAY_MS);
    let next = start + DAY_MS;
    at_alice.send(&group_text("alice", "g1")).await?;
    at_alice.send(&group_text("alice", "g2")).await?;
    node.services
        .store()
        .transact(|tx| {
            schema::GROUPS.delete(tx, "g2");
            Ok::<_, StoreError>(())
        })
        .await?;
    let route = "/statistics/group/active";
    let body = |start: i64, end: i64| json!({"start": start, "end": end, "pagination": {"pageNumber": 1, "showNumber": 5}});
    let both = admin.post(route, body(start, next + DAY_MS)).await?;
    let data = &both.body["data"];
    assert_eq!((&data["msgCount"], &data["groupCount"]), (&json!(3), &json!(2)));
    assert_eq!(data["dateCount"].as_object().map(|days| days.len()), Some(2));
    let known = r#"{"group":{"groupID":"g1","groupName":"Name of g1","notification":"","introduction":"","faceURL":"","ownerUserID":"","createTime":5,"memberCount":0,"ex":"","status":0,"creatorUserID":"","groupType":2,"needVerification":0,"lookMemberInfo":0,"applyMemberFriend":0,"notificationUpdateTime":0,"notificationUserID":""},"count":2}"#;
    assert!(both.text.contains(known), "{}", both.text);
    assert_eq!(data["groups"][1]["group"]["groupName"], "g2");
    let second = admin.call(route, body(next, next + DAY_MS)).await?;
    assert_eq!((&second["msgCount"], &second["groups"][0]["count"]), (&json!(2), &json!(1)));
    let first = admin.call(route, body(start, next)).await?;
    assert_eq!((&first["msgCount"], &first["groupCount"]), (&json!(1), &json!(1)));
    let none = admin.post(route, body(1, 2)).await?;
    assert_eq!(
        none.text,
        r#"{"errCode":0,"errMsg":"","errDlt":"","data":{"msgCount":0,"groupCount":0,"groups":null}}"#
    );
    let alice = node.admin().await?.client("alice", 5).await?;
    assert_eq!(alice.refused(route, body(start, next)).await?, 1002);
    assert_eq!(admin.refused(route, json!({"start": 1, "end": 2})).await?, 1001);
    node.stop().await
}

#[tokio::test]
async fn long_conversations_are_counted_to_their_end() -> Result {
    let node = start().await?;
    let admin = node.admin().await?.client;
    let alice = node.admin().await?.user("alice").await?;
    node.admin().await?.register(&["bob"]).await?;
    let (start, _) = today(&node, &admin).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut times = Vec::new();
    for n in 0..2_500 {
        times.push(at_alice.send_text("bob", &n.to_string()).await?.send_time);
    }
    let route = "/statistics/user/active";
    for (from, expected) in [(start, 2_500), (times[1_234], 1_266), (times[2_499] + 1, 0)] {
        let page = json!({"pageNumber": 1, "showNumber": 5});
        let body = json!({"start": from, "end": start + DAY_MS, "pagination": page});
        assert_eq!(admin.call(route, body).await?["msgCount"], expected);
    }
    node.stop().await
}
