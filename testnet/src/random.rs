//! Random choices that follow from a printed seed.

use services::environment::Random as Randomness;

/// A splitmix64 generator: the same on every machine and in every version.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`; 0 if there is none.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        self.next().checked_rem(bound).unwrap_or(0) as usize
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// Randomness of a node that follows from a seed.
pub(crate) struct Seeded(parking_lot::Mutex<Random>);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(parking_lot::Mutex::new(Random::new(seed)))
    }
}

impl Randomness for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        let mut random = self.0.lock();
        for chunk in bytes.chunks_mut(8) {
            let eight = random.next().to_le_bytes();
            chunk.iter_mut().zip(eight).for_each(|(to, from)| *to = from);
        }
    }
}

/// Spreads the bits of a number.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
