//! What sweeps share: how large they are, their seed, and what they count.
#![allow(dead_code, reason = "no test uses all of it")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tidelog_core::EventId;

/// Whether the whole sweep is asked for: `TIDELOG_SWEEP=full`.
pub fn is_full() -> bool {
    std::env::var("TIDELOG_SWEEP").is_ok_and(|size| size == "full")
}

/// The seed given by `TIDELOG_SEED`, or another one each time.
pub fn seed() -> u64 {
    match std::env::var("TIDELOG_SEED") {
        Ok(seed) => seed.parse().expect("TIDELOG_SEED is a number"),
        Err(_) => EventId::generate().as_uuid().as_u64_pair().1 >> 1,
    }
}

/// `SplitMix64`: enough to choose with, and the same for the same seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % (limit as u64).max(1)) as usize
    }

    /// True once in `often` times.
    pub fn one_in(&mut self, often: usize) -> bool {
        self.below(often) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Counts by kind and outcome, for the table that a sweep prints.
#[derive(Clone, Debug, Default)]
pub struct Tally(BTreeMap<String, BTreeMap<String, u64>>);

impl Tally {
    pub fn count(&mut self, kind: impl Into<String>, outcome: impl Into<String>) {
        let outcomes = self.0.entry(kind.into()).or_default();
        *outcomes.entry(outcome.into()).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (kind, outcomes) in &other.0 {
            for (outcome, count) in outcomes {
                let ours = self.0.entry(kind.clone()).or_default();
                *ours.entry(outcome.clone()).or_default() += count;
            }
        }
    }

    /// How often this outcome was counted, over all kinds.
    pub fn of(&self, outcome: &str) -> u64 {
        let counts = self.0.values().filter_map(|outcomes| outcomes.get(outcome));
        counts.sum()
    }

    pub fn total(&self) -> u64 {
        self.0.values().flat_map(BTreeMap::values).sum()
    }

    /// Each outcome over all kinds.
    pub fn totals(&self) -> String {
        let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
        for (outcome, count) in self.0.values().flatten() {
            *totals.entry(outcome).or_default() += count;
        }
        let each: Vec<_> = totals
            .iter()
            .map(|(outcome, count)| format!("{outcome} {count}"))
            .collect();
        format!("  all: {}\n", each.join(", "))
    }

    /// One line a kind.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (kind, outcomes) in &self.0 {
            let counts = outcomes
                .iter()
                .map(|(outcome, count)| format!("{outcome} {count}"));
            let line: Vec<String> = counts.collect();
            let _ = writeln!(text, "  {kind:<34} {}", line.join(", "));
        }
        text
    }
}
