//! The store directly on a server, simulated: several clients, a network that loses, delays and
//! doubles, rounds that are left half done, clients that die, clocks that jump.
//!
//! One thread, one random number generator: a seed is a schedule. `TIDELOG_SEED=n` runs one alone and
//! prints what happens; `TIDELOG_SWEEP=n` runs so many.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop"
)]

mod losses;
mod network;
mod oracle;
mod pages;
mod random;
mod refusals;
mod snapshots;
mod work;

use work::World;

/// What `cargo test` runs.
const SCHEDULES: u64 = 4_000;

#[test]
fn every_answer_is_true_whatever_the_network_does() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("TIDELOG_SEED") {
        World::new(seed, true).run();
        return;
    }
    let schedules = number("TIDELOG_SWEEP").unwrap_or(SCHEDULES);
    let mut seen = work::Seen::default();
    for seed in 0..schedules {
        let done = std::panic::catch_unwind(|| World::new(seed, false).run());
        let one = done.unwrap_or_else(|_| panic!("TIDELOG_SEED={seed} replays it"));
        seen.add(&one);
    }
    println!("{schedules} schedules: {seen:?}");
    // Whatever the generator is changed to, all of this must go on happening.
    assert!(seen.appended > 3 * schedules, "{seen:?}");
    for (what, count) in seen.rare() {
        assert!(count > schedules / 50, "{what}: {count} of {schedules}");
    }
}
