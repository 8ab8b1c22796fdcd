//! Rows as values of CQL, and back.

mod events;
mod log;
mod origins;
mod snapshots;

pub(crate) use events::{EventColumns, HeadColumns, IdColumns, event_values};
pub(crate) use log::{LogColumns, LogEndColumns};
pub(crate) use origins::{OriginColumns, ParkedColumns, origin_values};
pub(crate) use snapshots::SnapshotColumns;

use scylla::DeserializeRow;
use scylla::deserialize::row::ColumnIterator;
use scylla::response::query_result::{QueryResult, QueryRowsResult};
use uuid::Uuid;

use super::request::{ErrorClass, MetaRow, WireError};

/// What the server answered is not what was asked for.
pub(crate) fn strange(what: &str, found: impl std::fmt::Display) -> WireError {
    WireError {
        class: ErrorClass::Refused,
        text: format!("the server's {what} cannot be understood: {found}").into(),
    }
}

/// The rows of an answer.
pub(crate) fn rows_of(answer: QueryResult) -> Result<QueryRowsResult, WireError> {
    answer
        .into_rows_result()
        .map_err(|error| strange("answer", error))
}

/// The rows of an answer, each as `R`.
pub(crate) fn each<R>(rows: &QueryRowsResult) -> Result<Vec<R>, WireError>
where
    R: for<'f> scylla::deserialize::row::DeserializeRow<'f, 'f>,
{
    rows.rows::<R>()
        .map_err(|error| strange("rows", error))?
        .collect::<Result<_, _>>()
        .map_err(|error| strange("row", error))
}

/// Whether a conditional write was applied: its first row says so. An answer that cannot be understood
/// leaves open whether it was.
pub(crate) fn applied(answer: QueryResult) -> Result<bool, WireError> {
    said_applied(answer).map_err(|error| WireError {
        class: ErrorClass::Unclear,
        ..error
    })
}

fn said_applied(answer: QueryResult) -> Result<bool, WireError> {
    let rows = rows_of(answer)?;
    let mut rows = rows
        .rows::<ColumnIterator<'_, '_>>()
        .map_err(|error| strange(CONDITIONAL, error))?;
    let Some(first) = rows.next() else {
        return Err(strange(CONDITIONAL, "it is empty"));
    };
    let columns = first.map_err(|error| strange(CONDITIONAL, error))?;
    let columns: Result<Vec<_>, _> = columns.collect();
    let columns = columns.map_err(|error| strange(CONDITIONAL, error))?;
    let columns = columns.iter().map(|column| {
        (
            column.spec.name(),
            column.slice.map(|slice| slice.as_slice()),
        )
    });
    says_applied(columns)
}

const CONDITIONAL: &str = "answer to a conditional write";

/// Reads the column `[applied]`, by its name: what else stands in such an answer differs from server
/// to server (Cassandra: the columns of the conditions; `ScyllaDB`: an old row for each statement of
/// the batch) and is not looked at.
fn says_applied<'a>(
    mut columns: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
) -> Result<bool, WireError> {
    match columns.find(|(name, _)| *name == "[applied]") {
        Some((_, Some([0]))) => Ok(false),
        Some((_, Some([1]))) => Ok(true),
        Some((_, other)) => Err(strange("[applied]", format!("{other:?}"))),
        None => Err(strange(CONDITIONAL, "it has no [applied]")),
    }
}

#[derive(DeserializeRow)]
pub(crate) struct MetaColumns {
    pub(crate) keyspace_id: Option<Uuid>,
    pub(crate) schema_version: Option<i32>,
    pub(crate) migrating: Option<Uuid>,
    pub(crate) bucket_events: Option<i64>,
    pub(crate) chunk_records: Option<i64>,
    pub(crate) arbitration_dc: Option<Box<str>>,
}

impl MetaColumns {
    pub(crate) fn first(answer: QueryResult) -> Result<Option<Self>, WireError> {
        Ok(each(&rows_of(answer)?)?.into_iter().next())
    }

    /// `None` for a row that lacks what is fixed at its making.
    pub(crate) fn into_row(self) -> Option<MetaRow> {
        Some(MetaRow {
            keyspace_id: self.keyspace_id?,
            schema_version: self.schema_version?.cast_unsigned(),
            bucket_events: self.bucket_events?.cast_unsigned(),
            chunk_records: self.chunk_records?.cast_unsigned(),
            arbitration_dc: self.arbitration_dc,
        })
    }
}

fn hash(bytes: &[u8]) -> Result<[u8; 32], WireError> {
    bytes
        .try_into()
        .map_err(|_| strange("chain hash", format!("it has {} bytes", bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(columns: &[(&str, Option<&[u8]>)]) -> Option<bool> {
        says_applied(columns.iter().copied()).ok()
    }

    #[test]
    fn not_applied_is_read_by_name() {
        // Cassandra, applied: nothing else. Not applied: the columns of the conditions.
        assert_eq!(says(&[("[applied]", Some(&[1]))]), Some(true));
        let not = [
            ("[applied]", Some(&[0_u8][..])),
            ("head_sequence", Some(&[1])),
        ];
        assert_eq!(says(&not), Some(false));
        // ScyllaDB: the old row as well, whether it was applied or not.
        for (byte, applied) in [(&[0_u8][..], false), (&[1], true)] {
            let old = [
                ("[applied]", Some(byte)),
                ("aggregate_type", None),
                ("head_sequence", Some(&[1])),
            ];
            assert_eq!(says(&old), Some(applied));
            let turned: Vec<_> = old.iter().rev().copied().collect();
            assert_eq!(says(&turned), Some(applied));
        }
        assert_eq!(says(&[("applied", Some(&[1]))]), None);
        assert_eq!(says(&[("[applied]", None)]), None);
        assert_eq!(says(&[]), None);
    }
}
