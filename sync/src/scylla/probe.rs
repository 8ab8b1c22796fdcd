//! Whether the server still has what it had: the newest of the log, and of one stream.

use std::sync::Arc;

use tidelog_backends::commits::CommitEnd;
use tidelog_backends::wire::{Bucket, Chunk, Reply, Request, Wire, WireError};
use tidelog_core::StreamId;
use uuid::Uuid;

use super::connect::has_row;
use super::judge::Place;
use super::wire::unexpected;
use crate::replicate::state::Replica;

pub(super) struct Probe {
    pub wire: Arc<dyn Wire>,
    pub origin: Uuid,
    pub epoch: Uuid,
    pub replica: Replica,
    /// What is settled.
    pub end: CommitEnd,
    pub last_accepted: Option<(StreamId, Place)>,
}

impl Probe {
    /// Whether it is all there.
    pub(super) async fn run(self) -> Result<bool, WireError> {
        if self.end.position > 0 {
            let chunk = Chunk {
                origin: self.origin,
                epoch: self.epoch,
                number: self.end.position / self.replica.chunk_records,
            };
            if !has_row(&*self.wire, chunk, self.end).await? {
                return Ok(false);
            }
        }
        match &self.last_accepted {
            Some((stream, place)) => self.has_event(stream, *place).await,
            None => Ok(true),
        }
    }

    async fn has_event(&self, stream: &StreamId, (sequence, id): Place) -> Result<bool, WireError> {
        let last = sequence.saturating_sub(1) / self.replica.bucket_events;
        let first = (sequence / self.replica.bucket_events).saturating_sub(1);
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
            match self.wire.ask(request).await? {
                Reply::Ids(rows) if rows.iter().any(|row| row.event_id == id) => return Ok(true),
                Reply::Ids(_) => {}
                other => return Err(unexpected(&other)),
            }
        }
        Ok(false)
    }
}
