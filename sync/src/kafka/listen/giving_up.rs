//! What cannot be handled: its key is parked, or the listener stops.

use std::sync::Arc;

use tidelog_core::{Error, HandlerError, ParkedStream, Poison, SequenceGap};

use super::feed::{Feed, Letter, ParkedKey, Record, RecordKey};
use super::hold::Held;
use super::job::Job;
use super::place::PendingLetter;
use super::session::{End, Entry, Session};

impl<F: Feed> Session<'_, F> {
    /// The listener cannot go on at this event.
    pub(super) fn stop_at(&mut self, job: &Job, error: &HandlerError) {
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
            return self.parked_again(job, &reason, attempts);
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
        self.figures.parked.increment(1);
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

    /// Gives up the first event of a key of which too many wait.
    pub(super) fn give_up_held(&mut self, held: &Held, gap: SequenceGap) {
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

    pub(super) fn set_aside(
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
}
