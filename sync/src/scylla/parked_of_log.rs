//! What the epochs of a log have parked, without what another copy of its store has resolved there.
//!
//! Two copies that live on may both park in one epoch, before one of them knows that it lost it. What
//! the other one resolved says nothing of the log that the epoch is left to; of what both have, that log
//! says itself where it gave way.

use std::collections::BTreeMap;

use tidelog_backends::commits::{Commit, CommitEnd};
use tidelog_backends::wire::{ParkedKey, ParkedRow, Wire, WireError};
use tidelog_core::RecordKind;

use super::ask;
use super::lineage::Lineage;
use super::log_reader::{LogReader, Next, locate};
use super::probe::has_event;

/// How the keyspace cuts what is long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub chunk_records: u64,
    pub bucket_events: u64,
}

/// Reads it, and remembers what the log says of it: a few requests for each range that gave way,
/// once.
#[derive(Default)]
pub(super) struct ParkedOfLog(BTreeMap<(ParkedKey, u64), Known>);

/// What a log says of a range that is listed as one that gave way.
#[derive(Clone, Copy)]
enum Known {
    /// It is another log's.
    Strange,
    /// It gave way at this position.
    GaveWay(u64),
    /// Up to here nothing.
    Nothing(CommitEnd),
}

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
            for mut row in ask::parked(wire, lineage.origin, stretch.epoch).await? {
                let first = row.key.first_position;
                if let Some(until) = row.until_position.filter(|until| *until > first) {
                    let until = self.until(wire, lineage, sizes, goal, &row, until).await?;
                    if until.is_none() {
                        continue;
                    }
                    row.until_position = until;
                }
                all.push((row, stretch.to));
            }
        }
        Ok(all)
    }

    /// Until where what gave way is hidden in this log; `None` when it is not of it. What nobody can tell
    /// stays hidden, until where the row says.
    ///
    /// Of two copies that have the event that is parked, each has its own place where it gave way, and the
    /// row has that of the first that resolved it.
    async fn until(
        &mut self,
        wire: &dyn Wire,
        lineage: &Lineage,
        sizes: Sizes,
        goal: CommitEnd,
        row: &ParkedRow,
        until: u64,
    ) -> Result<Option<u64>, WireError> {
        let (chunk, first) = (sizes.chunk_records, row.key.first_position);
        if first > goal.position {
            // It holds back nothing that is settled.
            return Ok(Some(until));
        }
        let key = (row.key.clone(), until);
        let searched = match self.0.get(&key) {
            Some(Known::Strange) => return Ok(None),
            Some(Known::GaveWay(at)) => return Ok(Some(*at)),
            Some(Known::Nothing(end)) if end.position >= goal.position => return Ok(Some(until)),
            Some(Known::Nothing(end)) => Some(*end),
            None => None,
        };
        if searched.is_none() {
            let Some(commit) = commit_at(wire, lineage, chunk, first, goal).await? else {
                return Ok(Some(until));
            };
            match whose(wire, sizes.bucket_events, &commit, row).await? {
                Some(true) => {}
                Some(false) => {
                    self.0.insert(key, Known::Strange);
                    return Ok(None);
                }
                None => return Ok(Some(until)),
            }
        }
        if until <= goal.position {
            let commit = commit_at(wire, lineage, chunk, until, goal).await?;
            if commit.and_then(|commit| gives_way(&commit, row)) == Some(until) {
                self.0.insert(key, Known::GaveWay(until));
                return Ok(Some(until));
            }
        }
        let reader = match searched {
            Some(end) => Some(LogReader::new(lineage.clone(), chunk, end, goal)),
            None => locate(wire, lineage, chunk, first, goal).await?,
        };
        let Some(mut reader) = reader else {
            return Ok(Some(until));
        };
        while let Next::Commit(commit) = reader.next(wire, goal.position).await? {
            if let Some(at) = gives_way(&commit, row) {
                self.0.insert(key, Known::GaveWay(at));
                return Ok(Some(at));
            }
        }
        self.0.insert(key, Known::Nothing(reader.end()));
        Ok(Some(until))
    }
}

/// Where `commit` says that what `row` lists gave way.
fn gives_way(commit: &Commit, row: &ParkedRow) -> Option<u64> {
    let all = commit.each().flatten();
    let mut all = all.filter_map(|record| record.superseded());
    let here = all.find(|what| {
        what.stream == row.key.stream
            && what.from <= row.first_sequence
            && what.at > row.key.first_position
    });
    here.map(|what| what.at)
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
    fn what_two_copies_have_parked_gave_way_where_the_own_log_says_so() {
        let wire = server();
        let mut log = log(2);
        let mut other = log.clone();
        other.writer = 1;
        other.supersede("b", 3).append_times(3, "c");
        log.append_times(2, "a");
        log.supersede("b", 3).append_times(2, "b");
        for log in [&log, &other] {
            log.send(&wire, id(2), 1, 15);
        }
        let row = parked(&log, "b", 6, 3);
        ask(&wire, Request::Park(Box::new(row.clone())));
        let request = |until_position| Request::Unpark {
            key: row.key.clone(),
            until_position,
        };
        ask(&wire, request(11));
        ask(&wire, request(13));
        let until = |log: &TestLog, position| read(&wire, log, position)[0].until_position;
        assert_eq!(until(&other, 14), Some(11));
        assert_eq!(until(&log, 15), Some(13));
        assert_eq!(until(&log, 13), Some(13));
        assert_eq!(until(&log, 12), Some(11), "it has not said so by then");
    }

    #[test]
    fn where_a_log_gave_way_is_found_once_it_has_come_so_far() {
        let wire = server();
        let mut log = log(2);
        log.append_times(2, "a").supersede("b", 3).append(&["b"]);
        log.send(&wire, id(2), 1, 14);
        let row = parked(&log, "b", 6, 3);
        ask(&wire, Request::Park(Box::new(row.clone())));
        let (key, until_position) = (row.key, 30);
        let request = Request::Unpark {
            key,
            until_position,
        };
        ask(&wire, request);
        let mut parked = ParkedOfLog::default();
        let mut until = |position| {
            let lineage = Lineage::of(&[log.row(id(2), None, position)], id(2)).unwrap();
            let read = parked.read(&wire, &lineage, SIZES, log.end_at(position));
            pollster::block_on(read).unwrap()[0].0.until_position
        };
        let all = [10, 12, 12, 13, 14].map(&mut until);
        assert_eq!(all, [30, 30, 30, 13, 13].map(Some));
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
