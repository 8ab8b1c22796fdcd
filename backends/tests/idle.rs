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

/// Name and switches (given up by itself, taken away) of each thread of this process.
type Switches = BTreeMap<u32, (String, [u64; 2])>;

fn switches() -> Switches {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let read = threads.filter_map(|thread| {
        let path = thread.unwrap().path();
        let id = path.file_name()?.to_str()?.parse().ok()?;
        // A thread may end meanwhile.
        let status = fs::read_to_string(path.join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim_start_matches(':').trim().to_owned())
        };
        let count = |name: &str| field(name).unwrap().parse().unwrap();
        let counts = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];
        Some((id, (field("Name").unwrap(), counts.map(count))))
    });
    read.collect()
}

fn of(all: &Switches, prefix: &str) -> Switches {
    let ours = all.iter().filter(|(_, (name, _))| name.starts_with(prefix));
    ours.map(|(id, thread)| (*id, thread.clone())).collect()
}

/// Bytes and calls that this process wrote, to files or anything else.
fn written() -> Vec<String> {
    let io = fs::read_to_string("/proc/self/io").unwrap();
    let wanted = ["wchar", "syscw", "write_bytes"];
    let lines = io.lines().filter(|line| {
        let name = line.split(':').next().unwrap_or_default();
        wanted.contains(&name)
    });
    lines.map(ToOwned::to_owned).collect()
}

/// Waits until the store's own threads have gone to sleep after what they did last.
fn settle() -> Switches {
    let started = Instant::now();
    let mut before = of(&switches(), "tidelog-");
    let mut calm = 0;
    while calm < CALM_LOOKS {
        thread::sleep(PAUSE);
        let now = of(&switches(), "tidelog-");
        calm = if now == before { calm + 1 } else { 0 };
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

    let own = settle();
    assert_eq!(own.len(), OWN_THREADS, "{own:?}");
    let (others, writes) = (of(&switches(), "sled-"), written());
    let seconds = std::env::var("TIDELOG_TEST_IDLE_SECONDS");
    let window = Duration::from_secs(seconds.map_or(3, |seconds| seconds.parse().unwrap()));
    thread::sleep(window);
    assert_eq!(of(&switches(), "tidelog-"), own, "its threads woke");
    assert_eq!(written(), writes, "something was written");
    let now = of(&switches(), "sled-");
    let sum = |all: &Switches| {
        all.values()
            .map(|(_, [by_itself, _])| by_itself)
            .sum::<u64>()
    };
    let woke = (sum(&now) - sum(&others)) as f64 / window.as_secs_f64();
    eprintln!(
        "{OWN_THREADS} threads of the store: 0 wake-ups in {window:?}; {} of sled: {woke:.1} a second",
        now.len()
    );
    drop(next);
    drop(news);
    store.close_blocking().unwrap();
}
