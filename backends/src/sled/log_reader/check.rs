//! Checks a log that somebody else may have open.

use tidelog_core::Error;

use super::super::options::ProgressCallback;
use super::super::state::State;
use super::super::verify::{VerifyReport, check_log};
use super::LogReader;

impl LogReader {
    /// Reads the whole log and checks all that can be checked without the index: CRCs, the hash chain,
    /// density of positions and sequences, and that nothing is gone that was synced. `progress` may cancel
    /// it.
    ///
    /// What is appended meanwhile is not looked at. Takes about 40 bytes of memory a stream.
    /// [`VerifyReport::indexed`] is 0. A listener's checkpoint is checked by
    /// [`saved`](Self::saved), the index by [`IndexCopy::check`](crate::IndexCopy::check).
    ///
    /// # Errors
    /// [`Error::Damaged`] naming the first fault; [`Error::Cancelled`]; [`Error::Io`].
    pub fn verify(&self, progress: Option<&ProgressCallback>) -> Result<VerifyReport, Error> {
        self.check(progress).map(|(report, _)| report)
    }

    /// The same, with the number of events in each segment.
    pub(crate) fn check(
        &self,
        progress: Option<&ProgressCallback>,
    ) -> Result<(VerifyReport, Vec<(u64, u64)>), Error> {
        let mut report = VerifyReport::default();
        let events = check_log(&self.log, progress, self.last_position(), &mut report)?;
        if let Some(damage) = self.tail.damage() {
            return Err(damage.clone());
        }
        State::read(&self.dir)?;
        Ok((report, events))
    }
}
