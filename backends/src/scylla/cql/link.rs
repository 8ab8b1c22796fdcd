//! The session that is in use, made and made again.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::ExecutionError;
use scylla::policies::retry::DefaultRetryPolicy;
use scylla::statement::SerialConsistency;
use scylla::statement::prepared::PreparedStatement;
use tidelog_core::{BoxFuture, Error, ErrorKind};
use tokio::sync::Mutex;

use super::super::config::ScyllaConfig;
use super::super::failure::{
    class, class_of_connecting, is_missing_schema, user_error, wire_error,
};
use super::super::request::{ErrorClass, MetaRow, Reply, Request, Wire, WireError};
use super::super::rows::MetaColumns;
use super::super::schema::{self, MigrateReport};
use super::super::statements::{self, Statements};
use super::asking::Asking;

const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));

/// The session that is in use. To be polled on the worker's runtime alone.
pub(crate) struct Link {
    pub(super) config: ScyllaConfig,
    pub(super) now: ArcSwapOption<Connected>,
    /// One renewal at a time.
    renewing: Mutex<()>,
}

pub(super) struct Connected {
    pub session: Session,
    ping: PreparedStatement,
    pub statements: Statements,
}

impl Link {
    pub(super) fn new(config: ScyllaConfig) -> Self {
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

    pub(super) async fn migrate(&self) -> Result<MigrateReport, Error> {
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

    pub(super) async fn connect(&self) -> Result<MetaRow, Error> {
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

    pub(super) fn failed(&self, error: &ExecutionError) -> WireError {
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
