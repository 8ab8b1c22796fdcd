//! Exactly once: a listener whose effects and progress stand in one transaction.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::envelope::EventEnvelope;
use crate::failure::HandlerError;
use crate::id::EventId;
use crate::listener::EventListener;
use crate::stream_id::StreamId;
use crate::superseded::Superseded;

/// Where a listener keeps, in one transaction with its effects, the last event that it applied of
/// each stream.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Mutex;
/// use tidelog_core::{Applied, EventEnvelope, HandlerError, InOrder, Ledger, StreamId};
///
/// /// A table of totals; a database would do both changes in one transaction.
/// #[derive(Default)]
/// struct Totals(Mutex<(BTreeMap<StreamId, Applied>, usize)>);
///
/// impl Ledger for Totals {
///     async fn last(&self, stream: &StreamId) -> Result<Option<Applied>, HandlerError> {
///         Ok(self.0.lock().unwrap().0.get(stream).copied())
///     }
///
///     async fn apply(&self, event: &EventEnvelope, _: Option<Applied>) -> Result<(), HandlerError> {
///         let mut tables = self.0.lock().unwrap();
///         tables.0.insert(event.stream.clone(), Applied::of(event));
///         tables.1 += event.event.len();
///         Ok(())
///     }
/// }
///
/// let listener = InOrder::new(Totals::default()); // takes every event once, in order
/// # let _ = listener;
/// ```
pub trait Ledger: Send + Sync + 'static {
    /// The last event of `stream` that was applied.
    ///
    /// # Errors
    /// What keeps it from being known; it is tried again.
    fn last(
        &self,
        stream: &StreamId,
    ) -> impl Future<Output = Result<Option<Applied>, HandlerError>> + Send;

    /// Does what `event` asks for and notes it as its stream's last, both or neither, provided that
    /// the last one still is `after`: the same event may be under way at another member of a group.
    ///
    /// # Errors
    /// What kept it from being done, also that another one was applied meanwhile.
    fn apply(
        &self,
        event: &EventEnvelope,
        after: Option<Applied>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;

    /// Whether events of this kind are asked for at all; what is not wanted leaves a gap, so a whole
    /// stream is wanted or none of it.
    fn wants(&self, event: &EventEnvelope) -> bool {
        let _ = event;
        true
    }

    /// Events of a stream gave way to others, from `what.from` on: takes back what was applied of
    /// them, so that [`last`](Self::last) answers below that. A ledger that does nothing makes the
    /// listener stand still when it has applied some of them.
    ///
    /// # Errors
    /// What kept it from being done.
    fn superseded(
        &self,
        what: &Superseded,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        let _ = what;
        async { Ok(()) }
    }
}

/// An event that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Applied {
    /// Its place in its stream.
    pub sequence: u64,
    /// Its identity.
    pub event_id: EventId,
}

impl Applied {
    /// That `event` was.
    pub fn of(event: &EventEnvelope) -> Self {
        Self {
            sequence: event.sequence,
            event_id: event.event_id,
        }
    }
}

/// Gives a [`Ledger`] each event of a stream once, and in order, although they come at least once.
///
/// | the event is | what happens |
/// |---|---|
/// | the one after the last applied | it is applied |
/// | one before, or the last one again | it is dropped, and counted |
/// | another one at the last one's sequence | a permanent failure: the stream has two writers |
/// | further on | [`HandlerError::gap`]: a container that can hold it waits for what is missing |
///
/// Events of other systems have no sequence; they come by their place in Kafka, which only grows while
/// their topic is not made anew and keeps its partitions: one that is further on is applied whatever
/// lies between, any other is dropped.
///
/// Cloning shares it, so that it can be asked while a container has it.
pub struct InOrder<L>(Arc<Shared<L>>);

struct Shared<L> {
    ledger: L,
    dropped: AtomicU64,
    /// Up to which sequence a person goes on without what is missing.
    accepted: Mutex<HashMap<StreamId, u64>>,
}

impl<L> InOrder<L> {
    /// Over `ledger`.
    pub fn new(ledger: L) -> Self {
        Self(Arc::new(Shared {
            ledger,
            dropped: AtomicU64::new(0),
            accepted: Mutex::default(),
        }))
    }

    /// The ledger.
    pub fn ledger(&self) -> &L {
        &self.0.ledger
    }

    /// How many events were dropped because they had been applied before.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Goes on with `stream` without what is missing of it up to sequence `to`: for events that are
    /// lost for good. It holds until an event behind that is applied, or the process ends.
    pub fn accept_gap(&self, stream: StreamId, to: u64) {
        self.0.accepted.lock().insert(stream, to);
    }

    fn accepts(&self, event: &EventEnvelope) -> bool {
        let accepted = self.0.accepted.lock();
        let to = accepted.get(&event.stream);
        to.is_some_and(|to| event.sequence <= to.saturating_add(1))
    }

    fn forget_accepted(&self, event: &EventEnvelope) {
        let mut accepted = self.0.accepted.lock();
        if accepted
            .get(&event.stream)
            .is_some_and(|to| event.sequence > *to)
        {
            accepted.remove(&event.stream);
        }
    }
}

impl<L: Ledger> EventListener for InOrder<L> {
    async fn on(&self, event: &EventEnvelope) -> Result<(), HandlerError> {
        let last = self.0.ledger.last(&event.stream).await?;
        let applied = last.map_or(0, |last| last.sequence);
        if event.sequence <= applied {
            // Of events of others the place alone tells.
            if let Some(last) = last
                && event.sequence == last.sequence
                && event.event_id != last.event_id
                && !is_foreign(event)
            {
                return Err(HandlerError::permanent(format!(
                    "sequence {applied} of {} came as event {}, and was applied as event {}: the stream \
                     has two writers; which of them counts is for a person to say",
                    event.stream, event.event_id, last.event_id
                )));
            }
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        if event.sequence > applied + 1 && !is_foreign(event) && !self.accepts(event) {
            return Err(HandlerError::gap(applied + 1, event.sequence));
        }
        self.0.ledger.apply(event, last).await?;
        self.forget_accepted(event);
        Ok(())
    }

    fn wants(&self, event: &EventEnvelope) -> bool {
        self.0.ledger.wants(event)
    }

    async fn superseded(&self, what: &Superseded) -> Result<(), HandlerError> {
        self.0.ledger.superseded(what).await?;
        let last = self.0.ledger.last(&what.stream).await?;
        match last {
            Some(last) if last.sequence >= what.from => Err(HandlerError::permanent(format!(
                "events of {} from sequence {} on gave way to others, and the ledger has applied up to \
                 {}: take that back in `Ledger::superseded`",
                what.stream, what.from, last.sequence
            ))),
            _ => Ok(()),
        }
    }
}

/// Of another system: in no log, and born in none.
fn is_foreign(event: &EventEnvelope) -> bool {
    event.birth.is_none() && event.position.is_none()
}

impl<L> Clone for InOrder<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<L: fmt::Debug> fmt::Debug for InOrder<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InOrder")
            .field("ledger", &self.0.ledger)
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::clock::Timestamp;
    use crate::content_type::ContentType;
    use crate::envelope::{Batch, Birth, RecordKind};
    use crate::metadata::{Metadata, Tags};

    #[derive(Default)]
    struct Book(Mutex<BTreeMap<StreamId, Vec<Applied>>>);

    impl Ledger for Book {
        async fn last(&self, stream: &StreamId) -> Result<Option<Applied>, HandlerError> {
            Ok(self.of(stream).last().copied())
        }

        async fn apply(
            &self,
            event: &EventEnvelope,
            after: Option<Applied>,
        ) -> Result<(), HandlerError> {
            assert_eq!(self.of(&event.stream).last().copied(), after);
            let mut book = self.0.lock();
            let applied = book.entry(event.stream.clone()).or_default();
            applied.push(Applied::of(event));
            Ok(())
        }
    }

    impl Book {
        fn of(&self, stream: &StreamId) -> Vec<Applied> {
            self.0.lock().get(stream).cloned().unwrap_or_default()
        }
    }

    fn event(stream: &str, sequence: u64, id: u128) -> EventEnvelope {
        let born = Birth {
            origin: Uuid::from_u128(1),
            epoch: Uuid::from_u128(2),
            position: sequence,
            recorded_time: Timestamp::from_micros(0),
        };
        EventEnvelope {
            event_id: EventId::from_uuid(Uuid::from_u128(id)),
            stream: stream.parse().unwrap(),
            sequence,
            position: None,
            birth: Some(Arc::new(born)),
            kind: RecordKind::Event,
            event_type: "E".into(),
            revision: 1,
            content_type: ContentType::Bytes,
            event_time: Timestamp::from_micros(0),
            recorded_time: Timestamp::from_micros(0),
            metadata: Metadata::new(),
            tags: Tags::none(),
            batch: Batch { first: 1, count: 1 },
            event: Bytes::new(),
        }
    }

    fn foreign(stream: &str, offset: u64) -> EventEnvelope {
        let mut event = event(stream, offset + 1, 1_000 + u128::from(offset));
        event.birth = None;
        event
    }

    fn on(listener: &InOrder<Book>, event: &EventEnvelope) -> Result<(), HandlerError> {
        pollster::block_on(listener.on(event))
    }

    fn sequences(listener: &InOrder<Book>, stream: &str) -> Vec<u64> {
        let applied = listener.ledger().of(&stream.parse().unwrap());
        applied.iter().map(|applied| applied.sequence).collect()
    }

    proptest! {
        /// Against the plainest model: a stream's events are applied as the numbers 1, 2, 3 … come.
        #[test]
        fn every_event_is_applied_once_and_in_order_however_they_come(
            arrivals in prop::collection::vec((0_usize..3, 1_u64..8, prop::bool::weighted(0.1)), 0..120),
        ) {
            let streams = ["T/a", "T/b", "U/a"];
            let listener = InOrder::new(Book::default());
            let mut model = [0_u64; 3];
            let mut dropped = 0;
            for (which, sequence, is_other) in arrivals {
                let id = u128::from(sequence) + if is_other { 100 } else { 0 };
                let last = model[which];
                // The first that comes at a sequence is the one that counts.
                let applied = listener.ledger().of(&streams[which].parse().unwrap());
                let met = applied.iter().find(|met| met.sequence == sequence).copied();
                let answer = on(&listener, &event(streams[which], sequence, id));
                if sequence == last + 1 {
                    prop_assert!(answer.is_ok());
                    model[which] += 1;
                } else if sequence > last + 1 {
                    let gap = answer.unwrap_err().sequence_gap().unwrap();
                    prop_assert_eq!((gap.expected, gap.found), (last + 1, sequence));
                } else if sequence == last && met.unwrap().event_id != EventId::from_uuid(Uuid::from_u128(id)) {
                    prop_assert!(answer.unwrap_err().is_permanent());
                } else {
                    prop_assert!(answer.is_ok());
                    dropped += 1;
                }
            }
            for (which, stream) in streams.iter().enumerate() {
                prop_assert_eq!(sequences(&listener, stream), (1..=model[which]).collect::<Vec<_>>());
            }
            prop_assert_eq!(listener.dropped(), dropped);
        }
    }

    #[test]
    fn a_second_writer_is_met_and_named() {
        let listener = InOrder::new(Book::default());
        on(&listener, &event("T/a", 1, 7)).unwrap();
        let refused = on(&listener, &event("T/a", 1, 8)).unwrap_err();
        assert!(refused.is_permanent());
        assert!(refused.to_string().contains("two writers"), "{refused}");
        assert_eq!(sequences(&listener, "T/a"), [1]);
    }

    #[test]
    fn a_gap_that_was_accepted_is_passed_and_the_next_one_is_not() {
        let listener = InOrder::new(Book::default());
        on(&listener, &event("T/a", 1, 1)).unwrap();
        assert!(on(&listener, &event("T/a", 4, 4)).is_err());
        listener.clone().accept_gap("T/a".parse().unwrap(), 3);
        assert!(on(&listener, &event("T/a", 5, 5)).is_err());
        on(&listener, &event("T/a", 4, 4)).unwrap();
        assert_eq!(sequences(&listener, "T/a"), [1, 4]);
        assert!(on(&listener, &event("T/a", 6, 6)).is_err());
    }

    #[test]
    fn events_of_others_go_by_their_place() {
        let listener = InOrder::new(Book::default());
        for offset in [4, 9, 9, 4, 12] {
            on(&listener, &foreign("cloudevents/k", offset)).unwrap();
        }
        assert_eq!(sequences(&listener, "cloudevents/k"), [5, 10, 13]);
        assert_eq!(listener.dropped(), 2);
    }
}
