use super::*;

const KICK: &str = "/group/kick_group";
const QUIT: &str = "/group/quit_group";
const DISMISS: &str = "/group/dismiss_group";

/// The seqs of the group's chat that a user can pull; `None` if the chat is not there.
async fn visible(client: &Client) -> Result<Option<Vec<i64>>> {
    let body = json!({"userID": client.user_id, "seqRanges":
        [{"conversationID": "sg_g1", "begin": 1, "end": 99, "num": 99}]});
    let data = client.call("/msg/pull_msg_by_seq", body).await?;
    let messages = data["msgs"]["sg_g1"]["Msgs"].as_array().cloned();
    Ok(messages.map(|list| list.iter().filter_map(|message| message["seq"].as_i64()).collect()))
}

#[tokio::test]
async fn a_member_quits_and_keeps_what_was_said() -> Result {
    let team = Team::start().await?;
    let (mut at_carol, mut at_bob) = (connected(&team.carol).await?, connected(&team.bob).await?);
    let carol = team.member("carol").await?;
    let (_, before) = version(&team.alice).await?;
    assert_eq!(team.carol.post(QUIT, json!({"groupID": "g1"})).await?.text, OK);
    let told = notices(&mut at_carol).await?;
    assert_eq!((kinds(&told), in_chat(&told)), (vec![1504], vec![(1504, 2)]));
    assert_eq!(conversation_changes(&told, "carol"), 1);
    let notice = only(&told, 1504);
    assert_eq!(
        notice.keys(),
        ["group", "groupMemberVersion", "groupMemberVersionID", "operationTime", "quitUser"]
    );
    assert_eq!(notice.detail["quitUser"], carol);
    assert_eq!(notice.detail["group"]["memberCount"], 2);
    assert_eq!(notice.detail["groupMemberVersion"], before + 1);
    assert_eq!(kinds(&notices(&mut at_bob).await?), [1504]);
    assert_eq!(team.members().await?, ["alice", "bob"]);

    // What follows does not concern her.
    team.alice.call("/group/mute_group", json!({"groupID": "g1"})).await?;
    assert!(notices(&mut at_carol).await?.is_empty());
    assert_eq!(visible(&team.carol).await?, Some(vec![1, 2]));
    assert_eq!(visible(&team.bob).await?, Some(vec![1, 2, 3]));
    // She sees the gap when she comes back.
    let body = json!({"groupID": "g1", "invitedUserIDs": ["carol"]});
    team.alice.call("/group/invite_user_to_group", body).await?;
    assert_eq!(visible(&team.carol).await?, Some(vec![1, 2, 3, 4]));
    team.stop().await
}

#[tokio::test]
async fn quitting_is_refused_in_order() -> Result {
    let team = Team::start().await?;
    refused(&team.carol, QUIT, json!({"userID": "carol"}), 1001).await?;
    refused(&team.mallory, QUIT, json!({"groupID": "g1", "userID": "carol"}), 1002).await?;
    refused(&team.mallory, QUIT, json!({"groupID": "g1"}), 1004).await?;
    refused(&team.mallory, QUIT, json!({"groupID": "none"}), 1004).await?;
    refused(&team.alice, QUIT, json!({"groupID": "g1"}), 1002).await?;
    team.admin.call(QUIT, json!({"groupID": "g1", "userID": "carol"})).await?;
    assert_eq!(team.members().await?, ["alice", "bob"]);
    team.stop().await
}

#[tokio::test]
async fn members_are_removed() -> Result {
    let team = Team::start().await?;
    let mut at_carol = connected(&team.carol).await?;
    let carol = team.member("carol").await?;
    let kick = json!({"groupID": "g1", "kickedUserIDs": ["carol"], "reason": "bye"});
    assert_eq!(team.bob.post(KICK, kick).await?.text, OK);
    let told = notices(&mut at_carol).await?;
    assert_eq!((kinds(&told), in_chat(&told)), (vec![1508], vec![(1508, 2)]));
    assert_eq!(conversation_changes(&told, "carol"), 1);
    let notice = only(&told, 1508);
    assert_eq!(
        notice.keys(),
        [
            "group",
            "groupMemberVersion",
            "groupMemberVersionID",
            "kickedUserList",
            "opUser",
            "operationTime"
        ]
    );
    assert_eq!(notice.detail["kickedUserList"], json!([carol]));
    assert_eq!(notice.detail["opUser"]["userID"], "bob");
    let body = json!({"userID": "carol", "versionID": "", "version": 0});
    let joined = team.carol.call("/group/get_incremental_join_groups", body).await?;
    assert_eq!((&joined["full"], &joined["version"]), (&json!(true), &json!(3)));
    let changed = json!({"userID": "carol", "versionID": joined["versionID"], "version": 2});
    let changed = team.carol.call("/group/get_incremental_join_groups", changed).await?;
    assert_eq!(changed["delete"], json!(["g1"]));
    assert_eq!(visible(&team.carol).await?, Some(vec![1, 2]));

    // Without a word in the chat it ends where it is.
    let quiet = json!({"groupID": "g1", "kickedUserIDs": ["bob"], "sendMessage": false});
    team.alice.call(KICK, quiet).await?;
    team.alice.call("/group/mute_group", json!({"groupID": "g1"})).await?;
    assert_eq!(visible(&team.bob).await?, Some(vec![1, 2]));
    team.stop().await
}

#[tokio::test]
async fn removals_are_refused_in_order() -> Result {
    let team = Team::start().await?;
    let kick = |users: Value| json!({"groupID": "g1", "kickedUserIDs": users});
    let invite = json!({"groupID": "g1", "invitedUserIDs": ["dave"]});
    team.alice.call("/group/invite_user_to_group", invite).await?;
    refused(&team.bob, KICK, json!({"kickedUserIDs": ["carol"]}), 1001).await?;
    refused(&team.bob, KICK, kick(json!([])), 1001).await?;
    refused(&team.bob, KICK, kick(json!(["carol", "carol"])), 1001).await?;
    refused(&team.bob, KICK, kick(json!(["carol", "bob"])), 1001).await?;
    refused(&team.bob, KICK, json!({"groupID": "none", "kickedUserIDs": ["carol"]}), 1004).await?;
    refused(&team.bob, KICK, kick(json!(["carol", "alice"])), 1001).await?;
    refused(&team.admin, KICK, kick(json!(["alice"])), 1001).await?;
    refused(&team.bob, KICK, kick(json!(["carol", "mallory"])), 1101).await?;
    refused(&team.mallory, KICK, kick(json!(["carol"])), 1002).await?;
    refused(&team.carol, KICK, kick(json!(["dave"])), 1002).await?;
    refused(&team.carol, KICK, kick(json!(["bob"])), 1002).await?;
    let promote = json!({"members": [{"groupID": "g1", "userID": "carol", "roleLevel": 60}]});
    team.alice.call("/group/set_group_member_info", promote).await?;
    refused(&team.bob, KICK, kick(json!(["dave", "carol"])), 1002).await?;
    assert_eq!(team.members().await?, ["alice", "bob", "carol", "dave"]);
    team.admin.call(KICK, kick(json!(["bob", "dave"]))).await?;
    assert_eq!(team.members().await?, ["alice", "carol"]);
    assert_eq!(team.group().await?["memberCount"], 2);
    team.stop().await
}

#[tokio::test]
async fn a_group_is_dismissed() -> Result {
    let team = Team::start().await?;
    let mut at_carol = connected(&team.carol).await?;
    let body = json!({"userID": "carol", "versionID": "", "version": 0});
    let route = "/group/get_incremental_join_groups";
    let before = team.carol.call(route, body).await?;
    assert_eq!(team.alice.post(DISMISS, json!({"groupID": "g1"})).await?.text, OK);
    let told = notices(&mut at_carol).await?;
    assert_eq!((kinds(&told), in_chat(&told)), (vec![1511], vec![(1511, 2)]));
    let notice = only(&told, 1511);
    assert_eq!(notice.keys(), ["group", "opUser", "operationTime"]);
    let group = &notice.detail["group"];
    assert_eq!((&group["status"], &group["memberCount"]), (&json!(2), &json!(3)));
    assert_eq!(
        (&group["ownerUserID"], &notice.detail["opUser"]["roleLevel"]),
        (&json!("alice"), &json!(100))
    );
    let body =
        json!({"userID": "carol", "versionID": before["versionID"], "version": before["version"]});
    assert_eq!(team.carol.call(route, body).await?["delete"], json!(["g1"]));
    let group = team.group().await?;
    assert_eq!((&group["status"], &group["memberCount"]), (&json!(2), &json!(0)));
    assert_eq!(group["ownerUserID"], "");
    assert_eq!(visible(&team.carol).await?, Some(vec![1, 2]));
    refused(&team.carol, "/group/get_group_member_user_id", json!({"groupID": "g1"}), 1002).await?;
    refused(&team.alice, DISMISS, json!({"groupID": "g1"}), 1004).await?;
    refused(&team.admin, DISMISS, json!({"groupID": "g1", "deleteMember": true}), 1004).await?;
    for route in ["/group/mute_group", "/group/cancel_mute_group"] {
        refused(&team.admin, route, json!({"groupID": "g1"}), 1204).await?;
    }
    team.stop().await
}

#[tokio::test]
async fn a_group_is_dismissed_without_a_word() -> Result {
    let team = Team::start().await?;
    let mut at_carol = connected(&team.carol).await?;
    refused(&team.alice, DISMISS, json!({}), 1001).await?;
    refused(&team.alice, DISMISS, json!({"groupID": "none"}), 1004).await?;
    for client in [&team.mallory, &team.carol, &team.bob] {
        refused(client, DISMISS, json!({"groupID": "g1", "deleteMember": true}), 1002).await?;
    }
    team.admin.call(DISMISS, json!({"groupID": "g1", "deleteMember": true})).await?;
    assert!(notices(&mut at_carol).await?.is_empty());
    assert_eq!(team.group().await?["status"], 2);
    assert_eq!(visible(&team.carol).await?, Some(vec![1]));
    team.stop().await
}

#[tokio::test]
async fn nothing_is_left_of_a_group_in_which_nothing_was_said() -> Result {
    let team = Team::start().await?;
    let make = json!({
        "ownerUserID": "alice", "memberUserIDs": ["carol"], "sendMessage": false,
        "groupInfo": {"groupID": "g2", "groupType": 2},
    });
    team.alice.call("/group/create_group", make).await?;
    let kick = json!({"groupID": "g2", "kickedUserIDs": ["carol"], "sendMessage": false});
    team.alice.call(KICK, kick).await?;
    team.alice.call("/group/mute_group", json!({"groupID": "g2"})).await?;
    let body = json!({"userID": "carol", "seqRanges":
        [{"conversationID": "sg_g2", "begin": 1, "end": 9, "num": 9}]});
    let data = team.carol.call("/msg/pull_msg_by_seq", body).await?;
    assert_eq!(data["msgs"]["sg_g2"], Value::Null);
    team.stop().await
}
