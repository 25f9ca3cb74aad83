//! Sections 2 to 4: who may speak, and how it begins.

use bytes::Bytes;
use federation::identity::Identity;
use federation::signed::Use;
use federation::transport::Lane;
use futures_util::SinkExt as _;
use prost::Message as _;
use proto::federation::{
    Ack, Batch, ByeCode, Hello, NodeDocument, NodeKey, SignedDocument, Welcome, frame,
};

use super::Case;
use super::peer::{EPOCH, OWN, Peer, ends, hangs_up, say};

fn refused(name: &str, code: ByeCode, make: fn(&Peer) -> Hello) -> Case {
    Case::new("3", format!("hello: {name}"), move |peer| {
        Box::pin(async move { peer.refuses_hello(make(peer), code).await })
    })
}

fn document(peer: &Peer) -> NodeDocument {
    let key = peer.identity.public_key().to_vec().into();
    NodeDocument {
        domain: OWN.into(),
        sequence: 1,
        time_ms: 1,
        keys: vec![NodeKey { public_key: key, ..NodeKey::default() }],
        addresses: peer.address().into_iter().collect(),
        versions: vec![1],
        ..NodeDocument::default()
    }
}

fn bad_document(name: &str, make: fn(&Peer) -> SignedDocument) -> Case {
    Case::new("2", format!("document: {name}"), move |peer| {
        Box::pin(async move {
            let hello = Hello { document: Some(make(peer)), ..peer.hello() };
            peer.refuses_hello(hello, ByeCode::ByeIdentity).await
        })
    })
}

fn first_frame(name: &str, body: fn(&Peer) -> frame::Body) -> Case {
    Case::new("3", format!("first frame: {name}"), move |peer| {
        Box::pin(async move {
            let mut frames = peer.open(Lane::Events).await?;
            say(&mut frames, body(peer)).await?;
            hangs_up(&mut frames, ByeCode::ByeMalformed).await
        })
    })
}

fn first_bytes(name: &str, bytes: &'static [u8]) -> Case {
    Case::new("3", format!("first frame: {name}"), move |peer| {
        Box::pin(async move {
            let mut frames = peer.open(Lane::Events).await?;
            frames.send(Bytes::from_static(bytes)).await?;
            hangs_up(&mut frames, ByeCode::ByeMalformed).await
        })
    })
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("3", "hello: welcome, with version, epoch and seq", |peer| {
            Box::pin(async move {
                let (_, welcome) = peer.welcomed().await?;
                anyhow::ensure!(welcome.version == 1, "{welcome:?}");
                anyhow::ensure!(welcome.seq == 0 || welcome.epoch == EPOCH, "{welcome:?}");
                Ok(())
            })
        }),
        Case::new("3", "hello: a version that both speak is chosen", |peer| {
            Box::pin(async move {
                let hello = Hello { versions: vec![9, 1, 7], ..peer.hello() };
                match peer.greet(hello).await?.1 {
                    frame::Body::Welcome(welcome) if welcome.version == 1 => Ok(()),
                    other => anyhow::bail!("{other:?}"),
                }
            })
        }),
        Case::new("2", "document: one that holds", |peer| {
            Box::pin(async move {
                let document = Some(peer.document(&document(peer)));
                let hello = Hello { document, ..peer.hello() };
                match peer.greet(hello).await?.1 {
                    frame::Body::Welcome(_) => Ok(()),
                    other => anyhow::bail!("{other:?}"),
                }
            })
        }),
        refused("of a domain of which nothing is known", ByeCode::ByeIdentity, |peer| Hello {
            origin: "nobody.example".into(),
            ..peer.hello()
        }),
        refused("of the node's own domain", ByeCode::ByeIdentity, |peer| Hello {
            origin: peer.domain(),
            ..peer.hello()
        }),
        refused("for another domain", ByeCode::ByeAudience, |peer| Hello {
            audience: "nobody.example".into(),
            ..peer.hello()
        }),
        refused("for nobody", ByeCode::ByeAudience, |peer| Hello {
            audience: String::new(),
            ..peer.hello()
        }),
        refused("only versions to come", ByeCode::ByeVersion, |peer| Hello {
            versions: vec![2, 9],
            ..peer.hello()
        }),
        refused("no version", ByeCode::ByeVersion, |peer| Hello {
            versions: Vec::new(),
            ..peer.hello()
        }),
        refused("no epoch", ByeCode::ByeMalformed, |peer| Hello { epoch: 0, ..peer.hello() }),
        refused("acknowledged more than there can be", ByeCode::ByeMalformed, |peer| Hello {
            acknowledged: u64::MAX,
            ..peer.hello()
        }),
    ];
    let origins = [
        ("none", ""),
        ("with a space", "no domain"),
        ("with a capital", "Conformance.example"),
        ("with an underscore", "conformance_example"),
        ("with an empty label", "conformance..example"),
        ("with a hyphen in front", "-conformance.example"),
        ("a number at the end", "192.0.2.1"),
        ("a dot at the end", "conformance.example."),
    ];
    for (name, origin) in origins {
        let name = format!("hello: a domain {name}");
        cases.push(Case::new("1", name, move |peer| {
            Box::pin(async move {
                let hello = Hello { origin: origin.into(), ..peer.hello() };
                peer.refuses_hello(hello, ByeCode::ByeMalformed).await
            })
        }));
    }
    cases.push(Case::new("1", "hello: a domain of 254 bytes", |peer| {
        Box::pin(async move {
            let origin = format!("{}.example", ["a".repeat(60).as_str(); 5].join("."));
            anyhow::ensure!(origin.len() > 253, "too short to try");
            peer.refuses_hello(Hello { origin, ..peer.hello() }, ByeCode::ByeMalformed).await
        })
    }));
    cases.extend([
        bad_document("of another domain", |peer| {
            peer.document(&NodeDocument { domain: "nobody.example".into(), ..document(peer) })
        }),
        bad_document("with another key alone", |peer| {
            let key = Identity::new([9; 32], 0).public_key().to_vec().into();
            let keys = vec![NodeKey { public_key: key, ..NodeKey::default() }];
            peer.document(&NodeDocument { keys, ..document(peer) })
        }),
        bad_document("without keys", |peer| {
            peer.document(&NodeDocument { keys: Vec::new(), ..document(peer) })
        }),
        bad_document("whose only key is revoked", |peer| {
            let mut document = document(peer);
            document.keys.iter_mut().for_each(|key| key.revoked_ms = 1);
            peer.document(&document)
        }),
        bad_document("not signed", |peer| SignedDocument {
            signatures: Vec::new(),
            ..peer.document(&document(peer))
        }),
        bad_document("changed after it was signed", |peer| SignedDocument {
            document: NodeDocument { sequence: 2, ..document(peer) }.encode_to_vec().into(),
            ..peer.document(&document(peer))
        }),
        bad_document("signed for another use", |peer| {
            let document = document(peer).encode_to_vec();
            let signatures = vec![peer.identity.sign(Use::Batch, &document)];
            SignedDocument { document: document.into(), signatures }
        }),
        bad_document("with one signature that does not hold", |peer| {
            let mut signed = peer.document(&document(peer));
            let other = Identity::new([9; 32], 0).sign(Use::Batch, &signed.document);
            signed.signatures.push(other);
            signed
        }),
        bad_document("with 17 keys", |peer| {
            let document = document(peer);
            let keys = document.keys.iter().cycle().take(17).cloned().collect();
            peer.document(&NodeDocument { keys, ..document })
        }),
        bad_document("with 17 addresses", |peer| {
            let document = document(peer);
            let addresses = document.addresses.iter().cycle().take(17).cloned().collect();
            peer.document(&NodeDocument { addresses, ..document })
        }),
        bad_document("over 16 KiB", |peer| {
            let document = document(peer);
            peer.document(&NodeDocument { addresses: vec!["x".repeat(20_000)], ..document })
        }),
        bad_document("that is none", |peer| {
            let document = Bytes::from_static(b"\xff\xff");
            let signatures = vec![peer.identity.sign(Use::Document, &document)];
            SignedDocument { document, signatures }
        }),
        first_frame("an ack", |_| frame::Body::Ack(Ack::default())),
        first_frame("a welcome", |_| frame::Body::Welcome(Welcome::default())),
        first_frame("a batch", |_| frame::Body::Batch(Batch::default())),
        first_bytes("garbage", b"\xff\xff\xff garbage"),
        first_bytes("nothing", b""),
        Case::new("3", "first frame: over 1 MiB", |peer| {
            Box::pin(async move {
                let mut frames = peer.open(Lane::Events).await?;
                frames.send(Bytes::from(vec![0; (1 << 20) + 1])).await.ok();
                ends(&mut frames).await
            })
        }),
    ]);
    cases
}
