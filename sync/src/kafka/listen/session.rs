//! A listener at work: one future that takes, hands out, settles and commits.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::AbortHandle;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tidelog_core::{BoxFuture, Error, EventEnvelope, HandlerError, Sleeper, Timestamp};

use super::closing::Closing;
use super::feed::{
    Asked, Fed, Feed, FeedError, LetterPlace, Letters, ParkedKey, Place, Record, RecordKey,
};
use super::figures::Figures;
use super::hold::{Held, Hold};
use super::job::Job;
use super::place::OwnPlace;
use super::resume::Resume;
use super::settling::Sent;
use super::shared::{Reply, Request, Shared};
use crate::listeners::{Handler, Lanes, ListenerOptions, Tools, poll_in};

/// Turns after which others are let in.
const TURNS: u32 = 64;
/// How long what failed waits before it is tried again.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// A record as an event, or why it is none.
pub(super) type Decode = fn(&Record) -> Result<EventEnvelope, Box<str>>;

/// All that a session needs beside its feed.
pub(super) struct Setup {
    pub(super) shared: Arc<Shared>,
    pub(super) handler: Handler,
    pub(super) decode: Decode,
    pub(super) options: ListenerOptions,
    /// How long an event waits for what is missing before it.
    pub(super) hold_for: Duration,
    pub(super) tools: Tools,
}

/// Why a session ended.
pub(super) enum End {
    /// It was told to; with what kept the last commit from being done.
    Stop(Option<Error>),
    Failed(Error),
}

#[allow(
    clippy::struct_excessive_bools,
    reason = "each is true or not by itself"
)]
pub(super) struct Session<'a, F> {
    pub(super) setup: &'a Setup,
    pub(super) figures: Figures,
    pub(super) feed: F,
    pub(super) places: BTreeMap<Place, OwnPlace>,
    pub(super) assignments: u64,
    pub(super) lanes: Lanes<RecordKey, Job>,
    pub(super) hold: Hold,
    pub(super) hold_ends: FuturesUnordered<BoxFuture<'static, (Held, u64)>>,
    pub(super) running: FuturesUnordered<BoxFuture<'static, Option<Handled>>>,
    /// Of each attempt that runs: how it is dropped.
    pub(super) aborts: HashMap<RecordKey, AbortHandle>,
    pub(super) retries: FuturesUnordered<BoxFuture<'static, Arc<Job>>>,
    /// The parked keys of places of this member.
    pub(super) parked: HashMap<RecordKey, Entry>,
    pub(super) resuming: HashMap<RecordKey, Resume>,
    pub(super) reads: FuturesUnordered<BoxFuture<'static, ReadLetters>>,
    /// What was asked for before it was known what is parked.
    pub(super) early: HashMap<RecordKey, Asked>,
    /// Who waits for a parked key to be taken in, and whether their asking was seen in Kafka.
    pub(super) waiters: HashMap<RecordKey, Waiters>,
    pub(super) asks: FuturesUnordered<BoxFuture<'static, (RecordKey, Result<(), FeedError>)>>,
    /// Whether the parked set has to be read for places that came.
    pub(super) has_unread: bool,
    pub(super) reading: Option<BoxFuture<'static, Result<Vec<ParkedKey>, FeedError>>>,
    /// The assignments that the set being read is for: those up to this one.
    pub(super) reading_up_to: u64,
    pub(super) committing: Option<BoxFuture<'static, Result<(), FeedError>>>,
    pub(super) being_committed: Vec<(Place, u64, i64)>,
    pub(super) parking: Option<BoxFuture<'static, Result<Vec<LetterPlace>, FeedError>>>,
    /// The transaction under way, or to be tried again.
    pub(super) being_parked: Option<Sent>,
    /// While it waits, nothing is put down that can wait.
    pub(super) pause: Option<BoxFuture<'static, ()>>,
    /// After a failure: nothing is put down before.
    pub(super) backoff: Option<BoxFuture<'static, ()>>,
    /// Whether a transaction is due at once.
    pub(super) urgent: bool,
    pub(super) closings: Vec<Closing>,
    pub(super) ending: Option<End>,
    pub(super) is_paused: bool,
    /// Of all letters that are not written yet.
    pub(super) letter_bytes: usize,
    /// Whether what is seen of places has changed.
    pub(super) places_changed: bool,
    /// Read again after a failure.
    pub(super) again: FuturesUnordered<BoxFuture<'static, Again>>,
    turns: u32,
}

/// A parked key of this member.
pub(super) struct Entry {
    pub(super) parked: ParkedKey,
    /// Whether it is to be written.
    pub(super) is_news: bool,
    /// Whether it stands in Kafka.
    pub(super) is_kept: bool,
    /// What somebody asked for that has not begun.
    pub(super) wanted: Option<Asked>,
}

#[derive(Default)]
pub(super) struct Waiters {
    pub(super) replies: Vec<Reply>,
    pub(super) was_asked: bool,
}

pub(super) struct Handled {
    pub(super) job: Arc<Job>,
    pub(super) result: Result<(), HandlerError>,
}

pub(super) struct ReadLetters {
    pub(super) key: RecordKey,
    pub(super) resume: u64,
    pub(super) letters: Result<Letters, FeedError>,
}

/// What is to be tried again.
pub(super) enum Again {
    ParkedSet,
    Letters(RecordKey, u64),
}

/// What happened next.
enum Turn {
    Asked(Request),
    Fed(Fed),
    Committed(Result<(), FeedError>),
    Parked(Result<Vec<LetterPlace>, FeedError>),
    ReadSet(Result<Vec<ParkedKey>, FeedError>),
    ReadLetters(ReadLetters),
    Told(RecordKey, Result<(), FeedError>),
    Handled(Option<Handled>),
    Retry(Arc<Job>),
    HeldLongEnough(Held, u64),
    Again(Again),
    MayCommit,
    MayTryAgain,
    OutOfTime(usize),
}

impl<'a, F: Feed> Session<'a, F> {
    pub(super) fn new(setup: &'a Setup, feed: F) -> Self {
        Self {
            setup,
            figures: Figures::of(setup.shared.group()),
            feed,
            places: BTreeMap::new(),
            assignments: 0,
            lanes: Lanes::default(),
            hold: Hold::default(),
            hold_ends: FuturesUnordered::new(),
            running: FuturesUnordered::new(),
            aborts: HashMap::new(),
            retries: FuturesUnordered::new(),
            parked: HashMap::new(),
            resuming: HashMap::new(),
            reads: FuturesUnordered::new(),
            early: HashMap::new(),
            waiters: HashMap::new(),
            asks: FuturesUnordered::new(),
            has_unread: false,
            reading: None,
            reading_up_to: 0,
            committing: None,
            being_committed: Vec::new(),
            parking: None,
            being_parked: None,
            pause: None,
            backoff: None,
            urgent: false,
            closings: Vec::new(),
            ending: None,
            is_paused: false,
            letter_bytes: 0,
            places_changed: true,
            again: FuturesUnordered::new(),
            turns: 0,
        }
    }

    /// Takes records until it is told to stop, or cannot go on; then gives all places back.
    pub(super) async fn run(mut self) -> End {
        // Before anything is taken: a group that cannot park is to say so now, not at night.
        self.has_unread = true;
        loop {
            if self.ending.is_none() {
                self.begin_handlers();
                self.balance();
            }
            self.drop_what_went();
            self.begin_reading_set();
            self.begin_parking();
            self.begin_committing();
            self.close();
            if self.closings.is_empty()
                && let Some(end) = self.ending.take()
            {
                return self.finish(end).await;
            }
            self.publish();
            let turn = poll_fn(|cx| self.poll_turn(cx)).await;
            self.take_turn(turn);
        }
    }

    fn take_turn(&mut self, turn: Turn) {
        match turn {
            Turn::Asked(request) => self.asked(request),
            Turn::Fed(fed) => self.fed(fed),
            Turn::Committed(done) => self.committed(done),
            Turn::Parked(done) => self.was_parked(done),
            Turn::ReadSet(set) => self.read_set(set),
            Turn::ReadLetters(read) => self.read_letters(read),
            Turn::Told(key, done) => self.told(&key, done),
            Turn::Handled(Some(handled)) => self.handled(handled),
            Turn::Handled(None) => {}
            Turn::Retry(job) => {
                if self.lanes.is_first(&job.key, &job) {
                    self.lanes.again(job.key.clone());
                }
            }
            Turn::HeldLongEnough(held, wait) => self.held_long_enough(&held, wait),
            Turn::Again(Again::ParkedSet) => self.has_unread = true,
            Turn::Again(Again::Letters(key, resume)) => self.read_on(&key, Some(resume)),
            Turn::MayCommit => {
                self.pause = None;
                self.places_changed = true;
            }
            Turn::MayTryAgain => self.backoff = None,
            Turn::OutOfTime(closing) => self.out_of_time(closing),
        }
    }

    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        self.turns += 1;
        if self.turns == TURNS {
            self.turns = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Handlers come late: those that never wait would let nothing after them have a turn.
        if let Poll::Ready(request) = self.setup.shared.requests().poll_next(cx) {
            return Poll::Ready(Turn::Asked(request));
        }
        if let Poll::Ready(done) = poll_in(&mut self.committing, cx) {
            return Poll::Ready(Turn::Committed(done));
        }
        if let Poll::Ready(done) = poll_in(&mut self.parking, cx) {
            return Poll::Ready(Turn::Parked(done));
        }
        for (at, closing) in self.closings.iter_mut().enumerate() {
            if closing.deadline.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Turn::OutOfTime(at));
            }
        }
        if let Poll::Ready(fed) = self.feed.poll_fed(cx) {
            return Poll::Ready(Turn::Fed(fed));
        }
        if let Poll::Ready(set) = poll_in(&mut self.reading, cx) {
            return Poll::Ready(Turn::ReadSet(set));
        }
        if let Poll::Ready(()) = poll_in(&mut self.pause, cx) {
            return Poll::Ready(Turn::MayCommit);
        }
        if let Poll::Ready(()) = poll_in(&mut self.backoff, cx) {
            return Poll::Ready(Turn::MayTryAgain);
        }
        if let Poll::Ready(Some(read)) = self.reads.poll_next_unpin(cx) {
            return Poll::Ready(Turn::ReadLetters(read));
        }
        if let Poll::Ready(Some((key, done))) = self.asks.poll_next_unpin(cx) {
            return Poll::Ready(Turn::Told(key, done));
        }
        if let Poll::Ready(Some(job)) = self.retries.poll_next_unpin(cx) {
            return Poll::Ready(Turn::Retry(job));
        }
        if let Poll::Ready(Some((held, wait))) = self.hold_ends.poll_next_unpin(cx) {
            return Poll::Ready(Turn::HeldLongEnough(held, wait));
        }
        if let Poll::Ready(Some(again)) = self.again.poll_next_unpin(cx) {
            return Poll::Ready(Turn::Again(again));
        }
        match self.running.poll_next_unpin(cx) {
            Poll::Ready(Some(handled)) => Poll::Ready(Turn::Handled(handled)),
            _ => Poll::Pending,
        }
    }

    fn asked(&mut self, request: Request) {
        match request {
            Request::Stop => self.end(End::Stop(None)),
            Request::Retry { reply } => answer(reply, Ok(())),
            Request::Resume { which, skip, reply } => self.ask_for(&which, skip, reply),
        }
    }

    fn fed(&mut self, fed: Fed) {
        match fed {
            Fed::Records(records) => {
                for record in records {
                    self.take(record);
                }
            }
            Fed::Assigned(places) => self.assigned(places),
            Fed::Revoked { places, lost, done } => self.revoked(places, lost, done),
            Fed::Asked(key, asked) => self.asked_for(key, asked),
            Fed::Parked(parked) => self.parked_by_others(parked),
            Fed::Resumed(key) => self.resumed_by_others(&key),
            Fed::Ends(ends) => {
                for (place, end) in ends {
                    if let Some(own) = self.places.get_mut(&place) {
                        own.end = Some(end);
                    }
                }
                self.places_changed = true;
            }
            Fed::Trouble(error) => self.trouble(error),
            Fed::Ended(error) => {
                let places = self.places.keys().cloned().collect();
                self.drop_places(places);
                self.end(End::Failed(error));
            }
        }
    }

    pub(super) fn trouble(&self, error: Error) {
        tracing::warn!(group = &*self.setup.shared.what(), %error, "it is tried again");
        self.setup.shared.view().last_error = Some(error);
        self.setup.shared.notify();
    }

    pub(super) fn now(&self) -> Timestamp {
        self.setup.tools.clock.now()
    }

    pub(super) fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let sleeper: &dyn Sleeper = &*self.setup.tools.sleeper;
        sleeper.sleep(duration)
    }

    /// Begins nothing any more, and gives all places back.
    pub(super) fn end(&mut self, end: End) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(end);
        self.feed.pause(true);
        let within = self.setup.options.stop_within;
        let places = self.places.keys().cloned().collect();
        self.begin_closing(places, None, within);
    }

    async fn finish(mut self, end: End) -> End {
        let why = self.setup.shared.was_told_to_stop();
        for reply in self
            .waiters
            .drain()
            .flat_map(|(_, waiters)| waiters.replies)
        {
            answer(reply, Err(why.clone()));
        }
        self.places_changed = true;
        self.publish();
        self.feed.leave().await;
        end
    }
}

/// Whoever asked may not wait any more.
pub(super) fn answer(reply: Reply, answer: Result<(), Error>) {
    let _ = reply.send(answer);
}
