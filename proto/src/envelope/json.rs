//! The JSON form of the envelopes: one object, keys in a fixed order, `data` in base64.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Request, Response};

/// Why text is no JSON envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not one JSON value, or nested too deep.
    #[error("malformed JSON at column {0}")]
    Syntax(usize),
    /// A value of the wrong kind, out of range, or no base64.
    #[error("unexpected JSON value at column {0}")]
    Value(usize),
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        if error.is_data() { Self::Value(error.column()) } else { Self::Syntax(error.column()) }
    }
}

/// An envelope that can be filled key by key.
pub(super) trait Envelope: Default {
    /// The keys.
    const KEYS: &'static [&'static str];
    /// Takes the value of the key with this index.
    fn take<'de, M: MapAccess<'de>>(&mut self, key: usize, map: &mut M) -> Result<(), M::Error>;
}

impl Envelope for Request {
    const KEYS: &'static [&'static str] =
        &["reqIdentifier", "msgIncr", "sendID", "operationID", "data", "token"];

    fn take<'de, M: MapAccess<'de>>(&mut self, key: usize, map: &mut M) -> Result<(), M::Error> {
        match key {
            0 => replace(&mut self.req_identifier, map.next_value()?),
            1 => replace(&mut self.msg_incr, map.next_value()?),
            2 => replace(&mut self.send_id, map.next_value()?),
            3 => replace(&mut self.operation_id, map.next_value()?),
            4 => replace(&mut self.data, map.next_value_seed(Base64)?),
            _ => replace(&mut self.token, map.next_value()?),
        }
        Ok(())
    }
}

impl Envelope for Response {
    const KEYS: &'static [&'static str] =
        &["reqIdentifier", "msgIncr", "operationID", "errCode", "errMsg", "data"];

    fn take<'de, M: MapAccess<'de>>(&mut self, key: usize, map: &mut M) -> Result<(), M::Error> {
        match key {
            0 => replace(&mut self.req_identifier, map.next_value()?),
            1 => replace(&mut self.msg_incr, map.next_value()?),
            2 => replace(&mut self.operation_id, map.next_value()?),
            3 => replace(&mut self.err_code, map.next_value()?),
            4 => replace(&mut self.err_msg, map.next_value()?),
            _ => self.data = map.next_value_seed(Base64)?,
        }
        Ok(())
    }
}

/// `null` leaves a field as it is.
fn replace<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// Reads an envelope: keys without regard to case, unknown ones ignored, `null` as zero.
pub(super) fn decode<T: Envelope>(text: &[u8]) -> Result<T, JsonError> {
    let text = crate::json::mend(text);
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let envelope = deserializer.deserialize_any(Object(PhantomData))?;
    deserializer.end()?;
    Ok(envelope)
}

struct Object<T>(PhantomData<T>);

impl<'de, T: Envelope> Visitor<'de> for Object<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<T, M::Error> {
        let mut envelope = T::default();
        while let Some(key) = map.next_key_seed(Key(T::KEYS))? {
            match key {
                Some(key) => envelope.take(key, &mut map)?,
                None => map.next_value_seed(Skip)?,
            }
        }
        Ok(envelope)
    }
}

/// The index of a key.
struct Key(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|known| known.eq_ignore_ascii_case(key)))
    }
}

/// Bytes in base64, or `null`.
struct Base64;

impl<'de> DeserializeSeed<'de> for Base64 {
    type Value = Option<Bytes>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Base64 {
    type Value = Option<Bytes>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        crate::json::base64_bytes::decode(text).map(Some).map_err(|_| E::custom("no base64"))
    }
}

/// Skips a value. Unlike [`IgnoredAny`] of the JSON reader it refuses deep nesting.
struct Skip;

impl<'de> DeserializeSeed<'de> for Skip {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Skip {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<(), S::Error> {
        while items.next_element_seed(Skip)?.is_some() {}
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Skip)?;
        }
        Ok(())
    }
}

/// Writes an answer: always all six keys.
pub(super) fn encode_response(response: &Response) -> Vec<u8> {
    let texts = [&response.msg_incr, &response.operation_id, &response.err_msg];
    let mut out = Writer::new(texts, response.data.as_ref());
    out.int("{\"reqIdentifier\":", response.req_identifier);
    out.text(",\"msgIncr\":", &response.msg_incr);
    out.text(",\"operationID\":", &response.operation_id);
    out.int(",\"errCode\":", response.err_code);
    out.text(",\"errMsg\":", &response.err_msg);
    out.data(",\"data\":", response.data.as_ref());
    out.end()
}

/// Writes a request as the JavaScript SDK does: without a token when there is none.
pub(super) fn encode_request(request: &Request) -> Vec<u8> {
    let texts = [&request.msg_incr, &request.send_id, &request.operation_id];
    let mut out = Writer::new(texts, Some(&request.data));
    out.int("{\"reqIdentifier\":", request.req_identifier);
    out.text(",\"msgIncr\":", &request.msg_incr);
    out.text(",\"sendID\":", &request.send_id);
    out.text(",\"operationID\":", &request.operation_id);
    out.data(",\"data\":", Some(&request.data));
    if !request.token.is_empty() {
        out.text(",\"token\":", &request.token);
    }
    out.end()
}

struct Writer(String);

impl Writer {
    fn new(texts: [&String; 3], data: Option<&Bytes>) -> Self {
        const KEYS_AND_NUMBERS: usize = 128;
        let texts: usize = texts.iter().map(|text| text.len()).sum();
        let data = data.map_or(0, |data| data.len().div_ceil(3) * 4);
        Self(String::with_capacity(KEYS_AND_NUMBERS + texts + data))
    }

    fn int(&mut self, key: &str, value: i32) {
        use fmt::Write as _;
        self.0.push_str(key);
        let _ = write!(self.0, "{value}");
    }

    /// Characters above U+FFFF become escapes: the reader of the JavaScript SDK cannot do them.
    fn text(&mut self, key: &str, value: &str) {
        use fmt::Write as _;
        self.0.push_str(key);
        self.0.push('"');
        let plain = |c: char| !(c.is_ascii_control() || c == '"' || c == '\\' || c > '\u{ffff}');
        let mut rest = value;
        while let Some(at) = rest.find(|c| !plain(c)) {
            let (before, from) = rest.split_at(at);
            self.0.push_str(before);
            let mut chars = from.chars();
            match chars.next() {
                Some(c @ ('"' | '\\')) => self.0.extend(['\\', c]),
                Some(c) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.0, "\\u{unit:04x}");
                    }
                }
                None => {}
            }
            rest = chars.as_str();
        }
        self.0.push_str(rest);
        self.0.push('"');
    }

    fn data(&mut self, key: &str, value: Option<&Bytes>) {
        self.0.push_str(key);
        match value {
            Some(bytes) => {
                self.0.push('"');
                STANDARD.encode_string(bytes, &mut self.0);
                self.0.push('"');
            }
            None => self.0.push_str("null"),
        }
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push('}');
        self.0.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Result<Request, JsonError> {
        decode(text.as_bytes())
    }

    #[test]
    fn a_request_of_the_javascript_sdk() {
        let text = r#"{"reqIdentifier":1006,"msgIncr":"qld0231","sendID":"user1","operationID":"op1","data":"CgV1c2VyMQ=="}"#;
        let request = request(text).expect("decodes");
        let expected = Request {
            req_identifier: 1006,
            msg_incr: "qld0231".into(),
            send_id: "user1".into(),
            operation_id: "op1".into(),
            data: Bytes::from_static(b"\x0a\x05user1"),
            token: String::new(),
        };
        assert_eq!(request, expected);
        assert_eq!(encode_request(&expected), text.as_bytes());
    }

    #[test]
    fn an_answer_has_all_keys_in_order() {
        let mut response = Response {
            req_identifier: 1006,
            msg_incr: "qld0231".into(),
            operation_id: "op1".into(),
            data: Some(Bytes::from_static(b"\x01\x02\x03\x04")),
            ..Response::default()
        };
        let text =
            |response: &Response| String::from_utf8(encode_response(response)).expect("is UTF-8");
        assert_eq!(
            text(&response),
            r#"{"reqIdentifier":1006,"msgIncr":"qld0231","operationID":"op1","errCode":0,"errMsg":"","data":"AQIDBA=="}"#
        );
        response.data = Some(Bytes::new());
        assert!(text(&response).ends_with(r#","data":""}"#));
        response.data = None;
        response.err_code = -5;
        response.err_msg = "a\"b\\c\n\u{7f}é用😀".into();
        assert!(
            text(&response).ends_with(
                r#","errCode":-5,"errMsg":"a\"b\\c\u000a\u007fé用\ud83d\ude00","data":null}"#
            ),
            "{}",
            text(&response)
        );
        assert_eq!(decode::<Response>(text(&response).as_bytes()), Ok(response));
    }

    #[test]
    fn keys_are_read_leniently() {
        let read = request(r#" {"REQIDENTIFIER":1,"sendid":"u","Token":"t","other":{"a":[1,2.5,null,true,"x"]},"MsgIncr":null} "#)
            .expect("decodes");
        assert_eq!(
            (read.req_identifier, read.send_id.as_str(), read.token.as_str()),
            (1, "u", "t")
        );
        assert_eq!(request("null"), Ok(Request::default()));
        assert_eq!(request("{}"), Ok(Request::default()));
        assert_eq!(
            request(r#"{"reqIdentifier":null,"data":null,"sendID":null}"#),
            Ok(Request::default())
        );
        let twice = request(r#"{"sendID":"a","sendID":"b"}"#).expect("decodes");
        assert_eq!(twice.send_id, "b");
    }

    #[test]
    fn text_that_is_no_unicode_is_mended() {
        let read: Request = decode(b"{\"sendID\":\"a\xffb\\ud83d\"}").expect("decodes");
        assert_eq!(read.send_id, "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn values_are_read_strictly() {
        for value in ["1.0", "1e3", "\"1\"", "2147483648", "-2147483649", "[]", "true", "01", "+1"]
        {
            assert!(request(&format!("{{\"reqIdentifier\":{value}}}")).is_err(), "{value}");
        }
        for value in ["1", "[]", "{}", "false"] {
            assert!(request(&format!("{{\"sendID\":{value}}}")).is_err(), "{value}");
        }
        for value in ["1", "[1]", "\"_-8=\"", "\"AQ\"", "\"AQ=\"", "\"A\"", "\"!!!!\""] {
            assert!(request(&format!("{{\"data\":{value}}}")).is_err(), "{value}");
        }
        for text in
            ["", "[]", "1", "\"\"", "{", "{} {}", "{}x", "\u{feff}{}", "{\"a\":}", "{'a':1}"]
        {
            assert!(request(text).is_err(), "{text}");
        }
        for limit in ["2147483647", "-2147483648"] {
            let read = request(&format!("{{\"reqIdentifier\":{limit}}}")).expect("decodes");
            assert_eq!(read.req_identifier.to_string(), limit);
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        for open in ["[", "{\"a\":"] {
            let text = format!("{{\"other\":{}", open.repeat(100_000));
            assert!(matches!(request(&text), Err(JsonError::Syntax(_))));
        }
        let closed = format!("{{\"other\":{}{}}}", "[".repeat(1_000), "]".repeat(1_000));
        assert!(matches!(request(&closed), Err(JsonError::Syntax(_))));
    }
}
