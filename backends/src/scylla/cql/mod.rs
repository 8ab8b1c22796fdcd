//! Everything that is asked of the server, by the driver.

mod asking;
mod link;
mod log;
mod origins;
mod sending;
mod snapshots;
mod streams;

pub(crate) use link::Link;

use std::sync::Arc;

use tidelog_core::{BoxFuture, Error};

use super::config::ScyllaConfig;
use super::request::{ErrorClass, MetaRow, Reply, Request, Wire, WireError};
use super::schema::MigrateReport;
use super::worker::Worker;

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

#[cfg(test)]
mod tests {
    use scylla::statement::{Consistency, SerialConsistency};

    use super::*;
    use crate::scylla::config::KeyspaceReplication;

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
