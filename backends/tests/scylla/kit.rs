//! What tests of the store are written with.

use tidelog_backends::{ScyllaConfig, ScyllaStore};
use tidelog_core::{
    AppendBatch, AppendOutcome, AppendReceipt, Blocking, ContentType, Error, EventEnvelope,
    ExpectedVersion, NewEvent, StreamId, StreamQuery,
};

pub type Store = Blocking<ScyllaStore>;

pub fn connect(config: ScyllaConfig) -> Store {
    ScyllaStore::connect_blocking(config).unwrap()
}

pub fn stream(id: &str) -> StreamId {
    StreamId::new("Test", id).unwrap()
}

pub fn event(text: &str) -> NewEvent {
    NewEvent::new("Noted", 1, ContentType::Bytes, text.as_bytes().to_vec())
}

pub fn events(count: u64) -> Vec<NewEvent> {
    (1..=count).map(|n| event(&format!("event {n}"))).collect()
}

pub fn try_append(
    store: &Store,
    stream: &StreamId,
    expected: ExpectedVersion,
    events: &[NewEvent],
) -> Result<AppendReceipt, Error> {
    store.append(AppendBatch::new(stream.clone(), expected, events.to_vec()))
}

/// Appends what must be new.
pub fn append(store: &Store, stream: &StreamId, events: &[NewEvent]) -> AppendReceipt {
    let receipt = try_append(store, stream, ExpectedVersion::Any, events).unwrap();
    assert_eq!(receipt.outcome, AppendOutcome::Appended);
    receipt
}

pub fn read(store: &Store, query: StreamQuery) -> Vec<EventEnvelope> {
    store.read_stream(query).collect::<Result<_, _>>().unwrap()
}

/// The stream holds these events and no others.
#[track_caller]
pub fn assert_holds(store: &Store, stream: &StreamId, expected: &[NewEvent]) {
    let there = read(store, StreamQuery::new(stream.clone()));
    let ids: Vec<_> = there.iter().map(|event| event.event_id).collect();
    let expected: Vec<_> = expected.iter().map(|event| event.event_id).collect();
    assert_eq!(ids, expected);
    assert!((1..).zip(&there).all(|(n, event)| event.sequence == n));
    let head = store.head(stream).unwrap();
    assert_eq!(
        head.map(|head| (head.sequence, head.event_id)),
        there.last().map(|last| (last.sequence, last.event_id))
    );
}

#[track_caller]
pub fn assert_wrong_version(answer: Result<AppendReceipt, Error>, found: u64) {
    match answer {
        Err(Error::WrongVersion { actual, .. }) => assert_eq!(actual, found),
        other => panic!("expected a wrong version, got {other:?}"),
    }
}
