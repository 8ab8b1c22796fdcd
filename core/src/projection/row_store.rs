//! Where the rows of read models stand, as bytes.

use std::future::Future;
use std::ops::{Bound, ControlFlow};

use crate::clock::Timestamp;
use crate::error::Error;
use crate::id::EventId;
use crate::read::Direction;

/// Keeps the rows of read models, each slot with its checkpoint.
///
/// A *slot* is one physical copy of a read model's rows; while it is made anew there are two, the
/// active one that is asked and the one being built. Everything here is made from the log and can
/// be made again: a slot may be lost, but it must never lie.
///
/// Calls block; [`on_thread`](RowStore::on_thread) leads to where they may.
///
/// # Laws
/// 13. Changes and checkpoint of one `commit` are one step, whatever happens.
/// 14. What one call reads is the state of one commit; entries come in byte order, ranges and
///     limits are exact.
/// 15. A slot that was damaged, or rolled back in part, or is another store's, is never named by
///     `slots`. One rolled back as a whole to an earlier commit may be.
/// 16. Activating is one step: after a crash exactly one slot is active, or none.
pub trait RowStore: Clone + Send + Sync + 'static {
    /// What stands under `model`, checked entry by entry: only slots that add up are named. May
    /// take as long as reading all of its rows; `progress` is told how many were checked so far
    /// now and then, and may cancel.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Closed`], or the engine's failure.
    fn slots(
        &self,
        model: &str,
        progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ModelSlots, Error>;

    /// An empty slot for `model`, the one being built from now on; what was being built before is
    /// removed. [`Checkpoint::rows`] of what is given counts for nothing: the store counts.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a model without a name or with one above 128 bytes,
    /// [`Error::Closed`], or the engine's failure.
    fn create_slot(&self, model: &str, checkpoint: &Checkpoint) -> Result<Slot, RowsError>;

    /// Makes all `changes` and moves the checkpoint, or does nothing of it. At most one change of
    /// a key. Survives a crash once [`flush`](RowStore::flush) has answered, and may before.
    ///
    /// Answers how many rows there are now; [`Checkpoint::rows`] of what is given counts for
    /// nothing. One caller at a time commits to a slot.
    ///
    /// # Errors
    /// [`RowsError`]; [`Error::TooLarge`] for a key or value that is over its limit.
    fn commit(
        &self,
        slot: &Slot,
        changes: &[Change],
        checkpoint: &Checkpoint,
    ) -> Result<u64, RowsError>;

    /// Waits while a [`commit`](RowStore::commit) would have to wait for the disk: whoever keeps
    /// readers out during a commit calls it first.
    fn await_turn(&self) {}

    /// From now on `slot`, which was being built, is the active one of `model`; the one before is
    /// removed. A slot that is active already stays it.
    ///
    /// # Errors
    /// [`RowsError`]; [`RowsError::Lost`] also for a slot that is not `model`'s.
    fn activate(&self, model: &str, slot: &Slot) -> Result<(), RowsError>;

    /// The value under `key`.
    ///
    /// # Errors
    /// [`RowsError`].
    fn get(&self, slot: &Slot, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError>;

    /// At most `limit` entries of `space` with keys in `range`, upwards or downwards.
    ///
    /// # Errors
    /// [`RowsError`].
    fn scan(
        &self,
        slot: &Slot,
        space: Space,
        range: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, RowsError>;

    /// Removes everything of `model`.
    ///
    /// # Errors
    /// [`Error::Closed`], or the engine's failure.
    fn remove_model(&self, model: &str) -> Result<(), Error>;

    /// Writes out what was committed before, so that it need not be made again after a crash.
    /// Takes away some of what removed slots left behind, as [`commit`](RowStore::commit) does.
    ///
    /// # Errors
    /// [`Error::Closed`], or the engine's failure.
    fn flush(&self) -> Result<(), Error>;

    /// Begins the engine anew that keeps the rows: all rows of all models are gone, and slots made
    /// from now on are sound. For when rows that were begun anew are lost again and again.
    ///
    /// # Errors
    /// [`Error::Closed`], or the engine's failure.
    fn renew(&self) -> Result<(), Error>;

    /// Runs `work` where blocking is allowed: on the calling thread for a store of the blocking
    /// face, else on one of the store's own.
    fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send;
}

/// A part of a slot with keys of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// The rows.
    Rows,
    /// What leads to rows by other keys.
    Lookups,
    /// Streams that the projection has parked.
    Parked,
}

/// A key with what stands under it.
pub type Entry = (Vec<u8>, Vec<u8>);

/// One entry put or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub space: Space,
    /// Under which key, at most [`MAX_KEY_BYTES`](Self::MAX_KEY_BYTES).
    pub key: Vec<u8>,
    /// What stands there from now on, at most [`MAX_VALUE_BYTES`](Self::MAX_VALUE_BYTES); `None`
    /// removes it.
    pub value: Option<Vec<u8>>,
}

impl Change {
    /// Most bytes of a key, 2 KiB.
    pub const MAX_KEY_BYTES: usize = 2 << 10;
    /// Most bytes of a value, 1 MiB.
    pub const MAX_VALUE_BYTES: usize = 1 << 20;

    /// Checks the sizes; backends call it for each change, before anything else.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub fn check(&self) -> Result<(), Error> {
        let (key, most) = (self.key.len(), Self::MAX_KEY_BYTES);
        if key > most {
            return Err(Error::too_large("key of a row", key, most));
        }
        let value = self.value.as_ref().map_or(0, Vec::len);
        if value > Self::MAX_VALUE_BYTES {
            return Err(Error::too_large("row", value, Self::MAX_VALUE_BYTES));
        }
        Ok(())
    }
}

/// Checks what a model is called; backends call it before they make a slot.
///
/// # Errors
/// [`Error::InvalidInput`].
pub fn check_model_name(model: &str) -> Result<(), Error> {
    if (1..=128).contains(&model.len()) {
        return Ok(());
    }
    Err(Error::invalid(
        "model name",
        model,
        "it must have 1 to 128 bytes",
    ))
}

/// Names one copy of a model's rows; only the store that made it knows what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Which life of the store's engine it belongs to.
    pub generation: u64,
    /// Its number there.
    pub id: u32,
}

/// What stands under one model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelSlots {
    /// The slot that is asked.
    pub active: Option<(Slot, Checkpoint)>,
    /// The slot being built.
    pub building: Option<(Slot, Checkpoint)>,
}

/// The place up to which a slot has taken the log in, and what proves that it is this log.
///
/// A position alone proves nothing: a power cut may take the newest events of a log written with
/// [`Durability::Process`](crate::Durability::Process), and others then stand at their positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Version of the projection.
    pub version: u32,
    /// What the projection's lookups are called, hashed.
    pub lookups: u64,
    /// Everything up to it is in the rows; 0 before the first event.
    pub position: u64,
    /// The event at `position`; nil at 0.
    pub event_id: EventId,
    /// When that event was recorded; 0 at 0.
    pub recorded_time: Timestamp,
    /// How many entries stand in [`Space::Rows`], as the store counts them.
    pub rows: u64,
}

impl Checkpoint {
    /// Before the first event, of a projection of this version and with these lookups.
    pub const fn beginning(version: u32, lookups: u64) -> Self {
        Self {
            version,
            lookups,
            position: 0,
            event_id: EventId::from_bytes([0; 16]),
            recorded_time: Timestamp::from_micros(0),
            rows: 0,
        }
    }
}

/// Why rows could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RowsError {
    /// The slot is gone or does not add up: it is to be made again from the log.
    #[error("rows were lost: {0}; they are made again from the log")]
    Lost(Box<str>),
    /// The store failed, or is closed.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl RowsError {
    /// The same as an error of the library; rows that were lost are being made again.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Failed(error) => error,
            Self::Lost(what) => Error::Rebuilding {
                what,
                position: 0,
                last: 0,
            },
        }
    }
}
