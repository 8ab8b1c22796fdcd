//! Laws 2 to 4 for batches that hold events of several streams.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use super::harness::Harness;
use super::tools::*;
use crate::append::{AppendBatch, AppendOutcome, AppendReceipt, ExpectedVersion};
use crate::envelope::NewEvent;
use crate::error::Error;
use crate::limits::Limits;
use crate::store::{EventStore, MultiStreamStore};
use crate::stream_id::StreamId;

fn append_streams(
    store: &impl MultiStreamStore,
    parts: &[AppendBatch],
) -> Result<Vec<AppendReceipt>, Error> {
    wait(store.append_streams(parts.to_vec()))
}

fn names() -> [StreamId; 3] {
    ["debit", "credit", "ledger"].map(stream)
}

/// One part a stream, of one, two and three events, each expecting an empty stream.
fn opening() -> Vec<AppendBatch> {
    (1..)
        .zip(names())
        .map(|(size, stream)| batch(&stream, ExpectedVersion::NoStream, &events(size)))
        .collect()
}

#[track_caller]
fn assert_parts_hold(store: &impl MultiStreamStore, parts: &[AppendBatch]) {
    for part in parts {
        assert_holds(store, &part.stream, &part.events);
    }
}

/// All parts are recorded, each in its own stream; receipts come in the order of the parts.
pub fn all_parts_are_recorded(harness: &mut impl Harness<Store: MultiStreamStore>) {
    let store = harness.store();
    let parts = opening();
    let receipts = append_streams(&store, &parts).unwrap();
    assert_eq!(receipts.len(), 3);
    for (receipt, part) in receipts.iter().zip(&parts) {
        assert_eq!(receipt.stream, part.stream);
        assert_eq!(receipt.outcome, AppendOutcome::Appended);
        assert_eq!(receipt.first_sequence, 1);
        assert_eq!(receipt.last_sequence, part.events.len() as u64);
        assert_eq!(receipt.recorded_time, receipts[0].recorded_time);
    }
    assert_parts_hold(&store, &parts);
}

/// The parts stand one after another, and every event names the whole batch.
pub fn all_parts_are_one_batch(harness: &mut impl Harness<Store: MultiStreamStore>) {
    let store = harness.store();
    append(&store, &stream("before"), &events(4));
    let receipts = append_streams(&store, &opening()).unwrap();
    let there: Vec<_> = names().iter().flat_map(|name| read(&store, name)).collect();
    assert_eq!(there.len(), 6);
    let batch = there[0].batch;
    assert_eq!(batch.count, 6);
    assert!(there.iter().all(|envelope| envelope.batch == batch));
    if let Some(first) = receipts[0].first_position {
        assert_eq!(batch.first, first);
        assert_eq!(positions(&there), dense(first, first + 5));
        assert_eq!(receipts[2].last_position, Some(first + 5));
    }
}

/// A batch of one part is an append.
pub fn one_part_is_an_append(harness: &mut impl Harness<Store: MultiStreamStore>) {
    let store = harness.store();
    let part = batch(&stream("single"), ExpectedVersion::NoStream, &events(2));
    let receipts = append_streams(&store, std::slice::from_ref(&part)).unwrap();
    let retry = wait(store.append(part)).unwrap();
    assert_eq!(receipts.len(), 1);
    assert_first_receipt(&retry, &receipts[0]);
}

/// Where one part's expectation misses, nothing of any part is written, whichever part it is.
pub fn one_miss_refuses_all_parts(harness: &mut impl Harness<Store: MultiStreamStore>) {
    let store = harness.store();
    let first = opening();
    append_streams(&store, &first).unwrap();
    for missing in 0..3 {
        for expected in [
            ExpectedVersion::NoStream,
            ExpectedVersion::Exact(0),
            ExpectedVersion::Exact(9),
        ] {
            let mut parts: Vec<_> = names()
                .iter()
                .map(|stream| batch(stream, ExpectedVersion::StreamExists, &events(2)))
                .collect();
            parts[missing].expected = expected;
            match append_streams(&store, &parts) {
                Err(Error::WrongVersion {
                    stream,
                    expected: asked,
                    actual,
                }) => {
                    assert_eq!(stream, parts[missing].stream);
                    assert_eq!(asked, expected);
                    assert_eq!(actual, missing as u64 + 1);
                }
                other => panic!("expected a wrong version, got {other:?}"),
            }
            assert_parts_hold(&store, &first);
        }
    }
}

/// A fault in one part refuses all of them.
pub fn one_fault_refuses_all_parts(harness: &mut impl Harness<Store: MultiStreamStore>) {
    let store = harness.store();
    let mut without_events = opening();
    without_events[1].events.clear();
    let mut same_stream = opening();
    same_stream[2].stream = same_stream[0].stream.clone();
    let mut reserved = opening();
    reserved[2].stream = StreamId::new_reserved("$control", "1").unwrap();
    let mut revision_0 = opening();
    revision_0[2].events[2].revision = 0;
    for parts in [vec![], without_events, same_stream, reserved, revision_0] {
        assert_invalid(append_streams(&store, &parts));
        for name in names() {
            assert_holds(&store, &name, &[]);
        }
    }
}

/// Limits of a batch count over all its parts.
pub fn limits_count_over_all_parts(harness: &mut impl Harness<Store: MultiStreamStore>) {
    let store = harness.store_with_limits(Limits {
        batch_events: 4,
        batch_bytes: 100,
        ..harness.limits()
    });
    let [one, two, _] = names();
    let any = ExpectedVersion::Any;
    let of_two = |first: &[NewEvent], second: &[NewEvent]| {
        let parts = [batch(&one, any, first), batch(&two, any, second)];
        append_streams(&store, &parts)
    };
    assert_too_large(of_two(&events(2), &events(3)), 5, 4);
    let sized = |size: usize| [event(&"x".repeat(size))];
    assert_too_large(of_two(&sized(50), &sized(51)), 101, 100);
    assert_holds(&store, &one, &[]);
    assert_holds(&store, &two, &[]);
    of_two(&events(2), &events(2)).unwrap();
    of_two(&sized(50), &sized(50)).unwrap();
}

/// The same batch again gets the first receipts, after other appends, whatever it expects, and in
/// whatever order its parts are named.
pub fn a_retry_of_all_parts_gets_the_first_receipts(
    harness: &mut impl Harness<Store: MultiStreamStore>,
) {
    let store = harness.store();
    let parts = opening();
    let first = append_streams(&store, &parts).unwrap();
    for name in names() {
        append(&store, &name, &events(1));
    }
    for expected in [
        ExpectedVersion::NoStream,
        ExpectedVersion::Any,
        ExpectedVersion::Exact(77),
    ] {
        let mut again = parts.clone();
        for part in &mut again {
            part.expected = expected;
        }
        let retry = append_streams(&store, &again).unwrap();
        for (retry, first) in retry.iter().zip(&first) {
            assert_first_receipt(retry, first);
        }
        again.reverse();
        let retry = append_streams(&store, &again).unwrap();
        for (retry, first) in retry.iter().rev().zip(&first) {
            assert_first_receipt(retry, first);
        }
    }
    for (name, size) in names().iter().zip(2..) {
        assert_eq!(head_sequence(&store, name), size);
    }
}

/// A batch of which only some parts are recorded is a conflict, and nothing of it is written.
pub fn some_parts_recorded_conflict(harness: &mut impl Harness<Store: MultiStreamStore>) {
    let store = harness.store();
    let parts = opening();
    for recorded in 0..3 {
        let known = &parts[recorded];
        append(&store, &known.stream, &known.events);
        let mut tried = opening();
        tried[recorded] = known.clone();
        for part in &mut tried {
            part.expected = ExpectedVersion::Any;
        }
        let refused = append_streams(&store, &tried);
        assert_id_conflict(refused, &known.stream, &known.events);
        assert_parts_hold(&store, &parts[..=recorded]);
        for unwritten in &parts[recorded + 1..] {
            assert_holds(&store, &unwritten.stream, &[]);
        }
    }
}

/// Other content in any part is a conflict.
pub fn other_content_in_one_part_conflicts(harness: &mut impl Harness<Store: MultiStreamStore>) {
    let store = harness.store();
    let parts = opening();
    append_streams(&store, &parts).unwrap();
    for changed in 0..3 {
        let mut tried = parts.clone();
        tried[changed].events[changed].revision = 2;
        let refused = append_streams(&store, &tried);
        let part = &tried[changed];
        assert_id_conflict(refused, &part.stream, &part.events[changed..=changed]);
    }
    assert_parts_hold(&store, &parts);
}

/// The same batch from many threads at once is recorded once.
pub fn duplicate_batches_in_flight_are_recorded_once(
    harness: &mut impl Harness<Store: MultiStreamStore>,
) {
    const THREADS: usize = 6;
    let store = harness.store();
    let parts = opening();
    let start = Barrier::new(THREADS);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    append_streams(&store, &parts).unwrap()
                })
            })
            .collect();
        racers
            .into_iter()
            .map(|racer| racer.join().unwrap())
            .collect()
    });
    let wrote = |answer: &&Vec<AppendReceipt>| answer[0].outcome == AppendOutcome::Appended;
    let (first, retries): (Vec<_>, Vec<_>) = answers.iter().partition(wrote);
    assert_eq!(first.len(), 1);
    for retry in retries {
        for (retry, first) in retry.iter().zip(first[0]) {
            assert_first_receipt(retry, first);
        }
    }
    assert_parts_hold(&store, &parts);
}

/// Racing batches over the same streams: exactly one wins each pair of sequences, and no stream
/// gets ahead of the other.
pub fn racing_batches_keep_their_streams_together(
    harness: &mut impl Harness<Store: MultiStreamStore>,
) {
    const THREADS: u64 = 4;
    const WINS: u64 = 20;
    let store = harness.store();
    let [one, two, _] = names();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let first = read(&store, &one).len();
                assert!(
                    read(&store, &two).len() >= first,
                    "half a batch was visible"
                );
            }
        });
        let writers: Vec<_> = (0..THREADS)
            .map(|n| {
                let (store, one, two) = (&store, &one, &two);
                scope.spawn(move || {
                    let (mut won, mut believed) = (0, 0);
                    while won < WINS {
                        let expected = ExpectedVersion::Exact(believed);
                        let mut parts = [one, two].map(|name| batch(name, expected, &events(1)));
                        if n % 2 == 0 {
                            parts.reverse();
                        }
                        match append_streams(store, &parts) {
                            Ok(receipts) => {
                                believed += 1;
                                won += 1;
                                assert!(receipts.iter().all(|r| r.last_sequence == believed));
                            }
                            Err(Error::WrongVersion { actual, .. }) => believed = actual,
                            Err(error) => panic!("{error}"),
                        }
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
    for name in [&one, &two] {
        assert_eq!(sequences(&read(&store, name)), dense(1, THREADS * WINS));
    }
}

/// A dropped batch is in all its streams or in none.
pub fn a_dropped_batch_is_in_all_streams_or_none(
    harness: &mut impl Harness<Store: MultiStreamStore>,
) {
    let store = harness.store();
    for n in 0..20 {
        let parts: Vec<_> = ["x", "y"]
            .map(|side| stream(&format!("{side} {n}")))
            .iter()
            .map(|stream| batch(stream, ExpectedVersion::NoStream, &events(2)))
            .collect();
        drop(store.append_streams(parts.clone()));
        let mut future = Box::pin(store.append_streams(parts.clone()));
        let _ = poll_once(&mut future);
        drop(future);
        let first = read(&store, &parts[0].stream).len();
        assert!(first == 0 || first == 2);
        if first == 2 {
            assert_eq!(read(&store, &parts[1].stream).len(), 2);
        }
        append_streams(&store, &parts).unwrap();
        assert_parts_hold(&store, &parts);
    }
}

/// Once closed, batches of several streams are refused, too.
pub fn a_closed_store_takes_no_parts(harness: &mut impl Harness<Store: MultiStreamStore>) {
    let store = harness.store();
    let other = store.clone();
    harness.close(store);
    assert_closed(append_streams(&other, &opening()));
}
