//! Typed tables over the raw keyspace.

use std::marker::PhantomData;
use std::ops::Bound;

use bytes::Bytes;
use prost::Message;

use crate::engine::{Direction, KeyRange};
use crate::key::{Encode, KeyCodec, after_prefix};
use crate::layered::Read;
use crate::{StoreError, Tx};

/// One table of the schema: a tag byte, a key codec and a value type.
pub struct Table<K, V> {
    tag: u8,
    name: &'static str,
    shape: PhantomData<fn() -> (K, V)>,
}

impl<K: KeyCodec, V: Message + Default> Table<K, V> {
    /// Declares a table. Only the schema does this.
    pub(crate) const fn new(tag: u8, name: &'static str) -> Self {
        Self { tag, name, shape: PhantomData }
    }

    /// First byte of every key in the table.
    pub const fn tag(&self) -> u8 {
        self.tag
    }

    /// Name of the table in messages for the operator.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn raw_key(&self, key: &impl Encode) -> Vec<u8> {
        let mut raw = Vec::with_capacity(48);
        raw.push(self.tag);
        key.encode(&mut raw);
        raw
    }

    fn damaged(&self, reason: impl ToString) -> StoreError {
        StoreError::Damaged { table: self.name, reason: reason.to_string() }
    }

    fn value(&self, raw: Bytes) -> Result<V, StoreError> {
        V::decode(raw).map_err(|error| self.damaged(error))
    }

    /// The key and value of a raw pair of this table.
    pub fn decode(&self, raw_key: &[u8], raw_value: Bytes) -> Result<(K::Owned, V), StoreError> {
        Ok((self.decode_key(raw_key)?, self.value(raw_value)?))
    }

    /// The key in a raw key of this table.
    pub(crate) fn decode_key(&self, raw_key: &[u8]) -> Result<K::Owned, StoreError> {
        let mut rest = raw_key.get(1..).unwrap_or_default();
        let key = K::decode(&mut rest).map_err(|error| self.damaged(error))?;
        if !rest.is_empty() {
            return Err(self.damaged("key is too long"));
        }
        Ok(key)
    }

    /// The value under `key`.
    pub fn get(&self, from: &impl Read, key: K::Ref<'_>) -> Result<Option<V>, StoreError> {
        self.get_raw(from, key)?.map(|raw| self.value(raw)).transpose()
    }

    /// The encoded value under `key`.
    pub fn get_raw(&self, from: &impl Read, key: K::Ref<'_>) -> Result<Option<Bytes>, StoreError> {
        from.get(&self.raw_key(&key))
    }

    /// Whether there is a value under `key`.
    pub fn contains(&self, from: &impl Read, key: K::Ref<'_>) -> Result<bool, StoreError> {
        Ok(from.get(&self.raw_key(&key))?.is_some())
    }

    /// Stores `value` under `key`.
    pub fn put(&self, tx: &mut Tx<'_>, key: K::Ref<'_>, value: &V) {
        tx.write(self.raw_key(&key), Some(value.encode_to_vec().into()));
    }

    /// Stores an already encoded value under `key`.
    pub fn put_raw(&self, tx: &mut Tx<'_>, key: K::Ref<'_>, value: Bytes) {
        tx.write(self.raw_key(&key), Some(value));
    }

    /// The keys that a transaction has written in this table, and whether each had a value before.
    pub fn written(&self, tx: &Tx<'_>) -> Result<Vec<(K::Owned, bool)>, StoreError> {
        let mut keys = Vec::new();
        for (raw, existed) in tx.written(self.tag)? {
            let mut rest = raw.get(1..).unwrap_or_default();
            keys.push((K::decode(&mut rest).map_err(|error| self.damaged(error))?, existed));
        }
        Ok(keys)
    }

    /// Removes the value under `key`, if there is one.
    pub fn delete(&self, tx: &mut Tx<'_>, key: K::Ref<'_>) {
        tx.write(self.raw_key(&key), None);
    }

    /// All entries whose key starts with `prefix`, in key order.
    pub fn scan<'a>(
        &'a self,
        from: &'a impl Read,
        prefix: impl Encode,
    ) -> impl Iterator<Item = Result<(K::Owned, V), StoreError>> + 'a {
        self.decoded(from, self.prefix_range(&prefix), Direction::Ascending)
    }

    /// All entries whose key starts with `prefix`, against key order.
    pub fn scan_back<'a>(
        &'a self,
        from: &'a impl Read,
        prefix: impl Encode,
    ) -> impl Iterator<Item = Result<(K::Owned, V), StoreError>> + 'a {
        self.decoded(from, self.prefix_range(&prefix), Direction::Descending)
    }

    /// The entries from `first` to `last`, both included, each a key or the front of one.
    pub fn range<'a>(
        &'a self,
        from: &'a impl Read,
        first: impl Encode,
        last: impl Encode,
        direction: Direction,
    ) -> impl Iterator<Item = Result<(K::Owned, V), StoreError>> + 'a {
        self.decoded(from, self.inclusive(&first, &last), direction)
    }

    /// As [`range`](Self::range), values left encoded.
    pub fn range_raw<'a>(
        &'a self,
        from: &'a impl Read,
        first: impl Encode,
        last: impl Encode,
        direction: Direction,
    ) -> impl Iterator<Item = Result<(K::Owned, Bytes), StoreError>> + 'a {
        from.scan(self.inclusive(&first, &last), direction).map(|pair| {
            let (key, value) = pair?;
            let mut rest = key.get(1..).unwrap_or_default();
            Ok((K::decode(&mut rest).map_err(|error| self.damaged(error))?, value))
        })
    }

    fn inclusive(&self, first: &impl Encode, last: &impl Encode) -> KeyRange {
        let end = after_prefix(&self.raw_key(last)).map_or(Bound::Unbounded, Bound::Excluded);
        (Bound::Included(self.raw_key(first)), end)
    }

    /// The raw keys of the table.
    pub(crate) fn prefix(&self) -> KeyRange {
        let to = after_prefix(&[self.tag]).map_or(Bound::Unbounded, Bound::Excluded);
        (Bound::Included(vec![self.tag]), to)
    }

    fn prefix_range(&self, prefix: &impl Encode) -> KeyRange {
        let from = self.raw_key(prefix);
        let to = after_prefix(&from).map_or(Bound::Unbounded, Bound::Excluded);
        (Bound::Included(from), to)
    }

    fn decoded<'a>(
        &'a self,
        from: &'a impl Read,
        range: KeyRange,
        direction: Direction,
    ) -> impl Iterator<Item = Result<(K::Owned, V), StoreError>> + 'a {
        from.scan(range, direction).map(|pair| {
            let (key, value) = pair?;
            self.decode(&key, value)
        })
    }
}
