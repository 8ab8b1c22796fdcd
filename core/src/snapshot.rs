//! Snapshots: a cache of an aggregate's state, never the truth.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::content_type::ContentType;
use crate::error::Error;
use crate::id::EventId;
use crate::stream_id::StreamId;

/// An aggregate's state after one of its events.
///
/// `SnapshotEnvelope<Bytes>`, the default, is what stores keep; `SnapshotEnvelope<A>` carries the
/// decoded aggregate.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotEnvelope<A = Bytes> {
    /// The aggregate's stream.
    pub stream: StreamId,
    /// The sequence of the last event that the state contains.
    pub sequence: u64,
    /// The id of that event: the snapshot counts only while this event stands there.
    pub event_id: EventId,
    /// Revision of the aggregate's state, [`Aggregate::SNAPSHOT_REVISION`](crate::Aggregate::SNAPSHOT_REVISION).
    pub revision: u32,
    /// How the state is encoded.
    pub content_type: ContentType,
    /// When it was taken.
    pub taken_time: Timestamp,
    /// The state: bytes, or decoded.
    pub state: A,
}

/// What became of a snapshot that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PersistOutcome {
    /// It is kept now.
    Persisted,
    /// One at the same or a later sequence, of this or a later revision, is there already; that one
    /// stays.
    Superseded,
}

/// Keeps the newest snapshot of each stream.
///
/// ```
/// use tidelog_core::*;
///
/// /// From which sequence on the events are still to be read.
/// async fn first_to_read(snapshots: &impl SnapshotStore, stream: &StreamId) -> Result<u64, Error> {
///     Ok(snapshots.read(stream).await?.map_or(1, |snapshot| snapshot.sequence + 1))
/// }
/// ```
///
/// # Laws
/// 12. A snapshot never replaces one at a later sequence (of the same revision or a newer one),
///     never runs ahead of its stream, and counts only while the event with its id stands at its
///     sequence. It is only a cache: one that is missing or damaged reads as `None`, one of another
///     revision is passed over by the repository, and the aggregate is replayed in full.
pub trait SnapshotStore: Clone + Send + Sync + 'static {
    /// The newest snapshot of `stream` that still counts.
    fn read(
        &self,
        stream: &StreamId,
    ) -> impl Future<Output = Result<Option<SnapshotEnvelope>, Error>> + Send;

    /// Keeps `snapshot`. It need not survive a power cut.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the stream has no event with that id at that sequence,
    /// [`Error::TooLarge`] above 16 MiB of state.
    fn persist(
        &self,
        snapshot: SnapshotEnvelope,
    ) -> impl Future<Output = Result<PersistOutcome, Error>> + Send;
}

/// Most bytes of one snapshot's state.
pub const MAX_SNAPSHOT_BYTES: usize = 16 << 20;

/// What a [`SnapshotStrategy::Custom`] function decides from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotProgress {
    /// Sequence of the aggregate's newest event.
    pub sequence: u64,
    /// Events since the last snapshot known, or since the beginning.
    pub events: u64,
    /// Encoded bytes of those events.
    pub bytes: u64,
}

/// When a repository takes a snapshot after executing a command.
///
/// ```
/// use tidelog_core::{SnapshotProgress, SnapshotStrategy};
/// let every_hundred = SnapshotStrategy::EveryEvents(100);
/// let progress = SnapshotProgress { sequence: 250, events: 150, bytes: 9_000 };
/// assert!(every_hundred.is_due(&progress));
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum SnapshotStrategy {
    /// Never.
    #[default]
    Never,
    /// When at least this many events came since the last one.
    EveryEvents(u64),
    /// When the events since the last one have at least this many encoded bytes.
    AfterBytes(u64),
    /// When this function says so.
    Custom(Arc<dyn Fn(&SnapshotProgress) -> bool + Send + Sync>),
}

impl SnapshotStrategy {
    /// Whether a snapshot is due.
    pub fn is_due(&self, progress: &SnapshotProgress) -> bool {
        match self {
            Self::Never => false,
            Self::EveryEvents(events) => progress.events >= (*events).max(1),
            Self::AfterBytes(bytes) => progress.events > 0 && progress.bytes >= *bytes,
            Self::Custom(is_due) => is_due(progress),
        }
    }
}

impl std::fmt::Debug for SnapshotStrategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Never => f.write_str("Never"),
            Self::EveryEvents(events) => write!(f, "EveryEvents({events})"),
            Self::AfterBytes(bytes) => write!(f, "AfterBytes({bytes})"),
            Self::Custom(_) => f.write_str("Custom(..)"),
        }
    }
}
