//! Numbers that a seed decides.

use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_core::IdSource;
use uuid::Uuid;

/// `SplitMix64` (Steele, Lea, Flood 2014), shared by all that need numbers of one schedule.
#[derive(Clone)]
pub struct Random(Arc<Mutex<u64>>);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }

    pub fn number(&self) -> u64 {
        let mut state = self.0.lock();
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `end`, which is at least 1.
    pub fn below(&self, end: u64) -> u64 {
        self.number() % end
    }

    /// True `of` times in 100.
    pub fn percent(&self, of: u64) -> bool {
        self.below(100) < of
    }

    pub fn pick<'a, T>(&self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

impl IdSource for Random {
    fn next_uuid(&self) -> Uuid {
        Uuid::from_u64_pair(self.number(), self.number())
    }
}
