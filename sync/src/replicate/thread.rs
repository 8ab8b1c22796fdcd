//! A replicator at work beside an open store.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tidelog_backends::machine;
#[cfg(feature = "kafka")]
use tidelog_core::Error;
use tidelog_core::{BoxFuture, Halt, Ticks};

use super::mailbox::{Mailbox, Message};
use super::replicator::Replicator;
use super::sink::{Asked, Sink};
use super::status::{Phase, SinkCell, SinkStatus};

/// Where a replicator is polled.
pub(crate) trait Worker: Send + Sync + 'static {
    /// Lets `work` run until it is done.
    fn spawn(&self, work: BoxFuture<'static, ()>);

    /// Whether this thread may wait for the end of what runs there: it is not what that needs.
    fn may_be_waited_for(&self) -> bool;

    /// Ends it, after its work.
    fn stop(&self) -> BoxFuture<'static, ()>;
}

/// A thread for a sink whose work needs no runtime.
#[cfg(feature = "kafka")]
pub(crate) struct OwnThread {
    work: Mutex<Option<oneshot::Sender<BoxFuture<'static, ()>>>>,
    ended: Mutex<Option<oneshot::AsyncReceiver<()>>>,
}

#[cfg(feature = "kafka")]
impl OwnThread {
    /// Starts it; it waits for work.
    pub(crate) fn start(name: &'static str) -> Result<Self, Error> {
        let (work, given) = oneshot::channel::<BoxFuture<'static, ()>>();
        let (end, ended) = oneshot::async_channel();
        let thread = thread::Builder::new().name(name.into());
        let started = thread.spawn(move || {
            if let Ok(work) = given.recv() {
                pollster::block_on(work);
            }
            // Nobody waits when this fails.
            let _ = end.send(());
        });
        started.map_err(|error| Error::io("start a thread", name, error))?;
        Ok(Self {
            work: Mutex::new(Some(work)),
            ended: Mutex::new(Some(ended)),
        })
    }
}

#[cfg(feature = "kafka")]
impl Worker for OwnThread {
    fn spawn(&self, work: BoxFuture<'static, ()>) {
        if let Some(give) = self.work.lock().take() {
            // The thread does nothing but wait for it.
            let _ = give.send(work);
        }
    }

    fn may_be_waited_for(&self) -> bool {
        true
    }

    fn stop(&self) -> BoxFuture<'static, ()> {
        let ended = self.ended.lock().take();
        Box::pin(async {
            if let Some(ended) = ended {
                // Dropped unsent when it panicked.
                let _ = ended.await;
            }
        })
    }
}

/// A replicator that runs until it is stopped.
pub(crate) struct Running<A: Asked> {
    mailbox: Arc<Mailbox<A>>,
    worker: Box<dyn Worker>,
    /// Where it is being polled now.
    polled_by: Arc<Mutex<Option<ThreadId>>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl<A: Asked> Running<A> {
    /// Lets `replicator` run where `worker` says.
    pub(crate) fn start<S: Sink<Ask = A> + 'static>(
        replicator: Replicator<S>,
        worker: impl Worker,
    ) -> Self {
        let polled_by = Arc::<Mutex<Option<ThreadId>>>::default();
        let mailbox = Arc::clone(&replicator.mailbox);
        let (end, ended) = oneshot::channel();
        let (status, left) = (Arc::clone(&replicator.status), Arc::clone(&mailbox));
        let over = Over::<S> {
            mailbox: Arc::clone(&mailbox),
            status: Arc::clone(&status),
        };
        let work = AssertUnwindSafe(replicator.run()).catch_unwind();
        let work = async move {
            let _over = over;
            if let Err(panic) = work.await {
                let reason = reason_of(&*panic).into();
                tracing::error!(sink = S::NAME, %reason, "{} panicked", S::Status::WHAT);
                left.close();
                let halt = Halt::Internal { reason };
                status.change(true, |status| status.phase = Phase::Halted(halt));
            }
            // Nobody waits when this fails.
            let _ = end.send(());
        };
        worker.spawn(Box::pin(Marked {
            work: Box::pin(work),
            polled_by: Arc::clone(&polled_by),
        }));
        Self {
            mailbox,
            worker: Box::new(worker),
            polled_by,
            ended: Mutex::new(Some(ended)),
        }
    }

    /// Ends it and waits for that; where it is being polled, or on a runtime that it may need, it only
    /// says so. Doing so again does nothing.
    pub(crate) fn stop(&self) {
        let Some(ended) = self.ended.lock().take() else {
            return;
        };
        self.mailbox.send(Message::Close);
        let is_inside = *self.polled_by.lock() == Some(thread::current().id());
        if is_inside || !self.worker.may_be_waited_for() {
            return;
        }
        // Dropped unsent when its thread has ended before.
        let _ = ended.recv();
        pollster::block_on(self.worker.stop());
    }
}

impl<A: Asked> Drop for Running<A> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Answers all who wait, also where a runtime that was given drops its work unfinished.
struct Over<S: Sink> {
    mailbox: Arc<Mailbox<S::Ask>>,
    status: Arc<SinkCell<S::Status>>,
}

impl<S: Sink> Drop for Over<S> {
    fn drop(&mut self) {
        self.mailbox.close();
        self.status.change(true, |status| {
            if !matches!(status.phase, Phase::Halted(Halt::Internal { .. })) {
                status.phase = Phase::Closed;
            }
        });
        self.status.begun();
    }
}

/// A future that says by which thread it is being polled.
struct Marked {
    work: BoxFuture<'static, ()>,
    polled_by: Arc<Mutex<Option<ThreadId>>>,
}

impl Future for Marked {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        *self.polled_by.lock() = Some(thread::current().id());
        let ready = self.work.as_mut().poll(cx);
        *self.polled_by.lock() = None;
        ready
    }
}

fn reason_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

/// The machine's own passing of time, and its sleep.
#[derive(Debug)]
pub(crate) struct MachineTicks(Instant);

impl MachineTicks {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Ticks for MachineTicks {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn slept(&self) -> Duration {
        machine::slept()
    }
}

#[cfg(all(test, feature = "kafka"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_its_own_ends_with_its_work_and_without_any() {
        let worker = OwnThread::start("tidelog-test").unwrap();
        let (done, told) = oneshot::channel();
        worker.spawn(Box::pin(async move {
            done.send(thread::current().name().map(str::to_owned))
                .unwrap();
        }));
        assert_eq!(told.recv().unwrap().as_deref(), Some("tidelog-test"));
        pollster::block_on(worker.stop());
        let idle = OwnThread::start("tidelog-idle").unwrap();
        let ended = idle.stop();
        drop(idle);
        pollster::block_on(ended);
    }
}
