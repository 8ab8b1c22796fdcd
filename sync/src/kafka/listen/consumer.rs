//! A member of a group over librdkafka: one thread polls, hands over places and commits.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tidelog_core::{BoxFuture, Error};
use uuid::Uuid;

use super::config::KafkaListenerConfig;
use super::dead::{Changed, DeadLetters, Heard};
use super::feed::{
    Asked, Fed, Feed, FeedError, LetterPlace, Letters, ParkedKey, Parking, Place, Record, RecordKey,
};
use super::record::record;
use super::slot::{Command, Slot};
use crate::kafka::connection::Secrets;

/// How long one poll waits: what is told in between waits as long.
const POLL: Duration = Duration::from_millis(100);
/// How long the thread waits for the session before it pauses fetching and polls on: pausing throws
/// away what is fetched ahead.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long places are kept back for what is under way there.
const HAND_OVER: Duration = Duration::from_secs(20);
/// How long one question to the cluster waits.
const ASK: Duration = Duration::from_secs(10);
/// How often what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long leaving waits for the group.
const LEAVE: Duration = Duration::from_secs(5);

/// The header of a record whose own cannot be read, which says why.
pub(super) const UNREADABLE: &str = "tidelog-unreadable";

/// What a member is made of.
pub(super) struct Membership {
    /// Names, or patterns that begin with `^`.
    pub(super) topics: Vec<String>,
    /// A group without offsets begins at the end.
    pub(super) starts_at_end: bool,
    /// This member's own, new in each run.
    pub(super) id: Uuid,
}

/// The member of the group as librdkafka has it.
type Member = BaseConsumer<Events>;

/// [`Feed`] over librdkafka.
pub(super) struct KafkaFeed {
    slot: Arc<Slot>,
    /// Gone when the thread has ended.
    member: Weak<Member>,
    dead: Arc<DeadLetters>,
    ended: Option<oneshot::AsyncReceiver<()>>,
}

impl KafkaFeed {
    /// Joins the group.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when librdkafka refuses a setting, [`Error::Io`] when there is no thread.
    pub(super) fn open(
        membership: &Membership,
        config: &KafkaListenerConfig,
    ) -> Result<Self, Error> {
        let connection = &config.connection;
        let refused = |error: KafkaError| connection.refused(&error);
        let slot = Arc::new(Slot::default());
        let heard = Arc::clone(&slot);
        let dead = DeadLetters::new(
            connection.clone(),
            &config.group,
            config.dead_topics(),
            membership.id,
            move |heard_of| heard.push(of_dead_letters(heard_of)),
        )?;
        let events = Events {
            slot: Arc::clone(&slot),
            mine: Mutex::default(),
            server: connection.server(),
            secrets: connection.secrets(),
            starts_at_end: membership.starts_at_end,
        };
        let client = config.member()?;
        let consumer: Member = client.create_with_context(events).map_err(refused)?;
        let topics: Vec<&str> = membership.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(refused)?;
        let consumer = Arc::new(consumer);
        let member = Arc::downgrade(&consumer);
        let (ended, is_ended) = oneshot::async_channel();
        let at_end = AtEnd {
            slot: Arc::clone(&slot),
            _ended: ended,
        };
        thread::Builder::new()
            .name("tidelog-kafka-listen".into())
            .spawn(move || {
                // Dropped last, also by a panic: nobody waits for a thread that is gone.
                let _at_end = at_end;
                run(&consumer);
            })
            .map_err(|error| Error::io("start a thread for", "a listener", error))?;
        Ok(Self {
            slot,
            member,
            dead: Arc::new(dead),
            ended: Some(is_ended),
        })
    }
}

fn of_dead_letters(heard: Heard) -> Fed {
    match heard {
        Heard::Changed(Changed::Parked(parked)) => Fed::Parked(parked),
        Heard::Changed(Changed::Resumed(key)) => Fed::Resumed(key),
        Heard::Changed(Changed::Asked(key, asked)) => Fed::Asked(key, asked),
        Heard::Trouble(error) => Fed::Trouble(error),
    }
}

impl Feed for KafkaFeed {
    fn poll_fed(&mut self, cx: &mut Context<'_>) -> Poll<Fed> {
        self.slot.poll_fed(cx)
    }

    fn pause(&mut self, paused: bool) {
        self.slot.pause(paused);
    }

    fn hold(&mut self, place: Place, held: bool) {
        self.slot.tell(Command::Hold(place, held));
    }

    fn begin(&mut self, places: Vec<Place>) {
        self.slot.tell(Command::Begin(places));
    }

    fn commit(&self, offsets: Vec<(Place, i64)>) -> BoxFuture<'static, Result<(), FeedError>> {
        let (reply, answer) = oneshot::async_channel();
        self.slot.tell(Command::Commit(offsets, reply));
        Box::pin(async move {
            // Without an answer the thread is gone, and the membership with it.
            answer.await.unwrap_or(Err(FeedError::Lost))
        })
    }

    fn park(&self, change: Parking) -> BoxFuture<'static, Result<Vec<LetterPlace>, FeedError>> {
        let places = without_offset(&change);
        if !places.is_empty() {
            return self.park_with(places, change);
        }
        // What the group says of this member at this moment: who is not the owner any more is refused.
        let member = self.member.upgrade();
        match member.and_then(|member| member.group_metadata()) {
            Some(metadata) => self.dead.park(change, metadata),
            None => Box::pin(std::future::ready(Err(FeedError::Lost))),
        }
    }

    fn parked_set(&self) -> BoxFuture<'static, Result<Vec<ParkedKey>, FeedError>> {
        self.dead.parked_set()
    }

    fn letters(
        &self,
        key: RecordKey,
        from: LetterPlace,
    ) -> BoxFuture<'static, Result<Letters, FeedError>> {
        self.dead.letters(key, from)
    }

    fn ask(&self, key: RecordKey, asked: Asked) -> BoxFuture<'static, Result<(), FeedError>> {
        self.dead.ask(key, asked)
    }

    fn leave(&mut self) -> BoxFuture<'static, ()> {
        self.slot.leave();
        let ended = self.ended.take();
        Box::pin(async move {
            if let Some(ended) = ended {
                // Dropped when the thread ends.
                let _ = ended.await;
            }
        })
    }
}

impl KafkaFeed {
    /// As [`park`](Feed::park), of places that nothing was taken of: their offsets stay what they are.
    fn park_with(
        &self,
        places: Vec<Place>,
        mut change: Parking,
    ) -> BoxFuture<'static, Result<Vec<LetterPlace>, FeedError>> {
        let (reply, answer) = oneshot::async_channel();
        self.slot.tell(Command::Committed(places, reply));
        let (member, dead) = (Weak::clone(&self.member), Arc::clone(&self.dead));
        Box::pin(async move {
            let offsets = answer.await.unwrap_or(Err(FeedError::Lost))?;
            change.offsets.extend(offsets);
            let metadata = member.upgrade().and_then(|member| member.group_metadata());
            let metadata = metadata.ok_or(FeedError::Lost)?;
            dead.park(change, metadata).await
        })
    }
}

/// The places that a change is about without saying their offsets.
fn without_offset(change: &Parking) -> Vec<Place> {
    let parked = change.parked.iter().map(|parked| &parked.key.place);
    let resumed = change.resumed.iter().map(|key| &key.place);
    let letters = change.letters.iter().map(|letter| &letter.record.place);
    let about: BTreeSet<&Place> = parked.chain(resumed).chain(letters).collect();
    let has_offset = |place: &Place| change.offsets.iter().any(|(of, _)| of == place);
    let without = about.into_iter().filter(|place| !has_offset(place));
    without.cloned().collect()
}

impl Drop for KafkaFeed {
    fn drop(&mut self) {
        self.slot.leave();
    }
}

struct AtEnd {
    slot: Arc<Slot>,
    _ended: oneshot::Sender<()>,
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        if !self.slot.is_leaving() {
            self.slot.push(Fed::Ended(Error::Closed));
        }
        self.slot.end();
    }
}

fn run(consumer: &Member) {
    let events = Arc::clone(consumer.context());
    let slot = &events.slot;
    let mut fetching = Fetching::default();
    while !slot.is_leaving() {
        events.obey(consumer);
        events.start(consumer, &mut fetching);
        if slot.has_room() {
            fetching.go_on(consumer, &events);
        } else if !fetching.has_waited_enough() {
            slot.wait(PATIENCE);
            continue;
        } else {
            fetching.pause(consumer, &events);
        }
        match consumer.poll(POLL) {
            Some(Ok(message)) => slot.push_record(readable(record(&message))),
            Some(Err(error)) => {
                if let Some(fed) = events.failed(consumer, &error) {
                    let is_end = matches!(fed, Fed::Ended(_));
                    slot.push(fed);
                    if is_end {
                        return slot.leave();
                    }
                }
            }
            None => {}
        }
    }
    leave(consumer);
}

/// Gives all places back, so that others need not wait until this member is missed.
fn leave(consumer: &Member) {
    consumer.unsubscribe();
    let until = Instant::now() + LEAVE;
    while Instant::now() < until && consumer.assignment().is_ok_and(|mine| mine.count() > 0) {
        let _ = consumer.poll(POLL);
    }
}

/// Whether the thread lets librdkafka fetch.
#[derive(Default)]
struct Fetching {
    full_since: Option<Instant>,
    is_paused: bool,
    tried: Option<Instant>,
}

impl Fetching {
    fn has_waited_enough(&mut self) -> bool {
        let since = *self.full_since.get_or_insert_with(Instant::now);
        since.elapsed() >= PATIENCE
    }

    fn pause(&mut self, consumer: &Member, events: &Events) {
        if !self.is_paused {
            self.is_paused = true;
            events.log_failure("pause", consumer.pause(&list(&events.mine.lock().begun)));
        }
    }

    fn go_on(&mut self, consumer: &Member, events: &Events) {
        self.full_since = None;
        if std::mem::take(&mut self.is_paused) {
            events.resume(consumer);
        }
    }
}

/// What librdkafka tells of a member, and where it goes.
pub(super) struct Events {
    slot: Arc<Slot>,
    mine: Mutex<Mine>,
    server: Box<str>,
    secrets: Secrets,
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
}

impl Mine {
    fn forget(&mut self, place: &Place) {
        self.begun.remove(place);
        self.held.remove(place);
        self.starting.remove(place);
    }
}

impl Events {
    /// Does what it is told; also while places are handed over, from within a poll.
    fn obey(&self, consumer: &Member) {
        while let Some(command) = self.slot.next_command() {
            match command {
                Command::Begin(places) if self.starts_at_end => {
                    self.mine.lock().starting.extend(places);
                }
                Command::Begin(places) => self.begin(consumer, places),
                Command::Hold(place, held) => {
                    let mut mine = self.mine.lock();
                    if held && mine.begun.contains(&place) && mine.held.insert(place.clone()) {
                        self.log_failure("pause", consumer.pause(&list([&place])));
                    } else if !held && mine.held.remove(&place) {
                        self.log_failure("resume", consumer.resume(&list([&place])));
                    }
                }
                Command::Committed(places, reply) => {
                    let _ = reply.send(self.put_down(consumer, &places));
                }
                Command::Commit(offsets, reply) => {
                    // Whoever asked may be gone.
                    let _ = reply.send(self.commit(consumer, &offsets));
                }
            }
        }
    }

    fn begin(&self, consumer: &Member, places: Vec<Place>) {
        self.mine.lock().begun.extend(places);
        self.resume(consumer);
    }

    /// Lets everything be fetched that is to be.
    fn resume(&self, consumer: &Member) {
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
        let committed = consumer.committed_offsets(list(places), ASK);
        let committed = committed
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
    fn start(&self, consumer: &Member, fetching: &mut Fetching) {
        let starting: Vec<Place> = self.mine.lock().starting.iter().cloned().collect();
        let is_due = fetching.tried.is_none_or(|tried| tried.elapsed() >= AGAIN);
        if starting.is_empty() || !is_due {
            return;
        }
        fetching.tried = None;
        for place in starting {
            match start_at_end(consumer, &place) {
                Ok(()) => {
                    // It may have been revoked meanwhile.
                    if self.mine.lock().starting.remove(&place) {
                        self.begin(consumer, vec![place]);
                    }
                }
                Err(error) => {
                    fetching.tried = Some(Instant::now());
                    let error = self.unreachable("find where a place ends", &error);
                    self.slot.push(Fed::Trouble(error));
                }
            }
        }
    }

    /// What follows from an error that librdkafka reports.
    fn failed(&self, consumer: &Member, error: &KafkaError) -> Option<Fed> {
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

/// A group that has offsets in this topic is not new: what it has none for came later, and is read
/// from its beginning. Otherwise the ends of all places are put down, also of those of others.
fn start_at_end(consumer: &Member, place: &Place) -> Result<(), KafkaError> {
    let metadata = consumer.fetch_metadata(Some(&place.topic), ASK)?;
    let topic = metadata.topics().iter().find(|t| *t.name() == *place.topic);
    let partitions = topic.map_or(&[][..], |topic| topic.partitions());
    let places: Vec<Place> = partitions
        .iter()
        .map(|partition| Place {
            topic: place.topic.clone(),
            partition: partition.id(),
        })
        .collect();
    let committed = consumer.committed_offsets(list(&places), ASK)?;
    let known = |element: &Offset| matches!(element, Offset::Offset(_));
    if committed.elements().iter().any(|e| known(&e.offset())) {
        let own = committed.find_partition(&place.topic, place.partition);
        return match own.map(|own| own.offset()) {
            // Put down a moment ago, by this member or another: librdkafka may have looked before.
            Some(offset @ Offset::Offset(_)) => {
                consumer.seek(&place.topic, place.partition, offset, ASK)
            }
            _ => Ok(()),
        };
    }
    let mut ends = Vec::with_capacity(places.len());
    for other in places {
        let (_, end) = consumer.fetch_watermarks(&other.topic, other.partition, ASK)?;
        ends.push((other, end));
    }
    consumer.commit(&with_offsets(&ends), CommitMode::Sync)?;
    match ends.iter().find(|(other, _)| other == place) {
        Some((_, end)) => {
            let end = Offset::Offset(*end);
            consumer.seek(&place.topic, place.partition, end, ASK)
        }
        None => Ok(()),
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
        self.slot.push(Fed::Revoked { places, lost, done });
        let until = Instant::now() + HAND_OVER;
        while !lost && Instant::now() < until && !self.slot.is_leaving() {
            self.obey(consumer);
            match is_done.recv_timeout(Duration::from_millis(5)) {
                Err(oneshot::RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(oneshot::RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// A record whose headers cannot be read is one without, and with a mark why.
fn readable((mut record, unreadable): (Record, Option<&'static str>)) -> Record {
    if let Some(reason) = unreadable {
        record
            .headers
            .push((UNREADABLE.into(), Some(reason.into())));
    }
    record
}

fn places(list: &TopicPartitionList) -> Vec<Place> {
    let elements = list.elements();
    let place = elements.iter().map(|element| Place {
        topic: element.topic().into(),
        partition: element.partition(),
    });
    place.collect()
}

fn list<'a>(places: impl IntoIterator<Item = &'a Place>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for place in places {
        list.add_partition(&place.topic, place.partition);
    }
    list
}

fn with_offsets(offsets: &[(Place, i64)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (place, offset) in offsets {
        let mut element = list.add_partition(&place.topic, place.partition);
        // Offsets of records are never negative, which is all that it refuses.
        let _ = element.set_offset(Offset::Offset(*offset));
    }
    list
}
