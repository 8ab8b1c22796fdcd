//! A store in memory that tells what was asked of it, lets others in between, and takes its time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tidelog_backends::MemoryStore;
use tidelog_core::{
    AppendBatch, AppendReceipt, Error, EventEnvelope, EventId, EventStore, EventStream, Limits,
    PageSource, PersistOutcome, SnapshotEnvelope, SnapshotStore, StreamHead, StreamId, StreamQuery,
};

type Act = Box<dyn FnMut(&MemoryStore) + Send>;

#[derive(Clone, Default)]
pub struct Probe {
    pub memory: MemoryStore,
    pub seen: Arc<Seen>,
}

#[derive(Default)]
pub struct Seen {
    pub appends: AtomicUsize,
    pub heads: AtomicUsize,
    pub finds: AtomicUsize,
    /// Lowest sequence of each stream read.
    pub reads_from: Mutex<Vec<u64>>,
    /// Every call is pending once before and once after its work.
    pub slow: AtomicBool,
    pub snapshots_fail: AtomicBool,
    pub before_append: Mutex<Option<Act>>,
    pub after_find: Mutex<Option<Act>>,
}

impl Probe {
    /// How often streams were read since this was asked last, and from where.
    pub fn reads(&self) -> Vec<u64> {
        std::mem::take(&mut self.seen.reads_from.lock())
    }

    pub fn before_append(&self, act: impl FnMut(&MemoryStore) + Send + 'static) {
        *self.seen.before_append.lock() = Some(Box::new(act));
    }

    pub fn after_find(&self, act: impl FnMut(&MemoryStore) + Send + 'static) {
        *self.seen.after_find.lock() = Some(Box::new(act));
    }

    async fn pause(&self) {
        if self.seen.slow.load(Ordering::SeqCst) {
            let mut paused = false;
            std::future::poll_fn(|_| {
                if std::mem::replace(&mut paused, true) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
    }
}

impl EventStore for Probe {
    async fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Error> {
        self.pause().await;
        self.seen.appends.fetch_add(1, Ordering::SeqCst);
        if let Some(act) = &mut *self.seen.before_append.lock() {
            act(&self.memory);
        }
        let receipt = self.memory.append(batch).await;
        self.pause().await;
        receipt
    }

    fn read_stream(&self, query: StreamQuery) -> EventStream {
        self.seen.reads_from.lock().push(query.from);
        let inner = self.memory.read_stream(query);
        if !self.seen.slow.load(Ordering::SeqCst) {
            return inner;
        }
        EventStream::new(SlowPages {
            inner,
            paused: false,
        })
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        self.seen.heads.fetch_add(1, Ordering::SeqCst);
        self.pause().await;
        self.memory.head(stream).await
    }

    async fn find_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
    ) -> Result<Option<EventEnvelope>, Error> {
        self.seen.finds.fetch_add(1, Ordering::SeqCst);
        self.pause().await;
        let found = self.memory.find_event(stream, event_id).await;
        if let Some(act) = &mut *self.seen.after_find.lock() {
            act(&self.memory);
        }
        found
    }

    fn limits(&self) -> Limits {
        self.memory.limits()
    }
}

impl SnapshotStore for Probe {
    async fn read(&self, stream: &StreamId) -> Result<Option<SnapshotEnvelope>, Error> {
        self.pause().await;
        self.fail_snapshots()?;
        self.memory.read(stream).await
    }

    async fn persist(&self, snapshot: SnapshotEnvelope) -> Result<PersistOutcome, Error> {
        self.pause().await;
        self.fail_snapshots()?;
        let outcome = SnapshotStore::persist(&self.memory, snapshot).await;
        self.pause().await;
        outcome
    }
}

impl Probe {
    fn fail_snapshots(&self) -> Result<(), Error> {
        if self.seen.snapshots_fail.load(Ordering::SeqCst) {
            return Err(Error::Closed);
        }
        Ok(())
    }
}

/// Pages of one event, each after a pause.
struct SlowPages {
    inner: EventStream,
    paused: bool,
}

impl PageSource for SlowPages {
    fn poll_page(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Vec<EventEnvelope>, Error>>> {
        self.paused = !self.paused;
        if self.paused {
            return Poll::Pending;
        }
        let next = std::pin::pin!(self.inner.next());
        let next: Pin<&mut _> = next;
        Future::poll(next, cx).map(|item| item.map(|envelope| envelope.map(|one| vec![one])))
    }
}
