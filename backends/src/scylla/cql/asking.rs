//! One request: which statement it is.

use std::time::Duration;

use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;
use tidelog_core::Direction;

use super::super::request::{Reply, Request, WireError};
use super::super::rows::{MetaColumns, origin_values};
use super::super::statements::Statements;
use super::super::value::Value;
use super::link::Link;
use super::origins::standing;

/// A ping that is not answered by then says that the connection is dead.
const PING_PATIENCE: Duration = Duration::from_secs(2);

/// One request under way.
pub(super) struct Asking<'a> {
    pub link: &'a Link,
    pub session: &'a Session,
    pub statements: &'a Statements,
}

impl Asking<'_> {
    pub(super) async fn ask(&self, request: Request) -> Result<Reply, WireError> {
        let statements = self.statements;
        match request {
            Request::Meta => {
                let answer = self.once(&statements.meta, vec![]).await?;
                let row = MetaColumns::first(answer)?;
                Ok(Reply::Meta(row.and_then(MetaColumns::into_row)))
            }
            Request::PutMeta(row) => self.put_meta(&row).await,
            Request::Ping => Ok(Reply::Done),
            Request::Head(bucket) => self.head(&bucket).await,
            Request::Ids {
                bucket,
                from,
                to,
                serial,
            } => self.ids(&bucket, from, to, serial).await,
            Request::Events {
                bucket,
                from,
                to,
                direction,
                serial,
                page,
            } => {
                let statement = match direction {
                    Direction::Forward => statements.events.at(serial),
                    Direction::Backward => statements.events_newest_first.at(serial),
                };
                self.events(statement, &bucket, (from, to), page).await
            }
            Request::Append(rows) => self.append(&rows).await,
            Request::PutLog { chunk, rows } => self.put_log(&chunk, &rows).await,
            Request::Log {
                chunk,
                from,
                wide,
                records,
                page,
            } => self.log(&chunk, from, (wide, records), page).await,
            Request::Origins(origin) => {
                let values = vec![Value::Uuid(origin)];
                self.origins(&statements.origins, values).await
            }
            Request::AllOrigins => self.origins(&statements.all_origins, vec![]).await,
            Request::Register(row) => {
                let values = origin_values(&row);
                self.whether(&statements.register, values).await
            }
            Request::Claim {
                origin,
                epoch,
                seen,
                session,
            } => {
                let mut values = vec![Value::Uuid(session)];
                values.extend(standing(origin, epoch, &seen));
                self.whether(&statements.claim, values).await
            }
            Request::Advance {
                origin,
                epoch,
                seen,
                to,
                published,
            } => {
                let mut values = vec![
                    Value::of(to.position),
                    Value::Blob(&to.hash),
                    Value::of(to.commit_number),
                    Value::of(published),
                ];
                values.extend(standing(origin, epoch, &seen));
                self.whether(&statements.advance, values).await
            }
            Request::Fork(rows) => self.fork(&rows).await,
            Request::Park(row) => self.park(&row).await,
            Request::Unpark {
                key,
                until_position,
            } => {
                let values = vec![
                    Value::of(until_position),
                    Value::Uuid(key.origin),
                    Value::Uuid(key.epoch),
                    Value::Text(key.stream.aggregate_type()),
                    Value::Text(key.stream.aggregate_id()),
                    Value::of(key.first_position),
                ];
                self.whether(&statements.unpark, values).await
            }
            Request::Parked { origin, epoch } => self.parked(origin, epoch).await,
            Request::Snapshot(stream) => self.snapshot(&stream).await,
            Request::Part {
                stream,
                version,
                part,
            } => self.part(&stream, version, part).await,
            Request::PutPart {
                stream,
                version,
                part,
                state,
            } => {
                let mut values = self.stream_values(&stream);
                values.extend([
                    Value::Uuid(version),
                    Value::Int(part.cast_signed()),
                    Value::Blob(&state),
                ]);
                self.once(&statements.put_part, values).await?;
                Ok(Reply::Done)
            }
            Request::SetSnapshot { seen, row } => self.set_snapshot(seen, &row).await,
            Request::DropParts { stream, before } => {
                let mut values = self.stream_values(&stream);
                values.push(Value::Uuid(before));
                self.once(&statements.drop_parts, values).await?;
                Ok(Reply::Done)
            }
        }
    }

    pub(super) async fn ping(&self, statement: &PreparedStatement) -> Result<Reply, WireError> {
        let mut statement = statement.clone();
        statement.set_request_timeout(Some(PING_PATIENCE));
        self.once(&statement, vec![]).await?;
        Ok(Reply::Done)
    }
}
