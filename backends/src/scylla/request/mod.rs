//! All that is ever asked of the server, and the trait it is asked by.
//!
//! The store and the replication speak to the server through [`Wire`] alone. Behind it is the
//! driver, or, in the simulation, a server in memory that keeps the same meaning.

mod tables;

pub use tables::*;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tidelog_core::{BoxFuture, Direction, StreamId};
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
