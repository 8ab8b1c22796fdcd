//! Questions by types, answered from entries of bytes.

use std::ops::{Bound, RangeBounds};

use super::key::{RowKey, after_prefix, decoded, encoded};
use super::lookup::{Lookup, prefix_of};
use super::row_store::{Entry, RowStore, RowsError, Slot, Space};
use super::rows::rows_of;
use super::{FoundRow, KeyedRow, Projection};
use crate::codec::decode_row;
use crate::error::Error;
use crate::read::Direction;

type Bytes<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Where entries can be read.
pub(crate) trait Entries {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError>;

    fn scan(
        &self,
        space: Space,
        range: Bytes<'_>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, RowsError>;
}

/// One slot of a store.
pub(crate) struct InSlot<'a, S>(pub(crate) &'a S, pub(crate) &'a Slot);

impl<S: RowStore> Entries for InSlot<'_, S> {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        self.0.get(self.1, space, key)
    }

    fn scan(
        &self,
        space: Space,
        range: Bytes<'_>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, RowsError> {
        self.0.scan(self.1, space, range, direction, limit)
    }
}

pub(crate) fn get<P: Projection>(
    entries: &impl Entries,
    key: &P::Key,
) -> Result<Option<P::Row>, RowsError> {
    let found = entries.get(Space::Rows, &encoded(key))?;
    Ok(found
        .map(|row| decode_row(rows_of::<P>(), &row))
        .transpose()?)
}

pub(crate) fn scan<P: Projection>(
    entries: &impl Entries,
    range: &impl RangeBounds<P::Key>,
    direction: Direction,
    limit: usize,
) -> Result<Vec<KeyedRow<P>>, RowsError> {
    let start = range.start_bound().map(encoded);
    let end = range.end_bound().map(encoded);
    let found = scan_bytes(entries, Space::Rows, &start, &end, direction, limit)?;
    let rows = found.iter().map(|(key, row)| {
        let key = decoded(key).ok_or_else(|| not_a_key::<P>(key))?;
        Ok((key, decode_row(rows_of::<P>(), row)?))
    });
    rows.collect()
}

/// Rows that `lookup` finds under keys in `range`, in the order of these keys, then of the rows'.
pub(crate) fn find<P: Projection, L: RowKey>(
    entries: &impl Entries,
    lookups: &[Lookup<P::Key, P::Row>],
    lookup: &str,
    range: &impl RangeBounds<L>,
    limit: usize,
) -> Result<Vec<FoundRow<P, L>>, RowsError> {
    let prefix = prefix_of::<_, _, L>(lookups, lookup)?;
    let at = |key: &L| {
        let mut bytes = prefix.clone();
        key.encode(&mut bytes);
        bytes
    };
    // All entries of one key begin with its bytes, and no other key's do.
    let behind = |bytes: Vec<u8>| after_prefix(bytes).map_or(Bound::Unbounded, Bound::Excluded);
    let start = match range.start_bound() {
        Bound::Included(key) => Bound::Included(at(key)),
        Bound::Excluded(key) => match after_prefix(at(key)) {
            Some(bytes) => Bound::Included(bytes),
            None => return Ok(Vec::new()),
        },
        Bound::Unbounded => Bound::Included(prefix.clone()),
    };
    let end = match range.end_bound() {
        Bound::Included(key) => behind(at(key)),
        Bound::Excluded(key) => Bound::Excluded(at(key)),
        Bound::Unbounded => behind(prefix.clone()),
    };
    let found = scan_bytes(
        entries,
        Space::Lookups,
        &start,
        &end,
        Direction::Forward,
        limit,
    )?;
    let rows = found.iter().map(|(entry, _)| {
        let mut rest = entry.get(prefix.len()..).unwrap_or_default();
        let found_by = L::decode(&mut rest);
        let (Some(found_by), Some(key)) = (found_by, decoded(rest)) else {
            return Err(not_a_key::<P>(entry).into());
        };
        let Some(row) = get::<P>(entries, &key)? else {
            let what = format!("lookup {lookup} of {} leads to no row", P::NAME);
            return Err(RowsError::Lost(what.into()));
        };
        Ok((found_by, key, row))
    });
    rows.collect()
}

fn scan_bytes(
    entries: &impl Entries,
    space: Space,
    start: &Bound<Vec<u8>>,
    end: &Bound<Vec<u8>>,
    direction: Direction,
    limit: usize,
) -> Result<Vec<Entry>, RowsError> {
    let empty = match (start, end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
        | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
    };
    if empty || limit == 0 {
        return Ok(Vec::new());
    }
    let range = (
        start.as_ref().map(Vec::as_slice),
        end.as_ref().map(Vec::as_slice),
    );
    entries.scan(space, range, direction, limit)
}

fn not_a_key<P: Projection>(bytes: &[u8]) -> Error {
    let reason = format!(
        "it is no key of {}; raise its VERSION when Key changes",
        P::NAME
    );
    Error::invalid("key of a row", format_args!("{bytes:02x?}"), reason)
}
