//! Section 7: chats of two.

use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use prost::Message as _;
use proto::federation::{Chat, Clear, Delete, Event, EventKind, MessageRef, Read, Revoke};
use proto::sdkws::MsgData;

use super::Case;
use super::peer::{Outcome, Peer, USER, event, text};
use crate::{Result, Wire};

fn case(name: &str, expected: Outcome, make: fn(&Peer) -> Event) -> Case {
    Case::new("7", name, move |peer| {
        Box::pin(async move { peer.comes_to(make(peer), expected).await })
    })
}

fn message(peer: &Peer, id: &str) -> MsgData {
    MsgData { recv_id: peer.alice(), session_type: 1, ..text(id) }
}

fn chat(message: &MsgData, author_seq: i64, send_time_ms: i64) -> Event {
    let message = message.encode_to_vec().into();
    event(EventKind::EventChat, &Chat { message, author_seq, send_time_ms })
}

/// A message that differs from one that is taken in one thing.
fn odd(name: &str, expected: Outcome, change: fn(&Peer, &mut MsgData)) -> Case {
    let id = name.replace(' ', "-");
    Case::new("7", format!("message: {name}"), move |peer| {
        let id = id.clone();
        Box::pin(async move {
            let mut message = message(peer, &id);
            change(peer, &mut message);
            static NEXT: AtomicI64 = AtomicI64::new(1_000);
            let author_seq = NEXT.fetch_add(1, Ordering::Relaxed);
            peer.comes_to(chat(&message, author_seq, 1), expected).await
        })
    })
}

/// What the user of the target sees of the chat, as clientMsgIDs with send times.
async fn seen(peer: &Peer) -> Result<Option<Vec<(String, i64)>>> {
    let Some(inside) = &peer.target()?.inside else { return Ok(None) };
    let mut socket = inside.client.connect(Wire::JSON).await?;
    let messages = socket.history("p@conformance_example").await?;
    let of_peer = messages.into_iter().filter(|m| m.content_type == 101);
    Ok(Some(of_peer.map(|m| (m.client_msg_id, m.send_time)).collect()))
}

fn reference(author_seq: i64) -> MessageRef {
    MessageRef { author: USER.into(), author_seq }
}

pub(super) fn cases() -> Vec<Case> {
    use Outcome::{Applied, PutAside, Refused};
    vec![
        case("message: a text", Applied, |peer| chat(&message(peer, "first"), 1, 1_000)),
        Case::new("7", "message: the same again is stored once", |peer| {
            Box::pin(async move {
                peer.comes_to(chat(&message(peer, "first"), 1, 1_000), Applied).await?;
                let Some(seen) = seen(peer).await? else { return Ok(()) };
                let count = seen.iter().filter(|(id, _)| id == "first").count();
                anyhow::ensure!(count == 1, "{count} times");
                Ok(())
            })
        }),
        Case::new("7", "message: its time stays, and rises", |peer| {
            Box::pin(async move {
                let earlier = chat(&message(peer, "earlier"), 2, 500);
                let hour = 3_600_000 * 1_000_000;
                let ahead = chat(&message(peer, "ahead"), 3, hour);
                peer.comes_to(earlier, Applied).await?;
                peer.comes_to(ahead, Applied).await?;
                let Some(seen) = seen(peer).await? else { return Ok(()) };
                let times: Vec<i64> = seen.iter().map(|(_, time)| *time).collect();
                anyhow::ensure!(times.is_sorted_by(|a, b| a < b), "{seen:?}");
                anyhow::ensure!(times.iter().all(|time| *time < hour), "{seen:?}");
                Ok(())
            })
        }),
        odd("by a user of a third domain", PutAside, |_, m| m.send_id = "x@nobody.example".into()),
        odd("by the receiver", PutAside, |peer, m| m.send_id = peer.alice()),
        odd("by an ID without a domain", PutAside, |_, m| m.send_id = "p".into()),
        odd("by nobody", PutAside, |_, m| m.send_id.clear()),
        odd("to a user of a third domain", PutAside, |_, m| m.recv_id = "x@nobody.example".into()),
        odd("to a user of the origin", PutAside, |_, m| m.recv_id = USER.into()),
        odd("to nobody", PutAside, |_, m| m.recv_id.clear()),
        odd("to a user who does not exist", Refused(1_004), |peer, m| {
            m.recv_id = format!("nobody@{}", peer.domain());
        }),
        odd("of a group", PutAside, |_, m| m.session_type = 3),
        odd("of a session type that is none", PutAside, |_, m| m.session_type = 99),
        odd("with system content", PutAside, |_, m| m.content_type = 1_201),
        odd("that is not stored", PutAside, |_, m| {
            m.options.insert("history".into(), false);
        }),
        odd("that says it is a notification", PutAside, |_, m| {
            m.options.insert("isNotNotification".into(), false);
        }),
        odd("without a clientMsgID", PutAside, |_, m| m.client_msg_id.clear()),
        odd("with a clientMsgID of 129 bytes", PutAside, |_, m| m.client_msg_id = "x".repeat(129)),
        odd("without a serverMsgID", PutAside, |_, m| m.server_msg_id.clear()),
        odd("with a serverMsgID of 129 bytes", PutAside, |_, m| m.server_msg_id = "x".repeat(129)),
        case("message: without a place on the author's node", PutAside, |peer| {
            chat(&message(peer, "no-place"), 0, 1)
        }),
        odd("without content", Refused(1_001), |_, m| m.content = Bytes::new()),
        case("revoke: by the author", Applied, |peer| {
            let body = Revoke {
                by: USER.into(),
                peer: peer.alice(),
                message: Some(reference(1)),
                time_ms: 1,
            };
            event(EventKind::EventRevoke, &body)
        }),
        case("revoke: by a user of the audience", PutAside, |peer| {
            let body = Revoke {
                by: peer.alice(),
                peer: USER.into(),
                message: Some(reference(2)),
                time_ms: 1,
            };
            event(EventKind::EventRevoke, &body)
        }),
        Case::new("7", "revoke: what the other has written stays", |peer| {
            Box::pin(async move {
                let message = MessageRef { author: peer.alice(), author_seq: 1 };
                let body = Revoke {
                    by: USER.into(),
                    peer: peer.alice(),
                    message: Some(message),
                    time_ms: 1,
                };
                let ack = peer.send(vec![event(EventKind::EventRevoke, &body)]).await?;
                anyhow::ensure!(ack.refusals.len() <= 1, "{ack:?}");
                Ok(())
            })
        }),
        case("read: up to a seq", Applied, |peer| {
            let body =
                Read { reader: USER.into(), author: peer.alice(), up_to: 1, seqs: Vec::new() };
            event(EventKind::EventRead, &body)
        }),
        case("read: by a user of the audience", PutAside, |peer| {
            let body =
                Read { reader: peer.alice(), author: USER.into(), up_to: 1, seqs: Vec::new() };
            event(EventKind::EventRead, &body)
        }),
        case("delete: by a user of the origin", Applied, |peer| {
            let messages = vec![reference(2)];
            let body = Delete { by: USER.into(), peer: peer.alice(), messages };
            event(EventKind::EventDelete, &body)
        }),
        case("delete: by a user of a third domain", PutAside, |peer| {
            let messages = vec![reference(3)];
            let body = Delete { by: "x@nobody.example".into(), peer: peer.alice(), messages };
            event(EventKind::EventDelete, &body)
        }),
        case("clear: by a user of a third domain", PutAside, |peer| {
            let body = Clear {
                by: "x@nobody.example".into(),
                peer: peer.alice(),
                own_up_to: 9,
                peer_up_to: 9,
            };
            event(EventKind::EventClear, &body)
        }),
        Case::new("7", "clear: everything so far is gone for both", |peer| {
            Box::pin(async move {
                let body =
                    Clear { by: USER.into(), peer: peer.alice(), own_up_to: 3, peer_up_to: 100 };
                peer.comes_to(event(EventKind::EventClear, &body), Applied).await?;
                let Some(seen) = seen(peer).await? else { return Ok(()) };
                anyhow::ensure!(seen.is_empty(), "{seen:?}");
                Ok(())
            })
        }),
    ]
}
