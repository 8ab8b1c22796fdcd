//! Up to where everything is settled, when streams are handled side by side.

use std::collections::VecDeque;

use crate::clock::Timestamp;
use crate::envelope::EventEnvelope;
use crate::id::EventId;

/// A place in a log, with what proves that it is this log.
///
/// A position alone proves nothing: after a restored backup, or a power cut on a log that was not
/// synced, other events may stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The position; 0 before the first record.
    pub position: u64,
    /// The record there; nil at 0, and where the record is gone since a repair.
    pub event_id: EventId,
    /// When it was recorded; 0 at 0.
    pub recorded_time: Timestamp,
}

impl Mark {
    /// Before the first record.
    pub const START: Self = Self::unproven(0);

    /// A place whose record is gone.
    pub const fn unproven(position: u64) -> Self {
        Self {
            position,
            event_id: EventId::from_bytes([0; 16]),
            recorded_time: Timestamp::from_micros(0),
        }
    }

    /// The place of `event`; `None` when it has no position.
    pub fn of(event: &EventEnvelope) -> Option<Self> {
        Some(Self {
            position: event.position?,
            event_id: event.event_id,
            recorded_time: event.recorded_time,
        })
    }

    /// Whether it can be told if the log's record at this place is the one meant.
    pub fn is_proven(&self) -> bool {
        *self != Self::unproven(self.position)
    }
}

/// What was taken from a log in order and is settled in any order: everything up to the mark is.
///
/// ```
/// use tidelog_core::{Mark, Settled};
/// let mut settled = Settled::after(Mark::START);
/// (1..=3).for_each(|position| settled.take(Mark::unproven(position)));
/// settled.settle(2);
/// assert_eq!(settled.mark().position, 0);
/// settled.settle(1);
/// assert_eq!((settled.mark().position, settled.span()), (2, 1));
/// ```
#[derive(Clone, Debug)]
pub struct Settled {
    mark: Mark,
    /// Taken above the mark, in order, and whether it is settled; the first one is not.
    above: VecDeque<(Mark, bool)>,
}

impl Settled {
    /// Everything up to `mark` is settled, and nothing above it is taken.
    pub fn after(mark: Mark) -> Self {
        Self {
            mark,
            above: VecDeque::new(),
        }
    }

    /// The last place up to which all is settled.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// How many records above the mark are taken.
    pub fn span(&self) -> usize {
        self.above.len()
    }

    /// Position of the newest record taken.
    pub fn taken(&self) -> u64 {
        self.above
            .back()
            .map_or(self.mark.position, |(mark, _)| mark.position)
    }

    /// Takes the next record. One at or below the newest taken is passed over. Positions may be
    /// left out: what stood there is gone.
    pub fn take(&mut self, mark: Mark) {
        if mark.position > self.taken() {
            self.above.push_back((mark, false));
        }
    }

    /// Settles the record at `position`, if it is taken and above the mark. Answers whether the
    /// mark has moved.
    pub fn settle(&mut self, position: u64) -> bool {
        if let Ok(at) = self
            .above
            .binary_search_by_key(&position, |(mark, _)| mark.position)
            && let Some((_, is_settled)) = self.above.get_mut(at)
        {
            *is_settled = true;
        }
        let before = self.mark.position;
        while let Some((mark, true)) = self.above.front() {
            self.mark = *mark;
            self.above.pop_front();
        }
        self.mark.position > before
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_mark_is_the_last_taken_record_below_which_all_are_settled(
            gaps in prop::collection::vec(1_u64..3, 1..60),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..120),
            take_first in 0_usize..60,
        ) {
            let positions: Vec<u64> = gaps.iter().scan(5, |at, gap| { *at += gap; Some(*at) }).collect();
            let mut settled = Settled::after(Mark::unproven(5));
            let mut open: BTreeSet<u64> = BTreeSet::new();
            let mut taken = 5;
            let mut rest = positions.iter();
            for position in rest.by_ref().take(take_first) {
                settled.take(Mark::unproven(*position));
                open.insert(*position);
                taken = *position;
            }
            for index in order {
                let position = *index.get(&positions);
                let before = settled.mark().position;
                let moved = settled.settle(position);
                open.remove(&position);
                if let Some(position) = rest.next() {
                    settled.take(Mark::unproven(*position));
                    open.insert(*position);
                    taken = *position;
                }
                let first_open = open.first().copied().unwrap_or(u64::MAX);
                let below = positions.iter().filter(|at| **at < first_open && **at <= taken);
                prop_assert_eq!(settled.taken(), taken);
                // What was taken after settling moves the mark only with the next settling.
                let mark = below.max().copied().unwrap_or(5);
                prop_assert_eq!(settled.mark().position, mark);
                prop_assert_eq!(moved, mark > before);
                prop_assert_eq!(settled.span(), positions.iter().filter(|at| **at > mark && **at <= taken).count());
            }
        }
    }

    #[test]
    fn what_was_settled_or_never_taken_changes_nothing() {
        let mut settled = Settled::after(Mark::START);
        assert!(!settled.settle(1));
        settled.take(Mark::unproven(1));
        settled.take(Mark::unproven(1));
        assert_eq!(settled.span(), 1);
        assert!(settled.settle(1));
        assert!(!settled.settle(1));
        settled.take(Mark::unproven(1));
        assert_eq!(settled.span(), 0);
    }
}
