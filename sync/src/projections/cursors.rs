//! Which part of the log is read next, for whom.
//!
//! Feeds that stand at one position share every read. The foremost follow the log by a
//! subscription; the hindmost are read forward, a page a step, until they meet the next ones.

use std::pin::pin;
use std::task::{Context, Poll};

use pollster::block_on;
use tidelog_core::{Error, EventEnvelope, EventLog, EventStream, LogQuery, Subscribe};

use super::runner::now_or_never;
use super::worker::{Ended, Worker};

/// Most records of a page that is read for those who lag.
const PAGE: u64 = 256;

type Page = Option<Result<Vec<EventEnvelope>, Error>>;

#[derive(Default)]
pub(crate) struct Cursors {
    live: Option<Live>,
    lagging: Option<Lagging>,
}

/// What follows the end of the log.
struct Live {
    events: EventStream,
    /// The last position that it has delivered.
    at: u64,
    /// What came while the thread slept.
    came: Option<Page>,
}

/// What is read for the hindmost.
struct Lagging {
    events: EventStream,
    at: u64,
    to: u64,
}

impl Cursors {
    /// One page for the hindmost, and one for the foremost. How many events were taken; `None` when
    /// there was nothing to read. `last` was the end of the log before.
    pub(crate) fn step(
        &mut self,
        log: &impl EventLog,
        workers: &mut [Box<dyn Worker>],
        last: u64,
    ) -> Result<Option<usize>, Ended> {
        let mut taken = None;
        // First, so that whoever is a page behind the foremost meets them before these go on: under
        // steady load there is always more for them.
        if let [hindmost, next, ..] = places(workers)[..] {
            let page = self.lagging_page(log, hindmost, next);
            taken = Some(deliver(workers, hindmost, page, last)?);
        } else {
            self.lagging = None;
        }
        let Some(foremost) = places(workers).last().copied() else {
            self.live = None;
            return Ok(taken);
        };
        if let Some(page) = self.live_page(log, foremost) {
            let count = self.deliver(workers, foremost, page, last)?;
            taken = Some(taken.unwrap_or(0) + count);
        }
        Ok(taken)
    }

    /// Whether the subscription has something, which is then kept; otherwise `cx` will be woken.
    pub(crate) fn poll_live(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(live) = &mut self.live else {
            return false;
        };
        if live.came.is_none() {
            match pin!(live.events.next_page()).as_mut().poll(cx) {
                Poll::Pending => return false,
                Poll::Ready(page) => live.came = Some(page),
            }
        }
        true
    }

    fn live_page(&mut self, log: &impl EventLog, foremost: u64) -> Option<Page> {
        if self.live.as_ref().is_none_or(|live| live.at != foremost) {
            self.live = Some(Live {
                events: log.subscribe(Subscribe::All { after: foremost }),
                at: foremost,
                came: None,
            });
        }
        let live = self.live.as_mut()?;
        let came = live.came.take();
        came.or_else(|| now_or_never(live.events.next_page()))
    }

    fn deliver(
        &mut self,
        workers: &mut [Box<dyn Worker>],
        foremost: u64,
        page: Page,
        last: u64,
    ) -> Result<usize, Ended> {
        match (&page, &mut self.live) {
            (Some(Ok(events)), Some(live)) => live.at = last_of(events).unwrap_or(live.at),
            _ => self.live = None,
        }
        // A subscription ends when its store is closed, and not otherwise.
        let page = page.ok_or(Ended)?;
        deliver(workers, foremost, page, last)
    }

    /// What stands behind `hindmost`, up to `next`, where others stand.
    fn lagging_page(
        &mut self,
        log: &impl EventLog,
        hindmost: u64,
        next: u64,
    ) -> Result<Vec<EventEnvelope>, Error> {
        let fits = |lagging: &Lagging| lagging.at == hindmost && lagging.to <= next;
        if !self.lagging.as_ref().is_some_and(fits) {
            self.lagging = Some(Lagging {
                events: log.read_all(LogQuery::from(hindmost + 1).to(next)),
                at: hindmost,
                to: next,
            });
        }
        if let Some(lagging) = &mut self.lagging
            && let Some(page) = block_on(lagging.events.next_page())
        {
            match &page {
                Ok(events) => lagging.at = last_of(events).unwrap_or(lagging.at),
                Err(_) => self.lagging = None,
            }
            return page;
        }
        self.lagging = None;
        // Nothing is left there: records that a repair lost, and the loss is accepted. What stands
        // behind them leads on.
        let behind = LogQuery::from(hindmost + 1).limit(PAGE);
        match block_on(log.read_all(behind).next_page()) {
            Some(page) => page,
            None => Err(Error::Closed),
        }
    }
}

fn deliver(
    workers: &mut [Box<dyn Worker>],
    from: u64,
    page: Result<Vec<EventEnvelope>, Error>,
    last: u64,
) -> Result<usize, Ended> {
    let page = match page {
        Ok(page) => page,
        Err(Error::Closed) => return Err(Ended),
        Err(error) => {
            for worker in workers {
                worker.fail_read(from, &error);
            }
            return Ok(0);
        }
    };
    let mut most = 0;
    let (inline, others): (Vec<_>, Vec<_>) =
        workers.iter_mut().partition(|worker| worker.model().inline);
    // Appends wait for these, and for no other.
    for worker in inline {
        most = most.max(worker.take(from, &page)?);
        worker.settle(last)?;
    }
    for worker in others {
        most = most.max(worker.take(from, &page)?);
    }
    Ok(most)
}

/// Where feeds stand that can go on, from the hindmost to the foremost.
fn places(workers: &[Box<dyn Worker>]) -> Vec<u64> {
    let places = workers.iter().flat_map(|worker| worker.places()).flatten();
    let mut places: Vec<u64> = places.collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn last_of(events: &[EventEnvelope]) -> Option<u64> {
    events.last().and_then(|event| event.position)
}
