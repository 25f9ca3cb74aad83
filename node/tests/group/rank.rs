use super::*;

const EDIT: &str = "/group/set_group_member_info";
const TRANSFER: &str = "/group/transfer_group";
const MUTE: &str = "/group/mute_group_member";
const UNMUTE: &str = "/group/cancel_mute_group_member";

fn edit(user_id: &str, fields: Value) -> Value {
    let mut member = json!({"groupID": "g1", "userID": user_id});
    for (key, value) in fields.as_object().expect("fields") {
        member[key] = value.clone();
    }
    json!({"members": [member]})
}

#[tokio::test]
async fn a_member_gets_another_name_and_rank() -> Result {
    let team = Team::start().await?;
    let mut at_bob = connected(&team.bob).await?;
    let (_, before) = version(&team.bob).await?;
    let body = edit("carol", json!({"nickname": "Caro", "faceURL": "f", "ex": "x"}));
    assert_eq!(team.carol.post(EDIT, body).await?.text, OK);
    let told = notices(&mut at_bob).await?;
    assert_eq!((kinds(&told), in_chat(&told)), (vec![1516], vec![]));
    let notice = only(&told, 1516);
    assert_eq!(
        notice.keys(),
        [
            "changedUser",
            "group",
            "groupMemberVersion",
            "groupMemberVersionID",
            "groupSortVersion",
            "opUser",
            "operationTime"
        ]
    );
    let carol = team.member("carol").await?;
    assert_eq!((&carol["nickname"], &carol["faceURL"]), (&json!("Caro"), &json!("f")));
    assert_eq!(notice.detail["changedUser"], carol);
    assert_eq!(notice.detail["groupMemberVersion"], before + 1);
    assert_eq!(notice.detail["groupSortVersion"], 0);

    let body = edit("carol", json!({"roleLevel": 60, "nickname": ""}));
    team.alice.call(EDIT, body).await?;
    let told = notices(&mut at_bob).await?;
    assert_eq!(kinds(&told), [1517, 1516]);
    for kind in [1517, 1516] {
        let detail = &only(&told, kind).detail;
        assert_eq!(detail["groupMemberVersion"], before + 2);
        assert_eq!(detail["groupSortVersion"], before + 2);
        assert_eq!(detail["changedUser"]["nickname"], "carol");
    }
    team.alice.call(EDIT, edit("bob", json!({"roleLevel": 20}))).await?;
    assert_eq!(kinds(&notices(&mut at_bob).await?), [1518]);
    assert_eq!(team.members().await?, ["alice", "carol", "bob"]);
    team.stop().await
}

#[tokio::test]
async fn members_are_changed_by_those_above_them() -> Result {
    let team = Team::start().await?;
    let invite = json!({"groupID": "g1", "invitedUserIDs": ["dave"]});
    team.alice.call("/group/invite_user_to_group", invite).await?;
    let name = json!({"nickname": "x"});
    refused(&team.carol, EDIT, json!({"members": []}), 1001).await?;
    refused(&team.mallory, EDIT, edit("carol", json!({"roleLevel": 100})), 1002).await?;
    refused(&team.mallory, EDIT, edit("carol", json!({"roleLevel": 50})), 1001).await?;
    let twice = json!({"members": [
        {"groupID": "g1", "userID": "carol", "nickname": "x"},
        {"groupID": "g1", "userID": "carol", "nickname": "y"},
    ]});
    refused(&team.alice, EDIT, twice, 1001).await?;
    refused(&team.mallory, EDIT, edit("carol", name.clone()), 1002).await?;
    refused(&team.alice, EDIT, edit("mallory", name.clone()), 1001).await?;
    for (client, user_id, fields, code) in [
        (&team.carol, "dave", &name, 1002),
        (&team.carol, "alice", &name, 1002),
        (&team.carol, "carol", &json!({"roleLevel": 60}), 1002),
        (&team.bob, "alice", &name, 1002),
        (&team.bob, "bob", &json!({"nickname": "n".repeat(600)}), 1001),
        (&team.alice, "alice", &json!({"roleLevel": 60}), 1001),
        (&team.admin, "alice", &json!({"roleLevel": 20}), 1001),
    ] {
        refused(client, EDIT, edit(user_id, fields.clone()), code).await?;
    }
    // An admin promotes an ordinary member, and has no power over it from then on.
    team.bob.call(EDIT, edit("dave", json!({"roleLevel": 60}))).await?;
    refused(&team.bob, EDIT, edit("dave", name.clone()), 1002).await?;
    team.bob.call(EDIT, edit("carol", name.clone())).await?;
    team.bob.call(EDIT, edit("bob", name.clone())).await?;
    team.admin.call(EDIT, edit("alice", name)).await?;
    // An admin may step down.
    team.dave.call(EDIT, edit("dave", json!({"roleLevel": 20}))).await?;
    // All or none.
    let mixed = json!({"members": [
        {"groupID": "g1", "userID": "carol", "nickname": "new"},
        {"groupID": "g1", "userID": "alice", "nickname": "new"},
    ]});
    refused(&team.bob, EDIT, mixed, 1002).await?;
    assert_eq!(team.member("carol").await?["nickname"], "x");
    team.stop().await
}

#[tokio::test]
async fn a_group_is_handed_over() -> Result {
    let team = Team::start().await?;
    let mute = json!({"groupID": "g1", "userID": "bob", "mutedSeconds": 600});
    team.alice.call(MUTE, mute).await?;
    let mut at_carol = connected(&team.carol).await?;
    let (_, before) = version(&team.carol).await?;
    let body = json!({"groupID": "g1", "oldOwnerUserID": "alice", "newOwnerUserID": "bob"});
    assert_eq!(team.alice.post(TRANSFER, &body).await?.text, OK);
    let told = notices(&mut at_carol).await?;
    assert_eq!(kinds(&told), [1513, 1507]);
    assert_eq!(in_chat(&told), [(1513, 3), (1507, 4)]);
    let notice = only(&told, 1507);
    assert_eq!(
        notice.keys(),
        [
            "group",
            "groupMemberVersion",
            "groupMemberVersionID",
            "newGroupOwner",
            "oldGroupOwner",
            "oldGroupOwnerInfo",
            "opUser",
            "operationTime"
        ]
    );
    assert_eq!(notice.detail["groupMemberVersion"], before + 2);
    assert_eq!(
        (&notice.detail["oldGroupOwner"], &notice.detail["group"]["ownerUserID"]),
        (&json!(""), &json!("bob"))
    );
    let (alice, bob) = (team.member("alice").await?, team.member("bob").await?);
    assert_eq!(
        (&notice.detail["newGroupOwner"], &notice.detail["oldGroupOwnerInfo"]),
        (&bob, &alice)
    );
    assert_eq!((&bob["roleLevel"], &bob["muteEndTime"]), (&json!(100), &json!(0)));
    assert_eq!((&alice["roleLevel"], &notice.detail["opUser"]), (&json!(60), &alice));
    assert_eq!(team.members().await?, ["bob", "alice", "carol"]);
    refused(&team.alice, TRANSFER, body, 1002).await?;
    team.stop().await
}

#[tokio::test]
async fn handing_over_is_refused_in_order() -> Result {
    let team = Team::start().await?;
    let body = |old: &str, new: &str| json!({"groupID": "g1", "oldOwnerUserID": old, "newOwnerUserID": new});
    refused(&team.alice, TRANSFER, json!({"oldOwnerUserID": "a", "newOwnerUserID": "b"}), 1001)
        .await?;
    refused(&team.alice, TRANSFER, body("", "bob"), 1001).await?;
    refused(&team.alice, TRANSFER, body("alice", ""), 1001).await?;
    refused(&team.mallory, TRANSFER, body("alice", "alice"), 1001).await?;
    refused(&team.mallory, TRANSFER, body("alice", "mallory"), 1001).await?;
    refused(&team.mallory, TRANSFER, body("alice", "bob"), 1002).await?;
    refused(&team.bob, TRANSFER, body("bob", "carol"), 1002).await?;
    refused(&team.admin, TRANSFER, body("bob", "carol"), 1001).await?;
    assert_eq!(team.group().await?["ownerUserID"], "alice");
    team.admin.call(TRANSFER, body("alice", "carol")).await?;
    assert_eq!(team.members().await?, ["carol", "bob", "alice"]);
    team.carol.call("/group/dismiss_group", json!({"groupID": "g1"})).await?;
    refused(&team.admin, TRANSFER, body("carol", "bob"), 1204).await?;
    team.stop().await
}

#[tokio::test]
async fn members_are_muted_by_those_above_them() -> Result {
    let team = Team::start().await?;
    let mute = |user_id: &str, seconds: i64| json!({"groupID": "g1", "userID": user_id, "mutedSeconds": seconds});
    let unmute = |user_id: &str| json!({"groupID": "g1", "userID": user_id});
    refused(&team.alice, MUTE, json!({"userID": "carol", "mutedSeconds": 5}), 1001).await?;
    refused(&team.alice, MUTE, mute("", 5), 1001).await?;
    refused(&team.alice, MUTE, mute("carol", 0), 1001).await?;
    refused(&team.alice, UNMUTE, json!({"groupID": "g1"}), 1001).await?;
    for (client, user_id, code) in [
        (&team.mallory, "carol", 1004),
        (&team.alice, "mallory", 1004),
        (&team.carol, "bob", 1002),
        (&team.carol, "carol", 1002),
        (&team.bob, "alice", 1002),
        (&team.bob, "bob", 1002),
        (&team.alice, "alice", 1002),
    ] {
        refused(client, MUTE, mute(user_id, 5), code).await?;
        refused(client, UNMUTE, unmute(user_id), code).await?;
    }
    let mut at_carol = connected(&team.carol).await?;
    team.bob.call(MUTE, mute("carol", 600)).await?;
    let told = notices(&mut at_carol).await?;
    assert_eq!((kinds(&told), in_chat(&told)), (vec![1512], vec![(1512, 2)]));
    let notice = only(&told, 1512);
    let keys = [
        "group",
        "groupMemberVersion",
        "groupMemberVersionID",
        "mutedUser",
        "opUser",
        "operationTime",
    ];
    assert_eq!(notice.keys(), [&keys[..3], &["mutedSeconds"], &keys[3..]].concat());
    assert_eq!(notice.detail["mutedSeconds"], 600);
    assert_eq!(notice.detail["mutedUser"], team.member("carol").await?);
    assert!(notice.detail["mutedUser"]["muteEndTime"].as_i64() > Some(0));
    let text = MsgData {
        session_type: 3,
        group_id: "g1".into(),
        ..testnet::text_message("carol", "", "x")
    };
    assert!(at_carol.send(&text).await.is_err());
    team.bob.call(UNMUTE, unmute("carol")).await?;
    let told = notices(&mut at_carol).await?;
    assert_eq!(only(&told, 1513).keys(), keys);
    assert_eq!(only(&told, 1513).detail["mutedUser"]["muteEndTime"], 0);
    at_carol.send(&text).await?;
    // Twice does no harm; app admins mute anybody.
    team.bob.call(UNMUTE, unmute("carol")).await?;
    team.admin.call(MUTE, mute("alice", 5)).await?;
    team.alice.call(MUTE, mute("bob", 5)).await?;
    team.stop().await
}

#[tokio::test]
async fn a_mute_survives_leaving() -> Result {
    let team = Team::start().await?;
    team.need_verification(2).await?;
    let invite = json!({"groupID": "g1", "invitedUserIDs": ["dave"]});
    team.alice.call("/group/invite_user_to_group", &invite).await?;
    for user_id in ["carol", "dave"] {
        let mute = json!({"groupID": "g1", "userID": user_id, "mutedSeconds": 600});
        team.bob.call(MUTE, mute).await?;
    }
    let muted = async |user_id: &str| -> Result<i64> {
        Ok(team.member(user_id).await?["muteEndTime"].as_i64().unwrap_or_default())
    };
    let until = [muted("carol").await?, muted("dave").await?];
    team.carol.call("/group/quit_group", json!({"groupID": "g1"})).await?;
    let kick = json!({"groupID": "g1", "kickedUserIDs": ["dave"]});
    team.alice.call("/group/kick_group", &kick).await?;
    let join = json!({"groupID": "g1", "joinSource": 3, "inviterUserID": "carol"});
    team.carol.call("/group/join_group", join).await?;
    team.alice.call("/group/invite_user_to_group", &invite).await?;
    assert_eq!([muted("carol").await?, muted("dave").await?], until);
    let text = |from: &str| MsgData {
        session_type: 3,
        group_id: "g1".into(),
        ..testnet::text_message(from, "", "x")
    };
    assert!(connected(&team.carol).await?.send(&text("carol")).await.is_err());
    // A mute that was ended, or has ended, does not come back.
    let unmute = json!({"groupID": "g1", "userID": "carol"});
    team.bob.call(UNMUTE, unmute).await?;
    team.carol.call("/group/quit_group", json!({"groupID": "g1"})).await?;
    team.alice.call("/group/kick_group", kick).await?;
    let kept = || -> Result<usize> {
        Ok(store::schema::KEPT_MUTES.scan(&team.node.services.store().view(), ()).count())
    };
    assert_eq!(kept()?, 1);
    team.node.services.tidy_messages().await?;
    assert_eq!(kept()?, 1);
    team.node.clock.advance(601_000);
    team.node.services.tidy_messages().await?;
    assert_eq!(kept()?, 0);
    team.alice.call("/group/invite_user_to_group", invite).await?;
    let invite = json!({"groupID": "g1", "invitedUserIDs": ["carol"]});
    team.alice.call("/group/invite_user_to_group", invite).await?;
    assert_eq!([muted("carol").await?, muted("dave").await?], [0, 0]);
    // Nothing is kept of a group that is dismissed.
    let mute = json!({"groupID": "g1", "userID": "dave", "mutedSeconds": 600});
    team.bob.call(MUTE, mute).await?;
    team.dave.call("/group/quit_group", json!({"groupID": "g1"})).await?;
    assert_eq!(kept()?, 1);
    team.alice.call("/group/dismiss_group", json!({"groupID": "g1"})).await?;
    assert_eq!(kept()?, 0);
    team.stop().await
}

#[tokio::test]
async fn a_whole_group_is_muted() -> Result {
    let team = Team::start().await?;
    let (on, off) = ("/group/mute_group", "/group/cancel_mute_group");
    let body = json!({"groupID": "g1"});
    for route in [on, off] {
        refused(&team.alice, route, json!({}), 1001).await?;
        refused(&team.mallory, route, body.clone(), 1002).await?;
        refused(&team.carol, route, body.clone(), 1002).await?;
        refused(&team.alice, route, json!({"groupID": "none"}), 1002).await?;
        refused(&team.admin, route, json!({"groupID": "none"}), 1004).await?;
    }
    let mut at_carol = connected(&team.carol).await?;
    for (client, route, kind, status) in
        [(&team.bob, on, 1514, 3), (&team.alice, off, 1515, 0), (&team.admin, on, 1514, 3)]
    {
        assert_eq!(client.post(route, &body).await?.text, OK);
        assert_eq!(team.group().await?["status"], status);
        let told = notices(&mut at_carol).await?;
        let notice = only(&told, kind);
        assert_eq!(
            notice.keys(),
            ["group", "groupMemberVersion", "groupMemberVersionID", "opUser", "operationTime"]
        );
        assert_eq!(notice.detail["group"]["status"], status);
        assert_eq!(in_chat(&told).len(), 1);
    }
    team.stop().await
}
