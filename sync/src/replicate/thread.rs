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
use tidelog_backends::wire::Cql;
use tidelog_core::{BoxFuture, Halt, Sleeper, Ticks};

use super::mailbox::{Mailbox, Message};
use super::replicator::Replicator;
use super::sink::Sink;
use super::status::{ReplicationState, StatusCell};

/// A replicator that runs until it is stopped.
pub(crate) struct Running {
    mailbox: Arc<Mailbox>,
    cql: Cql,
    /// Where it is being polled now.
    polled_by: Arc<Mutex<Option<ThreadId>>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Running {
    /// Lets `replicator` run where the driver works.
    pub(crate) fn start<S: Sink + 'static>(replicator: Replicator<S>, cql: Cql) -> Self {
        let polled_by = Arc::<Mutex<Option<ThreadId>>>::default();
        let mailbox = Arc::clone(&replicator.mailbox);
        let (end, ended) = oneshot::channel();
        let (status, left) = (Arc::clone(&replicator.status), Arc::clone(&mailbox));
        let over = Over {
            mailbox: Arc::clone(&mailbox),
            status: Arc::clone(&status),
        };
        let work = AssertUnwindSafe(replicator.run()).catch_unwind();
        let work = async move {
            let _over = over;
            if let Err(panic) = work.await {
                let reason = reason_of(&*panic).into();
                tracing::error!(%reason, "replication panicked");
                left.close();
                let halt = Halt::Internal { reason };
                status.change(true, |status| status.state = ReplicationState::Halted(halt));
            }
            // Nobody waits when this fails.
            let _ = end.send(());
        };
        cql.spawn(Marked {
            work: Box::pin(work),
            polled_by: Arc::clone(&polled_by),
        });
        Self {
            mailbox,
            cql,
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
        let would_block =
            !self.cql.has_own_thread() && tokio::runtime::Handle::try_current().is_ok();
        if is_inside || would_block {
            return;
        }
        // Dropped unsent when its thread has ended before.
        let _ = ended.recv();
        pollster::block_on(self.cql.stop());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Answers all who wait, also where a runtime that was given drops its work unfinished.
struct Over {
    mailbox: Arc<Mailbox>,
    status: Arc<StatusCell>,
}

impl Drop for Over {
    fn drop(&mut self) {
        self.mailbox.close();
        self.status.change(true, |status| {
            if !matches!(
                status.state,
                ReplicationState::Halted(Halt::Internal { .. })
            ) {
                status.state = ReplicationState::Closed;
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

/// Waits by the runtime that it is polled on.
#[derive(Debug)]
pub(crate) struct RuntimeSleeper;

impl Sleeper for RuntimeSleeper {
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
