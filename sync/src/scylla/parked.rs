//! Streams that replication has set aside.

use tidelog_core::{Batch, EventId, StreamId};

use crate::replicate::ParkedReason;
use crate::replicate::status::Listed;
pub(crate) use crate::sinks::replication::ParkedEntry;

impl ParkedEntry {
    /// Whether events are held by it.
    pub(crate) fn holds(&self) -> bool {
        !self.accepted && self.resolved_at == 0
    }
}

/// A stream that replication has set aside, with what stands in its way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicationParked {
    /// The stream.
    pub stream: StreamId,
    /// Why.
    pub reason: ParkedReason,
    /// Sequence of the first event that is held.
    pub first_sequence: u64,
    /// Its position.
    pub first_position: u64,
    /// Its id.
    pub local_event: EventId,
    /// What stands in its way at the server: sequence and event.
    pub remote: Option<(u64, EventId)>,
    /// The append that wrote it; of one over several streams all parts are listed.
    pub batch: Batch,
    /// Nothing is held: the event stands at the server, while others of its batch do not.
    pub accepted: bool,
}

impl From<&ParkedEntry> for ReplicationParked {
    fn from(entry: &ParkedEntry) -> Self {
        Self {
            stream: entry.stream.clone(),
            reason: entry.reason.clone(),
            first_sequence: entry.first_sequence,
            first_position: entry.first_position,
            local_event: entry.local_event,
            remote: entry.remote,
            batch: entry.batch,
            accepted: entry.accepted,
        }
    }
}

impl Listed for ReplicationParked {
    fn holds(&self) -> bool {
        !self.accepted
    }

    fn stream(&self) -> &StreamId {
        &self.stream
    }

    fn first_position(&self) -> u64 {
        self.first_position
    }

    fn reason(&self) -> String {
        self.reason.to_string()
    }
}
