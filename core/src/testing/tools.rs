//! What the laws are written with.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::append::{AppendBatch, AppendOutcome, AppendReceipt, ExpectedVersion};
use crate::content_type::ContentType;
use crate::envelope::{EventEnvelope, NewEvent};
use crate::error::Error;
use crate::read::{BlockingEventStream, LogQuery, StreamQuery};
use crate::store::{EventLog, EventStore};
use crate::stream_id::StreamId;

/// How long anything is waited for before the test counts as hung. Nothing is measured by it.
#[allow(
    clippy::duration_suboptimal_units,
    reason = "`from_mins` is younger than our oldest Rust"
)]
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// The output of `future`, on the calling thread.
pub(super) fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "a call did not finish in {PATIENCE:?}");
        std::thread::park_timeout(left);
    }
}

/// Polls `future` once with a waker that does nothing.
pub(super) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

pub(super) fn stream(id: &str) -> StreamId {
    StreamId::new("Test", id).unwrap()
}

/// An event whose payload is `text`.
pub(super) fn event(text: &str) -> NewEvent {
    let payload = text.as_bytes().to_vec();
    NewEvent::new("Noted", 1, ContentType::Bytes, payload)
}

/// `count` events with different payloads.
pub(super) fn events(count: usize) -> Vec<NewEvent> {
    (1..=count).map(|n| event(&format!("event {n}"))).collect()
}

pub(super) fn batch(
    stream: &StreamId,
    expected: ExpectedVersion,
    events: &[NewEvent],
) -> AppendBatch {
    AppendBatch::new(stream.clone(), expected, events.to_vec())
}

pub(super) fn try_append(
    store: &impl EventStore,
    stream: &StreamId,
    expected: ExpectedVersion,
    events: &[NewEvent],
) -> Result<AppendReceipt, Error> {
    wait(store.append(batch(stream, expected, events)))
}

/// Appends whatever the version; it must be new.
pub(super) fn append(
    store: &impl EventStore,
    stream: &StreamId,
    events: &[NewEvent],
) -> AppendReceipt {
    let receipt = try_append(store, stream, ExpectedVersion::Any, events).unwrap();
    assert_eq!(receipt.outcome, AppendOutcome::Appended);
    receipt
}

pub(super) fn read(store: &impl EventStore, stream: &StreamId) -> Vec<EventEnvelope> {
    read_query(store, StreamQuery::new(stream.clone()))
}

pub(super) fn read_query(store: &impl EventStore, query: StreamQuery) -> Vec<EventEnvelope> {
    wait(store.read_stream(query).collect()).unwrap()
}

pub(super) fn read_log(store: &impl EventLog, query: LogQuery) -> Vec<EventEnvelope> {
    wait(store.read_all(query).collect()).unwrap()
}

pub(super) fn head_sequence(store: &impl EventStore, stream: &StreamId) -> u64 {
    wait(store.head(stream))
        .unwrap()
        .map_or(0, |head| head.sequence)
}

pub(super) fn sequences(envelopes: &[EventEnvelope]) -> Vec<u64> {
    envelopes.iter().map(|e| e.sequence).collect()
}

pub(super) fn positions(envelopes: &[EventEnvelope]) -> Vec<u64> {
    envelopes.iter().map(|e| e.position.unwrap()).collect()
}

/// `from`, `from + 1`, … up to `to`.
pub(super) fn dense(from: u64, to: u64) -> Vec<u64> {
    (from..=to).collect()
}

/// The stream's events are these, whole and in order, at sequences dense from 1.
#[track_caller]
pub(super) fn assert_holds(store: &impl EventStore, stream: &StreamId, expected: &[NewEvent]) {
    let there = read(store, stream);
    assert_eq!(sequences(&there), dense(1, expected.len() as u64));
    for (envelope, event) in there.iter().zip(expected) {
        assert_eq!(envelope.event_id, event.event_id);
        assert!(
            envelope.same_content(event),
            "{envelope:?} is not {event:?}"
        );
    }
    let head = wait(store.head(stream)).unwrap();
    assert_eq!(
        head.map(|head| (head.sequence, head.event_id)),
        there.last().map(|last| (last.sequence, last.event_id))
    );
}

/// The next `count` envelopes of a stream that does not end.
#[track_caller]
pub(super) fn take(subscription: &mut BlockingEventStream, count: usize) -> Vec<EventEnvelope> {
    let mut taken = Vec::with_capacity(count);
    while taken.len() < count {
        let next = subscription.next_timeout(PATIENCE).unwrap();
        let at = taken.len();
        taken.push(next.unwrap_or_else(|| panic!("nothing came after {at} of {count}")));
    }
    taken
}

#[track_caller]
pub(super) fn assert_wrong_version(
    result: Result<AppendReceipt, Error>,
    stream: &StreamId,
    expected: ExpectedVersion,
    actual: u64,
) {
    match result {
        Err(Error::WrongVersion {
            stream: of,
            expected: asked,
            actual: found,
        }) => assert_eq!((&of, asked, found), (stream, expected, actual)),
        other => panic!("expected a wrong version, got {other:?}"),
    }
}

#[track_caller]
pub(super) fn assert_id_conflict<T: std::fmt::Debug>(
    result: Result<T, Error>,
    stream: &StreamId,
    clashing: &[NewEvent],
) {
    match result {
        Err(Error::IdConflict {
            stream: of,
            event_id,
            ..
        }) => {
            assert_eq!(&of, stream);
            assert!(clashing.iter().any(|event| event.event_id == event_id));
        }
        other => panic!("expected an id conflict, got {other:?}"),
    }
}

#[track_caller]
pub(super) fn assert_too_large<T: std::fmt::Debug>(
    result: Result<T, Error>,
    size: usize,
    limit: usize,
) {
    match result {
        Err(Error::TooLarge {
            size: found,
            limit: set,
            ..
        }) => assert_eq!((found, set), (size as u64, limit as u64)),
        other => panic!("expected a size over its limit, got {other:?}"),
    }
}

#[track_caller]
pub(super) fn assert_invalid<T: std::fmt::Debug>(result: Result<T, Error>) {
    match result {
        Err(Error::InvalidInput { .. }) => {}
        other => panic!("expected invalid input, got {other:?}"),
    }
}

#[track_caller]
pub(super) fn assert_closed<T: std::fmt::Debug>(result: Result<T, Error>) {
    match result {
        Err(Error::Closed) => {}
        other => panic!("expected a closed store, got {other:?}"),
    }
}

/// A retry's answer: the first receipt, word for word, but for the outcome.
#[track_caller]
pub(super) fn assert_first_receipt(retry: &AppendReceipt, first: &AppendReceipt) {
    let expected = AppendReceipt {
        outcome: AppendOutcome::AlreadyAppended,
        ..first.clone()
    };
    assert_eq!(*retry, expected);
}
