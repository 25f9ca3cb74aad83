//! Section 8, of a node with members in a group of another one: the peer is the home.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use federation::identity::Identity;
use federation::signed::Use;
use prost::Message as _;
use proto::federation::{
    EntryHeader, Event, EventKind, GroupEntry, GroupHead, GroupMember, GroupMessage, GroupSnapshot,
    Heads, Mandate, Notice, SignedHead, SignedMandate, request, response,
};
use proto::sdkws::{GroupInfo, MsgData};
use sha2::{Digest as _, Sha256};
use store::group_log::entry_hash;

use super::Case;
use super::peer::{Outcome, Peer, USER, event, profile, text};
use crate::Result;

/// A group of the peer, and how far its log has come.
struct Log {
    group: String,
    epoch: u64,
    seq: u64,
    hash: Vec<u8>,
    messages: i64,
}

impl Log {
    /// A group of its own for each case.
    async fn begin(peer: &mut Peer) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let group = format!("{number}@conformance.example");
        let mut log = Self { group, epoch: 1, seq: 0, hash: Vec::new(), messages: 0 };
        peer.comes_to(log.snapshot(peer), Outcome::Applied).await?;
        let members = vec![member(&peer.alice(), 20, 2)];
        let entry = log.entry(peer, EntryHeader { members, ..EntryHeader::default() }, Vec::new());
        peer.comes_to(entry, Outcome::Applied).await?;
        log.is_where(peer).await?;
        Ok(log)
    }

    fn info(&self) -> GroupInfo {
        GroupInfo {
            group_id: self.group.clone(),
            group_name: "of the peer".into(),
            owner_user_id: USER.into(),
            group_type: 2,
            member_count: 2,
            ..GroupInfo::default()
        }
    }

    fn snapshot_of(&self, info: &GroupInfo) -> GroupSnapshot {
        GroupSnapshot {
            group: self.group.clone(),
            epoch: self.epoch,
            info: info.encode_to_vec().into(),
            members: vec![member(USER, 100, 1)],
            ..GroupSnapshot::default()
        }
    }

    fn snapshot(&self, _: &Peer) -> Event {
        event(EventKind::EventGroupSnapshot, &self.snapshot_of(&self.info()))
    }

    /// The next entry, as one who is right sends it.
    fn entry(&mut self, peer: &Peer, header: EntryHeader, contents: Vec<Bytes>) -> Event {
        self.seq += 1;
        let header = EntryHeader {
            group: self.group.clone(),
            epoch: self.epoch,
            seq: self.seq,
            previous: self.hash.clone().into(),
            time_ms: 1,
            ..header
        };
        let header = header.encode_to_vec();
        self.hash = entry_hash(&header);
        let head = Some(peer.identity.sign(Use::Head, &self.head().encode_to_vec()));
        event(EventKind::EventGroupEntry, &GroupEntry { header: header.into(), contents, head })
    }

    fn head(&self) -> GroupHead {
        GroupHead {
            group: self.group.clone(),
            epoch: self.epoch,
            seq: self.seq,
            hash: self.hash.clone().into(),
        }
    }

    fn signed_head(&self, peer: &Peer, head: &GroupHead) -> SignedHead {
        let head = head.encode_to_vec();
        let signature = Some(peer.identity.sign(Use::Head, &head));
        SignedHead { head: head.into(), signature }
    }

    fn place(&mut self, content: &Bytes) -> GroupMessage {
        self.messages += 1;
        GroupMessage {
            seq: self.messages,
            send_time_ms: self.messages,
            digest: Sha256::digest(content).to_vec().into(),
            ..GroupMessage::default()
        }
    }

    fn message(&mut self, peer: &Peer, message: &MsgData) -> Event {
        let content: Bytes = message.encode_to_vec().into();
        let placed = self.place(&content);
        let header = EntryHeader { messages: vec![placed], ..EntryHeader::default() };
        self.entry(peer, header, vec![content])
    }

    fn said(&self, by: &str, what: &str) -> MsgData {
        MsgData {
            send_id: by.into(),
            group_id: self.group.clone(),
            session_type: 3,
            client_msg_id: format!("{}-{what}", self.group),
            ..text(what)
        }
    }

    /// What the node says of how far the log has come.
    async fn shown(&self, peer: &Peer) -> Result<Option<GroupHead>> {
        let heads = vec![self.signed_head(peer, &self.head())];
        match peer.answers(request::Body::Heads(Heads { heads })).await? {
            Some(response::Body::Heads(heads)) => {
                let head = heads.heads.first().map(|signed| GroupHead::decode(signed.head.clone()));
                Ok(head.transpose()?)
            }
            other => anyhow::bail!("{other:?}"),
        }
    }

    /// The node has followed the log to its end.
    async fn is_where(&self, peer: &Peer) -> Result {
        let shown = self.shown(peer).await?;
        anyhow::ensure!(shown.as_ref() == Some(&self.head()), "{:?}, not {shown:?}", self.head());
        Ok(())
    }

    /// The node stands where it stood before the last entry.
    async fn is_before(&self, peer: &Peer) -> Result {
        let shown = self.shown(peer).await?.unwrap_or_default();
        anyhow::ensure!(shown.seq < self.seq, "it has followed: {shown:?}");
        Ok(())
    }
}

fn member(user_id: &str, role_level: i32, order: u64) -> GroupMember {
    let user = Some(profile(user_id));
    GroupMember { user, role_level, order, joined_ms: 1, ..GroupMember::default() }
}

/// An entry that is right but for its header.
fn header(name: &str, expected: Outcome, make: fn(&Peer, &mut Log) -> EntryHeader) -> Case {
    Case::new("8", format!("entry: {name}"), move |peer| {
        Box::pin(async move {
            let mut log = Log::begin(peer).await?;
            let header = make(peer, &mut log);
            let entry = log.entry(peer, header, Vec::new());
            peer.comes_to(entry, expected).await?;
            match expected {
                Outcome::Applied => log.is_where(peer).await,
                _ => log.is_before(peer).await,
            }
        })
    })
}

fn snapshot(name: &str, make: fn(&Log) -> GroupSnapshot) -> Case {
    Case::new("8", format!("snapshot: {name}"), move |peer| {
        Box::pin(async move {
            let log = Log {
                group: "900@conformance.example".into(),
                epoch: 1,
                seq: 0,
                hash: Vec::new(),
                messages: 0,
            };
            let event = event(EventKind::EventGroupSnapshot, &make(&log));
            peer.comes_to(event, Outcome::PutAside).await
        })
    })
}

fn notice(name: &str, expected: Outcome, change: fn(&Peer, &mut Notice, &mut MsgData)) -> Case {
    Case::new("8", format!("notice: {name}"), move |peer| {
        Box::pin(async move {
            let mut message = MsgData {
                send_id: USER.into(),
                recv_id: peer.alice(),
                session_type: 4,
                content_type: 1_505,
                content: Bytes::from_static(b"{\"detail\":\"{}\"}"),
                client_msg_id: "notice".into(),
                server_msg_id: "notice".into(),
                msg_from: 200,
                options: [("isNotNotification".to_owned(), false)].into(),
                ..MsgData::default()
            };
            let group = "901@conformance.example".to_owned();
            let mut notice = Notice { group, message: Bytes::new() };
            change(peer, &mut notice, &mut message);
            notice.message = message.encode_to_vec().into();
            peer.comes_to(event(EventKind::EventNotice, &notice), expected).await
        })
    })
}

/// What the user of the node sees of a group: text, or `-` for what is gone.
async fn texts(peer: &Peer, log: &Log) -> Result<Option<Vec<String>>> {
    let Some(inside) = &peer.target()?.inside else { return Ok(None) };
    let mut socket = inside.client.connect(crate::Wire::JSON).await?;
    let group = log.group.replace('.', "_");
    let messages = socket.history_from(&format!("sg_{group}"), 1).await?;
    let texts = messages.iter().map(|message| {
        let content: serde_json::Value =
            serde_json::from_slice(&message.content).unwrap_or_default();
        content["content"].as_str().unwrap_or("-").to_owned()
    });
    Ok(Some(texts.collect()))
}

pub(super) fn cases() -> Vec<Case> {
    use Outcome::{Applied, PutAside};
    let mut cases = vec![
        Case::new("8", "entry: a message of a user of the home", |peer| {
            Box::pin(async move {
                let mut log = Log::begin(peer).await?;
                let said = log.said(USER, "from home");
                let entry = log.message(peer, &said);
                peer.comes_to(entry, Applied).await?;
                log.is_where(peer).await?;
                let Some(texts) = texts(peer, &log).await? else { return Ok(()) };
                anyhow::ensure!(texts == ["from home"], "{texts:?}");
                Ok(())
            })
        }),
        Case::new(
            "8",
            "entry: words put into a mouth are not shown, and hold their place",
            |peer| {
                Box::pin(async move {
                    let mut log = Log::begin(peer).await?;
                    let alice = peer.alice();
                    let unsigned = log.said(&alice, "never said");
                    let entry = log.message(peer, &unsigned);
                    peer.comes_to(entry, Applied).await?;
                    let said = log.said(USER, "said");
                    let entry = log.message(peer, &said);
                    peer.comes_to(entry, Applied).await?;
                    log.is_where(peer).await?;
                    let Some(texts) = texts(peer, &log).await? else { return Ok(()) };
                    let shown: Vec<&String> = texts.iter().filter(|text| *text != "-").collect();
                    anyhow::ensure!(shown == ["said"], "{texts:?}");
                    Ok(())
                })
            },
        ),
        Case::new("8", "entry: the same again changes nothing", |peer| {
            Box::pin(async move {
                let mut log = Log::begin(peer).await?;
                let said = log.said(USER, "once");
                let entry = log.message(peer, &said);
                peer.comes_to(entry.clone(), Applied).await?;
                peer.comes_to(entry, Applied).await?;
                log.is_where(peer).await?;
                let Some(texts) = texts(peer, &log).await? else { return Ok(()) };
                anyhow::ensure!(texts == ["once"], "{texts:?}");
                Ok(())
            })
        }),
        Case::new("8", "entry: a content that does not fit its digest", |peer| {
            Box::pin(async move {
                let mut log = Log::begin(peer).await?;
                let said: Bytes = log.said(USER, "one thing").encode_to_vec().into();
                let other: Bytes = log.said(USER, "another").encode_to_vec().into();
                let mut placed = log.place(&said);
                placed.digest = Sha256::digest(&said).to_vec().into();
                let header = EntryHeader { messages: vec![placed], ..EntryHeader::default() };
                let entry = log.entry(peer, header, vec![other]);
                let ack = peer.send(vec![entry]).await?;
                anyhow::ensure!(ack.refusals.is_empty(), "{ack:?}");
                let Some(texts) = texts(peer, &log).await? else { return Ok(()) };
                anyhow::ensure!(!texts.iter().any(|text| text == "another"), "{texts:?}");
                Ok(())
            })
        }),
        Case::new("8", "entry: one that is missing is asked for", |peer| {
            Box::pin(async move {
                let mut log = Log::begin(peer).await?;
                let (seq, group) = (log.seq, log.group.clone());
                let lost = log.said(USER, "lost");
                let _ = log.message(peer, &lost);
                let said = log.said(USER, "behind it");
                let entry = log.message(peer, &said);
                peer.comes_to(entry, Applied).await?;
                log.is_before(peer).await?;
                peer.was_asked(move |asked| match asked {
                    request::Body::GroupLog(known) => known.group == group && known.seq == seq,
                    _ => false,
                })
                .await
            })
        }),
        Case::new("8", "entry: one that names another one before it is not followed", |peer| {
            Box::pin(async move {
                let mut log = Log::begin(peer).await?;
                log.hash = vec![7; 32];
                let said = log.said(USER, "of another history");
                let entry = log.message(peer, &said);
                peer.comes_to(entry, Applied).await?;
                log.is_before(peer).await
            })
        }),
        Case::new("8", "entry: of a group of a third domain", |peer| {
            Box::pin(async move {
                let mut log = Log::begin(peer).await?;
                log.group = "1@nobody.example".into();
                let entry = log.entry(peer, EntryHeader::default(), Vec::new());
                peer.comes_to(entry, PutAside).await
            })
        }),
        Case::new("8", "entry: of a group of the audience", |peer| {
            Box::pin(async move {
                let mut log = Log::begin(peer).await?;
                log.group = peer.group();
                if log.group.is_empty() {
                    log.group = format!("1@{}", peer.domain());
                }
                let entry = log.entry(peer, EntryHeader::default(), Vec::new());
                peer.comes_to(entry, PutAside).await
            })
        }),
        Case::new("8", "entry: the first of the next epoch", |peer| {
            Box::pin(async move {
                let mut log = Log::begin(peer).await?;
                (log.epoch, log.seq) = (2, 0);
                let entry = log.entry(peer, EntryHeader::default(), Vec::new());
                peer.comes_to(entry, Applied).await?;
                log.is_where(peer).await
            })
        }),
        Case::new("8", "entry: a home that nobody has named is not one", |peer| {
            Box::pin(async move {
                let mut log = Log::begin(peer).await?;
                // A group of the audience, which the peer says it has taken over.
                log.group = format!("1@{}", peer.domain());
                (log.epoch, log.seq) = (9, 0);
                let mandate = Mandate {
                    group: log.group.clone(),
                    home: peer.domain(),
                    to: super::peer::OWN.into(),
                    epoch: 8,
                    seq: 1,
                    ..Mandate::default()
                };
                let mandate = mandate.encode_to_vec();
                let signature = Some(peer.identity.sign(Use::Mandate, &mandate));
                let header = EntryHeader {
                    home: super::peer::OWN.into(),
                    warrant: Some(SignedMandate { mandate: mandate.into(), signature }),
                    ..EntryHeader::default()
                };
                let entry = log.entry(peer, header, Vec::new());
                peer.comes_to(entry, PutAside).await
            })
        }),
        header("without anything in it", Applied, |_, _| EntryHeader::default()),
        header("another name of the group", Applied, |_, log| {
            let info = GroupInfo { group_name: "renamed".into(), ..log.info() };
            EntryHeader { info: info.encode_to_vec().into(), ..EntryHeader::default() }
        }),
        header("the info of another group", PutAside, |_, log| {
            let info = GroupInfo { group_id: "9@conformance.example".into(), ..log.info() };
            EntryHeader { info: info.encode_to_vec().into(), ..EntryHeader::default() }
        }),
        header("an info that is none", PutAside, |_, _| EntryHeader {
            info: Bytes::from_static(b"\xff\xff"),
            ..EntryHeader::default()
        }),
        header("a member of a third domain", Applied, |_, _| EntryHeader {
            members: vec![member("x@nobody.example", 20, 3)],
            ..EntryHeader::default()
        }),
        header("a member of the audience who does not exist", PutAside, |peer, _| EntryHeader {
            members: vec![member(&format!("nobody@{}", peer.domain()), 20, 3)],
            ..EntryHeader::default()
        }),
        header("a member without a domain", PutAside, |_, _| EntryHeader {
            members: vec![member("x", 20, 3)],
            ..EntryHeader::default()
        }),
        header("a member with a role that is none", PutAside, |_, _| EntryHeader {
            members: vec![member(USER, 77, 1)],
            ..EntryHeader::default()
        }),
        header("a member leaves", Applied, |_, _| EntryHeader {
            members: vec![GroupMember { gone: true, ..member("x@nobody.example", 20, 3) }],
            ..EntryHeader::default()
        }),
        header("a message with a seq below 0", PutAside, |_, log| {
            let content = Bytes::from(log.said(USER, "below").encode_to_vec());
            let placed = GroupMessage { seq: -1, ..log.place(&content) };
            EntryHeader {
                messages: vec![GroupMessage { content, ..placed }],
                ..EntryHeader::default()
            }
        }),
        header("a message from the far future", PutAside, |_, log| {
            let content = Bytes::from(log.said(USER, "late").encode_to_vec());
            let placed = GroupMessage { send_time_ms: i64::MAX, ..log.place(&content) };
            EntryHeader { messages: vec![placed], ..EntryHeader::default() }
        }),
        header("a message that was erased before it came", Applied, |_, log| {
            let content = Bytes::from(log.said(USER, "erased").encode_to_vec());
            EntryHeader { messages: vec![log.place(&content)], ..EntryHeader::default() }
        }),
        header("a revoke of a message that is not there", Applied, |_, _| EntryHeader {
            changes: vec![proto::federation::MessageChange { seq: 77, revoked: None }],
            ..EntryHeader::default()
        }),
        header("everything is cleared", Applied, |_, _| EntryHeader {
            cleared_to: 5,
            ..EntryHeader::default()
        }),
        header("a mandate for another node", Applied, |peer, log| {
            let mandate = Mandate {
                group: log.group.clone(),
                home: super::peer::OWN.into(),
                to: "nobody.example".into(),
                epoch: 1,
                seq: log.seq + 1,
                time_ms: 1,
                ..Mandate::default()
            };
            let mandate = mandate.encode_to_vec();
            let signature = Some(peer.identity.sign(Use::Mandate, &mandate));
            let mandate = Some(SignedMandate { mandate: mandate.into(), signature });
            EntryHeader { mandate, ..EntryHeader::default() }
        }),
        snapshot("of a group of a third domain", |log| GroupSnapshot {
            group: "1@nobody.example".into(),
            ..log.snapshot_of(&log.info())
        }),
        snapshot("with the info of another group", |log| {
            log.snapshot_of(&GroupInfo { group_id: "9@conformance.example".into(), ..log.info() })
        }),
        snapshot("without info", |log| GroupSnapshot {
            info: Bytes::new(),
            ..log.snapshot_of(&log.info())
        }),
        snapshot("with a place below 0", |log| GroupSnapshot {
            chat_seq: -1,
            ..log.snapshot_of(&log.info())
        }),
        snapshot("with warrants that nobody has signed", |log| {
            let mandate = Mandate {
                group: "1@nobody.example".into(),
                home: "nobody.example".into(),
                to: super::peer::OWN.into(),
                ..Mandate::default()
            };
            let mandate = mandate.encode_to_vec();
            let signature = Some(Identity::new([9; 32], 0).sign(Use::Mandate, &mandate));
            let warrant = SignedMandate { mandate: mandate.into(), signature };
            let info = GroupInfo { group_id: "1@nobody.example".into(), ..log.info() };
            GroupSnapshot {
                group: "1@nobody.example".into(),
                warrants: vec![warrant],
                ..log.snapshot_of(&info)
            }
        }),
        notice("that a request was accepted", Applied, |_, _, _| {}),
        notice("of another kind", PutAside, |_, _, message| message.content_type = 1_201),
        notice("that is a message", PutAside, |_, _, message| message.options.clear()),
        notice("for a user of a third domain", PutAside, |_, _, message| {
            message.recv_id = "x@nobody.example".into();
        }),
        notice("of a group of a third domain", PutAside, |_, notice, _| {
            notice.group = "1@nobody.example".into();
        }),
    ];
    cases.push(Case::new("8", "snapshot: of an epoch before the one that is known", |peer| {
        Box::pin(async move {
            let mut log = Log::begin(peer).await?;
            (log.epoch, log.seq) = (2, 0);
            let entry = log.entry(peer, EntryHeader::default(), Vec::new());
            peer.comes_to(entry, Applied).await?;
            log.epoch = 1;
            peer.comes_to(log.snapshot(peer), PutAside).await
        })
    }));
    cases.push(Case::new("8", "heads: over 100 are refused", |peer| {
        Box::pin(async move {
            let heads = vec![SignedHead::default(); 101];
            peer.refuses(request::Body::Heads(Heads { heads }), 1_001).await
        })
    }));
    cases.push(Case::new("8", "heads: one that is not of the home proves nothing", |peer| {
        Box::pin(async move {
            let mut log = Log::begin(peer).await?;
            let head = GroupHead { hash: vec![7; 32].into(), ..log.head() }.encode_to_vec();
            let signature = Some(Identity::new([9; 32], 0).sign(Use::Head, &head));
            let heads = vec![SignedHead { head: head.into(), signature }];
            peer.answers(request::Body::Heads(Heads { heads })).await?;
            let said = log.said(USER, "it goes on");
            let entry = log.message(peer, &said);
            peer.comes_to(entry, Applied).await?;
            log.is_where(peer).await
        })
    }));
    cases.push(Case::new("8", "heads: two histories prove that the home has lied", |peer| {
        Box::pin(async move {
            let mut log = Log::begin(peer).await?;
            let other = GroupHead { hash: vec![7; 32].into(), ..log.head() };
            let heads = vec![log.signed_head(peer, &other)];
            peer.answers(request::Body::Heads(Heads { heads })).await?;
            let said = log.said(USER, "not followed any more");
            let entry = log.message(peer, &said);
            peer.comes_to(entry, Applied).await?;
            log.is_before(peer).await
        })
    }));
    cases
}
