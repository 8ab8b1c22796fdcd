//! Rows of `events_by_stream`.

use std::sync::Arc;

use bytes::Bytes;
use scylla::DeserializeRow;
use tidelog_core::{
    Batch, Birth, ContentType, EventEnvelope, EventId, Metadata, RecordKind, StreamId, Tags,
    Timestamp,
};
use uuid::Uuid;

use super::strange;
use crate::scylla::request::{EventRow, HeadRow, IdRow, LogPlace, WireError};
use crate::scylla::value::Value;

/// Numbers of `kind`, as records of a log have them.
const EVENT: i8 = 1;
const ADOPTED: i8 = 2;

#[derive(DeserializeRow)]
#[allow(clippy::struct_field_names, reason = "the columns' own names")]
pub(crate) struct HeadColumns {
    head_sequence: Option<i64>,
    head_event_id: Option<Uuid>,
    head_recorded: Option<i64>,
}

impl HeadColumns {
    /// `None` of a bucket that has no head.
    pub(crate) fn into_row(self) -> Option<HeadRow> {
        Some(HeadRow {
            sequence: self.head_sequence?.cast_unsigned(),
            event_id: EventId::from_uuid(self.head_event_id?),
            recorded: Timestamp::from_micros(self.head_recorded?),
        })
    }
}

#[derive(DeserializeRow)]
pub(crate) struct IdColumns {
    sequence: Option<i64>,
    event_id: Option<Uuid>,
    origin: Option<Uuid>,
    recorded_time: Option<i64>,
}

impl IdColumns {
    /// `None` of the row that stands for a partition with statics alone.
    pub(crate) fn into_row(self) -> Option<IdRow> {
        Some(IdRow {
            sequence: self.sequence?.cast_unsigned(),
            event_id: EventId::from_uuid(self.event_id?),
            origin: self.origin,
            recorded: Timestamp::from_micros(self.recorded_time?),
        })
    }
}

#[derive(DeserializeRow)]
pub(crate) struct EventColumns {
    sequence: Option<i64>,
    event_id: Option<Uuid>,
    kind: Option<i8>,
    event_type: Option<Arc<str>>,
    revision: Option<i64>,
    content_type: Option<Box<str>>,
    event_time: Option<i64>,
    recorded_time: Option<i64>,
    batch_first: Option<i64>,
    batch_count: Option<i32>,
    metadata: Option<Box<str>>,
    tags: Option<Box<str>>,
    payload: Option<Bytes>,
    origin: Option<Uuid>,
    epoch: Option<Uuid>,
    origin_position: Option<i64>,
    birth_origin: Option<Uuid>,
    birth_epoch: Option<Uuid>,
    birth_position: Option<i64>,
    birth_recorded: Option<i64>,
}

impl EventColumns {
    /// `Ok(None)` of the row that stands for a partition with statics alone.
    pub(crate) fn into_row(self, stream: &StreamId) -> Result<Option<EventRow>, WireError> {
        let Some(sequence) = self.sequence else {
            return Ok(None);
        };
        let lacks = |what: &str| strange("event", format!("{stream} {sequence} has no {what}"));
        let bad = |error: tidelog_core::Error| strange("event", error);
        let birth = match (self.birth_origin, self.birth_epoch) {
            (Some(origin), Some(epoch)) => Some(Arc::new(Birth {
                origin,
                epoch,
                position: self.birth_position.unwrap_or(0).cast_unsigned(),
                recorded_time: Timestamp::from_micros(self.birth_recorded.unwrap_or(0)),
            })),
            _ => None,
        };
        let place = match (self.origin, self.epoch, self.origin_position) {
            (Some(origin), Some(epoch), Some(position)) => Some(LogPlace {
                origin,
                epoch,
                position: position.cast_unsigned(),
            }),
            _ => None,
        };
        let metadata: Metadata = match &self.metadata {
            None => Metadata::new(),
            Some(text) => serde_json::from_str(text).map_err(|error| strange("metadata", error))?,
        };
        let tags: Tags = match &self.tags {
            None => Tags::none(),
            Some(text) => serde_json::from_str(text).map_err(|error| strange("tags", error))?,
        };
        let revision = self.revision.ok_or_else(|| lacks("revision"))?;
        let content_type = self.content_type.ok_or_else(|| lacks("content type"))?;
        let micros =
            |time: Option<i64>, what| time.map(Timestamp::from_micros).ok_or_else(|| lacks(what));
        let event = EventEnvelope {
            event_id: EventId::from_uuid(self.event_id.ok_or_else(|| lacks("id"))?),
            stream: stream.clone(),
            sequence: sequence.cast_unsigned(),
            position: None,
            birth,
            kind: match self.kind {
                Some(EVENT) => RecordKind::Event,
                Some(ADOPTED) => RecordKind::Adopted,
                other => return Err(lacks(&format!("known kind ({other:?})"))),
            },
            event_type: self.event_type.ok_or_else(|| lacks("type"))?,
            revision: u32::try_from(revision).map_err(|_| lacks("revision of 32 bits"))?,
            content_type: ContentType::parse(&content_type).map_err(bad)?,
            event_time: micros(self.event_time, "event time")?,
            recorded_time: micros(self.recorded_time, "recorded time")?,
            metadata,
            tags,
            batch: Batch {
                first: self
                    .batch_first
                    .ok_or_else(|| lacks("batch"))?
                    .cast_unsigned(),
                count: self
                    .batch_count
                    .ok_or_else(|| lacks("batch"))?
                    .cast_unsigned(),
            },
            // An empty blob comes back as one; a column that was never written does not.
            event: self.payload.ok_or_else(|| lacks("payload"))?,
        };
        Ok(Some(EventRow { event, place }))
    }
}

/// The values of an event's row, behind those of its partition.
pub(crate) fn event_values(row: &EventRow) -> Result<[Value<'_>; 20], WireError> {
    let event = &row.event;
    let json = |what, text: Result<String, serde_json::Error>| {
        text.map(Value::Owned).map_err(|error| strange(what, error))
    };
    let metadata = if event.metadata.is_empty() {
        Value::Unset
    } else {
        json("metadata", serde_json::to_string(&event.metadata))?
    };
    let tags = if event.tags.as_slice().is_empty() {
        Value::Unset
    } else {
        json("tags", serde_json::to_string(&event.tags))?
    };
    let place = row.place.as_ref();
    let birth = event.birth.as_deref();
    let kind = match event.kind {
        RecordKind::Event => EVENT,
        RecordKind::Adopted => ADOPTED,
        other => return Err(strange("record", format!("{other:?} is in no stream"))),
    };
    Ok([
        Value::of(event.sequence),
        Value::Uuid(*event.event_id.as_uuid()),
        Value::Tiny(kind),
        Value::Text(&event.event_type),
        Value::of(u64::from(event.revision)),
        Value::Text(event.content_type.as_str()),
        Value::Big(event.event_time.as_micros()),
        Value::Big(event.recorded_time.as_micros()),
        Value::of(event.batch.first),
        Value::Int(event.batch.count.cast_signed()),
        metadata,
        tags,
        Value::Blob(&event.event),
        Value::set(place.map(|place| Value::Uuid(place.origin))),
        Value::set(place.map(|place| Value::Uuid(place.epoch))),
        Value::set(place.map(|place| Value::of(place.position))),
        Value::set(birth.map(|birth| Value::Uuid(birth.origin))),
        Value::set(birth.map(|birth| Value::Uuid(birth.epoch))),
        Value::set(birth.map(|birth| Value::of(birth.position))),
        Value::set(birth.map(|birth| Value::Big(birth.recorded_time.as_micros()))),
    ])
}
