//! The thread that feeds all projections of a store.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tidelog_core::{EventLog, RowStore};

use super::alarm::{Alarm, block_until};
use super::cursors::Cursors;
use super::worker::{Ended, Tools, Worker};
use crate::signal::Listener;

/// After so long without work, what was committed is written out.
const CALM: Duration = Duration::from_secs(1);
/// Under load, what was committed is written out after so many events.
const FLUSH_EVENTS: usize = 100_000;

pub(crate) struct Runner<S> {
    tools: Tools<S>,
    workers: Vec<Box<dyn Worker>>,
    /// Workers whose rows are still to be looked at.
    unchecked: VecDeque<usize>,
    cursors: Cursors,
    /// Events taken in since everything was written out.
    unflushed: usize,
    flush: Option<Alarm>,
}

impl<S: EventLog + RowStore> Runner<S> {
    pub(crate) fn new(tools: Tools<S>, workers: Vec<Box<dyn Worker>>) -> Self {
        // Appends wait for inline ones: these are looked at first.
        let mut unchecked: VecDeque<usize> = (0..workers.len()).collect();
        let of = |number: &usize| workers.get(*number).is_some_and(|w| !w.model().inline);
        unchecked.make_contiguous().sort_by_key(of);
        Self {
            tools,
            workers,
            unchecked,
            cursors: Cursors::default(),
            unflushed: 0,
            flush: None,
        }
    }

    /// Works until it is told to stop or the store is closed.
    pub(crate) fn run(mut self) {
        let _ended = self.work();
        if let Err(error) = self.write_out() {
            tracing::debug!(%error, "what projections did last is done again at the next start");
        }
    }

    fn work(&mut self) -> Result<(), Ended> {
        while !self.tools.mailbox.is_stopping() {
            let last = self.tools.store.last_position();
            let mut busy = self.start_one()?;
            busy |= self.requests()?;
            // What is known is told before a projection is called, which may take its time.
            self.settle(last)?;
            let cursors = &mut self.cursors;
            let taken = cursors.step(&self.tools.store, &mut self.workers, last)?;
            busy |= taken.is_some();
            self.unflushed += taken.unwrap_or(0);
            self.settle(last)?;
            if self.unflushed >= FLUSH_EVENTS {
                self.flush()?;
            }
            if busy {
                self.flush = None;
            } else {
                self.wait()?;
            }
        }
        Ok(())
    }

    fn settle(&mut self, last: u64) -> Result<(), Ended> {
        for worker in &mut self.workers {
            worker.settle(last)?;
        }
        Ok(())
    }

    fn start_one(&mut self) -> Result<bool, Ended> {
        let Some(number) = self.unchecked.pop_front() else {
            return Ok(false);
        };
        if let Some(worker) = self.workers.get_mut(number) {
            worker.start()?;
        }
        Ok(true)
    }

    fn requests(&mut self) -> Result<bool, Ended> {
        let mut any = false;
        while let Some((number, request)) = self.tools.mailbox.take() {
            any = true;
            if let Some(worker) = self.workers.get_mut(number) {
                worker.answer(request)?;
            }
        }
        Ok(any)
    }

    /// Sleeps until there are events or requests, an event is to be tried again, or what was
    /// committed is to be written out.
    fn wait(&mut self) -> Result<(), Ended> {
        if self.unflushed > 0 && self.flush.is_none() {
            self.flush = Some(Alarm::after(CALM, self.tools.sleeper.as_ref()));
        }
        let mailbox = Arc::clone(&self.tools.mailbox);
        let mut news = pin!(None::<Listener<'_>>);
        let flush_now = block_until(|cx| {
            let asked = poll_news(&mut news, cx, || mailbox.listen(), || mailbox.has_news());
            let mut ready = asked || self.cursors.poll_live(cx);
            for worker in &mut self.workers {
                ready |= worker.poll_due(cx);
            }
            let flush = self.flush.as_mut().is_some_and(|alarm| alarm.poll(cx));
            if ready || flush {
                return (Poll::Ready(flush), None);
            }
            (Poll::Pending, self.deadline())
        });
        if flush_now {
            self.flush()?;
        }
        Ok(())
    }

    fn deadline(&self) -> Option<Instant> {
        let flush = self.flush.as_ref().and_then(Alarm::deadline);
        let workers = self.workers.iter().filter_map(|worker| worker.deadline());
        workers.chain(flush).min()
    }

    fn flush(&mut self) -> Result<(), Ended> {
        self.flush = None;
        self.unflushed = 0;
        for worker in &mut self.workers {
            worker.write_places()?;
        }
        if let Err(error) = self.tools.store.flush() {
            tracing::warn!(%error, "rows could not be written out");
        }
        Ok(())
    }

    fn write_out(&mut self) -> Result<(), tidelog_core::Error> {
        for worker in &mut self.workers {
            // What cannot be written is made again.
            let _ended = worker.write_places();
        }
        self.tools.store.flush()
    }
}

/// Whether `has` holds; if not, `cx` is woken when `listen` hears something.
fn poll_news<'a>(
    news: &mut Pin<&mut Option<Listener<'a>>>,
    cx: &mut Context<'_>,
    listen: impl Fn() -> Listener<'a>,
    has: impl Fn() -> bool,
) -> bool {
    loop {
        if has() {
            return true;
        }
        match news.as_mut().as_pin_mut() {
            None => news.set(Some(listen())),
            Some(listener) => match listener.poll(cx) {
                Poll::Pending => return false,
                Poll::Ready(()) => news.set(None),
            },
        }
    }
}

/// One look without waiting.
pub(crate) fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
