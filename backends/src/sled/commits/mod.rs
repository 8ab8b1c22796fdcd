//! The log commit by commit, as replication sends it and a copy takes it; no part of the API.

mod store;
mod walk;

pub use walk::Commits;

use bytes::Bytes;
use tidelog_core::{Batch, Error, EventEnvelope, EventId, RecordKind, StreamId, Superseded};
use uuid::Uuid;

use super::control;
use super::frame;
use super::frame_reader::for_each_record;
use super::record::{self, Names, Parsed, Record};

/// One commit of a log, whole: its records as they stand there, and its place in the hash chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Dense from 1.
    pub number: u64,
    /// Position of its first record.
    pub first_position: u64,
    /// How many records it has; at least one.
    pub records: u32,
    /// Chain hash before it.
    pub previous: [u8; 32],
    /// Chain hash after it.
    pub hash: [u8; 32],
    /// Its records, one after another.
    pub body: Bytes,
}

/// Where a commit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitEnd {
    /// Number of the commit; 0 before the first one.
    pub number: u64,
    /// Position of its last record; 0 before the first one.
    pub position: u64,
    /// Chain hash after it.
    pub hash: [u8; 32],
}

/// A stretch of history, as a log declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochInfo {
    /// Its id.
    pub id: Uuid,
    /// Position of the record that begins it; of the first one, where the log begins.
    pub first_position: u64,
    /// The epoch that it left; nil for the first one.
    pub parent: Uuid,
    /// Position at which it left its parent.
    pub parent_position: u64,
    /// Chain hash there.
    pub parent_hash: [u8; 32],
}

/// Commits that a repair could not keep, and the chain on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeclaredHole {
    /// The first commit that is gone.
    pub first_commit: u64,
    /// The last one.
    pub last_commit: u64,
    /// The first position that is gone.
    pub first_position: u64,
    /// The last one.
    pub last_position: u64,
    /// Chain hash after the last commit before the hole.
    pub hash_before: [u8; 32],
    /// Chain hash that the next commit kept says is before it.
    pub hash_after: [u8; 32],
}

impl CommitEnd {
    /// The place before the first commit of a log.
    pub fn genesis(origin: Uuid, first_epoch: Uuid) -> Self {
        Self {
            number: 0,
            position: 0,
            hash: frame::genesis(&origin, &first_epoch),
        }
    }
}

impl Commit {
    /// The commit that follows `before` and has these records.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there is none, when one is not whole, or when positions do not
    /// follow.
    pub fn new(before: &CommitEnd, body: Bytes) -> Result<Self, Error> {
        let not = |why: &str| Error::invalid("commit", before.number + 1, why);
        let first_position = before.position + 1;
        let mut position = first_position;
        let mut dense = true;
        let count = for_each_record(&body, |_, _, parsed| {
            dense &= parsed.position == position;
            position += 1;
            Ok(())
        })?;
        match count.map_err(not)? {
            0 => Err(not("it has no records")),
            _ if !dense => Err(not("its positions do not follow")),
            records => Ok(Self {
                number: before.number + 1,
                first_position,
                records,
                previous: before.hash,
                hash: frame::chain(&before.hash, &body),
                body,
            }),
        }
    }

    /// The same of the records that these envelopes were read from: bit for bit, if none has a key
    /// id.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of(before: &CommitEnd, envelopes: &[EventEnvelope]) -> Result<Self, Error> {
        let mut body = Vec::new();
        for envelope in envelopes {
            Record::of(envelope).encode(&mut body);
        }
        Self::new(before, body.into())
    }

    /// Position of its last record.
    pub fn last_position(&self) -> u64 {
        self.first_position + u64::from(self.records) - 1
    }

    /// Where it ends.
    pub fn end(&self) -> CommitEnd {
        CommitEnd {
            number: self.number,
            position: self.last_position(),
            hash: self.hash,
        }
    }

    /// Each record with its bytes in `body`: fields are read, payloads not copied. Nothing follows
    /// an error.
    pub fn each(&self) -> impl Iterator<Item = Result<CommitRecord<'_>, Error>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = self.body.get(at..).filter(|rest| !rest.is_empty())?;
            let bytes = record::total_len(rest).and_then(|len| rest.get(..len));
            let read = bytes
                .ok_or("a record does not fit into its commit")
                .and_then(|bytes| CommitRecord::parse(bytes, &self.body));
            at = match &read {
                Ok(record) => at + record.bytes.len(),
                Err(_) => self.body.len(),
            };
            Some(read.map_err(|why| Error::invalid("commit", self.number, why)))
        })
    }
}

/// One record of a log.
#[derive(Clone)]
pub struct CommitRecord<'a> {
    /// What it is.
    pub kind: RecordKind,
    /// Its id.
    pub event_id: EventId,
    /// Its stream; `$tidelog/control` for a control record.
    pub stream: StreamId,
    /// Its sequence there; 0 for a control record.
    pub sequence: u64,
    /// Its position.
    pub position: u64,
    /// The append that wrote it.
    pub batch: Batch,
    parsed: Parsed<'a>,
    bytes: &'a [u8],
    page: &'a Bytes,
}

impl<'a> CommitRecord<'a> {
    /// The record that is exactly `bytes`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when that is none.
    pub fn read(bytes: &'a Bytes) -> Result<Self, Error> {
        Self::parse(bytes, bytes).map_err(|why| Error::invalid("record", bytes.len(), why))
    }

    fn parse(bytes: &'a [u8], page: &'a Bytes) -> Result<Self, &'static str> {
        let parsed = record::parse(bytes)?;
        let stream = parsed.stream().ok_or("the record's stream can be none")?;
        Ok(Self {
            kind: parsed.kind,
            event_id: parsed.event_id,
            stream,
            sequence: parsed.sequence,
            position: parsed.position,
            batch: parsed.batch,
            parsed,
            bytes,
            page,
        })
    }

    /// Its bytes, which share those it was read from.
    pub fn bytes(&self) -> Bytes {
        self.page.slice_ref(self.bytes)
    }

    /// All of it.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when its texts are none.
    pub fn envelope(&self) -> Result<EventEnvelope, Error> {
        let read = Names::new().envelope(self.parsed, self.page);
        read.ok_or_else(|| {
            let reason = "the record's fields cannot be read";
            Error::invalid("record", self.position, reason)
        })
    }

    /// The epoch that it begins, if it is such a record.
    pub fn epoch(&self) -> Option<EpochInfo> {
        let epoch = control::epoch_of(&self.parsed)?;
        Some(EpochInfo::new(&epoch, self.position))
    }

    /// What it says of superseded events, if it is such a record.
    pub fn superseded(&self) -> Option<Superseded> {
        control::superseded_by(&self.parsed)
    }

    /// All holes of the log, if it is the record in which a repair declares them.
    pub fn holes(&self) -> Option<Vec<DeclaredHole>> {
        let Some(control::Declared::Gap(gap)) = control::declared_by(&self.parsed) else {
            return None;
        };
        let holes = gap.holes.iter().map(|hole| DeclaredHole {
            first_commit: hole.first_commit,
            last_commit: hole.last_commit,
            first_position: hole.first_position,
            last_position: hole.last_position,
            hash_before: hole.hash_before,
            hash_after: hole.hash_after,
        });
        Some(holes.collect())
    }
}

/// Makes envelopes of records one after the other, with names shared that were met before. They are to be
/// dropped by the thread that makes them: two would count in the same place.
pub struct Envelopes {
    names: Names,
    /// Where each is built.
    one: Vec<EventEnvelope>,
}

impl Envelopes {
    /// None was met yet.
    pub fn new() -> Self {
        Self {
            names: Names::new(),
            one: Vec::with_capacity(1),
        }
    }

    /// The record whose bytes [`CommitRecord::bytes`] gave: its checksum was looked at then.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when that is none.
    pub fn read(&mut self, bytes: &Bytes) -> Result<EventEnvelope, Error> {
        let not = |why: &str| Error::invalid("record", bytes.len(), why);
        let parsed = record::parse_checked(bytes).map_err(not)?;
        let read = self.names.push(parsed, bytes, &mut self.one);
        let read = read.and_then(|()| self.one.pop());
        read.ok_or_else(|| not("its fields cannot be read"))
    }
}

impl Default for Envelopes {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for CommitRecord<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CommitRecord")
            .field("kind", &self.kind)
            .field("event_id", &self.event_id)
            .field("stream", &self.stream)
            .field("sequence", &self.sequence)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl EpochInfo {
    pub(crate) fn new(epoch: &super::segment::Epoch, first_position: u64) -> Self {
        Self {
            id: epoch.id,
            first_position,
            parent: epoch.parent,
            parent_position: epoch.parent_position,
            parent_hash: epoch.parent_hash,
        }
    }
}
