//! What a server may lose, on purpose.

use tidelog_core::EventId;

use super::super::request::{Bucket, Chunk};
use super::server::FakeServer;

/// A table that can be truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// `tidelog_meta`
    Meta,
    /// `events_by_stream`
    Events,
    /// `log_by_origin`
    Log,
    /// `origins`
    Origins,
    /// `parked_by_origin`
    Parked,
    /// `snapshots` and `snapshot_parts`
    Snapshots,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Meta,
        Self::Events,
        Self::Log,
        Self::Origins,
        Self::Parked,
        Self::Snapshots,
    ];
}

impl FakeServer {
    /// Empties a table.
    pub fn truncate(&mut self, table: Table) {
        let tables = &mut self.tables;
        match table {
            Table::Meta => tables.meta = None,
            Table::Events => tables.events.clear(),
            Table::Log => tables.log.clear(),
            Table::Origins => tables.origins.clear(),
            Table::Parked => tables.parked.clear(),
            Table::Snapshots => {
                tables.snapshots.clear();
                tables.parts.clear();
            }
        }
    }

    /// Takes back the last `count` writes, as far as they are remembered: a server that did not
    /// sync what it acknowledged.
    pub fn lose_last(&mut self, count: usize) {
        for _ in 0..count {
            let Some((partition, before)) = self.journal.pop_back() else {
                return;
            };
            self.tables.put_back(partition, before);
        }
    }

    /// Loses a bucket: rows and head.
    pub fn lose_bucket(&mut self, bucket: &Bucket) {
        self.tables.events.remove(bucket);
    }

    /// Loses one event's row; its bucket's head stays.
    pub fn lose_event(&mut self, bucket: &Bucket, sequence: u64) {
        if let Some(partition) = self.tables.events.get_mut(bucket) {
            partition.rows.remove(&sequence);
        }
    }

    /// Loses a bucket's head; its rows stay.
    pub fn lose_head(&mut self, bucket: &Bucket) {
        if let Some(partition) = self.tables.events.get_mut(bucket) {
            partition.head = None;
        }
    }

    /// Loses a chunk of a log.
    pub fn lose_chunk(&mut self, chunk: &Chunk) {
        self.tables.log.remove(chunk);
    }

    /// Loses one row of a log.
    pub fn lose_log_row(&mut self, chunk: &Chunk, position: u64, event_id: EventId) {
        if let Some(rows) = self.tables.log.get_mut(chunk) {
            rows.retain(|_, row| (row.position, row.event_id) != (position, event_id));
        }
    }
}
