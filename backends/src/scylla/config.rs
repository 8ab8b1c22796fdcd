//! How the server is reached, and what is made there.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use scylla::client::session_builder::SessionBuilder;
use scylla::policies::retry::RetryPolicy as DriverRetryPolicy;
use scylla::policies::speculative_execution::SpeculativeExecutionPolicy;
use scylla::statement::Consistency as DriverConsistency;
use tidelog_core::{Clock, Error, IdSource, Limits, Secret, SystemClock, SystemIds};
use tokio::runtime::Handle;

use super::tls::Tls;

/// How a keyspace of ScyllaDB or Cassandra is reached, and how it is made.
///
/// ```
/// use tidelog_backends::{ScyllaConfig, Secret};
/// let config = ScyllaConfig::new(["db1:9042", "db2:9042"])
///     .keyspace("shop")
///     .user("till", Secret::new("correct horse"));
/// assert!(!format!("{config:?}").contains("horse"));
/// ```
///
/// All durations are measured by the machine's monotonic clock. Nothing is checked before the
/// connection is made: what cannot be is answered then, as
/// [`Error::InvalidInput`](tidelog_core::Error::InvalidInput).
#[derive(Clone)]
pub struct ScyllaConfig {
    pub(crate) contact_points: Vec<String>,
    pub(crate) keyspace: String,
    pub(crate) replication: Option<KeyspaceReplication>,
    pub(crate) migrate_at_connect: bool,
    pub(crate) bucket_events: Option<u64>,
    pub(crate) chunk_records: Option<u64>,
    pub(crate) arbitration_dc: Option<String>,
    pub(crate) datacenter: Option<String>,
    pub(crate) consistency: Consistency,
    pub(crate) user: Option<(String, Secret)>,
    pub(crate) tls: Option<Tls>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) give_up: Duration,
    pub(crate) retry_policy: Option<Arc<dyn DriverRetryPolicy>>,
    pub(crate) speculative: Option<Arc<dyn SpeculativeExecutionPolicy>>,
    pub(crate) session: Option<Arc<SessionSettings>>,
    pub(crate) limits: Option<Limits>,
    pub(crate) runtime: Option<Handle>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) cache_bytes: u64,
    pub(crate) namespace: Option<Arc<str>>,
    pub(crate) lock_patience: Duration,
}

type SessionSettings = dyn Fn(SessionBuilder) -> SessionBuilder + Send + Sync;

/// How many copies of a keyspace there are, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyspaceReplication {
    /// So many, wherever: for a single data centre, and for tests.
    Simple(u32),
    /// So many in each of these data centres.
    Network(Vec<(String, u32)>),
}

/// How many replicas acknowledge what is committed, and are asked by ordinary reads. Conditional
/// writes are decided by a majority of all data centres whatever it is (see
/// [`arbitration_dc`](ScyllaConfig::arbitration_dc)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Consistency {
    /// A majority in the data centre of the client.
    #[default]
    LocalQuorum,
    /// A majority of all.
    Quorum,
    /// Written by a majority in each data centre, read from one in the client's.
    EachQuorum,
}

impl Consistency {
    pub(crate) fn of_writes(self) -> DriverConsistency {
        match self {
            Self::LocalQuorum => DriverConsistency::LocalQuorum,
            Self::Quorum => DriverConsistency::Quorum,
            Self::EachQuorum => DriverConsistency::EachQuorum,
        }
    }

    /// Servers do not read at `EACH_QUORUM`; what was written by it is in every data centre.
    pub(crate) fn of_reads(self) -> DriverConsistency {
        match self {
            Self::LocalQuorum | Self::EachQuorum => DriverConsistency::LocalQuorum,
            Self::Quorum => DriverConsistency::Quorum,
        }
    }
}

impl ScyllaConfig {
    /// Sequences in a bucket unless it is chosen otherwise, and positions in a chunk.
    pub(crate) const DEFAULT_BUCKET: u64 = 1_000;
    const LEAST_BUCKET: u64 = 10;
    const MOST_BUCKET: u64 = 100_000;

    /// Reaches the cluster by these nodes, each `host` or `host:port` (9042 if it is left out). One
    /// that answers is enough: the others are learnt from it.
    pub fn new(contact_points: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            contact_points: contact_points.into_iter().map(Into::into).collect(),
            keyspace: "tidelog".to_owned(),
            replication: None,
            migrate_at_connect: false,
            bucket_events: None,
            chunk_records: None,
            arbitration_dc: None,
            datacenter: None,
            consistency: Consistency::default(),
            user: None,
            tls: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(12),
            give_up: Duration::from_secs(60),
            retry_policy: None,
            speculative: None,
            session: None,
            limits: None,
            runtime: None,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            cache_bytes: 16 << 20,
            namespace: None,
            lock_patience: Duration::from_secs(60),
        }
    }

    /// The keyspace: 1 to 48 of `a-z`, `0-9` and `_`; `tidelog` by default.
    pub fn keyspace(mut self, keyspace: impl Into<String>) -> Self {
        self.keyspace = keyspace.into();
        self
    }

    /// Lets [`ScyllaStore::migrate`](crate::ScyllaStore::migrate) make the keyspace if it is not
    /// there, with these copies. Without it the keyspace must be there.
    pub fn replication(mut self, replication: KeyspaceReplication) -> Self {
        self.replication = Some(replication);
        self
    }

    /// Makes or updates the tables whenever it connects. Without it a keyspace whose tables are not
    /// those of this version is refused with [`Error::Schema`].
    pub fn migrate_at_connect(mut self) -> Self {
        self.migrate_at_connect = true;
        self
    }

    /// How many sequences of a stream share a partition, 10 to 100,000; 1,000 by default. It is
    /// fixed for ever when the keyspace's tables are made; another one later is refused.
    pub fn bucket_events(mut self, events: u64) -> Self {
        self.bucket_events = Some(events);
        self
    }

    /// How many positions of a replicated log share a partition; like
    /// [`bucket_events`](Self::bucket_events).
    pub fn chunk_records(mut self, records: u64) -> Self {
        self.chunk_records = Some(records);
        self
    }

    /// Decides conditional writes in this data centre alone (`LOCAL_SERIAL`); all that write must be
    /// clients of it, by [`datacenter`](Self::datacenter). Fixed for ever when the keyspace's tables
    /// are made. Say it in every client, too: then it counts even if the server loses the row in which
    /// the keyspace says it.
    pub fn arbitration_dc(mut self, datacenter: impl Into<String>) -> Self {
        self.arbitration_dc = Some(datacenter.into());
        self
    }

    /// The data centre whose nodes are asked, and no others.
    pub fn datacenter(mut self, datacenter: impl Into<String>) -> Self {
        self.datacenter = Some(datacenter.into());
        self
    }

    /// How many replicas acknowledge; [`Consistency::LocalQuorum`] by default.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Logs in with a name and a password.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<Secret>) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// Speaks TLS to every node. A node's certificate must name its **IP address**: names are not
    /// looked at by the driver.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How long one connection may take to be made; 5 seconds by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one request is waited for; 12 seconds by default. Must be above the server's own
    /// timeouts (5 seconds and less as servers come), so that its answer, if there is one, comes.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long an append whose outcome is not known is looked after before
    /// [`Error::Unclear`] is answered; 60 seconds by default.
    pub fn give_up(mut self, after: Duration) -> Self {
        self.give_up = after;
        self
    }

    /// The driver's policy of trying idempotent requests again. Conditional writes, and reads that
    /// see what those have decided, are never tried again by the driver.
    pub fn retry_policy(mut self, policy: Arc<dyn DriverRetryPolicy>) -> Self {
        self.retry_policy = Some(policy);
        self
    }

    /// The driver's policy of asking a second node before the first one answers, for idempotent
    /// requests alone; none by default.
    pub fn speculative(mut self, policy: Arc<dyn SpeculativeExecutionPolicy>) -> Self {
        self.speculative = Some(policy);
        self
    }

    /// Any other setting of the driver (pool sizes, compression, address translation). What the
    /// guarantees rest on is set after it: consistencies, retries, user, TLS and timeouts.
    pub fn session(
        mut self,
        settings: impl Fn(SessionBuilder) -> SessionBuilder + Send + Sync + 'static,
    ) -> Self {
        self.session = Some(Arc::new(settings));
        self
    }

    /// What the store takes at most. By default 1 MiB a payload, 64 KiB of metadata, as many events
    /// in a batch as a bucket has sequences, 4 MiB a batch. A batch may be raised to 8 MiB, which
    /// servers take as they come.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Works on this runtime of tokio instead of a thread of its own. It must outlive the store,
    /// and have I/O and time. Calls of tasks that run there are not handed over to another thread and
    /// back, which one client alone notices; the blocking face must not be used on its threads, or the
    /// call may wait for itself.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Where recorded times come from; the machine's clock by default.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where new ids come from; version 7 UUIDs by default.
    pub fn ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.ids = ids;
        self
    }

    /// How much memory the store's knowledge of streams (heads and newest ids) may take, in bytes;
    /// 16 MiB by default.
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// Puts `namespace` before every aggregate type in the tables of streams and snapshots, so that
    /// many tests share one keyspace.
    #[doc(hidden)]
    pub fn namespace(mut self, namespace: impl Into<Arc<str>>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// How long the lock of a migration must stand unchanged to count as left behind.
    #[doc(hidden)]
    pub fn lock_patience(mut self, patience: Duration) -> Self {
        self.lock_patience = patience;
        self
    }

    /// What it is called in errors and spans.
    pub(crate) fn server(&self) -> Box<str> {
        format!(
            "keyspace {} at {}",
            self.keyspace,
            self.contact_points.join(", ")
        )
        .into()
    }

    /// `text` without secrets.
    pub(crate) fn scrub(&self, text: &str) -> Box<str> {
        match &self.user {
            Some((_, password)) => password.scrub(text).into(),
            None => text.into(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.contact_points.is_empty() {
            let reason = "name at least one node, host:port";
            return Err(Error::invalid("contact points", "", reason));
        }
        let plain = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'_');
        if !(1..=48).contains(&self.keyspace.len()) || !self.keyspace.bytes().all(plain) {
            let reason = "it must be 1 to 48 of a-z, 0-9 and _";
            return Err(Error::invalid("keyspace", &self.keyspace, reason));
        }
        for (what, size) in [
            ("bucket_events", self.bucket_events),
            ("chunk_records", self.chunk_records),
        ] {
            if let Some(size) = size
                && !(Self::LEAST_BUCKET..=Self::MOST_BUCKET).contains(&size)
            {
                return Err(Error::invalid(what, size, "it must be 10 to 100,000"));
            }
        }
        for (what, timeout) in [
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
            ("give_up", self.give_up),
        ] {
            if timeout.is_zero() {
                return Err(Error::invalid(what, "0", "it must be longer than nothing"));
            }
        }
        for datacenter in [&self.datacenter, &self.arbitration_dc]
            .into_iter()
            .flatten()
        {
            if datacenter.is_empty() {
                let reason = "leave it out, or name one";
                return Err(Error::invalid("data centre", "", reason));
            }
        }
        if let Some(decides) = &self.arbitration_dc
            && self.datacenter.as_ref() != Some(decides)
        {
            let mine = self.datacenter.as_deref().unwrap_or_default();
            let reason = format!(
                "conditional writes are to be decided in {decides}: only clients with that as their datacenter may write"
            );
            return Err(Error::invalid("datacenter", mine, reason));
        }
        if let Some(replication) = &self.replication {
            replication.check()?;
        }
        Ok(())
    }
}

impl KeyspaceReplication {
    fn check(&self) -> Result<(), Error> {
        let copies: Vec<u32> = match self {
            Self::Simple(copies) => vec![*copies],
            Self::Network(datacenters) => datacenters.iter().map(|(_, copies)| *copies).collect(),
        };
        if copies.is_empty() || copies.contains(&0) {
            let reason = "it needs a data centre, and a copy in each";
            return Err(Error::invalid("replication", format!("{self:?}"), reason));
        }
        Ok(())
    }
}

impl fmt::Debug for ScyllaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScyllaConfig")
            .field("contact_points", &self.contact_points)
            .field("keyspace", &self.keyspace)
            .field("replication", &self.replication)
            .field("migrate_at_connect", &self.migrate_at_connect)
            .field("bucket_events", &self.bucket_events)
            .field("chunk_records", &self.chunk_records)
            .field("arbitration_dc", &self.arbitration_dc)
            .field("datacenter", &self.datacenter)
            .field("consistency", &self.consistency)
            .field("user", &self.user)
            .field("tls", &self.tls)
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("give_up", &self.give_up)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
