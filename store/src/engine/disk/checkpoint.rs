//! The checkpoint: a small file that says up to which batch the index is complete, and what else must
//! be there. Whatever is missing from that is damage.
//!
//! | bytes | content |
//! | --- | --- |
//! | 8 | `entechkp` |
//! | 4 | CRC-32 of what follows |
//! | … | a protobuf message: [`Checkpoint`] |

use std::fs;
use std::io;
use std::path::Path;

use prost::Message as _;

use super::file;
use crate::StoreError;
use crate::engine::index::Index;

const MAGIC: [u8; 8] = *b"entechkp";
const HEAD_BYTES: usize = 12;

/// What a folder is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Stage {
    /// Nothing was ever stored: the index is being made.
    New = 0,
    /// An index without a journal is being taken over.
    Adopting = 1,
    /// In use: the index may be ahead of the checkpoint.
    Open = 2,
    /// Closed: the files of the index are as they are listed.
    Closed = 3,
}

/// Size of a segment of the value log.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Values {
    #[prost(uint32, tag = "1")]
    pub(super) segment: u32,
    /// At least so many bytes.
    #[prost(uint64, tag = "2")]
    pub(super) bytes: u64,
}

/// A file of the index.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Listed {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint64, tag = "2")]
    pub(super) bytes: u64,
    /// CRC-32 of each block of [`BLOCK_BYTES`](super::listing::BLOCK_BYTES).
    #[prost(fixed32, repeated, tag = "3")]
    pub(super) sums: Vec<u32>,
}

/// What must be there.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Checkpoint {
    #[prost(enumeration = "Stage", tag = "1")]
    pub(super) stage: i32,
    /// Chosen at random when the journal was made.
    #[prost(fixed64, tag = "2")]
    pub(super) journal: u64,
    /// The index has every batch up to this one.
    #[prost(uint64, tag = "3")]
    pub(super) batch: u64,
    /// Steps that the index had taken.
    #[prost(uint64, tag = "4")]
    pub(super) step: u64,
    /// Segments of the value log that are needed.
    #[prost(message, repeated, tag = "5")]
    pub(super) values: Vec<Values>,
    /// Files of the index, if it is closed.
    #[prost(message, repeated, tag = "6")]
    pub(super) files: Vec<Listed>,
}

impl Checkpoint {
    /// What an index that belongs to a journal is now.
    pub(super) fn of(index: &Index, journal: u64, stage: Stage) -> Result<Self, StoreError> {
        let sum = index.sum().unwrap_or_default();
        let values = index.values()?.into_iter();
        let values = values.map(|(segment, bytes)| Values { segment, bytes }).collect();
        let (batch, step, files) = (sum.batch, sum.step, Vec::new());
        Ok(Self { stage: stage.into(), journal, batch, step, values, files })
    }

    /// Reads the file; `None` if there is none.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Folder { folder: path.to_owned(), source }),
            Ok(bytes) => bytes,
        };
        let read = Self::decode_file(&bytes).ok_or_else(|| StoreError::DamagedFile {
            file: path.to_owned(),
            reason: "it is not as it was written".into(),
        });
        read.map(Some)
    }

    fn decode_file(bytes: &[u8]) -> Option<Self> {
        let (head, body) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let sum = crc32fast::hash(body).to_be_bytes();
        let whole = head[..8] == MAGIC && head[8..] == sum;
        whole.then(|| Self::decode(body).ok()).flatten()
    }

    /// Writes the file, durably.
    pub(super) fn write(&self, path: &Path) -> Result<(), StoreError> {
        let body = self.encode_to_vec();
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
        bytes.extend_from_slice(&body);
        let written = file::replace(path, &bytes);
        written.map_err(|source| StoreError::Folder { folder: path.to_owned(), source })
    }
}
