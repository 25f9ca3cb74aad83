//! Writing a backup.

use std::io::{self, BufWriter, Read, Write};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{
    BackupError, FORMAT, MAGIC, MAX_RECORD_BYTES, PROGRESS_EVERY, RECORD_BYTES, Summary, kind,
    no_meta,
};
use crate::engine::Position;
use crate::schema::META;
use crate::{StoreError, View};

/// A file that goes into a backup: its name and its content.
pub type File = (String, Box<dyn Read>);

/// What goes into a backup beside the database.
pub struct Beside<'a> {
    /// A note about the backup.
    pub note: &'a [u8],
    /// Something sealed, or nothing.
    pub sealed: &'a [u8],
    /// Files; asked for once the database is written.
    pub files: &'a mut dyn Iterator<Item = io::Result<File>>,
}

/// Writes the state that `view` shows; `progress` hears the number of pairs written so far.
///
/// Commits neither wait nor are waited for. What they replace is kept in memory as long as it lies
/// ahead: at most one copy of every key that is overwritten meanwhile. The caller makes `out`
/// durable.
pub fn write(
    view: View<'_>,
    out: impl Write,
    progress: impl FnMut(u64),
) -> Result<Summary, BackupError> {
    let beside = Beside { note: &[], sealed: &[], files: &mut std::iter::empty() };
    write_with(view, beside, out, progress)
}

/// As [`write()`], with something beside the database; `progress` counts files, too.
pub fn write_with(
    view: View<'_>,
    beside: Beside<'_>,
    out: impl Write,
    mut progress: impl FnMut(u64),
) -> Result<Summary, BackupError> {
    let no_meta = || StoreError::Damaged { table: META.name(), reason: no_meta("the store") };
    let meta = META.get(&view, 0)?.ok_or_else(no_meta)?;
    let mut out = Records { inner: BufWriter::new(out), hash: Sha256::new() };
    out.write_all(MAGIC)?;
    out.write_all(&FORMAT.to_be_bytes())?;
    out.write_all(&meta.schema.to_be_bytes())?;
    out.record(kind::NOTE, beside.note)?;
    out.record(kind::SEALED, beside.sealed)?;
    let position = view.position();
    if let Some(Position { journal, batch }) = position {
        out.record(kind::POSITION, &[journal.to_be_bytes(), batch.to_be_bytes()].concat())?;
    }
    let mut records = 0_u64;
    let mut pairs = Vec::with_capacity(RECORD_BYTES);
    for pair in view.into_scan() {
        let (key, value) = pair?;
        pairs.extend(length(&key)?);
        pairs.extend(length(&value)?);
        pairs.extend(&key);
        pairs.extend(&value);
        if pairs.len() >= RECORD_BYTES {
            out.record(kind::PAIRS, &pairs)?;
            pairs.clear();
        }
        records += 1;
        if records.is_multiple_of(PROGRESS_EVERY) {
            progress(records);
        }
    }
    out.record(kind::PAIRS, &pairs)?;
    progress(records);
    let mut files = 0_u64;
    let mut piece = pairs;
    for file in beside.files {
        let (name, mut content) = file?;
        out.record(kind::FILE, name.as_bytes())?;
        loop {
            piece.clear();
            let limit = u64::try_from(RECORD_BYTES).unwrap_or(u64::MAX);
            if content.by_ref().take(limit).read_to_end(&mut piece)? == 0 {
                break;
            }
            out.record(kind::PIECE, &piece)?;
        }
        files += 1;
        progress(records + files);
    }
    let hash = out.hash.clone().finalize();
    out.record(kind::END, &[&records.to_be_bytes()[..], &files.to_be_bytes(), &hash].concat())?;
    out.inner.flush()?;
    let (schema, epoch) = (meta.schema, meta.epoch);
    Ok(Summary { format: FORMAT, records, files, schema, epoch, position })
}

fn length(bytes: &Bytes) -> io::Result<[u8; 4]> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    Ok(length.to_be_bytes())
}

/// Output that is hashed.
struct Records<W: Write> {
    inner: BufWriter<W>,
    hash: Sha256,
}

impl<W: Write> Records<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.inner.write_all(bytes)
    }

    /// Writes a record; an empty one is none.
    fn record(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        if content.is_empty() {
            return Ok(());
        }
        if content.len() > MAX_RECORD_BYTES {
            return Err(io::Error::other("the secrets and the configuration are too long"));
        }
        let length = u32::try_from(content.len()).map_err(io::Error::other)?.to_be_bytes();
        let mut sum = crc32fast::Hasher::new();
        for part in [&[kind][..], &length, content] {
            sum.update(part);
            self.write_all(part)?;
        }
        self.write_all(&sum.finalize().to_be_bytes())
    }
}
