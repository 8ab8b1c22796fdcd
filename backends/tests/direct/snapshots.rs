//! Snapshots that are replaced while they are read.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_backends::fake::Fault;
use tidelog_backends::wire::Request;
use tidelog_core::{
    BoxFuture, ContentType, ExpectedVersion, PersistOutcome, Sleeper, SnapshotEnvelope, Timestamp,
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

/// Its parts go when a newer one has come: that one is read then, and not none.
#[test]
fn a_snapshot_replaced_while_it_is_read_is_read_anew() {
    let wire = server();
    let writer = Arc::new(store(wire.clone(), LONG));
    let mut appended = batch(1);
    appended.expected = ExpectedVersion::Any;
    appended.events.extend(batch(1).events);
    pollster::block_on(writer.append(appended.clone())).unwrap();
    let snapshot = |sequence: u64| SnapshotEnvelope {
        stream: appended.stream.clone(),
        sequence,
        event_id: appended.events[sequence as usize - 1].event_id,
        revision: 1,
        content_type: ContentType::Bytes,
        taken_time: Timestamp::from_micros(1),
        state: vec![sequence as u8; 600 << 10].into(),
    };
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
