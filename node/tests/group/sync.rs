use super::*;

const GROUPS: &str = "/group/get_incremental_join_groups";
const MEMBERS: &str = "/group/get_incremental_group_members";
const BATCH: &str = "/group/get_incremental_group_members_batch";
const ALL_MEMBERS: &str = "/group/get_full_group_member_user_ids";
const ALL_GROUPS: &str = "/group/get_full_join_group_ids";

fn since(id: &str, version: u64) -> Value {
    json!({"groupID": "g1", "versionID": id, "version": version})
}

#[tokio::test]
async fn changes_of_members_since_a_version() -> Result {
    let team = Team::start().await?;
    let full = team.carol.call(MEMBERS, since("", 0)).await?;
    let (id, version) = version(&team.carol).await?;
    let expected = json!({
        "version": version, "versionID": id, "full": true, "delete": null, "insert": null,
        "update": null, "group": team.group().await?, "sortVersion": 0,
    });
    assert_eq!(full, expected);
    assert!(id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let equal = team.carol.call(MEMBERS, since(&id, version)).await?;
    assert_eq!((&equal["full"], &equal["group"]), (&json!(false), &Value::Null));
    for stale in [since(&id, version + 5), since(&"f".repeat(24), version), since(&id, 0)] {
        assert_eq!(team.carol.call(MEMBERS, stale).await?["full"], true);
    }

    // The group alone.
    let name = json!({"groupID": "g1", "groupName": "New"});
    team.alice.call("/group/set_group_info_ex", name).await?;
    let changed = team.carol.call(MEMBERS, since(&id, version)).await?;
    assert_eq!((&changed["update"], &changed["group"]["groupName"]), (&Value::Null, &json!("New")));
    // Somebody comes, somebody is renamed, somebody goes.
    let invite = json!({"groupID": "g1", "invitedUserIDs": ["dave"]});
    team.alice.call("/group/invite_user_to_group", invite).await?;
    let edit = json!({"members": [{"groupID": "g1", "userID": "alice", "nickname": "Boss"}]});
    team.alice.call("/group/set_group_member_info", edit).await?;
    team.bob.call("/group/quit_group", json!({"groupID": "g1"})).await?;
    let changed = team.carol.call(MEMBERS, since(&id, version + 1)).await?;
    assert_eq!(changed["version"], version + 4);
    assert_eq!(changed["delete"], json!(["bob"]));
    assert_eq!(changed["insert"], json!([team.member("dave").await?]));
    assert_eq!(changed["update"], json!([team.member("alice").await?]));
    assert_eq!((&changed["sortVersion"], &changed["group"]["memberCount"]), (&json!(0), &json!(3)));
    // Ranks change the order.
    let promote = json!({"members": [{"groupID": "g1", "userID": "dave", "roleLevel": 60}]});
    team.alice.call("/group/set_group_member_info", promote).await?;
    let changed = team.carol.call(MEMBERS, since(&id, version + 4)).await?;
    assert_eq!(changed["sortVersion"], version + 5);
    assert_eq!(changed["update"], json!([team.member("dave").await?]));
    team.stop().await
}

#[tokio::test]
async fn changes_of_members_are_for_members() -> Result {
    let team = Team::start().await?;
    let (id, version) = version(&team.alice).await?;
    for client in [&team.mallory, &team.dave] {
        refused(client, MEMBERS, since("", 0), 1002).await?;
        refused(client, BATCH, json!({"reqList": [since("", 0)]}), 1002).await?;
    }
    let unknown = json!({"groupID": "none"});
    refused(&team.alice, MEMBERS, unknown.clone(), 1002).await?;
    refused(&team.admin, MEMBERS, unknown, 1004).await?;
    team.admin.call(MEMBERS, since("", 0)).await?;
    let make = json!({"ownerUserID": "alice", "groupInfo": {"groupID": "g2", "groupType": 2}});
    team.alice.call("/group/create_group", make).await?;
    let list = json!({"userID": "alice", "reqList":
        [since(&id, version), {"groupID": "g2"}, since("", 0)]});
    let data = team.alice.call(BATCH, list).await?;
    let answers = data["respList"].as_object().expect("a map");
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["g1", "g2"]);
    assert_eq!((&answers["g1"]["full"], &answers["g2"]["full"]), (&json!(false), &json!(true)));
    for nothing in [json!({}), json!({"reqList": []})] {
        let answer = team.alice.post(BATCH, nothing).await?;
        assert_eq!(answer.text, r#"{"errCode":0,"errMsg":"","errDlt":"","data":{}}"#);
    }
    // A group that one has left, or that never was, is left out.
    let make = json!({"ownerUserID": "bob", "memberUserIDs": ["alice"],
        "groupInfo": {"groupID": "g3", "groupType": 2}});
    team.bob.call("/group/create_group", make).await?;
    team.alice.call("/group/quit_group", json!({"groupID": "g3"})).await?;
    let list = json!({"userID": "alice", "reqList":
        [{"groupID": "g3"}, {"groupID": "none"}, {"groupID": "g2"}, since("", 0)]});
    let data = team.alice.call(BATCH, list).await?;
    let answers = data["respList"].as_object().expect("a map");
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["g1", "g2"]);
    // A dismissed group is left out.
    team.alice.call("/group/dismiss_group", json!({"groupID": "g2"})).await?;
    let list = json!({"reqList": [{"groupID": "g2"}, since("", 0)]});
    let data = team.alice.call(BATCH, list).await?;
    assert_eq!(data["respList"].as_object().map(|map| map.len()), Some(1));
    refused(&team.admin, MEMBERS, json!({"groupID": "g2"}), 1204).await?;
    refused(&team.alice, MEMBERS, json!({"groupID": "g2"}), 1002).await?;
    team.stop().await
}

#[tokio::test]
async fn a_new_profile_shows_in_the_group() -> Result {
    let team = Team::start().await?;
    let (id, version) = version(&team.carol).await?;
    let mut at_carol = connected(&team.carol).await?;
    let profile = json!({"userInfo": {"userID": "bob", "nickname": "Bobby"}});
    team.bob.call("/user/update_user_info_ex", profile).await?;
    let told = notices(&mut at_carol).await?;
    let notice = only(&told, 1516);
    assert_eq!(notice.detail["changedUser"]["nickname"], "Bobby");
    assert_eq!(notice.detail["groupMemberVersion"], version + 1);
    let changed = team.carol.call(MEMBERS, since(&id, version)).await?;
    assert_eq!(changed["update"][0]["nickname"], "Bobby");
    team.stop().await
}

#[tokio::test]
async fn changes_of_ones_groups_since_a_version() -> Result {
    let team = Team::start().await?;
    let ask = |id: &Value, version: &Value| json!({"userID": "carol", "versionID": id, "version": version});
    let full = team.carol.call(GROUPS, json!({"userID": "carol"})).await?;
    let (id, version) = (&full["versionID"], &full["version"]);
    assert_eq!((&full["full"], &full["insert"]), (&json!(true), &Value::Null));
    let equal = team.carol.call(GROUPS, ask(id, version)).await?;
    let expected = json!({
        "version": version, "versionID": id, "full": false, "delete": null, "insert": null,
        "update": null, "sortVersion": 0,
    });
    assert_eq!(equal, expected);
    let make = json!({
        "ownerUserID": "dave", "memberUserIDs": ["carol"],
        "groupInfo": {"groupID": "g2", "groupName": "Two", "groupType": 2},
    });
    team.dave.call("/group/create_group", make).await?;
    team.carol.call("/group/quit_group", json!({"groupID": "g1"})).await?;
    let changed = team.carol.call(GROUPS, ask(id, version)).await?;
    assert_eq!(changed["delete"], json!(["g1"]));
    assert_eq!(changed["insert"][0]["groupName"], "Two");
    assert_eq!(changed["insert"].as_array().map(Vec::len), Some(1));
    refused(&team.mallory, GROUPS, json!({"userID": "carol"}), 1002).await?;
    refused(&team.carol, GROUPS, json!({}), 1002).await?;
    team.admin.call(GROUPS, json!({"userID": "carol"})).await?;
    team.stop().await
}

#[tokio::test]
async fn whole_lists_of_ids_are_left_out_when_known() -> Result {
    use md5::Digest as _;
    let team = Team::start().await?;
    let hash = |text: &str| {
        let digest = md5::Md5::digest(text);
        u64::from_be_bytes(std::array::from_fn(|at| digest[at]))
    };
    let (id, version) = version(&team.carol).await?;
    let body = |hash: u64| json!({"groupID": "g1", "idHash": hash});
    let data = team.carol.call(ALL_MEMBERS, body(0)).await?;
    let expected = json!({
        "version": version, "versionID": id, "equal": false,
        "userIDs": ["alice", "bob", "carol"],
    });
    assert_eq!(data, expected);
    let known = team.carol.call(ALL_MEMBERS, body(hash(r#"["alice","bob","carol"]"#))).await?;
    assert_eq!((&known["equal"], &known["userIDs"]), (&json!(true), &Value::Null));
    refused(&team.carol, ALL_MEMBERS, json!({"idHash": 0}), 1001).await?;
    refused(&team.mallory, ALL_MEMBERS, body(0), 1002).await?;
    team.admin.call(ALL_MEMBERS, body(0)).await?;

    let body = |user_id: &str, hash: u64| json!({"userID": user_id, "idHash": hash});
    let data = team.carol.call(ALL_GROUPS, body("carol", 0)).await?;
    assert_eq!((&data["equal"], &data["groupIDs"]), (&json!(false), &json!(["g1"])));
    let known = team.carol.call(ALL_GROUPS, body("carol", hash(r#"["g1"]"#))).await?;
    assert_eq!((&known["equal"], &known["groupIDs"]), (&json!(true), &Value::Null));
    let none = team.dave.call(ALL_GROUPS, body("dave", 0)).await?;
    assert_eq!((&none["equal"], &none["version"]), (&json!(true), &json!(1)));
    refused(&team.carol, ALL_GROUPS, body("", 0), 1001).await?;
    refused(&team.mallory, ALL_GROUPS, body("carol", 0), 1002).await?;
    team.stop().await
}
