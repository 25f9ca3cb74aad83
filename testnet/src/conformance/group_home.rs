//! Section 8, of a node that is the home of a group.

use bytes::Bytes;
use federation::identity::Identity;
use federation::signed::{Use, verify};
use prost::Message as _;
use proto::federation::{
    EntryHeader, Event, EventKind, GroupCall, GroupHead, GroupLogPart, GroupLogRequest, GroupSend,
    GroupsRequest, Heads, HistoryRequest, MayMove, MembersRequest, Signature, request, response,
};
use proto::sdkws::MsgData;
use serde_json::json;
use store::group_log::entry_hash;

use super::Case;
use super::peer::{Outcome, Peer, USER, event, text};
use crate::Result;

/// Acts of an ordinary member, and the code with which the home answers.
const CALLS: &[(&str, i32)] = &[
    // The owner is who it would be.
    ("/group/kick_group", 1_001),
    ("/group/set_group_member_info", 1_002),
    ("/group/transfer_group", 1_002),
    ("/group/set_group_successor", 1_002),
    ("/group/dismiss_group", 1_002),
    ("/group/mute_group", 1_002),
    ("/group/cancel_mute_group", 1_002),
    ("/group/mute_group_member", 1_002),
    ("/group/cancel_mute_group_member", 1_002),
    ("/group/group_application_response", 1_002),
    ("/group/set_group_info", 1_002),
    ("/group/set_group_info_ex", 1_002),
];

/// A body that has what each of them wants.
fn body_of(peer: &Peer) -> serde_json::Value {
    let (group, alice) = (peer.group(), peer.alice());
    json!({
        "groupID": group, "userID": alice, "kickedUserIDs": [alice], "mutedSeconds": 60,
        "oldOwnerUserID": alice, "newOwnerUserID": USER, "domain": "conformance.example",
        "members": [{ "groupID": group, "userID": alice, "nickname": "x" }],
        "groupInfoForSet": { "groupID": group, "groupName": "x" }, "groupName": "x",
        "fromUserID": alice, "handleResult": 1,
    })
}

fn call(peer: &Peer, caller: String, path: &str) -> request::Body {
    let body = body_of(peer).to_string();
    request::Body::GroupCall(GroupCall { caller, path: path.into(), body })
}

fn message(peer: &Peer, id: &str) -> MsgData {
    MsgData { group_id: peer.group(), session_type: 3, ..text(id) }
}

fn send(message: &[u8], signature: Option<Signature>) -> Event {
    let message = Bytes::copy_from_slice(message);
    event(EventKind::EventGroupSend, &GroupSend { message, signature })
}

fn signed(peer: &Peer, message: &MsgData) -> Event {
    let message = message.encode_to_vec();
    send(&message, Some(peer.identity.sign(Use::Message, &message)))
}

/// A message that differs from one that is taken in one thing.
fn odd(name: &str, expected: Outcome, change: fn(&Peer, &mut MsgData)) -> Case {
    let id = name.replace(' ', "-");
    Case::new("8", format!("send: {name}"), move |peer| {
        let id = id.clone();
        Box::pin(async move {
            let mut message = message(peer, &id);
            change(peer, &mut message);
            peer.comes_to(signed(peer, &message), expected).await
        })
    })
}

/// clientMsgIDs of the chat as the home tells them.
async fn history(peer: &Peer) -> Result<Vec<String>> {
    let request = HistoryRequest { group: peer.group(), user: USER.into(), first: 1, last: 10_000 };
    let answer = peer.answers(request::Body::History(request)).await?;
    let Some(response::Body::History(history)) = answer else { anyhow::bail!("{answer:?}") };
    let ids =
        history.messages.into_iter().map(|past| Ok(MsgData::decode(past.content)?.client_msg_id));
    ids.collect()
}

async fn log(peer: &Peer, request: GroupLogRequest) -> Result<GroupLogPart> {
    let request = GroupLogRequest { group: peer.group(), ..request };
    match peer.answers(request::Body::GroupLog(request)).await? {
        Some(response::Body::GroupLog(part)) => Ok(part),
        other => anyhow::bail!("{other:?}"),
    }
}

fn refused(name: &str, code: i32, body: fn(&Peer) -> request::Body) -> Case {
    Case::new("8", name, move |peer| Box::pin(async move { peer.refuses(body(peer), code).await }))
}

pub(super) fn cases() -> Vec<Case> {
    use Outcome::{Applied, PutAside, Refused};
    let mut cases = vec![
        Case::new("8", "send: a text of a member", |peer| {
            Box::pin(async move {
                peer.comes_to(signed(peer, &message(peer, "group-1")), Applied).await?;
                let ids = history(peer).await?;
                anyhow::ensure!(ids.iter().any(|id| id == "group-1"), "{ids:?}");
                Ok(())
            })
        }),
        Case::new("8", "send: the same again has one place", |peer| {
            Box::pin(async move {
                peer.comes_to(signed(peer, &message(peer, "group-1")), Applied).await?;
                let ids = history(peer).await?;
                let count = ids.iter().filter(|id| *id == "group-1").count();
                anyhow::ensure!(count == 1, "{count} times");
                Ok(())
            })
        }),
        Case::new("8", "send: not signed", |peer| {
            Box::pin(async move {
                let message = message(peer, "unsigned").encode_to_vec();
                peer.comes_to(send(&message, None), PutAside).await
            })
        }),
        Case::new("8", "send: signed with another key", |peer| {
            Box::pin(async move {
                let message = message(peer, "by-another").encode_to_vec();
                let signature = Identity::new([9; 32], 0).sign(Use::Message, &message);
                peer.comes_to(send(&message, Some(signature)), PutAside).await
            })
        }),
        Case::new("8", "send: signed for another use", |peer| {
            Box::pin(async move {
                let message = message(peer, "other-use").encode_to_vec();
                let signature = peer.identity.sign(Use::Head, &message);
                peer.comes_to(send(&message, Some(signature)), PutAside).await
            })
        }),
        Case::new("8", "send: encoded so that it cannot be passed on byte for byte", |peer| {
            Box::pin(async move {
                let mut message = message(peer, "odd-bytes").encode_to_vec();
                message.extend([0xc0, 0x3e, 0x01]);
                let signature = peer.identity.sign(Use::Message, &message);
                peer.comes_to(send(&message, Some(signature)), PutAside).await
            })
        }),
        odd("by a user of the audience", PutAside, |peer, m| m.send_id = peer.alice()),
        odd("by a user of a third domain", PutAside, |_, m| m.send_id = "x@nobody.example".into()),
        odd("by a user of the origin who is not in the group", Refused(1_203), |_, m| {
            m.send_id = "stranger@conformance.example".into();
        }),
        odd("to a group of a third domain", Refused(1_299), |_, m| {
            m.group_id = "1@nobody.example".into();
        }),
        odd("to a group that does not exist", Refused(1_004), |peer, m| {
            m.group_id = format!("1@{}", peer.domain());
        }),
        odd("of a chat of two", PutAside, |_, m| m.session_type = 1),
        odd("with system content", PutAside, |_, m| m.content_type = 1_501),
        odd("with a seq", PutAside, |_, m| m.seq = 5),
        odd("with a send time", PutAside, |_, m| m.send_time = 5),
        odd("that is read", PutAside, |_, m| m.is_read = true),
        odd("without a clientMsgID", PutAside, |_, m| m.client_msg_id.clear()),
        odd("that is not stored", PutAside, |_, m| {
            m.options.insert("history".into(), false);
        }),
        Case::new("8", "log: entries that follow, and a head that the home has signed", |peer| {
            Box::pin(async move {
                let snapshot = log(peer, GroupLogRequest { epoch: 99, ..Default::default() });
                let snapshot = snapshot.await?.snapshot;
                let epoch = snapshot.map(|snapshot| snapshot.epoch).unwrap_or_default();
                anyhow::ensure!(epoch > 0, "no epoch");
                let mut known = GroupLogRequest { epoch, ..GroupLogRequest::default() };
                loop {
                    let part = log(peer, known.clone()).await?;
                    anyhow::ensure!(!part.entries.is_empty(), "nothing behind {known:?}");
                    let mut head = None;
                    for entry in &part.entries {
                        let header = EntryHeader::decode(entry.header.clone())?;
                        anyhow::ensure!(header.previous == known.hash, "it does not follow");
                        anyhow::ensure!(header.seq == known.seq + 1, "{header:?}");
                        (known.seq, known.hash) = (header.seq, entry_hash(&entry.header).into());
                        head.clone_from(&entry.head);
                    }
                    if known.seq < part.last {
                        continue;
                    }
                    let says =
                        GroupHead { group: peer.group(), epoch, seq: known.seq, hash: known.hash };
                    let head = head.unwrap_or_default();
                    let held = verify(Use::Head, &says.encode_to_vec(), &head);
                    anyhow::ensure!(held.is_some(), "the head does not hold");
                    return Ok(());
                }
            })
        }),
        Case::new("8", "log: who knows another history gets a snapshot", |peer| {
            Box::pin(async move {
                let request = GroupLogRequest {
                    epoch: 1,
                    seq: 1,
                    hash: vec![7; 32].into(),
                    ..GroupLogRequest::default()
                };
                let part = log(peer, request).await?;
                anyhow::ensure!(part.snapshot.is_some() && part.entries.is_empty(), "{part:?}");
                Ok(())
            })
        }),
        refused("log: of a group without members of the origin", 1_002, |peer| {
            let group = format!("1@{}", peer.domain());
            request::Body::GroupLog(GroupLogRequest { group, ..GroupLogRequest::default() })
        }),
        refused("log: of a group of a third domain", 1_002, |_| {
            let group = "1@nobody.example".into();
            request::Body::GroupLog(GroupLogRequest { group, ..GroupLogRequest::default() })
        }),
        refused("history: for a user of the audience", 1_002, |peer| {
            let (group, user) = (peer.group(), peer.alice());
            request::Body::History(HistoryRequest { group, user, first: 1, last: 9 })
        }),
        refused("history: for a user who is not in the group", 1_002, |peer| {
            let (group, user) = (peer.group(), "stranger@conformance.example".into());
            request::Body::History(HistoryRequest { group, user, first: 1, last: 9 })
        }),
        Case::new("8", "history: a range turned round is empty", |peer| {
            Box::pin(async move {
                let (group, user) = (peer.group(), USER.into());
                let request = HistoryRequest { group, user, first: i64::MAX, last: i64::MIN };
                match peer.answers(request::Body::History(request)).await? {
                    Some(response::Body::History(history)) if history.messages.is_empty() => Ok(()),
                    other => anyhow::bail!("{other:?}"),
                }
            })
        }),
        Case::new("8", "members: all, page by page", |peer| {
            Box::pin(async move {
                let (mut all, mut after) = (Vec::new(), String::new());
                loop {
                    let request = MembersRequest { group: peer.group(), after: after.clone() };
                    let answer = peer.answers(request::Body::Members(request)).await?;
                    let Some(response::Body::Members(page)) = answer else {
                        anyhow::bail!("{answer:?}");
                    };
                    let users = page.members.into_iter().filter_map(|member| member.user);
                    all.extend(users.map(|user| user.user_id));
                    match all.last().filter(|_| page.more) {
                        Some(last) => after.clone_from(last),
                        None => break,
                    }
                }
                for member in [USER.to_owned(), peer.alice()] {
                    anyhow::ensure!(all.contains(&member), "{member} is missing: {all:?}");
                }
                Ok(())
            })
        }),
        refused("members: of a group without members of the origin", 1_002, |peer| {
            let group = format!("1@{}", peer.domain());
            request::Body::Members(MembersRequest { group, after: String::new() })
        }),
        refused("move: a group whose home the origin is not", 1_002, |peer| {
            request::Body::MayMove(MayMove { group: peer.group() })
        }),
        Case::new("8", "groups: who has the ID sees what the group is called", |peer| {
            Box::pin(async move {
                let groups = GroupsRequest { groups: vec![peer.group()] };
                match peer.answers(request::Body::Groups(groups)).await? {
                    Some(response::Body::Groups(groups)) if groups.infos.len() == 1 => Ok(()),
                    other => anyhow::bail!("{other:?}"),
                }
            })
        }),
        Case::new("8", "heads: of groups of the node itself there are none", |peer| {
            Box::pin(async move {
                let answer = peer.answers(request::Body::Heads(Heads::default())).await?;
                anyhow::ensure!(
                    matches!(&answer, Some(response::Body::Heads(h)) if h.heads.is_empty()),
                    "{answer:?}"
                );
                Ok(())
            })
        }),
        refused("call: one that is not for other nodes", 1_001, |peer| {
            call(peer, USER.into(), "/user/user_register")
        }),
        refused("call: the path of the API for admins", 1_001, |peer| {
            call(peer, USER.into(), "/auth/get_admin_token")
        }),
        Case::new("8", "call: a body that is no JSON", |peer| {
            Box::pin(async move {
                let call = GroupCall {
                    caller: USER.into(),
                    path: "/group/mute_group".into(),
                    body: "{".into(),
                };
                peer.refuses(request::Body::GroupCall(call), 1_001).await
            })
        }),
    ];
    for (path, code) in CALLS {
        cases.push(Case::new("8", format!("call: {path} by a member"), move |peer| {
            Box::pin(async move { peer.refuses(call(peer, USER.into(), path), *code).await })
        }));
        cases.push(Case::new(
            "8",
            format!("call: {path} as a user of the audience"),
            move |peer| {
                Box::pin(async move { peer.refuses(call(peer, peer.alice(), path), 1_002).await })
            },
        ));
    }
    cases
}
