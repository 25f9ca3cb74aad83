use super::*;

const LIST: &str = "/group/get_group_member_list";

fn page(number: i32, rows: i32) -> Value {
    json!({"pageNumber": number, "showNumber": rows})
}

fn ids(list: &Value, key: &str) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|row| row[key].as_str().expect("an ID").to_owned()).collect()
}

#[tokio::test]
async fn members_are_listed_by_rank_page_by_page() -> Result {
    let team = Team::start().await?;
    let invite = json!({"groupID": "g1", "invitedUserIDs": ["dave"]});
    team.alice.call("/group/invite_user_to_group", invite).await?;
    let promote = json!({"members": [{"groupID": "g1", "userID": "dave", "roleLevel": 60}]});
    team.alice.call("/group/set_group_member_info", promote).await?;
    let list = |number, rows| json!({"groupID": "g1", "pagination": page(number, rows)});
    for (number, rows, expected) in [
        (1, 10, &["alice", "bob", "dave", "carol"][..]),
        (2, 2, &["dave", "carol"]),
        (2, 3, &["carol"]),
        (3, 2, &[]),
        (1, 0, &[]),
    ] {
        let data = team.carol.call(LIST, list(number, rows)).await?;
        assert_eq!(data["total"], 4);
        assert_eq!(ids(&data["members"], "userID"), expected);
    }
    for filter in 0..=5 {
        let mut body = list(1, 10);
        body["filter"] = json!(filter);
        assert_eq!(team.admin.call(LIST, body).await?["total"], 4);
    }
    let name =
        json!({"members": [{"groupID": "g1", "userID": "carol", "nickname": "Caro (1*[+86"}]});
    team.carol.call("/group/set_group_member_info", name).await?;
    let mut search = list(1, 10);
    search["keyword"] = json!("CA");
    let data = team.carol.call(LIST, &search).await?;
    assert_eq!(
        (&data["total"], ids(&data["members"], "userID")),
        (&json!(1), vec!["carol".into()])
    );
    for (text, expected) in [("(", 1), ("*", 1), ("[", 1), ("+86", 1), ("^ca", 0), (".", 0)] {
        search["keyword"] = json!(text);
        assert_eq!(team.carol.call(LIST, &search).await?["total"], expected, "{text}");
    }

    refused(&team.carol, LIST, json!({"pagination": page(1, 1)}), 1001).await?;
    refused(&team.carol, LIST, json!({"groupID": "g1"}), 1001).await?;
    refused(&team.carol, LIST, list(0, 1), 1001).await?;
    let mut filter = list(1, 1);
    filter["filter"] = json!(6);
    refused(&team.carol, LIST, filter, 1001).await?;
    refused(&team.mallory, LIST, list(1, 1), 1002).await?;
    let unknown = json!({"groupID": "none", "pagination": page(1, 1)});
    refused(&team.alice, LIST, unknown.clone(), 1002).await?;
    let data = team.admin.post(LIST, unknown).await?;
    assert!(data.text.ends_with(r#""data":{"total":0,"members":null}}"#));
    team.stop().await
}

#[tokio::test]
async fn members_are_found_by_id() -> Result {
    let team = Team::start().await?;
    let route = "/group/get_group_members_info";
    let body = |users: Value| json!({"groupID": "g1", "userIDs": users});
    let data = team.bob.call(route, body(json!(["carol", "mallory", "alice", "carol"]))).await?;
    assert_eq!(ids(&data["members"], "userID"), ["carol", "alice"]);
    let none = team.bob.post(route, body(json!(["mallory"]))).await?;
    assert!(none.text.ends_with(r#""data":{"members":null}}"#));
    refused(&team.bob, route, json!({"userIDs": ["carol"]}), 1001).await?;
    refused(&team.bob, route, body(json!([])), 1001).await?;
    refused(&team.mallory, route, body(json!(["carol"])), 1002).await?;
    team.admin.call(route, body(json!(["carol"]))).await?;

    let route = "/group/get_group_member_user_id";
    let data = team.carol.call(route, json!({"groupID": "g1"})).await?;
    assert_eq!(data, json!({"userIDs": ["alice", "bob", "carol"]}));
    refused(&team.carol, route, json!({}), 1001).await?;
    refused(&team.mallory, route, json!({"groupID": "g1"}), 1002).await?;
    refused(&team.carol, route, json!({"groupID": "none"}), 1002).await?;
    team.stop().await
}

#[tokio::test]
async fn a_hash_stands_for_all_that_is_known_of_the_members() -> Result {
    use md5::Digest as _;
    let team = Team::start().await?;
    let route = "/group/get_group_abstract_info";
    let body = json!({"groupIDs": ["g1"]});
    let data = team.carol.call(route, &body).await?;
    let members = json!({"groupID": "g1", "userIDs": ["alice", "bob", "carol"]});
    let answer = team.carol.post("/group/get_group_members_info", members).await?;
    let start = answer.text.find('[').expect("a list");
    let text = &answer.text[start..answer.text.len() - 2];
    let digest = md5::Md5::digest(text);
    let hash = u64::from_be_bytes(std::array::from_fn(|at| digest[at]));
    let expected = json!({"groupID": "g1", "groupMemberNumber": 3, "groupMemberListHash": hash});
    assert_eq!(data["groupAbstractInfos"], json!([expected]));
    refused(&team.carol, route, json!({"groupIDs": []}), 1001).await?;
    refused(&team.carol, route, json!({"groupIDs": ["g1", "g1"]}), 1001).await?;
    refused(&team.mallory, route, body.clone(), 1002).await?;
    refused(&team.carol, route, json!({"groupIDs": ["none"]}), 1002).await?;
    refused(&team.admin, route, json!({"groupIDs": ["none"]}), 1201).await?;
    let left = json!({"groupIDs": ["none", "g1"]});
    let data = team.carol.call(route, left).await?;
    assert_eq!(data["groupAbstractInfos"], json!([expected]), "the others are answered");
    team.alice.call("/group/dismiss_group", json!({"groupID": "g1"})).await?;
    let empty = team.admin.call(route, body).await?;
    let hash = json!(15_515_306_683_186_839_187_u64);
    assert_eq!(empty["groupAbstractInfos"][0]["groupMemberListHash"], hash);
    team.stop().await
}

#[tokio::test]
async fn joined_groups_are_listed_by_name_and_age() -> Result {
    let team = Team::start().await?;
    for (id, name) in [("g2", "Alpha"), ("g3", "Team"), ("g4", "Zulu")] {
        team.node.clock.advance(5);
        let info = json!({"groupID": id, "groupName": name, "groupType": 2});
        let body = json!({"ownerUserID": "bob", "groupInfo": info});
        team.bob.call("/group/create_group", body).await?;
    }
    team.bob.call("/group/dismiss_group", json!({"groupID": "g4"})).await?;
    let route = "/group/get_joined_group_list";
    let list = |user_id: &str, number, rows| json!({"fromUserID": user_id, "pagination": page(number, rows)});
    let data = team.bob.call(route, list("bob", 1, 10)).await?;
    assert_eq!(data["total"], 3);
    assert_eq!(ids(&data["groups"], "groupID"), ["g2", "g1", "g3"]);
    let data = team.admin.call(route, list("bob", 2, 2)).await?;
    assert_eq!((&data["total"], ids(&data["groups"], "groupID")), (&json!(3), vec!["g3".into()]));
    let none = team.bob.post(route, list("bob", 3, 2)).await?;
    assert!(none.text.ends_with(r#""data":{"total":3,"groups":null}}"#));
    refused(&team.bob, route, list("", 1, 1), 1001).await?;
    refused(&team.bob, route, json!({"fromUserID": "bob"}), 1001).await?;
    refused(&team.bob, route, list("bob", 0, 1), 1001).await?;
    refused(&team.mallory, route, list("bob", 1, 1), 1002).await?;
    team.stop().await
}
