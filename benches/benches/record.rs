//! A record of the log: encoded, and decoded to an envelope.

#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "a benchmark that fails shall stop"
)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidelog::{
    AppendBatch, ContentType, EventEnvelope, ExpectedVersion, NewEvent, SledStore, StreamId,
    StreamQuery,
};
use tidelog_backends::internals::{Decoder, encode};

/// As the large benchmark has it.
const PAYLOAD: usize = 256;

/// An envelope as a store gives it.
fn envelope() -> EventEnvelope {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let store = SledStore::open(dir.path().join("store")).expect("a store");
    let stream = StreamId::new("BankAccount", "acc-000007").expect("a name");
    let payload = Bytes::from(vec![7; PAYLOAD]);
    let event = NewEvent::new("Deposited", 1, ContentType::Bytes, payload);
    let batch = AppendBatch::new(stream.clone(), ExpectedVersion::NoStream, vec![event]);
    let blocking = store.blocking();
    blocking.append(batch).expect("room");
    let mut events = blocking.read_stream(StreamQuery::new(stream));
    let envelope = events.next().expect("an event").expect("a whole event");
    store.close_blocking().expect("closing");
    envelope
}

fn records(c: &mut Criterion) {
    let envelope = envelope();
    let mut encoded = Vec::new();
    encode(&envelope, &mut encoded);
    let page = Bytes::from(encoded.clone());
    let mut decoder = Decoder::default();
    assert_eq!(
        decoder.decode(&page).as_ref(),
        Some(&envelope),
        "they are inverse"
    );

    let mut group = c.benchmark_group("record");
    group.throughput(Throughput::Bytes(page.len() as u64));
    group.bench_function("encode", |b| {
        b.iter(|| {
            encoded.clear();
            encode(black_box(&envelope), &mut encoded)
        });
    });
    group.bench_function("decode", |b| b.iter(|| decoder.decode(black_box(&page))));
    group.finish();
}

criterion_group!(benches, records);
criterion_main!(benches);
