//! Laws 1 and 6 over all streams: positions, and reads of the whole log.

use std::sync::atomic::{AtomicBool, Ordering};

use super::harness::Harness;
use super::tools::*;
use crate::append::ExpectedVersion;
use crate::envelope::NewEvent;
use crate::read::LogQuery;
use crate::store::EventLog;

/// Each record has the position after its predecessor's, over all streams, in the order of appends.
pub fn positions_are_dense_in_append_order(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    let (mut next, mut written) = (store.first_position(), Vec::new());
    for (n, part) in events(60).chunks(4).enumerate() {
        let receipt = append(&store, &stream(&format!("{}", n % 3)), part);
        assert_eq!(receipt.first_position, Some(next));
        assert_eq!(receipt.last_position, Some(next + part.len() as u64 - 1));
        next += part.len() as u64;
        written.extend(part.iter().map(|event| event.event_id));
    }
    let there = read_log(&store, LogQuery::all());
    assert_eq!(positions(&there), dense(store.first_position(), next - 1));
    let there: Vec<_> = there.iter().map(|envelope| envelope.event_id).collect();
    assert_eq!(there, written);
}

/// An empty log begins at position 1 and ends at 0.
pub fn an_empty_log_has_no_last_position(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    assert_eq!((store.first_position(), store.last_position()), (1, 0));
    assert_eq!(read_log(&store, LogQuery::all()), []);
    append(&store, &stream("first"), &events(2));
    assert_eq!((store.first_position(), store.last_position()), (1, 2));
}

/// Appends that write nothing (misses, conflicts, faults, retries) take no positions.
pub fn appends_that_write_nothing_take_no_positions(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    let stream = stream("kept");
    let added = events(2);
    append(&store, &stream, &added);
    let expected = ExpectedVersion::Exact(9);
    let _ = try_append(&store, &stream, expected, &events(1)).unwrap_err();
    let _ = try_append(&store, &stream, expected, &[]).unwrap_err();
    let turned: Vec<_> = added.iter().rev().cloned().collect();
    let _ = try_append(&store, &stream, expected, &turned).unwrap_err();
    let retry = try_append(&store, &stream, expected, &added).unwrap();
    assert_eq!(
        (retry.first_position, retry.last_position),
        (Some(1), Some(2))
    );
    assert_eq!(store.last_position(), 2);
    assert_eq!(append(&store, &stream, &events(1)).first_position, Some(3));
}

/// Batches name their place by position, so that no two of them share a name.
pub fn batches_are_named_by_position(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    for (n, part) in events(30).chunks(4).enumerate() {
        append(&store, &stream(&format!("{}", n % 3)), part);
    }
    for batch in read_log(&store, LogQuery::all()).chunk_by(|a, b| a.batch == b.batch) {
        assert_eq!(Some(batch[0].batch.first), batch[0].position);
        assert_eq!(batch[0].batch.count as usize, batch.len());
    }
}

/// The log and the streams hold the same envelopes.
pub fn the_log_and_the_streams_agree(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    let streams = ["a", "b", "c"].map(stream);
    for (n, part) in events(100).chunks(3).enumerate() {
        append(&store, &streams[n % 3], part);
    }
    let mut by_stream: Vec<_> = streams.iter().flat_map(|s| read(&store, s)).collect();
    by_stream.sort_by_key(|envelope| envelope.position);
    assert!(by_stream == read_log(&store, LogQuery::all()));
}

/// Ranges and limits of the log select what they say.
pub fn log_queries_select_what_they_say(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    for part in events(20).chunks(3) {
        append(&store, &stream("queried"), part);
    }
    let bounds = [0, 1, 2, 7, 19, 20, 21, 1_000, u64::MAX];
    for from in bounds {
        for to in bounds {
            for limit in [None, Some(0), Some(1), Some(3), Some(20), Some(u64::MAX)] {
                let mut query = LogQuery::from(from).to(to);
                query.limit = limit;
                let most = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
                let mut selected = dense(from.max(1), to.min(20));
                selected.truncate(most);
                let found = positions(&read_log(&store, query));
                assert_eq!(found, selected, "{query:?}");
            }
        }
    }
}

/// A long log comes back whole, from wherever it is read.
pub fn long_logs_are_read_whole(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    let all = events(3_000);
    for (n, part) in all.chunks(170).enumerate() {
        append(&store, &stream(&format!("{}", n % 7)), part);
    }
    for from in [1, 2, 170, 171, 1_500, 2_999, 3_000] {
        let there = read_log(&store, LogQuery::from(from));
        assert_eq!(positions(&there), dense(from, 3_000));
        let from = usize::try_from(from).unwrap() - 1;
        assert!(
            there
                .iter()
                .zip(&all[from..])
                .all(|(e, new)| e.same_content(new))
        );
    }
}

/// A read of the log sees what was there when it was asked for.
pub fn a_log_read_is_pinned_when_it_is_asked_for(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    append(&store, &stream("a"), &events(600));
    let unstarted = store.read_all(LogQuery::all());
    let mut slow = store.read_all(LogQuery::all());
    let empty = store.read_all(LogQuery::from(601));
    let mut seen = vec![wait(slow.next()).unwrap().unwrap()];
    for _ in 0..20 {
        append(&store, &stream("b"), &events(50));
        seen.push(wait(slow.next()).unwrap().unwrap());
    }
    seen.extend(wait(slow.collect()).unwrap());
    assert_eq!(positions(&seen), dense(1, 600));
    assert_eq!(
        positions(&wait(unstarted.collect()).unwrap()),
        dense(1, 600)
    );
    assert_eq!(wait(empty.collect()).unwrap(), []);
}

/// While writers append to many streams, no position up to the last one is ever missing, and no
/// part of a batch is seen.
pub fn no_visible_position_is_ever_missing(harness: &mut impl Harness<Store: EventLog>) {
    const WRITERS: usize = 4;
    let store = harness.store();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut last = 0;
            while !done.load(Ordering::SeqCst) {
                let before = store.last_position();
                let there = read_log(&store, LogQuery::all());
                let newest = there.last().map_or(0, |e| e.position.unwrap());
                assert!(newest >= before.max(last), "a visible position went away");
                assert_eq!(positions(&there), dense(1, newest));
                assert_eq!(newest % 3, 0, "part of a batch was visible");
                last = newest;
            }
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                let store = &store;
                scope.spawn(move || {
                    for _ in 0..60 {
                        let receipt = append(store, &stream(&format!("{n}")), &events(3));
                        assert!(store.last_position() >= receipt.last_position.unwrap());
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        reader.join().unwrap();
    });
    assert_eq!(store.last_position(), WRITERS as u64 * 180);
}

/// Recorded times never go back along the log, however many writers there are.
pub fn recorded_times_rise_along_the_log(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for _ in 0..50 {
                    append(store, &stream(&format!("{n}")), &events(1));
                }
            });
        }
    });
    let there = read_log(&store, LogQuery::all());
    assert_eq!(there.len(), 200);
    assert!(there.is_sorted_by_key(|envelope| envelope.recorded_time));
}

/// Once closed, reads of the log say so.
pub fn a_closed_log_answers_closed(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    append(&store, &stream("closed"), &events(1));
    let other = store.clone();
    harness.close(store);
    assert_closed(wait(other.read_all(LogQuery::all()).collect()));
}

/// A log of many streams with an event each is one log.
pub fn many_streams_make_one_log(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    let written: Vec<NewEvent> = events(400);
    for (n, one) in written.chunks(1).enumerate() {
        let stream = stream(&format!("single {n}"));
        try_append(&store, &stream, ExpectedVersion::NoStream, one).unwrap();
    }
    let there = read_log(&store, LogQuery::all());
    assert_eq!(positions(&there), dense(1, 400));
    for (n, envelope) in there.iter().enumerate() {
        assert_eq!(envelope.stream, stream(&format!("single {n}")));
        assert_eq!(envelope.sequence, 1);
        assert!(envelope.same_content(&written[n]));
    }
}

/// All handles name one log, whatever becomes of it; another store is another one.
pub fn a_log_has_one_identity(harness: &mut impl Harness<Store: EventLog>) {
    let store = harness.store();
    let identity = store.identity();
    assert!(
        !identity.origin.is_nil() && !identity.epoch.is_nil(),
        "{identity:?}"
    );
    append(&store, &stream("a"), &events(3));
    assert_eq!(
        (store.identity(), store.clone().identity()),
        (identity, identity)
    );
}
