//! Aggregates by their ids: loaded from their events, changed by commands.

mod blocking;
mod execute;
mod load;
mod snapshots;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::aggregate::Aggregate;
use crate::append::Durability;
use crate::cache::StateCache;
use crate::clock::{Clock, SystemClock};
use crate::dyn_store::BoxFuture;
use crate::error::Error;
use crate::id::{EventId, IdSource, SystemIds};
use crate::snapshot::{SnapshotProgress, SnapshotStore, SnapshotStrategy};
use crate::store::EventStore;
use crate::stream_id::StreamId;

pub use blocking::BlockingRepository;
use snapshots::Snapshots;

/// Loads aggregates of one type and executes commands on them.
///
/// Executing a command loads the aggregate (from the cache, or a snapshot and the events after it,
/// or all its events), lets it [decide](crate::Decide), and appends the events under the condition
/// that the stream is where it was read. When somebody was faster, it catches up and decides again,
/// a bounded number of times. A handle: cloning is cheap and shares cache and store.
///
/// # Command ids
/// With a [command id](crate::Context::with_command_id), the events of an earlier execution are
/// looked for first. Found, they are answered as they were, without deciding again and whatever
/// has happened since. They are found while they are among the newest
/// [`retry_window`](crate::Limits::retry_window) events of their stream. A command that was
/// rejected, or that led to no events, has left nothing to find: it is decided anew.
///
/// # Cancellation
/// Dropping the future of a command is safe at any moment: its events are then recorded whole or
/// not at all, and what is cached stays true.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// use tidelog_core::{
///     Aggregate, AggregateRepository, Command, Context, Decide, Event, EventStore, ExecuteError,
/// };
///
/// # #[derive(Clone, Serialize, Deserialize)]
/// # enum CounterEvent { Raised { by: u32 } }
/// # impl Event for CounterEvent {
/// #     fn event_type(&self) -> &'static str { "Raised" }
/// # }
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Counter { value: u64 }
///
/// impl Aggregate for Counter {
///     const TYPE: &'static str = "Counter";
///     type Event = CounterEvent;
///     type Error = std::convert::Infallible;
///     fn apply(state: Option<Self>, event: &CounterEvent) -> Result<Self, Self::Error> {
///         let CounterEvent::Raised { by } = event;
///         Ok(Self { value: state.map_or(0, |counter| counter.value) + u64::from(*by) })
///     }
/// }
///
/// struct Raise { id: String, by: u32 }
/// impl Command for Raise {
///     type Aggregate = Counter;
///     fn target_aggregate_identifier(&self) -> Option<&str> { Some(&self.id) }
/// }
///
/// #[derive(Debug, thiserror::Error)]
/// #[error("a counter is raised by 1 to 100")]
/// struct OutOfRange;
///
/// impl Decide<Raise> for Counter {
///     type Rejection = OutOfRange;
///     fn decide(
///         _: Option<&Self>,
///         raise: &Raise,
///         _: &Context,
///     ) -> Result<Vec<CounterEvent>, OutOfRange> {
///         match raise.by {
///             1..=100 => Ok(vec![CounterEvent::Raised { by: raise.by }]),
///             _ => Err(OutOfRange),
///         }
///     }
/// }
///
/// async fn raise_twice<S: EventStore>(store: S) -> Result<u64, ExecuteError<OutOfRange>> {
///     let counters = AggregateRepository::<Counter, S>::new(store).with_cache(1 << 20);
///     counters.execute(Raise { id: "visits".into(), by: 2 }).await?;
///     counters.execute(Raise { id: "visits".into(), by: 3 }).await?;
///     let counter = counters.load("visits").await?;
///     Ok(counter.map_or(0, |loaded| loaded.state.value))
/// }
/// ```
pub struct AggregateRepository<A: Aggregate, S> {
    store: S,
    cache: Option<Arc<StateCache<A>>>,
    snapshots: Option<Arc<Snapshots>>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    durability: Option<Durability>,
    max_attempts: u32,
    backoff: Option<Backoff>,
    aggregate: PhantomData<fn() -> A>,
}

/// How to wait before the next attempt; it is told how many have failed.
type Backoff = Arc<dyn Fn(u32) -> BoxFuture<'static, ()> + Send + Sync>;

impl<A: Aggregate, S: EventStore> AggregateRepository<A, S> {
    /// How often a command is tried before [`ExecuteError::Conflict`](crate::ExecuteError), unless
    /// set otherwise.
    pub const MAX_ATTEMPTS: u32 = 16;

    /// A repository over `store` that keeps nothing in memory, takes no snapshots, and asks for the
    /// durability that the store gives unasked.
    pub fn new(store: S) -> Self {
        Self {
            store,
            cache: None,
            snapshots: None,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            durability: None,
            max_attempts: Self::MAX_ATTEMPTS,
            backoff: None,
            aggregate: PhantomData,
        }
    }

    /// The same, keeping the states of recently used aggregates in memory, at most `bytes` by
    /// [`Aggregate::size_hint`]; 0 keeps none.
    ///
    /// A cached state costs no read when a command leads to events: the append itself finds out
    /// whether it was the newest. A rejection, or a load, asks for the stream's head first.
    pub fn with_cache(mut self, bytes: u64) -> Self {
        self.cache = (bytes > 0).then(|| Arc::new(StateCache::new(bytes)));
        self
    }

    /// The same, starting loads from the snapshots in `store` and adding to them as `strategy`
    /// says.
    ///
    /// Snapshots are a help, never a need: one that cannot be read, decoded or taken is logged, and
    /// the events are replayed.
    pub fn with_snapshots(mut self, store: impl SnapshotStore, strategy: SnapshotStrategy) -> Self {
        self.snapshots = Some(Arc::new(Snapshots::new(store, strategy)));
        self
    }

    /// The same with another bound on how often a command is tried when others are faster; at
    /// least once.
    pub fn with_max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// The same, waiting for the future that `backoff` makes before each further attempt. It is
    /// told how many have failed, from 1. Without it other tasks are let run once.
    ///
    /// Some other command has succeeded whenever one has to be tried again, so waiting is a
    /// kindness to the processor, not a need.
    pub fn with_backoff(
        mut self,
        backoff: impl Fn(u32) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        self.backoff = Some(Arc::new(backoff));
        self
    }

    /// The same with another clock for the contexts that [`execute`](Self::execute) makes.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The same with another source of ids for the contexts that [`execute`](Self::execute) makes.
    pub fn with_ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.ids = ids;
        self
    }

    /// The same, answering when events have survived what `durability` says.
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// The store below.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The stream of the aggregate `aggregate_id`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] or [`Error::TooLarge`] when that is no aggregate id.
    pub fn stream_id(&self, aggregate_id: &str) -> Result<StreamId, Error> {
        StreamId::new(A::TYPE, aggregate_id)
    }

    /// The same calls for threads without a runtime. Build the repository on
    /// [`Blocking::inner`](crate::Blocking::inner) then.
    pub fn blocking(&self) -> BlockingRepository<A, S> {
        BlockingRepository::new(self.clone())
    }
}

impl<A: Aggregate, S: Clone> Clone for AggregateRepository<A, S> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            cache: self.cache.clone(),
            snapshots: self.snapshots.clone(),
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids),
            durability: self.durability,
            max_attempts: self.max_attempts,
            backoff: self.backoff.clone(),
            aggregate: PhantomData,
        }
    }
}

impl<A: Aggregate, S> fmt::Debug for AggregateRepository<A, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AggregateRepository")
            .field("aggregate_type", &A::TYPE)
            .field("cache", &self.cache.is_some())
            .field("snapshots", &self.snapshots.is_some())
            .field("max_attempts", &self.max_attempts)
            .finish_non_exhaustive()
    }
}

/// An aggregate as it stood when it was loaded.
#[derive(Clone, Debug)]
pub struct Loaded<A> {
    /// Its stream.
    pub stream: StreamId,
    /// Its state; shared with the cache.
    pub state: Arc<A>,
    /// Sequence of the newest record that was read for it, whether or not that is read as an event.
    pub sequence: u64,
    /// Id of that record.
    pub event_id: EventId,
}

/// A state of a stream, with what is needed to go on from it.
#[derive(Clone)]
pub(crate) struct Current<A> {
    pub(crate) stream: StreamId,
    pub(crate) state: Arc<A>,
    pub(crate) sequence: u64,
    event_id: EventId,
    /// What [`Aggregate::size_hint`] said.
    pub(crate) size: usize,
    since_snapshot: SinceSnapshot,
}

/// What has come since the last snapshot known.
#[derive(Clone, Copy, Default)]
struct SinceSnapshot {
    events: u64,
    bytes: u64,
}

impl<A> Current<A> {
    fn progress(&self) -> SnapshotProgress {
        SnapshotProgress {
            sequence: self.sequence,
            events: self.since_snapshot.events,
            bytes: self.since_snapshot.bytes,
        }
    }
}
