//! Who asks for parked keys, and what is heard of them.

use tidelog_core::Error;

use super::feed::{Asked, Feed, FeedError, ParkedKey, RecordKey};
use super::place::PlacePhase;
use super::session::{Session, answer};
use super::shared::ResumeReply;
use super::status::{is_meant, still_parked};

impl<F: Feed> Session<'_, F> {
    /// Somebody wants a parked key to be taken in: writes that down for whoever has its place.
    pub(super) fn ask_for(&mut self, which: &str, skip: bool, reply: ResumeReply) {
        let meant: Vec<RecordKey> = {
            let view = self.setup.shared.view();
            let meant = view.parked.values().filter(|p| is_meant(which, p));
            meant.map(|parked| parked.key.clone()).collect()
        };
        let answers = if self.ending.is_some() {
            Err(self.setup.shared.was_told_to_stop())
        } else if meant.is_empty() {
            let reason = "nothing of it is parked, as far as this member knows";
            Err(Error::invalid("parked key", which, reason))
        } else {
            let asked = if skip { Asked::Skip } else { Asked::Resume };
            let wait_for = |key: RecordKey| {
                let (reply, answer) = oneshot::async_channel();
                let waiters = self.waiters.entry(key.clone()).or_default();
                waiters.replies.push(reply);
                let told = self.feed.ask(key.clone(), asked);
                self.asks.push(Box::pin(async move { (key, told.await) }));
                answer
            };
            Ok(meant.into_iter().map(wait_for).collect())
        };
        // Whoever asked may not wait any more.
        let _ = reply.send(answers);
    }

    pub(super) fn told(&mut self, key: &RecordKey, done: Result<(), FeedError>) {
        let error = match done {
            Ok(()) => return,
            Err(FeedError::Passing(error)) => error,
            Err(FeedError::NoTopic(topic)) => super::closing::no_topic(topic),
            Err(FeedError::Lost | FeedError::Gone { .. }) => self.setup.shared.was_told_to_stop(),
        };
        self.answer_waiters(key, &Err(error));
    }

    /// What was asked of a key came back from Kafka.
    pub(super) fn asked_for(&mut self, key: RecordKey, asked: Asked) {
        if let Some(waiters) = self.waiters.get_mut(&key) {
            waiters.was_asked = true;
        }
        match self.places.get(&key.place).map(|own| own.phase) {
            Some(PlacePhase::Open) => {
                if let Some(entry) = self.parked.get_mut(&key) {
                    entry.wanted = Some(asked);
                    self.begin_what_was_asked(&key);
                }
            }
            Some(PlacePhase::Reading) => {
                self.early.insert(key, asked);
            }
            // The next owner reads it.
            Some(PlacePhase::Closing) | None => {}
        }
    }

    /// An entry was written; of places of this member it knows better.
    pub(super) fn parked_by_others(&mut self, parked: ParkedKey) {
        if self.is_own(&parked.key) {
            return;
        }
        let key = parked.key.clone();
        if parked.attempts > 0 && self.waiters.get(&key).is_some_and(|w| w.was_asked) {
            let (stream, reason) = (&parked.stream, &parked.reason);
            let refused = self.still_parked(stream, parked.first_offset, reason);
            self.answer_waiters(&key, &Err(refused));
        }
        self.setup.shared.view().parked.insert(key, parked);
        self.setup.shared.notify();
    }

    pub(super) fn resumed_by_others(&mut self, key: &RecordKey) {
        if self.is_own(key) {
            return;
        }
        self.setup.shared.view().parked.remove(key);
        self.answer_waiters(key, &Ok(()));
        self.setup.shared.notify();
    }

    pub(super) fn answer_waiters(&mut self, key: &RecordKey, with: &Result<(), Error>) {
        let waiters = self.waiters.remove(key).unwrap_or_default();
        for reply in waiters.replies {
            answer(reply, with.clone());
        }
    }

    fn is_own(&self, key: &RecordKey) -> bool {
        let own = self.places.get(&key.place);
        own.is_some_and(|own| own.phase != PlacePhase::Reading)
    }

    pub(super) fn still_parked(&self, stream: &str, offset: i64, reason: &str) -> Error {
        still_parked(self.setup.shared.what(), stream, offset, reason)
    }
}
