//! The tables: made once, refused when they are missing or another version's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidelog_backends::{KeyspaceReplication, SCHEMA_VERSION, ScyllaConfig, ScyllaStore};
use tidelog_core::{Error, ErrorKind, IdSource, SystemIds};

use crate::keyspaces::Keyspace;
use crate::kit::{append, assert_holds, connect, events, stream};

/// Without migrating.
fn config(keyspace: &Keyspace) -> ScyllaConfig {
    ScyllaConfig::new([keyspace.server()]).keyspace(&keyspace.name)
}

fn replicated(keyspace: &Keyspace) -> ScyllaConfig {
    config(keyspace).replication(KeyspaceReplication::Simple(1))
}

fn migrate(config: ScyllaConfig) -> Result<tidelog_backends::MigrateReport, Error> {
    pollster::block_on(ScyllaStore::migrate(config))
}

fn refused(config: ScyllaConfig) -> Error {
    ScyllaStore::connect_blocking(config).unwrap_err()
}

#[track_caller]
fn assert_schema(error: &Error, version: Option<u32>, said: &str) {
    let Error::Schema { found, wanted, .. } = error else {
        panic!("expected another schema, got {error:?}");
    };
    assert_eq!((*found, *wanted), (version, SCHEMA_VERSION));
    assert_eq!(error.kind(), ErrorKind::FixEnvironment);
    assert!(error.to_string().contains(said), "{error}");
}

#[test]
fn tables_are_never_made_unasked() {
    let Some(keyspace) = Keyspace::named("unasked") else {
        return;
    };
    let missing = "call ScyllaStore::migrate";
    assert_schema(&refused(config(&keyspace)), None, missing);
    // Who may not make a keyspace is told that there is none.
    let error = migrate(config(&keyspace)).unwrap_err();
    assert!(error.to_string().contains(&keyspace.name), "{error}");
    let text = format!(
        "CREATE KEYSPACE \"{}\" WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}",
        keyspace.name
    );
    keyspace.cql(&[&text]);
    assert_schema(&refused(config(&keyspace)), None, missing);

    let made = migrate(config(&keyspace)).unwrap();
    assert_eq!((made.from, made.to), (None, SCHEMA_VERSION));
    assert!(made.statements >= 8, "{made:?}");
    let again = migrate(config(&keyspace)).unwrap();
    assert_eq!(
        (again.from, again.to),
        (Some(SCHEMA_VERSION), SCHEMA_VERSION)
    );
    assert_eq!(again.statements, 0);
    let store = connect(config(&keyspace));
    append(&store, &stream("a"), &events(1));
}

#[test]
fn another_version_is_refused_by_name() {
    let Some(keyspace) = Keyspace::named("versions") else {
        return;
    };
    migrate(replicated(&keyspace)).unwrap();
    keyspace.set_meta("schema_version = 2");
    let newer = "written by a newer tidelog: update this program";
    assert_schema(&refused(config(&keyspace)), Some(2), newer);
    assert_schema(
        &refused(replicated(&keyspace).migrate_at_connect()),
        Some(2),
        newer,
    );
    assert_schema(&migrate(config(&keyspace)).unwrap_err(), Some(2), newer);
    // One that was never finished counts as none, and is finished by the next.
    keyspace.set_meta("schema_version = 0");
    assert_schema(&refused(config(&keyspace)), None, "no tables of tidelog");
    assert_eq!(migrate(config(&keyspace)).unwrap().from, None);
    connect(config(&keyspace));
}

#[test]
fn what_was_fixed_when_it_was_made_stays() {
    let Some(keyspace) = Keyspace::named("fixed") else {
        return;
    };
    migrate(replicated(&keyspace).bucket_events(10)).unwrap();
    for other in [
        config(&keyspace).bucket_events(20),
        config(&keyspace).chunk_records(20),
        config(&keyspace)
            .datacenter("datacenter1")
            .arbitration_dc("datacenter1"),
    ] {
        for error in [refused(other.clone()), migrate(other).unwrap_err()] {
            assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
            assert!(error.to_string().contains("which never changes"), "{error}");
        }
    }
    // Who says nothing takes it as it is.
    assert_eq!(connect(config(&keyspace)).limits().batch_events, 10);
}

#[test]
fn a_keyspace_that_lost_its_row_is_not_made_anew_by_chance() {
    let Some(keyspace) = Keyspace::named("lost") else {
        return;
    };
    let config = replicated(&keyspace).bucket_events(10);
    migrate(config.clone()).unwrap();
    let store = connect(config);
    let added = events(10);
    append(&store, &stream("a"), &added);
    keyspace.cql(&[&format!("TRUNCATE \"{}\".tidelog_meta", keyspace.name)]);

    assert_schema(
        &refused(replicated(&keyspace)),
        None,
        "no tables of tidelog",
    );
    let error = migrate(replicated(&keyspace)).unwrap_err();
    assert!(
        error.to_string().contains("as they were when it was made"),
        "{error}"
    );
    let said = replicated(&keyspace).bucket_events(10).chunk_records(1_000);
    migrate(said.clone()).unwrap();
    assert_holds(&connect(said), &stream("a"), &added);
}

#[test]
fn racing_migrations_make_one_keyspace() {
    let Some(keyspace) = Keyspace::named("raced") else {
        return;
    };
    let config = replicated(&keyspace);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let report = migrate(config.clone()).unwrap();
                assert_eq!(report.to, SCHEMA_VERSION);
                connect(config.clone());
            });
        }
    });
    let (one, two) = (connect(config.clone()), connect(config));
    let added = events(3);
    append(&one, &stream("a"), &added);
    assert_holds(&two, &stream("a"), &added);
}

#[test]
fn the_lock_of_a_migration_that_died_is_taken_over() {
    let Some(keyspace) = Keyspace::named("locked") else {
        return;
    };
    migrate(replicated(&keyspace)).unwrap();
    keyspace.set_meta("schema_version = 0, migrating = 5b6962dd-3f90-4c93-8f61-eabfa4a803e2");
    keyspace.cql(&[&format!("DROP TABLE \"{}\".snapshot_parts", keyspace.name)]);
    let patient = config(&keyspace).lock_patience(Duration::from_millis(600));
    assert_eq!(migrate(patient).unwrap().to, SCHEMA_VERSION);
    connect(config(&keyspace));
}

/// Version 7 ids; says when the second one is taken.
#[derive(Debug)]
struct SayingIds(std::sync::mpsc::Sender<()>, AtomicU32);

impl IdSource for SayingIds {
    fn next_uuid(&self) -> uuid::Uuid {
        if self.1.fetch_add(1, Ordering::SeqCst) == 1 {
            let _ = self.0.send(());
        }
        SystemIds.next_uuid()
    }
}

/// What it had begun is gone, as after a truncation, or was never there, its answer being lost.
#[test]
fn a_migration_whose_row_is_gone_begins_it_again() {
    let Some(keyspace) = Keyspace::named("gone") else {
        return;
    };
    migrate(replicated(&keyspace)).unwrap();
    keyspace.set_meta("schema_version = 0, migrating = 5b6962dd-3f90-4c93-8f61-eabfa4a803e2");
    let (say, said) = std::sync::mpsc::channel();
    let waiting = config(&keyspace).ids(Arc::new(SayingIds(say, AtomicU32::new(0))));
    std::thread::scope(|scope| {
        let migrating = scope.spawn(|| migrate(waiting));
        said.recv().unwrap();
        let text = format!(
            "DELETE FROM \"{}\".tidelog_meta WHERE id = 'keyspace' IF EXISTS",
            keyspace.name
        );
        keyspace.cql(&[&text]);
        assert_eq!(migrating.join().unwrap().unwrap().to, SCHEMA_VERSION);
    });
    connect(config(&keyspace));
}

#[test]
fn only_clients_of_the_arbitrating_data_centre_may_write() {
    let Some(keyspace) = Keyspace::named("local") else {
        return;
    };
    let local = "datacenter1";
    let made = replicated(&keyspace).arbitration_dc(local);
    for elsewhere in [made.clone(), made.clone().datacenter("elsewhere")] {
        let error = migrate(elsewhere).unwrap_err();
        assert!(
            error.to_string().contains("only clients with that"),
            "{error}"
        );
    }
    migrate(made.datacenter(local)).unwrap();
    assert!(
        refused(config(&keyspace))
            .to_string()
            .contains("only clients with that")
    );
    // There are no nodes in that one.
    let error = refused(config(&keyspace).datacenter("elsewhere"));
    assert!(
        error.to_string().contains("nonexistent datacenter"),
        "{error}"
    );
    let store = connect(config(&keyspace).datacenter(local));
    let added = events(2);
    append(&store, &stream("a"), &added);
    assert_holds(&store, &stream("a"), &added);
}

#[test]
fn impossible_configurations_are_refused() {
    use ScyllaConfig as Config;
    let nobody: [&str; 0] = [];
    for (config, what) in [
        (Config::new(nobody), "contact points"),
        (Config::new(["h"]).keyspace(""), "keyspace"),
        (Config::new(["h"]).keyspace("Shop"), "keyspace"),
        (Config::new(["h"]).keyspace("a\"b"), "keyspace"),
        (Config::new(["h"]).keyspace("k".repeat(49)), "keyspace"),
        (Config::new(["h"]).bucket_events(9), "bucket_events"),
        (Config::new(["h"]).chunk_records(100_001), "chunk_records"),
        (
            Config::new(["h"]).request_timeout(Duration::ZERO),
            "request_timeout",
        ),
        (Config::new(["h"]).datacenter(""), "data centre"),
        (
            Config::new(["h"]).replication(KeyspaceReplication::Simple(0)),
            "replication",
        ),
        (
            Config::new(["h"]).replication(KeyspaceReplication::Network(vec![])),
            "replication",
        ),
        (
            Config::new(["h"]).tls(tidelog_backends::Tls::roots("no pem")),
            "TLS roots",
        ),
    ] {
        for error in [refused(config.clone()), migrate(config).unwrap_err()] {
            match error {
                Error::InvalidInput { what: found, .. } => assert_eq!(found, what),
                other => panic!("{what}: {other:?}"),
            }
        }
    }
}
