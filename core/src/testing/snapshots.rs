//! Law 12: a snapshot is a cache that never runs ahead and never goes back.

use std::sync::Barrier;

use super::harness::Harness;
use super::tools::*;
use crate::clock::Timestamp;
use crate::content_type::ContentType;
use crate::envelope::EventEnvelope;
use crate::error::Error;
use crate::snapshot::{MAX_SNAPSHOT_BYTES, PersistOutcome, SnapshotEnvelope, SnapshotStore};
use crate::store::EventStore;
use crate::stream_id::StreamId;

/// The snapshot of the state after `newest`, with `state` as its bytes.
pub(super) fn snapshot_at(newest: &EventEnvelope, revision: u32, state: &[u8]) -> SnapshotEnvelope {
    SnapshotEnvelope {
        stream: newest.stream.clone(),
        sequence: newest.sequence,
        event_id: newest.event_id,
        revision,
        content_type: ContentType::Postcard,
        taken_time: Timestamp::from_micros(852_076_800_000_001),
        state: state.to_vec().into(),
    }
}

/// A stream of `count` events, as it reads.
fn stream_of(store: &impl EventStore, stream: &StreamId, count: usize) -> Vec<EventEnvelope> {
    append(store, stream, &events(count));
    read(store, stream)
}

fn persist(
    store: &impl SnapshotStore,
    snapshot: &SnapshotEnvelope,
) -> Result<PersistOutcome, Error> {
    wait(store.persist(snapshot.clone()))
}

#[track_caller]
fn assert_kept(store: &impl SnapshotStore, snapshot: &SnapshotEnvelope) {
    let kept = wait(store.read(&snapshot.stream)).unwrap();
    assert_eq!(kept.as_ref(), Some(snapshot));
}

/// A stream without a snapshot has none.
pub fn there_is_no_snapshot_at_first(harness: &mut impl Harness<Store: SnapshotStore>) {
    let store = harness.store();
    assert_eq!(wait(store.read(&stream("unknown"))).unwrap(), None);
    stream_of(&store, &stream("known"), 3);
    assert_eq!(wait(store.read(&stream("known"))).unwrap(), None);
}

/// Every field of a snapshot comes back, whatever its bytes.
pub fn a_snapshot_comes_back_unchanged(harness: &mut impl Harness<Store: SnapshotStore>) {
    let store = harness.store();
    let every_byte: Vec<u8> = (0..=255).collect();
    let zeros = vec![0; 100_000];
    let states: [&[u8]; 4] = [b"", b"state", &every_byte, &zeros];
    for (n, state) in states.into_iter().enumerate() {
        let there = stream_of(&store, &stream(&format!("kept {n}")), 3);
        let mut snapshot = snapshot_at(&there[2], u32::MAX, state);
        snapshot.content_type = ContentType::parse("application/cbor").unwrap();
        snapshot.taken_time = Timestamp::from_micros(-5);
        assert_eq!(
            persist(&store, &snapshot).unwrap(),
            PersistOutcome::Persisted
        );
        assert_kept(&store, &snapshot);
    }
}

/// Each stream has its own snapshot.
pub fn snapshots_are_kept_by_stream(harness: &mut impl Harness<Store: SnapshotStore>) {
    let store = harness.store();
    let snapshots: Vec<_> = ["caf\u{e9}", "cafe\u{301}", "a", "a/b", "b"]
        .into_iter()
        .map(|id| {
            let there = stream_of(&store, &stream(id), 2);
            snapshot_at(&there[1], 1, id.as_bytes())
        })
        .collect();
    for snapshot in &snapshots {
        assert_eq!(
            persist(&store, snapshot).unwrap(),
            PersistOutcome::Persisted
        );
    }
    for snapshot in &snapshots {
        assert_kept(&store, snapshot);
    }
}

/// A later snapshot replaces an earlier one; the stream may be ahead of it.
pub fn a_later_snapshot_replaces_an_earlier_one(harness: &mut impl Harness<Store: SnapshotStore>) {
    let store = harness.store();
    let there = stream_of(&store, &stream("a"), 10);
    for at in [0, 4, 5, 8] {
        let snapshot = snapshot_at(&there[at], 1, format!("after {at}").as_bytes());
        assert_eq!(
            persist(&store, &snapshot).unwrap(),
            PersistOutcome::Persisted
        );
        assert_kept(&store, &snapshot);
    }
    append(&store, &stream("a"), &events(1));
    assert_kept(&store, &snapshot_at(&there[8], 1, b"after 8"));
}

/// One at the same or an earlier sequence never replaces what is kept, of the same revision or an
/// older one.
pub fn an_earlier_snapshot_never_replaces_a_later_one(
    harness: &mut impl Harness<Store: SnapshotStore>,
) {
    let store = harness.store();
    let there = stream_of(&store, &stream("a"), 10);
    let kept = snapshot_at(&there[6], 3, b"kept");
    assert_eq!(persist(&store, &kept).unwrap(), PersistOutcome::Persisted);
    for at in [0, 5, 6] {
        for revision in [1, 2, 3] {
            let late = snapshot_at(&there[at], revision, b"late");
            assert_eq!(persist(&store, &late).unwrap(), PersistOutcome::Superseded);
            assert_kept(&store, &kept);
        }
    }
}

/// One of a newer revision replaces an older one, also at an earlier sequence: the older is of no
/// use to the code of today.
pub fn a_newer_revision_replaces_an_older_one(harness: &mut impl Harness<Store: SnapshotStore>) {
    let store = harness.store();
    let there = stream_of(&store, &stream("a"), 10);
    persist(&store, &snapshot_at(&there[8], 1, b"old")).unwrap();
    for (at, revision) in [(8, 2), (3, 3), (9, 4)] {
        let newer = snapshot_at(&there[at], revision, b"newer");
        assert_eq!(persist(&store, &newer).unwrap(), PersistOutcome::Persisted);
        assert_kept(&store, &newer);
    }
}

/// A snapshot of an event that is not there, or not at its sequence, is refused and replaces
/// nothing.
pub fn a_snapshot_never_runs_ahead_of_its_stream(harness: &mut impl Harness<Store: SnapshotStore>) {
    let store = harness.store();
    let there = stream_of(&store, &stream("a"), 3);
    let other = stream_of(&store, &stream("b"), 5);
    let ahead_of_all = {
        let mut snapshot = snapshot_at(&other[4], 1, b"");
        snapshot.stream = stream("a");
        snapshot
    };
    let nowhere = {
        let mut snapshot = snapshot_at(&there[2], 1, b"");
        snapshot.stream = stream("unknown");
        snapshot
    };
    let other_event = {
        let mut snapshot = snapshot_at(&there[2], 1, b"");
        snapshot.event_id = there[1].event_id;
        snapshot
    };
    let at = |sequence| {
        let mut snapshot = snapshot_at(&there[2], 1, b"");
        snapshot.sequence = sequence;
        snapshot
    };
    let impossible = [
        ahead_of_all,
        nowhere,
        other_event,
        at(0),
        at(2),
        at(4),
        at(u64::MAX),
    ];
    for snapshot in &impossible {
        assert_invalid(persist(&store, snapshot));
        assert_eq!(wait(store.read(&snapshot.stream)).unwrap(), None);
    }
    let kept = snapshot_at(&there[0], 1, b"kept");
    persist(&store, &kept).unwrap();
    for snapshot in &impossible {
        assert_invalid(persist(&store, snapshot));
    }
    assert_kept(&store, &kept);
}

/// The largest state is kept and comes back; one byte more is refused.
pub fn the_snapshot_limit_is_exact(harness: &mut impl Harness<Store: SnapshotStore>) {
    let store = harness.store();
    let there = stream_of(&store, &stream("a"), 2);
    let largest = snapshot_at(&there[0], 1, &vec![9; MAX_SNAPSHOT_BYTES]);
    assert_eq!(
        persist(&store, &largest).unwrap(),
        PersistOutcome::Persisted
    );
    let over = snapshot_at(&there[1], 1, &vec![9; MAX_SNAPSHOT_BYTES + 1]);
    let refused = persist(&store, &over);
    assert_too_large(refused, MAX_SNAPSHOT_BYTES + 1, MAX_SNAPSHOT_BYTES);
    let kept = wait(store.read(&stream("a"))).unwrap().unwrap();
    assert!(kept == largest, "the largest snapshot came back changed");
}

/// Snapshots change nothing about their stream.
pub fn snapshots_leave_streams_alone(harness: &mut impl Harness<Store: SnapshotStore>) {
    let store = harness.store();
    let name = stream("a");
    let there = stream_of(&store, &name, 4);
    persist(&store, &snapshot_at(&there[3], 1, b"state")).unwrap();
    assert!(read(&store, &name) == there);
    assert_eq!(append(&store, &name, &events(1)).first_sequence, 5);
}

/// Of racing snapshots the latest one stays.
pub fn the_latest_of_racing_snapshots_stays(harness: &mut impl Harness<Store: SnapshotStore>) {
    const THREADS: usize = 8;
    let store = harness.store();
    let there = stream_of(&store, &stream("a"), 10 * THREADS);
    let start = Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for n in 0..THREADS {
            let (store, there, start) = (&store, &there, &start);
            scope.spawn(move || {
                start.wait();
                for at in (n..there.len()).step_by(THREADS) {
                    persist(store, &snapshot_at(&there[at], 1, b"state")).unwrap();
                    let kept = wait(store.read(&stream("a"))).unwrap().unwrap();
                    assert!(kept.sequence > at as u64, "an earlier one replaced it");
                }
            });
        }
    });
    assert_kept(&store, &snapshot_at(there.last().unwrap(), 1, b"state"));
}

/// Once closed, snapshots are neither read nor kept.
pub fn a_closed_store_has_no_snapshots(harness: &mut impl Harness<Store: SnapshotStore>) {
    let store = harness.store();
    let there = stream_of(&store, &stream("a"), 1);
    let snapshot = snapshot_at(&there[0], 1, b"state");
    persist(&store, &snapshot).unwrap();
    let other = store.clone();
    harness.close(store);
    assert_closed(persist(&other, &snapshot));
    assert_closed(wait(other.read(&stream("a"))));
}
