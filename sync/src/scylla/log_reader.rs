//! The commits of an origin's log as the replica has them, in order, each proven by the hash chain.

use std::collections::VecDeque;

use tidelog_backends::commits::{Commit, CommitEnd, CommitRecord, DeclaredHole};
use tidelog_backends::wire::{Wire, WireError};

use super::lineage::Lineage;
use super::log_rows_window::{Candidate, Window};

/// Reads one log.
///
/// Two clones of a store may both have sent rows of the same positions. Each row says which commit
/// it is of, so that each history can be read apart; both may be whole. Which one is the epoch's is
/// said by the hash at a place further on that is known: where the epoch was left, or its watermark.
pub(super) struct LogReader {
    window: Window,
    chunk_records: u64,
    end: CommitEnd,
    /// The newest place of the log that is known.
    goal: CommitEnd,
    /// The commits next to be taken, where there is more than one history.
    path: VecDeque<[u8; 32]>,
    left_out: u64,
}

/// What comes next in a log.
#[derive(Debug)]
pub(super) enum Next {
    /// A commit that follows the one before.
    Commit(Commit),
    /// None follows, by the rows that there are.
    Missing,
    /// More than one follows, and nothing says which is the epoch's.
    Undecided,
    /// The place reached is known to have another hash.
    Mismatch(CommitEnd),
}

impl LogReader {
    /// Reads what follows `end` in the log of `lineage`, of which `goal` is a place.
    pub(super) fn new(
        lineage: Lineage,
        chunk_records: u64,
        end: CommitEnd,
        goal: CommitEnd,
    ) -> Self {
        Self {
            window: Window::new(lineage, chunk_records, end.position + 1),
            chunk_records,
            end,
            goal,
            path: VecDeque::new(),
            left_out: 0,
        }
    }

    /// Where the last commit read ends.
    pub(super) fn end(&self) -> CommitEnd {
        self.end
    }

    pub(super) fn lineage(&self) -> &Lineage {
        self.window.lineage()
    }

    /// How many rows of other histories were passed over.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The log has grown: `goal` is a place of it, and `lineage` may have one epoch more.
    pub(super) fn goes_on(&mut self, lineage: Lineage, goal: CommitEnd) {
        if *self.window.lineage() != lineage {
            self.window.set_lineage(lineage);
            self.window.rewind(self.end.position + 1);
        }
        self.goal = goal;
    }

    /// Reads what is missing once more, from a quorum of all data centres; whether that was not
    /// done before.
    pub(super) fn widen(&mut self) -> bool {
        self.window.widen(self.end.position + 1)
    }

    /// Reads what is missing once more the next time.
    pub(super) fn again(&mut self) {
        self.window.rewind(self.end.position + 1);
    }

    /// Passes over a hole that the log declares.
    pub(super) fn skip(&mut self, hole: &DeclaredHole) {
        self.move_to(CommitEnd {
            number: hole.last_commit,
            position: hole.last_position,
            hash: hole.hash_after,
        });
    }

    /// The next commit that ends by position `bound`. Cancel safe.
    pub(super) async fn next<W: Wire + ?Sized>(
        &mut self,
        wire: &W,
        bound: u64,
    ) -> Result<Next, WireError> {
        let known = known_at(self.lineage(), &self.goal, self.end.position);
        if known.is_some_and(|known| known != self.end.hash) {
            return Ok(Next::Mismatch(self.end));
        }
        let last = last_from(self.lineage(), &self.goal, self.end.position + 1).min(bound);
        let mut found = following(&mut self.window, wire, &self.end, last).await?;
        let first = found.first().map(Commit::end);
        // Where the hash is known, it decides.
        found.retain(|commit| {
            let known = known_at(self.lineage(), &self.goal, commit.last_position());
            known.is_none_or(|known| known == commit.hash)
        });
        let taken = match (found.len(), first) {
            (0, Some(other)) => return Ok(Next::Mismatch(other)),
            (0, None) => return Ok(Next::Missing),
            (1, _) => found.into_iter().next(),
            _ => {
                if self.path.is_empty() {
                    let (lineage, starts) = (self.window.lineage(), vec![self.end]);
                    let way = scout(wire, lineage, self.chunk_records, starts, &self.goal).await?;
                    self.path = way.map(|way| way.path).unwrap_or_default();
                }
                let Some(hash) = self.path.front() else {
                    return Ok(Next::Undecided);
                };
                found.into_iter().find(|commit| commit.hash == *hash)
            }
        };
        let Some(commit) = taken else {
            return Ok(Next::Missing);
        };
        if self.path.front() == Some(&commit.hash) {
            self.path.pop_front();
        }
        self.move_to(commit.end());
        Ok(Next::Commit(commit))
    }

    fn move_to(&mut self, end: CommitEnd) {
        let used = end.position - self.end.position;
        let passed = self.window.forget_below(end.position + 1);
        self.left_out += passed.saturating_sub(used);
        if self.window.covered() <= end.position {
            self.window.rewind(end.position + 1);
        }
        self.end = end;
    }
}

/// Where the log of `lineage` is at `position`: the newest end of a commit at or below it, and the
/// commits to take from there where there is a choice. `None` when the rows do not tell.
///
/// Only `goal` proves which of two histories is the epoch's; where there is one, it is taken.
pub(super) async fn locate<W: Wire + ?Sized>(
    wire: &W,
    lineage: &Lineage,
    chunk_records: u64,
    position: u64,
    goal: CommitEnd,
) -> Result<Option<LogReader>, WireError> {
    let reader = |end| LogReader::new(lineage.clone(), chunk_records, end, goal);
    if position == 0 {
        let genesis = CommitEnd::genesis(lineage.origin, lineage.first_epoch);
        return Ok(Some(reader(genesis)));
    }
    if position == goal.position {
        return Ok(Some(reader(goal)));
    }
    let mut starts = Vec::new();
    for (first, end) in ends_at(wire, lineage, chunk_records, position).await? {
        if end.position == position {
            starts.push(end);
        } else if first == 1 {
            starts.push(CommitEnd::genesis(lineage.origin, lineage.first_epoch));
        } else {
            // In the middle of a commit: the one before it.
            let before = ends_at(wire, lineage, chunk_records, first - 1).await?;
            let before = before.into_iter().map(|(_, before)| before);
            starts.extend(before.filter(|b| b.position + 1 == first && b.number + 1 == end.number));
        }
    }
    starts.dedup();
    match starts.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(reader(*only))),
        _ => {
            let way = scout(wire, lineage, chunk_records, starts, &goal).await?;
            Ok(way.map(|way| {
                let mut reader = reader(way.start);
                reader.path = way.path;
                reader
            }))
        }
    }
}

/// The first positions and ends of the commits that have a row at `position`.
async fn ends_at<W: Wire + ?Sized>(
    wire: &W,
    lineage: &Lineage,
    chunk_records: u64,
    position: u64,
) -> Result<Vec<(u64, CommitEnd)>, WireError> {
    let window = Window::new(lineage.clone(), chunk_records, position);
    let mut window = window.without_records();
    while window.covered() <= position {
        window.read(wire, position).await?;
    }
    let mut ends: Vec<(u64, CommitEnd)> = Vec::new();
    for row in window.at(position) {
        let last = row.commit_first.saturating_add(u64::from(row.commit_count));
        let end = CommitEnd {
            number: row.commit_number,
            position: last.saturating_sub(1),
            hash: row.commit_hash,
        };
        if !ends.iter().any(|(_, known)| *known == end) && row.commit_first <= position {
            ends.push((row.commit_first, end));
        }
    }
    Ok(ends)
}

/// One history among several.
struct Way {
    start: CommitEnd,
    end: CommitEnd,
    /// Its commits, as far as there is a choice.
    path: VecDeque<[u8; 32]>,
}

/// The history that leads from one of `starts` to the next place that is known; `None` when none
/// does. Reads all of the way, and keeps a hash for each commit of the part where there is a choice.
async fn scout<W: Wire + ?Sized>(
    wire: &W,
    lineage: &Lineage,
    chunk_records: u64,
    starts: Vec<CommitEnd>,
    goal: &CommitEnd,
) -> Result<Option<Way>, WireError> {
    let from = starts.iter().map(|start| start.position).min();
    let mut window = Window::new(lineage.clone(), chunk_records, from.unwrap_or(0) + 1);
    let way = |start| Way {
        start,
        end: start,
        path: VecDeque::new(),
    };
    let mut ways: Vec<Way> = starts.into_iter().map(way).collect();
    loop {
        let choice = ways.len() > 1;
        // The one that is furthest behind goes on.
        ways.sort_by_key(|way| std::cmp::Reverse(way.end.position));
        let Some(mut way) = ways.pop() else {
            return Ok(None);
        };
        let known = known_at(lineage, goal, way.end.position);
        if way.end != way.start
            && let Some(known) = known
        {
            if known == way.end.hash {
                return Ok(Some(way));
            }
            continue;
        }
        window.forget_below(way.end.position + 1);
        let last = last_from(lineage, goal, way.end.position + 1).min(goal.position);
        let mut found = following(&mut window, wire, &way.end, last).await?;
        let choice = choice || found.len() > 1;
        let one = found.pop();
        for commit in found {
            let mut path = way.path.clone();
            path.push_back(commit.hash);
            ways.push(Way {
                start: way.start,
                end: commit.end(),
                path,
            });
        }
        if let Some(commit) = one {
            if choice {
                way.path.push_back(commit.hash);
            }
            way.end = commit.end();
            ways.push(way);
        }
    }
}

/// Up to where a commit may reach that begins at `position`: no further than the next known end of
/// one.
fn last_from(lineage: &Lineage, goal: &CommitEnd, position: u64) -> u64 {
    let stretch = lineage.stretch(position);
    let last = stretch.map_or(u64::MAX, |stretch| stretch.to);
    if position <= goal.position {
        last.min(goal.position)
    } else {
        last
    }
}

/// The chain hash after `position`, where it is known.
fn known_at(lineage: &Lineage, goal: &CommitEnd, position: u64) -> Option<[u8; 32]> {
    if position == goal.position {
        return Some(goal.hash);
    }
    let mut known = lineage.epochs().filter(|stretch| stretch.to == position);
    known.next().and_then(|stretch| stretch.hash)
}

/// The commits that follow `end` and reach no further than `last`, as the chain proves.
async fn following<W: Wire + ?Sized>(
    window: &mut Window,
    wire: &W,
    end: &CommitEnd,
    last: u64,
) -> Result<Vec<Commit>, WireError> {
    let position = end.position + 1;
    if position > last {
        return Ok(Vec::new());
    }
    while window.covered() <= position {
        window.read(wire, last).await?;
    }
    let candidates: Vec<Candidate> = window.candidates(position, last);
    let wanted = candidates.iter().map(|candidate| candidate.end.position);
    let wanted = wanted.max().unwrap_or(position);
    while window.covered() <= wanted {
        window.read(wire, last).await?;
    }
    let whole = |candidate| window.commit(end, candidate);
    Ok(candidates.iter().filter_map(whole).collect())
}

/// Looks for the record in which a repair declares that nothing follows `end` up to somewhere.
///
/// What it says is proven by the commits behind the hole, whose chain goes on from it.
pub(super) async fn declared_hole<W: Wire + ?Sized>(
    wire: &W,
    reader: &LogReader,
) -> Result<Option<DeclaredHole>, WireError> {
    let (end, goal) = (reader.end, reader.goal.position);
    let from = end.position + 1;
    let mut window = Window::new(reader.lineage().clone(), reader.chunk_records, from);
    loop {
        let at = window.covered();
        let came = window.read(wire, u64::MAX).await?;
        for row in window.rows() {
            let Ok(record) = CommitRecord::read(&row.record) else {
                continue;
            };
            let holes = record.holes().into_iter().flatten();
            let mut fitting = holes.filter(|hole| {
                hole.first_position == from
                    && hole.first_commit == end.number + 1
                    && hole.hash_before == end.hash
                    && hole.last_position >= from
            });
            if let Some(hole) = fitting.next() {
                return Ok(Some(hole));
            }
        }
        window.forget_below(window.covered());
        if came == 0 && at > goal || window.covered() == u64::MAX {
            return Ok(None);
        }
    }
}
