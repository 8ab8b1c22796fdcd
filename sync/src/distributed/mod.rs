//! What makes a store distributed: where its log is sent, and how.
//!
//! | file | subject |
//! |---|---|
//! | `toml`, `env` | the same as text |
//! | `table` | everything that text can say |
//! | `texts` | what was said, read as what it means |
//! | `sections` | configurations of it |
//! | `listener` | what a listener over Kafka is, as text |

mod env;
#[cfg(feature = "kafka")]
mod listener;
mod sections;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod texts;
mod toml;

#[cfg(feature = "scylla")]
use std::fmt;
#[cfg(feature = "scylla")]
use std::sync::Arc;
#[cfg(feature = "scylla")]
use std::time::Duration;

#[cfg(feature = "scylla")]
use tidelog_backends::ScyllaConfig;
use tidelog_backends::SledStoreBuilder;
#[cfg(feature = "scylla")]
use tidelog_backends::wire::Wire;
#[cfg(feature = "kafka")]
use tidelog_core::Error;
use tidelog_core::Limits;

#[cfg(feature = "kafka")]
use crate::kafka::KafkaConfig;
#[cfg(feature = "scylla")]
use crate::replicate::replicator::Pace;
#[cfg(feature = "scylla")]
use crate::scylla::Pull;

/// Servers take a mutation of half a commit log's segment, 16 MiB where nothing else is set, and write a
/// conditional one twice.
#[cfg(feature = "scylla")]
const MAX_PAYLOAD: usize = 7 << 20;
#[cfg(feature = "scylla")]
const MAX_METADATA: usize = 512 << 10;

/// Where a store's log is sent; given to
/// [`TidelogBuilder::distributed`](crate::TidelogBuilder::distributed).
///
/// ```
/// # #[cfg(feature = "scylla")] {
/// use tidelog::{DistributedConfig, ReplicationOptions, ScyllaConfig};
/// let config = DistributedConfig::new()
///     .scylla(ScyllaConfig::new(["db1:9042", "db2:9042"]).keyspace("shop"))
///     .options(ReplicationOptions::new().name("till 3"));
/// # drop(config);
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DistributedConfig {
    #[cfg(feature = "scylla")]
    pub(crate) scylla: Option<ScyllaConfig>,
    #[cfg(feature = "scylla")]
    pub(crate) options: ReplicationOptions,
    #[cfg(feature = "scylla")]
    pub(crate) wire: Option<OtherWire>,
    #[cfg(feature = "kafka")]
    pub(crate) kafka: Option<KafkaConfig>,
    /// What of it was said as text.
    texts: texts::Texts,
}

/// A server's place taken by something else.
#[cfg(feature = "scylla")]
#[derive(Clone)]
pub(crate) struct OtherWire(pub Arc<dyn Wire>);

#[cfg(feature = "scylla")]
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

    /// Every name that [`from_toml`](Self::from_toml) and [`from_env`](Self::from_env) know, what it
    /// means, and what counts without it: as a table of Markdown, which stands in the README.
    pub fn documented() -> String {
        table::documented()
    }

    /// To the keyspace of a ScyllaDB or Cassandra cluster, made by
    /// [`ScyllaStore::migrate`](crate::ScyllaStore::migrate).
    #[cfg(feature = "scylla")]
    pub fn scylla(mut self, config: ScyllaConfig) -> Self {
        self.scylla = Some(config);
        self
    }

    /// To topics of a Kafka cluster; with a replica beside it, what that has accepted.
    #[cfg(feature = "kafka")]
    pub fn kafka(mut self, config: KafkaConfig) -> Self {
        self.kafka = Some(config);
        self
    }

    /// Whether all of it can be; asks nobody.
    #[cfg(feature = "kafka")]
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.kafka.as_ref().map_or(Ok(()), KafkaConfig::check)
    }

    /// The same store, which takes nothing that cannot be sent.
    pub(crate) fn limited(&self, store: SledStoreBuilder, limits: Limits) -> SledStoreBuilder {
        let unlimited = limits;
        #[cfg(feature = "scylla")]
        let limits = self.scylla.as_ref().map_or(limits, |_| Limits {
            payload_bytes: limits.payload_bytes.min(MAX_PAYLOAD),
            metadata_bytes: limits.metadata_bytes.min(MAX_METADATA),
            ..limits
        });
        #[cfg(feature = "kafka")]
        let limits = self
            .kafka
            .as_ref()
            .map_or(limits, |kafka| kafka.limited(limits));
        if limits == unlimited {
            return store;
        }
        store.limits(limits)
    }

    /// To what `wire` reaches instead of a server: for measurements.
    #[doc(hidden)]
    #[cfg(feature = "scylla")]
    pub fn wire(mut self, wire: Arc<dyn Wire>) -> Self {
        self.wire = Some(OtherWire(wire));
        self
    }

    /// How it is sent.
    #[cfg(feature = "scylla")]
    pub fn options(mut self, options: ReplicationOptions) -> Self {
        self.options = options;
        self
    }
}

/// How a log is sent; the defaults are meant to be kept.
#[cfg(feature = "scylla")]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReplicationOptions {
    pub(crate) pace: Pace,
    pub(crate) lanes: usize,
    pub(crate) overlap: u64,
    pub(crate) name: Option<Box<str>>,
    pub(crate) pull: Pull,
}

#[cfg(feature = "scylla")]
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

#[cfg(feature = "scylla")]
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
