//! A node that says of another one that its data went back in time, or that it runs twice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use federation::identity::Identity;
use federation::signed::Use;
use federation::transport::{Endpoint, Incoming, Lane, Quic, Transport as _};
use federation::{Domain, Halt, trust};
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use proto::federation::*;
use store::record::Cursor;
use store::{outbox, schema};
use testnet::{Node, Result, Wire, federated};
use tokio::sync::mpsc;
use tokio_util::codec::LengthDelimitedCodec;
use tokio_util::sync::CancellationToken;

use super::hostile::{EPOCH, Mallory, event, hear, hello, profile, say};
use super::{friend_request, until};

const MALLORY: &str = "mallory.example";

fn halt(node: &Node) -> Option<Halt> {
    node.federation().and_then(federation::Federation::halt)
}

fn epoch_of(node: &Node) -> Result<u64> {
    Ok(schema::META.get(&node.services.store().view(), 0)?.unwrap_or_default().epoch)
}

/// The first events of Mallory's stream to alpha.
fn batch(events: Vec<Event>) -> BatchPayload {
    BatchPayload {
        origin: MALLORY.into(),
        audience: "alpha.example".into(),
        epoch: EPOCH,
        first_seq: 1,
        time_ms: 1,
        events,
        mark: None,
    }
}

/// What is answered to a hello.
async fn greet(mallory: &Mallory, node: &Node, hello: Hello) -> Result<frame::Body> {
    let mut frames = mallory.open(node, Lane::Events).await?;
    say(&mut frames, frame::Body::Hello(hello)).await?;
    hear(&mut frames).await
}

#[tokio::test]
async fn marks_cause_one_new_epoch_for_each_time_that_the_data_went_back() -> Result {
    let [alpha, _beta] = federated(["alpha.example", "beta.example"]).await?;
    let mallory = Mallory::start().await?;
    mallory.trusted_by(&alpha, MALLORY).await?;
    let (mut frames, _) = mallory.greeted(&alpha, MALLORY).await?;
    let batch = batch(vec![event(EventKind::EventProfile, &profile("m@mallory.example"))]);
    say(&mut frames, frame::Body::Batch(mallory.batch(&batch))).await?;
    let frame::Body::Ack(ack) = hear(&mut frames).await? else { anyhow::bail!("no ack") };
    let receipt = ack.receipt.context("no receipt")?;
    drop(frames);

    let own = outbox::stream_epoch(&alpha.services.store().view());
    let invented = Mark { epoch: own, seq: 9, value: 1, proof: 1 };
    let hellos = [
        Hello { mark: Some(invented), ..hello(MALLORY, "alpha.example") },
        Hello { mark: Some(Mark { epoch: 5, ..invented }), ..hello(MALLORY, "alpha.example") },
        // A receipt is no mark, and one for less is none for more.
        Hello { mark: Some(receipt), ..hello(MALLORY, "alpha.example") },
        Hello { receipt: Some(Mark { seq: 9, ..receipt }), ..hello(MALLORY, "alpha.example") },
        Hello { receipt: Some(Mark { value: 9, ..receipt }), ..hello(MALLORY, "alpha.example") },
        Hello { receipt: Some(receipt), ..hello(MALLORY, "alpha.example") },
        Hello { acknowledged: 900, receipt: Some(receipt), ..hello(MALLORY, "alpha.example") },
    ];
    for hello in hellos {
        let answer = greet(&mallory, &alpha, hello.clone()).await?;
        assert!(matches!(answer, frame::Body::Welcome(_)), "{hello:?}: {answer:?}");
    }
    assert_eq!((halt(&alpha), epoch_of(&alpha)?), (None, 1));

    let older = Cursor { epoch: EPOCH, seq: 0, mark: None };
    alpha
        .services
        .store()
        .transact(move |tx| {
            tx.advance(MALLORY, older);
            Ok::<_, store::StoreError>(())
        })
        .await?;
    for _ in 0..5 {
        let hello = Hello { receipt: Some(receipt), ..hello(MALLORY, "alpha.example") };
        // Once it has stopped nobody is answered.
        let _ = greet(&mallory, &alpha, hello).await;
    }
    until(async || Ok(matches!(halt(&alpha), Some(Halt::NewEpoch { .. })))).await?;
    assert_eq!(epoch_of(&alpha)?, 2);
    assert!(!alpha.services.take_epoch().await?, "a second one at once");
    assert_eq!(epoch_of(&alpha)?, 2);
    Ok(())
}

/// Says to everybody that another instance of the caller is there.
async fn liar(identity: &Identity, stop: &CancellationToken) -> Result<(Quic, Arc<AtomicUsize>)> {
    let (links, mut incoming) = mpsc::channel::<Incoming>(16);
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let quic = Quic::start(identity, Endpoint::on(listen), links, stop.clone()).await?;
    let lied = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lied);
    tokio::spawn(async move {
        while let Some(link) = incoming.recv().await {
            let mut frames = LengthDelimitedCodec::builder().new_framed(link.link);
            let Some(Ok(said)) = frames.next().await else { continue };
            let lie = |other| Bye {
                code: ByeCode::ByeDoubled.into(),
                reason: "you are two".into(),
                alive: Some(Pong { instance: 5, other, proof: 7 }),
            };
            let answer = if link.lane == Lane::Events {
                let Ok(frame) = Frame::decode(said.freeze()) else { continue };
                let Some(frame::Body::Hello(hello)) = frame.body else { continue };
                assert_ne!(hello.instance, 0);
                Frame { body: Some(frame::Body::Bye(lie(hello.instance))) }.encode_to_vec()
            } else {
                let Ok(request) = Request::decode(said.freeze()) else { continue };
                assert_ne!(request.instance, 0);
                Response { bye: Some(lie(request.instance)), ..Response::default() }.encode_to_vec()
            };
            let _ = frames.send(Bytes::from(answer)).await;
            count.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    Ok((quic, lied))
}

#[tokio::test]
async fn who_says_that_a_node_runs_twice_must_prove_it() -> Result {
    let [alpha, beta] = federated(["alpha.example", "beta.example"]).await?;
    let alice = alpha.admin().await?.user("alice").await?;
    let bob = beta.admin().await?.user("bob").await?;
    let (identity, stop) = (Identity::new(rand::random(), 0), CancellationToken::new());
    let (quic, lied) = liar(&identity, &stop).await?;
    let domain: Domain = MALLORY.parse()?;
    let key = vec![identity.public_key()];
    trust::pin(alpha.services.store(), &domain, key, quic.addresses().to_vec()).await?;
    alpha.federation().context("it does not federate")?.refresh(&domain);
    // Somebody there is known, so a message can go there: again and again.
    let addresses = alpha.federation().context("it does not federate")?.addresses().to_vec();
    let link = quic.open(alpha.key().context("no key")?, addresses, Lane::Events).await?;
    let mut frames = LengthDelimitedCodec::builder().new_framed(link);
    say(&mut frames, frame::Body::Hello(hello(MALLORY, "alpha.example"))).await?;
    assert!(matches!(hear(&mut frames).await?, frame::Body::Welcome(_)));
    let request = FriendRequest {
        from: Some(profile("m@mallory.example")),
        to: "alice@alpha.example".into(),
        ..FriendRequest::default()
    };
    let payload = batch(vec![event(EventKind::EventFriendRequest, &request)]).encode_to_vec();
    let signature = Some(identity.sign(Use::Batch, &payload));
    let batch = Batch { payload: payload.into(), signature };
    say(&mut frames, frame::Body::Batch(batch)).await?;
    assert!(matches!(hear(&mut frames).await?, frame::Body::Ack(_)));
    alice.connect(Wire::JSON).await?.send_text("m@mallory_example", "hello").await?;
    until(async || Ok(lied.load(Ordering::Relaxed) >= 3)).await?;
    assert_eq!(halt(&alpha), None);
    let ask = friend_request("alice", super::BOB);
    alice.call("/friend/add_friend", ask).await?;
    until(async || {
        let page = serde_json::json!({
            "userID": "bob", "pagination": { "pageNumber": 1, "showNumber": 10 },
        });
        let asked = bob.call("/friend/get_friend_apply_list", page).await?;
        Ok(asked.to_string().contains("alice"))
    })
    .await?;
    stop.cancel();
    Ok(())
}
