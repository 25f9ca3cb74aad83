use std::time::Duration;

use serde_json::{Value, json};
use testnet::recording::{decoded, differences};
use testnet::{Client, Node, Push, Result, Socket, Wire, text_message};

use super::{QUIET, lines};

/// Compares what a device is pushed with what was recorded.
async fn same_frames(place: &str, socket: &mut Socket, recorded: &Value) -> Result {
    let mut came = Vec::new();
    while let Ok(Ok(push)) = tokio::time::timeout(QUIET, socket.next_push()).await {
        came.push(push);
    }
    let recorded = recorded.as_array().map(Vec::as_slice).unwrap_or_default();
    assert_eq!(came.len(), recorded.len(), "{place}: {came:?}");
    for (push, frame) in came.into_iter().zip(recorded) {
        let Some(decoded_frame) = frame.get("decoded") else {
            assert_eq!(push, Push::Kicked, "{place}");
            continue;
        };
        let Push::Message { conversation_id, message, operation_id: _ } = push else {
            anyhow::bail!("{place}: {push:?}");
        };
        let now = json!({ "msgs": { conversation_id: { "Msgs": [decoded(&*message)?] } } });
        assert_eq!(differences(decoded_frame, &now), Vec::<String>::new(), "{place}");
    }
    Ok(())
}

async fn send(from: &mut Socket, text: &str, sync: Option<bool>) -> Result {
    let mut message = text_message("fd_dave", "fd_bob", text);
    message.sender_nickname = "Nick".into();
    message.sender_platform_id = 5;
    if let Some(sync) = sync {
        message.options.insert("senderSync".into(), sync);
    }
    from.send(&message).await?;
    Ok(())
}

async fn rest_code(client: &Client) -> Result<i64> {
    let who = json!({ "userIDs": [client.user_id] });
    Ok(client.post("/user/get_users_info", who).await?.code)
}

#[tokio::test]
async fn devices_come_and_go_as_recorded() -> Result {
    let node = Node::start().await?;
    let admin = node.admin().await?;
    admin.register(&["fd_dave", "fd_bob"]).await?;
    let lines = lines("ws-devices.jsonl")?;
    assert_eq!(lines.len(), 9);
    let dave = admin.client("fd_dave", 5).await?;
    let mut a = dave.connect(Wire::JSON).await?;
    // The original forgets a device for a second after its login; a node pushes at once.
    send(&mut a, "at once", None).await?;
    assert_eq!(a.next_message().await?.seq, 1);
    let mut b = dave.connect(Wire::JSON).await?;
    assert!(!a.ends(QUIET).await && !b.ends(QUIET).await, "two connections with one token");

    send(&mut a, "from a", None).await?;
    same_frames("sent", &mut a, &lines[2]["framesAtA"]).await?;
    same_frames("sent", &mut b, &lines[2]["framesAtB"]).await?;

    let mut w = admin.client("fd_dave", 3).await?.connect(Wire::JSON).await?;
    send(&mut a, "from a2", Some(false)).await?;
    same_frames("no sync", &mut a, &lines[3]["framesAtA"]).await?;
    same_frames("no sync", &mut b, &lines[3]["framesAtB"]).await?;
    same_frames("no sync", &mut w, &lines[3]["framesAtW"]).await?;

    send(&mut a, "from a, no options", None).await?;
    same_frames("no options", &mut a, &lines[4]["framesAtA"]).await?;
    same_frames("no options", &mut w, &lines[4]["framesAtW"]).await?;
    same_frames("no options", &mut b, &lines[4]["framesAtA"]).await?;

    let new = admin.client("fd_dave", 5).await?;
    assert_eq!(rest_code(&dave).await?, lines[5]["restCallWithOldToken"]["errCode"]);
    same_frames("new token", &mut a, &lines[5]["framesAtA"]).await?;

    let mut n = new.connect(Wire::JSON).await?;
    same_frames("new device", &mut a, &lines[6]["framesAtA"]).await?;
    same_frames("new device", &mut b, &lines[6]["framesAtB"]).await?;
    same_frames("new device", &mut w, &lines[6]["framesAtW"]).await?;
    let soon = Duration::from_secs(2);
    assert!(a.ends(soon).await && b.ends(soon).await, "the old devices are cut off");
    assert!(!w.ends(QUIET).await, "another platform stays");

    let refused = dave.connect(Wire::JSON).await.err().expect("the old token is refused");
    assert!(refused.to_string().contains("1506"), "{refused}");

    let logout = json!({ "userID": "fd_dave", "platformID": 5 });
    admin.client.call("/auth/force_logout", logout).await?;
    same_frames("forced", &mut n, &lines[8]["framesAtN"]).await?;
    assert!(n.ends(soon).await && !w.ends(QUIET).await, "only platform 5 is logged out");
    assert_eq!(rest_code(&new).await?, lines[8]["restCallWithToken"]["errCode"]);
    node.stop().await
}
