//! A store that lets others run before and after each of its calls, and who runs when.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
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

/// Polls `actors` in the order that `schedule` says, each number being taken modulo how many are
/// left; after it, one after the other. False when they do not come to an end.
pub(super) fn run(mut actors: Vec<BoxFuture<'_, ()>>, schedule: &[u8]) -> bool {
    /// More than any race of some dozen commands takes.
    const TURNS: usize = 1_000_000;
    let mut cx = Context::from_waker(Waker::noop());
    for turn in 0..TURNS {
        if actors.is_empty() {
            return true;
        }
        let of = schedule.get(turn).copied().map_or(0, usize::from);
        let who = of % actors.len();
        let ready = actors
            .get_mut(who)
            .is_some_and(|actor| Pin::as_mut(actor).poll(&mut cx).is_ready());
        if ready {
            drop(actors.remove(who));
        }
    }
    false
}
