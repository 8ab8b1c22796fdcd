//! What librdkafka tells of a member, and what it is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use tidelog_core::Error;

use super::feed::{Fed, FeedError, Place};
use super::lists::{self, list, places, with_offsets};
use super::slot::{Command, Slot, Told};
use super::starting::{Start, start_at_end};
use crate::kafka::connection::{Connection, Secrets};

/// How long places are kept back for what is under way there.
const HAND_OVER: Duration = Duration::from_secs(20);
/// How long one question to the cluster waits.
const ASK: Duration = Duration::from_secs(10);
/// How often what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The member of the group as librdkafka has it.
pub(super) type Member = BaseConsumer<Events>;

/// What librdkafka tells of a member, and where it goes.
pub(super) struct Events {
    slot: Arc<Slot>,
    mine: Mutex<Mine>,
    server: Box<str>,
    secrets: Secrets,
    /// Whether a group without offsets begins at the end.
    starts_at_end: bool,
}

/// Places of this member.
#[derive(Default)]
struct Mine {
    /// Those that are to be fetched.
    begun: BTreeSet<Place>,
    /// Those of `begun` that are not to be fetched for now.
    held: BTreeSet<Place>,
    /// Those whose first offset is not put down yet.
    starting: BTreeSet<Place>,
    /// When that was tried last in vain.
    tried: Option<Instant>,
}

impl Mine {
    fn forget(&mut self, place: &Place) {
        self.begun.remove(place);
        self.held.remove(place);
        self.starting.remove(place);
    }
}

impl Events {
    pub(super) fn new(slot: Arc<Slot>, connection: &Connection, starts_at_end: bool) -> Self {
        Self {
            slot,
            mine: Mutex::default(),
            server: connection.server(),
            secrets: connection.secrets(),
            starts_at_end,
        }
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Does what it is told; also while places are handed over, from within a poll. What a place was
    /// told that went since, and perhaps came back, is not about what it is now.
    pub(super) fn obey(&self, consumer: &Member) {
        while let Some(Told { command, heard }) = self.slot.next_command() {
            let is_still = |place: &Place| self.slot.is_still([place], heard);
            match command {
                Command::Begin(mut places) => {
                    places.retain(is_still);
                    if self.starts_at_end {
                        self.mine.lock().starting.extend(places);
                    } else {
                        self.begin(consumer, places);
                    }
                }
                Command::Hold(place, held) if is_still(&place) => {
                    let mut mine = self.mine.lock();
                    if held && mine.begun.contains(&place) && mine.held.insert(place.clone()) {
                        self.log_failure("pause", consumer.pause(&list([&place])));
                    } else if !held && mine.held.remove(&place) {
                        self.log_failure("resume", consumer.resume(&list([&place])));
                    }
                }
                Command::Hold(..) => {}
                Command::Committed(places, reply) => {
                    let _ = reply.send(self.put_down(consumer, &places));
                }
                Command::Commit(offsets, reply) => {
                    let are_still = offsets.iter().all(|(place, _)| is_still(place));
                    let done = if are_still {
                        self.commit(consumer, &offsets)
                    } else {
                        Err(FeedError::Lost)
                    };
                    // Whoever asked may be gone.
                    let _ = reply.send(done);
                }
            }
        }
    }

    fn begin(&self, consumer: &Member, places: Vec<Place>) {
        self.mine.lock().begun.extend(places);
        self.resume(consumer);
    }

    /// Lets nothing be fetched for now.
    pub(super) fn pause(&self, consumer: &Member) {
        let mine = self.mine.lock();
        self.log_failure("pause", consumer.pause(&list(&mine.begun)));
    }

    /// Lets everything be fetched that is to be.
    pub(super) fn resume(&self, consumer: &Member) {
        let mine = self.mine.lock();
        let wanted = list(mine.begun.difference(&mine.held));
        self.log_failure("resume", consumer.resume(&wanted));
    }

    fn log_failure(&self, action: &str, done: Result<(), KafkaError>) {
        if let Err(error) = done {
            let error = self.secrets.scrub(&error.to_string());
            tracing::warn!(target: "tidelog::kafka", action, %error, "a place cannot be steered");
        }
    }

    fn commit(&self, consumer: &Member, offsets: &[(Place, i64)]) -> Result<(), FeedError> {
        let list = with_offsets(offsets);
        let done = consumer.commit(&list, CommitMode::Sync);
        done.map_err(|error| match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::FencedInstanceId
                | RDKafkaErrorCode::AssignmentLost,
            ) => FeedError::Lost,
            _ => FeedError::Passing(self.unreachable("commit", &error)),
        })
    }

    /// What was put down of places; where nothing was, their beginning.
    fn put_down(
        &self,
        consumer: &Member,
        places: &[Place],
    ) -> Result<Vec<(Place, i64)>, FeedError> {
        let committed = lists::put_down(consumer, list(places), ASK)
            .map_err(|error| FeedError::Passing(self.unreachable("ask for offsets", &error)))?;
        let offset = |place: &Place| {
            let element = committed.find_partition(&place.topic, place.partition)?;
            element.offset().to_raw().filter(|offset| *offset >= 0)
        };
        let with_offset = places
            .iter()
            .map(|place| (place.clone(), offset(place).unwrap_or(0)));
        Ok(with_offset.collect())
    }

    fn unreachable(&self, action: &str, error: &KafkaError) -> Error {
        Error::Unreachable {
            server: self.server.clone(),
            action: action.into(),
            reason: self.secrets.scrub(&error.to_string()),
        }
    }

    /// Puts down where places of a new group begin that is to begin at the end.
    pub(super) fn start(&self, consumer: &Member) {
        let starting: Vec<Place> = {
            let mut mine = self.mine.lock();
            let is_due = mine.tried.is_none_or(|tried| tried.elapsed() >= AGAIN);
            if mine.starting.is_empty() || !is_due {
                return;
            }
            mine.tried = None;
            mine.starting.iter().cloned().collect()
        };
        for place in starting {
            match start_at_end(consumer, &place) {
                Ok(Start::Begins) => {
                    // It may have been revoked meanwhile.
                    if self.mine.lock().starting.remove(&place) {
                        self.begin(consumer, vec![place]);
                    }
                }
                Ok(Start::Waits) => self.mine.lock().tried = Some(Instant::now()),
                Err(error) => {
                    self.mine.lock().tried = Some(Instant::now());
                    let error = self.unreachable("find where a place ends", &error);
                    self.slot.push(Fed::Trouble(error));
                }
            }
        }
    }

    /// What follows from an error that librdkafka reports.
    pub(super) fn failed(&self, consumer: &Member, error: &KafkaError) -> Option<Fed> {
        if let KafkaError::MessageConsumptionFatal(_) = error {
            let reason = consumer.client().fatal_error().map(|(_, reason)| reason);
            let reason = reason.unwrap_or_else(|| error.to_string());
            return Some(Fed::Ended(Error::ServerRefused {
                server: self.server.clone(),
                action: "go on as a member of the group".into(),
                reason: self.secrets.scrub(&reason),
            }));
        }
        match error.rdkafka_error_code() {
            // It begins again at the earliest offset by itself.
            Some(RDKafkaErrorCode::AutoOffsetReset) => None,
            _ => Some(Fed::Trouble(self.unreachable("read", error))),
        }
    }
}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let message = self.secrets.scrub(message);
        match level {
            RDKafkaLogLevel::Debug | RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => {
                tracing::debug!(target: "tidelog::kafka", facility, "{message}");
            }
            _ => tracing::warn!(target: "tidelog::kafka", facility, "{message}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        let mut ends = Vec::new();
        for (topic, of_topic) in statistics.topics {
            for (partition, of_place) in of_topic.partitions {
                if of_place.ls_offset >= 0 {
                    let topic = topic.as_str().into();
                    ends.push((Place { topic, partition }, of_place.ls_offset));
                }
            }
        }
        if !ends.is_empty() {
            self.slot.push(Fed::Ends(ends));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let reason = self.secrets.scrub(reason);
        tracing::warn!(target: "tidelog::kafka", %error, "{reason}");
    }
}

impl ConsumerContext for Events {
    fn pre_rebalance(&self, consumer: &Member, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(list) => self.give_up(consumer, places(list)),
            Rebalance::Error(error) => {
                let error = self.unreachable("divide the places of the group", error);
                self.slot.push(Fed::Trouble(error));
            }
            Rebalance::Assign(_) => {}
        }
    }

    fn post_rebalance(&self, consumer: &Member, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(list) = rebalance else {
            return;
        };
        if list.count() == 0 {
            return;
        }
        // Nothing is fetched before the session says so.
        self.log_failure("pause", consumer.pause(list));
        self.slot.push(Fed::Assigned(places(list)));
    }
}

impl Events {
    /// Lets the session end what is under way in places that go to others, and commit.
    fn give_up(&self, consumer: &Member, places: Vec<Place>) {
        if places.is_empty() {
            return;
        }
        {
            let mut mine = self.mine.lock();
            for place in &places {
                mine.forget(place);
            }
        }
        let lost = consumer.assignment_lost();
        let (done, is_done) = oneshot::channel();
        let given_up = places.clone();
        self.slot.push(Fed::Revoked { places, lost, done });
        let until = Instant::now() + HAND_OVER;
        while !lost && Instant::now() < until && !self.slot.is_leaving() {
            self.obey(consumer);
            match is_done.recv_timeout(Duration::from_millis(5)) {
                Err(oneshot::RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(oneshot::RecvTimeoutError::Disconnected) => break,
            }
        }
        self.slot.went(&given_up);
    }
}
