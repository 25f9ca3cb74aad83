//! A home that lies: about who said what, and about what was said.

use federation::signed::{Use, verify};
use prost::Message as _;
use proto::federation::*;
use proto::sdkws::{GroupInfo, MsgData};
use serde_json::{Value, json};
use services::federation::proof;
use sha2::{Digest as _, Sha256};
use store::group_log::entry_hash;
use store::schema;
use testnet::{Client, Node, Result, Wire, federated};

use super::hostile::{EPOCH, Frames, Mallory, event, hear, profile, say};
use super::until;

const HOME: &str = "mallory.example";
const GROUP: &str = "7@mallory.example";
const GROUP_HERE: &str = "7@mallory_example";
const CHAT: &str = "sg_7@mallory_example";
const MEMBERS: [&str; 3] = ["m@mallory.example", "alice@alpha.example", "bob@beta.example"];

/// The log that one node is shown.
struct Log {
    audience: &'static str,
    frames: Frames,
    seq: u64,
    entries: u64,
    hash: Vec<u8>,
    messages: i64,
}

fn member(user_id: &str, role_level: i32, order: u64) -> GroupMember {
    let user = Some(profile(user_id));
    GroupMember { user, role_level, order, joined_ms: 1, ..GroupMember::default() }
}

/// A message of the group's chat, as its author's node would have it.
fn said(by: &str, text: &str) -> MsgData {
    MsgData {
        send_id: by.into(),
        group_id: GROUP.into(),
        session_type: 3,
        content_type: 101,
        content: json!({ "content": text }).to_string().into_bytes().into(),
        client_msg_id: format!("client {text}"),
        server_msg_id: format!("server {text}"),
        status: 2,
        ..MsgData::default()
    }
}

impl Log {
    /// Begins to show the group to a node.
    async fn begin(mallory: &Mallory, node: &Node, audience: &'static str) -> Result<Self> {
        mallory.trusted_by(node, HOME).await?;
        let (frames, seq) = mallory.greeted(node, HOME).await?;
        let hash = Vec::new();
        let mut log = Self { audience, frames, seq, entries: 0, hash, messages: 0 };
        let info = GroupInfo {
            group_id: GROUP.into(),
            group_name: "trap".into(),
            owner_user_id: MEMBERS[0].into(),
            group_type: 2,
            ..GroupInfo::default()
        };
        let snapshot = GroupSnapshot {
            group: GROUP.into(),
            epoch: 1,
            info: info.encode_to_vec().into(),
            members: vec![member(MEMBERS[0], 100, 1)],
            ..GroupSnapshot::default()
        };
        log.send(mallory, event(EventKind::EventGroupSnapshot, &snapshot)).await?;
        let members = vec![member(MEMBERS[1], 20, 2), member(MEMBERS[2], 20, 3)];
        log.entry(mallory, EntryHeader { members, ..EntryHeader::default() }, Vec::new()).await?;
        Ok(log)
    }

    async fn send(&mut self, mallory: &Mallory, event: Event) -> Result {
        self.seq += 1;
        let payload = BatchPayload {
            origin: HOME.into(),
            audience: self.audience.into(),
            epoch: EPOCH,
            first_seq: self.seq,
            time_ms: 1,
            events: vec![event],
            mark: None,
        };
        say(&mut self.frames, frame::Body::Batch(mallory.batch(&payload))).await?;
        match hear(&mut self.frames).await? {
            frame::Body::Ack(ack) if ack.refusals.is_empty() => Ok(()),
            other => anyhow::bail!("not taken: {other:?}"),
        }
    }

    async fn entry(
        &mut self,
        mallory: &Mallory,
        header: EntryHeader,
        contents: Vec<bytes::Bytes>,
    ) -> Result {
        self.entries += 1;
        let header = EntryHeader {
            group: GROUP.into(),
            epoch: 1,
            seq: self.entries,
            previous: self.hash.clone().into(),
            time_ms: 1,
            ..header
        };
        let header = header.encode_to_vec();
        self.hash = entry_hash(&header);
        let head = GroupHead {
            group: GROUP.into(),
            epoch: 1,
            seq: self.entries,
            hash: self.hash.clone().into(),
        };
        let head = Some(mallory.identity.sign(Use::Head, &head.encode_to_vec()));
        let entry = GroupEntry { header: header.into(), contents, head };
        self.send(mallory, event(EventKind::EventGroupEntry, &entry)).await
    }

    /// Puts a message into the log.
    async fn message(
        &mut self,
        mallory: &Mallory,
        message: &MsgData,
        signature: Option<Signature>,
    ) -> Result {
        self.messages += 1;
        let content: bytes::Bytes = message.encode_to_vec().into();
        let placed = GroupMessage {
            seq: self.messages,
            send_time_ms: self.messages,
            digest: Sha256::digest(&content).to_vec().into(),
            signature,
            ..GroupMessage::default()
        };
        let header = EntryHeader { messages: vec![placed], ..EntryHeader::default() };
        self.entry(mallory, header, vec![content]).await
    }
}

/// Texts of the group's chat as a client sees them.
async fn texts(client: &Client) -> Result<Vec<String>> {
    let mut socket = client.connect(Wire::JSON).await?;
    let messages = socket.history_from(CHAT, 1).await?;
    let texts = messages.iter().map(|message| {
        let content: Value = serde_json::from_slice(&message.content).unwrap_or_default();
        content["content"].as_str().unwrap_or_default().to_owned()
    });
    Ok(texts.filter(|text| !text.is_empty()).collect())
}

#[tokio::test]
async fn a_home_cannot_put_words_into_the_mouths_of_users_of_others() -> Result {
    let [alpha, beta] = federated(["alpha.example", "beta.example"]).await?;
    let alice = alpha.admin().await?.user("alice").await?;
    beta.admin().await?.user("bob").await?;
    let mallory = Mallory::start().await?;
    let mut log = Log::begin(&mallory, &alpha, "alpha.example").await?;
    let own = said(MEMBERS[0], "my own words");
    log.message(&mallory, &own, None).await?;
    let unsigned = said(MEMBERS[2], "unsigned");
    log.message(&mallory, &unsigned, None).await?;
    let by_mallory = said(MEMBERS[2], "signed by another node");
    let signature = mallory.identity.sign(Use::Message, &by_mallory.encode_to_vec());
    log.message(&mallory, &by_mallory, Some(signature)).await?;
    let of_alice = said(MEMBERS[1], "she never said so");
    log.message(&mallory, &of_alice, None).await?;
    log.message(&mallory, &said(MEMBERS[0], "the last word"), None).await?;
    assert_eq!(texts(&alice).await?, ["my own words", "the last word"]);
    let report = store::verify::verify(&alpha.services.store().view(), |_| {})?;
    assert!(report.is_clean(), "{report:?}");

    // What Bob's node has signed, the home may bring, and only as it is.
    let bobs = beta.federation().expect("it federates");
    let genuine = said(MEMBERS[2], "genuine");
    let signature = bobs.sign(Use::Message, &genuine.encode_to_vec());
    log.message(&mallory, &genuine, Some(signature.clone())).await?;
    let changed = said(MEMBERS[2], "changed");
    log.message(&mallory, &changed, Some(signature)).await?;
    assert_eq!(texts(&alice).await?, ["my own words", "the last word", "genuine"]);
    Ok(())
}

#[tokio::test]
async fn a_home_that_shows_two_histories_is_found_out() -> Result {
    let [alpha, beta] = federated(["alpha.example", "beta.example"]).await?;
    let alice = alpha.admin().await?.user("alice").await?;
    let bob = beta.admin().await?.user("bob").await?;
    let mallory = Mallory::start().await?;
    let mut to_alpha = Log::begin(&mallory, &alpha, "alpha.example").await?;
    let mut to_beta = Log::begin(&mallory, &beta, "beta.example").await?;
    let same = said(MEMBERS[0], "the same for all");
    to_alpha.message(&mallory, &same, None).await?;
    to_beta.message(&mallory, &same, None).await?;
    to_alpha.message(&mallory, &said(MEMBERS[0], "buy"), None).await?;
    to_beta.message(&mallory, &said(MEMBERS[0], "sell"), None).await?;
    to_beta.message(&mallory, &said(MEMBERS[0], "sell more"), None).await?;
    assert_eq!(texts(&alice).await?, ["the same for all", "buy"]);
    assert_eq!(texts(&bob).await?, ["the same for all", "sell", "sell more"]);
    let found = |node: &Node| schema::PROOFS.get(&node.services.store().view(), GROUP_HERE);
    until(async || Ok(found(&beta)?.is_some())).await?;
    let proof = found(&beta)?.expect("beta can prove it");
    let proven = proof::check(&proof, |head, by| verify(Use::Head, head, by).is_some());
    let proven = proven.expect("it proves something");
    assert_eq!((proven.group.as_str(), proven.first_seq), (GROUP, 3));
    assert!(proven.keys.iter().all(|key| *key == mallory.identity.public_key()));

    // Nothing is believed any more, and nothing sent.
    to_beta.message(&mallory, &said(MEMBERS[0], "never mind"), None).await?;
    assert_eq!(texts(&bob).await?.len(), 3);
    let mut at_bob = bob.connect(Wire::JSON).await?;
    let mut message = testnet::text_message("bob", "", "hello");
    (message.group_id, message.session_type) = (GROUP_HERE.into(), 3);
    assert!(at_bob.send(&message).await.is_err());
    assert!(beta.services.drop_proof(GROUP_HERE).await?);
    assert!(found(&beta)?.is_none());
    Ok(())
}
