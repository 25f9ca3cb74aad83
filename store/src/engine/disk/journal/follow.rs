//! Reading a journal while it is written.
//!
//! Who commits knows nothing of it. Segments that are not needed any more are kept for a while for
//! whoever is behind; one that was written anew meanwhile shows by the numbers of its batches.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::record;
use super::segment::{self, HEAD_BYTES};

/// Read at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Bytes that are enough for one time.
const MOST_BYTES: usize = 4 << 20;
/// How often a batch is looked for: segments get other names while they are listed.
const TRIES: u32 = 3;

/// Reads batch after batch.
#[derive(Debug)]
pub struct Follower {
    folder: PathBuf,
    journal: u64,
    /// Number of the batch to read next.
    next: u64,
    /// When the last one was written.
    last_ms: i64,
    at: Option<At>,
    chunk: Vec<u8>,
}

/// A place in a segment.
#[derive(Debug)]
struct At {
    file: File,
    offset: u64,
    /// Number of the batch there.
    number: u64,
}

impl Follower {
    /// Reads on behind batch `after`.
    pub(in crate::engine) fn new(folder: PathBuf, journal: u64, after: u64) -> Self {
        Self { folder, journal, next: after + 1, last_ms: 0, at: None, chunk: Vec::new() }
    }

    /// Number of the batch to read next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// When the last batch was written that was read.
    pub(super) fn last_ms(&self) -> i64 {
        self.last_ms
    }

    /// Appends batches to `out` as the journal has them, up to batch `last` or some mebibytes; `false`
    /// when the next one is not there any more. `last` must be durable.
    pub(super) fn read(&mut self, last: u64, out: &mut Vec<u8>) -> io::Result<bool> {
        let mut tries = 0;
        while self.next <= last && out.len() < MOST_BYTES {
            let before = self.next;
            if self.take(last, out)? {
                if self.next > before {
                    tries = 0;
                }
                continue;
            }
            if tries == TRIES {
                return Ok(false);
            }
            tries += 1;
            self.at = self.find()?;
        }
        Ok(true)
    }

    /// Takes what is at this place; returns whether there was a batch.
    fn take(&mut self, last: u64, out: &mut Vec<u8>) -> io::Result<bool> {
        let Some(at) = &mut self.at else { return Ok(false) };
        let chunk = &mut self.chunk;
        chunk.resize(CHUNK_BYTES, 0);
        let read = read_at(&at.file, chunk, at.offset)?;
        if let Some(length) = record::said_length(&chunk[..read]).filter(|length| *length > read) {
            // A batch that is larger than a chunk.
            let there = at.file.metadata()?.len().saturating_sub(at.offset);
            if usize::try_from(there).is_ok_and(|there| length > there) {
                return Ok(false);
            }
            chunk.resize(length, 0);
            at.file.read_exact_at(chunk, at.offset)?;
        } else {
            chunk.truncate(read);
        }
        let (mut rest, mut any) = (chunk.as_slice(), false);
        while at.number <= last
            && let Some((length, number)) = record::probe(self.journal, rest)
            && number == at.number
        {
            let (whole, behind) = rest.split_at(length);
            if number >= self.next {
                out.extend_from_slice(whole);
                self.next = number + 1;
                self.last_ms = record::written_ms(whole).unwrap_or_default();
            }
            at.number += 1;
            at.offset += length as u64;
            (rest, any) = (behind, true);
        }
        self.chunk.shrink_to(CHUNK_BYTES);
        Ok(any)
    }

    /// The segment in which the next batch must be.
    fn find(&self) -> io::Result<Option<At>> {
        let mut found: Option<(u64, u64)> = None;
        for number in segment::list(&self.folder)? {
            let head = match super::head(&segment::path(&self.folder, number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                head => head?,
            };
            let of_this = head.filter(|head| head.journal == self.journal);
            if let Some(head) = of_this.filter(|head| head.first <= self.next)
                && found.is_none_or(|(first, _)| head.first >= first)
            {
                found = Some((head.first, number));
            }
        }
        let Some((number, segment)) = found else { return Ok(None) };
        match File::open(segment::path(&self.folder, segment)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            file => Ok(Some(At { file: file?, offset: HEAD_BYTES as u64, number })),
        }
    }
}

/// Reads until `into` is full or the file ends.
fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < into.len() {
        match file.read_at(&mut into[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
