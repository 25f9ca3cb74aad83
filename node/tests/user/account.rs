//! Registering, listing and finding accounts; notification accounts.

use serde_json::{Value, json};
use testnet::{Client, Node, Result};

use crate::{OK, ok};

fn page(number: i32, show: i32) -> Value {
    json!({"pageNumber": number, "showNumber": show})
}

async fn ids(client: &Client, route: &str, body: Value) -> Result<(i64, Vec<String>)> {
    let data = client.call(route, body).await?;
    let list = data.get("userIDs").or_else(|| data.get("users")).cloned().unwrap_or_default();
    let id = |entry: &Value| {
        entry.as_str().or_else(|| entry["userID"].as_str()).unwrap_or_default().to_owned()
    };
    let ids = list.as_array().map(|list| list.iter().map(id).collect()).unwrap_or_default();
    Ok((data["total"].as_i64().unwrap_or(-1), ids))
}

#[tokio::test]
async fn accounts_are_registered_all_or_none() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?.client;
    let alice = node.admin().await?.user("alice").await?;
    let route = "/user/user_register";
    let new = json!({"users": [
        {"userID": "new1", "nickname": "New 1", "faceURL": "f", "ex": "x", "globalRecvMsgOpt": 0,
         "appMangerLevel": 1, "createTime": 5},
        {"userID": "é用户_2", "nickname": "New 2"},
    ]});
    assert_eq!(alice.refused(route, &new).await?, 1002);
    assert_eq!(admin.post(route, &new).await?.text, OK);
    assert_eq!(admin.refused(route, &new).await?, 1102);
    let one_known = json!({"users": [
        {"userID": "d3", "nickname": "d"}, {"userID": "alice", "nickname": "d"},
    ]});
    assert_eq!(admin.refused(route, one_known).await?, 1102);
    let infos = alice.post("/user/get_users_info", json!({"userIDs": ["d3"]})).await?;
    assert_eq!(infos.text, ok(r#"{"usersInfo":null}"#));
    let user = |id: &str, name: &str| json!({"userID": id, "nickname": name});
    for users in [
        Value::Null,
        json!([]),
        json!([null]),
        json!([user("", "d")]),
        json!([user("a:b", "d")]),
        json!([user("-a", "d")]),
        json!([user("a.b", "d")]),
        json!([user("a@b", "d")]),
        json!([user(&"a".repeat(65), "d")]),
        json!([user("d2", "")]),
        json!([user("d2", &"n".repeat(513))]),
        json!([user("d1", "d"), user("d1", "d")]),
    ] {
        assert_eq!(admin.refused(route, json!({ "users": users })).await?, 1001, "{users}");
    }
    let data = alice.call("/user/get_users_info", json!({"userIDs": ["new1"]})).await?;
    let info = &data["usersInfo"][0];
    assert_eq!((&info["appMangerLevel"], &info["ex"]), (&json!(1), &json!("x")));
    assert!(info["createTime"].as_i64().expect("a time") > 5);
    node.stop().await
}

#[tokio::test]
async fn profiles_are_read_by_id() -> Result {
    let node = Node::start().await?;
    let alice = node.admin().await?.user("alice").await?;
    let route = "/user/get_users_info";
    let body = json!({"userIDs": ["imAdmin", "nobody", "alice", "imAdmin"]});
    let answer = alice.post(route, body).await?;
    let created = answer.body["data"]["usersInfo"][1]["createTime"].clone();
    let expected = format!(
        r#"{{"usersInfo":[{{"userID":"imAdmin","nickname":"superAdmin","faceURL":"","ex":"","createTime":-62135596800000,"appMangerLevel":2,"globalRecvMsgOpt":0}},{{"userID":"alice","nickname":"alice","faceURL":"face-alice","ex":"","createTime":{created},"appMangerLevel":0,"globalRecvMsgOpt":0}}]}}"#
    );
    assert_eq!(answer.text, ok(&expected));
    assert_eq!(alice.refused(route, json!({})).await?, 1001);
    assert_eq!(alice.refused(route, json!({"userIDs": []})).await?, 1001);
    let many = vec!["x"; 10_001];
    assert_eq!(alice.refused(route, json!({"userIDs": many})).await?, 1001);
    node.stop().await
}

#[tokio::test]
async fn accounts_are_checked_by_admins() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?.client;
    let alice = node.admin().await?.user("alice").await?;
    let route = "/user/account_check";
    let body = json!({"checkUserIDs": ["nobody", "alice"]});
    assert_eq!(
        admin.post(route, &body).await?.text,
        ok(
            r#"{"results":[{"userID":"nobody","accountStatus":0},{"userID":"alice","accountStatus":1}]}"#
        )
    );
    assert_eq!(alice.refused(route, &body).await?, 1002);
    let twice = json!({"checkUserIDs": ["alice", "alice"]});
    assert_eq!(alice.refused(route, &twice).await?, 1001);
    assert_eq!(admin.refused(route, &twice).await?, 1001);
    assert_eq!(admin.refused(route, json!({})).await?, 1001);
    assert_eq!(admin.refused(route, json!({"checkUserIDs": []})).await?, 1001);
    node.stop().await
}

#[tokio::test]
async fn all_ids_are_listed_oldest_first() -> Result {
    let node = Node::start().await?;
    let (admin, alice) = (node.admin().await?.client, node.admin().await?.user("alice").await?);
    node.clock.advance(10);
    node.admin().await?.register(&["b1", "b2"]).await?;
    let route = "/user/get_all_users_uid";
    let at = |number, show| json!({"pagination": page(number, show)});
    assert_eq!(
        admin.post(route, at(1, 3)).await?.text,
        ok(r#"{"total":4,"userIDs":["imAdmin","alice","b1"]}"#)
    );
    assert_eq!(admin.post(route, at(2, 3)).await?.text, ok(r#"{"total":4,"userIDs":["b2"]}"#));
    for (number, show) in [(100_000, 100), (i32::MAX, i32::MAX), (1, 0), (1, -1)] {
        assert_eq!(
            admin.post(route, at(number, show)).await?.text,
            ok(r#"{"total":4,"userIDs":null}"#)
        );
    }
    assert_eq!(alice.refused(route, at(1, 3)).await?, 1002);
    assert_eq!(admin.refused(route, json!({})).await?, 1001);
    assert_eq!(admin.refused(route, json!({"pagination": {}})).await?, 1001);
    assert_eq!(admin.refused(route, at(0, 3)).await?, 1001);
    node.stop().await
}

#[tokio::test]
async fn people_are_found_by_text() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?.client;
    let alice = node.admin().await?.user("alice").await?;
    node.clock.advance(10);
    let users = json!([
        {"userID": "mallory", "nickname": "Mallory"}, {"userID": "bot", "nickname": "m", "appMangerLevel": 4},
        {"userID": "zoe", "nickname": "alice's sister"},
    ]);
    admin.call("/user/user_register", json!({ "users": users })).await?;
    let route = "/user/get_users";
    let find = |id: &str, name: &str, number, show| {
        ids(
            &admin,
            route,
            json!({"userID": id, "nickName": name, "pagination": page(number, show)}),
        )
    };
    let names = |list: &[&str]| list.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    assert_eq!(find("", "", 1, 2).await?, (3, names(&["alice", "mallory"])));
    assert_eq!(find("", "", 2, 2).await?, (3, names(&["zoe"])));
    assert_eq!(find("", "", 1, 0).await?, (3, vec![]));
    assert_eq!(find("LIC", "", 1, 2).await?, (1, names(&["alice"])));
    assert_eq!(find("", "MALLORY", 1, 2).await?, (1, names(&["mallory"])));
    assert_eq!(find("alice", "zzz", 1, 5).await?, (1, names(&["alice"])));
    assert_eq!(find("mall", "alice", 1, 5).await?, (3, names(&["alice", "mallory", "zoe"])));
    assert_eq!(find("mall", "alice", 2, 2).await?, (3, names(&["zoe"])));
    assert_eq!(find("bot", "", 1, 5).await?, (0, vec![]));
    let none = json!({"userID": "nobody", "pagination": page(1, 5)});
    assert_eq!(admin.post(route, none).await?.text, ok(r#"{"total":0,"users":null}"#));
    let odd = json!([{"userID": "odd", "nickname": "+86 (0) 1*[2]\\^$."}]);
    admin.call("/user/user_register", json!({ "users": odd })).await?;
    for text in ["+86", "(", ")", "*", "[", "]", "\\", "^", "$", ".", "(0) 1*[2]"] {
        assert_eq!(find("", text, 1, 5).await?, (1, names(&["odd"])), "{text}");
        assert_eq!(find(text, "", 1, 5).await?, (0, vec![]), "{text}");
    }
    let page_of_one = json!({"pagination": page(1, 1)});
    assert_eq!(alice.refused(route, page_of_one).await?, 1002);
    let long = json!({"userID": "a".repeat(257), "pagination": page(1, 5)});
    assert_eq!(admin.refused(route, long).await?, 1001);
    assert_eq!(admin.refused(route, json!({"userID": "a"})).await?, 1001);
    assert_eq!(admin.refused(route, json!({"pagination": {}})).await?, 1001);
    node.stop().await
}

#[tokio::test]
async fn searches_reach_the_last_of_many_accounts() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let many: Vec<String> = (0..2_500).map(|n| format!("u{n:04}")).collect();
    admin.register(&many.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let route = "/user/get_users";
    let body = json!({"userID": "U2499", "pagination": page(1, 5)});
    assert_eq!(ids(&admin.client, route, body).await?, (1, vec!["u2499".into()]));
    let body = json!({"pagination": page(25, 100)});
    let (total, last) = ids(&admin.client, route, body).await?;
    assert_eq!((total, last.len(), last.last()), (2_500, 100, many.last()));
    let body = json!({"pagination": page(2, 2_000)});
    let (total, last) = ids(&admin.client, "/user/get_all_users_uid", body).await?;
    assert_eq!((total, last.len(), last.last()), (2_501, 501, many.last()));
    node.stop().await
}

#[tokio::test]
async fn notification_accounts_are_kept_by_admins() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?.client;
    let alice = node.admin().await?.user("alice").await?;
    let (add, update) = ("/user/add_notification_account", "/user/update_notification_account");
    let notice = json!({
        "userID": "notice", "nickName": "Notice", "faceURL": "n.png", "appMangerLevel": 4,
    });
    assert_eq!(alice.refused(add, &notice).await?, 1002);
    assert_eq!(
        admin.post(add, &notice).await?.text,
        ok(r#"{"userID":"notice","faceURL":"n.png","nickName":"Notice","appMangerLevel":4}"#)
    );
    assert_eq!(admin.refused(add, &notice).await?, 1001);
    for body in [
        json!({"userID": "n2", "appMangerLevel": 3}),
        json!({"nickName": "N"}),
        json!({"nickName": "N", "appMangerLevel": 2}),
        json!({"userID": "alice", "nickName": "N", "appMangerLevel": 3}),
        json!({"userID": "a.b", "nickName": "N", "appMangerLevel": 3}),
    ] {
        assert_eq!(admin.refused(add, &body).await?, 1001, "{body}");
    }
    node.clock.advance(10);
    let made = admin.call(add, json!({"nickName": "Own ID", "appMangerLevel": 3})).await?;
    let own_id = made["userID"].as_str().expect("an ID").to_owned();
    assert!(own_id.len() == 10 && !own_id.starts_with('0') && own_id.parse::<u64>().is_ok());

    let change = json!({"userID": "notice", "nickName": "Notice 2", "faceURL": ""});
    assert_eq!(alice.refused(update, &change).await?, 1002);
    assert_eq!(admin.post(update, &change).await?.text, OK);
    for body in [
        json!({"nickName": "x"}),
        json!({"userID": "notice"}),
        json!({"userID": "nobody", "nickName": "x"}),
    ] {
        assert_eq!(admin.refused(update, &body).await?, 1001, "{body}");
    }

    let route = "/user/search_notification_account";
    let found = |list: &str, total: i32| {
        ok(&format!(r#"{{"total":{total},"notificationAccounts":{list}}}"#))
    };
    let first = r#"{"userID":"notice","faceURL":"n.png","nickName":"Notice 2","appMangerLevel":4}"#;
    let second =
        format!(r#"{{"userID":"{own_id}","faceURL":"","nickName":"Own ID","appMangerLevel":3}}"#);
    let at = page(1, 10);
    for (body, list, total) in [
        (json!({"keyword": "notice"}), format!("[{first}]"), 1),
        (json!({"keyword": "Notice 2"}), format!("[{first}]"), 1),
        (json!({"appManagerLevel": 4}), format!("[{first}]"), 1),
        (json!({}), format!("[{first},{second}]"), 2),
        (json!({"keyword": "notice", "appManagerLevel": 3}), "null".into(), 0),
        (json!({"keyword": "nobody"}), "null".into(), 0),
        (json!({"keyword": "alice"}), "null".into(), 0),
        (json!({"keyword": "imAdmin"}), "null".into(), 0),
    ] {
        let mut body = body;
        body["pagination"] = at.clone();
        assert_eq!(admin.post(route, &body).await?.text, found(&list, total), "{body}");
        assert_eq!(alice.refused(route, &body).await?, 1002);
    }
    let second_page = json!({"pagination": page(2, 1)});
    assert_eq!(admin.post(route, second_page).await?.text, found(&format!("[{second}]"), 2));
    assert_eq!(admin.refused(route, json!({})).await?, 1001);
    assert_eq!(admin.refused(route, json!({"pagination": {}})).await?, 1001);
    node.stop().await
}
