use serde_json::{Value, json};
use testnet::{Node, Push, Result, Wire};

use super::{OK, answer, befriend, check_notification, detail, from_to, page, request};

#[tokio::test]
async fn a_request_is_made_and_agreed_to() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::GOB_GZIP).await?;
    assert_eq!(alice.post("/friend/add_friend", request("alice", "bob")).await?.text, OK);
    let listed = bob
        .call("/friend/get_friend_apply_list", json!({"userID": "bob", "pagination": page(1, 10)}))
        .await?;
    assert_eq!(listed["total"], 1);
    let waiting = listed["FriendRequests"][0].clone();
    let created = waiting["createTime"].as_i64().expect("a time");
    let expected = json!({
        "fromUserID": "alice", "fromNickname": "alice", "fromFaceURL": "face-alice",
        "toUserID": "bob", "toNickname": "bob", "toFaceURL": "face-bob",
        "handleResult": 0, "reqMsg": "hi", "createTime": created,
        "handlerUserID": "", "handleMsg": "", "handleTime": 0, "ex": "rx",
    });
    assert_eq!(waiting, expected);
    for socket in [&mut at_alice, &mut at_bob] {
        let told = socket.next_notification(1203).await?;
        check_notification(&told, "alice", "bob", false, true);
        let expected = json!({"fromToUserID": from_to("alice", "bob"), "request": waiting});
        assert_eq!(detail(&told), expected);
    }

    let respond = "/friend/add_friend_response";
    assert_eq!(bob.refused(respond, answer("alice", "bob", 0)).await?, 1001);
    assert_eq!(bob.refused(respond, answer("carol", "bob", 1)).await?, 1004);
    assert_eq!(alice.refused(respond, answer("alice", "bob", 1)).await?, 1002);
    assert_eq!(bob.post(respond, answer("alice", "bob", 1)).await?.text, OK);
    let sent = alice
        .call(
            "/friend/get_self_friend_apply_list",
            json!({"userID": "alice", "pagination": page(1, 10)}),
        )
        .await?;
    let agreed = &sent["friendRequests"][0];
    assert_eq!((&agreed["handleResult"], &agreed["handlerUserID"]), (&json!(1), &json!("bob")));
    assert_eq!(agreed["handleMsg"], "well");
    assert!(agreed["handleTime"].as_i64() >= Some(created));
    for socket in [&mut at_alice, &mut at_bob] {
        let Push::Message { conversation_id, message: chat, .. } = socket.next_push().await? else {
            panic!("not a message");
        };
        assert_eq!((conversation_id.as_str(), chat.content_type), ("si_alice_bob", 1201));
        assert_eq!((chat.seq, chat.options.get("unreadCount")), (1, Some(&true)));
        let told = socket.next_notification(1201).await?;
        check_notification(&told, "bob", "alice", true, false);
        let expected = json!({
            "fromToUserID": from_to("alice", "bob"), "handleMsg": "well",
            "friendVersion": 0, "friendVersionID": "", "request": agreed,
        });
        assert_eq!(detail(&told), expected);
        assert_eq!(detail(&chat), expected);
    }
    for (client, friend) in [(&alice, "bob"), (&bob, "alice")] {
        let body = json!({"userID": client.user_id, "pagination": page(1, 10)});
        let friends = client.call("/friend/get_friend_list", body).await?;
        let made = friends["friendsInfo"][0]["createTime"].clone();
        assert!(
            made.as_i64()
                .is_some_and(|seconds| (created / 1_000..=created / 1_000 + 60).contains(&seconds))
        );
        let user = json!({
            "userID": friend, "nickname": friend, "faceURL": format!("face-{friend}"), "ex": "",
            "createTime": 0, "appMangerLevel": 0, "globalRecvMsgOpt": 0,
        });
        let expected = json!({
            "ownerUserID": client.user_id, "remark": "", "createTime": made, "friendUser": user,
            "addSource": 2, "operatorUserID": "alice", "ex": "", "isPinned": false,
        });
        assert_eq!(friends, json!({"friendsInfo": [expected], "total": 1}));
    }
    assert_eq!(alice.refused("/friend/add_friend", request("alice", "bob")).await?, 1304);
    assert_eq!(bob.refused(respond, answer("alice", "bob", 1)).await?, 1001);
    assert_eq!(bob.refused(respond, answer("alice", "bob", -1)).await?, 1305);
    node.stop().await
}

#[tokio::test]
async fn a_request_is_refused_and_made_again() -> Result {
    let node = Node::start().await?;
    let [alice, bob] = node.admin().await?.users(["alice", "bob"]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    alice.call("/friend/add_friend", request("alice", "bob")).await?;
    bob.call("/friend/add_friend_response", answer("alice", "bob", -1)).await?;
    let told = at_alice.next_notification(1202).await?;
    check_notification(&told, "bob", "alice", false, true);
    let said = detail(&told);
    assert_eq!(said["fromToUserID"], from_to("alice", "bob"));
    assert_eq!(
        (&said["handleMsg"], &said["request"]["handleResult"]),
        (&json!("well"), &json!(-1))
    );
    assert_eq!(said["request"]["handlerUserID"], "");
    let both = json!({"userID1": "alice", "userID2": "bob"});
    let no = json!({"inUser1Friends": false, "inUser2Friends": false});
    assert_eq!(alice.call("/friend/is_friend", &both).await?, no);
    let again = json!({"fromUserID": "alice", "toUserID": "bob", "reqMsg": "please"});
    alice.call("/friend/add_friend", again).await?;
    let body = json!({"fromUserID": "bob", "toUserID": "alice"});
    let between = alice.call("/friend/get_designated_friend_apply", &body).await?;
    let request_again = &between["friendRequests"][0];
    assert_eq!(
        (&request_again["handleResult"], &request_again["handleMsg"]),
        (&json!(0), &json!(""))
    );
    assert_eq!((&request_again["reqMsg"], &request_again["ex"]), (&json!("please"), &json!("")));

    // Agreeing to one of two crossing requests agrees to the other.
    bob.call("/friend/add_friend", request("bob", "alice")).await?;
    alice.call("/friend/add_friend_response", answer("bob", "alice", 1)).await?;
    let between = alice.call("/friend/get_designated_friend_apply", &body).await?;
    let results: Vec<&Value> = between["friendRequests"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|request| &request["handleResult"])
        .collect();
    assert_eq!(results, [1, 1]);
    let yes = json!({"inUser1Friends": true, "inUser2Friends": true});
    assert_eq!(alice.call("/friend/is_friend", &both).await?, yes);
    node.stop().await
}

#[tokio::test]
async fn requests_are_listed_and_counted() -> Result {
    let node = Node::start().await?;
    let [alice, bob, carol, dave] =
        node.admin().await?.users(["alice", "bob", "carol", "dave"]).await?;
    for applicant in [&bob, &carol, &dave] {
        applicant.call("/friend/add_friend", request(&applicant.user_id, "alice")).await?;
        node.clock.advance(10);
    }
    alice.call("/friend/add_friend_response", answer("carol", "alice", -1)).await?;
    let received = "/friend/get_friend_apply_list";
    let list = |filter: Value, page: Value| {
        let body = json!({"userID": "alice", "pagination": page, "handleResults": filter});
        let alice = alice.clone();
        async move {
            let answer = alice.call(received, body).await?;
            let requests = answer["FriendRequests"].as_array().cloned().unwrap_or_default();
            let from: Vec<String> = requests
                .iter()
                .map(|request| request["fromUserID"].as_str().expect("a text").to_owned())
                .collect();
            Result::<_>::Ok((from, answer["total"].clone()))
        }
    };
    let all = ["dave", "carol", "bob"].map(str::to_owned).to_vec();
    assert_eq!(list(json!([]), page(1, 10)).await?, (all, json!(3)));
    assert_eq!(list(json!([0]), page(2, 1)).await?, (vec!["bob".into()], json!(2)));
    assert_eq!(list(json!([1]), page(1, 10)).await?, (Vec::new(), json!(0)));
    let count = "/friend/get_self_unhandled_apply_count";
    let counted = |time: i64| json!({"userID": "alice", "time": time});
    assert_eq!(alice.call(count, counted(0)).await?, json!({"count": 2}));
    assert_eq!(alice.call(count, counted(4_000_000_000_000)).await?, json!({"count": 0}));
    node.stop().await
}

#[tokio::test]
async fn requests_name_two_users_of_the_node() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob] = admin.users(["alice", "bob"]).await?;
    let add = "/friend/add_friend";
    assert_eq!(alice.refused(add, request("alice", "alice")).await?, 1301);
    assert_eq!(alice.refused(add, request("alice", "nobody")).await?, 1004);
    assert_eq!(alice.refused(add, request("bob", "alice")).await?, 1002);
    assert_eq!(alice.refused(add, request("", "bob")).await?, 1001);
    assert_eq!(alice.refused(add, request("alice", "")).await?, 1001);
    let long = json!({"fromUserID": "alice", "toUserID": "bob", "reqMsg": "x".repeat(5_000)});
    assert_eq!(alice.refused(add, long).await?, 1001);
    // Whoever was taken off the other's list alone may ask again.
    befriend(&alice, &bob).await?;
    let off = json!({"ownerUserID": "bob", "friendUserID": "alice"});
    bob.call("/friend/delete_friend", off).await?;
    assert_eq!(alice.post(add, request("alice", "bob")).await?.text, OK);
    admin.client.call(add, request("bob", "alice")).await?;
    node.stop().await
}
