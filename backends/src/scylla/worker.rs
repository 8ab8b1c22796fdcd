//! The thread that the driver works on.

use parking_lot::Mutex;
use std::future::Future;
use std::io;
use std::time::Duration;

use tidelog_core::{BoxFuture, Sleeper};
use tokio::runtime::{Builder, Handle};

/// A thread with a current-thread runtime, or a runtime of the user's.
///
/// Dropping it ends the thread, and with it what is under way there; it is not waited for, since the
/// last handle may go on that very thread.
#[derive(Debug)]
pub(crate) struct Worker {
    handle: Handle,
    own: Mutex<Option<Own>>,
}

#[derive(Debug)]
struct Own {
    stop: tokio::sync::oneshot::Sender<()>,
    ended: tokio::sync::oneshot::Receiver<()>,
}

impl Worker {
    /// Starts the thread `name`, unless there is a runtime already.
    pub(crate) fn start(name: &str, runtime: Option<Handle>) -> io::Result<Self> {
        if let Some(handle) = runtime {
            return Ok(Self {
                handle,
                own: Mutex::new(None),
            });
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (end, ended) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Both answers mean that nobody has it any more.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_background();
                let _ = end.send(());
            })?;
        Ok(Self {
            handle,
            own: Mutex::new(Some(Own { stop, ended })),
        })
    }

    /// Lets `work` go on there by itself.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle.spawn(work));
    }

    /// Runs `work` there; `None` when the thread ended before it did. It goes on though the caller
    /// drops its interest.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.spawn(async move {
            let _ = answer.send(work.await);
        });
        answered.await.ok()
    }

    /// Ends the thread and waits until it is gone. What is under way there is dropped.
    pub(crate) async fn stop(&self) {
        let own = self.own.lock().take();
        if let Some(Own { stop, ended }) = own {
            let _ = stop.send(());
            let _ = ended.await;
        }
    }
}

/// Waits by the runtime that it is polled on.
pub(crate) struct TokioSleeper;

impl Sleeper for TokioSleeper {
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}
