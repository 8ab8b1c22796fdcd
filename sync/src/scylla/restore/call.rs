//! The call that restores a store, on a thread of its own.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::future::{Either, select};
use tidelog_backends::ScyllaConfig;
use tidelog_backends::wire::Cql;
use tidelog_core::{Error, RetryPolicy, SystemIds};

use super::super::ask::trouble;
use super::super::patient::Patient;
use super::sled_copy::SledCopy;
use super::{RestoreOptions, RestoreReport, restore_to};
use crate::listeners::ThreadSleeper;

/// How long a server that does not answer is asked again: some 40 s.
const PATIENCE: RetryPolicy = RetryPolicy {
    attempts: 12,
    first: Duration::from_millis(100),
    ceiling: Duration::from_secs(5),
};

/// Makes the store in directory `to` anew from what the replica in the keyspace of `config` has of
/// its log, in order, every commit proven by the chain of hashes.
///
/// What comes out is a store of its own, with the same events, ids, positions and chain up to
/// [`RestoreReport::position`], in a new epoch that the replica knows: opened with the same
/// configuration it goes on replicating from there. Whole commits are taken also where the server
/// had not yet counted them as settled. The old epoch is given up, unless the options
/// [keep it](RestoreOptions::keep_old_epoch).
///
/// The work is done on a thread of its own; dropping the future stops it. Stopped, killed or failed,
/// the same call goes on with what is there. Until it is done `to` is no store: opening it is
/// [`Error::NotAStore`].
///
/// ```no_run
/// use tidelog::{RestoreOptions, ScyllaConfig, Tidelog};
///
/// # async fn example() -> Result<(), tidelog::Error> {
/// let config = ScyllaConfig::new(["db1:9042"]).keyspace("shop");
/// let report = tidelog::restore(config, RestoreOptions::new(), "./events").await?;
/// println!("restored up to position {}", report.position);
/// let log = Tidelog::open("./events")?;
/// # drop(log);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::InvalidInput`] when the keyspace has no such store, or several to choose from: the
/// message lists them. [`Error::Damaged`] when rows below the watermark are missing or another
/// history's; the origin can send them again by `resync`. [`Error::NotAStore`] when there is something
/// else in `to`, [`Error::Halted`] when the epoch was given up meanwhile, [`Error::Unreachable`],
/// [`Error::ServerRefused`], [`Error::Cancelled`], [`Error::Io`].
pub fn restore(
    config: ScyllaConfig,
    options: RestoreOptions,
    to: impl AsRef<Path>,
) -> impl Future<Output = Result<RestoreReport, Error>> + Send + 'static {
    let to = to.as_ref().to_owned();
    async move {
        let (reply, answer) = oneshot::async_channel();
        // Dropped with this future, and the thread sees that.
        let (_wanted, dropped) = oneshot::async_channel::<()>();
        let dir = to.clone();
        let work = move || {
            let done = pollster::block_on(async {
                let work = pin!(work(config, options, dir));
                match select(work, dropped).await {
                    Either::Left((done, _)) => done,
                    Either::Right(_) => Err(Error::Closed),
                }
            });
            let _ = reply.send(done);
        };
        let thread = thread::Builder::new().name("tidelog-restore".into());
        thread
            .spawn(work)
            .map_err(|error| Error::io("start a thread for", &to, error))?;
        answer.await.unwrap_or(Err(Error::Closed))
    }
}

/// [`restore`] for threads without a runtime.
///
/// # Errors
/// As there.
pub fn restore_blocking(
    config: ScyllaConfig,
    options: RestoreOptions,
    to: impl AsRef<Path>,
) -> Result<RestoreReport, Error> {
    pollster::block_on(work(config, options, to.as_ref().to_owned()))
}

async fn work(
    config: ScyllaConfig,
    options: RestoreOptions,
    dir: PathBuf,
) -> Result<RestoreReport, Error> {
    let (sleeper, ids) = (Arc::new(ThreadSleeper::new()), Arc::new(SystemIds));
    let wire = Patient::new(Cql::new(config)?, PATIENCE, sleeper, ids);
    let connected = wire.connect().await;
    connected.map_err(|error| trouble("restore a store", &error))?;
    let open = |origin, first_epoch, create| SledCopy::open(&dir, origin, first_epoch, create);
    restore_to(&wire, &options, &SystemIds, open).await
}
