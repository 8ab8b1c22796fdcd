//! From a record to what came of it.

use std::sync::Arc;

use futures_util::future::abortable;
use tidelog_core::{Error, HandlerError, Poison, SequenceGap, TRACEPARENT};
use tracing::Instrument as _;

use super::feed::{Feed, Record, RecordKey};
use super::hold::{Held, Put};
use super::job::Job;
use super::place::PlacePhase;
use super::session::{Handled, Session};
use crate::listeners::Next;

/// Most records of a place taken above what is settled: what bounds the memory of a listener one of
/// whose handlers does not return.
const MAX_SPAN: usize = 10_000;

impl<F: Feed> Session<'_, F> {
    /// A record of a place that is open; any other is of an assignment that is over.
    pub(super) fn take(&mut self, record: Record) {
        let Some(own) = self.places.get_mut(&record.place) else {
            return;
        };
        if own.phase != PlacePhase::Open {
            return;
        }
        let life = own.offsets.take(record.offset);
        let key = RecordKey {
            place: record.place.clone(),
            key: record.key.clone(),
        };
        let event = (self.setup.decode)(&record);
        match &event {
            Ok(event) if !self.setup.handler.takes(event) => {
                return self.settle(&key, life, record.offset);
            }
            Ok(_) => {}
            Err(reason) => {
                self.setup.shared.view().garbage += 1;
                self.figures.garbage.increment(1);
                tracing::warn!(
                    topic = &*record.place.topic, partition = record.place.partition,
                    offset = record.offset, %reason, "a record is no event"
                );
                // Without a key it stands in no order with others.
                if key.key.is_none() && self.setup.options.poison == Poison::Park {
                    let reason = reason.clone();
                    self.set_aside(&key, life, record, reason, 1);
                    return;
                }
            }
        }
        let job = Job {
            key,
            life,
            record,
            event: event.map(Arc::new),
            letter: None,
        };
        if let Some(resume) = self.resuming.get_mut(&job.key)
            && resume.is_finishing
        {
            resume.waiting.push(job);
        } else if let Some(entry) = self.parked.get(&job.key) {
            let behind = entry.parked.first_offset;
            let reason = format!("it stands behind offset {behind}").into();
            self.set_aside(&job.key, life, job.record, reason, 0);
        } else {
            self.lanes.push(job.key.clone(), job);
        }
    }

    pub(super) fn settle(&mut self, key: &RecordKey, life: u32, offset: i64) {
        if let Some(own) = self.places.get_mut(&key.place) {
            own.offsets.settle(life, offset);
        }
    }

    /// Hands out events, as many at once as may be.
    pub(super) fn begin_handlers(&mut self) {
        while self.ending.is_none() && self.running.len() < self.setup.options.concurrency.max(1) {
            let Some(job) = self.lanes.begin(self.now()) else {
                return;
            };
            let event = match &job.event {
                Ok(event) => Arc::clone(event),
                Err(reason) => {
                    let error = HandlerError::permanent(reason.to_string());
                    self.lanes.failed(&job.key);
                    self.give_up(&job, &error, 1);
                    continue;
                }
            };
            let span = tracing::debug_span!(
                "handle", stream = %event.stream, sequence = event.sequence,
                event_type = &*event.event_type, partition = job.key.place.partition,
                offset = job.record.offset, traceparent = event.metadata.get(TRACEPARENT),
            );
            let attempt = Arc::clone(&self.setup.handler).handle(event);
            let (attempt, abort) = abortable(attempt.instrument(span));
            self.aborts.insert(job.key.clone(), abort);
            self.running.push(Box::pin(async move {
                let result = attempt.await.ok()?;
                Some(Handled { job, result })
            }));
        }
    }

    /// Lets records come as long as there is room for them.
    pub(super) fn balance(&mut self) {
        let most = self.setup.options.in_flight_bytes.max(1);
        // What waits for missing events must leave room for these.
        while self.hold.bytes() > most / 2
            && let Some((held, gap)) = self.hold.oldest()
        {
            self.give_up_held(&held, gap);
        }
        let bytes = self.lanes.bytes() + self.hold.bytes() + self.letter_bytes;
        if !self.is_paused && bytes >= most {
            self.is_paused = true;
            self.feed.pause(true);
        } else if self.is_paused && bytes < (most / 2).max(1) {
            self.is_paused = false;
            self.feed.pause(false);
        }
        for (place, own) in &mut self.places {
            let span = own.offsets.span();
            if !own.is_held && span >= MAX_SPAN {
                own.is_held = true;
                self.feed.hold(place.clone(), true);
            } else if own.is_held && span < MAX_SPAN / 2 {
                own.is_held = false;
                self.feed.hold(place.clone(), false);
            }
        }
    }

    pub(super) fn handled(&mut self, handled: Handled) {
        let Handled { job, result } = handled;
        if !self.lanes.is_first(&job.key, &job) {
            // Its place went meanwhile, and perhaps came back.
            return;
        }
        self.aborts.remove(&job.key);
        let is_closing = self
            .places
            .get(&job.key.place)
            .is_none_or(|own| own.phase == PlacePhase::Closing);
        match result {
            Ok(()) => self.succeeded(&job),
            // It comes again to whoever has the place next.
            Err(_) if is_closing => self.forget_lane(&job.key),
            Err(error) => self.failed(&job, &error),
        }
    }

    fn succeeded(&mut self, job: &Arc<Job>) {
        self.setup.shared.view().handled += 1;
        self.figures.handled.increment(1);
        let next = self.lanes.done(&job.key);
        match job.letter {
            Some(letter) => self.letter_settled(&job.key, letter),
            None => self.settle(&job.key, job.life, job.record.offset),
        }
        if let Ok(event) = &job.event {
            let held = (job.key.clone(), event.stream.clone());
            if let Some((first, wait)) = self.hold.after(&held, event.sequence) {
                if let Some(wait) = wait {
                    self.begin_wait(held, wait);
                }
                self.lanes.put_back(&job.key, first);
                return;
            }
        }
        if next == Next::Read {
            self.read_on(&job.key, None);
        }
    }

    fn failed(&mut self, job: &Arc<Job>, error: &HandlerError) {
        let cause = error.cause().downcast_ref::<Error>();
        if let Some(Error::Closed | Error::Refused { .. }) = cause {
            // The failure of the handler's own store, not the event's: no key is parked for it.
            return self.stop_at(job, error);
        }
        if let Some(gap) = error.sequence_gap() {
            if job.letter.is_some() {
                return self.letter_passed_over(job, error);
            }
            if !self.wait_for_missing(job, gap) {
                self.give_up(job, error, 1);
            }
            return;
        }
        let attempts = self.lanes.failed(&job.key);
        if error.is_permanent() || !self.try_again(job, attempts) {
            self.give_up(job, error, attempts);
        } else {
            self.figures.retried.increment(1);
            tracing::debug!(
                stream = &*job.stream(), attempts, %error,
                "an event was not handled; it is tried again"
            );
        }
    }

    /// Lets the event be tried again after a wait; false when it was tried often enough.
    fn try_again(&mut self, job: &Arc<Job>, attempts: u32) -> bool {
        // The two upper bits of this half of a UUID are always the same.
        let random = self.setup.tools.ids.next_uuid().as_u64_pair().1 << 2;
        let Some(wait) = self.setup.options.retry.delay(attempts, random) else {
            return false;
        };
        let (job, wait) = (Arc::clone(job), self.sleep(wait));
        self.retries.push(Box::pin(async move {
            wait.await;
            job
        }));
        true
    }

    /// Lets the event wait for those before it, while its lane goes on; false when it has waited long
    /// enough, or too many wait.
    fn wait_for_missing(&mut self, job: &Arc<Job>, gap: SequenceGap) -> bool {
        let Ok(event) = &job.event else { return false };
        let held = (job.key.clone(), event.stream.clone());
        match self
            .hold
            .put(held.clone(), event.sequence, Arc::clone(job), gap)
        {
            Put::Refused => return false,
            Put::Joined => {}
            Put::Begun(wait) => {
                self.figures.gaps.increment(1);
                tracing::warn!(
                    stream = %event.stream, expected = gap.expected, found = gap.found,
                    "an event waits for those before it"
                );
                self.begin_wait(held, wait);
            }
        }
        if self.lanes.done(&job.key) == Next::Read {
            self.read_on(&job.key, None);
        }
        true
    }

    fn begin_wait(&mut self, held: Held, wait: u64) {
        let over = self.sleep(self.setup.hold_for);
        self.hold_ends.push(Box::pin(async move {
            over.await;
            (held, wait)
        }));
    }

    /// What was missing has not come: it is tried once more, and given up if that fails.
    pub(super) fn held_long_enough(&mut self, held: &Held, wait: u64) {
        if let Some(job) = self.hold.expire(held, wait) {
            if self.aborts.contains_key(&held.0) {
                // Another one of its key is being handled; this one is next.
                self.lanes.put_second(&held.0, job);
            } else {
                self.lanes.put_back(&held.0, job);
            }
        }
    }

    /// Stops whatever of a key is under way.
    pub(super) fn forget_running(&mut self, key: &RecordKey) {
        if let Some(abort) = self.aborts.remove(key) {
            abort.abort();
        }
    }

    /// Forgets what was taken of a key: it is not settled, and comes again.
    pub(super) fn forget_lane(&mut self, key: &RecordKey) {
        self.forget_running(key);
        self.lanes.close(key);
        self.hold.close(key);
    }
}
