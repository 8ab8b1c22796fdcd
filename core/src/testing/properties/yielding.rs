//! A store that lets others run before and after each of its calls, and which command runs when.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crate::append::{AppendBatch, AppendReceipt};
use crate::dyn_store::BoxFuture;
use crate::envelope::EventEnvelope;
use crate::error::Error;
use crate::id::EventId;
use crate::limits::Limits;
use crate::read::{EventStream, PageSource, StreamQuery};
use crate::store::{EventStore, StreamHead};
use crate::stream_id::StreamId;

#[derive(Clone)]
pub(super) struct Yielding<S>(pub(super) S);

impl<S: EventStore> EventStore for Yielding<S> {
    async fn append(&self, batch: AppendBatch) -> Result<AppendReceipt, Error> {
        pause().await;
        let receipt = self.0.append(batch).await;
        pause().await;
        receipt
    }

    fn read_stream(&self, query: StreamQuery) -> EventStream {
        EventStream::new(Paused {
            inner: self.0.read_stream(query),
            paused: false,
        })
    }

    async fn head(&self, stream: &StreamId) -> Result<Option<StreamHead>, Error> {
        pause().await;
        let head = self.0.head(stream).await;
        pause().await;
        head
    }

    async fn find_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
    ) -> Result<Option<EventEnvelope>, Error> {
        pause().await;
        let found = self.0.find_event(stream, event_id).await;
        pause().await;
        found
    }

    fn limits(&self) -> Limits {
        self.0.limits()
    }
}

struct Paused {
    inner: EventStream,
    paused: bool,
}

impl PageSource for Paused {
    fn poll_page(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Vec<EventEnvelope>, Error>>> {
        self.paused = !self.paused;
        if self.paused {
            return Poll::Pending;
        }
        let mut next = pin!(self.inner.next_page());
        next.as_mut().poll(cx)
    }
}

async fn pause() {
    let mut paused = false;
    poll_fn(|_| {
        if std::mem::replace(&mut paused, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// When one command runs, beside those that run at the same time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// It begins with the command before it, instead of after it.
    pub(super) joins: bool,
    /// It begins this many rounds later.
    pub(super) lag: u8,
    /// It gets on in every round, or passes over so many in between.
    pub(super) rests: u8,
    /// It starts from a state that was kept, if there is one.
    pub(super) cached: bool,
}

/// Polls all of `actors` in rounds, each when it is its turn. False when they do not come to an end.
pub(super) fn run(mut actors: Vec<(Turn, BoxFuture<'_, ()>)>) -> bool {
    /// More than any race of some dozen commands takes.
    const ROUNDS: usize = 1_000_000;
    let mut cx = Context::from_waker(Waker::noop());
    for round in 0..ROUNDS {
        if actors.is_empty() {
            return true;
        }
        actors.retain_mut(|(turn, actor)| {
            let begins = round >= usize::from(turn.lag);
            let rests = round % (usize::from(turn.rests) + 1) > 0;
            !begins || rests || actor.as_mut().poll(&mut cx).is_pending()
        });
    }
    false
}
