//! Repair keeps every whole commit as it stands, says what is gone, and gives nothing out twice.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::range_plus_one,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidelog_backends::{RepairReport, SledStore, repair, restore_backup};
use tidelog_core::*;
use tools::{event, read_all, segment, segments, stream};

/// Where the first frame of a segment stands.
const FIRST_FRAME: usize = 4096;

fn open(dir: &Path) -> SledStore {
    SledStore::builder(dir)
        .segment_size(64 << 10)
        .open()
        .unwrap()
}

/// A store of one event a commit and five streams, as files, and its history.
struct Scene {
    root: TempDir,
    events: Vec<EventEnvelope>,
}

impl Scene {
    fn new(commits: u64, closed: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = open(&root.path().join("store"));
        for n in 0..commits {
            let to = stream(&(n % 5).to_string());
            let batch = AppendBatch::new(to, ExpectedVersion::Any, vec![event(n, 700)]);
            store.blocking().append(batch).unwrap();
        }
        store.drain().unwrap();
        let events = read_all(&store).unwrap();
        if closed {
            store.close_blocking().unwrap();
        } else {
            store.crash();
        }
        Self { root, events }
    }

    fn store(&self) -> PathBuf {
        self.root.path().join("store")
    }

    fn to(&self) -> PathBuf {
        self.root.path().join("repaired")
    }

    fn damage(&self, number: u64, damage: impl FnOnce(&mut Vec<u8>)) {
        let path = segment(&self.store(), number);
        tools::make_writable(&path);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    /// Repairs, holds that the source is as it was, and that all that was whole is there.
    fn repair(&self) -> (RepairReport, SledStore) {
        let before = tools::tree(&self.store());
        let report = repair(self.store(), self.to()).unwrap();
        assert!(
            before == tools::tree(&self.store()),
            "the source was changed"
        );
        let store = open(&self.to());
        check(&store, &self.events, &report);
        (report, store)
    }

    /// The same where only the first `there` events are left, and the others are cleanly gone.
    fn repair_to_less(&self, there: usize) -> (RepairReport, SledStore) {
        let report = repair(self.store(), self.to()).unwrap();
        let store = open(&self.to());
        check(&store, &self.events[..there], &report);
        (report, store)
    }
}

/// Where frames begin and end in a segment, by their stated lengths.
fn frames(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut frames = Vec::new();
    let mut at = FIRST_FRAME;
    while bytes.get(at..at + 4) == Some(b"TLF1") {
        let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        let end = (at + 88 + len).next_multiple_of(8);
        frames.push(at..end);
        at = end;
    }
    frames
}

/// All records, going over every gap on purpose.
fn read_over(store: &SledStore) -> Vec<EventEnvelope> {
    let mut all = Vec::new();
    let mut from = 1;
    'over: loop {
        for found in store.blocking().read_all(LogQuery::from(from)) {
            match found {
                Ok(found) => all.push(found),
                Err(Error::Gap {
                    stream: None,
                    first,
                    last,
                }) => {
                    assert!(from <= last && first <= last);
                    from = last + 1;
                    continue 'over;
                }
                Err(error) => panic!("{error}"),
            }
        }
        return all;
    }
}

fn is_lost(report: &RepairReport, position: u64) -> bool {
    let ranges = &report.losses.ranges;
    ranges
        .iter()
        .any(|range| range.positions.contains(&position))
}

/// Whatever is not said to be lost is there byte for byte, and every part of the store agrees.
fn check(store: &SledStore, events: &[EventEnvelope], report: &RepairReport) {
    let there = read_over(store);
    let whole: Vec<_> = events
        .iter()
        .filter(|event| !is_lost(report, event.position.unwrap()))
        .collect();
    assert_eq!(whole.len() as u64, report.records);
    assert!(there.iter().take(whole.len()).eq(whole.iter().copied()));
    let own = &there[whole.len()..];
    assert!(own.iter().all(|own| own.kind == RecordKind::Control));
    assert_eq!(&*own[0].event_type, "Epoch");
    let verified = store.verify().unwrap();
    assert_eq!(verified.records, there.len() as u64);
    let lost = report.losses.ranges.iter();
    let lost: u64 = lost
        .map(|range| range.positions.end() - range.positions.start() + 1)
        .sum();
    assert_eq!(verified.lost, lost);
    store.rebuild_index().unwrap();
    assert_eq!(store.verify().unwrap(), verified);
}

/// Appends one event to a stream.
fn append(store: &SledStore, to: &StreamId, n: u64) -> Result<AppendReceipt, Error> {
    let batch = AppendBatch::new(to.clone(), ExpectedVersion::Any, vec![event(n, 50)]);
    store.blocking().append(batch)
}

#[test]
fn a_healthy_store_is_kept_whole_and_nothing_is_said_to_be_lost() {
    for closed in [true, false] {
        let scene = Scene::new(200, closed);
        let (report, store) = scene.repair();
        assert_eq!((report.commits, report.records), (200, 200));
        assert!(report.lost.is_empty() && report.losses == store.losses().unwrap());
        assert_eq!(store.info().unwrap().epoch, report.epoch);
        assert_eq!(store.info().unwrap().incompatible_flags, 0);
        assert_eq!(read_all(&store).unwrap().len(), 201);
        let receipt = append(&store, &stream("0"), 1_000).unwrap();
        assert_eq!(
            (receipt.first_sequence, receipt.first_position),
            (41, Some(202))
        );
    }
}

#[test]
fn a_flipped_bit_costs_its_commit_and_its_stream_waits_for_an_answer() {
    let scene = Scene::new(330, true);
    scene.damage(2, |bytes| {
        let frame = &frames(bytes)[10];
        bytes[frame.start + 200] ^= 4;
    });
    assert!(matches!(
        SledStore::open(scene.store()).and_then(|store| store.verify()),
        Err(Error::Damaged { .. })
    ));
    let (report, store) = scene.repair();
    let [lost] = &report.lost[..] else {
        panic!("{report:?}")
    };
    assert_eq!(lost.commits, lost.positions);
    assert_eq!((report.losses.unnamed, report.commits), (0, 329));
    let [of] = &report.losses.streams[..] else {
        panic!("{report:?}")
    };
    let gone = &scene.events[*lost.positions.start() as usize - 1];
    assert_eq!(of.stream, gone.stream);
    assert_eq!(of.sequences, [gone.sequence..=gone.sequence]);

    let refused = append(&store, &gone.stream, 5_000).unwrap_err();
    assert_eq!(
        (refused.code(), refused.kind()),
        ("lost_events", ErrorKind::Repair)
    );
    assert!(
        refused
            .to_string()
            .contains(&format!("sequences {}", gone.sequence))
    );
    let others = scene
        .events
        .iter()
        .find(|event| event.stream != gone.stream);
    append(&store, &others.unwrap().stream, 5_001).unwrap();

    let read = tools::read_stream(&store, &gone.stream).unwrap_err();
    assert!(
        matches!(&read, Error::Gap { stream: Some(stream), first, last }
        if *stream == gone.stream && (*first, *last) == (gone.sequence, gone.sequence))
    );
    store.accept_loss(&gone.stream).unwrap();
    let there = tools::read_stream(&store, &gone.stream).unwrap();
    assert_eq!(there.len(), 65);
    let receipt = append(&store, &gone.stream, 5_000).unwrap();
    assert_eq!(receipt.first_sequence, 67);
    store.crash();
    drop(store);
    let store = open(&scene.to());
    assert!(store.losses().unwrap().streams[0].accepted);
    assert_eq!(
        append(&store, &gone.stream, 5_002).unwrap().first_sequence,
        68
    );
    assert_eq!(
        append(&store, &gone.stream, 5_000).unwrap().first_sequence,
        67
    );
    store.verify().unwrap();
}

#[test]
fn a_deleted_segment_in_the_middle_is_told_stream_by_stream() {
    let scene = Scene::new(330, true);
    fs::remove_file(segment(&scene.store(), 2)).unwrap();
    let refused = SledStore::open(scene.store()).map(drop).unwrap_err();
    assert!(refused.to_string().contains("`repair`"), "{refused}");
    let (report, store) = scene.repair();
    assert_eq!(report.lost.len(), 1);
    assert_eq!((report.losses.unnamed, report.losses.streams.len()), (0, 5));
    assert!(report.index_asked);
    let backup = scene.root.path().join("backup");
    store.backup(&backup).unwrap();
    let restored = scene.root.path().join("restored");
    restore_backup(&backup, &restored).unwrap();
    let restored = open(&restored);
    assert_eq!(restored.losses().unwrap(), report.losses);
    assert_eq!(
        append(&restored, &stream("1"), 9_000).unwrap_err().code(),
        "lost_events"
    );
    restored.accept_all_losses().unwrap();
    assert_eq!(
        append(&restored, &stream("1"), 9_000)
            .unwrap()
            .first_sequence,
        67
    );
    assert_eq!(
        read_all(&restored).unwrap().len() as u64,
        report.records + 6
    );
}

#[test]
fn a_zeroed_header_costs_nothing() {
    for number in [1, 2] {
        let scene = Scene::new(200, true);
        scene.damage(number, |bytes| bytes[..FIRST_FRAME].fill(0));
        let (report, _) = scene.repair();
        assert!(report.lost.is_empty());
        assert_eq!(report.commits, 200);
    }
    // Even where nothing is left that says in which epoch the log began.
    let scene = Scene::new(20, true);
    scene.damage(1, |bytes| bytes[..FIRST_FRAME].fill(0));
    let (report, store) = scene.repair();
    assert!(report.lost.is_empty());
    assert_eq!(append(&store, &stream("0"), 900).unwrap().first_sequence, 5);
}

#[test]
fn the_beginning_of_a_log_can_be_gone() {
    let scene = Scene::new(200, true);
    fs::remove_file(segment(&scene.store(), 1)).unwrap();
    let (report, store) = scene.repair();
    assert_eq!(*report.lost[0].positions.start(), 1);
    assert_eq!(report.losses.unnamed, 0);
    assert!(matches!(
        read_all(&store),
        Err(Error::Gap {
            stream: None,
            first: 1,
            ..
        })
    ));
}

#[test]
fn a_cut_sealed_segment_loses_its_end() {
    let scene = Scene::new(330, false);
    scene.damage(3, |bytes| bytes.truncate(bytes.len() / 2));
    let (report, _) = scene.repair();
    assert_eq!((report.lost.len(), report.losses.unnamed), (1, 0));
}

#[test]
fn a_lost_end_that_nothing_names_makes_the_whole_store_wait() {
    let scene = Scene::new(200, true);
    let newest = segments(&scene.store())
        .into_iter()
        .rfind(|number| {
            fs::read(segment(&scene.store(), *number))
                .unwrap()
                .starts_with(b"TIDESEG1")
        })
        .unwrap();
    scene.damage(newest, |bytes| {
        let frames = frames(bytes);
        let last = frames[frames.len() - 3].start;
        bytes[last..].fill(0);
    });
    let (report, store) = scene.repair();
    assert_eq!((report.commits, report.losses.unnamed), (197, 3));
    let refused = append(&store, &stream("0"), 5_000).unwrap_err();
    assert!(
        refused.to_string().contains("accept_all_losses"),
        "{refused}"
    );
    assert_eq!(
        store.accept_loss(&stream("0")).unwrap_err().code(),
        "lost_events"
    );
    store.accept_all_losses().unwrap();
    // Any stream may have had the three that are gone.
    let heads: Vec<u64> = (0..5)
        .map(|n| {
            let head = store.blocking().head(&stream(&n.to_string())).unwrap();
            head.unwrap().sequence
        })
        .collect();
    for (n, head) in heads.iter().enumerate() {
        let to = stream(&n.to_string());
        let receipt = append(&store, &to, 6_000 + n as u64).unwrap();
        assert_eq!(receipt.first_sequence, head + 4);
        assert!(receipt.first_position.unwrap() > 200);
    }
    assert_eq!(
        append(&store, &stream("new"), 7_000)
            .unwrap()
            .first_sequence,
        4
    );
    store.close_blocking().unwrap();
    drop(store);
    let store = open(&scene.to());
    assert_eq!(
        append(&store, &stream("0"), 8_000).unwrap().first_sequence,
        heads[0] + 5
    );
    store.verify().unwrap();
    store.rebuild_index().unwrap();
    store.verify().unwrap();
}

#[test]
fn what_nothing_vouches_for_is_a_write_that_never_finished() {
    let scene = Scene::new(50, false);
    scene.damage(1, |bytes| {
        let last = frames(bytes).pop().unwrap();
        bytes[last.end - 300..last.end].fill(0);
        // With the mark that vouches for it.
        let end = bytes.len();
        bytes[end - 4096..].fill(0);
    });
    let (report, store) = scene.repair_to_less(49);
    assert!(report.lost.is_empty());
    assert_eq!(
        append(&store, &stream("4"), 900).unwrap().first_sequence,
        10
    );
}

#[test]
fn a_newest_segment_that_lost_its_end_may_have_held_more() {
    let scene = Scene::new(20, false);
    scene.damage(1, |bytes| {
        let end = frames(bytes).pop().unwrap().start + 10;
        bytes.truncate(end);
    });
    let (report, store) = scene.repair_to_less(19);
    assert!(report.losses.unnamed > 900, "{report:?}");
    store.accept_all_losses().unwrap();
    let receipt = append(&store, &stream("4"), 900).unwrap();
    assert!(receipt.first_sequence > 4 && receipt.first_position.unwrap() > 20);
}

#[test]
fn a_store_is_repaired_again_and_what_was_accepted_stays_accepted() {
    let scene = Scene::new(330, true);
    scene.damage(2, |bytes| {
        let frame = &frames(bytes)[10];
        bytes[frame.start + 200] ^= 4;
    });
    let (first, store) = scene.repair();
    let lost = &first.losses.streams[0];
    store.accept_loss(&lost.stream).unwrap();
    append(&store, &lost.stream, 5_000).unwrap();
    store.close_blocking().unwrap();
    drop(store);
    let again = scene.root.path().join("again");
    let same = repair(scene.to(), &again).unwrap();
    assert!(same.lost.is_empty());
    assert_eq!(same.losses.ranges, first.losses.ranges);
    assert!(same.losses.streams[0].accepted && same.losses.unnamed == 0);
    let store = open(&again);
    assert_eq!(
        append(&store, &lost.stream, 5_001).unwrap().first_sequence,
        68
    );
    store.verify().unwrap();
    drop(store);

    // The same stream loses more.
    let event = scene
        .events
        .iter()
        .rfind(|event| event.stream == lost.stream);
    let position = event.unwrap().position.unwrap();
    let damaged = again.join("log");
    let mut hit = 0;
    for number in segments(&again) {
        let path = segment(&again, number);
        let mut bytes = fs::read(&path).unwrap();
        for frame in frames(&bytes) {
            let first = u64::from_le_bytes(
                bytes[frame.start + 64..frame.start + 72]
                    .try_into()
                    .unwrap(),
            );
            if first == position {
                bytes[frame.start + 200] ^= 1;
                hit += 1;
            }
        }
        tools::make_writable(&path);
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(hit, 1, "{}", damaged.display());
    let third = scene.root.path().join("third");
    let more = repair(&again, &third).unwrap();
    assert_eq!(more.lost.len(), 1);
    assert_eq!(more.losses.ranges.len(), 2);
    let of = &more.losses.streams[0];
    assert_eq!((of.sequences.len(), of.accepted), (2, false));
    let store = open(&third);
    assert_eq!(
        append(&store, &lost.stream, 5_002).unwrap_err().code(),
        "lost_events"
    );
    store.verify().unwrap();
}

#[test]
fn a_gap_wider_than_the_declared_one_is_damage() {
    let scene = Scene::new(330, true);
    fs::remove_file(segment(&scene.store(), 3)).unwrap();
    let (_, store) = scene.repair();
    drop(store);
    // The segment before the gap, cut where a commit ends: nothing but the header after it can tell.
    let path = segment(&scene.to(), 2);
    tools::make_writable(&path);
    let mut bytes = fs::read(&path).unwrap();
    let end = frames(&bytes).pop().unwrap().start;
    bytes.truncate(end);
    fs::write(&path, bytes).unwrap();
    let found = SledStore::open(scene.to()).and_then(|store| store.verify());
    assert!(matches!(found, Err(Error::Damaged { .. })), "{found:?}");
}

#[test]
fn a_lost_format_is_made_again_from_the_segments() {
    let scene = Scene::new(100, true);
    fs::remove_file(scene.store().join("format")).unwrap();
    let (report, _) = scene.repair();
    assert!(report.lost.is_empty());
    // But not believed where it is another store's.
    let other = Scene::new(5, true);
    fs::copy(other.store().join("format"), scene.store().join("format")).unwrap();
    let to = scene.root.path().join("other");
    let refused = repair(scene.store(), &to).unwrap_err();
    assert!(refused.to_string().contains("another store"), "{refused}");
}

#[test]
fn a_repair_that_never_ended_is_no_store_and_is_begun_again() {
    let scene = Scene::new(200, true);
    let report = repair(scene.store(), scene.to()).unwrap();
    // What a kill before the last step leaves.
    fs::write(scene.to().join("repair"), "").unwrap();
    let refused = SledStore::open(scene.to()).map(drop).unwrap_err();
    assert!(refused.to_string().contains("repair"), "{refused}");
    assert!(matches!(
        repair(scene.to(), scene.root.path().join("b")),
        Err(Error::NotAStore { .. })
    ));
    fs::remove_file(segment(&scene.to(), 1)).unwrap();
    let (again, _) = scene.repair();
    assert_eq!(
        (again.commits, again.records),
        (report.commits, report.records)
    );
    assert_ne!(again.epoch, report.epoch);
}

#[test]
fn nothing_is_repaired_over_something_else_or_under_somebody() {
    let scene = Scene::new(5, true);
    let refused = |to: &Path| repair(scene.store(), to).unwrap_err().code();
    let foreign = scene.root.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter.txt"), "dear").unwrap();
    assert_eq!(refused(&foreign), "not_a_store");
    assert_eq!(refused(&scene.store()), "not_a_store");
    assert_eq!(refused(&scene.store().join("log/inside")), "not_a_store");
    assert_eq!(
        repair(&foreign, scene.to()).unwrap_err().code(),
        "not_a_store"
    );
    let store = open(&scene.store());
    assert_eq!(refused(&scene.to()), "locked");
    drop(store);
    repair(scene.store(), scene.to()).unwrap();
    assert_eq!(refused(&scene.to()), "not_a_store");
}

#[test]
fn a_reader_goes_on_behind_a_gap_on_purpose() {
    let scene = Scene::new(330, true);
    scene.damage(2, |bytes| {
        let frames = frames(bytes);
        bytes[frames[10].start + 200] ^= 4;
        bytes[frames[11].start + 200] ^= 4;
    });
    let (report, store) = scene.repair();
    let positions = report.lost[0].positions.clone();
    assert_eq!(positions.end() - positions.start(), 1);
    let face = store.blocking();
    // Backwards as well, and not before it is met.
    let lost = &report.losses.streams[0];
    let sequence = *lost.sequences[0].start();
    let back: Vec<_> = face
        .read_stream(StreamQuery::new(lost.stream.clone()).backward())
        .collect();
    assert_eq!(
        back.iter().filter(|read| read.is_ok()).count() as u64,
        66 - sequence
    );
    assert!(matches!(back.last(), Some(Err(Error::Gap { first, .. })) if *first == sequence));
    let before = face.read_stream(StreamQuery::new(lost.stream.clone()).to(sequence - 1));
    assert!(before.map(Result::unwrap).count() as u64 == sequence - 1);
    let few = face.read_stream(StreamQuery::new(lost.stream.clone()).limit(2));
    assert_eq!(few.map(Result::unwrap).count(), 2);
    let one = face.read_stream(
        StreamQuery::new(lost.stream.clone())
            .from(sequence + 1)
            .limit(1),
    );
    assert_eq!(
        one.map(Result::unwrap).next().unwrap().sequence,
        sequence + 1
    );

    let mut all = face.subscribe(Subscribe::All { after: 0 });
    for position in 1..*positions.start() {
        assert_eq!(all.next().unwrap().unwrap().position, Some(position));
    }
    assert!(matches!(all.next(), Some(Err(Error::Gap { last, .. })) if last == *positions.end()));
    assert!(all.next().is_none());
    let mut all = face.subscribe(Subscribe::All {
        after: *positions.end(),
    });
    assert_eq!(
        all.next().unwrap().unwrap().position,
        Some(positions.end() + 1)
    );
    let mut one = face.subscribe(Subscribe::Stream {
        stream: lost.stream.clone(),
        after: sequence,
    });
    assert_eq!(one.next().unwrap().unwrap().sequence, sequence + 1);

    store.accept_all_losses().unwrap();
    let all = face.subscribe(Subscribe::All { after: 0 });
    let all: Vec<_> = all
        .take(328)
        .map(|read| read.unwrap().position.unwrap())
        .collect();
    assert!(!all.contains(positions.start()) && all.contains(&(positions.end() + 1)));
    let limited = face.read_all(LogQuery::from(positions.start() - 1).limit(3));
    assert_eq!(limited.map(Result::unwrap).count(), 3);
}

#[test]
fn a_retry_is_known_on_both_sides_of_what_is_gone() {
    let scene = Scene::new(330, true);
    scene.damage(2, |bytes| {
        let frame = &frames(bytes)[10];
        bytes[frame.start + 200] ^= 4;
    });
    let (report, store) = scene.repair();
    let lost = &report.losses.streams[0];
    store.accept_loss(&lost.stream).unwrap();
    for open_again in [false, true] {
        let store = if open_again {
            store.close_blocking().unwrap();
            open(&scene.to())
        } else {
            store.clone()
        };
        for known in scene
            .events
            .iter()
            .filter(|event| event.stream == lost.stream)
        {
            if lost.sequences[0].contains(&known.sequence) {
                continue;
            }
            let n = known.position.unwrap() - 1;
            let batch = AppendBatch::new(
                lost.stream.clone(),
                ExpectedVersion::Any,
                vec![event(n, 700)],
            );
            let receipt = store.blocking().append(batch).unwrap();
            assert_eq!(receipt.outcome, AppendOutcome::AlreadyAppended);
            assert_eq!(receipt.first_sequence, known.sequence);
        }
    }
}

#[test]
fn a_commit_is_whole_without_the_zeros_that_fill_it_up() {
    let scene = Scene::new(330, true);
    let sealed = segments(&scene.store()).into_iter().find(|number| {
        let bytes = fs::read(segment(&scene.store(), *number)).unwrap();
        bytes.len() < 65_536 && bytes.last() == Some(&0)
    });
    let number = sealed.expect("the payloads make some padding");
    let whole = fs::read(segment(&scene.store(), number)).unwrap();
    scene.damage(number, |bytes| bytes.truncate(bytes.len() - 1));
    let (report, _) = scene.repair();
    assert!(report.lost.is_empty(), "{report:?}");
    fs::remove_dir_all(scene.to()).unwrap();
    scene.damage(number, |bytes| {
        *bytes = whole;
        *bytes.last_mut().unwrap() = 7;
    });
    let (report, _) = scene.repair();
    assert!(report.lost.is_empty(), "{report:?}");
}

#[test]
fn what_a_stream_lost_at_its_end_is_met_by_its_readers() {
    let scene = Scene::new(0, true);
    let store = open(&scene.store());
    let tail = stream("tail");
    for n in 0..330 {
        let to = if n == 10 || n == 100 {
            tail.clone()
        } else {
            stream(&(n % 5).to_string())
        };
        let batch = AppendBatch::new(to, ExpectedVersion::Any, vec![event(n, 700)]);
        store.blocking().append(batch).unwrap();
    }
    store.drain().unwrap();
    store.close_blocking().unwrap();
    drop(store);
    fs::remove_file(segment(&scene.store(), 2)).unwrap();
    let report = repair(scene.store(), scene.to()).unwrap();
    assert_eq!((report.losses.unnamed, report.losses.streams.len()), (0, 6));
    let store = open(&scene.to());
    let face = store.blocking();
    let mut read = face.read_stream(StreamQuery::new(tail.clone()));
    assert_eq!(read.next().unwrap().unwrap().sequence, 1);
    assert!(matches!(
        read.next(),
        Some(Err(Error::Gap {
            first: 2,
            last: 2,
            ..
        }))
    ));
    let mut back = face.read_stream(StreamQuery::new(tail.clone()).backward());
    assert!(matches!(
        back.next(),
        Some(Err(Error::Gap { first: 2, .. }))
    ));
    let mut followed = face.subscribe(Subscribe::Stream {
        stream: tail.clone(),
        after: 2,
    });
    store.accept_loss(&tail).unwrap();
    assert_eq!(append(&store, &tail, 900).unwrap().first_sequence, 3);
    assert_eq!(followed.next().unwrap().unwrap().sequence, 3);
    let sequences = face.read_stream(StreamQuery::new(tail.clone()));
    let sequences: Vec<u64> = sequences.map(|read| read.unwrap().sequence).collect();
    assert_eq!(sequences, [1, 3]);
}
