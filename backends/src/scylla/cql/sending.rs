//! How statements are sent: conditional ones, one page, every page.

use std::ops::ControlFlow;

use bytes::Bytes;
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::batch::Batch;
use scylla::statement::prepared::PreparedStatement;
use tidelog_core::StreamId;

use super::super::failure;
use super::super::request::{Bucket, Page, PageAt, Reply, WireError};
use super::super::rows::{applied, each, rows_of};
use super::super::value::Value;
use super::asking::Asking;

/// Rows of a page where the request does not say how many.
const PAGE_ROWS: u32 = 5_000;

impl Asking<'_> {
    pub(super) async fn conditional_batch(
        &self,
        mut batch: Batch,
        values: Vec<Vec<Value<'_>>>,
    ) -> Result<Reply, WireError> {
        batch.set_consistency(self.statements.write);
        batch.set_serial_consistency(Some(self.statements.serial));
        batch.set_is_idempotent(false);
        batch.set_retry_policy(Some(failure::never_again()));
        let answer = self.session.batch(&batch, values).await;
        let answer = answer.map_err(|error| self.link.failed(&error))?;
        applied(answer).map(Reply::Applied)
    }

    pub(super) async fn whether(
        &self,
        statement: &PreparedStatement,
        values: Vec<Value<'_>>,
    ) -> Result<Reply, WireError> {
        applied(self.once(statement, values).await?).map(Reply::Applied)
    }

    /// Sends a statement that has one row at most to answer.
    pub(super) async fn once(
        &self,
        statement: &PreparedStatement,
        values: Vec<Value<'_>>,
    ) -> Result<QueryResult, WireError> {
        let sent = self
            .session
            .execute_single_page(statement, values, PagingState::start());
        let (answer, _) = sent.await.map_err(|error| self.link.failed(&error))?;
        Ok(answer)
    }

    /// One page of rows.
    pub(super) async fn page<R>(
        &self,
        statement: &PreparedStatement,
        values: &[Value<'_>],
        page: PageAt,
    ) -> Result<(Vec<R>, Option<Page>), WireError>
    where
        R: for<'f> scylla::deserialize::row::DeserializeRow<'f, 'f>,
    {
        let mut statement = statement.clone();
        let size = i32::try_from(page.rows.max(1)).unwrap_or(i32::MAX);
        statement.set_page_size(size);
        let at = match page.after {
            None => PagingState::start(),
            Some(Page(at)) => PagingState::new_from_raw_bytes(&at[..]),
        };
        let sent = self.session.execute_single_page(&statement, values, at);
        let (answer, next) = sent.await.map_err(|error| self.link.failed(&error))?;
        Ok((each(&rows_of(answer)?)?, next_page(next)))
    }

    /// Every page.
    pub(super) async fn all<R>(
        &self,
        statement: &PreparedStatement,
        values: Vec<Value<'_>>,
    ) -> Result<Vec<R>, WireError>
    where
        R: for<'f> scylla::deserialize::row::DeserializeRow<'f, 'f>,
    {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = PageAt {
                after,
                rows: PAGE_ROWS,
            };
            let (rows, next) = self.page(statement, &values, page).await?;
            all.extend(rows);
            match next {
                None => return Ok(all),
                next => after = next,
            }
        }
    }

    /// Type and id as they stand in the tables of streams and snapshots.
    pub(super) fn stream_values<'s>(&self, stream: &'s StreamId) -> Vec<Value<'s>> {
        let aggregate_type = match &self.link.config.namespace {
            None => Value::Text(stream.aggregate_type()),
            Some(namespace) => Value::Owned(format!("{namespace}:{}", stream.aggregate_type())),
        };
        vec![aggregate_type, Value::Text(stream.aggregate_id())]
    }

    pub(super) fn bucket_values<'s>(&self, bucket: &'s Bucket) -> Vec<Value<'s>> {
        let mut values = self.stream_values(&bucket.stream);
        values.push(Value::of(bucket.number));
        values
    }
}

fn next_page(next: PagingStateResponse) -> Option<Page> {
    match next.into_paging_control_flow() {
        ControlFlow::Break(()) => None,
        ControlFlow::Continue(state) => state
            .as_bytes_slice()
            .map(|at| Page(Bytes::copy_from_slice(at))),
    }
}
