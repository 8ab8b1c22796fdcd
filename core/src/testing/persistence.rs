//! What a reopened store holds: everything that was acknowledged, and it goes on from there.

use super::harness::{PersistentHarness, Settings};
use super::snapshots::snapshot_at;
use super::tools::*;
use crate::append::{AppendBatch, Durability, ExpectedVersion};
use crate::clock::{ManualClock, Timestamp};
use crate::envelope::{EventEnvelope, NewEvent};
use crate::limits::Limits;
use crate::metadata::{Metadata, Tags};
use crate::read::{LogQuery, StreamQuery, Subscribe};
use crate::snapshot::{PersistOutcome, SnapshotStore};
use crate::store::{EventLog, EventStore, MultiStreamStore};

/// The two ways in which a store ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Close,
    Crash,
}

const BOTH: [End; 2] = [End::Close, End::Crash];

fn reopen<H: PersistentHarness>(harness: &mut H, store: H::Store, end: End) -> H::Store {
    match end {
        End::Close => harness.close(store),
        End::Crash => harness.crash(store),
    }
    harness.store()
}

/// Events with metadata, tags and times of their own.
fn full_events(count: usize) -> Vec<NewEvent> {
    events(count)
        .into_iter()
        .map(|event| {
            event
                .with_metadata(Metadata::new().with("actor", "Ada").with("till", "3"))
                .with_tags(Tags::new(["student:s9", "course:c1"]).unwrap())
                .with_event_time(Timestamp::from_micros(852_119_999_000_001))
        })
        .collect()
}

/// An empty store reopens as an empty store.
pub fn an_empty_store_reopens_empty(harness: &mut impl PersistentHarness) {
    let mut store = harness.store();
    for end in BOTH {
        store = reopen(harness, store, end);
        assert_holds(&store, &stream("a"), &[]);
    }
    assert_eq!(append(&store, &stream("a"), &events(1)).first_sequence, 1);
}

/// After a reopen every acknowledged event is there, every field of it, of either durability.
pub fn everything_is_there_after_a_reopen(harness: &mut impl PersistentHarness) {
    let names = ["a", "b", "caf\u{e9}", "cafe\u{301}"].map(stream);
    let mut store = harness.store();
    for (round, end) in BOTH.into_iter().cycle().take(4).enumerate() {
        for (n, part) in full_events(30).chunks(2).enumerate() {
            let durability = if n % 2 == 0 {
                Durability::Power
            } else {
                Durability::Process
            };
            let append = batch(&names[(n + round) % 4], ExpectedVersion::Any, part);
            wait(store.append(append.with_durability(durability))).unwrap();
        }
        let before: Vec<_> = names.iter().map(|name| read(&store, name)).collect();
        let heads: Vec<_> = names.iter().map(|s| wait(store.head(s)).unwrap()).collect();
        store = reopen(harness, store, end);
        for ((name, before), head) in names.iter().zip(&before).zip(heads) {
            assert!(
                read(&store, name) == *before,
                "{name} differs after {end:?}"
            );
            assert_eq!(wait(store.head(name)).unwrap(), head);
            let backward = read_query(&store, StreamQuery::new(name.clone()).backward());
            assert!(backward.iter().eq(before.iter().rev()));
        }
    }
}

/// Sequences go on where they were.
pub fn sequences_go_on_after_a_reopen(harness: &mut impl PersistentHarness) {
    let stream = stream("a");
    let mut store = harness.store();
    let mut all = Vec::new();
    for (n, end) in (0..6).zip(BOTH.into_iter().cycle()) {
        let added = events(3);
        let expected = ExpectedVersion::Exact(n * 3);
        let receipt = try_append(&store, &stream, expected, &added).unwrap();
        assert_eq!(receipt.first_sequence, n * 3 + 1);
        all.extend(added);
        store = reopen(harness, store, end);
        assert_holds(&store, &stream, &all);
        let late = try_append(&store, &stream, expected, &events(1));
        assert_wrong_version(late, &stream, expected, n * 3 + 3);
    }
}

/// A retry after a reopen gets the first receipt; other content is a conflict still.
pub fn retries_are_recognized_after_a_reopen(harness: &mut impl PersistentHarness) {
    let stream = stream("a");
    let mut store = harness.store();
    let (opening, mine) = (full_events(2), full_events(3));
    let first = append(&store, &stream, &opening);
    let second = append(&store, &stream, &mine);
    for end in BOTH {
        store = reopen(harness, store, end);
        for expected in [
            ExpectedVersion::Any,
            ExpectedVersion::NoStream,
            ExpectedVersion::Exact(2),
            ExpectedVersion::Exact(99),
        ] {
            let retry = try_append(&store, &stream, expected, &opening).unwrap();
            assert_first_receipt(&retry, &first);
            let retry = try_append(&store, &stream, expected, &mine).unwrap();
            assert_first_receipt(&retry, &second);
            let mut changed = mine.clone();
            changed[2].revision = 2;
            let refused = try_append(&store, &stream, expected, &changed);
            assert_id_conflict(refused, &stream, &changed);
        }
        let found = wait(store.find_event(&stream, mine[1].event_id)).unwrap();
        assert_eq!(found.unwrap().sequence, 4);
        append(&store, &stream, &events(5));
    }
}

/// The retry window and the sequences that expectations imply reach across a reopen.
pub fn the_retry_window_reaches_across_a_reopen(harness: &mut impl PersistentHarness) {
    let limits = Limits {
        batch_events: 1_000,
        ..harness.limits()
    };
    let settings = || Settings {
        limits,
        ..Settings::default()
    };
    let stream = stream("a");
    let store = harness.open(settings());
    let (old, edge) = (events(1), events(1));
    let first = append(&store, &stream, &old);
    let second = append(&store, &stream, &edge);
    append(&store, &stream, &events(600));
    harness.close(store);
    let store = harness.open(settings());
    append(&store, &stream, &events(399));
    harness.crash(store);
    let store = harness.open(settings());

    let any = ExpectedVersion::Any;
    let retry = try_append(&store, &stream, any, &edge).unwrap();
    assert_first_receipt(&retry, &second);
    let retry = try_append(&store, &stream, ExpectedVersion::NoStream, &old).unwrap();
    assert_first_receipt(&retry, &first);
    assert_eq!(append(&store, &stream, &old).first_sequence, 1_002);
}

/// Recorded times do not go back across a reopen, though the clock did.
pub fn recorded_times_do_not_go_back_across_a_reopen(harness: &mut impl PersistentHarness) {
    let limits = harness.limits();
    let at = |micros| Settings {
        clock: std::sync::Arc::new(ManualClock::new(Timestamp::from_micros(micros))),
        limits,
    };
    let stream = stream("a");
    let store = harness.open(at(5_000));
    append(&store, &stream, &events(1));
    harness.close(store);
    let store = harness.open(at(100));
    append(&store, &stream, &events(1));
    harness.crash(store);
    let store = harness.open(at(50));
    let receipt = append(&store, &stream, &events(1));
    assert_eq!(receipt.recorded_time, Timestamp::from_micros(5_000));
    let times: Vec<_> = read(&store, &stream)
        .iter()
        .map(|envelope| envelope.recorded_time.as_micros())
        .collect();
    assert_eq!(times, [5_000; 3]);
}

/// The largest batch is there after a crash, whole.
pub fn a_large_batch_survives_a_crash(harness: &mut impl PersistentHarness) {
    let stream = stream("large");
    let store = harness.store();
    let limits = store.limits();
    let large: Vec<_> = (0..limits.batch_bytes / limits.payload_bytes)
        .map(|_| NewEvent {
            payload: vec![5; limits.payload_bytes].into(),
            ..event("")
        })
        .collect();
    append(&store, &stream, &large);
    let store = reopen(harness, store, End::Crash);
    assert_holds(&store, &stream, &large);
}

/// Appends under way when the store crashes are wholly there or absent, those acknowledged are
/// there, and a retry settles the others.
pub fn appends_in_flight_at_a_crash_are_whole_or_absent(harness: &mut impl PersistentHarness) {
    let store = harness.store();
    let kept = events(10);
    append(&store, &stream("kept"), &kept);
    let flying: Vec<_> = (0..50)
        .map(|n| (stream(&format!("flying {n}")), events(3)))
        .collect();
    {
        let mut futures = Vec::new();
        for (stream, added) in &flying {
            let append = batch(stream, ExpectedVersion::NoStream, added);
            let mut future = Box::pin(store.append(append));
            let _ = poll_once(&mut future);
            futures.push(future);
        }
    }
    let store = reopen(harness, store, End::Crash);
    assert_holds(&store, &stream("kept"), &kept);
    for (stream, added) in &flying {
        let there = read(&store, stream).len();
        assert!(there == 0 || there == 3, "{there} of 3 events are there");
        try_append(&store, stream, ExpectedVersion::NoStream, added).unwrap();
        assert_holds(&store, stream, added);
    }
}

/// Many streams find their events again.
pub fn many_streams_are_found_after_a_reopen(harness: &mut impl PersistentHarness) {
    let all = events(300);
    let name = |n: usize| stream(&format!("single {n}"));
    let mut store = harness.store();
    for (n, one) in all.chunks(1).enumerate() {
        append(&store, &name(n), one);
    }
    for end in BOTH {
        store = reopen(harness, store, end);
        for (n, one) in all.chunks(1).enumerate() {
            assert_holds(&store, &name(n), one);
        }
        assert_holds(&store, &name(300), &[]);
    }
}

/// The log is the same after a reopen, and positions go on.
pub fn positions_go_on_after_a_reopen(harness: &mut impl PersistentHarness<Store: EventLog>) {
    let mut store = harness.store();
    let mut before: Vec<EventEnvelope> = Vec::new();
    for (n, end) in (0..4).zip(BOTH.into_iter().cycle()) {
        for (m, part) in full_events(24).chunks(3).enumerate() {
            append(&store, &stream(&format!("{}", m % 3)), part);
        }
        let last = store.last_position();
        assert_eq!(last, (n + 1) * 24);
        let there = read_log(&store, LogQuery::all());
        assert!(there.starts_with(&before), "what was there has changed");
        before = there;
        store = reopen(harness, store, end);
        assert_eq!((store.first_position(), store.last_position()), (1, last));
        assert!(read_log(&store, LogQuery::all()) == before);
    }
}

/// A subscriber that remembers its position goes on after it, over any number of reopens.
pub fn subscriptions_resume_by_position(harness: &mut impl PersistentHarness<Store: EventLog>) {
    let mut store = harness.store();
    let (mut seen, mut of_one) = (0, 0);
    for end in BOTH.into_iter().cycle().take(4) {
        append(&store, &stream("1"), &events(20));
        append(&store, &stream("2"), &events(5));
        store = reopen(harness, store, end);
        let mut live = store
            .subscribe(Subscribe::All { after: seen })
            .into_blocking();
        let what = Subscribe::Stream {
            stream: stream("1"),
            after: of_one,
        };
        let mut live_one = store.subscribe(what).into_blocking();
        append(&store, &stream("1"), &events(5));
        // It stops half way, so that the next one starts in what was there.
        assert_eq!(positions(&take(&mut live, 25)), dense(seen + 1, seen + 25));
        assert_eq!(
            sequences(&take(&mut live_one, 21)),
            dense(of_one + 1, of_one + 21)
        );
        seen += 25;
        of_one += 21;
    }
}

/// A batch of several streams is whole after a reopen, and is recognized.
pub fn batches_of_several_streams_are_whole_after_a_reopen(
    harness: &mut impl PersistentHarness<Store: MultiStreamStore>,
) {
    let mut store = harness.store();
    let parts: Vec<AppendBatch> = ["x", "y", "z"]
        .map(stream)
        .iter()
        .map(|stream| batch(stream, ExpectedVersion::NoStream, &full_events(2)))
        .collect();
    let first = wait(store.append_streams(parts.clone())).unwrap();
    for end in BOTH {
        store = reopen(harness, store, end);
        for part in &parts {
            assert_holds(&store, &part.stream, &part.events);
        }
        let retry = wait(store.append_streams(parts.clone())).unwrap();
        for (retry, first) in retry.iter().zip(&first) {
            assert_first_receipt(retry, first);
        }
        let mut mixed = parts.clone();
        mixed[1].events = events(1);
        let refused = wait(store.append_streams(mixed));
        assert!(matches!(refused, Err(crate::Error::IdConflict { .. })));
    }
}

/// After a reopen a snapshot is either there as it was or gone: it is a cache. Kept again, it
/// counts.
pub fn snapshots_are_the_same_or_gone_after_a_reopen(
    harness: &mut impl PersistentHarness<Store: SnapshotStore>,
) {
    let name = stream("a");
    let mut store = harness.store();
    append(&store, &name, &events(5));
    let there = read(&store, &name);
    let snapshot = snapshot_at(&there[3], 1, b"state");
    wait(SnapshotStore::persist(&store, snapshot.clone())).unwrap();
    for end in BOTH {
        store = reopen(harness, store, end);
        let kept = wait(SnapshotStore::read(&store, &name)).unwrap();
        assert!(kept.is_none() || kept.as_ref() == Some(&snapshot));
        let outcome = wait(store.persist(snapshot.clone())).unwrap();
        let expected = if kept.is_some() {
            PersistOutcome::Superseded
        } else {
            PersistOutcome::Persisted
        };
        assert_eq!(outcome, expected);
        let again = wait(SnapshotStore::read(&store, &name)).unwrap();
        assert_eq!(again.as_ref(), Some(&snapshot));
    }
}

/// A log is the same one after a reopen.
pub fn a_log_keeps_its_identity(harness: &mut impl PersistentHarness<Store: EventLog>) {
    let mut store = harness.store();
    let identity = store.identity();
    for end in BOTH {
        append(&store, &stream("a"), &events(2));
        store = reopen(harness, store, end);
        assert_eq!(store.identity(), identity);
    }
}
