//! What the `metrics` facade gets to hear of replication: enough to watch it.

use tempfile::tempdir;

use crate::recorder::{self, Kept};
use crate::{plain, services, streams, till};

#[test]
fn replication_tells_how_far_it_is() {
    let Some(server) = services::scylla() else {
        return;
    };
    let test = "figures::replication_tells_how_far_it_is";
    if let Some(kept) = recorder::alone(test, &[("TIDELOG_TEST_SCYLLA", server)]) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(watched(kept));
    }
}

async fn watched(kept: &Kept) {
    let server = services::scylla().unwrap();
    let keyspace = plain::keyspace("figures");
    let dir = tempdir().unwrap();
    let log = till::builder(dir.path(), till::config(&server, &keyspace))
        .open()
        .unwrap();
    for number in 0..50 {
        till::say(&log, &streams::named("Till", number % 5), &["one"]).await;
    }
    till::level(&log).await;
    #[allow(clippy::cast_precision_loss, reason = "a small number")]
    let last = log.last_position() as f64;
    tokio::task::block_in_place(|| {
        kept.until("tidelog_sink_settled_position sink=scylla", last);
    });
    log.close().await.unwrap();
    for (name, expected) in [
        ("tidelog_appended_position ", last),
        ("tidelog_sink_settled_position sink=scylla", last),
        ("tidelog_sink_lag_events sink=scylla", 0.0),
        ("tidelog_sink_lag_seconds sink=scylla", 0.0),
        ("tidelog_sink_parked_streams sink=scylla", 0.0),
        ("tidelog_sink_window_bytes sink=scylla", 0.0),
    ] {
        let found = kept.gauge(name);
        assert!((found - expected).abs() < 1e-9, "{name}: {found}");
    }
    assert_eq!(
        kept.counter("tidelog_sink_accepted_events_total sink=scylla"),
        50
    );
    assert!(kept.counter("tidelog_sink_connects_total sink=scylla") >= 1);
    assert!(kept.timed("append") > 0 && kept.timed("put_log") > 0);
    let session = plain::session(&server).await;
    plain::drop_keyspace(&session, &keyspace).await;
}
