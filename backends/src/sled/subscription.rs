//! Subscriptions: what is there already, then what comes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tidelog_core::{Error, EventEnvelope, LogQuery, PageSource, StreamId, StreamQuery};

use super::live::Subscriber;
use super::log_pages::LogPages;
use super::pages::StreamPages;
use super::shared::Shared;
use super::signal::Listener;
use super::workers::{Face, Paged};

/// What is followed.
pub(crate) enum Target {
    All,
    Stream {
        stream: StreamId,
        hash: u64,
        next_sequence: u64,
    },
}

/// Follows the log from one position on. Behind, it reads the log page by page; level with the
/// writer, it takes commits from the buffer that all subscriptions share.
pub(crate) struct Subscription {
    shared: Arc<Shared>,
    face: Face,
    target: Target,
    /// Everything below was delivered, or is none of this subscription's.
    next: u64,
    /// What was delivered of a stream is of its newest branch as of this position.
    seen: u64,
    catching_up: Option<(Paged, u64)>,
    listener: Option<Listener>,
    ended: bool,
    /// Whether the place it starts after is known to be in the log.
    checked: bool,
    _subscriber: Subscriber,
}

impl Subscription {
    pub(crate) fn new(shared: Arc<Shared>, face: Face, target: Target, next: u64) -> Self {
        let subscriber = shared.live.subscribe();
        let seen = shared.live.last();
        let checked = !matches!(
            target,
            Target::Stream {
                next_sequence: 2..,
                ..
            }
        );
        Self {
            shared,
            face,
            target,
            next,
            seen,
            catching_up: None,
            listener: None,
            ended: false,
            checked,
            _subscriber: subscriber,
        }
    }

    /// Reads what was recorded up to `last`.
    fn catch_up(&self, last: u64) -> Paged {
        let shared = &self.shared;
        let (workers, live) = (shared.workers.clone(), Arc::clone(&shared.live));
        match &self.target {
            Target::All => {
                let query = LogQuery::from(self.next).to(last);
                let pages = LogPages::new(Arc::clone(&shared.log), query.from, query.to);
                Paged::new(self.face, workers, live, pages)
            }
            Target::Stream {
                stream,
                hash,
                next_sequence,
            } => {
                let query = StreamQuery::new(stream.clone()).from(*next_sequence);
                let (streams, log) = (Arc::clone(&shared.streams), Arc::clone(&shared.log));
                let mut pages = StreamPages::new(streams, log, *hash, query, last);
                if !self.checked {
                    pages.must_hold(*next_sequence - 1);
                }
                Paged::new(self.face, workers, live, pages)
            }
        }
    }

    /// Fails when some of what was delivered gave way to others up to position `last`.
    fn check_branch(&mut self, last: u64) -> Result<(), Error> {
        let after = self.seen;
        self.seen = last.max(after);
        let Target::Stream {
            stream,
            next_sequence,
            ..
        } = &self.target
        else {
            return Ok(());
        };
        let branches = &self.shared.log.branches;
        let from = branches.superseded_between(stream, (after, last));
        match from.filter(|from| from < next_sequence) {
            Some(from) => Err(Error::Superseded {
                stream: stream.clone(),
                from,
            }),
            None => Ok(()),
        }
    }

    /// The part of `envelopes` that is wanted and was not delivered yet.
    fn take(&mut self, envelopes: &[EventEnvelope]) -> Vec<EventEnvelope> {
        match &mut self.target {
            Target::All => envelopes.to_vec(),
            Target::Stream {
                stream,
                next_sequence,
                ..
            } => {
                let wanted = |envelope: &&EventEnvelope| {
                    envelope.sequence >= *next_sequence && envelope.stream == *stream
                };
                let taken: Vec<_> = envelopes.iter().filter(wanted).cloned().collect();
                if let Some(last) = taken.last() {
                    *next_sequence = last.sequence + 1;
                }
                taken
            }
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<EventEnvelope>, Error>> {
        loop {
            if let Some((paged, last)) = &mut self.catching_up {
                let last = *last;
                match ready!(paged.poll_page(cx)) {
                    Some(Ok(page)) => {
                        let newest = page
                            .last()
                            .map(|envelope| (envelope.sequence, envelope.position));
                        if let (Target::Stream { next_sequence, .. }, Some((sequence, _))) =
                            (&mut self.target, newest)
                        {
                            *next_sequence = sequence + 1;
                        }
                        if let Some((_, Some(position))) = newest {
                            self.next = position + 1;
                        }
                        return Poll::Ready(Ok(page));
                    }
                    Some(Err(error)) => return Poll::Ready(Err(error)),
                    None => {
                        self.catching_up = None;
                        self.next = last + 1;
                    }
                }
            }
            if self.shared.live.is_closed() {
                return Poll::Ready(Err(Error::Closed));
            }
            let last = self.shared.live.last();
            if self.next <= last {
                self.listener = None;
                match self.shared.live.page(self.next).filter(|_| self.checked) {
                    Some(page) => {
                        if let Err(error) = self.check_branch(page.last) {
                            return Poll::Ready(Err(error));
                        }
                        self.next = page.last + 1;
                        let taken = self.take(page.envelopes());
                        if !taken.is_empty() {
                            return Poll::Ready(Ok(taken));
                        }
                    }
                    None => {
                        if let Err(error) = self.check_branch(last) {
                            return Poll::Ready(Err(error));
                        }
                        self.catching_up = Some((self.catch_up(last), last));
                        self.checked = true;
                    }
                }
                continue;
            }
            // Listen first, then look again: news in between is not missed.
            match &mut self.listener {
                None => self.listener = Some(self.shared.live.listen()),
                Some(listener) => {
                    ready!(Pin::new(listener).poll(cx));
                    self.listener = None;
                }
            }
        }
    }
}

impl PageSource for Subscription {
    fn poll_page(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Vec<EventEnvelope>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let step = ready!(self.poll_step(cx));
        self.ended = step.is_err();
        Poll::Ready(Some(step))
    }
}
