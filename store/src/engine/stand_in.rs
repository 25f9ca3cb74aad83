//! What a store serves in place of values that the disk has damaged.
//!
//! A damaged message must not take the others of its conversation with it: where it was there is one
//! that [says so](crate::message_log::is_damaged). Other values stay errors. Each damaged value is
//! noted and logged once.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use proto::sdkws::MsgData;

use super::{Batch, Direction, Engine, Follower, KeyRange, Position, Scan};
use crate::StoreError;
use crate::message_log::{DAMAGED, ERASED};
use crate::schema;

/// Damaged values that are remembered; of more only the log tells.
const MOST_NOTED: usize = 10_000;

/// An engine whose damaged messages have something in their place.
pub(crate) struct StandIns {
    inner: Box<dyn Engine>,
    /// Damaged values by key, and what is wrong with each.
    noted: Mutex<BTreeMap<Vec<u8>, String>>,
}

impl StandIns {
    pub(crate) fn over(inner: Box<dyn Engine>) -> Self {
        Self { inner, noted: Mutex::default() }
    }

    /// The engine as it is.
    pub(crate) fn inner(&self) -> &dyn Engine {
        self.inner.as_ref()
    }

    /// Values that were found damaged, up to [`MOST_NOTED`].
    pub(crate) fn damaged(&self) -> usize {
        self.noted.lock().len()
    }

    fn mend(&self, error: StoreError) -> Result<(Bytes, Bytes), StoreError> {
        let StoreError::DamagedValue { key, reason } = error else { return Err(error) };
        let mut noted = self.noted.lock();
        if !noted.contains_key(&key) && noted.len() < MOST_NOTED {
            let table = schema::table_name(&key);
            tracing::error!(table, key = ?Bytes::copy_from_slice(&key), reason, "a stored value is damaged");
            noted.insert(key.clone(), reason.clone());
        }
        match stand_in(&key) {
            Some(value) => Ok((key.into(), value)),
            None => Err(StoreError::DamagedValue { key, reason }),
        }
    }
}

/// What stands for a damaged value, if it is a message.
pub(crate) fn stand_in(key: &[u8]) -> Option<Bytes> {
    if key.first() != Some(&schema::MESSAGES.tag()) {
        return None;
    }
    let (_, seq) = schema::MESSAGES.decode_key(key).ok()?;
    let message = MsgData {
        seq: seq.cast_signed(),
        status: ERASED,
        ex: DAMAGED.to_owned(),
        ..MsgData::default()
    };
    Some(message.encode_to_vec().into())
}

impl Engine for StandIns {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.inner.get(key) {
            Err(error) => self.mend(error).map(|(_, value)| Some(value)),
            found => found,
        }
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_> {
        let pairs = self.inner.scan(range, direction);
        Box::new(pairs.map(|pair| pair.or_else(|error| self.mend(error))))
    }

    fn apply(&self, batch: &Batch) -> Result<(), StoreError> {
        self.inner.apply(batch)?;
        let mut noted = self.noted.lock();
        if !noted.is_empty() {
            noted.retain(|key, _| !batch.contains_key(key));
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.inner.sync()
    }

    fn available_bytes(&self) -> Option<u64> {
        self.inner.available_bytes()
    }

    fn only_reads(&self) -> bool {
        self.inner.only_reads()
    }

    fn count(&self) -> Result<Option<u64>, StoreError> {
        self.inner.count()
    }

    fn position(&self) -> Option<Position> {
        self.inner.position()
    }

    fn follow(&self, after: u64) -> Option<Follower> {
        self.inner.follow(after)
    }

    fn followed(&self, batch: u64) {
        self.inner.followed(batch);
    }

    fn read_all(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<bool, StoreError> {
        self.inner.read_all(go_on)
    }
}
