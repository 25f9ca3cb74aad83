use std::io;
use std::path::PathBuf;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The engine failed; nothing of the transaction was kept.
    #[error("storage engine: {0}")]
    Engine(String),
    /// A stored key or value does not have the shape its table promises.
    #[error("damaged record in {table}: {reason}")]
    Damaged {
        /// Table the record is in.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// What the disk gives back for a value is not what was written.
    #[error("a value is damaged: {reason}")]
    DamagedValue {
        /// Key of the value.
        key: Vec<u8>,
        /// Where it lies.
        reason: String,
    },
    /// The first opening was cut off before anything was stored.
    #[error("nothing was stored here yet")]
    NothingStored,
    /// A file is not what was written, or is missing; nothing was changed.
    #[error("damage: {}: {reason}", file.display())]
    DamagedFile {
        /// The file, or the folder in which something is missing.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Two different pairs of users whose IDs join to the same conversation ID.
    #[error("conversation {0} belongs to another pair of users")]
    ConversationTaken(String),
    /// The disk has less free space than the node keeps in reserve.
    #[error("the disk is full: {available} bytes left, {reserve} are kept in reserve")]
    DiskFull {
        /// Bytes available on the file system of the data folder.
        available: u64,
        /// Bytes below which the node refuses to write.
        reserve: u64,
    },
    /// The data was written by a newer version of the program.
    #[error("the data has schema version {found}, this program knows up to {known}")]
    NewerSchema {
        /// Version found in the data.
        found: u32,
        /// Newest version this program can use.
        known: u32,
    },
    /// A key or value is over the limit; nothing of the transaction was kept.
    #[error("a {what} of {bytes} bytes in {table}: at most {limit} are allowed")]
    TooLarge {
        /// "key" or "value".
        what: &'static str,
        /// Table it was meant for.
        table: &'static str,
        /// Its size.
        bytes: usize,
        /// Largest size allowed.
        limit: usize,
    },
    /// Another process works with the data folder.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// The data folder cannot be used.
    #[error("{}: {source}", folder.display())]
    Folder {
        /// The folder, or the file in it.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The program contradicts itself; nothing of the transaction was kept.
    #[error("the program is at fault: {0}")]
    Fault(&'static str),
    /// The committer has stopped.
    #[error("the store is closed")]
    Closed,
    /// A transaction panicked; nothing of it was kept.
    #[error("a transaction failed unexpectedly")]
    Panicked,
}

impl StoreError {
    /// There was no space to write.
    pub(crate) fn is_of_a_full_disk(&self) -> bool {
        match self {
            Self::DiskFull { .. } => true,
            Self::Folder { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }

    /// Something stored is not what it should be; the engine itself works.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::DamagedValue { .. })
    }
}
