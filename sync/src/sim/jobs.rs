//! Writes to disks under way; the scheduler chooses when each is done.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_core::BoxFuture;

/// A write to a disk that is not done yet.
struct Job {
    node: usize,
    label: &'static str,
    /// The state that it saves, if it does.
    state: Option<Arc<Mutex<Bytes>>>,
    run: Box<dyn FnOnce() + Send>,
}

/// All writes under way, in the order in which they were asked for.
#[derive(Clone, Default)]
pub(crate) struct Jobs(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    jobs: BTreeMap<u64, Job>,
    next: u64,
    /// How much was called since the last action.
    calls: u64,
}

impl Jobs {
    /// The next action begins.
    pub(crate) fn begin(&self) {
        self.0.lock().calls = 0;
    }

    /// Something is called: a future that never waits is found out by that.
    pub(crate) fn call(&self) {
        let mut inner = self.0.lock();
        inner.calls += 1;
        let calls = inner.calls;
        drop(inner);
        assert!(calls < 50_000, "a future calls without end and never waits");
    }

    pub(crate) fn keys(&self) -> Vec<u64> {
        self.0.lock().jobs.keys().copied().collect()
    }

    pub(crate) fn first(&self) -> Option<u64> {
        self.0.lock().jobs.keys().next().copied()
    }

    pub(crate) fn of_node(&self, node: usize) -> Vec<u64> {
        let inner = self.0.lock();
        let of_node = inner.jobs.iter().filter(|(_, job)| job.node == node);
        of_node.map(|(key, _)| *key).collect()
    }

    /// Whose it is, and what it does.
    pub(crate) fn find(&self, key: u64) -> Option<(usize, &'static str)> {
        let inner = self.0.lock();
        let job = inner.jobs.get(&key)?;
        Some((job.node, job.label))
    }

    /// The state that it saves, if it does.
    pub(crate) fn state(&self, key: u64) -> Option<Arc<Mutex<Bytes>>> {
        self.0.lock().jobs.get(&key)?.state.clone()
    }

    /// It is never done.
    pub(crate) fn drop(&self, key: u64) {
        self.0.lock().jobs.remove(&key);
    }

    /// It is done.
    pub(crate) fn run(&self, key: u64) {
        let job = self.0.lock().jobs.remove(&key);
        if let Some(job) = job {
            (job.run)();
        }
    }

    /// A write to a disk, done when the scheduler chooses; dropping the future does not undo it.
    pub(crate) fn add<T: Send + 'static>(
        &self,
        node: usize,
        label: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> BoxFuture<'static, T> {
        self.add_with(node, label, None, work)
    }

    /// The same of one that saves a state.
    pub(crate) fn add_with<T: Send + 'static>(
        &self,
        node: usize,
        label: &'static str,
        state: Option<Arc<Mutex<Bytes>>>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let slot = Arc::new(Mutex::new((None, None::<Waker>)));
        let filled = slot.clone();
        let run = Box::new(move || {
            let done = work();
            let waker = {
                let mut slot = filled.lock();
                slot.0 = Some(done);
                slot.1.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        });
        let mut inner = self.0.lock();
        inner.next += 1;
        let key = inner.next;
        inner.jobs.insert(
            key,
            Job {
                node,
                label,
                state,
                run,
            },
        );
        Box::pin(poll_fn(move |cx| {
            let mut slot = slot.lock();
            match slot.0.take() {
                Some(done) => Poll::Ready(done),
                None => {
                    slot.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}
