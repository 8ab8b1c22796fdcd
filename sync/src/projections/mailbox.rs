//! What is asked of the runner.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tidelog_core::{Error, Slot, StreamId};

use crate::signal::{Listener, Signal};

/// Answers whoever asked; dropped unanswered, it means that the store was closed.
pub(crate) type Reply = oneshot::Sender<Result<(), Error>>;

/// What is asked of one model's worker.
pub(crate) enum Request {
    /// Make the rows anew, answer when they serve.
    Rebuild(Reply),
    /// Go on after an event that failed.
    Retry(Reply),
    /// Take in what is held of a stream.
    Resume(StreamId, Reply),
    /// A reader found that this slot is gone.
    Lost(Slot),
}

/// Requests with the number of the model they are for.
#[derive(Default)]
pub(crate) struct Mailbox {
    requests: Mutex<VecDeque<(usize, Request)>>,
    stopping: AtomicBool,
    news: Signal,
}

impl Mailbox {
    pub(crate) fn send(&self, model: usize, request: Request) {
        let mut requests = self.requests.lock();
        // After the last look nobody answers: dropping the request says so.
        if !self.is_stopping() {
            requests.push_back((model, request));
        }
        drop(requests);
        self.news.notify();
    }

    pub(crate) fn take(&self) -> Option<(usize, Request)> {
        self.requests.lock().pop_front()
    }

    /// The runner is to end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.news.notify();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Drops what was not looked at.
    pub(crate) fn clear(&self) {
        self.requests.lock().clear();
    }

    /// Whether there is something to look at.
    pub(crate) fn has_news(&self) -> bool {
        self.is_stopping() || !self.requests.lock().is_empty()
    }

    pub(crate) fn listen(&self) -> Listener<'_> {
        self.news.listen()
    }
}
