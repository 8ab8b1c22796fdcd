//! Rows as values of CQL, and back.

use std::sync::Arc;

use bytes::Bytes;
use scylla::DeserializeRow;
use scylla::deserialize::row::ColumnIterator;
use scylla::response::query_result::{QueryResult, QueryRowsResult};
use tidelog_core::{
    Batch, Birth, ContentType, EventEnvelope, EventId, Metadata, RecordKind, StreamId, Tags,
    Timestamp,
};
use uuid::Uuid;

use super::request::{
    ErrorClass, EventRow, HeadRow, IdRow, LogPlace, LogRow, MetaRow, OriginRow, ParkedKey,
    ParkedRow, SnapshotRow, Watermark, WireError,
};
use super::value::Value;

/// Numbers of `kind`, as records of a log have them.
const EVENT: i8 = 1;
const ADOPTED: i8 = 2;

/// What the server answered is not what was asked for.
pub(crate) fn strange(what: &str, found: impl std::fmt::Display) -> WireError {
    WireError {
        class: ErrorClass::Refused,
        text: format!("the server's {what} cannot be understood: {found}").into(),
    }
}

/// The rows of an answer.
pub(crate) fn rows_of(answer: QueryResult) -> Result<QueryRowsResult, WireError> {
    answer
        .into_rows_result()
        .map_err(|error| strange("answer", error))
}

/// The rows of an answer, each as `R`.
pub(crate) fn each<R>(rows: &QueryRowsResult) -> Result<Vec<R>, WireError>
where
    R: for<'f> scylla::deserialize::row::DeserializeRow<'f, 'f>,
{
    rows.rows::<R>()
        .map_err(|error| strange("rows", error))?
        .collect::<Result<_, _>>()
        .map_err(|error| strange("row", error))
}

/// Whether a conditional write was applied: its first row says so. An answer that cannot be understood
/// leaves open whether it was.
pub(crate) fn applied(answer: QueryResult) -> Result<bool, WireError> {
    said_applied(answer).map_err(|error| WireError {
        class: ErrorClass::Unclear,
        ..error
    })
}

fn said_applied(answer: QueryResult) -> Result<bool, WireError> {
    let rows = rows_of(answer)?;
    let mut rows = rows
        .rows::<ColumnIterator<'_, '_>>()
        .map_err(|error| strange(CONDITIONAL, error))?;
    let Some(first) = rows.next() else {
        return Err(strange(CONDITIONAL, "it is empty"));
    };
    let columns = first.map_err(|error| strange(CONDITIONAL, error))?;
    let columns: Result<Vec<_>, _> = columns.collect();
    let columns = columns.map_err(|error| strange(CONDITIONAL, error))?;
    let columns = columns.iter().map(|column| {
        (
            column.spec.name(),
            column.slice.map(|slice| slice.as_slice()),
        )
    });
    says_applied(columns)
}

const CONDITIONAL: &str = "answer to a conditional write";

/// Reads the column `[applied]`, by its name: what else stands in such an answer differs from server
/// to server (Cassandra: the columns of the conditions; `ScyllaDB`: an old row for each statement of
/// the batch) and is not looked at.
fn says_applied<'a>(
    mut columns: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
) -> Result<bool, WireError> {
    match columns.find(|(name, _)| *name == "[applied]") {
        Some((_, Some([0]))) => Ok(false),
        Some((_, Some([1]))) => Ok(true),
        Some((_, other)) => Err(strange("[applied]", format!("{other:?}"))),
        None => Err(strange(CONDITIONAL, "it has no [applied]")),
    }
}

#[derive(DeserializeRow)]
pub(crate) struct MetaColumns {
    pub(crate) keyspace_id: Option<Uuid>,
    pub(crate) schema_version: Option<i32>,
    pub(crate) migrating: Option<Uuid>,
    pub(crate) bucket_events: Option<i64>,
    pub(crate) chunk_records: Option<i64>,
    pub(crate) arbitration_dc: Option<Box<str>>,
}

impl MetaColumns {
    pub(crate) fn first(answer: QueryResult) -> Result<Option<Self>, WireError> {
        Ok(each(&rows_of(answer)?)?.into_iter().next())
    }

    /// `None` for a row that lacks what is fixed at its making.
    pub(crate) fn into_row(self) -> Option<MetaRow> {
        Some(MetaRow {
            keyspace_id: self.keyspace_id?,
            schema_version: self.schema_version?.cast_unsigned(),
            bucket_events: self.bucket_events?.cast_unsigned(),
            chunk_records: self.chunk_records?.cast_unsigned(),
            arbitration_dc: self.arbitration_dc,
        })
    }
}

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

#[derive(DeserializeRow)]
pub(crate) struct LogColumns {
    position: i64,
    event_id: Uuid,
    commit_number: i64,
    commit_first: i64,
    commit_count: i32,
    commit_hash: Bytes,
    record: Bytes,
}

/// The same without the record.
#[derive(DeserializeRow)]
pub(crate) struct LogEndColumns {
    position: i64,
    event_id: Uuid,
    commit_number: i64,
    commit_first: i64,
    commit_count: i32,
    commit_hash: Bytes,
}

impl LogColumns {
    pub(crate) fn into_row(self) -> Result<LogRow, WireError> {
        Ok(LogRow {
            position: self.position.cast_unsigned(),
            event_id: EventId::from_uuid(self.event_id),
            commit_number: self.commit_number.cast_unsigned(),
            commit_first: self.commit_first.cast_unsigned(),
            commit_count: self.commit_count.cast_unsigned(),
            commit_hash: hash(&self.commit_hash)?,
            record: self.record,
        })
    }
}

impl LogEndColumns {
    pub(crate) fn into_row(self) -> Result<LogRow, WireError> {
        Ok(LogRow {
            position: self.position.cast_unsigned(),
            event_id: EventId::from_uuid(self.event_id),
            commit_number: self.commit_number.cast_unsigned(),
            commit_first: self.commit_first.cast_unsigned(),
            commit_count: self.commit_count.cast_unsigned(),
            commit_hash: hash(&self.commit_hash)?,
            record: Bytes::new(),
        })
    }
}

fn hash(bytes: &[u8]) -> Result<[u8; 32], WireError> {
    bytes
        .try_into()
        .map_err(|_| strange("chain hash", format!("it has {} bytes", bytes.len())))
}

#[derive(DeserializeRow)]
pub(crate) struct OriginColumns {
    origin: Uuid,
    epoch: Uuid,
    first_epoch: Option<Uuid>,
    parent: Option<Uuid>,
    parent_position: Option<i64>,
    parent_hash: Option<Bytes>,
    session: Option<Uuid>,
    position: Option<i64>,
    hash: Option<Bytes>,
    commit_number: Option<i64>,
    published: Option<i64>,
    state: Option<i8>,
    successor: Option<Uuid>,
    name: Option<Box<str>>,
}

impl OriginColumns {
    /// State of an epoch that was given up.
    pub(crate) const RETIRED: i8 = 1;

    pub(crate) fn into_row(self) -> Result<OriginRow, WireError> {
        let lacks = |what| {
            strange(
                "origin",
                format!("{} {} has no {what}", self.origin, self.epoch),
            )
        };
        let parent = match (self.parent, self.parent_position, &self.parent_hash) {
            (Some(parent), Some(position), Some(at)) => {
                Some((parent, position.cast_unsigned(), hash(at)?))
            }
            _ => None,
        };
        let successor = match (self.state, self.successor) {
            (Some(Self::RETIRED), successor) => Some(successor.ok_or_else(|| lacks("successor"))?),
            _ => None,
        };
        Ok(OriginRow {
            origin: self.origin,
            epoch: self.epoch,
            first_epoch: self.first_epoch.ok_or_else(|| lacks("first epoch"))?,
            parent,
            watermark: Watermark {
                session: self.session.ok_or_else(|| lacks("session"))?,
                position: self
                    .position
                    .ok_or_else(|| lacks("position"))?
                    .cast_unsigned(),
                hash: hash(self.hash.as_ref().ok_or_else(|| lacks("hash"))?)?,
                commit_number: self.commit_number.unwrap_or(0).cast_unsigned(),
            },
            published: self.published.unwrap_or(0).cast_unsigned(),
            successor,
            name: self.name.unwrap_or_default(),
        })
    }
}

/// The values of an epoch's row.
pub(crate) fn origin_values(row: &OriginRow) -> Vec<Value<'_>> {
    let parent = row.parent.as_ref();
    let state = match row.successor {
        None => 0,
        Some(_) => OriginColumns::RETIRED,
    };
    vec![
        Value::Uuid(row.origin),
        Value::Uuid(row.epoch),
        Value::Uuid(row.first_epoch),
        Value::set(parent.map(|(epoch, ..)| Value::Uuid(*epoch))),
        Value::set(parent.map(|(_, position, _)| Value::of(*position))),
        Value::set(parent.map(|(.., hash)| Value::Blob(hash))),
        Value::Uuid(row.watermark.session),
        Value::of(row.watermark.position),
        Value::Blob(&row.watermark.hash),
        Value::of(row.watermark.commit_number),
        Value::of(row.published),
        Value::Tiny(state),
        Value::set(row.successor.map(Value::Uuid)),
        Value::Text(&row.name),
    ]
}

#[derive(DeserializeRow)]
pub(crate) struct ParkedColumns {
    aggregate_type: Box<str>,
    aggregate_id: Box<str>,
    first_position: i64,
    first_sequence: Option<i64>,
    until_position: Option<i64>,
    reason: Option<Box<str>>,
    local_event: Option<Uuid>,
    remote_sequence: Option<i64>,
    remote_event: Option<Uuid>,
}

impl ParkedColumns {
    pub(crate) fn into_row(self, origin: Uuid, epoch: Uuid) -> Result<ParkedRow, WireError> {
        let stream = StreamId::new_reserved(&self.aggregate_type, &self.aggregate_id)
            .map_err(|error| strange("parked stream", error))?;
        let lacks = |what| strange("parked stream", format!("{} has no {what}", stream.clone()));
        let remote = match (self.remote_sequence, self.remote_event) {
            (Some(sequence), Some(id)) => Some((sequence.cast_unsigned(), EventId::from_uuid(id))),
            _ => None,
        };
        Ok(ParkedRow {
            first_sequence: self
                .first_sequence
                .ok_or_else(|| lacks("first sequence"))?
                .cast_unsigned(),
            until_position: self.until_position.map(i64::cast_unsigned),
            reason: self.reason.ok_or_else(|| lacks("reason"))?,
            local_event: EventId::from_uuid(self.local_event.ok_or_else(|| lacks("event"))?),
            remote,
            key: ParkedKey {
                origin,
                epoch,
                first_position: self.first_position.cast_unsigned(),
                stream,
            },
        })
    }
}

#[derive(DeserializeRow)]
pub(crate) struct SnapshotColumns {
    sequence: Option<i64>,
    event_id: Option<Uuid>,
    revision: Option<i64>,
    content_type: Option<Box<str>>,
    taken_time: Option<i64>,
    version: Option<Uuid>,
    parts: Option<i32>,
    state: Option<Bytes>,
}

impl SnapshotColumns {
    pub(crate) fn into_row(self, stream: &StreamId) -> Result<SnapshotRow, WireError> {
        let lacks = |what| strange("snapshot", format!("{stream} has no {what}"));
        let revision = self.revision.ok_or_else(|| lacks("revision"))?;
        let content_type = self.content_type.ok_or_else(|| lacks("content type"))?;
        Ok(SnapshotRow {
            stream: stream.clone(),
            sequence: self
                .sequence
                .ok_or_else(|| lacks("sequence"))?
                .cast_unsigned(),
            event_id: EventId::from_uuid(self.event_id.ok_or_else(|| lacks("event"))?),
            revision: u32::try_from(revision).map_err(|_| lacks("revision of 32 bits"))?,
            content_type: ContentType::parse(&content_type)
                .map_err(|error| strange("snapshot", error))?,
            taken_time: Timestamp::from_micros(self.taken_time.ok_or_else(|| lacks("time"))?),
            version: self.version.ok_or_else(|| lacks("version"))?,
            parts: self.parts.unwrap_or(0).cast_unsigned(),
            state: self.state.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(columns: &[(&str, Option<&[u8]>)]) -> Option<bool> {
        says_applied(columns.iter().copied()).ok()
    }

    #[test]
    fn not_applied_is_read_by_name() {
        // Cassandra, applied: nothing else. Not applied: the columns of the conditions.
        assert_eq!(says(&[("[applied]", Some(&[1]))]), Some(true));
        let not = [
            ("[applied]", Some(&[0_u8][..])),
            ("head_sequence", Some(&[1])),
        ];
        assert_eq!(says(&not), Some(false));
        // ScyllaDB: the old row as well, whether it was applied or not.
        for (byte, applied) in [(&[0_u8][..], false), (&[1], true)] {
            let old = [
                ("[applied]", Some(byte)),
                ("aggregate_type", None),
                ("head_sequence", Some(&[1])),
            ];
            assert_eq!(says(&old), Some(applied));
            let turned: Vec<_> = old.iter().rev().copied().collect();
            assert_eq!(says(&turned), Some(applied));
        }
        assert_eq!(says(&[("applied", Some(&[1]))]), None);
        assert_eq!(says(&[("[applied]", None)]), None);
        assert_eq!(says(&[]), None);
    }
}
