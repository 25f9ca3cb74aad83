//! Where neighbouring messages lie: many locations in one pair, so that sled has few to keep.

use prost::Message as _;

use super::location::Location;
use crate::StoreError;

/// Messages of one block.
pub(super) const BLOCK_LEN: usize = 32;

/// The locations of the messages with the seqs from `n * BLOCK_LEN` on.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Block {
    at: [Option<Location>; BLOCK_LEN],
}

/// A block in the database.
#[derive(Clone, PartialEq, prost::Message)]
struct Encoded {
    /// Which of them are there, one bit each.
    #[prost(uint32, tag = "1")]
    present: u32,
    /// Segment, offset and length of each that is there.
    #[prost(uint32, repeated, tag = "2")]
    at: Vec<u32>,
}

impl Block {
    pub(super) fn get(&self, slot: usize) -> Option<Location> {
        self.at.get(slot).copied().flatten()
    }

    /// Changes one location; returns what was there.
    pub(super) fn set(&mut self, slot: usize, at: Option<Location>) -> Option<Location> {
        self.at.get_mut(slot).and_then(|place| std::mem::replace(place, at))
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (usize, Location)> + '_ {
        self.at.iter().enumerate().filter_map(|(slot, at)| at.map(|at| (slot, at)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at.iter().all(Option::is_none)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut encoded = Encoded::default();
        for (slot, at) in self.entries() {
            encoded.present |= 1 << slot;
            encoded.at.extend([at.segment, at.offset, at.length]);
        }
        encoded.encode_to_vec()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let damaged = || StoreError::Engine("an index of messages is damaged".into());
        let encoded = Encoded::decode(bytes).map_err(|_| damaged())?;
        let mut block = Self::default();
        let mut at = encoded.at.chunks_exact(3);
        for slot in (0..BLOCK_LEN).filter(|slot| encoded.present >> slot & 1 == 1) {
            let Some(&[segment, offset, length]) = at.next() else { return Err(damaged()) };
            block.at[slot] = Some(Location { segment, offset, length });
        }
        if at.next().is_some() || !at.remainder().is_empty() { Err(damaged()) } else { Ok(block) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_round_trip(entries in prop::collection::btree_map(0..BLOCK_LEN, any::<[u32; 3]>(), 0..=BLOCK_LEN)) {
            let mut block = Block::default();
            for (&slot, &[segment, offset, length]) in &entries {
                let at = Location { segment, offset, length };
                prop_assert_eq!(block.set(slot, Some(at)), None);
                prop_assert_eq!(block.get(slot), Some(at));
            }
            prop_assert_eq!(block.is_empty(), entries.is_empty());
            prop_assert_eq!(block.entries().count(), entries.len());
            prop_assert_eq!(Block::decode(&block.encode()).unwrap(), block);
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Block::decode(&bytes);
        }
    }

    #[test]
    fn a_block_without_all_its_locations_is_damaged() {
        let short = Encoded { present: 3, at: vec![1, 2, 3] };
        let long = Encoded { present: 1, at: vec![1, 2, 3, 4] };
        for encoded in [short, long] {
            assert!(Block::decode(&encoded.encode_to_vec()).is_err());
        }
    }
}
