//! Entries of the replica's list of parked streams, taken back into a state.
//!
//! The list has what is held; what is accepted of the appends that are torn by it is found in the log.

use std::collections::BTreeMap;

use tidelog_backends::commits::{Commit, CommitRecord};
use tidelog_backends::wire::ParkedRow;
use tidelog_core::{Batch, Error, EventId, RecordKind, StreamId};

use super::park::EntryKey;
use crate::replicate::ParkedReason;
use crate::scylla::parked::ParkedEntry;
use crate::scylla::state::SinkState;

/// The append that wrote an event, by the log.
pub(super) struct Recorded {
    batch: Batch,
    /// Its streams.
    streams: Vec<StreamId>,
}

impl Recorded {
    /// The append that wrote `event` at `position`, if `commit` has it there.
    pub(super) fn of(
        commit: &Commit,
        position: u64,
        event: EventId,
    ) -> Result<Option<Self>, Error> {
        let records = commit.each().collect::<Result<Vec<_>, _>>()?;
        let is_it = |record: &&CommitRecord<'_>| {
            record.position == position
                && record.event_id == event
                && record.kind != RecordKind::Control
        };
        let Some(batch) = records.iter().find(is_it).map(|record| record.batch) else {
            return Ok(None);
        };
        let of_batch = records
            .into_iter()
            .filter(|record| record.kind != RecordKind::Control && record.batch == batch);
        let streams = of_batch.map(|record| record.stream).collect();
        Ok(Some(Self { batch, streams }))
    }
}

/// What was accepted of appends that are torn by what is held: each of their parts that was settled and
/// is not held.
pub(super) struct AcceptedParts {
    /// From which position on each stream holds.
    held: BTreeMap<StreamId, u64>,
    found: BTreeMap<EntryKey, ParkedEntry>,
}

impl AcceptedParts {
    pub(super) fn of(state: &SinkState) -> Self {
        let mut held = BTreeMap::new();
        for entry in state.parked.values().filter(|entry| entry.holds()) {
            let from = held.entry(entry.stream.clone()).or_insert(u64::MAX);
            *from = entry.first_position.min(*from);
        }
        let found = BTreeMap::new();
        Self { held, found }
    }

    /// The position from which on commits are to be looked through.
    pub(super) fn begins(&self) -> Option<u64> {
        self.held.values().min().copied()
    }

    /// Looks through the next settled commit.
    pub(super) fn take(&mut self, commit: &Commit) -> Result<(), Error> {
        let records = commit.each().collect::<Result<Vec<_>, _>>()?;
        let mut batches: BTreeMap<u64, Vec<&CommitRecord<'_>>> = BTreeMap::new();
        for record in &records {
            if let Some(what) = record.superseded() {
                let gave_way = |entry: &ParkedEntry| {
                    entry.stream == what.stream && entry.first_sequence >= what.from
                };
                self.found.retain(|_, entry| !gave_way(entry));
            }
            if record.kind != RecordKind::Control && record.batch.count > 1 {
                batches.entry(record.batch.first).or_default().push(record);
            }
        }
        for records in batches.values() {
            let is_held = |record: &&&CommitRecord<'_>| {
                let from = self.held.get(&record.stream);
                from.is_some_and(|from| *from <= record.position)
            };
            let Some(sibling) = records.iter().find(is_held).map(|held| held.stream.clone()) else {
                continue;
            };
            let mut accepted: BTreeMap<&StreamId, &CommitRecord<'_>> = BTreeMap::new();
            for record in records.iter().filter(|record| !is_held(record)) {
                accepted.entry(&record.stream).or_insert(record);
            }
            // A stream that holds from a later event of it on is listed by that.
            for (stream, record) in accepted {
                if self.held.get(stream).is_some_and(|from| {
                    let end = record.batch.first + u64::from(record.batch.count);
                    *from < end
                }) {
                    continue;
                }
                let entry = ParkedEntry {
                    stream: stream.clone(),
                    reason: ParkedReason::TornBatch {
                        sibling: sibling.clone(),
                    },
                    first_sequence: record.sequence,
                    first_position: record.position,
                    local_event: record.event_id,
                    remote: None,
                    batch: record.batch,
                    accepted: true,
                    resolved_at: 0,
                    since_position: record.position,
                };
                let key = (entry.stream.clone(), entry.first_position);
                self.found.insert(key, entry);
            }
        }
        Ok(())
    }

    /// Lists them.
    pub(super) fn note(self, state: &mut SinkState) {
        for (key, entry) in self.found {
            state.parked.entry(key).or_insert(entry);
        }
    }
}

/// What the row says, as a state keeps it; the log ended at `last` when it was taken back.
pub(super) fn entry(row: &ParkedRow, recorded: Recorded, last: u64) -> ParkedEntry {
    let mut siblings = recorded.streams.into_iter();
    let sibling = siblings.find(|stream| *stream != row.key.stream);
    let reason = match (&*row.reason, sibling) {
        ("torn_batch", Some(sibling)) => ParkedReason::TornBatch { sibling },
        ("too_large", _) => ParkedReason::TooLarge,
        ("gap", _) => ParkedReason::Gap,
        ("refused", _) => ParkedReason::Refused("its text was not kept".into()),
        _ => ParkedReason::Diverged,
    };
    ParkedEntry {
        stream: row.key.stream.clone(),
        reason,
        first_sequence: row.first_sequence,
        first_position: row.key.first_position,
        local_event: row.local_event,
        remote: row.remote,
        batch: recorded.batch,
        accepted: false,
        resolved_at: 0,
        since_position: last,
    }
}
