use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLockReadGuard;

use crate::StoreError;
use crate::engine::{Batch, Engine, KeyRange, Scan};
use crate::layered::{self, Direction, Read};

/// A consistent picture of what is durable.
///
/// While a batch is applied but not yet synced, a view still shows the state before it. Commits
/// wait for living views, so a view is for short reads; it cannot be held across an `await`, and a
/// thread must not open a second one while it holds one.
pub struct View<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) salt: [u8; 16],
    /// What the batch in flight replaces.
    pub(crate) before: RwLockReadGuard<'a, Arc<Batch>>,
}

impl Read for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        layered::get(self.engine, &self.before, key)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
        layered::scan(self.engine, &self.before, range, direction)
    }

    fn salt(&self) -> [u8; 16] {
        self.salt
    }
}
