//! A store that nobody uses writes nothing, and its threads sleep. One test, in a process of its own:
//! `/proc` knows each thread, but not whose it is.
//!
//! `TIDELOG_TEST_IDLE_SECONDS` says for how long to look (3 unless set).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    reason = "a test that fails shall stop"
)]
#![cfg(target_os = "linux")]

mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tidelog_backends::SledStore;
use tidelog_core::*;
use tools::{event, stream};

/// What the store starts: writer, indexer, preparer and two readers.
const OWN_THREADS: usize = 5;
/// Looks without a change after which the threads are taken to sleep, and the pause between.
const CALM_LOOKS: u32 = 30;
const PAUSE: Duration = Duration::from_millis(10);
const SETTLES: Duration = Duration::from_secs(60);

/// Name and switches (given up by itself, taken away) of the threads that a store started, by id.
type Threads = BTreeMap<u32, (String, [u64; 2])>;

/// All threads of this process but the test's own and the harness's: those of the store, of sled.
fn threads() -> [Threads; 2] {
    let me = fs::read_link("/proc/thread-self").unwrap();
    let not_ours = [std::process::id(), number(&me)];
    let mut found = [Threads::new(), Threads::new()];
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        let path = thread.unwrap().path();
        let id = number(&path);
        // A thread may end meanwhile.
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim_start_matches(':').trim().to_owned())
        };
        let Some(name) = field("Name").filter(|_| !not_ours.contains(&id)) else {
            continue;
        };
        let count = |name: &str| field(name).unwrap().parse().unwrap();
        let counts = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];
        let [own, of_sled] = &mut found;
        let whose = if name.starts_with("tidelog-") {
            own
        } else {
            of_sled
        };
        whose.insert(id, (name, counts.map(count)));
    }
    found
}

fn number(path: &Path) -> u32 {
    path.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// Bytes and calls that these threads wrote, to files or anything else.
fn written(threads: &Threads) -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for id in threads.keys() {
        let io = fs::read_to_string(format!("/proc/self/task/{id}/io")).unwrap();
        for line in io.lines() {
            let name = line.split(':').next().unwrap_or_default();
            if ["wchar", "syscw", "write_bytes"].contains(&name) {
                found.push((*id, line.to_owned()));
            }
        }
    }
    found
}

/// Waits until the store's own threads have gone to sleep after what they did last.
fn settle() -> [Threads; 2] {
    let started = Instant::now();
    let mut before = threads();
    let mut calm = 0;
    while calm < CALM_LOOKS {
        thread::sleep(PAUSE);
        let now = threads();
        calm = if now[0] == before[0] { calm + 1 } else { 0 };
        assert!(started.elapsed() < SETTLES, "they never sleep: {now:?}");
        before = now;
    }
    before
}

#[test]
fn an_idle_store_writes_nothing_and_its_threads_sleep() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::builder(dir.path())
        .segment_size(64 << 10)
        .stress_index(64, 2)
        .open()
        .unwrap();
    let batch = |n| AppendBatch::new(stream("a"), ExpectedVersion::Any, vec![event(n, 1_000)]);
    for n in 0..400 {
        store.blocking().append(batch(n)).unwrap();
    }
    // Each kind of thread has had work, and a subscription waits.
    pollster::block_on(store.append(batch(400))).unwrap();
    let head = pollster::block_on(store.head(&stream("a"))).unwrap();
    let snapshot = SnapshotEnvelope {
        stream: stream("a"),
        sequence: 401,
        event_id: head.unwrap().event_id,
        revision: 1,
        content_type: ContentType::Bytes,
        taken_time: Timestamp::from_micros(0),
        state: vec![7; 10_000].into(),
    };
    pollster::block_on(store.persist(snapshot)).unwrap();
    let mut news = store.subscribe(Subscribe::All { after: 401 });
    let mut next = Box::pin(news.next());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Future::poll(Pin::as_mut(&mut next), &mut cx).is_pending());
    store.drain().unwrap();
    let info = store.info().unwrap();
    assert!(info.segments > 5 && info.index_runs < info.segments - 1);

    let [own, of_sled] = settle();
    assert_eq!(own.len(), OWN_THREADS, "{own:?}");
    let writes = [written(&own), written(&of_sled)];
    let seconds = std::env::var("TIDELOG_TEST_IDLE_SECONDS");
    let window = Duration::from_secs(seconds.map_or(3, |seconds| seconds.parse().unwrap()));
    thread::sleep(window);
    let [own_now, of_sled_now] = threads();
    let sum = |all: &Threads| {
        all.values()
            .map(|(_, [by_itself, _])| by_itself)
            .sum::<u64>()
    };
    let (count, woke) = (of_sled_now.len(), sum(&of_sled_now) - sum(&of_sled));
    eprintln!(
        "wake-ups in {window:?}: {} of the store's {OWN_THREADS} threads, {woke} of sled's {count}",
        sum(&own_now) - sum(&own)
    );
    assert_eq!(own_now, own, "the store's threads woke");
    let wrote = [written(&own_now), written(&of_sled_now)];
    assert_eq!(wrote, writes, "something was written");
    // The system may wake them early, when it is awake anyway; left alone they wake every second.
    let often = of_sled_now.iter().filter(|(id, (_, [by_itself, _]))| {
        let before = of_sled.get(id).map_or(0, |(_, [before, _])| *before);
        by_itself - before > 1
    });
    let often: Vec<_> = often.collect();
    assert!(often.is_empty(), "{often:?} woke often, before {of_sled:?}");
    drop(next);
    drop(news);
    store.close_blocking().unwrap();
}
