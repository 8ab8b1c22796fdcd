//! Laws 1, 2, 3 and 5: density, atomicity, expectations, visibility.

use std::sync::atomic::{AtomicBool, Ordering};

use super::harness::{Harness, Settings};
use super::tools::*;
use crate::append::{AppendOutcome, Durability, ExpectedVersion};
use crate::clock::{ManualClock, Timestamp};
use crate::error::Error;
use crate::read::StreamQuery;
use crate::store::EventStore;
use crate::stream_id::StreamId;

/// The first event of a stream has sequence 1, each further one the next.
pub fn sequences_are_dense_from_one(harness: &mut impl Harness) {
    let store = harness.store();
    let (one, two) = (stream("1"), stream("2"));
    let mut next = 1;
    for size in [1, 3, 1, 10, 2] {
        let receipt = append(&store, &one, &events(size));
        append(&store, &two, &events(1));
        assert_eq!(receipt.stream, one);
        assert_eq!(receipt.first_sequence, next);
        assert_eq!(receipt.last_sequence, next + size as u64 - 1);
        next += size as u64;
    }
    assert_eq!(sequences(&read(&store, &one)), dense(1, 17));
    assert_eq!(sequences(&read(&store, &two)), dense(1, 5));
}

/// Events are read in the order in which they were appended, each as it was given.
pub fn events_keep_the_order_of_their_appends(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("ordered");
    let all = events(60);
    for part in all.chunks(7) {
        append(&store, &stream, part);
    }
    assert_holds(&store, &stream, &all);
}

/// A stream never appended to has no head and no events.
pub fn an_unknown_stream_is_empty(harness: &mut impl Harness) {
    let store = harness.store();
    append(&store, &stream("known"), &events(1));
    let unknown = stream("unknown");
    assert_eq!(wait(store.head(&unknown)).unwrap(), None);
    assert_eq!(read(&store, &unknown), []);
    let backward = StreamQuery::new(unknown.clone()).backward();
    assert_eq!(read_query(&store, backward), []);
    let id = event("x").event_id;
    assert_eq!(wait(store.find_event(&unknown, id)).unwrap(), None);
}

/// The head is the newest event, after every append.
pub fn head_is_the_newest_event(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("headed");
    for size in [1, 2, 5] {
        let added = events(size);
        let receipt = append(&store, &stream, &added);
        let head = wait(store.head(&stream)).unwrap().unwrap();
        assert_eq!(head.sequence, receipt.last_sequence);
        assert_eq!(head.event_id, added.last().unwrap().event_id);
    }
}

/// What one handle got acknowledged, every clone sees, on any thread.
pub fn acknowledged_events_are_visible_to_every_handle(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("shared");
    for n in 1..=20 {
        append(&store, &stream, &events(1));
        let (other, stream) = (store.clone(), stream.clone());
        std::thread::spawn(move || {
            assert_eq!(head_sequence(&other, &stream), n);
            assert_eq!(read(&other, &stream).len() as u64, n);
        })
        .join()
        .unwrap();
    }
}

/// Both durabilities acknowledge what is visible, in one order.
pub fn appends_of_every_durability_share_one_order(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("durable");
    let all = events(12);
    for (n, one) in all.chunks(1).enumerate() {
        let durability = if n % 3 == 0 {
            Durability::Power
        } else {
            Durability::Process
        };
        let append = batch(&stream, ExpectedVersion::Exact(n as u64), one);
        let receipt = wait(store.append(append.with_durability(durability))).unwrap();
        assert_eq!(receipt.last_sequence, n as u64 + 1);
        assert_eq!(head_sequence(&store, &stream), n as u64 + 1);
    }
    assert_holds(&store, &stream, &all);
}

/// All events of a batch name it and its size, and no other batch has that name.
pub fn every_event_names_its_batch(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("batched");
    let mut seen = Vec::new();
    for size in [1_u32, 4, 1, 3] {
        let receipt = append(&store, &stream, &events(size as usize));
        let query = StreamQuery::new(stream.clone()).from(receipt.first_sequence);
        let there = read_query(&store, query);
        assert_eq!(there.len(), size as usize);
        let batch = there.first().unwrap().batch;
        assert_eq!(batch.count, size);
        assert_eq!(
            batch.first,
            receipt.first_position.unwrap_or(receipt.first_sequence)
        );
        assert!(there.iter().all(|envelope| envelope.batch == batch));
        assert!(!seen.contains(&batch));
        seen.push(batch);
    }
}

/// Whoever reads while batches of five are appended sees whole batches only.
pub fn readers_never_see_part_of_a_batch(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("whole");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut last = 0;
            while !done.load(Ordering::SeqCst) {
                let count = read(&store, &stream).len();
                assert_eq!(count % 5, 0, "part of a batch was visible");
                assert_eq!(head_sequence(&store, &stream) % 5, 0);
                assert!(count >= last, "what was visible went away");
                last = count;
            }
        });
        for _ in 0..100 {
            append(&store, &stream, &events(5));
        }
        done.store(true, Ordering::SeqCst);
        reader.join().unwrap();
    });
    assert_eq!(read(&store, &stream).len(), 500);
}

/// A refused batch leaves nothing behind, whichever event of it was refused.
pub fn a_refused_batch_leaves_nothing(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("refused");
    let kept = events(2);
    append(&store, &stream, &kept);
    for bad in 0..3 {
        let mut tried = events(3);
        tried[bad].revision = 0;
        assert_invalid(try_append(&store, &stream, ExpectedVersion::Any, &tried));
        assert_holds(&store, &stream, &kept);
    }
    let receipt = append(&store, &stream, &events(1));
    assert_eq!(receipt.first_sequence, 3);
}

/// Every expectation that holds lets an append through.
pub fn every_expectation_that_holds_is_accepted(harness: &mut impl Harness) {
    use ExpectedVersion::{Any, Exact, NoStream, StreamExists};
    let store = harness.store();
    let cases: [(u64, &[ExpectedVersion]); 3] = [
        (0, &[Any, NoStream, Exact(0)]),
        (1, &[Any, StreamExists, Exact(1)]),
        (7, &[Any, StreamExists, Exact(7)]),
    ];
    for (before, hits) in cases {
        for expected in hits {
            let stream = stream(&format!("{before} {expected:?}"));
            if before > 0 {
                append(&store, &stream, &events(usize::try_from(before).unwrap()));
            }
            let receipt = try_append(&store, &stream, *expected, &events(2)).unwrap();
            assert_eq!(receipt.outcome, AppendOutcome::Appended);
            assert_eq!(receipt.first_sequence, before + 1);
        }
    }
}

/// Every expectation that does not hold is a wrong version that says what was found, and writes
/// nothing.
pub fn every_expectation_that_misses_writes_nothing(harness: &mut impl Harness) {
    use ExpectedVersion::{Exact, NoStream, StreamExists};
    let store = harness.store();
    let cases: [(u64, &[ExpectedVersion]); 3] = [
        (0, &[StreamExists, Exact(1), Exact(2), Exact(u64::MAX)]),
        (1, &[NoStream, Exact(0), Exact(2), Exact(u64::MAX)]),
        (
            7,
            &[NoStream, Exact(0), Exact(6), Exact(8), Exact(u64::MAX)],
        ),
    ];
    for (before, misses) in cases {
        let stream = stream(&format!("at {before}"));
        let kept = events(usize::try_from(before).unwrap());
        if before > 0 {
            append(&store, &stream, &kept);
        }
        for expected in misses {
            let missed = try_append(&store, &stream, *expected, &events(2));
            assert_wrong_version(missed, &stream, *expected, before);
            assert_holds(&store, &stream, &kept);
        }
        let receipt = append(&store, &stream, &events(1));
        assert_eq!(receipt.first_sequence, before + 1);
    }
}

/// Names are compared as bytes: names that look alike, or differ in what one field holds, are
/// different streams.
pub fn look_alike_names_are_different_streams(harness: &mut impl Harness) {
    let store = harness.store();
    let names = [
        ("Test", "caf\u{e9}"),
        ("Test", "cafe\u{301}"),
        ("Test", "a"),
        ("Test", "A"),
        ("Test", "\u{430}"),
        ("Test", " a"),
        ("Test", "a "),
        ("Test", "a/b"),
        ("Test", "a//b"),
        ("Test", "/"),
        ("Testa", "/b"),
        ("Testa", "b"),
        ("Test", "ab"),
        ("Tes", "tab"),
        ("T", "est/a"),
        ("test", "a"),
        ("\u{ff34}est", "a"),
        ("Test", "\u{1f98a}"),
        ("Test", "\u{200b}a"),
        ("Test", "\u{212b}"),
        ("Test", "\u{c5}"),
    ];
    let streams: Vec<StreamId> = names
        .iter()
        .map(|(kind, id)| StreamId::new(kind, id).unwrap())
        .collect();
    let written: Vec<_> = streams.iter().map(|s| event(&format!("{s:?}"))).collect();
    for (stream, one) in streams.iter().zip(written.chunks(1)) {
        try_append(&store, stream, ExpectedVersion::NoStream, one).unwrap();
    }
    for (stream, one) in streams.iter().zip(written.chunks(1)) {
        assert_holds(&store, stream, one);
        let there = read(&store, stream).remove(0);
        assert_eq!(there.stream, *stream);
        assert_eq!(there.aggregate_type(), stream.aggregate_type());
        assert_eq!(there.aggregate_id(), stream.aggregate_id());
    }
}

/// The same event id may stand in two streams: ids are looked at within one.
pub fn event_ids_count_within_their_stream(harness: &mut impl Harness) {
    let store = harness.store();
    let shared = events(1);
    for id in ["one", "other"] {
        let receipt = append(&store, &stream(id), &shared);
        assert_eq!(receipt.first_sequence, 1);
    }
    assert_holds(&store, &stream("one"), &shared);
    assert_holds(&store, &stream("other"), &shared);
}

/// Recorded times never go back, though the clock does; event times are the caller's.
pub fn recorded_times_never_go_back(harness: &mut impl Harness) {
    let clock = std::sync::Arc::new(ManualClock::new(Timestamp::from_micros(1_000)));
    let settings = Settings {
        clock: clock.clone(),
        ..harness.settings()
    };
    let store = harness.open(settings);
    let mut last = Timestamp::from_micros(0);
    for (n, now) in [1_000, 1_005, 3, -9, 1_004, 2_000].into_iter().enumerate() {
        clock.set(Timestamp::from_micros(now));
        // Different streams: the order of the whole store counts.
        let stream = stream(&format!("{}", n % 2));
        let receipt = append(&store, &stream, &events(2));
        let expected = last.max(Timestamp::from_micros(now));
        assert_eq!(receipt.recorded_time, expected);
        let newest = StreamQuery::new(stream).from(receipt.first_sequence);
        for envelope in read_query(&store, newest) {
            assert_eq!(envelope.recorded_time, expected);
            assert_eq!(envelope.event_time, expected, "it had no time of its own");
        }
        last = expected;
    }
}

/// Once closed, every call of every handle says so.
pub fn a_closed_store_answers_closed(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("closed");
    let added = events(1);
    append(&store, &stream, &added);
    let other = store.clone();
    harness.close(store);

    let more = events(1);
    assert_closed(try_append(&other, &stream, ExpectedVersion::Any, &more));
    // Also a retry: nothing can be said any more.
    assert_closed(try_append(&other, &stream, ExpectedVersion::Any, &added));
    assert_closed(wait(other.head(&stream)));
    assert_closed(wait(other.find_event(&stream, added[0].event_id)));
    let mut late = other.read_stream(StreamQuery::new(stream));
    match wait(late.next()) {
        Some(Err(Error::Closed)) => {}
        other => panic!("expected a closed store, got {other:?}"),
    }
    assert!(wait(late.next()).is_none(), "an error is the end");
}
