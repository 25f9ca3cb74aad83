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
    assert_eq!(data["msgs"]["sg_g2"]["Msgs"], Value::Null);
    assert_eq!(listed(&team.carol).await?, ["sg_g1"]);
    team.stop().await
}

/// IDs of the conversations in a user's list.
async fn listed(client: &Client) -> Result<Vec<String>> {
    let body = json!({"userID": client.user_id, "idHash": 0});
    let full = client.call("/conversation/get_full_conversation_ids", body).await?;
    Ok(texts(&full["conversationIDs"]))
}

/// What changed in a user's conversations since a version, and the version now.
async fn changed(client: &Client, since: &Value) -> Result<Value> {
    let (id, version) = (&since["versionID"], &since["version"]);
    let body = json!({"userID": client.user_id, "versionID": id, "version": version});
    client.call("/conversation/get_incremental_conversations", body).await
}

async fn delete_chat(client: &Client) -> Result {
    let body = json!({"ownerUserID": client.user_id, "conversationIDs": ["sg_g1"]});
    client.call("/conversation/delete_conversations", body).await?;
    Ok(())
}

#[tokio::test]
async fn who_has_left_and_deleted_the_chat_hears_no_more_of_it() -> Result {
    let team = Team::start().await?;
    let invite = json!({"groupID": "g1", "invitedUserIDs": ["dave"]});
    team.alice.call("/group/invite_user_to_group", invite).await?;
    team.carol.call(QUIT, json!({"groupID": "g1"})).await?;
    let kick = json!({"groupID": "g1", "kickedUserIDs": ["dave"]});
    team.alice.call(KICK, kick).await?;
    let quiet = json!({"groupID": "g1", "kickedUserIDs": ["bob"], "sendMessage": false});
    team.alice.call(KICK, quiet).await?;
    for gone in [&team.carol, &team.dave, &team.bob] {
        assert_eq!(listed(gone).await?, ["sg_g1"], "{}", gone.user_id);
        delete_chat(gone).await?;
    }
    let mut before = Vec::new();
    for gone in [&team.carol, &team.dave, &team.bob] {
        before.push(changed(gone, &json!({"versionID": "", "version": 0})).await?);
    }
    for route in ["/group/mute_group", "/group/cancel_mute_group"] {
        team.alice.call(route, json!({"groupID": "g1"})).await?;
    }
    for (gone, before) in [&team.carol, &team.dave, &team.bob].into_iter().zip(&before) {
        let who = &gone.user_id;
        assert!(listed(gone).await?.is_empty(), "{who}");
        let after = changed(gone, before).await?;
        assert_eq!((&after["version"], &after["insert"]), (&before["version"], &Value::Null));
        let user = json!({"userID": who});
        let newest = gone.call("/msg/newest_seq", &user).await?;
        assert_eq!(newest["maxSeqs"]["sg_g1"], Value::Null, "{who}");
        assert_eq!(newest["maxSeqs"]["n_g1"], Value::Null, "{who}");
        let asked = json!({"userID": who, "conversationIDs": ["sg_g1"]});
        let route = "/msg/get_conversations_has_read_and_max_seq";
        let seqs = gone.call(route, asked).await?["seqs"]["sg_g1"].clone();
        assert_eq!(seqs, json!({"maxSeq": 0, "hasReadSeq": 0, "maxSeqTime": 0}), "{who}");
        let active = gone.call("/jssdk/get_active_conversations", &user).await?;
        assert_eq!(active, json!({"unreadCount": 0, "conversations": null}), "{who}");
        let one = json!({"ownerUserID": who, "conversationID": "sg_g1"});
        refused(gone, "/conversation/get_conversation", one, 1004).await?;
        assert_eq!(visible(gone).await?, None, "{who}");
    }
    // Who had not deleted it has it up to the end, and no more.
    let newest = team.alice.call("/msg/newest_seq", json!({"userID": "alice"})).await?;
    assert_eq!(newest["maxSeqs"]["sg_g1"], 6);
    team.stop().await
}

#[tokio::test]
async fn what_a_former_member_knows_of_the_newest_message_is_the_own_end() -> Result {
    let team = Team::start().await?;
    team.carol.call(QUIT, json!({"groupID": "g1"})).await?;
    team.alice.call("/group/mute_group", json!({"groupID": "g1"})).await?;
    let newest = team.carol.call("/msg/newest_seq", json!({"userID": "carol"})).await?;
    assert_eq!(newest["maxSeqs"]["sg_g1"], 2);
    // Neither does the activity of others keep an old chat in the list.
    team.node.clock.advance(3 * 24 * 3_600_000);
    team.alice.call("/group/cancel_mute_group", json!({"groupID": "g1"})).await?;
    let silent = json!({"ownerUserID": "carol", "needDeleteTime": 2});
    team.carol.call("/conversation/delete_conversations", silent).await?;
    assert!(listed(&team.carol).await?.is_empty());
    team.stop().await
}

#[tokio::test]
async fn a_deleted_chat_is_back_when_its_owner_comes_back() -> Result {
    let team = Team::start().await?;
    let kick = json!({"groupID": "g1", "kickedUserIDs": ["carol"], "sendMessage": false});
    team.alice.call(KICK, kick).await?;
    delete_chat(&team.carol).await?;
    let before = changed(&team.carol, &json!({"versionID": "", "version": 0})).await?;
    let invite = json!({"groupID": "g1", "invitedUserIDs": ["carol"], "sendMessage": false});
    team.alice.call("/group/invite_user_to_group", invite).await?;
    let one = json!({"ownerUserID": "carol", "conversationID": "sg_g1"});
    team.carol.call("/conversation/get_conversation", one).await?;
    let after = changed(&team.carol, &before).await?;
    assert_eq!(after["insert"][0]["conversationID"], "sg_g1");
    assert_eq!(listed(&team.carol).await?, ["sg_g1"]);
    assert_eq!(visible(&team.carol).await?, Some(vec![1]));

    // A log that says that something changed says how it ended.
    delete_chat(&team.carol).await?;
    let before = changed(&team.carol, &json!({"versionID": "", "version": 0})).await?;
    let kick = json!({"groupID": "g1", "kickedUserIDs": ["carol"], "sendMessage": false});
    team.alice.call(KICK, kick).await?;
    let after = changed(&team.carol, &before).await?;
    assert_eq!((&after["delete"], &after["update"]), (&json!(["sg_g1"]), &Value::Null));
    team.stop().await
}

#[tokio::test]
async fn the_end_of_a_group_is_in_the_log_of_its_members_conversations() -> Result {
    let team = Team::start().await?;
    let before = changed(&team.carol, &json!({"versionID": "", "version": 0})).await?;
    team.alice.call(DISMISS, json!({"groupID": "g1"})).await?;
    let after = changed(&team.carol, &before).await?;
    assert_eq!(after["update"][0]["conversationID"], "sg_g1");
    assert_eq!(after["update"][0]["maxSeq"], 2);
    team.stop().await
}
