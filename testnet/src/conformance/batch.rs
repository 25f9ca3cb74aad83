//! Section 4: streams of events.

use bytes::Bytes;
use federation::identity::Identity;
use federation::signed::Use;
use futures_util::SinkExt as _;
use prost::Message as _;
use proto::federation::{
    Batch, BatchPayload, ByeCode, Event, EventKind, Hello, Signature, Welcome, frame,
};

use super::Case;
use super::peer::{EPOCH, Outcome, Peer, ends, event, hangs_up, hear, say};

fn nothing() -> Event {
    Event { kind: EventKind::EventNothing as u32, body: Bytes::new(), time_ms: 1 }
}

/// What comes next on the stream.
fn next(peer: &Peer) -> BatchPayload {
    peer.payload(peer.seq + 1, vec![nothing()])
}

fn refused(name: &str, code: ByeCode, make: fn(&Peer) -> Batch) -> Case {
    Case::new("4", format!("batch: {name}"), move |peer| {
        Box::pin(async move {
            // Where the stream stands.
            peer.seq = peer.welcomed().await?.1.seq;
            peer.refuses_batch(make(peer), code).await
        })
    })
}

fn signed_by(peer: &Peer, sign: impl FnOnce(&[u8]) -> Option<Signature>) -> Batch {
    let payload = next(peer).encode_to_vec();
    let signature = sign(&payload);
    Batch { payload: payload.into(), signature }
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        refused("signed with another key", ByeCode::ByeSignature, |peer| {
            signed_by(peer, |bytes| Some(Identity::new([9; 32], 0).sign(Use::Batch, bytes)))
        }),
        refused("signed for another use", ByeCode::ByeSignature, |peer| {
            signed_by(peer, |bytes| Some(peer.identity.sign(Use::Document, bytes)))
        }),
        refused("not signed", ByeCode::ByeSignature, |peer| signed_by(peer, |_| None)),
        refused("with a signature of 63 bytes", ByeCode::ByeSignature, |peer| {
            signed_by(peer, |bytes| {
                let Signature { key, signature } = peer.identity.sign(Use::Batch, bytes);
                Some(Signature { key, signature: signature.slice(..63) })
            })
        }),
        refused("changed after it was signed", ByeCode::ByeSignature, |peer| Batch {
            payload: BatchPayload { time_ms: 2, ..next(peer) }.encode_to_vec().into(),
            ..peer.batch(&next(peer))
        }),
        refused("of another origin", ByeCode::ByeIdentity, |peer| {
            peer.batch(&BatchPayload { origin: "nobody.example".into(), ..next(peer) })
        }),
        refused("for another audience", ByeCode::ByeAudience, |peer| {
            peer.batch(&BatchPayload { audience: "nobody.example".into(), ..next(peer) })
        }),
        refused("of another epoch than the hello", ByeCode::ByeOrder, |peer| {
            peer.batch(&BatchPayload { epoch: EPOCH + 1, ..next(peer) })
        }),
        refused("that leaves an event out", ByeCode::ByeOrder, |peer| {
            peer.batch(&BatchPayload { first_seq: peer.seq + 2, ..next(peer) })
        }),
        refused("from before the cursor", ByeCode::ByeOrder, |peer| {
            peer.batch(&BatchPayload { first_seq: 0, ..next(peer) })
        }),
        refused("without events", ByeCode::ByeTooLarge, |peer| {
            peer.batch(&BatchPayload { events: Vec::new(), ..next(peer) })
        }),
        refused("of 4,097 events", ByeCode::ByeTooLarge, |peer| {
            peer.batch(&BatchPayload { events: vec![nothing(); 4_097], ..next(peer) })
        }),
        refused("that is none", ByeCode::ByeMalformed, |peer| {
            let payload = Bytes::from_static(b"\xff\xff");
            let signature = Some(peer.identity.sign(Use::Batch, &payload));
            Batch { payload, signature }
        }),
        Case::new("4", "batch: over 1 MiB", |peer| {
            Box::pin(async move {
                let (mut frames, _) = peer.welcomed().await?;
                frames.send(Bytes::from(vec![0; (1 << 20) + 1])).await.ok();
                ends(&mut frames).await
            })
        }),
        Case::new("4", "batch: 4,096 events at once", |peer| {
            Box::pin(async move {
                let ack = peer.send(vec![nothing(); 4_096]).await?;
                anyhow::ensure!(ack.refusals.is_empty(), "{ack:?}");
                Ok(())
            })
        }),
        Case::new("4", "events: a place without an event", |peer| {
            Box::pin(peer.comes_to(nothing(), Outcome::Applied))
        }),
        Case::new("10", "events: of an unknown kind are put aside", |peer| {
            let unknown = Event { kind: 9_999, ..nothing() };
            Box::pin(peer.comes_to(unknown, Outcome::PutAside))
        }),
        Case::new("4", "events: one that does not decode is put aside", |peer| {
            let body = Bytes::from_static(b"\xff\xff");
            let garbage = Event { kind: EventKind::EventChat as u32, body, time_ms: 1 };
            Box::pin(peer.comes_to(garbage, Outcome::PutAside))
        }),
        Case::new("4", "events: a bad one does not hold up those behind it", |peer| {
            Box::pin(async move {
                let bad = Event { kind: 9_999, ..nothing() };
                let ack = peer.send(vec![nothing(), bad, nothing()]).await?;
                anyhow::ensure!(ack.refusals.is_empty(), "{ack:?}");
                Ok(())
            })
        }),
        Case::new("10", "batch: fields that are not known are ignored", |peer| {
            Box::pin(async move {
                let (mut frames, welcome) = peer.welcomed().await?;
                let payload = peer.payload(welcome.seq + 1, vec![nothing()]);
                let mut payload = payload.encode_to_vec();
                // Field 1000, a varint.
                payload.extend([0xc0, 0x3e, 0x01]);
                let signature = Some(peer.identity.sign(Use::Batch, &payload));
                let batch = Batch { payload: payload.into(), signature };
                say(&mut frames, frame::Body::Batch(batch)).await?;
                match hear(&mut frames).await? {
                    frame::Body::Ack(ack) if ack.seq == welcome.seq + 1 => Ok(()),
                    other => anyhow::bail!("{other:?}"),
                }
            })
        }),
        Case::new("4", "batch: the same again ends the link", |peer| {
            Box::pin(async move {
                let (mut frames, welcome) = peer.welcomed().await?;
                let batch = peer.batch(&peer.payload(welcome.seq + 1, vec![nothing()]));
                say(&mut frames, frame::Body::Batch(batch.clone())).await?;
                let frame::Body::Ack(ack) = hear(&mut frames).await? else {
                    anyhow::bail!("not acknowledged");
                };
                anyhow::ensure!(ack.seq == welcome.seq + 1, "{ack:?}");
                say(&mut frames, frame::Body::Batch(batch)).await?;
                hangs_up(&mut frames, ByeCode::ByeOrder).await
            })
        }),
        Case::new("4", "stream: it goes on where it stood", |peer| {
            Box::pin(async move {
                peer.send(vec![nothing(); 3]).await?;
                let (_, welcome) = peer.welcomed().await?;
                anyhow::ensure!(
                    (welcome.epoch, welcome.seq) == (EPOCH, peer.seq),
                    "{} expected: {welcome:?}",
                    peer.seq
                );
                Ok(())
            })
        }),
        Case::new("4", "stream: what was acknowledged is not wanted again", |peer| {
            Box::pin(async move {
                let acknowledged = peer.welcomed().await?.1.seq + 100;
                let hello = Hello { acknowledged, ..peer.hello() };
                match peer.greet(hello).await?.1 {
                    frame::Body::Welcome(Welcome { seq, .. }) if seq == acknowledged => Ok(()),
                    other => anyhow::bail!("{other:?}"),
                }
            })
        }),
        Case::new("4", "stream: another epoch begins where its origin says", |peer| {
            Box::pin(async move {
                let hello = Hello { epoch: EPOCH + 1, acknowledged: 7, ..peer.hello() };
                match peer.greet(hello).await?.1 {
                    frame::Body::Welcome(Welcome { seq: 7, .. }) => Ok(()),
                    other => anyhow::bail!("{other:?}"),
                }
            })
        }),
        Case::new("4", "stream: a newer link ends the one before", |peer| {
            Box::pin(async move {
                let (mut older, _) = peer.welcomed().await?;
                let (_newer, _) = peer.welcomed().await?;
                ends(&mut older).await
            })
        }),
        Case::new("4", "stream: a welcome of the origin ends the link", |peer| {
            Box::pin(async move {
                let (mut frames, _) = peer.welcomed().await?;
                say(&mut frames, frame::Body::Welcome(Welcome::default())).await?;
                hangs_up(&mut frames, ByeCode::ByeMalformed).await
            })
        }),
        Case::new("4", "stream: acks are cumulative", |peer| {
            Box::pin(async move {
                let (mut frames, welcome) = peer.welcomed().await?;
                for n in 0..8 {
                    let batch = peer.payload(welcome.seq + 1 + n, vec![nothing()]);
                    say(&mut frames, frame::Body::Batch(peer.batch(&batch))).await?;
                }
                let mut acknowledged = welcome.seq;
                while acknowledged < welcome.seq + 8 {
                    let frame::Body::Ack(ack) = hear(&mut frames).await? else {
                        anyhow::bail!("not an ack");
                    };
                    anyhow::ensure!(ack.seq > acknowledged, "{ack:?} after {acknowledged}");
                    acknowledged = ack.seq;
                }
                Ok(())
            })
        }),
        Case::new("4", "events: a refusal names its place and the code", |peer| {
            Box::pin(async move {
                let request = proto::federation::FriendRequest {
                    from: Some(super::peer::profile(super::peer::USER)),
                    to: format!("nobody@{}", peer.domain()),
                    ..Default::default()
                };
                let bad = event(EventKind::EventFriendRequest, &request);
                let ack = peer.send(vec![nothing(), bad]).await?;
                let refused: Vec<_> = ack.refusals.iter().map(|r| (r.seq, r.code)).collect();
                anyhow::ensure!(refused == [(peer.seq, 1_004)], "{ack:?}");
                Ok(())
            })
        }),
    ]
}
