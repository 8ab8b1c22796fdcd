//! What listeners and sinks have saved beside the log.

use bytes::Bytes;
use tidelog_core::Error;

use super::super::checkpoints;
use super::LogReader;

/// What is saved under one name; see [`LogReader::saved`].
#[derive(Clone, Debug)]
pub struct SavedState {
    /// Whose it is.
    pub name: String,
    /// Its bytes, as [`ListenerState`](tidelog_core::ListenerState) reads those of a listener;
    /// [`Error::Damaged`] when they are not what was saved.
    pub state: Result<Bytes, Error>,
}

impl LogReader {
    /// What listeners have saved, by name. Each is replaced whole, so it is right beside a running
    /// application; it may be newer than what is known here of the log.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn saved(&self) -> Result<Vec<SavedState>, Error> {
        let mut all = Vec::new();
        for name in checkpoints::names(&self.dir)? {
            let state = match checkpoints::load(&self.dir, &name) {
                // Removed a moment ago.
                Ok(None) => continue,
                Ok(Some(state)) => Ok(state),
                Err(damaged @ Error::Damaged { .. }) => Err(damaged),
                Err(error) => return Err(error),
            };
            all.push(SavedState { name, state });
        }
        Ok(all)
    }
}
