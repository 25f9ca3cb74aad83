//! Reading through a layer of changes that lies over an engine.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::ops::Bound;

use bytes::Bytes;

use crate::StoreError;
use crate::engine::{Batch, Direction, Engine, KeyRange, Pair, Scan, is_empty};

/// A consistent state of the data: a [`View`](crate::View) or a [`Tx`](crate::Tx).
pub trait Read {
    /// The value under a raw key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
    /// The pairs within a raw range.
    fn scan(&self, range: KeyRange, direction: Direction) -> Scan<'_>;
    /// Random bytes that change when the data is restored from a backup.
    fn salt(&self) -> [u8; 16];
}

pub(crate) fn get(
    engine: &dyn Engine,
    layer: &Batch,
    key: &[u8],
) -> Result<Option<Bytes>, StoreError> {
    match layer.get(key) {
        Some(value) => Ok(value.clone()),
        None => engine.get(key),
    }
}

pub(crate) fn scan<'a>(
    engine: &'a dyn Engine,
    layer: &'a Batch,
    range: KeyRange,
    direction: Direction,
) -> Scan<'a> {
    let below = engine.scan(range.clone(), direction);
    if layer.is_empty() {
        return below;
    }
    let above = layer.range::<Vec<u8>, _>(overlap(&range));
    let above = above.map(|(key, value)| (key, value.clone()));
    match direction {
        Direction::Ascending => lay(above, below, direction),
        Direction::Descending => lay(above.rev(), below, direction),
    }
}

/// Lays changed rows over a scan of the same range and direction.
pub(crate) fn lay<'a, K: AsRef<[u8]> + 'a>(
    above: impl Iterator<Item = (K, Option<Bytes>)> + 'a,
    below: Scan<'a>,
    direction: Direction,
) -> Scan<'a> {
    Box::new(Merged { below: below.peekable(), above: above.peekable(), direction })
}

/// The bounds, with an empty range in place of those on which `BTreeMap::range` would panic.
pub(crate) fn overlap(range: &KeyRange) -> (Bound<&Vec<u8>>, Bound<&Vec<u8>>) {
    static EMPTY: Vec<u8> = Vec::new();
    if is_empty(range) {
        (Bound::Included(&EMPTY), Bound::Excluded(&EMPTY))
    } else {
        (range.0.as_ref(), range.1.as_ref())
    }
}

struct Merged<'a, A: Iterator> {
    below: Peekable<Scan<'a>>,
    above: Peekable<A>,
    direction: Direction,
}

/// The key of what a scan shows, also of a value that cannot be read.
fn key_of(pair: &Result<Pair, StoreError>) -> Option<&[u8]> {
    match pair {
        Ok((key, _)) => Some(key),
        Err(StoreError::DamagedValue { key, .. }) => Some(key),
        Err(_) => None,
    }
}

impl<K: AsRef<[u8]>, A: Iterator<Item = (K, Option<Bytes>)>> Iterator for Merged<'_, A> {
    type Item = Result<Pair, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let below = self.below.peek();
            let order = match (below.map(key_of), self.above.peek()) {
                (None, None) => return None,
                (Some(None), _) | (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(Some(below)), Some((above, _))) => {
                    let order = below.cmp(above.as_ref());
                    match self.direction {
                        Direction::Ascending => order,
                        Direction::Descending => order.reverse(),
                    }
                }
            };
            if order == Ordering::Less {
                return self.below.next();
            }
            if order == Ordering::Equal {
                self.below.next();
            }
            if let Some((key, Some(value))) = self.above.next() {
                return Some(Ok((Bytes::copy_from_slice(key.as_ref()), value)));
            }
        }
    }
}
