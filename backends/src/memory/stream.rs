//! Reads and subscriptions over the model, a page at a time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use event_listener::EventListener;
use tidelog_core::{Direction, Error, EventEnvelope, LogQuery, PageSource, StreamQuery, Subscribe};

use super::Shared;

/// Most envelopes handed out at once; they share their payloads with the store.
const PAGE: u64 = 256;

type Page = Option<Result<Vec<EventEnvelope>, Error>>;

/// What is left to read of a pinned range of numbers, both ends included.
struct Rest {
    from: u64,
    to: u64,
    left: u64,
}

impl Rest {
    fn new(from: u64, to: u64, limit: Option<u64>) -> Self {
        Self {
            from: from.max(1),
            to,
            left: limit.unwrap_or(u64::MAX),
        }
    }

    /// Takes the next page's range off the lower end; `None` when nothing is left.
    fn take_lowest(&mut self) -> Option<(u64, u64)> {
        let count = self.next_count()?;
        let page = (self.from, self.from + (count - 1));
        self.from += count;
        Some(page)
    }

    /// Takes the next page's range off the upper end; `None` when nothing is left.
    fn take_highest(&mut self) -> Option<(u64, u64)> {
        let count = self.next_count()?;
        let page = (self.to - (count - 1), self.to);
        self.to -= count;
        Some(page)
    }

    fn next_count(&mut self) -> Option<u64> {
        if self.from > self.to || self.left == 0 {
            return None;
        }
        let count = PAGE.min(self.left).min(self.to - self.from + 1);
        self.left -= count;
        Some(count)
    }
}

/// A read of one stream, up to the head that it had when it was asked for.
pub(super) struct StreamRead {
    shared: Arc<Shared>,
    query: StreamQuery,
    rest: Rest,
    pin: u64,
}

impl StreamRead {
    pub(super) fn pinned(shared: Arc<Shared>, query: StreamQuery) -> Self {
        let (head, pin) = {
            let model = shared.model.lock();
            (model.head(&query.stream), model.last_position())
        };
        let newest = head.map_or(0, |head| head.sequence);
        let rest = Rest::new(query.from, query.to.min(newest), query.limit);
        Self {
            shared,
            query,
            rest,
            pin,
        }
    }
}

impl PageSource for StreamRead {
    fn poll_page(&mut self, _: &mut Context<'_>) -> Poll<Page> {
        let model = self.shared.model.lock();
        if let Err(closed) = model.check_open() {
            return Poll::Ready(Some(Err(closed)));
        }
        let range = match self.query.direction {
            Direction::Forward => self.rest.take_lowest(),
            Direction::Backward => self.rest.take_highest(),
        };
        Poll::Ready(range.map(|range| {
            let page = model.stream_range_at(&self.query.stream, range, self.pin);
            let mut page = page.to_vec();
            if self.query.direction == Direction::Backward {
                page.reverse();
            }
            Ok(page)
        }))
    }
}

/// A read of the whole log, up to the last position that it had when it was asked for.
pub(super) struct LogRead {
    shared: Arc<Shared>,
    rest: Rest,
}

impl LogRead {
    pub(super) fn pinned(shared: Arc<Shared>, query: LogQuery) -> Self {
        let newest = shared.model.lock().last_position();
        let rest = Rest::new(query.from, query.to.min(newest), query.limit);
        Self { shared, rest }
    }
}

impl PageSource for LogRead {
    fn poll_page(&mut self, _: &mut Context<'_>) -> Poll<Page> {
        let model = self.shared.model.lock();
        if let Err(closed) = model.check_open() {
            return Poll::Ready(Some(Err(closed)));
        }
        let range = self.rest.take_lowest();
        Poll::Ready(range.map(|(from, to)| Ok(model.log_range(from, to).to_vec())))
    }
}

/// What is there after a place, then what comes.
pub(super) struct Subscription {
    shared: Arc<Shared>,
    what: Subscribe,
    /// What was delivered of a stream is what it was at this position.
    seen: u64,
    /// Present while waiting for a change.
    listener: Option<EventListener>,
}

impl Subscription {
    pub(super) fn new(shared: Arc<Shared>, what: Subscribe) -> Result<Self, Error> {
        let (after, newest, seen) = {
            let model = shared.model.lock();
            let last = model.last_position();
            match &what {
                Subscribe::All { after } => (*after, last, last),
                Subscribe::Stream { stream, after } => (*after, model.last_sequence(stream), last),
            }
        };
        if after > newest {
            let reason = format!("the newest is {newest}: what was seen there is not in this log");
            return Err(Error::invalid("place to subscribe after", after, reason));
        }
        Ok(Self {
            shared,
            what,
            seen,
            listener: None,
        })
    }

    /// The next page, empty when nothing is there yet, and moves on behind it.
    fn next_page(&mut self) -> Result<Vec<EventEnvelope>, Error> {
        let model = self.shared.model.lock();
        model.check_going_on()?;
        let page = match &mut self.what {
            Subscribe::All { after } => {
                let page = model.log_range(after.saturating_add(1), after.saturating_add(PAGE));
                *after += page.len() as u64;
                page
            }
            Subscribe::Stream { stream, after } => {
                let since = std::mem::replace(&mut self.seen, model.last_position());
                let from = model.superseded_since(stream, since);
                if let Some(from) = from.filter(|from| *from <= *after) {
                    let stream = stream.clone();
                    return Err(Error::Superseded { stream, from });
                }
                let (from, to) = (after.saturating_add(1), after.saturating_add(PAGE));
                let page = model.stream_range(stream, from, to);
                *after += page.len() as u64;
                page
            }
        };
        Ok(page.to_vec())
    }
}

impl PageSource for Subscription {
    fn poll_page(&mut self, cx: &mut Context<'_>) -> Poll<Page> {
        loop {
            match self.next_page() {
                Ok(page) if page.is_empty() => {}
                found => {
                    self.listener = None;
                    return Poll::Ready(Some(found));
                }
            }
            match &mut self.listener {
                // Looked at once more after listening began, so that no change is missed.
                None => self.listener = Some(self.shared.changed.listen()),
                Some(listener) => {
                    ready!(Pin::new(listener).poll(cx));
                    self.listener = None;
                }
            }
        }
    }
}
