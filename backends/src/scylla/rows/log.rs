//! Rows of `log_by_origin`.

use bytes::Bytes;
use scylla::DeserializeRow;
use tidelog_core::EventId;
use uuid::Uuid;

use super::hash;
use crate::scylla::request::{LogRow, WireError};

#[derive(DeserializeRow)]
pub(crate) struct LogColumns {
    position: i64,
    event_id: Uuid,
    commit_number: i64,
    commit_first: i64,
    commit_count: i32,
    commit_hash: Bytes,
    record: Bytes,
}

/// The same without the record.
#[derive(DeserializeRow)]
pub(crate) struct LogEndColumns {
    position: i64,
    event_id: Uuid,
    commit_number: i64,
    commit_first: i64,
    commit_count: i32,
    commit_hash: Bytes,
}

impl LogColumns {
    pub(crate) fn into_row(self) -> Result<LogRow, WireError> {
        Ok(LogRow {
            position: self.position.cast_unsigned(),
            event_id: EventId::from_uuid(self.event_id),
            commit_number: self.commit_number.cast_unsigned(),
            commit_first: self.commit_first.cast_unsigned(),
            commit_count: self.commit_count.cast_unsigned(),
            commit_hash: hash(&self.commit_hash)?,
            record: self.record,
        })
    }
}

impl LogEndColumns {
    pub(crate) fn into_row(self) -> Result<LogRow, WireError> {
        Ok(LogRow {
            position: self.position.cast_unsigned(),
            event_id: EventId::from_uuid(self.event_id),
            commit_number: self.commit_number.cast_unsigned(),
            commit_first: self.commit_first.cast_unsigned(),
            commit_count: self.commit_count.cast_unsigned(),
            commit_hash: hash(&self.commit_hash)?,
            record: Bytes::new(),
        })
    }
}
