//! The call that restores a store, on a thread of its own.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidelog_backends::ScyllaConfig;
use tidelog_backends::wire::Cql;
use tidelog_core::{Error, RetryPolicy, SystemIds};
use tracing::Instrument;

use super::super::ask::trouble;
use super::super::own_thread::on_thread;
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
    on_thread("tidelog-restore", to.clone(), move || {
        work(config, options, to)
    })
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
    let span = tracing::info_span!("restore", to = %dir.display());
    let work = async {
        let wire = connect(config, "restore a store").await?;
        let open = |origin, first_epoch, create| SledCopy::open(&dir, origin, first_epoch, create);
        let report = restore_to(&wire, &options, &SystemIds, open).await?;
        tracing::info!(?report, "the store is restored");
        Ok(report)
    };
    work.instrument(span).await
}

/// A connection whose reads are asked again for a while.
pub(in crate::scylla) async fn connect(
    config: ScyllaConfig,
    action: &str,
) -> Result<Patient<Cql>, Error> {
    let (sleeper, ids) = (Arc::new(ThreadSleeper::new()), Arc::new(SystemIds));
    let wire = Patient::new(Cql::new(config)?, PATIENCE, sleeper, ids);
    let connected = wire.connect().await;
    connected.map_err(|error| trouble(action, &error))?;
    Ok(wire)
}
