//! One producer as librdkafka makes them: what waits, what is under way in batches, what is sent
//! again, and what is reported.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

use super::cluster::{Answer, Cluster, Stored, partition_of};
use crate::kafka::broker::{Fatal, NotSent, Outcome, Place, Refusal, Report, Tag, Trouble};

/// Batches under way to one place at once.
pub(super) const FLIGHTS: usize = 5;

/// A message that waits or is under way.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub tag: Tag,
    pub message: Stored,
}

/// What is known of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nobody has said; messages wait.
    Unknown,
    /// It was not there when it was looked; messages still wait.
    Doubtful,
    /// It is not there; nothing is queued.
    Missing,
    There(usize),
}

/// A batch under way.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub place: Place,
    pub producer: u64,
    pub first: i64,
    pub batch: Vec<Queued>,
    pub at: At,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// On its way.
    Sent,
    /// The broker has said this, and nobody has heard it yet.
    Answered(Answer),
    /// It is to be sent again.
    Again,
}

impl Flight {
    pub(super) fn messages(&self) -> Vec<Stored> {
        self.batch.iter().map(|m| m.message.clone()).collect()
    }
}

/// Bounds of a producer's queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    pub messages: usize,
    pub bytes: usize,
    /// Larger values are not queued at all.
    pub message_bytes: usize,
}

pub(crate) struct Producer {
    pub node: usize,
    pub generation: u32,
    pub(super) queue: Queue,
    /// What the brokers know it by.
    pub(super) id: u64,
    pub(super) topics: BTreeMap<Box<str>, Known>,
    homeless: BTreeMap<Box<str>, VecDeque<Queued>>,
    pub(super) waiting: BTreeMap<Place, VecDeque<Queued>>,
    next: BTreeMap<Place, i64>,
    pub(super) flights: Vec<Flight>,
    /// It begins anew under another id once nothing is under way.
    pub(super) is_bumping: bool,
    /// Made and not heard yet, in order by place.
    pub(super) reports: BTreeMap<Place, VecDeque<Report>>,
    pub(super) came: Vec<Report>,
    pub(super) fatal: Option<Fatal>,
    pub(super) waker: Option<Waker>,
    /// So many messages that were queued are not heard of yet, with so many bytes.
    pub(super) held: usize,
    held_bytes: usize,
    /// So many messages find no room, whatever there is.
    pub(super) full: usize,
    is_full: bool,
    pub(super) has_room: bool,
    sizes: BTreeMap<u32, usize>,
}

impl Producer {
    pub(super) fn new(node: usize, generation: u32, id: u64, queue: Queue) -> Self {
        Self {
            node,
            generation,
            queue,
            id,
            topics: BTreeMap::new(),
            homeless: BTreeMap::new(),
            waiting: BTreeMap::new(),
            next: BTreeMap::new(),
            flights: Vec::new(),
            is_bumping: false,
            reports: BTreeMap::new(),
            came: Vec::new(),
            fatal: None,
            waker: None,
            held: 0,
            held_bytes: 0,
            full: 0,
            is_full: false,
            has_room: false,
            sizes: BTreeMap::new(),
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Messages that are queued or under way.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Topic and key of every message that is queued or under way.
    pub(crate) fn keys(&self) -> Vec<(&str, &[u8])> {
        let mut keys = Vec::new();
        for (topic, homeless) in &self.homeless {
            keys.extend(homeless.iter().map(|m| (&**topic, &m.message.key[..])));
        }
        for (place, waiting) in &self.waiting {
            keys.extend(waiting.iter().map(|m| (&*place.topic, &m.message.key[..])));
        }
        for flight in &self.flights {
            let topic = &*flight.place.topic;
            keys.extend(flight.batch.iter().map(|m| (topic, &m.message.key[..])));
        }
        keys
    }

    pub(super) fn send(&mut self, topic: &str, tag: Tag, message: Stored) -> Result<(), NotSent> {
        if self.fatal.is_some() {
            return Err(NotSent::Fatal);
        }
        if message.value.len() > self.queue.message_bytes {
            return Err(NotSent::TooLarge);
        }
        let known = *self.topics.entry(topic.into()).or_insert(Known::Unknown);
        if known == Known::Missing {
            return Err(NotSent::NoTopic);
        }
        let size = message.value.len();
        let has_room =
            self.held < self.queue.messages && self.held_bytes + size <= self.queue.bytes;
        if self.full > 0 || !has_room {
            self.full = self.full.saturating_sub(1);
            self.is_full = true;
            // What has no reason in what is held ends by itself.
            if has_room {
                self.has_room = true;
            }
            return Err(NotSent::Full);
        }
        self.held += 1;
        self.held_bytes += size;
        self.sizes.insert(tag.lane, size);
        let queued = Queued { tag, message };
        match known {
            Known::There(partitions) => self.place(topic, partitions, queued),
            _ => {
                let homeless = self.homeless.entry(topic.into()).or_default();
                homeless.push_back(queued);
            }
        }
        Ok(())
    }

    fn place(&mut self, topic: &str, partitions: usize, queued: Queued) {
        let partition = partition_of(&queued.message.key, partitions);
        let topic = topic.into();
        let waiting = self.waiting.entry(Place { topic, partition }).or_default();
        waiting.push_back(queued);
    }

    /// Learns what there is of a topic.
    pub(super) fn learn(&mut self, topic: &str, partitions: Option<usize>) {
        let known = self.topics.get(topic).copied().unwrap_or(Known::Unknown);
        let now = match (partitions, known) {
            (Some(count), _) => Known::There(count),
            // It is not given up at the first sight.
            (None, Known::Unknown | Known::There(_)) => Known::Doubtful,
            (None, Known::Doubtful | Known::Missing) => Known::Missing,
        };
        self.topics.insert(topic.into(), now);
        match now {
            Known::There(count) => {
                for queued in self.homeless.remove(topic).unwrap_or_default() {
                    self.place(topic, count, queued);
                }
                let beyond = |place: &Place| {
                    &*place.topic == topic
                        && usize::try_from(place.partition).is_ok_and(|at| at >= count)
                };
                self.give_up(beyond);
            }
            Known::Missing => {
                for queued in self.homeless.remove(topic).unwrap_or_default() {
                    let place = Place {
                        topic: topic.into(),
                        partition: -1,
                    };
                    self.report(&place, queued.tag, Outcome::Failed(Trouble::NoTopic));
                }
                self.give_up(|place| &*place.topic == topic);
            }
            Known::Unknown | Known::Doubtful => {}
        }
    }

    /// What waits for these places is reported as failed.
    fn give_up(&mut self, is_gone: impl Fn(&Place) -> bool) {
        let (gone, stay): (Vec<Flight>, Vec<Flight>) = std::mem::take(&mut self.flights)
            .into_iter()
            .partition(|flight| flight.at == At::Again && is_gone(&flight.place));
        self.flights = stay;
        let mut failed: Vec<(Place, Queued)> = Vec::new();
        for flight in gone {
            // Its sequences will never come.
            self.is_bumping = true;
            let place = flight.place;
            failed.extend(flight.batch.into_iter().map(|m| (place.clone(), m)));
        }
        let places: Vec<Place> = self
            .waiting
            .keys()
            .filter(|p| is_gone(p))
            .cloned()
            .collect();
        for place in places {
            let waiting = self.waiting.remove(&place).unwrap_or_default();
            failed.extend(waiting.into_iter().map(|m| (place.clone(), m)));
        }
        for (place, queued) in failed {
            self.report(&place, queued.tag, Outcome::Failed(Trouble::NoTopic));
        }
    }

    /// Whether somebody has to look at a topic before anything goes there.
    pub(super) fn wonders(&self) -> Vec<Box<str>> {
        let is_open = |topic: &str, known: &Known| match known {
            Known::Unknown | Known::Doubtful => true,
            Known::Missing | Known::There(_) => self
                .flights
                .iter()
                .any(|f| f.at == At::Again && &*f.place.topic == topic),
        };
        let topics = self.topics.iter();
        topics
            .filter(|(topic, known)| is_open(topic, known))
            .map(|(topic, _)| topic.clone())
            .collect()
    }

    /// Whether a batch may be cut for this place.
    pub(super) fn may_cut(&self, place: &Place) -> bool {
        let under_way = self.flights.iter().filter(|f| f.place == *place).count();
        !self.is_bumping && self.fatal.is_none() && under_way < FLIGHTS
    }

    pub(super) fn cut(&mut self, place: &Place, most: usize) {
        let Some(waiting) = self.waiting.get_mut(place) else {
            return;
        };
        let batch: Vec<Queued> = waiting.drain(..most.min(waiting.len())).collect();
        if waiting.is_empty() {
            self.waiting.remove(place);
        }
        let next = self.next.entry(place.clone()).or_default();
        let first = *next;
        *next += i64::try_from(batch.len()).unwrap();
        self.flights.push(Flight {
            place: place.clone(),
            producer: self.id,
            first,
            batch,
            at: At::Sent,
        });
    }

    /// The first batch of each place that is on its way: those of a place arrive in order.
    pub(super) fn arriving(&self) -> Vec<usize> {
        self.first_of_places(|at| *at == At::Sent, |_| false)
    }

    /// The first of each place that was answered, if none before it is on its way: answers come in the
    /// order of what was asked.
    pub(super) fn landing(&self) -> Vec<usize> {
        self.first_of_places(|at| matches!(at, At::Answered(_)), |at| *at == At::Sent)
    }

    /// The first of each place that is to be sent again: they go in order.
    pub(super) fn going_again(&self) -> Vec<usize> {
        if self.is_bumping {
            return Vec::new();
        }
        self.first_of_places(|at| *at == At::Again, |_| false)
    }

    /// Of each place the first batch that `is_wanted`, unless one before it `is_in_the_way`.
    fn first_of_places(
        &self,
        is_wanted: impl Fn(&At) -> bool,
        is_in_the_way: impl Fn(&At) -> bool,
    ) -> Vec<usize> {
        let mut found: BTreeMap<&Place, Option<usize>> = BTreeMap::new();
        for (at, flight) in self.flights.iter().enumerate() {
            if is_in_the_way(&flight.at) {
                found.entry(&flight.place).or_insert(None);
            } else if is_wanted(&flight.at) {
                found.entry(&flight.place).or_insert(Some(at));
            }
        }
        found.into_values().flatten().collect()
    }

    /// The connection to a batch's place breaks: nothing under way there is answered, all of it is sent
    /// again.
    pub(super) fn hang_up(&mut self, at: usize) -> Option<()> {
        let place = self.flights.get(at)?.place.clone();
        for flight in self.flights.iter_mut().filter(|f| f.place == place) {
            flight.at = At::Again;
        }
        Some(())
    }

    /// The broker says something of a batch.
    pub(super) fn meet(&mut self, at: usize, cluster: &mut Cluster) -> Option<()> {
        let flight = self.flights.get_mut(at)?;
        let answer = cluster.take(
            &flight.place,
            flight.producer,
            flight.first,
            &flight.messages(),
        );
        flight.at = At::Answered(answer);
        Some(())
    }

    /// What the broker said is heard.
    pub(super) fn land(&mut self, at: usize) {
        let Some(flight) = self.flights.get(at).cloned() else {
            return;
        };
        let At::Answered(answer) = &flight.at else {
            return;
        };
        match answer {
            Answer::Stored(offset) => {
                self.flights.remove(at);
                for (queued, behind) in flight.batch.into_iter().zip(0..) {
                    let outcome = Outcome::Delivered {
                        partition: flight.place.partition,
                        offset: if *offset < 0 { -1 } else { offset + behind },
                    };
                    self.report(&flight.place, queued.tag, outcome);
                }
            }
            Answer::Refused(refusal) => {
                self.flights.remove(at);
                self.is_bumping = true;
                let refusal: Refusal = refusal.clone();
                for queued in flight.batch {
                    let outcome = Outcome::Refused(refusal.clone());
                    self.report(&flight.place, queued.tag, outcome);
                }
            }
            Answer::NoTopic => self.flights[at].at = At::Again,
            Answer::OutOfOrder => {
                let mut before = self.flights[..at].iter();
                let waits =
                    before.any(|f| f.place == flight.place && f.producer == flight.producer);
                if self.is_bumping || waits {
                    self.flights[at].at = At::Again;
                } else {
                    self.give_up_all(Fatal {
                        reason: "out of order sequence number".into(),
                        lost_data: true,
                    });
                }
            }
        }
        self.bump();
    }

    /// Begins anew under another id, when nothing is under way.
    pub(super) fn bump(&mut self) {
        let lands = |flight: &Flight| flight.at != At::Again;
        if !self.is_bumping || self.flights.iter().any(lands) {
            return;
        }
        for flight in std::mem::take(&mut self.flights).into_iter().rev() {
            let waiting = self.waiting.entry(flight.place).or_default();
            for queued in flight.batch.into_iter().rev() {
                waiting.push_front(queued);
            }
        }
        self.is_bumping = false;
        self.next.clear();
        // Ids of one producer are far from those of others.
        self.id += 1;
    }

    fn report(&mut self, place: &Place, tag: Tag, outcome: Outcome) {
        let reports = self.reports.entry(place.clone()).or_default();
        reports.push_back(Report { tag, outcome });
    }

    /// The first reports of a place are heard.
    pub(super) fn tell(&mut self, place: &Place, count: usize) {
        let Some(reports) = self.reports.get_mut(place) else {
            return;
        };
        let told: Vec<Report> = reports.drain(..count.min(reports.len())).collect();
        if reports.is_empty() {
            self.reports.remove(place);
        }
        for report in &told {
            self.forget(report);
        }
        self.came.extend(told);
        if std::mem::take(&mut self.is_full) {
            self.has_room = true;
        }
        self.wake();
    }

    /// A report gets lost for good.
    pub(super) fn lose_report(&mut self, place: &Place) -> Option<Report> {
        let reports = self.reports.get_mut(place)?;
        let lost = reports.pop_front()?;
        if reports.is_empty() {
            self.reports.remove(place);
        }
        self.forget(&lost);
        Some(lost)
    }

    fn forget(&mut self, report: &Report) {
        self.held -= 1;
        let size = self.sizes.get(&report.tag.lane).copied().unwrap_or(0);
        self.held_bytes = self.held_bytes.saturating_sub(size);
    }

    /// It gives up: what was under way is reported, and may still arrive. Answers that.
    pub(super) fn give_up_all(&mut self, fatal: Fatal) {
        if self.fatal.is_some() {
            return;
        }
        self.fatal = Some(fatal);
        let mut purged: Vec<(Place, Tag)> = Vec::new();
        for flight in &mut self.flights {
            purged.extend(flight.batch.iter().map(|m| (flight.place.clone(), m.tag)));
        }
        for (place, waiting) in std::mem::take(&mut self.waiting) {
            purged.extend(waiting.iter().map(|m| (place.clone(), m.tag)));
        }
        for (topic, homeless) in std::mem::take(&mut self.homeless) {
            let place = Place {
                topic,
                partition: -1,
            };
            purged.extend(homeless.iter().map(|m| (place.clone(), m.tag)));
        }
        for (place, tag) in purged {
            self.report(&place, tag, Outcome::Purged);
        }
        self.wake();
    }

    /// Messages that wait for a place or a topic.
    pub(super) fn is_still(&self) -> bool {
        self.waiting.is_empty()
            && self.homeless.is_empty()
            && self.flights.is_empty()
            && self.reports.is_empty()
            && self.came.is_empty()
    }
}
