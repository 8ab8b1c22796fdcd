//! The store behind the facade: sled, with or without a payload transform.

use tidelog_backends::SledStore;
use tidelog_core::{
    AppendBatch, AppendReceipt, Error, EventEnvelope, EventId, EventLog, EventStore, EventStream,
    Limits, LogQuery, MultiStreamStore, PersistOutcome, SnapshotEnvelope, SnapshotStore,
    StreamHead, StreamId, StreamQuery, Subscribe, Transformed,
};

/// The embedded store that a [`Tidelog`](crate::Tidelog) stands on: a [`SledStore`], whose payloads
/// pass through the builder's transform if there is one.
///
/// It has every trait of a store, so whatever is generic over stores takes it.
///
/// ```
/// use tidelog::{EmbeddedStore, EventLog, EventStore, Tidelog};
///
/// fn payload_limit(store: &impl EventStore) -> usize {
///     store.limits().payload_bytes
/// }
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("events");
/// let log = Tidelog::open(&path)?;
/// let store: &EmbeddedStore = log.store();
/// assert_eq!(payload_limit(store), 1 << 20);
/// assert_eq!(store.last_position(), 0);
/// # Ok::<(), tidelog::Error>(())
/// ```
#[derive(Clone)]
pub struct EmbeddedStore(Kind);

#[derive(Clone)]
enum Kind {
    Plain(SledStore),
    Transformed(Transformed<SledStore>),
}

impl EmbeddedStore {
    pub(crate) fn plain(store: SledStore) -> Self {
        Self(Kind::Plain(store))
    }

    pub(crate) fn transformed(store: Transformed<SledStore>) -> Self {
        Self(Kind::Transformed(store))
    }

    /// The store below the transform, with payloads as they are on disk.
    pub fn sled(&self) -> &SledStore {
        match &self.0 {
            Kind::Plain(store) => store,
            Kind::Transformed(store) => store.inner(),
        }
    }
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("transformed", &matches!(self.0, Kind::Transformed(_)))
            .finish_non_exhaustive()
    }
}

impl EventStore for EmbeddedStore {
    async fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Error> {
        match &self.0 {
            Kind::Plain(store) => store.append(batch).await,
            Kind::Transformed(store) => store.append(batch).await,
        }
    }

    fn read_stream(&self, query: StreamQuery) -> EventStream {
        match &self.0 {
            Kind::Plain(store) => store.read_stream(query),
            Kind::Transformed(store) => store.read_stream(query),
        }
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        self.sled().head(stream).await
    }

    async fn find_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
    ) -> Result<Option<EventEnvelope>, Error> {
        match &self.0 {
            Kind::Plain(store) => store.find_event(stream, event_id).await,
            Kind::Transformed(store) => store.find_event(stream, event_id).await,
        }
    }

    fn limits(&self) -> Limits {
        self.sled().limits()
    }
}

impl MultiStreamStore for EmbeddedStore {
    async fn append_streams(&self, parts: Vec<AppendBatch>) -> Result<Vec<AppendReceipt>, Error> {
        match &self.0 {
            Kind::Plain(store) => store.append_streams(parts).await,
            Kind::Transformed(store) => store.append_streams(parts).await,
        }
    }
}

impl EventLog for EmbeddedStore {
    fn read_all(&self, query: LogQuery) -> EventStream {
        match &self.0 {
            Kind::Plain(store) => store.read_all(query),
            Kind::Transformed(store) => store.read_all(query),
        }
    }

    fn first_position(&self) -> u64 {
        self.sled().first_position()
    }

    fn last_position(&self) -> u64 {
        self.sled().last_position()
    }

    fn subscribe(&self, what: Subscribe) -> EventStream {
        match &self.0 {
            Kind::Plain(store) => store.subscribe(what),
            Kind::Transformed(store) => store.subscribe(what),
        }
    }
}

impl SnapshotStore for EmbeddedStore {
    async fn read(&self, stream: &StreamId) -> Result<Option<SnapshotEnvelope>, Error> {
        match &self.0 {
            Kind::Plain(store) => SnapshotStore::read(store, stream).await,
            Kind::Transformed(store) => SnapshotStore::read(store, stream).await,
        }
    }

    async fn persist(&self, snapshot: SnapshotEnvelope) -> Result<PersistOutcome, Error> {
        match &self.0 {
            Kind::Plain(store) => store.persist(snapshot).await,
            Kind::Transformed(store) => store.persist(snapshot).await,
        }
    }
}
