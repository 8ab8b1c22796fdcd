//! The local log as the replicator sees it: whole commits, durable ones only.

use std::sync::Arc;

use bytes::Bytes;
use tidelog_backends::commits::{Commit, CommitEnd, EpochInfo};
use tidelog_core::{Batch, BoxFuture, Error, EventEnvelope, EventId, StreamId};
use uuid::Uuid;

/// Which log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub origin: Uuid,
    pub first_epoch: Uuid,
    /// The epoch in force.
    pub epoch: Uuid,
}

impl Identity {
    /// Where the log begins.
    pub(crate) fn genesis(&self) -> CommitEnd {
        CommitEnd::genesis(self.origin, self.first_epoch)
    }
}

/// Where an event stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalEvent {
    pub sequence: u64,
    pub event_id: EventId,
    pub position: u64,
    /// The append that wrote it.
    pub batch: Batch,
}

/// Whether an event may be sent now.
#[cfg(feature = "kafka")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Yes,
    /// Its stream, or its append, is held somewhere before.
    Held,
    /// It gave way to another origin's.
    Superseded,
}

/// What replication needs of the local store. Calls that are not futures may read a file, none waits
/// for the network. Every call answers [`Error::Closed`] once the store is closed.
pub(crate) trait Outbox: Send + Sync + 'static {
    fn identity(&self) -> Identity;

    /// The newest position that survives a power cut.
    fn durable(&self) -> u64;

    /// The newest position.
    fn last(&self) -> u64;

    /// Where the log ends, and how much of it survives a power cut: also what may not be sent yet.
    fn reaches(&self) -> (u64, u64) {
        (self.last(), self.durable())
    }

    /// Durable commits, whole, from the one on that holds position `after + 1`, of some `max_bytes`
    /// together but at least one; none when there is no more. What a repair left out is passed over.
    fn read(
        &self,
        after: u64,
        max_bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<Arc<Commit>>, Error>>;

    /// Ends when there is something above `after`: durable, or about to be by
    /// [`make_durable`](Self::make_durable).
    fn news(&self, after: u64) -> BoxFuture<'static, Result<(), Error>>;

    /// Makes all that is there survive a power cut.
    fn make_durable(&self) -> BoxFuture<'static, Result<(), Error>>;

    /// The commit that ends at `position`; `None` when none does. 0 is where the log begins.
    fn commit_end(&self, position: u64) -> Result<Option<CommitEnd>, Error>;

    /// The event that stands at `sequence` in the newest branch of `stream`.
    fn event_at(&self, stream: &StreamId, sequence: u64) -> Result<Option<LocalEvent>, Error>;

    /// The newest event in the newest branch of `stream` with a sequence below `sequence`.
    fn event_before(&self, stream: &StreamId, sequence: u64) -> Result<Option<LocalEvent>, Error>;

    /// The oldest event in the newest branch of `stream` with a sequence from `sequence` on.
    fn event_from(&self, stream: &StreamId, sequence: u64) -> Result<Option<LocalEvent>, Error>;

    /// Events in the newest branch of `stream`, sequences `from` to `to`, durable ones only, of some
    /// `max_bytes` together but at least one; none when there is none. Passes over what a repair left
    /// out.
    fn events(
        &self,
        stream: &StreamId,
        from: u64,
        to: u64,
        max_bytes: usize,
    ) -> BoxFuture<'static, Result<Vec<EventEnvelope>, Error>>;

    /// Whether the event of this sequence and position has given way to another branch.
    fn is_superseded(&self, stream: &StreamId, sequence: u64, position: u64) -> bool;

    /// Whether the event of `stream` may be sent: what is durable may not always.
    #[cfg(feature = "kafka")]
    fn passes(&self, stream: &StreamId, event: &LocalEvent) -> Pass {
        let (_, _) = (stream, event);
        Pass::Yes
    }

    /// Ends when an event that was held may pass.
    #[cfg(feature = "kafka")]
    fn gate_news(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    /// All epochs of the log, oldest first.
    fn epochs(&self) -> Result<Vec<EpochInfo>, Error>;

    /// Begins a new epoch, durable when this answers.
    fn begin_epoch(&self) -> BoxFuture<'static, Result<Uuid, Error>>;

    /// What was saved under `name` last.
    fn load_state(&self, name: &'static str) -> BoxFuture<'static, Result<Option<Bytes>, Error>>;

    /// Saves under `name` what speaks of the log up to `position`, durable when this answers.
    fn save_state(
        &self,
        name: &'static str,
        position: u64,
        state: Bytes,
    ) -> BoxFuture<'static, Result<(), Error>>;

    /// Forgets what was saved under `name`.
    fn forget_state(&self, name: &'static str) -> BoxFuture<'static, Result<(), Error>>;
}
