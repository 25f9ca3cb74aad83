//! Section 6: friends and profiles.

use proto::federation::{Event, EventKind, FriendAnswer, FriendListed, FriendRequest, Profile};
use serde_json::json;

use super::Case;
use super::peer::{Outcome, Peer, USER, event, profile};

fn case(name: &str, expected: Outcome, make: fn(&Peer) -> Event) -> Case {
    Case::new("6", name, move |peer| {
        Box::pin(async move { peer.comes_to(make(peer), expected).await })
    })
}

fn request(from: &str, to: String) -> Event {
    let body =
        FriendRequest { from: Some(profile(from)), to, message: "hello".into(), ex: String::new() };
    event(EventKind::EventFriendRequest, &body)
}

fn answer(from: &str, to: &str) -> Event {
    let body = FriendAnswer {
        from: from.into(),
        to: Some(profile(to)),
        agree: true,
        message: String::new(),
    };
    event(EventKind::EventFriendAnswer, &body)
}

fn listed(owner: &str, friend: String) -> Event {
    let friend = FriendListed { owner: owner.into(), friend, listed: false };
    event(EventKind::EventFriendListed, &friend)
}

pub(super) fn cases() -> Vec<Case> {
    use Outcome::{Applied, PutAside, Refused};
    let mut cases = vec![
        case("profile: of a user of the origin", Applied, |_| {
            event(EventKind::EventProfile, &profile(USER))
        }),
        case("profile: of a user of the audience", PutAside, |peer| {
            event(EventKind::EventProfile, &profile(&peer.alice()))
        }),
        case("profile: of a third domain", PutAside, |_| {
            event(EventKind::EventProfile, &profile("x@nobody.example"))
        }),
        case("profile: without a domain", PutAside, |_| {
            event(EventKind::EventProfile, &profile("p"))
        }),
        case("profile: a nickname of 100 KiB", Refused(1_001), |_| {
            let long = Profile { nickname: "x".repeat(100 << 10), ..profile(USER) };
            event(EventKind::EventProfile, &long)
        }),
        case("request: to a user of the audience", Applied, |peer| request(USER, peer.alice())),
        case("request: the same again", Applied, |peer| request(USER, peer.alice())),
        case("request: to nobody", Refused(1_004), |peer| {
            request(USER, format!("nobody@{}", peer.domain()))
        }),
        case("request: to a user of a third domain", PutAside, |_| {
            request(USER, "x@nobody.example".into())
        }),
        case("request: by a user of the audience", PutAside, |peer| {
            request(&peer.alice(), peer.alice())
        }),
        case("request: by a user of a third domain", PutAside, |peer| {
            request("x@nobody.example", peer.alice())
        }),
        case("request: by an ID without a domain", PutAside, |peer| request("p", peer.alice())),
        case("request: by an ID with a bad letter", PutAside, |peer| {
            request("p'; drop@conformance.example", peer.alice())
        }),
        case("request: by an ID of 65 bytes", PutAside, |peer| {
            request(&format!("{}@conformance.example", "p".repeat(65)), peer.alice())
        }),
        case("request: without a profile", PutAside, |peer| {
            let body = FriendRequest { to: peer.alice(), ..FriendRequest::default() };
            event(EventKind::EventFriendRequest, &body)
        }),
        case("answer: for a third domain", PutAside, |_| answer("x@nobody.example", USER)),
        case("answer: of a user of the audience", PutAside, |peer| {
            answer(&peer.alice(), &peer.alice())
        }),
        case("listed: of a user of the origin", Applied, |peer| listed(USER, peer.alice())),
        case("listed: of a user of the audience", PutAside, |peer| {
            listed(&peer.alice(), peer.alice())
        }),
    ];
    cases.push(Case::new("6", "answer: to a request that nobody made makes no friends", |peer| {
        Box::pin(async move {
            let other = "uninvited@conformance.example";
            let ack = peer.send(vec![answer(&peer.alice(), other)]).await?;
            let Some(inside) = &peer.target()?.inside else { return Ok(()) };
            let both = json!({
                "userID1": inside.client.user_id, "userID2": "uninvited@conformance_example",
            });
            let friends = inside.client.call("/friend/is_friend", both).await?;
            anyhow::ensure!(friends["inUser1Friends"] == false, "{friends} {ack:?}");
            Ok(())
        })
    }));
    cases
}
