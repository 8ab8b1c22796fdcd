//! The last page of a segment: the mark stands in it, and in segments of earlier versions frames do.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod tools;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tidelog_backends::{SledStore, repair};
use tidelog_core::*;
use tools::{event, read_all, segment, segments, stream};

const FRAME: &[u8] = b"TLF1";
const PATIENCE: Duration = Duration::from_secs(60);

fn fill(store: &SledStore, events: u64, payload: usize) {
    for n in 0..events {
        let batch = AppendBatch::new(stream("1"), ExpectedVersion::Any, vec![event(n, payload)]);
        store.blocking().append(batch).unwrap();
    }
}

fn frames(bytes: &[u8]) -> Vec<usize> {
    let places = (4096..bytes.len()).step_by(8);
    places
        .filter(|at| bytes[*at..].starts_with(FRAME))
        .collect()
}

/// Cuts the room off that frames leave free, as if the segment had been made by a version without it.
fn fill_up(path: &Path) -> Vec<usize> {
    let mut bytes = fs::read(path).unwrap();
    let mark = bytes.len() - 4096;
    bytes.truncate(mark);
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let end = end.next_multiple_of(8) + 16;
    bytes.resize(end, 0);
    bytes[168..176].copy_from_slice(&(end as u64).to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..176]);
    bytes[176..180].copy_from_slice(&crc.to_le_bytes());
    let frames = frames(&bytes);
    fs::write(path, bytes).unwrap();
    frames
}

#[test]
fn what_frames_up_to_the_end_of_a_segment_vouch_for_is_heard() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    fill(&store, 10, 3000);
    store.crash();
    let path = segment(dir.path(), 1);
    let frames = fill_up(&path);
    assert_eq!(frames.len(), 10);
    let store = SledStore::open(dir.path()).unwrap();
    assert_eq!(read_all(&store).unwrap().len(), 10);
    store.crash();
    let mut bytes = fs::read(&path).unwrap();
    bytes[frames[8] + 500] ^= 1;
    fs::write(&path, bytes).unwrap();
    let opened = SledStore::open(dir.path()).map(|store| read_all(&store).unwrap().len());
    assert!(matches!(opened, Err(Error::Damaged { .. })), "{opened:?}");
}

/// The commit that the mark in a segment vouches for.
fn marked(path: &Path) -> Option<u64> {
    let bytes = fs::read(path).unwrap();
    let mark = &bytes[bytes.len() - 4096..];
    let commit = mark[16..24].try_into().unwrap();
    mark.starts_with(FRAME).then(|| u64::from_le_bytes(commit))
}

#[test]
fn after_each_burst_of_commits_the_last_one_is_marked_whoever_made_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    let path = segment(dir.path(), 1);
    let started = Instant::now();
    let wait_for_mark = |burst: u64| {
        while marked(&path) != Some(store.last_position()) {
            assert!(started.elapsed() < PATIENCE, "burst {burst} is not marked");
            thread::yield_now();
        }
    };
    for burst in 0..3 {
        fill(&store, 5, 300);
        wait_for_mark(burst);
        let batch = AppendBatch::new(stream("2"), ExpectedVersion::Any, vec![event(burst, 300)]);
        pollster::block_on(store.append(batch)).unwrap();
        wait_for_mark(burst);
    }
}

#[test]
fn what_a_store_finds_when_it_is_opened_is_marked_though_nothing_is_appended() {
    for closed in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let store = SledStore::open(dir.path()).unwrap();
        fill(&store, 2, 300);
        if closed {
            store.close_blocking().unwrap();
            assert_eq!(marked(&segment(dir.path(), 1)), Some(2), "of a clean close");
        } else {
            store.crash();
        }
        drop(store);
        let store = SledStore::open(dir.path()).unwrap();
        let last = store.last_position();
        store.crash();
        let path = segment(dir.path(), 1);
        assert_eq!(marked(&path), Some(last), "closed: {closed}");
        let mut bytes = fs::read(&path).unwrap();
        let frame = frames(&bytes)[1];
        bytes[frame..frame + 500].fill(0);
        fs::write(&path, bytes).unwrap();
        let opened = SledStore::open(dir.path()).map(|store| read_all(&store).unwrap().len());
        assert!(matches!(opened, Err(Error::Damaged { .. })), "{opened:?}");
    }
}

#[test]
fn appends_that_commit_nothing_do_not_put_the_mark_off() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    let path = segment(dir.path(), 1);
    fill(&store, 1, 300);
    let started = Instant::now();
    while marked(&path) != Some(store.last_position()) {
        assert!(started.elapsed() < PATIENCE, "it is not marked");
        let batch = AppendBatch::new(stream("1"), ExpectedVersion::NoStream, vec![event(9, 50)]);
        assert!(pollster::block_on(store.append(batch)).is_err());
    }
}

#[test]
fn repair_hears_the_mark_of_a_segment_of_any_size() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    let open = |dir: &Path| SledStore::builder(dir).segment_size(100_001).open();
    let store = open(&from).unwrap();
    fill(&store, 3, 300);
    store.drain().unwrap();
    store.crash();
    let path = segment(&from, 1);
    let mut bytes = fs::read(&path).unwrap();
    let last = frames(&bytes)[2];
    bytes[last..last + 600].fill(0);
    fs::write(&path, bytes).unwrap();
    let opened = open(&from).map(|store| read_all(&store).unwrap().len());
    assert!(matches!(opened, Err(Error::Damaged { .. })), "{opened:?}");
    let report = repair(&from, &to).unwrap();
    assert_eq!(report.lost.len(), 1);
}

#[test]
fn a_repaired_store_that_lost_its_newest_segment_is_damaged() {
    let root = tempfile::tempdir().unwrap();
    let (from, to) = (root.path().join("from"), root.path().join("to"));
    let store = SledStore::open(&from).unwrap();
    fill(&store, 3, 300);
    store.close_blocking().unwrap();
    repair(&from, &to).unwrap();
    let newest = segments(&to).len() as u64;
    fs::remove_file(segment(&to, newest)).unwrap();
    let opened = SledStore::open(&to).map(|store| read_all(&store).unwrap().len());
    assert!(matches!(opened, Err(Error::Damaged { .. })), "{opened:?}");
}
