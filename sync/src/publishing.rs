//! The users' handle on publishing.

use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Weak};

use tidelog_backends::SledStore;
use tidelog_backends::machine;
use tidelog_core::{Error, EventLog, Halt, IdSource, StreamId, Ticks};

use crate::inner::Inner;
use crate::kafka::client::KafkaBroker;
use crate::kafka::ensure::ensure;
use crate::kafka::republish::Over;
use crate::kafka::sink::{Ask, KafkaOptions, KafkaSink};
use crate::kafka::status::StatusCell;
use crate::kafka::{
    KafkaConfig, PublishingParked, PublishingState, PublishingStatus, TopicSpec, TopicsReport,
};
use crate::listeners::ThreadSleeper;
use crate::replicate::Other;
use crate::replicate::embedded::Embedded;
use crate::replicate::mailbox::{Mailbox, Message};
use crate::replicate::outbox::Outbox;
use crate::replicate::published::Published;
use crate::replicate::replicator::{Env, Pace, Replicator};
use crate::replicate::thread::{MachineTicks, OwnThread, Running};
use crate::republishing::{BlockingRepublishing, Republishing};

/// Shows and steers the publishing of an open store; made by
/// [`Tidelog::publishing`](crate::Tidelog::publishing). A cheap handle, which does not keep the store
/// open.
///
/// All calls are async and need no particular runtime; [`blocking`](Self::blocking) has them for
/// threads without one. Dropping a call's future gives up its answer, not what it asked for.
#[derive(Clone)]
pub struct Publishing {
    handle: Option<Arc<Handle>>,
    /// For what is asked of the store; it is not kept open by this.
    inner: Weak<Inner>,
}

/// What is known of a publisher at work.
pub(crate) struct Handle {
    mailbox: Arc<Mailbox<Ask>>,
    status: Arc<StatusCell>,
    ticks: Arc<dyn Ticks>,
    config: KafkaConfig,
    /// There is no replica.
    is_alone: bool,
}

/// A publisher at work, and what is known of it.
pub(crate) type AtWork = (Arc<Handle>, Running<Ask>);

/// What stands before the publisher, where there is a replica.
pub(crate) struct Behind {
    /// The log as far as the replica has accepted it.
    pub outbox: Arc<dyn Outbox>,
    /// Where the replica is told of what is published.
    pub published: Arc<Published>,
}

impl Publishing {
    pub(crate) fn new(handle: Option<Arc<Handle>>, inner: &Arc<Inner>) -> Self {
        Self {
            handle,
            inner: Arc::downgrade(inner),
        }
    }

    /// Starts what publishes the log of `store`; `None` when `config` names no cluster.
    pub(crate) fn start(
        store: &SledStore,
        config: Option<KafkaConfig>,
        behind: Option<Behind>,
        ids: &Arc<dyn IdSource>,
    ) -> Result<Option<AtWork>, Error> {
        let Some(config) = config else {
            return Ok(None);
        };
        let env = Env {
            ticks: Arc::new(MachineTicks::new()),
            sleeper: Arc::new(ThreadSleeper::new()),
            ids: Arc::clone(ids),
        };
        let of_machine = || machine::host_name().into();
        let is_alone = behind.is_none();
        let (outbox, published) = match behind {
            Some(behind) => (behind.outbox, behind.published),
            None => {
                let outbox: Arc<dyn Outbox> = Arc::new(Embedded::new(store)?);
                (outbox, Arc::default())
            }
        };
        let options = KafkaOptions {
            server: config.connection.server(),
            name: config.name.clone().unwrap_or_else(of_machine),
            env: env.clone(),
            overlap: config.options.overlap,
            start: config.start,
            is_alone,
            published,
        };
        let pace = Pace {
            window_bytes: config.options.window_bytes,
            window_records: config.options.window_records,
            linger: config.options.linger,
            probe_every: config.options.probe_every,
            ..Pace::default()
        };
        let identity = store.identity();
        let broker = KafkaBroker::new(config.clone());
        let status = Arc::new(StatusCell::new(identity.epoch));
        let mailbox = Arc::<Mailbox<Ask>>::default();
        let replicator = Replicator {
            sink: KafkaSink::new(broker, &config, identity.origin, options),
            outbox,
            pace,
            mailbox: Arc::clone(&mailbox),
            status: Arc::clone(&status),
            env: env.clone(),
        };
        let handle = Handle {
            mailbox,
            status,
            ticks: env.ticks,
            config,
            is_alone,
        };
        let running = Running::start(replicator, OwnThread::start("tidelog-publisher")?);
        Ok(Some((Arc::new(handle), running)))
    }

    fn handle(&self) -> Result<&Handle, Error> {
        self.handle.as_deref().ok_or_else(|| {
            let reason = "publishing is off: open the store with `TidelogBuilder::distributed` and a \
                          `KafkaConfig`";
            Error::invalid("call", "", reason)
        })
    }

    /// How far publishing is and what it is doing.
    pub fn status(&self) -> PublishingStatus {
        let Some(handle) = &self.handle else {
            return PublishingStatus::off();
        };
        match self.inner.upgrade() {
            None => handle.status.status(),
            Some(inner) => {
                let store = inner.store();
                let reaches = (store.last_position(), store.durable_position());
                handle.status.status_at(handle.ticks.now(), reaches)
            }
        }
    }

    /// Why it stands still, if it does.
    pub fn halt(&self) -> Option<Halt> {
        match self.status().state {
            PublishingState::Halted(halt) => Some(halt),
            _ => None,
        }
    }

    /// Every stream that is set aside, by name: parked, or withheld until the replica accepts it. What is
    /// refused alone is parked, however many streams that are; at 10,000 it stands still
    /// ([`Halt::TooManyParked`]).
    pub fn parked(&self) -> Vec<PublishingParked> {
        let handle = self.handle.as_deref();
        handle.map_or_else(Vec::new, |handle| handle.status.parked().to_vec())
    }

    /// Makes the topics of these aggregate types that are not there, and, without a replica, the one in
    /// which stores note how far they are. See [`KafkaConfig::ensure_topics`]. What waits for them goes on
    /// at once.
    ///
    /// # Errors
    /// As there; [`Error::InvalidInput`] when publishing is off.
    pub async fn ensure_topics(
        &self,
        types: &[&str],
        spec: TopicSpec,
    ) -> Result<TopicsReport, Error> {
        let handle = self.handle()?;
        let made = ensure(handle.config.clone(), types, spec, handle.is_alone).await?;
        // It may stand still, or wait, for want of one. Nobody is there to be told when it has ended.
        let is_live = matches!(
            self.status().state,
            PublishingState::CatchingUp | PublishingState::Live
        );
        if !is_live || !self.status().missing_topics.is_empty() {
            handle.mailbox.ask(Message::Retry).await?;
        }
        Ok(made)
    }

    /// Whether the event at `position` of `stream` is published; `None` when publishing is off.
    pub(crate) fn has(&self, stream: &StreamId, position: u64) -> Option<Result<bool, Error>> {
        let handle = self.handle.as_deref()?;
        Some(handle.status.has(stream, position))
    }

    /// Returns once everything up to `position` is published.
    pub(crate) async fn wait_for(&self, position: u64) -> Result<(), Error> {
        self.handle()?.status.wait_for(position).await
    }

    /// Tries again at once whatever publishing waits or stands still for: after a topic was made, or a
    /// password corrected.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when publishing is off, [`Error::Closed`].
    pub async fn retry(&self) -> Result<(), Error> {
        self.handle()?.mailbox.ask(Message::Retry).await
    }

    /// Publishes what is held of `stream`, in order, its first event alone: after a limit was raised, or
    /// what the cluster refused was cured. Where nothing has changed it is parked again.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the stream is not parked or publishing is off,
    /// [`Error::Unreachable`] while there is no connection, [`Error::Closed`]. While it connects, this
    /// waits for what comes of it.
    pub async fn retry_stream(&self, stream: &StreamId) -> Result<(), Error> {
        self.ask(Ask::Retry(stream.clone())).await
    }

    /// The same for every stream that is parked.
    ///
    /// # Errors
    /// As [`retry_stream`](Self::retry_stream).
    pub async fn retry_all(&self) -> Result<(), Error> {
        self.ask(Ask::RetryAll).await
    }

    /// Publishes these positions once more: after a topic was deleted and made again, or a cluster lost
    /// what it had. Every message is the one it was, with the same id and the same bytes; consumers drop
    /// what they have. What is new waits until it is done, so that no key shows a gap.
    ///
    /// Use `..` for a topic that was made again: a range that begins above 1 leaves out what is before
    /// it. Returns once it has begun, and goes on after a restart; [`PublishingStatus::state`] tells how
    /// far it is, [`Republishing::wait`] when it is done. A second call makes the range wider.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when nothing of the range was published yet or publishing is off,
    /// [`Error::Closed`].
    pub async fn republish(&self, range: impl RangeBounds<u64>) -> Result<Republishing, Error> {
        let from = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 1,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => *last,
            Bound::Excluded(after) => after.saturating_sub(1),
            Bound::Unbounded => u64::MAX,
        };
        self.ask(Ask::Republish { from, to }).await?;
        let (handle, over) = (self.handle()?, Arc::<Over>::default());
        // It is in the mailbox, and nobody waits for an answer to that.
        let (reply, _) = oneshot::channel();
        let told = Message::Sink(Ask::Await(Arc::clone(&over)), reply);
        handle.mailbox.send(told);
        Ok(Republishing::new(Arc::clone(&handle.status), over))
    }

    /// Goes on in an epoch of its own, after one of the halts that ask for it; only of a store that is
    /// published to Kafka alone. With a replica it is [`Replication::fork`] that decides.
    ///
    /// Say [`Other::Gone`] where no other copy of this store goes on (after a backup was put back), and
    /// [`Other::Lives`] where one does (a clone). Kafka keeps one record of a store: the other copy stands
    /// still then, until it is stopped or forked in turn.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when publishing is off or there is a replica, [`Error::Unreachable`], also
    /// where the other copy is at work and came in between: stop it, or call again;
    /// [`Error::ServerRefused`], [`Error::Halted`], [`Error::Closed`].
    ///
    /// [`Replication::fork`]: https://docs.rs/tidelog/latest/tidelog/struct.Replication.html#method.fork
    pub async fn fork(&self, other: Other) -> Result<(), Error> {
        self.ask(Ask::Fork(other)).await
    }

    /// Forgets what is kept about publishing on this machine: the cluster, how far it was, and what was
    /// parked. Everything is published again then, with the same ids, on this cluster or another. What
    /// says that it is this store and no copy of it stays, with Kafka alone; only where the state could
    /// not be read is that lost, too: the cluster takes it for a copy then, which [`fork`](Self::fork)
    /// lets go on. For a state that is damaged, or another cluster.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when publishing is off, [`Error::Io`], [`Error::Closed`].
    pub async fn forget_state(&self) -> Result<(), Error> {
        self.handle()?.mailbox.ask(Message::ForgetState).await
    }

    /// The same calls for threads without a runtime.
    pub fn blocking(&self) -> BlockingPublishing {
        BlockingPublishing(self.clone())
    }

    async fn ask(&self, ask: Ask) -> Result<(), Error> {
        let mailbox = &self.handle()?.mailbox;
        mailbox.ask(|reply| Message::Sink(ask, reply)).await
    }
}

impl std::fmt::Debug for Publishing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publishing")
            .field("state", &self.status().state)
            .finish_non_exhaustive()
    }
}

/// A [`Publishing`] whose calls block the calling thread. Do not use it inside async code.
#[derive(Clone, Debug)]
pub struct BlockingPublishing(pub(crate) Publishing);

impl BlockingPublishing {
    /// See [`Publishing::status`].
    pub fn status(&self) -> PublishingStatus {
        self.0.status()
    }

    /// See [`Publishing::halt`].
    pub fn halt(&self) -> Option<Halt> {
        self.0.halt()
    }

    /// See [`Publishing::parked`].
    pub fn parked(&self) -> Vec<PublishingParked> {
        self.0.parked()
    }

    /// See [`Publishing::ensure_topics`].
    ///
    /// # Errors
    /// As there.
    pub fn ensure_topics(&self, types: &[&str], spec: TopicSpec) -> Result<TopicsReport, Error> {
        pollster::block_on(self.0.ensure_topics(types, spec))
    }

    /// See [`Publishing::retry`].
    ///
    /// # Errors
    /// As there.
    pub fn retry(&self) -> Result<(), Error> {
        pollster::block_on(self.0.retry())
    }

    /// See [`Publishing::retry_stream`].
    ///
    /// # Errors
    /// As there.
    pub fn retry_stream(&self, stream: &StreamId) -> Result<(), Error> {
        pollster::block_on(self.0.retry_stream(stream))
    }

    /// See [`Publishing::retry_all`].
    ///
    /// # Errors
    /// As there.
    pub fn retry_all(&self) -> Result<(), Error> {
        pollster::block_on(self.0.retry_all())
    }

    /// See [`Publishing::republish`].
    ///
    /// # Errors
    /// As there.
    pub fn republish(&self, range: impl RangeBounds<u64>) -> Result<BlockingRepublishing, Error> {
        pollster::block_on(self.0.republish(range)).map(BlockingRepublishing)
    }

    /// See [`Publishing::fork`].
    ///
    /// # Errors
    /// As there.
    pub fn fork(&self, other: Other) -> Result<(), Error> {
        pollster::block_on(self.0.fork(other))
    }

    /// See [`Publishing::forget_state`].
    ///
    /// # Errors
    /// As there.
    pub fn forget_state(&self) -> Result<(), Error> {
        pollster::block_on(self.0.forget_state())
    }
}
