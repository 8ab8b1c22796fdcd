//! Whatever is done to it, the embedded store is what the store in memory is.
//!
//! A case is a sequence of steps: appends of every kind, reads, snapshots, sealing and merging in
//! tiny segments, clean and abrupt ends, a lost or rolled back index, a restored backup. Each step
//! is taken by both stores and must be answered alike: receipts, errors with their fields,
//! envelopes with all of theirs, recorded times included, since both go by one clock.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::needless_pass_by_value,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod answers;
mod steps;
#[path = "../tools/mod.rs"]
mod tools;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use steps::case;
use world::{Shape, World};

/// 256 cases in all, on as many threads as the harness gives.
const CASES: u32 = 64;

fn run(shape: Shape) {
    let config = Config {
        cases: CASES,
        max_shrink_iters: 4_000,
        max_shrink_time: 90_000,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let done = runner.run(&case(), |case| {
        let mut world = World::new(shape, case.blocking, case.branches);
        for (number, step) in case.steps.iter().enumerate() {
            world
                .take(step)
                .map_err(|why| TestCaseError::fail(format!("step {number}, {step:?}: {why}")))?;
        }
        world.end().map_err(TestCaseError::fail)?;
        Ok(())
    });
    match done {
        Ok(()) => {}
        Err(TestError::Fail(why, case)) => panic!("{why}\nin the case {case:?}"),
        Err(aborted) => panic!("{aborted}"),
    }
}

#[test]
fn ordinary_hashes_and_early_merges() {
    run(Shape {
        hash_bits: 64,
        fan_in: 2,
    });
}

#[test]
fn ordinary_hashes_and_late_merges() {
    run(Shape {
        hash_bits: 64,
        fan_in: 8,
    });
}

#[test]
fn two_hashes_for_all_streams() {
    run(Shape {
        hash_bits: 1,
        fan_in: 2,
    });
}

#[test]
fn eight_hashes_for_all_streams() {
    run(Shape {
        hash_bits: 3,
        fan_in: 3,
    });
}
