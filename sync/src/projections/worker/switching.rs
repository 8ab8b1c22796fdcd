//! New rows come to serve, and everybody is told how far they are.

use tidelog_core::{Error, EventLog, Feed, Projection, RowStore, RowsError};

use super::{Trouble, TypedWorker};
use crate::projections::model::{Progress, Serving};
use crate::projections::progress::ProjectionState;

impl<P: Projection, S: EventLog + RowStore> TypedWorker<P, S> {
    pub(super) fn answer_rebuilds(&mut self, answer: &Result<(), Error>) {
        for reply in self.rebuilds.drain(..) {
            // Nobody waits any more when this fails.
            let _ = reply.send(answer.clone());
        }
    }

    /// Whether the rows being built may serve from now on.
    pub(super) fn can_switch(&self, last: u64) -> bool {
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

    pub(super) fn switch(&mut self) -> Result<(), RowsError> {
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
        self.outdated = None;
        self.losses = 0;
        self.renewed = false;
        Ok(())
    }

    pub(super) fn publish(&self) {
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
        let outdated_from = self.outdated.unwrap_or(u64::MAX);
        let first = fed.and_then(|feed| feed.parked().min_by_key(|parked| parked.position));
        self.model.publish(Progress {
            state,
            is_fed: fed.is_some(),
            reached: fed.map_or(0, Feed::settled),
            outdated_from,
            position: fed.map_or(0, Feed::settled).min(outdated_from - 1),
            rows: fed.map_or(0, Feed::rows),
            parked: fed.map_or(0, |feed| feed.parked().len() as u64),
            first_parked: first.cloned(),
        });
    }
}
