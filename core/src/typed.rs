//! Typed events in and out of any store.

use std::future::Future;

use bytes::Bytes;

use crate::aggregate::Aggregate;
use crate::append::{AppendBatch, AppendReceipt, ExpectedVersion};
use crate::codec::{self, RecordedEvent};
use crate::command::Context;
use crate::content_type::ContentType;
use crate::envelope::{EventEnvelope, NewEvent};
use crate::error::Error;
use crate::event::Event;
use crate::id::EventId;
use crate::read::StreamQuery;
use crate::snapshot::SnapshotEnvelope;
use crate::store::EventStore;
use crate::stream_id::StreamId;
use crate::upcast::Decoded;

impl NewEvent {
    /// `event` as bytes, with its type, revision and tags; without time and metadata.
    ///
    /// The bytes of a recorded revision must never change: pin them in a test.
    ///
    /// # Errors
    /// [`Error::Codec`] when the event could not be read back the same; it says why.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use tidelog_core::{Event, EventId, NewEvent};
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// enum BankAccountEvent { Opened { owner: String }, Deposited { cents: u64 } }
    /// impl Event for BankAccountEvent {
    ///     fn event_type(&self) -> &'static str {
    ///         match self {
    ///             Self::Opened { .. } => "Opened",
    ///             Self::Deposited { .. } => "Deposited",
    ///         }
    ///     }
    /// }
    ///
    /// let deposited = BankAccountEvent::Deposited { cents: 500 };
    /// let recorded = NewEvent::encode(&deposited, EventId::generate())?;
    /// assert_eq!(&*recorded.event_type, "Deposited");
    /// assert_eq!(&recorded.payload[..], [0xf4, 0x03], "500 as a varint, and nothing else");
    /// # Ok::<(), tidelog_core::Error>(())
    /// ```
    pub fn encode<E: Event>(event: &E, event_id: EventId) -> Result<Self, Error> {
        let (event_type, payload) = codec::encode_event(event)?;
        Ok(Self {
            event_id,
            event_type,
            revision: event.revision(),
            content_type: event.content_type(),
            event_time: None,
            metadata: crate::Metadata::new(),
            tags: event.tags(),
            birth: None,
            payload,
        })
    }
}

impl EventEnvelope<Bytes> {
    /// The same envelope with its event decoded.
    ///
    /// # Errors
    /// [`Error::Codec`], naming stream and sequence; see [`decode_event`](crate::decode_event).
    pub fn decode<E: Event>(self) -> Result<EventEnvelope<E>, Error> {
        let event = self.decode_event()?;
        Ok(self.with_event(event))
    }

    /// The event alone, decoded.
    ///
    /// # Errors
    /// [`Error::Codec`], naming stream and sequence; see [`decode_event`](crate::decode_event).
    pub fn decode_event<E: Event>(&self) -> Result<E, Error> {
        codec::decode_exactly_one(RecordedEvent::from_envelope(self))
            .map_err(|error| error.recorded_at(&self.stream, self.sequence))
    }

    /// The events that this record is read as: usually one, none or several after
    /// [upcasting](crate::Upcasters).
    ///
    /// # Errors
    /// [`Error::Codec`], naming stream and sequence; see [`decode_event`](crate::decode_event).
    pub fn decode_all<E: Event>(&self) -> Result<Decoded<E>, Error> {
        codec::decode_events(RecordedEvent::from_envelope(self))
            .map_err(|error| error.recorded_at(&self.stream, self.sequence))
    }

    /// The events of this record when it is one of an `A`; none when it is of another aggregate
    /// type, or one of the log's own records.
    ///
    /// So whoever follows several aggregates asks for each in turn:
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use tidelog_core::{Aggregate, Error, Event, EventEnvelope};
    /// # #[derive(Clone, Debug, Serialize, Deserialize)] struct Deposited { cents: u64 }
    /// # impl Event for Deposited { fn event_type(&self) -> &'static str { "Deposited" } }
    /// # #[derive(Clone, Serialize, Deserialize)] struct BankAccount { cents: u64 }
    /// # impl Aggregate for BankAccount {
    /// #     const TYPE: &'static str = "BankAccount";
    /// #     type Event = Deposited;
    /// #     type Error = std::convert::Infallible;
    /// #     fn apply(_: Option<Self>, event: &Deposited) -> Result<Self, Self::Error> {
    /// #         Ok(Self { cents: event.cents })
    /// #     }
    /// # }
    /// fn deposited(event: &EventEnvelope) -> Result<u64, Error> {
    ///     let mut cents = 0;
    ///     for fact in event.of::<BankAccount>()? {
    ///         cents += fact.cents;
    ///     }
    ///     Ok(cents)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`decode_all`](Self::decode_all).
    pub fn of<A: Aggregate>(&self) -> Result<Decoded<A::Event>, Error> {
        if self.aggregate_type() != A::TYPE {
            return Ok(Decoded::none());
        }
        self.decode_all()
    }
}

impl EventEnvelope<Bytes> {
    /// Adds one envelope for each event that this record is read as.
    fn decode_into<E: Event>(self, envelopes: &mut Vec<EventEnvelope<E>>) -> Result<(), Error> {
        let mut events = self.decode_all()?.into_iter();
        let last = events.len();
        envelopes.extend(
            (1..last)
                .zip(&mut events)
                .map(|(_, event)| self.clone().with_event(event)),
        );
        envelopes.extend(events.next().map(|event| self.with_event(event)));
        Ok(())
    }
}

impl<A: Aggregate> SnapshotEnvelope<A> {
    /// The same snapshot with its state encoded as postcard.
    ///
    /// # Errors
    /// [`Error::Codec`] when the state could not be read back; the rules are those of
    /// [`Event`] with postcard.
    pub fn encode(&self) -> Result<SnapshotEnvelope<Bytes>, Error> {
        Ok(SnapshotEnvelope {
            stream: self.stream.clone(),
            sequence: self.sequence,
            event_id: self.event_id,
            revision: A::SNAPSHOT_REVISION,
            content_type: ContentType::Postcard,
            taken_time: self.taken_time,
            state: codec::encode_state(&self.state)?,
        })
    }
}

impl SnapshotEnvelope<Bytes> {
    /// The same snapshot with its state decoded.
    ///
    /// # Errors
    /// [`Error::Codec`] when it is of another revision or no such state: replay the events then.
    pub fn decode<A: Aggregate>(self) -> Result<SnapshotEnvelope<A>, Error> {
        let state = codec::decode_state(self.revision, &self.content_type, &self.state)
            .map_err(|error| error.recorded_at(&self.stream, self.sequence))?;
        Ok(SnapshotEnvelope {
            stream: self.stream,
            sequence: self.sequence,
            event_id: self.event_id,
            revision: self.revision,
            content_type: self.content_type,
            taken_time: self.taken_time,
            state,
        })
    }
}

/// Typed events in one call each; every [`EventStore`] has it.
///
/// Reading holds the whole answer in memory. Where a stream may be long, page through
/// [`EventStore::read_stream`] and [decode](EventEnvelope::decode) as you go; to get an aggregate's
/// state, take an [`AggregateRepository`](crate::AggregateRepository).
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidelog_core::{
///     Context, Error, Event, EventStore, ExpectedVersion, StreamId, TypedEventStore,
/// };
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// struct Deposited { cents: u64 }
/// impl Event for Deposited {
///     fn event_type(&self) -> &'static str { "Deposited" }
/// }
///
/// async fn deposit_and_sum(store: &impl EventStore) -> Result<u64, Error> {
///     let account = StreamId::new("BankAccount", "acc-1")?;
///     let context = Context::new().with_actor("till 3");
///     store
///         .persist_events(&account, ExpectedVersion::Any, vec![Deposited { cents: 500 }], &context)
///         .await?;
///     let deposits = store.read_events::<Deposited>(&account).await?;
///     Ok(deposits.iter().map(|envelope| envelope.event.cents).sum())
/// }
/// ```
pub trait TypedEventStore: EventStore {
    /// All events of `stream`, oldest first, in memory at once: one envelope an event, so a record
    /// that is read as several gives several envelopes of the same sequence, and one that is read as
    /// none gives none.
    ///
    /// # Errors
    /// What reading met, or [`Error::Codec`] for the first event that is no `E`.
    fn read_events<E: Event>(
        &self,
        stream: &StreamId,
    ) -> impl Future<Output = Result<Vec<EventEnvelope<E>>, Error>> + Send {
        self.read_events_from(stream, 1)
    }

    /// The events of `stream` from `sequence` on, oldest first, in memory at once.
    ///
    /// # Errors
    /// As [`read_events`](TypedEventStore::read_events).
    fn read_events_from<E: Event>(
        &self,
        stream: &StreamId,
        sequence: u64,
    ) -> impl Future<Output = Result<Vec<EventEnvelope<E>>, Error>> + Send {
        let mut pages = self.read_stream(StreamQuery::new(stream.clone()).from(sequence));
        async move {
            let mut events = Vec::new();
            while let Some(page) = pages.next_page().await {
                for envelope in page? {
                    envelope.decode_into(&mut events)?;
                }
            }
            Ok(events)
        }
    }

    /// Records `events` with the ids, time and metadata of `context`.
    ///
    /// The event ids follow from the context (from its command id, if it has one) and the place in
    /// `events`. So calling again with the same context and events is a retry and records nothing
    /// twice, and two calls with different events need two contexts.
    ///
    /// # Errors
    /// [`Error::Codec`], or what [`EventStore::append`] returns.
    fn persist_events<E: Event>(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: Vec<E>,
        context: &Context,
    ) -> impl Future<Output = Result<AppendReceipt, Error>> + Send {
        let batch = encode_all(&events, context)
            .map(|events| AppendBatch::new(stream.clone(), expected, events));
        async move { self.append(batch?).await }
    }

    /// Records events that are encoded already; their ids, times and metadata are their own.
    ///
    /// # Errors
    /// What [`EventStore::append`] returns.
    fn persist_encoded(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: Vec<NewEvent>,
    ) -> impl Future<Output = Result<AppendReceipt, Error>> + Send {
        self.append(AppendBatch::new(stream.clone(), expected, events))
    }
}

impl<S: EventStore> TypedEventStore for S {}

/// `events` as bytes, with ids, time and metadata of `context`.
pub(crate) fn encode_all<E: Event>(
    events: &[E],
    context: &Context,
) -> Result<Vec<NewEvent>, Error> {
    let mut encoded = Vec::with_capacity(events.len());
    for (index, event) in (0..).zip(events) {
        let event = NewEvent::encode(event, context.event_id(index))?
            .with_event_time(context.event_time())
            .with_metadata(context.metadata().clone());
        encoded.push(event);
    }
    Ok(encoded)
}
