//! Order-preserving keys.
//!
//! A key is the table tag followed by segments. Numbers are big-endian (signed ones with the sign
//! bit flipped); text ends with a zero byte, with `00` and `01` inside it escaped, so that a text is
//! never a prefix of another one's encoding and the order of the texts is kept.

use std::fmt::Debug;

/// A key that does not decode.
#[derive(Debug, thiserror::Error)]
#[error("key does not decode")]
pub struct BadKey;

/// How one kind of key is written and read.
pub trait KeyCodec {
    /// What a key decodes to.
    type Owned: Debug;
    /// What a key is written from.
    type Ref<'a>: Encode + Copy;
    /// Reads one key from the front of `bytes`.
    fn decode(bytes: &mut &[u8]) -> Result<Self::Owned, BadKey>;
}

/// Something that can be written as (part of) a key.
pub trait Encode {
    /// Appends the encoding to `out`.
    fn encode(&self, out: &mut Vec<u8>);
}

/// A text segment.
#[derive(Debug)]
pub struct Text;

impl KeyCodec for Text {
    type Owned = String;
    type Ref<'a> = &'a str;

    fn decode(bytes: &mut &[u8]) -> Result<String, BadKey> {
        let mut text = Vec::new();
        loop {
            match take(bytes)? {
                0 => break,
                1 => text.push(take(bytes)?.checked_sub(1).filter(|b| *b <= 1).ok_or(BadKey)?),
                byte => text.push(byte),
            }
        }
        String::from_utf8(text).map_err(|_| BadKey)
    }
}

fn take(bytes: &mut &[u8]) -> Result<u8, BadKey> {
    let (first, rest) = bytes.split_first().ok_or(BadKey)?;
    *bytes = rest;
    Ok(*first)
}

fn take_array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], BadKey> {
    let (first, rest) = bytes.split_first_chunk::<N>().ok_or(BadKey)?;
    *bytes = rest;
    Ok(*first)
}

impl Encode for &str {
    fn encode(&self, out: &mut Vec<u8>) {
        for &byte in self.as_bytes() {
            match byte {
                0 | 1 => out.extend_from_slice(&[1, byte + 1]),
                byte => out.push(byte),
            }
        }
        out.push(0);
    }
}

macro_rules! unsigned {
    ($($number:ty),*) => {$(
        impl KeyCodec for $number {
            type Owned = $number;
            type Ref<'a> = $number;
            fn decode(bytes: &mut &[u8]) -> Result<$number, BadKey> {
                Ok(<$number>::from_be_bytes(take_array(bytes)?))
            }
        }
        impl Encode for $number {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    )*};
}
unsigned!(u8, u32, u64);

impl KeyCodec for i64 {
    type Owned = i64;
    type Ref<'a> = i64;

    fn decode(bytes: &mut &[u8]) -> Result<i64, BadKey> {
        Ok((u64::from_be_bytes(take_array(bytes)?) ^ (1 << 63)).cast_signed())
    }
}

impl Encode for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.cast_unsigned() ^ (1 << 63)).to_be_bytes());
    }
}

impl Encode for () {
    fn encode(&self, _out: &mut Vec<u8>) {}
}

macro_rules! tuple {
    ($($name:ident $at:tt),*) => {
        impl<$($name: KeyCodec),*> KeyCodec for ($($name,)*) {
            type Owned = ($($name::Owned,)*);
            type Ref<'a> = ($($name::Ref<'a>,)*);
            fn decode(bytes: &mut &[u8]) -> Result<Self::Owned, BadKey> {
                Ok(($($name::decode(bytes)?,)*))
            }
        }
        impl<$($name: Encode),*> Encode for ($($name,)*) {
            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$at.encode(out);)*
            }
        }
    };
}
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);

/// The smallest key greater than every key that starts with `prefix`; `None` if there is none.
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(key: impl Encode) -> Vec<u8> {
        let mut out = Vec::new();
        key.encode(&mut out);
        out
    }

    proptest! {
        #[test]
        fn keys_round_trip_and_keep_their_order(
            a in ("\\PC{0,6}|[\u{0}\u{1}\u{2}a]{0,4}", any::<i64>(), any::<u64>(), any::<u8>()),
            b in ("\\PC{0,6}|[\u{0}\u{1}\u{2}a]{0,4}", any::<i64>(), any::<u64>(), any::<u8>()),
        ) {
            let bytes_a = encoded((a.0.as_str(), a.1, a.2, a.3));
            let bytes_b = encoded((b.0.as_str(), b.1, b.2, b.3));
            prop_assert_eq!(bytes_a.cmp(&bytes_b), a.cmp(&b));
            let mut rest = bytes_a.as_slice();
            let decoded = <(Text, i64, u64, u8)>::decode(&mut rest).expect("decodes");
            prop_assert_eq!(decoded, a);
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn no_text_is_a_prefix_of_another(a in "[\u{0}\u{1}ab]{0,4}", b in "[\u{0}\u{1}ab]{0,4}") {
            prop_assume!(a != b);
            prop_assert!(!encoded(a.as_str()).starts_with(&encoded(b.as_str())));
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = <(Text, u64)>::decode(&mut bytes.as_slice());
        }
    }

    #[test]
    fn the_end_of_a_prefix() {
        assert_eq!(after_prefix(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(after_prefix(&[1, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255, 255]), None);
        assert_eq!(after_prefix(&[]), None);
    }
}
