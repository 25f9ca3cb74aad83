//! The border to other nodes: messages with qualified IDs outside, and as clients see them inside.
//!
//! Inside, an ID of this node is bare and one of another node is in the client form
//! (`bob@beta_example`); outside, every ID is qualified. Besides the envelope of a message, IDs
//! stand in its content: in quoted, merged and mentioning messages and in cards. Links to objects
//! name the node that has them outside, and this node inside.

mod json;
mod link;

use std::borrow::Cow;

use prost::Message as _;
use proto::qualified::{BadId, Domain, localise, qualify};
use proto::sdkws::MsgData;

pub(crate) use link::MediaAddress;

/// Ends of the names of members of a JSON object whose text, or whose list of texts, is IDs.
const ID_KEYS: [&str; 8] =
    ["serID", "serIDs", "groupID", "groupIDs", "sendID", "recvID", "atUserList", "revokerID"];
/// Members that hold IDs of conversations.
const CONVERSATION_KEYS: [&str; 2] = ["conversationID", "conversationIDs"];
/// Members that hold whole messages, whose content is JSON within a text.
const MESSAGE_KEYS: [&str; 2] = ["quoteMessage", "multiMessage"];

/// Stands for everybody in a group, in place of a user ID.
const EVERYBODY: &str = "AtAllTag";

/// The way across for texts.
#[derive(Clone, Copy)]
enum Way<'a> {
    Out { own: &'a Domain },
    In { own: &'a Domain, base: &'a str },
}

impl Way<'_> {
    fn id(self, id: &str) -> Result<String, BadId> {
        match self {
            _ if id == EVERYBODY => Ok(id.to_owned()),
            Self::Out { own } => qualify(id, own),
            Self::In { own, .. } => localise(id, own),
        }
    }

    /// A link to an object; `None` if it is none.
    fn link(self, link: &str) -> Option<String> {
        match self {
            Self::Out { .. } => Some(MediaAddress::of_link(link)?.to_url()),
            Self::In { base, .. } => Some(MediaAddress::of_url(link)?.to_link(base)),
        }
    }
}

/// A message on its way to another node.
pub(crate) fn outbound(message: MsgData, own: &Domain) -> Result<MsgData, BadId> {
    cross(message, Way::Out { own })
}

/// The content of a message as it crosses: encoded, without what its place gives it.
pub(crate) fn bare(message: MsgData, own: &Domain) -> Result<Vec<u8>, BadId> {
    Ok(outbound(MsgData { seq: 0, send_time: 0, ..message }, own)?.encode_to_vec())
}

/// A message that came from another node; `base` is where clients reach this one.
pub(crate) fn inbound(message: MsgData, own: &Domain, base: &str) -> Result<MsgData, BadId> {
    cross(message, Way::In { own, base })
}

/// A link, or any other text, on its way to another node.
pub(crate) fn link_outbound(link: String) -> String {
    let crossed = MediaAddress::of_link(&link).map(|address| address.to_url());
    crossed.unwrap_or(link)
}

/// A link, or any other text, that came from another node.
pub(crate) fn link_inbound(link: String, base: &str) -> String {
    let crossed = MediaAddress::of_url(&link).map(|address| address.to_link(base));
    crossed.unwrap_or(link)
}

fn cross(mut message: MsgData, way: Way<'_>) -> Result<MsgData, BadId> {
    message.send_id = way.id(&message.send_id)?;
    for field in [&mut message.recv_id, &mut message.group_id] {
        if !field.is_empty() {
            *field = way.id(field)?;
        }
    }
    for at in &mut message.at_user_id_list {
        if let Ok(id) = way.id(at) {
            *at = id;
        }
    }
    if let Some(link) = way.link(&message.sender_face_url) {
        message.sender_face_url = link;
    }
    if let Ok(text) = std::str::from_utf8(&message.content)
        && let Some(changed) = content(text, way, 0)
    {
        message.content = changed.into();
    }
    Ok(message)
}

/// Contents within contents that are looked into.
const MAX_NESTING: usize = 8;

/// The content with its IDs replaced; `None` if nothing is.
fn content(text: &str, way: Way<'_>, nesting: usize) -> Option<String> {
    json::replace_texts(text, &mut |path, value| {
        let key = path.last()?;
        if ID_KEYS.iter().any(|end| key.ends_with(end)) || key == "sourceMessageSendID" {
            return way.id(value).ok().filter(|crossed| crossed != value);
        }
        if CONVERSATION_KEYS.contains(&key.as_str()) {
            return conversation(value, way);
        }
        if let Some(link) = way.link(value) {
            return Some(link);
        }
        let in_message = path.iter().any(|key| MESSAGE_KEYS.contains(&key.as_str()));
        let holds_json = (key == "content" && in_message) || (key == "detail" && path.len() == 1);
        if holds_json && nesting < MAX_NESTING {
            return content(value, way, nesting + 1);
        }
        None
    })
}

/// The ID of a group's conversation on the other side.
///
/// That of a chat of two holds two IDs and is made anew on each side.
fn conversation(value: &str, way: Way<'_>) -> Option<String> {
    let (prefix, group) =
        value.split_once('_').filter(|(prefix, _)| ["sg", "n"].contains(prefix))?;
    Some(format!("{prefix}_{}", way.id(group).ok()?))
}

/// The JSON of a request or answer of the client API, with qualified IDs.
pub(crate) fn json_outbound<'a>(json: &'a str, own: &Domain) -> Cow<'a, str> {
    content(json, Way::Out { own }, 0).map_or(Cow::Borrowed(json), Cow::Owned)
}

/// The JSON of a request or answer of the client API that came with qualified IDs.
pub(crate) fn json_inbound<'a>(json: &'a str, own: &Domain, base: &str) -> Cow<'a, str> {
    content(json, Way::In { own, base }, 0).map_or(Cow::Borrowed(json), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: &str = "http://127.0.0.1:10002";

    fn domain(name: &str) -> Domain {
        name.parse().expect("a domain")
    }

    fn message(content: &str) -> MsgData {
        MsgData {
            send_id: "alice".into(),
            recv_id: "bob@beta_example".into(),
            content: content.as_bytes().to_vec().into(),
            at_user_id_list: vec!["carol@gamma_example".into(), "AtAllTag".into()],
            ..MsgData::default()
        }
    }

    fn text(message: &MsgData) -> &str {
        std::str::from_utf8(&message.content).expect("a text")
    }

    #[test]
    fn ids_in_envelope_and_content_cross_both_ways() {
        let (alpha, beta) = (domain("alpha.example"), domain("beta.example"));
        let inner = r#"{\"atUserList\":[\"alice\",\"bob@beta_example\"]}"#;
        let quote = format!(
            r#"{{"text":"alice",  "quoteMessage":{{"sendID":"bob@beta_example","content":"{inner}"}}}}"#
        );
        let sent = message(&quote);
        let outside = outbound(sent.clone(), &alpha).expect("crosses");
        assert_eq!(
            (&*outside.send_id, &*outside.recv_id),
            ("alice@alpha.example", "bob@beta.example")
        );
        assert_eq!(outside.at_user_id_list, ["carol@gamma.example", "AtAllTag"]);
        assert!(
            text(&outside)
                .contains(r#"{"text":"alice",  "quoteMessage":{"sendID":"bob@beta.example""#)
        );
        assert!(text(&outside).contains(r#"[\"alice@alpha.example\",\"bob@beta.example\"]"#));
        let there = inbound(outside.clone(), &beta, BASE).expect("crosses");
        assert_eq!((&*there.send_id, &*there.recv_id), ("alice@alpha_example", "bob"));
        assert!(text(&there).contains(r#"[\"alice@alpha_example\",\"bob\"]"#));
        assert_eq!(outbound(there, &beta).expect("crosses"), outside);
        assert_eq!(inbound(outside, &alpha, BASE).expect("crosses"), sent);
    }

    #[test]
    fn links_to_objects_name_their_node_outside_and_this_one_inside() {
        let (alpha, beta) = (domain("alpha.example"), domain("beta.example"));
        let hash = "ab".repeat(32);
        let link =
            |base: &str| format!("{base}/object/@alpha.example/{hash}/alice/a b.png?type=image");
        let picture = |url: &str| format!(r#"{{"sourcePicture":{{"url":"{url}"}}}}"#);
        let sent = message(&picture(&link("https://chat.alpha.example/api")));
        let outside = outbound(sent, &alpha).expect("crosses");
        let url = format!("entente://alpha.example/{hash}/alice/a b.png?type=image");
        assert_eq!(text(&outside), picture(&url));
        let there = inbound(outside.clone(), &beta, BASE).expect("crosses");
        assert_eq!(text(&there), picture(&link(BASE)));
        assert_eq!(outbound(there, &beta).expect("crosses"), outside);
        for other in ["https://alpha.example/object/alice/a.png", "https://h/object/@x/1/a", "x"] {
            assert_eq!(link_outbound(other.to_owned()), other);
        }
    }

    #[test]
    fn what_is_no_id_stays() {
        let alpha = domain("alpha.example");
        for content in [r#"{"content":"sendID bob"}"#, "no JSON", r#"{"userID":"no ID!"}"#, ""] {
            let outside = outbound(message(content), &alpha).expect("crosses");
            assert_eq!(text(&outside), content);
        }
        assert!(inbound(message(""), &alpha, BASE).is_err(), "a bare ID never comes from outside");
    }

    proptest! {
        #[test]
        fn outside_form_survives_a_stay(local in "[a-z0-9_]{1,8}", other in "[a-z]{1,5}\\.[a-z]{1,5}") {
            let (alpha, beta) = (domain("alpha.example"), domain("beta.example"));
            let sent = MsgData {
                send_id: local.clone(),
                recv_id: format!("{local}@{}", other.replace('.', "_")),
                content: format!(r#"{{"userID":"{local}","nickname":"{local}"}}"#).into_bytes().into(),
                ..MsgData::default()
            };
            let outside = outbound(sent.clone(), &alpha).expect("crosses");
            let there = inbound(outside.clone(), &beta, BASE).expect("crosses");
            prop_assert_eq!(outbound(there, &beta).expect("crosses"), outside.clone());
            prop_assert_eq!(inbound(outside, &alpha, BASE).expect("crosses"), sent);
        }
    }
}
