//! Rows of `origins` and `parked_by_origin`.

use bytes::Bytes;
use scylla::DeserializeRow;
use tidelog_core::{EventId, StreamId};
use uuid::Uuid;

use super::{hash, strange};
use crate::scylla::request::{OriginRow, ParkedKey, ParkedRow, Watermark, WireError};
use crate::scylla::value::Value;

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
