//! Who may have to do with users of other nodes, and for how long a node tries.

use std::time::{Duration, Instant};

use federation::Budget;
use federation::policy::{Policies, Policy};
use serde_json::json;
use services::Caller;
use services::federation::LocalOnly;
use testnet::{Node, Result, Wire};

use super::{ALICE, BOB, CHAT_AT_ALPHA, Pair, friend_request, until};

#[tokio::test]
async fn strangers_elsewhere_need_consent_where_that_is_configured() -> Result {
    let pair = Pair::start_with(|settings| settings.consent = true).await?;
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    let mut at_bob = pair.bob.connect(Wire::JSON).await?;
    let refused = at_alice.send_text(BOB, "unasked").await.expect_err("a stranger");
    assert!(format!("{refused:#}").contains("1303"), "{refused:#}");
    // A request is how one asks.
    pair.befriend().await?;
    at_alice.send_text(BOB, "as a friend").await?;
    let mut told = String::new();
    while !told.contains("as a friend") {
        told = String::from_utf8(at_bob.next_message().await?.content.to_vec())?;
    }

    let carol = pair.alpha.admin().await?.user("carol").await?;
    let dave = pair.beta.admin().await?.user("dave").await?;
    let (mut at_carol, mut at_dave) =
        (carol.connect(Wire::JSON).await?, dave.connect(Wire::JSON).await?);
    assert!(at_carol.send_text("dave@beta_example", "unasked").await.is_err());
    assert!(at_dave.send_text("carol@alpha_example", "unasked").await.is_err());
    at_dave.send_text("bob", "on one node strangers may write").await?;
    Ok(())
}

#[tokio::test]
async fn a_user_who_stays_on_the_node_does_not_exist_elsewhere() -> Result {
    let pair = Pair::start().await?;
    let admin = Caller::node("imAdmin");
    pair.beta.services.set_local_only(&admin, LocalOnly::User, "bob", true).await?;
    let infos = json!({ "userIDs": [BOB] });
    let found = pair.alice.call("/user/get_users_info", infos).await?;
    assert!(found["usersInfo"].is_null(), "{found}");
    let asked = pair.alice.refused("/friend/add_friend", friend_request("alice", BOB)).await?;
    assert_eq!(asked, 1004);
    let asks = pair.bob.refused("/friend/add_friend", friend_request("bob", ALICE)).await?;
    assert_eq!(asks, 1002);
    let mut at_bob = pair.bob.connect(Wire::JSON).await?;
    let refused = at_bob.send_text(ALICE, "out").await.expect_err("it stays");
    assert!(format!("{refused:#}").contains("1002"), "{refused:#}");
    let group = json!({
        "ownerUserID": "bob", "memberUserIDs": [ALICE],
        "groupInfo": { "groupName": "both", "groupType": 2 },
    });
    assert_eq!(pair.bob.refused("/group/create_group", group).await?, 1002);

    pair.beta.services.set_local_only(&admin, LocalOnly::User, "bob", false).await?;
    pair.befriend().await?;
    at_bob.send_text(ALICE, "out").await?;
    Ok(())
}

#[tokio::test]
async fn a_group_that_stays_on_the_node_takes_nobody_of_others() -> Result {
    let pair = Pair::start().await?;
    pair.befriend().await?;
    let body = json!({
        "ownerUserID": "bob", "groupInfo": { "groupID": "inside", "groupName": "inside", "groupType": 2 },
    });
    pair.bob.call("/group/create_group", body).await?;
    let admin = Caller::node("imAdmin");
    pair.beta.services.set_local_only(&admin, LocalOnly::Group, "inside", true).await?;
    let invite = json!({ "groupID": "inside", "reason": "", "invitedUserIDs": [ALICE] });
    assert_eq!(pair.bob.refused("/group/invite_user_to_group", &invite).await?, 1002);
    let join = json!({
        "groupID": "inside@beta_example", "reqMessage": "", "joinSource": 3,
        "inviterUserID": "alice",
    });
    pair.alice.refused("/group/join_group", join).await?;
    let infos = json!({ "groupIDs": ["inside@beta_example"] });
    let found = pair.alice.post("/group/get_groups_info", infos).await?;
    assert!(!found.text.contains("\"groupName\":\"inside\""), "{}", found.text);

    pair.beta.services.set_local_only(&admin, LocalOnly::Group, "inside", false).await?;
    pair.bob.call("/group/invite_user_to_group", &invite).await?;
    let refused = pair.beta.services.set_local_only(&admin, LocalOnly::Group, "inside", true).await;
    assert!(refused.is_err(), "it has members elsewhere");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_delivered_for_too_long_is_given_up() -> Result {
    let pair =
        Pair::start_with(|settings| settings.expire = Duration::from_secs(30 * 86_400)).await?;
    pair.befriend().await?;
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    at_alice.send_text(BOB, "arrives").await?;
    pair.settle().await?;
    let Pair { alpha, beta, alice, .. } = pair;
    beta.stop().await?;
    let sent = at_alice.send_text(BOB, "does not").await?;
    let day = 24 * 3_600_000;
    alpha.clock.advance(29 * day);
    assert_eq!(alpha.services.expire_queued().await?, 0);
    alpha.clock.advance(2 * day);
    assert_eq!(alpha.services.expire_queued().await?, 1);
    assert_eq!(alpha.services.expire_queued().await?, 0, "once");
    let mut at_alice = alice.connect(Wire::JSON).await?;
    let mut tip = None;
    until(async || {
        let history = at_alice.history_from(CHAT_AT_ALPHA, 1).await?;
        tip = history.into_iter().next_back();
        Ok(tip.as_ref().is_some_and(|tip| tip.content_type == 110))
    })
    .await?;
    let tip = String::from_utf8(tip.unwrap_or_default().content.to_vec())?;
    assert!(tip.contains(&sent.client_msg_id), "{tip}");
    assert!(tip.contains("could not be reached for 30 days"), "{tip}");
    Ok(())
}

/// Alice's node on these terms, and Bob's.
async fn on_terms(policies: Policies, budget: Budget) -> Result<Pair> {
    let alpha = Node::builder().domain("alpha.example".parse()?).terms(policies, budget);
    let alpha = alpha.start().await?;
    let beta = Node::builder().domain("beta.example".parse()?).start().await?;
    alpha.trust(&beta).await?;
    beta.trust(&alpha).await?;
    let alice = alpha.admin().await?.user("alice").await?;
    let bob = beta.admin().await?.user("bob").await?;
    Ok(Pair { alpha, beta, alice, bob })
}

#[tokio::test]
async fn a_domain_can_be_denied_in_one_direction() -> Result {
    let deny = [("beta.example".parse()?)].into();
    let incoming = Policy { deny, ..Policy::default() };
    let policies = Policies { incoming, ..Policies::default() };
    let pair = on_terms(policies, Budget::default()).await?;
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    let mut at_bob = pair.bob.connect(Wire::JSON).await?;
    at_alice.send_text(BOB, "one way").await?;
    assert!(String::from_utf8(at_bob.next_message().await?.content.to_vec())?.contains("one way"));
    // Whether alice exists cannot be asked there; she is known from her message.
    at_bob.send_text(ALICE, "and not back").await?;
    until(async || {
        let peers = pair.beta.federation().map(|f| f.peers()).transpose()?.unwrap_or_default();
        let error = peers.first().and_then(|peer| peer.last_error.clone()).unwrap_or_default();
        Ok(error.contains("beta.example is denied"))
    })
    .await?;
    let peers = pair.beta.federation().map(|f| f.peers()).transpose()?.unwrap_or_default();
    assert_eq!(peers.first().map(|peer| peer.queued), Some(1));
    Ok(())
}

#[tokio::test]
async fn who_floods_from_elsewhere_waits_and_loses_nothing() -> Result {
    let budget = Budget { events_each: 20, ..Budget::default() };
    let pair = on_terms(Policies::default(), budget).await?;
    let mut at_bob = pair.bob.connect(Wire::JSON).await?;
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    let began = Instant::now();
    for number in 0..100 {
        at_bob.send_text(ALICE, &format!("flood {number}")).await?;
    }
    for number in 0..100 {
        let text = String::from_utf8(at_alice.next_message().await?.content.to_vec())?;
        assert!(text.contains(&format!("flood {number}\"")), "{text}");
    }
    // Forty at once, the others at twenty a second; a batch that began before its end is let in.
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
    let peers = pair.alpha.federation().map(|f| f.peers()).transpose()?.unwrap_or_default();
    assert!(peers.iter().any(|peer| peer.throttled > 0), "{peers:?}");
    Ok(())
}
