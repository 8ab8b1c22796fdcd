//! Rows of the log on their way: the first thing that is done with a commit.

use std::collections::VecDeque;
use std::sync::Arc;

use tidelog_backends::commits::{Commit, CommitRecord};
use tidelog_backends::wire::{Chunk, ErrorClass, LogRow, Oversized, Request, Wire, WireError};
use tidelog_core::Halt;
use uuid::Uuid;

use super::ask;

/// Most bytes of rows sent at once, unless one alone has more.
const BATCH_BYTES: usize = 100 << 10;
/// Most rows sent at once.
const BATCH_ROWS: usize = 200;
/// Batches sent at once.
const IN_FLIGHT: usize = 8;

/// Rows that wait to be sent, in the order of the log.
#[derive(Default)]
pub(super) struct LogRows {
    waiting: VecDeque<(Chunk, LogRow)>,
    in_flight: usize,
}

/// Why rows are not there.
pub(super) enum Unsent {
    /// One alone is more than the server takes. It is not left out: the log would have a hole there.
    TooLarge(Halt),
    Failed(WireError),
}

/// Rows of one partition.
pub(super) struct LogBatch {
    chunk: Chunk,
    rows: Vec<LogRow>,
}

impl LogRows {
    pub(super) fn push(
        &mut self,
        commit: &Commit,
        record: &CommitRecord<'_>,
        (origin, epoch, chunk_records): (Uuid, Uuid, u64),
    ) {
        let chunk = Chunk {
            origin,
            epoch,
            number: record.position / chunk_records,
        };
        let row = LogRow {
            position: record.position,
            event_id: record.event_id,
            commit_number: commit.number,
            commit_first: commit.first_position,
            commit_count: commit.records,
            commit_hash: commit.hash,
            record: record.bytes(),
        };
        self.waiting.push_back((chunk, row));
    }

    /// The next rows that may be sent.
    pub(super) fn next(&mut self) -> Option<LogBatch> {
        if self.in_flight == IN_FLIGHT {
            return None;
        }
        let (chunk, first) = self.waiting.pop_front()?;
        let mut bytes = first.record.len();
        let mut rows = vec![first];
        while let Some((next, row)) = self.waiting.front()
            && *next == chunk
            && rows.len() < BATCH_ROWS
            && bytes + row.record.len() <= BATCH_BYTES
        {
            bytes += row.record.len();
            rows.extend(self.waiting.pop_front().map(|(_, row)| row));
        }
        self.in_flight += 1;
        Some(LogBatch { chunk, rows })
    }

    /// One batch is there.
    pub(super) fn arrived(&mut self) {
        self.in_flight -= 1;
    }

    /// Whether something waits to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight == 0
    }
}

impl LogBatch {
    /// Sends it; answers the positions that are there then. Equal rows may be sent any number of
    /// times.
    pub(super) async fn send(self, wire: Arc<dyn Wire>) -> Result<Vec<u64>, Unsent> {
        let positions = self.rows.iter().map(|row| row.position).collect();
        let request = || Request::PutLog {
            chunk: self.chunk,
            rows: self.rows.clone(),
        };
        match ask::done(&*wire, request()).await {
            Err(error) if error.class == ErrorClass::Unclear => ask::done(&*wire, request()).await,
            first => first,
        }
        .map_err(|error| self.unsent(error))?;
        Ok(positions)
    }

    fn unsent(&self, error: WireError) -> Unsent {
        match (&*self.rows, Oversized::of(&error)) {
            ([row], Some(Oversized { limit })) => Unsent::TooLarge(Halt::RecordTooLarge {
                position: row.position,
                size: row.record.len() as u64,
                limit,
                reason: error.text,
            }),
            _ => Unsent::Failed(error),
        }
    }
}
