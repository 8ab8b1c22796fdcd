//! After a repair, what is still there is known by its ids however many sequences were left out.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

mod tools;

use std::fs;

use tidelog_backends::{SledStore, repair};
use tidelog_core::*;
use tools::{event, id, segment, segments, stream};

/// As many ids as a store knows of a stream with default limits.
const WINDOW: u64 = 10_000;

#[test]
fn a_retry_is_known_below_more_sequences_than_a_window_holds() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    let one = stream("1");
    let append = |store: &SledStore, n: u64| {
        let batch = AppendBatch::new(one.clone(), ExpectedVersion::Any, vec![event(n, 50)]);
        store.blocking().append(batch).unwrap()
    };
    let store = SledStore::open(&from).unwrap();
    for n in 0..6 {
        append(&store, n);
    }
    store.crash();
    // The sixth event and all the room after it: whatever stood there may have been of this stream.
    let path = segment(&from, 1);
    let mut bytes = fs::read(&path).unwrap();
    let frames = (4096..bytes.len()).filter(|at| bytes[*at..].starts_with(b"TLF1"));
    let sixth = frames.clone().nth(5).unwrap();
    bytes.truncate(sixth + 10);
    fs::write(&path, bytes).unwrap();
    let report = repair(&from, &to).unwrap();
    assert!(report.losses.unnamed > WINDOW, "{report:?}");

    let store = SledStore::open(&to).unwrap();
    store.accept_all_losses().unwrap();
    assert!(append(&store, 100).first_sequence > WINDOW);
    for open_again in [false, true] {
        let store = if open_again {
            store.close_blocking().unwrap();
            SledStore::open(&to).unwrap()
        } else {
            store.clone()
        };
        for n in 0..5 {
            let receipt = append(&store, n);
            assert_eq!(receipt.outcome, AppendOutcome::AlreadyAppended);
            assert_eq!(receipt.first_sequence, n + 1);
            let found = store.blocking().find_event(&one, id(n)).unwrap();
            assert_eq!(found.map(|event| event.sequence), Some(n + 1));
        }
    }
}

#[test]
fn segments_that_are_gone_are_counted_though_the_last_frame_before_them_is_damaged() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    let open = |dir| SledStore::builder(dir).segment_size(64 << 10).open();
    let store = open(&from).unwrap();
    let one = stream("1");
    for n in 0..600 {
        let batch = AppendBatch::new(one.clone(), ExpectedVersion::Any, vec![event(n, 700)]);
        store.blocking().append(batch).unwrap();
    }
    store.drain().unwrap();
    store.crash();
    drop(store);
    // Nothing is left that tells how many segments there were.
    fs::remove_dir_all(from.join("index")).unwrap();
    fs::remove_file(from.join("manifest")).unwrap();
    let numbers = segments(&from);
    for number in numbers.iter().skip(2) {
        fs::remove_file(segment(&from, *number)).unwrap();
    }
    let path = segment(&from, numbers[1]);
    tools::make_writable(&path);
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 750..].fill(7);
    fs::write(&path, bytes).unwrap();
    let report = repair(&from, &to).unwrap();
    assert!(report.records + report.losses.unnamed >= 600, "{report:?}");
    let store = open(&to).unwrap();
    store.accept_all_losses().unwrap();
    let batch = AppendBatch::new(one, ExpectedVersion::Any, vec![event(900, 50)]);
    assert!(store.blocking().append(batch).unwrap().first_sequence > 600);
}
