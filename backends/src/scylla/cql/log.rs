//! Requests about `log_by_origin`.

use scylla::statement::batch::{Batch, BatchType};

use super::super::request::{Chunk, LogRow, PageAt, Reply, Rows, WireError};
use super::super::rows::{LogColumns, LogEndColumns};
use super::super::value::Value;
use super::asking::Asking;

impl Asking<'_> {
    pub(super) async fn put_log(&self, chunk: &Chunk, rows: &[LogRow]) -> Result<Reply, WireError> {
        let mut batch = Batch::new(BatchType::Unlogged);
        let mut values = Vec::with_capacity(rows.len());
        for row in rows {
            let mut of_row = chunk_values(chunk);
            of_row.extend([
                Value::of(row.position),
                Value::Uuid(*row.event_id.as_uuid()),
                Value::of(row.commit_number),
                Value::of(row.commit_first),
                Value::Int(row.commit_count.cast_signed()),
                Value::Blob(&row.commit_hash),
                Value::Blob(&row.record),
            ]);
            values.push(of_row);
            batch.append_statement(self.statements.insert_log.clone());
        }
        batch.set_consistency(self.statements.write);
        batch.set_serial_consistency(Some(self.statements.serial));
        batch.set_is_idempotent(true);
        let answer = self.session.batch(&batch, values).await;
        answer.map_err(|error| self.link.failed(&error))?;
        Ok(Reply::Done)
    }

    pub(super) async fn log(
        &self,
        chunk: &Chunk,
        from: u64,
        (wide, records): (bool, bool),
        page: PageAt,
    ) -> Result<Reply, WireError> {
        let mut values = chunk_values(chunk);
        values.push(Value::bound(from));
        let (rows, next) = if records {
            let statement = self.statements.log.at(wide);
            let (rows, next) = self.page::<LogColumns>(statement, &values, page).await?;
            let rows: Result<Vec<_>, _> = rows.into_iter().map(LogColumns::into_row).collect();
            (rows?, next)
        } else {
            let statement = self.statements.log_ends.at(wide);
            let (rows, next) = self.page::<LogEndColumns>(statement, &values, page).await?;
            let rows: Result<Vec<_>, _> = rows.into_iter().map(LogEndColumns::into_row).collect();
            (rows?, next)
        };
        Ok(Reply::Log(Rows { rows, next }))
    }
}

pub(super) fn chunk_values(chunk: &Chunk) -> Vec<Value<'static>> {
    vec![
        Value::Uuid(chunk.origin),
        Value::Uuid(chunk.epoch),
        Value::of(chunk.number),
    ]
}
