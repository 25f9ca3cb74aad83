//! Many pairs on their way into an engine.

use bytes::Bytes;

use super::{Batch, Engine};
use crate::StoreError;

/// Pairs and bytes of one batch.
const BATCH_PAIRS: usize = 2_000;
const BATCH_BYTES: usize = 4 << 20;

/// Gathers changes and stores them, durably, in batches.
pub(crate) struct Bulk<'a> {
    engine: &'a dyn Engine,
    batch: Batch,
    bytes: usize,
    written: u64,
}

impl<'a> Bulk<'a> {
    pub(crate) fn new(engine: &'a dyn Engine) -> Self {
        Self { engine, batch: Batch::new(), bytes: 0, written: 0 }
    }

    /// Adds a change; what was added last is only stored by [`flush`](Self::flush).
    pub(crate) fn put(&mut self, key: Vec<u8>, value: Option<Bytes>) -> Result<(), StoreError> {
        self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
        self.batch.insert(key, value);
        if self.batch.len() >= BATCH_PAIRS || self.bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Stores what was added.
    pub(crate) fn flush(&mut self) -> Result<(), StoreError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.engine.apply(&batch)?;
        self.engine.sync()?;
        self.written += batch.len() as u64;
        self.bytes = 0;
        Ok(())
    }

    /// Changes that are stored.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }
}
