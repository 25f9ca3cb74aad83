use serde_json::{Value, json};
use testnet::{Node, Result, Wire};

use super::{OK, befriend, check_notification, detail, from_to, page};

#[tokio::test]
async fn users_are_blocked_and_unblocked() -> Result {
    let node = Node::start().await?;
    let [alice, bob, _] = node.admin().await?.users(["alice", "bob", "carol"]).await?;
    befriend(&alice, &bob).await?;
    let (mut at_alice, mut at_bob) =
        (alice.connect(Wire::JSON).await?, bob.connect(Wire::JSON).await?);
    let incremental = |version_id: Value, version: Value| {
        let body = json!({"userID": "alice", "versionID": version_id, "version": version});
        let alice = alice.clone();
        async move { alice.call("/friend/get_incremental_blacks", body).await }
    };
    let base = incremental(json!(""), json!(0)).await?;
    assert_eq!((&base["full"], &base["insert"]), (&json!(true), &Value::Null));

    let (add, remove) = ("/friend/add_black", "/friend/remove_black");
    let black = |id: &str| json!({"ownerUserID": "alice", "blackUserID": id, "ex": "spam"});
    assert_eq!(alice.post(add, black("bob")).await?.text, OK);
    for socket in [&mut at_alice, &mut at_bob] {
        let told = socket.next_notification(1207).await?;
        check_notification(&told, "alice", "bob", false, false);
        assert_eq!(detail(&told), json!({"fromToUserID": from_to("alice", "bob")}));
    }
    node.clock.advance(10);
    alice.call(add, black("carol")).await?;
    assert_eq!(alice.refused(add, black("bob")).await?, 500);
    assert_eq!(alice.refused(add, black("alice")).await?, 1004);
    assert_eq!(alice.refused(add, black("nobody")).await?, 1004);
    assert_eq!(alice.refused(add, black("")).await?, 1001);

    let list =
        |number: i32, rows: i32| json!({"userID": "alice", "pagination": page(number, rows)});
    let listed = alice.call("/friend/get_black_list", list(1, 10)).await?;
    assert_eq!(listed["total"], 2);
    let first = &listed["blacks"][0];
    let seconds = first["createTime"].as_i64().expect("a time");
    assert!((1_000_000_000..10_000_000_000).contains(&seconds), "{seconds}");
    let expected = json!({
        "ownerUserID": "alice", "createTime": seconds,
        "blackUserInfo": {"userID": "bob", "nickname": "bob", "faceURL": "face-bob", "ex": ""},
        "addSource": 0, "operatorUserID": "alice", "ex": "spam",
    });
    assert_eq!(first, &expected);
    assert_eq!(
        alice.call("/friend/get_black_list", list(2, 1)).await?["blacks"][0]["blackUserInfo"]["userID"],
        "carol"
    );
    assert_eq!(alice.call("/friend/get_black_list", list(9, 1)).await?["blacks"], Value::Null);

    let specified = "/friend/get_specified_blacks";
    let named = |ids: &[&str]| json!({"ownerUserID": "alice", "userIDList": ids});
    let found = alice.call(specified, named(&["carol", "nobody", "bob"])).await?;
    assert_eq!(found["total"], 2);
    assert_eq!(found["blacks"][0]["blackUserInfo"]["userID"], "carol");
    assert_eq!(found["blacks"][1]["createTime"].as_i64().map(|ms| ms / 1_000), Some(seconds));
    assert_eq!(alice.refused(specified, named(&[])).await?, 1001);
    assert_eq!(alice.refused(specified, named(&["bob", "bob"])).await?, 1001);
    assert_eq!(
        alice.call(specified, named(&["nobody"])).await?,
        json!({"blacks": null, "total": 0})
    );

    let all = json!({"ownerUserID": "alice", "userIDList": ["bob", "nobody", "carol"]});
    let infos = alice.call("/friend/get_specified_friends_info", all).await?;
    let infos = infos["infos"].as_array().expect("a list");
    assert_eq!(infos.len(), 2);
    assert_eq!(
        (&infos[0]["friendInfo"]["friendUser"], &infos[0]["blackInfo"]["blackUserInfo"]),
        (&Value::Null, &Value::Null)
    );
    for info in [&infos[0]["friendInfo"], &infos[0]["blackInfo"]] {
        assert!(info["createTime"].as_i64() > Some(1_000_000_000_000), "milliseconds");
    }
    assert_eq!(
        (&infos[1]["friendInfo"], &infos[1]["blackInfo"]["ex"]),
        (&Value::Null, &json!("spam"))
    );

    let added = incremental(base["versionID"].clone(), base["version"].clone()).await?;
    assert_eq!((&added["full"], &added["version"]), (&json!(false), &json!(3)));
    assert_eq!(added["insert"][0], expected);
    assert_eq!(added["insert"].as_array().map(Vec::len), Some(2));

    assert_eq!(alice.post(remove, black("bob")).await?.text, OK);
    let told = at_bob.next_notification(1208).await?;
    check_notification(&told, "alice", "bob", false, false);
    assert_eq!(detail(&told), json!({"fromToUserID": from_to("alice", "bob")}));
    assert_eq!(alice.post(remove, black("bob")).await?.text, OK);
    at_bob.next_notification(1208).await?;
    let removed = incremental(added["versionID"].clone(), added["version"].clone()).await?;
    assert_eq!((&removed["delete"], &removed["version"]), (&json!(["bob"]), &json!(4)));
    assert_eq!((&removed["insert"], &removed["update"]), (&Value::Null, &Value::Null));
    node.stop().await
}
