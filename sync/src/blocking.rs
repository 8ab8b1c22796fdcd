//! The handle for threads without a runtime.

use std::path::Path;
use std::sync::Arc;

use tidelog_backends::{BackupReport, Losses, SledStore, StoreInfo, VerifyReport};
use tidelog_core::{
    Aggregate, AggregateRepository, AppendBatch, AppendReceipt, Blocking, BlockingEventStream,
    BlockingRepository, Command, CommandError, CommandResponse, Context, Decide, Error, Event,
    EventEnvelope, ExpectedVersion, Loaded, LogQuery, ProcessManager, Projection, StreamHead,
    StreamId, StreamQuery, Subscribe, TypedEventStore,
};

use crate::listeners::{BlockingListenerControl, ContainerBuilder};
use crate::projections::{BlockingReadModel, ProjectionStatus};
use crate::repositories::Repositories;
use crate::tidelog::Tidelog;

/// A [`Tidelog`] whose calls block the calling thread and commit on it: no runtime is needed, and
/// a lone writer pays for no hand-over between threads. Made by [`Tidelog::blocking`].
///
/// Do not use it inside async code.
///
/// ```
/// use tidelog::{
///     AppendBatch, ContentType, Error, ExpectedVersion, NewEvent, StreamId, StreamQuery, Tidelog,
/// };
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("events");
/// let log = Tidelog::open(&path)?.blocking();
/// let till = StreamId::new("Till", "3")?;
/// let sold = NewEvent::new("Sold", 1, ContentType::Json, r#"{"article":"tea"}"#);
/// log.append(AppendBatch::new(till.clone(), ExpectedVersion::NoStream, vec![sold]))?;
/// for event in log.read_stream(StreamQuery::new(till)) {
///     assert_eq!(&*event?.event_type, "Sold");
/// }
/// log.close()?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BlockingTidelog {
    log: Tidelog,
    store: Blocking<SledStore>,
}

impl BlockingTidelog {
    pub(crate) fn new(log: Tidelog) -> Self {
        let store = Blocking::new(log.inner().blocking_repositories().store().clone());
        Self { log, store }
    }

    /// The async handle on the same store.
    pub fn inner(&self) -> &Tidelog {
        &self.log
    }

    /// The store below, for blocking use.
    pub fn store(&self) -> &Blocking<SledStore> {
        &self.store
    }

    fn repositories(&self) -> &Repositories {
        self.log.inner().blocking_repositories()
    }

    fn of<A: Aggregate>(&self) -> Arc<AggregateRepository<A, SledStore>> {
        self.repositories().of::<A>()
    }

    /// See [`Tidelog::repository`].
    pub fn repository<A: Aggregate>(&self) -> BlockingRepository<A, SledStore> {
        self.of::<A>().blocking()
    }

    /// See [`Tidelog::projection`].
    ///
    /// # Errors
    /// As there.
    pub fn projection<P: Projection>(&self) -> Result<BlockingReadModel<P>, Error> {
        Ok(self.log.projection()?.blocking())
    }

    /// See [`Tidelog::replication`].
    #[cfg(feature = "scylla")]
    pub fn replication(&self) -> crate::BlockingReplication {
        self.log.replication().blocking()
    }

    /// See [`Tidelog::status`].
    pub fn status(&self) -> crate::Status {
        self.log.status()
    }

    /// See [`Tidelog::stage_of`].
    ///
    /// # Errors
    /// As there.
    #[cfg(any(feature = "scylla", feature = "kafka"))]
    pub fn stage_of(&self, position: u64) -> Result<Option<crate::Reached>, Error> {
        pollster::block_on(self.log.stage_of(position))
    }

    /// See [`Tidelog::publishing`].
    #[cfg(feature = "kafka")]
    pub fn publishing(&self) -> crate::BlockingPublishing {
        self.log.publishing().blocking()
    }

    /// See [`Tidelog::wait_for`].
    ///
    /// # Errors
    /// As there.
    #[cfg(any(feature = "scylla", feature = "kafka"))]
    pub fn wait_for(&self, position: u64, stage: crate::Stage) -> Result<(), Error> {
        pollster::block_on(self.log.wait_for(position, stage))
    }

    /// The same, but for no longer than `timeout`; whether it has come so far.
    ///
    /// # Errors
    /// As there.
    #[cfg(any(feature = "scylla", feature = "kafka"))]
    pub fn wait_for_timeout(
        &self,
        position: u64,
        stage: crate::Stage,
        timeout: std::time::Duration,
    ) -> Result<bool, Error> {
        use futures_util::future::{Either, select};
        use tidelog_core::Sleeper;

        let waiting = std::pin::pin!(self.log.wait_for(position, stage));
        let sleep = crate::ThreadSleeper::new().sleep(timeout);
        match pollster::block_on(select(waiting, sleep)) {
            Either::Left((come, _)) => come.map(|()| true),
            Either::Right(_) => Ok(false),
        }
    }

    /// See [`Tidelog::projections`].
    pub fn projections(&self) -> Vec<ProjectionStatus> {
        self.log.projections()
    }

    /// See [`Tidelog::execute`].
    ///
    /// # Errors
    /// As there.
    pub fn execute<C>(&self, command: C) -> Result<CommandResponse, CommandError<C>>
    where
        C: Command,
        C::Aggregate: Decide<C>,
    {
        let inner = self.log.inner();
        pollster::block_on(inner.execute(self.repositories(), command, None))
    }

    /// See [`Tidelog::execute_with`].
    ///
    /// # Errors
    /// As there.
    pub fn execute_with<C>(
        &self,
        command: C,
        context: Context,
    ) -> Result<CommandResponse, CommandError<C>>
    where
        C: Command,
        C::Aggregate: Decide<C>,
    {
        let inner = self.log.inner();
        pollster::block_on(inner.execute(self.repositories(), command, Some(context)))
    }

    /// See [`Tidelog::load`].
    ///
    /// # Errors
    /// As there.
    pub fn load<A: Aggregate>(&self, aggregate_id: &str) -> Result<Option<Loaded<A>>, Error> {
        pollster::block_on(self.of::<A>().load(aggregate_id))
    }

    /// See [`Tidelog::append`].
    ///
    /// # Errors
    /// As there.
    pub fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Error> {
        let receipt = self.store.append(batch)?;
        self.applied(receipt.last_position);
        Ok(receipt)
    }

    /// See [`Tidelog::append_streams`].
    ///
    /// # Errors
    /// As there.
    pub fn append_streams(&self, parts: Vec<AppendBatch>) -> Result<Vec<AppendReceipt>, Error> {
        let receipts = self.store.append_streams(parts)?;
        self.applied(receipts.iter().filter_map(|part| part.last_position).max());
        Ok(receipts)
    }

    /// See [`Tidelog::persist_events`].
    ///
    /// # Errors
    /// As there.
    pub fn persist_events<E: Event>(
        &self,
        stream: &StreamId,
        expected: ExpectedVersion,
        events: Vec<E>,
        context: &Context,
    ) -> Result<AppendReceipt, Error> {
        let store = self.store.inner();
        let recorded = store.persist_events(stream, expected, events, context);
        let receipt = pollster::block_on(recorded)?;
        self.applied(receipt.last_position);
        Ok(receipt)
    }

    fn applied(&self, position: Option<u64>) {
        pollster::block_on(self.log.inner().applied(position));
    }

    /// See [`Tidelog::read_stream`].
    pub fn read_stream(&self, query: StreamQuery) -> BlockingEventStream {
        self.store.read_stream(query)
    }

    /// See [`Tidelog::read_events`].
    ///
    /// # Errors
    /// As there.
    pub fn read_events<E: Event>(&self, stream: &StreamId) -> Result<Vec<EventEnvelope<E>>, Error> {
        pollster::block_on(self.store.inner().read_events(stream))
    }

    /// See [`Tidelog::read_events_from`].
    ///
    /// # Errors
    /// As there.
    pub fn read_events_from<E: Event>(
        &self,
        stream: &StreamId,
        sequence: u64,
    ) -> Result<Vec<EventEnvelope<E>>, Error> {
        pollster::block_on(self.store.inner().read_events_from(stream, sequence))
    }

    /// See [`Tidelog::head`].
    ///
    /// # Errors
    /// As there.
    pub fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        self.store.head(stream)
    }

    /// See [`Tidelog::read_all`].
    pub fn read_all(&self, query: LogQuery) -> BlockingEventStream {
        self.store.read_all(query)
    }

    /// See [`Tidelog::subscribe`].
    pub fn subscribe(&self, what: Subscribe) -> BlockingEventStream {
        self.store.subscribe(what)
    }

    /// See [`Tidelog::last_position`].
    pub fn last_position(&self) -> u64 {
        self.store.last_position()
    }

    /// See [`Tidelog::info`].
    ///
    /// # Errors
    /// As there.
    pub fn info(&self) -> Result<StoreInfo, Error> {
        self.store.inner().info()
    }

    /// See [`Tidelog::verify`].
    ///
    /// # Errors
    /// As there.
    pub fn verify(&self) -> Result<VerifyReport, Error> {
        self.store.inner().verify()
    }

    /// See [`Tidelog::backup`].
    ///
    /// # Errors
    /// As there.
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<BackupReport, Error> {
        self.store.inner().backup(to)
    }

    /// See [`Tidelog::losses`].
    ///
    /// # Errors
    /// As there.
    pub fn losses(&self) -> Result<Losses, Error> {
        self.store.inner().losses()
    }

    /// See [`Tidelog::accept_loss`].
    ///
    /// # Errors
    /// As there.
    pub fn accept_loss(&self, stream: &StreamId) -> Result<(), Error> {
        self.store.inner().accept_loss(stream)
    }

    /// See [`Tidelog::accept_all_losses`].
    ///
    /// # Errors
    /// As there.
    pub fn accept_all_losses(&self) -> Result<(), Error> {
        self.store.inner().accept_all_losses()
    }

    /// See [`Tidelog::rebuild_index`].
    ///
    /// # Errors
    /// As there.
    pub fn rebuild_index(&self) -> Result<(), Error> {
        self.store.inner().rebuild_index()
    }

    /// See [`Tidelog::listeners`].
    pub fn listeners(&self) -> ContainerBuilder {
        self.log.listeners()
    }

    /// See [`Tidelog::process_manager`].
    ///
    /// # Errors
    /// As there.
    pub fn process_manager<M: ProcessManager>(&self) -> Result<BlockingListenerControl, Error> {
        Ok(self.log.process_manager::<M>()?.blocking())
    }

    /// See [`Tidelog::close`].
    ///
    /// # Errors
    /// As there.
    pub fn close(&self) -> Result<(), Error> {
        self.log.inner().stop();
        self.store.inner().close_blocking()
    }
}
