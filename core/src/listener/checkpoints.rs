//! Where listeners' checkpoints stand.

use std::any::Any;
use std::fmt;
use std::future::Future;

use bytes::Bytes;

use crate::error::Error;

/// Keeps one small state under a name for each listener: how far it is, and what it has parked.
///
/// # Laws
/// 1. What `save` has acknowledged is what `load` answers until the next `save`, also after a
///    power cut, and also when everything that a store can make again (its index) is lost.
/// 2. A saved state replaces the one before whole: a crash leaves the one or the other.
/// 3. When `save` answers, the log up to the given position survives a power cut too: no
///    checkpoint is ever ahead of its log.
/// 4. One name is claimed by one consumer at a time.
pub trait CheckpointStore: Clone + Send + Sync + 'static {
    /// Claims `name` for one consumer, until the claim is dropped. A name has 1 to 48 of
    /// `a-z 0-9 - _ .` and begins with a letter.
    ///
    /// # Errors
    /// [`Error::Locked`] while another claim of the name is alive, [`Error::InvalidInput`] for a
    /// name that cannot be one, [`Error::Closed`].
    fn claim(&self, name: &str) -> Result<CheckpointClaim, Error>;

    /// The state last saved under `name`.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it cannot be read: it is never taken for a fresh start.
    fn load(&self, name: &str) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send;

    /// Saves `state`, which speaks of the log up to `position`; the log first, then the state.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Closed`]; what was saved before still stands then.
    fn save(
        &self,
        name: &str,
        position: u64,
        state: Bytes,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Makes the log up to `position` survive a power cut. Costs nothing when it already does.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Refused`], [`Error::Closed`].
    fn make_durable(&self, position: u64) -> impl Future<Output = Result<(), Error>> + Send;

    /// All names under which something is saved, in order.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Closed`].
    fn names(&self) -> impl Future<Output = Result<Vec<String>, Error>> + Send;

    /// Forgets what is saved under `name`; nothing is there: nothing happens.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Closed`].
    fn remove(&self, name: &str) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Keeps a name claimed until it is dropped; made by backends.
pub struct CheckpointClaim(
    #[expect(dead_code, reason = "held for its drop")] Box<dyn Any + Send + Sync>,
);

impl CheckpointClaim {
    /// A claim that ends when `held` is dropped.
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self(Box::new(held))
    }
}

impl fmt::Debug for CheckpointClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointClaim").finish_non_exhaustive()
    }
}
