//! A group at alpha with members at beta and gamma.

use serde_json::{Value, json};
use testnet::{Client, Node, Result, Socket, Wire, federated};

use super::until;

pub(super) struct Group {
    pub(super) nodes: [Node; 3],
    pub(super) alice: Client,
    pub(super) bob: Client,
    pub(super) carol: Client,
    /// The group's ID at its home.
    pub(super) id: String,
    /// The group's ID elsewhere.
    pub(super) id_elsewhere: String,
}

pub(super) const BOB: &str = "bob@beta_example";
pub(super) const CAROL: &str = "carol@gamma_example";
const ALICE: &str = "alice@alpha_example";

impl Group {
    pub(super) async fn start() -> Result<Self> {
        let nodes = federated(["alpha.example", "beta.example", "gamma.example"]).await?;
        let alice = nodes[0].admin().await?.user("alice").await?;
        let bob = nodes[1].admin().await?.user("bob").await?;
        let carol = nodes[2].admin().await?.user("carol").await?;
        let made = alice
            .call(
                "/group/create_group",
                json!({
                    "ownerUserID": "alice",
                    "memberUserIDs": ["bob@beta.example", CAROL],
                    // As other systems give them.
                    "groupInfo": {
                        "groupID": "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
                        "groupName": "entente", "groupType": 2,
                    },
                }),
            )
            .await?;
        let id = made["groupInfo"]["groupID"].as_str().unwrap_or_default().to_owned();
        let id_elsewhere = format!("{id}@alpha_example");
        let group = Self { nodes, alice, bob, carol, id, id_elsewhere };
        for member in [&group.bob, &group.carol] {
            until(async || Ok(group.joined(member).await?.contains(&group.id_elsewhere))).await?;
        }
        Ok(group)
    }

    pub(super) async fn joined(&self, client: &Client) -> Result<String> {
        let body = json!({
            "fromUserID": client.user_id,
            "pagination": { "pageNumber": 1, "showNumber": 10 },
        });
        Ok(client.call("/group/get_joined_group_list", body).await?.to_string())
    }

    /// The group as a client knows it.
    pub(super) fn id_of(&self, client: &Client) -> &str {
        if client.user_id == "alice" { &self.id } else { &self.id_elsewhere }
    }

    fn chat_of(&self, client: &Client) -> String {
        format!("sg_{}", self.id_of(client))
    }

    pub(super) async fn send(&self, socket: &mut Socket, client: &Client, text: &str) -> Result {
        let mut message = testnet::text_message(&client.user_id, "", text);
        message.group_id = self.id_of(client).to_owned();
        message.session_type = 3;
        socket.send(&message).await?;
        Ok(())
    }

    /// Everything that was queued has arrived.
    pub(super) async fn settle(&self) -> Result {
        for node in &self.nodes {
            until(async || {
                let peers = node.federation().map(|f| f.peers()).transpose()?.unwrap_or_default();
                Ok(peers.iter().all(|peer| peer.queued == 0))
            })
            .await?;
        }
        Ok(())
    }

    /// Sender, seq, type and text of everything that a client can pull, IDs as at the home.
    pub(super) async fn history(&self, client: &Client) -> Result<Vec<(String, i64, i32, String)>> {
        let mut socket = client.connect(Wire::JSON).await?;
        let messages = socket.history_from(&self.chat_of(client), 1).await?;
        let seen = messages.into_iter().map(|message| {
            let text: Value = serde_json::from_slice(&message.content).unwrap_or_default();
            let text = text["content"].as_str().unwrap_or_default().to_owned();
            let sender = message.send_id.split('@').next().unwrap_or_default().to_owned();
            (sender, message.seq, message.content_type, text)
        });
        Ok(seen.collect())
    }

    pub(super) async fn check(&self) -> Result {
        for node in &self.nodes {
            let report = store::verify::verify(&node.services.store().view(), |_| {})?;
            assert!(report.is_clean(), "{report:?}");
            let peers = node.federation().map(|f| f.peers()).transpose()?.unwrap_or_default();
            assert!(peers.iter().all(|peer| peer.quarantined == 0), "{peers:?}");
        }
        Ok(())
    }
}

#[tokio::test]
async fn everybody_sees_the_same_messages_with_the_same_seqs() -> Result {
    let group = Group::start().await?;
    let clients = [&group.alice, &group.bob, &group.carol];
    let mut sockets = Vec::new();
    for client in clients {
        sockets.push(client.connect(Wire::GOB_GZIP).await?);
    }
    for round in 0..10 {
        for (socket, client) in sockets.iter_mut().zip(clients) {
            group.send(socket, client, &format!("{} {round}", client.user_id)).await?;
        }
    }
    group.settle().await?;
    let at_home = group.history(&group.alice).await?;
    assert_eq!(at_home.iter().filter(|(_, _, kind, _)| *kind == 101).count(), 30);
    for member in [&group.bob, &group.carol] {
        assert_eq!(group.history(member).await?, at_home, "{}", member.user_id);
    }
    for (socket, client) in sockets.iter_mut().zip(clients) {
        let mut texts = 0;
        while texts < 30 {
            let message = socket.next_message().await?;
            texts += i32::from(message.content_type == 101);
            if message.content_type == 101 {
                assert_eq!(message.group_id, group.id_of(client));
            }
        }
    }
    group.check().await
}

#[tokio::test]
async fn members_elsewhere_act_by_the_rules_of_the_home() -> Result {
    let group = Group::start().await?;
    let (bob, carol) = (&group.bob, &group.carol);
    // An ordinary member may not throw anybody out, wherever it is.
    let kick = json!({ "groupID": group.id_elsewhere, "kickedUserIDs": [CAROL], "reason": "" });
    assert_eq!(bob.refused("/group/kick_group", &kick).await?, 1002);
    let promote = json!({
        "members": [{ "groupID": group.id, "userID": BOB, "roleLevel": 60 }],
    });
    group.alice.call("/group/set_group_member_info", promote).await?;
    group.settle().await?;
    let rename = json!({
        "groupInfoForSet": { "groupID": group.id_elsewhere, "groupName": "renamed by bob" },
    });
    bob.call("/group/set_group_info", rename).await?;
    group.settle().await?;
    for client in [&group.alice, bob, carol] {
        let info = json!({ "groupIDs": [group.id_of(client)] });
        let infos = client.call("/group/get_groups_info", info).await?;
        assert_eq!(infos["groupInfos"][0]["groupName"], "renamed by bob");
        assert_eq!(infos["groupInfos"][0]["memberCount"], 3);
    }
    let mute = json!({
        "groupID": group.id_elsewhere, "userID": CAROL, "mutedSeconds": 600,
    });
    bob.call("/group/mute_group_member", mute).await?;
    group.settle().await?;
    let mut at_carol = carol.connect(Wire::JSON).await?;
    let refused = group.send(&mut at_carol, carol, "silenced").await.expect_err("muted");
    assert!(format!("{refused:#}").contains("1402"), "{refused:#}");

    bob.call("/group/kick_group", &kick).await?;
    group.settle().await?;
    until(async || Ok(!group.joined(carol).await?.contains(&group.id_elsewhere))).await?;
    let refused = group.send(&mut at_carol, carol, "thrown out").await.expect_err("no member");
    assert!(format!("{refused:#}").contains("1203"), "{refused:#}");
    let seen = group.history(carol).await?.len();
    let mut at_alice = group.alice.connect(Wire::JSON).await?;
    group.send(&mut at_alice, &group.alice, "without carol").await?;
    group.settle().await?;
    assert_eq!(group.history(carol).await?.len(), seen);
    assert_eq!(group.history(bob).await?, group.history(&group.alice).await?);

    let quit = json!({ "groupID": group.id_elsewhere, "userID": "bob" });
    bob.call("/group/quit_group", quit).await?;
    until(async || Ok(!group.joined(bob).await?.contains(&group.id_elsewhere))).await?;
    group.check().await
}

#[tokio::test]
async fn whoever_comes_later_reads_what_was_said_before() -> Result {
    let group = Group::start().await?;
    let mut at_alice = group.alice.connect(Wire::JSON).await?;
    for n in 0..120 {
        group.send(&mut at_alice, &group.alice, &format!("before {n}")).await?;
    }
    let kick = json!({ "groupID": group.id, "kickedUserIDs": [CAROL], "reason": "" });
    group.alice.call("/group/kick_group", kick).await?;
    for n in 0..20 {
        group.send(&mut at_alice, &group.alice, &format!("meanwhile {n}")).await?;
    }
    group.settle().await?;
    let invite = json!({ "groupID": group.id_elsewhere, "invitedUserIDs": [CAROL], "reason": "" });
    group.bob.call("/group/invite_user_to_group", invite).await?;
    until(async || Ok(group.joined(&group.carol).await?.contains(&group.id_elsewhere))).await?;
    group.send(&mut at_alice, &group.alice, "after").await?;
    group.settle().await?;
    let at_home = group.history(&group.alice).await?;
    assert_eq!(group.history(&group.carol).await?, at_home);
    assert_eq!(group.history(&group.bob).await?, at_home);
    group.check().await
}

/// An app admin who asks for somebody's list gets it as its owner does.
#[tokio::test]
async fn the_last_message_is_fetched_for_the_owner_of_the_list() -> Result {
    for route in ["/jssdk/get_active_conversations", "/jssdk/get_conversations"] {
        let group = Group::start().await?;
        let mut at_alice = group.alice.connect(Wire::JSON).await?;
        let kick = json!({ "groupID": group.id, "kickedUserIDs": [CAROL], "reason": "" });
        group.alice.call("/group/kick_group", kick).await?;
        for n in 0..20 {
            group.send(&mut at_alice, &group.alice, &format!("meanwhile {n}")).await?;
        }
        group.settle().await?;
        let last = group.history(&group.alice).await?.len() as i64;
        let invite = json!({ "groupID": group.id, "invitedUserIDs": [CAROL], "reason": "" });
        group.alice.call("/group/invite_user_to_group", invite).await?;
        until(async || Ok(group.joined(&group.carol).await?.contains(&group.id_elsewhere))).await?;
        group.settle().await?;
        // What came since is there, and not for her.
        let chat = group.chat_of(&group.carol);
        let seqs: Vec<i64> = (last + 1..last + 5).collect();
        let delete = json!({ "conversationID": chat, "seqs": seqs, "userID": "carol" });
        group.carol.call("/msg/delete_msgs", delete).await?;
        let admin = group.nodes[2].admin().await?.client;
        let asked = json!({ "ownerUserID": "carol", "count": 9, "conversationIDs": [chat] });
        let list = admin.call(route, &asked).await?;
        assert_eq!(list["conversations"][0]["lastMsg"]["seq"], last, "{route} {list}");
    }
    Ok(())
}

#[tokio::test]
async fn a_revoked_message_is_revoked_everywhere() -> Result {
    let group = Group::start().await?;
    let mut at_bob = group.bob.connect(Wire::JSON).await?;
    let mut at_carol = group.carol.connect(Wire::JSON).await?;
    group.send(&mut at_bob, &group.bob, "a mistake").await?;
    group.settle().await?;
    let seq = group.history(&group.bob).await?.last().map(|last| last.1).unwrap_or_default();
    let foreign =
        json!({ "conversationID": group.chat_of(&group.carol), "seq": seq, "userID": "carol" });
    assert_eq!(group.carol.refused("/msg/revoke_msg", foreign).await?, 1002);
    let revoke =
        json!({ "conversationID": group.chat_of(&group.bob), "seq": seq, "userID": "bob" });
    group.bob.call("/msg/revoke_msg", revoke).await?;
    let told = at_carol.next_notification(2101).await?;
    let content = String::from_utf8_lossy(&told.content).into_owned();
    assert!(content.contains(&group.chat_of(&group.carol)), "{content}");
    group.settle().await?;
    for client in [&group.alice, &group.bob, &group.carol] {
        assert_eq!(group.history(client).await?.last().map(|last| last.2), Some(2101));
    }
    group.check().await
}

#[tokio::test]
async fn somebody_elsewhere_asks_to_join() -> Result {
    let group = Group::start().await?;
    group.nodes[1].admin().await?.register(&["dave"]).await?;
    let dave = group.nodes[1].admin().await?.client("dave", 5).await?;
    let mut at_alice = group.alice.connect(Wire::JSON).await?;
    let mut at_dave = dave.connect(Wire::JSON).await?;
    let join = json!({
        "groupID": format!("{}@alpha.example", group.id),
        "reqMessage": "let me in", "joinSource": 3, "inviterUserID": "dave",
    });
    dave.call("/group/join_group", join).await?;
    let told = at_alice.next_notification(1503).await?;
    assert_eq!(told.send_id, "dave@beta_example");
    let accept = json!({
        "groupID": group.id, "fromUserID": "dave@beta_example",
        "handledMsg": "", "handleResult": 1,
    });
    group.alice.call("/group/group_application_response", accept).await?;
    let told = at_dave.next_notification(1505).await?;
    assert_eq!((&*told.send_id, &*told.recv_id), (ALICE, "dave"));
    until(async || Ok(group.joined(&dave).await?.contains(&group.id_elsewhere))).await?;
    group.settle().await?;
    assert_eq!(group.history(&dave).await?, group.history(&group.alice).await?);
    group.check().await
}

#[tokio::test]
async fn an_admin_elsewhere_sees_and_answers_who_asks_to_join() -> Result {
    let group = Group::start().await?;
    let promote = json!({ "members": [{ "groupID": group.id, "userID": BOB, "roleLevel": 60 }] });
    group.alice.call("/group/set_group_member_info", promote).await?;
    group.settle().await?;
    let verify = json!({ "groupInfoForSet": { "groupID": group.id, "needVerification": 1 } });
    group.alice.call("/group/set_group_info", verify).await?;
    let eve = group.nodes[2].admin().await?.user("eve").await?;
    let mut at_bob = group.bob.connect(Wire::JSON).await?;
    let join = json!({
        "groupID": format!("{}@alpha.example", group.id),
        "reqMessage": "let me in", "joinSource": 3, "inviterUserID": "eve",
    });
    eve.call("/group/join_group", join).await?;
    at_bob.next_notification(1503).await?;

    let page = json!({ "pageNumber": 1, "showNumber": 10 });
    let received = async |client: &Client| {
        let body = json!({ "fromUserID": client.user_id, "pagination": page });
        client.call("/group/get_recv_group_applicationList", body).await
    };
    let waiting = async |client: &Client| {
        let body = json!({ "userID": client.user_id, "time": 0 });
        let answer = client.call("/group/get_group_application_unhandled_count", body).await?;
        Ok::<_, anyhow::Error>(answer["count"].clone())
    };
    let sent = async || {
        let body = json!({ "userID": "eve", "pagination": page });
        eve.call("/group/get_user_req_group_applicationList", body).await
    };
    let listed = received(&group.bob).await?;
    assert_eq!(listed["total"], 1);
    let request = &listed["groupRequests"][0];
    assert_eq!(request["userInfo"]["userID"], "eve@gamma_example");
    assert_eq!(request["groupInfo"]["groupID"], group.id_elsewhere);
    assert_eq!((&request["reqMsg"], &request["handleResult"]), (&json!("let me in"), &json!(0)));
    assert_eq!(waiting(&group.bob).await?, 1);
    assert_eq!(received(&group.carol).await?["total"], 0);
    assert_eq!(waiting(&group.carol).await?, 0);
    let named = json!({
        "fromUserID": "carol", "groupIDs": [group.id_elsewhere], "pagination": page,
    });
    assert_eq!(group.carol.refused("/group/get_recv_group_applicationList", named).await?, 1002);
    let own = sent().await?;
    assert_eq!((&own["total"], &own["groupRequests"][0]["handleResult"]), (&json!(1), &json!(0)));
    assert_eq!(own["groupRequests"][0]["groupInfo"]["groupID"], group.id_elsewhere);

    let accept = json!({
        "groupID": group.id_elsewhere, "fromUserID": "eve@gamma_example",
        "handledMsg": "welcome", "handleResult": 1,
    });
    group.bob.call("/group/group_application_response", accept).await?;
    until(async || Ok(group.joined(&eve).await?.contains(&group.id_elsewhere))).await?;
    assert_eq!(waiting(&group.bob).await?, 0);
    let own = sent().await?;
    assert_eq!(own["groupRequests"][0]["handleResult"], 1);
    assert_eq!(own["groupRequests"][0]["handleUserID"], BOB);
    group.settle().await?;
    group.check().await
}

#[tokio::test]
async fn a_dismissed_group_is_dismissed_everywhere() -> Result {
    let group = Group::start().await?;
    let mut at_bob = group.bob.connect(Wire::JSON).await?;
    let dismiss = json!({ "groupID": group.id, "deleteMember": false });
    group.alice.call("/group/dismiss_group", dismiss).await?;
    at_bob.next_notification(1511).await?;
    for member in [&group.bob, &group.carol] {
        until(async || Ok(!group.joined(member).await?.contains(&group.id_elsewhere))).await?;
    }
    group.settle().await?;
    group.check().await
}

/// What a list of conversations says on the node of a member who is elsewhere.
#[tokio::test]
async fn a_deleted_chat_stays_away_from_who_has_left_and_comes_back_to_who_is_there() -> Result {
    let group = Group::start().await?;
    let bea = group.nodes[1].admin().await?.user("bea").await?;
    let invite = json!({ "groupID": group.id, "invitedUserIDs": ["bea@beta_example"] });
    group.alice.call("/group/invite_user_to_group", invite).await?;
    until(async || Ok(group.joined(&bea).await?.contains(&group.id_elsewhere))).await?;
    let mut at_alice = group.alice.connect(Wire::JSON).await?;
    group.send(&mut at_alice, &group.alice, "first").await?;
    group.settle().await?;
    let chat = group.chat_of(&group.bob);
    let quit = json!({ "groupID": group.id_elsewhere });
    group.bob.call("/group/quit_group", quit).await?;
    until(async || Ok(!group.joined(&group.bob).await?.contains(&group.id_elsewhere))).await?;
    group.settle().await?;
    for client in [&group.bob, &bea] {
        assert_eq!(listed(client).await?, json!([chat]), "{}", client.user_id);
        let delete = json!({ "ownerUserID": client.user_id, "conversationIDs": [chat] });
        client.call("/conversation/delete_conversations", delete).await?;
        assert_eq!(listed(client).await?, Value::Null, "{}", client.user_id);
    }
    let before = [changed(&group.bob, None).await?, changed(&bea, None).await?];
    group.send(&mut at_alice, &group.alice, "second").await?;
    group.settle().await?;
    until(async || Ok(listed(&bea).await? == json!([chat]))).await?;
    let back = changed(&bea, Some(&before[1])).await?;
    assert_eq!(back["insert"][0]["conversationID"], json!(chat));
    assert_eq!(listed(&group.bob).await?, Value::Null);
    let away = changed(&group.bob, Some(&before[0])).await?;
    assert_eq!(away["version"], before[0]["version"]);

    // Invited again, without a word.
    let invite = json!({ "groupID": group.id, "invitedUserIDs": [BOB], "sendMessage": false });
    group.alice.call("/group/invite_user_to_group", invite).await?;
    until(async || Ok(listed(&group.bob).await? == json!([chat]))).await?;
    let away = changed(&group.bob, Some(&before[0])).await?;
    assert_eq!(away["insert"][0]["conversationID"], json!(chat));
    group.check().await
}

async fn listed(client: &Client) -> Result<Value> {
    let body = json!({ "userID": client.user_id, "idHash": 0 });
    let full = client.call("/conversation/get_full_conversation_ids", body).await?;
    Ok(full["conversationIDs"].clone())
}

/// What changed in the list of a user's conversations since another answer.
async fn changed(client: &Client, since: Option<&Value>) -> Result<Value> {
    let (id, version) = since.map_or((json!(""), json!(0)), |since| {
        (since["versionID"].clone(), since["version"].clone())
    });
    let body = json!({ "userID": client.user_id, "versionID": id, "version": version });
    client.call("/conversation/get_incremental_conversations", body).await
}
