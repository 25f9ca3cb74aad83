//! Section 5: requests.

use bytes::Bytes;
use federation::transport::Lane;
use futures_util::SinkExt as _;
use prost::Message as _;
use proto::federation::{
    ByeCode, Ephemeral, Greeting, GroupsRequest, MaySend, Presence, PresenceRequest,
    ProfilesRequest, Request, Response, UserPresence, Withdraw, request, response,
};
use proto::sdkws::MsgData;

use super::Case;
use super::peer::{Peer, USER, ends, heard};

fn refused(name: &str, code: i32, body: fn(&Peer) -> request::Body) -> Case {
    Case::new("5", name, move |peer| Box::pin(async move { peer.refuses(body(peer), code).await }))
}

fn answered(
    name: &str,
    body: fn(&Peer) -> request::Body,
    fits: fn(Option<response::Body>) -> bool,
) -> Case {
    Case::new("5", name, move |peer| {
        Box::pin(async move {
            let answer = peer.answers(body(peer)).await?;
            anyhow::ensure!(fits(answer.clone()), "{answer:?}");
            Ok(())
        })
    })
}

fn not_looked_at(name: &str, code: ByeCode, make: fn(&Peer) -> Request) -> Case {
    Case::new("5", name, move |peer| {
        Box::pin(async move {
            let response = peer.ask_as(make(peer)).await?;
            let bye = response.bye.as_ref().map(|bye| bye.code());
            anyhow::ensure!(bye == Some(code), "{code:?} expected: {response:?}");
            Ok(())
        })
    })
}

fn greeting(peer: &Peer) -> Request {
    peer.request(Some(request::Body::Greeting(Greeting {})))
}

fn profiles(users: Vec<String>) -> request::Body {
    request::Body::Profiles(ProfilesRequest { user_ids: users })
}

fn typing(peer: &Peer, change: impl FnOnce(&mut MsgData)) -> request::Body {
    let mut message = MsgData {
        send_id: USER.into(),
        recv_id: peer.alice(),
        session_type: 1,
        content_type: 113,
        content: Bytes::from_static(b"{\"msgTips\":\"yes\"}"),
        client_msg_id: "typing".into(),
        options: [("history".to_owned(), false)].into(),
        ..MsgData::default()
    };
    change(&mut message);
    request::Body::Ephemeral(Ephemeral { message: message.encode_to_vec().into() })
}

fn may_send(from: &str, to: String) -> request::Body {
    request::Body::MaySend(MaySend { from: from.into(), to })
}

/// Profiles of so many.
fn count(answer: Option<response::Body>) -> Option<usize> {
    match answer {
        Some(response::Body::Profiles(profiles)) => Some(profiles.profiles.len()),
        _ => None,
    }
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        answered(
            "greeting",
            |_| request::Body::Greeting(Greeting {}),
            |answer| matches!(answer, None | Some(response::Body::Known(_))),
        ),
        not_looked_at(
            "request: of a domain that the key does not speak for",
            ByeCode::ByeIdentity,
            |peer| Request { origin: "nobody.example".into(), ..greeting(peer) },
        ),
        not_looked_at("request: of no domain", ByeCode::ByeMalformed, |peer| Request {
            origin: String::new(),
            ..greeting(peer)
        }),
        not_looked_at("request: for another domain", ByeCode::ByeAudience, |peer| Request {
            audience: "nobody.example".into(),
            ..greeting(peer)
        }),
        Case::new("10", "request: one that the node does not know is refused", |peer| {
            Box::pin(async move {
                let response = peer.ask_as(peer.request(None)).await?;
                anyhow::ensure!(response.bye.is_some() || response.code != 0, "{response:?}");
                Ok(())
            })
        }),
        Case::new("5", "request: garbage", |peer| {
            Box::pin(async move {
                let mut frames = peer.open(Lane::Control).await?;
                frames.send(Bytes::from_static(b"\xff\xff garbage")).await?;
                let response = Response::decode(heard(&mut frames).await?)?;
                let bye = response.bye.as_ref().map(|bye| bye.code());
                anyhow::ensure!(bye == Some(ByeCode::ByeMalformed), "{response:?}");
                Ok(())
            })
        }),
        Case::new("3", "request: over 256 KiB", |peer| {
            Box::pin(async move {
                let mut frames = peer.open(Lane::Control).await?;
                frames.send(Bytes::from(vec![0; (256 << 10) + 1])).await.ok();
                ends(&mut frames).await
            })
        }),
        answered(
            "profiles: one that exists",
            |peer| profiles(vec![peer.alice()]),
            |answer| count(answer) == Some(1),
        ),
        answered(
            "profiles: none that exists",
            |peer| profiles(vec![format!("nobody@{}", peer.domain())]),
            |answer| count(answer) == Some(0),
        ),
        answered(
            "profiles: users of others are left out",
            |peer| profiles(vec![USER.into(), "x@nobody.example".into(), peer.alice()]),
            |answer| count(answer) == Some(1),
        ),
        refused("profiles: over 100", 1_001, |peer| profiles(vec![peer.alice(); 101])),
        answered(
            "may send: yes, and for how long",
            |peer| may_send(USER, peer.alice()),
            |answer| matches!(answer, Some(response::Body::SendVerdict(v)) if v.valid_ms >= 0),
        ),
        refused("may send: to nobody", 1_004, |peer| {
            may_send(USER, format!("nobody@{}", peer.domain()))
        }),
        refused("may send: for a user of the audience", 1_001, |peer| {
            may_send(&peer.alice(), peer.alice())
        }),
        refused("may send: for a user of a third domain", 1_001, |peer| {
            may_send("x@nobody.example", peer.alice())
        }),
        refused("may send: to a user of a third domain", 1_001, |_| {
            may_send(USER, "x@nobody.example".into())
        }),
        refused("may send: IDs without domains", 1_001, |_| may_send("p", "alice".into())),
        answered(
            "withdraw: of users of the two nodes",
            |peer| request::Body::Withdraw(Withdraw { from: peer.alice(), to: USER.into() }),
            |answer| answer.is_none(),
        ),
        refused("withdraw: by a user of a third domain", 1_001, |peer| {
            let to = "x@nobody.example".into();
            request::Body::Withdraw(Withdraw { from: peer.alice(), to })
        }),
        answered("typing: a notice", |peer| typing(peer, |_| {}), |answer| answer.is_none()),
        refused("typing: by a user of a third domain", 1_001, |peer| {
            typing(peer, |message| message.send_id = "x@nobody.example".into())
        }),
        refused("typing: one that would be stored", 1_001, |peer| {
            typing(peer, |message| message.options.clear())
        }),
        refused("typing: system content", 1_001, |peer| {
            typing(peer, |message| message.content_type = 1_201)
        }),
        refused("typing: 64 KiB and a byte", 1_001, |peer| {
            typing(peer, |message| message.content = vec![b'x'; (64 << 10) + 1].into())
        }),
        refused("typing: garbage", 1_001, |_| {
            request::Body::Ephemeral(Ephemeral { message: Bytes::from_static(b"\xff\xff") })
        }),
        answered(
            "presence: of a user",
            |peer| {
                let users = vec![peer.alice()];
                request::Body::Presence(PresenceRequest { users, watch_ms: 1_000 })
            },
            |answer| matches!(answer, Some(response::Body::Presence(p)) if p.users.len() <= 1),
        ),
        refused("presence: of over 1,000", 1_001, |peer| {
            let users = vec![peer.alice(); 1_001];
            request::Body::Presence(PresenceRequest { users, watch_ms: 0 })
        }),
        answered(
            "presence news: of a user of a third domain are ignored",
            |_| {
                let users =
                    vec![UserPresence { user: "x@nobody.example".into(), platforms: vec![1] }];
                request::Body::PresenceNews(Presence { users })
            },
            |answer| answer.is_none(),
        ),
        answered(
            "groups: one that does not exist",
            |peer| {
                let groups = vec![format!("1@{}", peer.domain())];
                request::Body::Groups(GroupsRequest { groups })
            },
            |answer| matches!(answer, Some(response::Body::Groups(g)) if g.infos.is_empty()),
        ),
        refused("groups: over 100", 1_001, |peer| {
            let groups = vec![format!("1@{}", peer.domain()); 101];
            request::Body::Groups(GroupsRequest { groups })
        }),
    ]
}
