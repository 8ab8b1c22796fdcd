//! A running store: its threads, committing, and closing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_core::{Durability, Error};
use uuid::Uuid;

use super::backup;
use super::commit::Committer;
use super::lock::Lock;
use super::open::Opened;
use super::panics::caught;
use super::queue::Woken;
use super::request::Request;
use super::shared::Shared;
use super::state::State;
use super::workers::READERS;
use crate::primitives::thread::{self, JoinHandle};
use crate::primitives::{Mutex, MutexGuard};

const OWN_THREADS: [&str; 4] = [
    "tidelog-writer",
    "tidelog-indexer",
    "tidelog-preparer",
    "tidelog-reader",
];

/// A burst of commits is over when none came for so long.
const CALM: Duration = Duration::from_millis(20);

/// What the clones of a store share.
pub(crate) struct Handle {
    pub shared: Arc<Shared>,
    pub durability: Durability,
    committer: Arc<Mutex<Committer>>,
    /// Held while the store is being closed, so that whoever closes it again waits.
    open: Mutex<Option<Running>>,
}

/// What is given back when the store is closed.
struct Running {
    threads: Vec<JoinHandle<()>>,
    state: State,
    _lock: Lock,
}

impl Handle {
    /// Starts the threads of an opened store.
    pub(crate) fn start(opened: Opened, durability: Durability) -> Result<Arc<Self>, Error> {
        let Opened {
            shared,
            committer,
            state,
            lock,
            new_epoch,
        } = opened;
        let running = Running {
            threads: Vec::new(),
            state,
            _lock: lock,
        };
        let handle = Arc::new(Self {
            shared,
            durability,
            committer: Arc::new(Mutex::new(committer)),
            open: Mutex::new(Some(running)),
        });
        match handle.begin(new_epoch) {
            Ok(()) => Ok(handle),
            Err(error) => {
                // What is running already must not outlive the lock.
                let _ = handle.close(true);
                Err(error)
            }
        }
    }

    fn begin(&self, new_epoch: Option<Uuid>) -> Result<(), Error> {
        let (shared, committer) = (Arc::clone(&self.shared), Arc::clone(&self.committer));
        self.spawn("writer", move || write(&shared, &committer))?;
        let shared = Arc::clone(&self.shared);
        self.spawn("indexer", move || index(&shared))?;
        let shared = Arc::clone(&self.shared);
        self.spawn("preparer", move || prepare(&shared))?;
        for _ in 0..READERS {
            let workers = self.shared.workers.clone();
            self.spawn("reader", move || workers.run())?;
        }
        // Its record may need a new segment, which the threads make.
        if let Some(epoch) = new_epoch {
            self.lock().begin_epoch(epoch)?;
            backup::remove_mark(&self.shared.dir)?;
        }
        // What was found here may be served for weeks before the next commit vouches for it.
        self.lock().leave_mark()
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let thread = thread::Builder::new()
            .name(format!("tidelog-{name}"))
            .spawn(run);
        let thread =
            thread.map_err(|error| Error::io("start a thread for", &self.shared.dir, error))?;
        if let Some(running) = &mut *self.open.lock() {
            running.threads.push(thread);
        }
        Ok(())
    }

    /// The commit lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Committer> {
        self.committer.lock()
    }

    /// Commits `request` on this thread if nobody else is committing; gives it back otherwise.
    pub(crate) fn commit_here(&self, request: Request) -> Option<Request> {
        let Some(guard) = self.committer.try_lock() else {
            return Some(request);
        };
        commit(&self.shared, &self.committer, guard, Some(request));
        None
    }

    /// Leaves `request` to the writer's thread.
    pub(crate) fn enqueue(&self, request: Request) {
        if let Some(refused) = self.shared.queue.push(request) {
            refused.answer(Err(Error::Closed));
        }
    }

    /// Closes the store, or ends it as a crash would. When this returns, by whoever called it
    /// first, the lock is free.
    pub(crate) fn close(&self, cleanly: bool) -> Result<(), Error> {
        // A waker run on one of the store's own threads may close it while it is being closed: that
        // thread is joined, so it must not wait.
        let open = if on_own_thread() {
            self.open.try_lock()
        } else {
            Some(self.open.lock())
        };
        let Some(mut open) = open else { return Ok(()) };
        let Some(mut running) = open.take() else {
            return Ok(());
        };
        let shared = &self.shared;
        if cleanly {
            commit(shared, &self.committer, self.committer.lock(), None);
        }
        let mark = self.committer.lock().close(cleanly);
        shared.live.close();
        // Whoever is writing one ends first; later ones find the store closed.
        drop(shared.checkpoints.lock());
        for request in shared.queue.stop() {
            request.answer(Err(Error::Closed));
        }
        shared.streams.index().interrupt();
        shared.indexer.stop(!cleanly);
        shared.preparer.stop();
        shared.workers.stop();
        for thread in running.threads.drain(..) {
            // A waker dropped on a store's thread may drop the last handle there.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
        shared
            .streams
            .index()
            .close()
            .map_err(super::index_failed)?;
        if let Some(mark) = mark? {
            running.state.set_clean(Some(&mark))?;
            running.state.write(&shared.dir)?;
        }
        Ok(())
    }
}

/// What the writer's thread does.
fn write(shared: &Shared, committer: &Mutex<Committer>) {
    let mut calm_at: Option<Instant> = None;
    loop {
        let limit = calm_at.map(|at| at.saturating_duration_since(Instant::now()));
        let woken = shared.queue.wait(limit);
        if woken == Woken::Stopped {
            break;
        }
        // The clock, the wakers and whoever takes traces are foreign code. A panic of theirs must not
        // leave appends waiting for a writer that is gone.
        let done = caught("the writer", "commit", || {
            if woken == Woken::Work {
                commit(shared, committer, committer.lock(), None);
            }
            // Whatever comes in meanwhile, and commits nothing, does not put the mark off.
            let now = Instant::now();
            if calm_at.is_none_or(|at| at > now) {
                calm_at.get_or_insert(now + CALM);
            } else {
                let guard = committer.try_lock();
                let again = guard.is_none_or(|mut guard| guard.mark_when_calm());
                calm_at = again.then_some(now + CALM);
            }
            Ok(())
        });
        if let Err(error) = done {
            shared.refuse(&error);
            calm_at = None;
        }
    }
}

/// What the indexer's thread does. Appends wait for it when it falls behind, so they are told when it
/// is gone.
fn index(shared: &Shared) {
    let ended = caught("the indexer", "index a segment", || {
        shared.indexer.run(shared);
        Ok(())
    });
    if let Err(error) = ended {
        shared.refuse(&error);
        shared.indexer.fail(error);
    }
}

/// What the preparer's thread does; appends wait for it as well.
fn prepare(shared: &Shared) {
    let ended = caught("the preparer", "make a segment", || {
        shared.preparer.run();
        Ok(())
    });
    if let Err(error) = ended {
        shared.refuse(&error);
        shared.preparer.fail(error);
    }
}

/// Commits group after group until nothing is left over, answering without the lock.
fn commit<'a>(
    shared: &Shared,
    committer: &'a Mutex<Committer>,
    mut guard: MutexGuard<'a, Committer>,
    mut first: Option<Request>,
) {
    loop {
        let done = guard.run(first.take());
        guard.prepare_ahead();
        let begins = guard.begins_burst();
        drop(guard);
        let _woken_last = begins.then(|| Nudge(shared));
        if !done.deliver(shared) {
            break;
        }
        guard = committer.lock();
    }
}

/// Wakes the writer's thread when it is dropped, even by a panic in a waker.
struct Nudge<'a>(&'a Shared);

impl Drop for Nudge<'_> {
    fn drop(&mut self) {
        self.0.queue.nudge();
    }
}

fn on_own_thread() -> bool {
    thread::current()
        .name()
        .is_some_and(|name| OWN_THREADS.contains(&name))
}
