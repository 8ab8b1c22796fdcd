//! What the runner does for one projection: feeds its rows, gives up or tries again, rebuilds.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use pollster::block_on;
use tidelog_core::{
    Checkpoint, Clock, Error, EventEnvelope, EventLog, Feed, FeedError, HandlerError, IdSource,
    LogQuery, Poison, Prepared, Projection, RowStore, RowsError, Sleeper, Slot, StreamId,
    StreamQuery,
};

use super::ProjectionOptions;
use super::alarm::Alarm;
use super::mailbox::{Mailbox, Reply, Request};
use super::model::{Model, Progress, Serving};
use super::progress::ProjectionState;

/// So often in a row rows may be lost before the engine that keeps them is begun anew: something is
/// wrong with it then, not with the rows.
const MAX_LOSSES: u32 = 3;

/// The store was closed: the runner ends.
pub(crate) struct Ended;

/// What the runner asks of each projection, whatever its types are.
pub(crate) trait Worker: Send {
    fn model(&self) -> &Arc<Model>;

    /// Looks at what is stored and decides what to feed.
    fn start(&mut self) -> Result<(), Ended>;

    /// Positions of the feeds that can go on, each behind what it has taken.
    fn places(&self) -> [Option<u64>; 2];

    /// Feeds what stands at `from` with the records that follow. How many were taken, by whichever
    /// took most.
    fn take(&mut self, from: u64, page: &[EventEnvelope]) -> Result<usize, Ended>;

    /// What stands at `from` cannot go on: reading failed there.
    fn fail_read(&mut self, from: u64, error: &Error);

    /// Makes rows that are level serve, and says how far everything is. `last` is the end of the
    /// log before the last page was read.
    fn settle(&mut self, last: u64) -> Result<(), Ended>;

    fn answer(&mut self, request: Request) -> Result<(), Ended>;

    /// Whether an event is to be tried again now; otherwise `cx` will be woken.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> bool;

    /// When to look again at the latest.
    fn deadline(&self) -> Option<Instant>;

    /// Writes places that moved without a change.
    fn write_places(&mut self) -> Result<(), Ended>;
}

/// What all workers are given.
#[derive(Clone)]
pub(crate) struct Tools<S> {
    pub(crate) store: S,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) sleeper: Option<Arc<dyn Sleeper>>,
    pub(crate) mailbox: Arc<Mailbox>,
}

pub(crate) struct TypedWorker<P: Projection, S> {
    model: Arc<Model>,
    of: Arc<Prepared<P>>,
    options: ProjectionOptions,
    tools: Tools<S>,
    /// Feeds the rows that are asked; absent while none are, or only those of an older version.
    active: Option<Fed<P, S>>,
    /// Feeds rows that will be asked.
    building: Option<Fed<P, S>>,
    /// Why nothing can be fed at all.
    broken: Option<Error>,
    losses: u32,
    /// Whether the engine was begun anew since rows came to serve; once is enough.
    renewed: bool,
    /// Who waits for new rows to serve.
    rebuilds: Vec<Reply>,
    /// Whether anything happened that is not published yet.
    touched: bool,
}

struct Fed<P: Projection, S> {
    feed: Feed<P, S>,
    /// How often its next event failed.
    attempts: u32,
    trouble: Trouble,
}

enum Trouble {
    None,
    Waiting(Alarm, HandlerError),
    Stopped(Error),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Active,
    Building,
}

impl<P: Projection, S> Fed<P, S> {
    fn new(feed: Feed<P, S>) -> Self {
        Self {
            feed,
            attempts: 0,
            trouble: Trouble::None,
        }
    }

    fn is_stopped(&self) -> bool {
        matches!(self.trouble, Trouble::Stopped(_))
    }

    fn goes_on(&self) -> bool {
        matches!(self.trouble, Trouble::None)
    }
}

impl<P: Projection, S: EventLog + RowStore> TypedWorker<P, S> {
    pub(crate) fn new(
        model: Arc<Model>,
        of: Arc<Prepared<P>>,
        options: ProjectionOptions,
        tools: Tools<S>,
    ) -> Self {
        Self {
            model,
            of,
            options,
            tools,
            active: None,
            building: None,
            broken: None,
            losses: 0,
            renewed: false,
            rebuilds: Vec::new(),
            touched: false,
        }
    }

    fn fed(&mut self, role: Role) -> Option<&mut Fed<P, S>> {
        match role {
            Role::Active => self.active.as_mut(),
            Role::Building => self.building.as_mut(),
        }
    }

    fn feeds(&self) -> impl Iterator<Item = &Fed<P, S>> {
        [&self.active, &self.building].into_iter().flatten()
    }

    /// Whether the log still has the record that the checkpoint was taken behind.
    fn is_in_log(&self, checkpoint: &Checkpoint) -> Result<bool, Error> {
        if checkpoint.position == 0 {
            return Ok(true);
        }
        let at = LogQuery::from(checkpoint.position).to(checkpoint.position);
        match block_on(self.tools.store.read_all(at).next()) {
            None | Some(Err(Error::Gap { .. })) => Ok(false),
            Some(Err(error)) => Err(error),
            Some(Ok(record)) => Ok(record.position == Some(checkpoint.position)
                && record.event_id == checkpoint.event_id
                && record.recorded_time == checkpoint.recorded_time),
        }
    }

    fn look(&mut self) -> Result<(), RowsError> {
        let mailbox = Arc::clone(&self.tools.mailbox);
        let mut going_on = |_| {
            if mailbox.is_stopping() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let store = self.tools.store.clone();
        let found = match store.slots(&self.model.name, &mut going_on) {
            Err(Error::Damaged { .. }) if !self.renewed => {
                self.renew()?;
                store.slots(&self.model.name, &mut going_on)?
            }
            found => found?,
        };
        let mut serving = Serving::Nothing;
        if let Some((slot, checkpoint)) = found.active {
            if checkpoint.version > P::VERSION {
                let error = self.newer(&checkpoint);
                self.serve(Serving::Refused(error.clone()));
                return Err(RowsError::Failed(error));
            }
            if self.is_in_log(&checkpoint)? {
                if self.of.is_of_today(&checkpoint) {
                    self.active = Some(Fed::new(self.open(slot, checkpoint)?));
                    serving = Serving::Slot(slot);
                } else if self.of.can_serve(&checkpoint) {
                    serving = Serving::Slot(slot);
                }
            }
        }
        if let Some((slot, checkpoint)) = found.building
            && self.of.is_of_today(&checkpoint)
            && self.is_in_log(&checkpoint)?
        {
            self.building = Some(Fed::new(self.open(slot, checkpoint)?));
        }
        if self.active.is_none() && self.building.is_none() {
            self.building = Some(Fed::new(self.create()?));
        }
        self.serve(serving);
        Ok(())
    }

    fn open(&self, slot: Slot, checkpoint: Checkpoint) -> Result<Feed<P, S>, RowsError> {
        let (of, store) = (Arc::clone(&self.of), self.tools.store.clone());
        Feed::open(of, store, slot, checkpoint)
    }

    fn create(&mut self) -> Result<Feed<P, S>, RowsError> {
        let create = |this: &Self| {
            let (of, store) = (Arc::clone(&this.of), this.tools.store.clone());
            Feed::create(of, store, &this.model.name)
        };
        match create(self) {
            Err(RowsError::Failed(Error::Damaged { .. }) | RowsError::Lost(_)) if !self.renewed => {
                self.renew()?;
                create(self)
            }
            made => made,
        }
    }

    /// Begins the engine anew: rows of other projections are lost with it, and made again too.
    fn renew(&mut self) -> Result<(), Error> {
        tracing::warn!(what = %self.model.what(), "the engine that keeps rows is begun anew");
        self.renewed = true;
        self.tools.store.renew()
    }

    fn newer(&self, checkpoint: &Checkpoint) -> Error {
        let (theirs, ours) = (checkpoint.version, P::VERSION);
        let source = HandlerError::permanent(format!(
            "its rows were made by version {theirs} of it, this program has version {ours}; run \
             the newer program, or raise VERSION"
        ));
        Error::Stopped {
            what: self.model.what(),
            position: checkpoint.position,
            source: Arc::clone(source.cause()),
        }
    }

    fn serve(&self, serving: Serving) {
        *self.model.serving.write() = serving;
    }

    fn stopped_at(&self, position: u64, cause: &HandlerError) -> Error {
        Error::Stopped {
            what: self.model.what(),
            position,
            source: Arc::clone(cause.cause()),
        }
    }

    /// Feeds one page.
    fn feed(&mut self, role: Role, page: &[EventEnvelope]) -> Result<usize, Ended> {
        for (taken, event) in page.iter().enumerate() {
            // A page may take a slow projection long.
            if self.tools.mailbox.is_stopping() {
                break;
            }
            let Some(fed) = self.fed(role) else {
                return Ok(taken);
            };
            let done = match fed.feed.take(event) {
                Ok(()) => {
                    fed.attempts = 0;
                    if fed.feed.is_due() {
                        self.commit(role)
                    } else {
                        Ok(())
                    }
                }
                Err(FeedError::Rows(error)) => Err(error),
                Err(FeedError::Event(error)) => {
                    if error.is_closed() {
                        return Err(Ended);
                    }
                    // What stands before it serves meanwhile.
                    match self.commit(role) {
                        Ok(()) if self.try_later(role, event, &error) => return Ok(taken),
                        done => done,
                    }
                }
            };
            if let Err(error) = done {
                self.rows_failed(role, error)?;
                return Ok(taken);
            }
        }
        let whole = self.fed(role).is_some_and(|fed| fed.feed.is_whole());
        if whole && let Err(error) = self.commit(role) {
            self.rows_failed(role, error)?;
        }
        Ok(page.len())
    }

    /// After a failure of `event`: false when it is parked and the next one can be taken.
    fn try_later(&mut self, role: Role, event: &EventEnvelope, error: &HandlerError) -> bool {
        let random = self.tools.ids.next_uuid().as_u64_pair().1;
        let sleeper = self.tools.sleeper.clone();
        let now = self.tools.clock.now();
        let (retry, poison) = (self.options.retry, self.options.poison);
        let position = event.position.unwrap_or(0);
        let stopped = self.stopped_at(position, error);
        let what = self.model.what();
        let Some(fed) = self.fed(role) else {
            return true;
        };
        fed.attempts = fed.attempts.saturating_add(1);
        let delay = if error.is_permanent() {
            None
        } else {
            retry.delay(fed.attempts, random)
        };
        if let Some(delay) = delay {
            tracing::warn!(%what, position, attempts = fed.attempts, %error, "tried again later");
            let alarm = Alarm::after(delay, sleeper.as_ref());
            fed.trouble = Trouble::Waiting(alarm, error.clone());
            return true;
        }
        if poison == Poison::Park {
            match fed.feed.park(event, fed.attempts, error, now) {
                Ok(()) => {
                    tracing::error!(%what, position, stream = %event.stream, %error, "stream parked");
                    fed.attempts = 0;
                    return false;
                }
                Err(full) => tracing::error!(%what, ?full, "the stream cannot be parked"),
            }
        }
        tracing::error!(%what, position, %error, "stopped");
        fed.trouble = Trouble::Stopped(stopped);
        true
    }

    fn commit(&mut self, role: Role) -> Result<(), RowsError> {
        // A place that moved alone changes nothing that a reader sees.
        let asked = self.active.as_ref().filter(|_| role == Role::Active);
        let is_seen = asked.is_some_and(|fed| fed.feed.is_dirty());
        if is_seen {
            self.tools.store.await_turn();
        }
        let model = Arc::clone(&self.model);
        let Some(fed) = self.fed(role) else {
            return Ok(());
        };
        let _asked = is_seen.then(|| model.serving.write());
        fed.feed.commit()
    }

    /// Rows could not be read or written: begins anew, or stops.
    fn rows_failed(&mut self, role: Role, error: RowsError) -> Result<(), Ended> {
        self.touched = true;
        match error {
            RowsError::Failed(Error::Closed | Error::Cancelled { .. }) => Err(Ended),
            RowsError::Failed(error) => {
                let stopped = match self.fed(role) {
                    Some(fed) => Some(fed.feed.position()),
                    None => None,
                };
                let stopped =
                    stopped.map(|at| self.stopped_at(at + 1, &HandlerError::from(error.clone())));
                match (self.fed(role), stopped) {
                    (Some(fed), Some(stopped)) => fed.trouble = Trouble::Stopped(stopped),
                    _ => self.broken = Some(error),
                }
                Ok(())
            }
            RowsError::Lost(reason) => {
                tracing::warn!(what = %self.model.what(), %reason, "rows are made anew");
                self.begin_anew(role, &reason)
            }
        }
    }

    /// Goes on without the rows that are lost; other rows of the model stay what they are.
    fn begin_anew(&mut self, lost: Role, reason: &str) -> Result<(), Ended> {
        self.losses += 1;
        match lost {
            Role::Active => {
                self.active = None;
                self.serve(Serving::Nothing);
                if self.building.is_some() {
                    return Ok(());
                }
            }
            Role::Building => self.building = None,
        }
        let made = match self.losses > MAX_LOSSES {
            true if self.renewed => Err(RowsError::Lost(reason.into())),
            true => {
                self.losses = 0;
                let renewed = self.renew().map_err(RowsError::from);
                renewed.and_then(|()| self.create())
            }
            false => self.create(),
        };
        match made {
            Ok(feed) => self.building = Some(Fed::new(feed)),
            Err(RowsError::Failed(Error::Closed)) => return Err(Ended),
            Err(error) => {
                let stopped = self.stopped_at(0, &HandlerError::from(error));
                if self.active.is_some() {
                    // The rows there are serve on.
                    self.answer_rebuilds(&Err(stopped));
                } else {
                    self.broken = Some(stopped);
                }
            }
        }
        Ok(())
    }

    fn answer_rebuilds(&mut self, answer: &Result<(), Error>) {
        for reply in self.rebuilds.drain(..) {
            // Nobody waits any more when this fails.
            let _ = reply.send(answer.clone());
        }
    }

    /// Whether the rows being built may serve from now on.
    fn can_switch(&self, last: u64) -> bool {
        let Some(new) = self.building.as_ref().filter(|new| !new.feed.is_dirty()) else {
            return false;
        };
        match &self.active {
            Some(old) if old.feed.is_dirty() => false,
            Some(old) => {
                let (new_at, old_at) = (new.feed.settled(), old.feed.settled());
                new_at == old_at || (new_at > old_at && !old.goes_on())
            }
            None => {
                let served = matches!(*self.model.serving.read(), Serving::Slot(_));
                new.feed.settled() >= last || (new.is_stopped() && !served)
            }
        }
    }

    fn switch(&mut self) -> Result<(), RowsError> {
        let Some(new) = self.building.take() else {
            return Ok(());
        };
        let mut serving = self.model.serving.write();
        let slot = new.feed.slot();
        if let Err(error) = self.tools.store.activate(&self.model.name, &slot) {
            self.building = Some(new);
            return Err(error);
        }
        *serving = Serving::Slot(slot);
        drop(serving);
        self.active = Some(new);
        self.losses = 0;
        self.renewed = false;
        Ok(())
    }

    fn publish(&self) {
        let serving = self.active.as_ref();
        let stopped = self.feeds().find_map(|fed| match &fed.trouble {
            Trouble::Stopped(error) => Some(error.clone()),
            _ => None,
        });
        let waiting = self.feeds().find_map(|fed| match &fed.trouble {
            Trouble::Waiting(_, error) => Some((fed.attempts, error)),
            _ => None,
        });
        let state = match (self.broken.clone().or(stopped), waiting, &self.building) {
            (Some(error), _, _) => ProjectionState::Stopped(error),
            (None, Some((attempts, error)), _) => ProjectionState::Waiting {
                attempts,
                reason: error.to_string().into(),
            },
            (None, None, Some(building)) => ProjectionState::Rebuilding {
                position: building.feed.settled(),
            },
            (None, None, None) => ProjectionState::CatchingUp,
        };
        let fed = serving.map(|fed| &fed.feed);
        let first = fed.and_then(|feed| feed.parked().min_by_key(|parked| parked.position));
        self.model.publish(Progress {
            state,
            is_fed: fed.is_some(),
            reached: fed.map_or(0, Feed::settled),
            position: fed.map_or(0, Feed::settled),
            rows: fed.map_or(0, Feed::rows),
            parked: fed.map_or(0, |feed| feed.parked().len() as u64),
            first_parked: first.cloned(),
        });
    }

    fn retry(&mut self) -> Result<(), Ended> {
        if self.broken.take().is_some() {
            self.losses = 0;
            self.renewed = false;
            return self.start();
        }
        for role in [Role::Active, Role::Building] {
            let Some(fed) = self.fed(role).filter(|fed| !fed.goes_on()) else {
                continue;
            };
            fed.trouble = Trouble::None;
            fed.attempts = 0;
            // What could not be written may be all that there is to do.
            if fed.feed.is_whole()
                && let Err(error) = self.commit(role)
            {
                self.rows_failed(role, error)?;
            }
        }
        Ok(())
    }

    /// Takes in what is held of `stream`, in all its copies.
    fn resume(&mut self, stream: &StreamId) -> Result<Result<(), Error>, Ended> {
        let mut answer = Ok(());
        for role in [Role::Active, Role::Building] {
            match self.resume_in(role, stream) {
                Ok(resumed) => answer = answer.and(resumed),
                Err(error) => {
                    self.rows_failed(role, error.clone())?;
                    answer = Err(match error {
                        RowsError::Failed(error) => error,
                        RowsError::Lost(_) => {
                            self.model.rebuilding(self.tools.store.last_position())
                        }
                    });
                }
            }
        }
        Ok(answer)
    }

    fn resume_in(&mut self, role: Role, stream: &StreamId) -> Result<Result<(), Error>, RowsError> {
        let held = self
            .fed(role)
            .and_then(|fed| fed.feed.parked_stream(stream));
        let Some(held) = held.cloned() else {
            return Ok(Ok(()));
        };
        let query = StreamQuery::new(stream.clone());
        let query = query.from(held.sequence).to(held.last_sequence);
        let mut events = self.tools.store.read_stream(query);
        while let Some(page) = block_on(events.next_page()) {
            let page = match page {
                Ok(page) => page,
                Err(Error::Closed) => return Err(RowsError::Failed(Error::Closed)),
                // Nothing is wrong with the rows: what came before is in them, the rest stays held.
                Err(error) => {
                    self.commit(role)?;
                    return Ok(Err(error));
                }
            };
            for event in page {
                if self.tools.mailbox.is_stopping() {
                    return Err(RowsError::Failed(Error::Closed));
                }
                let now = self.tools.clock.now();
                let Some(fed) = self.fed(role) else {
                    return Ok(Ok(()));
                };
                match fed.feed.take_held(&event) {
                    Ok(()) if !fed.feed.is_due() => {}
                    Ok(()) => self.commit(role)?,
                    Err(FeedError::Rows(error)) => return Err(error),
                    Err(FeedError::Event(error)) if error.is_closed() => {
                        return Err(RowsError::Failed(Error::Closed));
                    }
                    Err(FeedError::Event(error)) => {
                        // Encoding the note is all that can fail, and it did not before.
                        let _ = fed.feed.park_again(&event, &error, now);
                        self.commit(role)?;
                        return Ok(Err(Error::Parked {
                            what: self.model.what(),
                            stream: stream.clone(),
                            position: event.position.unwrap_or(0),
                            reason: error.to_string().into(),
                        }));
                    }
                }
            }
        }
        if let Some(fed) = self.fed(role) {
            // What was held may be gone since a repair, and the loss accepted.
            fed.feed.unpark(stream);
        }
        self.commit(role)?;
        Ok(Ok(()))
    }
}

impl<P: Projection, S: EventLog + RowStore> Worker for TypedWorker<P, S> {
    fn model(&self) -> &Arc<Model> {
        &self.model
    }

    fn start(&mut self) -> Result<(), Ended> {
        self.touched = true;
        match self.look() {
            Ok(()) => {}
            Err(RowsError::Failed(Error::Closed | Error::Cancelled { .. })) => return Err(Ended),
            Err(RowsError::Lost(reason)) => {
                self.building = None;
                self.begin_anew(Role::Active, &reason)?;
            }
            Err(RowsError::Failed(error)) => self.broken = Some(error),
        }
        if let Some(error) = &self.broken {
            let refused = matches!(*self.model.serving.read(), Serving::Checking);
            if refused {
                self.serve(Serving::Refused(error.clone()));
            }
        }
        Ok(())
    }

    fn places(&self) -> [Option<u64>; 2] {
        let place = |fed: &Option<Fed<P, S>>| {
            let fed = fed.as_ref().filter(|fed| fed.goes_on());
            fed.map(|fed| fed.feed.position())
        };
        [place(&self.active), place(&self.building)]
    }

    fn take(&mut self, from: u64, page: &[EventEnvelope]) -> Result<usize, Ended> {
        let [active, building] = self.places();
        let mut most = 0;
        self.touched |= active == Some(from) || building == Some(from);
        if active == Some(from) {
            most = self.feed(Role::Active, page)?;
        }
        if building == Some(from) {
            most = most.max(self.feed(Role::Building, page)?);
        }
        Ok(most)
    }

    fn fail_read(&mut self, from: u64, error: &Error) {
        let stopped = self.stopped_at(from + 1, &HandlerError::from(error.clone()));
        for fed in [&mut self.active, &mut self.building].into_iter().flatten() {
            if fed.goes_on() && fed.feed.position() == from {
                fed.trouble = Trouble::Stopped(stopped.clone());
                self.touched = true;
            }
        }
    }

    fn settle(&mut self, last: u64) -> Result<(), Ended> {
        if !self.touched {
            return Ok(());
        }
        self.touched = false;
        let mut answer = None;
        if self.can_switch(last) {
            match self.switch() {
                Ok(()) => {
                    // They serve, and may have got no further than the ones before.
                    answer = Some(match self.active.as_ref().map(|new| &new.trouble) {
                        Some(Trouble::Stopped(error)) => Err(error.clone()),
                        _ => Ok(()),
                    });
                }
                Err(error) => self.rows_failed(Role::Building, error)?,
            }
        }
        let stopped = self.building.as_ref().and_then(|new| match &new.trouble {
            Trouble::Stopped(error) => Some(error.clone()),
            _ => None,
        });
        if stopped.is_some() && self.active.is_some() {
            // The rows there are serve on.
            self.building = None;
        }
        if let Some(error) = self.broken.clone().or(stopped) {
            answer = Some(Err(error));
        }
        // Whoever gets an answer sees what it speaks of.
        self.publish();
        if let Some(answer) = answer {
            self.answer_rebuilds(&answer);
        }
        Ok(())
    }

    fn answer(&mut self, request: Request) -> Result<(), Ended> {
        self.touched = true;
        match request {
            Request::Rebuild(reply) => {
                if let Some(error) = &self.broken {
                    let _ = reply.send(Err(error.clone()));
                    return Ok(());
                }
                self.rebuilds.push(reply);
                // One that stands still is begun anew.
                if self.building.as_ref().is_none_or(Fed::is_stopped) {
                    match self.create() {
                        Ok(feed) => self.building = Some(Fed::new(feed)),
                        Err(RowsError::Failed(Error::Closed)) => return Err(Ended),
                        // What there is stays as it is.
                        Err(error) => {
                            let stopped = self.stopped_at(0, &HandlerError::from(error));
                            self.answer_rebuilds(&Err(stopped));
                        }
                    }
                }
            }
            Request::Retry(reply) => {
                self.retry()?;
                let answer = match &self.broken {
                    Some(error) => Err(error.clone()),
                    None => Ok(()),
                };
                // Whoever waits next must not meet what was before.
                self.publish();
                let _ = reply.send(answer);
            }
            Request::Resume(stream, reply) => {
                let answer = self.resume(&stream)?;
                self.publish();
                let _ = reply.send(answer);
            }
            Request::Lost(slot) => {
                let active = self
                    .active
                    .as_ref()
                    .is_some_and(|fed| fed.feed.slot() == slot);
                let old = matches!(*self.model.serving.read(), Serving::Slot(at) if at == slot);
                if active {
                    self.rows_failed(Role::Active, RowsError::Lost("a reader missed them".into()))?;
                } else if old {
                    self.serve(Serving::Nothing);
                }
            }
        }
        Ok(())
    }

    fn poll_due(&mut self, cx: &mut Context<'_>) -> bool {
        let mut due = false;
        for fed in [&mut self.active, &mut self.building].into_iter().flatten() {
            if let Trouble::Waiting(alarm, _) = &mut fed.trouble
                && alarm.poll(cx)
            {
                fed.trouble = Trouble::None;
                due = true;
            }
        }
        self.touched |= due;
        due
    }

    fn deadline(&self) -> Option<Instant> {
        let alarms = self.feeds().filter_map(|fed| match &fed.trouble {
            Trouble::Waiting(alarm, _) => alarm.deadline(),
            _ => None,
        });
        alarms.min()
    }

    fn write_places(&mut self) -> Result<(), Ended> {
        for role in [Role::Active, Role::Building] {
            // Changes wait for a commit of their own, which readers know of.
            let clean = self.fed(role).filter(|fed| !fed.feed.is_dirty());
            let written = clean.map(|fed| fed.feed.commit_place());
            if let Some(Err(error)) = written {
                self.rows_failed(role, error)?;
            }
        }
        Ok(())
    }
}
