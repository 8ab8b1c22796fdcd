//! The tables, and what a request reads there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidelog_core::{Direction, EventId, StreamId};
use uuid::Uuid;

use super::super::request::{
    Bucket, Chunk, EventRow, HeadRow, IdRow, LogRow, MetaRow, OriginRow, Page, PageAt, ParkedRow,
    Rows, SnapshotRow,
};

/// Everything a keyspace holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables {
    /// `tidelog_meta`.
    pub meta: Option<MetaRow>,
    /// `events_by_stream`.
    pub events: BTreeMap<Bucket, EventPartition>,
    /// `log_by_origin`, by position, event id and commit hash.
    pub log: BTreeMap<Chunk, BTreeMap<LogAt, LogRow>>,
    /// `origins`, by origin, then epoch.
    pub origins: BTreeMap<Uuid, BTreeMap<Uuid, OriginRow>>,
    /// `parked_by_origin`, by origin and epoch, then stream and first position.
    pub parked: BTreeMap<(Uuid, Uuid), BTreeMap<ParkedAt, ParkedRow>>,
    /// `snapshots`.
    pub snapshots: BTreeMap<StreamId, SnapshotRow>,
    /// `snapshot_parts`.
    pub parts: BTreeMap<StreamId, BTreeMap<(UuidOrder, u32), Bytes>>,
}

/// One partition of `events_by_stream`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventPartition {
    /// Its statics.
    pub head: Option<HeadRow>,
    /// Its rows, by sequence.
    pub rows: BTreeMap<u64, EventRow>,
}

/// The clustering of `parked_by_origin`: type, id, first position. Texts are ordered each by
/// itself, which is not the order of `type/id`.
pub type ParkedAt = (Box<str>, Box<str>, u64);

/// The clustering of `log_by_origin`: position, event id, commit hash.
pub type LogAt = (u64, UuidOrder, [u8; 32]);

/// A uuid in the order of the servers: by version first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UuidOrder(usize, Uuid);

impl UuidOrder {
    /// Where `uuid` stands. The order of version 1, by time, is not needed here.
    pub fn of(uuid: Uuid) -> Self {
        Self(uuid.get_version_num(), uuid)
    }
}

/// What a read does not see: a replica is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unseen {
    Sequences(BTreeSet<u64>),
    Positions(BTreeSet<LogAt>),
}

impl Unseen {
    fn hides_sequence(unseen: Option<&Self>, sequence: u64) -> bool {
        matches!(unseen, Some(Self::Sequences(which)) if which.contains(&sequence))
    }

    fn hides_position(unseen: Option<&Self>, place: &LogAt) -> bool {
        matches!(unseen, Some(Self::Positions(which)) if which.contains(place))
    }
}

impl Tables {
    pub(super) fn head(&self, bucket: &Bucket) -> Option<HeadRow> {
        self.events.get(bucket)?.head
    }

    pub(super) fn ids(
        &self,
        bucket: &Bucket,
        from: u64,
        to: u64,
        unseen: Option<&Unseen>,
    ) -> Vec<IdRow> {
        self.rows(bucket, from, to, unseen)
            .map(|row| IdRow {
                sequence: row.event.sequence,
                event_id: row.event.event_id,
                origin: row.place.map(|place| place.origin),
                recorded: row.event.recorded_time,
            })
            .collect()
    }

    pub(super) fn event_page(
        &self,
        bucket: &Bucket,
        (mut from, mut to): (u64, u64),
        direction: Direction,
        page: &PageAt,
        unseen: Option<&Unseen>,
    ) -> Rows<EventRow> {
        let after = page.after.as_ref().and_then(sequence_of);
        match (direction, after) {
            (Direction::Forward, Some(after)) => from = from.max(after.saturating_add(1)),
            (Direction::Backward, Some(after)) => to = to.min(after.saturating_sub(1)),
            (_, None) => {}
        }
        let mut rows: Vec<EventRow> = self.rows(bucket, from, to, unseen).cloned().collect();
        if direction == Direction::Backward {
            rows.reverse();
        }
        cut(rows, page, |row| {
            Bytes::copy_from_slice(&row.event.sequence.to_be_bytes())
        })
    }

    fn rows<'a>(
        &'a self,
        bucket: &Bucket,
        from: u64,
        to: u64,
        unseen: Option<&'a Unseen>,
    ) -> impl Iterator<Item = &'a EventRow> {
        let partition = self.events.get(bucket).filter(|_| from <= to);
        partition
            .into_iter()
            .flat_map(move |partition| partition.rows.range(from..=to))
            .filter(move |(sequence, _)| !Unseen::hides_sequence(unseen, **sequence))
            .map(|(_, row)| row)
    }

    pub(super) fn log_page(
        &self,
        chunk: &Chunk,
        from: u64,
        records: bool,
        page: &PageAt,
        unseen: Option<&Unseen>,
    ) -> Rows<LogRow> {
        let after = page.after.as_ref().and_then(place_of);
        let rows = self
            .log
            .get(chunk)
            .into_iter()
            .flat_map(|rows| rows.range((from, UuidOrder::of(Uuid::nil()), [0; 32])..))
            .filter(|(place, _)| after.is_none_or(|after| **place > after))
            .filter(|(place, _)| !Unseen::hides_position(unseen, place))
            .map(|(_, row)| LogRow {
                record: if records {
                    row.record.clone()
                } else {
                    Bytes::new()
                },
                ..row.clone()
            })
            .collect();
        cut(rows, page, |row| {
            let mut at = row.position.to_be_bytes().to_vec();
            at.extend_from_slice(row.event_id.as_bytes());
            at.extend_from_slice(&row.commit_hash);
            at.into()
        })
    }
}

/// A full page says that there may be more, as the servers do: what follows may be empty.
fn cut<T>(mut rows: Vec<T>, page: &PageAt, at: impl Fn(&T) -> Bytes) -> Rows<T> {
    let most = usize::try_from(page.rows).unwrap_or(usize::MAX).max(1);
    let next = rows.get(most - 1).map(|last| Page(at(last)));
    rows.truncate(most);
    Rows { rows, next }
}

fn sequence_of(page: &Page) -> Option<u64> {
    Some(u64::from_be_bytes(*page.0.first_chunk()?))
}

/// Where a row of a log stands.
pub(super) fn log_at(position: u64, event_id: EventId, commit_hash: [u8; 32]) -> LogAt {
    (position, UuidOrder::of(*event_id.as_uuid()), commit_hash)
}

fn place_of(page: &Page) -> Option<LogAt> {
    let position = u64::from_be_bytes(*page.0.first_chunk()?);
    let id = page.0.get(8..)?.first_chunk()?;
    let hash = page.0.get(24..)?.first_chunk()?;
    Some(log_at(position, EventId::from_bytes(*id), *hash))
}
