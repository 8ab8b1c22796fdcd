//! What replication costs appends, and how fast it catches up beside plain inserts of the driver.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tidelog::{
    AppendBatch, ContentType, DistributedConfig, ExpectedVersion, KeyspaceReplication, NewEvent,
    RecordKind, ScyllaConfig, ScyllaStore, Stage, StreamId,
};
use tidelog_backends::SledStore;
use tidelog_backends::scylla_driver::client::session::Session;
use tidelog_backends::scylla_driver::client::session_builder::SessionBuilder;
use tidelog_backends::scylla_driver::{self as driver, SerializeRow};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::rounds::{figure, step};
use super::{Figures, Found, Measure, Step, Unit, figures};
use crate::Outcome;
use crate::contenders::Kind;
use crate::options::{Job, Options};
use crate::rounds;
use crate::works::Work;

/// The server that catching up is measured with.
const SERVER: &str = "TIDELOG_TEST_SCYLLA";
/// Plain inserts in flight.
const IN_FLIGHT: usize = 256;
/// Sequences of a bucket and positions of a chunk, as keyspaces have them unless told.
const PARTITION: u64 = 1_000;

/// The parent's side: W2 with replication beside W2 without, then catching up.
pub fn replicated(options: &Options, found: &mut Found) -> Outcome<()> {
    if !options.measures.contains(&Measure::Replicate) {
        return Ok(());
    }
    let nobody = TcpListener::bind("127.0.0.1:0")?;
    let nobody_listens = nobody.local_addr()?.to_string();
    drop(nobody);
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let nobody_answers = silent.local_addr()?.to_string();
    // Keeps what it takes, for as long as this process lives.
    thread::spawn(move || silent.incoming().collect::<Vec<_>>());
    let plain = w2(options, None)?;
    for (name, to) in [
        ("nobody listens", &*nobody_listens),
        ("nobody answers", &*nobody_answers),
        ("all accepted", "accept"),
    ] {
        let rate = w2(options, Some(to))?;
        found.note(
            format!("replication: W2, {name}"),
            Unit::Times,
            rate / plain,
        );
    }
    if std::env::var_os(SERVER).is_none() {
        let name = "catch-up, streams of 100: against inserts";
        found.remark(name, format!("{SERVER} names no server"));
        return Ok(());
    }
    for (name, part) in [
        ("streams of 100", Step::CatchUpDeep),
        ("streams of one", Step::CatchUpWide),
    ] {
        let dir = rounds::fresh(options, Kind::Tidelog)?;
        let figures = step(part, &dir, options)?;
        let (ours, plain) = (figure(&figures, "rate"), figure(&figures, "plain"));
        found.note(format!("catch-up, {name}: events"), Unit::PerSecond, ours);
        found.note(
            format!("catch-up, {name}: plain inserts"),
            Unit::PerSecond,
            plain,
        );
        found.note(
            format!("catch-up, {name}: against inserts"),
            Unit::Times,
            ours / plain,
        );
        fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// Appends a second of W2.
fn w2(options: &Options, replicate: Option<&str>) -> Outcome<f64> {
    let mut options = options.clone();
    options.replicate = replicate.map(str::to_owned);
    let job = Job {
        work: Work::W2,
        contender: Kind::TidelogAsync,
    };
    let dir = rounds::fresh(&options, Kind::TidelogAsync)?;
    let measured = rounds::measure(job, &dir, &options)?;
    fs::remove_dir_all(dir)?;
    Ok(measured.timing.count as f64 / measured.timing.seconds)
}

/// Events a second until the server has all, and the same rows as plain inserts.
pub fn catch_up(options: &Options, a_stream: u64) -> Outcome<Figures> {
    let server = std::env::var(SERVER)?;
    let events = options.replicated_events.unwrap_or_default();
    let log = tidelog::Tidelog::open(options.dir.join("store"))?.blocking();
    fill(&log, options, events, a_stream)?;
    log.close()?;
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let session = SessionBuilder::new().known_node(&server).build().await?;
        let keyspace = |what: &str| format!("bench_{what}_{}", std::process::id());
        let config = |what: &str| {
            ScyllaConfig::new([&server])
                .keyspace(keyspace(what))
                .replication(KeyspaceReplication::Simple(1))
        };
        for what in ["ours", "plain"] {
            ScyllaStore::migrate(config(what)).await?;
        }
        let rows = {
            let log = tidelog::Tidelog::open(options.dir.join("store"))?;
            let rows = Rows::of(log.store())?;
            log.close().await?;
            rows
        };
        let start = Instant::now();
        rows.insert(&session, &keyspace("plain")).await?;
        let plain = events as f64 / start.elapsed().as_secs_f64();

        let distributed = DistributedConfig::new().scylla(config("ours"));
        let start = Instant::now();
        let log = tidelog::Tidelog::builder(options.dir.join("store"));
        let log = log.distributed(distributed).open()?;
        log.wait_for(log.last_position(), Stage::Replicated).await?;
        let rate = events as f64 / start.elapsed().as_secs_f64();
        log.close().await?;
        for what in ["ours", "plain"] {
            let drop = format!("DROP KEYSPACE {}", keyspace(what));
            session.query_unpaged(drop, ()).await?;
        }
        Ok(figures([("rate", rate), ("plain", plain)]))
    })
}

/// Events in streams of `a_stream` each, in batches over many streams.
fn fill(
    log: &tidelog::BlockingTidelog,
    options: &Options,
    events: u64,
    a_stream: u64,
) -> Outcome<()> {
    let payloads = options.payloads();
    let streams = events / a_stream;
    let mut number = 0;
    for sequence in 0..a_stream {
        for first in (0..streams).step_by(1_000) {
            let mut parts = Vec::new();
            for stream in first..(first + 1_000).min(streams) {
                let payload = Bytes::copy_from_slice(payloads.get(number));
                number += 1;
                let event = NewEvent::new("Deposited", 1, ContentType::Bytes, payload);
                let stream = StreamId::new("BankAccount", &format!("acc-{stream:06}"))?;
                let expected = match sequence {
                    0 => ExpectedVersion::NoStream,
                    sequence => ExpectedVersion::Exact(sequence),
                };
                parts.push(AppendBatch::new(stream, expected, vec![event]));
            }
            log.append_streams(parts)?;
        }
    }
    Ok(())
}

/// The rows of both tables, as the log makes them.
struct Rows {
    events: Vec<EventRow>,
    records: Vec<LogRow>,
}

#[derive(SerializeRow)]
#[scylla(crate = driver)]
struct EventRow {
    aggregate_type: String,
    aggregate_id: String,
    bucket: i64,
    sequence: i64,
    event_id: Uuid,
    kind: i8,
    event_type: String,
    revision: i64,
    content_type: String,
    event_time: i64,
    recorded_time: i64,
    batch_first: i64,
    batch_count: i32,
    payload: Bytes,
    origin: Uuid,
    epoch: Uuid,
    origin_position: i64,
}

#[derive(SerializeRow)]
#[scylla(crate = driver)]
struct LogRow {
    origin: Uuid,
    epoch: Uuid,
    chunk: i64,
    position: i64,
    event_id: Uuid,
    commit_number: i64,
    commit_first: i64,
    commit_count: i32,
    commit_hash: Vec<u8>,
    record: Bytes,
}

impl Rows {
    fn of(store: &SledStore) -> Outcome<Self> {
        let info = store.info()?;
        let (mut events, mut records) = (Vec::new(), Vec::new());
        let mut commits = store.commits(0);
        loop {
            let some = commits.next(1 << 20)?;
            if some.is_empty() {
                return Ok(Self { events, records });
            }
            for commit in &some {
                for record in commit.each() {
                    let record = record?;
                    records.push(LogRow {
                        origin: info.origin,
                        epoch: info.epoch,
                        chunk: (record.position / PARTITION).cast_signed(),
                        position: record.position.cast_signed(),
                        event_id: *record.event_id.as_uuid(),
                        commit_number: commit.number.cast_signed(),
                        commit_first: commit.first_position.cast_signed(),
                        commit_count: commit.records.cast_signed(),
                        commit_hash: commit.hash.to_vec(),
                        record: record.bytes(),
                    });
                    if record.kind == RecordKind::Control {
                        continue;
                    }
                    let event = record.envelope()?;
                    events.push(EventRow {
                        aggregate_type: event.aggregate_type().to_owned(),
                        aggregate_id: event.aggregate_id().to_owned(),
                        bucket: (event.sequence / PARTITION).cast_signed(),
                        sequence: event.sequence.cast_signed(),
                        event_id: *event.event_id.as_uuid(),
                        kind: 1,
                        event_type: event.event_type.to_string(),
                        revision: i64::from(event.revision),
                        content_type: event.content_type.as_str().to_owned(),
                        event_time: event.event_time.as_micros(),
                        recorded_time: event.recorded_time.as_micros(),
                        batch_first: event.batch.first.cast_signed(),
                        batch_count: event.batch.count.cast_signed(),
                        payload: event.event,
                        origin: info.origin,
                        epoch: info.epoch,
                        origin_position: record.position.cast_signed(),
                    });
                }
            }
        }
    }

    /// Each row an insert of its own.
    async fn insert(&self, session: &Session, keyspace: &str) -> Outcome<()> {
        let events = "aggregate_type, aggregate_id, bucket, sequence, event_id, kind, event_type, revision, \
             content_type, event_time, recorded_time, batch_first, batch_count, payload, origin, epoch, \
             origin_position";
        let records = "origin, epoch, chunk, position, event_id, commit_number, commit_first, commit_count, \
             commit_hash, record";
        let insert = |table: &str, columns: &str| {
            let marks = vec!["?"; columns.split(',').count()].join(", ");
            format!("INSERT INTO {keyspace}.{table} ({columns}) VALUES ({marks})")
        };
        let of_events = session.prepare(insert("events_by_stream", events)).await?;
        let of_records = session.prepare(insert("log_by_origin", records)).await?;
        let all = self
            .events
            .iter()
            .map(|row| session.execute_unpaged(&of_events, row));
        stream::iter(all)
            .buffer_unordered(IN_FLIGHT)
            .try_for_each(async |_| Ok(()))
            .await?;
        let all = self
            .records
            .iter()
            .map(|row| session.execute_unpaged(&of_records, row));
        stream::iter(all)
            .buffer_unordered(IN_FLIGHT)
            .try_for_each(async |_| Ok(()))
            .await?;
        Ok(())
    }
}
