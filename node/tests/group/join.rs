use super::*;

const INVITE: &str = "/group/invite_user_to_group";
const JOIN: &str = "/group/join_group";
const ANSWER: &str = "/group/group_application_response";

fn join(user_id: &str, source: i32) -> Value {
    json!({
        "groupID": "g1", "reqMessage": "let me in", "joinSource": source,
        "inviterUserID": user_id, "ex": "jx",
    })
}

#[tokio::test]
async fn a_member_invites() -> Result {
    let team = Team::start().await?;
    let (mut at_dave, mut at_bob) = (connected(&team.dave).await?, connected(&team.bob).await?);
    let (_, before) = version(&team.alice).await?;
    let body = json!({"groupID": "g1", "invitedUserIDs": ["dave"], "reason": "come"});
    assert_eq!(team.carol.post(INVITE, body).await?.text, OK);
    let told = notices(&mut at_dave).await?;
    assert_eq!((kinds(&told), in_chat(&told)), (vec![1509], vec![(1509, 2)]));
    assert_eq!(conversation_changes(&told, "dave"), 1);
    let notice = only(&told, 1509);
    assert_eq!(
        notice.keys(),
        [
            "group",
            "groupMemberVersion",
            "groupMemberVersionID",
            "invitedUserList",
            "inviterUser",
            "opUser",
            "operationTime"
        ]
    );
    let dave = team.member("dave").await?;
    assert_eq!(notice.detail["invitedUserList"], json!([dave]));
    assert_eq!(notice.detail["groupMemberVersion"], before + 1);
    assert_eq!(notice.detail["group"]["memberCount"], 4);
    let carol = team.member("carol").await?;
    assert_eq!((&notice.detail["inviterUser"], &notice.detail["opUser"]), (&carol, &carol));
    assert_eq!((&dave["joinSource"], &dave["inviterUserID"]), (&json!(2), &json!("carol")));
    assert_eq!((&dave["operatorUserID"], &dave["roleLevel"]), (&json!("carol"), &json!(20)));
    let told = notices(&mut at_bob).await?;
    assert_eq!((kinds(&told), conversation_changes(&told, "bob")), (vec![1509], 0));
    // Whoever came gets what is said from now on.
    let mut at_alice = connected(&team.alice).await?;
    at_alice.send(&group_text("alice")).await?;
    assert_eq!(at_dave.next_message().await?.seq, 3);
    team.stop().await
}

fn group_text(from: &str) -> MsgData {
    MsgData {
        session_type: 3,
        group_id: "g1".into(),
        ..testnet::text_message(from, "", "hello all")
    }
}

#[tokio::test]
async fn invitations_are_refused_in_order() -> Result {
    let team = Team::start().await?;
    let invite = |users: Value| json!({"groupID": "g1", "invitedUserIDs": users});
    refused(&team.carol, INVITE, json!({"invitedUserIDs": ["dave"]}), 1001).await?;
    refused(&team.carol, INVITE, invite(json!([])), 1001).await?;
    refused(&team.carol, INVITE, invite(json!(["dave", "dave"])), 1001).await?;
    refused(&team.carol, INVITE, invite(json!(vec!["dave"; 1_001])), 1001).await?;
    let unknown = json!({"groupID": "none", "invitedUserIDs": ["dave"]});
    refused(&team.carol, INVITE, unknown, 1004).await?;
    refused(&team.mallory, INVITE, invite(json!(["dave"])), 1002).await?;
    refused(&team.carol, INVITE, invite(json!(["dave", "nobody"])), 1004).await?;
    refused(&team.carol, INVITE, invite(json!(["dave", "bob"])), 500).await?;
    assert_eq!(team.members().await?, ["alice", "bob", "carol"]);
    team.admin.call(INVITE, invite(json!(["dave"]))).await?;
    team.alice.call("/group/dismiss_group", json!({"groupID": "g1"})).await?;
    refused(&team.alice, INVITE, invite(json!(["mallory"])), 1204).await?;
    team.stop().await
}

#[tokio::test]
async fn an_invitation_may_need_approval() -> Result {
    let team = Team::start().await?;
    team.need_verification(1).await?;
    let mut at_carol = connected(&team.carol).await?;
    let (mut at_bob, mut at_dave) = (connected(&team.bob).await?, connected(&team.dave).await?);
    let body = json!({"groupID": "g1", "invitedUserIDs": ["dave"]});
    team.carol.call(INVITE, body).await?;
    assert_eq!(team.members().await?, ["alice", "bob", "carol"]);
    let told = notices(&mut at_bob).await?;
    let notice = only(&told, 1503);
    assert_eq!(notice.conversation_id, "n_bob_carol");
    assert_eq!(notice.message.session_type, 1);
    assert_eq!(notice.on(), ["offlinePush", "senderSync"]);
    assert_eq!(notice.keys(), ["applicant", "group", "reqMsg", "request", "uuid"]);
    assert_eq!(notice.detail["applicant"]["userID"], "carol");
    let request = &notice.detail["request"];
    assert_eq!(
        (&request["userInfo"]["userID"], &request["groupInfo"]),
        (&json!("dave"), &Value::Null)
    );
    assert_eq!((&request["joinSource"], &request["inviterUserID"]), (&json!(2), &json!("carol")));
    // The inviter sees her own copies: alice's, bob's and hers, all with one UUID.
    let told = notices(&mut at_carol).await?;
    assert_eq!(kinds(&told), [1503, 1503, 1503]);
    assert!(told.iter().all(|other| other.detail["uuid"] == notice.detail["uuid"]));
    assert!(notices(&mut at_dave).await?.is_empty());

    let yes = json!({"groupID": "g1", "fromUserID": "dave", "handledMsg": "ok", "handleResult": 1});
    assert_eq!(team.bob.post(ANSWER, yes).await?.text, OK);
    let told = notices(&mut at_dave).await?;
    assert_eq!(kinds(&told), [1505, 1509]);
    let invited = only(&told, 1509);
    assert_eq!(invited.detail["inviterUser"]["userID"], "carol");
    assert_eq!(invited.detail["opUser"]["userID"], "bob");
    let dave = team.member("dave").await?;
    assert_eq!((&dave["inviterUserID"], &dave["operatorUserID"]), (&json!("carol"), &json!("bob")));
    // Those in charge need no approval.
    let body = json!({"groupID": "g1", "invitedUserIDs": ["mallory"]});
    team.bob.call(INVITE, body).await?;
    assert_eq!(team.members().await?.len(), 5);
    team.stop().await
}

#[tokio::test]
async fn an_application_is_accepted_or_refused() -> Result {
    let team = Team::start().await?;
    let mut at_dave = connected(&team.dave).await?;
    let mut at_alice = connected(&team.alice).await?;
    assert_eq!(team.dave.post(JOIN, join("dave", 3)).await?.text, OK);
    let told = notices(&mut at_alice).await?;
    let notice = only(&told, 1503);
    assert_eq!(
        (&notice.detail["reqMsg"], &notice.detail["applicant"]["userID"]),
        (&json!("let me in"), &json!("dave"))
    );
    let request = &notice.detail["request"];
    assert_eq!((&request["ex"], &request["inviterUserID"]), (&json!("jx"), &json!("")));
    assert_eq!(kinds(&notices(&mut at_dave).await?), [1503, 1503, 1503]);

    let answer = |result: i32| json!({"groupID": "g1", "fromUserID": "dave", "handledMsg": "no", "handleResult": result});
    team.alice.call(ANSWER, answer(-1)).await?;
    let told = notices(&mut at_dave).await?;
    let refusal = only(&told, 1506);
    assert_eq!(refusal.keys(), ["group", "handleMsg", "opUser", "receiverAs", "request", "uuid"]);
    assert_eq!(
        (&refusal.detail["handleMsg"], &refusal.detail["receiverAs"]),
        (&json!("no"), &json!(0))
    );
    assert_eq!(refusal.detail["request"]["handleResult"], -1);
    let told = notices(&mut at_alice).await?;
    assert_eq!(kinds(&told), [1506, 1506, 1506]);
    assert_eq!(team.members().await?.len(), 3);
    refused(&team.alice, ANSWER, answer(1), 1206).await?;

    // A new application takes the place of the old one.
    team.dave.call(JOIN, join("dave", 4)).await?;
    notices(&mut at_dave).await?;
    team.alice.call(ANSWER, answer(1)).await?;
    let told = notices(&mut at_dave).await?;
    assert_eq!(kinds(&told), [1505, 1510]);
    let entered = only(&told, 1510);
    assert_eq!(
        entered.keys(),
        ["entrantUser", "group", "groupMemberVersion", "groupMemberVersionID", "operationTime"]
    );
    let dave = team.member("dave").await?;
    assert_eq!(entered.detail["entrantUser"], dave);
    assert!(entered.detail["operationTime"].as_i64() > Some(0));
    assert_eq!((&dave["joinSource"], &dave["inviterUserID"]), (&json!(4), &json!("")));
    assert_eq!(conversation_changes(&told, "dave"), 1);
    team.stop().await
}

#[tokio::test]
async fn an_open_group_is_joined_at_once() -> Result {
    let team = Team::start().await?;
    team.need_verification(2).await?;
    let mut at_carol = connected(&team.carol).await?;
    team.dave.call(JOIN, join("dave", 3)).await?;
    let told = notices(&mut at_carol).await?;
    assert_eq!((kinds(&told), in_chat(&told)), (vec![1510], vec![(1510, 2)]));
    let dave = team.member("dave").await?;
    assert_eq!((&dave["joinSource"], &dave["inviterUserID"]), (&json!(0), &json!("dave")));
    assert_eq!(dave["operatorUserID"], "dave");
    refused(&team.dave, JOIN, join("dave", 3), 1001).await?;
    team.stop().await
}

#[tokio::test]
async fn applications_are_refused_in_order() -> Result {
    let team = Team::start().await?;
    for (key, bad) in [
        ("groupID", json!("")),
        ("joinSource", json!(0)),
        ("joinSource", json!(5)),
        ("reqMessage", json!("m".repeat(9_000))),
    ] {
        let mut body = join("dave", 3);
        body[key] = bad;
        refused(&team.dave, JOIN, body, 1001).await?;
    }
    refused(&team.dave, JOIN, join("", 2), 1001).await?;
    refused(&team.dave, JOIN, join("", 3), 1004).await?;
    refused(&team.mallory, JOIN, join("dave", 3), 1002).await?;
    refused(&team.admin, JOIN, join("nobody", 3), 1004).await?;
    let mut unknown = join("dave", 3);
    unknown["groupID"] = json!("none");
    refused(&team.dave, JOIN, unknown, 1004).await?;
    refused(&team.carol, JOIN, join("carol", 3), 1001).await?;

    let answer = |user_id: &str, result: i32| json!({"groupID": "g1", "fromUserID": user_id, "handleResult": result});
    refused(&team.alice, ANSWER, json!({"fromUserID": "dave", "handleResult": 1}), 1001).await?;
    refused(&team.alice, ANSWER, json!({"groupID": "g1", "handleResult": 1}), 1001).await?;
    for result in [0, 2, -2] {
        refused(&team.mallory, ANSWER, answer("dave", result), 1001).await?;
    }
    refused(&team.mallory, ANSWER, answer("dave", 1), 1004).await?;
    refused(&team.carol, ANSWER, answer("dave", 1), 1002).await?;
    refused(&team.alice, ANSWER, answer("dave", 1), 1004).await?;
    team.dave.call(JOIN, join("dave", 3)).await?;
    team.admin.call(ANSWER, answer("dave", -1)).await?;
    team.dave.call(JOIN, join("dave", 3)).await?;
    team.alice.call("/group/dismiss_group", json!({"groupID": "g1"})).await?;
    refused(&team.admin, ANSWER, answer("dave", 1), 1204).await?;
    refused(&team.dave, JOIN, join("dave", 3), 1204).await?;
    team.stop().await
}

#[tokio::test]
async fn history_can_be_kept_from_new_members() -> Result {
    let node = Node::builder().settings(|s| s.history_for_new_members = false).start().await?;
    let team = Team::on(node).await?;
    team.alice.call(INVITE, json!({"groupID": "g1", "invitedUserIDs": ["dave"]})).await?;
    let pull = json!({"userID": "dave", "seqRanges":
        [{"conversationID": "sg_g1", "begin": 1, "end": 9, "num": 9}]});
    let data = team.dave.call("/msg/pull_msg_by_seq", pull).await?;
    let messages = data["msgs"]["sg_g1"]["Msgs"].as_array().expect("messages");
    let seqs: Vec<&Value> = messages.iter().map(|message| &message["seq"]).collect();
    assert_eq!(seqs, [2], "only what told of the new member");
    // Only that is unread.
    let dave = json!({"userID": "dave"});
    let route = "/msg/get_conversations_has_read_and_max_seq";
    let seqs = team.dave.call(route, &dave).await?["seqs"]["sg_g1"].clone();
    assert_eq!((&seqs["maxSeq"], &seqs["hasReadSeq"]), (&json!(2), &json!(1)));
    let active = team.dave.call("/jssdk/get_active_conversations", &dave).await?;
    assert_eq!(active["unreadCount"], 1);
    let first = &active["conversations"][0];
    assert_eq!((&first["maxSeq"], &first["readSeq"]), (&json!(2), &json!(1)));
    let sorted = json!({"userID": "dave", "pagination": {"pageNumber": 1, "showNumber": 9}});
    let sorted = team.dave.call("/conversation/get_sorted_conversation_list", sorted).await?;
    assert_eq!((&sorted["unreadTotal"], &sorted["conversationTotal"]), (&json!(1), &json!(1)));
    team.stop().await
}
