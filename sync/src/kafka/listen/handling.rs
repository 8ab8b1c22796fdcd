//! From a record to what came of it.

use std::sync::Arc;

use futures_util::future::abortable;
use tidelog_core::{Error, HandlerError, ParkedStream, Poison, SequenceGap};

use super::feed::{Feed, Letter, ParkedKey, Record, RecordKey};
use super::hold::{Held, Put};
use super::job::Job;
use super::place::{PendingLetter, PlacePhase};
use super::session::{End, Entry, Handled, Session};
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

    fn set_aside(
        &mut self,
        key: &RecordKey,
        life: u32,
        record: Record,
        reason: Box<str>,
        attempts: u32,
    ) {
        let since = self.now();
        if let Some(own) = self.places.get_mut(&key.place) {
            self.letter_bytes += record.bytes();
            own.letters.push(PendingLetter {
                key: key.clone(),
                life,
                letter: Letter {
                    record,
                    reason,
                    attempts,
                    since,
                },
            });
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
            let attempt = Arc::clone(&self.setup.handler).handle(event);
            let (attempt, abort) = abortable(attempt);
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

    /// Gives up the first event of a key of which too many wait.
    fn give_up_held(&mut self, held: &Held, gap: SequenceGap) {
        let error = HandlerError::gap(gap.expected, gap.found);
        let mut waited = self.hold.close(&held.0);
        waited.sort_by_key(|job| job.order());
        let Some(first) = waited.first().cloned() else {
            return;
        };
        self.forget_running(&held.0);
        for job in waited.into_iter().rev() {
            self.lanes.put_back(&held.0, job);
        }
        self.give_up(&first, &error, 1);
    }

    /// The listener cannot go on at this event.
    fn stop_at(&mut self, job: &Job, error: &HandlerError) {
        let place = &job.key.place;
        self.end(End::Failed(Error::Stopped {
            what: format!(
                "{} in {}/{}",
                self.setup.shared.what(),
                place.topic,
                place.partition
            )
            .into(),
            position: u64::try_from(job.record.offset).unwrap_or(0),
            source: Arc::clone(error.cause()),
        }));
    }

    /// The event cannot be handled: its key is set aside, with all of it that was taken.
    pub(super) fn give_up(&mut self, job: &Arc<Job>, error: &HandlerError, attempts: u32) {
        let attempts = attempts.max(1);
        let reason = ParkedStream::reason_of(error);
        if job.letter.is_some() {
            return self.parked_again(job, reason, attempts);
        }
        let options = &self.setup.options;
        if options.poison != Poison::Park {
            return self.stop_at(job, error);
        }
        let parked = self.setup.shared.view().parked.len();
        if parked >= options.max_parked {
            let most = options.max_parked;
            let reason = format!(
                "{error}; its key is not parked, since {most} are: raise `max_parked` if their cause stays"
            );
            return self.stop_at(job, &HandlerError::permanent(reason));
        }
        tracing::warn!(
            stream = &*job.stream(), offset = job.record.offset, attempts, %error,
            "an event cannot be handled; its key is parked"
        );
        let key = job.key.clone();
        let mut taken: Vec<Arc<Job>> = self.lanes.close(&key).into();
        taken.extend(self.hold.close(&key));
        taken.sort_by_key(|job| job.record.offset);
        let first_offset = taken
            .first()
            .map_or(job.record.offset, |job| job.record.offset);
        for other in taken {
            let (reason, attempts) = if Arc::ptr_eq(&other, job) {
                (reason.clone(), attempts)
            } else {
                let reason = format!("it waits with offset {}", job.record.offset);
                (reason.into(), 0)
            };
            self.set_aside(&key, other.life, other.record.clone(), reason, attempts);
        }
        let parked = ParkedKey {
            key: key.clone(),
            stream: job.stream(),
            reason,
            since: self.now(),
            first_offset,
            letter: None,
            attempts,
            asked: None,
        };
        self.insert_entry(Entry {
            parked,
            is_news: true,
            is_kept: false,
            wanted: None,
        });
        self.urgent = true;
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
