//! The sink that makes the replica: what is under way, and what follows from each answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tidelog_backends::commits::{Commit, CommitEnd, CommitRecord};
use tidelog_backends::wire::{Reply, Request, Wire, WireError};
use tidelog_core::{
    BoxFuture, Error, EventEnvelope, Halt, IdSource, RecordKind, StreamId, Superseded, Ticks,
};

use super::arbitrate::{Done, Turn};
use super::ask::trouble;
use super::connect::{Caller, Greeting};
use super::doubting::Doubting;
use super::judge::Place;
use super::lane::{Item, Lanes};
use super::log_rows::LogRows;
use super::park::{Change, EntryKey, Pending};
use super::probe::{Probe, Probed};
use super::retrying::Retrying;
use super::torn::Several;
use super::watermark::{Advance, Noted, stop, watermark};
use crate::replicate::keeper::Keeper;
use crate::replicate::outbox::Outbox;
use crate::replicate::progress::Progress;
use crate::replicate::sink::{After, Begin, Load, Sink, SinkMessage, Step, Stop};
use crate::replicate::status::Counts;

/// Answers worked through before others are let in.
const TURNS: usize = 64;
/// Records before the watermark that a connection begins with, at least; as many after a start.
const OVERLAP: u64 = 1_000;
/// How long before its end what a connection got accepted is looked at again by the next.
const OVERLAP_TIME: Duration = Duration::from_secs(30);

/// A connection that was silent for so long is asked whether it lives before it is used.
const SILENT: Duration = Duration::from_secs(5);

/// What the sink is made with.
#[derive(Clone)]
pub(crate) struct ScyllaOptions {
    /// Whom it speaks to, for errors.
    pub server: Box<str>,
    /// What this store calls itself at the server.
    pub name: Box<str>,
    /// Streams written to at once.
    pub lanes: usize,
    /// Records before the watermark that the first connection begins with.
    pub overlap: u64,
    pub ids: Arc<dyn IdSource>,
    pub ticks: Arc<dyn Ticks>,
}

pub(crate) struct ScyllaSink {
    pub(super) wire: Arc<dyn Wire>,
    doubting: Arc<Doubting>,
    pub(super) options: ScyllaOptions,
    /// The connections there are, if any, are not to be trusted.
    is_fresh_wanted: bool,
    pub(super) counts: Counts,
    pub(super) link: Option<Box<Link>>,
    /// When how much was settled, a second apart, newest last.
    pace: VecDeque<(Duration, u64)>,
}

/// One connection.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each stands for a thing of its own"
)]
pub(super) struct Link {
    pub greeting: Greeting,
    /// What is settled at least, by what the server said.
    floor: CommitEnd,
    /// What was lost up to here lets everything be sent again.
    rewind_below: u64,
    pub progress: Progress,
    log: LogRows,
    /// Commits whose rows are not all there, oldest first, and what follows when they are.
    commits: VecDeque<Arriving>,
    pub lanes: Lanes,
    pub several: Several,
    /// Entries that wait for the state to be saved.
    pub pending: VecDeque<Pending>,
    /// The server is being told of one: they stand in one partition, where each waits for the other.
    pub is_telling: bool,
    /// Positions of events that settle once a state is saved, with its revision.
    pub noted: VecDeque<(u64, u64)>,
    /// How many entries each record of superseded events waits for, by its position.
    pub unparking: BTreeMap<u64, usize>,
    /// Parked streams that are being tried.
    pub retrying: BTreeMap<StreamId, Retrying>,
    pub running: FuturesUnordered<BoxFuture<'static, Answer>>,
    noting: Option<BoxFuture<'static, Result<Noted, WireError>>>,
    is_note_wanted: bool,
    /// Lanes whose event the server refused while it had taken nothing yet.
    pub suspects: Vec<(StreamId, Box<str>)>,
    /// The server has taken something from this connection.
    pub has_appended: bool,
    /// The last event that was accepted.
    last_accepted: Option<(StreamId, Place)>,
    /// What the probe before looked at: what was settled, what had been accepted last.
    probed: (CommitEnd, Option<(StreamId, Place)>),
    is_probing: bool,
    /// When the server answered last, and whether it is being asked if it does.
    heard: Duration,
    is_pinging: bool,
    is_rewind_wanted: bool,
    /// The server is to be asked anew what it knows of this store.
    is_again_wanted: bool,
}

struct Arriving {
    first: u64,
    rows_left: usize,
    then: Vec<Then>,
}

/// What is done once a commit's rows are all there.
enum Then {
    Send(StreamId, Item),
    Supersede(Superseded),
}

/// What came back.
pub(super) enum Answer {
    Log(Result<Vec<u64>, WireError>),
    Lane(StreamId, Box<Done>),
    Told(EntryKey, Change, Result<(), WireError>),
    Held(StreamId, Result<Vec<EventEnvelope>, Error>),
    Retried(StreamId, Box<Done>),
    Probed(Result<Probed, WireError>),
    Pinged(Result<Reply, WireError>),
}

impl ScyllaSink {
    pub(crate) fn new(wire: Arc<dyn Wire>, options: ScyllaOptions) -> Self {
        let doubting = Arc::new(Doubting::new(wire));
        Self {
            wire: Arc::<Doubting>::clone(&doubting),
            doubting,
            options,
            is_fresh_wanted: true,
            counts: Counts::default(),
            link: None,
            pace: VecDeque::new(),
        }
    }

    pub(super) fn stop(&self, error: WireError, action: &str) -> Stop {
        stop(error, action, &self.options.server)
    }

    fn caller<'a>(&'a self, outbox: &'a Arc<dyn Outbox>) -> Caller<'a> {
        Caller {
            wire: &*self.wire,
            outbox,
            ids: &*self.options.ids,
            server: &self.options.server,
            name: &self.options.name,
        }
    }

    /// Connects anew, if what there is is not to be trusted.
    async fn renew(&mut self) -> Result<(), WireError> {
        if self.is_fresh_wanted || self.doubting.is_dead() {
            self.wire.renew().await?;
            self.is_fresh_wanted = false;
        }
        Ok(())
    }

    /// How many records before the watermark it begins with.
    fn overlap(&self) -> u64 {
        let (Some((since, _)), Some((_, newest))) = (self.pace.front(), self.pace.back()) else {
            return self.options.overlap;
        };
        let now = self.options.ticks.now();
        let lately = if now.saturating_sub(*since) > OVERLAP_TIME * 2 {
            0
        } else {
            let before = self.pace.front().map_or(0, |(_, settled)| *settled);
            newest.saturating_sub(before)
        };
        lately.max(self.options.overlap.min(OVERLAP))
    }

    fn keep_pace(&mut self, settled: u64) {
        let now = self.options.ticks.now();
        self.pace.push_back((now, settled));
        while self.pace.len() > 2
            && let Some((second, _)) = self.pace.get(1)
            && now.saturating_sub(*second) > OVERLAP_TIME
        {
            self.pace.pop_front();
        }
    }
}

impl Sink for ScyllaSink {
    const NAME: &'static str = "scylla";
    const STATE: &'static str = "sink.scylla";

    async fn connect<'a>(
        &'a mut self,
        outbox: &'a Arc<dyn Outbox>,
        keeper: &'a mut Keeper,
    ) -> Result<Begin, Stop> {
        let renewed = self.renew().await;
        renewed.map_err(|error| self.stop(error, "connect"))?;
        let greeting = self.caller(outbox).connect(keeper).await?;
        let settled = greeting.settled;
        let after = settled.position.saturating_sub(self.overlap());
        if greeting.was_lost {
            tracing::warn!(
                verify_below = greeting.verify_below,
                "the server lost what it had of this store; everything is sent again"
            );
        }
        self.counts.watermark = greeting.watermark.position;
        let rewinds_to = if settled.position == 0 {
            greeting.verify_below
        } else {
            0
        };
        let link = Link::new(
            greeting,
            after,
            self.options.overlap,
            self.options.ticks.now(),
        );
        self.link = Some(Box::new(link));
        Ok(Begin {
            after,
            settled,
            rewinds_to,
        })
    }

    fn take(
        &mut self,
        commit: &Arc<Commit>,
        _outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        match &mut self.link {
            Some(link) => link.take(commit, keeper).map_err(Stop::local),
            None => Ok(()),
        }
    }

    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Poll<Result<Step, Stop>> {
        let mut has_moved = false;
        let settled = self.settled();
        for _ in 0..TURNS {
            self.send(outbox, keeper)?;
            if let Poll::Ready(noted) = self.poll_noting(cx) {
                self.noted(noted, keeper)?;
                has_moved = true;
            }
            let Some(link) = &mut self.link else {
                return Poll::Pending;
            };
            match link.running.poll_next_unpin(cx) {
                Poll::Ready(Some(answer)) => {
                    link.heard = self.options.ticks.now();
                    self.answered(answer, outbox, keeper)?;
                    has_moved = true;
                }
                Poll::Ready(None) | Poll::Pending => {
                    break;
                }
            }
        }
        self.judge_suspects()?;
        let Some(link) = &self.link else {
            return Poll::Pending;
        };
        if link.is_again_wanted {
            return Poll::Ready(Ok(Step::Again));
        }
        if link.is_rewind_wanted {
            return Poll::Ready(Ok(Step::Rewind));
        }
        // Something may settle by what is sent next, too: nobody else says so.
        if has_moved || self.settled() != settled {
            self.keep_settled(keeper);
            return Poll::Ready(Ok(Step::Progress));
        }
        Poll::Pending
    }

    fn settled(&self) -> CommitEnd {
        match &self.link {
            Some(link) => link.settled(),
            None => CommitEnd {
                number: 0,
                position: 0,
                hash: [0; 32],
            },
        }
    }

    fn load(&self) -> Load {
        self.link.as_ref().map_or_else(Load::default, |link| Load {
            bytes: link.progress.bytes(),
            records: link.progress.records(),
        })
    }

    fn is_idle(&self) -> bool {
        self.link.as_ref().is_none_or(|link| {
            link.commits.is_empty()
                && link.lanes.is_empty()
                && link.log.is_idle()
                && link.pending.is_empty()
                && link.noted.is_empty()
                && link.running.is_empty()
                && link.noting.is_none()
        })
    }

    fn is_level(&self) -> bool {
        self.link.as_ref().is_none_or(|link| {
            link.settled().position == link.greeting.watermark.position && link.noting.is_none()
        })
    }

    fn note(&mut self, _keeper: &Keeper) {
        if let Some(link) = &mut self.link {
            link.is_note_wanted = true;
            let settled = link.settled().position;
            self.keep_pace(settled);
        }
    }

    fn probe(&mut self, keeper: &Keeper) {
        if let Some(link) = &mut self.link {
            link.probe(&self.wire, keeper);
        }
    }

    fn disconnect(&mut self, fresh: bool) {
        self.is_fresh_wanted |= fresh;
        self.link = None;
    }

    async fn message<'a>(
        &'a mut self,
        message: SinkMessage,
        outbox: &'a Arc<dyn Outbox>,
        keeper: &'a mut Keeper,
    ) -> Result<After, Error> {
        match message {
            SinkMessage::Resync => {
                let identity = outbox.identity();
                keeper.change().settled = identity.genesis();
                Ok(After::Again)
            }
            SinkMessage::Retry(stream) => {
                self.retry(&stream, outbox, keeper)?;
                Ok(After::GoOn)
            }
            SinkMessage::Fork(other) => {
                let renewed = self.renew().await;
                renewed.map_err(|error| trouble("fork this store", &error))?;
                self.caller(outbox).fork(other, keeper).await?;
                Ok(After::Again)
            }
        }
    }

    fn counts(&self) -> Counts {
        self.counts
    }
}

impl ScyllaSink {
    /// Sends what may be sent.
    fn send(&mut self, outbox: &Arc<dyn Outbox>, keeper: &mut Keeper) -> Result<(), Stop> {
        if self.pings() {
            return Ok(());
        }
        self.tell_of_parked(keeper);
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        while let Some(batch) = link.log.next() {
            let sent = batch.send(Arc::clone(&self.wire));
            link.running
                .push(Box::pin(async move { Answer::Log(sent.await) }));
        }
        while let Some(stream) = self
            .link
            .as_mut()
            .and_then(|link| link.lanes.next(self.options.lanes))
        {
            self.send_lane(&stream, outbox, keeper)?;
        }
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        if std::mem::take(&mut link.is_note_wanted) && link.noting.is_none() {
            let settled = link.settled();
            let seen = link.greeting.watermark;
            if settled.position != seen.position {
                let advance = Advance {
                    wire: Arc::clone(&self.wire),
                    origin: link.greeting.identity.origin,
                    epoch: link.greeting.identity.epoch,
                    seen,
                    to: watermark(seen.session, settled),
                };
                link.noting = Some(Box::pin(advance.run()));
            }
        }
        Ok(())
    }

    /// Whether it waits for an answer to be sure that there is still somebody who gives one.
    fn pings(&mut self) -> bool {
        let now = self.options.ticks.now();
        let Some(link) = &mut self.link else {
            return false;
        };
        let is_silent = link.running.is_empty() && link.noting.is_none();
        let is_wanted = link.log.is_waiting()
            || link.is_note_wanted
            || !link.lanes.is_empty()
            || !link.pending.is_empty();
        if is_silent && is_wanted && now.saturating_sub(link.heard) >= SILENT {
            link.is_pinging = true;
            let wire = Arc::clone(&self.wire);
            link.running.push(Box::pin(async move {
                Answer::Pinged(wire.ask(Request::Ping).await)
            }));
        }
        link.is_pinging
    }

    fn poll_noting(&mut self, cx: &mut Context<'_>) -> Poll<Result<Noted, WireError>> {
        let Some(noting) = self.link.as_mut().and_then(|link| link.noting.as_mut()) else {
            return Poll::Pending;
        };
        noting.as_mut().poll(cx)
    }

    fn noted(&mut self, noted: Result<Noted, WireError>, keeper: &mut Keeper) -> Result<(), Stop> {
        if let Some(link) = &mut self.link {
            link.noting = None;
        }
        match noted.map_err(|error| self.stop(error, "note how far this store is"))? {
            Noted::At(mark) => {
                self.counts.watermark = mark.position;
                if let Some(link) = &mut self.link {
                    link.greeting.watermark = mark;
                }
                keeper.change();
                Ok(())
            }
            Noted::Lower(mark) => {
                tracing::warn!(
                    watermark = mark.position,
                    "the server lost how far this store was; everything is sent again"
                );
                self.rewind();
                Ok(())
            }
            Noted::Gone => Err(Stop::Trouble(Error::Unreachable {
                server: self.options.server.clone(),
                action: "note how far this store is".into(),
                reason: "it does not know this store any more".into(),
            })),
            Noted::Taken(halt) => Err(halt.into()),
        }
    }

    fn answered(
        &mut self,
        answer: Answer,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        match answer {
            Answer::Log(arrived) => {
                let positions = arrived.map_err(|error| self.stop(error, "write to its log"))?;
                self.arrived(&positions, &**outbox, keeper)
            }
            Answer::Lane(stream, done) => self.lane_answered(&stream, *done, outbox, keeper),
            Answer::Told(key, change, told) => {
                told.map_err(|error| self.stop(error, "list what is parked"))?;
                self.told(&key, change, keeper);
                Ok(())
            }
            Answer::Held(stream, events) => self.held_read(&stream, events, outbox, keeper),
            Answer::Retried(stream, done) => self.retried(&stream, *done, outbox, keeper),
            Answer::Pinged(pinged) => {
                if let Some(link) = &mut self.link {
                    link.is_pinging = false;
                }
                if let Err(error) = pinged {
                    self.is_fresh_wanted = true;
                    return Err(self.stop(error, "answer"));
                }
                Ok(())
            }
            Answer::Probed(probed) => {
                if let Some(link) = &mut self.link {
                    link.is_probing = false;
                }
                match probed.map_err(|error| self.stop(error, "look at what it has"))? {
                    Probed::Fine => {}
                    Probed::Lost => {
                        tracing::warn!("the server lost what it had; everything is sent again");
                        self.rewind();
                    }
                    Probed::Unknown => {
                        if let Some(link) = &mut self.link {
                            link.is_again_wanted = true;
                        }
                    }
                    Probed::Taken(halt) => return Err(halt.into()),
                }
                Ok(())
            }
        }
    }

    /// Rows of the log are there: what waited for them goes on, in the order of the log.
    fn arrived(
        &mut self,
        positions: &[u64],
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        link.log.arrived();
        for position in positions {
            let at = link
                .commits
                .partition_point(|commit| commit.first <= *position);
            if let Some(commit) = at.checked_sub(1).and_then(|at| link.commits.get_mut(at)) {
                commit.rows_left = commit.rows_left.saturating_sub(1);
            }
            link.progress.done(*position);
        }
        while let Some(link) = &mut self.link
            && link
                .commits
                .front()
                .is_some_and(|commit| commit.rows_left == 0)
            && let Some(commit) = link.commits.pop_front()
        {
            for then in commit.then {
                match then {
                    Then::Send(stream, item) => {
                        if item.is_of_several {
                            self.tear_held(&stream, &item, outbox, keeper)?;
                        }
                        if let Some(link) = &mut self.link {
                            link.lanes.push(&stream, item);
                        }
                    }
                    Then::Supersede(what) => self.supersede(&what, keeper),
                }
            }
        }
        Ok(())
    }

    /// Sends what a lane has next.
    fn send_lane(
        &mut self,
        stream: &StreamId,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let Some((items, before)) = self.form(stream, &**outbox, keeper)? else {
            if let Some(link) = &mut self.link {
                link.lanes.make_ready(stream);
            }
            return Ok(());
        };
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let origin = link.greeting.identity.origin;
        let rows = items.iter().map(|item| {
            let epoch = keeper.state().epoch_of(item.position);
            item.row(origin, epoch)
        });
        let rows = rows.collect::<Result<Vec<_>, _>>().map_err(Stop::local)?;
        let verify_below = link.greeting.verify_below;
        let verify = items
            .first()
            .is_some_and(|item| item.position <= verify_below);
        let turn = Turn {
            wire: Arc::clone(&self.wire),
            outbox: Arc::clone(outbox),
            origin,
            bucket_events: link.greeting.replica.bucket_events,
            stream: stream.clone(),
            before: before.map(|(place, _)| place),
            is_sealed: before.is_some_and(|(_, is_sealed)| is_sealed),
            rows,
            verify,
        };
        link.lanes.sent(stream, items);
        let stream = stream.clone();
        link.running.push(Box::pin(async move {
            let done = turn.run().await;
            Answer::Lane(stream, Box::new(done))
        }));
        Ok(())
    }

    /// Everything is to be sent again.
    pub(super) fn rewind(&mut self) {
        if let Some(link) = &mut self.link {
            link.is_rewind_wanted = true;
        }
    }

    fn keep_settled(&mut self, keeper: &mut Keeper) {
        let settled = self.settled();
        if keeper.state().settled != settled && self.link.is_some() {
            keeper.change().settled = settled;
        }
    }

    /// Fails when the server has taken nothing, and there is nothing left that it may take.
    pub(super) fn judge_suspects(&mut self) -> Result<(), Stop> {
        let Some(link) = &self.link else {
            return Ok(());
        };
        match link.suspects.first() {
            Some((stream, reason)) if !link.may_append() => Err(Halt::Refused {
                action: format!("append to {stream}").into(),
                reason: reason.clone(),
            }
            .into()),
            _ => Ok(()),
        }
    }
}

impl Link {
    fn new(greeting: Greeting, after: u64, overlap: u64, now: Duration) -> Self {
        let settled = greeting.settled;
        let tenth = overlap.min(settled.position - after) / 10;
        Self {
            floor: settled,
            rewind_below: if after == 0 { 0 } else { after + tenth },
            progress: Progress::after(CommitEnd {
                number: 0,
                position: 0,
                hash: [0; 32],
            }),
            log: LogRows::default(),
            commits: VecDeque::new(),
            lanes: Lanes::default(),
            several: Several::default(),
            pending: VecDeque::new(),
            is_telling: false,
            noted: VecDeque::new(),
            unparking: BTreeMap::new(),
            retrying: BTreeMap::new(),
            running: FuturesUnordered::new(),
            noting: None,
            is_note_wanted: true,
            suspects: Vec::new(),
            has_appended: false,
            last_accepted: None,
            probed: (settled, None),
            is_probing: false,
            heard: now,
            is_pinging: false,
            is_rewind_wanted: false,
            is_again_wanted: false,
            greeting,
        }
    }

    fn settled(&self) -> CommitEnd {
        let done = self.progress.settled();
        if done.position > self.floor.position {
            done
        } else {
            self.floor
        }
    }

    fn take(&mut self, commit: &Arc<Commit>, keeper: &Keeper) -> Result<(), Error> {
        let records = commit.each().collect::<Result<Vec<_>, _>>()?;
        let several = of_several(&records);
        let origin = self.greeting.identity.origin;
        let chunk_records = self.greeting.replica.chunk_records;
        let mut then = Vec::new();
        for record in &records {
            let epoch = keeper.state().epoch_of(record.position);
            self.log
                .push(commit, record, (origin, epoch, chunk_records));
            if record.kind == RecordKind::Control {
                then.extend(record.superseded().map(Then::Supersede));
                continue;
            }
            let is_of_several = several.contains(&record.batch.first);
            if is_of_several {
                let event = (record.sequence, record.position, record.event_id);
                self.several.take(record.batch.first, &record.stream, event);
            }
            let item = Item::of_record(record, is_of_several);
            then.push(Then::Send(record.stream.clone(), item));
        }
        self.progress.take(commit, records.len() + then.len());
        self.commits.push_back(Arriving {
            first: commit.first_position,
            rows_left: records.len(),
            then,
        });
        Ok(())
    }

    /// Whether the server has taken something, or is yet to be asked to.
    fn may_append(&self) -> bool {
        let lanes = &self.lanes;
        self.has_appended || lanes.in_flight() > 0 || lanes.is_ready() || !self.commits.is_empty()
    }

    pub(super) fn accepted(&mut self, stream: &StreamId, place: Place) {
        self.last_accepted = Some((stream.clone(), place));
    }

    /// Something that had been at the server up to `position` was missing there.
    pub(super) fn lost(&mut self, position: u64) {
        if position <= self.rewind_below {
            self.is_rewind_wanted = true;
        }
    }

    fn probe(&mut self, wire: &Arc<dyn Wire>, keeper: &Keeper) {
        if std::mem::replace(&mut self.is_probing, true) {
            return;
        }
        let now = (self.settled(), self.last_accepted.clone());
        let before = std::mem::replace(&mut self.probed, now.clone());
        let probe = Probe {
            wire: Arc::clone(wire),
            origin: self.greeting.identity.origin,
            replica: self.greeting.replica.clone(),
            ends: [now.0, before.0]
                .map(|end| (end, keeper.state().epoch_of(end.position)))
                .into(),
            accepted: now.1.into_iter().chain(before.1).collect(),
            current: self.greeting.identity.epoch,
            confirmed: self.greeting.watermark,
        };
        self.running
            .push(Box::pin(async move { Answer::Probed(probe.run().await) }));
    }
}

/// Appends to several streams of one commit, by their first position.
fn of_several(records: &[CommitRecord<'_>]) -> BTreeSet<u64> {
    let mut first_of: BTreeMap<u64, &StreamId> = BTreeMap::new();
    let mut several = BTreeSet::new();
    for record in records {
        if record.batch.count < 2 || record.kind == RecordKind::Control {
            continue;
        }
        let first = first_of.entry(record.batch.first).or_insert(&record.stream);
        if *first != &record.stream {
            several.insert(record.batch.first);
        }
    }
    several
}
