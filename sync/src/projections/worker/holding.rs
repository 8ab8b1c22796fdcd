//! Going on: with what stood still, and with what is held of a parked stream.

use pollster::block_on;
use tidelog_core::{
    Error, EventLog, FeedError, Projection, RowStore, RowsError, StreamId, StreamQuery,
};

use super::{Ended, Role, Trouble, TypedWorker, Worker};

impl<P: Projection, S: EventLog + RowStore> TypedWorker<P, S> {
    pub(super) fn retry(&mut self) -> Result<(), Ended> {
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
    pub(super) fn resume(&mut self, stream: &StreamId) -> Result<Result<(), Error>, Ended> {
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

    pub(super) fn resume_in(
        &mut self,
        role: Role,
        stream: &StreamId,
    ) -> Result<Result<(), Error>, RowsError> {
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
