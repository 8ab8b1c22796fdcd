//! Rows of `snapshots`.

use bytes::Bytes;
use scylla::DeserializeRow;
use tidelog_core::{ContentType, EventId, StreamId, Timestamp};
use uuid::Uuid;

use super::strange;
use crate::scylla::request::{SnapshotRow, WireError};

#[derive(DeserializeRow)]
pub(crate) struct SnapshotColumns {
    sequence: Option<i64>,
    event_id: Option<Uuid>,
    revision: Option<i64>,
    content_type: Option<Box<str>>,
    taken_time: Option<i64>,
    version: Option<Uuid>,
    parts: Option<i32>,
    state: Option<Bytes>,
}

impl SnapshotColumns {
    pub(crate) fn into_row(self, stream: &StreamId) -> Result<SnapshotRow, WireError> {
        let lacks = |what| strange("snapshot", format!("{stream} has no {what}"));
        let revision = self.revision.ok_or_else(|| lacks("revision"))?;
        let content_type = self.content_type.ok_or_else(|| lacks("content type"))?;
        Ok(SnapshotRow {
            stream: stream.clone(),
            sequence: self
                .sequence
                .ok_or_else(|| lacks("sequence"))?
                .cast_unsigned(),
            event_id: EventId::from_uuid(self.event_id.ok_or_else(|| lacks("event"))?),
            revision: u32::try_from(revision).map_err(|_| lacks("revision of 32 bits"))?,
            content_type: ContentType::parse(&content_type)
                .map_err(|error| strange("snapshot", error))?,
            taken_time: Timestamp::from_micros(self.taken_time.ok_or_else(|| lacks("time"))?),
            version: self.version.ok_or_else(|| lacks("version"))?,
            parts: self.parts.unwrap_or(0).cast_unsigned(),
            state: self.state.unwrap_or_default(),
        })
    }
}
