use serde_json::json;
use testnet::{Node, Result, Wire};

use crate::*;

#[tokio::test]
async fn an_admin_finds_messages() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let [alice, bob] = admin.users(["alice", "bob"]).await?;
    group(&node, "g", &[("alice", OWNER), ("bob", ORDINARY)]).await?;
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut at_bob = bob.connect(Wire::JSON).await?;
    say(&mut at_alice, "bob", &["1", "2", "3"]).await?;
    say(&mut at_bob, "alice", &["4"]).await?;
    say_in(&mut at_alice, "alice", "g", &["5", "6"]).await?;
    let revoke = json!({ "conversationID": "si_alice_bob", "seq": 1, "userID": "alice" });
    alice.call("/msg/revoke_msg", revoke).await?;
    let erase = json!({ "conversationID": "si_alice_bob", "seqs": [2] });
    admin.client.call("/msg/delete_msg_phsical_by_seq", erase).await?;
    bob.call(
        "/msg/delete_msgs",
        json!({ "conversationID": "si_alice_bob", "seqs": [3], "userID": "bob" }),
    )
    .await?;

    let search = async |mut body: Value, page: i64, show: i64| -> Result<(Vec<String>, Value)> {
        body["pagination"] = json!({ "pageNumber": page, "showNumber": show });
        let data = admin.client.call("/msg/search_msg", body).await?;
        let logs = data["chatLogs"].as_array().cloned().unwrap_or_default();
        let text = |log: &Value| {
            let inner = log["chatLog"]["content"].as_str().unwrap_or_default();
            let content: Value = serde_json::from_str(inner).unwrap_or_default();
            content["content"].as_str().unwrap_or_default().to_owned()
        };
        Ok((logs.iter().map(text).collect(), data["chatLogsNum"].clone()))
    };
    for (body, texts) in [
        (json!({}), vec!["1", "3", "4", "5", "6"]),
        (json!({ "sendID": "alice" }), vec!["1", "3", "5", "6"]),
        (json!({ "sendID": "alice", "recvID": "bob" }), vec!["1", "3"]),
        (json!({ "recvID": "g" }), vec!["5", "6"]),
        (json!({ "recvID": "alice" }), vec!["4"]),
        (json!({ "sessionType": 3 }), vec!["5", "6"]),
        (json!({ "contentType": 102 }), vec![]),
        (json!({ "sendTime": "2020-01-01" }), vec![]),
        (json!({ "sendID": "nobody" }), vec![]),
    ] {
        assert_eq!(
            search(body.clone(), 1, 10).await?,
            (texts.iter().map(|t| t.to_string()).collect(), json!(texts.len())),
            "{body}"
        );
    }
    assert_eq!(search(json!({}), 2, 2).await?, (vec!["4".into(), "5".into()], json!(5)));
    assert_eq!(search(json!({}), 4, 2).await?, (vec![], json!(5)));
    let data = admin.client.call("/msg/search_msg", json!({})).await?;
    assert_eq!(data, json!({ "chatLogs": null, "chatLogsNum": 5 }));

    let body = json!({ "sendID": "alice", "pagination": { "pageNumber": 1, "showNumber": 10 } });
    let data = admin.client.call("/msg/search_msg", body).await?;
    let first = &data["chatLogs"][0];
    assert_eq!(first["isRevoked"], true);
    let message = pull(&bob, "si_alice_bob", 1, 1).await?[0].clone();
    assert_eq!(
        first["chatLog"],
        json!({
            "serverMsgID": message["serverMsgID"], "clientMsgID": message["clientMsgID"],
            "sendID": "alice", "recvID": "bob", "groupID": "", "recvNickname": "bob",
            "senderPlatformID": 0, "senderNickname": "alice", "senderFaceURL": "", "groupName": "",
            "sessionType": 1, "msgFrom": 100, "contentType": 101, "content": "{\"content\":\"1\"}",
            "status": 2, "sendTime": message["sendTime"], "createTime": 1, "ex": "",
            "groupFaceURL": "", "groupMemberCount": 0, "seq": 1, "groupOwner": "", "groupType": 0,
        })
    );
    let in_group = &data["chatLogs"][2]["chatLog"];
    assert_eq!((&in_group["recvID"], &in_group["groupName"]), (&json!("g"), &json!("Team")));
    assert_eq!(
        (&in_group["senderFaceURL"], &in_group["groupMemberCount"]),
        (&json!("face-team"), &json!(2))
    );
    node.stop().await
}

#[tokio::test]
async fn what_is_refused() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    let alice = admin.user("alice").await?;
    assert_eq!(alice.refused("/msg/search_msg", json!({ "sendID": "alice" })).await?, 1002);
    assert_eq!(admin.client.refused("/msg/search_msg", json!({ "sendTime": "x" })).await?, 1001);
    let page = json!({ "pagination": { "pageNumber": 0, "showNumber": 1 } });
    assert_eq!(admin.client.refused("/msg/search_msg", page).await?, 1001);
    node.stop().await
}
