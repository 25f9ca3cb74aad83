//! Pairs of sled on their way into it, as one.

use std::collections::BTreeMap;

use super::note::{SUM_KEY, Sum, hash};
use super::sled_error;
use crate::StoreError;

/// Changes to sled, and what they do to the sum.
pub(super) struct Rows<'a> {
    db: &'a sled::Db,
    rows: BTreeMap<Vec<u8>, Row>,
}

struct Row {
    before: Option<sled::IVec>,
    after: Option<Vec<u8>>,
}

impl<'a> Rows<'a> {
    pub(super) fn new(db: &'a sled::Db) -> Self {
        Self { db, rows: BTreeMap::new() }
    }

    /// Changes a pair; what was there before is looked up.
    pub(super) fn set(&mut self, key: Vec<u8>, after: Option<Vec<u8>>) -> Result<(), StoreError> {
        let before = self.db.get(&key).map_err(sled_error)?;
        self.set_from(key, before, after);
        Ok(())
    }

    /// Changes a pair that was looked up.
    pub(super) fn set_from(
        &mut self,
        key: Vec<u8>,
        before: Option<sled::IVec>,
        after: Option<Vec<u8>>,
    ) {
        self.rows.insert(key, Row { before, after });
    }

    /// The batch for sled, with the sum as it is after it.
    pub(super) fn into_batch(self, mut sum: Sum) -> (sled::Batch, Sum) {
        let mut batch = sled::Batch::default();
        for (key, Row { before, after }) in self.rows {
            if let Some(before) = before {
                sum.pairs = sum.pairs.wrapping_sub(hash(&key, &before));
            }
            match after {
                Some(after) => {
                    sum.pairs = sum.pairs.wrapping_add(hash(&key, &after));
                    batch.insert(key, after);
                }
                None => batch.remove(key),
            }
        }
        sum.step += 1;
        batch.insert(&SUM_KEY, sum.encode());
        (batch, sum)
    }
}
