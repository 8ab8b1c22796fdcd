//! Places that come, and places that go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidelog_core::{BoxFuture, Error, HandlerError, Poison};

use super::feed::{Feed, FeedError, ParkedKey, Place, RecordKey};
use super::place::{OwnPlace, PlacePhase};
use super::session::{AGAIN, Again, End, Entry, Session};

/// How long handlers may run on in places that another member waits for.
const HANDLERS: Duration = Duration::from_secs(10);
/// How long the last commit of places that go is tried.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// Places that are given up together.
pub(super) struct Closing {
    places: BTreeSet<Place>,
    /// Dropped when nothing of them is under way any more. Closed when nobody waits for that.
    done: Option<oneshot::Sender<()>>,
    pub(super) deadline: BoxFuture<'static, ()>,
    /// Whether no handler runs any more, and the rest is put down.
    is_last: bool,
}

impl<F: Feed> Session<'_, F> {
    pub(super) fn assigned(&mut self, places: Vec<Place>) {
        self.setup.shared.view().rebalances += 1;
        self.figures.rebalances.increment(1);
        // What was not given up in time is another assignment.
        self.drop_places(places.clone());
        for place in places {
            self.assignments += 1;
            self.places.insert(place, OwnPlace::new(self.assignments));
        }
        self.has_unread = true;
        self.places_changed = true;
    }

    /// Reads what is parked, before anything is taken of places that came.
    pub(super) fn begin_reading_set(&mut self) {
        if self.has_unread && self.reading.is_none() && self.ending.is_none() {
            self.has_unread = false;
            self.reading_up_to = self.assignments;
            self.reading = Some(self.feed.parked_set());
        }
    }

    pub(super) fn read_set(&mut self, set: Result<Vec<ParkedKey>, FeedError>) {
        if self.ending.is_some() {
            return;
        }
        let set = match set {
            Ok(set) => set,
            // Who stops at what cannot be handled needs no place for it.
            Err(FeedError::NoTopic(_)) if self.setup.options.poison != Poison::Park => Vec::new(),
            Err(FeedError::NoTopic(topic)) => return self.end(End::Failed(no_topic(topic))),
            Err(error) => {
                self.trouble_of(error);
                let wait = self.sleep(AGAIN);
                self.again.push(Box::pin(async move {
                    wait.await;
                    Again::ParkedSet
                }));
                return;
            }
        };
        let mut opened = Vec::new();
        for (place, own) in &mut self.places {
            if own.phase == PlacePhase::Reading && own.assigned <= self.reading_up_to {
                own.phase = PlacePhase::Open;
                opened.push(place.clone());
            }
        }
        {
            let mut view = self.setup.shared.view();
            // Of places that were open before, this member knows better.
            let is_known = |key: &RecordKey| {
                self.places.contains_key(&key.place) && !opened.contains(&key.place)
            };
            view.parked.retain(|key, _| is_known(key));
            for parked in set.iter().filter(|parked| !is_known(&parked.key)) {
                view.parked.insert(parked.key.clone(), parked.clone());
            }
        }
        self.setup.shared.notify();
        for mut parked in set {
            if !opened.contains(&parked.key.place) {
                continue;
            }
            let key = parked.key.clone();
            let asked = self.early.remove(&key).or(parked.asked);
            parked.asked = None;
            self.insert_entry(Entry {
                parked,
                is_news: false,
                is_kept: true,
                wanted: None,
            });
            if let Some(asked) = asked {
                self.asked_for(key, asked);
            }
        }
        if !opened.is_empty() {
            self.early.retain(|key, _| !opened.contains(&key.place));
            self.feed.begin(opened);
        }
    }

    pub(super) fn insert_entry(&mut self, entry: Entry) {
        let key = entry.parked.key.clone();
        self.setup
            .shared
            .view()
            .parked
            .insert(key.clone(), entry.parked.clone());
        if self.parked.insert(key.clone(), entry).is_none()
            && let Some(own) = self.places.get_mut(&key.place)
        {
            own.parked += 1;
        }
    }

    pub(super) fn revoked(&mut self, places: Vec<Place>, lost: bool, done: oneshot::Sender<()>) {
        self.setup.shared.view().rebalances += 1;
        self.figures.rebalances.increment(1);
        // Who waited has gone on: others may have them already.
        if lost || done.is_closed() {
            return self.drop_places(places);
        }
        let within = self.setup.options.stop_within.min(HANDLERS);
        self.begin_closing(places, Some(done), within);
    }

    /// Takes nothing of `places` any more, lets running handlers end, and puts the rest down.
    pub(super) fn begin_closing(
        &mut self,
        places: Vec<Place>,
        done: Option<oneshot::Sender<()>>,
        within: Duration,
    ) {
        let mut closing = BTreeSet::new();
        let mut unread = Vec::new();
        for place in places {
            match self.places.get_mut(&place) {
                Some(own) if own.phase == PlacePhase::Reading => unread.push(place),
                Some(own) => {
                    own.phase = PlacePhase::Closing;
                    closing.insert(place);
                }
                None => {}
            }
        }
        self.drop_places(unread);
        for key in self.keys_of(|place| closing.contains(place)) {
            self.hold.close(&key);
            if self.aborts.contains_key(&key) {
                self.lanes.keep_first(&key);
            } else {
                self.lanes.close(&key);
            }
        }
        self.places_changed = true;
        if closing.is_empty() && done.is_none() {
            return;
        }
        self.closings.push(Closing {
            places: closing,
            done,
            deadline: self.sleep(within),
            is_last: false,
        });
    }

    /// Forgets places that were to be given up and are gone by now: they may be others'.
    pub(super) fn drop_what_went(&mut self) {
        let mut went = Vec::new();
        self.closings.retain_mut(|closing| {
            let is_over = closing
                .done
                .as_ref()
                .is_some_and(oneshot::Sender::is_closed);
            if is_over {
                went.extend(std::mem::take(&mut closing.places));
            }
            !is_over
        });
        self.drop_places(went);
    }

    /// Goes on with what is given up: what is done is gone by that.
    pub(super) fn close(&mut self) {
        let mut at = 0;
        while at < self.closings.len() {
            let places = &self.closings[at].places;
            let is_running = self.aborts.keys().any(|key| places.contains(&key.place));
            if !self.closings[at].is_last && !is_running {
                self.closings[at].is_last = true;
                self.closings[at].deadline = self.sleep(LAST_COMMIT);
                // Now, whatever failed or was done before.
                self.backoff = None;
                self.begin_parking();
                self.begin_committing();
            }
            let places = &self.closings[at].places;
            if self.closings[at].is_last && places.iter().all(|place| self.is_put_down(place)) {
                let closing = self.closings.remove(at);
                self.drop_places(closing.places.into_iter().collect());
            } else {
                at += 1;
            }
        }
    }

    /// Whether the place is given up and its last offsets are due.
    pub(super) fn is_last(&self, place: &Place) -> bool {
        let mut closings = self.closings.iter();
        closings.any(|closing| closing.is_last && closing.places.contains(place))
    }

    /// Whether anything is due because places are given up.
    pub(super) fn has_last(&self) -> bool {
        self.closings.iter().any(|closing| closing.is_last)
    }

    fn is_put_down(&self, place: &Place) -> bool {
        let Some(own) = self.places.get(place) else {
            return true;
        };
        // What is not kept waits for a letter, and that for what will never be settled here.
        let is_news =
            |entry: &Entry| entry.is_news && entry.is_kept && entry.parked.key.place == *place;
        let in_transaction = self.being_parked.as_ref();
        own.news().is_none()
            && !own.has_letter()
            && !in_transaction.is_some_and(|sent| sent.has(place))
            && !self.being_committed.iter().any(|(of, _, _)| of == place)
            && !self.parked.values().any(is_news)
    }

    pub(super) fn out_of_time(&mut self, at: usize) {
        let Some(closing) = self.closings.get_mut(at) else {
            return;
        };
        closing.deadline = Box::pin(std::future::pending());
        let places: Vec<Place> = closing.places.iter().cloned().collect();
        if closing.is_last {
            self.closings.remove(at);
            self.drop_places(places);
            let late = HandlerError::passing("offsets were not put down in time");
            return self.not_put_down_at_all(&late);
        }
        // Handlers are dropped where they stand; their events come again.
        for key in self.keys_of(|place| places.contains(place)) {
            self.forget_lane(&key);
        }
    }

    /// A commit or a transaction of places that are given up cannot be done.
    pub(super) fn give_closing_up(&mut self) {
        let lost: Vec<usize> = (0..self.closings.len())
            .filter(|at| self.closings[*at].is_last)
            .collect();
        for at in lost.into_iter().rev() {
            let closing = self.closings.remove(at);
            self.drop_places(closing.places.into_iter().collect());
            let lost = HandlerError::passing("another member has the places already");
            self.not_put_down_at_all(&lost);
        }
    }

    fn not_put_down_at_all(&mut self, why: &HandlerError) {
        tracing::warn!(error = %why, "the last commit failed; its events come again");
        if let Some(End::Stop(uncommitted)) = &mut self.ending {
            *uncommitted = Some(Error::Stopped {
                what: self.setup.shared.what(),
                position: 0,
                source: Arc::clone(why.cause()),
            });
        }
    }

    /// Forgets places at once, with all that is under way there.
    pub(super) fn drop_places(&mut self, places: Vec<Place>) {
        let mut gone = BTreeSet::new();
        for place in places {
            if let Some(own) = self.places.remove(&place) {
                let letters = own.letters.iter();
                self.letter_bytes -= letters
                    .map(|letter| letter.letter.record.bytes())
                    .sum::<usize>();
                gone.insert(place);
            }
        }
        if gone.is_empty() {
            return;
        }
        for key in self.keys_of(|place| gone.contains(place)) {
            self.forget_lane(&key);
        }
        self.parked.retain(|key, _| !gone.contains(&key.place));
        // Whoever has the place meanwhile may have answered it.
        self.early.retain(|key, _| !gone.contains(&key.place));
        self.resuming.retain(|key, _| !gone.contains(&key.place));
        self.being_committed
            .retain(|(place, _, _)| !gone.contains(place));
        if let Some(sent) = &mut self.being_parked {
            sent.forget(&gone);
        }
        for closing in &mut self.closings {
            closing.places.retain(|place| !gone.contains(place));
        }
        self.places_changed = true;
    }

    /// The keys with something under way in such places.
    fn keys_of(&self, is_meant: impl Fn(&Place) -> bool) -> Vec<RecordKey> {
        let keys = self
            .lanes
            .keys()
            .chain(self.hold.keys())
            .chain(self.aborts.keys());
        let mut keys: Vec<RecordKey> = keys.filter(|key| is_meant(&key.place)).cloned().collect();
        keys.sort();
        keys.dedup();
        keys
    }

    pub(super) fn trouble_of(&mut self, error: FeedError) {
        match error {
            FeedError::Passing(error) => self.trouble(error),
            FeedError::NoTopic(topic) => self.trouble(no_topic(topic)),
            FeedError::Lost | FeedError::Gone { .. } => {
                tracing::debug!("the group has given places to others; that is told in a moment");
            }
        }
    }
}

pub(super) fn no_topic(topic: Box<str>) -> Error {
    Error::NoTopic {
        topic,
        remedy: "call `KafkaListenerConfig::ensure_topics`, or set `Poison::Stop`",
    }
}
