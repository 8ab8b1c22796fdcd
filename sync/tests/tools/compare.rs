//! Logs against what stands in a keyspace, event by event, in both directions.
//!
//! The tables are read by a plain session of the driver, and the rows are looked at here: nothing
//! of what wrote them, or of what restore and followers read them with, takes part.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures_util::TryStreamExt;
use tidelog_backends::SledStore;
use tidelog_backends::commits::{Commit, CommitRecord};
use tidelog_backends::scylla_driver::client::session::Session;
use tidelog_backends::scylla_driver::{self as driver, DeserializeRow};
use tidelog_core::{EventEnvelope, EventId, EventLog as _, RecordKind, StreamId, Superseded};
use uuid::Uuid;

/// The log of one store.
#[derive(Debug)]
pub struct Log {
    origin: Uuid,
    commits: Vec<Commit>,
}

/// Where an event stands in its stream.
type Place = (String, String, i64);

/// A keyspace as it stands.
#[derive(Clone, Debug)]
pub struct Found {
    bucket_events: i64,
    events: Vec<EventRow>,
    heads: Vec<HeadRow>,
    log: Vec<LogRow>,
}

/// How much was found equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Events of the logs that stand in `events_by_stream`.
    pub events: usize,
    /// Records of the logs that stand in `log_by_origin`.
    pub records: usize,
    /// Rows of `events_by_stream` that no log has: appended directly.
    pub direct: usize,
}

#[derive(Clone, Debug, DeserializeRow)]
#[scylla(crate = driver)]
struct EventRow {
    aggregate_type: String,
    aggregate_id: String,
    bucket: i64,
    sequence: Option<i64>,
    event_id: Option<Uuid>,
    kind: Option<i8>,
    event_type: Option<String>,
    revision: Option<i64>,
    content_type: Option<String>,
    event_time: Option<i64>,
    recorded_time: Option<i64>,
    batch_first: Option<i64>,
    batch_count: Option<i32>,
    metadata: Option<String>,
    tags: Option<String>,
    payload: Option<Bytes>,
    origin: Option<Uuid>,
    origin_position: Option<i64>,
}

#[derive(Clone, Debug, DeserializeRow)]
#[scylla(crate = driver)]
struct HeadRow {
    aggregate_type: String,
    aggregate_id: String,
    bucket: i64,
    head_sequence: Option<i64>,
    head_event_id: Option<Uuid>,
}

#[derive(Clone, Debug, DeserializeRow)]
#[scylla(crate = driver)]
struct LogRow {
    origin: Uuid,
    epoch: Uuid,
    chunk: i64,
    position: i64,
    event_id: Uuid,
    commit_number: i64,
    commit_first: i64,
    commit_count: i32,
    commit_hash: Bytes,
    record: Bytes,
}

impl Log {
    /// All that is durable in `store` now.
    pub fn of(store: &SledStore) -> Self {
        let origin = store.identity().origin;
        let (mut reader, mut commits) = (store.commits(0), Vec::new());
        loop {
            let more = reader.next(4 << 20).unwrap();
            if more.is_empty() {
                return Self { origin, commits };
            }
            commits.extend(more);
        }
    }

    /// Panics unless it is `other` so far, commit by commit, and then goes on at most.
    pub fn begins_with(&self, other: &Self) {
        assert_eq!(self.origin, other.origin);
        for (at, commit) in other.commits.iter().enumerate() {
            assert_eq!(self.commits.get(at), Some(commit));
        }
    }

    /// How many records it has, and how many of them are events.
    pub fn counts(&self) -> (usize, usize) {
        let events = self
            .each()
            .filter(|(_, record)| record.kind != RecordKind::Control);
        (self.each().count(), events.count())
    }

    fn superseded(&self) -> Vec<Superseded> {
        let records = self
            .each()
            .filter(|(_, record)| record.kind == RecordKind::Control);
        let records = records.map(|(_, record)| record.envelope().unwrap());
        records
            .filter_map(|envelope| Superseded::of(&envelope))
            .collect()
    }

    /// Its records, with the commits that they are of.
    fn each(&self) -> impl Iterator<Item = (&Commit, CommitRecord<'_>)> {
        let commits = self.commits.iter();
        commits.flat_map(|commit| commit.each().map(move |record| (commit, record.unwrap())))
    }
}

impl Found {
    /// Reads `keyspace`.
    pub async fn read(session: &Session, keyspace: &str) -> Self {
        let meta = format!("SELECT bucket_events FROM {keyspace}.tidelog_meta");
        let meta = session.query_unpaged(meta, ()).await.unwrap();
        let meta = meta.into_rows_result().unwrap();
        let (bucket_events,) = meta.single_row::<(i64,)>().unwrap();
        let events = "aggregate_type, aggregate_id, bucket, sequence, event_id, kind, event_type, revision, \
             content_type, event_time, recorded_time, batch_first, batch_count, metadata, tags, payload, origin, \
             origin_position";
        let heads = "DISTINCT aggregate_type, aggregate_id, bucket, head_sequence, head_event_id";
        let log = "origin, epoch, chunk, position, event_id, commit_number, commit_first, commit_count, \
             commit_hash, record";
        Self {
            bucket_events,
            events: rows(
                session,
                format!("SELECT {events} FROM {keyspace}.events_by_stream"),
            )
            .await,
            heads: rows(
                session,
                format!("SELECT {heads} FROM {keyspace}.events_by_stream"),
            )
            .await,
            log: rows(
                session,
                format!("SELECT {log} FROM {keyspace}.log_by_origin"),
            )
            .await,
        }
    }

    /// How many events `events_by_stream` has.
    pub fn events(&self) -> usize {
        let rows = self.events.iter().filter(|row| row.sequence.is_some());
        rows.count()
    }

    /// How many records `log_by_origin` has.
    pub fn records(&self) -> usize {
        self.log.len()
    }

    /// Panics unless the keyspace has just what these logs have, and what was appended directly.
    /// Events that gave way to another origin's stand in `log_by_origin` alone, and so do those that
    /// are `held`.
    pub fn agrees(
        &self,
        logs: &[Log],
        direct: &BTreeMap<(String, String, u64), EventId>,
        held: impl Fn(&Log, &CommitRecord<'_>) -> bool,
    ) -> Agreement {
        let places = self.places();
        self.streams_are_whole(&places);
        let mut agreement = Agreement {
            records: self.logs_are(logs),
            ..Agreement::default()
        };
        let mut expected: BTreeMap<Place, EventId> = BTreeMap::new();
        for ((kind, id, sequence), event) in direct {
            let place = (kind.clone(), id.clone(), sequence.cast_signed());
            expected.insert(place, *event);
        }
        for log in logs {
            let superseded = log.superseded();
            for (_, record) in log.each() {
                let gave_way = |what: &Superseded| {
                    what.concerns(&record.stream, record.sequence, record.position)
                };
                if record.kind == RecordKind::Control
                    || superseded.iter().any(gave_way)
                    || held(log, &record)
                {
                    continue;
                }
                let envelope = record.envelope().unwrap();
                let place = place_of(&envelope);
                let row = places.get(&place);
                let row = row.unwrap_or_else(|| panic!("{place:?} is not there: {record:?}"));
                assert_same(log, &envelope, row);
                let before = expected.insert(place, envelope.event_id);
                assert!(
                    before.is_none_or(|id| id == envelope.event_id),
                    "two logs have different events at {record:?}"
                );
                agreement.events += 1;
            }
        }
        for (place, row) in &places {
            let id = EventId::from_uuid(row.event_id.unwrap());
            assert_eq!(expected.get(place), Some(&id), "nobody recorded {row:?}");
            agreement.direct += usize::from(row.origin.is_none());
        }
        agreement
    }

    /// What was appended directly.
    pub fn direct(&self) -> BTreeMap<(String, String, u64), EventId> {
        let rows = self.events.iter().filter(|row| row.origin.is_none());
        let rows = rows.filter_map(|row| {
            let place = (
                row.aggregate_type.clone(),
                row.aggregate_id.clone(),
                row.sequence?.cast_unsigned(),
            );
            Some((place, EventId::from_uuid(row.event_id?)))
        });
        rows.collect()
    }

    /// Texts of a stream's events, in order.
    pub fn texts(&self, stream: &StreamId) -> Vec<String> {
        let rows = self.events.iter().filter(|row| {
            row.sequence.is_some()
                && row.aggregate_type == stream.aggregate_type()
                && row.aggregate_id == stream.aggregate_id()
        });
        let texts: BTreeMap<_, _> = rows
            .map(|row| {
                let text = row.payload.as_ref().unwrap().to_vec();
                (row.sequence, String::from_utf8(text).unwrap())
            })
            .collect();
        texts.into_values().collect()
    }

    /// Streams and texts of what was appended directly.
    pub fn direct_texts(&self) -> BTreeSet<(String, String)> {
        let rows = self.events.iter().filter(|row| row.origin.is_none());
        let rows = rows.filter_map(|row| {
            let text = String::from_utf8(row.payload.as_ref()?.to_vec()).ok()?;
            Some((row.aggregate_id.clone(), text))
        });
        rows.collect()
    }

    /// Panics unless each of these mistakes, made in what was read, is found. The logs agree with it,
    /// and it has a stream of three events.
    pub fn assert_sees_what_is_wrong(&self, logs: &[Log]) {
        type Mistake = fn(&mut Found, usize);
        let third = |found: &Self| {
            let mut rows = found.events.iter();
            rows.position(|row| row.sequence == Some(3)).unwrap()
        };
        let mistakes: [(&str, Mistake); 9] = [
            ("another payload", |found, at| {
                found.events[at].payload = None;
            }),
            ("another id", |found, at| {
                found.events[at].event_id = Some(Uuid::nil());
            }),
            ("another place of origin", |found, at| {
                found.events[at].origin_position = Some(0);
            }),
            ("a row is gone", |found, at| drop(found.events.remove(at))),
            ("a row in another bucket", |found, at| {
                found.events[at].bucket += 2;
            }),
            ("a row too many", |found, at| {
                let mut row = found.events[at].clone();
                "nobody's".clone_into(&mut row.aggregate_id);
                row.sequence = Some(1);
                found.events.push(row);
            }),
            ("another head", |found, _| {
                found.heads[0].head_event_id = None;
            }),
            ("a record is gone", |found, _| drop(found.log.pop())),
            ("a record with another commit", |found, _| {
                found.log[0].commit_number += 1;
            }),
        ];
        for (what, mistake) in mistakes {
            let mut found = self.clone();
            let at = third(&found);
            mistake(&mut found, at);
            let none = BTreeMap::new();
            let compared = std::panic::catch_unwind(|| found.agrees(logs, &none, |_, _| false));
            assert!(compared.is_err(), "{what}: not seen");
        }
    }

    fn places(&self) -> BTreeMap<Place, &EventRow> {
        let mut places = BTreeMap::new();
        let mut ids = BTreeSet::new();
        for row in &self.events {
            // A partition with statics alone answers one row of nulls.
            let Some(sequence) = row.sequence else {
                continue;
            };
            let place = (
                row.aggregate_type.clone(),
                row.aggregate_id.clone(),
                sequence,
            );
            let before = places.insert(place, row);
            assert!(
                before.is_none(),
                "twice, in two buckets: {row:?} {before:?}"
            );
            let id = (
                &row.aggregate_type,
                &row.aggregate_id,
                row.event_id.unwrap(),
            );
            assert!(ids.insert(id), "at two sequences of its stream: {row:?}");
        }
        places
    }

    /// Sequences are dense from 1, each in a bucket that may have it, and heads are the last rows.
    fn streams_are_whole(&self, places: &BTreeMap<Place, &EventRow>) {
        let mut lasts: BTreeMap<(&str, &str, i64), &EventRow> = BTreeMap::new();
        let mut before: Option<&Place> = None;
        for (place, row) in places {
            let follows = before.filter(|before| (&before.0, &before.1) == (&place.0, &place.1));
            assert_eq!(place.2, follows.map_or(1, |before| before.2 + 1), "{row:?}");
            before = Some(place);
            let (first, last) = (
                row.bucket * self.bucket_events + 1,
                (row.bucket + 2) * self.bucket_events,
            );
            assert!((first..last).contains(&place.2), "wrong bucket: {row:?}");
            lasts.insert((&row.aggregate_type, &row.aggregate_id, row.bucket), row);
        }
        for head in &self.heads {
            let Some(sequence) = head.head_sequence else {
                continue;
            };
            let partition = (&*head.aggregate_type, &*head.aggregate_id, head.bucket);
            let last = lasts.remove(&partition);
            let last = last.unwrap_or_else(|| panic!("a head without rows: {head:?}"));
            assert_eq!(
                (last.sequence, last.event_id),
                (Some(sequence), head.head_event_id),
                "{head:?}"
            );
        }
        assert!(lasts.is_empty(), "rows without a head: {lasts:?}");
    }

    /// Each record of each log stands in `log_by_origin` with its bytes and its commit, and nothing
    /// else does.
    fn logs_are(&self, logs: &[Log]) -> usize {
        let mut rows: BTreeMap<(Uuid, i64, Uuid), Vec<&LogRow>> = BTreeMap::new();
        for row in &self.log {
            let key = (row.origin, row.position, row.event_id);
            rows.entry(key).or_default().push(row);
        }
        // Two copies of one store share what they had before they went apart.
        let (mut records, mut seen) = (0, BTreeSet::new());
        for log in logs {
            for (commit, record) in log.each() {
                let position = record.position.cast_signed();
                let key = (log.origin, position, *record.event_id.as_uuid());
                let found = rows.get(&key);
                let found = found.unwrap_or_else(|| panic!("not in the log: {record:?}"));
                // More than one only under different epochs, in which it was sent again.
                let epochs: BTreeSet<_> = found.iter().map(|row| row.epoch).collect();
                assert_eq!(epochs.len(), found.len(), "{found:?}");
                for row in found {
                    assert_eq!(row.record, record.bytes(), "{record:?}");
                    assert!(row.chunk >= 0, "{row:?}");
                    let said = (row.commit_number, row.commit_first, row.commit_count);
                    let is = (
                        commit.number.cast_signed(),
                        commit.first_position.cast_signed(),
                        commit.records.cast_signed(),
                    );
                    assert_eq!(
                        (said, &row.commit_hash[..]),
                        (is, &commit.hash[..]),
                        "{row:?}"
                    );
                }
                records += usize::from(seen.insert(key));
            }
        }
        let more = rows.keys().find(|key| !seen.contains(key));
        assert!(more.is_none(), "no log has {more:?}");
        records
    }
}

fn place_of(envelope: &EventEnvelope) -> Place {
    (
        envelope.aggregate_type().to_owned(),
        envelope.aggregate_id().to_owned(),
        envelope.sequence.cast_signed(),
    )
}

fn assert_same(log: &Log, envelope: &EventEnvelope, row: &EventRow) {
    let json = |text: &Option<String>, empty: &str| -> serde_json::Value {
        serde_json::from_str(text.as_deref().unwrap_or(empty)).unwrap()
    };
    assert_eq!(row.event_id, Some(*envelope.event_id.as_uuid()), "{row:?}");
    assert_eq!(
        row.event_type.as_deref(),
        Some(&*envelope.event_type),
        "{row:?}"
    );
    assert_eq!(row.revision, Some(i64::from(envelope.revision)), "{row:?}");
    assert_eq!(
        row.content_type.as_deref(),
        Some(envelope.content_type.as_str()),
        "{row:?}"
    );
    assert_eq!(
        row.event_time,
        Some(envelope.event_time.as_micros()),
        "{row:?}"
    );
    assert_eq!(row.payload.as_ref(), Some(&envelope.event), "{row:?}");
    let metadata = serde_json::to_value(&envelope.metadata).unwrap();
    assert_eq!(json(&row.metadata, "{}"), metadata, "{row:?}");
    let tags = serde_json::to_value(&envelope.tags).unwrap();
    assert_eq!(json(&row.tags, "[]"), tags, "{row:?}");
    if row.origin == Some(log.origin) {
        assert_eq!(
            row.origin_position,
            envelope.position.map(u64::cast_signed),
            "{row:?}"
        );
        assert_eq!(
            row.recorded_time,
            Some(envelope.recorded_time.as_micros()),
            "{row:?}"
        );
        let kind = if envelope.kind == RecordKind::Adopted {
            2
        } else {
            1
        };
        assert_eq!(row.kind, Some(kind), "{row:?}");
        let batch = (
            envelope.batch.first.cast_signed(),
            envelope.batch.count.cast_signed(),
        );
        assert_eq!(
            (row.batch_first, row.batch_count),
            (Some(batch.0), Some(batch.1)),
            "{row:?}"
        );
    }
}

async fn rows<R>(session: &Session, text: String) -> Vec<R>
where
    R: for<'f, 'm> driver::deserialize::row::DeserializeRow<'f, 'm> + 'static,
{
    let pager = session.query_iter(text, ()).await.unwrap();
    let rows = pager.rows_stream::<R>().unwrap();
    rows.try_collect().await.unwrap()
}
