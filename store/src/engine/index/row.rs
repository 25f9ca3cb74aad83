//! How pairs lie in sled.
//!
//! | key | value |
//! | --- | --- |
//! | a key of a table | `00` and the value, or `01` and where the value log has it |
//! | the key of a message with the number of its [`Block`] in place of the seq | the block |
//! | `FF` and a name | what the engine notes for itself |

use bytes::Bytes;

use super::block::{BLOCK_LEN, Block};
use super::location::Location;
use crate::StoreError;
use crate::engine::KeyRange;

/// Longer values lie in the value log.
const INLINE_BYTES: usize = 1_024;
/// Longest value in sled.
pub(super) const MAX_ROW_BYTES: usize = INLINE_BYTES + 1;

/// The table whose neighbouring rows share a block: conversation number, seq.
const MESSAGES: u8 = crate::schema::MESSAGES.tag();
const MESSAGE_KEY_BYTES: usize = 17;

const INLINE: u8 = 0;
const OUTSIDE: u8 = 1;

/// Tag of what the engine notes for itself.
pub(super) const OWN: u8 = 0xFF;

/// Where a key is to be looked for.
#[derive(Debug)]
pub(super) enum Place {
    /// In a pair of its own.
    Row,
    /// Under the key of a block, at a place in it.
    Block(Vec<u8>, usize),
}

impl Place {
    /// Where `key` belongs; none of the tables has keys like those that are refused.
    pub(super) fn of(key: &[u8]) -> Result<Self, StoreError> {
        check_key(key)?;
        Ok(if is_message(key) { Self::Block(block_key(key), slot(key)) } else { Self::Row })
    }
}

/// Refuses keys that none of the tables has.
pub(in crate::engine) fn check_key(key: &[u8]) -> Result<(), StoreError> {
    match key.first() {
        Some(&MESSAGES) if key.len() == MESSAGE_KEY_BYTES => Ok(()),
        Some(&MESSAGES | &OWN) => {
            Err(StoreError::Engine(format!("no table has a key such as {key:02x?}")))
        }
        _ => Ok(()),
    }
}

fn is_message(key: &[u8]) -> bool {
    key.first() == Some(&MESSAGES)
}

/// Number and seq of a message key, which may be cut short.
fn numbers(key: &[u8]) -> (u64, u64) {
    let mut whole = [0; MESSAGE_KEY_BYTES];
    let length = key.len().min(MESSAGE_KEY_BYTES);
    whole[..length].copy_from_slice(&key[..length]);
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&whole[at..at + 8]);
        u64::from_be_bytes(bytes)
    };
    (number(1), number(9))
}

fn message_key(number: u64, seq: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(MESSAGE_KEY_BYTES);
    key.push(MESSAGES);
    key.extend_from_slice(&number.to_be_bytes());
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

/// Key of the block that holds a message.
fn block_key(key: &[u8]) -> Vec<u8> {
    let (number, seq) = numbers(key);
    message_key(number, seq / BLOCK_LEN as u64)
}

/// Place of a message in its block.
fn slot(key: &[u8]) -> usize {
    usize::from(key.last().copied().unwrap_or_default()) % BLOCK_LEN
}

/// Keys of messages and where those are, in key order.
pub(super) type Messages = Vec<(Vec<u8>, Location)>;

/// The messages of a block; `None` if `key` is not one of a block.
pub(super) fn messages_of(key: &[u8], value: &[u8]) -> Result<Option<Messages>, StoreError> {
    if !is_message(key) {
        return Ok(None);
    }
    let (number, block) = numbers(key);
    let first = block.saturating_mul(BLOCK_LEN as u64);
    let block = Block::decode(value)?;
    let found = block.entries().map(|(slot, at)| (message_key(number, first + slot as u64), at));
    Ok(Some(found.collect()))
}

/// Whether every message before a key is in an earlier block.
fn begins_block(key: &[u8]) -> bool {
    is_message(key)
        && key.len() <= MESSAGE_KEY_BYTES
        && numbers(key).1.is_multiple_of(BLOCK_LEN as u64)
}

/// The range of sled's pairs that hold everything within a range of keys, and perhaps more.
pub(super) fn range(range: &KeyRange) -> KeyRange {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let from = match &range.0 {
        Included(key) | Excluded(key) if is_message(key) => Included(block_key(key)),
        other => other.clone(),
    };
    let to = match &range.1 {
        // What ends where a block begins holds nothing of that block.
        Excluded(key) if begins_block(key) => Excluded(block_key(key)),
        Included(key) | Excluded(key) if is_message(key) => Included(block_key(key)),
        Included(key) | Excluded(key) if key.first() == Some(&OWN) => Excluded(vec![OWN]),
        Unbounded => Excluded(vec![OWN]),
        other => other.clone(),
    };
    (from, to)
}

/// What a pair of its own holds.
#[derive(Debug, PartialEq)]
pub(super) enum Row {
    /// The value.
    Inline(Bytes),
    /// Where the value is.
    Outside(Location),
}

/// Whether a value goes to the value log.
pub(super) fn is_outside(value: &Bytes) -> bool {
    value.len() > INLINE_BYTES
}

impl Row {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Inline(value) => {
                out.push(INLINE);
                out.extend_from_slice(value);
            }
            Self::Outside(at) => {
                out.push(OUTSIDE);
                out.extend_from_slice(&at.to_bytes());
            }
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let damaged = || StoreError::Engine("a value in the database is damaged".into());
        match bytes.split_first() {
            Some((&INLINE, value)) => Ok(Self::Inline(Bytes::copy_from_slice(value))),
            Some((&OUTSIDE, at)) => {
                let at = at.try_into().map_err(|_| damaged())?;
                Ok(Self::Outside(Location::from_bytes(at)))
            }
            _ => Err(damaged()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use proptest::prelude::*;

    use super::*;

    fn within(range: &KeyRange, key: &[u8]) -> bool {
        std::ops::RangeBounds::<[u8]>::contains(&(as_slice(&range.0), as_slice(&range.1)), key)
    }

    fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
        match bound {
            Bound::Included(key) => Bound::Included(key),
            Bound::Excluded(key) => Bound::Excluded(key),
            Bound::Unbounded => Bound::Unbounded,
        }
    }

    /// Keys of messages, whole, cut short and with something behind, and of other tables.
    fn any_key() -> impl Strategy<Value = Vec<u8>> {
        let seq = prop_oneof![0..70_u64, Just(0), Just(32), Just(64)];
        let whole = (0..3_u64, seq).prop_map(|(number, seq)| message_key(number, seq));
        let cut = (whole, 0..19_usize).prop_map(|(mut key, length)| {
            key.resize(length.min(18), 0);
            key
        });
        let other = prop::collection::vec(MESSAGES - 1..=MESSAGES + 1, 0..3);
        prop_oneof![cut, other, Just(vec![OWN]), Just(vec![OWN, 1])]
    }

    fn any_bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
        prop_oneof![
            any_key().prop_map(Bound::Included),
            any_key().prop_map(Bound::Excluded),
            Just(Bound::Unbounded),
        ]
    }

    proptest! {
        #[test]
        fn a_range_of_pairs_holds_every_key_of_the_range(
            bounds in (any_bound(), any_bound()),
            number in 0..3_u64,
            seq in 0..70_u64,
            other in MESSAGES - 1..=MESSAGES + 1,
        ) {
            let pairs = range(&bounds);
            let key = message_key(number, seq);
            if within(&bounds, &key) {
                prop_assert!(within(&pairs, &block_key(&key)));
            }
            if other != MESSAGES && within(&bounds, &[other]) {
                prop_assert!(within(&pairs, &[other]));
            }
            prop_assert!(!within(&pairs, &[OWN, 0]));
        }

        #[test]
        fn rows_round_trip(value in prop::collection::vec(any::<u8>(), 0..40), at in any::<[u32; 3]>()) {
            for row in [
                Row::Inline(value.clone().into()),
                Row::Outside(Location { segment: at[0], offset: at[1], length: at[2] }),
            ] {
                prop_assert_eq!(Row::decode(&row.encode()).unwrap(), row);
            }
            let _ = Row::decode(&value);
        }
    }

    #[test]
    fn a_message_is_found_in_its_block() {
        let key = message_key(7, 33);
        let Place::Block(block, slot) = Place::of(&key).unwrap() else { panic!("no block") };
        let mut held = Block::default();
        let at = Location { segment: 1, offset: 2, length: 3 };
        held.set(slot, Some(at));
        let found = messages_of(&block, &held.encode()).unwrap().unwrap();
        assert_eq!(found, [(key, at)]);
        assert!(Place::of(&[MESSAGES, 1]).is_err());
        assert!(Place::of(&[OWN]).is_err());
        assert!(messages_of(&[MESSAGES + 1], &[]).unwrap().is_none());
    }
}
