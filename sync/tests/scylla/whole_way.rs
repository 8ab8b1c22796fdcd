//! The whole way once: appended here, settled there, looked at by plain CQL, restored.

use std::collections::BTreeMap;

use tempfile::tempdir;
use tidelog::{AppendBatch, ExpectedVersion, Tidelog};

use crate::compare::{Found, Log};
use crate::{plain, services, streams, till};

#[tokio::test(flavor = "multi_thread")]
async fn both_tables_agree_with_the_log_event_by_event() {
    let Some(server) = services::scylla() else {
        return;
    };
    let keyspace = plain::keyspace("thin");
    let dir = tempdir().unwrap();
    let log = till::builder(dir.path(), till::config(&server, &keyspace))
        .open()
        .unwrap();
    for number in 0..100 {
        till::say(
            &log,
            &streams::named("Till", number % 5),
            &[&format!("event {number}")],
        )
        .await;
    }
    // Batches that cross the borders of buckets, and one over two streams.
    for length in [1, 19, 20, 21, 47] {
        let texts: Vec<_> = (0..length)
            .map(|number| format!("of {length}: {number}"))
            .collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        till::say(&log, &streams::named("Long", 0), &texts).await;
    }
    let parts = (0..2).map(|number| {
        let events = vec![till::event("left"), till::event("right")];
        AppendBatch::new(
            streams::named("Both", number),
            ExpectedVersion::NoStream,
            events,
        )
    });
    log.append_streams(parts.collect()).await.unwrap();
    till::level(&log).await;
    let status = log.replication().status();
    assert_eq!(
        (status.settled, status.lag_events),
        (log.last_position(), 0)
    );

    let logs = [Log::of(log.store())];
    log.close().await.unwrap();
    let session = plain::session(&server).await;
    let found = Found::read(&session, &keyspace).await;
    let agreement = found.agrees(&logs, &BTreeMap::new(), |_, _| false);
    assert_eq!((agreement.events, found.events()), (100 + 108 + 4, 212));
    assert_eq!(agreement.records, agreement.events);
    found.assert_sees_what_is_wrong(&logs);

    // Opened without replication it is the same store as ever; opened with it nothing is sent twice.
    let log = Tidelog::open(dir.path()).unwrap();
    till::say(&log, &streams::named("Till", 0), &["offline"]).await;
    log.close().await.unwrap();
    let log = till::builder(dir.path(), till::config(&server, &keyspace))
        .open()
        .unwrap();
    till::level(&log).await;
    let logs = [Log::of(log.store())];
    log.close().await.unwrap();
    let found = Found::read(&session, &keyspace).await;
    assert_eq!(
        found.agrees(&logs, &BTreeMap::new(), |_, _| false).events,
        213
    );
    plain::drop_keyspace(&session, &keyspace).await;
}
