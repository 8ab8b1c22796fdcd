//! Refusals that no repetition cures: a wrong password, a missing permission. One alone may pass, where a
//! broker has not read who may do what; a few in a row are for a person.

use std::time::Duration;

/// So many in a row.
const MOST: u32 = 3;
/// What is longer ago than this is of another time.
const IN_A_ROW: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Denials {
    count: u32,
    newest: Duration,
}

impl Denials {
    /// Counts one; whether a person is to be asked.
    pub(super) fn count(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.newest) > IN_A_ROW {
            self.count = 0;
        }
        (self.count, self.newest) = (self.count + 1, now);
        let is_over = self.count >= MOST;
        if is_over {
            self.count = 0;
        }
        is_over
    }

    /// Something was taken: it was none.
    pub(super) fn end(&mut self) {
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_third_in_a_row_is_for_a_person_and_whoever_tries_again_begins_anew() {
        let mut denials = Denials::default();
        let mut asks = Vec::new();
        for second in [1, 2, 3, 4, 5, 6] {
            asks.push(denials.count(at(second)));
        }
        assert_eq!(asks, [false, false, true, false, false, true]);
    }

    #[test]
    fn those_that_something_was_taken_between_or_much_time_are_in_no_row() {
        let mut denials = Denials::default();
        for second in [1, 2] {
            assert!(!denials.count(at(second)));
        }
        denials.end();
        for second in [3, 4, 1_000, 1_001] {
            assert!(!denials.count(at(second)));
        }
        assert!(denials.count(at(1_002)));
    }
}
