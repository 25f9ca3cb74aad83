//! Users of two organisations: friends, chats, and what goes wrong between them.

mod chat;
mod friend;
mod group;
mod hostile;
mod hostile_copies;
mod hostile_home;
mod media;
mod policy;
mod stolen_key;
mod succession;

use std::time::Duration;

use serde_json::{Value, json};
use services::Settings;
use testnet::{Client, Node, Result, federated_with};

/// Alice at alpha, Bob at beta.
struct Pair {
    alpha: Node,
    beta: Node,
    alice: Client,
    bob: Client,
}

/// How Bob appears to Alice.
const BOB: &str = "bob@beta_example";
/// How Alice appears to Bob.
const ALICE: &str = "alice@alpha_example";
/// Their chat at alpha.
const CHAT_AT_ALPHA: &str = "si_alice_bob@beta_example";
/// Their chat at beta.
const CHAT_AT_BETA: &str = "si_alice@alpha_example_bob";

impl Pair {
    async fn start() -> Result<Self> {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl Fn(&mut Settings)) -> Result<Self> {
        let [alpha, beta] = federated_with(["alpha.example", "beta.example"], change).await?;
        let alice = alpha.admin().await?.user("alice").await?;
        let bob = beta.admin().await?.user("bob").await?;
        Ok(Self { alpha, beta, alice, bob })
    }

    /// Makes the two friends.
    async fn befriend(&self) -> Result {
        self.alice.call("/friend/add_friend", friend_request("alice", BOB)).await?;
        until(async || {
            let answer = friend_answer(ALICE, "bob", 1);
            Ok(self.bob.post("/friend/add_friend_response", answer).await?.code == 0)
        })
        .await?;
        until(async || is_friend(&self.alice, BOB).await).await
    }

    /// Everything that was queued has arrived.
    async fn settle(&self) -> Result {
        for node in [&self.alpha, &self.beta] {
            until(async || {
                let peers = node.federation().map(|f| f.peers()).transpose()?.unwrap_or_default();
                Ok(peers.iter().all(|peer| peer.queued == 0))
            })
            .await?;
        }
        Ok(())
    }
}

fn friend_request(from: &str, to: &str) -> Value {
    json!({ "fromUserID": from, "toUserID": to, "reqMsg": "hello", "ex": "" })
}

fn friend_answer(from: &str, to: &str, result: i32) -> Value {
    json!({ "fromUserID": from, "toUserID": to, "handleResult": result, "handleMsg": "well" })
}

async fn is_friend(client: &Client, other: &str) -> Result<bool> {
    let body = json!({ "userID1": client.user_id, "userID2": other });
    Ok(client.call("/friend/is_friend", body).await?["inUser1Friends"] == true)
}

/// Waits until something is so.
async fn until(mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result {
    for _ in 0..1_000 {
        if is_so().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("not within ten seconds")
}
