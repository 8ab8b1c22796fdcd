//! The store's handle: opening, the contracts, closing.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tidelog_core::{
    AppendBatch, AppendReceipt, Blocking, Durability, Error, EventEnvelope, EventId, EventLog,
    EventStore, EventStream, Limits, LogIdentity, LogQuery, MultiStreamStore, PayloadCodec,
    PersistOutcome, SnapshotEnvelope, SnapshotStore, StreamHead, StreamId, StreamQuery, Subscribe,
    check_append,
};

use super::handle::Handle;
use super::hash::in_time_order;
use super::log_pages::LogPages;
use super::open::{Opening, open};
use super::options::SledStoreBuilder;
use super::pages::StreamPages;
use super::recent_ids::KnownIds;
use super::request::Request;
use super::shared::{Foreign, Shared};
use super::snapshots;
use super::subscription::{Subscription, Target};
use super::workers::{Face, Paged};
use crate::primitives::{oneshot, thread};

/// The embedded store: events in a log of its own, durable at each acknowledgement; sled finds
/// them and keeps snapshots.
///
/// A handle: clone it freely, all clones are one store. When the last one is dropped (or
/// [`close`](SledStore::close) is called) the store is closed and its lock is free; dropping waits
/// for the disk, never for anything else. Streams and subscriptions do not keep it open.
///
/// Appends are durable when acknowledged ([`Durability::Power`](tidelog_core::Durability::Power)) unless they ask for less. Async
/// calls do their file I/O on the store's own threads; [`blocking`](SledStore::blocking) gives the
/// face that works on the calling thread.
///
/// ```
/// use tidelog_backends::SledStore;
/// use tidelog_core::*;
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("events");
/// let store = SledStore::open(&path)?.blocking();
/// let account = StreamId::new("BankAccount", "acc-1")?;
/// let opened = NewEvent::new("Opened", 1, ContentType::Json, r#"{"owner":"Ada"}"#);
/// let receipt = store.append(AppendBatch::new(
///     account.clone(),
///     ExpectedVersion::NoStream,
///     vec![opened],
/// ))?;
/// assert_eq!((receipt.first_sequence, receipt.first_position), (1, Some(1)));
/// let events: Vec<_> = store.read_stream(StreamQuery::new(account)).collect::<Result<_, _>>()?;
/// assert_eq!(&*events[0].event_type, "Opened");
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct SledStore {
    owner: Arc<Owner>,
    face: Face,
    codec: Option<Arc<dyn PayloadCodec>>,
}

/// What users hold, and nobody else: dropping the last one closes the store, or waits for whoever
/// is closing it.
struct Owner(Arc<Handle>);

impl Drop for Owner {
    fn drop(&mut self) {
        if let Err(error) = self.0.close(true) {
            tracing::error!(%error, "closing the store failed; what was acknowledged is safe");
        }
    }
}

impl SledStore {
    /// Opens the store in directory `path` with default options, making it if need be.
    ///
    /// # Errors
    /// As [`SledStoreBuilder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder(path).open()
    }

    /// Options for the store in directory `path`.
    pub fn builder(path: impl AsRef<Path>) -> SledStoreBuilder {
        SledStoreBuilder::new(path.as_ref())
    }

    pub(crate) fn open_with(options: &SledStoreBuilder, opening: Opening) -> Result<Self, Error> {
        let handle = Handle::start(open(options, opening)?, options.durability)?;
        Ok(Self {
            owner: Arc::new(Owner(handle)),
            face: Face::Async,
            codec: options.codec.clone(),
        })
    }

    /// The face for threads without a runtime: calls work on the calling thread, and a lone writer
    /// pays for no hand-over.
    pub fn blocking(&self) -> Blocking<Self> {
        Blocking::new(Self {
            face: Face::Blocking,
            ..self.clone()
        })
    }

    /// The same store, with payloads as they stand in the log: what is sent elsewhere is that.
    #[doc(hidden)]
    pub fn without_codec(&self) -> Self {
        Self {
            codec: None,
            ..self.clone()
        }
    }

    /// Does file I/O where this face does it.
    #[doc(hidden)]
    pub async fn on_reader<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.read(move |_| work()).await
    }

    #[doc(hidden)]
    pub fn is_closed(&self) -> bool {
        self.ensure_open().is_err()
    }

    /// Waits for the appends under way, then closes the store: all handles answer
    /// [`Error::Closed`] from now on, and the lock is free when this returns.
    ///
    /// # Errors
    /// When the last sync or the sled folder fails; what was acknowledged is safe nevertheless.
    pub async fn close(&self) -> Result<(), Error> {
        let handle = Arc::clone(&self.owner.0);
        let (reply, done) = oneshot::async_channel();
        // The store's own threads end here, so this needs one more.
        let spawned = thread::Builder::new()
            .name("tidelog-closer".into())
            .spawn(move || {
                let _ = reply.send(handle.close(true));
            });
        spawned
            .map_err(|error| Error::io("start a thread for", &self.handle().shared.dir, error))?;
        done.await.unwrap_or(Err(Error::Closed))
    }

    /// [`close`](SledStore::close) for threads without a runtime.
    ///
    /// # Errors
    /// As there.
    pub fn close_blocking(&self) -> Result<(), Error> {
        self.handle().close(true)
    }

    /// Ends the store as a crash of the process would: nothing is synced, marked or indexed.
    #[doc(hidden)]
    pub fn crash(&self) {
        let _ = self.handle().close(false);
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle().shared
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.owner.0
    }

    pub(crate) fn handle_arc(&self) -> Arc<Handle> {
        Arc::clone(&self.owner.0)
    }

    /// What payloads pass through, if anything.
    #[doc(hidden)]
    pub fn codec(&self) -> Option<&Arc<dyn PayloadCodec>> {
        self.codec.as_ref()
    }

    pub(crate) fn ensure_open(&self) -> Result<(), Error> {
        if self.handle().shared.live.is_closed() {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    /// Does `work` where this face works.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.ensure_open()?;
        let shared = &self.handle().shared;
        match self.face {
            Face::Blocking => work(shared),
            Face::Async => {
                let on_thread = Arc::clone(shared);
                shared.workers.ask(move || work(&on_thread)).await
            }
        }
    }

    fn refuse_in_a_copy(&self, parts: &[AppendBatch]) -> Result<(), Error> {
        let format = &self.shared().format;
        match parts.first().filter(|_| format.is_copy()) {
            Some(part) => Err(Error::ForeignStream {
                stream: part.stream.clone(),
                origin: format.origin,
            }),
            None => Ok(()),
        }
    }

    /// Asks `foreign` who else writes a stream, before the first event of it is appended here. It can be
    /// set once.
    #[doc(hidden)]
    pub fn set_foreign(&self, foreign: Arc<Foreign>) {
        let _ = self.shared().foreign.set(foreign);
    }

    async fn refuse_foreign(&self, parts: &[AppendBatch]) -> Result<(), Error> {
        let shared = self.shared();
        let Some(foreign) = shared.foreign.get() else {
            return Ok(());
        };
        for AppendBatch { stream, .. } in parts {
            let is_known = shared.heads.get(&shared.hash.key(stream)).is_some();
            if is_known || self.head(stream).await?.is_some() {
                continue;
            }
            if let Some(origin) = foreign(stream.clone()).await {
                let stream = stream.clone();
                return Err(Error::ForeignStream { stream, origin });
            }
        }
        Ok(())
    }

    async fn append_parts(&self, mut parts: Vec<AppendBatch>) -> Result<Vec<AppendReceipt>, Error> {
        self.ensure_open()?;
        self.refuse_in_a_copy(&parts)?;
        self.refuse_foreign(&parts).await?;
        if let Some(codec) = &self.codec {
            let encoded = parts.into_iter().map(|part| codec.encode_batch(part));
            parts = encoded.collect::<Result<_, _>>()?;
        }
        let shared = &self.handle().shared;
        check_append(&parts, &shared.limits)?;
        let asked = parts
            .iter()
            .map(|part| part.durability.unwrap_or(self.handle().durability))
            .max();
        let durability = asked.unwrap_or(self.handle().durability);
        let keys = parts
            .iter()
            .map(|part| shared.hash.key(&part.stream))
            .collect();
        let bytes = Request::size(&parts);
        let (reply, answer) = oneshot::async_channel();
        let mut request = Request {
            parts,
            keys,
            durability,
            bytes,
            reply,
            permit: None,
        };
        if self.face == Face::Blocking {
            if let Some(mut left) = self.handle().commit_here(request) {
                left.permit = Some(shared.gate.enter_blocking(bytes));
                self.handle().enqueue(left);
            }
        } else {
            request.permit = Some(shared.gate.enter(bytes).await);
            self.handle().enqueue(request);
        }
        answer.await.unwrap_or(Err(Error::Closed))
    }

    fn stream(&self, pages: impl super::read_ahead::Pieces) -> EventStream {
        let shared = &self.handle().shared;
        let (workers, live) = (shared.workers.clone(), Arc::clone(&shared.live));
        self.decoded(EventStream::new(Paged::new(
            self.face, workers, live, pages,
        )))
    }

    fn decoded(&self, stored: EventStream) -> EventStream {
        match &self.codec {
            Some(codec) => Arc::clone(codec).decode_stream(stored),
            None => stored,
        }
    }
}

impl EventStore for SledStore {
    async fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Error> {
        let mut receipts = self.append_parts(vec![batch]).await?;
        receipts.pop().ok_or(Error::Closed)
    }

    fn read_stream(&self, query: StreamQuery) -> EventStream {
        if let Err(error) = self.ensure_open() {
            return EventStream::failed(error);
        }
        let shared = &self.handle().shared;
        let hash = shared.hash.stream(&query.stream);
        let (streams, log) = (Arc::clone(&shared.streams), Arc::clone(&shared.log));
        self.stream(StreamPages::new(
            streams,
            log,
            hash,
            query,
            shared.live.last(),
        ))
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        let stream = stream.clone();
        self.read(move |shared| {
            let hash = shared.hash.stream(&stream);
            let pin = shared.live.last();
            let Some((sequence, _)) = shared.streams.head(hash, &stream, pin)? else {
                return Ok(None);
            };
            let event = shared.read_event(&stream, hash, sequence, pin)?;
            Ok(event.map(|event| StreamHead {
                sequence,
                event_id: event.event_id,
            }))
        })
        .await
    }

    async fn find_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
    ) -> Result<Option<EventEnvelope>, Error> {
        self.ensure_open()?;
        let shared = &self.handle().shared;
        let fingerprint = shared.hash.fingerprint(&event_id);
        // An id that is new to a stream whose ids are at hand costs no read and no thread.
        let key = shared.hash.key(stream);
        let candidates = |recent: &KnownIds| {
            let candidates = || recent.candidates(fingerprint).collect::<Vec<_>>();
            recent.is_whole().then(candidates)
        };
        let has_branches = shared.log.branches.of(stream).is_some();
        let head = shared.heads.get(&key).filter(|_| !has_branches);
        let known = head.and_then(|head| shared.recent_ids.with(&key, head, candidates)?);
        if known.as_ref().is_some_and(Vec::is_empty) {
            return Ok(None);
        }
        let stream = stream.clone();
        let handle = Arc::clone(&self.owner.0);
        let found = self.read(move |shared| {
            let hash = shared.hash.stream(&stream);
            let candidates = match known {
                Some(candidates) => candidates,
                None => {
                    let window = shared.limits.retry_window();
                    let id = in_time_order(&event_id);
                    let recent = shared.streams.recent(hash, &stream, window, id)?;
                    let equal = recent.newest.iter();
                    let equal = equal.filter(|(_, print)| *print == fingerprint);
                    equal.map(|(sequence, _)| *sequence).collect()
                }
            };
            for sequence in candidates {
                let event = shared.read_event(&stream, hash, sequence, u64::MAX)?;
                if let Some(event) = event.filter(|event| event.event_id == event_id) {
                    // A command is answered by it: it must be as durable as an append would be.
                    let unsynced = event.position.is_some_and(|at| at > shared.durable());
                    if unsynced && handle.durability == Durability::Power {
                        handle.lock().sync_now()?;
                    }
                    return Ok(Some(event));
                }
            }
            Ok(None)
        });
        match (found.await?, &self.codec) {
            (Some(event), Some(codec)) => codec.decode_event(event).map(Some),
            (found, _) => Ok(found),
        }
    }

    fn limits(&self) -> Limits {
        self.handle().shared.limits
    }
}

impl MultiStreamStore for SledStore {
    async fn append_streams(&self, parts: Vec<AppendBatch>) -> Result<Vec<AppendReceipt>, Error> {
        self.append_parts(parts).await
    }
}

impl EventLog for SledStore {
    fn read_all(&self, query: LogQuery) -> EventStream {
        if let Err(error) = self.ensure_open() {
            return EventStream::failed(error);
        }
        let shared = &self.handle().shared;
        let from = query.from.max(shared.log.first_position());
        let mut to = query.to.min(shared.live.last());
        if let Some(limit) = query.limit {
            to = to.min(shared.log.last_of(from, limit));
        }
        self.stream(LogPages::new(Arc::clone(&shared.log), from, to))
    }

    fn identity(&self) -> LogIdentity {
        let shared = self.shared();
        LogIdentity {
            origin: shared.format.origin,
            epoch: *shared.epoch.lock(),
        }
    }

    fn superseded_at(&self, event: &EventEnvelope) -> Option<u64> {
        let branches = &self.shared().log.branches;
        branches.superseded_at(&event.stream, event.sequence, event.position?)
    }

    fn first_position(&self) -> u64 {
        self.handle().shared.log.first_position()
    }

    fn last_position(&self) -> u64 {
        self.handle().shared.live.last()
    }

    fn subscribe(&self, what: Subscribe) -> EventStream {
        if let Err(error) = self.ensure_open() {
            return EventStream::failed(error);
        }
        let shared = &self.handle().shared;
        let last = shared.live.last();
        let (target, next) = match what {
            Subscribe::All { after } if after > last => {
                let reason =
                    format!("the log ends at {last}: what was seen there is not in it any more");
                return EventStream::failed(Error::invalid("position", after, reason));
            }
            Subscribe::All { after } => (Target::All, after + 1),
            Subscribe::Stream { stream, after } if after > 0 && last == 0 => {
                let reason =
                    format!("the log is empty: what was seen of {stream} is not in it any more");
                return EventStream::failed(Error::invalid("sequence", after, reason));
            }
            Subscribe::Stream { stream, after } => {
                let hash = shared.hash.stream(&stream);
                (
                    Target::Stream {
                        stream,
                        hash,
                        next_sequence: after.saturating_add(1),
                    },
                    1,
                )
            }
        };
        self.decoded(EventStream::new(Subscription::new(
            Arc::clone(shared),
            self.face,
            target,
            next,
        )))
    }
}

impl SnapshotStore for SledStore {
    async fn read(&self, stream: &StreamId) -> Result<Option<SnapshotEnvelope>, Error> {
        let stream = stream.clone();
        let stored = SledStore::read(self, move |shared| snapshots::read(shared, &stream)).await?;
        match (stored, &self.codec) {
            (Some(snapshot), Some(codec)) => codec.decode_snapshot(snapshot).map(Some),
            (stored, _) => Ok(stored),
        }
    }

    async fn persist(&self, mut snapshot: SnapshotEnvelope) -> Result<PersistOutcome, Error> {
        if let Some(codec) = &self.codec {
            snapshot = codec.encode_snapshot(snapshot)?;
        }
        let handle = Arc::clone(&self.owner.0);
        SledStore::read(self, move |shared| {
            // A snapshot that outlives the events it holds would stand for others later.
            if shared.durable() < shared.live.last() {
                handle.lock().sync_now()?;
            }
            snapshots::persist(shared, &snapshot)
        })
        .await
    }
}

impl fmt::Debug for SledStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.handle().shared;
        f.debug_struct("SledStore")
            .field("path", &shared.dir)
            .field("last_position", &shared.live.last())
            .field("closed", &shared.live.is_closed())
            .finish_non_exhaustive()
    }
}
