//! Which ids are known when only the newest events of a stream are at hand: ids that are newer than
//! all that is indexed cost no read of the index, and no other id may profit from that.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

mod tools;

use std::path::Path;

use tidelog_backends::SledStore;
use tidelog_core::{
    AppendBatch, AppendOutcome, ContentType, Error, EventId, ExpectedVersion, NewEvent,
};

use tools::stream;

fn open(dir: &Path) -> SledStore {
    SledStore::builder(dir)
        .segment_size(64 << 10)
        .open()
        .unwrap()
}

fn event(payload: usize) -> NewEvent {
    NewEvent::new("E", 1, ContentType::Bytes, vec![7; payload])
}

fn append(store: &SledStore, event: &NewEvent) -> Result<AppendOutcome, Error> {
    let batch = AppendBatch::new(stream("a"), ExpectedVersion::Any, vec![event.clone()]);
    store
        .blocking()
        .append(batch)
        .map(|receipt| receipt.outcome)
}

#[test]
fn events_in_the_index_are_known_again_after_newer_ones_were_appended() {
    let dir = tempfile::tempdir().unwrap();
    let not_in_time_order = EventId::from_bytes([0x88; 16]);
    let old: Vec<_> = (0..6)
        .map(|n| {
            let event = event(30 << 10);
            if n == 2 {
                event.with_id(not_in_time_order)
            } else {
                event
            }
        })
        .collect();
    let late = event(10);
    let store = open(dir.path());
    for event in &old {
        assert_eq!(append(&store, event).unwrap(), AppendOutcome::Appended);
    }
    store.drain().unwrap();
    store.close_blocking().unwrap();
    drop(store);

    // Nothing of the stream is at hand, and what comes is newer than all that is indexed.
    let store = open(dir.path());
    for _ in 0..3 {
        assert_eq!(append(&store, &event(10)).unwrap(), AppendOutcome::Appended);
    }
    let head = store.blocking().head(&stream("a")).unwrap().unwrap();
    assert_eq!(head.sequence, 9);
    for (at, event) in old.iter().enumerate() {
        let again = append(&store, event).unwrap();
        assert_eq!(again, AppendOutcome::AlreadyAppended, "event {at}");
        let other = NewEvent::new("Other", 1, ContentType::Bytes, vec![1]).with_id(event.event_id);
        let refused = append(&store, &other).unwrap_err();
        assert_eq!(refused.code(), "id_conflict", "event {at}");
        let found = store
            .blocking()
            .find_event(&stream("a"), event.event_id)
            .unwrap();
        assert_eq!(found.unwrap().sequence, at as u64 + 1);
    }
    // Made before most of what is indexed, and new nevertheless.
    assert_eq!(append(&store, &late).unwrap(), AppendOutcome::Appended);
    assert_eq!(
        append(&store, &late).unwrap(),
        AppendOutcome::AlreadyAppended
    );
    store.verify().unwrap();
}
