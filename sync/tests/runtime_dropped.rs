//! A runtime dropped with a thousand appends in flight: no state that is needed to finish a commit
//! lives in a future, so each append is wholly there or absent and the store goes on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidelog::{
    AppendBatch, ContentType, ExpectedVersion, LogQuery, NewEvent, StreamId, StreamQuery, Tidelog,
};

const APPENDS: u64 = 1_000;
const EVENTS: u64 = 3;

fn stream(n: u64) -> StreamId {
    StreamId::new("Order", &n.to_string()).unwrap()
}

fn batch(n: u64) -> AppendBatch {
    let event = |k| NewEvent::new("Ordered", 1, ContentType::Json, format!("[{n},{k}]"));
    AppendBatch::new(
        stream(n),
        ExpectedVersion::NoStream,
        (1..=EVENTS).map(event).collect(),
    )
}

/// Drops a runtime once `acknowledged` of the appends are, and returns which were.
fn drop_in_flight(log: &Tidelog, acknowledged: u64) -> Vec<u64> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let done = Arc::new(std::sync::Mutex::new(Vec::new()));
    for n in 0..APPENDS {
        let (log, count, done) = (log.clone(), Arc::clone(&count), Arc::clone(&done));
        runtime.spawn(async move {
            if log.append(batch(n)).await.is_ok() {
                done.lock().unwrap().push(n);
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    while count.load(Ordering::SeqCst) < acknowledged {
        std::thread::sleep(Duration::from_micros(50));
    }
    drop(runtime);
    std::mem::take(&mut *done.lock().unwrap())
}

#[test]
fn a_dropped_runtime_leaves_each_append_wholly_there_or_absent() {
    for acknowledged in [0, 1, 200] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let log = Tidelog::open(&path).unwrap();
        let done = drop_in_flight(&log, acknowledged);

        // Queued behind everything in flight, so all of that has its end once this is answered.
        let face = log.blocking();
        face.append(batch(APPENDS)).unwrap();

        let check = |log: &Tidelog| {
            let log = log.blocking();
            let mut there = 0;
            for n in 0..=APPENDS {
                let events: Vec<_> = log
                    .read_stream(StreamQuery::new(stream(n)))
                    .map(|envelope| String::from_utf8(envelope.unwrap().event.to_vec()).unwrap())
                    .collect();
                let whole: Vec<_> = (1..=EVENTS).map(|k| format!("[{n},{k}]")).collect();
                assert!(events.is_empty() || events == whole, "{n}: {events:?}");
                assert!(
                    !done.contains(&n) || !events.is_empty(),
                    "{n} was acknowledged"
                );
                there += events.len() as u64;
            }
            assert_eq!(log.read_all(LogQuery::all()).count() as u64, there);
            assert_eq!(log.last_position(), there);
            assert_eq!(log.verify().unwrap().records, there);
            there
        };
        let there = check(&log);
        face.append(batch(APPENDS + 1)).unwrap();
        face.close().unwrap();
        drop((face, log));

        let log = Tidelog::open(&path).unwrap();
        let events = log
            .blocking()
            .read_stream(StreamQuery::new(stream(APPENDS + 1)))
            .count();
        assert_eq!(events as u64, EVENTS);
        assert_eq!(log.last_position(), there + EVENTS);
        log.blocking().verify().unwrap();
    }
}
