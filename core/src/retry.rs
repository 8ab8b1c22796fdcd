//! How often, and after which waits, a failing event is tried again.

use std::time::Duration;

/// Attempts with waits that double up to a ceiling, with jitter.
///
/// Before attempt n + 1 it waits `first · 2^(n−1)`, at most `ceiling`, of which a random part
/// between a half and all is taken, so that many that fail together do not come back together
/// (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: "equal jitter").
///
/// ```
/// use std::time::Duration;
/// use tidelog_core::RetryPolicy;
///
/// let retry = RetryPolicy { attempts: 3, first: Duration::from_millis(100), ceiling: Duration::from_secs(1) };
/// assert_eq!(retry.delay(1, u64::MAX), Some(Duration::from_millis(100)));
/// assert_eq!(retry.delay(2, 0), Some(Duration::from_millis(100))); // a half of 200 ms
/// assert_eq!(retry.delay(3, 0), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often an event is tried in all, at least once.
    pub attempts: u32,
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub ceiling: Duration,
}

impl RetryPolicy {
    /// One attempt.
    pub const fn none() -> Self {
        Self {
            attempts: 1,
            first: Duration::ZERO,
            ceiling: Duration::ZERO,
        }
    }

    /// Attempts without end, 100 ms to 30 s apart.
    pub const fn for_ever() -> Self {
        Self {
            attempts: u32::MAX,
            first: Duration::from_millis(100),
            ceiling: Duration::from_secs(30),
        }
    }

    /// How long to wait after the failure of `attempt`, which counts from 1; `None` when it was the
    /// last one. `random` is any random number.
    pub fn delay(&self, attempt: u32, random: u64) -> Option<Duration> {
        if self.attempts != u32::MAX && attempt >= self.attempts {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.ceiling);
        let half = whole / 2;
        // Both are far below 2^64 ns (584 years) for every sensible ceiling.
        let spread = u64::try_from(whole.saturating_sub(half).as_nanos()).unwrap_or(u64::MAX);
        let part = (u128::from(spread) * u128::from(random)) / u128::from(u64::MAX);
        Some(half + Duration::from_nanos(u64::try_from(part).unwrap_or(spread)))
    }
}

impl Default for RetryPolicy {
    /// 8 attempts, 100 ms to 10 s apart: 13 s in all at the longest.
    fn default() -> Self {
        Self {
            attempts: 8,
            first: Duration::from_millis(100),
            ceiling: Duration::from_secs(10),
        }
    }
}

/// What follows when an event was tried as often as the [`RetryPolicy`] says, or can never succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Poison {
    /// Nothing further is taken until a person has looked.
    #[default]
    Stop,
    /// The event's stream is set aside with its later events; all others go on.
    Park,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_ceiling_and_take_between_a_half_and_all() {
        let retry = RetryPolicy::default();
        let mut whole = Duration::from_millis(100);
        for attempt in 1..retry.attempts {
            assert_eq!(retry.delay(attempt, 0), Some(whole / 2));
            assert_eq!(retry.delay(attempt, u64::MAX), Some(whole));
            whole = (whole * 2).min(retry.ceiling);
        }
        assert_eq!(retry.delay(retry.attempts, 0), None);
    }

    #[test]
    fn for_ever_never_ends_and_never_overflows() {
        let wait = RetryPolicy::for_ever().delay(u32::MAX, u64::MAX);
        assert_eq!(wait, Some(Duration::from_secs(30)));
    }

    #[test]
    fn none_is_one_attempt() {
        assert_eq!(RetryPolicy::none().delay(1, 7), None);
    }
}
