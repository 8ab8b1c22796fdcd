//! redb 4.6.0, as its README does it, with its default configuration: every commit is
//! `Durability::Immediate`, in one phase, and syncs the file.
//!
//! Fairness:
//! - Two tables: events by position, and the position by (stream, sequence). The expected version
//!   is checked inside the write transaction: the entry before must be there, and the insert must
//!   not meet another.
//! - It has one writer at a time and no group commit. Many clients are tokio tasks, as the raw
//!   file's and tidelog's async clients are, before one thread that commits everything that waits
//!   by one transaction; a lone client commits each append by itself on its own thread.
//! - Its cache may take 1 GiB by default, and it was left so.
//! - Event ids are stored, fresh UUIDs v7, but not indexed: a retry is not recognized. There is no
//!   hash chain; pages have checksums, which ordinary reads do not check.
//! - Reads borrow every field from the engine's page, without copying; tidelog's envelopes are
//!   owned.
//! - Nothing runs in the background, so there is nothing to drain. The file is not compacted, as
//!   `compact` is a call of its own.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::group::{self, Grouped};
use super::{Contender, EVENT, Names, event_id, full_name, refused};
use crate::Outcome;
use crate::load::{Append, Client, Seen};

/// Stream, sequence, event id, event type, payload.
type Event<'a> = (&'a str, u64, &'a [u8; 16], &'a str, &'a [u8]);

const EVENTS: TableDefinition<'_, u64, Event<'_>> = TableDefinition::new("events");
const STREAMS: TableDefinition<'_, (&str, u64), u64> = TableDefinition::new("streams");

/// An open database.
pub struct Redb {
    database: Database,
    streams: Names<String>,
    next_position: u64,
}

impl Redb {
    /// Opens the database in `dir`, making it if need be.
    pub fn open(dir: &Path, streams: usize) -> Outcome<Self> {
        let database = Database::create(dir.join("events.redb"))?;
        let transaction = database.begin_write()?;
        let next_position = {
            let events = transaction.open_table(EVENTS)?;
            let last = events.last()?;
            last.map_or(1, |(position, _)| position.value() + 1)
        };
        transaction.open_table(STREAMS)?;
        transaction.commit()?;
        Ok(Self {
            database,
            streams: Names::new(streams, full_name)?,
            next_position,
        })
    }
}

/// The tables of a write transaction.
struct Writer<'txn, 'a> {
    events: Table<'txn, u64, Event<'static>>,
    index: Table<'txn, (&'static str, u64), u64>,
    names: &'a Names<String>,
    position: u64,
}

impl<'txn, 'a> Writer<'txn, 'a> {
    fn open(
        transaction: &'txn WriteTransaction,
        names: &'a Names<String>,
        position: u64,
    ) -> Outcome<Self> {
        Ok(Self {
            events: transaction.open_table(EVENTS)?,
            index: transaction.open_table(STREAMS)?,
            names,
            position,
        })
    }

    /// Inserts one event; the inner answer is why it was refused.
    fn insert(&mut self, append: &Append<'_>) -> Outcome<Outcome<()>> {
        let stream = self.names.get(append.stream)?;
        let stream = stream.as_str();
        if append.expected > 0 && self.index.get((stream, append.expected))?.is_none() {
            return Ok(Err(refused(append)));
        }
        let sequence = append.expected + 1;
        let met = self.index.insert((stream, sequence), self.position)?;
        if let Some(met) = met.map(|met| met.value()) {
            self.index.insert((stream, sequence), met)?;
            return Ok(Err(refused(append)));
        }
        let id = event_id();
        let event = (stream, sequence, id.as_bytes(), EVENT, append.payload);
        self.events.insert(self.position, event)?;
        self.position += 1;
        Ok(Ok(()))
    }
}

impl Grouped for Redb {
    fn append_group(&mut self, group: &[Append<'_>]) -> Outcome<Vec<Outcome<()>>> {
        let transaction = self.database.begin_write()?;
        let mut writer = Writer::open(&transaction, &self.streams, self.next_position)?;
        let answers = group
            .iter()
            .map(|append| writer.insert(append))
            .collect::<Outcome<_>>()?;
        let next_position = writer.position;
        drop(writer);
        transaction.commit()?;
        self.next_position = next_position;
        Ok(answers)
    }
}

impl Contender for Redb {
    fn clients(&mut self, clients: Vec<Client>) -> Outcome<()> {
        group::serve(self, clients)
    }

    fn append_batch(&mut self, batch: &[Append<'_>]) -> Outcome<()> {
        let transaction = self.database.begin_write()?;
        let mut writer = Writer::open(&transaction, &self.streams, self.next_position)?;
        for append in batch {
            // Dropped without a commit, a transaction leaves nothing.
            writer.insert(append)??;
        }
        let next_position = writer.position;
        drop(writer);
        transaction.commit()?;
        self.next_position = next_position;
        Ok(())
    }

    fn drain(&mut self) -> Outcome<()> {
        Ok(())
    }

    fn scan(&mut self) -> Outcome<Seen> {
        let mut seen = Seen::default();
        let events = self.database.begin_read()?.open_table(EVENTS)?;
        for entry in events.iter()? {
            let (position, event) = entry?;
            std::hint::black_box(position.value());
            note(&mut seen, event.value());
        }
        Ok(seen)
    }

    fn load(&mut self, stream: usize) -> Outcome<Seen> {
        let mut seen = Seen::default();
        let name = self.streams.get(stream)?;
        let transaction = self.database.begin_read()?;
        let events = transaction.open_table(EVENTS)?;
        let index = transaction.open_table(STREAMS)?;
        for entry in index.range((name.as_str(), 0)..=(name.as_str(), u64::MAX))? {
            let position = entry?.1.value();
            let event = events.get(position)?;
            let event = event.ok_or_else(|| format!("no event at position {position}"))?;
            note(&mut seen, event.value());
        }
        Ok(seen)
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        Ok(self.database.close()?)
    }
}

fn note(seen: &mut Seen, (stream, sequence, id, event_type, payload): Event<'_>) {
    let id = uuid::Uuid::from_bytes(*id);
    std::hint::black_box((stream, sequence, id, event_type));
    seen.note(payload);
}
