//! How a projection begins: with the rows that stand there, or with new ones.

use std::ops::ControlFlow;
use std::sync::Arc;

use pollster::block_on;
use tidelog_core::{
    Checkpoint, Error, EventLog, Feed, HandlerError, LogQuery, Projection, RowStore, RowsError,
    Slot,
};

use super::{Ended, Fed, MAX_LOSSES, Role, TypedWorker};
use crate::projections::model::Serving;

impl<P: Projection, S: EventLog + RowStore> TypedWorker<P, S> {
    /// Whether the log still has the record that the checkpoint was taken behind.
    pub(super) fn is_in_log(&self, checkpoint: &Checkpoint) -> Result<bool, Error> {
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

    pub(super) fn look(&mut self) -> Result<(), RowsError> {
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
                    self.active = Some(self.open(slot, checkpoint)?);
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
            self.building = Some(self.open(slot, checkpoint)?);
        }
        // Why they are built is not known any more: it may have been for events that gave way.
        let both = self.active.is_some() && self.building.is_some();
        self.outdated = both.then_some(u64::MAX);
        if self.active.is_none() && self.building.is_none() {
            self.building = Some(self.create()?);
        }
        self.serve(serving);
        Ok(())
    }

    pub(super) fn open(&self, slot: Slot, checkpoint: Checkpoint) -> Result<Fed<P, S>, RowsError> {
        let (of, store) = (Arc::clone(&self.of), self.tools.store.clone());
        let taken = checkpoint.position;
        let unsure_until = store.last_position();
        let feed = Feed::open(of, store, slot, checkpoint)?;
        Ok(Fed {
            unsure_until,
            ..Fed::new(feed, taken)
        })
    }

    pub(super) fn create(&mut self) -> Result<Fed<P, S>, RowsError> {
        let known = self.tools.store.last_position();
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
        .map(|feed| Fed::new(feed, known))
    }

    /// Begins the engine anew: rows of other projections are lost with it, and made again too.
    pub(super) fn renew(&mut self) -> Result<(), Error> {
        tracing::warn!(what = %self.model.what(), "the engine that keeps rows is begun anew");
        self.renewed = true;
        self.tools.store.renew()
    }

    pub(super) fn newer(&self, checkpoint: &Checkpoint) -> Error {
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

    /// Goes on without the rows that are lost; other rows of the model stay what they are.
    pub(super) fn begin_anew(&mut self, lost: Role, reason: &str) -> Result<(), Ended> {
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
            Ok(fed) => self.building = Some(fed),
            Err(RowsError::Failed(Error::Closed)) => return Err(Ended),
            Err(error) => {
                let stopped = self.stopped_at(0, &HandlerError::from(error));
                if self.active.is_some() && self.outdated.is_none() {
                    // The rows there are serve on.
                    self.answer_rebuilds(&Err(stopped));
                } else {
                    self.broken = Some(stopped);
                }
            }
        }
        Ok(())
    }
}
