//! Whether the server still has what it had: how far this store is, the newest of its log and of one
//! stream, now and when it was looked at last. What is newest now may have been written since a table
//! was truncated.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidelog_backends::commits::CommitEnd;
use tidelog_backends::wire::{Bucket, Chunk, ParkedRow, Request, Watermark, Wire, WireError};
use tidelog_core::{Halt, StreamId};
use uuid::Uuid;

use super::ask;
use super::connect::has_row;
use super::judge::Place;
use super::park::EntryKey;
use super::watermark::taken;
use crate::scylla::state::Replica;

pub(super) struct Probe {
    pub wire: Arc<dyn Wire>,
    pub origin: Uuid,
    pub replica: Replica,
    /// What is settled, with the epochs that it was written under.
    pub ends: Vec<(CommitEnd, Uuid)>,
    /// What was accepted last.
    pub accepted: Vec<(StreamId, Place)>,
    /// The epoch in force, and how far the server has confirmed it to be.
    pub current: Uuid,
    pub confirmed: Watermark,
    /// What this store has parked.
    pub parked: BTreeSet<EntryKey>,
}

/// What was found.
#[derive(Debug)]
pub(super) enum Probed {
    /// All that was looked for; and what is listed as parked that this store does not know.
    Fine(Vec<ParkedRow>),
    /// Something that was there is not any more.
    Lost,
    /// The server does not know this store any more, or not its own keyspace.
    Unknown,
    /// Somebody else has the epoch, or it was given up.
    Taken(Halt),
}

impl Probe {
    pub(super) async fn run(self) -> Result<Probed, WireError> {
        if ask::meta(&*self.wire).await?.is_none() {
            return Ok(Probed::Unknown);
        }
        let rows = ask::origins(&*self.wire, self.origin).await?;
        let Some(row) = rows.into_iter().find(|row| row.epoch == self.current) else {
            return Ok(Probed::Unknown);
        };
        if let Some(halt) = taken(&row, self.confirmed.session) {
            return Ok(Probed::Taken(halt));
        }
        let is_there = row.watermark.position >= self.confirmed.position
            && self.has_ends().await?
            && self.has_accepted().await?;
        if !is_there {
            return Ok(Probed::Lost);
        }
        let mut rows = ask::parked(&*self.wire, self.origin, self.current).await?;
        rows.retain(|row| {
            let key = (row.key.stream.clone(), row.key.first_position);
            row.until_position.is_none() && !self.parked.contains(&key)
        });
        Ok(Probed::Fine(rows))
    }

    async fn has_ends(&self) -> Result<bool, WireError> {
        for (end, epoch) in &self.ends {
            let chunk = Chunk {
                origin: self.origin,
                epoch: *epoch,
                number: end.position / self.replica.chunk_records,
            };
            if end.position > 0 && !has_row(&*self.wire, chunk, *end).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn has_accepted(&self) -> Result<bool, WireError> {
        for (stream, place) in &self.accepted {
            let bucket_events = self.replica.bucket_events;
            if !has_event(&*self.wire, bucket_events, stream, *place).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether this event stands in its stream.
pub(super) async fn has_event(
    wire: &dyn Wire,
    bucket_events: u64,
    stream: &StreamId,
    (sequence, id): Place,
) -> Result<bool, WireError> {
    let last = sequence.saturating_sub(1) / bucket_events;
    let first = (sequence / bucket_events).saturating_sub(1);
    for number in (first..=last).rev() {
        let request = Request::Ids {
            bucket: Bucket {
                stream: stream.clone(),
                number,
            },
            from: sequence,
            to: sequence,
            serial: true,
        };
        let rows = ask::ids(wire, request).await?;
        if rows.iter().any(|row| row.event_id == id) {
            return Ok(true);
        }
    }
    Ok(false)
}
