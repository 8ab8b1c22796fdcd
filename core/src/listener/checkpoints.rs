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
    /// Claims `name` for one consumer, until the claim is dropped. What can be a name says
    /// [`check_listener_name`]; every call that takes one refuses others.
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
    /// [`Error::InvalidInput`] for a position that the log has not reached, [`Error::TooLarge`]
    /// above [`MAX_CHECKPOINT_BYTES`], [`Error::Io`], [`Error::Closed`],
    /// [`Error::UnsupportedFormat`] from a store that may only be read; what was saved before still
    /// stands then.
    fn save(
        &self,
        name: &str,
        position: u64,
        state: Bytes,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Makes the log up to `position` survive a power cut. Costs nothing when it already does.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a position that the log has not reached, [`Error::Io`],
    /// [`Error::Refused`], [`Error::Closed`].
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

/// Most bytes of one saved state.
pub const MAX_CHECKPOINT_BYTES: usize = 16 << 20;

/// Whether `name` can be a listener's: 1 to 48 of `a-z 0-9 - _ .` that begin with a letter. Since it
/// may become the name of a file, it must not end in `.` or `.new`, nor be one that Windows keeps
/// for a device, as `con` or `nul.txt`.
///
/// # Errors
/// [`Error::InvalidInput`].
pub fn check_listener_name(name: &str) -> Result<(), Error> {
    let refuse = |reason: &str| Err(Error::invalid("listener name", name, reason));
    let fits = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    let begins = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase());
    if !begins || name.len() > 48 || !name.bytes().all(fits) {
        return refuse("it must be 1 to 48 of a-z, 0-9, '-', '_', '.' and begin with a letter");
    }
    if matches!(name.rsplit('.').next(), Some("" | "new")) && name.contains('.') {
        return refuse("it must not end in '.' or '.new', which files of other uses end in");
    }
    let stem = name.split('.').next().unwrap_or_default();
    let numbered = stem.strip_prefix("com").or(stem.strip_prefix("lpt"));
    let is_port = numbered.is_some_and(|n| matches!(n.as_bytes(), [b'0'..=b'9']));
    if is_port || matches!(stem, "con" | "prn" | "aux" | "nul") {
        return refuse("Windows keeps this name for a device");
    }
    Ok(())
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
