use super::*;

const RECEIVED: &str = "/group/get_recv_group_applicationList";
const SENT: &str = "/group/get_user_req_group_applicationList";
const OF_USERS: &str = "/group/get_group_users_req_application_list";
const OF_ONE: &str = "/group/get_specified_user_group_request_info";
const OPEN: &str = "/group/get_group_application_unhandled_count";

/// A team that dave, then mallory asked to join.
async fn team() -> Result<Team> {
    let team = Team::start().await?;
    for client in [&team.dave, &team.mallory] {
        team.node.clock.advance(10);
        let body = json!({
            "groupID": "g1", "reqMessage": format!("I am {}", client.user_id), "joinSource": 3,
            "inviterUserID": client.user_id, "ex": "jx",
        });
        client.call("/group/join_group", body).await?;
    }
    Ok(team)
}

fn listed(fields: Value) -> Value {
    let mut body = json!({"pagination": {"pageNumber": 1, "showNumber": 10}});
    for (key, value) in fields.as_object().expect("fields") {
        body[key] = value.clone();
    }
    body
}

fn users(data: &Value) -> Vec<String> {
    let list = data["groupRequests"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|row| row["userInfo"]["userID"].as_str().expect("an ID").to_owned()).collect()
}

async fn refuse(team: &Team, user_id: &str) -> Result {
    let body =
        json!({"groupID": "g1", "fromUserID": user_id, "handledMsg": "no", "handleResult": -1});
    team.alice.call("/group/group_application_response", body).await?;
    Ok(())
}

#[tokio::test]
async fn those_in_charge_see_requests_newest_first() -> Result {
    let team = team().await?;
    let data = team.alice.call(RECEIVED, listed(json!({"fromUserID": "alice"}))).await?;
    assert_eq!((&data["total"], users(&data)), (&json!(2), vec!["mallory".into(), "dave".into()]));
    let first = &data["groupRequests"][0];
    let expected = json!({
        "userInfo": {"userID": "mallory", "nickname": "mallory", "faceURL": "face-mallory", "ex": ""},
        "groupInfo": team.group().await?, "handleResult": 0, "reqMsg": "I am mallory",
        "handleMsg": "", "reqTime": first["reqTime"], "handleUserID": "", "handleTime": 0,
        "ex": "jx", "joinSource": 3, "inviterUserID": "",
    });
    assert_eq!(first, &expected);
    refuse(&team, "mallory").await?;
    for (results, expected) in [
        (json!([0]), &["dave"][..]),
        (json!([-1]), &["mallory"]),
        (json!([1]), &[]),
        (json!([0, -1]), &["mallory", "dave"]),
    ] {
        let body =
            listed(json!({"fromUserID": "bob", "groupIDs": ["g1"], "handleResults": results}));
        assert_eq!(users(&team.bob.call(RECEIVED, body).await?), expected);
    }
    let second = json!({"fromUserID": "bob", "pagination": {"pageNumber": 2, "showNumber": 1}});
    let data = team.admin.call(RECEIVED, second).await?;
    assert_eq!((&data["total"], users(&data)), (&json!(2), vec!["dave".into()]));
    let none = team.carol.post(RECEIVED, listed(json!({"fromUserID": "carol"}))).await?;
    assert!(none.text.ends_with(r#""data":{"total":0,"groupRequests":null}}"#));

    refused(&team.alice, RECEIVED, json!({"fromUserID": "alice"}), 1001).await?;
    refused(&team.alice, RECEIVED, listed(json!({})), 1001).await?;
    refused(&team.mallory, RECEIVED, listed(json!({"fromUserID": "alice"})), 1002).await?;
    for client in [&team.carol, &team.dave] {
        let body = listed(json!({"fromUserID": client.user_id, "groupIDs": ["g1"]}));
        refused(client, RECEIVED, body, 1002).await?;
    }
    // A group that one is not in charge of any more is not in the way of the others.
    let body = listed(json!({"fromUserID": "bob", "groupIDs": ["none", "g1"]}));
    assert_eq!(users(&team.bob.call(RECEIVED, body).await?), ["mallory", "dave"]);
    team.stop().await
}

#[tokio::test]
async fn applicants_see_their_own_requests() -> Result {
    let team = team().await?;
    let data = team.dave.call(SENT, listed(json!({"userID": "dave"}))).await?;
    assert_eq!((&data["total"], users(&data)), (&json!(1), vec!["dave".into()]));
    refuse(&team, "dave").await?;
    let data = team.admin.call(SENT, listed(json!({"userID": "dave", "groupIDs": ["g1"]}))).await?;
    let request = &data["groupRequests"][0];
    assert_eq!((&request["handleResult"], &request["handleUserID"]), (&json!(-1), &json!("alice")));
    assert_eq!(request["handleMsg"], "no");
    for nothing in [json!({"groupIDs": ["g2"]}), json!({"handleResults": [0]})] {
        let mut body = listed(nothing);
        body["userID"] = json!("dave");
        assert_eq!(team.dave.call(SENT, body).await?["total"], 0);
    }
    refused(&team.dave, SENT, json!({"userID": "dave"}), 1001).await?;
    refused(&team.dave, SENT, listed(json!({})), 1001).await?;
    refused(&team.mallory, SENT, listed(json!({"userID": "dave"})), 1002).await?;
    refused(&team.admin, SENT, listed(json!({"userID": "nobody"})), 1004).await?;
    team.stop().await
}

#[tokio::test]
async fn requests_are_found_by_user() -> Result {
    let team = team().await?;
    let body = |users: Value| json!({"groupID": "g1", "userIDs": users});
    let data = team.bob.call(OF_USERS, body(json!(["mallory", "carol", "dave"]))).await?;
    assert_eq!((&data["total"], users(&data)), (&json!(2), vec!["mallory".into(), "dave".into()]));
    refused(&team.bob, OF_USERS, json!({"userIDs": ["dave"]}), 1001).await?;
    refused(&team.bob, OF_USERS, body(json!([])), 1001).await?;
    refused(&team.bob, OF_USERS, body(json!(vec!["dave"; 1_001])), 1001).await?;
    for client in [&team.dave, &team.carol] {
        refused(client, OF_USERS, body(json!(["dave"])), 1002).await?;
    }
    refused(&team.admin, OF_USERS, json!({"groupID": "none", "userIDs": ["dave"]}), 1004).await?;

    let one = json!({"groupID": "g1", "userID": "dave"});
    for client in [&team.dave, &team.bob, &team.alice, &team.admin] {
        let data = client.call(OF_ONE, &one).await?;
        assert_eq!((&data["total"], users(&data)), (&json!(1), vec!["dave".into()]));
    }
    for client in [&team.mallory, &team.carol] {
        refused(client, OF_ONE, one.clone(), 1002).await?;
    }
    for group_id in ["g1", "none"] {
        let own = json!({"groupID": group_id, "userID": "carol"});
        assert_eq!(team.carol.call(OF_ONE, own).await?["total"], 0);
    }
    team.stop().await
}

#[tokio::test]
async fn open_requests_are_counted() -> Result {
    let team = team().await?;
    let count = |user_id: &str, time: i64| json!({"userID": user_id, "time": time});
    for (client, expected) in [(&team.alice, 2), (&team.bob, 2), (&team.carol, 0)] {
        let data = client.call(OPEN, count(&client.user_id, 0)).await?;
        assert_eq!(data, json!({"count": expected}));
    }
    let data = team.alice.call(RECEIVED, listed(json!({"fromUserID": "alice"}))).await?;
    let older = data["groupRequests"][1]["reqTime"].as_i64().expect("a time");
    assert_eq!(team.alice.call(OPEN, count("alice", older)).await?["count"], 1);
    refuse(&team, "dave").await?;
    assert_eq!(team.admin.call(OPEN, count("alice", 0)).await?["count"], 1);
    refused(&team.mallory, OPEN, count("alice", 0), 1002).await?;
    refused(&team.alice, OPEN, json!({}), 1002).await?;
    team.stop().await
}
