//! A listener's control for threads without a runtime.

use tidelog_core::{Error, ParkedStream, StreamId};

use super::control::{ListenerControl, ListenerStatus};

/// A [`ListenerControl`] whose calls block the calling thread; made by
/// [`ListenerControl::blocking`]. Do not use it inside async code, nor in a handler: it would wait for
/// itself.
#[derive(Clone, Debug)]
pub struct BlockingListenerControl(ListenerControl);

impl BlockingListenerControl {
    pub(super) fn new(control: ListenerControl) -> Self {
        Self(control)
    }

    /// The async control.
    pub fn inner(&self) -> &ListenerControl {
        &self.0
    }

    /// See [`ListenerControl::status`].
    pub fn status(&self) -> ListenerStatus {
        self.0.status()
    }

    /// See [`ListenerControl::parked`].
    pub fn parked(&self) -> Vec<ParkedStream> {
        self.0.parked()
    }

    /// See [`ListenerControl::stop`]: it says so, and does not wait.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// See [`ListenerControl::resume`].
    ///
    /// # Errors
    /// As there.
    pub fn resume(&self, stream: &StreamId) -> Result<(), Error> {
        pollster::block_on(self.0.resume(stream))
    }

    /// See [`ListenerControl::skip`].
    ///
    /// # Errors
    /// As there.
    pub fn skip(&self, stream: &StreamId) -> Result<(), Error> {
        pollster::block_on(self.0.skip(stream))
    }

    /// See [`ListenerControl::replay_from`].
    ///
    /// # Errors
    /// As there.
    pub fn replay_from(&self, position: u64) -> Result<(), Error> {
        pollster::block_on(self.0.replay_from(position))
    }

    /// See [`ListenerControl::retry`].
    ///
    /// # Errors
    /// As there.
    pub fn retry(&self) -> Result<(), Error> {
        pollster::block_on(self.0.retry())
    }

    /// See [`ListenerControl::wait_for`].
    ///
    /// # Errors
    /// As there.
    pub fn wait_for(&self, position: u64) -> Result<(), Error> {
        pollster::block_on(self.0.wait_for(position))
    }
}
