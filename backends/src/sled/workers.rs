//! Reading for async callers: file I/O happens on the store's own threads, never inside `poll`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tidelog_core::{Error, EventEnvelope, PageSource};

use super::live::Live;
use super::panics::caught;
use super::queue::Queue;
use super::read_ahead::{Pieces, ReadAhead};
use super::spin::spin;
use crate::primitives::{Mutex, oneshot};

type Job = Box<dyn FnOnce() + Send>;

/// Where the work of a call is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Face {
    /// On the store's threads.
    Async,
    /// On the thread that asks.
    Blocking,
}

/// How many threads read for async callers.
pub(crate) const READERS: usize = 2;

/// For so long a reader thread that has helped stays awake: who reads once often reads again, and
/// to wake a thread costs as much as to read ten records.
const LINGER: Duration = Duration::from_micros(50);

/// Hands jobs to the reader threads.
#[derive(Clone)]
pub(crate) struct Workers(Arc<Shared>);

struct Shared {
    queue: Queue<Job>,
    lingering: Mutex<Lingering>,
}

/// What a reader thread looks at while it stays awake. One at a time does.
#[derive(Default)]
struct Lingering {
    here: bool,
    job: Option<Job>,
}

impl Workers {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared {
            queue: Queue::new(),
            lingering: Mutex::default(),
        }))
    }

    /// What a reader thread does.
    pub(crate) fn run(&self) {
        while let Some(job) = self.0.queue.next() {
            surviving(job);
        }
    }

    /// Lets every reader thread end. Jobs that still wait are dropped with their replies, which
    /// their callers see as a closed store.
    pub(crate) fn stop(&self) {
        for job in self.0.queue.stop() {
            surviving(|| drop(job));
        }
    }

    /// The result of `work`, done on a reader thread.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let answer = self.start(|| caught("a reader", "read", work));
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Has `work` done by a reader thread if one has nothing to do; drops it otherwise.
    pub(crate) fn offer(&self, work: impl FnOnce() + Send + 'static) {
        let mut lingering = self.0.lingering.lock();
        if lingering.here && lingering.job.is_none() {
            lingering.job = Some(Box::new(work));
            return;
        }
        drop(lingering);
        let workers = self.clone();
        self.0.queue.offer(|| {
            Box::new(move || {
                work();
                while let Some(next) = workers.linger() {
                    next();
                }
            })
        });
    }

    /// Stays awake for what is offered next.
    fn linger(&self) -> Option<Job> {
        {
            let mut lingering = self.0.lingering.lock();
            if lingering.here {
                return None;
            }
            lingering.here = true;
        }
        let job = spin(LINGER, || {
            let mut lingering = self.0.lingering.lock();
            if lingering.job.is_none() && !self.busy() {
                return None;
            }
            lingering.here = false;
            Some(lingering.job.take())
        });
        job.unwrap_or_else(|| {
            let mut lingering = self.0.lingering.lock();
            lingering.here = false;
            lingering.job.take()
        })
    }

    /// Whether jobs wait for a thread.
    pub(crate) fn busy(&self) -> bool {
        self.0.queue.busy()
    }

    fn start<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::AsyncReceiver<T> {
        let (reply, answer) = oneshot::async_channel();
        // Once the queue is stopped the job is dropped with its reply and the answer is an error;
        // when nobody waits any more the result is dropped.
        let refused = self
            .0
            .queue
            .push(Box::new(move || drop(reply.send(work()))));
        drop(refused);
        answer
    }
}

/// Answering runs a waker, which is foreign code; others still want this thread.
fn surviving(answer: impl FnOnce()) {
    let done = caught("a reader", "answer", || {
        answer();
        Ok(())
    });
    if let Err(error) = done {
        tracing::error!(%error, "a waker panicked");
    }
}

type Read = (ReadAhead, Result<Option<Vec<EventEnvelope>>, Error>);

/// Pages as the source of an event stream.
pub(crate) struct Paged {
    face: Face,
    workers: Workers,
    live: Arc<Live>,
    state: State,
}

enum State {
    Idle(ReadAhead),
    Reading(oneshot::AsyncReceiver<Read>),
    Ended,
}

impl Paged {
    pub(crate) fn new(face: Face, workers: Workers, live: Arc<Live>, pages: impl Pieces) -> Self {
        Self {
            face,
            state: State::Idle(ReadAhead::new(pages, workers.clone())),
            workers,
            live,
        }
    }

    fn finish(
        &mut self,
        pages: ReadAhead,
        read: Result<Option<Vec<EventEnvelope>>, Error>,
    ) -> Option<Result<Vec<EventEnvelope>, Error>> {
        match read {
            Ok(Some(page)) => {
                self.state = State::Idle(pages);
                Some(Ok(page))
            }
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl PageSource for Paged {
    fn poll_page(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Vec<EventEnvelope>, Error>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Idle(_) if self.live.is_closed() => {
                    return Poll::Ready(Some(Err(Error::Closed)));
                }
                State::Idle(mut pages) if self.face == Face::Blocking => {
                    let read = pages.next_page();
                    return Poll::Ready(self.finish(pages, read));
                }
                State::Idle(mut pages) => {
                    let answer = self.workers.start(move || {
                        let read = caught("a reader", "read", || pages.next_page());
                        (pages, read)
                    });
                    self.state = State::Reading(answer);
                }
                State::Reading(mut answer) => match Pin::new(&mut answer).poll(cx) {
                    Poll::Pending => {
                        self.state = State::Reading(answer);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok((pages, read))) => {
                        return Poll::Ready(self.finish(pages, read));
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Some(Err(Error::Closed))),
                },
            }
        }
    }
}

#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn what_is_offered_is_done_or_dropped_and_never_left_lying() {
        let workers = Workers::new();
        let done = Arc::new(AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let readers = [(); 2].map(|()| scope.spawn(|| workers.run()));
            while done.load(Ordering::Relaxed) < 1_000 {
                let done = Arc::clone(&done);
                workers.offer(move || {
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
            workers.stop();
            for reader in readers {
                reader.join().unwrap();
            }
        });
        assert_eq!(Arc::strong_count(&done), 1);
    }
}
