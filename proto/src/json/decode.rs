use std::borrow::Cow;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde_json::{Map, Number, Value};

/// Why a request body was not accepted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);

impl de::Error for DecodeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Reads a request object from JSON text.
///
/// Keys match exactly or, failing that, without regard to case; unknown keys are ignored; `null`
/// and a missing key give the zero value; of a repeated key the last one counts; bytes that are not
/// UTF-8 become U+FFFD. Types are strict: an integer field takes an integer literal in range only.
pub fn from_slice<T: DeserializeOwned>(text: &[u8]) -> Result<T, DecodeError> {
    let text = mend(text);
    let value: Value =
        serde_json::from_str(&text).map_err(|error| DecodeError(error.to_string()))?;
    from_value(value)
}

/// JSON text in which whatever is no Unicode is U+FFFD: bytes that are not UTF-8, and escapes of
/// lone surrogates, which JavaScript writes when a text was cut inside of an emoji.
pub(crate) fn mend(text: &[u8]) -> Cow<'_, str> {
    let mut text = String::from_utf8_lossy(text);
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\\')) {
        let escape = at + found;
        at = escape
            + match (surrogate(&text, escape), surrogate(&text, escape + ESCAPE_LEN)) {
                (Some(Surrogate::High), Some(Surrogate::Low)) => 2 * ESCAPE_LEN,
                (Some(_), _) => {
                    text.to_mut().replace_range(escape..escape + ESCAPE_LEN, "\\ufffd");
                    ESCAPE_LEN
                }
                (None, _) => 2,
            };
    }
    text
}

/// Length of `\u0000`.
const ESCAPE_LEN: usize = 6;

enum Surrogate {
    High,
    Low,
}

/// The surrogate that is escaped at this place.
fn surrogate(text: &str, at: usize) -> Option<Surrogate> {
    let digits = text.get(at..at + ESCAPE_LEN)?.strip_prefix("\\u")?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..0xdc00 => Some(Surrogate::High),
        0xdc00..0xe000 => Some(Surrogate::Low),
        _ => None,
    }
}

/// Reads a request object from a parsed JSON value; `null` counts as an empty object.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, DecodeError> {
    match value {
        Value::Object(_) | Value::Null => T::deserialize(Lenient(value)),
        other => Err(de::Error::invalid_type(unexpected(&other), &"an object")),
    }
}

/// A `serde` deserializer over a JSON value with the rules of [`from_slice`].
struct Lenient(Value);

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(b) => Unexpected::Bool(*b),
        Value::Number(n) => match n.as_i64() {
            Some(i) => Unexpected::Signed(i),
            None => Unexpected::Other("number"),
        },
        Value::String(s) => Unexpected::Str(s),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}

impl Lenient {
    fn integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_u64(0),
            Value::Number(number) => visit_integer(&number, visitor),
            other => Err(de::Error::invalid_type(unexpected(&other), &visitor)),
        }
    }

    fn float<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.0 {
            Value::Null => visitor.visit_f64(0.0),
            Value::Number(number) => match number.as_f64() {
                Some(float) => visitor.visit_f64(float),
                None => Err(de::Error::invalid_type(unexpected(&self.0), &visitor)),
            },
            other => Err(de::Error::invalid_type(unexpected(other), &visitor)),
        }
    }
}

fn visit_integer<'de, V: Visitor<'de>>(
    number: &Number,
    visitor: V,
) -> Result<V::Value, DecodeError> {
    if let Some(unsigned) = number.as_u64() {
        visitor.visit_u64(unsigned)
    } else if let Some(signed) = number.as_i64() {
        visitor.visit_i64(signed)
    } else {
        Err(de::Error::invalid_type(Unexpected::Other("number"), &visitor))
    }
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(b),
            Value::Number(n) => match n.as_f64() {
                Some(float) if n.is_f64() => visitor.visit_f64(float),
                _ => visit_integer(&n, visitor),
            },
            Value::String(s) => visitor.visit_string(s),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            Value::Object(map) => visitor.visit_map(Entries::of_map(map)),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(b) => visitor.visit_bool(b),
            other => Err(de::Error::invalid_type(unexpected(&other), &visitor)),
        }
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.integer(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.integer(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.integer(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.integer(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.float(visitor)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.float(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_str(""),
            Value::String(s) => visitor.visit_string(s),
            other => Err(de::Error::invalid_type(unexpected(&other), &visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_seq(Items(Vec::new().into_iter())),
            Value::Array(items) => visitor.visit_seq(Items(items.into_iter())),
            other => Err(de::Error::invalid_type(unexpected(&other), &visitor)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_map(Entries::of_map(Map::new())),
            Value::Object(map) => visitor.visit_map(Entries::of_map(map)),
            other => Err(de::Error::invalid_type(unexpected(&other), &visitor)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.0 {
            Value::Null => visitor.visit_map(Entries::of_map(Map::new())),
            Value::Object(map) => visitor.visit_map(Entries::of_struct(map, fields)),
            other => Err(de::Error::invalid_type(unexpected(&other), &visitor)),
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u128 char bytes byte_buf unit unit_struct tuple tuple_struct enum
        identifier ignored_any
    }
}

struct Items(std::vec::IntoIter<Value>);

impl<'de> SeqAccess<'de> for Items {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        self.0.next().map(|value| seed.deserialize(Lenient(value))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The entries of an object: for a struct, only known fields under their own names.
struct Entries {
    entries: std::vec::IntoIter<(Cow<'static, str>, Value)>,
    value: Option<Value>,
}

impl Entries {
    fn of_map(map: Map<String, Value>) -> Self {
        let entries: Vec<_> = map.into_iter().map(|(key, value)| (key.into(), value)).collect();
        Self { entries: entries.into_iter(), value: None }
    }

    fn of_struct(mut map: Map<String, Value>, fields: &'static [&'static str]) -> Self {
        let mut entries = Vec::with_capacity(map.len().min(fields.len()));
        for &field in fields {
            let value = map.remove(field).or_else(|| {
                let folded = map.keys().find(|key| key.eq_ignore_ascii_case(field))?.clone();
                map.remove(&folded)
            });
            // A null leaves the field at its default, as a missing key does.
            if let Some(value) = value.filter(|value| !value.is_null()) {
                entries.push((Cow::Borrowed(field), value));
            }
        }
        Self { entries: entries.into_iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Entries {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        seed.deserialize(Lenient(self.value.take().unwrap_or(Value::Null)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{group, relation, sdkws, user};

    #[test]
    fn keys_match_without_regard_to_case() {
        let request: relation::ApplyToAddFriendReq =
            from_slice(br#"{"FROMUSERID":"a","toUserID":"b","tOUserID":"c","nope":[1]}"#)
                .expect("decodes");
        assert_eq!((request.from_user_id.as_str(), request.to_user_id.as_str()), ("a", "b"));
    }

    #[test]
    fn null_and_missing_are_zero_and_the_last_duplicate_counts() {
        let request: sdkws::RequestPagination =
            from_slice(br#"{"pageNumber":1,"pageNumber":7,"showNumber":null}"#).expect("decodes");
        assert_eq!((request.page_number, request.show_number), (7, 0));
        let request: user::GetDesignateUsersReq =
            from_slice(br#"{"userIDs":["a",null]}"#).expect("decodes");
        assert_eq!(request.user_ids, ["a", ""]);
        assert_eq!(
            from_slice::<sdkws::RequestPagination>(b"null").expect("decodes").page_number,
            0
        );
    }

    #[test]
    fn numbers_are_strict() {
        for text in ["1.0", "1e3", "\"1\"", "2147483648", "[1]", "{}", "true"] {
            let body = format!("{{\"pageNumber\":{text}}}");
            assert!(
                from_slice::<sdkws::RequestPagination>(body.as_bytes()).is_err(),
                "{text} must be refused"
            );
        }
        let hash: group::GetFullGroupMemberUserIDsReq =
            from_slice(br#"{"idHash":18446744073709551615}"#).expect("decodes");
        assert_eq!(hash.id_hash, u64::MAX);
    }

    #[test]
    fn the_top_level_is_an_object() {
        for text in ["[]", "1", "", "{} {}", "\"a\"", "\u{feff}{}", "{"] {
            assert!(from_slice::<sdkws::RequestPagination>(text.as_bytes()).is_err(), "{text:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(from_slice::<sdkws::RequestPagination>(deep.as_bytes()).is_err());
    }

    #[test]
    fn wrappers_are_bare_values() {
        let request: group::SetGroupInfoExReq =
            from_slice(br#"{"groupID":"g","ex":"","needVerification":2}"#).expect("decodes");
        assert_eq!(request.ex.map(|ex| ex.value).as_deref(), Some(""));
        assert_eq!(request.need_verification.map(|v| v.value), Some(2));
        assert!(request.group_name.is_none());
        assert!(from_slice::<group::SetGroupInfoExReq>(br#"{"ex":{"value":"x"}}"#).is_err());
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        let request: relation::ApplyToAddFriendReq =
            from_slice(b"{\"fromUserID\":\"a\xff\"}").expect("decodes");
        assert_eq!(request.from_user_id, "a\u{fffd}");
    }
}
