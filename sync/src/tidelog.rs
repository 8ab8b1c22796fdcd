//! The one handle over an embedded store.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use tidelog_backends::{BackupReport, Losses, SledStore, StoreInfo, VerifyReport};
use tidelog_core::{
    Aggregate, AggregateRepository, AppendBatch, AppendReceipt, Command, CommandError,
    CommandHandler, CommandResponse, Context, Decide, Error, Event, EventEnvelope, EventLog,
    EventStore, EventStream, ExpectedVersion, Loaded, LogQuery, MultiStreamStore, ProcessManager,
    Projection, RowKey, StreamHead, StreamId, StreamQuery, Subscribe, TypedEventStore,
};

use crate::blocking::BlockingTidelog;
use crate::builder::TidelogBuilder;
use crate::inner::{Inner, Owner};
use crate::kept::{KeptRepository, KeptRow};
use crate::listeners::{ContainerBuilder, EventListenerContainer, ListenerControl};
use crate::projections::{ProjectionStatus, ReadModel};
use crate::repositories::Repositories;

/// An embedded event store with all that is done with it: execute commands, load aggregates,
/// append, read, follow, check, back up.
///
/// A handle: clone it freely, all clones are one store. It is `Send + Sync + 'static` and has no
/// type parameters, so it fits into any application state. When the last clone is dropped the
/// store is closed and its lock is free.
///
/// These calls are async and need no particular runtime: they never do file I/O on the thread that
/// polls them. [`blocking`](Tidelog::blocking) has the same calls for threads without a runtime.
///
/// ```
/// use tidelog::{
///     AppendBatch, ContentType, Error, ExpectedVersion, LogQuery, NewEvent, StreamId, Tidelog,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("events");
/// let log = Tidelog::open(&path)?;
/// let till = StreamId::new("Till", "3")?;
/// let sold = NewEvent::new("Sold", 1, ContentType::Json, r#"{"article":"tea"}"#);
/// log.append(AppendBatch::new(till, ExpectedVersion::NoStream, vec![sold])).await?;
///
/// let mut events = log.read_all(LogQuery::all());
/// while let Some(event) = events.next().await.transpose()? {
///     println!("{} {}", event.stream, event.event_type);
/// }
/// log.close().await
/// # }
/// ```
#[derive(Clone)]
pub struct Tidelog(Arc<Owner>);

impl Tidelog {
    /// Opens the store in directory `path` with default options, making it if need be.
    ///
    /// Blocks for file I/O: inside async code, call it on a blocking thread, or before the work
    /// begins.
    ///
    /// # Errors
    /// As [`TidelogBuilder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder(path).open()
    }

    /// Options for the store in directory `path`.
    pub fn builder(path: impl AsRef<Path>) -> TidelogBuilder {
        TidelogBuilder::new(path.as_ref())
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(Owner::new(inner)))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        self.0.inner()
    }

    /// The same calls for threads without a runtime: each works on the calling thread, commits
    /// included.
    pub fn blocking(&self) -> BlockingTidelog {
        BlockingTidelog::new(self.clone())
    }

    /// The store below, for whatever is generic over stores. Its appends do not wait for inline
    /// projections.
    pub fn store(&self) -> &SledStore {
        self.inner().store()
    }

    fn repositories(&self) -> &Repositories {
        self.inner().repositories()
    }

    /// The repository of the aggregate type `A`; always the same one, with its cache. What is executed
    /// on it does not wait for inline projections.
    pub fn repository<A: Aggregate>(&self) -> AggregateRepository<A, SledStore> {
        AggregateRepository::clone(&self.repositories().of::<A>())
    }

    /// The read model of `P`, which [`TidelogBuilder::projection`] has registered.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when it was not.
    pub fn projection<P: Projection>(&self) -> Result<ReadModel<P>, Error> {
        self.inner().projections().get()
    }

    /// The rows called `name`, which [`TidelogBuilder::kept`] has registered with these types.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when they were not.
    pub fn kept<K: RowKey, V: KeptRow>(&self, name: &str) -> Result<KeptRepository<K, V>, Error> {
        KeptRepository::new(self.inner(), name)
    }

    /// How far each projection is, in the order they were registered in.
    pub fn projections(&self) -> Vec<ProjectionStatus> {
        self.inner().projections().status()
    }

    /// Executes `command` on its aggregate and answers when its events are durable, and inline
    /// projections have taken them in.
    ///
    /// # Errors
    /// As [`AggregateRepository::execute`].
    pub async fn execute<C>(&self, command: C) -> Result<CommandResponse, CommandError<C>>
    where
        C: Command,
        C::Aggregate: Decide<C>,
    {
        let inner = self.inner();
        inner.execute(self.repositories(), command, None).await
    }

    /// Executes `command` with the time, identity and metadata of `context`. With a command id in
    /// it, executing again records nothing again.
    ///
    /// # Errors
    /// As [`AggregateRepository::execute_with`].
    pub async fn execute_with<C>(
        &self,
        command: C,
        context: Context,
    ) -> Result<CommandResponse, CommandError<C>>
    where
        C: Command,
        C::Aggregate: Decide<C>,
    {
        let inner = self.inner();
        inner
            .execute(self.repositories(), command, Some(context))
            .await
    }

    /// The aggregate as it stands now; `None` when it has no events.
    ///
    /// # Errors
    /// As [`AggregateRepository::load`].
    pub async fn load<A: Aggregate>(&self, aggregate_id: &str) -> Result<Option<Loaded<A>>, Error> {
        self.repositories().of::<A>().load(aggregate_id).await
    }

    /// Records `batch` and answers when it is as durable as it asks for.
    ///
    /// # Errors
    /// As [`EventStore::append`].
    pub async fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Error> {
        let receipt = self.store().append(batch).await?;
        self.inner().applied(receipt.last_position).await;
        Ok(receipt)
    }

    /// Records events of several streams, all or none.
    ///
    /// # Errors
    /// As [`MultiStreamStore::append_streams`].
    pub async fn append_streams(
        &self,
        parts: Vec<AppendBatch>,
    ) -> Result<Vec<AppendReceipt>, Error> {
        let receipts = self.store().append_streams(parts).await?;
        let last = receipts.iter().filter_map(|part| part.last_position).max();
        self.inner().applied(last).await;
        Ok(receipts)
    }

    /// Records typed events on `stream`, with the ids, time and metadata of `context`.
    ///
    /// # Errors
    /// As [`TypedEventStore::persist_events`].
    pub async fn persist_events<E: Event>(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: Vec<E>,
        context: &Context,
    ) -> Result<AppendReceipt, Error> {
        let recorded = self
            .store()
            .persist_events(stream, expected, events, context);
        let receipt = recorded.await?;
        self.inner().applied(receipt.last_position).await;
        Ok(receipt)
    }

    /// Reads one stream as bytes. A stream never appended to is empty.
    pub fn read_stream(&self, query: StreamQuery) -> EventStream {
        self.store().read_stream(query)
    }

    /// All events of `stream`, decoded, in memory at once.
    ///
    /// # Errors
    /// As [`TypedEventStore::read_events`].
    pub async fn read_events<E: Event>(
        &self,
        stream: &StreamId,
    ) -> Result<Vec<EventEnvelope<E>>, Error> {
        self.store().read_events(stream).await
    }

    /// The events of `stream` from `sequence` on, decoded, in memory at once.
    ///
    /// # Errors
    /// As [`TypedEventStore::read_events_from`].
    pub async fn read_events_from<E: Event>(
        &self,
        stream: &StreamId,
        sequence: u64,
    ) -> Result<Vec<EventEnvelope<E>>, Error> {
        self.store().read_events_from(stream, sequence).await
    }

    /// The newest event of `stream`; `None` when it has none.
    ///
    /// # Errors
    /// As [`EventStore::head`].
    pub async fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        self.store().head(stream).await
    }

    /// Reads the whole log, oldest first, control records included.
    pub fn read_all(&self, query: LogQuery) -> EventStream {
        self.store().read_all(query)
    }

    /// What is there already, then what comes, without an end and without a gap between.
    pub fn subscribe(&self, what: Subscribe) -> EventStream {
        self.store().subscribe(what)
    }

    /// Position of the newest visible record; 0 when there is none.
    pub fn last_position(&self) -> u64 {
        self.store().last_position()
    }

    /// Listeners over this store, with its clock and ids; see
    /// [`EventListenerContainer`](crate::EventListenerContainer). A container keeps the store open
    /// until it ends: stop it before closing, so that it saves how far it is.
    pub fn listeners(&self) -> ContainerBuilder {
        let settings = self.repositories().settings();
        EventListenerContainer::builder(self.store().clone())
            .clock(Arc::clone(&settings.clock))
            .ids(Arc::clone(&settings.ids))
    }

    /// Shows and steers a process manager of this store: how far it is, which processes are parked
    /// and why; resumes and skips them.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the store was opened without it.
    pub fn process_manager<M: ProcessManager>(&self) -> Result<ListenerControl, Error> {
        self.inner().processes().control::<M>()
    }

    /// How far replication is, what it has set aside, and why it stands still if it does; of a store
    /// that was opened without [`TidelogBuilder::distributed`] it says that it is off.
    #[cfg(feature = "scylla")]
    pub fn replication(&self) -> crate::Replication {
        self.inner().replication()
    }

    /// How far the store is, here and elsewhere: one picture of all of it.
    pub fn status(&self) -> crate::Status {
        // What is furthest behind first: the log only grows meanwhile.
        #[cfg(feature = "kafka")]
        let published = Some(self.publishing().status())
            .filter(|status| status.state != crate::PublishingState::Off);
        #[cfg(feature = "scylla")]
        let replicated = Some(self.replication().status())
            .filter(|status| status.state != crate::ReplicationState::Off);
        let durable = self.store().durable_position();
        crate::Status {
            committed: self.last_position(),
            durable,
            #[cfg(feature = "scylla")]
            replicated,
            #[cfg(feature = "kafka")]
            published,
        }
    }

    /// How far the event at `position` has come, and what keeps it from going on if its stream is set
    /// aside; `None` when nothing stands there. An event that gave way to another one has come as far as
    /// that did.
    ///
    /// # Errors
    /// What reading the log meets.
    #[cfg(any(feature = "scylla", feature = "kafka"))]
    pub async fn stage_of(&self, position: u64) -> Result<Option<crate::Reached>, Error> {
        let mut found = self.read_all(LogQuery::from(position).limit(1));
        let found = found.next().await.transpose()?;
        let Some(event) = found.filter(|event| event.position == Some(position)) else {
            return Ok(None);
        };
        let mut reached = crate::Reached {
            stage: crate::Stage::Committed,
            parked: None,
        };
        #[cfg(feature = "scylla")]
        match self.replication().has(&event.stream, position) {
            Some(Ok(true)) => reached.stage = crate::Stage::Replicated,
            Some(Err(parked)) => reached.parked = Some(parked),
            Some(Ok(false)) | None => {}
        }
        #[cfg(feature = "kafka")]
        match self.publishing().has(&event.stream, position) {
            Some(Ok(true)) => reached.stage = crate::Stage::Published,
            Some(Err(parked)) => reached.parked = reached.parked.or(Some(parked)),
            Some(Ok(false)) | None => {}
        }
        Ok(Some(reached))
    }

    /// How far publishing is, what it has set aside, and why it stands still if it does; of a store that
    /// was opened without a [`KafkaConfig`](crate::KafkaConfig) it says that it is off.
    #[cfg(feature = "kafka")]
    pub fn publishing(&self) -> crate::Publishing {
        self.inner().publishing()
    }

    /// Returns once everything up to `position` has come as far as `stage` says. Dropping the future
    /// only ends the waiting.
    ///
    /// # Errors
    /// [`Error::Parked`] when an event at or below `position` is held because its stream is parked,
    /// [`Error::Halted`] when replication or publishing stands still before that,
    /// [`Error::InvalidInput`] when it is off, [`Error::Closed`].
    ///
    /// With [`Stage::Published`](crate::Stage::Published) behind a replica, an event that the replica
    /// holds counts as held here, too, although it is published by itself once the replica has accepted
    /// it: whoever waits is told at once, and may wait again. Other streams' events are published
    /// meanwhile, and [`stage_of`](Self::stage_of) tells of each.
    #[cfg(any(feature = "scylla", feature = "kafka"))]
    pub async fn wait_for(&self, position: u64, stage: crate::Stage) -> Result<(), Error> {
        match stage {
            #[cfg(feature = "scylla")]
            crate::Stage::Replicated => self.inner().replication().wait_for(position).await,
            #[cfg(feature = "kafka")]
            crate::Stage::Published => self.published(position).await,
            #[cfg(not(feature = "scylla"))]
            crate::Stage::Replicated => Err(left_out(stage)),
            #[cfg(not(feature = "kafka"))]
            crate::Stage::Published => Err(left_out(stage)),
            crate::Stage::Committed => loop {
                let news = self.store().news();
                if self.last_position() >= position {
                    return Ok(());
                }
                if self.store().is_closed() {
                    return Err(Error::Closed);
                }
                news.await;
            },
        }
    }

    /// Returns once everything up to `position` is published; what stands still before the publisher
    /// keeps it from ever being so, too.
    #[cfg(feature = "kafka")]
    async fn published(&self, position: u64) -> Result<(), Error> {
        let publishing = self.inner().publishing();
        let published = publishing.wait_for(position);
        #[cfg(feature = "scylla")]
        {
            use futures_util::future::{Either, select};

            let replication = self.inner().replication();
            let halted = std::pin::pin!(replication.halted_below(position));
            match select(std::pin::pin!(published), halted).await {
                Either::Left((come, _)) => come,
                Either::Right((halt, _)) => Err(Error::Halted(Box::new(halt))),
            }
        }
        #[cfg(not(feature = "scylla"))]
        published.await
    }

    /// Facts about the store: identity, counts, bytes, health.
    ///
    /// # Errors
    /// As [`SledStore::info`].
    pub async fn info(&self) -> Result<StoreInfo, Error> {
        self.on_thread(SledStore::info).await
    }

    /// Walks the whole log and the whole index and checks all that can be checked.
    ///
    /// # Errors
    /// As [`SledStore::verify`].
    pub async fn verify(&self) -> Result<VerifyReport, Error> {
        self.on_thread(SledStore::verify).await
    }

    /// Copies the store to the directory `to` while it goes on working; put it back by
    /// [`restore_backup`](crate::restore_backup).
    ///
    /// # Errors
    /// As [`SledStore::backup`].
    pub async fn backup(&self, to: impl AsRef<Path>) -> Result<BackupReport, Error> {
        let to = to.as_ref().to_path_buf();
        self.on_thread(move |store| store.backup(to)).await
    }

    /// What a [`repair`](crate::repair()) could not keep of this store's history.
    ///
    /// # Errors
    /// As [`SledStore::losses`].
    pub fn losses(&self) -> Result<Losses, Error> {
        self.store().losses()
    }

    /// Goes on with `stream` without the events that are gone since a repair.
    ///
    /// # Errors
    /// As [`SledStore::accept_loss`].
    pub async fn accept_loss(&self, stream: &StreamId) -> Result<(), Error> {
        let stream = stream.clone();
        self.on_thread(move |store| store.accept_loss(&stream))
            .await
    }

    /// Goes on without all that is gone since a repair.
    ///
    /// # Errors
    /// As [`SledStore::accept_all_losses`].
    pub async fn accept_all_losses(&self) -> Result<(), Error> {
        self.on_thread(SledStore::accept_all_losses).await
    }

    /// Makes the stream index again from the log; reads and appends wait meanwhile.
    ///
    /// # Errors
    /// As [`SledStore::rebuild_index`].
    pub async fn rebuild_index(&self) -> Result<(), Error> {
        self.on_thread(SledStore::rebuild_index).await
    }

    /// Waits for what is under way, then closes the store: all clones answer [`Error::Closed`]
    /// from now on, and the lock is free when this returns. What waits to be replicated is sent when it
    /// is opened again; a connected server is told how far it is, for which this waits a second at most.
    ///
    /// # Errors
    /// As [`SledStore::close`].
    pub async fn close(&self) -> Result<(), Error> {
        let inner = Arc::clone(self.inner());
        if inner.has_threads() {
            let stopped = self.on_thread(move |_| {
                inner.stop();
                Ok(())
            });
            stopped.await?;
        }
        self.store().close().await
    }

    /// Does long file I/O on a thread of its own: the store's own threads stay free for reads.
    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&SledStore) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.store().clone();
        let (reply, answer) = oneshot::async_channel();
        let spawned = thread::Builder::new()
            .name("tidelog-task".into())
            .spawn(move || {
                let done = work(&store);
                // Given up before the answer, so that whoever gets it may drop the last handle.
                drop(store);
                // Nobody waits any more when this fails.
                let _ = reply.send(done);
            });
        spawned.map_err(|error| Error::io("start a thread for", ".", error))?;
        answer.await.unwrap_or(Err(Error::Closed))
    }
}

impl<C> CommandHandler<C> for Tidelog
where
    C: Command,
    C::Aggregate: Decide<C>,
{
    type Error = CommandError<C>;

    async fn handle(&self, command: C) -> Result<CommandResponse, Self::Error> {
        self.execute(command).await
    }
}

impl std::fmt::Debug for Tidelog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tidelog")
            .field("store", self.store())
            .finish()
    }
}

/// A stage that this program knows nothing of.
#[cfg(all(
    any(feature = "scylla", feature = "kafka"),
    not(all(feature = "scylla", feature = "kafka"))
))]
fn left_out(stage: crate::Stage) -> Error {
    let reason = "it is off: this program was built without its feature";
    Error::invalid("stage", format_args!("{stage:?}"), reason)
}
