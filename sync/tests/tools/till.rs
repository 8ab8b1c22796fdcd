//! Stores that replicate into a keyspace, as the tests open them.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use tidelog::{
    AppendBatch, ContentType, DistributedConfig, ExpectedVersion, KeyspaceReplication, NewEvent,
    ReplicationOptions, ScyllaConfig, Stage, StreamId, Tidelog, TidelogBuilder,
};

/// Whoever has waited so long waits for ever.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A keyspace with small partitions, so that all borders are near.
pub fn config(address: &str, keyspace: &str) -> ScyllaConfig {
    ScyllaConfig::new([address])
        .keyspace(keyspace)
        .replication(KeyspaceReplication::Simple(1))
        .migrate_at_connect()
        .bucket_events(20)
        .chunk_records(50)
        .request_timeout(Duration::from_secs(6))
}

/// Options that look for what was lost every second.
pub fn options() -> ReplicationOptions {
    ReplicationOptions::new().probe_every(Duration::from_secs(1))
}

/// A store in `dir` that replicates; nothing of it waits for the server.
pub fn builder(dir: &Path, config: ScyllaConfig) -> TidelogBuilder {
    builder_with(dir, config, options())
}

/// The same with other options.
pub fn builder_with(
    dir: &Path,
    config: ScyllaConfig,
    options: ReplicationOptions,
) -> TidelogBuilder {
    let distributed = DistributedConfig::new().scylla(config).options(options);
    Tidelog::builder(dir).distributed(distributed)
}

/// An event that carries its own name.
pub fn event(text: impl Into<String>) -> NewEvent {
    NewEvent::new("Said", 1, ContentType::Bytes, text.into())
}

/// Appends `texts` to a stream, as one batch.
pub async fn say(log: &Tidelog, stream: &StreamId, texts: &[&str]) -> u64 {
    let events = texts.iter().map(|text| event(*text)).collect();
    let batch = AppendBatch::new(stream.clone(), ExpectedVersion::Any, events);
    log.append(batch).await.unwrap().last_position.unwrap()
}

/// Waits until the server has all that stands in the log now, for as long as it gets on: how much waits
/// depends on how long the server was away.
pub async fn level(log: &Tidelog) {
    let last = log.last_position();
    let mut waits = pin!(log.wait_for(last, Stage::Replicated));
    let mut settled = log.replication().status().settled;
    loop {
        let waited = tokio::time::timeout(PATIENCE, waits.as_mut()).await;
        let status = log.replication().status();
        if let Ok(waited) = waited {
            return waited.unwrap_or_else(|error| panic!("{error}: {status:?}"));
        }
        assert!(status.settled > settled, "not level: {status:?}");
        settled = status.settled;
    }
}

/// Waits until `is` holds of the status.
pub async fn until(log: &Tidelog, what: &str, is: impl Fn(&tidelog::ReplicationStatus) -> bool) {
    let waits = async {
        while !is(&log.replication().status()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waits).await;
    assert!(waited.is_ok(), "{what}: {:?}", log.replication().status());
}
