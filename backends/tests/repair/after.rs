//! Living with a loss: repaired again, read over, appended to.

use std::fs;

use tidelog_backends::{SledStore, repair};
use tidelog_core::*;

use crate::scene::*;
use crate::tools::{self, event, segment, segments, stream};

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
