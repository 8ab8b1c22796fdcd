//! A process with projections, listeners and transfers is killed at random, again and again.
//!
//! One child does all of it at once on one store and is killed after a random word that it says.
//! The parent then looks at a copy: what each part must have left. Before a child, the index is
//! sometimes removed, damaged, or put back from some kills ago. The next child goes on with what the
//! kill left, so that the traces of many kills pile up. At the end of a store's life everything is
//! allowed to come to rest, and the results must be exact.
//!
//! A part is a file: what the child does of it, and what the parent looks at. `TIDELOG_SWEEP=full`
//! makes the whole sweep, `TIDELOG_SEED` repeats one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

// The bank, as it stands in the example: a crate above this one.
#[path = "../../../examples/bank-account/src/aggregate.rs"]
mod aggregate;
mod child;
#[path = "../../../examples/bank-account/src/commands.rs"]
mod commands;
#[path = "../../../examples/bank-account/src/event.rs"]
mod event;
mod life;
mod listeners;
#[allow(dead_code, reason = "only its texts are needed")]
#[path = "../../../examples/bank-account/src/money.rs"]
mod money;
mod projections;
#[path = "../../../backends/tests/tools/sweep.rs"]
mod sweep;
#[allow(unused_imports, reason = "its manager needs them, not this test")]
#[path = "../../../examples/bank-account/src/transfer/mod.rs"]
mod transfer;
mod transfers;

use std::io::Write;
use std::thread;

use child::{ORDER, Order};
use life::Life;
use sweep::{Random, Tally};

/// Stores that live side by side.
const LIVES: u64 = 2;

/// Not a test by itself: what the test below kills.
#[test]
fn child_works_until_it_is_killed() {
    if let Ok(order) = std::env::var(ORDER) {
        child::run(&Order::parse(&order));
    }
}

#[test]
fn a_killed_process_loses_no_row_no_event_of_a_listener_and_no_money_of_a_transfer() {
    let (seed, kills) = (sweep::seed(), if sweep::is_full() { 1_050 } else { 210 });
    say(&format!("TIDELOG_SEED={seed}, {kills} kills"));
    let tallies = thread::scope(|scope| {
        let lives = (0..LIVES).map(|of| scope.spawn(move || live(seed ^ of, kills / LIVES)));
        let lives: Vec<_> = lives.collect();
        lives
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect::<Vec<_>>()
    });
    let mut tally = Tally::default();
    for one in tallies {
        tally.add(&one.unwrap_or_else(|_| panic!("a store did not survive; TIDELOG_SEED={seed}")));
    }
    say(&tally.table());
    assert_eq!(
        tally.of("starting"),
        0,
        "a child was killed before it began"
    );
}

/// Not by `eprintln`, which a test that passes keeps to itself: the counts are the result.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn live(seed: u64, kills: u64) -> Tally {
    let mut random = Random(seed);
    let mut tally = Tally::default();
    let mut life = Life::new(random.next());
    for _ in 0..kills {
        life.kill();
        if life.is_old() {
            tally.add(&life.rest());
            life = Life::new(random.next());
        }
    }
    tally.add(&life.rest());
    tally
}
