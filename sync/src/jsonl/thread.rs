//! Work that blocks, on a thread of its own, for whoever awaits it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tidelog_core::Error;

/// Whether whoever asked for the work has gone.
#[derive(Clone, Default)]
pub(super) struct Stopped(Arc<AtomicBool>);

impl Stopped {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sets it when it is dropped.
struct Asker(Stopped);

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// What `work` answers.
pub(super) async fn run<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce(Stopped) -> T + Send + 'static,
) -> Result<T, Error> {
    let stopped = Stopped::default();
    let _asker = Asker(stopped.clone());
    let (reply, answer) = oneshot::async_channel();
    thread::Builder::new()
        .name(format!("tidelog-{what}"))
        .spawn(move || {
            // Nobody is there for the answer any more when the asker has gone.
            let _ = reply.send(work(stopped));
        })
        .map_err(|error| Error::io("start a thread for an", what, error))?;
    // The reader or writer is foreign code: its panic ended the thread.
    answer.await.map_err(|_| Error::Cancelled { what })
}
