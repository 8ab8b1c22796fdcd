//! One picture of a store: what it has, and how far that has come.

#[cfg(any(feature = "scylla", feature = "kafka"))]
use tidelog_core::Error;

#[cfg(any(feature = "scylla", feature = "kafka"))]
use crate::replicate::Stage;

/// How far a store is, here and elsewhere; see [`Tidelog::status`](crate::Tidelog::status).
///
/// Each part is of one moment, the last one asked is the log: what is settled is durable, and what is
/// durable is committed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// The newest position of the log.
    pub committed: u64,
    /// The newest position that survives a power cut. What is above is sent nowhere.
    pub durable: u64,
    /// How far the replica is; `None` without one.
    #[cfg(feature = "scylla")]
    pub replicated: Option<crate::ReplicationStatus>,
    /// How far publishing is; `None` without Kafka.
    #[cfg(feature = "kafka")]
    pub published: Option<crate::PublishingStatus>,
}

/// How far one event has come; see [`Tidelog::stage_of`](crate::Tidelog::stage_of).
#[cfg(any(feature = "scylla", feature = "kafka"))]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reached {
    /// The furthest stage that it has come to.
    pub stage: Stage,
    /// What keeps it from going on, when its stream is set aside: an
    /// [`Error::Parked`](tidelog_core::Error::Parked).
    pub parked: Option<Error>,
}
