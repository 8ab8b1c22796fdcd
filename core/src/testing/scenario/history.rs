//! Recorded events, made by hand.

use std::collections::BTreeMap;

use bytes::Bytes;
use uuid::Uuid;

use crate::clock::{Clock, Timestamp};
use crate::envelope::{Batch, EventEnvelope, NewEvent, RecordKind};
use crate::error::Error;
use crate::event::Event;
use crate::id::{EventId, IdSource};
use crate::metadata::Metadata;
use crate::stream_id::StreamId;

/// The beginning of 2000: a scenario's time unless it is set.
const START: Timestamp = Timestamp::from_micros(946_684_800_000_000);

/// Numbers and dates events as a log would.
#[derive(Clone)]
pub(super) struct History {
    pub(super) now: Timestamp,
    pub(super) metadata: Metadata,
    position: u64,
    sequences: BTreeMap<String, u64>,
}

impl History {
    pub(super) fn new() -> Self {
        Self {
            now: START,
            metadata: Metadata::new(),
            position: 0,
            sequences: BTreeMap::new(),
        }
    }

    /// `event` as it would come back from the log.
    pub(super) fn record<E: Event>(
        &mut self,
        stream: &StreamId,
        event: &E,
    ) -> Result<EventEnvelope, Error> {
        let id = numbered(self.position + 1);
        let new =
            NewEvent::encode(event, EventId::from_uuid(id))?.with_metadata(self.metadata.clone());
        Ok(self.record_encoded(stream, new))
    }

    /// An encoded event as it would come back from the log.
    pub(super) fn record_encoded(
        &mut self,
        stream: &StreamId,
        new: NewEvent,
    ) -> EventEnvelope<Bytes> {
        self.position += 1;
        let sequence = self
            .sequences
            .entry(stream.as_str().to_owned())
            .or_default();
        *sequence += 1;
        EventEnvelope {
            event_id: new.event_id,
            stream: stream.clone(),
            sequence: *sequence,
            position: Some(self.position),
            birth: None,
            kind: RecordKind::Event,
            event_type: new.event_type,
            revision: new.revision,
            content_type: new.content_type,
            event_time: new.event_time.unwrap_or(self.now),
            recorded_time: self.now,
            metadata: new.metadata,
            tags: new.tags,
            batch: Batch {
                first: self.position,
                count: 1,
            },
            event: new.payload,
        }
    }
}

fn numbered(number: u64) -> Uuid {
    Uuid::from_u64_pair(0, number)
}

/// A clock that stands still and ids that are always the same, so that a scenario repeats exactly.
#[derive(Clone, Copy)]
pub(in crate::testing) struct Fixed {
    pub(in crate::testing) now: Timestamp,
    /// Tells the ids of one decision from those of another.
    pub(in crate::testing) number: u64,
}

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.now
    }
}

impl IdSource for Fixed {
    fn next_uuid(&self) -> Uuid {
        Uuid::from_u64_pair(1, self.number)
    }
}
