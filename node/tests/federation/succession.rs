//! Groups whose home moves to another node.

use proto::qualified::Domain;
use serde_json::{Value, json};
use services::Caller;
use testnet::{Client, Result, Wire};

use super::group::{BOB, CAROL, Group};
use super::until;

const SUCCESSOR: &str = "/group/set_group_successor";

fn domain(name: &str) -> Result<Domain> {
    Ok(name.parse()?)
}

/// Where each node says that the home is.
fn homes(group: &Group) -> Result<Vec<String>> {
    let ids = [&group.id, &group.id_elsewhere, &group.id_elsewhere];
    let nodes = group.nodes.iter().zip(ids).zip(["alpha", "beta", "gamma"]);
    nodes
        .map(|((node, id), own)| {
            let (_, home) = node.services.succession(id)?;
            Ok(home.map_or_else(|| format!("{own}.example"), |home| home.to_string()))
        })
        .collect()
}

async fn name_of(client: &Client, id: &str) -> Result<Value> {
    let infos = client.call("/group/get_groups_info", json!({ "groupIDs": [id] })).await?;
    Ok(infos["groupInfos"][0]["groupName"].clone())
}

#[tokio::test]
async fn only_the_owner_names_who_may_take_a_group_over() -> Result {
    let group = Group::start().await?;
    let elsewhere = json!({ "groupID": group.id_elsewhere, "domain": "beta.example" });
    assert_eq!(group.bob.refused(SUCCESSOR, &elsewhere).await?, 1002);
    let nobody = json!({ "groupID": group.id, "domain": "delta.example" });
    assert_eq!(group.alice.refused(SUCCESSOR, &nobody).await?, 1001, "no members there");
    let transfer = json!({
        "groupID": group.id, "oldOwnerUserID": "alice", "newOwnerUserID": BOB,
    });
    group.alice.call("/group/transfer_group", transfer).await?;
    group.settle().await?;
    group.bob.call(SUCCESSOR, &elsewhere).await?;
    let beta = Some(domain("beta.example")?);
    for (node, id) in group.nodes.iter().zip([&group.id, &group.id_elsewhere]) {
        until(async || Ok(node.services.succession(id)?.0 == beta)).await?;
    }
    let admin = Caller::node("imAdmin");
    let taken = group.nodes[2].services.take_over_group(&admin, &group.id_elsewhere, &[]).await;
    assert_eq!(taken.expect_err("not named").code(), 1002);
    let taken = group.nodes[1].services.take_over_group(&admin, &group.id_elsewhere, &[]).await;
    assert_eq!(taken.expect_err("the home lives").code(), 1002);
    Ok(())
}

#[tokio::test]
async fn a_group_that_moves_stays_the_same_group() -> Result {
    let group = Group::start().await?;
    let clients = [&group.alice, &group.bob, &group.carol];
    for client in clients {
        let mut socket = client.connect(Wire::JSON).await?;
        group.send(&mut socket, client, &format!("{} before", client.user_id)).await?;
    }
    group.settle().await?;
    let before = group.history(&group.alice).await?;
    let admin = Caller::node("imAdmin");
    let (alpha, beta) = (&group.nodes[0].services, domain("beta.example")?);
    let none = alpha.move_group(&admin, &group.id, domain("delta.example")?).await;
    assert!(none.is_err(), "nobody is there");
    alpha.move_group(&admin, &group.id, beta).await?;
    until(async || Ok(homes(&group)? == ["beta.example"; 3])).await?;

    // Everybody goes on as before, those at the old home too.
    for client in clients {
        let mut socket = client.connect(Wire::JSON).await?;
        group.send(&mut socket, client, &format!("{} after", client.user_id)).await?;
    }
    let rename = json!({ "groupInfoForSet": { "groupID": group.id, "groupName": "moved" } });
    group.alice.call("/group/set_group_info", rename).await?;
    let kick = json!({ "groupID": group.id_elsewhere, "kickedUserIDs": [CAROL], "reason": "" });
    assert_eq!(group.bob.refused("/group/kick_group", &kick).await?, 1002, "an ordinary member");
    group.settle().await?;
    for client in clients {
        let id = group.id_of(client);
        until(async || Ok(name_of(client, id).await? == "moved")).await?;
    }
    let after = group.history(&group.alice).await?;
    assert_eq!(after[..before.len()], before[..]);
    let texts = after.iter().filter(|(_, _, kind, _)| *kind == 101).count();
    assert_eq!(texts, 6, "{after:?}");
    for member in [&group.bob, &group.carol] {
        until(async || Ok(group.history(member).await? == after)).await?;
    }

    // Somebody new, at the old home: the new one lets him in.
    group.nodes[0].admin().await?.register(&["dave"]).await?;
    let invite = json!({
        "groupID": group.id, "invitedUserIDs": ["dave"], "reason": "",
    });
    group.alice.call("/group/invite_user_to_group", invite).await?;
    let dave = group.nodes[0].admin().await?.client("dave", 5).await?;
    until(async || Ok(group.joined(&dave).await?.contains(&group.id))).await?;

    // And back.
    group.settle().await?;
    let beta = &group.nodes[1].services;
    beta.move_group(&admin, &group.id_elsewhere, domain("alpha.example")?).await?;
    until(async || Ok(homes(&group)? == ["alpha.example"; 3])).await?;
    let mut socket = group.carol.connect(Wire::JSON).await?;
    group.send(&mut socket, &group.carol, "home again").await?;
    group.settle().await?;
    let at_home = group.history(&group.alice).await?;
    assert_eq!(at_home.last().map(|last| &*last.3), Some("home again"));
    until(async || Ok(group.history(&group.bob).await? == at_home)).await?;
    group.check().await
}

/// The new home knows of those who were muted when they left the old one.
#[tokio::test]
async fn a_mute_survives_leaving_and_a_new_home() -> Result {
    let group = Group::start().await?;
    let dora = group.nodes[2].admin().await?.user("dora").await?;
    let invite = json!({ "groupID": group.id, "invitedUserIDs": ["dora@gamma_example"] });
    group.alice.call("/group/invite_user_to_group", invite).await?;
    until(async || Ok(group.joined(&dora).await?.contains(&group.id_elsewhere))).await?;
    let mute = json!({ "groupID": group.id, "userID": CAROL, "mutedSeconds": 600 });
    group.alice.call("/group/mute_group_member", mute).await?;
    group.settle().await?;
    let muted = async |client: &Client| -> Result<i64> {
        let body = json!({ "groupID": group.id_of(client), "userIDs": [
            if client.user_id == "carol" { "carol" } else { CAROL },
        ] });
        let members = client.call("/group/get_group_members_info", body).await?;
        Ok(members["members"][0]["muteEndTime"].as_i64().unwrap_or_default())
    };
    let until_then = muted(&group.alice).await?;
    assert!(until_then > 0);
    let quit = json!({ "groupID": group.id_elsewhere });
    group.carol.call("/group/quit_group", quit).await?;
    until(async || Ok(!group.joined(&group.carol).await?.contains(&group.id_elsewhere))).await?;
    group.settle().await?;
    let admin = Caller::node("imAdmin");
    group.nodes[0].services.move_group(&admin, &group.id, domain("beta.example")?).await?;
    until(async || Ok(homes(&group)? == ["beta.example"; 3])).await?;
    let invite = json!({ "groupID": group.id_elsewhere, "invitedUserIDs": [CAROL] });
    group.bob.call("/group/invite_user_to_group", invite).await?;
    until(async || Ok(group.joined(&group.carol).await?.contains(&group.id_elsewhere))).await?;
    group.settle().await?;
    for client in [&group.bob, &group.carol, &group.alice] {
        until(async || Ok(muted(client).await? == until_then)).await?;
    }
    group.check().await
}
