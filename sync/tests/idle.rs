//! A store with projections that nobody uses lets its threads sleep. One test, in a process of its
//! own: `/proc` knows each thread, but not whose it is.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use tidelog::{
    AppendBatch, ContentType, EventEnvelope, ExpectedVersion, HandlerError, NewEvent, Projection,
    Rows, StreamId, Tidelog,
};

/// Looks without a change after which the threads are taken to sleep, and the pause between: longer
/// than the second after which rows are written out.
const CALM_LOOKS: u32 = 150;
const PAUSE: Duration = Duration::from_millis(10);
const SETTLES: Duration = Duration::from_secs(60);
/// For how long they are looked at then.
const WINDOW: Duration = Duration::from_secs(3);

struct Counts;

impl Projection for Counts {
    const NAME: &'static str = "counts";
    type Key = String;
    type Row = u64;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, u64>,
    ) -> Result<(), HandlerError> {
        rows.update(event.aggregate_id().to_owned(), |count| *count += 1)
    }
}

/// How often each of the library's threads went to sleep, by id, with its name.
fn sleeps() -> BTreeMap<String, (String, u64)> {
    let mut found = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap();
        // A thread may end meanwhile.
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned())
        };
        let Some(name) = field("Name:").filter(|name| name.starts_with("tidelog-")) else {
            continue;
        };
        let count = field("voluntary_ctxt_switches:").unwrap().parse().unwrap();
        found.insert(task.file_name().into_string().unwrap(), (name, count));
    }
    found
}

#[test]
fn projections_of_a_store_that_nobody_uses_sleep() {
    let dir = tempfile::tempdir().unwrap();
    let log = Tidelog::builder(dir.path())
        .sparse_segments()
        .inline_projection(Counts)
        .kept::<String, u32>("settings")
        .open()
        .unwrap()
        .blocking();
    for n in 0..200 {
        let event = NewEvent::new("Counted", 1, ContentType::Json, "{}");
        let stream = StreamId::new("Count", &n.to_string()).unwrap();
        let batch = AppendBatch::new(stream, ExpectedVersion::Any, vec![event]);
        log.append(batch).unwrap();
    }
    let (started, mut before, mut calm) = (Instant::now(), sleeps(), 0);
    while calm < CALM_LOOKS {
        thread::sleep(PAUSE);
        let now = sleeps();
        calm = if now == before { calm + 1 } else { 0 };
        assert!(started.elapsed() < SETTLES, "they never sleep: {now:?}");
        before = now;
    }
    let ours = before
        .values()
        .filter(|(name, _)| name == "tidelog-project");
    assert_eq!(ours.count(), 1, "{before:?}");
    thread::sleep(WINDOW);
    assert_eq!(sleeps(), before, "a thread woke");
    log.close().unwrap();
}
