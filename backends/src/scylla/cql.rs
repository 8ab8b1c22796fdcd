//! Everything that is asked of the server, by the driver.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::ExecutionError;
use scylla::policies::retry::DefaultRetryPolicy;
use scylla::response::query_result::QueryResult;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::SerialConsistency;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::prepared::PreparedStatement;
use tidelog_core::{BoxFuture, Direction, Error, ErrorKind, StreamId};
use tokio::sync::Mutex;

use super::config::ScyllaConfig;
use super::failure::{self, class, class_of_connecting, is_missing_schema, user_error, wire_error};
use super::request::{
    AppendRows, Bucket, Chunk, ErrorClass, Expected, ForkRows, LogRow, MetaRow, OriginRow, Page,
    PageAt, ParkedRow, Reply, Request, Rows, SnapshotRow, Watermark, Wire, WireError,
};
use super::rows::{
    EventColumns, HeadColumns, IdColumns, LogColumns, LogEndColumns, MetaColumns, OriginColumns,
    ParkedColumns, SnapshotColumns, applied, each, event_values, origin_values, rows_of,
};
use super::schema::{self, MigrateReport};
use super::statements::{self, Statements};
use super::value::Value;
use super::worker::Worker;

/// Rows of a page where the request does not say how many.
const PAGE_ROWS: u32 = 5_000;
/// A ping that is not answered by then says that the connection is dead.
const PING_PATIENCE: Duration = Duration::from_secs(2);
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));

/// The driver on a thread of its own; a handle.
#[derive(Clone)]
pub struct Cql {
    link: Arc<Link>,
    worker: Arc<Worker>,
}

impl Cql {
    /// Checks the configuration and starts the thread; connects when [`renew`](Wire::renew) is
    /// called.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a configuration that can never be right, [`Error::Io`] when no
    /// thread can be started.
    pub fn new(config: ScyllaConfig) -> Result<Self, Error> {
        config.check()?;
        if let Some(tls) = &config.tls {
            tls.build()?;
        }
        let worker = Worker::start("tidelog-scylla", config.runtime.clone())
            .map_err(|error| Error::io("start", "thread tidelog-scylla", error))?;
        Ok(Self {
            link: Arc::new(Link::new(config)),
            worker: Arc::new(worker),
        })
    }

    /// Makes the tables, or brings them to this version.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::ServerRefused`], [`Error::Schema`] when they are of a newer
    /// version, [`Error::InvalidInput`] when they were made with other settings.
    pub async fn migrate(&self) -> Result<MigrateReport, Error> {
        let link = Arc::clone(&self.link);
        let done = self.worker.run(async move { link.migrate().await });
        done.await.unwrap_or(Err(Error::Closed))
    }

    /// Connects, and answers what the keyspace says of itself.
    pub(crate) async fn connect(&self) -> Result<MetaRow, Error> {
        let link = Arc::clone(&self.link);
        let done = self.worker.run(async move { link.connect().await });
        done.await.unwrap_or(Err(Error::Closed))
    }

    /// The same for work that is [spawned](Self::spawn): without a hand-over between threads.
    pub fn near(&self) -> Arc<dyn Wire> {
        Arc::clone(&self.link) as Arc<dyn Wire>
    }

    /// Lets `work` go on where the driver works. It is dropped when the thread ends.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.worker.spawn(work);
    }

    /// Whether the thread is of its own making, and not a runtime of the configuration's.
    pub fn has_own_thread(&self) -> bool {
        self.link.config.runtime.is_none()
    }

    /// Ends the thread and waits until it is gone, if it is of its own making.
    pub async fn stop(&self) {
        self.worker.stop().await;
    }

    /// Keyspace and contact points, for errors.
    pub fn server(&self) -> Box<str> {
        self.link.config.server()
    }

    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }
}

impl Wire for Cql {
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Reply, WireError>> {
        let link = Arc::clone(&self.link);
        let answer = self.worker.run(async move { link.send(request).await });
        Box::pin(async move { answer.await.unwrap_or_else(|| Err(gone())) })
    }

    fn renew(&self) -> BoxFuture<'_, Result<(), WireError>> {
        let link = Arc::clone(&self.link);
        let answer = self.worker.run(async move { link.renew().await });
        Box::pin(async move { answer.await.unwrap_or_else(|| Err(gone())) })
    }
}

fn gone() -> WireError {
    WireError {
        class: ErrorClass::Unclear,
        text: "the connection's thread has ended".into(),
    }
}

/// The session that is in use. To be polled on the worker's runtime alone.
pub(crate) struct Link {
    config: ScyllaConfig,
    now: ArcSwapOption<Connected>,
    /// One renewal at a time.
    renewing: Mutex<()>,
}

struct Connected {
    session: Session,
    ping: PreparedStatement,
    statements: Statements,
}

impl Link {
    fn new(config: ScyllaConfig) -> Self {
        Self {
            config,
            now: ArcSwapOption::empty(),
            renewing: Mutex::new(()),
        }
    }

    pub(crate) fn config(&self) -> &ScyllaConfig {
        &self.config
    }

    /// Lets go of the session.
    pub(crate) fn disconnect(&self) {
        self.now.store(None);
    }

    async fn migrate(&self) -> Result<MigrateReport, Error> {
        let session = self.session().await.map_err(|error| self.user(&error))?;
        schema::migrate(&session, &self.config).await
    }

    fn user(&self, error: &WireError) -> Error {
        user_error(&self.config, "connect", error)
    }

    async fn renew(&self) -> Result<(), WireError> {
        let _one = self.renewing.lock().await;
        self.now.store(None);
        match self.connect_within().await {
            Ok((connected, _)) => {
                self.now.store(Some(Arc::new(connected)));
                Ok(())
            }
            Err(Failed::Wire(error)) => Err(error),
            // A server that went away while its tables were looked at is no wrong schema.
            Err(Failed::Schema(error)) => Err(WireError {
                class: match error.kind() {
                    ErrorKind::Retry => ErrorClass::NotSent,
                    _ => ErrorClass::Schema,
                },
                text: error.to_string().into(),
            }),
        }
    }

    async fn connect(&self) -> Result<MetaRow, Error> {
        let _one = self.renewing.lock().await;
        match self.connect_within().await {
            Ok((connected, meta)) => {
                schema::check(&self.config, meta.as_ref())?;
                self.now.store(Some(Arc::new(connected)));
                meta.ok_or(Error::Closed)
            }
            Err(Failed::Wire(error)) => Err(self.user(&error)),
            Err(Failed::Schema(error)) => Err(error),
        }
    }

    /// A fresh session with its statements. A row about itself that is missing where the tables are
    /// is no failure: it may have been truncated.
    async fn connect_within(&self) -> Result<(Connected, Option<MetaRow>), Failed> {
        let session = self.session().await?;
        if self.config.migrate_at_connect {
            schema::migrate(&session, &self.config)
                .await
                .map_err(Failed::Schema)?;
        }
        let meta = self.meta(&session).await?;
        if meta.is_some() {
            schema::check(&self.config, meta.as_ref()).map_err(Failed::Schema)?;
        }
        let arbitration_dc = match &meta {
            Some(meta) => meta.arbitration_dc.as_deref(),
            // To decide in another way than those who still know it would be no decision.
            None => self.config.arbitration_dc.as_deref(),
        };
        let statements = Statements::prepare(&session, &self.config, arbitration_dc).await?;
        let ping = statements::ping(&session, &self.config).await?;
        let connected = Connected {
            session,
            ping,
            statements,
        };
        Ok((connected, meta))
    }

    /// The row is the same for ever, so any replica that has it tells the truth; a majority of all
    /// data centres is asked where it has not come yet, or is older.
    async fn meta(&self, session: &Session) -> Result<Option<MetaRow>, Failed> {
        let text = schema::for_keyspace(statements::META, &self.config.keyspace);
        let mut statement = scylla::statement::unprepared::Statement::new(text);
        statement.set_is_idempotent(true);
        let mut found = None;
        for consistency in [
            self.config.consistency.of_reads(),
            scylla::statement::Consistency::Quorum,
        ] {
            statement.set_consistency(consistency);
            let asked = session.query_unpaged(statement.clone(), &[]).await;
            let answer = match asked {
                Ok(answer) => answer,
                Err(error) if is_missing_schema(&error) => {
                    let missing = schema::check(&self.config, None);
                    return Err(
                        missing.map_or_else(Failed::Schema, |()| self.failed(&error).into())
                    );
                }
                Err(error) => return Err(self.failed(&error).into()),
            };
            found = MetaColumns::first(answer)?.and_then(MetaColumns::into_row);
            if schema::check(&self.config, found.as_ref()).is_ok() {
                break;
            }
        }
        Ok(found)
    }

    async fn session(&self) -> Result<Session, WireError> {
        let config = &self.config;
        let profile = ExecutionProfile::builder()
            .request_timeout(Some(config.request_timeout))
            .consistency(config.consistency.of_writes())
            .serial_consistency(Some(SerialConsistency::Serial))
            .retry_policy(
                config
                    .retry_policy
                    .clone()
                    .unwrap_or_else(|| Arc::new(DefaultRetryPolicy::new())),
            )
            .speculative_execution_policy(config.speculative.clone())
            .build();
        let mut builder = SessionBuilder::new()
            .keepalive_interval(KEEPALIVE.0)
            .keepalive_timeout(KEEPALIVE.1)
            .fetch_full_schema_metadata(false)
            .keyspaces_to_fetch([config.keyspace.as_str()]);
        if let Some(settings) = &config.session {
            builder = settings(builder);
        }
        builder = builder
            .known_nodes(&config.contact_points)
            .default_execution_profile_handle(profile.into_handle())
            .connection_timeout(config.connect_timeout)
            // A node that accepts and says nothing must not hold up a fresh session for longer.
            .metadata_request_clientside_timeout(config.connect_timeout);
        builder.config.timestamp_generator = None;
        if let Some(datacenter) = &config.datacenter {
            builder = builder.prefer_datacenter(datacenter.clone());
        }
        if let Some((name, password)) = &config.user {
            builder = builder.user(name, password.expose());
        }
        if let Some(tls) = &config.tls {
            let tls = tls.build().map_err(|error| WireError {
                class: ErrorClass::Refused,
                text: error.to_string().into(),
            })?;
            builder = builder.tls_context(Some(tls));
        }
        builder
            .build()
            .await
            .map_err(|error| wire_error(config, class_of_connecting(&error), &error.to_string()))
    }

    fn failed(&self, error: &ExecutionError) -> WireError {
        wire_error(&self.config, class(error), &error.to_string())
    }

    /// Sends `request`; to be polled on the worker's runtime.
    pub(crate) async fn send(&self, request: Request) -> Result<Reply, WireError> {
        let Some(connected) = self.now.load_full() else {
            return Err(WireError {
                class: ErrorClass::NotSent,
                text: "there is no connection".into(),
            });
        };
        let ask = Asking {
            link: self,
            session: &connected.session,
            statements: &connected.statements,
        };
        match request {
            Request::Ping => ask.ping(&connected.ping).await,
            request => ask.ask(request).await,
        }
    }
}

impl Wire for Link {
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Reply, WireError>> {
        Box::pin(self.send(request))
    }

    fn renew(&self) -> BoxFuture<'_, Result<(), WireError>> {
        Box::pin(Link::renew(self))
    }
}

enum Failed {
    Wire(WireError),
    Schema(Error),
}

impl From<WireError> for Failed {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// One request under way.
struct Asking<'a> {
    link: &'a Link,
    session: &'a Session,
    statements: &'a Statements,
}

impl Asking<'_> {
    async fn ask(&self, request: Request) -> Result<Reply, WireError> {
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

    async fn ping(&self, statement: &PreparedStatement) -> Result<Reply, WireError> {
        let mut statement = statement.clone();
        statement.set_request_timeout(Some(PING_PATIENCE));
        self.once(&statement, vec![]).await?;
        Ok(Reply::Done)
    }

    async fn put_meta(&self, row: &MetaRow) -> Result<Reply, WireError> {
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

    async fn head(&self, bucket: &Bucket) -> Result<Reply, WireError> {
        let values = self.bucket_values(bucket);
        let rows: Vec<HeadColumns> = self.all(&self.statements.head, values).await?;
        let head = rows.into_iter().next().and_then(HeadColumns::into_row);
        Ok(Reply::Head(head))
    }

    async fn ids(
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

    async fn events(
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

    async fn append(&self, append: &AppendRows) -> Result<Reply, WireError> {
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

    async fn conditional_batch(
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

    async fn put_log(&self, chunk: &Chunk, rows: &[LogRow]) -> Result<Reply, WireError> {
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

    async fn log(
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

    async fn origins(
        &self,
        statement: &PreparedStatement,
        values: Vec<Value<'_>>,
    ) -> Result<Reply, WireError> {
        let rows: Vec<OriginColumns> = self.all(statement, values).await?;
        let rows: Result<Vec<OriginRow>, _> =
            rows.into_iter().map(OriginColumns::into_row).collect();
        Ok(Reply::Origins(rows?))
    }

    async fn fork(&self, fork: &ForkRows) -> Result<Reply, WireError> {
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

    async fn park(&self, row: &ParkedRow) -> Result<Reply, WireError> {
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

    async fn parked(&self, origin: uuid::Uuid, epoch: uuid::Uuid) -> Result<Reply, WireError> {
        let values = vec![Value::Uuid(origin), Value::Uuid(epoch)];
        let rows: Vec<ParkedColumns> = self.all(&self.statements.parked, values).await?;
        let rows: Result<Vec<ParkedRow>, _> = rows
            .into_iter()
            .map(|row| row.into_row(origin, epoch))
            .collect();
        Ok(Reply::Parked(rows?))
    }

    async fn snapshot(&self, stream: &StreamId) -> Result<Reply, WireError> {
        let values = self.stream_values(stream);
        let rows: Vec<SnapshotColumns> = self.all(&self.statements.snapshot, values).await?;
        let row = rows.into_iter().next();
        let row = row.map(|row| row.into_row(stream)).transpose()?;
        Ok(Reply::Snapshot(row.map(Box::new)))
    }

    async fn part(
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

    async fn set_snapshot(
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

    /// Type and id as they stand in the tables of streams and snapshots.
    fn stream_values<'s>(&self, stream: &'s StreamId) -> Vec<Value<'s>> {
        let aggregate_type = match &self.link.config.namespace {
            None => Value::Text(stream.aggregate_type()),
            Some(namespace) => Value::Owned(format!("{namespace}:{}", stream.aggregate_type())),
        };
        vec![aggregate_type, Value::Text(stream.aggregate_id())]
    }

    fn bucket_values<'s>(&self, bucket: &'s Bucket) -> Vec<Value<'s>> {
        let mut values = self.stream_values(&bucket.stream);
        values.push(Value::of(bucket.number));
        values
    }

    async fn whether(
        &self,
        statement: &PreparedStatement,
        values: Vec<Value<'_>>,
    ) -> Result<Reply, WireError> {
        applied(self.once(statement, values).await?).map(Reply::Applied)
    }

    /// Sends a statement that has one row at most to answer.
    async fn once(
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
    async fn page<R>(
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
    async fn all<R>(
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
}

fn next_page(next: PagingStateResponse) -> Option<Page> {
    match next.into_paging_control_flow() {
        ControlFlow::Break(()) => None,
        ControlFlow::Continue(state) => state
            .as_bytes_slice()
            .map(|at| Page(Bytes::copy_from_slice(at))),
    }
}

fn chunk_values(chunk: &Chunk) -> Vec<Value<'static>> {
    vec![
        Value::Uuid(chunk.origin),
        Value::Uuid(chunk.epoch),
        Value::of(chunk.number),
    ]
}

/// Key of an epoch, and what it must stand at.
fn standing(origin: uuid::Uuid, epoch: uuid::Uuid, seen: &Watermark) -> [Value<'_>; 5] {
    [
        Value::Uuid(origin),
        Value::Uuid(epoch),
        Value::Uuid(seen.session),
        Value::of(seen.position),
        Value::Blob(&seen.hash),
    ]
}

#[cfg(test)]
mod tests {
    use scylla::statement::Consistency;

    use super::super::config::KeyspaceReplication;
    use super::*;

    /// The driver's own default is `LOCAL_SERIAL`, which loses to another data centre's decisions.
    #[test]
    fn every_statement_is_decided_by_all_data_centres() {
        let Ok(server) = std::env::var("TIDELOG_TEST_SCYLLA") else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no server");
            eprintln!("LEFT OUT: TIDELOG_TEST_SCYLLA names no server");
            return;
        };
        let keyspace = format!("t{}_statements", std::process::id());
        let config = ScyllaConfig::new([server])
            .keyspace(&keyspace)
            .replication(KeyspaceReplication::Simple(1))
            .migrate_at_connect();
        let cql = Cql::new(config).unwrap();
        pollster::block_on(cql.connect()).unwrap();
        let connected = cql.link.now.load_full().unwrap();
        let each = connected.statements.each();
        assert_eq!(each.len(), 33);
        for statement in each {
            let text = statement.get_statement();
            let serial = statement.get_serial_consistency();
            assert_eq!(serial, Some(SerialConsistency::Serial), "{text}");
            let is_read = text.starts_with("SELECT");
            let consistency = statement.get_consistency().unwrap();
            let expected: &[_] = if is_read {
                &[
                    Consistency::LocalQuorum,
                    Consistency::Quorum,
                    Consistency::Serial,
                ]
            } else {
                &[Consistency::LocalQuorum]
            };
            assert!(expected.contains(&consistency), "{consistency} {text}");
            let conditional = text.contains(" IF ")
                || text.contains("INTO \"") && text.contains("events_by_stream");
            let is_tried_again = statement.get_is_idempotent();
            assert_eq!(is_tried_again, !conditional, "{text}");
            if conditional {
                let policy = statement.get_retry_policy().unwrap();
                assert_eq!(format!("{policy:?}"), "FallthroughRetryPolicy");
            }
        }
        let drop = format!("DROP KEYSPACE \"{keyspace}\"");
        let gone = cql
            .worker
            .run(async move { connected.session.query_unpaged(drop, &[]).await.is_ok() });
        assert_eq!(pollster::block_on(gone), Some(true));
    }
}
