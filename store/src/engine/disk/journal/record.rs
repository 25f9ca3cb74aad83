//! One batch in the journal.
//!
//! | bytes | content of a record |
//! | --- | --- |
//! | 4 | [`MARK`] |
//! | 4 | its length, all of it |
//! | 4 | CRC-32 of the journal's ID and of everything behind |
//! | 8 | number of the batch |
//! | 8 | when it was written, Unix milliseconds |
//! | … | the changes |
//!
//! A change is the length of the key (2), the length of the value (4; all ones: the key is deleted),
//! the key and the value. Numbers are big-endian.

use bytes::Bytes;

use crate::engine::Batch;

/// What every record begins with, so that one behind damaged bytes is found.
pub(super) const MARK: [u8; 4] = [0xE7, b'b', b'a', b't'];
const HEAD_BYTES: usize = 28;
const DELETED: u32 = u32::MAX;

/// A batch as it was found.
#[derive(Debug, PartialEq)]
pub(in crate::engine) struct Record {
    pub(in crate::engine) number: u64,
    /// When it was written, Unix milliseconds.
    pub(in crate::engine) written_ms: i64,
    pub(in crate::engine) batch: Batch,
    /// Its length in bytes.
    pub(super) length: usize,
}

/// Of a record from its number on.
fn checksum(journal: u64, rest: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&journal.to_be_bytes());
    hash.update(rest);
    hash.finalize()
}

/// Appends a batch to `out`; `false` when it is too long for a record, and `out` is as before.
pub(super) fn encode(
    journal: u64,
    number: u64,
    written_ms: i64,
    batch: &Batch,
    out: &mut Vec<u8>,
) -> bool {
    let start = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&written_ms.to_be_bytes());
    for (key, value) in batch {
        let bytes = value.as_ref().map_or(Some(DELETED), |value| u32::try_from(value.len()).ok());
        let (Ok(key_bytes), Some(bytes)) = (u16::try_from(key.len()), bytes) else {
            out.truncate(start);
            return false;
        };
        out.extend_from_slice(&key_bytes.to_be_bytes());
        out.extend_from_slice(&bytes.to_be_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    let Ok(length) = u32::try_from(out.len() - start) else {
        out.truncate(start);
        return false;
    };
    let sum = checksum(journal, &out[start + 12..]);
    out[start + 4..start + 8].copy_from_slice(&length.to_be_bytes());
    out[start + 8..start + 12].copy_from_slice(&sum.to_be_bytes());
    true
}

/// Takes `N` bytes from the front.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (&front, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(front)
}

/// Takes a slice from the front.
fn take_slice<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (front, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(front)
}

/// Whether a whole record of this journal begins `bytes`, and its length and number.
pub(super) fn probe(journal: u64, bytes: &[u8]) -> Option<(usize, u64)> {
    let mut rest = bytes;
    if take::<4>(&mut rest)? != MARK {
        return None;
    }
    let length = usize::try_from(u32::from_be_bytes(take(&mut rest)?)).ok()?;
    let sum = u32::from_be_bytes(take(&mut rest)?);
    let summed = bytes.get(12..length)?;
    if length < HEAD_BYTES || sum != checksum(journal, summed) {
        return None;
    }
    Some((length, u64::from_be_bytes(take(&mut rest)?)))
}

/// The length of the record that begins `bytes`, as it says itself.
pub(super) fn said_length(bytes: &[u8]) -> Option<usize> {
    let (mark, rest) = bytes.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*rest.first_chunk()?);
    (*mark == MARK).then(|| usize::try_from(length).ok()).flatten()
}

/// Whether `bytes` are a whole record, whatever it says of its length.
pub(super) fn is_whole(journal: u64, bytes: &[u8]) -> bool {
    let sum = bytes.get(8..).and_then(|rest| rest.first_chunk());
    let summed = bytes.get(12..).filter(|_| bytes.len() >= HEAD_BYTES);
    sum.zip(summed)
        .is_some_and(|(sum, summed)| u32::from_be_bytes(*sum) == checksum(journal, summed))
}

/// When the whole record that begins `bytes` was written, Unix milliseconds.
pub(super) fn written_ms(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(*bytes.get(20..)?.first_chunk()?))
}

/// The record that begins `bytes`; `None` if there is no whole one of this journal.
pub(super) fn decode(journal: u64, bytes: &[u8]) -> Option<Record> {
    let (length, number) = probe(journal, bytes)?;
    let mut rest = bytes.get(20..length)?;
    let written_ms = i64::from_be_bytes(take(&mut rest)?);
    let mut batch = Batch::new();
    while !rest.is_empty() {
        let key_bytes = u16::from_be_bytes(take(&mut rest)?);
        let value_bytes = u32::from_be_bytes(take(&mut rest)?);
        let key = take_slice(&mut rest, key_bytes.into())?.to_vec();
        let value = match value_bytes {
            DELETED => None,
            bytes => Some(take_slice(&mut rest, usize::try_from(bytes).ok()?)?),
        };
        batch.insert(key, value.map(Bytes::copy_from_slice));
    }
    Some(Record { number, written_ms, batch, length })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_batch() -> impl Strategy<Value = Batch> {
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..50));
        let key = prop::collection::vec(any::<u8>(), 0..10);
        prop::collection::btree_map(key, value.prop_map(|value| value.map(Bytes::from)), 0..20)
    }

    proptest! {
        #[test]
        fn records_round_trip(batch in any_batch(), number: u64, at: i64, behind in prop::collection::vec(any::<u8>(), 0..9)) {
            let mut bytes = Vec::new();
            prop_assert!(encode(7, number, at, &batch, &mut bytes));
            let length = bytes.len();
            bytes.extend(behind);
            let found = decode(7, &bytes).unwrap();
            prop_assert_eq!(found, Record { number, written_ms: at, batch, length });
            prop_assert!(decode(8, &bytes).is_none());
        }

        #[test]
        fn a_changed_bit_is_noticed(batch in any_batch(), bit: prop::sample::Index) {
            let mut bytes = Vec::new();
            encode(7, 1, 2, &batch, &mut bytes);
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(7, &bytes).is_none());
        }

        #[test]
        fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(7, &bytes);
            bytes.splice(0..0, MARK);
            let _ = decode(7, &bytes);
        }
    }
}
