//! What the content of a message sent over REST has to look like.

use serde_json::{Map, Value};

use crate::error::{Result, ServiceError};

/// Content types that can be sent over REST.
pub(crate) mod kind {
    pub(crate) const TEXT: i32 = 101;
    pub(crate) const PICTURE: i32 = 102;
    pub(crate) const VOICE: i32 = 103;
    pub(crate) const VIDEO: i32 = 104;
    pub(crate) const FILE: i32 = 105;
    pub(crate) const AT: i32 = 106;
    pub(crate) const CUSTOM: i32 = 110;
    pub(crate) const QUOTE: i32 = 114;
    pub(crate) const MARKDOWN: i32 = 118;
    pub(crate) const OA: i32 = crate::notification::kind::OA;
}

/// People one message can mention.
const MAX_MENTIONS: usize = 1_000;
/// Greatest `mixType` of an OA notification.
const MAX_MIX_TYPE: f64 = 5.0;

/// What a field holds.
enum Shape {
    Text,
    Number,
    Flag,
    List,
    Object(&'static [Field]),
    /// A message inside the message; left as it is.
    Message,
}

/// A field: name, whether it has to be there and not be empty, what it holds.
type Field = (&'static str, bool, Shape);

use Shape::{Flag, List, Message, Number, Object, Text};

const TEXT: &[Field] = &[("content", true, Text)];
const PICTURE_SIZE: &[Field] = &[
    ("uuid", false, Text),
    ("type", true, Text),
    ("size", false, Number),
    ("width", true, Number),
    ("height", true, Number),
    ("url", true, Text),
];
const PICTURE: &[Field] = &[
    ("sourcePath", false, Text),
    ("sourcePicture", true, Object(PICTURE_SIZE)),
    ("bigPicture", true, Object(PICTURE_SIZE)),
    ("snapshotPicture", true, Object(PICTURE_SIZE)),
];
const VOICE: &[Field] = &[
    ("uuid", false, Text),
    ("soundPath", false, Text),
    ("sourceUrl", true, Text),
    ("dataSize", false, Number),
    ("duration", true, Number),
    ("soundType", false, Text),
];
const VIDEO: &[Field] = &[
    ("videoPath", false, Text),
    ("videoUUID", false, Text),
    ("videoUrl", true, Text),
    ("videoType", true, Text),
    ("videoSize", true, Number),
    ("duration", true, Number),
    ("snapshotPath", false, Text),
    ("snapshotUUID", false, Text),
    ("snapshotSize", false, Number),
    ("snapshotUrl", true, Text),
    ("snapshotWidth", true, Number),
    ("snapshotHeight", true, Number),
    ("snapshotType", false, Text),
];
const FILE: &[Field] = &[
    ("filePath", false, Text),
    ("uuid", false, Text),
    ("sourceUrl", true, Text),
    ("fileName", true, Text),
    ("fileSize", true, Number),
    ("fileType", false, Text),
];
const AT: &[Field] = &[
    ("text", false, Text),
    ("atUserList", true, List),
    ("atUsersInfo", false, List),
    ("quoteMessage", false, Message),
    ("isAtSelf", false, Flag),
];
const CUSTOM: &[Field] =
    &[("data", true, Text), ("description", false, Text), ("extension", false, Text)];
const QUOTE: &[Field] =
    &[("text", false, Text), ("quoteMessage", false, Message), ("messageEntityList", false, List)];
const OA: &[Field] = &[
    ("notificationName", true, Text),
    ("notificationFaceURL", false, Text),
    ("notificationType", true, Number),
    ("text", true, Text),
    ("url", false, Text),
    ("mixType", false, Number),
    ("pictureElem", false, Object(PICTURE)),
    ("soundElem", false, Object(VOICE)),
    ("videoElem", false, Object(VIDEO)),
    ("fileElem", false, Object(FILE)),
    ("ex", false, Text),
];

/// Checks the content of a message of a type that can be sent over REST.
pub(crate) fn check(content_type: i32, content: &Map<String, Value>) -> Result<()> {
    let fields = match content_type {
        kind::TEXT | kind::MARKDOWN => TEXT,
        kind::PICTURE => PICTURE,
        kind::VOICE => VOICE,
        kind::VIDEO => VIDEO,
        kind::FILE => FILE,
        kind::AT => AT,
        kind::CUSTOM => CUSTOM,
        kind::QUOTE => QUOTE,
        kind::OA => OA,
        other => return Err(ServiceError::args(format!("contentType {other} cannot be sent"))),
    };
    fits(fields, content)?;
    if content_type == kind::AT && mentioned(content).len() > MAX_MENTIONS {
        return Err(unfit("atUserList"));
    }
    if content_type == kind::OA {
        let mix = field(content, "mixType").and_then(number).unwrap_or_default();
        if !(0.0..=MAX_MIX_TYPE).contains(&mix) {
            return Err(unfit("mixType"));
        }
    }
    Ok(())
}

/// The users a message of type 106 mentions.
pub(crate) fn mentioned(content: &Map<String, Value>) -> Vec<String> {
    let list = field(content, "atUserList").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Numbers and texts of numbers stand for each other, as they always have on this route.
fn fits(fields: &[Field], content: &Map<String, Value>) -> Result<()> {
    for (name, required, shape) in fields {
        let value = field(content, name).filter(|value| !value.is_null());
        let Some(value) = value else {
            if *required {
                return Err(unfit(name));
            }
            continue;
        };
        let full = match shape {
            Text => text(value).map(|text| !text.is_empty()),
            Number => number(value).map(|number| number != 0.0),
            Flag => number(value).map(|_| true),
            List => value.is_array().then_some(true),
            Message => value.is_object().then_some(true),
            Object(fields) => {
                let Some(object) = value.as_object() else { return Err(unfit(name)) };
                fits(fields, object)?;
                Some(true)
            }
        };
        match full {
            Some(full) if full || !required => {}
            _ => return Err(unfit(name)),
        }
    }
    Ok(())
}

fn unfit(name: &str) -> ServiceError {
    ServiceError::Failed(format!("the content has no fitting {name}"))
}

fn field<'a>(content: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    content.get(name).or_else(|| {
        content.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    })
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(u8::from(*flag).to_string()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if text.is_empty() => Some(0.0),
        Value::String(text) => text.parse().ok(),
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(content_type: i32, content: &Value) -> &'static str {
        match check(content_type, content.as_object().expect("an object")) {
            Ok(()) => "ok",
            Err(ServiceError::Args(_)) => "args",
            Err(ServiceError::Failed(_)) => "unfit",
            Err(_) => "other",
        }
    }

    #[test]
    fn contents_are_checked_by_type() {
        let size = json!({ "type": "image/png", "width": 1, "height": "1", "url": "u" });
        let no_url = json!({ "type": "image/png", "width": 1, "height": 1, "url": "" });
        let picture = |first: &Value| json!({ "sourcePicture": first, "bigPicture": size, "snapshotPicture": size });
        let oa = |mix: i32| json!({ "notificationName": "n", "notificationType": 1, "text": "t", "mixType": mix });
        for (content_type, content, expected) in [
            (101, json!({ "content": "hi", "more": [] }), "ok"),
            (101, json!({ "CONTENT": 5 }), "ok"),
            (101, json!({ "content": "" }), "unfit"),
            (101, json!({ "content": {} }), "unfit"),
            (101, json!({}), "unfit"),
            (102, picture(&size), "ok"),
            (102, picture(&no_url), "unfit"),
            (102, picture(&Value::Null), "unfit"),
            (103, json!({ "sourceUrl": "u", "duration": 0 }), "unfit"),
            (103, json!({ "sourceUrl": "u", "duration": 1 }), "ok"),
            (105, json!({ "sourceUrl": "u", "fileName": "f", "fileSize": 1 }), "ok"),
            (106, json!({ "text": "t", "atUserList": [] }), "ok"),
            (106, json!({ "text": "t" }), "unfit"),
            (106, json!({ "atUserList": vec!["x"; 1_001] }), "unfit"),
            (110, json!({ "data": "d" }), "ok"),
            (114, json!({ "quoteMessage": "no" }), "unfit"),
            (118, json!({ "content": "# md" }), "ok"),
            (1400, oa(5), "ok"),
            (1400, oa(6), "unfit"),
            (107, json!({ "title": "t" }), "args"),
            (113, json!({ "msgTips": "yes" }), "args"),
            (1201, json!({}), "args"),
        ] {
            assert_eq!(outcome(content_type, &content), expected, "{content_type} {content}");
        }
    }
}
