use super::*;

const ROUTE: &str = "/group/create_group";

#[tokio::test]
async fn a_group_is_made_and_everybody_in_it_is_told() -> Result {
    let node = Node::start().await?;
    let [alice, bob, carol] = node.admin().await?.users(["alice", "bob", "carol"]).await?;
    let mut at_carol = connected(&carol).await?;
    let mut at_bob = connected(&bob).await?;
    let body = json!({
        "ownerUserID": "alice", "adminUserIDs": ["bob"], "memberUserIDs": ["carol"],
        "groupInfo": {
            "groupID": "g1", "groupName": "Team", "notification": "Welcome", "introduction": "i",
            "faceURL": "f", "ex": "x", "groupType": 2, "needVerification": 1,
            "lookMemberInfo": 1, "applyMemberFriend": 1, "creatorUserID": "c",
        },
    });
    let made = alice.call(ROUTE, body).await?;
    let created = made["groupInfo"]["createTime"].clone();
    let expected = json!({
        "groupID": "g1", "groupName": "Team", "notification": "Welcome", "introduction": "i",
        "faceURL": "f", "ownerUserID": "alice", "createTime": created, "memberCount": 3,
        "ex": "x", "status": 0, "creatorUserID": "c", "groupType": 2, "needVerification": 1,
        "lookMemberInfo": 1, "applyMemberFriend": 1, "notificationUpdateTime": 0,
        "notificationUserID": "",
    });
    assert_eq!(made["groupInfo"], expected);

    let told = notices(&mut at_carol).await?;
    assert_eq!(kinds(&told), [1501, 1519]);
    assert_eq!(in_chat(&told), [(1501, 1), (1519, 2)]);
    let notice = only(&told, 1501);
    assert_eq!(notice.conversation_id, "n_g1");
    let message = &notice.message;
    assert_eq!((message.session_type, message.msg_from, message.seq), (3, 200, 0));
    assert_eq!((&*message.send_id, &*message.recv_id, &*message.group_id), ("alice", "g1", "g1"));
    assert_eq!((&*message.sender_nickname, notice.on()), ("", vec!["isSendMsg", "senderSync"]));
    let chat = told.iter().find(|notice| notice.in_chat()).expect("a copy");
    assert_eq!((chat.conversation_id.as_str(), chat.on()), ("sg_g1", vec!["unreadCount"]));
    assert_eq!(
        notice.keys(),
        [
            "group",
            "groupMemberVersion",
            "groupMemberVersionID",
            "groupOwnerUser",
            "memberList",
            "opUser",
            "operationTime"
        ]
    );
    assert_eq!((&notice.detail["group"], &notice.detail["operationTime"]), (&expected, &created));
    assert_eq!(notice.detail["groupOwnerUser"]["userID"], "alice");
    assert_eq!(only(&told, 1519).message.sender_nickname, "alice");
    assert_eq!(kinds(&notices(&mut at_bob).await?), [1501, 1519]);

    let body = json!({"groupID": "g1", "userIDs": ["alice", "bob", "carol"]});
    let members = carol.call("/group/get_group_members_info", body).await?;
    let member = |id: &str, role: i32| {
        json!({
            "groupID": "g1", "userID": id, "roleLevel": role, "joinTime": created,
            "nickname": id, "faceURL": format!("face-{id}"), "appMangerLevel": 0,
            "joinSource": 2, "operatorUserID": "alice", "ex": "", "muteEndTime": 0,
            "inviterUserID": "alice",
        })
    };
    let all = json!([member("alice", 100), member("bob", 60), member("carol", 20)]);
    assert_eq!(members["members"], all);
    node.stop().await
}

#[tokio::test]
async fn groups_are_refused_in_order() -> Result {
    let team = Team::start().await?;
    let (alice, mallory) = (&team.alice, &team.mallory);
    let info = json!({"groupID": "g2", "groupType": 2});
    refused(mallory, ROUTE, json!({"groupInfo": info}), 1001).await?;
    refused(mallory, ROUTE, json!({"ownerUserID": "alice"}), 1001).await?;
    for kind in [0, 1, 3] {
        let info = json!({"groupType": kind});
        refused(mallory, ROUTE, json!({"ownerUserID": "alice", "groupInfo": info}), 1001).await?;
    }
    refused(mallory, ROUTE, json!({"ownerUserID": "alice", "groupInfo": info}), 1002).await?;
    let with = |members: Value, info: Value| json!({"ownerUserID": "alice", "memberUserIDs": members, "groupInfo": info});
    refused(alice, ROUTE, with(json!(["alice"]), info.clone()), 1001).await?;
    refused(alice, ROUTE, with(json!(["bob", "bob"]), info.clone()), 1001).await?;
    refused(alice, ROUTE, with(json!(["nobody"]), info.clone()), 1101).await?;
    let both = json!({
        "ownerUserID": "alice", "adminUserIDs": ["bob"], "memberUserIDs": ["bob"],
        "groupInfo": info,
    });
    refused(alice, ROUTE, both, 1001).await?;
    refused(alice, ROUTE, with(json!(vec!["bob"; 1_001]), info), 1001).await?;
    for (key, bad, code) in [
        ("groupID", json!("g1"), 1202),
        ("groupID", json!("g.2"), 1001),
        ("groupID", json!("g".repeat(65)), 1001),
        ("groupName", json!("n".repeat(600)), 1001),
        ("notification", json!("n".repeat(9_000)), 1001),
        ("ex", json!("n".repeat(9_000)), 1001),
        ("creatorUserID", json!("n".repeat(600)), 1001),
        ("status", json!(2), 1001),
    ] {
        let mut info = json!({"groupID": "", "groupType": 2});
        info[key] = bad;
        refused(alice, ROUTE, with(Value::Null, info), code).await?;
    }
    let list = alice.call("/group/get_full_join_group_ids", json!({"userID": "alice"})).await?;
    assert_eq!(texts(&list["groupIDs"]), ["g1"]);
    team.stop().await
}

#[tokio::test]
async fn a_group_does_not_take_the_stream_of_two_users() -> Result {
    let team = Team::start().await?;
    for id in ["alice_bob", "carol_carol"] {
        let info = json!({"groupID": id, "groupType": 2});
        refused(&team.mallory, ROUTE, json!({"ownerUserID": "mallory", "groupInfo": info}), 1001)
            .await?;
    }
    let info = json!({"groupID": "alice_2", "groupType": 2});
    team.mallory.call(ROUTE, json!({"ownerUserID": "mallory", "groupInfo": info})).await?;
    team.stop().await
}

#[tokio::test]
async fn an_app_admin_makes_a_group_for_others_without_a_word() -> Result {
    let team = Team::start().await?;
    let mut at_alice = connected(&team.alice).await?;
    let body = json!({
        "ownerUserID": "alice", "memberUserIDs": ["dave"], "groupInfo": {"groupType": 2},
        "sendMessage": false,
    });
    let made = team.admin.call(ROUTE, body).await?;
    let id = made["groupInfo"]["groupID"].as_str().expect("an ID");
    assert!(id.parse::<u32>().is_ok(), "{id}");
    assert_eq!(made["groupInfo"]["memberCount"], 2);
    let told = notices(&mut at_alice).await?;
    assert_eq!((kinds(&told), in_chat(&told)), (vec![1501], vec![]));
    let notice = only(&told, 1501);
    assert_eq!(notice.on(), ["senderSync"]);
    let operator = &notice.detail["opUser"];
    assert_eq!((&operator["userID"], &operator["roleLevel"]), (&json!("imAdmin"), &json!(60)));
    assert_eq!((&operator["appMangerLevel"], &operator["joinTime"]), (&json!(2), &json!(0)));
    assert_eq!(notice.detail["memberList"].as_array().map(Vec::len), Some(2));
    team.stop().await
}

#[tokio::test]
async fn a_group_may_have_a_uuid() -> Result {
    let team = Team::start().await?;
    let id = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
    let info = json!({"groupID": id, "groupName": "Moved", "groupType": 2});
    let make = json!({"ownerUserID": "alice", "memberUserIDs": ["bob"], "groupInfo": info});
    let made = team.alice.call(ROUTE, make).await?;
    assert_eq!(made["groupInfo"]["groupID"], id);
    let message = json!({
        "sendID": "bob", "groupID": id, "contentType": 101, "sessionType": 3,
        "senderPlatformID": 5, "content": {"content": "hi"},
    });
    team.admin.call("/msg/send_msg", message).await?;
    let body = json!({"userID": "alice", "conversationIDs": [format!("sg_{id}")]});
    let seqs = "/msg/get_conversations_has_read_and_max_seq";
    let seqs = team.alice.call(seqs, body).await?;
    assert!(seqs["seqs"][format!("sg_{id}")]["maxSeq"].as_i64() >= Some(1), "{seqs}");
    let bad = json!({"ownerUserID": "alice", "groupInfo": {"groupID": "a.b", "groupType": 2}});
    let said = team.alice.post(ROUTE, bad).await?.text;
    assert!(said.contains("groupID may hold letters, digits, _ and -, not '.'"), "{said}");
    team.stop().await
}
