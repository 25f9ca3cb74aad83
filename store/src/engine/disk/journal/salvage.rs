//! Whatever can still be read of a journal.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use memchr::memmem;

use super::record::{self, MARK, Record};
use super::segment::{self, Head};
use super::{head, mark};

/// The batches that are whole, wherever they lie.
#[derive(Debug, Default)]
pub(in crate::engine) struct Salvaged {
    /// By number.
    pub(in crate::engine) records: BTreeMap<u64, Record>,
    /// The batch that was certainly written, as far as that is known.
    pub(in crate::engine) mark: u64,
    /// ID of the journal, if there is any.
    pub(in crate::engine) journal: Option<u64>,
}

/// Reads every whole batch of the journal with this ID; without one, of the journal of most segments.
pub(in crate::engine) fn read(folder: &Path, journal: Option<u64>) -> io::Result<Salvaged> {
    let mark = mark::read(folder).unwrap_or_default();
    let mut salvaged = Salvaged { records: BTreeMap::new(), mark, journal };
    let files = segment::list(folder)?;
    let mut heads = BTreeMap::<u64, usize>::new();
    for &file in &files {
        if let Ok(Some(Head { journal, .. })) = head(&segment::path(folder, file)) {
            *heads.entry(journal).or_default() += 1;
        }
    }
    let most = heads.into_iter().max_by_key(|(_, segments)| *segments).map(|(journal, _)| journal);
    salvaged.journal = journal.or(most);
    let Some(journal) = salvaged.journal else { return Ok(salvaged) };
    for file in files {
        let Ok(bytes) = fs::read(segment::path(folder, file)) else { continue };
        let mut at = 0;
        while let Some(next) = bytes.get(at..).and_then(|rest| memmem::find(rest, &MARK)) {
            at += next;
            match bytes.get(at..).and_then(|rest| record::decode(journal, rest)) {
                Some(found) => {
                    at += found.length;
                    salvaged.records.insert(found.number, found);
                }
                None => at += 1,
            }
        }
    }
    Ok(salvaged)
}
