//! Events before and after they are recorded.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::content_type::ContentType;
use crate::id::EventId;
use crate::metadata::{Metadata, Tags};
use crate::stream_id::StreamId;

/// An event that is to be recorded: its bytes and what travels with them.
///
/// The id is made here, once, so that appending a clone of this value again is recognized as a
/// retry.
///
/// ```
/// use tidelog_core::{ContentType, NewEvent, Timestamp};
/// let event = NewEvent::new("Deposited", 1, ContentType::Json, br#"{"cents":500}"#.to_vec())
///     .with_event_time(Timestamp::from_micros(852_076_800_000_000));
/// assert_eq!(event.payload.len(), 13);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// Its identity; see [`EventId`].
    pub event_id: EventId,
    /// The event type, `Deposited`: 1 to 128 bytes without control characters.
    pub event_type: Arc<str>,
    /// Schema revision of the event type, from 1.
    pub revision: u32,
    /// How the payload is encoded.
    pub content_type: ContentType,
    /// When it happened, by the caller's account; `None` means when it is recorded.
    pub event_time: Option<Timestamp>,
    /// Texts that travel with it.
    pub metadata: Metadata,
    /// What it can be selected by across streams.
    pub tags: Tags,
    /// Where it was recorded first, when that was in another log or before an export; the record is
    /// then [adopted](RecordKind::Adopted).
    pub birth: Option<Arc<Birth>>,
    /// The encoded event.
    pub payload: Bytes,
}

/// Where an adopted event was recorded first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Birth {
    /// The store that recorded it.
    pub origin: Uuid,
    /// The epoch that this store was in.
    pub epoch: Uuid,
    /// Its position there.
    pub position: u64,
    /// When it was recorded there.
    pub recorded_time: Timestamp,
}

impl NewEvent {
    /// Most bytes of an event type.
    pub const MAX_TYPE_BYTES: usize = 128;

    /// An event with a generated id, no time of its own, no metadata and no tags.
    pub fn new(
        event_type: impl Into<Arc<str>>,
        revision: u32,
        content_type: ContentType,
        payload: impl Into<Bytes>,
    ) -> Self {
        Self {
            event_id: EventId::generate(),
            event_type: event_type.into(),
            revision,
            content_type,
            event_time: None,
            metadata: Metadata::new(),
            tags: Tags::none(),
            birth: None,
            payload: payload.into(),
        }
    }

    /// The same with a chosen id.
    pub fn with_id(mut self, event_id: EventId) -> Self {
        self.event_id = event_id;
        self
    }

    /// The same with the caller's time of the event.
    pub fn with_event_time(mut self, time: Timestamp) -> Self {
        self.event_time = Some(time);
        self
    }

    /// The same with this metadata.
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// The same with these tags.
    pub fn with_tags(mut self, tags: Tags) -> Self {
        self.tags = tags;
        self
    }

    /// The same as an event that was recorded before, there.
    pub fn with_birth(mut self, birth: Birth) -> Self {
        self.birth = Some(Arc::new(birth));
        self
    }
}

/// What a record of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordKind {
    /// An event recorded here.
    Event,
    /// An event recorded elsewhere first and taken into this log; it keeps its id, and says where
    /// that was by its [`Birth`].
    Adopted,
    /// A typed record of the library itself. It has a position but belongs to no aggregate: its
    /// stream is reserved (begins with `$`) and its sequence is 0.
    Control,
}

/// What one append wrote, all or nothing; kept with each of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    /// The place of its first event: a position, or a sequence where the backend has no positions.
    pub first: u64,
    /// How many events it holds, over all its streams.
    pub count: u32,
}

/// A recorded event with all that is known of it.
///
/// `EventEnvelope<Bytes>`, the default, carries the bytes as they were appended;
/// `EventEnvelope<E>` carries the decoded event.
///
/// ```
/// use tidelog_core::EventEnvelope;
///
/// fn describe<E: std::fmt::Debug>(envelope: &EventEnvelope<E>) -> String {
///     format!("{} {}: {:?} at {}", envelope.stream, envelope.sequence, envelope.event, envelope.event_time)
/// }
/// ```
///
/// The bytes may be a slice of a larger read; keeping one small envelope for long can keep that
/// whole page (at most a few hundred KiB) alive. Decode, or copy the payload, to let go of it.
#[derive(Clone, Debug, PartialEq)]
pub struct EventEnvelope<E = Bytes> {
    /// Its identity.
    pub event_id: EventId,
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Its place in that stream, dense from 1; 0 for control records.
    pub sequence: u64,
    /// Its place in the whole log, dense; `None` from a backend without a global order.
    pub position: Option<u64>,
    /// Where it was recorded first, of an [adopted](RecordKind::Adopted) event; `None` of one that
    /// was recorded here.
    pub birth: Option<Arc<Birth>>,
    /// What kind of record it is.
    pub kind: RecordKind,
    /// The event type.
    pub event_type: Arc<str>,
    /// Schema revision of the event type.
    pub revision: u32,
    /// How the payload is encoded.
    pub content_type: ContentType,
    /// When it happened, by the caller's account.
    pub event_time: Timestamp,
    /// When the store recorded it; never goes back along the log.
    pub recorded_time: Timestamp,
    /// Texts that travel with it.
    pub metadata: Metadata,
    /// What it can be selected by across streams.
    pub tags: Tags,
    /// The append that wrote it.
    pub batch: Batch,
    /// The event: bytes, or decoded.
    pub event: E,
}

impl<E> EventEnvelope<E> {
    /// The aggregate id, `acc-1`.
    pub fn aggregate_id(&self) -> &str {
        self.stream.aggregate_id()
    }

    /// The aggregate type, `BankAccount`.
    pub fn aggregate_type(&self) -> &str {
        self.stream.aggregate_type()
    }

    /// Its position in the log where it was recorded first; differs from
    /// [`position`](Self::position) for adopted events.
    pub fn origin_position(&self) -> Option<u64> {
        let birth = self.birth.as_ref().map(|birth| birth.position);
        birth.or(self.position)
    }

    /// The same envelope around what `decode` makes of its event.
    ///
    /// # Errors
    /// Whatever `decode` returns.
    pub fn try_map<T, X>(
        self,
        decode: impl FnOnce(&E) -> Result<T, X>,
    ) -> Result<EventEnvelope<T>, X> {
        let event = decode(&self.event)?;
        Ok(self.with_event(event))
    }

    pub(crate) fn with_event<T>(self, event: T) -> EventEnvelope<T> {
        EventEnvelope {
            event_id: self.event_id,
            stream: self.stream,
            sequence: self.sequence,
            position: self.position,
            birth: self.birth,
            kind: self.kind,
            event_type: self.event_type,
            revision: self.revision,
            content_type: self.content_type,
            event_time: self.event_time,
            recorded_time: self.recorded_time,
            metadata: self.metadata,
            tags: self.tags,
            batch: self.batch,
            event,
        }
    }
}

impl EventEnvelope<Bytes> {
    /// Whether `event` says the same as this record: type, revision, content type, tags and
    /// payload. Times, metadata and birth may differ between an append and its retry.
    pub fn same_content(&self, event: &NewEvent) -> bool {
        self.event_type == event.event_type
            && self.revision == event.revision
            && self.content_type == event.content_type
            && self.tags == event.tags
            && self.event == event.payload
    }
}
