//! The contracts and building blocks of tidelog, an embedded event store.
//!
//! This crate does no I/O and knows no engine and no runtime. Users add the `tidelog` crate, which
//! re-exports everything here; writers of backends build on this one alone.
//!
//! | to | see |
//! |---|---|
//! | model a domain | [`Event`], [`Aggregate`], [`Command`], [`Decide`] |
//! | run it | [`AggregateRepository`], [`CommandHandler`], [`SnapshotStrategy`] |
//! | read and follow | [`EventStore`], [`EventLog`], [`EventStream`], [`TypedEventStore`] |
//! | answer questions | [`QueryHandler`], [`Repository`] |
//! | write a backend | [`EventStore`] (its laws) and the conformance kit, feature `testing` |

mod aggregate;
mod append;
mod blocking;
mod cache;
mod clock;
pub mod cloudevents;
mod codec;
mod command;
mod content_type;
mod dyn_store;
mod envelope;
mod error;
mod event;
mod failure;
mod halt;
mod id;
mod limits;
mod listener;
mod metadata;
mod parked;
mod payload_codec;
mod process;
mod projection;
mod query;
mod read;
mod repository;
mod retry;
#[cfg(feature = "secret")]
mod secret;
mod snapshot;
mod store;
mod stream_id;
mod superseded;
#[cfg(feature = "testing")]
pub mod testing;
mod typed;
mod upcast;

pub use aggregate::Aggregate;
pub use append::{
    AppendBatch, AppendOutcome, AppendReceipt, Durability, ExpectedVersion, check_append,
    next_sequence,
};
pub use blocking::Blocking;
pub use clock::{Clock, ManualClock, ManualSleeper, Sleeper, SystemClock, Ticks, Timestamp};
pub use codec::{RecordedEvent, decode_event};
pub use command::{
    Command, CommandError, CommandHandler, CommandResponse, Context, Decide, Rejection,
};
pub use content_type::ContentType;
pub use dyn_store::{BoxFuture, DynEventStore};
pub use envelope::{Batch, Birth, EventEnvelope, NewEvent, RecordKind};
pub use error::{Cause, Error, ErrorKind, ExecuteError};
pub use event::Event;
pub use failure::{HandlerError, SequenceGap};
pub use halt::Halt;
pub use id::{CommandId, EventId, IdSource, SystemIds};
pub use limits::Limits;
pub use listener::{
    Applied, CheckpointClaim, CheckpointStore, EventListener, InOrder, Ledger, ListenerState,
    MAX_CHECKPOINT_BYTES, Mark, Settled, check_listener_name,
};
pub use metadata::{
    ACTOR, CAUSATION_ID, CORRELATION_ID, Metadata, MetadataIter, TRACE_ID, TRACEPARENT, Tags,
    TraceParent,
};
pub use parked::ParkedStream;
pub use payload_codec::{PayloadCodec, PayloadCodecError, PayloadContext, PayloadKind, WithCodec};
pub use process::{
    CommandBus, Outcome, ProcessManager, StepOrigin, Steps, StoreBus, Timer, TimerChange, Timers,
};
pub use projection::{
    Change, Checkpoint, Entry, Feed, FeedError, FoundRow, KeyedRow, Lookup, ModelSlots, Prepared,
    Projection, Redo, RowKey, RowStore, RowTable, Rows, RowsError, Slot, Space, check_model_name,
    parked_streams,
};
pub use query::{EditableRepository, QueryHandler, Repository};
pub use read::{
    BlockingEventStream, Direction, EventStream, LogQuery, PageSource, StreamQuery, Subscribe,
};
pub use repository::{AggregateRepository, BlockingRepository, Loaded};
pub use retry::{Poison, RetryPolicy};
#[cfg(feature = "secret")]
pub use secret::Secret;
pub use snapshot::{
    MAX_SNAPSHOT_BYTES, PersistOutcome, SnapshotEnvelope, SnapshotProgress, SnapshotStore,
    SnapshotStrategy,
};
pub use store::{EventLog, EventStore, FullStore, LogIdentity, MultiStreamStore, StreamHead};
pub use stream_id::StreamId;
pub use superseded::{Supersede, Superseded, Supersession};
pub use tidelog_derive::Event;
pub use typed::TypedEventStore;
pub use upcast::{Decoded, DecodedIter, EventType, RawEvent, Unknown, Upcast, Upcasters};
