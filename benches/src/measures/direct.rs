//! Appends directly on a server, beside the bare conditional batch of the driver: the same rows into
//! the same table, by the same number of clients, in turn. All clients are tasks of one thread, on
//! which the bare driver works, too. The store works there as well where the configuration names that
//! runtime; by itself it has a thread of its own, and each call is handed over and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidelog::scylla_driver::client::session::Session;
use tidelog::scylla_driver::client::session_builder::SessionBuilder;
use tidelog::scylla_driver::statement::batch::{Batch, BatchType};
use tidelog::scylla_driver::statement::prepared::PreparedStatement;
use tidelog::scylla_driver::statement::{Consistency, SerialConsistency};
use tidelog::{
    AppendBatch, ContentType, EventStore, ExpectedVersion, KeyspaceReplication, NewEvent,
    ScyllaConfig, ScyllaStore, StreamId,
};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::Figures;
use crate::Outcome;

/// Streams that one client appends to in turn.
const STREAMS: u64 = 16;
/// Turns of each, and how long one is.
const TURNS: usize = 5;
const TURN: Duration = Duration::from_millis(1_000);
const PAYLOAD: usize = 256;

const INSERT: &str = "INSERT INTO events_by_stream
    (aggregate_type, aggregate_id, bucket, sequence, event_id, kind, event_type, revision,
    content_type, event_time, recorded_time, batch_first, batch_count, payload)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const UPDATE: &str = "UPDATE events_by_stream
    SET head_sequence = ?, head_event_id = ?, head_recorded = ?
    WHERE aggregate_type = ? AND aggregate_id = ? AND bucket = ? IF head_sequence = ";

/// The server that is measured; why not, when there is none.
pub fn server() -> Result<String, &'static str> {
    std::env::var("TIDELOG_TEST_SCYLLA").map_err(|_| "TIDELOG_TEST_SCYLLA names no server")
}

/// Measures on the server `host:port`, in a keyspace that it drops at the end.
pub fn run(server: &str) -> Outcome<Figures> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let keyspace = format!("b{}_direct", std::process::id());
        let config = ScyllaConfig::new([server])
            .keyspace(&keyspace)
            .replication(KeyspaceReplication::Simple(1))
            .migrate_at_connect();
        let apart = ScyllaStore::connect(config.clone()).await?;
        let near = ScyllaStore::connect(config.runtime(Handle::current())).await?;
        let bare = Bare::connect(server, &keyspace).await?;
        let measured = all(&apart, &near, &bare).await;
        let drop = format!("DROP KEYSPACE \"{keyspace}\"");
        bare.0.session.query_unpaged(drop, &[]).await?;
        near.close().await?;
        apart.close().await?;
        measured
    })
}

/// Who appends.
const WAYS: [&str; 3] = ["near", "apart", "bare"];

async fn all(apart: &ScyllaStore, near: &ScyllaStore, bare: &Bare) -> Outcome<Figures> {
    let mut found = Figures::new();
    for clients in [1, 64] {
        let mut rates = WAYS.map(|_| Vec::new());
        for turn in 0..=TURNS {
            for nth in 0..WAYS.len() {
                let way = (turn + nth) % WAYS.len();
                let name = format!("{clients}.{turn}");
                let of = |client: u64| format!("{}.{name}.{client}", WAYS[way]);
                let rate = match WAYS[way] {
                    "bare" => rate(clients, |n| bare_client(bare.clone(), of(n))).await?,
                    "near" => rate(clients, |n| direct_client(near.clone(), of(n))).await?,
                    _ => rate(clients, |n| direct_client(apart.clone(), of(n))).await?,
                };
                // The first of each warms up: the server compiles what it runs.
                if turn > 0 {
                    rates[way].push(rate);
                }
            }
        }
        let bare = rates[2].clone();
        for (way, rates) in WAYS.iter().zip(rates) {
            let ratios = rates.iter().zip(&bare).map(|(ours, bare)| ours / bare);
            found.insert(format!("{way} ratio {clients}"), median(ratios.collect()));
            found.insert(format!("{way} {clients}"), median(rates));
        }
    }
    Ok(found)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How many appends a second so many clients do for a turn.
async fn rate<F>(clients: u64, client: impl Fn(u64) -> F) -> Outcome<f64>
where
    F: Future<Output = Outcome<u64>> + Send + 'static,
{
    let start = Instant::now();
    let working: Vec<_> = (0..clients).map(|n| tokio::spawn(client(n))).collect();
    let mut appends = 0;
    for client in working {
        appends += client.await??;
    }
    Ok(appends as f64 / start.elapsed().as_secs_f64())
}

async fn direct_client(store: ScyllaStore, name: String) -> Outcome<u64> {
    let start = Instant::now();
    let mut appends = 0;
    while start.elapsed() < TURN {
        let stream = StreamId::new("Direct", &format!("{name}.{}", appends % STREAMS))?;
        let event = NewEvent::new("Noted", 1, ContentType::Bytes, vec![7; PAYLOAD]);
        let expected = ExpectedVersion::Exact(appends / STREAMS);
        store
            .append(AppendBatch::new(stream, expected, vec![event]))
            .await?;
        appends += 1;
    }
    Ok(appends)
}

/// The driver alone.
#[derive(Clone)]
struct Bare(Arc<Prepared>);

struct Prepared {
    session: Session,
    insert: PreparedStatement,
    first: PreparedStatement,
    next: PreparedStatement,
    events: AtomicU64,
}

impl Bare {
    async fn connect(server: &str, keyspace: &str) -> Outcome<Self> {
        let session = SessionBuilder::new()
            .known_node(server)
            .use_keyspace(keyspace, true)
            .build()
            .await?;
        Ok(Self(Arc::new(Prepared {
            insert: session.prepare(INSERT).await?,
            first: session.prepare(format!("{UPDATE}null")).await?,
            next: session.prepare(format!("{UPDATE}?")).await?,
            session,
            events: AtomicU64::new(0),
        })))
    }

    async fn append(&self, id: &str, sequence: i64) -> Outcome<()> {
        let Prepared {
            session,
            insert,
            first,
            next,
            events,
        } = &*self.0;
        let number = events.fetch_add(1, Ordering::Relaxed);
        let event_id = Uuid::from_u128(number.into());
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_consistency(Consistency::LocalQuorum);
        batch.set_serial_consistency(Some(SerialConsistency::Serial));
        let row = (
            "Bare",
            id,
            0_i64,
            sequence,
            event_id,
            1_i8,
            "Noted",
            1_i64,
            "application/octet-stream",
            5_i64,
            5_i64,
            sequence,
            1_i32,
            vec![7_u8; PAYLOAD],
        );
        let answer = if sequence == 1 {
            batch.append_statement(first.clone());
            batch.append_statement(insert.clone());
            let head = (sequence, event_id, 5_i64, "Bare", id, 0_i64);
            session.batch(&batch, (head, row)).await?
        } else {
            batch.append_statement(next.clone());
            batch.append_statement(insert.clone());
            let before = sequence - 1;
            let head = (sequence, event_id, 5_i64, "Bare", id, 0_i64, before);
            session.batch(&batch, (head, row)).await?
        };
        let applied = answer.into_rows_result()?;
        if applied.rows_num() == 0 {
            return Err("a conditional batch without an answer".into());
        }
        Ok(())
    }
}

async fn bare_client(bare: Bare, name: String) -> Outcome<u64> {
    let start = Instant::now();
    let mut appends = 0;
    while start.elapsed() < TURN {
        let id = format!("{name}.{}", appends % STREAMS);
        let sequence = appends / STREAMS + 1;
        bare.append(&id, sequence.cast_signed()).await?;
        appends += 1;
    }
    Ok(appends)
}
