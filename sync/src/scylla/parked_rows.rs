//! Entries of the replica's list of parked streams, taken back into a state.

use tidelog_backends::commits::Commit;
use tidelog_backends::wire::ParkedRow;
use tidelog_core::{Batch, Error, RecordKind, StreamId};

use crate::replicate::parked::{ParkedEntry, ParkedReason};

/// The append that wrote an event, by the log.
pub(super) struct Recorded {
    batch: Batch,
    /// Its streams.
    streams: Vec<StreamId>,
}

impl Recorded {
    /// An event of which no more is known.
    pub(super) fn alone(position: u64) -> Self {
        Self {
            batch: Batch {
                first: position,
                count: 1,
            },
            streams: Vec::new(),
        }
    }

    /// The event at `position`, which is in `commit`.
    pub(super) fn of(commit: &Commit, position: u64) -> Result<Self, Error> {
        let mut all = Vec::new();
        for record in commit.each() {
            let record = record?;
            if record.kind == RecordKind::Control {
                continue;
            }
            all.push((record.position, record.batch, record.stream));
        }
        let Some(batch) = all.iter().find(|(at, ..)| *at == position) else {
            return Ok(Self::alone(position));
        };
        let batch = batch.1;
        let of_batch = all.into_iter().filter(|(_, b, _)| *b == batch);
        let streams = of_batch.map(|(_, _, stream)| stream).collect();
        Ok(Self { batch, streams })
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
