//! The user's own transformation of payload bytes: encryption, compression.

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
use crate::store::{EventLog, EventStore, MultiStreamStore, StreamHead};
use crate::stream_id::StreamId;

/// Changes payload bytes on their way into a store and back; see [`Transformed`].
///
/// `restore` must undo `apply` for ever, so what it needs to know beside the key (a version, a
/// nonce) belongs in the bytes. Both are called on the path of appends and reads and must not
/// block. What [`PayloadContext`] says is the same both times: it may be bound to the ciphertext.
///
/// The same event should become the same bytes: a store recognizes a retry by id *and* content,
/// so one that comes back with other bytes is [`Error::IdConflict`] instead of a success.
pub trait PayloadTransform: Send + Sync + 'static {
    /// What is stored for `payload`.
    ///
    /// # Errors
    /// Any; nothing is recorded then.
    fn apply(&self, payload: Bytes, about: &PayloadContext<'_>) -> Result<Bytes, TransformError>;

    /// The payload that `stored` was made from.
    ///
    /// # Errors
    /// Any; the read ends with it.
    fn restore(&self, stored: Bytes, about: &PayloadContext<'_>) -> Result<Bytes, TransformError>;
}

/// Why a payload could not be transformed; becomes the reason of an [`Error::Codec`].
pub type TransformError = Box<dyn std::error::Error + Send + Sync>;

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
    /// How the payload is encoded before it is transformed.
    pub content_type: &'a ContentType,
    /// The event's metadata; empty for a snapshot.
    pub metadata: &'a Metadata,
}

/// What kind of payload is transformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PayloadKind {
    /// An event.
    Event,
    /// The state in a snapshot.
    Snapshot,
}

/// A store whose payloads pass through a [`PayloadTransform`]; all else is the store's own.
///
/// It is a store again, for repositories, typed reads, subscriptions and snapshots alike. The
/// limits of the store below count transformed bytes. Types, metadata and tags are stored as they
/// are.
///
/// ```
/// use std::sync::Arc;
/// use bytes::Bytes;
/// use tidelog_core::{EventStore, PayloadContext, PayloadTransform, TransformError, Transformed};
///
/// /// A toy: hides payloads from nobody.
/// struct Xor(u8);
///
/// impl PayloadTransform for Xor {
///     fn apply(&self, payload: Bytes, _: &PayloadContext<'_>) -> Result<Bytes, TransformError> {
///         Ok(payload.iter().map(|byte| byte ^ self.0).collect())
///     }
///     fn restore(&self, stored: Bytes, about: &PayloadContext<'_>) -> Result<Bytes, TransformError> {
///         self.apply(stored, about)
///     }
/// }
///
/// fn hidden<S: EventStore>(store: S) -> Transformed<S> {
///     Transformed::new(store, Arc::new(Xor(0x5a)))
/// }
/// ```
#[derive(Clone)]
pub struct Transformed<S> {
    store: S,
    transform: Arc<dyn PayloadTransform>,
}

impl<S> Transformed<S> {
    /// `store` with every payload passed through `transform`.
    pub fn new(store: S, transform: Arc<dyn PayloadTransform>) -> Self {
        Self { store, transform }
    }

    /// The store below, with payloads as they are stored.
    pub fn inner(&self) -> &S {
        &self.store
    }

    fn apply_all(&self, mut batch: AppendBatch) -> Result<AppendBatch, Error> {
        for event in &mut batch.events {
            let payload = std::mem::take(&mut event.payload);
            let about = about_new(&batch.stream, event);
            let stored = self.transform.apply(payload, &about);
            let stored = stored.map_err(|error| about.error("transforming an event", &error))?;
            event.payload = stored;
        }
        Ok(batch)
    }

    fn restoring(&self, inner: EventStream) -> EventStream {
        EventStream::new(Restoring {
            inner,
            transform: Arc::clone(&self.transform),
        })
    }
}

impl<S: fmt::Debug> fmt::Debug for Transformed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transformed").field(&self.store).finish()
    }
}

impl PayloadContext<'_> {
    fn error(&self, what: &'static str, reason: &TransformError) -> Error {
        Error::Codec {
            what,
            type_name: self.type_name.into(),
            revision: self.revision,
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

fn restore_event(
    transform: &dyn PayloadTransform,
    mut envelope: EventEnvelope,
) -> Result<EventEnvelope, Error> {
    // The library's own records were never transformed.
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
    let payload = transform.restore(stored, &about);
    envelope.event = payload.map_err(|error| about.error("restoring an event", &error))?;
    Ok(envelope)
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

/// Pages of the store below, restored one by one.
struct Restoring {
    inner: EventStream,
    transform: Arc<dyn PayloadTransform>,
}

impl PageSource for Restoring {
    fn poll_page(&mut self, cx: &mut Task<'_>) -> Poll<Option<Result<Vec<EventEnvelope>, Error>>> {
        let next = std::pin::pin!(self.inner.next_page());
        let Some(page) = std::task::ready!(Future::poll(next, cx)) else {
            return Poll::Ready(None);
        };
        let restored = page.and_then(|page| {
            page.into_iter()
                .map(|envelope| restore_event(&*self.transform, envelope))
                .collect()
        });
        Poll::Ready(Some(restored))
    }
}

impl<S: EventStore> EventStore for Transformed<S> {
    async fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Error> {
        self.store.append(self.apply_all(batch)?).await
    }

    fn read_stream(&self, query: StreamQuery) -> EventStream {
        self.restoring(self.store.read_stream(query))
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
            .map(|envelope| restore_event(&*self.transform, envelope))
            .transpose()
    }

    fn limits(&self) -> Limits {
        self.store.limits()
    }
}

impl<S: MultiStreamStore> MultiStreamStore for Transformed<S> {
    async fn append_streams(&self, parts: Vec<AppendBatch>) -> Result<Vec<AppendReceipt>, Error> {
        let parts = parts.into_iter().map(|part| self.apply_all(part));
        let parts = parts.collect::<Result<_, _>>()?;
        self.store.append_streams(parts).await
    }
}

impl<S: EventLog> EventLog for Transformed<S> {
    fn read_all(&self, query: LogQuery) -> EventStream {
        self.restoring(self.store.read_all(query))
    }

    fn first_position(&self) -> u64 {
        self.store.first_position()
    }

    fn last_position(&self) -> u64 {
        self.store.last_position()
    }

    fn subscribe(&self, what: Subscribe) -> EventStream {
        self.restoring(self.store.subscribe(what))
    }
}

impl<S: SnapshotStore> SnapshotStore for Transformed<S> {
    async fn read(&self, stream: &StreamId) -> Result<Option<SnapshotEnvelope>, Error> {
        let Some(mut snapshot) = self.store.read(stream).await? else {
            return Ok(None);
        };
        let stored = std::mem::take(&mut snapshot.state);
        let about = about_snapshot(&snapshot);
        let state = self.transform.restore(stored, &about);
        snapshot.state = state.map_err(|error| about.error("restoring a snapshot", &error))?;
        Ok(Some(snapshot))
    }

    async fn persist(&self, mut snapshot: SnapshotEnvelope) -> Result<PersistOutcome, Error> {
        let payload = std::mem::take(&mut snapshot.state);
        let about = about_snapshot(&snapshot);
        let stored = self.transform.apply(payload, &about);
        snapshot.state = stored.map_err(|error| about.error("transforming a snapshot", &error))?;
        self.store.persist(snapshot).await
    }
}
