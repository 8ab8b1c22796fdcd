//! What makes a store distributed: where its log is sent, and how.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidelog_backends::wire::Wire;
use tidelog_backends::{ScyllaConfig, SledStoreBuilder};
use tidelog_core::Limits;

use crate::replicate::replicator::Pace;
use crate::scylla::Pull;

/// Servers take a mutation of half a commit log's segment, 16 MiB where nothing else is set, and write a
/// conditional one twice.
const MAX_PAYLOAD: usize = 7 << 20;
const MAX_METADATA: usize = 512 << 10;

/// Where a store's log is sent; given to
/// [`TidelogBuilder::distributed`](crate::TidelogBuilder::distributed).
///
/// ```
/// use tidelog::{DistributedConfig, ReplicationOptions, ScyllaConfig};
/// let config = DistributedConfig::new()
///     .scylla(ScyllaConfig::new(["db1:9042", "db2:9042"]).keyspace("shop"))
///     .options(ReplicationOptions::new().name("till 3"));
/// # drop(config);
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DistributedConfig {
    pub(crate) scylla: Option<ScyllaConfig>,
    pub(crate) options: ReplicationOptions,
    pub(crate) wire: Option<OtherWire>,
}

/// A server's place taken by something else.
#[derive(Clone)]
pub(crate) struct OtherWire(pub Arc<dyn Wire>);

impl fmt::Debug for OtherWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OtherWire")
    }
}

impl DistributedConfig {
    /// Nowhere yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// To the keyspace of a ScyllaDB or Cassandra cluster, made by
    /// [`ScyllaStore::migrate`](crate::ScyllaStore::migrate).
    pub fn scylla(mut self, config: ScyllaConfig) -> Self {
        self.scylla = Some(config);
        self
    }

    /// The same store, which takes nothing that cannot be sent.
    pub(crate) fn limited(&self, store: SledStoreBuilder, limits: Limits) -> SledStoreBuilder {
        if self.scylla.is_none() {
            return store;
        }
        store.limits(Limits {
            payload_bytes: limits.payload_bytes.min(MAX_PAYLOAD),
            metadata_bytes: limits.metadata_bytes.min(MAX_METADATA),
            ..limits
        })
    }

    /// To what `wire` reaches instead of a server: for measurements.
    #[doc(hidden)]
    pub fn wire(mut self, wire: Arc<dyn Wire>) -> Self {
        self.wire = Some(OtherWire(wire));
        self
    }

    /// How it is sent.
    pub fn options(mut self, options: ReplicationOptions) -> Self {
        self.options = options;
        self
    }
}

/// How a log is sent; the defaults are meant to be kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReplicationOptions {
    pub(crate) pace: Pace,
    pub(crate) lanes: usize,
    pub(crate) overlap: u64,
    pub(crate) name: Option<Box<str>>,
    pub(crate) pull: Pull,
}

impl Default for ReplicationOptions {
    fn default() -> Self {
        Self {
            pace: Pace::default(),
            lanes: 64,
            overlap: 2_000,
            name: None,
            pull: Pull::Off,
        }
    }
}

impl ReplicationOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// What this store calls itself at the server, for people; the machine's name unless set.
    pub fn name(mut self, name: impl Into<Box<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Most bytes that are read from the log and not settled, what bounds the memory of replication
    /// while the server is slow; 8 MiB unless set, at least 64 KiB. A larger append is taken alone.
    pub fn window_bytes(mut self, bytes: usize) -> Self {
        self.pace.window_bytes = bytes.max(64 << 10);
        self
    }

    /// Streams that are written to at once; 64 unless set, at least 1.
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = lanes.max(1);
        self
    }

    /// How often it is looked whether the server still has what it had; 5 minutes unless set.
    pub fn probe_every(mut self, every: Duration) -> Self {
        self.pace.probe_every = every.max(Duration::from_millis(100));
        self
    }

    /// How many records before the place where it stood are looked at again after a start; 2,000
    /// unless set. A server that lost its last acknowledged seconds is healed by that.
    pub fn overlap(mut self, records: u64) -> Self {
        self.overlap = records;
        self
    }

    /// Which other stores' events are kept on this machine, to be read without the server by
    /// [`Replication::peers`](crate::Replication::peers); none unless set. Each origin costs a store of
    /// its own: 8 MiB of memory or more, and its threads.
    pub fn pull(mut self, pull: Pull) -> Self {
        self.pull = pull;
        self
    }

    /// How long it waits for more before it sends what was appended; 2 ms unless set.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.pace.linger = linger;
        self
    }
}
