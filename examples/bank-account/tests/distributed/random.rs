//! What is chosen by chance, and can be chosen again.

/// Whether the whole of it is asked for: `TIDELOG_SWEEP=full`.
pub fn is_full() -> bool {
    std::env::var("TIDELOG_SWEEP").is_ok_and(|size| size == "full")
}

/// The seed given by `TIDELOG_SEED`, or another one each time.
pub fn seed() -> u64 {
    match std::env::var("TIDELOG_SEED") {
        Ok(seed) => seed.parse().expect("TIDELOG_SEED is a number"),
        Err(_) => tidelog::EventId::generate().as_uuid().as_u64_pair().1 >> 1,
    }
}

/// `SplitMix64`: enough to choose with, and the same for the same seed.
pub struct Random(pub u64);

impl Random {
    /// A number below `limit`, which is above 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// A place among so many, of which there is one.
    pub fn place(&mut self, count: usize) -> usize {
        usize::try_from(self.below(count as u64)).unwrap()
    }
}
