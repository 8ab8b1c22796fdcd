//! The replicator with the sink on the server in memory.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidelog_backends::SledStore;
use tidelog_backends::fake::{FakeServer, FakeWire};
use tidelog_backends::wire::MetaRow;
use tidelog_core::{
    AppendBatch, ContentType, EventLog, ExpectedVersion, ManualClock, ManualSleeper, NewEvent,
    StreamId, SystemIds,
};

use uuid::Uuid;

use super::sink::{ScyllaOptions, ScyllaSink};
use crate::replicate::embedded::Embedded;
use crate::replicate::mailbox::Mailbox;
use crate::replicate::replicator::{Env, Pace, Replicator};
use crate::replicate::status::StatusCell;

pub(super) fn meta() -> MetaRow {
    MetaRow {
        keyspace_id: Uuid::from_u128(7),
        schema_version: 1,
        bucket_events: 10,
        chunk_records: 8,
        arbitration_dc: None,
    }
}

pub(super) struct Node {
    pub clock: Arc<ManualClock>,
    pub status: Arc<StatusCell>,
    pub mailbox: Arc<Mailbox>,
}

pub(super) fn replicator(store: &SledStore, wire: &FakeWire) -> (Node, Replicator<ScyllaSink>) {
    let clock = Arc::new(ManualClock::default());
    let env = Env {
        ticks: clock.clone(),
        sleeper: Arc::new(ManualSleeper::new(clock.clone())),
        ids: Arc::new(SystemIds),
    };
    let options = ScyllaOptions {
        server: "memory".into(),
        name: "till".into(),
        lanes: 64,
        overlap: 2_000,
        ids: env.ids.clone(),
        ticks: env.ticks.clone(),
    };
    let status = Arc::new(StatusCell::new(store.identity().epoch));
    let mailbox = Arc::<Mailbox>::default();
    let replicator = Replicator {
        sink: ScyllaSink::new(Arc::new(wire.clone()), options),
        outbox: Arc::new(Embedded::new(store).unwrap()),
        env,
        pace: Pace::default(),
        mailbox: mailbox.clone(),
        status: status.clone(),
    };
    (
        Node {
            clock,
            status,
            mailbox,
        },
        replicator,
    )
}

/// Polls `work`, letting time pass, until `done`.
pub(super) fn drive(work: impl Future<Output = ()>, clock: &ManualClock, done: impl Fn() -> bool) {
    let mut work = pin!(work);
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..20_000 {
        if done() || work.as_mut().poll(cx) == Poll::Ready(()) {
            return;
        }
        clock.advance_micros(1_000);
        std::thread::sleep(Duration::from_micros(100));
    }
    panic!("it does not come to an end");
}

pub(super) fn append(store: &SledStore, stream: &str, count: usize) -> u64 {
    let stream: StreamId = stream.parse().unwrap();
    let event = |at: usize| NewEvent::new("E", 1, ContentType::Json, format!("{at}"));
    let events = (0..count).map(event).collect();
    let batch = AppendBatch::new(stream, ExpectedVersion::Any, events);
    let receipt = store.blocking().append(batch).unwrap();
    receipt.last_position.unwrap()
}

#[test]
fn what_is_appended_is_settled_and_stands_in_both_tables() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::builder(dir.path().join("events"))
        .sparse_segments()
        .open()
        .unwrap();
    let mut last = 0;
    for at in 0..100 {
        last = append(&store, &format!("T/{}", at % 5), 1);
    }
    let wire = FakeWire::new(FakeServer::new(meta()));
    let (node, replicator) = replicator(&store, &wire);
    drive(replicator.run(), &node.clock, || {
        let status = node.status.status();
        status.settled == last && status.watermark == last
    });
    let status = node.status.status();
    assert_eq!(
        (status.accepted, status.already, status.parked),
        (100, 0, 0)
    );
}
