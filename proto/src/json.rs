//! The JSON form of the REST API.
//!
//! Differs from the canonical protobuf JSON: 64-bit integers are numbers, enums are numbers, empty
//! lists are `null`, empty maps are left out, every other field is always present. Reading is
//! lenient in key case and unknown keys and strict in types.

mod decode;
mod encode;

pub(crate) use decode::mend;
pub use decode::{DecodeError, from_slice, from_value};
pub use encode::{to_string, to_vec, write};

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Serialize, Serializer};

/// Serializes a list, or `null` when it is empty.
pub fn null_when_empty<T: Serialize, S: Serializer>(
    list: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if list.is_empty() { serializer.serialize_none() } else { list.serialize(serializer) }
}

/// Reads the bool of a wrapper, which may be written as `1` or `0`.
pub fn bool_or_digit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    struct BoolOrDigit;

    impl Visitor<'_> for BoolOrDigit {
        type Value = bool;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a boolean, 1 or 0")
        }

        fn visit_unit<E>(self) -> Result<bool, E> {
            Ok(false)
        }

        fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<bool, E> {
            match value {
                0 => Ok(false),
                1 => Ok(true),
                other => Err(E::invalid_value(Unexpected::Unsigned(other), &self)),
            }
        }
    }

    deserializer.deserialize_any(BoolOrDigit)
}

/// `bytes` fields: standard base64 with padding, `null` when empty.
pub mod base64_bytes {
    use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
    use base64::{DecodeError, Engine as _, alphabet};
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    /// Bits behind the last byte are ignored, as the original does.
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
    );

    /// Writes base64, or `null` for no bytes.
    pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        if bytes.is_empty() {
            serializer.serialize_none()
        } else {
            serializer.serialize_str(&STANDARD.encode(bytes))
        }
    }

    /// Reads base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        decode(&text).map_err(D::Error::custom)
    }

    /// Line ends are allowed anywhere.
    pub(crate) fn decode(text: &str) -> Result<Bytes, DecodeError> {
        let line_end = ['\r', '\n'];
        let bytes = if text.contains(line_end) {
            LENIENT.decode(text.replace(line_end, ""))
        } else {
            LENIENT.decode(text)
        };
        bytes.map(Bytes::from)
    }
}
