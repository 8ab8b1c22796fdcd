//! Snapshots that are replaced while they are read.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_backends::fake::{FakeWire, Fault};
use tidelog_backends::wire::{Direct, Request};
use tidelog_core::{
    AppendBatch, BoxFuture, ContentType, ExpectedVersion, PersistOutcome, Sleeper,
    SnapshotEnvelope, Timestamp,
};

use crate::refusals::{LONG, batch, server, store, store_waiting_by};

/// Whoever waits by it lets something else happen first.
struct Meanwhile(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Sleeper for Meanwhile {
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        if let Some(work) = self.0.lock().take() {
            work();
        }
        Box::pin(std::future::ready(()))
    }
}

/// Two events of one stream.
fn two_events(writer: &Direct<FakeWire>) -> AppendBatch {
    let mut appended = batch(1);
    appended.expected = ExpectedVersion::Any;
    appended.events.extend(batch(1).events);
    pollster::block_on(writer.append(appended.clone())).unwrap();
    appended
}

/// A snapshot at one of them, in two parts.
fn snapshot_of(appended: &AppendBatch, sequence: u64) -> SnapshotEnvelope {
    SnapshotEnvelope {
        stream: appended.stream.clone(),
        sequence,
        event_id: appended.events[sequence as usize - 1].event_id,
        revision: 1,
        content_type: ContentType::Bytes,
        taken_time: Timestamp::from_micros(1),
        state: vec![sequence as u8; 600 << 10].into(),
    }
}

/// Its parts go when a newer one has come: that one is read then, and not none.
#[test]
fn a_snapshot_replaced_while_it_is_read_is_read_anew() {
    let wire = server();
    let writer = Arc::new(store(wire.clone(), LONG));
    let appended = two_events(&writer);
    let snapshot = |sequence| snapshot_of(&appended, sequence);
    let persisted = pollster::block_on(writer.persist(snapshot(1))).unwrap();
    assert_eq!(persisted, PersistOutcome::Persisted);

    let newer = snapshot(2);
    let (other, newest) = (Arc::clone(&writer), newer.clone());
    let meanwhile = Meanwhile(Mutex::new(Some(Box::new(move || {
        let persisted = pollster::block_on(other.persist(newest)).unwrap();
        assert_eq!(persisted, PersistOutcome::Persisted);
    }))));
    let wire = wire.another();
    let reader = store_waiting_by(Arc::new(meanwhile), wire.clone(), LONG);
    let mut is_first = true;
    wire.set_faults(move |request| {
        let loses = is_first && matches!(request, Request::Part { .. });
        is_first &= !loses;
        if loses {
            Fault::LostRequest
        } else {
            Fault::None
        }
    });
    let read = pollster::block_on(reader.snapshot(&appended.stream)).unwrap();
    assert!(read == Some(newer), "{:?}", read.map(|read| read.sequence));
}

/// Whoever names its snapshot first drops all parts that are older, also those of one who is about to name
/// a newer one: that one has its parts in the end.
#[test]
fn parts_that_somebody_faster_dropped_are_written_again() {
    let wire = server();
    let faster = store(wire.another(), LONG);
    let appended = two_events(&faster);
    let older = snapshot_of(&appended, 1);
    let slower = store(wire.clone(), LONG);
    let mut is_first = true;
    wire.set_faults(move |request| {
        if is_first && matches!(request, Request::SetSnapshot { .. }) {
            is_first = false;
            let persisted = pollster::block_on(faster.persist(older.clone())).unwrap();
            assert_eq!(persisted, PersistOutcome::Persisted);
        }
        Fault::None
    });
    let newer = snapshot_of(&appended, 2);
    let persisted = pollster::block_on(slower.persist(newer.clone())).unwrap();
    assert_eq!(persisted, PersistOutcome::Persisted);
    let asked = wire.take_asked();
    let parts = asked.iter().filter_map(|request| match request {
        Request::PutPart { version, part, .. } => Some((*version, *part)),
        _ => None,
    });
    let parts: Vec<_> = parts.collect();
    assert_eq!(
        parts.iter().map(|(_, part)| *part).collect::<Vec<_>>(),
        [0, 1, 0, 1]
    );
    assert!(parts[0].0 < parts[2].0, "under another name");
    let read = pollster::block_on(slower.snapshot(&appended.stream)).unwrap();
    assert!(read == Some(newer), "{:?}", read.map(|read| read.sequence));
}

/// Parts may be dropped late, when another has named a snapshot whose parts are older than its own: none is
/// read, and the next one is there again.
#[test]
fn a_snapshot_whose_parts_are_dropped_late_is_none_and_can_be_written_again() {
    let wire = server();
    let other = store(wire.another(), LONG);
    let appended = two_events(&other);
    let newer = snapshot_of(&appended, 2);
    let first = store(wire.clone(), LONG);
    wire.set_faults(|request| match request {
        Request::DropParts { .. } => Fault::Late,
        _ => Fault::None,
    });
    let slow = wire.another();
    let slower = store(slow.clone(), LONG);
    let (older, mut is_first) = (snapshot_of(&appended, 1), true);
    slow.set_faults(move |request| {
        // Its name is older by then.
        if is_first && matches!(request, Request::Snapshot(_)) {
            is_first = false;
            let persisted = pollster::block_on(first.persist(older.clone())).unwrap();
            assert_eq!(persisted, PersistOutcome::Persisted);
        }
        Fault::None
    });
    pollster::block_on(slower.persist(newer.clone())).unwrap();
    wire.deliver_late();
    let read = pollster::block_on(other.snapshot(&appended.stream)).unwrap();
    assert!(read.is_none());
    let persisted = pollster::block_on(other.persist(newer.clone())).unwrap();
    assert_eq!(persisted, PersistOutcome::Persisted);
    let read = pollster::block_on(other.snapshot(&appended.stream)).unwrap();
    assert!(read == Some(newer), "{:?}", read.map(|read| read.sequence));
}
