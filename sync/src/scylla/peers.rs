//! Other origins' logs kept on this machine, to be read without the server.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use parking_lot::{Mutex, RwLock};
use tidelog_backends::SledStore;
use tidelog_backends::commits::LogCopy;
use tidelog_core::{
    AppendBatch, AppendReceipt, Error, EventEnvelope, EventId, EventLog, EventStore, EventStream,
    Limits, LogIdentity, LogQuery, PageSource, StreamHead, StreamId, StreamQuery, Subscribe,
};
use uuid::Uuid;

use super::hidden::Hidden;

/// Most events of a page that is put together from those at hand.
const PAGE: usize = 256;

/// All that is kept.
#[derive(Clone, Default)]
pub(crate) struct Peers(Arc<RwLock<ByEpoch>>);

/// By origin and epoch.
type ByEpoch = BTreeMap<(Uuid, Uuid), Arc<Kept>>;

/// One epoch of another origin's log.
pub(super) struct Kept {
    pub origin: Uuid,
    pub epoch: Uuid,
    pub store: SledStore,
    pub copy: Mutex<LogCopy>,
    pub known: RwLock<Known>,
}

/// What its origin says of it.
#[derive(Clone, Default)]
pub(super) struct Known {
    pub name: Box<str>,
    pub hidden: Arc<Hidden>,
    pub is_retired: bool,
}

impl Peers {
    pub(super) fn get(&self, origin: Uuid, epoch: Uuid) -> Option<Arc<Kept>> {
        self.0.read().get(&(origin, epoch)).cloned()
    }

    pub(super) fn put(&self, kept: Kept) -> Arc<Kept> {
        let kept = Arc::new(kept);
        let key = (kept.origin, kept.epoch);
        self.0.write().insert(key, Arc::clone(&kept));
        kept
    }

    pub(super) fn forget(&self, origin: Uuid, epoch: Uuid) {
        self.0.write().remove(&(origin, epoch));
    }

    pub(super) fn kept(&self) -> Vec<Arc<Kept>> {
        self.0.read().values().cloned().collect()
    }

    pub(crate) fn all(&self) -> Vec<Peer> {
        self.kept().into_iter().map(Peer).collect()
    }

    /// The origin that writes this stream, as far as is known here.
    pub(crate) async fn writer_of(&self, stream: &StreamId) -> Option<Uuid> {
        for peer in self.all() {
            match peer.head(stream).await {
                Ok(Some(_)) => return Some(peer.origin()),
                Ok(None) => {}
                // A courtesy: what slips through meets the server.
                Err(error) => tracing::debug!(%error, "a peer cannot be asked"),
            }
        }
        None
    }

    /// Closes all of them.
    pub(super) fn close(&self) {
        let kept = std::mem::take(&mut *self.0.write());
        for kept in kept.into_values() {
            if let Err(error) = kept.store.close_blocking() {
                tracing::warn!(%error, "closing what is kept of another store failed");
            }
        }
    }
}

/// Another store's events, kept on this machine as far as they were settled when the server was
/// reached last. They are apart from this store's own: with their origin's positions, and read-only.
///
/// What its origin holds back, since a conflict is not resolved there, is left out.
#[derive(Clone)]
pub struct Peer(Arc<Kept>);

impl Peer {
    /// The store that recorded these events.
    pub fn origin(&self) -> Uuid {
        self.0.origin
    }

    /// The epoch of it.
    pub fn epoch(&self) -> Uuid {
        self.0.epoch
    }

    /// What it calls itself.
    pub fn name(&self) -> Box<str> {
        self.0.known.read().name.clone()
    }

    /// Whether the origin has given this epoch up for another one, which has a part of its history
    /// less.
    pub fn is_retired(&self) -> bool {
        self.0.known.read().is_retired
    }

    /// The newest position that is kept.
    pub fn position(&self) -> u64 {
        self.0.store.last_position()
    }

    /// One stream of it.
    pub fn read_stream(&self, mut query: StreamQuery) -> EventStream {
        let hidden = self.hidden();
        if let Some(first) = hidden.first_of(&query.stream) {
            query.to = query.to.min(first - 1);
        }
        visible(self.0.store.read_stream(query), hidden)
    }

    /// The newest event of `stream` there; `None` when it has none.
    ///
    /// # Errors
    /// As of any store.
    pub async fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        if self.hidden().first_of(stream).is_none() {
            return self.0.store.head(stream).await;
        }
        let newest = StreamQuery::new(stream.clone()).backward().limit(1);
        let newest = self.read_stream(newest).next().await.transpose()?;
        Ok(newest.map(|event| StreamHead {
            sequence: event.sequence,
            event_id: event.event_id,
        }))
    }

    /// All of it, in the order of its log.
    pub fn read_all(&self, query: LogQuery) -> EventStream {
        visible(self.0.store.read_all(query), self.hidden())
    }

    /// What is there already, then what comes.
    ///
    /// It does not go back: what its origin holds back when it comes is passed over. Where the server
    /// accepts those events later as they are, they are there for who reads
    /// ([`read_stream`](Self::read_stream), [`read_all`](Self::read_all)), below the place that a
    /// subscriber has reached; a subscriber of their stream finds the next event's sequence higher by
    /// more than one. Who must miss nothing without reading again takes
    /// [`Replication::follow`](crate::Replication::follow), whose vector has what was left out.
    pub fn subscribe(&self, what: Subscribe) -> EventStream {
        let kept = Arc::clone(&self.0);
        let hides = move |event: &EventEnvelope| hides(&kept.known.read().hidden, event);
        EventStream::new(Visible {
            events: self.0.store.subscribe(what),
            hides: Box::new(hides),
        })
    }

    /// It as a log, for whatever is generic over logs.
    pub fn log(&self) -> PeerLog {
        PeerLog(self.clone())
    }

    fn hidden(&self) -> Arc<Hidden> {
        Arc::clone(&self.0.known.read().hidden)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("origin", &self.origin())
            .field("epoch", &self.epoch())
            .field("name", &self.name())
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}

/// A [`Peer`] as a log: it is read as any other, and appends answer [`Error::ForeignStream`].
#[derive(Clone, Debug)]
pub struct PeerLog(Peer);

impl EventStore for PeerLog {
    async fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Error> {
        Err(Error::ForeignStream {
            stream: batch.stream,
            origin: self.0.origin(),
        })
    }

    fn read_stream(&self, query: StreamQuery) -> EventStream {
        self.0.read_stream(query)
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        self.0.head(stream).await
    }

    async fn find_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
    ) -> Result<Option<EventEnvelope>, Error> {
        let found = self.0.0.store.find_event(stream, event_id).await?;
        let hidden = self.0.hidden();
        Ok(found.filter(|event| !hides(&hidden, event)))
    }

    fn limits(&self) -> Limits {
        self.0.0.store.limits()
    }
}

impl EventLog for PeerLog {
    fn read_all(&self, query: LogQuery) -> EventStream {
        self.0.read_all(query)
    }

    fn identity(&self) -> LogIdentity {
        self.0.0.store.identity()
    }

    fn first_position(&self) -> u64 {
        self.0.0.store.first_position()
    }

    fn last_position(&self) -> u64 {
        self.0.position()
    }

    fn subscribe(&self, what: Subscribe) -> EventStream {
        self.0.subscribe(what)
    }

    fn is_superseded(&self, event: &EventEnvelope) -> bool {
        self.0.0.store.is_superseded(event)
    }
}

fn hides(hidden: &Hidden, event: &EventEnvelope) -> bool {
    let position = event.position.unwrap_or_default();
    event.sequence > 0 && hidden.hides(&event.stream, event.sequence, position)
}

fn visible(events: EventStream, hidden: Arc<Hidden>) -> EventStream {
    if hidden.is_empty() {
        return events;
    }
    EventStream::new(Visible {
        events,
        hides: Box::new(move |event| hides(&hidden, event)),
    })
}

/// Events without those that are held back.
struct Visible {
    events: EventStream,
    hides: Box<dyn Fn(&EventEnvelope) -> bool + Send>,
}

impl PageSource for Visible {
    fn poll_page(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Vec<EventEnvelope>, Error>>> {
        let mut page = Vec::new();
        while page.len() < PAGE {
            match std::pin::Pin::new(&mut self.events).poll_next(cx) {
                Poll::Ready(Some(Ok(event))) if (self.hides)(&event) => {}
                Poll::Ready(Some(Ok(event))) => page.push(event),
                Poll::Ready(Some(Err(error))) if page.is_empty() => {
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) if page.is_empty() => return Poll::Ready(None),
                Poll::Pending if page.is_empty() => return Poll::Pending,
                // It comes again with the next page: an error is not lost, since the stream has
                // ended with it.
                Poll::Ready(Some(Err(error))) => {
                    self.events = EventStream::failed(error);
                    break;
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(Some(Ok(page)))
    }
}
