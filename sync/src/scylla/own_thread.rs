//! Work that reads and writes files, away from whoever waits for it.

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::thread;

use futures_util::future::{Either, select};
use tidelog_core::Error;

/// Lets `work` be done on a thread `name` of its own; dropping the future stops it at its next wait.
/// `path` is what it works on.
pub(super) async fn on_thread<T, F>(
    name: &'static str,
    path: PathBuf,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>>,
{
    let (reply, answer) = oneshot::async_channel();
    // Dropped with this future, and the thread sees that.
    let (_wanted, dropped) = oneshot::async_channel::<()>();
    let work = move || {
        let done = pollster::block_on(async {
            let work = pin!(work());
            match select(work, dropped).await {
                Either::Left((done, _)) => done,
                Either::Right(_) => Err(Error::Closed),
            }
        });
        let _ = reply.send(done);
    };
    let thread = thread::Builder::new().name(name.into());
    thread
        .spawn(work)
        .map_err(|error| Error::io("start a thread for", path, error))?;
    answer.await.unwrap_or(Err(Error::Closed))
}
