//! A repair of a store that lost what an earlier repair had said of its losses.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod tools;

use std::fs;
use std::path::Path;

use tidelog_backends::{SledStore, repair};
use tidelog_core::*;
use tools::{event, segment, segments, stream};

fn append(store: &SledStore, to: &str, n: u64) -> u64 {
    let batch = AppendBatch::new(stream(to), ExpectedVersion::Any, vec![event(n, 700)]);
    store.blocking().append(batch).unwrap().first_sequence
}

/// Flips a bit in the body of each commit from number `first` to `last`.
fn damage(dir: &Path, first: u64, last: u64) {
    let mut hit = 0;
    for number in segments(dir) {
        let path = segment(dir, number);
        let mut bytes = fs::read(&path).unwrap();
        for at in (4096..bytes.len() - 88).step_by(8) {
            let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            let is_frame = bytes[at..].starts_with(b"TLF1") && bytes[at + 72..at + 76] != [0; 4];
            if is_frame && (first..=last).contains(&number(at + 16)) {
                bytes[at + 100] ^= 1;
                hit += 1;
            }
        }
        tools::make_writable(&path);
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(hit, last + 1 - first);
}

#[test]
fn sequences_stay_left_out_when_the_statement_about_them_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let dir = |n: u64| root.path().join(n.to_string());
    let store = SledStore::open(dir(0)).unwrap();
    for n in 0..10 {
        append(&store, if n % 2 == 0 { "s" } else { "t" }, n);
    }
    store.crash();
    // One event of a stream that is named.
    damage(&dir(0), 5, 5);
    let first = repair(dir(0), dir(1)).unwrap();
    assert_eq!((first.losses.streams.len(), first.losses.unnamed), (1, 0));

    // Five of one that cannot be.
    let store = SledStore::open(dir(1)).unwrap();
    store.accept_all_losses().unwrap();
    for n in 10..15 {
        assert_eq!(append(&store, "t", n), n - 4);
    }
    store.crash();
    damage(&dir(1), 13, 17);
    let second = repair(dir(1), dir(2)).unwrap();
    assert_eq!(second.losses.unnamed, 5);
    let store = SledStore::open(dir(2)).unwrap();
    store.accept_all_losses().unwrap();
    assert_eq!(append(&store, "s", 20), 11);
    store.crash();

    // And then what the second repair said.
    damage(&dir(2), 18, 18);
    repair(dir(2), dir(3)).unwrap();
    let store = SledStore::open(dir(3)).unwrap();
    store.accept_all_losses().unwrap();
    let next = append(&store, "t", 30);
    assert!(next > 10, "sequence {next} was given before");
    store.verify().unwrap();
}
