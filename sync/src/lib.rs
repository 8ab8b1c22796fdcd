//! An embedded event store: durable and offline on one machine.
//!
//! A program adds this crate alone; it re-exports the contracts and building blocks of
//! `tidelog-core` and the stores of `tidelog-backends`. [`Tidelog`] is the handle to begin with:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use tidelog::{Aggregate, Command, Context, Decide, Event, Tidelog};
//!
//! #[derive(Clone, Serialize, Deserialize, Event)]
//! enum CounterEvent { Raised { by: u64 } }
//!
//! #[derive(Clone, Serialize, Deserialize)]
//! struct Counter { value: u64 }
//! impl Aggregate for Counter {
//!     const TYPE: &'static str = "Counter";
//!     type Event = CounterEvent;
//!     type Error = std::convert::Infallible;
//!     fn apply(state: Option<Self>, CounterEvent::Raised { by }: &CounterEvent) -> Result<Self, Self::Error> {
//!         Ok(Self { value: state.map_or(0, |counter| counter.value) + by })
//!     }
//! }
//!
//! struct Raise { id: &'static str, by: u64 }
//! impl Command for Raise {
//!     type Aggregate = Counter;
//!     fn target_aggregate_identifier(&self) -> Option<&str> { Some(self.id) }
//! }
//! impl Decide<Raise> for Counter {
//!     type Rejection = std::convert::Infallible;
//!     fn decide(_: Option<&Self>, raise: &Raise, _: &Context) -> Result<Vec<CounterEvent>, Self::Rejection> {
//!         Ok(vec![CounterEvent::Raised { by: raise.by }])
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("events");
//! let log = Tidelog::open(&path)?.blocking();
//! log.execute(Raise { id: "visits", by: 2 })?;
//! log.execute(Raise { id: "visits", by: 3 })?;
//! let visits = log.load::<Counter>("visits")?.expect("raised twice");
//! assert_eq!((visits.state.value, visits.sequence), (5, 2));
//! # Ok(())
//! # }
//! ```
//!
//! | to | see |
//! |---|---|
//! | model a domain | [`Event`], [`Aggregate`], [`Command`], [`Decide`] |
//! | open a store and use it | [`Tidelog`], [`TidelogBuilder`], [`BlockingTidelog`] |
//! | repeat a command safely, date it, trace it | [`Context`], [`CommandId`] |
//! | answer questions | [`QueryHandler`], [`Repository`], [`Tidelog::subscribe`] |
//! | test without a disk | [`MemoryStore`], [`ManualClock`] |
//! | read it from the beginning | [`guide`] |

mod blocking;
mod builder;
#[cfg(any(feature = "scylla", feature = "kafka"))]
mod distributed;
#[cfg(test)]
#[allow(dead_code, reason = "without the features nobody copies stores here")]
#[path = "../../backends/tests/tools/folder.rs"]
mod folder;
#[cfg(all(feature = "fuzzing", feature = "kafka"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod guide;
mod inner;
mod jsonl;
#[cfg(feature = "kafka")]
mod kafka;
mod kept;
mod listeners;
mod processes;
mod projections;
#[cfg(feature = "kafka")]
mod publishing;
#[cfg(any(feature = "scylla", feature = "kafka"))]
mod replicate;
#[cfg(feature = "scylla")]
mod replication;
mod repositories;
#[cfg(feature = "kafka")]
mod republishing;
mod requests;
#[cfg(feature = "scylla")]
mod scylla;
mod signal;
#[cfg(all(test, any(feature = "scylla", feature = "kafka")))]
mod sim;
mod sinks;
mod status;
#[cfg(feature = "testing")]
pub mod testing;
mod tidelog;

pub use blocking::BlockingTidelog;
pub use builder::TidelogBuilder;
#[cfg(any(feature = "scylla", feature = "kafka"))]
pub use distributed::DistributedConfig;
#[cfg(feature = "scylla")]
pub use distributed::ReplicationOptions;
pub use jsonl::{
    ExportQuery, ExportReport, ImportError, ImportOptions, ImportReport, Sequences, export,
    export_log, import,
};
#[cfg(feature = "kafka")]
pub use kafka::{
    BlockingKafkaControl, BlockingKafkaParkedKeys, KafkaConfig, KafkaContainer,
    KafkaContainerBuilder, KafkaControl, KafkaListenerConfig, KafkaListenerStatus, KafkaParkedKey,
    KafkaParkedKeys, KafkaPlaceStatus, PublishingOptions, PublishingParked, PublishingState,
    PublishingStatus, RunningKafkaListeners, TopicDiffers, TopicSpec, TopicsReport,
};
#[cfg(feature = "kafka-tls")]
pub use kafka::{KafkaTls, Scram};
pub use kept::{BlockingKept, KeptRepository, KeptRow};
pub use listeners::{
    BlockingListenerControl, ContainerBuilder, EventListenerContainer, ListenerControl,
    ListenerOptions, ListenerPhase, ListenerStatus, RunningListeners, StartAt, ThreadSleeper,
};
pub use processes::{DueTimer, DueTimers, FoldedTimers, ProcessListener, TimerLoop};
pub use projections::{
    BlockingReadModel, ProjectionOptions, ProjectionState, ProjectionStatus, Projections,
    ProjectionsBuilder, ReadModel,
};
#[cfg(feature = "kafka")]
pub use publishing::{BlockingPublishing, Publishing};
#[cfg(any(feature = "scylla", feature = "kafka"))]
pub use replicate::{Other, Stage};
#[cfg(feature = "scylla")]
pub use replication::{BlockingReplication, Replication};
#[cfg(feature = "kafka")]
pub use republishing::{BlockingRepublishing, Republishing};
#[cfg(feature = "scylla")]
pub use scylla::{
    Conflict, Follow, Followed, MendReport, Peer, PeerLog, Pull, ReplicationParked,
    ReplicationState, ReplicationStatus, Resolved, RestoreOptions, RestoreReport, Vector, mend,
    mend_blocking, restore, restore_blocking,
};
pub use sinks::{ParkedReason, SavedSink, SinkKind, SinkParked};
#[cfg(any(feature = "scylla", feature = "kafka"))]
pub use status::Reached;
pub use status::Status;
pub use tidelog::Tidelog;

pub use tidelog_backends::*;
pub use tidelog_core::*;
