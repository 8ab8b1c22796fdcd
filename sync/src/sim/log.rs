//! The disk of a node as its replicator sees it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_backends::commits::{Commit, CommitEnd, EpochInfo};
use tidelog_core::{
    BoxFuture, Clock, Error, EventEnvelope, EventId, IdSource, ManualClock, StreamId,
};
use uuid::Uuid;

use super::disk::Disk;
use super::jobs::Jobs;
use super::rng::Ids;
use crate::replicate::outbox::{Identity, LocalEvent, Outbox};

/// A node's disk, its clock, and who waits for news of its log.
#[derive(Clone)]
pub(crate) struct SimLog {
    pub disk: Arc<Mutex<Disk>>,
    pub clock: Arc<ManualClock>,
    pub ids: Ids,
    pub jobs: Jobs,
    pub node: usize,
    /// Microseconds that the machine has slept.
    pub slept: Arc<AtomicU64>,
    waiting: Arc<Mutex<Vec<Waker>>>,
}

impl SimLog {
    pub(crate) fn new(
        disk: Disk,
        clock: Arc<ManualClock>,
        ids: Ids,
        jobs: Jobs,
        node: usize,
    ) -> Self {
        Self {
            disk: Arc::new(Mutex::new(disk)),
            clock,
            ids,
            jobs,
            node,
            slept: Arc::default(),
            waiting: Arc::default(),
        }
    }

    /// Tells who waits that the log has grown.
    pub(crate) fn notify(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Outbox for SimLog {
    fn identity(&self) -> Identity {
        self.jobs.call();
        self.disk.lock().identity()
    }

    fn durable(&self) -> u64 {
        self.jobs.call();
        self.disk.lock().durable()
    }

    fn last(&self) -> u64 {
        self.jobs.call();
        self.disk.lock().last()
    }

    fn read(
        &self,
        after: u64,
        max_bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<Arc<Commit>>, Error>> {
        self.jobs.call();
        let commits = self.disk.lock().read(after, max_bytes);
        Box::pin(async move { Ok(commits) })
    }

    fn news(&self, after: u64) -> BoxFuture<'static, Result<(), Error>> {
        let this = self.clone();
        Box::pin(std::future::poll_fn(move |cx| {
            this.jobs.call();
            if this.disk.lock().last() > after {
                return Poll::Ready(Ok(()));
            }
            this.waiting.lock().push(cx.waker().clone());
            Poll::Pending
        }))
    }

    fn make_durable(&self) -> BoxFuture<'static, Result<(), Error>> {
        self.jobs.call();
        let this = self.clone();
        self.jobs.add(self.node, "sync", move || {
            this.disk.lock().make_durable();
            Ok(())
        })
    }

    fn commit_end(&self, position: u64) -> Result<Option<CommitEnd>, Error> {
        self.jobs.call();
        Ok(self.disk.lock().commit_end(position))
    }

    fn event_at(&self, stream: &StreamId, sequence: u64) -> Result<Option<LocalEvent>, Error> {
        self.jobs.call();
        Ok(self.disk.lock().event_at(stream, sequence))
    }

    fn event_before(&self, stream: &StreamId, sequence: u64) -> Result<Option<LocalEvent>, Error> {
        self.jobs.call();
        Ok(self.disk.lock().event_before(stream, sequence))
    }

    fn event_from(&self, stream: &StreamId, sequence: u64) -> Result<Option<LocalEvent>, Error> {
        self.jobs.call();
        Ok(self.disk.lock().event_from(stream, sequence))
    }

    fn events(
        &self,
        stream: &StreamId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<EventEnvelope>, Error>> {
        self.jobs.call();
        let mut events = self.disk.lock().events(stream, from, to);
        let mut bytes = 0;
        events.retain(|event| {
            let fits = bytes == 0 || bytes + event.event.len() + 100 <= max_bytes;
            bytes += event.event.len() + 100;
            fits
        });
        Box::pin(async move { Ok(events) })
    }

    fn is_superseded(&self, stream: &StreamId, sequence: u64, position: u64) -> bool {
        self.jobs.call();
        self.disk.lock().is_superseded(stream, sequence, position)
    }

    fn epochs(&self) -> Result<Vec<EpochInfo>, Error> {
        self.jobs.call();
        Ok(self.disk.lock().epochs())
    }

    fn begin_epoch(&self) -> BoxFuture<'static, Result<Uuid, Error>> {
        let this = self.clone();
        self.jobs.add(self.node, "begin epoch", move || {
            let epoch = this.ids.next_uuid();
            let event_id = EventId::from_uuid(this.ids.next_uuid());
            let now = this.clock.now();
            this.disk.lock().begin_epoch(epoch, event_id, now);
            this.notify();
            Ok(epoch)
        })
    }

    fn load_state(&self, name: &'static str) -> BoxFuture<'static, Result<Option<Bytes>, Error>> {
        self.jobs.call();
        let saved = self.disk.lock().saved.get(name).cloned();
        Box::pin(async move { Ok(saved) })
    }

    fn save_state(
        &self,
        name: &'static str,
        position: u64,
        state: Bytes,
    ) -> BoxFuture<'static, Result<(), Error>> {
        self.jobs.call();
        let this = self.clone();
        let state = Arc::new(Mutex::new(state));
        let saved = state.clone();
        self.jobs.add_with(self.node, "save", Some(saved), move || {
            let state = state.lock().clone();
            let mut disk = this.disk.lock();
            if position > disk.last() {
                return Err(Error::invalid(
                    "position",
                    position,
                    "the log has not reached it",
                ));
            }
            if position > disk.durable() {
                disk.make_durable();
            }
            disk.saved.insert(name.to_owned(), state);
            Ok(())
        })
    }

    fn forget_state(&self, name: &'static str) -> BoxFuture<'static, Result<(), Error>> {
        let this = self.clone();
        self.jobs.add(self.node, "forget", move || {
            this.disk.lock().saved.remove(name);
            Ok(())
        })
    }
}
