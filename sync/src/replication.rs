//! The users' handle on replication.

use std::sync::{Arc, Weak};

use tidelog_backends::SledStore;
use tidelog_backends::machine;
use tidelog_backends::wire::{Cql, Reply, Request, Wire, WireError};
use tidelog_core::{BoxFuture, Error, EventLog, Halt, IdSource, StreamId, Ticks};

use crate::distributed::DistributedConfig;
use crate::inner::Inner;
use crate::listeners::ThreadSleeper;
use crate::replicate::Other;
use crate::replicate::embedded::Embedded;
use crate::replicate::mailbox::{Mailbox, Message};
use crate::replicate::replicator::{Env, Replicator};
use crate::replicate::thread::{MachineTicks, Running};
use crate::scylla::pull::{Pull, Puller, Pulling};
use crate::scylla::sink::{ScyllaOptions, ScyllaSink, SinkMessage};
use crate::scylla::status::StatusCell;
use crate::scylla::timed::Timed;
use crate::scylla::worker::RuntimeSleeper;
use crate::scylla::{Peer, ReplicationParked, ReplicationState, ReplicationStatus};
use uuid::Uuid;

/// Shows and steers the replication of an open store; made by
/// [`Tidelog::replication`](crate::Tidelog::replication). A cheap handle, which does not keep the
/// store open.
///
/// All calls are async and need no particular runtime; [`blocking`](Self::blocking) has them for
/// threads without one. Dropping a call's future gives up its answer, not what it asked for.
#[derive(Clone)]
pub struct Replication {
    handle: Option<Arc<Handle>>,
    /// For what is asked of the store; it is not kept open by this.
    inner: Weak<Inner>,
}

/// What is known of a replicator at work.
pub(crate) struct Handle {
    mailbox: Arc<Mailbox<SinkMessage>>,
    status: Arc<StatusCell>,
    wire: Arc<dyn Wire>,
    ticks: Arc<dyn Ticks>,
    /// What is published of the log.
    #[cfg(feature = "kafka")]
    published: Arc<crate::replicate::published::Published>,
    /// Of a store that keeps others' events.
    pulling: Option<Pulling>,
}

/// A replicator at work, and what is known of it.
pub(crate) type Replicating = (Arc<Handle>, Running<SinkMessage>);

impl Handle {
    /// What stands before whatever is published.
    #[cfg(feature = "kafka")]
    pub(crate) fn behind(&self, store: &SledStore) -> Result<crate::publishing::Behind, Error> {
        use crate::replicate::gate::Gated;
        let of = Arc::new(Embedded::new(store)?);
        Ok(crate::publishing::Behind {
            outbox: Arc::new(Gated::new(of, Arc::clone(&self.status))),
            published: Arc::clone(&self.published),
        })
    }

    /// Ends what fetches others' events, and closes what is kept of them.
    pub(crate) fn stop_pulling(&self) {
        if let Some(pulling) = &self.pulling {
            pulling.stop();
        }
    }
}

/// A wire that is asked once the first try to connect has ended: the session of replication is what
/// it is asked by.
struct Begun {
    status: Arc<StatusCell>,
    wire: Arc<dyn Wire>,
}

impl Wire for Begun {
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Reply, WireError>> {
        Box::pin(async {
            self.status.has_begun().await;
            self.wire.ask(request).await
        })
    }

    fn renew(&self) -> BoxFuture<'_, Result<(), WireError>> {
        self.wire.renew()
    }
}

impl Replication {
    pub(crate) fn new(handle: Option<Arc<Handle>>, inner: &Arc<Inner>) -> Self {
        Self {
            handle,
            inner: Arc::downgrade(inner),
        }
    }

    /// Starts what sends the log of `store` to where `config` says; `None` when that is nowhere.
    pub(crate) fn start(
        store: &SledStore,
        config: DistributedConfig,
        ids: &Arc<dyn IdSource>,
    ) -> Result<Option<Replicating>, Error> {
        let Some(scylla) = config.scylla else {
            return Ok(None);
        };
        let cql = Cql::new(scylla)?;
        let options = config.options;
        let env = Env {
            ticks: Arc::new(MachineTicks::new()),
            sleeper: Arc::new(RuntimeSleeper),
            ids: Arc::clone(ids),
        };
        let name = options.name;
        let other = config.wire.map(|other| other.0);
        let sink = ScyllaSink::new(
            Arc::new(Timed::new(
                other.unwrap_or_else(|| cql.near()),
                Arc::clone(&env.ticks),
            )),
            ScyllaOptions {
                server: cql.server(),
                name: name.unwrap_or_else(|| machine::host_name().into()),
                lanes: options.lanes,
                parked: crate::scylla::park::MAX_PARKED,
                overlap: options.overlap,
                ids: Arc::clone(ids),
                ticks: Arc::clone(&env.ticks),
            },
        );
        #[cfg(feature = "kafka")]
        let published = Arc::<crate::replicate::published::Published>::default();
        #[cfg(feature = "kafka")]
        let sink = sink.telling(Arc::clone(&published));
        let ticks = Arc::clone(&env.ticks);
        let status = Arc::new(StatusCell::new(store.identity().epoch));
        let mailbox = Arc::<Mailbox<SinkMessage>>::default();
        let replicator = Replicator {
            sink,
            outbox: Arc::new(Embedded::new(store)?),
            env,
            pace: options.pace,
            mailbox: Arc::clone(&mailbox),
            status: Arc::clone(&status),
        };
        let wire: Arc<dyn Wire> = Arc::new(cql.clone());
        let pulling = match options.pull {
            Pull::Off => None,
            pull => {
                let (dir, own) = (store.info()?.path, store.identity().origin);
                let sleeper = Arc::new(ThreadSleeper::new());
                let puller = Puller::open(&dir, own, pull, Arc::clone(&wire), sleeper)?;
                let peers = puller.peers().clone();
                store.set_foreign(Arc::new(move |stream| {
                    let peers = peers.clone();
                    Box::pin(async move { peers.writer_of(&stream).await })
                }));
                Some(Pulling::start(puller)?)
            }
        };
        let handle = Handle {
            mailbox,
            status: Arc::clone(&status),
            wire: Arc::new(Begun { status, wire }),
            ticks,
            #[cfg(feature = "kafka")]
            published,
            pulling,
        };
        let running = Running::start(replicator, cql);
        Ok(Some((Arc::new(handle), running)))
    }

    /// What the server is asked by.
    pub(crate) fn wire(&self) -> Result<Arc<dyn Wire>, Error> {
        Ok(Arc::clone(&self.handle()?.wire))
    }

    /// Returns once the first try to connect has ended, however it did: what is parked is known then.
    pub(crate) async fn begun(&self) -> Result<(), Error> {
        self.handle()?.status.has_begun().await;
        Ok(())
    }

    /// What stands behind the store; kept open no longer than a call that is under way.
    pub(crate) fn inner(&self) -> Result<Arc<Inner>, Error> {
        self.inner.upgrade().ok_or(Error::Closed)
    }

    fn handle(&self) -> Result<&Handle, Error> {
        self.handle.as_deref().ok_or_else(|| {
            let reason = "replication is off: open the store with `TidelogBuilder::distributed`";
            Error::invalid("call", "", reason)
        })
    }

    /// How far replication is and what it is doing.
    pub fn status(&self) -> ReplicationStatus {
        let Some(handle) = &self.handle else {
            return ReplicationStatus::off();
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

    /// Other stores' events that are kept here, as [`ReplicationOptions::pull`] asks for; by origin.
    ///
    /// [`ReplicationOptions::pull`]: crate::ReplicationOptions::pull
    pub fn peers(&self) -> Vec<Peer> {
        let pulling = self.handle.as_deref().and_then(|h| h.pulling.as_ref());
        pulling.map_or_else(Vec::new, |pulling| pulling.peers().all())
    }

    /// What is kept of the events of `origin`; of an origin with several epochs, one that is not given
    /// up.
    pub fn peer(&self, origin: Uuid) -> Option<Peer> {
        let mut of_it = self.peers();
        of_it.retain(|peer| peer.origin() == origin);
        of_it.sort_by_key(Peer::is_retired);
        of_it.into_iter().next()
    }

    /// Why it stands still, if it does.
    pub fn halt(&self) -> Option<Halt> {
        match self.status().state {
            ReplicationState::Halted(halt) => Some(halt),
            _ => None,
        }
    }

    /// Every stream that is set aside, by name.
    pub fn parked(&self) -> Vec<ReplicationParked> {
        let handle = self.handle.as_deref();
        handle.map_or_else(Vec::new, |handle| handle.status.parked().to_vec())
    }

    /// Whether the event at `position` of `stream` is at the server; `None` when replication is off.
    pub(crate) fn has(&self, stream: &StreamId, position: u64) -> Option<Result<bool, Error>> {
        let handle = self.handle.as_deref()?;
        Some(handle.status.has(stream, position))
    }

    /// Returns once it stands still, and not everything up to `position` is settled.
    #[cfg(feature = "kafka")]
    pub(crate) async fn halted_below(&self, position: u64) -> Halt {
        match &self.handle {
            Some(handle) => handle.status.halted_below(position).await,
            None => std::future::pending().await,
        }
    }

    /// Returns once everything up to `position` is at the server.
    pub(crate) async fn wait_for(&self, position: u64) -> Result<(), Error> {
        self.handle()?.status.wait_for(position).await
    }

    /// Tries again at once whatever replication waits or stands still for: after the server was set
    /// up, or a password corrected. While it connects, that goes on, and is tried once more at once
    /// should it fail.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when replication is off, [`Error::Closed`].
    pub async fn retry(&self) -> Result<(), Error> {
        self.handle()?.mailbox.ask(Message::Retry).await
    }

    /// Tries what is held of `stream` as it is: after a limit was raised, a sibling resolved, or what
    /// the server refused was cured. Where nothing has changed it is parked again.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the stream is not parked or replication is off,
    /// [`Error::Unreachable`] while there is no connection, [`Error::Closed`]. While it connects, this
    /// waits for what comes of it.
    pub async fn retry_stream(&self, stream: &StreamId) -> Result<(), Error> {
        self.ask(SinkMessage::Retry(stream.clone())).await
    }

    /// Goes on in an epoch of its own, after one of the halts that ask for it: what the server has
    /// stays there, and what it does not have of this log is sent under the new epoch.
    ///
    /// Say [`Other::Gone`] where no other copy of this store goes on (after a backup was put back), and
    /// [`Other::Lives`] where one does (a clone).
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when replication is off, [`Error::Unreachable`], [`Error::Closed`].
    pub async fn fork(&self, other: Other) -> Result<(), Error> {
        self.ask(SinkMessage::Fork(other)).await
    }

    /// Sends everything again: what the server has is looked at, what it has lost is written. For rows
    /// that were lost by themselves, which nothing else would meet.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when replication is off, [`Error::Closed`].
    pub async fn resync(&self) -> Result<(), Error> {
        self.ask(SinkMessage::Resync).await
    }

    /// Forgets what is kept about replication on this machine: its session, how far it was, and what
    /// was parked. Only for a state that is damaged: the server then takes this store for a copy of
    /// itself, and [`fork`](Self::fork) makes it known again.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when replication is off, [`Error::Io`], [`Error::Closed`].
    pub async fn forget_state(&self) -> Result<(), Error> {
        self.handle()?.mailbox.ask(Message::ForgetState).await
    }

    /// The same calls for threads without a runtime.
    pub fn blocking(&self) -> BlockingReplication {
        BlockingReplication(self.clone())
    }

    async fn ask(&self, message: SinkMessage) -> Result<(), Error> {
        let mailbox = &self.handle()?.mailbox;
        mailbox.ask(|reply| Message::Sink(message, reply)).await
    }
}

impl std::fmt::Debug for Replication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replication")
            .field("state", &self.status().state)
            .finish_non_exhaustive()
    }
}

/// A [`Replication`] whose calls block the calling thread. Do not use it inside async code.
#[derive(Clone, Debug)]
pub struct BlockingReplication(pub(crate) Replication);

impl BlockingReplication {
    /// See [`Replication::status`].
    pub fn status(&self) -> ReplicationStatus {
        self.0.status()
    }

    /// See [`Replication::halt`].
    pub fn halt(&self) -> Option<Halt> {
        self.0.halt()
    }

    /// See [`Replication::parked`].
    pub fn parked(&self) -> Vec<ReplicationParked> {
        self.0.parked()
    }

    /// See [`Replication::retry`].
    ///
    /// # Errors
    /// As there.
    pub fn retry(&self) -> Result<(), Error> {
        pollster::block_on(self.0.retry())
    }

    /// See [`Replication::retry_stream`].
    ///
    /// # Errors
    /// As there.
    pub fn retry_stream(&self, stream: &StreamId) -> Result<(), Error> {
        pollster::block_on(self.0.retry_stream(stream))
    }

    /// See [`Replication::fork`].
    ///
    /// # Errors
    /// As there.
    pub fn fork(&self, other: Other) -> Result<(), Error> {
        pollster::block_on(self.0.fork(other))
    }

    /// See [`Replication::resync`].
    ///
    /// # Errors
    /// As there.
    pub fn resync(&self) -> Result<(), Error> {
        pollster::block_on(self.0.resync())
    }

    /// See [`Replication::forget_state`].
    ///
    /// # Errors
    /// As there.
    pub fn forget_state(&self) -> Result<(), Error> {
        pollster::block_on(self.0.forget_state())
    }
}
