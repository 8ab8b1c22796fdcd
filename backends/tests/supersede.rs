//! Events that gave way in the embedded store: on disk, torn, damaged, repaired, copied.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidelog_backends::commits::{Commit, LogCopy};
use tidelog_backends::{SledStore, repair};
use tidelog_core::*;
use tools::{copy_tree, event, make_writable, read_all, read_stream, segment, segments, stream};
use uuid::Uuid;

const FORMAT_FLAGS: usize = 16 + 12;
const SEGMENT_FLAGS: usize = 12;
const FIRST_FRAME: usize = 4096;

/// One id after another.
#[derive(Default)]
struct Counted(AtomicU64);

impl IdSource for Counted {
    fn next_uuid(&self) -> Uuid {
        Uuid::from_u128(0xABCD_0000 + u128::from(self.0.fetch_add(1, Ordering::SeqCst)))
    }
}

fn open(dir: &Path) -> SledStore {
    try_open(dir).unwrap()
}

fn try_open(dir: &Path) -> Result<SledStore, Error> {
    SledStore::builder(dir)
        .segment_size(64 << 10)
        .ids(Arc::new(Counted::default()))
        .clock(Arc::new(ManualClock::new(Timestamp::from_micros(
            7_000_000,
        ))))
        .open()
}

fn append(store: &SledStore, to: &str, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let batch = AppendBatch::new(stream(to), ExpectedVersion::Any, vec![event(n, 300)]);
        store.blocking().append(batch).unwrap();
    }
}

fn foreign(numbers: std::ops::Range<u64>) -> Vec<NewEvent> {
    let birth = |position| Birth {
        origin: Uuid::from_u128(1),
        epoch: Uuid::from_u128(2),
        position,
        recorded_time: Timestamp::from_micros(3),
    };
    numbers.map(|n| event(n, 40).with_birth(birth(n))).collect()
}

fn supersede(store: &SledStore, of: &str, from: u64, adopted: Vec<NewEvent>) -> AppendReceipt {
    let store = store.blocking();
    let head = store.head(&stream(of)).unwrap().unwrap();
    let what = Supersession::new(stream(of), head, from).with_adopted(adopted);
    store.supersede(what).unwrap()
}

fn flags(dir: &Path, number: u64) -> u8 {
    fs::read(segment(dir, number)).unwrap()[SEGMENT_FLAGS]
}

fn sequences(store: &SledStore, of: &str) -> Vec<(u64, EventId)> {
    let read = read_stream(store, &stream(of)).unwrap();
    read.iter()
        .map(|event| (event.sequence, event.event_id))
        .collect()
}

fn new_dir() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    (root, dir)
}

#[test]
fn flags_keep_builds_away_that_know_no_branches_and_tell_where_they_begin() {
    let (_root, dir) = new_dir();
    let store = open(&dir);
    append(&store, "a", 0..4);
    assert_eq!(store.info().unwrap().incompatible_flags, 0);
    supersede(&store, "a", 3, foreign(10..12));
    assert_eq!(store.info().unwrap().incompatible_flags, 4);
    let format = fs::read(dir.join("format")).unwrap();
    assert_eq!(format[FORMAT_FLAGS..FORMAT_FLAGS + 4], [4, 0, 0, 0]);
    assert_eq!((flags(&dir, 1), flags(&dir, 2)), (0, 4));
    supersede(&store, "a", 2, foreign(12..13));
    assert_eq!(segments(&dir).len(), 2, "one behind the other");
    append(&store, "a", 20..21);
    assert_eq!(segments(&dir).len(), 2);
    supersede(&store, "a", 2, foreign(13..14));
    assert_eq!(segments(&dir).len(), 3, "not behind anything else");
    assert_eq!(flags(&dir, 3), 4);
    store.begin_epoch().unwrap();
    let now = [(1, tools::id(0)), (2, tools::id(13))];
    assert_eq!(sequences(&store, "a"), now);
    store.verify().unwrap();
    store.crash();
    assert_eq!(sequences(&open(&dir), "a"), now);
}

#[test]
fn golden_bytes_of_a_commit_in_which_events_give_way() {
    let (_root, dir) = new_dir();
    let store = open(&dir);
    append(&store, "a", 0..2);
    supersede(&store, "a", 2, foreign(10..11));
    store.close_blocking().unwrap();
    let bytes = fs::read(segment(&dir, 2)).unwrap();
    let body = &bytes[FIRST_FRAME + 88..];
    let len = u32::from_le_bytes(bytes[FIRST_FRAME + 4..FIRST_FRAME + 8].try_into().unwrap());
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    // The record's length and CRC, kind 3; its id follows from its payload.
    assert_eq!(hex(&body[8..12]), "03000001");
    let record = hex(&body[..body[0] as usize + 8]);
    let tail = "0824746964656c6f6707636f6e74726f6c095375706572736564650454657374016102030201 00";
    assert!(record.ends_with(&tail.replace(' ', "")), "{record}");
    let whole = blake3::hash(&body[..len as usize]);
    assert_eq!(
        &whole.to_hex()[..32],
        GOLDEN,
        "the body of the commit is another one than ever"
    );
}

const GOLDEN: &str = "020c259eac10552a67cd50804967a024";

#[test]
fn what_was_never_written_to_its_end_never_happened() {
    let (root, dir) = new_dir();
    let store = open(&dir);
    append(&store, "a", 0..4);
    let before = sequences(&store, "a");
    let image = root.path().join("image");
    copy_tree(&dir, &image);
    supersede(&store, "a", 2, foreign(10..14));
    let after = sequences(&store, "a");
    store.crash();
    let whole = fs::read(segment(&dir, 2)).unwrap();
    let len = u32::from_le_bytes(whole[FIRST_FRAME + 4..FIRST_FRAME + 8].try_into().unwrap());
    let end = FIRST_FRAME + 88 + len as usize;
    let torn = root.path().join("torn");
    for cut in (0..FIRST_FRAME + 88)
        .step_by(61)
        .chain((FIRST_FRAME..=end).step_by(13))
    {
        let _ = fs::remove_dir_all(&torn);
        copy_tree(&image, &torn);
        fs::copy(dir.join("format"), torn.join("format")).unwrap();
        let mut bytes = whole.clone();
        bytes[cut..].fill(0);
        fs::write(segment(&torn, 2), bytes).unwrap();
        let store = open(&torn);
        assert_eq!(sequences(&store, "a"), before, "cut at {cut}");
        supersede(&store, "a", 2, foreign(10..14));
        assert_eq!(sequences(&store, "a"), after);
        store.crash();
    }
}

#[test]
fn every_flipped_byte_where_branches_begin_is_named_or_changes_nothing() {
    let (root, dir) = new_dir();
    let store = open(&dir);
    append(&store, "a", 0..4);
    supersede(&store, "a", 3, foreign(10..12));
    supersede(&store, "a", 2, foreign(12..13));
    append(&store, "b", 20..21);
    let expected = (sequences(&store, "a"), sequences(&store, "b"));
    store.close_blocking().unwrap();
    let whole = fs::read(segment(&dir, 2)).unwrap();
    let damaged = root.path().join("damaged");
    let mut refused = 0;
    for at in (0..240).chain(FIRST_FRAME..FIRST_FRAME + 900).step_by(3) {
        let _ = fs::remove_dir_all(&damaged);
        copy_tree(&dir, &damaged);
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        fs::write(segment(&damaged, 2), bytes).unwrap();
        match try_open(&damaged) {
            Err(error) => {
                assert!(matches!(error, Error::Damaged { .. }), "byte {at}: {error}");
                refused += 1;
            }
            Ok(store) => {
                let found = (sequences(&store, "a"), sequences(&store, "b"));
                assert_eq!(found, expected, "byte {at}");
                store.crash();
            }
        }
    }
    assert!(refused > 250, "{refused}");
}

/// Where the frame behind the one at `at` begins.
fn next_frame(bytes: &[u8], at: usize) -> usize {
    let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
    (at + 88 + len as usize).next_multiple_of(8)
}

#[test]
fn a_damaged_branch_behind_another_one_is_named_though_the_index_covers_it() {
    let (_root, dir) = new_dir();
    let store = open(&dir);
    append(&store, "a", 0..4);
    append(&store, "b", 10..14);
    supersede(&store, "a", 3, foreign(20..22));
    supersede(&store, "b", 3, foreign(22..24));
    append(&store, "c", 100..400);
    let expected = sequences(&store, "b");
    store.drain().unwrap();
    store.close_blocking().unwrap();
    assert!(segments(&dir).len() > 3);
    let path = segment(&dir, 2);
    let whole = fs::read(&path).unwrap();
    let second = next_frame(&whole, FIRST_FRAME);
    make_writable(&path);
    for at in [second + 2, second + 100] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let refused = try_open(&dir).map(drop);
        assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    }
    fs::write(&path, &whole[..second]).unwrap();
    let refused = try_open(&dir).map(drop);
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    fs::write(&path, whole).unwrap();
    assert_eq!(sequences(&open(&dir), "b"), expected);
}

#[test]
fn an_index_made_again_knows_the_branches() {
    let (_root, dir) = new_dir();
    let store = open(&dir);
    let mut n = 0;
    for round in 0..40 {
        for to in ["a", "b", "c"] {
            append(&store, to, n..n + 12);
            n += 12;
            let head = store
                .blocking()
                .head(&stream(to))
                .unwrap()
                .unwrap()
                .sequence;
            let gone = (round * 7 + u64::from(to == "b")) % 11;
            supersede(&store, to, head + 1 - gone, foreign(n..n + round % 3));
            n += 3;
        }
    }
    let expected = ["a", "b", "c"].map(|to| sequences(&store, to));
    let check = |store: &SledStore| {
        assert_eq!(["a", "b", "c"].map(|to| sequences(store, to)), expected);
        for (to, known) in ["a", "b", "c"].iter().zip(&expected) {
            for (at, (sequence, id)) in known.iter().enumerate() {
                assert_eq!(*sequence, at as u64 + 1);
                let found = store.blocking().find_event(&stream(to), *id).unwrap();
                assert_eq!(found.map(|found| found.sequence), Some(*sequence));
            }
        }
    };
    store.drain().unwrap();
    check(&store);
    store.verify().unwrap();
    store.rebuild_index().unwrap();
    check(&store);
    store.verify().unwrap();
    store.crash();
    fs::remove_dir_all(dir.join("index")).unwrap();
    let store = open(&dir);
    check(&store);
    store.verify().unwrap();
}

#[test]
fn a_copy_has_the_same_branches_as_they_come_and_as_they_stand() {
    let (root, dir) = new_dir();
    let store = open(&dir);
    append(&store, "a", 0..4);
    supersede(&store, "a", 3, foreign(10..12));
    append(&store, "a", 20..90);
    supersede(&store, "a", 30, foreign(100..101));
    append(&store, "b", 110..140);
    let to = root.path().join("copy");
    let (origin, first) = (store.identity().origin, store.epochs().unwrap()[0].id);
    let options = SledStore::builder(&to).segment_size(64 << 10);
    let open_copy = || LogCopy::open(&to, origin, first, &options).unwrap();
    let mut copy = open_copy();
    let commits: Vec<Commit> = store.commits(0).next(usize::MAX).unwrap();
    for (done, commit) in commits.iter().enumerate() {
        copy.push(commit.number, &commit.body, commit.hash).unwrap();
        if done == 70 {
            copy.store().crash();
            copy = open_copy();
            let next = copy.next();
            assert_eq!(next.number, commit.number);
        }
    }
    let check = |copied: &SledStore| {
        for to in ["a", "b"] {
            assert_eq!(sequences(copied, to), sequences(&store, to));
        }
        let all = read_all(&store).unwrap();
        assert!(read_all(copied).unwrap()[..all.len()] == all[..]);
        for event in &all {
            assert_eq!(copied.superseded_at(event), store.superseded_at(event));
        }
        copied.verify().unwrap();
    };
    check(copy.store());
    drop(copy);
    let copy = open_copy();
    check(copy.store());
    let made = copy.finish(Uuid::from_u128(9)).unwrap();
    check(&made);
    assert_eq!(made.info().unwrap().incompatible_flags, 4);
    let next = AppendBatch::new(stream("a"), ExpectedVersion::Exact(30), vec![event(900, 9)]);
    let again = AppendBatch::new(stream("a"), ExpectedVersion::Any, vec![event(2, 300)]);
    made.blocking().append(next).unwrap();
    let refused = made.blocking().append(again).unwrap_err();
    assert_eq!(refused.code(), "id_conflict", "it gave way");
}

/// Repairs the store in `dir` after a byte of segment `number` was changed.
fn repaired(root: &Path, dir: &Path, number: u64, at: usize) -> SledStore {
    let path = segment(dir, number);
    make_writable(&path);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
    let to = root.join("repaired");
    repair(dir, &to).unwrap();
    open(&to)
}

/// A store with a branch in segment 2 and events of another stream before and behind it.
fn branched(dir: &Path) -> SledStore {
    let store = open(dir);
    append(&store, "a", 0..5);
    append(&store, "b", 100..104);
    supersede(&store, "a", 3, foreign(10..13));
    append(&store, "a", 20..23);
    append(&store, "b", 104..300);
    store
}

#[test]
fn a_repair_keeps_branches_as_they_stand() {
    let (root, dir) = new_dir();
    let store = branched(&dir);
    let expected = sequences(&store, "a");
    assert_eq!(expected.len(), 8);
    store.close_blocking().unwrap();
    let store = repaired(root.path(), &dir, 3, FIRST_FRAME + 200);
    assert_eq!(sequences(&store, "a"), expected);
    let losses = store.losses().unwrap();
    let of: Vec<_> = losses
        .streams
        .iter()
        .map(|loss| loss.stream.clone())
        .collect();
    assert_eq!(of, [stream("b")]);
    store.verify().unwrap();
    append(&store, "a", 400..401);
    assert_eq!(
        store
            .blocking()
            .head(&stream("a"))
            .unwrap()
            .unwrap()
            .sequence,
        9
    );
    store.accept_all_losses().unwrap();
    append(&store, "b", 500..501);
    store.verify().unwrap();
    store.crash();
    let again = root.path().join("again");
    repair(root.path().join("repaired"), &again).unwrap();
    let store = open(&again);
    assert_eq!(sequences(&store, "a").len(), 9);
    store.verify().unwrap();
}

#[test]
fn losing_what_gave_way_is_no_loss_of_its_stream() {
    let (root, dir) = new_dir();
    let store = open(&dir);
    append(&store, "a", 0..5);
    supersede(&store, "a", 3, foreign(10..13));
    append(&store, "b", 104..300);
    let expected = sequences(&store, "a");
    store.close_blocking().unwrap();
    // Event 4 of the old branch: each of these commits takes as much.
    let bytes = fs::read(segment(&dir, 1)).unwrap();
    let len = u32::from_le_bytes(bytes[FIRST_FRAME + 4..FIRST_FRAME + 8].try_into().unwrap());
    let frame = (88 + len as usize).next_multiple_of(8);
    let store = repaired(root.path(), &dir, 1, FIRST_FRAME + 3 * frame + 100);
    assert_eq!(sequences(&store, "a"), expected);
    assert_eq!(store.losses().unwrap().streams, []);
    assert_eq!(
        store.losses().unwrap().unnamed,
        0,
        "it is known which one it was"
    );
    append(&store, "a", 400..401);
    store.verify().unwrap();
}

#[test]
fn what_is_lost_in_part_of_what_gave_way_is_lost_in_part() {
    let (root, dir) = new_dir();
    let store = open(&dir);
    append(&store, "a", 0..3);
    let three = (3..6).map(|n| event(n, 300)).collect();
    let three = AppendBatch::new(stream("a"), ExpectedVersion::Any, three);
    store.blocking().append(three).unwrap();
    append(&store, "a", 6..7);
    supersede(&store, "a", 5, foreign(10..12));
    store.close_blocking().unwrap();
    // Events 4 to 6, of which 5 and 6 gave way, with 7 behind them.
    let bytes = fs::read(segment(&dir, 1)).unwrap();
    let fourth = (0..3).fold(FIRST_FRAME, |at, _| next_frame(&bytes, at));
    let store = repaired(root.path(), &dir, 1, fourth + 100);
    let losses = store.losses().unwrap();
    assert_eq!(losses.streams[0].sequences, [4..=4]);
    store.verify().unwrap();
    store.accept_all_losses().unwrap();
    let numbers: Vec<_> = sequences(&store, "a").iter().map(|(n, _)| *n).collect();
    assert_eq!(numbers, [1, 2, 3, 5, 6]);
    store.rebuild_index().unwrap();
    store.verify().unwrap();
}

#[test]
fn a_branch_without_events_goes_on_where_it_begins_though_what_stood_before_is_lost() {
    let (root, dir) = new_dir();
    let store = open(&dir);
    append(&store, "a", 0..6);
    append(&store, "b", 104..300);
    store.close_blocking().unwrap();
    let bytes = fs::read(segment(&dir, 1)).unwrap();
    let third = next_frame(&bytes, next_frame(&bytes, FIRST_FRAME));
    let store = repaired(root.path(), &dir, 1, third + 100);
    store.accept_all_losses().unwrap();
    let ended = supersede(&store, "a", 4, Vec::new());
    assert_eq!(ended.last_sequence, 3);
    append(&store, "a", 400..402);
    let numbers =
        |store: &SledStore| -> Vec<_> { sequences(store, "a").iter().map(|(n, _)| *n).collect() };
    assert_eq!(numbers(&store), [1, 2, 4, 5]);
    store.verify().unwrap();
    store.crash();
    let store = open(&root.path().join("repaired"));
    append(&store, "a", 402..403);
    assert_eq!(numbers(&store), [1, 2, 4, 5, 6]);
    store.verify().unwrap();
}

#[test]
fn a_branch_whose_beginning_is_lost_is_found_out_and_must_be_accepted() {
    let (root, dir) = new_dir();
    let store = branched(&dir);
    let before = sequences(&store, "a");
    store.close_blocking().unwrap();
    // The commit of the branch itself: its record and events 3 to 5.
    let store = repaired(root.path(), &dir, 2, FIRST_FRAME + 100);
    let check = |store: &SledStore| {
        let losses = store.losses().unwrap();
        let of: Vec<_> = losses
            .streams
            .iter()
            .map(|loss| loss.stream.clone())
            .collect();
        assert_eq!(of, [stream("a")]);
        let lost: Vec<_> = losses.streams[0].sequences.clone();
        assert_eq!(
            lost,
            [3..=5],
            "the adopted ones; what they took the place of is gone"
        );
        let behind = StreamQuery::new(stream("a")).from(6);
        let behind = store.blocking().read_stream(behind);
        let behind: Vec<_> = behind
            .map(|event| event.map(|event| (event.sequence, event.event_id)).unwrap())
            .collect();
        assert_eq!(behind, before[5..]);
        store.verify().unwrap();
    };
    check(&store);
    let refused = AppendBatch::new(stream("a"), ExpectedVersion::Any, vec![event(400, 9)]);
    let refused = store.blocking().append(refused).unwrap_err();
    assert!(matches!(refused, Error::LostEvents { .. }), "{refused}");
    store.crash();
    // And once more, from what the repair has written.
    let again = root.path().join("again");
    repair(root.path().join("repaired"), &again).unwrap();
    let store = open(&again);
    check(&store);
    store.accept_all_losses().unwrap();
    append(&store, "a", 401..402);
    let numbers: Vec<_> = sequences(&store, "a").iter().map(|(n, _)| *n).collect();
    // The record that is gone may have been an event of any stream: a number is left out for it.
    assert_eq!(numbers, [1, 2, 6, 7, 8, 10]);
    store.verify().unwrap();
    store.rebuild_index().unwrap();
    store.verify().unwrap();
}

/// Copies all of the log over its hole, as far as it can be copied: the copy, and why it went no further.
fn copied_as_far_as_it_goes(store: &SledStore, to: &Path) -> (LogCopy, Error) {
    let commits: Vec<Commit> = store.commits(0).next(usize::MAX).unwrap();
    let records = commits.iter().flat_map(Commit::each);
    let hole = records.filter_map(|record| record.unwrap().holes());
    let hole = hole.last().unwrap()[0];
    let (origin, first) = (store.identity().origin, store.epochs().unwrap()[0].id);
    let options = SledStore::builder(to).segment_size(64 << 10);
    let mut copy = LogCopy::open(to, origin, first, &options).unwrap();
    for commit in &commits {
        if commit.number > hole.last_commit && copy.next().number + 1 == hole.first_commit {
            copy.skip(&hole).unwrap();
        }
        let before = copy.next();
        if let Err(refused) = copy.push(commit.number, &commit.body, commit.hash) {
            assert_eq!(copy.next(), before, "nothing was taken");
            let again = copy.push(commit.number, &commit.body, commit.hash);
            let again = again.map_err(|again| again.to_string());
            assert_eq!(again, Err(refused.to_string()), "the copy goes on as it is");
            return (copy, refused);
        }
    }
    panic!("all of it was copied");
}

#[test]
fn a_log_that_lost_where_a_branch_began_is_not_copied_past_the_loss() {
    let (root, dir) = new_dir();
    let store = branched(&dir);
    store.close_blocking().unwrap();
    // As above: event 6 of the branch follows event 5 of what gave way, under another name.
    let store = repaired(root.path(), &dir, 2, FIRST_FRAME + 100);
    let to = root.path().join("copy");
    let (copy, refused) = copied_as_far_as_it_goes(&store, &to);
    assert!(matches!(refused, Error::Damaged { .. }), "{refused}");
    assert!(refused.to_string().contains("Test/a"), "{refused}");
    let end = copy.next();
    drop(copy);
    let (origin, first) = (store.identity().origin, store.epochs().unwrap()[0].id);
    let options = SledStore::builder(&to).segment_size(64 << 10);
    let copy = LogCopy::open(&to, origin, first, &options).unwrap();
    assert_eq!(copy.next(), end);
    copy.store().verify().unwrap();
}

#[test]
fn a_stream_that_goes_back_behind_a_loss_is_not_copied() {
    let (root, dir) = new_dir();
    let store = open(&dir);
    append(&store, "a", 0..5);
    supersede(&store, "a", 2, Vec::new());
    append(&store, "a", 20..22);
    append(&store, "b", 104..300);
    store.close_blocking().unwrap();
    // The commit of the branch: events 2 and 3 stand behind 5 then.
    let store = repaired(root.path(), &dir, 2, FIRST_FRAME + 100);
    let to = root.path().join("copy");
    let (copy, refused) = copied_as_far_as_it_goes(&store, &to);
    assert!(matches!(refused, Error::Damaged { .. }), "{refused}");
    assert_eq!(sequences(copy.store(), "a").len(), 5);
    assert_eq!(sequences(copy.store(), "b").len(), 0);
    copy.store().verify().unwrap();
}

#[test]
fn a_repair_without_the_format_file_knows_that_there_are_branches() {
    let (root, dir) = new_dir();
    let store = branched(&dir);
    let expected = sequences(&store, "a");
    store.close_blocking().unwrap();
    fs::remove_file(dir.join("format")).unwrap();
    let to = root.path().join("repaired");
    repair(&dir, &to).unwrap();
    let store = open(&to);
    assert_eq!(sequences(&store, "a"), expected);
    assert_eq!(store.info().unwrap().incompatible_flags & 4, 4);
}
