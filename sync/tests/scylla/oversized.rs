//! Records that were appended before the store was distributed, above what the server takes.

use tempfile::tempdir;
use tidelog::{
    AppendBatch, ContentType, ExpectedVersion, Halt, Limits, NewEvent, ReplicationState, Tidelog,
};

use crate::{plain, services, streams, till};

#[tokio::test(flavor = "multi_thread")]
async fn a_record_above_the_servers_limit_is_a_halt_that_names_both() {
    let Some(server) = services::scylla() else {
        return;
    };
    let session = plain::session(&server).await;
    let keyspace = plain::keyspace("oversized");
    let dir = tempdir().unwrap();
    let limits = Limits {
        payload_bytes: 20 << 20,
        batch_bytes: 24 << 20,
        ..Limits::default()
    };
    let alone = Tidelog::builder(dir.path()).limits(limits).open().unwrap();
    let (small, large) = (streams::named("Till", 1), streams::named("Till", 2));
    till::say(&alone, &small, &["before"]).await;
    let event = NewEvent::new("Scanned", 1, ContentType::Bytes, vec![7; 17 << 20]);
    let batch = AppendBatch::new(large, ExpectedVersion::Any, vec![event]);
    alone.append(batch).await.unwrap();
    alone.close().await.unwrap();

    let config = till::config(&server, &keyspace);
    let log = till::builder(dir.path(), config).open().unwrap();
    let halted = async || {
        let is_halted = |state: &ReplicationState| matches!(state, ReplicationState::Halted(_));
        till::until(&log, "it stands still", |status| is_halted(&status.state)).await;
        log.replication().halt().unwrap()
    };
    // Retried while nothing has changed, it comes to the same.
    for _ in 0..2 {
        let halt = halted().await;
        let text = halt.to_string();
        assert!(text.contains("position 2") && text.contains("`max_mutation_size`"));
        let Halt::RecordTooLarge { size, limit, .. } = halt else {
            panic!("{text}");
        };
        assert!(size > 17 << 20 && size < 18 << 20, "{size}");
        let limit = limit.unwrap_or_else(|| panic!("it says no limit: {text}"));
        assert!(limit < size, "{text}");
        log.replication().retry().await.unwrap();
    }
    // The store goes on.
    assert_eq!(till::say(&log, &small, &["behind"]).await, 3);
    assert!(log.replication().parked().is_empty());
    log.close().await.unwrap();
    plain::drop_keyspace(&session, &keyspace).await;
}
