//! The users' handle on a part of the log that is published once more.

use std::pin::pin;
use std::sync::Arc;

use futures_util::future::select;
use tidelog_core::Error;

use crate::kafka::republish::Over;
use crate::kafka::status::StatusCell;

/// A part of the log that is published once more; made by
/// [`Publishing::republish`](crate::Publishing::republish). Dropping it changes nothing: publishing
/// goes on, also after a restart of the store, for which nobody waits any more.
#[derive(Clone)]
pub struct Republishing {
    status: Arc<StatusCell>,
    over: Arc<Over>,
}

impl Republishing {
    pub(crate) fn new(status: Arc<StatusCell>, over: Arc<Over>) -> Self {
        Self { status, over }
    }

    /// Returns once the cluster has acknowledged all of the range again, but for what is set aside
    /// ([`Publishing::parked`](crate::Publishing::parked)); a range that another call made wider
    /// meanwhile is waited for as a whole. Waits as long as the cluster is away. Dropping the future
    /// gives up waiting and nothing else; it can be called again.
    ///
    /// # Errors
    /// [`Error::Halted`] while publishing stands still, [`Error::Closed`] when the store is closed
    /// before, [`Error::InvalidInput`] when what was kept about publishing was forgotten.
    pub async fn wait(&self) -> Result<(), Error> {
        loop {
            let (news, of_publishing) = (self.over.listen(), self.status.listen());
            if let Some(answer) = self.over.answer() {
                return answer;
            }
            self.status.at_work()?;
            select(pin!(news), pin!(of_publishing)).await;
        }
    }

    /// The same calls for threads without a runtime.
    pub fn blocking(&self) -> BlockingRepublishing {
        BlockingRepublishing(self.clone())
    }
}

impl std::fmt::Debug for Republishing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Republishing")
            .field("over", &self.over.answer())
            .finish_non_exhaustive()
    }
}

/// A [`Republishing`] whose calls block the calling thread. Do not use it inside async code.
#[derive(Clone, Debug)]
pub struct BlockingRepublishing(pub(crate) Republishing);

impl BlockingRepublishing {
    /// See [`Republishing::wait`].
    ///
    /// # Errors
    /// As there.
    pub fn wait(&self) -> Result<(), Error> {
        pollster::block_on(self.0.wait())
    }
}
