//! What a conditional write changes, if its condition holds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidelog_core::StreamId;
use uuid::Uuid;

use super::super::request::{
    AppendRows, Bucket, Chunk, EventRow, Expected, ForkRows, LogRow, MetaRow, OriginRow, ParkedKey,
    ParkedRow, Request, SnapshotRow, Watermark,
};
use super::tables::{EventPartition, LogAt, ParkedAt, Tables, Unseen, UuidOrder, log_at};

/// One partition of one table: what a Paxos round is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Partition {
    Meta,
    Events(Bucket),
    Log(Chunk),
    Origins(Uuid),
    Parked(Uuid, Uuid),
    Snapshot(StreamId),
    Parts(StreamId),
}

/// What a partition held before a write.
#[derive(Clone, Debug)]
pub(super) enum Before {
    Meta(Option<MetaRow>),
    Events(Option<EventPartition>),
    Log(Option<BTreeMap<LogAt, LogRow>>),
    Origins(Option<BTreeMap<Uuid, OriginRow>>),
    Parked(Option<BTreeMap<ParkedAt, ParkedRow>>),
    Snapshot(Option<SnapshotRow>),
    Parts(Option<BTreeMap<(UuidOrder, u32), Bytes>>),
}

/// Which partition a request is about; none for those about all of them.
pub(super) fn partition_of(request: &Request) -> Option<Partition> {
    Some(match request {
        Request::Meta | Request::PutMeta(_) => Partition::Meta,
        Request::Ping | Request::AllOrigins => return None,
        Request::Head(bucket) | Request::Ids { bucket, .. } | Request::Events { bucket, .. } => {
            Partition::Events(bucket.clone())
        }
        Request::Append(rows) => Partition::Events(rows.bucket.clone()),
        Request::PutLog { chunk, .. } | Request::Log { chunk, .. } => Partition::Log(*chunk),
        Request::Origins(origin)
        | Request::Claim { origin, .. }
        | Request::Advance { origin, .. } => Partition::Origins(*origin),
        Request::Register(row) => Partition::Origins(row.origin),
        Request::Fork(fork) => Partition::Origins(fork.row.origin),
        Request::Park(row) => Partition::Parked(row.key.origin, row.key.epoch),
        Request::Unpark { key, .. } => Partition::Parked(key.origin, key.epoch),
        Request::Parked { origin, epoch } => Partition::Parked(*origin, *epoch),
        Request::Snapshot(stream) => Partition::Snapshot(stream.clone()),
        Request::SetSnapshot { row, .. } => Partition::Snapshot(row.stream.clone()),
        Request::Part { stream, .. }
        | Request::PutPart { stream, .. }
        | Request::DropParts { stream, .. } => Partition::Parts(stream.clone()),
    })
}

/// Whether a request is a conditional write.
pub(super) fn is_conditional(request: &Request) -> bool {
    matches!(
        request,
        Request::PutMeta(_)
            | Request::Append(_)
            | Request::Register(_)
            | Request::Claim { .. }
            | Request::Advance { .. }
            | Request::Fork(_)
            | Request::Park(_)
            | Request::Unpark { .. }
            | Request::SetSnapshot { .. }
    )
}

/// Whether it takes part in Paxos: conditional writes, and reads at SERIAL.
pub(super) fn is_serial(request: &Request) -> bool {
    is_conditional(request)
        || matches!(
            request,
            Request::Meta
                | Request::Head(_)
                | Request::Ids { serial: true, .. }
                | Request::Events { serial: true, .. }
                | Request::Origins(_)
                | Request::Parked { .. }
        )
}

impl Tables {
    /// Whether the condition of `request` holds.
    pub(super) fn holds(&self, request: &Request) -> bool {
        match request {
            Request::PutMeta(_) => self.meta.is_none(),
            Request::Append(append) => {
                let head = self.head(&append.bucket);
                match append.expected {
                    Expected::Nothing => head.is_none(),
                    Expected::Sequence(sequence) => head.is_some_and(|h| h.sequence == sequence),
                    Expected::Event(sequence, id) => {
                        head.is_some_and(|h| (h.sequence, h.event_id) == (sequence, id))
                    }
                }
            }
            Request::Register(row) => self.origin(row.origin, row.epoch).is_none(),
            Request::Claim {
                origin,
                epoch,
                seen,
                ..
            }
            | Request::Advance {
                origin,
                epoch,
                seen,
                ..
            } => self.origin(*origin, *epoch).is_some_and(|row| {
                row.successor.is_none()
                    && row.watermark.session == seen.session
                    && row.watermark.position == seen.position
                    && row.watermark.hash == seen.hash
            }),
            Request::Fork(fork) => self.may_fork(fork),
            Request::Park(row) => self.parked_row(&row.key).is_none(),
            Request::Unpark { key, .. } => self
                .parked_row(key)
                .is_some_and(|row| row.until_position.is_none()),
            Request::SetSnapshot { seen, row } => {
                self.snapshots.get(&row.stream).map(|row| row.version) == *seen
            }
            _ => true,
        }
    }

    fn may_fork(&self, fork: &ForkRows) -> bool {
        let retires = |(old, seen): &(Uuid, Watermark)| {
            self.origin(fork.row.origin, *old).is_some_and(|row| {
                row.watermark.session == seen.session && row.watermark.position == seen.position
            })
        };
        self.origin(fork.row.origin, fork.row.epoch).is_none()
            && fork.retires.as_ref().is_none_or(retires)
    }

    fn origin(&self, origin: Uuid, epoch: Uuid) -> Option<&OriginRow> {
        self.origins.get(&origin)?.get(&epoch)
    }

    fn parked_row(&self, key: &ParkedKey) -> Option<&ParkedRow> {
        self.parked
            .get(&(key.origin, key.epoch))?
            .get(&parked_at(key))
    }

    /// Does what `request` writes. Answers the keys that were not there before, of the tables that
    /// may be read below SERIAL.
    pub(super) fn write(&mut self, request: &Request) -> Option<Unseen> {
        match request {
            Request::PutMeta(row) => self.meta = Some(row.clone()),
            Request::Append(append) => return Some(self.append(append)),
            Request::PutLog { chunk, rows } => {
                let partition = self.log.entry(*chunk).or_default();
                let fresh = rows
                    .iter()
                    .map(|row| (log_at(row.position, row.event_id, row.commit_hash), row))
                    .filter_map(|(place, row)| {
                        partition
                            .insert(place, row.clone())
                            .is_none()
                            .then_some(place)
                    })
                    .collect();
                return Some(Unseen::Positions(fresh));
            }
            Request::Register(row) => self.put_origin(row),
            Request::Claim {
                origin,
                epoch,
                session,
                ..
            } => self.change_origin(*origin, *epoch, |row| row.watermark.session = *session),
            Request::Advance {
                origin,
                epoch,
                to,
                published,
                ..
            } => self.change_origin(*origin, *epoch, |row| {
                row.watermark = Watermark {
                    session: row.watermark.session,
                    ..*to
                };
                row.published = *published;
            }),
            Request::Fork(fork) => {
                self.put_origin(&fork.row);
                if let Some((old, _)) = fork.retires {
                    self.change_origin(fork.row.origin, old, |row| {
                        row.successor = Some(fork.row.epoch);
                    });
                }
            }
            Request::Park(row) => {
                let partition = self.parked.entry((row.key.origin, row.key.epoch));
                let at = parked_at(&row.key);
                partition.or_default().insert(at, (**row).clone());
            }
            Request::Unpark {
                key,
                until_position,
            } => {
                let partition = self.parked.get_mut(&(key.origin, key.epoch));
                if let Some(row) = partition.and_then(|rows| rows.get_mut(&parked_at(key))) {
                    row.until_position = Some(*until_position);
                }
            }
            Request::SetSnapshot { row, .. } => {
                self.snapshots.insert(row.stream.clone(), (**row).clone());
            }
            Request::PutPart {
                stream,
                version,
                part,
                state,
            } => {
                let parts = self.parts.entry(stream.clone()).or_default();
                parts.insert((UuidOrder::of(*version), *part), state.clone());
            }
            Request::DropParts { stream, before } => {
                if let Some(parts) = self.parts.get_mut(stream) {
                    parts.retain(|(version, _), _| *version >= UuidOrder::of(*before));
                }
            }
            _ => {}
        }
        None
    }

    fn append(&mut self, append: &AppendRows) -> Unseen {
        let partition = self.events.entry(append.bucket.clone()).or_default();
        partition.head = Some(append.head);
        let mut fresh = BTreeSet::new();
        for row in &append.rows {
            let sequence = row.event.sequence;
            let there = partition.rows.remove(&sequence);
            if there.is_none() {
                fresh.insert(sequence);
            }
            partition.rows.insert(sequence, over(there, row));
        }
        Unseen::Sequences(fresh)
    }

    fn put_origin(&mut self, row: &OriginRow) {
        let epochs = self.origins.entry(row.origin).or_default();
        epochs.insert(row.epoch, row.clone());
    }

    fn change_origin(&mut self, origin: Uuid, epoch: Uuid, change: impl FnOnce(&mut OriginRow)) {
        let row = self
            .origins
            .get_mut(&origin)
            .and_then(|e| e.get_mut(&epoch));
        if let Some(row) = row {
            change(row);
        }
    }

    pub(super) fn take_before(&self, partition: &Partition) -> Before {
        match partition {
            Partition::Meta => Before::Meta(self.meta.clone()),
            Partition::Events(bucket) => Before::Events(self.events.get(bucket).cloned()),
            Partition::Log(chunk) => Before::Log(self.log.get(chunk).cloned()),
            Partition::Origins(origin) => Before::Origins(self.origins.get(origin).cloned()),
            Partition::Parked(origin, epoch) => {
                Before::Parked(self.parked.get(&(*origin, *epoch)).cloned())
            }
            Partition::Snapshot(stream) => Before::Snapshot(self.snapshots.get(stream).cloned()),
            Partition::Parts(stream) => Before::Parts(self.parts.get(stream).cloned()),
        }
    }

    pub(super) fn put_back(&mut self, partition: Partition, before: Before) {
        match (partition, before) {
            (Partition::Meta, Before::Meta(row)) => self.meta = row,
            (Partition::Events(key), Before::Events(rows)) => put(&mut self.events, key, rows),
            (Partition::Log(key), Before::Log(rows)) => put(&mut self.log, key, rows),
            (Partition::Origins(key), Before::Origins(rows)) => put(&mut self.origins, key, rows),
            (Partition::Parked(origin, epoch), Before::Parked(rows)) => {
                put(&mut self.parked, (origin, epoch), rows);
            }
            (Partition::Snapshot(key), Before::Snapshot(row)) => put(&mut self.snapshots, key, row),
            (Partition::Parts(key), Before::Parts(rows)) => put(&mut self.parts, key, rows),
            (partition, before) => debug_assert!(false, "{partition:?} is not of {before:?}"),
        }
    }
}

fn put<K: Ord, V>(table: &mut BTreeMap<K, V>, key: K, rows: Option<V>) {
    match rows {
        Some(rows) => table.insert(key, rows),
        None => table.remove(&key),
    };
}

pub(super) fn parked_at(key: &ParkedKey) -> ParkedAt {
    let stream = &key.stream;
    let (kind, id) = (stream.aggregate_type(), stream.aggregate_id());
    (kind.into(), id.into(), key.first_position)
}

/// A row written over another: a column that is not set stays as it was.
fn over(there: Option<EventRow>, row: &EventRow) -> EventRow {
    let mut row = row.clone();
    row.event.position = None;
    let Some(there) = there else {
        return row;
    };
    row.place = row.place.or(there.place);
    row.event.birth = row.event.birth.or(there.event.birth);
    if row.event.metadata.is_empty() {
        row.event.metadata = there.event.metadata;
    }
    if row.event.tags.as_slice().is_empty() {
        row.event.tags = there.event.tags;
    }
    row
}
