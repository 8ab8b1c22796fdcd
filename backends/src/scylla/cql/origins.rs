//! Requests about what stores say of themselves: `origins`, `parked_by_origin`, `tidelog_meta`.

use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;

use super::super::request::{ForkRows, MetaRow, OriginRow, ParkedRow, Reply, Watermark, WireError};
use super::super::rows::{OriginColumns, ParkedColumns, origin_values};
use super::super::value::Value;
use super::asking::Asking;

impl Asking<'_> {
    pub(super) async fn put_meta(&self, row: &MetaRow) -> Result<Reply, WireError> {
        let said = self.link.config.arbitration_dc.as_deref();
        let arbitration_dc = row.arbitration_dc.as_deref().or(said);
        let values = vec![
            Value::Uuid(row.keyspace_id),
            Value::Int(row.schema_version.cast_signed()),
            Value::of(row.bucket_events),
            Value::of(row.chunk_records),
            Value::set(arbitration_dc.map(Value::Text)),
        ];
        self.whether(&self.statements.put_meta, values).await
    }

    pub(super) async fn origins(
        &self,
        statement: &PreparedStatement,
        values: Vec<Value<'_>>,
    ) -> Result<Reply, WireError> {
        let rows: Vec<OriginColumns> = self.all(statement, values).await?;
        let rows: Result<Vec<OriginRow>, _> =
            rows.into_iter().map(OriginColumns::into_row).collect();
        Ok(Reply::Origins(rows?))
    }

    pub(super) async fn fork(&self, fork: &ForkRows) -> Result<Reply, WireError> {
        let statements = self.statements;
        let mut batch = Batch::new(BatchType::Unlogged);
        let mut values = vec![origin_values(&fork.row)];
        batch.append_statement(statements.register.clone());
        if let Some((epoch, seen)) = &fork.retires {
            let mut retire = vec![Value::Uuid(fork.row.epoch)];
            retire.extend(standing(fork.row.origin, *epoch, seen));
            values.push(retire);
            batch.append_statement(statements.retire.clone());
        }
        self.conditional_batch(batch, values).await
    }

    pub(super) async fn park(&self, row: &ParkedRow) -> Result<Reply, WireError> {
        let values = vec![
            Value::Uuid(row.key.origin),
            Value::Uuid(row.key.epoch),
            Value::Text(row.key.stream.aggregate_type()),
            Value::Text(row.key.stream.aggregate_id()),
            Value::of(row.key.first_position),
            Value::of(row.first_sequence),
            Value::set(row.until_position.map(Value::of)),
            Value::Text(&row.reason),
            Value::Uuid(*row.local_event.as_uuid()),
            Value::set(row.remote.map(|(sequence, _)| Value::of(sequence))),
            Value::set(row.remote.map(|(_, id)| Value::Uuid(*id.as_uuid()))),
        ];
        self.whether(&self.statements.park, values).await
    }

    pub(super) async fn parked(
        &self,
        origin: uuid::Uuid,
        epoch: uuid::Uuid,
    ) -> Result<Reply, WireError> {
        let values = vec![Value::Uuid(origin), Value::Uuid(epoch)];
        let rows: Vec<ParkedColumns> = self.all(&self.statements.parked, values).await?;
        let rows: Result<Vec<ParkedRow>, _> = rows
            .into_iter()
            .map(|row| row.into_row(origin, epoch))
            .collect();
        Ok(Reply::Parked(rows?))
    }
}

/// Key of an epoch, and what it must stand at.
pub(super) fn standing(origin: uuid::Uuid, epoch: uuid::Uuid, seen: &Watermark) -> [Value<'_>; 5] {
    [
        Value::Uuid(origin),
        Value::Uuid(epoch),
        Value::Uuid(seen.session),
        Value::of(seen.position),
        Value::Blob(&seen.hash),
    ]
}
