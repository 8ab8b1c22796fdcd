//! The async face does no file I/O on the thread that polls it: `strace` sees which thread does it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

mod tools;

use std::thread;

use tidelog_backends::SledStore;
use tidelog_core::*;
use tools::strace::{self, polled};
use tools::{event, id, stream};

const CHILD: &str = "TIDELOG_TEST_POLL";
const OPERATIONS: [&str; 15] = [
    "append",
    "append for the process",
    "append into new segments",
    "append to several streams",
    "retry an append",
    "read a stream",
    "read a stream backwards",
    "read the log",
    "look up a head",
    "find an event",
    "persist a snapshot",
    "read a snapshot",
    "catch up",
    "follow a stream",
    "close",
];
const OLD: u64 = 300;

fn batch(to: &str, n: u64) -> AppendBatch {
    AppendBatch::new(stream(to), ExpectedVersion::Any, vec![event(n, 1_000)])
}

async fn read(mut events: EventStream) -> usize {
    let mut count = 0;
    while let Some(page) = events.next_page().await {
        count += page.unwrap().len();
    }
    count
}

/// Not a test by itself: what runs under `strace`.
#[test]
fn child_polls() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        SledStore::builder(dir.path())
            .segment_size(64 << 10)
            .stress_index(64, 2)
            .open()
            .unwrap()
    };
    let store = open();
    for n in 0..OLD {
        store
            .blocking()
            .append(batch(&format!("old-{}", n % 10), n))
            .unwrap();
    }
    store.close_blocking().unwrap();
    // Opened anew: no head and no page is in memory.
    let store = open();
    polled("append", store.append(batch("old-0", 1_000))).unwrap();
    let unsynced = batch("new", 1_001).with_durability(Durability::Process);
    polled("append for the process", store.append(unsynced)).unwrap();
    polled("append into new segments", async {
        for n in 2_000..2_200 {
            store.append(batch("new", n)).await.unwrap();
        }
    });
    store.drain().unwrap();
    let parts = vec![batch("old-1", 1_002), batch("old-2", 1_003)];
    polled("append to several streams", store.append_streams(parts)).unwrap();
    polled("retry an append", store.append(batch("old-3", 3))).unwrap();

    let all_of = |id: &str| StreamQuery::new(stream(id));
    let backwards = all_of("old-5").backward();
    assert_eq!(
        polled("read a stream", async {
            read(store.read_stream(all_of("old-4"))).await
        }),
        30
    );
    assert_eq!(
        polled("read a stream backwards", async {
            read(store.read_stream(backwards)).await
        }),
        30
    );
    let all = polled("read the log", async {
        read(store.read_all(LogQuery::all())).await
    });
    assert_eq!(all as u64, OLD + 204);
    let head = polled("look up a head", store.head(&stream("old-6"))).unwrap();
    assert_eq!(head.unwrap().sequence, 30);
    let found = polled("find an event", store.find_event(&stream("old-7"), id(297))).unwrap();
    assert_eq!(found.unwrap().sequence, 30);

    let head = pollster::block_on(store.head(&stream("old-8"))).unwrap();
    let snapshot = SnapshotEnvelope {
        stream: stream("old-8"),
        sequence: 30,
        event_id: head.unwrap().event_id,
        revision: 1,
        content_type: ContentType::Bytes,
        taken_time: Timestamp::from_micros(0),
        state: vec![7; 100_000].into(),
    };
    polled("persist a snapshot", store.persist(snapshot)).unwrap();
    let snapshot = polled("read a snapshot", async {
        SnapshotStore::read(&store, &stream("old-8")).await
    });
    assert!(snapshot.unwrap().is_some());

    let mut news = polled("catch up", async {
        let mut news = store.subscribe(Subscribe::All { after: 0 });
        for _ in 0..all {
            news.next().await.unwrap().unwrap();
        }
        news
    });
    let mut of_stream = store.subscribe(Subscribe::Stream {
        stream: stream("old-9"),
        after: 30,
    });
    let writer = store.clone();
    thread::scope(|scope| {
        scope.spawn(move || {
            for n in 3_000..3_100 {
                writer.blocking().append(batch("old-9", n)).unwrap();
            }
        });
        polled("follow a stream", async {
            for _ in 0..100 {
                news.next().await.unwrap().unwrap();
                of_stream.next().await.unwrap().unwrap();
            }
        });
    });
    polled("close", store.close()).unwrap();
}

#[test]
fn no_file_io_is_done_on_the_thread_that_polls() {
    let Some(calls) = strace::run("child_polls", (CHILD, "yes"), "%file,%desc") else {
        return;
    };
    strace::assert_no_io_inside_poll(&calls, &OPERATIONS);
}
