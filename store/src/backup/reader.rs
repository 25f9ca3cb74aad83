//! Reading a backup of any format, and checking all of it.

use std::io::{self, BufReader, Read};

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::{
    BackupError, FORMAT, MAGIC, MAX_RECORD_BYTES, PROGRESS_EVERY, Summary, Take, kind, no_meta,
};
use crate::StoreError;
use crate::engine::Position;
use crate::engine::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::record::Meta;
use crate::schema::{self, META};

/// Stands in place of the length of a key after the last pair, in format 1.
const END: u32 = u32::MAX;
/// Bytes of the SHA-256 at the end.
const HASH_BYTES: usize = 32;

/// Passes on every pair but the meta record; returns that once everything is checked.
pub(super) fn read_all(
    input: impl Read,
    beside: &mut dyn Take,
    progress: impl FnMut(u64),
    pass_on: impl FnMut(Vec<u8>, Bytes) -> Result<(), BackupError>,
) -> Result<(Summary, Meta), BackupError> {
    let (mut input, format, schema) = begin(input)?;
    let mut pairs = Pairs { progress, pass_on, records: 0, meta: None, position: None, last: None };
    let files = match format {
        1 => {
            read_pairs(&mut input, &mut pairs)?;
            0
        }
        2 => read_records(&mut input, &mut pairs, beside)?,
        _ => return Err(input.damaged("there is no such format")),
    };
    if input.inner.read(&mut [0])? != 0 {
        return Err(input.damaged("something follows the end"));
    }
    (pairs.progress)(pairs.records + files);
    let meta = pairs.meta.ok_or_else(|| input.damaged(no_meta("the backup")))?;
    let (records, epoch, position) = (pairs.records, meta.epoch, pairs.position);
    Ok((Summary { format, records, files, schema, epoch, position }, meta))
}

/// What a backup begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Version of its format.
    pub format: u32,
    /// The note about it; empty if there is none.
    pub note: Vec<u8>,
    /// Where in the journal of the data it was taken, if there was one.
    pub position: Option<Position>,
}

/// Reads the beginning of a backup. Whether it is whole is not known then.
///
/// # Errors
/// It does not begin as a backup does.
pub fn head(input: impl Read) -> Result<Head, BackupError> {
    let (mut input, format, _) = begin(input)?;
    let mut head = Head { format, note: Vec::new(), position: None };
    if format == 1 {
        return Ok(head);
    }
    loop {
        match input.record()? {
            (kind::NOTE, note) => head.note = note,
            (kind::SEALED, _) => {}
            (kind::POSITION, content) => head.position = Position::decode(&content),
            _ => return Ok(head),
        }
        if head.position.is_some() {
            return Ok(head);
        }
    }
}

/// Reads what comes before everything else: the versions of format and schema.
fn begin<R: Read>(input: R) -> Result<(Input<R>, u32, u32), BackupError> {
    let mut input = Input { inner: BufReader::new(input), hash: Sha256::new(), read: 0, part: 0 };
    let mut magic = [0; MAGIC.len()];
    match input.fill(&mut magic) {
        Ok(()) if magic == *MAGIC => {}
        Ok(()) | Err(BackupError::Truncated { .. }) => return Err(BackupError::NotABackup),
        Err(error) => return Err(error),
    }
    let format = input.number()?;
    if format > FORMAT {
        return Err(BackupError::NewerFormat { found: format, known: FORMAT });
    }
    let schema = input.number()?;
    if schema > schema::VERSION {
        let (found, known) = (schema, schema::VERSION);
        return Err(StoreError::NewerSchema { found, known }.into());
    }
    Ok((input, format, schema))
}

/// Where pairs go.
struct Pairs<P, F> {
    progress: P,
    pass_on: F,
    records: u64,
    meta: Option<Meta>,
    position: Option<Position>,
    last: Option<Vec<u8>>,
}

impl<P, F> Pairs<P, F>
where
    P: FnMut(u64),
    F: FnMut(Vec<u8>, Bytes) -> Result<(), BackupError>,
{
    /// Takes a pair; an error is what is wrong with it.
    fn take(&mut self, key: Vec<u8>, value: Bytes) -> Result<Result<(), String>, BackupError> {
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Ok(Err("the keys do not rise".into()));
        }
        if let Err(error) = schema::check(&key, value.clone()) {
            return Ok(Err(error.to_string()));
        }
        self.records += 1;
        if self.records.is_multiple_of(PROGRESS_EVERY) {
            (self.progress)(self.records);
        }
        self.last = Some(key.clone());
        if key != META.raw_key(&0_u8) {
            (self.pass_on)(key, value)?;
            return Ok(Ok(()));
        }
        match Meta::decode(value) {
            Ok(meta) => self.meta = Some(meta),
            Err(error) => return Ok(Err(error.to_string())),
        }
        Ok(Ok(()))
    }
}

/// Reads the rest of format 2; returns the number of files.
fn read_records<R, P, F>(
    input: &mut Input<R>,
    pairs: &mut Pairs<P, F>,
    beside: &mut dyn Take,
) -> Result<u64, BackupError>
where
    R: Read,
    P: FnMut(u64),
    F: FnMut(Vec<u8>, Bytes) -> Result<(), BackupError>,
{
    let (mut files, mut before) = (0_u64, 0);
    loop {
        let hash = input.hash.clone();
        let (kind, content) = input.record()?;
        let follows = match kind {
            kind::PAIRS => before <= kind::PAIRS,
            kind::FILE => before <= kind::PIECE,
            kind::PIECE => matches!(before, kind::FILE | kind::PIECE),
            kind => kind > before,
        };
        if !follows {
            return Err(input.damaged("its parts are not in order"));
        }
        before = kind;
        match kind {
            kind::NOTE => beside.note(&content)?,
            kind::SEALED => beside.sealed(&content)?,
            kind::POSITION => {
                let position = Position::decode(&content);
                let position = position.ok_or_else(|| input.damaged("it has a wrong length"))?;
                pairs.position = Some(position);
            }
            kind::PAIRS => {
                let mut rest = Bytes::from(content);
                while !rest.is_empty() {
                    let (key, value) = pair(&mut rest).map_err(|what| input.damaged(what))?;
                    pairs.take(key, value)?.map_err(|what| input.damaged(what))?;
                }
            }
            kind::FILE => {
                let name = std::str::from_utf8(&content);
                beside.file(name.map_err(|error| input.damaged(error))?)?;
                files += 1;
                (pairs.progress)(pairs.records + files);
            }
            kind::PIECE => beside.piece(&content)?,
            kind::END => {
                let expected =
                    [&pairs.records.to_be_bytes()[..], &files.to_be_bytes(), &hash.finalize()];
                if content != expected.concat() {
                    return Err(input.damaged("it does not agree with what is before it"));
                }
                return Ok(files);
            }
            _ => return Err(input.damaged("there is no such part")),
        }
    }
}

/// Takes the next pair of a record.
fn pair(rest: &mut Bytes) -> Result<(Vec<u8>, Bytes), &'static str> {
    const CUT: &str = "a pair is cut off";
    let mut length = || {
        let (length, _) = rest.split_first_chunk::<4>().ok_or(CUT)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| CUT)?;
        let _ = rest.split_to(4);
        Ok::<_, &str>(length)
    };
    let (key, value) = (length()?, length()?);
    if key > MAX_KEY_BYTES || value > MAX_VALUE_BYTES {
        return Err("a length is over the limit");
    }
    if rest.len() < key + value {
        return Err(CUT);
    }
    let key = rest.split_to(key).to_vec();
    Ok((key, rest.split_to(value)))
}

/// Reads the rest of format 1.
fn read_pairs<R, P, F>(input: &mut Input<R>, pairs: &mut Pairs<P, F>) -> Result<(), BackupError>
where
    R: Read,
    P: FnMut(u64),
    F: FnMut(Vec<u8>, Bytes) -> Result<(), BackupError>,
{
    loop {
        input.begins();
        let key_length = input.number()?;
        if key_length == END {
            break;
        }
        let value_length = input.number()?;
        let key = input.bytes(key_length, MAX_KEY_BYTES)?;
        let value = Bytes::from(input.bytes(value_length, MAX_VALUE_BYTES)?);
        pairs.take(key, value)?.map_err(|what| input.damaged(what))?;
    }
    let mut count = [0; 8];
    input.fill(&mut count)?;
    if u64::from_be_bytes(count) != pairs.records {
        return Err(input.damaged("pairs are missing"));
    }
    let hash = input.hash.clone();
    let mut sum = [0; HASH_BYTES];
    input.fill(&mut sum)?;
    if hash.finalize().as_slice() != sum {
        return Err(input.damaged("the checksum is wrong"));
    }
    Ok(())
}

/// Input that is hashed, and that knows where it is.
struct Input<R> {
    inner: BufReader<R>,
    hash: Sha256,
    read: u64,
    /// Where the part at hand begins.
    part: u64,
}

impl<R: Read> Input<R> {
    /// Another part begins here.
    fn begins(&mut self) {
        self.part = self.read;
    }

    fn damaged(&self, reason: impl ToString) -> BackupError {
        BackupError::Damaged { at: self.part, reason: reason.to_string() }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        self.inner.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => BackupError::Truncated { at: self.part },
            _ => error.into(),
        })?;
        self.read += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.hash.update(bytes);
        Ok(())
    }

    fn number(&mut self) -> Result<u32, BackupError> {
        let mut number = [0; 4];
        self.fill(&mut number)?;
        Ok(u32::from_be_bytes(number))
    }

    fn bytes(&mut self, length: u32, limit: usize) -> Result<Vec<u8>, BackupError> {
        let length = usize::try_from(length).ok().filter(|length| *length <= limit);
        let length = length.ok_or_else(|| self.damaged("a length is over the limit"))?;
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// The next record, checked.
    fn record(&mut self) -> Result<(u8, Vec<u8>), BackupError> {
        self.begins();
        let mut kind = [0];
        self.fill(&mut kind)?;
        let length = self.number()?;
        let content = self.bytes(length, MAX_RECORD_BYTES)?;
        let mut sum = crc32fast::Hasher::new();
        for part in [&kind[..], &length.to_be_bytes(), &content] {
            sum.update(part);
        }
        if self.number()? != sum.finalize() {
            return Err(self.damaged("a checksum is wrong"));
        }
        Ok((kind[0], content))
    }
}
