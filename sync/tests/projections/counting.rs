//! A memory store that counts how the log is read, and can refuse to.

use std::future::Future;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tidelog::{
    AppendBatch, AppendReceipt, Change, Checkpoint, Direction, Entry, Error, EventEnvelope,
    EventId, EventLog, EventStore, EventStream, Limits, LogIdentity, LogQuery, MemoryStore,
    ModelSlots, RowStore, RowsError, Slot, Space, StreamHead, StreamId, StreamQuery, Subscribe,
};

use crate::common::add;

#[derive(Clone, Default)]
pub struct Counting {
    pub store: MemoryStore,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    reads: AtomicU64,
    subscriptions: AtomicU64,
    commits: AtomicU64,
    /// What the next reads of the log answer.
    gap: Mutex<Option<Error>>,
    /// What the next commits of rows answer.
    failing: Mutex<Option<Error>>,
    /// Whether all rows that are committed are lost, until the engine is begun anew.
    spoilt: AtomicBool,
    /// How many commits are followed by an append each.
    followed: AtomicU64,
}

impl Counting {
    /// Reads of the log, and subscriptions to it.
    pub fn reads(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        (count(&self.counts.reads), count(&self.counts.subscriptions))
    }

    /// Batches of rows written.
    pub fn commits(&self) -> u64 {
        self.counts.commits.load(Ordering::SeqCst)
    }

    /// Batches of rows, and new slots, are refused by this from now on.
    pub fn fail_commits(&self, error: Option<Error>) {
        *self.counts.failing.lock() = error;
    }

    /// Rows are lost whenever they are committed, until the engine is begun anew.
    pub fn spoil(&self) {
        self.counts.spoilt.store(true, Ordering::SeqCst);
    }

    pub fn is_spoilt(&self) -> bool {
        self.counts.spoilt.load(Ordering::SeqCst)
    }

    /// The next so many batches of rows are followed by an append each: there is always more.
    pub fn append_at_commits(&self, appends: u64) {
        self.counts.followed.store(appends, Ordering::SeqCst);
    }

    /// Reads and subscriptions answer this from now on.
    pub fn refuse(&self, error: Option<Error>) {
        *self.counts.gap.lock() = error;
    }
}

impl EventStore for Counting {
    async fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Error> {
        self.store.append(batch).await
    }

    fn read_stream(&self, query: StreamQuery) -> EventStream {
        match self.counts.gap.lock().clone() {
            Some(error) => EventStream::failed(error),
            None => self.store.read_stream(query),
        }
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        self.store.head(stream).await
    }

    async fn find_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
    ) -> Result<Option<EventEnvelope>, Error> {
        self.store.find_event(stream, event_id).await
    }

    fn limits(&self) -> Limits {
        self.store.limits()
    }
}

impl EventLog for Counting {
    fn read_all(&self, query: LogQuery) -> EventStream {
        self.counts.reads.fetch_add(1, Ordering::SeqCst);
        match self.counts.gap.lock().clone() {
            Some(error) => EventStream::failed(error),
            None => self.store.read_all(query),
        }
    }

    fn identity(&self) -> LogIdentity {
        self.store.identity()
    }

    fn first_position(&self) -> u64 {
        self.store.first_position()
    }

    fn last_position(&self) -> u64 {
        self.store.last_position()
    }

    fn subscribe(&self, what: Subscribe) -> EventStream {
        self.counts.subscriptions.fetch_add(1, Ordering::SeqCst);
        match self.counts.gap.lock().clone() {
            Some(error) => EventStream::failed(error),
            None => self.store.subscribe(what),
        }
    }
}

impl RowStore for Counting {
    fn slots(
        &self,
        model: &str,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ModelSlots, Error> {
        self.store.slots(model, progress)
    }

    fn create_slot(&self, model: &str, checkpoint: &Checkpoint) -> Result<Slot, RowsError> {
        if let Some(error) = self.counts.failing.lock().clone() {
            return Err(error.into());
        }
        self.store.create_slot(model, checkpoint)
    }

    fn commit(
        &self,
        slot: &Slot,
        changes: &[Change],
        checkpoint: &Checkpoint,
    ) -> Result<u64, RowsError> {
        self.counts.commits.fetch_add(1, Ordering::SeqCst);
        if let Some(error) = self.counts.failing.lock().clone() {
            return Err(error.into());
        }
        if self.is_spoilt() {
            return Err(RowsError::Lost("the engine is damaged".into()));
        }
        let less = |left: u64| left.checked_sub(1);
        let followed = &self.counts.followed;
        if followed
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
            .is_ok()
        {
            add(&self.store, "more", 1);
        }
        self.store.commit(slot, changes, checkpoint)
    }

    fn activate(&self, model: &str, slot: &Slot) -> Result<(), RowsError> {
        self.store.activate(model, slot)
    }

    fn get(&self, slot: &Slot, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        self.store.get(slot, space, key)
    }

    fn scan(
        &self,
        slot: &Slot,
        space: Space,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, RowsError> {
        self.store.scan(slot, space, range, direction, limit)
    }

    fn remove_model(&self, model: &str) -> Result<(), Error> {
        self.store.remove_model(model)
    }

    fn flush(&self) -> Result<(), Error> {
        self.store.flush()
    }

    fn renew(&self) -> Result<(), Error> {
        self.counts.spoilt.store(false, Ordering::SeqCst);
        self.store.renew()
    }

    fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send {
        let store = self.clone();
        async move { work(&store) }
    }
}
