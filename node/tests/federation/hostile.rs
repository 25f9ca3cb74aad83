//! A node that does not keep to the protocol: what it is told, and that nothing comes of it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use federation::identity::Identity;
use federation::signed::Use;
use federation::transport::{Endpoint, Lane, Link, Quic, Transport as _};
use federation::{Domain, PublicKey, trust};
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message;
use proto::federation::*;
use serde_json::json;
use store::schema;
use testnet::{Node, Result, Wire, federated};
use tokio::sync::mpsc;
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;

pub(super) const EPOCH: u64 = 77;
const PATIENCE: Duration = Duration::from_secs(10);

/// Somebody with a QUIC endpoint and a key.
pub(super) struct Mallory {
    pub(super) identity: Identity,
    quic: Quic,
    stop: CancellationToken,
}

pub(super) type Frames = Framed<Box<dyn Link>, LengthDelimitedCodec>;

impl Mallory {
    pub(super) async fn start() -> Result<Self> {
        Self::with_keys(Identity::new(rand::random(), 0)).await
    }

    pub(super) async fn with_keys(identity: Identity) -> Result<Self> {
        let (links, _) = mpsc::channel(16);
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let stop = CancellationToken::new();
        let quic = Quic::start(&identity, Endpoint::on(listen), links, stop.clone()).await?;
        Ok(Self { identity, quic, stop })
    }

    /// The operator of `node` trusts this key for `domain`.
    pub(super) async fn trusted_by(&self, node: &Node, domain: &str) -> Result {
        let domain: Domain = domain.parse()?;
        let key = vec![self.identity.public_key()];
        trust::pin(node.services.store(), &domain, key, self.quic.addresses().to_vec()).await?;
        node.federation().context("it does not federate")?.refresh(&domain);
        Ok(())
    }

    pub(super) async fn open(&self, node: &Node, lane: Lane) -> Result<Frames> {
        let addresses = node.federation().context("it does not federate")?.addresses().to_vec();
        let link = self.quic.open(node.key().context("no key")?, addresses, lane).await?;
        Ok(LengthDelimitedCodec::builder().max_frame_length(16 << 20).new_framed(link))
    }

    /// A link of the events lane on which `hello` was said and answered.
    pub(super) async fn greeted(&self, node: &Node, origin: &str) -> Result<(Frames, u64)> {
        let mut frames = self.open(node, Lane::Events).await?;
        let audience = node.federation().context("it does not federate")?.domain().to_string();
        say(&mut frames, frame::Body::Hello(hello(origin, &audience))).await?;
        match hear(&mut frames).await? {
            frame::Body::Welcome(welcome) => Ok((frames, welcome.seq)),
            other => anyhow::bail!("not welcome: {other:?}"),
        }
    }

    pub(super) fn batch(&self, payload: &BatchPayload) -> Batch {
        let payload = payload.encode_to_vec();
        let signature = Some(self.identity.sign(Use::Batch, &payload));
        Batch { payload: payload.into(), signature }
    }

    /// Asks on the control lane.
    pub(super) async fn ask(
        &self,
        node: &Node,
        origin: &str,
        body: request::Body,
    ) -> Result<Response> {
        let mut frames = self.open(node, Lane::Control).await?;
        let request = Request {
            origin: origin.into(),
            audience: "alpha.example".into(),
            document: None,
            body: Some(body),
            ..Request::default()
        };
        frames.send(Bytes::from(request.encode_to_vec())).await?;
        let answer = tokio::time::timeout(PATIENCE, frames.next()).await?;
        let Some(answer) = answer else { anyhow::bail!("no answer") };
        Ok(Response::decode(answer?.freeze())?)
    }
}

impl Drop for Mallory {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(super) fn hello(origin: &str, audience: &str) -> Hello {
    Hello {
        versions: vec![1],
        origin: origin.into(),
        audience: audience.into(),
        epoch: EPOCH,
        acknowledged: 0,
        document: None,
        ..Hello::default()
    }
}

fn payload(first_seq: u64, events: Vec<Event>) -> BatchPayload {
    BatchPayload {
        origin: "mallory.example".into(),
        audience: "alpha.example".into(),
        epoch: EPOCH,
        first_seq,
        time_ms: 1,
        events,
        mark: None,
    }
}

pub(super) fn event(kind: EventKind, body: &impl Message) -> Event {
    Event { kind: kind as u32, body: body.encode_to_vec().into(), time_ms: 1 }
}

pub(super) fn profile(user_id: &str) -> Profile {
    Profile { user_id: user_id.into(), nickname: "M".into(), ..Profile::default() }
}

fn friend_request(from: &str) -> Event {
    let body = FriendRequest {
        from: Some(profile(from)),
        to: "alice@alpha.example".into(),
        message: "hello".into(),
        ex: String::new(),
    };
    event(EventKind::EventFriendRequest, &body)
}

pub(super) async fn say(frames: &mut Frames, body: frame::Body) -> Result {
    frames.send(Bytes::from(Frame { body: Some(body) }.encode_to_vec())).await?;
    Ok(())
}

pub(super) async fn hear(frames: &mut Frames) -> Result<frame::Body> {
    let heard = tokio::time::timeout(PATIENCE, frames.next()).await?;
    let Some(heard) = heard else { anyhow::bail!("the link ended") };
    let Some(body) = Frame::decode(heard?.freeze())?.body else { anyhow::bail!("an empty frame") };
    Ok(body)
}

/// The code with which the other side hangs up.
pub(super) async fn hung_up(frames: &mut Frames) -> Result<ByeCode> {
    match hear(frames).await? {
        frame::Body::Bye(bye) => Ok(bye.code()),
        other => anyhow::bail!("not a bye: {other:?}"),
    }
}

async fn hung_up_after_hello(mallory: &Mallory, node: &Node, hello: Hello) -> Result<ByeCode> {
    let mut frames = mallory.open(node, Lane::Events).await?;
    say(&mut frames, frame::Body::Hello(hello)).await?;
    hung_up(&mut frames).await
}

async fn alpha_and_beta() -> Result<[Node; 2]> {
    let nodes = federated(["alpha.example", "beta.example"]).await?;
    nodes[0].admin().await?.register(&["alice"]).await?;
    Ok(nodes)
}

#[tokio::test]
async fn who_may_not_speak_is_told_why() -> Result {
    let [alpha, _beta] = alpha_and_beta().await?;
    let mallory = Mallory::start().await?;
    let refused = async |hello: Hello| hung_up_after_hello(&mallory, &alpha, hello).await;
    let by = |origin: &str| hello(origin, "alpha.example");
    assert_eq!(refused(by("mallory.example")).await?, ByeCode::ByeIdentity, "unknown");
    mallory.trusted_by(&alpha, "mallory.example").await?;
    assert_eq!(refused(by("beta.example")).await?, ByeCode::ByeIdentity, "somebody else");
    assert_eq!(refused(by("alpha.example")).await?, ByeCode::ByeIdentity, "the node itself");
    let elsewhere = hello("mallory.example", "beta.example");
    assert_eq!(refused(elsewhere).await?, ByeCode::ByeAudience);
    let other_version = Hello { versions: vec![2, 9], ..by("mallory.example") };
    assert_eq!(refused(other_version).await?, ByeCode::ByeVersion);
    for origin in ["", "no domain", "Mallory.example", "mallory_example"] {
        assert_eq!(refused(by(origin)).await?, ByeCode::ByeMalformed, "{origin:?}");
    }
    let no_epoch = Hello { epoch: 0, ..by("mallory.example") };
    assert_eq!(refused(no_epoch).await?, ByeCode::ByeMalformed);
    let far = Hello { acknowledged: u64::MAX, ..by("mallory.example") };
    assert_eq!(refused(far).await?, ByeCode::ByeMalformed);

    let mut frames = mallory.open(&alpha, Lane::Events).await?;
    say(&mut frames, frame::Body::Ack(Ack::default())).await?;
    assert_eq!(hung_up(&mut frames).await?, ByeCode::ByeMalformed, "no hello");
    let mut frames = mallory.open(&alpha, Lane::Events).await?;
    frames.send(Bytes::from_static(b"\xff\xff\xff garbage")).await?;
    assert_eq!(hung_up(&mut frames).await?, ByeCode::ByeMalformed, "garbage");
    Ok(())
}

#[tokio::test]
async fn a_batch_that_does_not_hold_ends_the_link() -> Result {
    let [alpha, _beta] = alpha_and_beta().await?;
    let mallory = Mallory::start().await?;
    mallory.trusted_by(&alpha, "mallory.example").await?;
    let request = || vec![friend_request("mallory@mallory.example")];
    let sent = async |batch: Batch| {
        let (mut frames, _) = mallory.greeted(&alpha, "mallory.example").await?;
        say(&mut frames, frame::Body::Batch(batch)).await?;
        hung_up(&mut frames).await
    };
    let stranger = Identity::new(rand::random(), 0);
    let good = payload(1, request());
    let bytes = good.encode_to_vec();
    let by_stranger =
        Batch { payload: bytes.clone().into(), signature: Some(stranger.sign(Use::Batch, &bytes)) };
    assert_eq!(sent(by_stranger).await?, ByeCode::ByeSignature, "another key");
    let other_use = Batch {
        payload: bytes.clone().into(),
        signature: Some(mallory.identity.sign(Use::Document, &bytes)),
    };
    assert_eq!(sent(other_use).await?, ByeCode::ByeSignature, "another use");
    let mut changed = mallory.batch(&good);
    changed.payload = payload(1, Vec::new()).encode_to_vec().into();
    assert_eq!(sent(changed).await?, ByeCode::ByeSignature, "changed");
    let unsigned = Batch { payload: bytes.into(), signature: None };
    assert_eq!(sent(unsigned).await?, ByeCode::ByeSignature, "unsigned");
    let origin = BatchPayload { origin: "beta.example".into(), ..good.clone() };
    assert_eq!(sent(mallory.batch(&origin)).await?, ByeCode::ByeIdentity);
    let audience = BatchPayload { audience: "beta.example".into(), ..good.clone() };
    assert_eq!(sent(mallory.batch(&audience)).await?, ByeCode::ByeAudience);
    let epoch = BatchPayload { epoch: EPOCH + 1, ..good.clone() };
    assert_eq!(sent(mallory.batch(&epoch)).await?, ByeCode::ByeOrder);
    assert_eq!(sent(mallory.batch(&payload(2, request()))).await?, ByeCode::ByeOrder, "a gap");
    assert_eq!(sent(mallory.batch(&payload(0, request()))).await?, ByeCode::ByeOrder);
    assert_eq!(sent(mallory.batch(&payload(1, Vec::new()))).await?, ByeCode::ByeTooLarge);
    let view = alpha.services.store().view();
    assert!(!schema::CURSORS.contains(&view, "mallory.example")?, "nothing was applied");

    let (mut frames, _) = mallory.greeted(&alpha, "mallory.example").await?;
    frames.send(Bytes::from(vec![0; 2 << 20])).await.ok();
    let ended =
        tokio::time::timeout(PATIENCE, async { while let Some(Ok(_)) = frames.next().await {} });
    ended.await?;
    Ok(())
}

#[tokio::test]
async fn what_is_applied_once_is_not_applied_again() -> Result {
    let [alpha, _beta] = alpha_and_beta().await?;
    let mallory = Mallory::start().await?;
    mallory.trusted_by(&alpha, "mallory.example").await?;
    let (mut frames, seq) = mallory.greeted(&alpha, "mallory.example").await?;
    assert_eq!(seq, 0);
    let batch = mallory.batch(&payload(1, vec![friend_request("mallory@mallory.example")]));
    say(&mut frames, frame::Body::Batch(batch.clone())).await?;
    let frame::Body::Ack(ack) = hear(&mut frames).await? else { panic!("no ack") };
    assert_eq!((ack.seq, ack.refusals.len()), (1, 0));
    say(&mut frames, frame::Body::Batch(batch)).await?;
    assert_eq!(hung_up(&mut frames).await?, ByeCode::ByeOrder);
    let (_frames, seq) = mallory.greeted(&alpha, "mallory.example").await?;
    assert_eq!(seq, 1, "it stands where it stood");
    Ok(())
}

#[tokio::test]
async fn nobody_speaks_for_users_and_groups_of_others() -> Result {
    let [alpha, _beta] = alpha_and_beta().await?;
    let admin = alpha.admin().await?;
    let alice = admin.client("alice", 5).await?;
    let made = alice
        .call(
            "/group/create_group",
            json!({
                "ownerUserID": "alice", "memberUserIDs": [],
                "groupInfo": { "groupName": "private", "groupType": 2 },
            }),
        )
        .await?;
    let group = made["groupInfo"]["groupID"].as_str().unwrap_or_default();
    let group = format!("{group}@alpha.example");
    let mallory = Mallory::start().await?;
    mallory.trusted_by(&alpha, "mallory.example").await?;
    let message = |from: &str, to: &str| proto::sdkws::MsgData {
        send_id: from.into(),
        recv_id: to.into(),
        session_type: 1,
        content_type: 101,
        content: Bytes::from_static(b"{\"content\":\"forged\"}"),
        client_msg_id: "forged".into(),
        server_msg_id: "forged".into(),
        ..Default::default()
    };
    let chat = |from: &str, to: &str| {
        let message = message(from, to).encode_to_vec().into();
        event(EventKind::EventChat, &Chat { message, author_seq: 1, send_time_ms: 1 })
    };
    let system = {
        let message = proto::sdkws::MsgData {
            content_type: 1201,
            ..message("m@mallory.example", "alice@alpha.example")
        };
        let message = message.encode_to_vec().into();
        event(EventKind::EventChat, &Chat { message, author_seq: 1, send_time_ms: 1 })
    };
    let entry = |group: &str| {
        let header = EntryHeader { group: group.into(), epoch: 1, seq: 1, ..Default::default() };
        let header = header.encode_to_vec().into();
        let body = GroupEntry { header, contents: Vec::new(), head: None };
        event(EventKind::EventGroupEntry, &body)
    };
    let said = {
        let message = proto::sdkws::MsgData {
            session_type: 3,
            group_id: group.clone(),
            recv_id: String::new(),
            status: 2,
            ..message("m@mallory.example", "")
        };
        let message = message.encode_to_vec();
        let signature = Some(mallory.identity.sign(Use::Message, &message));
        event(EventKind::EventGroupSend, &GroupSend { message: message.into(), signature })
    };
    let unknown = Event { kind: 9_999, body: Bytes::new(), time_ms: 1 };
    let garbage = Event {
        kind: EventKind::EventChat as u32,
        body: Bytes::from_static(b"\xff\xff"),
        time_ms: 1,
    };
    let put_aside = vec![
        friend_request("bob@beta.example"),
        friend_request("alice@alpha.example"),
        friend_request("mallory"),
        chat("bob@beta.example", "alice@alpha.example"),
        chat("alice@alpha.example", "m@mallory.example"),
        chat("m@mallory.example", "bob@beta.example"),
        system,
        entry("1@beta.example"),
        entry(&group),
        unknown,
        garbage,
    ];
    let count = put_aside.len() as u64;
    let mut events = put_aside;
    events.push(said);
    events.push(friend_request("m@mallory.example"));
    let (mut frames, _) = mallory.greeted(&alpha, "mallory.example").await?;
    say(&mut frames, frame::Body::Batch(mallory.batch(&payload(1, events)))).await?;
    let frame::Body::Ack(ack) = hear(&mut frames).await? else { panic!("no ack") };
    assert_eq!(ack.seq, count + 2, "nothing holds up what is behind it");
    let refusals: Vec<(u64, i32)> = ack.refusals.iter().map(|r| (r.seq, r.code)).collect();
    assert_eq!(refusals, [(count + 1, 1203)], "not in the group");
    let peers = alpha.federation().expect("it federates").peers()?;
    let of_mallory = peers.iter().find(|peer| peer.domain == "mallory.example");
    assert_eq!(of_mallory.map(|peer| peer.quarantined), Some(count));
    let list = json!({ "userID": "alice", "pagination": { "pageNumber": 1, "showNumber": 10 } });
    let requests = alice.call("/friend/get_friend_apply_list", list).await?;
    let from: Vec<_> = requests["FriendRequests"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|r| &r["fromUserID"])
        .collect();
    assert_eq!(from, ["m@mallory_example"]);
    let mut at_alice = alice.connect(Wire::JSON).await?;
    assert!(at_alice.history("m@mallory_example").await?.is_empty());

    let denied = mallory
        .ask(
            &alpha,
            "mallory.example",
            request::Body::History(HistoryRequest {
                group: group.clone(),
                user: "m@mallory.example".into(),
                first: 1,
                last: 100,
            }),
        )
        .await?;
    assert_eq!(denied.code, 1002);
    let log = GroupLogRequest { group: group.clone(), ..GroupLogRequest::default() };
    let denied = mallory.ask(&alpha, "mallory.example", request::Body::GroupLog(log)).await?;
    assert_eq!(denied.code, 1002);
    for caller in ["alice@alpha.example", "bob@beta.example"] {
        let call = GroupCall {
            caller: caller.into(),
            path: "/group/dismiss_group".into(),
            body: json!({ "groupID": group }).to_string(),
        };
        let denied = mallory.ask(&alpha, "mallory.example", request::Body::GroupCall(call)).await?;
        assert_eq!(denied.code, 1002, "{caller}");
    }
    let call = GroupCall {
        caller: "m@mallory.example".into(),
        path: "/user/user_register".into(),
        body: "{}".into(),
    };
    let denied = mallory.ask(&alpha, "mallory.example", request::Body::GroupCall(call)).await?;
    assert_ne!(denied.code, 0);
    Ok(())
}

#[tokio::test]
async fn who_does_not_read_or_opens_many_links_keeps_nobody_waiting() -> Result {
    let [alpha, beta] = alpha_and_beta().await?;
    let alice = alpha.admin().await?.client("alice", 5).await?;
    let bob = beta.admin().await?.user("bob").await?;
    let mallory = Mallory::start().await?;
    mallory.trusted_by(&alpha, "mallory.example").await?;
    // A hundred links that say nothing.
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(mallory.open(&alpha, Lane::Control).await?);
    }
    // And one that sends and never reads.
    let (mut deaf, _) = mallory.greeted(&alpha, "mallory.example").await?;
    let flood = async {
        let mut seq = 1;
        loop {
            let events = vec![friend_request("m@mallory.example"); 100];
            let batch = mallory.batch(&payload(seq, events));
            seq += 100;
            say(&mut deaf, frame::Body::Batch(batch)).await?;
        }
    };
    let honest = async {
        let mut at_alice = alice.connect(Wire::JSON).await?;
        let mut at_bob = bob.connect(Wire::JSON).await?;
        let mut slowest = Duration::ZERO;
        for n in 0..100 {
            let began = std::time::Instant::now();
            at_bob.send_text("alice@alpha_example", &format!("{n}")).await?;
            loop {
                let message = at_alice.next_message().await?;
                if message.content_type == 101 {
                    break;
                }
            }
            slowest = slowest.max(began.elapsed());
        }
        Ok::<_, anyhow::Error>(slowest)
    };
    tokio::select! {
        ended = flood => {
            let ended: Result = ended;
            anyhow::bail!("the flood ended: {ended:?}");
        }
        slowest = honest => assert!(slowest? < Duration::from_secs(2), "{:?}", "too slow"),
    }
    Ok(())
}

/// The key under which a node is known is what its peer ID says.
#[tokio::test]
async fn a_node_is_reached_only_under_its_key() -> Result {
    let [alpha, _beta] = alpha_and_beta().await?;
    let mallory = Mallory::start().await?;
    let wrong: PublicKey = Identity::new(rand::random(), 0).public_key();
    let addresses = alpha.federation().expect("it federates").addresses().to_vec();
    let opened = mallory.quic.open(wrong, addresses, Lane::Events).await;
    assert!(opened.is_err());
    Ok(())
}
