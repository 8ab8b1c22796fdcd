//! How far one place is: offsets taken in order, settled in any.

use std::collections::VecDeque;

/// The offsets of a place that were taken, and which of them are settled. Offsets may be left out:
/// compaction and transactions leave holes.
#[derive(Clone, Debug, Default)]
pub(super) struct Offsets {
    /// Everything below it is settled; `None` until something is.
    next: Option<i64>,
    /// Taken from there on, in order, and whether it is settled; the first one is not.
    open: VecDeque<(i64, bool)>,
    /// The newest taken.
    taken: Option<i64>,
    /// Counts how often the place has begun again: offsets of a life before mean nothing now.
    life: u32,
}

impl Offsets {
    /// Takes the next offset, and answers in which life of the place. One at or below the newest is
    /// of a place that was made again: nothing that was taken before counts any more.
    pub(super) fn take(&mut self, offset: i64) -> u32 {
        if self.taken.is_some_and(|taken| offset <= taken) {
            *self = Self {
                life: self.life.wrapping_add(1),
                ..Self::default()
            };
        }
        self.taken = Some(offset);
        self.open.push_back((offset, false));
        self.life
    }

    /// Settles an offset that was taken in this life; any other changes nothing.
    pub(super) fn settle(&mut self, life: u32, offset: i64) {
        if life != self.life {
            return;
        }
        if let Ok(at) = self
            .open
            .binary_search_by_key(&offset, |(offset, _)| *offset)
            && let Some((_, is_settled)) = self.open.get_mut(at)
        {
            *is_settled = true;
        }
        while let Some((offset, true)) = self.open.front() {
            self.next = Some(offset + 1);
            self.open.pop_front();
        }
    }

    /// The first offset that is taken and not settled.
    pub(super) fn first_open(&self) -> Option<i64> {
        self.open.front().map(|(offset, _)| *offset)
    }

    /// In which life the place is.
    pub(super) fn life(&self) -> u32 {
        self.life
    }

    /// What is to be read next when everything is as it stands now.
    pub(super) fn next(&self) -> Option<i64> {
        self.next
    }

    /// The newest offset taken.
    pub(super) fn taken(&self) -> Option<i64> {
        self.taken
    }

    /// How many are taken and stand at or above the first that is not settled.
    pub(super) fn span(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_next_is_behind_the_last_below_which_all_are_settled(
            gaps in prop::collection::vec(1_i64..4, 1..60),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..120),
            take_first in 0_usize..60,
        ) {
            let all: Vec<i64> = gaps.iter().scan(-1, |at, gap| { *at += gap; Some(*at) }).collect();
            let mut offsets = Offsets::default();
            let (mut open, mut settled) = (BTreeSet::new(), BTreeSet::new());
            let mut rest = all.iter().copied();
            let mut take = |offsets: &mut Offsets, open: &mut BTreeSet<i64>| {
                if let Some(offset) = rest.next() {
                    offsets.take(offset);
                    open.insert(offset);
                }
            };
            (0..take_first).for_each(|_| take(&mut offsets, &mut open));
            for index in order {
                let offset = *index.get(&all);
                offsets.settle(0, offset);
                if open.remove(&offset) {
                    settled.insert(offset);
                }
                let first_open = open.first().copied().unwrap_or(i64::MAX);
                let below = settled.iter().filter(|at| **at < first_open);
                prop_assert_eq!(offsets.next(), below.max().map(|at| at + 1));
                let above = settled.iter().filter(|at| **at > first_open).count();
                prop_assert_eq!(offsets.span(), open.len() + above);
                take(&mut offsets, &mut open);
            }
        }
    }

    #[test]
    fn a_place_that_begins_again_forgets_what_it_was_and_old_settling_does_not_count() {
        let mut offsets = Offsets::default();
        let before = offsets.take(7);
        offsets.take(8);
        offsets.settle(before, 7);
        assert_eq!(offsets.next(), Some(8));
        let after = offsets.take(0);
        assert_ne!(before, after);
        offsets.settle(before, 0);
        assert_eq!((offsets.next(), offsets.span()), (None, 1));
        offsets.settle(after, 0);
        assert_eq!((offsets.next(), offsets.taken()), (Some(1), Some(0)));
    }

    #[test]
    fn what_was_never_taken_settles_nothing() {
        let mut offsets = Offsets::default();
        let life = offsets.take(3);
        offsets.settle(life, 4);
        offsets.settle(life, 2);
        assert_eq!((offsets.next(), offsets.span()), (None, 1));
    }
}
