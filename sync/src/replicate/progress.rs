//! How far a sink is: everything up to the end of the first commits of which nothing is left.

use std::collections::VecDeque;

use tidelog_backends::commits::{Commit, CommitEnd};

/// Commits taken and not settled.
#[derive(Debug)]
pub(crate) struct Progress {
    open: VecDeque<Open>,
    settled: CommitEnd,
    records: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Open {
    first: u64,
    end: CommitEnd,
    left: usize,
    records: usize,
    bytes: usize,
    /// Open until it is settled.
    _span: tracing::Span,
}

impl Progress {
    pub(crate) fn after(settled: CommitEnd) -> Self {
        Self {
            open: VecDeque::new(),
            settled,
            records: 0,
            bytes: 0,
        }
    }

    /// Takes the next commit, of which `parts` are to be done. Commits come in the order of the log.
    pub(crate) fn take(&mut self, commit: &Commit, parts: usize) {
        let records = commit.records as usize;
        self.records += records;
        self.bytes += commit.body.len();
        self.open.push_back(Open {
            first: commit.first_position,
            end: commit.end(),
            left: parts,
            records,
            bytes: commit.body.len(),
            _span: tracing::debug_span!(
                "commit",
                number = commit.number,
                first_position = commit.first_position,
                records
            ),
        });
        self.settle();
    }

    /// Part of the commit that holds `position` is done.
    pub(crate) fn done(&mut self, position: u64) {
        let at = self
            .open
            .partition_point(|open| open.end.position < position);
        if let Some(open) = self.open.get_mut(at).filter(|open| open.first <= position) {
            open.left = open.left.saturating_sub(1);
        }
        if at == 0 {
            self.settle();
        }
    }

    fn settle(&mut self) {
        while let Some(open) = self.open.front().filter(|open| open.left == 0) {
            self.settled = open.end;
            self.records -= open.records;
            self.bytes -= open.bytes;
            self.open.pop_front();
        }
    }

    /// Everything up to here is done.
    pub(crate) fn settled(&self) -> CommitEnd {
        self.settled
    }

    /// Bytes of what is taken and not settled.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records of what is taken and not settled.
    pub(crate) fn records(&self) -> usize {
        self.records
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn commit(number: u64, first: u64, records: u32) -> Commit {
        Commit {
            number,
            first_position: first,
            records,
            previous: [0; 32],
            hash: [u8::try_from(number % 251).unwrap(); 32],
            body: Bytes::from(vec![0; records as usize * 3]),
        }
    }

    fn genesis() -> CommitEnd {
        CommitEnd {
            number: 0,
            position: 0,
            hash: [0; 32],
        }
    }

    proptest! {
        #[test]
        fn it_is_always_the_end_of_the_last_commit_before_the_first_open_one(
            sizes in prop::collection::vec(1_u32..5, 1..12), holes: [bool; 12], order: u64,
        ) {
            let mut progress = Progress::after(genesis());
            let (mut commits, mut first) = (Vec::new(), 1);
            for (at, records) in sizes.iter().enumerate() {
                let commit = commit(at as u64 + 1, first, *records);
                first += u64::from(*records) + u64::from(holes[at]) * 7;
                progress.take(&commit, *records as usize);
                commits.push((commit, *records));
            }
            let mut left: Vec<u64> = commits.iter()
                .flat_map(|(commit, _)| commit.first_position..=commit.last_position()).collect();
            let mut seed = order;
            while !left.is_empty() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let position = left.remove(usize::try_from(seed >> 33).unwrap() % left.len());
                progress.done(position);
                let is_open = |commit: &Commit| left.iter()
                    .any(|at| (commit.first_position..=commit.last_position()).contains(at));
                let ends = commits.iter().map(|(commit, _)| commit).take_while(|commit| !is_open(commit));
                let expected = ends.last().map_or(genesis(), Commit::end);
                prop_assert_eq!(progress.settled(), expected);
                let open = commits.iter().map(|(commit, _)| commit).filter(|commit| commit.last_position() > expected.position);
                prop_assert_eq!(progress.records(), open.map(|commit| commit.records as usize).sum::<usize>());
            }
            prop_assert_eq!(progress.bytes(), 0);
        }
    }

    #[test]
    fn a_commit_of_which_nothing_is_to_be_done_settles_when_its_turn_comes() {
        let mut progress = Progress::after(genesis());
        progress.take(&commit(1, 1, 1), 1);
        progress.take(&commit(2, 2, 1), 0);
        assert_eq!((progress.settled().position, progress.records()), (0, 2));
        progress.done(1);
        assert_eq!(progress.settled(), commit(2, 2, 1).end());
    }
}
