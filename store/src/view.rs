use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::StoreError;
use crate::engine::{Direction, Engine, KeyRange, Position, Scan};
use crate::history::{State, Walk};
use crate::layered::Read;

/// A consistent picture of what was durable when it was taken.
///
/// It never waits for a commit and no commit waits for it. What commits replace meanwhile is kept
/// in memory until the last view that may need it is dropped, so views are for short reads; a
/// pass over everything uses [`into_scan`](Self::into_scan).
#[derive(Clone)]
pub struct View<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) salt: [u8; 16],
    pub(crate) state: Arc<State>,
}

impl<'a> View<'a> {
    /// The last batch of the journal that it shows, if there is one.
    pub fn position(&self) -> Option<Position> {
        self.state.position()
    }

    /// Every pair in key order; of what commits replace meanwhile, only what lies ahead of the
    /// scan is kept.
    pub fn into_scan(self) -> impl Iterator<Item = Result<(Bytes, Bytes), StoreError>> + 'a {
        let all = (Bound::Unbounded, Bound::Unbounded);
        Walk::new(self.engine, self.state, all, Direction::Ascending)
    }
}

impl Read for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.state.get(self.engine, key)
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
        Box::new(Walk::new(self.engine, Arc::clone(&self.state), range, direction))
    }

    fn salt(&self) -> [u8; 16] {
        self.salt
    }
}
