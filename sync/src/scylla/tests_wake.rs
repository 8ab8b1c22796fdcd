//! After a sleep of the machine, against a real server behind connections that are dead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidelog_backends::wire::Cql;
use tidelog_backends::{KeyspaceReplication, ScyllaConfig, SledStore};
use tidelog_core::{EventLog, SystemIds, Ticks};

use super::sink::{ScyllaOptions, ScyllaSink, SinkMessage};
use super::tests::append;
use crate::replicate::embedded::Embedded;
use crate::replicate::mailbox::Mailbox;
use crate::replicate::replicator::{Env, Pace, Replicator};
use crate::replicate::thread::{MachineTicks, Running};
use crate::scylla::status::StatusCell;
use crate::scylla::worker::RuntimeSleeper;

#[path = "../../tests/tools/plain.rs"]
#[allow(dead_code, reason = "shared with tests that do more")]
mod plain;
#[path = "../../tests/tools/proxy.rs"]
#[allow(dead_code, reason = "shared with tests that do more")]
mod proxy;

/// The machine's own, and a sleep that it is told of.
struct Slept {
    ticks: MachineTicks,
    slept: Arc<AtomicU64>,
}

impl Ticks for Slept {
    fn now(&self) -> Duration {
        self.ticks.now()
    }

    fn slept(&self) -> Duration {
        Duration::from_secs(self.slept.load(Ordering::SeqCst))
    }
}

/// How long it takes until everything up to `position` is settled.
#[allow(clippy::disallowed_methods, reason = "this is about real time")]
fn settles(status: &StatusCell, position: u64) -> Duration {
    let begun = Instant::now();
    while status.status().settled < position {
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(120), "{:?}", status.status());
        thread::sleep(Duration::from_millis(5));
    }
    begun.elapsed()
}

#[test]
fn the_first_event_after_a_sleep_is_there_within_ten_seconds_although_connections_are_dead() {
    let Ok(server) = std::env::var("TIDELOG_TEST_SCYLLA") else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no server");
        eprintln!("LEFT OUT: TIDELOG_TEST_SCYLLA names no server");
        return;
    };
    let proxy = proxy::Proxy::start(&server);
    let keyspace = plain::keyspace("wake");
    let config = ScyllaConfig::new([proxy.address()])
        .keyspace(&keyspace)
        .replication(KeyspaceReplication::Simple(1))
        .migrate_at_connect();
    let cql = Cql::new(config).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::builder(dir.path().join("events")).sparse_segments();
    let store = store.open().unwrap();
    let slept = Arc::<AtomicU64>::default();
    let ticks: Arc<dyn Ticks> = Arc::new(Slept {
        ticks: MachineTicks::new(),
        slept: Arc::clone(&slept),
    });
    let options = ScyllaOptions {
        server: cql.server(),
        name: "till".into(),
        lanes: 64,
        parked: super::park::MAX_PARKED,
        overlap: 2_000,
        ids: Arc::new(SystemIds),
        ticks: Arc::clone(&ticks),
    };
    let status = Arc::new(StatusCell::new(store.identity().epoch));
    let replicator = Replicator {
        sink: ScyllaSink::new(cql.near(), options),
        outbox: Arc::new(Embedded::new(&store).unwrap()),
        env: Env {
            ticks,
            sleeper: Arc::new(RuntimeSleeper),
            ids: Arc::new(SystemIds),
        },
        pace: Pace::default(),
        mailbox: Arc::<Mailbox<SinkMessage>>::default(),
        status: Arc::clone(&status),
    };
    let running = Running::start(replicator, cql);
    settles(&status, append(&store, "T/a", 3));
    // This machine may have something else to do for ten seconds, but not each time.
    let took = (1..=3).map(|time| {
        proxy.forget();
        slept.store(time * 3_600, Ordering::SeqCst);
        settles(&status, append(&store, "T/a", 1))
    });
    let took: Vec<_> = took.collect();
    let within = |took: &Duration| *took <= Duration::from_secs(10);
    assert!(took.iter().any(within), "{took:?}");
    assert_eq!(status.status().retries, 0, "nobody waited for the dead");
    running.stop();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let session = plain::session(&server).await;
        plain::drop_keyspace(&session, &keyspace).await;
    });
}

#[test]
fn a_runtime_that_ends_with_the_replicator_on_it_leaves_nobody_waiting() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ScyllaConfig::new(["127.0.0.1:1"]).runtime(runtime.handle().clone());
    let config = crate::DistributedConfig::new().scylla(config);
    let dir = tempfile::tempdir().unwrap();
    let log = crate::Tidelog::builder(dir.path()).distributed(config);
    let log = log.open().unwrap();
    runtime.shutdown_timeout(Duration::from_secs(30));
    let replication = log.replication();
    let asked = replication.blocking().retry();
    assert_eq!(asked.unwrap_err().code(), "closed");
    let waited = pollster::block_on(log.wait_for(1, crate::Stage::Replicated));
    assert_eq!(waited.unwrap_err().code(), "closed");
    pollster::block_on(log.close()).unwrap();
}
