//! An open store: an append of one event, the load of a stream, a scan.

#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "a benchmark that fails shall stop"
)]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidelog::{
    AppendBatch, Blocking, ContentType, Durability, ExpectedVersion, LogQuery, NewEvent, SledStore,
    StreamId, StreamQuery,
};

/// As the large benchmark has them.
const PAYLOAD: usize = 256;
const EVENTS: usize = 100;
const STREAMS: usize = 1_000;

fn stream(number: usize) -> StreamId {
    StreamId::new("BankAccount", &format!("acc-{number:06}")).expect("a name")
}

fn batch(stream: &StreamId) -> AppendBatch {
    let payload = Bytes::from_static(&[7; PAYLOAD]);
    let event = NewEvent::new("Deposited", 1, ContentType::Bytes, payload);
    AppendBatch::new(stream.clone(), ExpectedVersion::Any, vec![event])
}

fn open(durability: Durability) -> (Blocking<SledStore>, tempfile::TempDir) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let builder = SledStore::builder(dir.path().join("store")).durability(durability);
    (builder.open().expect("a store").blocking(), dir)
}

fn appends(c: &mut Criterion) {
    let mut group = c.benchmark_group("append of one");
    for (name, durability) in [
        ("power", Durability::Power),
        ("process", Durability::Process),
    ] {
        let (store, _dir) = open(durability);
        let stream = stream(0);
        group.bench_function(name, |b| {
            b.iter(|| store.append(batch(&stream)).expect("room"));
        });
        store.inner().close_blocking().expect("closing");
    }
    group.finish();
}

fn reads(c: &mut Criterion) {
    let (store, _dir) = open(Durability::Process);
    let streams: Vec<_> = (0..STREAMS).map(stream).collect();
    for _ in 0..EVENTS {
        let parts = streams.iter().map(batch).collect();
        store.append_streams(parts).expect("room");
    }
    store.inner().drain().expect("indexing");
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Elements(EVENTS as u64));
    let mut turn = streams.iter().cycle();
    group.bench_function("a stream of 100", |b| {
        b.iter(|| {
            let stream = turn.next().expect("it never ends").clone();
            let events = store.read_stream(StreamQuery::new(stream));
            let bytes: usize = events.map(|item| item.expect("an event").event.len()).sum();
            assert_eq!(bytes, EVENTS * PAYLOAD);
        });
    });
    group.sample_size(10);
    group.throughput(Throughput::Elements((EVENTS * STREAMS) as u64));
    group.bench_function("a scan of 100,000", |b| {
        b.iter(|| {
            let events = store.read_all(LogQuery::all());
            let bytes: usize = events.map(|item| item.expect("an event").event.len()).sum();
            assert!(bytes >= EVENTS * STREAMS * PAYLOAD);
        });
    });
    group.finish();
    store.inner().close_blocking().expect("closing");
}

criterion_group!(benches, appends, reads);
criterion_main!(benches);
