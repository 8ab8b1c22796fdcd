//! Copies of logs: commit by commit, byte for byte, resumable, and stores of their own in the end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

mod tools;

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidelog_backends::commits::{Commit, DeclaredHole, LogCopy};
use tidelog_backends::{SledStore, SledStoreBuilder, repair};
use tidelog_core::*;
use tools::{event, make_writable, read_all, read_stream, segment, segments, stream};
use uuid::Uuid;

const FORMAT_FLAGS: usize = 16 + 12;

fn options(dir: &Path) -> SledStoreBuilder {
    SledStore::builder(dir).segment_size(64 << 10)
}

fn append(store: &SledStore, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let to = stream(&(n % 5).to_string());
        let batch = AppendBatch::new(to, ExpectedVersion::Any, vec![event(n, 700)]);
        store.blocking().append(batch).unwrap();
    }
}

fn commits(store: &SledStore) -> Vec<Commit> {
    store.commits(0).next(usize::MAX).unwrap()
}

/// A store with a history over several segments, and room for its copy.
struct Scene {
    root: TempDir,
    store: SledStore,
}

impl Scene {
    fn new(events: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = options(&root.path().join("store")).open().unwrap();
        append(&store, 0..events / 2);
        store.begin_epoch().unwrap();
        append(&store, events / 2..events);
        Self { root, store }
    }

    fn to(&self) -> PathBuf {
        self.root.path().join("copy")
    }

    fn copy(&self) -> Result<LogCopy, Error> {
        let origin = self.store.identity().origin;
        let first = self.store.epochs()?[0].id;
        LogCopy::open(&self.to(), origin, first, &options(Path::new("")))
    }

    fn copied(&self) -> LogCopy {
        let mut copy = self.copy().unwrap();
        push(&mut copy, &commits(&self.store));
        copy
    }
}

fn push(copy: &mut LogCopy, commits: &[Commit]) {
    for commit in commits {
        copy.push(commit.number, &commit.body, commit.hash).unwrap();
    }
    copy.sync().unwrap();
}

fn is_invalid<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::InvalidInput { .. }))
}

#[test]
fn a_copy_has_the_same_commits_and_becomes_a_store_that_goes_on() {
    let scene = Scene::new(300);
    let copy = scene.copied();
    assert!(segments(&scene.to()).len() > 2);
    assert_eq!(
        read_all(copy.store()).unwrap(),
        read_all(&scene.store).unwrap()
    );
    assert_eq!(commits(copy.store()), commits(&scene.store));
    assert_eq!(
        copy.store().epochs().unwrap(),
        scene.store.epochs().unwrap()
    );
    copy.store().verify().unwrap();
    let before = copy.next();
    let epoch = Uuid::from_u128(77);
    let made = copy.finish(epoch).unwrap();
    let original = commits(&scene.store);
    assert_eq!(commits(&made)[..original.len()], original);
    assert_eq!(made.identity().epoch, epoch);
    let epochs = made.epochs().unwrap();
    let last = epochs.last().unwrap();
    assert_eq!(last.parent, scene.store.identity().epoch);
    assert_eq!(
        (last.parent_position, last.parent_hash),
        (before.position, before.hash)
    );
    assert_eq!(made.info().unwrap().incompatible_flags, 0);
    let next = AppendBatch::new(
        stream("0"),
        ExpectedVersion::Exact(60),
        vec![event(900, 10)],
    );
    let receipt = made.blocking().append(next).unwrap();
    assert_eq!(
        (receipt.first_sequence, receipt.first_position),
        (61, Some(303))
    );
    // Ids of what was copied are known.
    let again = AppendBatch::new(stream("4"), ExpectedVersion::Any, vec![event(299, 700)]);
    let receipt = made.blocking().append(again).unwrap();
    assert_eq!(receipt.outcome, AppendOutcome::AlreadyAppended);
    made.verify().unwrap();
    made.close_blocking().unwrap();
    let again = options(&scene.to()).open().unwrap();
    assert_eq!(read_stream(&again, &stream("0")).unwrap().len(), 61);
}

#[test]
fn a_copy_is_no_store_before_it_is_finished_and_a_store_is_no_copy() {
    let scene = Scene::new(10);
    let copy = scene.copied();
    let one = AppendBatch::new(stream("0"), ExpectedVersion::Any, vec![event(900, 10)]);
    let refused = copy.store().blocking().append(one).unwrap_err();
    let origin = scene.store.identity().origin;
    assert!(matches!(refused, Error::ForeignStream { origin: of, .. } if of == origin));
    assert!(matches!(
        copy.store().begin_epoch(),
        Err(Error::NotAStore { .. })
    ));
    let backed_up = copy.store().backup(scene.root.path().join("backup"));
    assert!(matches!(backed_up, Err(Error::NotAStore { .. })));
    drop(copy);
    let repaired = repair(scene.to(), scene.root.path().join("repaired"));
    assert!(matches!(repaired, Err(Error::NotAStore { .. })));
    let bytes = std::fs::read(scene.to().join("format")).unwrap();
    assert_eq!(bytes[FORMAT_FLAGS..FORMAT_FLAGS + 4], [2, 0, 0, 0]);
    let refused = options(&scene.to()).open().unwrap_err();
    assert!(matches!(refused, Error::NotAStore { .. }), "{refused}");
    let other = LogCopy::open(
        &scene.to(),
        Uuid::nil(),
        Uuid::nil(),
        &options(Path::new("")),
    );
    assert!(matches!(other.err(), Some(Error::NotAStore { .. })));
    let other = LogCopy::open(&scene.to(), origin, Uuid::nil(), &options(Path::new("")));
    assert!(matches!(other.err(), Some(Error::NotAStore { .. })));
    scene.copy().unwrap().finish(Uuid::from_u128(7)).unwrap();
    assert!(matches!(scene.copy().err(), Some(Error::NotAStore { .. })));
}

#[test]
fn what_does_not_follow_or_is_not_whole_is_not_taken() {
    let scene = Scene::new(10);
    let original = commits(&scene.store);
    let mut copy = scene.copy().unwrap();
    push(&mut copy, &original[..3]);
    let (third, fourth, fifth) = (&original[2], &original[3], &original[4]);
    assert!(is_invalid(&copy.push(3, &third.body, third.hash)), "again");
    assert!(
        is_invalid(&copy.push(5, &fifth.body, fifth.hash)),
        "left out one"
    );
    assert!(
        is_invalid(&copy.push(4, &fourth.body, fifth.hash)),
        "another hash"
    );
    assert!(
        is_invalid(&copy.push(4, &fifth.body, fifth.hash)),
        "other positions"
    );
    assert!(is_invalid(&copy.push(4, &[], fourth.hash)), "nothing");
    let end = fourth.body.len() - 1;
    assert!(
        is_invalid(&copy.push(4, &fourth.body[..end], fourth.hash)),
        "cut"
    );
    for at in 0..fourth.body.len() {
        let mut body = fourth.body.to_vec();
        body[at] ^= 1;
        assert!(is_invalid(&copy.push(4, &body, fourth.hash)), "byte {at}");
    }
    push(&mut copy, &original[3..]);
    assert_eq!(commits(copy.store()), original);
}

#[test]
fn a_copy_that_is_interrupted_anywhere_goes_on_where_it_was() {
    let scene = Scene::new(200);
    let original = commits(&scene.store);
    for step in [1, 7, 64] {
        let mut done = 0;
        while done < original.len() {
            let mut copy = scene.copy().unwrap();
            let there = usize::try_from(copy.next().number).unwrap();
            // What was not synced may be there or not; a crash of the process takes nothing.
            assert_eq!(there, done);
            let end = (done + step * 17).min(original.len());
            for commit in &original[done..end] {
                copy.push(commit.number, &commit.body, commit.hash).unwrap();
            }
            copy.store().crash();
            done = end;
        }
        let copy = scene.copy().unwrap();
        copy.store().verify().unwrap();
        assert_eq!(
            read_all(copy.store()).unwrap(),
            read_all(&scene.store).unwrap()
        );
        drop(copy);
        std::fs::remove_dir_all(scene.to()).unwrap();
    }
}

#[test]
fn readers_and_subscribers_of_a_copy_see_each_commit_when_it_comes() {
    let scene = Scene::new(10);
    let original = commits(&scene.store);
    let mut copy = scene.copy().unwrap();
    let reader = copy.store().clone();
    let mut all = reader.blocking().subscribe(Subscribe::All { after: 0 });
    let last = stream("4");
    for commit in &original {
        copy.push(commit.number, &commit.body, commit.hash).unwrap();
        let seen = all.next().unwrap().unwrap();
        assert_eq!(seen.position, Some(commit.first_position));
        assert_eq!(reader.last_position(), commit.last_position());
    }
    let head = reader.blocking().head(&last).unwrap().unwrap();
    assert_eq!((head.sequence, head.event_id), (2, tools::id(9)));
    assert!(
        reader
            .blocking()
            .find_event(&last, tools::id(4))
            .unwrap()
            .is_some()
    );
}

/// A repaired store, whose log has a hole with the statement behind it.
fn repaired() -> (Scene, DeclaredHole) {
    let Scene { root, store } = Scene::new(300);
    let dir = root.path().join("store");
    store.drain().unwrap();
    store.close_blocking().unwrap();
    let path = segment(&dir, 2);
    make_writable(&path);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[10_000] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let to = root.path().join("repaired");
    repair(&dir, &to).unwrap();
    let store = options(&to).open().unwrap();
    let statement = commits(&store).pop().unwrap();
    let mut holes = statement
        .each()
        .filter_map(|record| record.unwrap().holes());
    let hole = holes.next().unwrap()[0];
    (Scene { root, store }, hole)
}

#[test]
fn a_hole_that_the_log_declares_is_a_hole_of_the_copy_too() {
    let (scene, hole) = repaired();
    let original = commits(&scene.store);
    let (before, after) = original.split_at(
        original
            .iter()
            .position(|commit| commit.number > hole.first_commit)
            .unwrap(),
    );
    let mut copy = scene.copy().unwrap();
    push(&mut copy, before);
    let elsewhere = DeclaredHole {
        first_commit: hole.first_commit + 1,
        ..hole
    };
    assert!(is_invalid(&copy.skip(&elsewhere)));
    let next = &after[0];
    assert!(is_invalid(&copy.push(next.number, &next.body, next.hash)));
    copy.skip(&hole).unwrap();
    // A crash here forgets that it was passed over.
    copy.store().crash();
    drop(copy);
    let mut copy = scene.copy().unwrap();
    assert_eq!(copy.next(), before.last().unwrap().end());
    copy.skip(&hole).unwrap();
    assert_eq!(copy.next().number, hole.last_commit);
    assert_eq!(copy.next().hash, hole.hash_after);
    let (statement, kept) = after.split_last().unwrap();
    push(&mut copy, kept);
    // Before the statement it is a hole that nobody has declared.
    let gap = read_all(copy.store()).unwrap_err();
    assert!(matches!(gap, Error::Gap { stream: None, .. }), "{gap}");
    drop(copy);
    let undeclared = scene.copy().unwrap().finish(Uuid::from_u128(5));
    assert!(matches!(undeclared.err(), Some(Error::Damaged { .. })));
    let mut copy = scene.copy().unwrap();
    push(&mut copy, std::slice::from_ref(statement));
    assert_eq!(commits(copy.store()), original);
    let losses = scene.store.losses().unwrap();
    assert_eq!(copy.store().losses().unwrap(), losses);
    copy.store().verify().unwrap();
    let made = copy.finish(Uuid::from_u128(5)).unwrap();
    assert_eq!(made.losses().unwrap(), losses);
    let lossy = losses.streams[0].stream.clone();
    let refused = AppendBatch::new(lossy.clone(), ExpectedVersion::Any, vec![event(1000, 9)]);
    let refused = made.blocking().append(refused).unwrap_err();
    assert!(matches!(refused, Error::LostEvents { .. }));
    made.accept_loss(&lossy).unwrap();
    let taken = AppendBatch::new(lossy, ExpectedVersion::Any, vec![event(1000, 9)]);
    made.blocking().append(taken).unwrap();
    made.verify().unwrap();
}

#[test]
fn losses_that_are_accepted_in_the_log_are_accepted_in_its_copy() {
    let (scene, hole) = repaired();
    let losses = scene.store.losses().unwrap();
    scene.store.accept_loss(&losses.streams[0].stream).unwrap();
    append(&scene.store, 500..510);
    let mut copy = scene.copy().unwrap();
    for commit in commits(&scene.store) {
        if commit.number == hole.last_commit + 1 {
            copy.skip(&hole).unwrap();
        }
        copy.push(commit.number, &commit.body, commit.hash).unwrap();
    }
    let accepted = scene.store.losses().unwrap();
    assert_ne!(losses, accepted);
    assert_eq!(copy.store().losses().unwrap(), accepted, "as it comes");
    drop(copy);
    let copy = scene.copy().unwrap();
    assert_eq!(copy.store().losses().unwrap(), accepted, "as it stands");
    copy.store().verify().unwrap();
}

#[test]
fn a_copy_that_has_what_its_log_lost_is_right_all_the_same() {
    let Scene { root, store } = Scene::new(300);
    let dir = root.path().join("store");
    let before = commits(&store);
    store.close_blocking().unwrap();
    let path = segment(&dir, 2);
    make_writable(&path);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[10_000] ^= 1;
    std::fs::write(path, bytes).unwrap();
    // Nobody knows now what is gone: numbers are left out for it.
    std::fs::remove_dir_all(dir.join("index")).unwrap();
    let to = root.path().join("repaired");
    let report = repair(&dir, &to).unwrap();
    assert!(!report.index_asked);
    let store = options(&to).open().unwrap();
    store.accept_all_losses().unwrap();
    append(&store, 1000..1010);
    store.verify().unwrap();
    let all = commits(&store);
    let scene = Scene { root, store };
    let mut copy = scene.copy().unwrap();
    push(&mut copy, &before);
    let behind = all
        .iter()
        .position(|commit| commit.number > before.len() as u64);
    push(&mut copy, &all[behind.unwrap()..]);
    copy.store().verify().unwrap();
    let losses = scene.store.losses().unwrap();
    assert_eq!(copy.store().losses().unwrap(), losses);
    let made = copy.finish(Uuid::from_u128(5)).unwrap();
    assert_eq!(made.losses().unwrap(), losses, "as it stands");
    let positions = read_all(&made).unwrap();
    let positions = positions.iter().map(|event| event.position.unwrap());
    assert!(positions.eq(1..=made.last_position()), "nothing is missing");
    append(&made, 2000..2010);
    made.verify().unwrap();
}
