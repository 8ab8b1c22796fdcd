//! Damage to the files of a store: either all that something vouches for is there, or a typed error
//! names what is damaged and nothing is changed. Never a panic, a hang, or an event that is wrong or
//! missing in the middle.
//!
//! `cases` holds each rule by itself. The sweep then damages stores of every kind at random, in
//! processes of their own under a watchdog, and looks at each in every way. The very last commits
//! of a store that was not closed may be cleanly gone, as ARCHITECTURE says; that is counted.
//!
//! `TIDELOG_SWEEP=full` makes the whole sweep, `TIDELOG_SEED` repeats one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod branched;
mod cases;
mod consumers;
mod copied;
mod damage;
mod forge;
mod image;
mod lengths;
mod limited;
mod look;
mod modes;
mod names;
mod pages;
mod repaired;
#[path = "../tools/sweep.rs"]
mod sweep;
#[path = "../tools/mod.rs"]
mod tools;
mod watch;
mod worker;

use std::thread;

/// Processes at work side by side.
const WORKERS: u64 = 3;

/// Not a test by itself: the process that the test below watches.
#[test]
fn worker_looks_at_damaged_stores() {
    if let Ok(order) = std::env::var(worker::ORDER) {
        worker::run(&order);
    }
}

/// Not a test by itself: the process that `limited` runs under a limit of memory.
#[test]
fn child_uses_a_forged_store() {
    if let Ok(what) = std::env::var(limited::CHILD) {
        limited::child(&what);
    }
}

/// Not a test by itself: the process that `modes` runs.
#[test]
fn child_makes_files_without_a_umask() {
    if let Some(root) = std::env::var_os(modes::CHILD) {
        modes::child(root.as_ref());
    }
}

#[test]
fn whatever_is_damaged_nothing_is_wrong_or_missing_unsaid() {
    let (seed, images) = (sweep::seed(), if sweep::is_full() { 2_100 } else { 120 });
    eprintln!("TIDELOG_SEED={seed}, {images} images");
    let each = images / WORKERS;
    let found = thread::scope(|scope| {
        let parts = (0..WORKERS)
            .map(|part| scope.spawn(move || watch::sweep(seed, part * each, (part + 1) * each)));
        let parts: Vec<_> = parts.collect();
        parts
            .into_iter()
            .map(|part| part.join().unwrap())
            .collect::<Vec<_>>()
    });
    let mut tally = sweep::Tally::default();
    let mut wrong = Vec::new();
    for part in &found {
        tally.add(&part.tally);
        wrong.extend(part.wrong.iter().map(String::as_str));
    }
    eprintln!("{}{}", tally.table(), tally.totals());
    let most = found.iter().map(|part| part.most_gone).max();
    eprintln!(
        "at most {} commits were cleanly gone from one image",
        most.unwrap_or(0)
    );
    assert!(
        wrong.is_empty(),
        "TIDELOG_SEED={seed}\n{}",
        wrong.join("\n")
    );
}
