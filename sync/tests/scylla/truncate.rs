//! Tables that are truncated by hand: no divergence, but lost, seen, and sent again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tempfile::tempdir;
use tidelog::{ReplicationState, ReplicationStatus, Tidelog};
use tidelog_backends::scylla_driver::client::session::Session;

use crate::compare::{Found, Log};
use crate::{plain, say, services, streams, till};

async fn truncate(session: &Session, keyspace: &str, tables: &[&str]) {
    for table in tables {
        let text = format!("TRUNCATE {keyspace}.{table}");
        session.query_unpaged(text, ()).await.unwrap();
    }
}

/// Waits until the keyspace has all that the log has, then compares.
async fn heals(session: &Session, keyspace: &str, log: &Tidelog, what: &str) {
    let begun = Instant::now();
    // What the keyspace says of itself is made again before that.
    let is_live = |status: &ReplicationStatus| status.state == ReplicationState::Live;
    till::until(log, "it is not live", is_live).await;
    loop {
        till::level(log).await;
        let logs = [Log::of(log.store())];
        let found = Found::read(session, keyspace).await;
        let (records, events) = logs[0].counts();
        if found.events() >= events && found.records() >= records {
            found.agrees(&logs, &BTreeMap::new(), |_, _| false);
            let status = log.replication().status();
            assert_eq!(status.parked, 0, "{what}: {status:?}");
            say(&format!("{what}: whole again after {:?}", begun.elapsed()));
            return;
        }
        let status = log.replication().status();
        assert!(
            begun.elapsed() < till::PATIENCE,
            "{what}: not whole: {status:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

const TABLES: [&[&str]; 5] = [
    &["events_by_stream"],
    &["log_by_origin"],
    &["origins"],
    &["events_by_stream", "log_by_origin"],
    &[
        "events_by_stream",
        "log_by_origin",
        "origins",
        "parked_by_origin",
    ],
];

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_table_is_no_divergence() {
    let Some(server) = services::scylla() else {
        return;
    };
    let session = plain::session(&server).await;
    let keyspace = plain::keyspace("truncated");
    let dir = tempdir().unwrap();
    let log = till::builder(dir.path(), till::config(&server, &keyspace))
        .open()
        .unwrap();
    for number in 0..200 {
        till::say(
            &log,
            &streams::named("Till", number % 8),
            &["before", "and more"],
        )
        .await;
    }
    till::level(&log).await;
    for tables in TABLES {
        truncate(&session, &keyspace, tables).await;
        heals(&session, &keyspace, &log, &format!("idle, {tables:?}")).await;
    }
    for tables in TABLES {
        let stop = Arc::new(AtomicBool::new(false));
        let (writes, told) = (log.clone(), Arc::clone(&stop));
        let writer = tokio::spawn(async move {
            let mut number = 0;
            while !told.load(Ordering::Relaxed) {
                till::say(
                    &writes,
                    &streams::named("Till", number % 12),
                    &["under load"],
                )
                .await;
                number += 1;
            }
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        truncate(&session, &keyspace, tables).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.store(true, Ordering::Relaxed);
        writer.await.unwrap();
        heals(
            &session,
            &keyspace,
            &log,
            &format!("under load, {tables:?}"),
        )
        .await;
    }
    let status = log.replication().status();
    assert!(status.remote_lost > 0, "counted: {status:?}");
    log.close().await.unwrap();

    // While nobody looked, and with the row that says what is fixed in a keyspace.
    let all = [TABLES[4], &["tidelog_meta"]].concat();
    truncate(&session, &keyspace, &all).await;
    let log = till::builder(dir.path(), till::config(&server, &keyspace))
        .open()
        .unwrap();
    heals(&session, &keyspace, &log, "while it was closed, all of it").await;
    log.close().await.unwrap();
    plain::drop_keyspace(&session, &keyspace).await;
}
