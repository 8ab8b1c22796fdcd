//! One listener of a container, from its checkpoint to its end.

use std::future::poll_fn;
use std::sync::Arc;

use tidelog_core::{
    CheckpointClaim, CheckpointStore, Clock, Error, EventLog, IdSource, ListenerState, LogQuery,
    Mark, Sleeper,
};

use super::control::{ListenerPhase, Reply, Request, Shared};
use super::handler::Handler;
use super::options::{ListenerOptions, StartAt};
use super::session::{End, Session};

/// One listener with all it needs.
pub(super) struct Unit<S> {
    pub(super) store: S,
    pub(super) shared: Arc<Shared>,
    pub(super) handler: Handler,
    pub(super) options: ListenerOptions,
    pub(super) tools: Tools,
    /// Held until the unit is dropped.
    pub(super) claim: CheckpointClaim,
}

/// Time and randomness.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) sleeper: Arc<dyn Sleeper>,
}

/// What a listener does when it stands still.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenStopped {
    /// It ends with the error.
    End,
    /// It waits until it is told to go on.
    Wait,
}

impl<S: EventLog + CheckpointStore> Unit<S> {
    /// Takes events until it is told to stop, the store is closed, or it cannot go on.
    pub(super) async fn serve(self, when_stopped: WhenStopped) -> Result<(), Error> {
        let done = self.serve_on(when_stopped).await;
        match done {
            Err(Error::Closed) => Ok(()),
            done => done,
        }
    }

    async fn serve_on(&self, when_stopped: WhenStopped) -> Result<(), Error> {
        // A request that came first is heard first: it may be what lets the listener go on.
        if let Some(request) = self.next_replay_or_stop() {
            match request {
                Request::Stop => return Ok(()),
                request => drop(self.obey(request).await),
            }
        }
        loop {
            let error = match self.session().await {
                Ok(End::Stop) => return Ok(()),
                Ok(End::Replay { position, reply }) => {
                    // Not moved, it goes on where it was.
                    self.replay(position, reply).await;
                    continue;
                }
                Ok(End::Closed) | Err(Error::Closed) => return Err(Error::Closed),
                Ok(End::Failed(error)) | Err(error) => error,
            };
            tracing::error!(listener = self.shared.name(), %error, "a listener stands still");
            self.shared.set_phase(ListenerPhase::Stopped(error.clone()));
            if when_stopped == WhenStopped::End {
                return Err(error);
            }
            loop {
                match poll_fn(|cx| self.shared.requests().poll_next(cx)).await {
                    Request::Stop => return Ok(()),
                    Request::Resume { reply, .. } => answer(reply, Err(error.clone())),
                    request => {
                        if self.obey(request).await {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// What was asked for before the listener ran, as far as it says where to begin.
    fn next_replay_or_stop(&self) -> Option<Request> {
        let mut left = Vec::new();
        let mut found = None;
        while let Some(request) = self.shared.requests().try_next() {
            match request {
                request @ (Request::Stop | Request::Replay { .. }) if found.is_none() => {
                    found = Some(request);
                }
                request => left.push(request),
            }
        }
        for request in left {
            self.shared.requests().ask(request);
        }
        found
    }

    /// Does what is asked of a listener that does not run: whether it goes on.
    async fn obey(&self, request: Request) -> bool {
        match request {
            Request::Retry { reply } => {
                // Whoever is answered must not meet the state of before.
                self.shared.set_phase(ListenerPhase::Running);
                answer(reply, Ok(()));
                true
            }
            Request::Replay { position, reply } => self.replay(position, reply).await,
            Request::Resume { reply, .. } => {
                answer(reply, Err(self.shared.was_told_to_stop()));
                false
            }
            Request::Stop => false,
        }
    }

    async fn session(&self) -> Result<End, Error> {
        let state = self.begin().await?;
        {
            let mut view = self.shared.view();
            view.phase = ListenerPhase::Running;
            view.mark = state.mark;
            view.parked = state.parked;
        }
        self.shared.notify();
        Session::new(self, state.mark).run().await
    }

    /// Where to begin, after a look whether this is the log that the checkpoint speaks of.
    async fn begin(&self) -> Result<ListenerState, Error> {
        let name = self.shared.name();
        let last = self.store.last_position();
        let Some(bytes) = self.store.load(name).await? else {
            let position = match self.options.start {
                StartAt::Beginning => return Ok(ListenerState::after(Mark::START)),
                StartAt::End => last,
                StartAt::After(position) => position,
            };
            self.check_position(position)?;
            let state = ListenerState::after(self.mark_at(position).await?);
            // Started again before anything is handled, it shall begin at the same place.
            self.save(&state).await?;
            return Ok(state);
        };
        let state = ListenerState::decode(name, &bytes)?;
        let there = state.mark;
        let is_other = if there.position > last {
            true
        } else {
            let here = self.mark_at(there.position).await?;
            // What is gone since a repair cannot be compared.
            there.is_proven() && here.is_proven() && there != here
        };
        if is_other {
            return Err(Error::OtherHistory {
                what: self.shared.what(),
                position: there.position,
                remedy: "choose where it goes on, by `replay_from`",
            });
        }
        Ok(state)
    }

    /// Moves the checkpoint; for when no session is under way.
    async fn replay(&self, position: u64, reply: Reply) -> bool {
        let moved = self.move_to(position).await;
        if let Ok(state) = &moved {
            let mut view = self.shared.view();
            view.mark = state.mark;
            view.parked = state.parked.clone();
            view.phase = ListenerPhase::Running;
            drop(view);
            self.shared.notify();
        }
        let is_moved = moved.is_ok();
        answer(reply, moved.map(|_| ()));
        is_moved
    }

    async fn move_to(&self, position: u64) -> Result<ListenerState, Error> {
        let after = position.saturating_sub(1);
        self.check_position(after)?;
        let name = self.shared.name();
        let mut state = match self.store.load(name).await? {
            Some(bytes) => ListenerState::decode(name, &bytes)?,
            None => ListenerState::after(Mark::START),
        };
        state.mark = self.mark_at(after).await?;
        // What is met again is handled again; of what holds nothing, no event is passed over.
        state
            .parked
            .retain(|_, stream| stream.held() > 0 && stream.position <= after);
        for parked in std::mem::take(&mut state.parked).into_values() {
            // Of another history, it would pass over or hold events that it was not parked for.
            let here = self.mark_at(parked.position).await?;
            if !here.is_proven() || here.event_id == parked.event_id {
                state.parked.insert(parked.stream.clone(), parked);
            }
        }
        self.save(&state).await?;
        Ok(state)
    }

    pub(super) fn check_position(&self, position: u64) -> Result<(), Error> {
        let last = self.store.last_position();
        if position > last {
            let reason = format!("the log ends at {last}");
            return Err(Error::invalid("position", position, reason));
        }
        Ok(())
    }

    pub(super) async fn save(&self, state: &ListenerState) -> Result<(), Error> {
        let bytes = state.encode()?;
        self.store
            .save(self.shared.name(), state.mark.position, bytes)
            .await
    }

    /// Whether it is this listener's store that is closed, when a handler met one that is.
    pub(super) async fn is_closed(&self) -> bool {
        let loaded = self.store.load(self.shared.name()).await;
        matches!(loaded, Err(Error::Closed))
    }

    async fn mark_at(&self, position: u64) -> Result<Mark, Error> {
        if position == 0 {
            return Ok(Mark::START);
        }
        let mut records = self.store.read_all(LogQuery::from(position).to(position));
        let record = match records.next().await.transpose() {
            Err(Error::Gap { .. }) => None,
            record => record?,
        };
        let mark = record.as_ref().and_then(Mark::of);
        Ok(mark.unwrap_or(Mark::unproven(position)))
    }
}

impl<S> Drop for Unit<S> {
    fn drop(&mut self) {
        self.shared.end();
        let _ = &self.claim;
    }
}

/// Whoever asked may not wait any more.
pub(super) fn answer(reply: Reply, answer: Result<(), Error>) {
    let _ = reply.send(answer);
}
