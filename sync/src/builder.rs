//! How a [`Tidelog`] is opened.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidelog_backends::{Phase, Progress, ProgressCallback, SledStore, SledStoreBuilder};
use tidelog_core::{
    Aggregate, Clock, Durability, Error, IdSource, Limits, PayloadCodec, Poison, ProcessManager,
    Projection, RowKey, Sleeper, SnapshotStrategy, SystemClock, SystemIds, Timers,
};

use crate::inner::Inner;
use crate::kept::{self, KeptRow, KeptRows};
use crate::listeners::ListenerOptions;
use crate::processes::{self, Manager};
use crate::projections::{ProjectionOptions, Registrations};
use crate::repositories::Settings;
use crate::tidelog::Tidelog;

/// Bytes of cached aggregate states of one aggregate type, unless set otherwise.
const CACHE_BYTES: u64 = 8 << 20;

/// Options of a [`Tidelog`]; made by [`Tidelog::builder`].
///
/// ```
/// use tidelog::{Durability, SnapshotStrategy, Tidelog};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("events");
/// let log = Tidelog::builder(&path)
///     .memory_budget(32 << 20)
///     .aggregate_cache(4 << 20)
///     .snapshots(SnapshotStrategy::EveryEvents(500))
///     .open()?;
/// log.blocking().close()?;
/// # Ok::<(), tidelog::Error>(())
/// ```
#[must_use = "nothing is opened before `open` is called"]
pub struct TidelogBuilder {
    store: SledStoreBuilder,
    settings: Settings,
    projections: Registrations<SledStore>,
    managers: Vec<Manager>,
    progress: Option<ProgressCallback>,
    #[cfg(any(feature = "scylla", feature = "kafka"))]
    limits: Limits,
    #[cfg(any(feature = "scylla", feature = "kafka"))]
    distributed: crate::distributed::DistributedConfig,
}

impl TidelogBuilder {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            store: SledStore::builder(path),
            settings: Settings {
                snapshots: SnapshotStrategy::Never,
                snapshots_of: HashMap::new(),
                cache_bytes: CACHE_BYTES,
                max_attempts: None,
                clock: Arc::new(SystemClock),
                ids: Arc::new(SystemIds),
                sleeper: None,
            },
            projections: Registrations::default(),
            managers: Vec::new(),
            progress: None,
            #[cfg(any(feature = "scylla", feature = "kafka"))]
            limits: Limits::default(),
            #[cfg(any(feature = "scylla", feature = "kafka"))]
            distributed: crate::distributed::DistributedConfig::default(),
        }
    }

    /// Sends the log to where `config` says, while the store is open: everything that is in it and
    /// everything that comes, once it survives a power cut here. Appends and reads do not depend on
    /// it: what cannot be sent waits in the log. `Tidelog::replication` and `Tidelog::publishing` tell how far it is.
    ///
    /// Opening does not wait for the network. Switched on late, the whole log is sent from its
    /// beginning. What goes is what stands in the log: encrypted payloads stay encrypted.
    #[cfg(any(feature = "scylla", feature = "kafka"))]
    pub fn distributed(mut self, config: crate::DistributedConfig) -> Self {
        self.distributed = config;
        self
    }

    /// Feeds `projection` from the log while the store is open; [`Tidelog::projection`] has its rows.
    ///
    /// An event that fails is tried 3 times, then the projection stops, unless
    /// [`projection_with`](Self::projection_with) says otherwise.
    pub fn projection<P: Projection>(self, projection: P) -> Self {
        self.projection_with(projection, ProjectionOptions::default())
    }

    /// Feeds `projection` from the log while the store is open, with these options.
    pub fn projection_with<P: Projection>(
        mut self,
        projection: P,
        options: ProjectionOptions,
    ) -> Self {
        self.projections.add(P::NAME, projection, options, false);
        self
    }

    /// Feeds `projection`, and lets the calls of this handle that append answer only when it has
    /// taken in what they have recorded; [`open`](Self::open) answers when it has caught up, which
    /// is told as [`Phase::Projections`](crate::Phase::Projections).
    ///
    /// It costs each append a wake-up there and back, some 20 to 50 µs; while rows and index are
    /// written out to the disk, or rows of other projections are checked after opening, it waits for
    /// that. What is durable is never
    /// reported as failed: where the projection is stopped, being rebuilt, or holds the event
    /// parked, the call answers without it, and [`Tidelog::projections`] says so.
    pub fn inline_projection<P: Projection>(mut self, projection: P) -> Self {
        let options = ProjectionOptions::default();
        self.projections.add(P::NAME, projection, options, true);
        self
    }

    /// Keeps rows called `name` that are written by hand; [`Tidelog::kept`] has them. The log is
    /// their home: see [`KeptRepository`](crate::KeptRepository). A name has at most 100 bytes.
    pub fn kept<K: RowKey, V: KeptRow>(mut self, name: &str) -> Self {
        let as_projection = kept::projection_name(name);
        match KeptRows::<K, V>::new(name) {
            Ok(rows) => {
                let options = ProjectionOptions::default();
                self.projections.add(&as_projection, rows, options, true);
            }
            Err(error) => self.projections.refuse(&as_projection, error),
        }
        self
    }

    /// Runs `manager` while the store is open, on a thread that all managers share. Its checkpoint is
    /// kept as that of a listener `pm.<name>`; its timers are a projection `timers.<name>`. Closing
    /// the store, or dropping its last handle, lets its commands under way end first.
    ///
    /// Without a checkpoint it begins with the first event of the log; see
    /// [`process_manager_with`](Self::process_manager_with) and [`Tidelog::process_manager`].
    pub fn process_manager<M: ProcessManager>(self, manager: M) -> Self {
        self.process_manager_with(manager, ListenerOptions::default())
    }

    /// The same, fed as `options` say: [`StartAt::End`](crate::StartAt::End) for one that is new to
    /// an old log and shall let the past be.
    pub fn process_manager_with<M: ProcessManager>(
        mut self,
        manager: M,
        options: ListenerOptions,
    ) -> Self {
        let manager = Arc::new(manager);
        let timers = Timers::of(Arc::clone(&manager));
        // What it cannot say about one process's timer shall not keep the others' from firing.
        let of_timers = ProjectionOptions {
            poison: Poison::Park,
            ..ProjectionOptions::default()
        };
        let name = <Timers<M> as Projection>::NAME;
        self.projections.add(name, timers, of_timers, false);
        self.managers.push(processes::manager(manager, options));
        self
    }

    /// How projections, process managers and their timers wait; by the machine's own passing of time,
    /// unless set.
    pub fn sleeper(mut self, sleeper: Arc<dyn Sleeper>) -> Self {
        self.settings.sleeper = Some(sleeper);
        self
    }

    /// When snapshots of aggregates are taken; never, unless set.
    ///
    /// With snapshots, raise [`Aggregate::SNAPSHOT_REVISION`] whenever the fields of the state or
    /// the meaning of `apply` change.
    pub fn snapshots(mut self, strategy: SnapshotStrategy) -> Self {
        self.settings.snapshots = strategy;
        self
    }

    /// When snapshots of this one aggregate type are taken.
    pub fn snapshots_of<A: Aggregate>(mut self, strategy: SnapshotStrategy) -> Self {
        self.settings
            .snapshots_of
            .insert(TypeId::of::<A>(), strategy);
        self
    }

    /// Bytes of memory for the states of recently used aggregates, for each aggregate type; 8 MiB
    /// unless set, 0 for none. The async and the blocking face have a cache each, filled by use.
    pub fn aggregate_cache(mut self, bytes: u64) -> Self {
        self.settings.cache_bytes = bytes;
        self
    }

    /// How often a command is decided again when other writers were faster;
    /// [`AggregateRepository::MAX_ATTEMPTS`](tidelog_core::AggregateRepository::MAX_ATTEMPTS)
    /// unless set, at least once.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.max_attempts = Some(attempts);
        self
    }

    /// Passes every payload through `codec`, as for encryption or compression; limits count what it
    /// makes. A store must be opened with what decodes the payloads it was written with.
    pub fn codec(mut self, codec: Arc<dyn PayloadCodec>) -> Self {
        self.store = self.store.codec(codec);
        self
    }

    /// What the store takes at most. Of one that is distributed, an event has at most 7 MiB: more is no
    /// server's to take.
    pub fn limits(mut self, limits: Limits) -> Self {
        #[cfg(any(feature = "scylla", feature = "kafka"))]
        {
            self.limits = limits;
        }
        self.store = self.store.limits(limits);
        self
    }

    /// What acknowledged commands and appends that name no durability have survived;
    /// [`Durability::Power`] unless set.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.store = self.store.durability(durability);
        self
    }

    /// Bytes of memory for the store's caches, filters and queues together; 52 MiB unless set, at
    /// least 8 MiB. Aggregate caches come on top.
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.store = self.store.memory_budget(bytes);
        self
    }

    /// Bytes that segment files grow to; 16 MiB unless set, 64 KiB to 1 GiB.
    pub fn segment_size(mut self, bytes: u64) -> Self {
        self.store = self.store.segment_size(bytes);
        self
    }

    /// See [`SledStoreBuilder::sparse_segments`].
    #[doc(hidden)]
    pub fn sparse_segments(mut self) -> Self {
        self.store = self.store.sparse_segments();
        self
    }

    /// How long opening sled may take before its folder is abandoned and made again from the log;
    /// 30 s unless set.
    pub fn index_open_timeout(mut self, timeout: Duration) -> Self {
        self.store = self.store.index_open_timeout(timeout);
        self
    }

    /// Where the present moment comes from: recorded times, and the contexts of commands that come
    /// without one. Waits go by [`sleeper`](Self::sleeper): give one of the same clock with it, or a
    /// timer that is due by the one is looked at by the other, within 30 s.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.store = self.store.clock(Arc::clone(&clock));
        self.settings.clock = clock;
        self
    }

    /// Where new ids come from: the store's own, and the contexts of commands that come without
    /// one.
    pub fn ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.store = self.store.ids(Arc::clone(&ids));
        self.settings.ids = ids;
        self
    }

    /// Called while opening, and during every later long operation; `Break` cancels it.
    pub fn progress(
        mut self,
        callback: impl Fn(Progress) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        let callback: ProgressCallback = Arc::new(callback);
        let of_store = Arc::clone(&callback);
        self.store = self.store.progress(move |progress| of_store(progress));
        self.progress = Some(callback);
        self
    }

    /// Opens the store, making it if the path is empty or missing.
    ///
    /// Blocks for file I/O: inside async code, call it on a blocking thread, or before the work
    /// begins.
    ///
    /// # Errors
    /// [`Error::Locked`] when it is open elsewhere, [`Error::NotAStore`] for a path that cannot be
    /// one, [`Error::UnsupportedFormat`] for a newer one, [`Error::InvalidInput`] for an impossible
    /// option or projection, [`Error::Damaged`], [`Error::Cancelled`], [`Error::Io`].
    pub fn open(self) -> Result<Tidelog, Error> {
        self.projections.check()?;
        #[cfg(feature = "kafka")]
        self.distributed.check()?;
        #[cfg(any(feature = "scylla", feature = "kafka"))]
        let store = self.distributed.limited(self.store, self.limits);
        #[cfg(not(any(feature = "scylla", feature = "kafka")))]
        let store = self.store;
        let (store, callback) = (store.open()?, self.progress);
        let progress = |done, total| {
            let phase = Phase::Projections;
            let progress = Progress { phase, done, total };
            callback
                .as_ref()
                .map_or(ControlFlow::Continue(()), |callback| callback(progress))
        };
        let (settings, projections) = (self.settings, self.projections);
        #[cfg(any(feature = "scylla", feature = "kafka"))]
        let sinks = crate::inner::Sinks::start(&store, self.distributed, &settings.ids)?;
        let inner = Inner::start(store, settings, projections, self.managers, progress)?;
        #[cfg(any(feature = "scylla", feature = "kafka"))]
        let inner = inner.with_sinks(sinks);
        Ok(Tidelog::new(inner))
    }
}

impl fmt::Debug for TidelogBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TidelogBuilder")
            .field("store", &self.store)
            .field("snapshots", &self.settings.snapshots)
            .field("aggregate_cache", &self.settings.cache_bytes)
            .field("projections", &self.projections)
            .finish_non_exhaustive()
    }
}
