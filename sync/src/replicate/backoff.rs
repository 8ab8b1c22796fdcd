//! How long to wait before the server is tried again.

use std::time::Duration;

use tidelog_core::{IdSource, RetryPolicy};

/// Progress for this long, and the next trouble counts as the first.
const SETTLED: Duration = Duration::from_secs(10);

/// Waits that double from one failure to the next.
#[derive(Debug)]
pub(crate) struct Backoff {
    policy: RetryPolicy,
    failures: u32,
    since: Option<Duration>,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self {
            policy: RetryPolicy {
                ceiling: Duration::from_secs(5),
                ..RetryPolicy::for_ever()
            },
            failures: 0,
            since: None,
        }
    }

    /// How many failures there were in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Something was answered at `now`.
    pub(crate) fn progress(&mut self, now: Duration) {
        let since = *self.since.get_or_insert(now);
        if now.saturating_sub(since) >= SETTLED {
            self.failures = 0;
        }
    }

    /// The next try is the first again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
        self.since = None;
    }

    /// It failed again; how long to wait.
    pub(crate) fn failed(&mut self, ids: &dyn IdSource) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.since = None;
        // The two upper bits of this half of a UUID are always the same.
        let random = ids.next_uuid().as_u64_pair().1 << 2;
        let delay = self.policy.delay(self.failures, random);
        delay.unwrap_or(self.policy.ceiling)
    }
}

#[cfg(test)]
mod tests {
    use tidelog_core::SystemIds;

    use super::*;

    #[test]
    fn it_never_gives_up_and_never_waits_longer_than_the_ceiling() {
        let mut backoff = Backoff::new();
        let first = backoff.failed(&SystemIds);
        assert!(first <= Duration::from_millis(100));
        let longest = (0..200).map(|_| backoff.failed(&SystemIds)).max().unwrap();
        assert!(longest > Duration::from_secs(2) && longest <= Duration::from_secs(5));
        assert_eq!(backoff.failures(), 201);
    }

    #[test]
    fn only_lasting_progress_makes_the_next_failure_the_first() {
        let mut backoff = Backoff::new();
        for _ in 0..9 {
            backoff.failed(&SystemIds);
        }
        let at = Duration::from_secs;
        backoff.progress(at(100));
        backoff.progress(at(109));
        assert_eq!(backoff.failures(), 9);
        backoff.failed(&SystemIds);
        backoff.progress(at(200));
        backoff.progress(at(210));
        assert_eq!(backoff.failures(), 0);
    }
}
