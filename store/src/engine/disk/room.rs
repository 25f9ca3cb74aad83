//! How much the engine writes at once, which depends on how much space there is.

use crate::StoreError;

/// Bytes available below which space is short: it is spent in small steps and given back at once.
const SHORT_BYTES: u64 = 64 << 20;
/// Rows and bytes of one step of the index.
const STEP: (usize, usize) = (4_096, 4 << 20);
/// The same where space is short.
const SHORT_STEP: (usize, usize) = (256, 128 << 10);
/// sled writes a changed row, now and then the page around it, and may move as much again.
const INDEX_TIMES: u64 = 4;
/// Two segments of sled.
const INDEX_MORE_BYTES: u64 = 1 << 20;
/// Left to the journal and to checkpoints.
const SPARED_BYTES: u64 = 1 << 20;

/// What there is at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    available: u64,
}

impl Room {
    /// With so many bytes available; `None`: that is not known.
    pub(super) fn of(available: Option<u64>) -> Self {
        Self { available: available.unwrap_or(u64::MAX) }
    }

    pub(super) fn is_short(self) -> bool {
        self.available < SHORT_BYTES
    }

    /// Rows of one step.
    pub(super) fn step_rows(self) -> usize {
        if self.is_short() { SHORT_STEP.0 } else { STEP.0 }
    }

    /// Bytes of values in one step, about.
    pub(super) fn step_bytes(self) -> usize {
        if self.is_short() { SHORT_STEP.1 } else { STEP.1 }
    }

    /// Bytes that may be moved before anything is given back.
    pub(super) fn compaction_bytes(self) -> u64 {
        let all = index_bytes(self.step_bytes()) + SPARED_BYTES;
        self.available.saturating_sub(all) / 2
    }

    /// Refuses a step with values of so many bytes for which there is no room.
    pub(super) fn must_hold(self, bytes: usize) -> Result<(), StoreError> {
        let reserve = bytes as u64 + index_bytes(bytes) + SPARED_BYTES;
        if self.available >= reserve {
            return Ok(());
        }
        Err(StoreError::DiskFull { available: self.available, reserve })
    }
}

/// Bytes by which sled may grow when a step with values of so many bytes is written.
pub(super) fn index_bytes(bytes: usize) -> u64 {
    INDEX_TIMES * bytes as u64 + INDEX_MORE_BYTES
}
