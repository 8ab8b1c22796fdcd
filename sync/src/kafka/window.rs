//! What is in flight: how much of it, and since when.

use std::collections::VecDeque;
use std::time::Duration;

/// A message without a report while others, sent so much later, have theirs, is taken for lost after so
/// long.
const LOST_AFTER: Duration = Duration::from_secs(120);
const LATER: Duration = Duration::from_secs(60);
/// One without a report at all, while the cluster answers.
const STILL_AFTER: Duration = Duration::from_secs(300);
/// Renewals for such a reason are at most so far apart.
const PATIENCE: Duration = Duration::from_secs(600);

/// Messages in flight of one generation, in seconds of their sending.
#[derive(Debug, Default)]
pub(super) struct Flying {
    count: usize,
    bytes: usize,
    seconds: VecDeque<(u64, usize)>,
    /// When the youngest message was sent that has its report.
    newest_reported: Option<u64>,
}

/// Whether reports are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stillness {
    None,
    /// If the cluster answers.
    Maybe,
    Lost,
}

impl Flying {
    pub(super) fn sent(&mut self, cost: usize, now: Duration) {
        self.count += 1;
        self.bytes += cost;
        match self.seconds.back_mut() {
            Some((second, count)) if *second == now.as_secs() => *count += 1,
            _ => self.seconds.push_back((now.as_secs(), 1)),
        }
    }

    pub(super) fn landed(&mut self, cost: usize, since: Duration) {
        let second = since.as_secs();
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(cost);
        self.newest_reported = self.newest_reported.max(Some(second));
        let at = self.seconds.partition_point(|(of, _)| *of < second);
        if let Some((_, count)) = self.seconds.get_mut(at) {
            *count = count.saturating_sub(1);
        }
        while self.seconds.front().is_some_and(|(_, count)| *count == 0) {
            self.seconds.pop_front();
        }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn stillness(&self, now: Duration) -> Stillness {
        let Some((oldest, _)) = self.seconds.front() else {
            return Stillness::None;
        };
        let age = now.saturating_sub(Duration::from_secs(*oldest));
        let later = oldest + LATER.as_secs();
        if age >= LOST_AFTER && self.newest_reported.is_some_and(|at| at >= later) {
            Stillness::Lost
        } else if age >= STILL_AFTER {
            Stillness::Maybe
        } else {
            Stillness::None
        }
    }
}

/// Renews a generation whose reports stand still, less and less often.
#[derive(Debug)]
pub(super) struct Watchdog {
    next: Duration,
    pause: Duration,
}

impl Watchdog {
    pub(super) fn new() -> Self {
        Self {
            next: Duration::ZERO,
            pause: LOST_AFTER,
        }
    }

    pub(super) fn look(&self, flying: &Flying, now: Duration) -> Stillness {
        if now < self.next {
            return Stillness::None;
        }
        flying.stillness(now)
    }

    /// It was renewed for that.
    pub(super) fn renewed(&mut self, now: Duration) {
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_landed_weighs_nothing_in_whatever_order_it_lands() {
        let mut flying = Flying::default();
        for second in [1, 1, 2, 5] {
            flying.sent(10, at(second));
        }
        flying.landed(10, at(5));
        flying.landed(10, at(1));
        assert_eq!((flying.count(), flying.bytes()), (2, 20));
        flying.landed(10, at(2));
        flying.landed(10, at(1));
        assert_eq!((flying.count(), flying.bytes()), (0, 0));
        assert_eq!(flying.stillness(at(10_000)), Stillness::None);
    }

    #[test]
    fn a_report_that_others_overtook_long_ago_is_lost() {
        let mut flying = Flying::default();
        flying.sent(1, at(0));
        flying.sent(1, at(59));
        flying.landed(1, at(59));
        assert_eq!(flying.stillness(at(200)), Stillness::None, "not yet");
        flying.sent(1, at(60));
        flying.landed(1, at(60));
        assert_eq!(flying.stillness(at(119)), Stillness::None);
        assert_eq!(flying.stillness(at(120)), Stillness::Lost);
    }

    #[test]
    fn while_nobody_has_reports_it_is_for_the_cluster_to_say() {
        let mut flying = Flying::default();
        flying.sent(1, at(0));
        assert_eq!(flying.stillness(at(299)), Stillness::None);
        assert_eq!(flying.stillness(at(300)), Stillness::Maybe);
    }

    #[test]
    fn a_watchdog_that_barked_waits_longer_each_time() {
        let mut flying = Flying::default();
        flying.sent(1, at(0));
        let mut watchdog = Watchdog::new();
        for (now, next) in [
            (300, 420),
            (420, 660),
            (660, 1_140),
            (1_140, 1_740),
            (1_740, 2_340),
        ] {
            assert_eq!(watchdog.look(&flying, at(now)), Stillness::Maybe);
            watchdog.renewed(at(now));
            assert_eq!(watchdog.look(&flying, at(next - 1)), Stillness::None);
        }
    }
}
