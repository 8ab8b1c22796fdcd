//! The driver by itself, to look at what stands in the server by other means than ours.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tidelog_backends::scylla_driver::client::execution_profile::ExecutionProfile;
use tidelog_backends::scylla_driver::client::session::Session;
use tidelog_backends::scylla_driver::client::session_builder::SessionBuilder;
use tidelog_backends::scylla_driver::policies::retry::FallthroughRetryPolicy;
use tidelog_backends::scylla_driver::statement::{Consistency, SerialConsistency};

/// A session that tries nothing twice.
pub async fn session(address: &str) -> Session {
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(SerialConsistency::Serial))
        .request_timeout(Some(Duration::from_secs(20)))
        .retry_policy(std::sync::Arc::new(FallthroughRetryPolicy::new()))
        .build();
    SessionBuilder::new()
        .known_node(address)
        .default_execution_profile_handle(profile.into_handle())
        .build()
        .await
        .unwrap()
}

/// A name that no other test has, of this run or of another.
pub fn keyspace(test: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("{test}_{}_{number}", std::process::id());
    assert!(name.len() <= 48, "{name}");
    name
}

/// Makes a keyspace of one replica.
#[allow(dead_code, reason = "not every test has tables of its own")]
pub async fn create(session: &Session, keyspace: &str) {
    let text = format!(
        "CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
    );
    session.query_unpaged(text, ()).await.unwrap();
}

/// Drops a keyspace; the data of tests is not kept.
pub async fn drop_keyspace(session: &Session, keyspace: &str) {
    let _ = session
        .query_unpaged(format!("DROP KEYSPACE IF EXISTS {keyspace}"), ())
        .await;
}
