//! What the server refuses, what never gets an answer, and what a client does not know yet.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tidelog_backends::fake::{FakeServer, FakeWire, Fault, Limits as ServerLimits};
use tidelog_backends::wire::{Buckets, Direct, DirectSettings, MetaRow, Request};
use tidelog_core::{
    AppendBatch, AppendOutcome, BoxFuture, ContentType, Error, ErrorKind, ExpectedVersion, Limits,
    ManualClock, NewEvent, Sleeper, StreamId, SystemIds,
};
use uuid::Uuid;

/// Whoever waits by it never waits, but for what takes minutes.
struct Hasty;

impl Sleeper for Hasty {
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        if duration >= Duration::from_secs(30) {
            return Box::pin(std::future::pending());
        }
        Box::pin(std::future::ready(()))
    }
}

pub fn server() -> FakeWire {
    FakeWire::new(FakeServer::new(MetaRow {
        keyspace_id: Uuid::nil(),
        schema_version: 1,
        bucket_events: 10,
        chunk_records: 10,
        arbitration_dc: None,
    }))
}

pub fn store(wire: FakeWire, give_up: Duration) -> Direct<FakeWire> {
    store_waiting_by(Arc::new(Hasty), wire, give_up)
}

pub fn store_waiting_by(
    sleeper: Arc<dyn Sleeper>,
    wire: FakeWire,
    give_up: Duration,
) -> Direct<FakeWire> {
    let settings = DirectSettings {
        server: "simulated".into(),
        limits: Limits {
            batch_events: 10,
            ..Limits::default()
        },
        buckets: Buckets::of_size(10),
        give_up,
        cache_bytes: 1 << 20,
        clock: Arc::new(ManualClock::default()),
        ids: Arc::new(SystemIds),
        sleeper,
    };
    Direct::new(wire, settings)
}

pub const LONG: Duration = Duration::from_secs(60);

pub fn batch(size: usize) -> AppendBatch {
    let stream = StreamId::new("T", "1").unwrap();
    let event = NewEvent::new("E", 1, ContentType::Bytes, vec![1; size]);
    AppendBatch::new(stream, ExpectedVersion::NoStream, vec![event])
}

#[test]
fn a_batch_over_the_servers_size_names_it() {
    let wire = server();
    wire.with_server(|server| server.set_limits(ServerLimits { batch_bytes: 5_000 }));
    let store = store(wire, LONG);
    match pollster::block_on(store.append(batch(6_000))) {
        Err(error @ Error::TooLarge { what, size, .. }) => {
            assert_eq!((what, size), ("batch (server)", 6_000));
            assert_eq!(error.kind(), ErrorKind::FixInput);
        }
        other => panic!("{other:?}"),
    }
    pollster::block_on(store.append(batch(100))).unwrap();
}

#[test]
fn a_refusal_says_what_was_wanted() {
    let wire = server();
    let store = store(wire.clone(), LONG);
    wire.set_faults(|_| Fault::Refused);
    match pollster::block_on(store.append(batch(1))) {
        Err(Error::ServerRefused { action, .. }) => assert_eq!(&*action, "append to T/1"),
        other => panic!("{other:?}"),
    }
    wire.set_faults(|_| Fault::NotSent);
    match pollster::block_on(store.append(batch(1))) {
        Err(error @ Error::Unreachable { .. }) => assert_eq!(error.kind(), ErrorKind::Retry),
        other => panic!("{other:?}"),
    }
}

/// The server says nothing of writes, ever: it is not guessed what became of them.
#[test]
fn an_outcome_that_is_never_told_is_unclear() {
    for fault in [Fault::LostRequest, Fault::LostReply] {
        let wire = server();
        let store = store(wire.clone(), Duration::from_millis(1));
        let silent = fault.clone();
        wire.set_faults(move |_| silent.clone());
        let batch = batch(1);
        match pollster::block_on(store.append(batch.clone())) {
            Err(error @ Error::Unclear { .. }) => assert_eq!(error.kind(), ErrorKind::Retry),
            other => panic!("{other:?}"),
        }
        // What it says to do is right in both cases.
        wire.set_faults(|_| Fault::None);
        let receipt = pollster::block_on(store.append(batch)).unwrap();
        let was_there = fault == Fault::LostReply;
        assert_eq!(receipt.outcome == AppendOutcome::AlreadyAppended, was_there);
        assert_eq!(receipt.last_sequence, 1);
    }
}

/// The same statement again and a read at SERIAL settle it, whatever was lost.
#[test]
fn a_lost_answer_is_found_out() {
    for fault in [
        Fault::LostReply,
        Fault::LostRequest,
        Fault::Proposed,
        Fault::Late,
    ] {
        let wire = server();
        let store = store(wire.clone(), LONG);
        let mut first = true;
        wire.set_faults(move |request| {
            let lose = first && matches!(request, Request::Append(_));
            first &= !lose;
            if lose { fault.clone() } else { Fault::None }
        });
        let receipt = pollster::block_on(store.append(batch(1))).unwrap();
        assert_eq!(receipt.outcome, AppendOutcome::Appended);
        wire.deliver_late();
        let appends = wire.take_asked();
        let appends = appends.iter().filter(|r| matches!(r, Request::Append(_)));
        assert_eq!(appends.count(), 2, "the same statement once more");
        let other = store_of_another(&wire);
        let head = pollster::block_on(other.head(&batch(1).stream)).unwrap();
        assert_eq!(head.map(|head| head.sequence), Some(1));
    }
}

/// The server never answers an append: those behind it say so, and were not sent.
#[test]
fn nobody_waits_for_a_turn_for_ever() {
    let wire = server();
    let store = store(wire.clone(), Duration::from_millis(1));
    wire.set_faults(|request| match request {
        Request::Append(_) => Fault::Silence,
        _ => Fault::None,
    });
    let mut first = Box::pin(store.append(batch(1)));
    assert!(first.as_mut().now_or_never().is_none());
    match pollster::block_on(store.append(batch(2))) {
        Err(error @ Error::Unreachable { .. }) => assert_eq!(error.kind(), ErrorKind::Retry),
        other => panic!("{other:?}"),
    }
    let wanted = batch(1);
    let found = store.find_event(&wanted.stream, wanted.events[0].event_id);
    match pollster::block_on(found) {
        Err(Error::Unreachable { action, .. }) => assert_eq!(&*action, "look into T/1"),
        other => panic!("{other:?}"),
    }
    drop(first);
    wire.set_faults(|_| Fault::None);
    let sent = wire.take_asked();
    let sent = sent.iter().filter(|r| matches!(r, Request::Append(_)));
    assert_eq!(sent.count(), 1);
    pollster::block_on(store.append(batch(2))).unwrap();
}

/// A client that knows the first half of a batch as recorded looks again before it says so: another
/// one may have recorded the second half since.
#[test]
fn what_was_recorded_since_may_be_the_rest_of_a_batch() {
    let wire = server();
    let (one, other) = (store(wire.clone(), LONG), store_of_another(&wire));
    let (first, second) = (batch(1), batch(2));
    let mut whole = first.clone();
    whole.expected = ExpectedVersion::Any;
    whole.events.extend(second.events.clone());
    pollster::block_on(one.append(first)).unwrap();
    let behind = AppendBatch {
        expected: ExpectedVersion::Exact(1),
        ..second
    };
    pollster::block_on(other.append(behind)).unwrap();
    let receipt = pollster::block_on(one.append(whole)).unwrap();
    assert_eq!(receipt.outcome, AppendOutcome::AlreadyAppended);
    assert_eq!((receipt.first_sequence, receipt.last_sequence), (1, 2));
}

pub fn store_of_another(wire: &FakeWire) -> Direct<FakeWire> {
    store(wire.another(), LONG)
}
