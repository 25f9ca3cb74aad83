use super::*;

const SET: &str = "/group/set_group_info";
const SET_EX: &str = "/group/set_group_info_ex";

#[tokio::test]
async fn info_is_changed_and_told_in_parts() -> Result {
    let team = Team::start().await?;
    let mut at_carol = connected(&team.carol).await?;
    let (id, before) = version(&team.carol).await?;
    let body = json!({"groupInfoForSet": {
        "groupID": "g1", "groupName": "Team B", "notification": "News", "introduction": "I",
        "faceURL": "", "ex": "", "needVerification": 2,
    }});
    assert_eq!(team.bob.post(SET, body).await?.text, OK);
    let told = notices(&mut at_carol).await?;
    let mut told_of = kinds(&told);
    told_of.sort_unstable();
    assert_eq!(told_of, [1502, 1519, 1520]);
    assert_eq!(in_chat(&told), [(1519, 2), (1520, 3)]);
    assert_eq!(conversation_changes(&told, "carol"), 1);
    let keys = ["group", "groupMemberVersion", "groupMemberVersionID", "opUser"];
    for kind in [1519, 1520] {
        assert_eq!(only(&told, kind).keys(), keys);
    }
    let set = only(&told, 1502);
    assert_eq!(set.keys(), [&keys[..3], &["muteTime", "opUser"]].concat());
    let group = team.group().await?;
    for kind in [1502, 1519, 1520] {
        let notice = only(&told, kind);
        assert_eq!(notice.detail["group"], group);
        assert_eq!(notice.detail["groupMemberVersion"], before + 1);
        assert_eq!(notice.detail["groupMemberVersionID"], id.as_str());
        assert_eq!(notice.detail["opUser"]["userID"], "bob");
        let signed = if kind == 1520 { "" } else { "bob" };
        assert_eq!(notice.message.sender_nickname, signed);
    }
    assert_eq!((&group["groupName"], &group["notification"]), (&json!("Team B"), &json!("News")));
    assert_eq!((&group["notificationUserID"], &group["ex"]), (&json!("bob"), &json!("")));
    assert_eq!((&group["needVerification"], &group["faceURL"]), (&json!(2), &json!("")));
    team.stop().await
}

#[tokio::test]
async fn an_announcement_marks_the_conversations_of_all() -> Result {
    let team = Team::start().await?;
    let mut sockets = Vec::new();
    for client in [&team.alice, &team.bob, &team.carol] {
        sockets.push(connected(client).await?);
    }
    team.alice.call(SET_EX, json!({"groupID": "g1", "notification": " News "})).await?;
    assert_eq!(team.group().await?["notification"], "News");
    for (socket, client) in sockets.iter_mut().zip([&team.alice, &team.bob, &team.carol]) {
        let told = notices(socket).await?;
        assert_eq!(kinds(&told), [1519]);
        assert_eq!(conversation_changes(&told, &client.user_id), 1);
        let body = json!({"ownerUserID": client.user_id, "conversationID": "sg_g1"});
        let data = client.call("/conversation/get_conversation", body).await?;
        assert_eq!(data["conversation"]["groupAtType"], 4);
    }
    team.alice.call(SET_EX, json!({"groupID": "g1", "notification": ""})).await?;
    let told = notices(&mut sockets[2]).await?;
    assert_eq!((kinds(&told), in_chat(&told)), (vec![1519], vec![]));
    assert_eq!(conversation_changes(&told, "carol"), 0);
    let group = team.group().await?;
    assert_eq!(
        (&group["notification"], &group["notificationUserID"]),
        (&json!(""), &json!("alice"))
    );
    team.stop().await
}

#[tokio::test]
async fn present_fields_are_stored_even_when_empty() -> Result {
    let team = Team::start().await?;
    let fill = json!({"groupID": "g1", "introduction": "i", "faceURL": "f", "ex": "x"});
    team.alice.call(SET_EX, fill).await?;
    let mut at_carol = connected(&team.carol).await?;
    for nothing in [
        json!({"groupID": "g1"}),
        json!({"groupID": "g1", "groupName": " ", "introduction": "lost"}),
    ] {
        assert_eq!(team.alice.post(SET_EX, nothing).await?.text, OK);
    }
    team.alice.call(SET, json!({"groupInfoForSet": {"groupID": "g1"}})).await?;
    assert!(notices(&mut at_carol).await?.is_empty());
    assert_eq!(team.group().await?["introduction"], "i");
    let clear = json!({"groupID": "g1", "introduction": "", "faceURL": "", "ex": ""});
    team.alice.call(SET_EX, clear).await?;
    let group = team.group().await?;
    for key in ["introduction", "faceURL", "ex"] {
        assert_eq!(group[key], "");
    }
    let told = notices(&mut at_carol).await?;
    assert_eq!(kinds(&told), [1502]);
    // The announcement of the older route is kept as it is.
    let body = json!({"groupInfoForSet": {"groupID": "g1", "notification": " as is "}});
    team.alice.call(SET, body).await?;
    assert_eq!(team.group().await?["notification"], " as is ");
    team.stop().await
}

#[tokio::test]
async fn only_those_in_charge_change_info() -> Result {
    let team = Team::start().await?;
    let ex = json!({"groupID": "g1", "groupName": "X"});
    let old = json!({"groupInfoForSet": {"groupID": "g1", "groupName": "X"}});
    for (route, body) in [(SET_EX, &ex), (SET, &old)] {
        refused(&team.mallory, route, body.clone(), 1004).await?;
        refused(&team.carol, route, body.clone(), 1002).await?;
        for client in [&team.bob, &team.alice, &team.admin] {
            assert_eq!(client.post(route, body).await?.text, OK);
        }
    }
    refused(&team.alice, SET, json!({}), 1001).await?;
    refused(&team.alice, SET, json!({"groupInfoForSet": {"groupName": "X"}}), 1001).await?;
    refused(&team.alice, SET_EX, json!({"groupName": "X"}), 1004).await?;
    refused(&team.admin, SET_EX, json!({"groupID": "none", "groupName": "X"}), 1004).await?;
    let long = json!({"groupID": "g1", "introduction": "n".repeat(9_000)});
    refused(&team.alice, SET_EX, long, 1001).await?;
    team.alice.call("/group/dismiss_group", json!({"groupID": "g1"})).await?;
    refused(&team.admin, SET_EX, ex.clone(), 1204).await?;
    refused(&team.alice, SET_EX, ex, 1004).await?;
    team.stop().await
}

#[tokio::test]
async fn groups_are_found_by_id_and_by_name() -> Result {
    let team = Team::start().await?;
    let make = json!({"ownerUserID": "dave", "groupInfo":
        {"groupID": "g2", "groupName": "Other", "groupType": 2}});
    team.node.clock.advance(5);
    team.dave.call("/group/create_group", make).await?;
    let route = "/group/get_groups_info";
    let body = json!({"groupIDs": ["g2", "none", "g1", "g2"]});
    let found = team.mallory.call(route, body).await?;
    let infos = found["groupInfos"].as_array().expect("a list");
    let ids: Vec<&Value> = infos.iter().map(|info| &info["groupID"]).collect();
    assert_eq!(ids, ["g2", "g1"]);
    refused(&team.mallory, route, json!({"groupIDs": []}), 1001).await?;
    let none = team.mallory.post(route, json!({"groupIDs": ["none"]})).await?;
    assert!(none.text.ends_with(r#""data":{"groupInfos":null}}"#));

    let route = "/group/get_groups";
    let page = json!({"pageNumber": 1, "showNumber": 10});
    let by_id = json!({"pagination": page, "groupID": "g1"});
    refused(&team.mallory, route, by_id.clone(), 1002).await?;
    let found = team.admin.call(route, by_id).await?;
    assert_eq!(found["total"], 1);
    let expected = json!({
        "groupInfo": team.group().await?, "groupOwnerUserName": "", "groupOwnerUserID": "alice",
    });
    assert_eq!(found["groups"][0], expected);
    refused(&team.mallory, route, json!({"pagination": page}), 1002).await?;
    refused(&team.admin, route, json!({}), 1001).await?;
    let all = team.admin.call(route, json!({"pagination": page})).await?;
    let ids = |found: &Value| {
        let groups = found["groups"].as_array().cloned().unwrap_or_default();
        groups.iter().map(|g| g["groupInfo"]["groupID"].clone()).collect::<Vec<Value>>()
    };
    assert_eq!((&all["total"], ids(&all)), (&json!(2), vec![json!("g2"), json!("g1")]));
    let second = json!({"pagination": {"pageNumber": 2, "showNumber": 1}});
    let second = team.admin.call(route, second).await?;
    assert_eq!((&second["total"], ids(&second)), (&json!(2), vec![json!("g1")]));
    let named = json!({"pagination": page, "groupName": "OTH"});
    assert_eq!(ids(&team.admin.call(route, named).await?), ["g2"]);
    for text in ["(", "*", "[", "+86", "^"] {
        let named = json!({"pagination": page, "groupName": text});
        assert_eq!(team.admin.call(route, named).await?["total"], 0, "{text}");
    }
    team.dave.call("/group/dismiss_group", json!({"groupID": "g2"})).await?;
    assert_eq!(team.admin.call(route, json!({"pagination": page})).await?["total"], 1);
    let gone = json!({"pagination": page, "groupID": "g2"});
    let gone = team.admin.call(route, gone).await?;
    assert_eq!(gone["groups"][0]["groupInfo"]["status"], 2);
    assert_eq!(gone["groups"][0]["groupOwnerUserID"], "");
    team.stop().await
}
