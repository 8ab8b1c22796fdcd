//! What the `metrics` facade gets to hear.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use parking_lot::Mutex;

/// Set for the process that has a recorder.
const ALONE: &str = "TIDELOG_TEST_METRICS";
/// Whoever has waited so long waits for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// Everything that was heard, by name and labels.
#[derive(Default)]
pub struct Kept {
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
    /// Lets `name` reach `value`; gauges are set once a second.
    pub fn until(&self, name: &str, value: f64) {
        let begun = Instant::now();
        let is_told = || self.gauges.lock().contains_key(name) && self.gauge(name) >= value;
        while !is_told() {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.gauges.lock());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn gauge(&self, name: &str) -> f64 {
        let all = self.gauges.lock();
        let found = all
            .get(name)
            .unwrap_or_else(|| panic!("{name}: {:?}", all.keys()));
        f64::from_bits(found.load(Ordering::Relaxed))
    }

    /// How many requests of this name were timed.
    pub fn timed(&self, request: &str) -> u64 {
        let all = self.histograms.lock();
        let request = format!("request={request},");
        let of_it = all.iter().filter(|(name, _)| {
            name.starts_with("tidelog_sink_request_seconds") && name.contains(&request)
        });
        of_it
            .map(|(_, count)| count.0.load(Ordering::Relaxed))
            .sum()
    }

    pub fn counter(&self, name: &str) -> u64 {
        let all = self.counters.lock();
        let found = all
            .get(name)
            .unwrap_or_else(|| panic!("{name}: {:?}", all.keys()));
        found.load(Ordering::Relaxed)
    }
}

/// Runs the test of this name in a process of its own, in which it is told to be alone: there is one
/// recorder a process. Answers it there, and nothing here.
pub fn alone(test: &str, servers: &[(&str, String)]) -> Option<&'static Kept> {
    static KEPT: OnceLock<Kept> = OnceLock::new();
    if std::env::var_os(ALONE).is_some() {
        let kept = KEPT.get_or_init(Kept::default);
        metrics::set_global_recorder(kept).unwrap();
        return Some(kept);
    }
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        .envs(servers.iter().map(|(name, value)| (name, value)))
        .output()
        .unwrap();
    let (said, errors) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "{said}{errors}");
    None
}
