//! The user's own coding of payload bytes: encryption, compression.

use std::fmt;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use bytes::Bytes;

use crate::append::{AppendBatch, AppendReceipt};
use crate::content_type::ContentType;
use crate::envelope::{EventEnvelope, NewEvent, RecordKind};
use crate::error::Error;
use crate::id::EventId;
use crate::limits::Limits;
use crate::metadata::Metadata;
use crate::read::{EventStream, LogQuery, PageSource, StreamQuery, Subscribe};
use crate::snapshot::{PersistOutcome, SnapshotEnvelope, SnapshotStore};
use crate::store::{EventLog, EventStore, LogIdentity, MultiStreamStore, StreamHead};
use crate::stream_id::StreamId;

/// Changes payload bytes on their way into a store and back: an option of the embedded store, and of
/// any other by [`WithCodec`].
///
/// An event's own fields become bytes by its content type (postcard, JSON); those bytes pass through
/// this codec. `decode` must undo `encode` for ever, so what it needs to know beside the key (a version, a
/// nonce) belongs in the bytes. Both are called on the path of appends and reads and must not
/// block. What [`PayloadContext`] says is the same both times: it may be bound to the ciphertext.
///
/// The same event should become the same bytes: a store recognizes a retry by id *and* content,
/// so one that comes back with other bytes is [`Error::IdConflict`] instead of a success.
pub trait PayloadCodec: Send + Sync + 'static {
    /// What is stored for `payload`.
    ///
    /// # Errors
    /// Any; nothing is recorded then.
    fn encode(
        &self,
        payload: Bytes,
        about: &PayloadContext<'_>,
    ) -> Result<Bytes, PayloadCodecError>;

    /// The payload that `stored` was made from.
    ///
    /// # Errors
    /// Any; the read ends with it.
    fn decode(&self, stored: Bytes, about: &PayloadContext<'_>)
    -> Result<Bytes, PayloadCodecError>;
}

/// Why a payload could not be coded; becomes the reason of an [`Error::Codec`].
pub type PayloadCodecError = Box<dyn std::error::Error + Send + Sync>;

/// What the payload belongs to.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PayloadContext<'a> {
    /// Whether it is an event's or a snapshot's.
    pub kind: PayloadKind,
    /// The stream.
    pub stream: &'a StreamId,
    /// The event's id; a snapshot's is that of the last event in it.
    pub event_id: EventId,
    /// The event type; a snapshot's is the aggregate type.
    pub type_name: &'a str,
    /// Revision of the event type or of the snapshot.
    pub revision: u32,
    /// What the payload is before it is encoded and after it is decoded.
    pub content_type: &'a ContentType,
    /// The event's metadata; empty for a snapshot.
    pub metadata: &'a Metadata,
}

/// What kind of payload it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PayloadKind {
    /// An event.
    Event,
    /// The state in a snapshot.
    Snapshot,
}

/// A store whose payloads pass through a [`PayloadCodec`]; all else is the store's own.
///
/// It is a store again, for repositories, typed reads, subscriptions and snapshots alike. The
/// limits of the store below count encoded bytes. Types, metadata and tags are stored as they
/// are.
///
/// ```
/// use std::sync::Arc;
/// use bytes::Bytes;
/// use tidelog_core::{EventStore, PayloadContext, PayloadCodec, PayloadCodecError, WithCodec};
///
/// /// A toy: hides payloads from nobody.
/// struct Xor(u8);
///
/// impl PayloadCodec for Xor {
///     fn encode(&self, payload: Bytes, _: &PayloadContext<'_>) -> Result<Bytes, PayloadCodecError> {
///         Ok(payload.iter().map(|byte| byte ^ self.0).collect())
///     }
///     fn decode(&self, stored: Bytes, about: &PayloadContext<'_>) -> Result<Bytes, PayloadCodecError> {
///         self.encode(stored, about)
///     }
/// }
///
/// fn hidden<S: EventStore>(store: S) -> WithCodec<S> {
///     WithCodec::new(store, Arc::new(Xor(0x5a)))
/// }
/// ```
#[derive(Clone)]
pub struct WithCodec<S> {
    store: S,
    codec: Arc<dyn PayloadCodec>,
}

impl<S> WithCodec<S> {
    /// `store` with every payload passed through `codec`.
    pub fn new(store: S, codec: Arc<dyn PayloadCodec>) -> Self {
        Self { store, codec }
    }

    /// The store below, with payloads as they are stored.
    pub fn inner(&self) -> &S {
        &self.store
    }
}

/// For stores that have a codec as an option: everything that goes in or comes out passes here.
impl dyn PayloadCodec {
    /// The batch as it is stored.
    ///
    /// # Errors
    /// [`Error::Codec`] with what [`encode`](PayloadCodec::encode) says.
    pub fn encode_batch(&self, mut batch: AppendBatch) -> Result<AppendBatch, Error> {
        for event in &mut batch.events {
            let payload = std::mem::take(&mut event.payload);
            let about = about_new(&batch.stream, event);
            let stored = self.encode(payload, &about);
            event.payload = stored.map_err(|error| about.error("encoding an event", &error))?;
        }
        Ok(batch)
    }

    /// The event as it was appended.
    ///
    /// # Errors
    /// [`Error::Codec`] with what [`decode`](PayloadCodec::decode) says.
    pub fn decode_event(&self, mut envelope: EventEnvelope) -> Result<EventEnvelope, Error> {
        // The library's own records were never encoded.
        if envelope.kind == RecordKind::Control {
            return Ok(envelope);
        }
        let stored = std::mem::take(&mut envelope.event);
        let about = PayloadContext {
            kind: PayloadKind::Event,
            stream: &envelope.stream,
            event_id: envelope.event_id,
            type_name: &envelope.event_type,
            revision: envelope.revision,
            content_type: &envelope.content_type,
            metadata: &envelope.metadata,
        };
        let payload = self.decode(stored, &about);
        envelope.event = payload.map_err(|error| {
            let error = about.error("decoding an event", &error);
            error.recorded_at(&envelope.stream, envelope.sequence)
        })?;
        Ok(envelope)
    }

    /// The events of `stored` as they were appended; an error ends its page.
    pub fn decode_stream(self: Arc<Self>, stored: EventStream) -> EventStream {
        EventStream::new(Decoding {
            inner: stored,
            codec: self,
        })
    }

    /// The snapshot as it is stored.
    ///
    /// # Errors
    /// [`Error::Codec`] with what [`encode`](PayloadCodec::encode) says.
    pub fn encode_snapshot(
        &self,
        mut snapshot: SnapshotEnvelope,
    ) -> Result<SnapshotEnvelope, Error> {
        let payload = std::mem::take(&mut snapshot.state);
        let about = about_snapshot(&snapshot);
        let stored = self.encode(payload, &about);
        snapshot.state = stored.map_err(|error| about.error("encoding a snapshot", &error))?;
        Ok(snapshot)
    }

    /// The snapshot as it was taken.
    ///
    /// # Errors
    /// [`Error::Codec`] with what [`decode`](PayloadCodec::decode) says.
    pub fn decode_snapshot(
        &self,
        mut snapshot: SnapshotEnvelope,
    ) -> Result<SnapshotEnvelope, Error> {
        let stored = std::mem::take(&mut snapshot.state);
        let about = about_snapshot(&snapshot);
        let state = self.decode(stored, &about);
        snapshot.state = state.map_err(|error| {
            let error = about.error("decoding a snapshot", &error);
            error.recorded_at(&snapshot.stream, snapshot.sequence)
        })?;
        Ok(snapshot)
    }
}

impl<S: fmt::Debug> fmt::Debug for WithCodec<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WithCodec").field(&self.store).finish()
    }
}

impl PayloadContext<'_> {
    fn error(&self, what: &'static str, reason: &PayloadCodecError) -> Error {
        Error::Codec {
            what,
            type_name: self.type_name.into(),
            revision: self.revision,
            recorded: None,
            reason: reason.to_string().into(),
        }
    }
}

fn about_new<'a>(stream: &'a StreamId, event: &'a NewEvent) -> PayloadContext<'a> {
    PayloadContext {
        kind: PayloadKind::Event,
        stream,
        event_id: event.event_id,
        type_name: &event.event_type,
        revision: event.revision,
        content_type: &event.content_type,
        metadata: &event.metadata,
    }
}

static NO_METADATA: Metadata = Metadata::new();

fn about_snapshot(snapshot: &SnapshotEnvelope) -> PayloadContext<'_> {
    PayloadContext {
        kind: PayloadKind::Snapshot,
        stream: &snapshot.stream,
        event_id: snapshot.event_id,
        type_name: snapshot.stream.aggregate_type(),
        revision: snapshot.revision,
        content_type: &snapshot.content_type,
        metadata: &NO_METADATA,
    }
}

/// Pages as they are stored, decoded one by one.
struct Decoding {
    inner: EventStream,
    codec: Arc<dyn PayloadCodec>,
}

impl PageSource for Decoding {
    fn poll_page(&mut self, cx: &mut Task<'_>) -> Poll<Option<Result<Vec<EventEnvelope>, Error>>> {
        let next = std::pin::pin!(self.inner.next_page());
        let Some(page) = std::task::ready!(Future::poll(next, cx)) else {
            return Poll::Ready(None);
        };
        let decoded = page.and_then(|page| {
            page.into_iter()
                .map(|envelope| self.codec.decode_event(envelope))
                .collect()
        });
        Poll::Ready(Some(decoded))
    }
}

impl<S: EventStore> EventStore for WithCodec<S> {
    async fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Error> {
        self.store.append(self.codec.encode_batch(batch)?).await
    }

    fn read_stream(&self, query: StreamQuery) -> EventStream {
        Arc::clone(&self.codec).decode_stream(self.store.read_stream(query))
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        self.store.head(stream).await
    }

    async fn find_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
    ) -> Result<Option<EventEnvelope>, Error> {
        let found = self.store.find_event(stream, event_id).await?;
        found
            .map(|envelope| self.codec.decode_event(envelope))
            .transpose()
    }

    fn limits(&self) -> Limits {
        self.store.limits()
    }
}

impl<S: MultiStreamStore> MultiStreamStore for WithCodec<S> {
    async fn append_streams(&self, parts: Vec<AppendBatch>) -> Result<Vec<AppendReceipt>, Error> {
        let parts = parts.into_iter().map(|part| self.codec.encode_batch(part));
        let parts = parts.collect::<Result<_, _>>()?;
        self.store.append_streams(parts).await
    }
}

impl<S: EventLog> EventLog for WithCodec<S> {
    fn read_all(&self, query: LogQuery) -> EventStream {
        Arc::clone(&self.codec).decode_stream(self.store.read_all(query))
    }

    fn identity(&self) -> LogIdentity {
        self.store.identity()
    }

    fn superseded_at(&self, event: &EventEnvelope) -> Option<u64> {
        self.store.superseded_at(event)
    }

    fn first_position(&self) -> u64 {
        self.store.first_position()
    }

    fn last_position(&self) -> u64 {
        self.store.last_position()
    }

    fn subscribe(&self, what: Subscribe) -> EventStream {
        Arc::clone(&self.codec).decode_stream(self.store.subscribe(what))
    }
}

impl<S: SnapshotStore> SnapshotStore for WithCodec<S> {
    async fn read(&self, stream: &StreamId) -> Result<Option<SnapshotEnvelope>, Error> {
        let stored = self.store.read(stream).await?;
        stored
            .map(|snapshot| self.codec.decode_snapshot(snapshot))
            .transpose()
    }

    async fn persist(&self, snapshot: SnapshotEnvelope) -> Result<PersistOutcome, Error> {
        self.store
            .persist(self.codec.encode_snapshot(snapshot)?)
            .await
    }
}
