//! A file of the journal.
//!
//! | bytes | content of its head |
//! | --- | --- |
//! | 8 | `entejrnl` |
//! | 4 | CRC-32 of what follows |
//! | 4 | version of the format |
//! | 8 | ID of the journal |
//! | 8 | number of the segment |
//! | 8 | number of the first batch in it |
//!
//! Batches follow without gaps. The file may be one that held older batches: what is behind the last
//! batch is of no use, and has lower numbers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use memchr::memmem;

use super::record::{self, MARK, Record};

pub(super) const HEAD_BYTES: usize = 40;
const MAGIC: [u8; 8] = *b"entejrnl";
const VERSION: u32 = 1;

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) journal: u64,
    pub(super) segment: u64,
    /// Number of the first batch.
    pub(super) first: u64,
}

impl Head {
    pub(super) fn encode(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[12..16].copy_from_slice(&VERSION.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.journal.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.segment.to_be_bytes());
        bytes[32..40].copy_from_slice(&self.first.to_be_bytes());
        let sum = crc32fast::hash(&bytes[12..]);
        bytes[8..12].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// `None` if the bytes are not the head of a segment.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD_BYTES>()?;
        let word = |at: usize| head[at..at + 8].try_into().map_or(0, u64::from_be_bytes);
        let decoded = Self { journal: word(16), segment: word(24), first: word(32) };
        (decoded.encode() == *head).then_some(decoded)
    }
}

/// Path of a segment.
pub(super) fn path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:016x}"))
}

/// The segments that have a file, in order.
pub(super) fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_str().filter(|name| name.len() == 16);
        found.extend(name.and_then(|name| u64::from_str_radix(name, 16).ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// The content of a segment.
pub(super) struct Content {
    /// Those that were not known.
    pub(super) records: Vec<Record>,
    /// Number of the batch after the last.
    pub(super) next: u64,
    /// Where the last one ends.
    pub(super) end: usize,
    /// Whether behind that there is a whole batch that must have come later, so that what is there
    /// was once whole, too.
    pub(super) later: bool,
}

/// Reads the batches that follow one another from `first` on; those up to `known` are left out.
pub(super) fn read(bytes: &[u8], head: Head, known: u64) -> Content {
    let mut content =
        Content { records: Vec::new(), next: head.first, end: HEAD_BYTES, later: false };
    while let Some(rest) = bytes.get(content.end..)
        && let Some((length, number)) = record::probe(head.journal, rest)
        && number == content.next
    {
        if number > known {
            let Some(found) = record::decode(head.journal, rest) else { break };
            content.records.push(found);
        }
        content.end += length;
        content.next += 1;
    }
    let behind = bytes.get(content.end..).unwrap_or_default();
    content.later = memmem::find_iter(behind, &MARK).any(|at| {
        let found = record::probe(head.journal, &behind[at..]);
        found.is_some_and(|(_, number)| number >= content.next)
    });
    content
}
