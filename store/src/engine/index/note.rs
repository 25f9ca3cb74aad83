//! What the index notes in sled for itself.
//!
//! | name | value |
//! | --- | --- |
//! | `f` | version of the layout, 1 byte |
//! | `e` | segment and offset where the value log ends, 4 bytes each |
//! | `d` and a segment, 4 bytes | bytes of it that are not needed, 8 bytes; all ones: it is done with |
//! | `s` | [`Sum`], 24 bytes |

use std::collections::BTreeMap;
use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

use super::row::OWN;
use super::rows::Rows;
use super::sled_error;
use super::value_log::End;
use crate::StoreError;

/// Version of the layout that this program writes.
const LAYOUT: u8 = 2;
/// The one before: without a sum.
const WITHOUT_SUM: u8 = 1;
const DONE: u64 = u64::MAX;

const FORMAT_KEY: [u8; 2] = [OWN, b'f'];
const END_KEY: [u8; 2] = [OWN, b'e'];
const DEAD_KEY: [u8; 2] = [OWN, b'd'];
pub(super) const SUM_KEY: [u8; 2] = [OWN, b's'];

/// What all pairs of the index come to, so that one that is missing, changed or too many is noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::engine) struct Sum {
    /// Writes to the index since it was made.
    pub(in crate::engine) step: u64,
    /// The index has every batch of the journal up to this one.
    pub(in crate::engine) batch: u64,
    /// Hashes of all pairs but this one, added up.
    pub(super) pairs: u64,
}

impl Sum {
    pub(super) fn encode(self) -> Vec<u8> {
        [self.step, self.batch, self.pairs].into_iter().flat_map(u64::to_be_bytes).collect()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let (&step, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
        let (&batch, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
        let pairs = rest.try_into().map_err(|_| damaged())?;
        let number = u64::from_be_bytes;
        Ok(Self { step: number(step), batch: number(batch), pairs: number(pairs) })
    }
}

/// The share of a pair in [`Sum::pairs`].
pub(super) fn hash(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write_usize(key.len());
    hasher.write(key);
    hasher.write(value);
    hasher.finish()
}

/// The notes of a database that was just opened.
#[derive(Debug)]
pub(super) struct Notes {
    /// `None`: it was written before there were sums, or only just begun.
    pub(super) sum: Option<Sum>,
    pub(super) end: End,
    /// Bytes of each segment that nothing refers to.
    pub(super) dead: BTreeMap<u32, u64>,
    /// Segments whose last values were moved elsewhere.
    pub(super) retired: Vec<u32>,
}

impl Notes {
    pub(super) fn read(db: &sled::Db) -> Result<Self, StoreError> {
        let get = |key: [u8; 2]| db.get(key).map_err(sled_error);
        match get(FORMAT_KEY)? {
            Some(found)
                if [&[LAYOUT], &[WITHOUT_SUM]].contains(&&[found[0]]) && found.len() == 1 => {}
            None if db.is_empty() => {}
            _ => {
                let reason = "the database was written by another version of this program";
                return Err(StoreError::Engine(reason.into()));
            }
        }
        let sum = get(SUM_KEY)?.map(|sum| Sum::decode(&sum)).transpose()?;
        let mut notes = Self { sum, end: End::START, dead: BTreeMap::new(), retired: Vec::new() };
        if let Some(end) = get(END_KEY)? {
            let (segment, offset) = numbers(&end)?;
            notes.end = End { segment, offset };
        }
        for pair in db.scan_prefix(DEAD_KEY) {
            let (key, value) = pair.map_err(sled_error)?;
            let segment = key.get(2..).unwrap_or_default().try_into().map_err(|_| damaged())?;
            let segment = u32::from_be_bytes(segment);
            match u64::from_be_bytes(value.as_ref().try_into().map_err(|_| damaged())?) {
                DONE => notes.retired.push(segment),
                bytes => drop(notes.dead.insert(segment, bytes)),
            }
        }
        Ok(notes)
    }
}

fn numbers(bytes: &[u8]) -> Result<(u32, u32), StoreError> {
    let [a, b, c, d, e, f, g, h] = bytes.try_into().map_err(|_| damaged())?;
    Ok((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])))
}

fn damaged() -> StoreError {
    StoreError::Engine("a note in the index is damaged".into())
}

fn dead_key(segment: u32) -> Vec<u8> {
    let mut key = DEAD_KEY.to_vec();
    key.extend_from_slice(&segment.to_be_bytes());
    key
}

/// Notes the layout.
pub(super) fn layout(rows: &mut Rows<'_>) -> Result<(), StoreError> {
    rows.set(FORMAT_KEY.to_vec(), Some(vec![LAYOUT]))
}

/// Notes where the value log ends.
pub(super) fn end(rows: &mut Rows<'_>, End { segment, offset }: End) -> Result<(), StoreError> {
    let mut value = segment.to_be_bytes().to_vec();
    value.extend_from_slice(&offset.to_be_bytes());
    rows.set(END_KEY.to_vec(), Some(value))
}

/// Notes how much of a segment is not needed.
pub(super) fn dead(rows: &mut Rows<'_>, segment: u32, bytes: u64) -> Result<(), StoreError> {
    rows.set(dead_key(segment), Some(bytes.to_be_bytes().to_vec()))
}

/// Notes that nothing refers to a segment.
pub(super) fn done(rows: &mut Rows<'_>, segment: u32) -> Result<(), StoreError> {
    rows.set(dead_key(segment), Some(DONE.to_be_bytes().to_vec()))
}

/// Drops the note about a segment that is removed.
pub(super) fn forget(rows: &mut Rows<'_>, segment: u32) -> Result<(), StoreError> {
    rows.set(dead_key(segment), None)
}
