//! Streams that replication has set aside.

use std::fmt;

use tidelog_core::{Batch, EventId, StreamId};

/// Why a stream is parked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParkedReason {
    /// Another origin's event stands where this one belongs.
    Diverged,
    /// An event of this stream was recorded together with one of another stream that is parked.
    TornBatch {
        /// That stream.
        sibling: StreamId,
    },
    /// An event is larger than the server takes.
    TooLarge,
    /// Events before it are gone since a repair, more than a bucket's.
    Gap,
    /// The server refuses this event, and only this.
    Refused(Box<str>),
}

impl ParkedReason {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Diverged => "diverged",
            Self::TornBatch { .. } => "torn_batch",
            Self::TooLarge => "too_large",
            Self::Gap => "gap",
            Self::Refused(_) => "refused",
        }
    }

    pub(super) fn number(&self) -> u8 {
        match self {
            Self::Diverged => 1,
            Self::TornBatch { .. } => 2,
            Self::TooLarge => 3,
            Self::Gap => 4,
            Self::Refused(_) => 5,
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Diverged | Self::TooLarge | Self::Gap => "",
            Self::TornBatch { sibling } => sibling.as_str(),
            Self::Refused(text) => text,
        }
    }

    pub(super) fn from_number(number: u8, text: &str) -> Option<Self> {
        Some(match number {
            1 => Self::Diverged,
            2 => Self::TornBatch {
                sibling: text.parse().ok()?,
            },
            3 => Self::TooLarge,
            4 => Self::Gap,
            5 => Self::Refused(text.into()),
            _ => return None,
        })
    }
}

impl fmt::Display for ParkedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diverged => f.write_str("another origin's event stands in its place"),
            Self::TornBatch { sibling } => {
                write!(
                    f,
                    "it was recorded together with events of {sibling}, which is parked"
                )
            }
            Self::TooLarge => f.write_str("it is larger than the server takes"),
            Self::Gap => f.write_str("too many events before it are gone since a repair"),
            Self::Refused(text) => write!(f, "the server refuses it: {text}"),
        }
    }
}

/// A stream that is set aside from one event on, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParkedEntry {
    pub stream: StreamId,
    pub reason: ParkedReason,
    /// The first event that is held.
    pub first_sequence: u64,
    pub first_position: u64,
    pub local_event: EventId,
    /// What stands in its way.
    pub remote: Option<(u64, EventId)>,
    /// The append that wrote the first event held.
    pub batch: Batch,
    /// It stands at the server; it is listed because others of its batch do not.
    pub accepted: bool,
    /// Position of the local commit that resolved it; 0 while none has.
    pub resolved_at: u64,
    /// Where the log ended when it was parked.
    pub since_position: u64,
}

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
