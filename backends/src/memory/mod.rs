//! The store in memory: the reference model that the other backends are held against.

mod checkpoints;
mod model;
mod recorded;
mod repository;
mod row_store;
mod stream;

use std::sync::Arc;

use event_listener::Event;
use parking_lot::Mutex;
use tidelog_core::{
    AppendBatch, AppendReceipt, Blocking, Clock, Error, EventEnvelope, EventId, EventLog,
    EventStore, EventStream, IdSource, Limits, LogIdentity, LogQuery, MultiStreamStore,
    PersistOutcome, SnapshotEnvelope, SnapshotStore, StreamHead, StreamId, StreamQuery, Subscribe,
    Supersede, Supersession, SystemClock, SystemIds, check_append,
};

use self::checkpoints::Checkpoints;
use self::model::Model;
pub use self::repository::MemoryRepository;
use self::row_store::ReadModels;
use self::stream::{LogRead, StreamRead, Subscription};

/// A store that keeps everything in the memory of the process, and nothing beyond its end.
///
/// It has every contract of the library and keeps every law, by one lock around plain lists: for
/// tests, for trying things out, and as the model that other backends are compared with. A handle:
/// clones share the store, and subscriptions end with [`Error::Closed`] when the last one is gone.
///
/// ```
/// use tidelog_backends::MemoryStore;
/// use tidelog_core::{AppendBatch, ContentType, ExpectedVersion, NewEvent, StreamId, StreamQuery};
///
/// let store = MemoryStore::new().blocking();
/// let account = StreamId::new("BankAccount", "acc-1")?;
/// let opened = NewEvent::new("Opened", 1, ContentType::Json, br#"{"owner":"Ada"}"#.to_vec());
/// let receipt = store.append(AppendBatch::new(
///     account.clone(),
///     ExpectedVersion::NoStream,
///     vec![opened],
/// ))?;
/// assert_eq!(receipt.last_sequence, 1);
/// assert_eq!(store.read_stream(StreamQuery::new(account)).count(), 1);
/// # Ok::<(), tidelog_core::Error>(())
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    handle: Arc<Handle>,
}

impl MemoryStore {
    /// An empty store with the default limits and the machine's clock.
    pub fn new() -> Self {
        Self::build(Limits::default(), Arc::new(SystemClock))
    }

    /// An empty store with these limits and the machine's clock.
    pub fn with_limits(limits: Limits) -> Self {
        Self::build(limits, Arc::new(SystemClock))
    }

    /// An empty store with the same limits that takes its recorded times from `clock`.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tidelog_backends::MemoryStore;
    /// use tidelog_core::{Limits, ManualClock};
    ///
    /// let clock = Arc::new(ManualClock::default());
    /// let limits = Limits { payload_bytes: 100, ..Limits::default() };
    /// let store = MemoryStore::with_limits(limits).with_clock(clock);
    /// ```
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self::build(self.shared().limits, clock)
    }

    fn build(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let shared = Arc::new(Shared {
            model: Mutex::new(Model::default()),
            changed: Event::new(),
            limits,
            clock,
            identity: LogIdentity {
                origin: SystemIds.next_uuid(),
                epoch: SystemIds.next_uuid(),
            },
            checkpoints: Checkpoints::default(),
            read_models: ReadModels::default(),
        });
        Self {
            handle: Arc::new(Handle(shared)),
        }
    }

    /// The blocking face, which shares this store.
    pub fn blocking(&self) -> Blocking<Self> {
        Blocking::new(self.clone())
    }

    /// Closes the store for all its handles: calls, reads and subscriptions end with
    /// [`Error::Closed`]. Closing again does nothing.
    pub fn close(&self) {
        self.shared().model.lock().close();
        self.shared().changed.notify(usize::MAX);
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.0
    }

    fn append_parts(&self, parts: &[AppendBatch]) -> Result<Vec<AppendReceipt>, Error> {
        let shared = self.shared();
        check_append(parts, &shared.limits)?;
        let receipts = shared.with_model(|model| {
            model.append(parts, shared.limits.retry_window(), shared.clock.now())
        })?;
        shared.changed.notify(usize::MAX);
        Ok(receipts)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore")
            .field("last_position", &self.last_position())
            .finish()
    }
}

/// What all clones of one [`MemoryStore`] hold together, so that the last one's end is seen.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        // Nothing can be appended any more: a subscription would wait for ever.
        self.0.model.lock().abandon();
        self.0.changed.notify(usize::MAX);
    }
}

/// What handles, reads and subscriptions share.
struct Shared {
    model: Mutex<Model>,
    /// Notified after every append and when the store is closed.
    changed: Event,
    limits: Limits,
    clock: Arc<dyn Clock>,
    identity: LogIdentity,
    checkpoints: Checkpoints,
    read_models: ReadModels,
}

impl Shared {
    /// Runs `work` on the model, unless the store is closed.
    fn with_model<T>(&self, work: impl FnOnce(&mut Model) -> Result<T, Error>) -> Result<T, Error> {
        let mut model = self.model.lock();
        model.check_open()?;
        work(&mut model)
    }
}

impl EventStore for MemoryStore {
    async fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Error> {
        let mut receipts = self.append_parts(std::slice::from_ref(&batch))?;
        // One part has one receipt.
        receipts.pop().ok_or(Error::Closed)
    }

    fn read_stream(&self, query: StreamQuery) -> EventStream {
        EventStream::new(StreamRead::pinned(Arc::clone(self.shared()), query))
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        self.shared().with_model(|model| Ok(model.head(stream)))
    }

    async fn find_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
    ) -> Result<Option<EventEnvelope>, Error> {
        let window = self.shared().limits.retry_window();
        self.shared()
            .with_model(|model| Ok(model.find_event(stream, event_id, window)))
    }

    fn limits(&self) -> Limits {
        self.shared().limits
    }
}

impl MultiStreamStore for MemoryStore {
    async fn append_streams(&self, parts: Vec<AppendBatch>) -> Result<Vec<AppendReceipt>, Error> {
        self.append_parts(&parts)
    }
}

impl EventLog for MemoryStore {
    fn read_all(&self, query: LogQuery) -> EventStream {
        EventStream::new(LogRead::pinned(Arc::clone(self.shared()), query))
    }

    fn identity(&self) -> LogIdentity {
        self.shared().identity
    }

    fn superseded_at(&self, event: &EventEnvelope) -> Option<u64> {
        self.shared().model.lock().superseded_at(event)
    }

    fn first_position(&self) -> u64 {
        1
    }

    fn last_position(&self) -> u64 {
        self.shared().model.lock().last_position()
    }

    fn subscribe(&self, what: Subscribe) -> EventStream {
        match Subscription::new(Arc::clone(self.shared()), what) {
            Ok(subscription) => EventStream::new(subscription),
            Err(error) => EventStream::failed(error),
        }
    }
}

impl Supersede for MemoryStore {
    async fn supersede(&self, what: Supersession) -> Result<AppendReceipt, Error> {
        let shared = self.shared();
        what.check(&shared.limits)?;
        let receipt = shared.with_model(|model| {
            model.supersede(&what, shared.limits.retry_window(), shared.clock.now())
        })?;
        shared.changed.notify(usize::MAX);
        Ok(receipt)
    }
}

impl SnapshotStore for MemoryStore {
    async fn read(&self, stream: &StreamId) -> Result<Option<SnapshotEnvelope>, Error> {
        self.shared().with_model(|model| Ok(model.snapshot(stream)))
    }

    async fn persist(&self, snapshot: SnapshotEnvelope) -> Result<PersistOutcome, Error> {
        self.shared()
            .with_model(|model| model.persist_snapshot(snapshot))
    }
}
