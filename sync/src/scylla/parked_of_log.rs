//! What the epochs of a log have parked, without what another copy of its store has resolved there.
//!
//! Two copies that live on may both park in one epoch, before one of them knows that it lost it. What
//! the other one resolved says nothing of the log that the epoch is left to.

use std::collections::BTreeMap;

use tidelog_backends::commits::{Commit, CommitEnd};
use tidelog_backends::wire::{ParkedKey, ParkedRow, Wire, WireError};
use tidelog_core::RecordKind;

use super::ask;
use super::lineage::Lineage;
use super::log_reader::{Next, locate};
use super::probe::has_event;

/// How the keyspace cuts what is long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub chunk_records: u64,
    pub bucket_events: u64,
}

/// Reads it, and remembers whose it is: a few requests for each range that gave way,
/// once.
#[derive(Default)]
pub(super) struct ParkedOfLog(BTreeMap<ParkedKey, bool>);

impl ParkedOfLog {
    /// Each row with the last position of its epoch. `goal` is a place of the log that is known.
    pub(super) async fn read(
        &mut self,
        wire: &dyn Wire,
        lineage: &Lineage,
        sizes: Sizes,
        goal: CommitEnd,
    ) -> Result<Vec<(ParkedRow, u64)>, WireError> {
        let mut all = Vec::new();
        for stretch in lineage.epochs() {
            for row in ask::parked(wire, lineage.origin, stretch.epoch).await? {
                let first = row.key.first_position;
                let gave_way = row.until_position.is_some_and(|until| until > first);
                if !gave_way || self.is_of(wire, lineage, sizes, goal, &row).await? {
                    all.push((row, stretch.to));
                }
            }
        }
        Ok(all)
    }

    /// Whether what gave way is of this log. What nobody can tell counts as such: it stays hidden.
    async fn is_of(
        &mut self,
        wire: &dyn Wire,
        lineage: &Lineage,
        sizes: Sizes,
        goal: CommitEnd,
        row: &ParkedRow,
    ) -> Result<bool, WireError> {
        let first = row.key.first_position;
        if first > goal.position {
            // It holds back nothing that is settled.
            return Ok(true);
        }
        if let Some(is_of_log) = self.0.get(&row.key) {
            return Ok(*is_of_log);
        }
        let commit = commit_at(wire, lineage, sizes.chunk_records, first, goal).await?;
        let Some(commit) = commit else {
            return Ok(true);
        };
        let whose = whose(wire, sizes.bucket_events, &commit, row).await?;
        if let Some(is_of_log) = whose {
            self.0.insert(row.key.clone(), is_of_log);
        }
        Ok(whose.unwrap_or(true))
    }
}

/// The commit of the log at `position`, of whichever history is the epoch's; `None` when the rows do not
/// tell.
async fn commit_at(
    wire: &dyn Wire,
    lineage: &Lineage,
    chunk_records: u64,
    position: u64,
    goal: CommitEnd,
) -> Result<Option<Commit>, WireError> {
    let reader = locate(wire, lineage, chunk_records, position - 1, goal).await?;
    let Some(mut reader) = reader else {
        return Ok(None);
    };
    match reader.next(wire, goal.position).await? {
        Next::Commit(commit)
            if (commit.first_position..=commit.last_position()).contains(&position) =>
        {
            Ok(Some(commit))
        }
        _ => Ok(None),
    }
}

/// Whether the log of `commit` has parked what `row` lists; `None` while an event of it in that stream and
/// place may be held under the other's row.
async fn whose(
    wire: &dyn Wire,
    bucket_events: u64,
    commit: &Commit,
    row: &ParkedRow,
) -> Result<Option<bool>, WireError> {
    let first = row.key.first_position;
    let here = commit.each().flatten().find(|record| {
        record.position == first
            && record.stream == row.key.stream
            && record.kind != RecordKind::Control
    });
    let Some(here) = here else {
        return Ok(Some(false));
    };
    if here.event_id == row.local_event {
        return Ok(Some(true));
    }
    let place = (here.sequence, here.event_id);
    let stands = has_event(wire, bucket_events, &here.stream, place).await?;
    Ok(stands.then_some(false))
}

#[cfg(test)]
mod tests {
    use tidelog_backends::fake::FakeWire;
    use tidelog_backends::wire::{Chunk, Request};

    use super::super::test_log::{
        CHUNK, TestLog, accept, ask, id, log, parked, rows_of, server, stream,
    };
    use super::*;

    const SIZES: Sizes = Sizes {
        chunk_records: CHUNK,
        bucket_events: 10,
    };

    /// Two copies that part behind position 10; the second one parks what it has at 11, and resolves it
    /// at 12. The first one has events of these streams there.
    fn copies(streams: [&str; 2]) -> (FakeWire, TestLog, TestLog, ParkedRow) {
        let wire = server();
        let mut log = log(2);
        let mut other = log.clone();
        other.writer = 1;
        other.append_times(1, "b").control("Resolved", Vec::new());
        log.append(&streams[..1]).append(&streams[1..]);
        for log in [&log, &other] {
            log.send(&wire, id(2), 1, 12);
        }
        let row = parked(&other, "b", 11, 8);
        ask(&wire, Request::Park(Box::new(row.clone())));
        let (key, until_position) = (row.key.clone(), 12);
        let row = ParkedRow {
            until_position: Some(until_position),
            ..row
        };
        let request = Request::Unpark {
            key,
            until_position,
        };
        ask(&wire, request);
        (wire, log, other, row)
    }

    /// What is parked for who reads `log` up to `position`, asked twice.
    fn read(wire: &FakeWire, log: &TestLog, position: u64) -> Vec<ParkedRow> {
        let rows = [log.row(id(2), None, position)];
        let lineage = Lineage::of(&rows, id(2)).unwrap();
        let mut parked = ParkedOfLog::default();
        let mut once = || {
            let read = parked.read(wire, &lineage, SIZES, log.end_at(position));
            let rows = pollster::block_on(read).unwrap().into_iter();
            rows.map(|(row, _)| row).collect::<Vec<_>>()
        };
        let first = once();
        assert_eq!(once(), first);
        first
    }

    #[test]
    fn what_another_copy_resolved_hides_nothing_of_the_log_that_the_epoch_is_left_to() {
        let (wire, log, other, row) = copies(["a", "b"]);
        assert_eq!(read(&wire, &log, 12), []);
        assert_eq!(read(&wire, &other, 12), std::slice::from_ref(&row));
        assert_eq!(read(&wire, &log, 10), [row], "it is about nothing there");
    }

    #[test]
    fn an_own_event_in_the_place_of_anothers_is_hidden_until_it_stands() {
        let (wire, log, _, row) = copies(["b", "a"]);
        assert_eq!(read(&wire, &log, 12), [row]);
        let all = log.envelopes();
        let events: Vec<_> = all
            .into_iter()
            .filter(|e| e.stream == stream("b"))
            .collect();
        accept(&wire, None, &events);
        assert_eq!(read(&wire, &log, 12), []);
    }

    #[test]
    fn what_nobody_can_tell_stays_hidden() {
        let (wire, log, _, row) = copies(["a", "b"]);
        let lost = rows_of(&log.commits[log.commits.len() - 2]).remove(0);
        let chunk = Chunk {
            origin: log.origin,
            epoch: id(2),
            number: lost.position / CHUNK,
        };
        wire.with_server(|server| server.lose_log_row(&chunk, lost.position, lost.event_id));
        assert_eq!(read(&wire, &log, 12), [row]);
    }
}
