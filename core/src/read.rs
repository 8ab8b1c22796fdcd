//! Reading: what to read, and the stream of envelopes that comes back.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;

use crate::envelope::EventEnvelope;
use crate::error::Error;
use crate::stream_id::StreamId;

/// Which way a stream is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Oldest first.
    #[default]
    Forward,
    /// Newest first.
    Backward,
}

/// Which events of one stream to read.
///
/// ```
/// use tidelog_core::{StreamId, StreamQuery};
/// let account = StreamId::new("BankAccount", "acc-1")?;
/// let newest_ten = StreamQuery::new(account).backward().limit(10);
/// assert_eq!(newest_ten.limit, Some(10));
/// # Ok::<(), tidelog_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamQuery {
    /// The stream.
    pub stream: StreamId,
    /// Lowest sequence wanted; 1 is the first event.
    pub from: u64,
    /// Highest sequence wanted; `u64::MAX` is the newest event when reading starts.
    pub to: u64,
    /// Which way.
    pub direction: Direction,
    /// Most events wanted.
    pub limit: Option<u64>,
}

impl StreamQuery {
    /// All events of `stream`, oldest first.
    pub fn new(stream: StreamId) -> Self {
        Self {
            stream,
            from: 1,
            to: u64::MAX,
            direction: Direction::Forward,
            limit: None,
        }
    }

    /// Only from this sequence on.
    pub fn from(mut self, sequence: u64) -> Self {
        self.from = sequence;
        self
    }

    /// Only up to this sequence, itself included.
    pub fn to(mut self, sequence: u64) -> Self {
        self.to = sequence;
        self
    }

    /// Newest first.
    pub fn backward(mut self) -> Self {
        self.direction = Direction::Backward;
        self
    }

    /// At most this many events.
    pub fn limit(mut self, events: u64) -> Self {
        self.limit = Some(events);
        self
    }
}

/// Which part of the whole log to read, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// Lowest position wanted.
    pub from: u64,
    /// Highest position wanted; `u64::MAX` is the newest when reading starts.
    pub to: u64,
    /// Most records wanted.
    pub limit: Option<u64>,
}

impl LogQuery {
    /// Everything.
    pub const fn all() -> Self {
        Self {
            from: 1,
            to: u64::MAX,
            limit: None,
        }
    }

    /// From this position on.
    pub const fn from(position: u64) -> Self {
        Self {
            from: position,
            to: u64::MAX,
            limit: None,
        }
    }

    /// Only up to this position, itself included.
    pub const fn to(mut self, position: u64) -> Self {
        self.to = position;
        self
    }

    /// At most this many records.
    pub const fn limit(mut self, records: u64) -> Self {
        self.limit = Some(records);
        self
    }
}

/// What a subscription delivers, and after which place it starts.
///
/// A place that the log, or the stream, has not reached is answered with
/// [`Error::InvalidInput`] as the first and only item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscribe {
    /// Every record of the log after this position; 0 starts at the beginning.
    All {
        /// The last position already seen.
        after: u64,
    },
    /// Every event of one stream after this sequence; 0 starts at the beginning.
    Stream {
        /// The stream.
        stream: StreamId,
        /// The last sequence already seen.
        after: u64,
    },
}

/// What stands behind an [`EventStream`]; backends implement it, users do not meet it.
pub trait PageSource: Send + 'static {
    /// The next page of at least one envelope; `None` at the end; after an error, `None`.
    fn poll_page(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Vec<EventEnvelope>, Error>>>;
}

/// Envelopes being read: owned, `Send`, independent of the store handle it came from.
///
/// It is a [`Stream`]; it also has `next` and `next_page` of its own, so no extension trait is
/// needed. One read sees one prefix of history, pinned when it was asked for. Dropping it cancels
/// what is under way. Closing the store ends it with [`Error::Closed`]. After an error it ends.
pub struct EventStream {
    source: Option<Box<dyn PageSource>>,
    page: std::vec::IntoIter<EventEnvelope>,
}

impl EventStream {
    /// A stream of what `source` delivers.
    pub fn new(source: impl PageSource) -> Self {
        Self {
            source: Some(Box::new(source)),
            page: Vec::new().into_iter(),
        }
    }

    /// A stream that delivers one error.
    pub fn failed(error: Error) -> Self {
        struct Failed(Option<Error>);
        impl PageSource for Failed {
            fn poll_page(
                &mut self,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Vec<EventEnvelope>, Error>>> {
                Poll::Ready(self.0.take().map(Err))
            }
        }
        Self::new(Failed(Some(error)))
    }

    /// The next envelope; `None` at the end. Cancel safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Option<Result<EventEnvelope, Error>> {
        std::future::poll_fn(|cx| self.poll_one(cx)).await
    }

    /// The rest of the page at hand, or the next one; `None` at the end. Pages are as large as the
    /// backend reads at once, at least one envelope. Cancel safe.
    pub async fn next_page(&mut self) -> Option<Result<Vec<EventEnvelope>, Error>> {
        std::future::poll_fn(|cx| {
            if self.page.len() == 0 {
                match std::task::ready!(self.poll_fill(cx)) {
                    Some(Ok(())) => {}
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    None => return Poll::Ready(None),
                }
            }
            Poll::Ready(Some(Ok(std::mem::take(&mut self.page).collect())))
        })
        .await
    }

    /// All that is left, in memory at once.
    ///
    /// # Errors
    /// The first error met; what was read before it is dropped.
    pub async fn collect(mut self) -> Result<Vec<EventEnvelope>, Error> {
        let mut all = Vec::new();
        while let Some(page) = self.next_page().await {
            let page = page?;
            if all.is_empty() {
                all = page;
            } else {
                all.extend(page);
            }
        }
        Ok(all)
    }

    /// The same as an iterator for threads without a runtime.
    pub fn into_blocking(self) -> BlockingEventStream {
        BlockingEventStream(self)
    }

    fn poll_one(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<EventEnvelope, Error>>> {
        loop {
            if let Some(envelope) = self.page.next() {
                return Poll::Ready(Some(Ok(envelope)));
            }
            match std::task::ready!(self.poll_fill(cx)) {
                Some(Ok(())) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), Error>>> {
        let Some(source) = &mut self.source else {
            return Poll::Ready(None);
        };
        match std::task::ready!(source.poll_page(cx)) {
            Some(Ok(page)) => {
                self.page = page.into_iter();
                Poll::Ready(Some(Ok(())))
            }
            Some(Err(error)) => {
                self.source = None;
                Poll::Ready(Some(Err(error)))
            }
            None => {
                self.source = None;
                Poll::Ready(None)
            }
        }
    }
}

impl Stream for EventStream {
    type Item = Result<EventEnvelope<Bytes>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_one(cx)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("buffered", &self.page.len())
            .field("ended", &self.source.is_none())
            .finish()
    }
}

/// An [`EventStream`] as an iterator: `next` blocks the thread until there is an envelope.
#[derive(Debug)]
pub struct BlockingEventStream(EventStream);

impl BlockingEventStream {
    /// The next envelope, waiting at most `timeout`: `Ok(None)` when none came in time or the
    /// stream has ended.
    ///
    /// # Errors
    /// Whatever reading met.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<EventEnvelope>, Error> {
        let deadline = Instant::now() + timeout;
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut cx = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(item) = self.0.poll_one(&mut cx) {
                return item.transpose();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::park_timeout(left);
        }
    }

    #[cold]
    fn wait(&mut self) -> Option<Result<EventEnvelope, Error>> {
        pollster::block_on(self.0.next())
    }

    /// The rest of the page at hand, or the next one; `None` at the end.
    pub fn next_page(&mut self) -> Option<Result<Vec<EventEnvelope>, Error>> {
        pollster::block_on(self.0.next_page())
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Iterator for BlockingEventStream {
    type Item = Result<EventEnvelope, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        // The common case must not pay for a waker.
        if let Some(envelope) = self.0.page.next() {
            return Some(Ok(envelope));
        }
        self.wait()
    }
}
