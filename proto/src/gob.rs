//! Gob, the stream format of the native SDKs, as far as one flat struct needs it.
//!
//! A frame is a stream of its own: type definitions, then one value. Writing puts a type definition
//! known beforehand in front of the value. Reading follows the definition found in the frame,
//! matches fields by name and skips unknown ones of any type.

mod decode;
mod definition;
mod encode;
mod input;

pub use decode::decode;
pub use encode::encode;
pub use input::DecodeError;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A signed number of up to 64 bits.
    Int,
    /// Text, not necessarily UTF-8.
    Text,
    /// Bytes.
    Bytes,
}

impl Kind {
    const fn type_id(self) -> i64 {
        match self {
            Self::Int => definition::INT,
            Self::Text => definition::STRING,
            Self::Bytes => definition::BYTES,
        }
    }
}

/// A field of the struct that the reader wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name, matched exactly.
    pub name: &'static str,
    /// What it must hold.
    pub kind: Kind,
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Of an [`Int`](Kind::Int).
    Int(i64),
    /// Of a [`Text`](Kind::Text) or [`Bytes`](Kind::Bytes).
    Bytes(&'a [u8]),
}
