//! Protobuf data of the gateway in the form of the recordings: zero values left out, contents
//! parsed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::Result;

/// Maps from texts to numbers or bools, whose zero values were sent.
const MAPS: [&str; 3] = ["options", "maxSeqs", "minSeqs"];

/// A message of the wire as the recordings show it.
pub fn decoded(message: &impl Serialize) -> Result<Value> {
    Ok(without_zeros(serde_json::from_str(&proto::json::to_string(message)?)?))
}

/// A recorded request as a message of the wire.
pub fn encoded<T: DeserializeOwned>(recorded: &Value) -> Result<T> {
    let mut request = recorded.clone();
    if let Some(content) = request.get_mut("content").filter(|content| !content.is_string()) {
        *content = Value::String(STANDARD.encode(content.to_string()));
    }
    Ok(proto::json::from_value(request)?)
}

fn without_zeros(value: Value) -> Value {
    match value {
        Value::Object(object) => object
            .into_iter()
            .filter_map(|(key, value)| {
                if MAPS.contains(&key.as_str()) {
                    return (!value.is_null()).then_some((key, value));
                }
                if key == "content" {
                    return Some((key, parsed(&value)?));
                }
                let zero = match &value {
                    Value::Null | Value::Bool(false) => true,
                    Value::Number(number) => number.as_i64() == Some(0),
                    Value::String(text) => text.is_empty(),
                    Value::Array(list) => list.is_empty(),
                    _ => false,
                };
                (!zero).then(|| (key, without_zeros(value)))
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(list) => list.into_iter().map(without_zeros).collect(),
        other => other,
    }
}

/// The content of a message and its detail, each of which is JSON in a text.
fn parsed(content: &Value) -> Option<Value> {
    let bytes = STANDARD.decode(content.as_str()?).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let Ok(mut value) = serde_json::from_str::<Value>(&text) else {
        return (!text.is_empty()).then_some(Value::String(text));
    };
    if let Some(detail) = value.get_mut("detail")
        && let Some(inner) = detail.as_str().and_then(|text| serde_json::from_str(text).ok())
    {
        *detail = inner;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use proto::sdkws::MsgData;
    use serde_json::json;

    use super::*;

    #[test]
    fn contents_are_parsed_and_zeros_left_out() -> Result {
        let detail = r#"{"detail":"{\"group\":{\"ex\":\"\"}}"}"#;
        let message = MsgData {
            send_id: "a".into(),
            content: detail.into(),
            options: [("history".to_owned(), false)].into(),
            ..MsgData::default()
        };
        assert_eq!(
            decoded(&message)?,
            json!({
                "sendID": "a",
                "content": { "detail": { "group": { "ex": "" } } },
                "options": { "history": false },
            })
        );
        Ok(())
    }

    #[test]
    fn a_recorded_message_is_read() -> Result {
        let recorded = json!({"sendID": "a", "content": {"content": "x"}, "contentType": 101});
        let message: MsgData = encoded(&recorded)?;
        assert_eq!(message.content, r#"{"content":"x"}"#);
        assert_eq!(decoded(&message)?, recorded);
        Ok(())
    }
}
