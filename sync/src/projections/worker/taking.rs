//! Taking events in, and what follows when one cannot be.

use std::sync::Arc;

use tidelog_core::{
    Error, EventEnvelope, EventLog, FeedError, HandlerError, Poison, Projection, Redo, RowStore,
    RowsError, Superseded,
};

use super::{Ended, Fed, Role, Trouble, TypedWorker};
use crate::projections::alarm::Alarm;

impl<P: Projection, S: EventLog + RowStore> TypedWorker<P, S> {
    /// Feeds one page.
    pub(super) fn feed(&mut self, role: Role, page: &[EventEnvelope]) -> Result<usize, Ended> {
        for (taken, event) in page.iter().enumerate() {
            // A page may take a slow projection long.
            if self.tools.mailbox.is_stopping() {
                break;
            }
            if let Some(what) = Superseded::of(event) {
                if !self.superseded(role, event, &what)? {
                    return Ok(taken);
                }
                continue;
            }
            let superseded_at = self.tools.store.superseded_at(event);
            let Some(fed) = self.fed(role) else {
                return Ok(taken);
            };
            if superseded_at.is_some_and(|at| at <= fed.without_superseded) {
                fed.feed.pass_over(event);
                continue;
            }
            if let Some(at) = superseded_at.filter(|at| *at <= fed.unsure_until) {
                fed.note_taken(at, event.sequence);
            }
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

    /// Events gave way to another origin's, and `event` says so: whether the feed goes on behind it.
    fn superseded(
        &mut self,
        role: Role,
        event: &EventEnvelope,
        what: &Superseded,
    ) -> Result<bool, Ended> {
        let Some(fed) = self.fed(role) else {
            return Ok(false);
        };
        if what.at <= fed.without_superseded {
            fed.feed.pass_over(event);
            return Ok(true);
        }
        let taken = if fed.has_taken_all(what) {
            fed.feed.take_superseded(event, what)
        } else {
            // It may have begun without some of it, and cannot undo that.
            Ok(Redo::Rebuild)
        };
        let error = match taken {
            Ok(Redo::Done) => return Ok(true),
            Ok(Redo::Rebuild) => match self.make_anew(role, what.at) {
                // Nothing beyond the record is taken in before the others are begun.
                Ok(()) => {
                    let old = self.active.as_mut().filter(|_| role == Role::Active);
                    return Ok(old.map(|old| old.feed.pass_over(event)).is_some());
                }
                Err(error) => error,
            },
            Err(FeedError::Rows(error)) => error,
            Err(FeedError::Event(error)) => RowsError::Lost(error.to_string().into()),
        };
        self.rows_failed(role, error)?;
        Ok(false)
    }

    /// Begins rows without what gave way; those of an earlier beginning hold some of it.
    fn make_anew(&mut self, role: Role, at: u64) -> Result<(), RowsError> {
        let knows = |fed: &Fed<P, S>| fed.without_superseded >= at && !fed.is_stopped();
        if !self.building.as_ref().is_some_and(knows) {
            tracing::info!(what = %self.model.what(), at, "events gave way; rows are made anew");
            self.building = Some(self.create()?);
        }
        if role == Role::Active {
            self.outdated = Some(self.outdated.map_or(at, |known| known.min(at)));
        }
        Ok(())
    }

    /// After a failure of `event`: false when it is parked and the next one can be taken.
    pub(super) fn try_later(
        &mut self,
        role: Role,
        event: &EventEnvelope,
        error: &HandlerError,
    ) -> bool {
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

    pub(super) fn commit(&mut self, role: Role) -> Result<(), RowsError> {
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
    pub(super) fn rows_failed(&mut self, role: Role, error: RowsError) -> Result<(), Ended> {
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
}
