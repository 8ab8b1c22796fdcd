//! Rows of read models follow the log or are not there, whatever became of the folder they stand in.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidelog_backends::SledStore;
use tidelog_core::*;
use tools::{copy_tree, event, stream};

const MODEL: &str = "accounts";
const ALL: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Unbounded, Bound::Unbounded);

fn open(dir: &Path) -> SledStore {
    SledStore::builder(dir)
        .segment_size(64 << 10)
        .durability(Durability::Process)
        .index_open_timeout(Duration::from_secs(10))
        .open()
        .unwrap()
}

fn at(position: u64) -> Checkpoint {
    Checkpoint {
        position,
        ..Checkpoint::beginning(1, 0)
    }
}

/// What commit number `position` does: a few rows of a hundred, one of them long.
fn changes_of(position: u64) -> Vec<Change> {
    let row = |n: u64| Change {
        space: Space::Rows,
        key: format!("row {:03}", (position * 7 + n * 31) % 100).into_bytes(),
        value: Some(vec![
            position.to_le_bytes()[0];
            if n == 0 { 5_000 } else { 50 }
        ]),
    };
    let gone = Change {
        value: None,
        ..row(9)
    };
    vec![row(0), row(1), row(2), gone]
}

/// The rows after commits 1 to `position`.
fn rows_at(position: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut rows = BTreeMap::new();
    for change in (1..=position).flat_map(changes_of) {
        match change.value {
            Some(value) => rows.insert(change.key, value),
            None => rows.remove(&change.key),
        };
    }
    rows
}

fn commit(store: &SledStore, slot: &Slot, positions: std::ops::RangeInclusive<u64>) {
    for position in positions {
        store
            .commit(slot, &changes_of(position), &at(position))
            .unwrap();
    }
}

/// An active slot with commits 1 to `position`.
fn make(store: &SledStore, position: u64) -> Slot {
    let slot = store.create_slot(MODEL, &at(0)).unwrap();
    commit(store, &slot, 1..=position);
    store.activate(MODEL, &slot).unwrap();
    slot
}

fn slots(store: &SledStore) -> ModelSlots {
    store
        .slots(MODEL, &mut |_| ControlFlow::Continue(()))
        .unwrap()
}

fn active(store: &SledStore) -> Option<(Slot, u64)> {
    let active = slots(store).active;
    active.map(|(slot, checkpoint)| (slot, checkpoint.position))
}

#[track_caller]
fn assert_rows(store: &SledStore, slot: &Slot, position: u64) {
    let found = store.scan(slot, Space::Rows, ALL, Direction::Forward, usize::MAX);
    assert!(
        found.unwrap().into_iter().eq(rows_at(position)),
        "rows at {position} differ"
    );
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    (root, dir)
}

#[test]
fn a_store_without_read_models_has_no_tree_of_them() {
    let (_root, dir) = folder();
    let store = open(&dir);
    store.remove_model(MODEL).unwrap();
    assert_eq!(slots(&store), ModelSlots::default());
    store.close_blocking().unwrap();
    let engine = sled::open(dir.join("index/00000001")).unwrap();
    let names = engine.tree_names();
    assert!(!names.iter().any(|name| *name == *b"models"), "{names:?}");
}

#[test]
fn an_index_made_again_loses_the_rows_and_says_so() {
    let (_root, dir) = folder();
    let store = open(&dir);
    let before = make(&store, 20);
    store.rebuild_index().unwrap();
    let lost = [
        store.get(&before, Space::Rows, b"row 007").map(drop),
        store.commit(&before, &changes_of(21), &at(21)).map(drop),
        store.activate(MODEL, &before),
    ];
    for lost in lost {
        assert!(matches!(lost, Err(RowsError::Lost(_))), "{lost:?}");
    }
    assert_eq!(active(&store), None);
    let again = make(&store, 3);
    assert_ne!(again.generation, before.generation);
    assert_rows(&store, &again, 3);
    store.close_blocking().unwrap();
    let store = open(&dir);
    let (slot, position) = active(&store).unwrap();
    assert_eq!(position, 3);
    assert_rows(&store, &slot, 3);
}

#[test]
fn rows_are_gone_with_their_folder_and_older_with_an_older_one() {
    let (root, dir) = folder();
    let store = open(&dir);
    let slot = make(&store, 20);
    store.close_blocking().unwrap();
    let image = root.path().join("older");
    copy_tree(&dir.join("index"), &image);

    let store = open(&dir);
    assert_eq!(active(&store), Some((slot, 20)));
    commit(&store, &slot, 21..=60);
    store.close_blocking().unwrap();
    fs::remove_dir_all(dir.join("index")).unwrap();
    copy_tree(&image, &dir.join("index"));
    let store = open(&dir);
    let (slot, position) = active(&store).unwrap();
    assert_eq!(position, 20);
    assert_rows(&store, &slot, 20);
    commit(&store, &slot, 21..=30);
    assert_rows(&store, &slot, 30);
    store.close_blocking().unwrap();

    fs::remove_dir_all(dir.join("index")).unwrap();
    let store = open(&dir);
    assert_eq!(active(&store), None);
    let slot = make(&store, 5);
    assert_rows(&store, &slot, 5);
}

#[test]
fn rows_of_another_store_are_not_taken() {
    let (root, dir) = folder();
    let other = root.path().join("other");
    for dir in [&dir, &other] {
        let store = open(dir);
        make(&store, 20);
        store.close_blocking().unwrap();
    }
    fs::remove_dir_all(dir.join("index")).unwrap();
    copy_tree(&other.join("index"), &dir.join("index"));
    let store = open(&dir);
    assert_eq!(slots(&store), ModelSlots::default());
    let slot = make(&store, 5);
    assert_rows(&store, &slot, 5);
}

/// sled may cut its log where it meets the change, give up, or take it for what was written; what
/// is served then is a commit's state all the same.
#[test]
fn a_changed_byte_costs_commits_or_the_slot_and_never_a_wrong_row() {
    let (root, dir) = folder();
    let store = open(&dir);
    make(&store, 40);
    store.flush().unwrap();
    let (slot, _) = active(&store).unwrap();
    commit(&store, &slot, 41..=80);
    store.close_blocking().unwrap();
    let image = root.path().join("image");
    copy_tree(&dir, &image);
    let file = PathBuf::from("index/00000001/db");
    let bytes = fs::read(image.join(&file)).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    let (mut whole, mut older, mut gone) = (0, 0, 0);
    for step in 0..40 {
        let place = step * used / 40 + 17;
        fs::remove_dir_all(&dir).unwrap();
        copy_tree(&image, &dir);
        let mut changed = bytes.clone();
        changed[place] ^= 1 << (step % 8);
        fs::write(dir.join(&file), changed).unwrap();
        let store = open(&dir);
        match active(&store) {
            None => gone += 1,
            Some((slot, position)) => {
                assert_rows(&store, &slot, position);
                match position {
                    80 => whole += 1,
                    _ => older += 1,
                }
            }
        }
        let slot = make(&store, 2);
        assert_rows(&store, &slot, 2);
        store.close_blocking().unwrap();
    }
    println!("of 40 changed bytes: {whole} harmed nothing, {older} cost commits, {gone} the slot");
    assert!(gone + older > 0, "no change met the rows");
}

#[test]
fn a_slot_being_checked_does_not_hold_up_closing() {
    let (_root, dir) = folder();
    let store = open(&dir);
    let slot = store.create_slot(MODEL, &at(0)).unwrap();
    let changes: Vec<_> = (0..9_000_u32)
        .map(|n| Change {
            space: Space::Rows,
            key: n.to_be_bytes().to_vec(),
            value: Some(vec![1; 20]),
        })
        .collect();
    store.commit(&slot, &changes, &at(1)).unwrap();
    store.close_blocking().unwrap();
    let store = open(&dir);
    let mut told = Vec::new();
    let found = store.slots(MODEL, &mut |done| {
        told.push(done);
        if told.len() == 1 {
            store.close_blocking().unwrap();
            // The lock is free: closing did not wait for the check.
            drop(open(&dir));
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(found, Err(Error::Closed)), "{found:?}");
    assert_eq!(told, [4_096]);
}

/// Rows never run ahead of the log that they were made from, and go on from where a crash left them.
#[test]
fn rows_and_log_go_on_together_after_crashes() {
    let (_root, dir) = folder();
    let mut store = open(&dir);
    let mut last = 0;
    for round in 0..6 {
        let (slot, position) = active(&store).unwrap_or_else(|| (make(&store, 0), 0));
        assert_rows(&store, &slot, position);
        assert!(position <= last, "{position} of {last}");
        commit(&store, &slot, position + 1..=last);
        for _ in 0..50 {
            last += 1;
            let batch = vec![event(last, 100)];
            let append = AppendBatch::new(stream("s"), ExpectedVersion::Any, batch);
            store.blocking().append(append).unwrap();
            commit(&store, &slot, last..=last);
        }
        if round % 2 == 0 {
            store.flush().unwrap();
        }
        assert_rows(&store, &slot, last);
        store.crash();
        store = open(&dir);
        assert_eq!(store.last_position(), last);
    }
}
