//! Which of the messages that were refused together is the one: found by halves.
//!
//! A broker refuses a batch whole, and nobody knows how batches were cut. So groups are sent with
//! nothing else under way to their topic, and what is refused of a group is halved. A group of one is
//! alone, however batches are cut.

use std::collections::VecDeque;

/// The lanes of one topic whose message was refused. Nothing else is sent to the topic meanwhile.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// Refused in ordinary traffic; a group when all that was under way has landed.
    accused: Vec<u32>,
    groups: VecDeque<Vec<u32>>,
    round: Option<Round>,
}

/// One group under way.
#[derive(Debug)]
struct Round {
    is_of_one: bool,
    unsent: VecDeque<u32>,
    waiting: usize,
    refused: Vec<u32>,
    again: Vec<u32>,
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoundEnd {
    /// This one was refused alone.
    Guilty(u32),
    /// There is nothing to say yet, or nobody was guilty.
    GoOn,
}

impl Suspects {
    pub(super) fn is_empty(&self) -> bool {
        self.accused.is_empty() && self.groups.is_empty() && self.round.is_none()
    }

    /// A message was refused beside others.
    pub(super) fn accuse(&mut self, lane: u32) {
        self.accused.push(lane);
    }

    /// Begins the next round if none is under way; only while nothing flies to the topic.
    pub(super) fn begin(&mut self) {
        if self.round.is_some() {
            return;
        }
        if !self.accused.is_empty() {
            let accused = std::mem::take(&mut self.accused);
            self.groups.push_back(accused);
        }
        self.round = self.groups.pop_front().map(|group| Round {
            is_of_one: group.len() == 1,
            unsent: group.into(),
            waiting: 0,
            refused: Vec::new(),
            again: Vec::new(),
        });
    }

    /// Whether a round is under way: reports are about it then.
    pub(super) fn is_in_round(&self) -> bool {
        self.round.is_some()
    }

    /// Whose message is to be sent next.
    pub(super) fn next(&self) -> Option<u32> {
        self.round.as_ref()?.unsent.front().copied()
    }

    /// That one is under way.
    pub(super) fn sent(&mut self) {
        if let Some(round) = &mut self.round {
            round.unsent.pop_front();
            round.waiting += 1;
        }
    }

    /// That one has nothing to be sent any more.
    pub(super) fn skipped(&mut self) {
        if let Some(round) = &mut self.round {
            round.unsent.pop_front();
        }
    }

    pub(super) fn delivered(&mut self) {
        if let Some(round) = &mut self.round {
            round.waiting = round.waiting.saturating_sub(1);
        }
    }

    pub(super) fn refused(&mut self, lane: u32) {
        if let Some(round) = &mut self.round {
            round.waiting = round.waiting.saturating_sub(1);
            round.refused.push(lane);
        }
    }

    /// Nothing is known of it: it is tried again.
    pub(super) fn again(&mut self, lane: u32) {
        if let Some(round) = &mut self.round {
            round.waiting = round.waiting.saturating_sub(1);
            round.again.push(lane);
        }
    }

    /// Ends the round when all of it has landed.
    pub(super) fn end(&mut self) -> Option<RoundEnd> {
        let is_over = |round: &Round| round.unsent.is_empty() && round.waiting == 0;
        if !self.round.as_ref().is_some_and(is_over) {
            return None;
        }
        let mut round = self.round.take()?;
        if round.is_of_one
            && let Some(guilty) = round.refused.pop()
        {
            return Some(RoundEnd::Guilty(guilty));
        }
        if !round.again.is_empty() {
            self.groups.push_front(round.again);
        }
        let half = round.refused.len().div_ceil(2);
        let second = round.refused.split_off(half);
        for group in [second, round.refused] {
            if !group.is_empty() {
                self.groups.push_front(group);
            }
        }
        Some(RoundEnd::GoOn)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A broker that cuts batches as `seed` says, refuses one that holds a guilty message whole, and
    /// loses some reports' outcomes. Answers who was found guilty, in how many rounds.
    fn judge(
        lanes: u32,
        guilty: &BTreeSet<u32>,
        mut seed: u64,
        flaky: bool,
    ) -> (BTreeSet<u32>, usize) {
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(seed >> 33).unwrap() % below
        };
        let mut suspects = Suspects::default();
        (0..lanes).for_each(|lane| suspects.accuse(lane));
        let (mut found, mut rounds) = (BTreeSet::new(), 0);
        while !suspects.is_empty() {
            rounds += 1;
            assert!(rounds < 10_000, "no end");
            suspects.begin();
            let mut sent = Vec::new();
            while let Some(lane) = suspects.next() {
                suspects.sent();
                sent.push(lane);
            }
            while !sent.is_empty() {
                let batch: Vec<u32> = sent.drain(..=next(sent.len())).collect();
                let is_refused = batch.iter().any(|lane| guilty.contains(lane));
                for lane in batch {
                    assert_eq!(suspects.end(), None, "reports are missing");
                    match (flaky && next(8) == 0, is_refused) {
                        (true, _) => suspects.again(lane),
                        (false, true) => suspects.refused(lane),
                        (false, false) => suspects.delivered(),
                    }
                }
            }
            if let Some(RoundEnd::Guilty(lane)) = suspects.end() {
                assert!(found.insert(lane), "found twice");
            }
        }
        (found, rounds)
    }

    proptest! {
        #[test]
        fn exactly_the_guilty_are_found_however_batches_are_cut(
            lanes in 1_u32..200, guilty in prop::collection::btree_set(0_u32..200, 0..6), seed: u64, flaky: bool,
        ) {
            let guilty: BTreeSet<u32> = guilty.into_iter().filter(|lane| *lane < lanes).collect();
            let (found, rounds) = judge(lanes, &guilty, seed, flaky);
            prop_assert_eq!(&found, &guilty);
            let halvings = usize::try_from(lanes.ilog2() + 2).unwrap();
            prop_assert!(flaky || rounds <= 2 * guilty.len() * halvings + guilty.len() + 1, "{} rounds", rounds);
        }
    }

    #[test]
    fn one_guilty_among_ten_thousand_takes_some_twenty_rounds() {
        let (found, rounds) = judge(10_000, &BTreeSet::from([7_777]), 1, false);
        assert_eq!(found, BTreeSet::from([7_777]));
        assert!(rounds <= 30, "{rounds}");
    }

    #[test]
    fn one_that_was_refused_beside_others_is_not_guilty_before_it_was_tried_alone() {
        let mut suspects = Suspects::default();
        suspects.accuse(1);
        suspects.accuse(2);
        suspects.begin();
        suspects.sent();
        suspects.sent();
        suspects.delivered();
        suspects.refused(2);
        assert_eq!(suspects.end(), Some(RoundEnd::GoOn));
        suspects.begin();
        assert_eq!(suspects.next(), Some(2));
        suspects.sent();
        suspects.refused(2);
        assert_eq!(suspects.end(), Some(RoundEnd::Guilty(2)));
        assert!(suspects.is_empty());
    }
}
