//! A distributed store by configuration alone: what is appended here stands there.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog::{
    AppendBatch, ContentType, DistributedConfig, Error, ExpectedVersion, KeyspaceReplication,
    LogQuery, NewEvent, RecordKind, ReplicationState, ScyllaConfig, Stage, StreamId, Tidelog,
};
use tidelog_backends::scylla_driver::client::session::Session;

use crate::{plain, services};

pub fn config(server: &str, keyspace: &str) -> ScyllaConfig {
    ScyllaConfig::new([server])
        .keyspace(keyspace)
        .replication(KeyspaceReplication::Simple(1))
        .migrate_at_connect()
}

fn open(dir: &std::path::Path, config: ScyllaConfig) -> Tidelog {
    Tidelog::builder(dir.join("events"))
        .sparse_segments()
        .distributed(DistributedConfig::new().scylla(config))
        .open()
        .unwrap()
}

async fn append(log: &Tidelog, stream: &str, at: usize) -> u64 {
    let stream: StreamId = stream.parse().unwrap();
    let event = NewEvent::new("E", 1, ContentType::Json, format!("{at}"));
    let batch = AppendBatch::new(stream, ExpectedVersion::Any, vec![event]);
    log.append(batch).await.unwrap().last_position.unwrap()
}

/// Event ids by stream and sequence, as the stream table has them.
async fn streams(session: &Session, keyspace: &str) -> BTreeMap<(String, i64), uuid::Uuid> {
    let text = format!(
        "SELECT aggregate_type, aggregate_id, sequence, event_id FROM {keyspace}.events_by_stream"
    );
    let rows = session.query_unpaged(text, ()).await.unwrap();
    let rows = rows.into_rows_result().unwrap();
    let rows = rows.rows::<(String, String, i64, uuid::Uuid)>().unwrap();
    rows.map(|row| {
        let (kind, id, sequence, event) = row.unwrap();
        ((format!("{kind}/{id}"), sequence), event)
    })
    .collect()
}

/// Event ids by position, as the log table has them.
async fn log_rows(session: &Session, keyspace: &str) -> BTreeMap<i64, uuid::Uuid> {
    let text = format!("SELECT position, event_id FROM {keyspace}.log_by_origin");
    let rows = session.query_unpaged(text, ()).await.unwrap();
    let rows = rows.into_rows_result().unwrap();
    let rows = rows.rows::<(i64, uuid::Uuid)>().unwrap();
    rows.map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_stands_in_both_tables() {
    let Some(server) = services::scylla() else {
        return;
    };
    let keyspace = plain::keyspace("thin");
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), config(&server, &keyspace));
    let mut last = 0;
    for at in 0..100 {
        last = append(&log, &format!("T/{}", at % 5), at).await;
    }
    log.wait_for(last, Stage::Replicated).await.unwrap();
    let session = plain::session(&server).await;
    let (mut by_stream, mut by_position) = (BTreeMap::new(), BTreeMap::new());
    let mut events = log.read_all(LogQuery::all());
    while log.last_position() > by_position.len() as u64 {
        let event = events.next().await.unwrap().unwrap();
        let id = *event.event_id.as_uuid();
        by_position.insert(event.position.unwrap().cast_signed(), id);
        if event.kind != RecordKind::Control {
            by_stream.insert((event.stream.to_string(), event.sequence.cast_signed()), id);
        }
    }
    assert_eq!(streams(&session, &keyspace).await, by_stream);
    assert_eq!(log_rows(&session, &keyspace).await, by_position);
    let status = log.replication().status();
    assert_eq!((status.accepted, status.parked), (100, 0));
    assert_eq!(status.state, ReplicationState::Live);
    log.close().await.unwrap();
    plain::drop_keyspace(&session, &keyspace).await;
}

#[test]
fn a_store_without_it_says_that_it_is_off() {
    let dir = tempfile::tempdir().unwrap();
    let log = Tidelog::open(dir.path().join("events")).unwrap().blocking();
    assert_eq!(log.replication().status().state, ReplicationState::Off);
    let refused = log.wait_for(1, Stage::Replicated).unwrap_err();
    assert!(refused.to_string().contains("distributed"), "{refused}");
    assert!(matches!(refused, Error::InvalidInput { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_appends_go_on_and_closing_does_not_wait() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), config("127.0.0.1:1", "nothing"));
    let last = append(&log, "T/1", 1).await;
    let waited = log.blocking();
    let come = tokio::task::spawn_blocking(move || {
        waited.wait_for_timeout(last, Stage::Replicated, Duration::from_millis(300))
    });
    assert!(!come.await.unwrap().unwrap());
    assert_ne!(log.replication().status().state, ReplicationState::Live);
    log.close().await.unwrap();
    assert_eq!(log.replication().status().state, ReplicationState::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn others_see_all_that_was_settled_once_the_store_is_closed() {
    let Some(server) = services::scylla() else {
        return;
    };
    let keyspace = plain::keyspace("closed");
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), config(&server, &keyspace));
    let mut last = append(&log, "T/a", 0).await;
    log.wait_for(last, Stage::Replicated).await.unwrap();
    // The server is told once a second.
    for at in 1..20 {
        last = append(&log, "T/a", at).await;
    }
    log.wait_for(last, Stage::Replicated).await.unwrap();
    log.close().await.unwrap();
    let session = plain::session(&server).await;
    let text = format!("SELECT position FROM {keyspace}.origins");
    let rows = session.query_unpaged(text, ()).await.unwrap();
    let rows = rows.into_rows_result().unwrap();
    let told = rows.rows::<(i64,)>().unwrap().map(|row| row.unwrap().0);
    assert_eq!(told.collect::<Vec<_>>(), [last.cast_signed()]);
    plain::drop_keyspace(&session, &keyspace).await;
}
