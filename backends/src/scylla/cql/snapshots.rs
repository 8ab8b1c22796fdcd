//! Requests about `snapshots` and `snapshot_parts`.

use bytes::Bytes;
use tidelog_core::StreamId;

use super::super::request::{Reply, SnapshotRow, WireError};
use super::super::rows::SnapshotColumns;
use super::super::value::Value;
use super::asking::Asking;

impl Asking<'_> {
    pub(super) async fn snapshot(&self, stream: &StreamId) -> Result<Reply, WireError> {
        let values = self.stream_values(stream);
        let rows: Vec<SnapshotColumns> = self.all(&self.statements.snapshot, values).await?;
        let row = rows.into_iter().next();
        let row = row.map(|row| row.into_row(stream)).transpose()?;
        Ok(Reply::Snapshot(row.map(Box::new)))
    }

    pub(super) async fn part(
        &self,
        stream: &StreamId,
        version: uuid::Uuid,
        part: u32,
    ) -> Result<Reply, WireError> {
        let mut values = self.stream_values(stream);
        values.extend([Value::Uuid(version), Value::Int(part.cast_signed())]);
        let rows: Vec<(Option<Bytes>,)> = self.all(&self.statements.part, values).await?;
        let state = rows.into_iter().next().and_then(|(state,)| state);
        Ok(Reply::Part(state))
    }

    pub(super) async fn set_snapshot(
        &self,
        seen: Option<uuid::Uuid>,
        row: &SnapshotRow,
    ) -> Result<Reply, WireError> {
        let mut values = vec![
            Value::of(row.sequence),
            Value::Uuid(*row.event_id.as_uuid()),
            Value::of(u64::from(row.revision)),
            Value::Text(row.content_type.as_str()),
            Value::Big(row.taken_time.as_micros()),
            Value::Uuid(row.version),
            Value::Int(row.parts.cast_signed()),
            Value::Blob(&row.state),
        ];
        values.extend(self.stream_values(&row.stream));
        let statement = match seen {
            None => &self.statements.set_first_snapshot,
            Some(version) => {
                values.push(Value::Uuid(version));
                &self.statements.set_snapshot
            }
        };
        self.whether(statement, values).await
    }
}
