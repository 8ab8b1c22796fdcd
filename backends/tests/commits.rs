//! The log commit by commit, as replication reads it: whole commits, durable ones only, bit for bit.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

mod tools;

use std::path::Path;

use tidelog_backends::commits::{Commit, CommitEnd, CommitRecord, Envelopes};
use tidelog_backends::{SledStore, repair};
use tidelog_core::*;
use tools::{event, make_writable, read_all, segment, segments, stream};

fn open(dir: &Path) -> SledStore {
    SledStore::builder(dir)
        .segment_size(64 << 10)
        .open()
        .unwrap()
}

/// One event of this size a commit, to one of five streams.
fn append(store: &SledStore, numbers: std::ops::Range<u64>, bytes: usize) {
    for n in numbers {
        let to = stream(&(n % 5).to_string());
        let batch = AppendBatch::new(to, ExpectedVersion::Any, vec![event(n, bytes)]);
        store.blocking().append(batch).unwrap();
    }
}

fn all(store: &SledStore, after: u64, max_bytes: usize) -> Vec<Commit> {
    let mut commits = store.commits(after);
    let mut read = Vec::new();
    loop {
        let page = commits.next(max_bytes).unwrap();
        if page.is_empty() {
            return read;
        }
        read.extend(page);
    }
}

fn genesis(store: &SledStore) -> CommitEnd {
    let first_epoch = store.epochs().unwrap()[0].id;
    CommitEnd::genesis(store.info().unwrap().origin, first_epoch)
}

/// Each follows the one before it; their records are the log's.
fn check(store: &SledStore, commits: &[Commit]) {
    let mut before = genesis(store);
    let mut envelopes = Vec::new();
    let mut made = Envelopes::new();
    for commit in commits {
        assert_eq!(*commit, Commit::new(&before, commit.body.clone()).unwrap());
        before = commit.end();
        for record in commit.each() {
            let record = record.unwrap();
            let alone = record.bytes();
            let again = CommitRecord::read(&alone).unwrap();
            assert_eq!(again.envelope().unwrap(), record.envelope().unwrap());
            assert_eq!(made.read(&alone).unwrap(), record.envelope().unwrap());
            envelopes.push(record.envelope().unwrap());
        }
    }
    assert_eq!(envelopes, read_all(store).unwrap());
    let info = store.info().unwrap();
    assert_eq!(before.number, info.commits);
    assert_eq!(before.hash, info.chain_hash);
}

#[test]
fn commits_are_the_log_from_any_place_and_in_any_portion() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    append(&store, 0..300, 700);
    // Larger than a window, larger than a segment, smaller than a page.
    append(&store, 300..301, 900 << 10);
    append(&store, 301..400, 20);
    assert!(segments(dir.path()).len() > 3);
    let whole = all(&store, 0, usize::MAX);
    assert_eq!(whole.len(), 400);
    check(&store, &whole);
    for max_bytes in [1, 1000, 70_000] {
        assert_eq!(all(&store, 0, max_bytes), whole, "{max_bytes}");
    }
    for after in [1, 99, 300, 399, 400] {
        assert_eq!(
            all(&store, after, 5_000),
            whole[usize::try_from(after).unwrap()..]
        );
    }
    let page = store.commits(0).next(1).unwrap();
    assert_eq!(
        page,
        whole[..1],
        "one at least, and no more than was asked for"
    );
    store.drain().unwrap();
    assert_eq!(all(&store, 0, usize::MAX), whole, "sealed and cut");
    store.crash();
    let store = open(dir.path());
    assert_eq!(all(&store, 0, usize::MAX), whole);
    store.crash();
    let mut closed = store.commits(0);
    assert!(matches!(closed.next(1), Err(Error::Closed)));
}

#[test]
fn a_commit_is_given_whole_wherever_it_is_entered() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    append(&store, 0..3, 10);
    let events = (3..8).map(|n| event(n, 10)).collect();
    let batch = AppendBatch::new(stream("0"), ExpectedVersion::Any, events);
    store.blocking().append(batch).unwrap();
    for after in 3..8 {
        let read = all(&store, after, usize::MAX);
        assert_eq!((read[0].first_position, read[0].records), (4, 5));
        assert_eq!(read[0].last_position(), 8);
    }
    assert_eq!(all(&store, 8, usize::MAX), []);
}

#[test]
fn what_is_not_durable_is_not_given() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    append(&store, 0..1, 10);
    let batch = AppendBatch::new(stream("0"), ExpectedVersion::Any, vec![event(1, 10)]);
    let batch = batch.with_durability(Durability::Process);
    store.blocking().append(batch).unwrap();
    assert_eq!((store.last_position(), store.durable_position()), (2, 1));
    let mut commits = store.commits(0);
    assert_eq!(commits.next(usize::MAX).unwrap().len(), 1);
    assert_eq!(commits.next(usize::MAX).unwrap(), []);
    pollster::block_on(store.make_durable(2)).unwrap();
    assert_eq!(commits.next(usize::MAX).unwrap().len(), 1);
    assert_eq!(commits.after(), 2);
}

#[test]
fn commits_end_where_they_end_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    append(&store, 0..100, 700);
    let events = (100..103).map(|n| event(n, 10)).collect();
    let batch = AppendBatch::new(stream("0"), ExpectedVersion::Any, events);
    store.blocking().append(batch).unwrap();
    assert_eq!(store.commit_end(0).unwrap(), Some(genesis(&store)));
    for commit in all(&store, 0, usize::MAX) {
        let end = commit.end();
        assert_eq!(store.commit_end(end.position).unwrap(), Some(end));
    }
    for inside in [101, 102, 104, 1000] {
        assert_eq!(store.commit_end(inside).unwrap(), None, "{inside}");
    }
}

#[test]
fn news_come_with_each_commit_and_when_the_store_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let news = store.news();
    append(&store, 0..1, 10);
    pollster::block_on(news);
    let news = store.news();
    store.close_blocking().unwrap();
    pollster::block_on(news);
    pollster::block_on(store.news());
}

#[test]
fn every_epoch_is_listed_with_the_place_where_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let first = store.identity().epoch;
    append(&store, 0..2, 10);
    let second = store.begin_epoch().unwrap();
    let third = store.begin_epoch().unwrap();
    append(&store, 2..300, 700);
    let fourth = store.begin_epoch().unwrap();
    let listed = |store: &SledStore| {
        let epochs = store.epochs().unwrap();
        let listed = epochs.iter().map(|epoch| {
            let parent = store.commit_end(epoch.parent_position).unwrap();
            let is_first = epoch.first_position == 1;
            assert!(is_first || parent.unwrap().hash == epoch.parent_hash);
            (epoch.id, epoch.first_position, epoch.parent)
        });
        listed.collect::<Vec<_>>()
    };
    let expected = [
        (first, 1, uuid::Uuid::nil()),
        (second, 3, first),
        (third, 4, second),
        (fourth, 303, third),
    ];
    assert_eq!(listed(&store), expected);
    let records = all(&store, 0, usize::MAX);
    let begun: Vec<_> = records
        .iter()
        .flat_map(|commit| commit.each().filter_map(|record| record.unwrap().epoch()))
        .collect();
    assert_eq!(begun, store.epochs().unwrap()[1..]);
    store.crash();
    let store = open(dir.path());
    assert_eq!(store.identity().epoch, fourth);
    assert_eq!(listed(&store), expected);
    store.crash();
    assert!(matches!(store.begin_epoch(), Err(Error::Closed)));
}

#[test]
fn what_a_repair_left_out_is_passed_over_and_declared() {
    let root = tempfile::tempdir().unwrap();
    let (dir, to) = (root.path().join("store"), root.path().join("repaired"));
    let store = open(&dir);
    append(&store, 0..300, 700);
    store.drain().unwrap();
    let before = all(&store, 0, usize::MAX);
    store.close_blocking().unwrap();
    let path = segment(&dir, 2);
    make_writable(&path);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[10_000] ^= 1;
    std::fs::write(path, bytes).unwrap();
    repair(&dir, &to).unwrap();
    let store = open(&to);
    let after = all(&store, 0, usize::MAX);
    let kept = &after[..after.len() - 1];
    assert_eq!(kept.len(), 299);
    assert!(kept.iter().all(|commit| before.contains(commit)));
    let statement = after.last().unwrap();
    let mut holes = Vec::new();
    for record in statement.each() {
        holes.extend(record.unwrap().holes().unwrap_or_default());
    }
    let gone = before
        .iter()
        .find(|commit| !after.contains(commit))
        .unwrap();
    assert_eq!(holes.len(), 1);
    let hole = holes[0];
    assert_eq!(
        (hole.first_commit, hole.last_commit),
        (gone.number, gone.number)
    );
    assert_eq!(
        (hole.hash_before, hole.hash_after),
        (gone.previous, gone.hash)
    );
    assert_eq!(store.commit_end(gone.last_position()).unwrap(), None);
    let entered = all(&store, gone.last_position() - 1, usize::MAX);
    assert_eq!(entered[0].first_position, gone.last_position() + 1);
}

#[test]
fn commits_are_made_of_envelopes_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    append(&store, 0..3, 10);
    store.begin_epoch().unwrap();
    let birth = Birth {
        origin: uuid::Uuid::from_u128(1),
        epoch: uuid::Uuid::from_u128(2),
        position: 3,
        recorded_time: Timestamp::from_micros(4),
    };
    let events = vec![event(5, 9).with_birth(birth), event(6, 10)];
    let batch = AppendBatch::new(stream("0"), ExpectedVersion::Any, events);
    store.blocking().append(batch).unwrap();
    let mut before = genesis(&store);
    for commit in all(&store, 0, usize::MAX) {
        let envelopes: Vec<_> = commit
            .each()
            .map(|record| record.unwrap().envelope().unwrap())
            .collect();
        assert_eq!(Commit::of(&before, &envelopes).unwrap(), commit);
        before = commit.end();
    }
    assert!(matches!(
        Commit::of(&before, &[]),
        Err(Error::InvalidInput { .. })
    ));
    let body = all(&store, 0, usize::MAX)[0].body.clone();
    let again = Commit::new(&before, body.clone());
    assert!(
        matches!(again, Err(Error::InvalidInput { .. })),
        "its positions are others"
    );
    let cut = Commit::new(&genesis(&store), body.slice(..body.len() - 1));
    assert!(matches!(cut, Err(Error::InvalidInput { .. })));
}
