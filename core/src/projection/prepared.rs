//! A projection that was checked, with its lookups at hand.

use std::fmt;
use std::ops::RangeBounds;

use super::entries::{self, InSlot};
use super::key::RowKey;
use super::lookup::{Lookup, entries_of, names_hash};
use super::row_store::{Checkpoint, RowStore, RowsError, Slot};
use super::rows::{key_bytes, row_bytes, rows_of};
use super::{FoundRow, KeyedRow, Projection, check};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::id::EventId;
use crate::read::Direction;

/// A projection made ready for use, which reads rows of a slot by their types: what runners and
/// read models are made of. Users meet read models instead.
pub struct Prepared<P: Projection> {
    pub(crate) projection: P,
    pub(crate) lookups: Vec<Lookup<P::Key, P::Row>>,
    names_hash: u64,
}

impl<P: Projection> Prepared<P> {
    /// Checks `projection`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when its name, versions or lookups cannot be.
    pub fn new(projection: P) -> Result<Self, Error> {
        check::<P>()?;
        let lookups = P::lookups();
        Ok(Self {
            projection,
            names_hash: names_hash(&lookups),
            lookups,
        })
    }

    /// The checkpoint of rows that hold nothing yet.
    pub fn start(&self) -> Checkpoint {
        Checkpoint {
            version: P::VERSION,
            lookups: self.names_hash,
            position: 0,
            event_id: EventId::from_bytes([0; 16]),
            recorded_time: Timestamp::from_micros(0),
            rows: 0,
        }
    }

    /// Whether rows with this checkpoint are of this very version and have these lookups.
    pub fn is_of_today(&self, checkpoint: &Checkpoint) -> bool {
        checkpoint.version == P::VERSION && checkpoint.lookups == self.names_hash
    }

    /// Whether rows with this checkpoint, of an older version, can be read.
    pub fn can_serve(&self, checkpoint: &Checkpoint) -> bool {
        (P::ROWS_SINCE..P::VERSION).contains(&checkpoint.version)
            && checkpoint.lookups == self.names_hash
    }

    /// Whether there can be such a row, and its entries of lookups.
    ///
    /// # Errors
    /// [`Error::TooLarge`], or [`Error::Codec`] for a row that postcard cannot hold.
    pub fn check_row(&self, key: &P::Key, row: &P::Row) -> Result<(), Error> {
        key_bytes(key)?;
        row_bytes(rows_of::<P>(), row)?;
        entries_of(&self.lookups, key, row)?;
        Ok(())
    }

    /// The row under `key`.
    ///
    /// # Errors
    /// [`RowsError`].
    pub fn get<S: RowStore>(
        &self,
        store: &S,
        slot: &Slot,
        key: &P::Key,
    ) -> Result<Option<P::Row>, RowsError> {
        entries::get::<P>(&InSlot(store, slot), key)
    }

    /// At most `limit` rows with keys in `range`.
    ///
    /// # Errors
    /// [`RowsError`].
    pub fn scan<S: RowStore>(
        &self,
        store: &S,
        slot: &Slot,
        range: &impl RangeBounds<P::Key>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<KeyedRow<P>>, RowsError> {
        entries::scan::<P>(&InSlot(store, slot), range, direction, limit)
    }

    /// At most `limit` rows that `lookup` finds under keys in `range`.
    ///
    /// # Errors
    /// [`RowsError`]; in it [`Error::InvalidInput`] when there is no such lookup, or it finds by
    /// keys of another type.
    pub fn find<L: RowKey, S: RowStore>(
        &self,
        store: &S,
        slot: &Slot,
        lookup: &str,
        range: &impl RangeBounds<L>,
        limit: usize,
    ) -> Result<Vec<FoundRow<P, L>>, RowsError> {
        entries::find::<P, L>(&InSlot(store, slot), &self.lookups, lookup, range, limit)
    }
}

impl<P: Projection> fmt::Debug for Prepared<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("projection", &P::NAME)
            .field("version", &P::VERSION)
            .finish_non_exhaustive()
    }
}
