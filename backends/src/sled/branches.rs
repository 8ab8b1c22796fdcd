//! Streams whose events gave way to others: under which name the index knows what of them.
//!
//! What is recorded of a stream after its events were superseded at position `at` stands in the index
//! under a name of its own, so neither pages nor runs know of branches. A stream as of some position
//! is then a list of pieces: its plain name up to the first branch that counts, that branch's name up
//! to the next one, and so on. Where nothing was ever superseded there is nothing here, and one flag
//! says so.

use std::collections::HashMap;
use std::sync::Arc;

use tidelog_core::{StreamId, Superseded};

use crate::primitives::RwLock;
use crate::primitives::atomic::{AtomicBool, Ordering};

/// One branch of a stream: from position `at` on its events have sequences from `from` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Branch {
    pub from: u64,
    pub at: u64,
}

/// The branches of all streams.
pub(crate) struct Branches {
    any: AtomicBool,
    streams: RwLock<HashMap<StreamId, Arc<[Branch]>>>,
}

/// All branches of one stream, ascending by position.
#[derive(Clone)]
pub(crate) struct Lineage {
    stream: StreamId,
    branches: Arc<[Branch]>,
}

/// Sequences of a stream that stand under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub name: StreamId,
    pub from: u64,
    pub to: u64,
}

impl Default for Branches {
    fn default() -> Self {
        Self {
            any: AtomicBool::new(false),
            streams: RwLock::new(HashMap::new()),
        }
    }
}

impl Branches {
    /// Whether no stream has any.
    pub(crate) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    /// The branches of `stream`, if it has any.
    pub(crate) fn of(&self, stream: &StreamId) -> Option<Lineage> {
        if self.is_empty() {
            return None;
        }
        let branches = Arc::clone(self.streams.read().get(stream)?);
        Some(Lineage {
            stream: stream.clone(),
            branches,
        })
    }

    /// Takes what the log says.
    pub(crate) fn add(&self, what: &Superseded) {
        let mut streams = self.streams.write();
        let known = streams.entry(what.stream.clone()).or_default();
        let new = Branch {
            from: what.from,
            at: what.at,
        };
        let mut all: Vec<Branch> = known.iter().copied().chain([new]).collect();
        // A repair may say late what it has found out, and a later one says it again: it may have
        // known less.
        all.sort_unstable_by_key(|branch| (branch.at, branch.from));
        all.dedup_by_key(|branch| branch.at);
        *known = all.into();
        self.any.store(true, Ordering::Release);
    }

    /// The name of `stream` in the index for what is recorded at `position`; `None`: its own.
    pub(crate) fn name_at(&self, stream: &StreamId, position: u64) -> Option<StreamId> {
        self.of(stream)?.name_at(position)
    }

    /// Where the log says that the event gave way to others.
    pub(crate) fn superseded_at(
        &self,
        stream: &StreamId,
        sequence: u64,
        position: u64,
    ) -> Option<u64> {
        self.of(stream)?.superseded_at(sequence, position)
    }

    /// The lowest sequence from which events of `stream` up to `position` have given way since.
    pub(crate) fn gives_way_from(&self, stream: &StreamId, position: u64) -> Option<u64> {
        self.superseded_between(stream, (position, u64::MAX))
    }

    /// The lowest sequence of `stream` that was superseded at a position above `after`, up to `to`.
    pub(crate) fn superseded_between(
        &self,
        stream: &StreamId,
        (after, to): (u64, u64),
    ) -> Option<u64> {
        let lineage = self.of(stream)?;
        let within = |branch: &&Branch| after < branch.at && branch.at <= to;
        let within = lineage.branches.iter().filter(within);
        within.map(|branch| branch.from).min()
    }
}

impl Lineage {
    /// The newest branch.
    pub(crate) fn newest(&self) -> Option<Branch> {
        self.branches.last().copied()
    }

    /// The first sequence of the branch that a record at `position` belongs to; 1 before all.
    pub(crate) fn first_at(&self, position: u64) -> u64 {
        self.branch_at(position).map_or(1, |branch| branch.from)
    }

    /// Whether a branch began at this position.
    pub(crate) fn has(&self, at: u64) -> bool {
        self.branches.iter().any(|branch| branch.at == at)
    }

    fn branch_at(&self, position: u64) -> Option<&Branch> {
        let branches = self.branches.iter().rev();
        branches.into_iter().find(|branch| branch.at <= position)
    }

    /// See [`Branches::name_at`].
    pub(crate) fn name_at(&self, position: u64) -> Option<StreamId> {
        let branch = self.branch_at(position)?;
        Some(self.stream.branch(branch.at))
    }

    fn superseded_at(&self, sequence: u64, position: u64) -> Option<u64> {
        let mut branches = self.branches.iter();
        let by = branches.find(|branch| position < branch.at && branch.from <= sequence);
        by.map(|branch| branch.at)
    }

    /// What makes up sequences `from` to `to` of the stream as of position `pin`, ascending.
    pub(crate) fn pieces(&self, (from, to): (u64, u64), pin: u64) -> Vec<Piece> {
        let mut counting: Vec<Branch> = Vec::new();
        for branch in self.branches.iter().filter(|branch| branch.at <= pin) {
            while counting.last().is_some_and(|last| last.from >= branch.from) {
                counting.pop();
            }
            counting.push(*branch);
        }
        let names = counting.iter().map(|branch| self.stream.branch(branch.at));
        let names = std::iter::once(self.stream.clone()).chain(names);
        let firsts = counting.iter().map(|branch| branch.from);
        let firsts = std::iter::once(1).chain(firsts);
        let ends = counting.iter().map(|branch| branch.from - 1);
        let ends = ends.chain([u64::MAX]);
        let pieces = names
            .zip(firsts)
            .zip(ends)
            .map(|((name, first), end)| Piece {
                name,
                from: first.max(from),
                to: end.min(to),
            });
        pieces.filter(|piece| piece.from <= piece.to).collect()
    }

    /// For each time that events were superseded, what makes up those.
    pub(crate) fn superseded(&self) -> impl Iterator<Item = Vec<Piece>> + '_ {
        let branches = self.branches.iter();
        branches.map(|branch| self.pieces((branch.from, u64::MAX), branch.at - 1))
    }
}

#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
#[allow(clippy::unwrap_used, reason = "a test that fails shall stop")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tidelog_core::{EventId, StreamHead, Supersession};

    fn stream() -> StreamId {
        StreamId::new("Till", "7").unwrap()
    }

    fn superseded(from: u64, at: u64) -> Superseded {
        let head = StreamHead {
            sequence: 0,
            event_id: EventId::from_bytes([0; 16]),
        };
        Superseded::new(&Supersession::new(stream(), head, from), at)
    }

    fn branches(list: &[(u64, u64)]) -> Branches {
        let branches = Branches::default();
        for (from, at) in list {
            branches.add(&superseded(*from, *at));
        }
        branches
    }

    fn named(pieces: &[Piece]) -> Vec<(String, u64, u64)> {
        let named = |piece: &Piece| {
            let name = piece.name.as_str().replace('\u{1}', "@");
            (name, piece.from, piece.to)
        };
        pieces.iter().map(named).collect()
    }

    #[test]
    fn a_stream_is_read_in_pieces_as_of_a_position() {
        let branches = branches(&[(5, 100), (9, 200), (7, 300)]);
        let lineage = branches.of(&stream()).unwrap();
        let at = |pin| named(&lineage.pieces((1, u64::MAX), pin));
        let max = u64::MAX;
        assert_eq!(at(99), [("Till/7".to_owned(), 1, max)]);
        assert_eq!(
            at(100),
            [
                ("Till/7".to_owned(), 1, 4),
                ("Till/7@100".to_owned(), 5, max)
            ]
        );
        let third = [
            ("Till/7".to_owned(), 1, 4),
            ("Till/7@100".to_owned(), 5, 6),
            ("Till/7@300".to_owned(), 7, max),
        ];
        assert_eq!(at(300), third, "what 200 began at 9 is hidden by 7");
        let inside = lineage.pieces((4, 5), u64::MAX);
        assert_eq!(named(&inside).len(), 2);
        assert_eq!(lineage.pieces((5, 4), u64::MAX), []);
        let gone: Vec<_> = lineage.superseded().map(|run| named(&run)).collect();
        let of_the_last = [
            ("Till/7@100".to_owned(), 7, 8),
            ("Till/7@200".to_owned(), 9, max),
        ];
        assert_eq!(gone[2], of_the_last);
    }

    #[test]
    fn a_branch_from_the_first_event_leaves_nothing_of_the_plain_name() {
        let branches = branches(&[(1, 10)]);
        let lineage = branches.of(&stream()).unwrap();
        let pieces = lineage.pieces((1, u64::MAX), 10);
        assert_eq!(named(&pieces), [("Till/7@10".to_owned(), 1, u64::MAX)]);
    }

    #[test]
    fn nothing_is_known_of_streams_without_branches() {
        assert!(Branches::default().is_empty());
        assert!(Branches::default().of(&stream()).is_none());
        let other = branches(&[(1, 10)]);
        assert!(other.of(&stream().sibling("8").unwrap()).is_none());
    }

    proptest! {
        /// Against a list of events that is cut and goes on.
        #[test]
        fn pieces_and_names_are_those_of_a_list_that_is_cut(
            steps in proptest::collection::vec((0_u64..3, 0_u64..8), 1..24),
        ) {
            let branches = Branches::default();
            // What stands in the stream: (sequence, position); all ever recorded; views by position.
            let mut visible: Vec<(u64, u64)> = Vec::new();
            let mut recorded: Vec<(u64, u64)> = Vec::new();
            let mut views: Vec<Vec<(u64, u64)>> = vec![Vec::new()];
            for (step, n) in steps {
                let position = views.len() as u64;
                let head = visible.len() as u64;
                if step == 0 {
                    let from = (head + 1).saturating_sub(n).max(1);
                    branches.add(&superseded(from, position));
                    visible.retain(|(sequence, _)| *sequence < from);
                } else {
                    visible.push((head + 1, position));
                    recorded.push((head + 1, position));
                }
                views.push(visible.clone());
            }
            let name = |position| {
                branches.name_at(&stream(), position).unwrap_or_else(stream)
            };
            let Some(lineage) = branches.of(&stream()) else { return Ok(()) };
            for (pin, view) in views.iter().enumerate() {
                let pieces = lineage.pieces((1, u64::MAX), pin as u64);
                for (sequence, position) in recorded.iter().filter(|(_, at)| *at <= pin as u64) {
                    let in_a_piece = pieces.iter().any(|piece| {
                        piece.name == name(*position)
                            && (piece.from..=piece.to).contains(sequence)
                    });
                    prop_assert_eq!(in_a_piece, view.contains(&(*sequence, *position)));
                }
            }
            for (sequence, position) in recorded {
                let gone = branches.superseded_at(&stream(), sequence, position);
                let later = (0_u64..).zip(&views).filter(|(pin, _)| *pin > position);
                let mut later = later.filter(|(_, view)| !view.contains(&(sequence, position)));
                prop_assert_eq!(gone, later.next().map(|(pin, _)| pin));
            }
        }
    }
}
