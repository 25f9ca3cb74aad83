//! Somebody has stolen the key of a node: what it is worth once the node has revoked it.

use bytes::Bytes;
use federation::document;
use federation::identity::Identity;
use federation::signed::Use;
use federation::transport::Lane;
use futures_util::SinkExt as _;
use prost::Message as _;
use proto::federation::*;
use store::schema;
use testnet::{Node, Result, federated};

use crate::hostile::{EPOCH, Mallory, event, hear, hello, hung_up, profile, say};

const DOMAIN: &str = "mallory.example";

/// What a node with these keys says of itself.
fn presents(identity: &Identity, sequence: u64) -> SignedDocument {
    let document = NodeDocument {
        domain: DOMAIN.into(),
        sequence,
        keys: identity.keys(),
        ..NodeDocument::default()
    };
    document::sign(identity, &document)
}

/// Shows itself to a node with a document; what the node says to that.
async fn shows(mallory: &Mallory, node: &Node, document: SignedDocument) -> Result<frame::Body> {
    let mut frames = mallory.open(node, Lane::Events).await?;
    let hello = Hello { document: Some(document), ..hello(DOMAIN, "alpha.example") };
    say(&mut frames, frame::Body::Hello(hello)).await?;
    hear(&mut frames).await
}

fn batch(first_seq: u64) -> BatchPayload {
    let body = profile("mallory@mallory.example");
    BatchPayload {
        origin: DOMAIN.into(),
        audience: "alpha.example".into(),
        epoch: EPOCH,
        first_seq,
        time_ms: 1,
        events: vec![event(EventKind::EventProfile, &body)],
        mark: None,
    }
}

#[tokio::test]
async fn a_stolen_key_is_worth_nothing_once_it_is_revoked() -> Result {
    let [alpha, _beta] = federated(["alpha.example", "beta.example"]).await?;
    let stolen = Identity::new([7; 32], 0);
    let stolen_key = stolen.public_key();
    let honest = Mallory::with_keys(stolen.clone()).await?;
    honest.trusted_by(&alpha, DOMAIN).await?;

    // The node rotates, for which the old key vouches, and goes on with the new one.
    let mut keys = stolen.clone();
    keys.rotate([9; 32], 0, i64::MAX);
    let rotated = shows(&honest, &alpha, presents(&keys, 1)).await?;
    assert!(matches!(rotated, frame::Body::Welcome(_)));
    drop(honest);
    let honest = Mallory::with_keys(keys.clone()).await?;
    let goes_on = shows(&honest, &alpha, presents(&keys, 2)).await?;
    assert!(matches!(goes_on, frame::Body::Welcome(_)));

    // Until it is revoked, the thief can speak for the node.
    let thief = Mallory::with_keys(stolen).await?;
    let (mut link, seq) = thief.greeted(&alpha, DOMAIN).await?;
    assert_eq!(seq, 0);
    say(&mut link, frame::Body::Batch(thief.batch(&batch(1)))).await?;
    assert!(matches!(hear(&mut link).await?, frame::Body::Ack(ack) if ack.seq == 1));

    keys.revoke(&stolen_key, 1)?;
    let revoked = presents(&keys, 3);
    assert!(matches!(shows(&honest, &alpha, revoked).await?, frame::Body::Welcome(_)));

    // Neither on the link that is still open, nor on a new one, nor on the control lane.
    say(&mut link, frame::Body::Batch(thief.batch(&batch(2)))).await.ok();
    if let Ok(code) = hung_up(&mut link).await {
        assert!(matches!(code, ByeCode::ByeSignature | ByeCode::ByeIdentity), "{code:?}");
    }
    let bye = |body: frame::Body| match body {
        frame::Body::Bye(bye) => bye.code(),
        other => panic!("not a bye: {other:?}"),
    };
    // A newer document of its own does not help, nor one that names the honest keys as well.
    for keys in [thief.identity.keys(), honest.identity.keys()] {
        let document =
            NodeDocument { domain: DOMAIN.into(), sequence: 99, keys, ..NodeDocument::default() };
        let document = document::sign(&thief.identity, &document);
        assert_eq!(bye(shows(&thief, &alpha, document).await?), ByeCode::ByeIdentity);
    }
    let answer = thief.ask(&alpha, DOMAIN, request::Body::Greeting(Greeting {})).await?;
    assert_eq!(answer.bye.map(|bye| bye.code()), Some(ByeCode::ByeIdentity));

    // Nor does it help to sign with it on a link of the new key.
    let (mut link, seq) = honest.greeted(&alpha, DOMAIN).await?;
    assert_eq!(seq, 1);
    let bytes = batch(2).encode_to_vec();
    let forged = Batch {
        signature: Some(thief.identity.sign(Use::Batch, &bytes)),
        payload: Bytes::from(bytes),
    };
    link.send(Bytes::from(Frame { body: Some(frame::Body::Batch(forged)) }.encode_to_vec()))
        .await?;
    assert_eq!(hung_up(&mut link).await?, ByeCode::ByeSignature);

    // The node itself goes on where the stream stands.
    let (mut link, seq) = honest.greeted(&alpha, DOMAIN).await?;
    assert_eq!(seq, 1, "nothing of the thief was applied since");
    let honest_batch = {
        let payload = batch(2).encode_to_vec();
        let signature = Some(keys.sign(Use::Batch, &payload));
        Batch { payload: payload.into(), signature }
    };
    say(&mut link, frame::Body::Batch(honest_batch)).await?;
    assert!(matches!(hear(&mut link).await?, frame::Body::Ack(ack) if ack.seq == 2));
    let view = alpha.services.store().view();
    assert_eq!(schema::CURSORS.get(&view, DOMAIN)?.map(|cursor| cursor.seq), Some(2));
    Ok(())
}
