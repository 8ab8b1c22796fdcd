//! SQLite 3.54.1, bundled by `rusqlite` 0.43.0, as its documentation asks of a store that must
//! survive power cuts: WAL with `synchronous=FULL`, so that every commit syncs the WAL. It is
//! built with `HAVE_FDATASYNC` (`.cargo/config.toml`), as distributions do, to sync as cheaply as
//! the others.
//!
//! Fairness:
//! - A normal table of events, its row id the position, with `UNIQUE (stream, sequence)`. The
//!   expected version is checked inside the transaction: the row before must be there, and the
//!   insert must not break the unique key.
//! - It has no group commit of its own. Many clients are tokio tasks, as the raw file's and
//!   tidelog's async clients are, before one thread that commits everything that waits by one
//!   transaction; a lone client commits each append by itself on its own thread.
//! - Statements are prepared once. The page cache (2 MiB) and the checkpoint interval (1,000 pages)
//!   are at their defaults: a cache of 256 MiB with 10,000 pages read more slowly.
//! - It maps its file (`mmap_size`), as its documentation recommends for reads: loads of streams
//!   took a fifth less processor time. What is mapped counts as its memory, up to the whole file,
//!   though the system may drop it; without mapping it stayed at about 10 MiB in every work.
//! - Event ids are stored, fresh UUIDs v7, but not indexed: a retry is not recognized. There is no
//!   hash chain, and no checksum outside the WAL.
//! - Reads borrow every column from the engine's row, without copying; tidelog's envelopes are
//!   owned.
//! - Checkpoints run inside commits, so there is nothing to drain; closing checkpoints the rest.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, Rows, TransactionBehavior, params};

use super::group::{self, Grouped};
use super::{Contender, EVENT, Names, event_id, full_name, refused};
use crate::Outcome;
use crate::load::{Append, Client, Seen};

const SETUP: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA mmap_size = 4294967296;
    CREATE TABLE IF NOT EXISTS events (
        position INTEGER PRIMARY KEY,
        stream TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        event_id BLOB NOT NULL,
        type TEXT NOT NULL,
        payload BLOB NOT NULL,
        UNIQUE (stream, sequence)
    );";
const PRECEDING: &str = "SELECT 1 FROM events WHERE stream = ?1 AND sequence = ?2";
const INSERT: &str = "INSERT INTO events (stream, sequence, event_id, type, payload)
    VALUES (?1, ?2, ?3, ?4, ?5)";
const SCAN: &str = "SELECT position, stream, sequence, event_id, type, payload FROM events
    ORDER BY position";
const LOAD: &str = "SELECT position, stream, sequence, event_id, type, payload FROM events
    WHERE stream = ?1 ORDER BY sequence";

/// An open database.
pub struct Sqlite {
    connection: Connection,
    streams: Names<String>,
}

impl Sqlite {
    /// Opens the database in `dir`, making it if need be.
    pub fn open(dir: &Path, streams: usize) -> Outcome<Self> {
        let connection = Connection::open(dir.join("events.sqlite"))?;
        connection.execute_batch(SETUP)?;
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        let synchronous: i64 =
            connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
        if (mode.as_str(), synchronous) != ("wal", 2) {
            return Err(format!("SQLite runs with {mode}, synchronous {synchronous}").into());
        }
        Ok(Self {
            connection,
            streams: Names::new(streams, full_name)?,
        })
    }
}

/// Inserts one event; the inner answer is why it was refused.
fn insert(
    connection: &Connection,
    names: &Names<String>,
    append: &Append<'_>,
) -> Outcome<Outcome<()>> {
    let stream = names.get(append.stream)?;
    if append.expected > 0 {
        let mut preceding = connection.prepare_cached(PRECEDING)?;
        if !preceding.exists(params![*stream, append.expected])? {
            return Ok(Err(refused(append)));
        }
    }
    let id = event_id();
    let row = params![
        *stream,
        append.expected + 1,
        id.as_bytes(),
        EVENT,
        append.payload
    ];
    match connection.prepare_cached(INSERT)?.execute(row) {
        Ok(_) => Ok(Ok(())),
        // Only this statement is undone, the transaction goes on.
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            Ok(Err(refused(append)))
        }
        Err(error) => Err(error.into()),
    }
}

impl Grouped for Sqlite {
    fn append_group(&mut self, group: &[Append<'_>]) -> Outcome<Vec<Outcome<()>>> {
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        let answers = group
            .iter()
            .map(|append| insert(&transaction, &self.streams, append))
            .collect::<Outcome<_>>()?;
        transaction.commit()?;
        Ok(answers)
    }
}

impl Contender for Sqlite {
    fn clients(&mut self, clients: Vec<Client>) -> Outcome<()> {
        group::serve(self, clients)
    }

    fn append_batch(&mut self, batch: &[Append<'_>]) -> Outcome<()> {
        let behavior = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behavior)?;
        for append in batch {
            insert(&transaction, &self.streams, append)??;
        }
        Ok(transaction.commit()?)
    }

    fn drain(&mut self) -> Outcome<()> {
        Ok(())
    }

    fn scan(&mut self) -> Outcome<Seen> {
        let mut scan = self.connection.prepare_cached(SCAN)?;
        read(scan.query([])?)
    }

    fn load(&mut self, stream: usize) -> Outcome<Seen> {
        let mut load = self.connection.prepare_cached(LOAD)?;
        read(load.query([&*self.streams.get(stream)?])?)
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        self.connection.close().map_err(|(_, error)| error.into())
    }
}

fn read(mut rows: Rows<'_>) -> Outcome<Seen> {
    let mut seen = Seen::default();
    while let Some(row) = rows.next()? {
        let position: u64 = row.get(0)?;
        let stream = row.get_ref(1)?.as_str()?;
        let sequence: u64 = row.get(2)?;
        let id = uuid::Uuid::from_slice(row.get_ref(3)?.as_blob()?)?;
        let event_type = row.get_ref(4)?.as_str()?;
        std::hint::black_box((position, stream, sequence, id, event_type));
        seen.note(row.get_ref(5)?.as_blob()?);
    }
    Ok(seen)
}
