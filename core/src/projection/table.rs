//! A projection's rows in memory, without a store.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, RangeBounds};

use super::entries::{self, Entries};
use super::key::RowKey;
use super::prepared::Prepared;
use super::row_store::{Entry, RowsError, Space};
use super::rows::{FeedError, fold};
use super::{FoundRow, KeyedRow, Projection};
use crate::envelope::{EventEnvelope, RecordKind};
use crate::error::Error;
use crate::failure::HandlerError;
use crate::read::Direction;

/// The rows of one projection in memory, fed by hand: for tests of a projection, without a store,
/// a thread or time. Rows are encoded and decoded as in a store.
///
/// ```
/// # use tidelog_core::{EventEnvelope, HandlerError, Projection, Rows};
/// use tidelog_core::RowTable;
///
/// /// Counts the events of each aggregate type.
/// struct Counts;
/// impl Projection for Counts {
///     const NAME: &'static str = "counts";
///     type Key = String;
///     type Row = u64;
///     fn apply(&self, event: &EventEnvelope, rows: &mut Rows<'_, String, u64>) -> Result<(), HandlerError> {
///         rows.update(event.aggregate_type().to_owned(), |count| *count += 1)
///     }
/// }
/// let table = RowTable::new(Counts)?;
/// assert_eq!(table.get(&"BankAccount".to_owned())?, None);
/// # Ok::<(), tidelog_core::Error>(())
/// ```
pub struct RowTable<P: Projection> {
    of: Prepared<P>,
    entries: Held,
}

#[derive(Default)]
struct Held(BTreeMap<(Space, Vec<u8>), Vec<u8>>);

impl<P: Projection> RowTable<P> {
    /// No rows yet.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the projection's name, versions or lookups cannot be.
    pub fn new(projection: P) -> Result<Self, Error> {
        Ok(Self {
            of: Prepared::new(projection)?,
            entries: Held::default(),
        })
    }

    /// Takes one event in; control records are passed over.
    ///
    /// # Errors
    /// What the projection answered, or what it did with its rows that cannot be; nothing is
    /// changed then.
    pub fn apply(&mut self, event: &EventEnvelope) -> Result<(), HandlerError> {
        if event.kind == RecordKind::Control {
            return Ok(());
        }
        let held = &self.entries;
        let base = |key: &[u8]| held.get(Space::Rows, key);
        let changes = fold(&self.of.projection, &self.of.lookups, event, &base);
        let changes = changes.map_err(|fault| match fault {
            FeedError::Event(error) => error,
            FeedError::Rows(error) => error.into(),
        })?;
        for change in changes {
            let at = (change.space, change.key);
            match change.value {
                Some(value) => self.entries.0.insert(at, value),
                None => self.entries.0.remove(&at),
            };
        }
        Ok(())
    }

    /// The row under `key`.
    ///
    /// # Errors
    /// [`Error::Codec`].
    pub fn get(&self, key: &P::Key) -> Result<Option<P::Row>, Error> {
        entries::get::<P>(&self.entries, key).map_err(RowsError::into_error)
    }

    /// All rows with keys in `range`, in key order.
    ///
    /// # Errors
    /// [`Error::Codec`].
    pub fn scan(&self, range: impl RangeBounds<P::Key>) -> Result<Vec<KeyedRow<P>>, Error> {
        entries::scan::<P>(&self.entries, &range, Direction::Forward, usize::MAX)
            .map_err(RowsError::into_error)
    }

    /// All rows that `lookup` finds under keys in `range`, in the order of these keys.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there is no such lookup, or it finds by keys of another type.
    pub fn find<L: RowKey>(
        &self,
        lookup: &str,
        range: impl RangeBounds<L>,
    ) -> Result<Vec<FoundRow<P, L>>, Error> {
        entries::find::<P, L>(&self.entries, &self.of.lookups, lookup, &range, usize::MAX)
            .map_err(RowsError::into_error)
    }
}

impl<P: Projection> fmt::Debug for RowTable<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowTable")
            .field("of", &P::NAME)
            .field("entries", &self.entries.0.len())
            .finish_non_exhaustive()
    }
}

impl Entries for Held {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        Ok(self.0.get(&(space, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        space: Space,
        (start, end): (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, RowsError> {
        let of_space = self
            .0
            .iter()
            .filter(|((in_space, _), _)| *in_space == space);
        let mut found: Vec<Entry> = of_space
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .filter(|(key, _)| RangeBounds::<[u8]>::contains(&(start, end), key.as_slice()))
            .collect();
        if direction == Direction::Backward {
            found.reverse();
        }
        found.truncate(limit);
        Ok(found)
    }
}
