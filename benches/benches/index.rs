//! The stream index: a full segment becomes a run, eight runs become one.

#![allow(
    missing_docs,
    clippy::expect_used,
    reason = "a benchmark that fails shall stop"
)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use tidelog::StreamId;
use tidelog_backends::internals::{Runs, Segment};

/// What fills a segment of 16 MiB when payloads have 256 bytes.
const STREAMS: u64 = 10_000;
const TIMES: u64 = 5;
const LEN: u32 = 332;
/// Runs that are merged at once.
const FAN_IN: u64 = 8;

fn segments(streams: &[StreamId]) -> Vec<Segment> {
    (1..=FAN_IN)
        .map(|number| Segment::new(number, streams, TIMES, LEN).expect("it fits"))
        .collect()
}

/// An empty index; the directory goes when it is dropped.
fn fresh() -> (Runs, TempDir) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    (Runs::create(dir.path()).expect("an index"), dir)
}

fn index(c: &mut Criterion) {
    let streams = (0..STREAMS).map(|n| StreamId::new("BankAccount", &format!("acc-{n:06}")));
    let streams: Vec<_> = streams.collect::<Result<_, _>>().expect("names");
    let segments = segments(&streams);
    let mut group = c.benchmark_group("index");
    group.sample_size(10);
    group.throughput(Throughput::Elements(STREAMS * TIMES));
    group.bench_function("seal a segment", |b| {
        b.iter_batched(
            fresh,
            |(runs, dir)| {
                runs.add(&segments[0]).expect("room");
                (runs, dir)
            },
            BatchSize::PerIteration,
        );
    });
    group.throughput(Throughput::Elements(STREAMS * TIMES * FAN_IN));
    group.bench_function("merge eight runs", |b| {
        b.iter_batched(
            || {
                let (runs, dir) = fresh();
                for segment in &segments {
                    runs.add(segment).expect("room");
                }
                (runs, dir)
            },
            |(runs, dir)| {
                assert!(runs.merge().expect("room"), "there are enough runs");
                (runs, dir)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, index);
criterion_main!(benches);
