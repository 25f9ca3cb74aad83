//! The JSON form of the REST API.
//!
//! Differs from the canonical protobuf JSON: 64-bit integers are numbers, enums are numbers, empty
//! lists are `null`, empty maps are left out, every other field is always present. Reading is
//! lenient in key case and unknown keys and strict in types.

mod decode;
mod encode;

pub use decode::{DecodeError, from_slice, from_value};
pub use encode::{to_string, to_vec, write};

use serde::{Serialize, Serializer};

/// Serializes a list, or `null` when it is empty.
pub fn null_when_empty<T: Serialize, S: Serializer>(
    list: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if list.is_empty() { serializer.serialize_none() } else { list.serialize(serializer) }
}

/// `bytes` fields: standard base64 with padding, `null` when empty.
pub mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

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
        STANDARD.decode(text).map(Bytes::from).map_err(D::Error::custom)
    }
}
