//! What stands in each table: the rows that are asked for, written and answered.

use std::fmt;

use bytes::Bytes;
use tidelog_core::{EventEnvelope, EventId, StreamId, Timestamp};
use uuid::Uuid;

use super::Bucket;

/// `tidelog_meta`: what is fixed for ever when a keyspace is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaRow {
    /// The birth origin of what is appended directly.
    pub keyspace_id: Uuid,
    /// Version of the schema; 0 while it is being made.
    pub schema_version: u32,
    /// Sequences in a bucket.
    pub bucket_events: u64,
    /// Positions in a chunk.
    pub chunk_records: u64,
    /// Where conditional writes are decided; `None` for all data centres together.
    pub arbitration_dc: Option<Box<str>>,
}

/// A bucket's newest event, kept as statics of its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadRow {
    /// Its sequence.
    pub sequence: u64,
    /// Its id.
    pub event_id: EventId,
    /// Its recorded time.
    pub recorded: Timestamp,
}

/// What is known of an event without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRow {
    /// Its sequence.
    pub sequence: u64,
    /// Its id.
    pub event_id: EventId,
    /// Whose log it came from; `None` when it was appended directly.
    pub origin: Option<Uuid>,
    /// Its recorded time.
    pub recorded: Timestamp,
}

/// A place in an origin's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// The store.
    pub origin: Uuid,
    /// The epoch of the partition that the record stands in.
    pub epoch: Uuid,
    /// The position.
    pub position: u64,
}

/// One row of `events_by_stream`.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// The event, kind and birth as its log has them. It has no position: the table has no order
    /// over streams.
    pub event: EventEnvelope,
    /// The log that it was replicated from; `None` when it was appended directly.
    pub place: Option<LogPlace>,
}

/// One conditional batch into one bucket.
#[derive(Clone, Debug)]
pub struct AppendRows {
    /// The partition; all rows are of its stream.
    pub bucket: Bucket,
    /// What its head must be.
    pub expected: Expected,
    /// The events, sequences rising.
    pub rows: Vec<EventRow>,
    /// What its head is then.
    pub head: HeadRow,
}

/// What a bucket's head must be for a batch to be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The bucket has no head.
    Nothing,
    /// The head is this sequence.
    Sequence(u64),
    /// The head is this event. Rows that were lost below a head that stands are put back with the
    /// head expected and set to the same.
    Event(u64, EventId),
}

/// One row of `log_by_origin`: a record as its log encodes it, and the commit that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// The record's position.
    pub position: u64,
    /// The record's event id.
    pub event_id: EventId,
    /// Number of its commit.
    pub commit_number: u64,
    /// Position of the commit's first record.
    pub commit_first: u64,
    /// How many records the commit has.
    pub commit_count: u32,
    /// The chain hash after the commit.
    pub commit_hash: [u8; 32],
    /// The record's bytes.
    pub record: Bytes,
}

/// How far an epoch is, and who may move it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// The session that has the epoch.
    pub session: Uuid,
    /// Everything up to here is settled; always the end of a commit.
    pub position: u64,
    /// The chain hash there.
    pub hash: [u8; 32],
    /// Number of that commit; 0 at position 0.
    pub commit_number: u64,
}

impl fmt::Debug for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash: String = self.hash[..4].iter().map(|b| format!("{b:02x}")).collect();
        let (position, commit, session) = (self.position, self.commit_number, self.session);
        write!(f, "{position} (commit {commit}, {hash}) by {session}")
    }
}

/// One row of `origins`: an epoch of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginRow {
    /// The store.
    pub origin: Uuid,
    /// The epoch.
    pub epoch: Uuid,
    /// The store's first epoch: the chain of hashes begins with the two.
    pub first_epoch: Uuid,
    /// The epoch that this one came out of, up to where, with the chain hash there.
    pub parent: Option<(Uuid, u64, [u8; 32])>,
    /// How far it is.
    pub watermark: Watermark,
    /// Everything up to here is published: where a store that is restored goes on publishing.
    pub published: u64,
    /// The epoch that took its place, when it was given up.
    pub successor: Option<Uuid>,
    /// What the store calls itself, for people.
    pub name: Box<str>,
}

/// A new epoch and, in the same step, what becomes of an old one.
#[derive(Clone, Debug)]
pub struct ForkRows {
    /// The new epoch.
    pub row: OriginRow,
    /// The epoch given up, and what it must stand at; `None` when none is.
    pub retires: Option<(Uuid, Watermark)>,
}

/// Which entry of `parked_by_origin`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParkedKey {
    /// The store that parked it.
    pub origin: Uuid,
    /// Its epoch.
    pub epoch: Uuid,
    /// The stream.
    pub stream: StreamId,
    /// Position of the first event held.
    pub first_position: u64,
}

/// One row of `parked_by_origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedRow {
    /// Which entry.
    pub key: ParkedKey,
    /// Sequence of the first event held.
    pub first_sequence: u64,
    /// The position of the local commit that resolved it; the range before stays left out for ever.
    pub until_position: Option<u64>,
    /// A stable word for why.
    pub reason: Box<str>,
    /// The first event held.
    pub local_event: EventId,
    /// What stands in its way: sequence and event.
    pub remote: Option<(u64, EventId)>,
}

/// One row of `snapshots`.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotRow {
    /// The stream.
    pub stream: StreamId,
    /// Sequence of the last event in it.
    pub sequence: u64,
    /// That event.
    pub event_id: EventId,
    /// Revision of the state.
    pub revision: u32,
    /// How the state is encoded.
    pub content_type: tidelog_core::ContentType,
    /// When it was taken.
    pub taken_time: Timestamp,
    /// Which version of the stream's snapshot this is.
    pub version: Uuid,
    /// How many parts it has; 0 when the state stands here.
    pub parts: u32,
    /// The state, when it has no parts.
    pub state: Bytes,
}
