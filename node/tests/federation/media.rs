//! Pictures and files across organisations: every client fetches from its own node.

use anyhow::Context as _;
use serde_json::{Value, json};
use store::schema;
use testnet::upload::upload;
use testnet::{Client, Result, Wire};

use super::{ALICE, BOB, Pair};

/// Bytes that differ from place to place.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at as u8).wrapping_mul(31) ^ ((at >> 8) as u8)).collect()
}

/// Sends a file; returns the link that the receiver gets.
async fn send_file(pair: &Pair, link: &str) -> Result<String> {
    let mut at_alice = pair.alice.connect(Wire::JSON).await?;
    let mut at_bob = pair.bob.connect(Wire::JSON).await?;
    let mut message = testnet::text_message("alice", BOB, "");
    message.content_type = 105;
    message.content = json!({ "sourceUrl": link, "fileName": "f" }).to_string().into();
    at_alice.send(&message).await?;
    loop {
        let message = at_bob.next_message().await?;
        if message.content_type == 105 {
            let content: Value = serde_json::from_slice(&message.content)?;
            return Ok(content["sourceUrl"].as_str().context("no link")?.to_owned());
        }
    }
}

async fn status(link: &str) -> Result<u16> {
    Ok(reqwest::get(link).await?.status().as_u16())
}

#[tokio::test]
async fn a_file_is_fetched_once_and_served_by_the_own_node() -> Result {
    let pair = Pair::start().await?;
    let content = bytes(6 << 20);
    let own = upload(&pair.alice, "alice/a file.bin", "application/x-test", &content).await?;
    assert!(own.starts_with(pair.alice.rest.api()), "{own}");
    let link = send_file(&pair, &own).await?;
    assert!(link.starts_with(pair.bob.rest.api()), "{link}");
    for url in [&own, &link] {
        let answer = reqwest::get(url).await?;
        assert_eq!(answer.status(), 200, "{url}");
        assert_eq!(answer.headers()["content-type"], "application/x-test");
        assert_eq!(answer.bytes().await?, content);
    }
    // What is here needs the other node no more.
    pair.alpha.stop().await?;
    assert_eq!(reqwest::get(&link).await?.bytes().await?, content);
    let view = pair.beta.services.store().view();
    let kept = schema::OBJECTS.scan(&view, ()).filter_map(|row| Some(row.ok()?.0));
    assert_eq!(kept.count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_link_without_the_right_hash_leads_nowhere() -> Result {
    let pair = Pair::start().await?;
    let own = upload(&pair.alice, "alice/secret.bin", "", b"secret").await?;
    let link = send_file(&pair, &own).await?;
    let (front, rest) = link.split_once("@alpha.example/").context("no node")?;
    let (hash, name) = rest.split_once('/').context("no hash")?;
    let other_hash = "0".repeat(64);
    for wrong in [
        format!("{front}@alpha.example/{other_hash}/{name}"),
        format!("{front}@alpha.example/{hash}/alice/other.bin"),
        format!("{front}@gamma.example/{hash}/{name}"),
        format!("{front}@alpha.example/{hash}"),
        format!("{front}@/{hash}/{name}"),
    ] {
        assert_ne!(status(&wrong).await?, 200, "{wrong}");
    }
    assert_eq!(status(&link).await?, 200);
    Ok(())
}

#[tokio::test]
async fn faces_cross_too() -> Result {
    let pair = Pair::start().await?;
    let own = upload(&pair.alice, "alice/face.png", "image/png", b"no real picture").await?;
    let edit = json!({ "userInfo": { "userID": "alice", "faceURL": own } });
    pair.alice.call("/user/update_user_info", edit).await?;
    pair.befriend().await?;
    pair.settle().await?;
    let face = async |client: &Client, id: &str| {
        let found = client.call("/user/get_users_info", json!({ "userIDs": [id] })).await?;
        Ok::<_, anyhow::Error>(found["usersInfo"][0]["faceURL"].as_str().unwrap_or("").to_owned())
    };
    assert_eq!(face(&pair.alice, "alice").await?, own);
    let there = face(&pair.bob, ALICE).await?;
    assert!(there.starts_with(pair.bob.rest.api()), "{there}");
    assert_eq!(status(&there).await?, 200);
    Ok(())
}
