//! Keyspaces of this run's own, `t<process id>_<purpose>`.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use tidelog_backends::scylla_driver::client::session::Session;
use tidelog_backends::scylla_driver::client::session_builder::SessionBuilder;
use tidelog_backends::{KeyspaceReplication, ScyllaConfig, ScyllaStore};

/// `host:port` of the server; `None` when there is none, which is said, and in CI a failure.
pub fn server() -> Option<String> {
    let server = std::env::var("TIDELOG_TEST_SCYLLA").ok();
    if server.is_none() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "TIDELOG_TEST_SCYLLA names no server"
        );
        // Past what cargo catches of a test that passes.
        let _ = writeln!(
            std::io::stderr(),
            "*** LEFT OUT: TIDELOG_TEST_SCYLLA names no server"
        );
    }
    server
}

/// A keyspace that is dropped with this.
pub struct Keyspace {
    pub name: String,
    server: String,
}

/// A namespace that no other test has.
pub fn namespace() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}.{next}", std::process::id())
}

/// A configuration of a keyspace that all tests of this process share. Nobody is left to drop it:
/// the next run does.
pub fn shared(purpose: &str, made_as: fn(ScyllaConfig) -> ScyllaConfig) -> ScyllaConfig {
    static MADE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let server = server().unwrap();
    let config = ScyllaConfig::new([&server])
        .keyspace(format!("t{}_{purpose}", std::process::id()))
        .replication(KeyspaceReplication::Simple(1));
    let config = made_as(config);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if made.is_empty() {
        drop_those_of_the_dead(&server);
    }
    if !made.contains(purpose) {
        pollster::block_on(ScyllaStore::migrate(config.clone())).unwrap();
        made.insert(purpose.to_owned());
    }
    config
}

/// Drops keyspaces of test processes that have ended.
fn drop_those_of_the_dead(server: &str) {
    with_session(server, async |session| {
        let asked = session
            .query_unpaged("SELECT keyspace_name FROM system_schema.keyspaces", &[])
            .await;
        let rows = asked.unwrap().into_rows_result().unwrap();
        for row in rows.rows::<(String,)>().unwrap() {
            let (name,) = row.unwrap();
            let id = name.strip_prefix('t').and_then(|rest| rest.split_once('_'));
            let is_dead = id.is_some_and(|(id, _)| {
                id.parse::<u32>().is_ok() && !Path::new("/proc").join(id).exists()
            });
            if is_dead && Path::new("/proc/self").exists() {
                let text = format!("DROP KEYSPACE IF EXISTS \"{name}\"");
                session.query_unpaged(text, &[]).await.unwrap();
            }
        }
    });
}

impl Keyspace {
    /// A name that no other has; nothing is made yet.
    pub fn named(purpose: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}_{purpose}_{next}", std::process::id());
        Some(Self {
            name,
            server: server()?,
        })
    }

    /// Runs statements by a session of their own.
    pub fn cql(&self, texts: &[&str]) {
        cql(&self.server, texts);
    }

    /// Sets columns of the row that the keyspace has about itself, as only a test does.
    pub fn set_meta(&self, columns: &str) {
        let keyspace = &self.name;
        let text = format!(
            "UPDATE \"{keyspace}\".tidelog_meta SET {columns} WHERE id = 'keyspace' IF EXISTS"
        );
        self.cql(&[&text]);
    }

    pub fn server(&self) -> &str {
        &self.server
    }

    pub fn config(&self) -> ScyllaConfig {
        self.config_at(&self.server)
    }

    /// The same by way of another address.
    pub fn config_at(&self, address: &str) -> ScyllaConfig {
        ScyllaConfig::new([address])
            .keyspace(&self.name)
            .replication(KeyspaceReplication::Simple(1))
            .migrate_at_connect()
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        let text = format!("DROP KEYSPACE IF EXISTS \"{}\"", self.name);
        // A server that is slow today keeps it: the next run drops it.
        with_session(&self.server, async |session| {
            drop(session.query_unpaged(text, &[]).await);
        });
    }
}

/// Runs statements by a session of their own.
pub fn cql(server: &str, texts: &[&str]) {
    with_session(server, async |session| {
        for text in texts {
            session.query_unpaged(*text, &[]).await.unwrap();
        }
    });
}

/// Runs `work` with a session of its own.
pub fn with_session<T>(server: &str, work: impl AsyncFnOnce(&Session) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let session = SessionBuilder::new()
            .known_node(server)
            .fetch_schema_metadata(false)
            .build()
            .await
            .unwrap();
        work(&session).await
    })
}
