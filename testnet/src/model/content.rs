//! What messages say, as devices write and read it.

use proto::sdkws::MsgData;
use serde_json::{Value, json};

use super::expected::{Seen, kind};
use super::log::Entry;
use super::sight::Shown;

/// Status of a message that is gone.
pub(super) const GONE: i32 = 4;

/// A message inside of another one, as SDKs put it there.
fn inner(seq: i64, entry: &Entry) -> Value {
    json!({
        "clientMsgID": entry.client_msg_id,
        "sendID": entry.sender.map(|sender| sender.id()),
        "contentType": entry.kind,
        "content": json!({ "content": entry.text }).to_string(),
        "textElem": { "content": entry.text },
        "seq": seq,
    })
}

/// Content of a message of some type that carries another one, if any.
pub(super) fn content(kind: i32, text: &str, carried: Option<(i64, &Entry)>) -> String {
    let carried = carried.map(|(seq, entry)| inner(seq, entry));
    let content = match kind {
        kind::QUOTE => json!({ "text": text, "quoteMessage": carried }),
        kind::AT => json!({
            "text": text, "atUserList": [], "isAtSelf": false, "quoteMessage": carried,
        }),
        kind::MERGE => json!({ "title": text, "abstractList": [], "multiMessage": [carried] }),
        _ => json!({ "content": text }),
    };
    content.to_string()
}

fn json_of(message: &MsgData) -> Value {
    serde_json::from_slice(&message.content).unwrap_or_default()
}

/// What a user wrote; empty for what the node says.
pub(super) fn text_of(message: &MsgData) -> String {
    let content = json_of(message);
    let text = match message.content_type {
        kind::TEXT => &content["content"],
        kind::QUOTE | kind::AT => &content["text"],
        kind::MERGE => &content["title"],
        _ => &Value::Null,
    };
    text.as_str().unwrap_or_default().to_owned()
}

/// Type and text of the message that another one carries, type 0 if it says nothing; every form of it
/// must say the same.
fn carried_by(message: &MsgData) -> Option<(i32, String)> {
    let content = json_of(message);
    let carried = match message.content_type {
        kind::QUOTE | kind::AT => &content["quoteMessage"],
        kind::MERGE => &content["multiMessage"][0],
        _ => return None,
    };
    let kind = i32::try_from(carried["contentType"].as_i64()?).ok()?;
    let inside: Value =
        serde_json::from_str(carried["content"].as_str().unwrap_or_default()).unwrap_or_default();
    let elem = carried["textElem"]["content"].as_str().unwrap_or_default();
    let mut text = match kind {
        kind::REVOKED => revoker(&inside),
        _ => inside["content"].as_str().unwrap_or_default().to_owned(),
    };
    if text != elem && (kind != kind::REVOKED || !elem.is_empty()) {
        text = format!("{text}, or {elem}");
    }
    Some(if text.is_empty() { (0, text) } else { (kind, text) })
}

/// Seq of the message that another one carries.
pub(super) fn seq_carried(message: &MsgData) -> Option<i64> {
    let content = json_of(message);
    let seq = [&content["quoteMessage"]["seq"], &content["multiMessage"][0]["seq"]];
    seq.iter().find_map(|seq| seq.as_i64())
}

fn revoker(content: &Value) -> String {
    let detail = content["detail"].as_str().unwrap_or_default();
    let detail: Value = serde_json::from_str(detail).unwrap_or_default();
    detail["revokerID"].as_str().unwrap_or_default().to_owned()
}

/// A message that came to a device.
pub(super) fn seen_of(conversation: String, message: &MsgData) -> Seen {
    let text = text_of(message);
    Seen { conversation, seq: message.seq, kind: message.content_type, text }
}

/// A message that was read. What the node itself says has IDs of its own, which `named` leaves out.
pub(super) fn shown_of(message: &MsgData, named: bool) -> Shown {
    let text = match message.content_type {
        kind::REVOKED => revoker(&json_of(message)),
        _ => text_of(message),
    };
    Shown {
        seq: message.seq,
        client_msg_id: if named { message.client_msg_id.clone() } else { String::new() },
        kind: message.content_type,
        text,
        carried: carried_by(message),
        gone: message.status == GONE,
        read: message.is_read,
    }
}
