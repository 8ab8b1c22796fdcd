//! Offsets, and letters with them, are put down.

use std::collections::BTreeSet;

use super::closing::no_topic;
use super::feed::{Feed, FeedError, Letter, LetterPlace, Parking, Place, RecordKey};
use super::place::{OwnPlace, PlacePhase};
use super::session::{AGAIN, End, Session};
use super::status::{KafkaPlaceStatus, place_status};

/// A transaction, and what follows from it.
pub(super) struct Sent {
    change: Parking,
    /// Of each place that it speaks of, in which assignment.
    places: Vec<(Place, u64)>,
    /// Those that are another member's since it was sent.
    gone: BTreeSet<Place>,
}

impl Sent {
    pub(super) fn has(&self, place: &Place) -> bool {
        self.places.iter().any(|(of, _)| of == place)
    }

    /// Whether a letter of the key is in it.
    pub(super) fn has_letter_of(&self, key: &RecordKey) -> bool {
        let mut letters = self.change.letters.iter();
        letters.any(|letter| letter.record.place == key.place && letter.record.key == key.key)
    }

    pub(super) fn forget(&mut self, gone: &BTreeSet<Place>) {
        self.places.retain(|(place, _)| !gone.contains(place));
        self.gone.extend(gone.iter().cloned());
    }

    /// Whether an entry of the key is in it.
    pub(super) fn has_entry_of(&self, key: &RecordKey) -> bool {
        self.change.parked.iter().any(|parked| parked.key == *key)
    }

    /// What other members have now is no longer this one's to say: before it is sent again.
    fn leave_out_what_is_gone(&mut self) {
        let (change, gone) = (&mut self.change, &self.gone);
        change
            .letters
            .retain(|letter| !gone.contains(&letter.record.place));
        change
            .parked
            .retain(|parked| !gone.contains(&parked.key.place));
        change.resumed.retain(|key| !gone.contains(&key.place));
        change.offsets.retain(|(place, _)| !gone.contains(place));
    }

    fn is_empty(&self) -> bool {
        let change = &self.change;
        change.letters.is_empty()
            && change.parked.is_empty()
            && change.resumed.is_empty()
            && change.offsets.is_empty()
    }
}

impl<F: Feed> Session<'_, F> {
    /// Puts offsets down by themselves, where nothing is parked. Never beside a transaction: the older
    /// of two offsets of one place must not come last.
    pub(super) fn begin_committing(&mut self) {
        let is_busy = self.parking.is_some() || self.committing.is_some() || self.backoff.is_some();
        if is_busy || (self.pause.is_some() && !self.has_last()) {
            return;
        }
        let mut offsets = Vec::new();
        for (place, own) in &self.places {
            if let Some(next) = own.news()
                && !own.goes_by_transactions()
                && (self.pause.is_none() || self.is_last(place))
                && !self
                    .being_parked
                    .as_ref()
                    .is_some_and(|sent| sent.has(place))
            {
                self.being_committed
                    .push((place.clone(), own.assigned, next));
                offsets.push((place.clone(), next));
            }
        }
        if !offsets.is_empty() {
            self.committing = Some(self.feed.commit(offsets));
            self.pause = Some(self.sleep(self.setup.options.save_every));
        }
    }

    pub(super) fn committed(&mut self, done: Result<(), FeedError>) {
        let offsets = std::mem::take(&mut self.being_committed);
        self.places_changed = true;
        match done {
            Ok(()) => {
                for (place, assigned, next) in offsets {
                    self.put_down(&place, assigned, next);
                }
            }
            Err(error) => self.not_put_down(error),
        }
    }

    fn put_down(&mut self, place: &Place, assigned: u64, next: i64) {
        if let Some(own) = self.places.get_mut(place)
            && own.assigned == assigned
        {
            own.committed = Some(next);
        }
    }

    fn not_put_down(&mut self, error: FeedError) {
        self.figures.commit_failures.increment(1);
        match error {
            FeedError::NoTopic(topic) => {
                self.give_closing_up();
                return self.end(End::Failed(no_topic(topic)));
            }
            // Whoever has the places now begins where they were put down last. That they are gone is
            // told by a revocation; if they are not, the next try says so.
            FeedError::Lost => self.give_closing_up(),
            FeedError::Passing(_) | FeedError::Gone { .. } => {}
        }
        self.trouble_of(error);
        self.backoff = Some(self.sleep(AGAIN));
    }

    /// Puts down letters, changes of the parked set, and the offsets of all places that have some.
    pub(super) fn begin_parking(&mut self) {
        if self.parking.is_some() || self.committing.is_some() || self.backoff.is_some() {
            return;
        }
        if let Some(sent) = &mut self.being_parked {
            sent.leave_out_what_is_gone();
            if !sent.is_empty() {
                self.parking = Some(self.feed.park(sent.change.clone()));
                return;
            }
            self.being_parked = None;
        }
        if self.pause.is_some() && !self.urgent && !self.has_last() {
            return;
        }
        self.urgent = false;
        let mut change = Parking::default();
        let mut places = Vec::new();
        for (place, own) in &mut self.places {
            if !own.goes_by_transactions() || own.phase == PlacePhase::Reading {
                continue;
            }
            self.letter_bytes -= own.take_letters(&mut change.letters);
            if let Some(next) = own.news() {
                change.offsets.push((place.clone(), next));
            }
            places.push((place.clone(), own.assigned));
        }
        let with_letters: BTreeSet<RecordKey> = change.letters.iter().map(key_of).collect();
        for (key, entry) in &mut self.parked {
            if entry.is_news && (entry.is_kept || with_letters.contains(key)) {
                entry.is_news = false;
                change.parked.push(entry.parked.clone());
            }
        }
        change.parked.sort_by(|a, b| a.key.cmp(&b.key));
        let resumed = self
            .resuming
            .iter()
            .filter(|(_, resume)| resume.is_finishing);
        change.resumed.extend(resumed.map(|(key, _)| key.clone()));
        change.resumed.sort();
        let resumed = &change.resumed;
        change
            .parked
            .retain(|parked| !resumed.contains(&parked.key));
        self.put_places_beside(&mut change);
        let sent = Sent {
            change,
            places,
            gone: BTreeSet::new(),
        };
        if !sent.is_empty() {
            self.parking = Some(self.feed.park(sent.change.clone()));
            self.being_parked = Some(sent);
            self.pause = Some(self.sleep(self.setup.options.save_every));
        }
    }

    /// The group looks whose a place is when its offset is put down.
    fn put_places_beside(&self, change: &mut Parking) {
        let parked = change.parked.iter().map(|parked| &parked.key.place);
        let resumed = change.resumed.iter().map(|key| &key.place);
        let letters = change.letters.iter().map(|letter| &letter.record.place);
        let about: BTreeSet<Place> = parked.chain(resumed).chain(letters).cloned().collect();
        for place in about {
            let present = self.places.get(&place).and_then(OwnPlace::present);
            if let Some(present) = present
                && !change.offsets.iter().any(|(of, _)| *of == place)
            {
                change.offsets.push((place, present));
            }
        }
    }

    pub(super) fn was_parked(&mut self, done: Result<Vec<LetterPlace>, FeedError>) {
        let letters = match done {
            Ok(letters) => letters,
            Err(error) => return self.not_put_down(error),
        };
        let Some(sent) = self.being_parked.take() else {
            return;
        };
        self.places_changed = true;
        for (place, next) in &sent.change.offsets {
            let assigned = sent.places.iter().find(|(of, _)| of == place);
            if let Some((_, assigned)) = assigned {
                self.put_down(place, *assigned, *next);
            }
        }
        for (letter, at) in sent.change.letters.iter().zip(letters) {
            let key = key_of(letter);
            if sent.gone.contains(&key.place) {
                continue;
            }
            if let Some(resume) = self.resuming.get_mut(&key) {
                resume.has_more = true;
            }
            if let Some(entry) = self.parked.get_mut(&key) {
                entry.parked.letter.get_or_insert(at);
            }
        }
        for parked in &sent.change.parked {
            if sent.gone.contains(&parked.key.place) {
                continue;
            }
            if let Some(entry) = self.parked.get_mut(&parked.key) {
                entry.is_kept = true;
            }
        }
        for key in &sent.change.resumed {
            if !sent.gone.contains(&key.place) {
                self.resumed(key);
            }
        }
        let keys: Vec<RecordKey> = self.parked.keys().cloned().collect();
        for key in keys {
            self.begin_what_was_asked(&key);
            self.read_on(&key, None);
        }
    }

    /// Lets others see how far it is.
    pub(super) fn publish(&mut self) {
        let mut view = self.setup.shared.view();
        view.in_flight = self.running.len();
        view.in_flight_since = self.lanes.oldest();
        view.retrying = self.retries.len();
        view.held = self.hold.len();
        self.figures.in_flight.set(figure(view.in_flight));
        self.figures.held.set(figure(view.held));
        self.figures.parked_keys.set(figure(view.parked.len()));
        if !std::mem::take(&mut self.places_changed) {
            return;
        }
        view.places.clear();
        for (place, own) in &self.places {
            let mut status = place_status(place);
            status.committed = own.committed;
            status.settled = own.present();
            status.taken = own.offsets.taken();
            status.end = own.end;
            view.places.push(status);
        }
        let lag = view
            .places
            .iter()
            .filter_map(KafkaPlaceStatus::lag)
            .sum::<u64>();
        self.figures.lag.set(figure(lag));
        drop(view);
        self.setup.shared.notify();
    }
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
fn figure(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or(u64::MAX) as f64
}

fn key_of(letter: &Letter) -> RecordKey {
    RecordKey {
        place: letter.record.place.clone(),
        key: letter.record.key.clone(),
    }
}
