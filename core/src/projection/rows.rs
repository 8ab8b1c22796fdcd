//! The rows as a projection sees them while it takes in one event.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::key::{MAX_KEY_BYTES, RowKey, encoded};
use super::lookup::{Lookup, entries_of};
use super::row_store::{Change, RowsError, Space};
use super::{Projection, Redo};
use crate::codec::{RowsOf, decode_row, encode_row};
use crate::envelope::EventEnvelope;
use crate::error::Error;
use crate::failure::HandlerError;
use crate::superseded::Superseded;

/// Most bytes of an encoded row.
const MAX_ROW_BYTES: usize = 1 << 20;
/// Most bytes that one event may change.
const MAX_EVENT_BYTES: usize = 16 << 20;

/// The rows as they stand before and during one event. What is changed here counts only if
/// [`apply`](Projection::apply) returns `Ok`, and then in one step.
pub struct Rows<'a, K, V> {
    of: RowsOf,
    base: &'a Base<'a>,
    touched: BTreeMap<Vec<u8>, Touched<K, V>>,
    /// What a call without a result met.
    failed: Option<FeedError>,
}

/// Reads the bytes of a row as they stood before the event.
pub(crate) type Base<'a> = dyn Fn(&[u8]) -> Result<Option<Vec<u8>>, RowsError> + 'a;

/// One row that this event has looked at.
struct Touched<K, V> {
    key: K,
    before: Option<Vec<u8>>,
    now: Now<V>,
}

/// What the event has done to a row.
enum Now<V> {
    Looked,
    Put(V),
    Removed,
}

/// Why an event was not taken in.
#[derive(Clone, Debug)]
pub enum FeedError {
    /// Its own fault, or the projection's.
    Event(HandlerError),
    /// The rows could not be read.
    Rows(RowsError),
}

/// What `event` makes of the rows that `base` reads.
pub(crate) fn fold<P: Projection>(
    projection: &P,
    lookups: &[Lookup<P::Key, P::Row>],
    event: &EventEnvelope,
    base: &Base<'_>,
) -> Result<Vec<Change>, FeedError> {
    let mut rows = Rows::new(rows_of::<P>(), base);
    let applied = projection.apply(event, &mut rows);
    // What the rows themselves met comes first: the projection may have passed it on, or not.
    if let Some(failed) = rows.failed.take() {
        return Err(failed);
    }
    applied.map_err(FeedError::Event)?;
    rows.finish(lookups).map_err(FeedError::Event)
}

/// What the projection makes of rows whose events gave way; no changes when they are to be made anew.
pub(crate) fn redo<P: Projection>(
    projection: &P,
    lookups: &[Lookup<P::Key, P::Row>],
    what: &Superseded,
    base: &Base<'_>,
) -> Result<(Redo, Vec<Change>), FeedError> {
    let mut rows = Rows::new(rows_of::<P>(), base);
    let redo = projection.superseded(what, &mut rows);
    if let Some(failed) = rows.failed.take() {
        return Err(failed);
    }
    match redo.map_err(FeedError::Event)? {
        Redo::Rebuild => Ok((Redo::Rebuild, Vec::new())),
        Redo::Done => {
            let changes = rows.finish(lookups).map_err(FeedError::Event)?;
            Ok((Redo::Done, changes))
        }
    }
}

pub(crate) fn rows_of<P: Projection>() -> RowsOf {
    RowsOf {
        name: P::NAME,
        version: P::VERSION,
    }
}

/// The bytes of `key`, when a row can have it.
pub(crate) fn key_bytes<K: RowKey>(key: &K) -> Result<Vec<u8>, Error> {
    let bytes = encoded(key);
    if bytes.len() > MAX_KEY_BYTES {
        return Err(Error::too_large("key of a row", bytes.len(), MAX_KEY_BYTES));
    }
    Ok(bytes)
}

/// The bytes of `row`, when there can be such a row.
pub(crate) fn row_bytes<V>(of: RowsOf, row: &V) -> Result<Vec<u8>, Error>
where
    V: Serialize + DeserializeOwned + 'static,
{
    let bytes = encode_row(of, row)?;
    if bytes.len() > MAX_ROW_BYTES {
        return Err(Error::too_large("row", bytes.len(), MAX_ROW_BYTES));
    }
    Ok(bytes)
}

impl<'a, K, V> Rows<'a, K, V>
where
    K: RowKey,
    V: Serialize + DeserializeOwned + Clone + 'static,
{
    fn new(of: RowsOf, base: &'a Base<'a>) -> Self {
        Self {
            of,
            base,
            touched: BTreeMap::new(),
            failed: None,
        }
    }

    /// The row under `key`, with what this event has done to it so far.
    ///
    /// # Errors
    /// When it cannot be read: pass it on.
    pub fn get(&mut self, key: &K) -> Result<Option<V>, HandlerError> {
        let of = self.of;
        let touched = self.touch(key.clone())?;
        match (&touched.now, &touched.before) {
            (Now::Put(row), _) => Ok(Some(row.clone())),
            (Now::Removed, _) | (Now::Looked, None) => Ok(None),
            (Now::Looked, Some(bytes)) => Ok(Some(decode_row(of, bytes)?)),
        }
    }

    /// Puts `row` under `key`, replacing what was there.
    pub fn put(&mut self, key: K, row: V) {
        // Remembered, and the event is not taken in.
        if let Ok(touched) = self.touch(key) {
            touched.now = Now::Put(row);
        }
    }

    /// Takes the row under `key` away, if there is one.
    pub fn remove(&mut self, key: &K) {
        if let Ok(touched) = self.touch(key.clone()) {
            touched.now = Now::Removed;
        }
    }

    /// Changes the row under `key`, or `V::default()` if there is none, and puts it back.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn update(&mut self, key: K, change: impl FnOnce(&mut V)) -> Result<(), HandlerError>
    where
        V: Default,
    {
        let mut row = self.get(&key)?.unwrap_or_default();
        change(&mut row);
        self.put(key, row);
        Ok(())
    }

    fn touch(&mut self, key: K) -> Result<&mut Touched<K, V>, HandlerError> {
        let bytes = key_bytes(&key).map_err(|error| {
            let error = HandlerError::from(error);
            self.failed.get_or_insert(FeedError::Event(error.clone()));
            error
        })?;
        match self.touched.entry(bytes) {
            btree_map::Entry::Occupied(known) => Ok(known.into_mut()),
            btree_map::Entry::Vacant(new) => match (self.base)(new.key()) {
                Ok(before) => Ok(new.insert(Touched {
                    key,
                    before,
                    now: Now::Looked,
                })),
                Err(error) => {
                    self.failed.get_or_insert(FeedError::Rows(error.clone()));
                    Err(error.into())
                }
            },
        }
    }

    /// The changes of rows and lookups, as bytes.
    fn finish(self, lookups: &[Lookup<K, V>]) -> Result<Vec<Change>, HandlerError> {
        let mut changes = Vec::new();
        let mut bytes_changed = 0;
        for (key, row) in self.touched {
            let now = match row.now {
                Now::Looked => continue,
                Now::Put(row) => Some(row),
                Now::Removed => None,
            };
            let value = now
                .as_ref()
                .map(|now| row_bytes(self.of, now))
                .transpose()?;
            if value == row.before {
                continue;
            }
            if !lookups.is_empty() {
                let before = match &row.before {
                    Some(bytes) => entries_of(lookups, &row.key, &decode_row(self.of, bytes)?)?,
                    None => Vec::new(),
                };
                let after = match &now {
                    Some(now) => entries_of(lookups, &row.key, now)?,
                    None => Vec::new(),
                };
                let gone = before.iter().filter(|entry| !after.contains(entry));
                let new = after.iter().filter(|entry| !before.contains(entry));
                let change = |entry: &Vec<u8>, value| Change {
                    space: Space::Lookups,
                    key: entry.clone(),
                    value,
                };
                changes.extend(gone.map(|entry| change(entry, None)));
                changes.extend(new.map(|entry| change(entry, Some(Vec::new()))));
            }
            bytes_changed += key.len() + value.as_ref().map_or(0, Vec::len);
            changes.push(Change {
                space: Space::Rows,
                key,
                value,
            });
        }
        if bytes_changed > MAX_EVENT_BYTES {
            let what = "rows changed by one event";
            return Err(Error::too_large(what, bytes_changed, MAX_EVENT_BYTES).into());
        }
        Ok(changes)
    }
}

impl<K, V> fmt::Debug for Rows<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("of", &self.of.name)
            .field("touched", &self.touched.len())
            .finish_non_exhaustive()
    }
}
