//! Requests to something that runs, until it ends.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

/// A queue of requests with one taker.
pub(crate) struct Requests<R> {
    /// `None` once nobody takes any more.
    queue: Mutex<Option<VecDeque<R>>>,
    /// Woken when there is a request.
    asked: AtomicWaker,
}

impl<R> Default for Requests<R> {
    fn default() -> Self {
        Self {
            queue: Mutex::new(Some(VecDeque::new())),
            asked: AtomicWaker::new(),
        }
    }
}

impl<R> Requests<R> {
    /// Asks; once nobody takes any more `request` is dropped, which whoever waits for its answer is told.
    pub(crate) fn ask(&self, request: R) {
        let refused = match &mut *self.queue.lock() {
            Some(queue) => {
                queue.push_back(request);
                None
            }
            None => Some(request),
        };
        // Outside of the lock: whoever waits for its answer is woken by that.
        match refused {
            Some(request) => drop(request),
            None => self.asked.wake(),
        }
    }

    /// The next request; only the one taker asks.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<R> {
        self.asked.register(cx.waker());
        self.try_next().map_or(Poll::Pending, Poll::Ready)
    }

    /// The next request, if there is one.
    pub(crate) fn try_next(&self) -> Option<R> {
        self.queue.lock().as_mut()?.pop_front()
    }

    /// Nothing is taken any more: whoever waits for an answer gets none.
    pub(crate) fn end(&self) {
        let unanswered = self.queue.lock().take();
        drop(unanswered);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt;
    use futures_util::task::noop_waker;

    use super::Requests;

    #[test]
    fn what_is_asked_is_taken_in_order_and_wakes_the_taker() {
        let requests = Requests::default();
        let mut taken = Box::pin(poll_fn(|cx| requests.poll_next(cx)));
        assert_eq!((&mut taken).now_or_never(), None);
        requests.ask(1);
        requests.ask(2);
        assert_eq!(taken.now_or_never(), Some(1));
        assert_eq!((requests.try_next(), requests.try_next()), (Some(2), None));
    }

    #[test]
    fn whoever_asks_something_that_has_ended_is_told_so() {
        let requests = Requests::default();
        let (before, answer_before) = oneshot::channel::<()>();
        requests.ask(before);
        requests.end();
        let (after, answer_after) = oneshot::channel();
        requests.ask(after);
        assert!(answer_before.recv().is_err() && answer_after.recv().is_err());
        let waker = noop_waker();
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(requests.poll_next(&mut cx).is_pending());
    }
}
