//! The contracts of an event store, with the laws that every backend keeps.

use std::future::Future;

use uuid::Uuid;

use crate::append::{AppendBatch, AppendReceipt};
use crate::envelope::EventEnvelope;
use crate::error::Error;
use crate::id::EventId;
use crate::limits::Limits;
use crate::read::{EventStream, LogQuery, StreamQuery, Subscribe};
use crate::snapshot::SnapshotStore;
use crate::stream_id::StreamId;

/// The newest event of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamHead {
    /// Its sequence.
    pub sequence: u64,
    /// Its id.
    pub event_id: EventId,
}

/// Which log it is that is read, and which of its histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogIdentity {
    /// The store that the log began in; a backup that is put back keeps it.
    pub origin: Uuid,
    /// The history that the log is in; begun with the store, and anew whenever a backup is put back
    /// or a repair has ended.
    pub epoch: Uuid,
}

/// Streams of events as bytes. A handle: cloning is cheap and shares the store.
///
/// ```
/// use tidelog_core::*;
///
/// /// Appends one event behind whatever stands there, and reads the newest one back.
/// async fn note(store: &impl EventStore, stream: StreamId, event: NewEvent) -> Result<(), Error> {
///     let batch = AppendBatch::new(stream.clone(), ExpectedVersion::Any, vec![event]);
///     let receipt = store.append(batch).await?;
///     let mut newest = store.read_stream(StreamQuery::new(stream).backward().limit(1));
///     while let Some(event) = newest.next().await.transpose()? {
///         assert!(event.sequence >= receipt.last_sequence);
///     }
///     Ok(())
/// }
/// ```
///
/// # Laws
/// The conformance kit (feature `testing`) has a test for each; every backend runs them.
///
/// 1. **Density.** Sequences are dense from 1 in a stream, in the order of appends. The one
///    exception are events that a repair could not keep: a read ends with [`Error::Gap`] where they
///    stood, until the loss is accepted, and no sequence that may have been given is given again.
/// 2. **Atomicity.** A batch is recorded whole or not at all, also across a crash.
/// 3. **Expectation.** [`ExpectedVersion`](crate::ExpectedVersion) is checked in one step with the
///    append; a miss is [`Error::WrongVersion`] and writes nothing. Of racing writers exactly one
///    wins each sequence.
/// 4. **Safe retries.** Event ids are looked at *before* the version. At the sequences that the
///    expectation implies they are recognized for ever, and whatever the expectation in the
///    stream's newest [`Limits::retry_window`] events, appends still under way included. All ids
///    there, in order, with the same content: the first receipt again, as
///    [`AlreadyAppended`](crate::AppendOutcome::AlreadyAppended). Some, or other content:
///    [`Error::IdConflict`].
/// 5. **Durability before visibility.** Nothing is visible, and no answer depends on anything,
///    before it is as durable as was asked. What was acknowledged is visible to every later read.
/// 6. **Prefixes.** A read sees one prefix of history, pinned when it is asked for.
/// 8. **Fidelity.** What is read is byte for byte what was appended.
/// 9. **Limits.** Over a limit is [`Error::TooLarge`], and nothing is written.
/// 10. **Cancellation.** Dropping an append's future never half-writes and never blocks the store:
///     the batch is wholly there or absent. A future never polled does nothing.
/// 11. **Failure.** After a failed write or sync the store refuses writes with
///     [`Error::Refused`] until it is opened again; reads go on. A failed sync is never retried.
///
/// (Laws 7 and 12 stand on [`EventLog`] and [`SnapshotStore`].)
///
/// No call does file I/O, or waits for a lock held across I/O, inside `poll`: backends hand over
/// to threads of their own. The blocking face ([`Blocking`](crate::Blocking)) works on the calling
/// thread instead.
pub trait EventStore: Clone + Send + Sync + 'static {
    /// Records `batch` and answers when it is as durable as it asks for.
    ///
    /// # Errors
    /// [`Error::WrongVersion`], [`Error::IdConflict`], [`Error::TooLarge`], [`Error::LostEvents`],
    /// [`Error::InvalidInput`]: nothing was written. [`Error::Refused`], [`Error::Closed`]: nothing
    /// of this call was written. [`Error::Io`]: unknown until the store is opened again.
    fn append(
        &self,
        batch: AppendBatch,
    ) -> impl Future<Output = Result<AppendReceipt, Error>> + Send;

    /// Reads one stream. A stream never appended to is empty, not an error.
    fn read_stream(&self, query: StreamQuery) -> EventStream;

    /// The newest event of `stream`; `None` when it has none.
    fn head(
        &self,
        stream: &StreamId,
    ) -> impl Future<Output = Result<Option<StreamHead>, Error>> + Send;

    /// The event with this id, when it is among the newest [`Limits::retry_window`] of `stream`.
    ///
    /// This is how a repeated command is recognized before it is decided again.
    fn find_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
    ) -> impl Future<Output = Result<Option<EventEnvelope>, Error>> + Send;

    /// What this store takes at most.
    fn limits(&self) -> Limits;
}

/// A store that records events of several streams in one atomic batch.
///
/// A backend without this trait cannot, and says so by not having it.
pub trait MultiStreamStore: EventStore {
    /// Records all parts or none; receipts come in the order of the parts.
    ///
    /// Each part has its own stream, named once, and its own expectation. The strongest durability
    /// asked for holds for all. Law 4 counts for the whole: all ids of all parts there means
    /// [`AlreadyAppended`](crate::AppendOutcome::AlreadyAppended), some parts only means
    /// [`Error::IdConflict`].
    ///
    /// # Errors
    /// As [`EventStore::append`].
    fn append_streams(
        &self,
        parts: Vec<AppendBatch>,
    ) -> impl Future<Output = Result<Vec<AppendReceipt>, Error>> + Send;
}

/// A store with one order over all its streams, which can be followed.
///
/// ```
/// use tidelog_core::*;
///
/// /// Prints what is there, then what comes, until the store is closed.
/// async fn follow(log: &impl EventLog) -> Result<(), Error> {
///     let mut events = log.subscribe(Subscribe::All { after: 0 });
///     loop {
///         match events.next().await {
///             Some(Ok(event)) => println!("{} {}", event.stream, event.event_type),
///             Some(Err(Error::Closed)) | None => return Ok(()),
///             Some(Err(error)) => return Err(error),
///         }
///     }
/// }
/// ```
///
/// # Laws
/// 1. **Density.** Positions are dense from [`first_position`](EventLog::first_position), in the
///    order of appends, save for declared gaps: see law 1 of [`EventStore`].
/// 6. **Prefixes.** No position at or below [`last_position`](EventLog::last_position) is ever
///    missing from a read, unless it says so with [`Error::Gap`] or that loss was accepted.
/// 7. **Subscriptions.** Each delivers every record once, in order, from any place, with bounded
///    memory, however slow its reader is.
pub trait EventLog: EventStore {
    /// Reads the whole log, control records included, oldest first.
    fn read_all(&self, query: LogQuery) -> EventStream;

    /// Which log this is.
    fn identity(&self) -> LogIdentity;

    /// Position of the oldest record kept; 1 until anything is pruned.
    fn first_position(&self) -> u64;

    /// Position of the newest visible record; 0 when there is none.
    fn last_position(&self) -> u64;

    /// Position of the control record by which the event, as it was read from this log, gave way to
    /// another origin's: it is in the log and not in its stream any more. `None` when it still stands,
    /// and always in a log where that cannot be.
    fn superseded_at(&self, event: &EventEnvelope) -> Option<u64> {
        let _ = event;
        None
    }

    /// Whether the event has given way; see [`superseded_at`](EventLog::superseded_at).
    fn is_superseded(&self, event: &EventEnvelope) -> bool {
        self.superseded_at(event).is_some()
    }

    /// What is there already, then what comes, without an end and without a gap between.
    ///
    /// Dropping the stream ends the subscription. Closing the store ends it with
    /// [`Error::Closed`], and a subscription to one stream ends with [`Error::Superseded`] when
    /// events that it has delivered give way to another origin's. To start after a place the log has not reached is
    /// [`Error::InvalidInput`]: what was seen there is not in this log any more.
    fn subscribe(&self, what: Subscribe) -> EventStream;
}

/// All that one machine's store offers; what [`Blocking`](crate::Blocking) and the conformance kit
/// ask for.
pub trait FullStore: MultiStreamStore + EventLog + SnapshotStore {}

impl<S: MultiStreamStore + EventLog + SnapshotStore> FullStore for S {}
