//! `kill -9` at random moments.
//!
//! A child works on a store: it appends alone and in threads, fills segments that are sealed and
//! merged, opens and closes, makes the index again, takes backups and restores them, keeps
//! snapshots, lets events give way to others, copies its log. It says on a pipe what it tries and what was acknowledged. Some moments after it said
//! a chosen word it is killed; the parent, which holds all it heard, looks at a copy of the files:
//! nothing acknowledged is missing, nothing torn is visible, sequences and positions are dense, the
//! hash chain verifies, every stream goes on where it ended. The next child then goes on with what
//! the kill left, unhealed, so that the traces of many kills pile up in one store.
//!
//! `TIDELOG_SWEEP=full` makes the whole sweep, `TIDELOG_SEED` repeats one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod child;
mod history;
mod life;
mod oracle;
#[path = "../tools/sweep.rs"]
mod sweep;
#[path = "../tools/mod.rs"]
mod tools;

use std::fs;
use std::thread;

use child::{ORDER, Order, Work};
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
fn a_killed_process_loses_nothing_it_acknowledged() {
    let (seed, kills) = (sweep::seed(), if sweep::is_full() { 1_050 } else { 40 });
    eprintln!("TIDELOG_SEED={seed}, {kills} kills");
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
    eprintln!("{}", tally.table());
    assert_eq!(
        tally.of("starting"),
        0,
        "a child was killed before it began"
    );
}

#[test]
fn a_backup_that_was_killed_before_its_mark_is_begun_again() {
    let root = tempfile::tempdir().unwrap();
    let store = child::open(&child::store_in(root.path())).unwrap();
    let to = child::backup_in(root.path());
    for mark in [&b""[..], b"TIDEBAK1"] {
        let _ = fs::remove_dir_all(&to);
        fs::create_dir_all(to.join("log")).unwrap();
        fs::write(to.join("backup.new"), mark).unwrap();
        store.backup(&to).unwrap();
    }
    // But not over what is somebody else's.
    let other = root.path().join("other");
    fs::create_dir_all(other.join("log")).unwrap();
    fs::write(other.join("log/letter.txt"), "dear").unwrap();
    let refused = store.backup(&other).map_err(|error| error.code());
    assert_eq!(refused, Err("not_a_store"));
}

fn live(seed: u64, kills: u64) -> Tally {
    let mut random = Random(seed);
    let mut tally = Tally::default();
    let mut life = Life::new(random.next());
    let (mut stores, mut acknowledged) = (1, 0);
    for kill in 0..kills {
        // Each work in turn, in the bounded sweep as well; which one follows which is random.
        let work = match kill as usize {
            kill if kill < Work::ALL.len() => {
                Work::ALL[(kill + seed as usize % 10) % Work::ALL.len()]
            }
            _ => *random.pick(&Work::ALL),
        };
        life.kill(work);
        if life.is_old() {
            tally.add(&life.tally);
            acknowledged += life.acknowledged();
            life = Life::new(random.next());
            stores += 1;
        }
    }
    tally.add(&life.tally);
    acknowledged += life.acknowledged();
    eprintln!("{kills} kills of {stores} stores, {acknowledged} appends acknowledged");
    tally
}
