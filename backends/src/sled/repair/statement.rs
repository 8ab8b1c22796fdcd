//! What a repair declares, from what it found and what earlier ones declared.

use std::collections::HashMap;

use tidelog_core::StreamId;

use super::super::control::HoleFields;
use super::super::losses::{Known, StreamLoss};

/// What was found to be gone.
pub(super) struct Gone {
    /// All holes of the log, those of earlier repairs included.
    pub holes: Vec<HoleFields>,
    pub streams: HashMap<StreamId, StreamLoss>,
    /// How many events `streams` name.
    pub events: u64,
    /// Whether earlier repairs left something out.
    pub again: bool,
    /// Whether one of them said of something that is not known any more.
    pub forgotten: bool,
}

impl Gone {
    /// The holes that no earlier repair declared.
    pub(super) fn new_holes(&self, before: Option<&Known>) -> Vec<HoleFields> {
        let known = before.map(|before| before.holes.as_slice());
        let is_new = |hole: &&HoleFields| !known.unwrap_or_default().contains(hole);
        self.holes.iter().filter(is_new).cloned().collect()
    }

    /// The statement that stands for all losses from now on.
    pub(super) fn declare(mut self, before: Option<Known>) -> Known {
        let lost_now = positions(&self.new_holes(before.as_ref()));
        let had = before.clone().unwrap_or_default();
        for (stream, loss) in &mut self.streams {
            loss.accepted = is_accepted(&had, stream, loss);
        }
        let unnamed_now = if lost_now == 0 {
            0
        } else if self.again && (self.forgotten || before.is_none_or(|before| before.skip > 0)) {
            // Some sequences are missing because earlier repairs left them out: counting them proves
            // nothing.
            lost_now
        } else {
            positions(&self.holes)
                .saturating_sub(self.events)
                .saturating_sub(had.unnamed)
        };
        Known {
            holes: self.holes,
            streams: self.streams,
            unnamed: had.unnamed + unnamed_now,
            skip: had.skip + unnamed_now,
            accepted: had.accepted && lost_now == 0,
            segment: 0,
        }
    }
}

fn positions(holes: &[HoleFields]) -> u64 {
    let each = holes.iter();
    each.map(|hole| hole.last_position + 1 - hole.first_position)
        .sum()
}

/// Whether all that the stream lost was accepted before.
fn is_accepted(had: &Known, stream: &StreamId, loss: &StreamLoss) -> bool {
    let known = had.streams.get(stream);
    let explained = |(first, last): &(u64, u64)| {
        let declared = known.is_some_and(|known| {
            let holds = |(from, to): &(u64, u64)| from <= first && last <= to;
            known.lost.iter().any(holds)
        });
        declared || *last == had.floor(stream, first - 1)
    };
    let accepted = had.accepted || known.is_some_and(|known| known.accepted);
    accepted && loss.lost.iter().all(explained)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(first: u64, last: u64) -> HoleFields {
        HoleFields {
            first_commit: first,
            last_commit: last,
            first_position: first,
            last_position: last,
            hash_before: [1; 32],
            hash_after: [2; 32],
        }
    }

    fn stream() -> StreamId {
        StreamId::new("T", "1").unwrap()
    }

    fn gone(holes: Vec<HoleFields>, lost: Vec<(u64, u64)>, again: bool) -> Gone {
        let events = lost.iter().map(|(first, last)| last - first + 1).sum();
        let accepted = false;
        Gone {
            holes,
            streams: [(stream(), StreamLoss { lost, accepted })].into(),
            events,
            again,
            forgotten: false,
        }
    }

    #[test]
    fn streams_are_named_entirely_when_there_is_an_event_for_each_lost_position() {
        let all = gone(vec![hole(4, 6)], vec![(2, 4)], false).declare(None);
        assert_eq!((all.unnamed, all.skip, all.accepted), (0, 0, false));
        let some = gone(vec![hole(4, 6)], vec![(2, 3)], false).declare(None);
        assert_eq!((some.unnamed, some.skip), (1, 1));
    }

    #[test]
    fn what_was_accepted_stays_accepted_unless_more_is_lost() {
        let first = gone(vec![hole(4, 6)], vec![(2, 4)], false).declare(None);
        let mut accepted = first.clone();
        accepted.accepted = true;
        let same = gone(vec![hole(4, 6)], vec![(2, 4)], true).declare(Some(accepted.clone()));
        assert!(same.accepted && same.streams[&stream()].accepted);
        let more = gone(vec![hole(4, 6), hole(9, 9)], vec![(2, 4), (7, 7)], true);
        assert_eq!(more.new_holes(Some(&accepted)), [hole(9, 9)]);
        let more = more.declare(Some(accepted));
        assert!(!more.accepted && !more.streams[&stream()].accepted);
        assert_eq!(more.unnamed, 0);
        let refused = gone(vec![hole(4, 6)], vec![(2, 4)], true).declare(Some(first));
        assert!(!refused.streams[&stream()].accepted);
    }

    #[test]
    fn sequences_that_were_left_out_do_not_count_as_named() {
        let mut first = gone(vec![hole(4, 6)], vec![], false).declare(None);
        assert_eq!((first.unnamed, first.skip), (3, 3));
        first.accepted = true;
        // The stream was at 5 and went on at 9.
        let again = gone(vec![hole(4, 6), hole(9, 9)], vec![(6, 8)], true).declare(Some(first));
        assert_eq!((again.unnamed, again.skip), (4, 4));
        assert!(again.streams[&stream()].accepted);
    }
}
