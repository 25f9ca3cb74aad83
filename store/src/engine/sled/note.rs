//! What the engine notes in sled for itself.
//!
//! | name | value |
//! | --- | --- |
//! | `f` | version of the layout, 1 byte |
//! | `e` | segment and offset where the value log ends, 4 bytes each |
//! | `d` and a segment, 4 bytes | bytes of it that are not needed, 8 bytes; all ones: it is done with |

use std::collections::BTreeMap;

use super::engine_error;
use super::row::OWN;
use super::value_log::End;
use crate::StoreError;

/// Version of the layout that this program writes.
const LAYOUT: u8 = 1;
const DONE: u64 = u64::MAX;

const FORMAT_KEY: [u8; 2] = [OWN, b'f'];
const END_KEY: [u8; 2] = [OWN, b'e'];
const DEAD_KEY: [u8; 2] = [OWN, b'd'];

/// The notes of a database that was just opened.
pub(super) struct Notes {
    pub(super) end: End,
    /// Bytes of each segment that nothing refers to.
    pub(super) dead: BTreeMap<u32, u64>,
    /// Segments whose last values were moved elsewhere.
    pub(super) retired: Vec<u32>,
}

impl Notes {
    pub(super) fn read(db: &sled::Db) -> Result<Self, StoreError> {
        match db.get(FORMAT_KEY).map_err(engine_error)? {
            Some(found) if found.as_ref() == [LAYOUT] => {}
            None if db.is_empty() => start(db)?,
            _ => {
                let reason = "the database was written by another version of this program";
                return Err(StoreError::Engine(reason.into()));
            }
        }
        let mut notes = Self { end: End::START, dead: BTreeMap::new(), retired: Vec::new() };
        if let Some(end) = db.get(END_KEY).map_err(engine_error)? {
            let (segment, offset) = numbers(&end)?;
            notes.end = End { segment, offset };
        }
        for pair in db.scan_prefix(DEAD_KEY) {
            let (key, value) = pair.map_err(engine_error)?;
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

/// Marks a new database.
fn start(db: &sled::Db) -> Result<(), StoreError> {
    let mut rows = sled::Batch::default();
    rows.insert(&FORMAT_KEY, &[LAYOUT]);
    #[expect(clippy::disallowed_methods, reason = "it is synced with the first batch")]
    db.apply_batch(rows).map_err(engine_error)
}

fn numbers(bytes: &[u8]) -> Result<(u32, u32), StoreError> {
    let [a, b, c, d, e, f, g, h] = bytes.try_into().map_err(|_| damaged())?;
    Ok((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])))
}

fn damaged() -> StoreError {
    StoreError::Engine("a note about the value log is damaged".into())
}

fn dead_key(segment: u32) -> Vec<u8> {
    let mut key = DEAD_KEY.to_vec();
    key.extend_from_slice(&segment.to_be_bytes());
    key
}

/// Notes where the value log ends.
pub(super) fn end(rows: &mut sled::Batch, End { segment, offset }: End) {
    let mut value = segment.to_be_bytes().to_vec();
    value.extend_from_slice(&offset.to_be_bytes());
    rows.insert(&END_KEY, value);
}

/// Notes how much of a segment is not needed.
pub(super) fn dead(rows: &mut sled::Batch, segment: u32, bytes: u64) {
    rows.insert(dead_key(segment), &bytes.to_be_bytes());
}

/// Notes that nothing refers to a segment.
pub(super) fn done(rows: &mut sled::Batch, segment: u32) {
    rows.insert(dead_key(segment), &DONE.to_be_bytes());
}

/// Drops the note about a segment that is removed.
pub(super) fn forget(rows: &mut sled::Batch, segment: u32) {
    rows.remove(dead_key(segment));
}
