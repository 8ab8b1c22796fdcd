//! What users hold of a projection's rows.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use pollster::block_on;
use tidelog_backends::SledStore;
use tidelog_core::{
    Direction, Error, EventLog, FoundRow, KeyedRow, ParkedStream, Prepared, Projection, Repository,
    RowKey, RowStore, RowsError, Slot, StreamId, parked_streams,
};

use super::Shared;
use super::alarm::block_until;
use super::mailbox::Request;
use super::model::{Model, Serving};
use super::progress::ProjectionStatus;

/// The rows of the projection `P`, to be asked: a cheap handle, which does not keep the store open.
///
/// One call's answer is one state: whatever was committed up to one position, whole appends of up
/// to 1,000 events. Two calls may see two states. It is a [`Repository`], so it fits into a
/// [`QueryHandler`](crate::QueryHandler) like any other.
///
/// Every call answers [`Error::Rebuilding`] while rows are made anew and no older ones can serve,
/// and [`Error::Closed`] once the store is closed.
pub struct ReadModel<P: Projection, S = SledStore> {
    of: Arc<Prepared<P>>,
    number: usize,
    model: Arc<Model>,
    shared: Arc<Shared<S>>,
}

impl<P: Projection, S: EventLog + RowStore> ReadModel<P, S> {
    pub(crate) fn new(
        of: Arc<Prepared<P>>,
        number: usize,
        model: Arc<Model>,
        shared: Arc<Shared<S>>,
    ) -> Self {
        Self {
            of,
            number,
            model,
            shared,
        }
    }

    /// Whether there can be such a row.
    pub(crate) fn check_row(&self, key: &P::Key, row: &P::Row) -> Result<(), Error> {
        self.of.check_row(key, row)
    }

    /// The same calls for threads without a runtime.
    pub fn blocking(&self) -> BlockingReadModel<P, S> {
        BlockingReadModel(self.clone())
    }

    /// The row under `key`.
    ///
    /// # Errors
    /// As said on [`ReadModel`], or what the store's engine met.
    pub async fn get(&self, key: &P::Key) -> Result<Option<P::Row>, Error> {
        let (of, key) = (Arc::clone(&self.of), key.clone());
        self.ask(move |store, slot| of.get(store, slot, &key)).await
    }

    /// At most `limit` rows with keys in `range`, in key order. The next page begins after the last
    /// key of this one.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn scan(
        &self,
        range: impl RangeBounds<P::Key> + Send,
        limit: usize,
    ) -> Result<Vec<KeyedRow<P>>, Error> {
        self.scan_to(owned(&range), Direction::Forward, limit).await
    }

    /// At most `limit` rows with keys in `range`, from the last key downwards.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn scan_back(
        &self,
        range: impl RangeBounds<P::Key> + Send,
        limit: usize,
    ) -> Result<Vec<KeyedRow<P>>, Error> {
        self.scan_to(owned(&range), Direction::Backward, limit)
            .await
    }

    async fn scan_to(
        &self,
        range: Bounds<P::Key>,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<KeyedRow<P>>, Error> {
        let of = Arc::clone(&self.of);
        self.ask(move |store, slot| of.scan(store, slot, &range, direction, limit))
            .await
    }

    /// At most `limit` rows that `lookup` finds under `key`, in the order of their own keys.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there is no such lookup, or it finds by keys of another type;
    /// else as [`get`](Self::get).
    pub async fn find<L: RowKey>(
        &self,
        lookup: &str,
        key: &L,
        limit: usize,
    ) -> Result<Vec<KeyedRow<P>>, Error> {
        let found = self.find_range(lookup, key.clone()..=key.clone(), limit);
        let rows = found.await?.into_iter();
        Ok(rows.map(|(_, key, row)| (key, row)).collect())
    }

    /// At most `limit` rows that `lookup` finds under keys in `range`, in the order of these keys,
    /// then of the rows' own. To go on page by page, let the lookup's key hold the row's: a pair
    /// `(L, Key)` is a key.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub async fn find_range<L: RowKey>(
        &self,
        lookup: &str,
        range: impl RangeBounds<L> + Send,
        limit: usize,
    ) -> Result<Vec<FoundRow<P, L>>, Error> {
        let (of, lookup, range) = (Arc::clone(&self.of), lookup.to_owned(), owned(&range));
        self.ask(move |store, slot| of.find(store, slot, &lookup, &range, limit))
            .await
    }

    /// Returns once the rows hold everything up to `position`; `None` at once. What
    /// [`CommandResponse::position`](crate::CommandResponse) says makes the rows that are asked
    /// next show what was just done. A position that the log has not reached is waited for; while
    /// rows are made anew, the new ones are waited for. Cancel safe.
    ///
    /// # Errors
    /// Instead of waiting for ever: [`Error::Stopped`], [`Error::Parked`] when something at or below
    /// `position` is held, [`Error::Closed`].
    pub async fn wait_for(&self, position: impl Into<Option<u64>>) -> Result<(), Error> {
        let Some(position) = position.into() else {
            return Ok(());
        };
        loop {
            let changed = self.model.listen();
            if let Some(answer) = self.model.reached(position) {
                return answer;
            }
            changed.await;
        }
    }

    /// How far it is.
    pub fn progress(&self) -> ProjectionStatus {
        let last = self.shared.stores().map(|s| s.blocking.last_position());
        self.model.status(last.unwrap_or(0))
    }

    /// Makes the rows anew from the first event while the present ones serve, and stay fed; answers
    /// when the new ones serve. It goes on when this call is dropped.
    ///
    /// # Errors
    /// [`Error::Stopped`] when an event fails, [`Error::Closed`].
    pub async fn rebuild(&self) -> Result<(), Error> {
        self.request(Request::Rebuild).await
    }

    /// Goes on after [`Error::Stopped`]: the event that failed is tried again, as often as the
    /// retry policy says. Answers at once; [`progress`](Self::progress) and
    /// [`wait_for`](Self::wait_for) say what became of it.
    ///
    /// # Errors
    /// [`Error::Stopped`] when it cannot go on at all, [`Error::Closed`].
    pub async fn retry(&self) -> Result<(), Error> {
        self.request(Request::Retry).await
    }

    /// The streams that are set aside, in the order of their names.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn parked(&self) -> Result<Vec<ParkedStream>, Error> {
        self.ask(move |store, slot| parked_streams(store, slot))
            .await
    }

    /// Takes in what is held of `stream`, then goes on with it as with any other. Nothing is held:
    /// nothing happens. Other projections of the store wait meanwhile.
    ///
    /// # Errors
    /// [`Error::Parked`] when an event of it fails again: what stands before it is taken in, the
    /// rest stays held. [`Error::Closed`].
    pub async fn resume(&self, stream: &StreamId) -> Result<(), Error> {
        let stream = stream.clone();
        self.request(|reply| Request::Resume(stream, reply)).await
    }

    async fn request(
        &self,
        make: impl FnOnce(super::mailbox::Reply) -> Request,
    ) -> Result<(), Error> {
        let (reply, answer) = oneshot::async_channel();
        self.shared.mailbox.send(self.number, make(reply));
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Runs `work` on the slot that is asked, where this store's async callers do.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&S, &Slot) -> Result<T, RowsError> + Send + 'static,
    ) -> Result<T, Error> {
        self.checked().await;
        let store = self.shared.stores()?.asynchronous;
        let this = self.clone();
        store.on_thread(move |store| this.answer(store, work)).await
    }

    /// Waits until it is known which rows there are.
    async fn checked(&self) {
        while self.model.is_checking() {
            let changed = self.model.listen();
            if self.model.is_checking() {
                changed.await;
            }
        }
    }

    fn answer<T>(
        &self,
        store: &S,
        work: impl FnOnce(&S, &Slot) -> Result<T, RowsError>,
    ) -> Result<T, Error> {
        let serving = self.model.serving.read();
        let slot = match &*serving {
            Serving::Slot(slot) => *slot,
            Serving::Checking | Serving::Nothing => {
                return Err(self.model.rebuilding(store.last_position()));
            }
            Serving::Refused(error) => return Err(error.clone()),
            Serving::Closed => return Err(Error::Closed),
        };
        match work(store, &slot) {
            Ok(answer) => Ok(answer),
            Err(RowsError::Failed(error)) => Err(error),
            Err(RowsError::Lost(_)) => {
                drop(serving);
                self.shared.mailbox.send(self.number, Request::Lost(slot));
                Err(self.model.rebuilding(store.last_position()))
            }
        }
    }
}

type Bounds<K> = (Bound<K>, Bound<K>);

fn owned<K: Clone>(range: &impl RangeBounds<K>) -> Bounds<K> {
    (range.start_bound().cloned(), range.end_bound().cloned())
}

impl<P: Projection, S: EventLog + RowStore> Repository<P::Key, P::Row> for ReadModel<P, S> {
    async fn get(&self, key: &P::Key) -> Result<Option<P::Row>, Error> {
        Self::get(self, key).await
    }

    async fn scan(
        &self,
        range: impl RangeBounds<P::Key> + Send,
        limit: usize,
    ) -> Result<Vec<(P::Key, P::Row)>, Error> {
        Self::scan(self, range, limit).await
    }

    async fn scan_back(
        &self,
        range: impl RangeBounds<P::Key> + Send,
        limit: usize,
    ) -> Result<Vec<(P::Key, P::Row)>, Error> {
        Self::scan_back(self, range, limit).await
    }
}

impl<P: Projection, S> Clone for ReadModel<P, S> {
    fn clone(&self) -> Self {
        Self {
            of: Arc::clone(&self.of),
            number: self.number,
            model: Arc::clone(&self.model),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<P: Projection, S> fmt::Debug for ReadModel<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadModel")
            .field("of", &self.model.name)
            .finish_non_exhaustive()
    }
}

/// A [`ReadModel`] whose calls block the calling thread and work on it. Do not use it inside async
/// code.
pub struct BlockingReadModel<P: Projection, S = SledStore>(ReadModel<P, S>);

impl<P: Projection, S: EventLog + RowStore> BlockingReadModel<P, S> {
    /// The async handle on the same rows.
    pub fn inner(&self) -> &ReadModel<P, S> {
        &self.0
    }

    /// See [`ReadModel::get`].
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, key: &P::Key) -> Result<Option<P::Row>, Error> {
        self.ask(|store, slot| self.0.of.get(store, slot, key))
    }

    /// See [`ReadModel::scan`].
    ///
    /// # Errors
    /// As there.
    pub fn scan(
        &self,
        range: impl RangeBounds<P::Key>,
        limit: usize,
    ) -> Result<Vec<KeyedRow<P>>, Error> {
        let forward = Direction::Forward;
        self.ask(|store, slot| self.0.of.scan(store, slot, &range, forward, limit))
    }

    /// See [`ReadModel::scan_back`].
    ///
    /// # Errors
    /// As there.
    pub fn scan_back(
        &self,
        range: impl RangeBounds<P::Key>,
        limit: usize,
    ) -> Result<Vec<KeyedRow<P>>, Error> {
        let backward = Direction::Backward;
        self.ask(|store, slot| self.0.of.scan(store, slot, &range, backward, limit))
    }

    /// See [`ReadModel::find`].
    ///
    /// # Errors
    /// As there.
    pub fn find<L: RowKey>(
        &self,
        lookup: &str,
        key: &L,
        limit: usize,
    ) -> Result<Vec<KeyedRow<P>>, Error> {
        let rows = self.find_range(lookup, key.clone()..=key.clone(), limit)?;
        let rows = rows.into_iter();
        Ok(rows.map(|(_, key, row)| (key, row)).collect())
    }

    /// See [`ReadModel::find_range`].
    ///
    /// # Errors
    /// As there.
    pub fn find_range<L: RowKey>(
        &self,
        lookup: &str,
        range: impl RangeBounds<L>,
        limit: usize,
    ) -> Result<Vec<FoundRow<P, L>>, Error> {
        self.ask(|store, slot| self.0.of.find(store, slot, lookup, &range, limit))
    }

    /// See [`ReadModel::wait_for`].
    ///
    /// # Errors
    /// As there.
    pub fn wait_for(&self, position: impl Into<Option<u64>>) -> Result<(), Error> {
        block_on(self.0.wait_for(position))
    }

    /// [`wait_for`](Self::wait_for), at most for `timeout`; false when it has passed.
    ///
    /// # Errors
    /// As there.
    pub fn wait_for_timeout(
        &self,
        position: impl Into<Option<u64>>,
        timeout: Duration,
    ) -> Result<bool, Error> {
        let until = Instant::now().checked_add(timeout);
        let mut waiting = pin!(self.0.wait_for(position));
        block_until(|cx| match waiting.as_mut().poll(cx) {
            Poll::Ready(answer) => (Poll::Ready(answer.map(|()| true)), None),
            Poll::Pending if until.is_some_and(|until| Instant::now() >= until) => {
                (Poll::Ready(Ok(false)), None)
            }
            Poll::Pending => (Poll::Pending, until),
        })
    }

    /// See [`ReadModel::progress`].
    pub fn progress(&self) -> ProjectionStatus {
        self.0.progress()
    }

    /// See [`ReadModel::rebuild`].
    ///
    /// # Errors
    /// As there.
    pub fn rebuild(&self) -> Result<(), Error> {
        block_on(self.0.rebuild())
    }

    /// See [`ReadModel::retry`].
    ///
    /// # Errors
    /// As there.
    pub fn retry(&self) -> Result<(), Error> {
        block_on(self.0.retry())
    }

    /// See [`ReadModel::parked`].
    ///
    /// # Errors
    /// As there.
    pub fn parked(&self) -> Result<Vec<ParkedStream>, Error> {
        self.ask(|store, slot| parked_streams(store, slot))
    }

    /// See [`ReadModel::resume`].
    ///
    /// # Errors
    /// As there.
    pub fn resume(&self, stream: &StreamId) -> Result<(), Error> {
        block_on(self.0.resume(stream))
    }

    fn ask<T>(&self, work: impl FnOnce(&S, &Slot) -> Result<T, RowsError>) -> Result<T, Error> {
        block_on(self.0.checked());
        let store = self.0.shared.stores()?.blocking;
        self.0.answer(&store, work)
    }
}

impl<P: Projection, S> Clone for BlockingReadModel<P, S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P: Projection, S> fmt::Debug for BlockingReadModel<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
