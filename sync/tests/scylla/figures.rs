//! What the `metrics` facade gets to hear, and what `tracing` tells: enough to watch it, no secret.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use parking_lot::Mutex;
use tempfile::tempdir;

use crate::{plain, services, streams, till};

/// Set for the process that has a recorder: there is one a process.
const ALONE: &str = "TIDELOG_TEST_METRICS";

#[derive(Default)]
struct Kept {
    counters: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    gauges: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    histograms: Mutex<BTreeMap<String, Arc<Count>>>,
}

#[derive(Default)]
struct Count(AtomicU64);

impl HistogramFn for Count {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn name_of(key: &Key) -> String {
    let labels: Vec<_> = key
        .labels()
        .map(|label| format!("{}={}", label.key(), label.value()))
        .collect();
    format!("{} {}", key.name(), labels.join(","))
}

impl Recorder for &'static Kept {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut all = self.counters.lock();
        Counter::from_arc(Arc::clone(all.entry(name_of(key)).or_default()))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        let mut all = self.gauges.lock();
        Gauge::from_arc(Arc::clone(all.entry(name_of(key)).or_default()))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let mut all = self.histograms.lock();
        Histogram::from_arc(Arc::clone(all.entry(name_of(key)).or_default()))
    }
}

impl Kept {
    fn gauge(&self, name: &str) -> f64 {
        let all = self.gauges.lock();
        let found = all
            .get(name)
            .unwrap_or_else(|| panic!("{name}: {:?}", all.keys()));
        f64::from_bits(found.load(Ordering::Relaxed))
    }

    /// How many requests of this name were timed.
    fn timed(&self, request: &str) -> u64 {
        let all = self.histograms.lock();
        let request = format!("request={request},");
        let of_it = all.iter().filter(|(name, _)| {
            name.starts_with("tidelog_sink_request_seconds") && name.contains(&request)
        });
        of_it
            .map(|(_, count)| count.0.load(Ordering::Relaxed))
            .sum()
    }

    fn counter(&self, name: &str) -> u64 {
        let all = self.counters.lock();
        let found = all
            .get(name)
            .unwrap_or_else(|| panic!("{name}: {:?}", all.keys()));
        found.load(Ordering::Relaxed)
    }
}

#[test]
fn replication_tells_how_far_it_is() {
    static KEPT: OnceLock<Kept> = OnceLock::new();
    if std::env::var_os(ALONE).is_none() {
        let Some(server) = services::scylla() else {
            return;
        };
        let done = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "figures::replication_tells_how_far_it_is",
                "--nocapture",
            ])
            .env(ALONE, "1")
            .env("TIDELOG_TEST_SCYLLA", server)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(
            done.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&done.stderr)
        );
        return;
    }
    let kept = KEPT.get_or_init(Kept::default);
    metrics::set_global_recorder(kept).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(watched(kept));
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
    // They are set once a second.
    let settled = "tidelog_sink_settled_position sink=scylla";
    let is_told = || kept.gauges.lock().contains_key(settled) && kept.gauge(settled) >= last;
    let begun = Instant::now();
    while !is_told() {
        assert!(begun.elapsed() < till::PATIENCE, "{:?}", kept.gauges.lock());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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
