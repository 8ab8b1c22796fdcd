//! Requests about `events_by_stream`.

use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;

use super::super::request::{AppendRows, Bucket, Expected, PageAt, Reply, Rows, WireError};
use super::super::rows::{EventColumns, HeadColumns, IdColumns, event_values};
use super::super::value::Value;
use super::asking::Asking;

impl Asking<'_> {
    pub(super) async fn head(&self, bucket: &Bucket) -> Result<Reply, WireError> {
        let values = self.bucket_values(bucket);
        let rows: Vec<HeadColumns> = self.all(&self.statements.head, values).await?;
        let head = rows.into_iter().next().and_then(HeadColumns::into_row);
        Ok(Reply::Head(head))
    }

    pub(super) async fn ids(
        &self,
        bucket: &Bucket,
        from: u64,
        to: u64,
        serial: bool,
    ) -> Result<Reply, WireError> {
        let mut values = self.bucket_values(bucket);
        values.extend([Value::bound(from), Value::bound(to)]);
        let statement = self.statements.ids.at(serial);
        let rows: Vec<IdColumns> = self.all(statement, values).await?;
        let ids = rows.into_iter().filter_map(IdColumns::into_row).collect();
        Ok(Reply::Ids(ids))
    }

    pub(super) async fn events(
        &self,
        statement: &PreparedStatement,
        bucket: &Bucket,
        (from, to): (u64, u64),
        page: PageAt,
    ) -> Result<Reply, WireError> {
        let mut values = self.bucket_values(bucket);
        values.extend([Value::bound(from), Value::bound(to)]);
        let (rows, next) = self.page::<EventColumns>(statement, &values, page).await?;
        let mut events = Vec::with_capacity(rows.len());
        for row in rows {
            events.extend(row.into_row(&bucket.stream)?);
        }
        Ok(Reply::Events(Rows { rows: events, next }))
    }

    pub(super) async fn append(&self, append: &AppendRows) -> Result<Reply, WireError> {
        let statements = self.statements;
        let mut batch = Batch::new(BatchType::Unlogged);
        let mut values = Vec::with_capacity(append.rows.len() + 1);
        // The condition first: its token decides where the batch goes.
        let mut head = vec![
            Value::of(append.head.sequence),
            Value::Uuid(*append.head.event_id.as_uuid()),
            Value::Big(append.head.recorded.as_micros()),
        ];
        head.extend(self.bucket_values(&append.bucket));
        batch.append_statement(match append.expected {
            Expected::Nothing => statements.set_head_of_none.clone(),
            Expected::Sequence(sequence) => {
                head.push(Value::of(sequence));
                statements.set_head_at.clone()
            }
            Expected::Event(sequence, id) => {
                head.extend([Value::of(sequence), Value::Uuid(*id.as_uuid())]);
                statements.set_head_of.clone()
            }
        });
        values.push(head);
        for row in &append.rows {
            let mut of_row = self.bucket_values(&append.bucket);
            of_row.extend(event_values(row)?);
            values.push(of_row);
            batch.append_statement(statements.insert_event.clone());
        }
        self.conditional_batch(batch, values).await
    }
}
