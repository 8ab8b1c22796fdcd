//! The blocking face: the same calls for threads without a runtime.

use crate::append::{AppendBatch, AppendReceipt};
use crate::envelope::EventEnvelope;
use crate::error::Error;
use crate::id::EventId;
use crate::limits::Limits;
use crate::read::{BlockingEventStream, LogQuery, StreamQuery, Subscribe};
use crate::snapshot::{PersistOutcome, SnapshotEnvelope, SnapshotStore};
use crate::store::{EventLog, EventStore, LogIdentity, MultiStreamStore, StreamHead};
use crate::stream_id::StreamId;
use crate::superseded::{Supersede, Supersession};

/// A store whose calls block the calling thread; no runtime is needed.
///
/// Backends hand one out by their `blocking()` method. What stands inside is a form of the backend
/// whose futures do their work on the thread that polls them, so a lone writer pays for no hand-over
/// between threads. Do not use it inside async code.
#[derive(Clone, Debug)]
pub struct Blocking<S>(S);

impl<S> Blocking<S> {
    /// The blocking face of `store`.
    pub fn new(store: S) -> Self {
        Self(store)
    }

    /// What stands inside: a store for blocking use, for building a repository on.
    pub fn inner(&self) -> &S {
        &self.0
    }
}

impl<S: EventStore> Blocking<S> {
    /// See [`EventStore::append`].
    ///
    /// # Errors
    /// As there.
    pub fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Error> {
        pollster::block_on(self.0.append(batch))
    }

    /// See [`EventStore::read_stream`].
    pub fn read_stream(&self, query: StreamQuery) -> BlockingEventStream {
        self.0.read_stream(query).into_blocking()
    }

    /// See [`EventStore::head`].
    ///
    /// # Errors
    /// As there.
    pub fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        pollster::block_on(self.0.head(stream))
    }

    /// See [`EventStore::find_event`].
    ///
    /// # Errors
    /// As there.
    pub fn find_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
    ) -> Result<Option<EventEnvelope>, Error> {
        pollster::block_on(self.0.find_event(stream, event_id))
    }

    /// See [`EventStore::limits`].
    pub fn limits(&self) -> Limits {
        self.0.limits()
    }
}

impl<S: MultiStreamStore> Blocking<S> {
    /// See [`MultiStreamStore::append_streams`].
    ///
    /// # Errors
    /// As there.
    pub fn append_streams(&self, parts: Vec<AppendBatch>) -> Result<Vec<AppendReceipt>, Error> {
        pollster::block_on(self.0.append_streams(parts))
    }
}

impl<S: EventLog> Blocking<S> {
    /// See [`EventLog::read_all`].
    pub fn read_all(&self, query: LogQuery) -> BlockingEventStream {
        self.0.read_all(query).into_blocking()
    }

    /// See [`EventLog::identity`].
    pub fn identity(&self) -> LogIdentity {
        self.0.identity()
    }

    /// See [`EventLog::is_superseded`].
    pub fn is_superseded(&self, event: &EventEnvelope) -> bool {
        self.0.is_superseded(event)
    }

    /// See [`EventLog::first_position`].
    pub fn first_position(&self) -> u64 {
        self.0.first_position()
    }

    /// See [`EventLog::last_position`].
    pub fn last_position(&self) -> u64 {
        self.0.last_position()
    }

    /// See [`EventLog::subscribe`].
    pub fn subscribe(&self, what: Subscribe) -> BlockingEventStream {
        self.0.subscribe(what).into_blocking()
    }
}

impl<S: Supersede> Blocking<S> {
    /// See [`Supersede::supersede`].
    ///
    /// # Errors
    /// As there.
    pub fn supersede(&self, what: Supersession) -> Result<AppendReceipt, Error> {
        pollster::block_on(self.0.supersede(what))
    }
}

impl<S: SnapshotStore> Blocking<S> {
    /// See [`SnapshotStore::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read_snapshot(&self, stream: &StreamId) -> Result<Option<SnapshotEnvelope>, Error> {
        pollster::block_on(self.0.read(stream))
    }

    /// See [`SnapshotStore::persist`].
    ///
    /// # Errors
    /// As there.
    pub fn persist_snapshot(&self, snapshot: SnapshotEnvelope) -> Result<PersistOutcome, Error> {
        pollster::block_on(self.0.persist(snapshot))
    }
}
