//! Section 9: content.

use bytes::Bytes;
use federation::transport::Lane;
use futures_util::SinkExt as _;
use prost::Message as _;
use proto::federation::{ByeCode, MediaAnswer, MediaRequest};

use super::Case;
use super::peer::{OWN, Peer, heard};
use crate::Result;

async fn ask(peer: &Peer, request: MediaRequest) -> Result<MediaAnswer> {
    let mut frames = peer.open(Lane::Media).await?;
    frames.send(Bytes::from(request.encode_to_vec())).await?;
    Ok(MediaAnswer::decode(heard(&mut frames).await?)?)
}

fn request(peer: &Peer) -> MediaRequest {
    MediaRequest {
        origin: OWN.into(),
        audience: peer.domain(),
        document: None,
        name: "alice/picture.png".into(),
        sha256: vec![7; 32].into(),
        offset: 0,
    }
}

fn case(name: &str, make: fn(&Peer) -> MediaRequest, fits: fn(&MediaAnswer) -> bool) -> Case {
    Case::new("9", name, move |peer| {
        Box::pin(async move {
            let answer = ask(peer, make(peer)).await?;
            anyhow::ensure!(fits(&answer), "{answer:?}");
            Ok(())
        })
    })
}

fn bye(answer: &MediaAnswer) -> Option<ByeCode> {
    answer.bye.as_ref().map(|bye| bye.code())
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        case("content: that nobody has", request, |answer| {
            answer.bye.is_none() && answer.code != 0
        }),
        case(
            "content: with a hash of 31 bytes",
            |peer| MediaRequest { sha256: vec![7; 31].into(), ..request(peer) },
            |answer| answer.bye.is_none() && answer.code != 0,
        ),
        case(
            "content: with a name that leads out of the folder",
            |peer| MediaRequest { name: "../../etc/passwd".into(), ..request(peer) },
            |answer| answer.bye.is_none() && answer.code != 0,
        ),
        case(
            "content: for another domain",
            |peer| MediaRequest { audience: "nobody.example".into(), ..request(peer) },
            |answer| bye(answer) == Some(ByeCode::ByeAudience),
        ),
        case(
            "content: for a domain that the key does not speak for",
            |peer| MediaRequest { origin: "nobody.example".into(), ..request(peer) },
            |answer| bye(answer) == Some(ByeCode::ByeIdentity),
        ),
    ]
}
