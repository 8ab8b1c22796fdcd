//! fjall 3.1.13, as its documentation does it: every group is a write batch over both keyspaces,
//! persisted with `PersistMode::SyncData` before it is acknowledged. That is `fdatasync`, as the
//! raw file's and tidelog's; on Linux it makes a grown file's length durable as well.
//!
//! Fairness:
//! - Two keyspaces: events by position, and the position by (stream, sequence). One writer does
//!   everything, so the expected version is checked by looking before the batch is made: the entry
//!   before must be there, and the one itself not. Its README recommends transactions where what
//!   is written depends on what was read; behind a single writer a batch does the same with less.
//! - Its block cache may take 1 GiB, since its README recommends as much as the data set where that
//!   fits, and redb may too; with the default of 32 MiB loads of streams took a third more
//!   processor time, and reads stayed below 150 MiB of memory. All else is at its defaults.
//! - Its journal syncs a batch at a time and has no group commit. Many clients are tokio tasks, as
//!   the raw file's and tidelog's async clients are, before one thread that commits everything that
//!   waits by one batch; a lone client commits each append by itself on its own thread.
//! - Event ids are stored, fresh UUIDs v7, but not indexed: a retry is not recognized. There is no
//!   hash chain; blocks and batches have checksums.
//! - Reads borrow every field from a counted slice of the engine's, without copying the payload;
//!   tidelog's envelopes are owned.
//! - Draining waits for its flushes and compactions by looking again and again, as it has no call
//!   that waits. What the memory tables hold stays in the journal when it is closed, and opening
//!   reads it again.

use std::collections::HashSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use uuid::Uuid;

use super::group::{self, Grouped};
use super::{Contender, EVENT, Names, event_id, full_name, refused};
use crate::Outcome;
use crate::load::{Append, Client, Seen};

/// Of blocks that were read.
const CACHE_BYTES: u64 = 1 << 30;

/// An open database.
pub struct Fjall {
    database: Database,
    events: Keyspace,
    index: Keyspace,
    streams: Names<String>,
    next_position: u64,
}

impl Fjall {
    /// Opens the database in `dir`, making it if need be.
    pub fn open(dir: &Path, streams: usize) -> Outcome<Self> {
        let database = Database::builder(dir.join("store"))
            .cache_size(CACHE_BYTES)
            .open()?;
        let events = database.keyspace("events", || {
            // A position that is looked up came from the index: it is there.
            KeyspaceCreateOptions::default().expect_point_read_hits(true)
        })?;
        let index = database.keyspace("streams", KeyspaceCreateOptions::default)?;
        let last = events.last_key_value().map(fjall::Guard::key).transpose()?;
        let next_position = match last {
            Some(key) => number(&key)? + 1,
            None => 1,
        };
        Ok(Self {
            database,
            events,
            index,
            streams: Names::new(streams, full_name)?,
            next_position,
        })
    }

    /// Writes what is accepted of `appends` by one batch, or nothing when `whole` and one is
    /// refused; answers for each.
    fn write(&mut self, appends: &[Append<'_>], whole: bool) -> Outcome<Vec<Outcome<()>>> {
        let mut batch = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        // What the batch holds cannot be looked up before it is committed.
        let mut added = HashSet::with_capacity(appends.len());
        let mut answers = Vec::with_capacity(appends.len());
        let mut position = self.next_position;
        for append in appends {
            let name = self.streams.get(append.stream)?;
            let has = |key: &Vec<u8>, added: &HashSet<Vec<u8>>| -> Outcome<bool> {
                Ok(added.contains(key) || self.index.contains_key(key)?)
            };
            let sequence = append.expected + 1;
            let at = key(&name, sequence);
            let preceded = append.expected == 0 || has(&key(&name, append.expected), &added)?;
            if !preceded || has(&at, &added)? {
                answers.push(Err(refused(append)));
                if whole {
                    return Ok(answers);
                }
                continue;
            }
            let event = encode(&name, sequence, append.payload);
            batch.insert(&self.events, position.to_be_bytes(), event);
            batch.insert(&self.index, at.as_slice(), position.to_be_bytes());
            added.insert(at);
            answers.push(Ok(()));
            position += 1;
        }
        batch.commit()?;
        self.next_position = position;
        Ok(answers)
    }
}

impl Grouped for Fjall {
    fn append_group(&mut self, group: &[Append<'_>]) -> Outcome<Vec<Outcome<()>>> {
        self.write(group, false)
    }
}

impl Contender for Fjall {
    fn clients(&mut self, clients: Vec<Client>) -> Outcome<()> {
        group::serve(self, clients)
    }

    fn append_batch(&mut self, batch: &[Append<'_>]) -> Outcome<()> {
        self.write(batch, true)?.into_iter().collect()
    }

    fn drain(&mut self) -> Outcome<()> {
        let idle =
            || self.database.outstanding_flushes() == 0 && self.database.active_compactions() == 0;
        // A finished compaction may start the next.
        let mut looks = 0;
        while looks < 5 {
            looks = if idle() { looks + 1 } else { 0 };
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn scan(&mut self) -> Outcome<Seen> {
        let mut seen = Seen::default();
        for entry in self.events.iter() {
            let (position, event) = entry.into_inner()?;
            std::hint::black_box(number(&position)?);
            note(&mut seen, &event)?;
        }
        Ok(seen)
    }

    fn load(&mut self, stream: usize) -> Outcome<Seen> {
        let mut seen = Seen::default();
        let mut prefix = self.streams.get(stream)?.into_owned();
        prefix.push('\0');
        for entry in self.index.prefix(prefix) {
            let position = entry.value()?;
            let event = self.events.get(&position)?;
            note(&mut seen, &event.ok_or("the index names no event")?)?;
        }
        Ok(seen)
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}

/// Key of an event in the index: no name holds a zero.
fn key(name: &str, sequence: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 9);
    key.extend_from_slice(name.as_bytes());
    key.push(0);
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

fn number(bytes: &[u8]) -> Outcome<u64> {
    Ok(u64::from_be_bytes(bytes.try_into()?))
}

/// Sequence, event id, lengths of name and type, name, type, payload.
fn encode(name: &str, sequence: u64, payload: &[u8]) -> Vec<u8> {
    let mut event = Vec::with_capacity(28 + name.len() + EVENT.len() + payload.len());
    event.extend_from_slice(&sequence.to_be_bytes());
    event.extend_from_slice(event_id().as_bytes());
    #[allow(clippy::cast_possible_truncation, reason = "names are short")]
    for length in [name.len() as u16, EVENT.len() as u16] {
        event.extend_from_slice(&length.to_be_bytes());
    }
    event.extend_from_slice(name.as_bytes());
    event.extend_from_slice(EVENT.as_bytes());
    event.extend_from_slice(payload);
    event
}

fn note(seen: &mut Seen, event: &[u8]) -> Outcome<()> {
    let short = "a short record";
    let (sequence, rest) = event.split_first_chunk().ok_or(short)?;
    let sequence = u64::from_be_bytes(*sequence);
    let (id, rest) = rest.split_first_chunk::<16>().ok_or(short)?;
    let (name_length, rest) = rest.split_first_chunk().ok_or(short)?;
    let (type_length, rest) = rest.split_first_chunk().ok_or(short)?;
    let (name, rest) = rest
        .split_at_checked(u16::from_be_bytes(*name_length).into())
        .ok_or(short)?;
    let (event_type, payload) = rest
        .split_at_checked(u16::from_be_bytes(*type_length).into())
        .ok_or(short)?;
    let name = std::str::from_utf8(name)?;
    let event_type = std::str::from_utf8(event_type)?;
    std::hint::black_box((sequence, Uuid::from_bytes(*id), name, event_type));
    seen.note(payload);
    Ok(())
}
