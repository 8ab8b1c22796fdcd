//! How an embedded store is opened.

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tidelog_core::{
    Clock, Durability, Error, IdSource, Limits, PayloadCodec, SystemClock, SystemIds,
};

use super::index::Engine;
use super::open::Opening;
use super::segment::Filling;
use super::store::SledStore;

/// Smallest segment, and the size of the first.
pub(crate) const MIN_SEGMENT: u64 = 64 << 10;
pub(crate) const FIRST_SEGMENT: u64 = 1 << 20;
const MIN_BUDGET: usize = 8 << 20;

/// What a long operation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Replaying the newest part of the log.
    Replay,
    /// Making the index again from the log.
    Rebuild,
    /// Checking everything.
    Verify,
    /// Copying to a backup.
    Backup,
    /// Checking read models and catching them up with the log. Counted in events.
    Projections,
    /// Copying a store's log from its replica, counted in positions, or putting a backup back.
    Restore,
    /// Copying what is whole of a damaged store. Its segments are read twice, and count twice.
    Repair,
}

impl Phase {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "opening the store",
            Self::Rebuild => "rebuilding the index",
            Self::Verify => "verifying the store",
            Self::Backup => "backing the store up",
            Self::Projections => "catching read models up",
            Self::Restore => "restoring the store",
            Self::Repair => "repairing the store",
        }
    }
}

/// How far a long operation is; in segments, unless the phase says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// How much is done.
    pub done: u64,
    /// How much there is in all.
    pub total: u64,
}

/// Called now and then; `Break` cancels the operation with [`Error::Cancelled`].
pub type ProgressCallback = Arc<dyn Fn(Progress) -> ControlFlow<()> + Send + Sync>;

/// Options of an embedded store; made by [`SledStore::builder`].
///
/// ```
/// use tidelog_backends::SledStore;
/// # let dir = tempfile::tempdir().unwrap();
/// let store = SledStore::builder(dir.path().join("events"))
///     .memory_budget(32 << 20)
///     .segment_size(4 << 20)
///     .open()?;
/// store.close_blocking()?;
/// # Ok::<(), tidelog_core::Error>(())
/// ```
#[derive(Clone)]
pub struct SledStoreBuilder {
    pub(crate) path: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) durability: Durability,
    pub(crate) memory_budget: usize,
    pub(crate) segment_size: u64,
    pub(crate) first_segment: u64,
    pub(crate) open_timeout: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) codec: Option<Arc<dyn PayloadCodec>>,
    pub(crate) progress: Option<ProgressCallback>,
    pub(crate) hash_bits: u32,
    pub(crate) merge_fan_in: usize,
    pub(crate) filling: Filling,
    pub(crate) engine: Engine,
}

impl SledStoreBuilder {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            limits: Limits::default(),
            durability: Durability::Power,
            memory_budget: 52 << 20,
            segment_size: 16 << 20,
            first_segment: FIRST_SEGMENT,
            open_timeout: Duration::from_secs(30),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            codec: None,
            progress: None,
            hash_bits: 64,
            merge_fan_in: 8,
            filling: Filling::Zeros,
            engine: Engine::Sled,
        }
    }

    /// What the store takes at most.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The durability of appends that name none; [`Durability::Power`] unless set.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Bytes of memory for caches, filters and queues together; 52 MiB unless set, enough for the
    /// heads of a million streams, at least 8 MiB.
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.memory_budget = bytes;
        self
    }

    /// Bytes that segment files grow to; 16 MiB unless set, 64 KiB to 1 GiB.
    pub fn segment_size(mut self, bytes: u64) -> Self {
        self.segment_size = bytes;
        self.first_segment = self.first_segment.min(bytes);
        self
    }

    /// Passes every payload through `codec`, as for encryption or compression; limits count what it
    /// makes. A store must be opened with what decodes the payloads it was written with.
    pub fn codec(mut self, codec: Arc<dyn PayloadCodec>) -> Self {
        self.codec = Some(codec);
        self
    }

    /// How long opening sled may take before its folder is abandoned and made again from the log;
    /// 30 s unless set.
    pub fn index_open_timeout(mut self, timeout: Duration) -> Self {
        self.open_timeout = timeout;
        self
    }

    /// Where recorded times come from.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where the store's own ids come from.
    pub fn ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.ids = ids;
        self
    }

    /// Called while opening, and during every later long operation; may cancel it.
    pub fn progress(
        mut self,
        callback: impl Fn(Progress) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        self.progress = Some(Arc::new(callback));
        self
    }

    /// Cuts stream hashes to this many bits and merges this many runs at once: for tests that want
    /// collisions and merges.
    #[doc(hidden)]
    pub fn stress_index(mut self, hash_bits: u32, merge_fan_in: usize) -> Self {
        self.hash_bits = hash_bits;
        self.merge_fan_in = merge_fan_in;
        self
    }

    /// Makes segments as holes instead of filling them with zeros ahead: every sync then allocates as
    /// well. For benchmarks that ask what the zeros cost and what they save.
    #[doc(hidden)]
    pub fn sparse_segments(mut self) -> Self {
        self.filling = Filling::Holes;
        self
    }

    /// Opens the store, making it if the path is empty or missing.
    ///
    /// A store whose format has flags of a later version by which this one may read it but not
    /// write it is open for reading alone: whatever would write answers
    /// [`Error::UnsupportedFormat`], and so do backups.
    ///
    /// Blocks for file I/O; inside async code, call it on a blocking thread.
    ///
    /// # Errors
    /// [`Error::Locked`] when it is open elsewhere, [`Error::NotAStore`] for a path that cannot be
    /// one, [`Error::UnsupportedFormat`] for a newer one, [`Error::Damaged`], [`Error::Cancelled`],
    /// [`Error::Io`]. Nothing on disk is changed then.
    pub fn open(self) -> Result<SledStore, Error> {
        self.check()?;
        SledStore::open_with(&self, Opening::Store)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if !(MIN_SEGMENT..=1 << 30).contains(&self.segment_size) {
            return Err(Error::invalid(
                "segment size",
                self.segment_size,
                "it must be 64 KiB to 1 GiB",
            ));
        }
        if self.memory_budget < MIN_BUDGET {
            return Err(Error::invalid(
                "memory budget",
                self.memory_budget,
                "it must be at least 8 MiB",
            ));
        }
        let limits = &self.limits;
        let sane = limits.payload_bytes <= 64 << 20
            && limits.metadata_bytes <= 16 << 20
            && limits.batch_bytes <= 256 << 20
            && (1..=1_000_000).contains(&limits.batch_events);
        if !sane {
            let reason = "at most 64 MiB a payload, 16 MiB of metadata, 256 MiB and 1,000,000 events a batch";
            return Err(Error::invalid("limits", format!("{limits:?}"), reason));
        }
        Ok(())
    }
}

impl fmt::Debug for SledStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledStoreBuilder")
            .field("path", &self.path)
            .field("limits", &self.limits)
            .field("durability", &self.durability)
            .field("memory_budget", &self.memory_budget)
            .field("segment_size", &self.segment_size)
            .field("codec", &self.codec.is_some())
            .finish_non_exhaustive()
    }
}
