//! The one error of the library, and what its kinds tell the caller to do.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use crate::append::ExpectedVersion;
use crate::halt::Halt;
use crate::id::EventId;
use crate::stream_id::StreamId;

/// A cause kept inside an [`Error`]; shared, because every append of a failed group reports it.
pub type Cause = Arc<dyn std::error::Error + Send + Sync + 'static>;

/// Whatever can go wrong, with the values that were met and the remedy.
///
/// [`kind`](Error::kind) says what to do about it; [`code`](Error::code) is a stable word for logs
/// and remote callers. Cloning shares the cause.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream was not where the caller expected it. Nothing was written.
    #[error(
        "stream {stream} is at sequence {actual}, expected {expected}; read it again and decide anew"
    )]
    WrongVersion {
        /// The stream appended to.
        stream: StreamId,
        /// What the caller expected.
        expected: ExpectedVersion,
        /// The sequence of its last event, 0 when it has none.
        actual: u64,
    },

    /// Some of the event ids are in the stream already, but not all of them with this content.
    /// Nothing was written.
    #[error(
        "event {event_id} cannot be appended to {stream}: {reason}; use new ids for new events"
    )]
    IdConflict {
        /// The stream appended to.
        stream: StreamId,
        /// The first id that clashed.
        event_id: EventId,
        /// What differs.
        reason: &'static str,
    },

    /// Something is over its limit. Nothing was written.
    #[error(
        "{what} has size {size}, the limit is {limit}; make it smaller, split it, or raise the limit"
    )]
    TooLarge {
        /// What was measured.
        what: &'static str,
        /// Its size, in bytes unless `what` counts things.
        size: u64,
        /// The most that is taken.
        limit: u64,
    },

    /// A value that can never be right. Nothing was written.
    #[error("invalid {what} {value:?}: {reason}")]
    InvalidInput {
        /// What the value was for.
        what: &'static str,
        /// The value, shortened.
        value: Box<str>,
        /// Why it is refused.
        reason: Box<str>,
    },

    /// An event or a snapshot could not be turned into bytes or back.
    #[error("{what} of type {type_name} revision {revision}{at}: {reason}", at = place(recorded.as_deref()))]
    Codec {
        /// What was done to what: `encoding an event`.
        what: &'static str,
        /// The event type, or the aggregate type of a snapshot.
        type_name: Box<str>,
        /// Its schema revision.
        revision: u32,
        /// The stream that it is recorded in and its sequence there, a snapshot's being that of the
        /// last event in it; `None` when it is encoded, or decoded from bytes alone.
        recorded: Option<Box<(StreamId, u64)>>,
        /// What was wrong and the remedy.
        reason: Box<str>,
    },

    /// An aggregate refused an event of its own history.
    #[error(
        "{stream} cannot apply its event at sequence {sequence}: {source}; the aggregate's code and its history disagree"
    )]
    Apply {
        /// The stream being loaded.
        stream: StreamId,
        /// The sequence of the refused event.
        sequence: u64,
        /// The aggregate's own error.
        source: Cause,
    },

    /// The store was closed, or its last handle dropped, before the call was done.
    #[error("the store is closed; open it again")]
    Closed,

    /// An earlier write or sync failed: the store takes no writes until it is opened again.
    #[error(
        "the store refuses writes since an earlier failure ({cause}); reads go on; reopen it to write again"
    )]
    Refused {
        /// The first failure.
        cause: Box<Error>,
    },

    /// The operating system refused an operation.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried: `sync`.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },

    /// Another process, or another handle of this one, has the store open.
    #[error("{path} is in use by {holder}; close it there first", path = path.display())]
    Locked {
        /// The store.
        path: PathBuf,
        /// Process id, host and time that the holder noted.
        holder: Box<str>,
    },

    /// The path cannot be a store. Nothing there was changed.
    #[error("{path} cannot be opened as a store: {reason}", path = path.display())]
    NotAStore {
        /// The path given.
        path: PathBuf,
        /// What was found, and the remedy.
        reason: Box<str>,
    },

    /// The store was written by a newer version in a way this one does not know: it is not opened, or
    /// open for reading alone. Nothing was changed.
    #[error("{path} has format version {version} with unknown {class} flags {flags:#x}; {remedy}", path = path.display())]
    UnsupportedFormat {
        /// The file that says so.
        path: PathBuf,
        /// Its format version.
        version: u32,
        /// Which class the unknown flags are of: `incompatible` or `read-only compatible`.
        class: &'static str,
        /// The unknown bits.
        flags: u32,
        /// What can be done.
        remedy: &'static str,
    },

    /// Bytes on disk are not what was written. Nothing was changed.
    #[error("{path} is damaged: {what}; {remedy}", path = path.display())]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// What was found where.
        what: Box<str>,
        /// What can be done.
        remedy: Box<str>,
    },

    /// A read came to a place whose records a repair could not keep. What was read before it is
    /// right; nothing after it is read until it is asked for on purpose.
    #[error(
        "{what} {first} to {last} are gone since the store was repaired; to go on without them, read from {next} on, or accept the loss",
        what = lost_of(stream.as_ref()), next = last + 1
    )]
    Gap {
        /// The stream whose sequences are meant; `None` means positions of the whole log.
        stream: Option<StreamId>,
        /// The first that is gone.
        first: u64,
        /// The last that is gone.
        last: u64,
    },

    /// The stream lost events, or may have, when the store was repaired, and nobody has accepted that
    /// yet. Nothing was written.
    #[error(
        "stream {stream} takes no events: a repair lost {lost}; restore the store from a backup that has them, or go on without them by {remedy}"
    )]
    LostEvents {
        /// The stream appended to.
        stream: StreamId,
        /// What it lost, as far as that is known: `sequences 4 to 6, 9`.
        lost: Box<str>,
        /// The call that accepts the loss.
        remedy: &'static str,
    },

    /// A topic is not there, and is not made by itself. What is to go there waits.
    #[error("topic {topic} is not there; {remedy}")]
    NoTopic {
        /// Its name.
        topic: Box<str>,
        /// The call that makes it.
        remedy: &'static str,
    },

    /// The caller's progress callback asked to stop. Nothing was lost.
    #[error("{what} was cancelled by its progress callback; call it again to go on")]
    Cancelled {
        /// What was under way.
        what: &'static str,
    },

    /// A projection or a listener stands still at an event that it could not take.
    #[error(
        "{what} stopped at position {position}: {source}; correct the cause, then let it go on"
    )]
    Stopped {
        /// Which one: `projection accounts`.
        what: Box<str>,
        /// The event's position.
        position: u64,
        /// What kept it from being taken.
        source: Cause,
    },

    /// A projection has set aside an event at or below the position asked for, with what follows it
    /// in its stream.
    #[error(
        "{what} has parked {stream} at position {position}: {reason}; correct the cause, then resume the stream"
    )]
    Parked {
        /// Which one: `projection accounts`.
        what: Box<str>,
        /// The stream that is set aside.
        stream: StreamId,
        /// Position of the event that could not be taken.
        position: u64,
        /// What kept it from being taken.
        reason: Box<str>,
    },

    /// The rows asked for are being made anew, and the old ones cannot serve meanwhile.
    #[error("the rows of {what} are being made anew, {position} of {last} done; ask again later")]
    Rebuilding {
        /// Which ones: `projection accounts`.
        what: Box<str>,
        /// How far they are, as a position.
        position: u64,
        /// The newest position of the log.
        last: u64,
    },

    /// A checkpoint speaks of an event that this log does not have: the log was restored, repaired,
    /// or lost its newest events.
    #[error("{what} has handled events up to position {position} of another history; {remedy}")]
    OtherHistory {
        /// Whose checkpoint: `listener mail`.
        what: Box<str>,
        /// Where it stands.
        position: u64,
        /// What can be done.
        remedy: &'static str,
    },

    /// The server could not be asked, or did not answer in time. Nothing was written.
    #[error("{server} cannot be reached to {action}: {reason}; nothing was written, try again")]
    Unreachable {
        /// Which one: the keyspace and the contact points.
        server: Box<str>,
        /// What was wanted: `append to BankAccount/7`.
        action: Box<str>,
        /// What came instead of an answer.
        reason: Box<str>,
    },

    /// The server did not say whether it recorded an append, for longer than it was to be asked. The
    /// batch is there whole or not at all.
    #[error(
        "whether the append to {stream} was recorded is not known: {reason}; append the same batch again, its event ids tell"
    )]
    Unclear {
        /// The stream appended to.
        stream: StreamId,
        /// What the server answered last.
        reason: Box<str>,
    },

    /// The server answered that it will not do this, now or later. Nothing was written.
    #[error("{server} refuses to {action}: {reason}")]
    ServerRefused {
        /// Which one: the keyspace and the contact points.
        server: Box<str>,
        /// What was wanted: `prepare its statements`.
        action: Box<str>,
        /// Its answer, and the remedy where one is known.
        reason: Box<str>,
    },

    /// The keyspace does not have the tables that this version works with. Nothing was changed.
    #[error("keyspace {keyspace} has {found}, this program needs schema version {wanted}; {remedy}", found = version_of(*found))]
    Schema {
        /// The keyspace.
        keyspace: Box<str>,
        /// The version of its schema; `None` when it has none of tidelog's tables.
        found: Option<u32>,
        /// The version that this program knows.
        wanted: u32,
        /// What can be done.
        remedy: &'static str,
    },

    /// Replication or publishing stands still until a person decides. The local store goes on.
    #[error("what this store sends stands still: {0}")]
    Halted(Box<Halt>),

    /// The stream is another origin's, kept here to be read. Nothing was written.
    #[error(
        "stream {stream} is written by origin {origin} and only read here; append to a stream of this store's own"
    )]
    ForeignStream {
        /// The stream appended to.
        stream: StreamId,
        /// The store that writes it.
        origin: Uuid,
    },

    /// The newest events of the stream gave way to another origin's; what was read of them does not
    /// count any more.
    #[error(
        "events of {stream} from sequence {from} on gave way to another origin's; read the stream again from {from}"
    )]
    Superseded {
        /// The stream.
        stream: StreamId,
        /// The first sequence that means another event now.
        from: u64,
    },

    /// The engine below the store failed.
    #[error("{engine} failed to {action}: {source}")]
    Engine {
        /// Its name.
        engine: &'static str,
        /// What was tried.
        action: &'static str,
        /// Its own error.
        source: Cause,
    },
}

/// What to do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Somebody was faster: read again, decide again.
    Reread,
    /// The input can never succeed as it is: fix it.
    FixInput,
    /// The surroundings are in the way (a lock, a path, permissions, space): fix them, then retry.
    FixEnvironment,
    /// Open the store again; what an unfinished append did is known then.
    Reopen,
    /// Data is damaged, lost or of a newer format: nothing goes on without a person.
    Repair,
    /// The caller stopped it: call again when wanted.
    Stopped,
    /// It is being done: ask again later.
    Later,
    /// The server did not answer: the same call again does it, or finds it done.
    Retry,
}

impl Error {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::WrongVersion { .. } | Self::Superseded { .. } => ErrorKind::Reread,
            Self::IdConflict { .. }
            | Self::TooLarge { .. }
            | Self::InvalidInput { .. }
            | Self::Codec { .. }
            | Self::Apply { .. }
            | Self::ForeignStream { .. } => ErrorKind::FixInput,
            Self::Locked { .. }
            | Self::NotAStore { .. }
            | Self::ServerRefused { .. }
            | Self::Schema { .. } => ErrorKind::FixEnvironment,
            Self::Io { .. } | Self::Refused { .. } | Self::Closed | Self::Engine { .. } => {
                ErrorKind::Reopen
            }
            Self::Damaged { .. }
            | Self::UnsupportedFormat { .. }
            | Self::Gap { .. }
            | Self::LostEvents { .. }
            | Self::Stopped { .. }
            | Self::Parked { .. }
            | Self::OtherHistory { .. }
            | Self::Halted(_) => ErrorKind::Repair,
            Self::Rebuilding { .. } => ErrorKind::Later,
            Self::Unreachable { .. } | Self::Unclear { .. } | Self::NoTopic { .. } => {
                ErrorKind::Retry
            }
            Self::Cancelled { .. } => ErrorKind::Stopped,
        }
    }

    /// A stable word for this error, for logs and remote callers.
    pub fn code(&self) -> &'static str {
        match self {
            Self::WrongVersion { .. } => "wrong_version",
            Self::IdConflict { .. } => "id_conflict",
            Self::TooLarge { .. } => "too_large",
            Self::InvalidInput { .. } => "invalid_input",
            Self::Codec { .. } => "codec",
            Self::Apply { .. } => "apply",
            Self::Closed => "closed",
            Self::Refused { .. } => "refused",
            Self::Io { .. } => "io",
            Self::Locked { .. } => "locked",
            Self::NotAStore { .. } => "not_a_store",
            Self::UnsupportedFormat { .. } => "unsupported_format",
            Self::Damaged { .. } => "damaged",
            Self::Gap { .. } => "gap",
            Self::LostEvents { .. } => "lost_events",
            Self::NoTopic { .. } => "no_topic",
            Self::Cancelled { .. } => "cancelled",
            Self::Stopped { .. } => "stopped",
            Self::Parked { .. } => "parked",
            Self::Rebuilding { .. } => "rebuilding",
            Self::OtherHistory { .. } => "other_history",
            Self::Unreachable { .. } => "unreachable",
            Self::Unclear { .. } => "unclear",
            Self::ServerRefused { .. } => "server_refused",
            Self::Schema { .. } => "schema",
            Self::Halted(halt) => halt.code(),
            Self::ForeignStream { .. } => "foreign_stream",
            Self::Superseded { .. } => "superseded",
            Self::Engine { .. } => "engine",
        }
    }

    /// The same, naming where the event or snapshot is recorded that could not be decoded.
    pub(crate) fn recorded_at(mut self, stream: &StreamId, sequence: u64) -> Self {
        if let Self::Codec { recorded, .. } = &mut self {
            recorded.get_or_insert_with(|| Box::new((stream.clone(), sequence)));
        }
        self
    }

    /// [`Error::TooLarge`] from plain sizes.
    pub fn too_large(what: &'static str, size: usize, limit: usize) -> Self {
        Self::TooLarge {
            what,
            size: size as u64,
            limit: limit as u64,
        }
    }

    /// [`Error::InvalidInput`] with its value shortened to 80 characters.
    pub fn invalid(
        what: &'static str,
        value: impl fmt::Display,
        reason: impl Into<Box<str>>,
    ) -> Self {
        let value: String = value.to_string().chars().take(80).collect();
        Self::InvalidInput {
            what,
            value: value.into(),
            reason: reason.into(),
        }
    }

    /// [`Error::Io`] from the system's answer.
    pub fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.into(),
            source: Arc::new(source),
        }
    }

    /// [`Error::Damaged`].
    pub fn damaged(
        path: impl Into<PathBuf>,
        what: impl Into<Box<str>>,
        remedy: impl Into<Box<str>>,
    ) -> Self {
        Self::Damaged {
            path: path.into(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

fn place(recorded: Option<&(StreamId, u64)>) -> String {
    recorded.map_or_else(String::new, |(stream, sequence)| {
        format!(", sequence {sequence} of {stream}")
    })
}

fn version_of(found: Option<u32>) -> String {
    found.map_or_else(
        || "no tables of tidelog".to_owned(),
        |version| format!("schema version {version}"),
    )
}

fn lost_of(stream: Option<&StreamId>) -> String {
    stream.map_or_else(
        || "positions".to_owned(),
        |stream| format!("{stream}: sequences"),
    )
}

/// Why a command was not executed.
///
/// `R` is the aggregate's own rejection: the business said no. The other two are the machine's.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecuteError<R> {
    /// The aggregate refused the command; nothing was recorded.
    #[error("rejected: {0}")]
    Rejected(R),
    /// Other writers were faster, more often than the retry policy allows; nothing was recorded.
    #[error("gave up after {attempts} attempts: {last}")]
    Conflict {
        /// How often it was tried.
        attempts: u32,
        /// The last conflict met.
        last: Error,
    },
    /// The store, a codec or the aggregate's `apply` failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl<R> ExecuteError<R> {
    /// A stable word for this error: `rejected`, `conflict`, or the store error's own code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Rejected(_) => "rejected",
            Self::Conflict { .. } => "conflict",
            Self::Store(error) => error.code(),
        }
    }
}
