use serde_json::json;
use testnet::{Result, Wire};

use super::{ALICE, BOB, Pair, friend_answer, friend_request, is_friend, until};

#[tokio::test]
async fn a_user_of_another_node_is_found_as_people_type_it() -> Result {
    let pair = Pair::start().await?;
    for typed in ["bob@beta.example", "bob@Beta.Example", BOB] {
        let data = pair.alice.call("/user/get_users_info", json!({ "userIDs": [typed] })).await?;
        let found = &data["usersInfo"][0];
        assert_eq!((&found["userID"], &found["nickname"]), (&json!(BOB), &json!("bob")));
        assert_eq!(found["faceURL"], "face-bob");
    }
    let unknown = json!({ "userIDs": ["nobody@beta.example", "bob@nowhere.example"] });
    let data = pair.alice.call("/user/get_users_info", unknown).await?;
    assert!(data["usersInfo"].is_null(), "{data}");
    assert_eq!(
        pair.alice
            .refused("/friend/add_friend", friend_request("alice", "nobody@beta.example"))
            .await?,
        1004
    );
    Ok(())
}

#[tokio::test]
async fn a_request_crosses_and_so_does_the_answer() -> Result {
    let pair = Pair::start().await?;
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    let mut at_bob = pair.bob.connect(Wire::GOB_GZIP).await?;
    let request = friend_request("alice", "bob@beta.example");
    pair.alice.call("/friend/add_friend", request).await?;
    let told = at_bob.next_notification(1203).await?;
    assert_eq!((&*told.send_id, &*told.recv_id), (ALICE, "bob"));
    let list = json!({ "userID": "bob", "pagination": { "pageNumber": 1, "showNumber": 10 } });
    let listed = pair.bob.call("/friend/get_friend_apply_list", list).await?;
    let waiting = &listed["FriendRequests"][0];
    assert_eq!((&waiting["fromUserID"], &waiting["reqMsg"]), (&json!(ALICE), &json!("hello")));
    assert_eq!(waiting["fromNickname"], "alice");

    let respond = "/friend/add_friend_response";
    pair.bob.call(respond, friend_answer(ALICE, "bob", 1)).await?;
    let told = at_alice.next_notification(1201).await?;
    assert_eq!((&*told.send_id, &*told.recv_id), (BOB, "alice"));
    for (client, other) in [(&pair.alice, BOB), (&pair.bob, ALICE)] {
        assert!(is_friend(client, other).await?);
        let list = json!({ "userID": client.user_id, "pagination": { "pageNumber": 1, "showNumber": 10 } });
        let friends = client.call("/friend/get_friend_list", list).await?;
        assert_eq!(friends["friendsInfo"][0]["friendUser"]["userID"], other);
    }
    let again = friend_request("alice", BOB);
    assert_eq!(pair.alice.refused("/friend/add_friend", again).await?, 1304);
    Ok(())
}

#[tokio::test]
async fn both_ask_and_both_agree() -> Result {
    let pair = Pair::start().await?;
    let ask = "/friend/add_friend";
    let (a, b) = tokio::join!(
        pair.alice.call(ask, friend_request("alice", BOB)),
        pair.bob.call(ask, friend_request("bob", ALICE)),
    );
    a.and(b)?;
    pair.settle().await?;
    let respond = "/friend/add_friend_response";
    let (a, b) = tokio::join!(
        pair.alice.post(respond, friend_answer(BOB, "alice", 1)),
        pair.bob.post(respond, friend_answer(ALICE, "bob", 1)),
    );
    // Who is second may find the request answered by the other's agreement.
    assert!(a?.code == 0 || b?.code == 0);
    pair.settle().await?;
    assert!(is_friend(&pair.alice, BOB).await? && is_friend(&pair.bob, ALICE).await?);
    Ok(())
}

#[tokio::test]
async fn a_declined_request_and_a_friend_taken_off() -> Result {
    let pair = Pair::start().await?;
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    pair.alice.call("/friend/add_friend", friend_request("alice", BOB)).await?;
    pair.settle().await?;
    let respond = "/friend/add_friend_response";
    pair.bob.call(respond, friend_answer(ALICE, "bob", -1)).await?;
    let told = at_alice.next_notification(1202).await?;
    assert_eq!(&*told.send_id, BOB);
    assert!(!is_friend(&pair.alice, BOB).await?);

    pair.befriend().await?;
    let delete = json!({ "ownerUserID": "alice", "friendUserID": BOB });
    pair.alice.call("/friend/delete_friend", delete).await?;
    pair.settle().await?;
    assert!(!is_friend(&pair.alice, BOB).await?);
    assert!(is_friend(&pair.bob, ALICE).await?, "as between two users of one node");
    pair.befriend().await?;
    Ok(())
}

#[tokio::test]
async fn a_new_name_is_told() -> Result {
    let pair = Pair::start().await?;
    pair.befriend().await?;
    let mut at_bob = pair.bob.connect(Wire::JSON).await?;
    let edit = json!({ "userInfo": { "userID": "alice", "nickname": "Alice A." } });
    pair.alice.call("/user/update_user_info", edit).await?;
    at_bob.next_notification(1209).await?;
    until(async || {
        let who = json!({ "userIDs": [ALICE] });
        let data = pair.bob.call("/user/get_users_info", who).await?;
        Ok(data["usersInfo"][0]["nickname"] == "Alice A.")
    })
    .await?;
    let edit = json!({ "userInfo": { "userID": ALICE, "nickname": "Mallory" } });
    let admin = pair.beta.admin().await?;
    assert_eq!(admin.client.refused("/user/update_user_info", edit).await?, 1001);
    Ok(())
}
