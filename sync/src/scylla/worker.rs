//! The replicator runs where the driver works.

use std::time::Duration;

use tidelog_backends::wire::Cql;
use tidelog_core::{BoxFuture, Sleeper};

use crate::replicate::thread::Worker;

impl Worker for Cql {
    fn spawn(&self, work: BoxFuture<'static, ()>) {
        Self::spawn(self, work);
    }

    fn may_be_waited_for(&self) -> bool {
        self.has_own_thread() || tokio::runtime::Handle::try_current().is_err()
    }

    fn stop(&self) -> BoxFuture<'static, ()> {
        let cql = self.clone();
        Box::pin(async move { Self::stop(&cql).await })
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
