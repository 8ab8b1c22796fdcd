//! What the runner does for one projection: feeds its rows, gives up or tries again, rebuilds.

mod begin;
mod holding;
mod switching;
mod taking;

use std::collections::HashMap;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use tidelog_core::{
    Clock, Error, EventEnvelope, EventLog, Feed, HandlerError, IdSource, Prepared, Projection,
    RowStore, RowsError, Sleeper, Superseded,
};

use super::ProjectionOptions;
use super::alarm::Alarm;
use super::mailbox::{Mailbox, Reply, Request};
use super::model::{Model, Serving};

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
    /// The rows that are asked hold events which gave way by a record at this position: those being
    /// built must come to serve. `u64::MAX` where it may be so.
    outdated: Option<u64>,
}

struct Fed<P: Projection, S> {
    feed: Feed<P, S>,
    /// What gave way by a record up to here was never taken in; what does by a later one may have been.
    without_superseded: u64,
    /// It was gone on with when the log ended here: what gave way by a record up to here may have been
    /// passed over before, when it was begun.
    unsure_until: u64,
    /// Of what gives way further on, by the position where: the lowest sequence taken in since.
    taken_of: HashMap<u64, u64>,
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
    /// What gave way by a record up to position `without_superseded` was not, and is not to be, taken
    /// in.
    fn new(feed: Feed<P, S>, without_superseded: u64) -> Self {
        Self {
            feed,
            without_superseded,
            unsure_until: 0,
            taken_of: HashMap::new(),
            attempts: 0,
            trouble: Trouble::None,
        }
    }

    /// Notes that an event is taken in which gives way by the record at `at`.
    fn note_taken(&mut self, at: u64, sequence: u64) {
        let lowest = self.taken_of.entry(at).or_insert(sequence);
        *lowest = sequence.min(*lowest);
    }

    /// Whether all that gave way by the record `what` was taken in.
    fn has_taken_all(&mut self, what: &Superseded) -> bool {
        let lowest = self.taken_of.remove(&what.at);
        let none_gave_way = 0 < what.replaced && what.replaced < what.from;
        what.at > self.unsure_until || none_gave_way || lowest == Some(what.from)
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
            outdated: None,
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
        // Rows that begin anew meanwhile stand elsewhere.
        if building == Some(from) && self.places()[1] == building {
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
        if stopped.is_some() && self.active.is_some() && self.outdated.is_none() {
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
                        Ok(fed) => self.building = Some(fed),
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
