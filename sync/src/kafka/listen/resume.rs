//! Parked keys are taken in again.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidelog_core::{Error, HandlerError, ParkedStream};

use super::feed::{Asked, Feed, FeedError, LetterPlace, RecordKey};
use super::job::Job;
use super::place::PlacePhase;
use super::session::{AGAIN, Again, ReadLetters, Session};
use crate::listeners::Next;

/// The reason of a key none of whose events has failed since it is being taken in again.
const TAKEN_IN: &str = "it is being taken in again";

/// A parked key that is being taken in.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is true or not by itself"
)]
pub(super) struct Resume {
    /// Tells two of one key apart.
    id: u64,
    /// Where the first letter stands that is not handled; everything before it is.
    cursor: LetterPlace,
    /// Where to read on.
    next: LetterPlace,
    /// Offsets of letters that were read and are not handled.
    open: BTreeSet<i64>,
    /// Letters below were read once.
    known: i64,
    /// The first letter that was passed over since what is before it in its stream stands behind it, and
    /// why; it is read again when something was handled since.
    passed_over: Option<(Arc<Job>, Box<str>)>,
    has_progressed: bool,
    is_reading: bool,
    /// Whether letters may stand behind what was read.
    pub(super) has_more: bool,
    /// Whether the next letter is passed over.
    skips: bool,
    /// Whether all letters are handled, and only the entry has to go.
    pub(super) is_finishing: bool,
    /// What came since.
    pub(super) waiting: Vec<Job>,
}

impl<F: Feed> Session<'_, F> {
    /// Begins when the key's letters stand in Kafka.
    pub(super) fn begin_what_was_asked(&mut self, key: &RecordKey) {
        if self.resuming.contains_key(key) {
            return;
        }
        let sent = self.being_parked.as_ref();
        let is_under_way = sent.is_some_and(|sent| sent.has_entry_of(key));
        let Some(entry) = self.parked.get_mut(key) else {
            return;
        };
        let (Some(asked), Some(letter), true) = (
            entry.wanted,
            entry.parked.letter,
            entry.is_kept && !is_under_way,
        ) else {
            return;
        };
        entry.wanted = None;
        entry.parked.asked = Some(asked);
        self.assignments += 1;
        self.resuming.insert(
            key.clone(),
            Resume {
                id: self.assignments,
                cursor: letter,
                next: letter,
                open: BTreeSet::new(),
                known: letter.offset,
                passed_over: None,
                has_progressed: false,
                is_reading: false,
                has_more: true,
                skips: asked == Asked::Skip,
                is_finishing: false,
                waiting: Vec::new(),
            },
        );
        self.lanes.open_held(key);
        self.read_on(key, None);
    }

    /// Reads the next letters, when those before are handled; takes the key in when that was all.
    pub(super) fn read_on(&mut self, key: &RecordKey, only: Option<u64>) {
        if !self.is_open(key) {
            return;
        }
        let Some(resume) = self.resuming.get_mut(key) else {
            return;
        };
        let is_other = only.is_some_and(|id| id != resume.id);
        if is_other || resume.is_reading || resume.is_finishing || !self.lanes.is_empty(key) {
            return;
        }
        if resume.has_more {
            resume.is_reading = true;
            let letters = self.feed.letters(key.clone(), resume.next);
            let (key, id) = (key.clone(), resume.id);
            self.reads.push(Box::pin(async move {
                let letters = letters.await;
                ReadLetters {
                    key,
                    resume: id,
                    letters,
                }
            }));
            return;
        }
        let own = self.places.get(&key.place);
        let is_pending = own.is_some_and(|own| own.letters.iter().any(|letter| letter.key == *key));
        let is_sent = self
            .being_parked
            .as_ref()
            .is_some_and(|sent| sent.has_letter_of(key));
        if is_pending || is_sent {
            self.urgent = true;
        } else if let Some((job, reason)) = resume.passed_over.take() {
            if !std::mem::take(&mut resume.has_progressed) {
                return self.parked_again(&job, &reason, 1);
            }
            resume.next = resume.cursor;
            resume.has_more = true;
            self.read_on(key, None);
        } else {
            resume.is_finishing = true;
            self.urgent = true;
        }
    }

    /// What is missing before a letter may stand behind it: a republish puts it there. It is passed over
    /// for now, without being held: of letters there may be any number.
    pub(super) fn letter_passed_over(&mut self, job: &Arc<Job>, error: &HandlerError) {
        if let Some(resume) = self.resuming.get_mut(&job.key) {
            let reason = ParkedStream::reason_of(error);
            resume
                .passed_over
                .get_or_insert_with(|| (Arc::clone(job), reason));
        }
        if self.lanes.done(&job.key) == Next::Read {
            self.read_on(&job.key, None);
        }
    }

    pub(super) fn read_letters(&mut self, read: ReadLetters) {
        let ReadLetters {
            key,
            resume: id,
            letters,
        } = read;
        let is_open = self.is_open(&key);
        let Some(resume) = self.resuming.get_mut(&key).filter(|r| r.id == id) else {
            return;
        };
        resume.is_reading = false;
        if !is_open {
            return;
        }
        let page = match letters {
            Ok(page) => page,
            // Whoever skips has been told, and goes on behind what is gone.
            Err(FeedError::Gone { found, .. }) if std::mem::take(&mut resume.skips) => {
                (resume.cursor, resume.next) = (found, found);
                resume.known = found.offset;
                return self.read_on(&key, None);
            }
            Err(FeedError::Gone { from, found }) => return self.letters_gone(&key, from, found),
            Err(error) => {
                self.trouble_of(error);
                let wait = self.sleep(AGAIN);
                self.again.push(Box::pin(async move {
                    wait.await;
                    Again::Letters(key, id)
                }));
                return;
            }
        };
        resume.has_more = !page.letters.is_empty();
        resume.next = page.next;
        for (at, letter) in page.letters {
            let Some(resume) = self.resuming.get_mut(&key) else {
                return;
            };
            if at.offset >= resume.known {
                resume.known = at.offset + 1;
                resume.open.insert(at.offset);
            } else if !resume.open.contains(&at.offset) {
                // Handled, when it was read before.
                continue;
            }
            let event = (self.setup.decode)(&letter.record);
            let is_passed = match &event {
                _ if std::mem::take(&mut resume.skips) => true,
                Ok(event) => !self.setup.handler.takes(event),
                // It stands in no order with others, and was set aside for itself alone.
                Err(_) => key.key.is_none(),
            };
            if is_passed {
                self.letter_settled(&key, at);
                continue;
            }
            let job = Job {
                key: key.clone(),
                life: 0,
                record: letter.record,
                event: event.map(Arc::new),
                letter: Some(at),
            };
            self.lanes.push_held(key.clone(), job);
        }
        self.read_on(&key, None);
    }

    /// A letter was handled, or passed over.
    pub(super) fn letter_settled(&mut self, key: &RecordKey, at: LetterPlace) {
        let Some(resume) = self.resuming.get_mut(key) else {
            return;
        };
        resume.open.remove(&at.offset);
        resume.has_progressed = true;
        resume.cursor.offset = resume.open.first().copied().unwrap_or(resume.known);
        let cursor = resume.cursor;
        if let Some(entry) = self.parked.get_mut(key) {
            entry.parked.letter = Some(cursor);
            // What is skipped is skipped once.
            entry.parked.asked = Some(Asked::Resume);
            entry.parked.attempts = 0;
            entry.parked.reason = TAKEN_IN.into();
            entry.is_news = true;
            let parked = entry.parked.clone();
            self.setup.shared.view().parked.insert(key.clone(), parked);
        }
    }

    /// A letter failed: the key stays parked there.
    pub(super) fn parked_again(&mut self, job: &Arc<Job>, reason: &str, attempts: u32) {
        let key = &job.key;
        tracing::warn!(
            stream = &*job.stream(), attempts, %reason,
            "a parked event still cannot be handled"
        );
        self.figures.parked.increment(1);
        self.lanes.close(key);
        self.hold.close(key);
        let since = self.now();
        let cursor = self.resuming.remove(key).map(|resume| resume.cursor);
        if let Some(entry) = self.parked.get_mut(key) {
            entry.parked.letter = cursor.or(entry.parked.letter);
            entry.parked.stream = job.stream();
            entry.parked.first_offset = job.record.offset;
            entry.parked.reason = reason.into();
            entry.parked.attempts = attempts;
            entry.parked.since = since;
            entry.parked.asked = None;
            entry.is_news = true;
            let parked = entry.parked.clone();
            self.setup.shared.view().parked.insert(key.clone(), parked);
        }
        self.urgent = true;
        let refused = self.still_parked(&job.stream(), job.record.offset, reason);
        self.answer_waiters(key, &Err(refused));
    }

    fn letters_gone(&mut self, key: &RecordKey, from: LetterPlace, found: LetterPlace) {
        self.lanes.close(key);
        self.hold.close(key);
        self.resuming.remove(key);
        let first = u64::try_from(from.offset).unwrap_or(0);
        let last = u64::try_from(found.offset - 1).unwrap_or(first);
        let reason = format!(
            "letters of it, from offset {first} to {last} of partition {}, are gone from the dead-letter \
             topic: its retention was shorter than it was parked",
            from.partition
        );
        if let Some(entry) = self.parked.get_mut(key) {
            entry.parked.reason = reason.into();
            entry.parked.attempts = entry.parked.attempts.max(1);
            entry.parked.asked = None;
            entry.is_news = true;
            let parked = entry.parked.clone();
            self.setup.shared.view().parked.insert(key.clone(), parked);
        }
        self.urgent = true;
        let gone = Error::Gap {
            stream: None,
            first,
            last,
        };
        self.answer_waiters(key, &Err(gone));
    }

    /// The entry is gone from Kafka: what came since goes to the key's lane.
    pub(super) fn resumed(&mut self, key: &RecordKey) {
        let Some(resume) = self.resuming.remove(key) else {
            return;
        };
        self.lanes.close(key);
        if self.parked.remove(key).is_some()
            && let Some(own) = self.places.get_mut(&key.place)
        {
            own.parked -= 1;
        }
        self.setup.shared.view().parked.remove(key);
        if self.is_open(key) {
            for job in resume.waiting {
                self.lanes.push(key.clone(), job);
            }
        }
        self.figures.resumed.increment(1);
        tracing::info!(
            key = &*super::job::name_of(key),
            "a parked key was taken in"
        );
        self.answer_waiters(key, &Ok(()));
        self.setup.shared.notify();
    }

    fn is_open(&self, key: &RecordKey) -> bool {
        let own = self.places.get(&key.place);
        own.is_some_and(|own| own.phase == PlacePhase::Open)
    }
}
