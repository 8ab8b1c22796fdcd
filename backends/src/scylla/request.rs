//! All that is ever asked of the server, and the trait it is asked by.
//!
//! The store and the replication speak to the server through [`Wire`] alone. Behind it is the
//! driver, or, in the simulation, a server in memory that keeps the same meaning.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tidelog_core::{BoxFuture, Direction, EventEnvelope, EventId, StreamId, Timestamp};
use uuid::Uuid;

/// Asks the server.
///
/// One request is one round to the server, or one page of rows. Dropping the future drops the
/// interest in the answer, not the effect. An implementation never sends a conditional request a
/// second time by itself: the answer to a hidden second try is "not applied".
pub trait Wire: Send + Sync + 'static {
    /// Sends `request` and waits for its answer, at most as long as the configuration says.
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Reply, WireError>>;

    /// Begins anew, with fresh connections, after trouble or sleep: what is in flight is unclear
    /// then. The first connection is made by this too.
    fn renew(&self) -> BoxFuture<'_, Result<(), WireError>>;
}

impl<W: Wire + ?Sized> Wire for Arc<W> {
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Reply, WireError>> {
        (**self).ask(request)
    }

    fn renew(&self) -> BoxFuture<'_, Result<(), WireError>> {
        (**self).renew()
    }
}

/// One partition of `events_by_stream`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// The stream.
    pub stream: StreamId,
    /// Which of its buckets, from 0.
    pub number: u64,
}

/// One partition of `log_by_origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Chunk {
    /// The store whose log it is of.
    pub origin: Uuid,
    /// The epoch.
    pub epoch: Uuid,
    /// Position divided by the keyspace's `chunk_records`.
    pub number: u64,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Request {
    /// The keyspace's one row about itself, at SERIAL. Answer: [`Reply::Meta`].
    Meta,
    /// Puts that row again where it is missing (its table was truncated). Answer:
    /// [`Reply::Applied`].
    PutMeta(MetaRow),
    /// Whether the server answers at all. Answer: [`Reply::Done`].
    Ping,

    /// A bucket's head, at SERIAL. Answer: [`Reply::Head`].
    Head(Bucket),
    /// Ids of a bucket's events, sequences `from` to `to`, in order; at SERIAL or at the
    /// configured consistency. Answer: [`Reply::Ids`], all of them (a bucket is bounded).
    Ids {
        /// The partition.
        bucket: Bucket,
        /// First sequence.
        from: u64,
        /// Last sequence.
        to: u64,
        /// Whether to read at SERIAL.
        serial: bool,
    },
    /// A page of a bucket's events, sequences `from` to `to`. Answer: [`Reply::Events`].
    Events {
        /// The partition.
        bucket: Bucket,
        /// First sequence.
        from: u64,
        /// Last sequence.
        to: u64,
        /// Order of the rows.
        direction: Direction,
        /// Whether to read at SERIAL.
        serial: bool,
        /// Which page, of how many rows.
        page: PageAt,
    },
    /// Writes events and the bucket's head in one conditional batch. Answer: [`Reply::Applied`].
    Append(Box<AppendRows>),

    /// Writes rows of one chunk of a log, unconditionally: equal keys (position, event id and commit
    /// hash) always carry equal content.
    /// Answer: [`Reply::Done`].
    PutLog {
        /// The partition.
        chunk: Chunk,
        /// Its rows.
        rows: Vec<LogRow>,
    },
    /// A page of a log's chunk, from a position on. Answer: [`Reply::Log`].
    Log {
        /// The partition.
        chunk: Chunk,
        /// First position.
        from: u64,
        /// Whether to ask a quorum of all data centres, where the configured consistency left a
        /// hole.
        wide: bool,
        /// Whether records are wanted, or only what stands beside them (`record` is empty then).
        records: bool,
        /// Which page, of how many rows.
        page: PageAt,
    },

    /// Every epoch of an origin, at SERIAL. Answer: [`Reply::Origins`].
    Origins(Uuid),
    /// Every epoch of every origin. Answer: [`Reply::Origins`], all of them.
    AllOrigins,
    /// Makes an epoch known, if it is not. Answer: [`Reply::Applied`].
    Register(Box<OriginRow>),
    /// Gives an epoch to another session, if it stands as it was seen and is live. Answer:
    /// [`Reply::Applied`].
    Claim {
        /// The store.
        origin: Uuid,
        /// Its epoch.
        epoch: Uuid,
        /// What it must stand at.
        seen: Watermark,
        /// The session that has it from now on.
        session: Uuid,
    },
    /// Moves the watermark, if it stands as it was seen and is live. Answer: [`Reply::Applied`].
    Advance {
        /// The store.
        origin: Uuid,
        /// Its epoch.
        epoch: Uuid,
        /// What it must stand at.
        seen: Watermark,
        /// What it stands at then; `session` is the same.
        to: Watermark,
        /// [`OriginRow::published`] from then on.
        published: u64,
    },
    /// Makes a new epoch known, and retires an old one in the same step. Answer:
    /// [`Reply::Applied`].
    Fork(Box<ForkRows>),

    /// Notes that a stream is parked, if that is not noted. Answer: [`Reply::Applied`].
    Park(Box<ParkedRow>),
    /// Notes that it was resolved, if that is not noted. Answer: [`Reply::Applied`].
    Unpark {
        /// Which entry.
        key: ParkedKey,
        /// The position of the local commit that resolved it.
        until_position: u64,
    },
    /// All that an epoch has parked, resolved or not, at SERIAL. Answer: [`Reply::Parked`].
    Parked {
        /// The store.
        origin: Uuid,
        /// Its epoch.
        epoch: Uuid,
    },

    /// A stream's snapshot without its parts. Answer: [`Reply::Snapshot`].
    Snapshot(StreamId),
    /// One part of a large snapshot. Answer: [`Reply::Part`].
    Part {
        /// The stream.
        stream: StreamId,
        /// Of which version.
        version: Uuid,
        /// Which part, from 0.
        part: u32,
    },
    /// Writes one part of a large snapshot. Answer: [`Reply::Done`].
    PutPart {
        /// The stream.
        stream: StreamId,
        /// Of which version.
        version: Uuid,
        /// Which part, from 0.
        part: u32,
        /// Its bytes.
        state: Bytes,
    },
    /// Replaces a stream's snapshot, if it still has the version that was seen. Answer:
    /// [`Reply::Applied`].
    SetSnapshot {
        /// The version there; `None` when there is no snapshot.
        seen: Option<Uuid>,
        /// The new one.
        row: Box<SnapshotRow>,
    },
    /// Deletes the parts of older versions. Answer: [`Reply::Done`].
    DropParts {
        /// The stream.
        stream: StreamId,
        /// Versions before this one go.
        before: Uuid,
    },
}

impl Request {
    /// A stable word for it, for metrics and traces.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::PutMeta(_) => "put_meta",
            Self::Ping => "ping",
            Self::Head(_) => "head",
            Self::Ids { .. } => "ids",
            Self::Events { .. } => "events",
            Self::Append(_) => "append",
            Self::PutLog { .. } => "put_log",
            Self::Log { .. } => "log",
            Self::Origins(_) => "origins",
            Self::AllOrigins => "all_origins",
            Self::Register(_) => "register",
            Self::Claim { .. } => "claim",
            Self::Advance { .. } => "advance",
            Self::Fork(_) => "fork",
            Self::Park(_) => "park",
            Self::Unpark { .. } => "unpark",
            Self::Parked { .. } => "parked",
            Self::Snapshot(_) => "snapshot",
            Self::Part { .. } => "part",
            Self::PutPart { .. } => "put_part",
            Self::SetSnapshot { .. } => "set_snapshot",
            Self::DropParts { .. } => "drop_parts",
        }
    }
}

/// What the server answers; which request has which answer stands with [`Request`].
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// It is done.
    Done,
    /// Whether the conditional write was applied. Nothing else of such an answer is used: what
    /// stands there instead is read.
    Applied(bool),
    /// The keyspace's row about itself.
    Meta(Option<MetaRow>),
    /// A bucket's head; `None` when the bucket has none.
    Head(Option<HeadRow>),
    /// Ids, by sequence.
    Ids(Vec<IdRow>),
    /// Events.
    Events(Rows<EventRow>),
    /// Rows of a log, by position, then event id, then commit hash.
    Log(Rows<LogRow>),
    /// Epochs.
    Origins(Vec<OriginRow>),
    /// Parked entries.
    Parked(Vec<ParkedRow>),
    /// A snapshot.
    Snapshot(Option<Box<SnapshotRow>>),
    /// A part of one.
    Part(Option<Bytes>),
}

/// A page of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows<T> {
    /// Its rows.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` when there is none.
    pub next: Option<Page>,
}

/// Where a page begins, as the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page(pub Bytes);

/// Which page of rows is asked for.
#[derive(Clone, Debug)]
pub struct PageAt {
    /// Where it begins; `None` for the first.
    pub after: Option<Page>,
    /// Most rows of it, at least 1.
    pub rows: u32,
}

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

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    /// What that means for what was asked.
    pub class: ErrorClass,
    /// What the driver or the server said, without secrets.
    pub text: Box<str>,
}

/// What a missing answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// It was never sent: nothing happened.
    NotSent,
    /// The server refused it: nothing happened, and never will.
    Refused,
    /// It may have happened, and may still.
    Unclear,
    /// The keyspace does not have the tables of this version, or was made for other settings than
    /// the configuration's; the text says which, and the remedy. Nothing happened. Only
    /// [`Wire::renew`] answers so.
    Schema,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for WireError {}
