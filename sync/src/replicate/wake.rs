//! Notices that the machine has slept: connections of before are worth nothing then.

use std::time::Duration;

use tidelog_core::Ticks;

/// A shorter sleep than this is none.
const SLEPT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Wake {
    slept: Duration,
}

impl Wake {
    pub(crate) fn new(ticks: &dyn Ticks) -> Self {
        Self {
            slept: ticks.slept(),
        }
    }

    /// Whether the machine has slept since it was asked last.
    pub(crate) fn has_slept(&mut self, ticks: &dyn Ticks) -> bool {
        let slept = ticks.slept();
        let before = std::mem::replace(&mut self.slept, slept);
        slept.saturating_sub(before) > SLEPT
    }
}
