//! Chance, from a seed: the same seed always has the same luck.

use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_core::IdSource;
use uuid::Uuid;

/// `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// An index of something of this length, which is not 0.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap()
    }

    /// Whether it is one of `percent` in a hundred.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() {
            return None;
        }
        from.get(self.index(from.len()))
    }

    /// One of these, by their weights; none when all are 0.
    pub(crate) fn weighted<T: Copy>(&mut self, from: &[(u32, T)]) -> Option<T> {
        let all: u64 = from.iter().map(|(weight, _)| u64::from(*weight)).sum();
        if all == 0 {
            return None;
        }
        let mut at = self.below(all);
        for (weight, what) in from {
            if at < u64::from(*weight) {
                return Some(*what);
            }
            at -= u64::from(*weight);
        }
        None
    }
}

/// Ids from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Ids(Arc<Mutex<Rng>>);

impl Ids {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Rng::new(seed))))
    }
}

impl IdSource for Ids {
    fn next_uuid(&self) -> Uuid {
        let mut rng = self.0.lock();
        let bytes = (u128::from(rng.next()) << 64 | u128::from(rng.next())).to_be_bytes();
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}
