//! Groups with many members.

use services::StoreError;
use store::schema;

use super::*;

/// Registers users `u0000…`; returns their IDs.
async fn many(team: &Team, count: usize) -> Result<Vec<String>> {
    let ids: Vec<String> = (0..count).map(|n| format!("u{n:04}")).collect();
    for part in ids.chunks(1_000) {
        let users: Vec<Value> =
            part.iter().map(|id| json!({"userID": id, "nickname": id})).collect();
        team.admin.call("/user/user_register", json!({"users": users})).await?;
    }
    Ok(ids)
}

#[tokio::test]
async fn long_lists_are_told_in_parts() -> Result {
    let team = Team::start().await?;
    let ids = many(&team, 130).await?;
    let mut at_bob = connected(&team.bob).await?;
    let (_, before) = version(&team.bob).await?;
    let invite = json!({"groupID": "g1", "invitedUserIDs": ids});
    team.carol.call("/group/invite_user_to_group", invite).await?;
    let told = notices(&mut at_bob).await?;
    assert_eq!(kinds(&told), [1509, 1509, 1509]);
    let kick = json!({"groupID": "g1", "kickedUserIDs": ids});
    team.alice.call("/group/kick_group", kick).await?;
    let gone = notices(&mut at_bob).await?;
    assert_eq!(kinds(&gone), [1508, 1508, 1508]);
    let parts = |told: &[Notice], key: &str| -> Vec<(u64, usize, u64)> {
        let notices = told.iter().filter(|notice| !notice.in_chat());
        let number = |value: &Value| value.as_u64().expect("a number");
        notices
            .map(|notice| {
                let list = notice.detail[key].as_array().expect("a list").len();
                let count = number(&notice.detail["group"]["memberCount"]);
                (number(&notice.detail["groupMemberVersion"]) - before, list, count)
            })
            .collect()
    };
    assert_eq!(parts(&told, "invitedUserList"), [(1, 50, 53), (2, 50, 103), (3, 30, 133)]);
    assert_eq!(parts(&gone, "kickedUserList"), [(4, 50, 83), (5, 50, 33), (6, 30, 3)]);
    assert_eq!(team.members().await?, ["alice", "bob", "carol"]);
    team.stop().await
}

#[tokio::test]
async fn a_large_group_is_made_listed_and_dismissed() -> Result {
    let team = Team::start().await?;
    let ids = many(&team, 1_400).await?;
    let (admins, members) = ids.split_at(400);
    let make = json!({
        "ownerUserID": "alice", "adminUserIDs": admins, "memberUserIDs": members,
        "groupInfo": {"groupID": "g2", "groupType": 2},
    });
    let mut at_alice = connected(&team.alice).await?;
    let made = team.alice.call("/group/create_group", make).await?;
    assert_eq!(made["groupInfo"]["memberCount"], 1_401);
    let told = notices(&mut at_alice).await?;
    let list = only(&told, 1501).detail["memberList"].as_array().expect("a list").len();
    assert_eq!(list, 50);
    let page = json!({"groupID": "g2", "pagination": {"pageNumber": 8, "showNumber": 200}});
    let data = team.alice.call("/group/get_group_member_list", page).await?;
    assert_eq!(
        (&data["total"], data["members"].as_array().map(Vec::len)),
        (&json!(1_401), Some(1))
    );
    assert_eq!(data["members"][0]["userID"], "u1399");
    let body = json!({"groupIDs": ["g2"]});
    let known = team.alice.call("/group/get_group_abstract_info", &body).await?;
    assert_eq!(known["groupAbstractInfos"][0]["groupMemberNumber"], 1_401);
    let find = json!({"groupID": "g2", "keyword": "U139", "pagination": {"pageNumber": 1, "showNumber": 5}});
    let found = team.alice.call("/group/get_group_member_list", find).await?;
    assert_eq!((&found["total"], found["members"].as_array().map(Vec::len)), (&json!(10), Some(5)));

    team.alice.call("/group/dismiss_group", json!({"groupID": "g2"})).await?;
    let told = notices(&mut at_alice).await?;
    assert_eq!((kinds(&told), in_chat(&told)), (vec![1511], vec![(1511, 2)]));
    assert_eq!(only(&told, 1511).detail["group"]["memberCount"], 1_401);
    assert_eq!(only(&told, 1511).detail["opUser"]["roleLevel"], 100);
    let data = team.alice.call("/group/get_groups_info", body).await?;
    let group = &data["groupInfos"][0];
    assert_eq!((&group["memberCount"], &group["status"]), (&json!(0), &json!(2)));
    {
        let view = team.node.services.store().view();
        assert!(schema::MEMBERS.scan(&view, "g2").next().is_none());
        assert!(schema::MEMBER_ORDER.scan(&view, "g2").next().is_none());
        assert!(schema::JOINED.scan(&view, "u1399").next().is_none());
        assert!(schema::DISMISSALS.scan(&view, ()).next().is_none());
    }
    team.stop().await
}

#[tokio::test]
async fn a_dismissal_goes_on_after_a_stop() -> Result {
    let team = Team::start().await?;
    let mut at_carol = connected(&team.carol).await?;
    let left = team.node.services.store().transact(|tx| {
        let mut group = schema::GROUPS.get(tx, "g1")?.unwrap_or_default();
        group.info.status = 2;
        schema::GROUPS.put(tx, "g1", &group);
        let dismissal = store::record::Dismissal {
            op_user: Some(proto::sdkws::GroupMemberFullInfo {
                user_id: "alice".into(),
                ..Default::default()
            }),
            group: Some(group.info),
            operation_id: "op".into(),
            silent: false,
            in_chat: true,
        };
        schema::DISMISSALS.put(tx, "g1", &dismissal);
        Ok::<_, StoreError>(())
    });
    left.await?;
    refused(&team.alice, "/group/dismiss_group", json!({"groupID": "g1"}), 1204).await?;
    team.node.services.resume().await?;
    let told = notices(&mut at_carol).await?;
    assert_eq!((kinds(&told), in_chat(&told)), (vec![1511], vec![(1511, 2)]));
    assert_eq!(only(&told, 1511).message.send_id, "alice");
    assert_eq!(team.group().await?["memberCount"], 0);
    team.stop().await
}
