//! The store that users have.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::future::select;
use tidelog_core::{
    AppendBatch, AppendReceipt, Blocking, Error, EventEnvelope, EventId, EventStore, EventStream,
    Limits, PageSource, PersistOutcome, SnapshotEnvelope, SnapshotStore, StreamHead, StreamId,
    StreamQuery, check_append,
};
use tokio::sync::{Semaphore, mpsc};
use tracing::Instrument as _;

use super::super::bucket::Buckets;
use super::super::config::ScyllaConfig;
use super::super::cql::{Cql, Link};
use super::super::schema::MigrateReport;
use super::super::worker::TokioSleeper;
use super::direct::{Direct, DirectSettings};
use super::gate::Gate;
use super::turns::Pin;

/// What servers take in one conditional batch as they come: half a segment of their commit log, of
/// 32 MiB, which is written twice inside.
const MOST_BATCH_BYTES: usize = 8 << 20;
/// A batch has a statement an event and one for the head; servers count them in 16 bits.
const MOST_BATCH_EVENTS: usize = 65_534;
/// Appends under way take so much at most; others wait.
const IN_FLIGHT_KIB: u32 = 32 << 10;

/// An event store directly on a keyspace of ScyllaDB or Cassandra; a handle, cloning is cheap.
///
/// For services that share streams over many processes. An append is one conditional batch: whoever
/// comes first has the sequence, the others get [`Error::WrongVersion`]. What was acknowledged is
/// durable as the servers are, whatever [`Durability`](tidelog_core::Durability) was asked for, and
/// visible to every later read of every client.
///
/// There is no order over streams, and no batch over several: it is neither an
/// [`EventLog`](tidelog_core::EventLog)
///
/// ```compile_fail,E0277
/// fn is_log<S: tidelog_core::EventLog>() {}
/// is_log::<tidelog_backends::ScyllaStore>();
/// ```
///
/// nor a [`MultiStreamStore`](tidelog_core::MultiStreamStore):
///
/// ```compile_fail,E0277
/// fn takes_batches_of_streams<S: tidelog_core::MultiStreamStore>() {}
/// takes_batches_of_streams::<tidelog_backends::ScyllaStore>();
/// ```
///
/// but it is an [`EventStore`] and a [`SnapshotStore`]:
///
/// ```
/// fn is_store<S: tidelog_core::EventStore + tidelog_core::SnapshotStore>() {}
/// is_store::<tidelog_backends::ScyllaStore>();
/// ```
///
/// Envelopes have no positions, and their [`Batch`](tidelog_core::Batch) is named by its first
/// sequence. Events that an embedded store replicated here come back as
/// [`Adopted`](tidelog_core::RecordKind::Adopted), with where they were recorded first.
///
/// ```no_run
/// use tidelog_backends::{ScyllaConfig, ScyllaStore};
/// use tidelog_core::{AppendBatch, ContentType, ExpectedVersion, NewEvent, StreamId};
///
/// # async fn example() -> Result<(), tidelog_core::Error> {
/// let config = ScyllaConfig::new(["db1:9042", "db2:9042"]).keyspace("shop");
/// let store = ScyllaStore::connect(config).await?;
/// let account = StreamId::new("BankAccount", "acc-1")?;
/// let opened = NewEvent::new("Opened", 1, ContentType::Json, br#"{"owner":"Ada"}"#.to_vec());
/// let batch = AppendBatch::new(account, ExpectedVersion::NoStream, vec![opened]);
/// # use tidelog_core::EventStore;
/// assert_eq!(store.append(batch).await?.last_sequence, 1);
/// # Ok(())
/// # }
/// ```
///
/// # Limits
/// Besides those of [`limits`](EventStore::limits): an append whose outcome the server does not say
/// is looked after for [`give_up`](ScyllaConfig::give_up), then it is [`Error::Unclear`]: appended
/// again with the same event ids it is recorded once. Nothing is retried behind the caller's back
/// that could be recorded twice.
///
/// Through the `metrics` crate: `tidelog_direct_append_seconds`, from call to answer, and
/// `tidelog_direct_conflicts_total`, wrong versions; through `tracing` a span `direct.append` each.
///
/// Its work is done on a thread of its own: no call needs a particular runtime, and an append that
/// is dropped is finished, or was never sent.
#[derive(Clone)]
pub struct ScyllaStore(Arc<Inner>);

struct Inner {
    cql: Cql,
    direct: Direct<Arc<Link>>,
    gate: Gate,
    room: Arc<Semaphore>,
}

impl ScyllaStore {
    /// Connects, checks the tables and prepares its statements; makes the tables if the configuration
    /// says so.
    ///
    /// # Errors
    /// [`Error::Schema`] when the tables are missing or of another version, [`Error::InvalidInput`]
    /// for a configuration that cannot be right for this keyspace, [`Error::Unreachable`],
    /// [`Error::ServerRefused`].
    pub async fn connect(config: ScyllaConfig) -> Result<Self, Error> {
        let cql = Cql::new(config)?;
        let meta = cql.connect().await?;
        let config = cql.link().config();
        let buckets = Buckets::of_size(meta.bucket_events);
        let settings = DirectSettings {
            server: config.server(),
            limits: limits(config, buckets)?,
            buckets,
            give_up: config.give_up,
            cache_bytes: config.cache_bytes,
            clock: Arc::clone(&config.clock),
            ids: Arc::clone(&config.ids),
            sleeper: Arc::new(TokioSleeper),
        };
        Ok(Self(Arc::new(Inner {
            direct: Direct::new(Arc::clone(cql.link()), settings),
            cql,
            gate: Gate::default(),
            room: Arc::new(Semaphore::new(IN_FLIGHT_KIB as usize)),
        })))
    }

    /// The same for threads without a runtime.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_blocking(config: ScyllaConfig) -> Result<Blocking<Self>, Error> {
        pollster::block_on(Self::connect(config)).map(Blocking::new)
    }

    /// Makes the keyspace (when the configuration has its replication) and its tables, or brings
    /// them to this version. May be called at any time, by any number of clients at once.
    ///
    /// # Errors
    /// [`Error::Schema`] when they are of a newer version, [`Error::InvalidInput`] when they were
    /// made with other settings, [`Error::Unreachable`], [`Error::ServerRefused`]: what was done
    /// stays, and calling again goes on from there.
    pub async fn migrate(config: ScyllaConfig) -> Result<MigrateReport, Error> {
        let cql = Cql::new(config)?;
        let report = cql.migrate().await;
        cql.worker().stop().await;
        report
    }

    /// The blocking face, which shares this store.
    pub fn blocking(&self) -> Blocking<Self> {
        Blocking::new(self.clone())
    }

    /// Closes the store for all its handles: calls under way are answered first, as far as that takes
    /// no longer than the request timeout; appends that are cut off then answer [`Error::Unclear`],
    /// everything else [`Error::Closed`]. Closing again does nothing.
    ///
    /// # Errors
    /// None so far.
    pub async fn close(&self) -> Result<(), Error> {
        self.0.gate.close();
        let gate = self.0.gate.clone();
        let patience = self.0.cql.link().config().request_timeout;
        let waits = self.0.cql.worker().run(async move {
            let timeout = pin!(tokio::time::sleep(patience));
            select(timeout, pin!(gate.idle())).await;
        });
        // `None`: its thread has ended.
        let _ = waits.await;
        self.end().await;
        Ok(())
    }

    /// Ends the store as the death of its process would.
    #[doc(hidden)]
    pub async fn abandon(&self) {
        self.0.gate.close();
        self.end().await;
    }

    async fn end(&self) {
        self.0.cql.link().disconnect();
        self.0.cql.worker().stop().await;
    }

    /// Runs `work` on the store's thread.
    async fn run<T, F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let call = self.0.gate.enter()?;
        let work = work(Arc::clone(&self.0));
        let done = self.0.cql.worker().run(async move {
            let answer = work.await;
            drop(call);
            answer
        });
        done.await.unwrap_or(Err(Error::Closed))
    }
}

impl EventStore for ScyllaStore {
    async fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Error> {
        drop(self.0.gate.enter()?);
        check_append(std::slice::from_ref(&batch), &self.limits())?;
        let bytes: usize = batch.events.iter().map(|event| event.payload.len()).sum();
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        let permits = kib.saturating_add(1).min(IN_FLIGHT_KIB);
        // Given back when the work has ended, and not when nobody waits for it any more.
        let room = Arc::clone(&self.0.room).acquire_many_owned(permits).await;
        let call = self.0.gate.enter()?;
        let (inner, stream) = (Arc::clone(&self.0), batch.stream.clone());
        let begun = Instant::now();
        let span = tracing::debug_span!("direct.append", %stream);
        let work = async move {
            let answer = inner.direct.append(batch).await;
            drop((room, call));
            answer
        };
        let done = self.0.cql.worker().run(work.instrument(span));
        // It was cut off: what was sent may have arrived.
        let answer = done.await.unwrap_or_else(|| {
            Err(Error::Unclear {
                stream,
                reason: "the store was closed before the server answered".into(),
            })
        });
        metrics::histogram!("tidelog_direct_append_seconds").record(begun.elapsed());
        if matches!(answer, Err(Error::WrongVersion { .. })) {
            metrics::counter!("tidelog_direct_conflicts_total").increment(1);
        }
        answer
    }

    fn read_stream(&self, query: StreamQuery) -> EventStream {
        if self.0.gate.is_closed() {
            return EventStream::failed(Error::Closed);
        }
        let pin = self.0.direct.pin(&query.stream);
        let (send, receive) = mpsc::channel(1);
        let inner = Arc::clone(&self.0);
        self.0.cql.worker().spawn(async move {
            let gate = inner.gate.clone();
            let reading = pin!(read(&inner, query, pin, send));
            select(reading, pin!(gate.closed())).await;
        });
        EventStream::new(Receiving {
            receive,
            inner: Arc::clone(&self.0),
            ended: false,
        })
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        let stream = stream.clone();
        self.run(|inner| async move { inner.direct.head(&stream).await })
            .await
    }

    async fn find_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
    ) -> Result<Option<EventEnvelope>, Error> {
        let stream = stream.clone();
        self.run(|inner| async move { inner.direct.find_event(&stream, event_id).await })
            .await
    }

    fn limits(&self) -> Limits {
        self.0.direct.limits()
    }
}

impl SnapshotStore for ScyllaStore {
    async fn read(&self, stream: &StreamId) -> Result<Option<SnapshotEnvelope>, Error> {
        let stream = stream.clone();
        self.run(|inner| async move { inner.direct.snapshot(&stream).await })
            .await
    }

    async fn persist(&self, snapshot: SnapshotEnvelope) -> Result<PersistOutcome, Error> {
        self.run(|inner| async move { inner.direct.persist(snapshot).await })
            .await
    }
}

impl fmt::Debug for ScyllaStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.0.cql.link().config();
        f.debug_struct("ScyllaStore")
            .field("keyspace", &config.keyspace)
            .field("contact_points", &config.contact_points)
            .field("closed", &self.0.gate.is_closed())
            .finish()
    }
}

fn limits(config: &ScyllaConfig, buckets: Buckets) -> Result<Limits, Error> {
    let size = usize::try_from(buckets.size()).unwrap_or(usize::MAX);
    let default = Limits {
        payload_bytes: 1 << 20,
        metadata_bytes: 64 << 10,
        batch_events: size.min(10_000),
        batch_bytes: 4 << 20,
    };
    let limits = config.limits.unwrap_or(default);
    let refused = |value, reason: String| Err(Error::invalid("limits", value, reason));
    if limits.batch_events > size.min(MOST_BATCH_EVENTS) {
        let reason = format!(
            "a batch has {} events at most in keyspace {}: as many as a bucket has sequences, and {MOST_BATCH_EVENTS}",
            size.min(MOST_BATCH_EVENTS),
            config.keyspace
        );
        return refused(limits.batch_events, reason);
    }
    if limits.batch_bytes > MOST_BATCH_BYTES {
        let reason = format!("a batch has {MOST_BATCH_BYTES} bytes at most");
        return refused(limits.batch_bytes, reason);
    }
    Ok(limits)
}

enum Message {
    Page(Vec<EventEnvelope>),
    Failed(Error),
    End,
}

/// Reads ahead by one page. What is not asked for is not read.
async fn read(inner: &Inner, query: StreamQuery, pin: Pin, send: mpsc::Sender<Message>) {
    let mut pages = match inner.direct.read_pinned(query, pin).await {
        Ok(pages) => pages,
        Err(error) => {
            let _ = send.send(Message::Failed(error)).await;
            return;
        }
    };
    while let Ok(place) = send.reserve().await {
        match pages.next().await {
            Ok(Some(page)) => place.send(Message::Page(page)),
            Ok(None) => return place.send(Message::End),
            Err(error) => return place.send(Message::Failed(error)),
        }
    }
}

/// The reader's end; without the last message it ended because the store did.
struct Receiving {
    receive: mpsc::Receiver<Message>,
    inner: Arc<Inner>,
    ended: bool,
}

impl PageSource for Receiving {
    fn poll_page(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Vec<EventEnvelope>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let message = if self.inner.gate.is_closed() {
            None
        } else {
            std::task::ready!(self.receive.poll_recv(cx))
        };
        let answer = match message {
            Some(Message::Page(page)) => return Poll::Ready(Some(Ok(page))),
            Some(Message::End) => None,
            Some(Message::Failed(error)) => Some(Err(error)),
            None => Some(Err(Error::Closed)),
        };
        self.ended = true;
        Poll::Ready(answer)
    }
}
