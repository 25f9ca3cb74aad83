//! What there is room for on the disk.
//!
//! Ordinary changes leave a reserve untouched. What makes room may use it down to a floor, so that
//! somebody can log in and delete on a disk that is full; the floor is for the engine, which writes for
//! a moment more than it gives back.

use crate::StoreError;

/// Least and most bytes of the floor.
const FLOOR_BYTES: (u64, u64) = (4 << 20, 16 << 20);

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It may make the data grow.
    Change,
    /// It is needed for the data to shrink.
    MakeRoom,
}

/// Bytes that are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reserve {
    /// From ordinary changes.
    change: u64,
    /// From all.
    floor: u64,
}

impl Reserve {
    /// With so many bytes kept from ordinary changes, but enough for what makes room.
    pub(crate) fn of(bytes: u64) -> Self {
        let floor = (bytes / 4).clamp(FLOOR_BYTES.0, FLOOR_BYTES.1);
        Self { change: bytes.max(2 * floor), floor }
    }

    /// Bytes below which everything is refused.
    pub(crate) fn floor(self) -> u64 {
        self.floor
    }

    /// With so many bytes available, if that is known.
    pub(crate) fn room(self, available: Option<u64>, only_reads: bool) -> Room {
        Room { reserve: self, available, only_reads }
    }
}

/// How much there is at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    reserve: Reserve,
    available: Option<u64>,
    /// There was too little to open the data for changes.
    only_reads: bool,
}

impl Room {
    /// Whether ordinary changes are refused.
    pub(crate) fn is_full(&self) -> bool {
        self.available() < self.reserve(Purpose::Change)
    }

    fn available(&self) -> u64 {
        self.available.unwrap_or(u64::MAX)
    }

    fn reserve(&self, purpose: Purpose) -> u64 {
        match purpose {
            Purpose::Change => self.reserve.change,
            Purpose::MakeRoom => self.reserve.floor,
        }
    }

    /// Refuses what there is no room for, with `more` bytes beside the store.
    pub(crate) fn must_suffice(&self, purpose: Purpose, more: u64) -> Result<(), StoreError> {
        let (available, reserve) = (self.available(), self.reserve(purpose));
        if available >= reserve.saturating_add(more) && !self.only_reads {
            return Ok(());
        }
        // The target tells the log that there can be many.
        tracing::warn!(
            target: "refused",
            kind = "full disk",
            operation = "a change",
            available,
            reserve,
            reason = "less free space than is kept in reserve"
        );
        Err(StoreError::DiskFull { available, reserve })
    }
}
