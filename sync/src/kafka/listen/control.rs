//! What can be seen of a listener over Kafka, and what it can be told.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};
use tidelog_core::{Error, HandlerError, Timestamp};

use super::feed::{ParkedKey, Place, RecordKey};
use super::job::name_of;
use super::replay::Replay;
use crate::listeners::ListenerPhase;
use crate::signal::Signal;

/// How far a listener over Kafka is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KafkaListenerStatus {
    /// Its group.
    pub group: Box<str>,
    /// What it does.
    pub phase: ListenerPhase,
    /// The partitions that this member has, in order.
    pub places: Vec<KafkaPlaceStatus>,
    /// Handlers that run at this moment.
    pub in_flight: usize,
    /// When the longest-running one of them began.
    pub in_flight_since: Option<Timestamp>,
    /// Keys that wait to be tried again.
    pub retrying: usize,
    /// Events that wait for what is missing before them in their stream.
    pub held: usize,
    /// Keys of the whole group that are parked, as far as this member knows.
    pub parked: usize,
    /// Records that were no event, since it was made.
    pub garbage: u64,
    /// Records that were handled, since it was made.
    pub handled: u64,
    /// How often places came or went, since it was made.
    pub rebalances: u64,
    /// What went wrong last, if anything did; it is tried again by itself.
    pub last_error: Option<Error>,
}

/// How far one partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KafkaPlaceStatus {
    /// Its topic.
    pub topic: Box<str>,
    /// Its number.
    pub partition: i32,
    /// The offset that is read next after a crash; `None` before this member has put one down.
    pub committed: Option<i64>,
    /// The newest offset taken.
    pub taken: Option<i64>,
    /// The offset that is written next, as it was some seconds ago.
    pub end: Option<i64>,
}

impl KafkaPlaceStatus {
    /// How many records stand in it that are not settled, as far as that is known.
    pub fn lag(&self) -> Option<u64> {
        let lag = self.end? - self.committed?;
        Some(u64::try_from(lag).unwrap_or(0))
    }
}

/// A key that was set aside, with all that follows it there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KafkaParkedKey {
    /// The partition's topic.
    pub topic: Box<str>,
    /// The partition.
    pub partition: i32,
    /// The key; `None` when records without a key are meant.
    pub key: Option<Bytes>,
    /// The stream of the event that could not be handled, or else the key as text: what
    /// [`resume`](KafkaControl::resume) takes.
    pub stream: Box<str>,
    /// Why it could not be handled.
    pub reason: Box<str>,
    /// When it was given up.
    pub since: Timestamp,
    /// The offset of the first record that was set aside.
    pub first_offset: i64,
    /// How often it was tried; 0 while it is being taken in again.
    pub attempts: u32,
}

impl KafkaParkedKey {
    fn of(parked: &ParkedKey) -> Self {
        Self {
            topic: parked.key.place.topic.clone(),
            partition: parked.key.place.partition,
            key: parked.key.key.clone(),
            stream: parked.stream.clone(),
            reason: parked.reason.clone(),
            since: parked.since,
            first_offset: parked.first_offset,
            attempts: parked.attempts,
        }
    }
}

/// Shows and steers a listener over Kafka; made by
/// [`KafkaContainer::control`](crate::KafkaContainer::control). Cheap to clone; it does not keep the
/// listener going.
#[derive(Clone)]
pub struct KafkaControl {
    shared: Arc<Shared>,
    replay: Arc<Replay>,
}

/// What a control and its listener have together.
pub(super) struct Shared {
    group: Box<str>,
    view: Mutex<View>,
    requests: Mutex<VecDeque<Request>>,
    /// Woken when there is a request.
    asked: AtomicWaker,
    /// Notified when the view has changed.
    changed: Signal,
}

/// What can be seen from outside.
pub(super) struct View {
    pub(super) phase: ListenerPhase,
    pub(super) places: Vec<KafkaPlaceStatus>,
    /// Of the whole group.
    pub(super) parked: BTreeMap<RecordKey, ParkedKey>,
    pub(super) in_flight: usize,
    pub(super) in_flight_since: Option<Timestamp>,
    pub(super) retrying: usize,
    pub(super) held: usize,
    pub(super) garbage: u64,
    pub(super) handled: u64,
    pub(super) rebalances: u64,
    pub(super) last_error: Option<Error>,
}

/// Answers a request.
pub(super) type Reply = oneshot::Sender<Result<(), Error>>;
type Answer = oneshot::AsyncReceiver<Result<(), Error>>;
pub(super) type ResumeReply = oneshot::Sender<Result<Vec<Answer>, Error>>;

pub(super) enum Request {
    /// Answered with one to wait for of each key that is meant.
    Resume {
        which: Box<str>,
        skip: bool,
        reply: ResumeReply,
    },
    Retry {
        reply: Reply,
    },
    Stop,
}

impl Shared {
    pub(super) fn new(group: &str) -> Self {
        Self {
            group: group.into(),
            view: Mutex::new(View {
                phase: ListenerPhase::Waiting,
                places: Vec::new(),
                parked: BTreeMap::new(),
                in_flight: 0,
                in_flight_since: None,
                retrying: 0,
                held: 0,
                garbage: 0,
                handled: 0,
                rebalances: 0,
                last_error: None,
            }),
            requests: Mutex::default(),
            asked: AtomicWaker::new(),
            changed: Signal::default(),
        }
    }

    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock()
    }

    pub(super) fn set_phase(&self, phase: ListenerPhase) {
        self.view().phase = phase;
        self.changed.notify();
    }

    /// Tells whoever waits that the view has changed.
    pub(super) fn notify(&self) {
        self.changed.notify();
    }

    pub(super) fn ask(&self, request: Request) {
        // Whether it has ended is looked at under the lock that ending takes.
        let mut requests = self.requests.lock();
        if matches!(self.view().phase, ListenerPhase::Ended) {
            return;
        }
        requests.push_back(request);
        drop(requests);
        self.asked.wake();
    }

    /// The next request; only its one listener asks.
    pub(super) fn poll_request(&self, cx: &mut Context<'_>) -> Poll<Request> {
        self.asked.register(cx.waker());
        match self.requests.lock().pop_front() {
            Some(request) => Poll::Ready(request),
            None => Poll::Pending,
        }
    }

    /// Nothing is taken any more: whoever waits for an answer gets none.
    pub(super) fn end(&self) {
        let mut requests = self.requests.lock();
        self.view().phase = ListenerPhase::Ended;
        let unanswered = std::mem::take(&mut *requests);
        drop(requests);
        drop(unanswered);
        self.changed.notify();
    }

    pub(super) fn was_told_to_stop(&self) -> Error {
        let reason = HandlerError::passing("it was told to stop, or is not running");
        Error::Stopped {
            what: self.what(),
            position: 0,
            source: Arc::clone(reason.cause()),
        }
    }

    /// How errors call it.
    pub(super) fn what(&self) -> Box<str> {
        format!("the listener of group {}", self.group).into()
    }
}

impl KafkaControl {
    pub(super) fn new(shared: Arc<Shared>, replay: Arc<Replay>) -> Self {
        Self { shared, replay }
    }

    /// The group.
    pub fn group(&self) -> &str {
        &self.shared.group
    }

    /// The same calls for threads without a runtime.
    pub fn blocking(&self) -> BlockingKafkaControl {
        BlockingKafkaControl(self.clone())
    }

    /// What it does and how far it is.
    pub fn status(&self) -> KafkaListenerStatus {
        let view = self.shared.view();
        KafkaListenerStatus {
            group: self.shared.group.clone(),
            phase: view.phase.clone(),
            places: view.places.clone(),
            in_flight: view.in_flight,
            in_flight_since: view.in_flight_since,
            retrying: view.retrying,
            held: view.held,
            parked: view.parked.len(),
            garbage: view.garbage,
            handled: view.handled,
            rebalances: view.rebalances,
            last_error: view.last_error.clone(),
        }
    }

    /// The keys of the whole group that are parked, each with its reason, as far as this member knows.
    pub fn parked(&self) -> Vec<KafkaParkedKey> {
        let view = self.shared.view();
        view.parked.values().map(KafkaParkedKey::of).collect()
    }

    /// Handles what is held of a key, then takes it in as before; `which` is the
    /// [`stream`](KafkaParkedKey::stream) of a parked key. It is done by the member that has its
    /// partition, whichever that is. Answers when nothing of it is held any more.
    ///
    /// Cancel safe: dropping the call does not end what it began; neither does this member's end, since
    /// what is asked for is kept in Kafka.
    ///
    /// # Errors
    /// [`Error::Parked`] when an event still fails: the key is parked there again. [`Error::Gap`] when
    /// the dead-letter topic no longer has what is held. [`Error::InvalidInput`] when nothing of it is
    /// parked, [`Error::NoTopic`], [`Error::Unreachable`]; [`Error::Stopped`] when the listener stands
    /// still or is stopped meanwhile.
    pub async fn resume(&self, which: &str) -> Result<(), Error> {
        self.ask_for(which, false).await
    }

    /// Passes over the record that could not be handled, and over no other; then as
    /// [`resume`](Self::resume). It stays in the dead-letter topic.
    ///
    /// # Errors
    /// As there.
    pub async fn skip(&self, which: &str) -> Result<(), Error> {
        self.ask_for(which, true).await
    }

    /// Goes on after [`Stopped`](ListenerPhase::Stopped): joins the group again, and tries again the
    /// event that failed. Does nothing while it runs.
    ///
    /// # Errors
    /// [`Error::Stopped`] when it has ended.
    pub async fn retry(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::async_channel();
        self.shared.ask(Request::Retry { reply });
        let answer = answer.await;
        answer.unwrap_or_else(|_| Err(self.shared.was_told_to_stop()))
    }

    /// Lets the group begin again with the first record that its topics still have: everything is
    /// delivered anew. What is parked stays so. All members of the group must have been stopped.
    ///
    /// # Errors
    /// [`Error::ServerRefused`] while the group has members, [`Error::Unreachable`],
    /// [`Error::NoTopic`]; some places may have been moved then: call it again.
    pub async fn replay_from_beginning(&self) -> Result<(), Error> {
        self.replay.from_beginning().await
    }

    /// As [`replay_from_beginning`](Self::replay_from_beginning), with the first records that Kafka took
    /// at `time` or later.
    ///
    /// # Errors
    /// As there.
    pub async fn replay_from(&self, time: Timestamp) -> Result<(), Error> {
        self.replay.from_time(time).await
    }

    /// Returns once `condition` holds for its status, or it has ended. Cancel safe.
    pub async fn wait_until(&self, condition: impl Fn(&KafkaListenerStatus) -> bool) {
        loop {
            let changed = self.shared.changed.listen();
            let status = self.status();
            if condition(&status) || matches!(status.phase, ListenerPhase::Ended) {
                return;
            }
            changed.await;
        }
    }

    /// Takes no more records, lets running handlers end, commits, leaves the group, and ends.
    pub fn stop(&self) {
        self.shared.ask(Request::Stop);
    }

    async fn ask_for(&self, which: &str, skip: bool) -> Result<(), Error> {
        let stopped = || self.shared.was_told_to_stop();
        let (reply, answers) = oneshot::async_channel();
        let which = which.into();
        self.shared.ask(Request::Resume { which, skip, reply });
        let answers = answers.await.unwrap_or_else(|_| Err(stopped()))?;
        for answer in answers {
            answer.await.unwrap_or_else(|_| Err(stopped()))?;
        }
        Ok(())
    }
}

impl fmt::Debug for KafkaControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KafkaControl").field(&self.status()).finish()
    }
}

/// A [`KafkaControl`] whose calls block the calling thread; made by [`KafkaControl::blocking`]. Do not
/// use it inside async code, nor in a handler: it would wait for itself.
#[derive(Clone, Debug)]
pub struct BlockingKafkaControl(KafkaControl);

impl BlockingKafkaControl {
    /// The async control.
    pub fn inner(&self) -> &KafkaControl {
        &self.0
    }

    /// See [`KafkaControl::status`].
    pub fn status(&self) -> KafkaListenerStatus {
        self.0.status()
    }

    /// See [`KafkaControl::parked`].
    pub fn parked(&self) -> Vec<KafkaParkedKey> {
        self.0.parked()
    }

    /// See [`KafkaControl::stop`]: it says so, and does not wait.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// See [`KafkaControl::resume`].
    ///
    /// # Errors
    /// As there.
    pub fn resume(&self, which: &str) -> Result<(), Error> {
        pollster::block_on(self.0.resume(which))
    }

    /// See [`KafkaControl::skip`].
    ///
    /// # Errors
    /// As there.
    pub fn skip(&self, which: &str) -> Result<(), Error> {
        pollster::block_on(self.0.skip(which))
    }

    /// See [`KafkaControl::retry`].
    ///
    /// # Errors
    /// As there.
    pub fn retry(&self) -> Result<(), Error> {
        pollster::block_on(self.0.retry())
    }

    /// See [`KafkaControl::replay_from_beginning`].
    ///
    /// # Errors
    /// As there.
    pub fn replay_from_beginning(&self) -> Result<(), Error> {
        pollster::block_on(self.0.replay_from_beginning())
    }

    /// See [`KafkaControl::replay_from`].
    ///
    /// # Errors
    /// As there.
    pub fn replay_from(&self, time: Timestamp) -> Result<(), Error> {
        pollster::block_on(self.0.replay_from(time))
    }

    /// See [`KafkaControl::wait_until`].
    pub fn wait_until(&self, condition: impl Fn(&KafkaListenerStatus) -> bool) {
        pollster::block_on(self.0.wait_until(condition));
    }
}

/// Whether `which` means this key.
pub(super) fn is_meant(which: &str, parked: &ParkedKey) -> bool {
    *parked.stream == *which || *name_of(&parked.key) == *which
}

/// Of a place of this member.
pub(super) fn place_status(place: &Place) -> KafkaPlaceStatus {
    KafkaPlaceStatus {
        topic: place.topic.clone(),
        partition: place.partition,
        committed: None,
        taken: None,
        end: None,
    }
}
