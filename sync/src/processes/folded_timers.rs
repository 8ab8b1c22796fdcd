//! Pending timers of a store that keeps no read models.

use std::fmt;
use std::sync::Arc;

use futures_util::lock::Mutex;
use tidelog_core::{
    Error, EventLog, EventStream, ProcessManager, RowTable, Subscribe, Timers, Timestamp,
};

use super::timer_loop::{DueTimer, DueTimers};

/// Pending timers in memory, folded from the log since its beginning: for stores without read
/// models. It reads the whole log once, when the timers are first looked for. An event that the manager
/// cannot tell the timer of leaves it as it is.
pub struct FoldedTimers<M: ProcessManager> {
    fold: Mutex<Fold<M>>,
}

struct Fold<M: ProcessManager> {
    table: RowTable<Timers<M>>,
    events: EventStream,
    position: u64,
}

impl<M: ProcessManager> FoldedTimers<M> {
    /// The timers that `manager` has in `log`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the manager's name cannot be one.
    pub fn new(manager: M, log: &impl EventLog) -> Result<Self, Error> {
        Ok(Self {
            fold: Mutex::new(Fold {
                table: RowTable::new(Timers::of(Arc::new(manager)))?,
                events: log.subscribe(Subscribe::All { after: 0 }),
                position: 0,
            }),
        })
    }
}

impl<M: ProcessManager> DueTimers for FoldedTimers<M> {
    async fn level(&self, position: u64) -> Result<(), Error> {
        let mut fold = self.fold.lock().await;
        while fold.position < position {
            let page = fold.events.next_page().await;
            for event in page.unwrap_or(Err(Error::Closed))? {
                let at = event.position.unwrap_or(fold.position);
                if let Err(error) = fold.table.apply(&event) {
                    // Others' timers do not wait for the one that cannot be told.
                    tracing::error!(
                        manager = M::NAME, stream = %event.stream, position = at, %error,
                        "what an event does to its stream's timer cannot be told; it stays as it is"
                    );
                }
                fold.position = at;
            }
        }
        Ok(())
    }

    async fn earliest(&self, limit: usize) -> Result<Vec<DueTimer>, Error> {
        let fold = self.fold.lock().await;
        let found = fold.table.find::<Timestamp>("due", ..)?.into_iter();
        let timers = found.map(|(_, stream, timer)| (stream, timer));
        Ok(timers.take(limit).collect())
    }
}

impl<M: ProcessManager> fmt::Debug for FoldedTimers<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoldedTimers")
            .field("manager", &M::NAME)
            .finish_non_exhaustive()
    }
}
