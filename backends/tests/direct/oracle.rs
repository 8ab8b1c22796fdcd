//! What must be true when all is over.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_backends::fake::FakeServer;
use tidelog_backends::wire::{Bucket, EventRow, HeadRow, PageAt, Reply, Request};
use tidelog_core::{
    AppendBatch, AppendOutcome, AppendReceipt, Direction, Error, EventEnvelope, EventId, StreamId,
    Timestamp,
};

use crate::network::Network;
use crate::work::{Done, Operation, SIZE, What, World, stream_of};

/// A stream as the server has it.
struct Truth {
    rows: Vec<EventEnvelope>,
    places: BTreeMap<EventId, u64>,
    /// How many batches, of all streams, have this recorded time.
    times: BTreeMap<Timestamp, usize>,
}

impl Truth {
    /// Whose answer was lost tells its own events from a twin's by when they were recorded. While the
    /// clock stands behind the newest recorded time there is no telling, and both are told that they
    /// recorded them.
    fn is_of_a_standing_clock(&self, receipt: &AppendReceipt) -> bool {
        let first = self
            .rows
            .iter()
            .find(|row| row.sequence == receipt.first_sequence);
        first.is_some_and(|first| self.is_recorded_with_another(first))
    }

    fn is_recorded_with_another(&self, row: &EventEnvelope) -> bool {
        self.times
            .get(&row.recorded_time)
            .is_some_and(|batches| *batches > 1)
    }
}

pub fn check(world: &World, network: &Network) {
    let mut streams: BTreeSet<StreamId> = BTreeSet::new();
    for operation in &world.done {
        streams.insert(stream_of(&operation.what).clone());
    }
    let mut truths: BTreeMap<_, _> = streams
        .into_iter()
        .map(|stream| {
            let truth = network.with_server(|server| truth(server, &stream));
            (stream, truth)
        })
        .collect();
    let mut times: BTreeMap<Timestamp, usize> = BTreeMap::new();
    for truth in truths.values() {
        for batch in truth.rows.chunk_by(|a, b| a.batch == b.batch) {
            *times.entry(batch[0].recorded_time).or_default() += 1;
        }
    }
    for truth in truths.values_mut() {
        truth.times.clone_from(&times);
    }
    for operation in &world.done {
        let truth = &truths[stream_of(&operation.what)];
        check_operation(operation, truth);
    }
    for (stream, truth) in &truths {
        check_batches(world, stream, truth);
        check_authors(world, truth);
    }
}

/// Whether a batch is recorded, as it is, one event after another.
pub fn stands(server: &mut FakeServer, batch: &AppendBatch) -> bool {
    let rows = rows(server, &batch.stream).concat();
    rows.windows(batch.events.len()).any(|rows| {
        rows.iter().zip(&batch.events).all(|(row, event)| {
            row.event.event_id == event.event_id && row.event.same_content(event)
        })
    })
}

/// The rows of each bucket, as they are; nothing is asked that would finish a round.
fn rows(server: &mut FakeServer, stream: &StreamId) -> Vec<Vec<EventRow>> {
    let mut buckets = Vec::new();
    for number in 0..100 {
        let bucket = Bucket {
            stream: stream.clone(),
            number,
        };
        let request = Request::Events {
            bucket,
            from: 0,
            to: u64::MAX,
            direction: Direction::Forward,
            serial: false,
            page: PageAt {
                after: None,
                rows: 1_000,
            },
        };
        match server.execute(&request, &mut |_| false).unwrap() {
            Reply::Events(found) if found.rows.is_empty() => break,
            Reply::Events(found) => buckets.push(found.rows),
            other => panic!("{other:?}"),
        }
    }
    buckets
}

/// Reads the tables; the bucket rule holds in them.
fn truth(server: &mut FakeServer, stream: &StreamId) -> Truth {
    let mut rows: Vec<EventRow> = Vec::new();
    for number in 0..100 {
        let bucket = Bucket {
            stream: stream.clone(),
            number,
        };
        let mut ask = |request: Request| server.execute(&request, &mut |_| true).unwrap();
        let Reply::Head(head) = ask(Request::Head(bucket.clone())) else {
            panic!("no head");
        };
        let Reply::Events(found) = ask(Request::Events {
            bucket,
            from: 0,
            to: u64::MAX,
            direction: Direction::Forward,
            serial: true,
            page: PageAt {
                after: None,
                rows: 1_000,
            },
        }) else {
            panic!("no events");
        };
        let last = found.rows.last().map(|row| HeadRow {
            sequence: row.event.sequence,
            event_id: row.event.event_id,
            recorded: row.event.recorded_time,
        });
        assert_eq!(
            head, last,
            "{stream}: the head of bucket {number} is its last row"
        );
        for row in &found.rows {
            let expected = row.event.batch.first - 1;
            assert_eq!(
                expected / SIZE,
                number,
                "{stream}: bucket of {:?}",
                row.event
            );
        }
        rows.extend(found.rows);
    }
    let rows: Vec<EventEnvelope> = rows.into_iter().map(|row| row.event).collect();
    let mut places = BTreeMap::new();
    let mut before = i64::MIN;
    for (sequence, row) in (1..).zip(&rows) {
        assert_eq!(row.sequence, sequence, "{stream} is not dense");
        let twice = places.insert(row.event_id, sequence);
        assert_eq!(twice, None, "{stream}: {} stands twice", row.event_id);
        assert!(row.recorded_time.as_micros() >= before, "times go back");
        before = row.recorded_time.as_micros();
    }
    Truth {
        rows,
        places,
        times: BTreeMap::new(),
    }
}

/// Everything that stands there was asked for, whole.
fn check_batches(world: &World, stream: &StreamId, truth: &Truth) {
    let asked: Vec<&AppendBatch> = world
        .done
        .iter()
        .filter_map(|operation| match &operation.what {
            What::Append(batch) if batch.stream == *stream => Some(batch),
            _ => None,
        })
        .collect();
    for rows in truth.rows.chunk_by(|a, b| a.batch == b.batch) {
        assert_eq!(rows.len(), rows[0].batch.count as usize, "part of a batch");
        assert_eq!(rows[0].sequence, rows[0].batch.first);
        let is_one =
            |batch: &&AppendBatch| {
                batch.events.len() == rows.len()
                    && batch.events.iter().zip(rows).all(|(event, row)| {
                        row.event_id == event.event_id && row.same_content(event)
                    })
            };
        assert!(asked.iter().any(is_one), "nobody asked for {rows:?}");
    }
}

/// Of all that asked for what stands there one was told that it recorded it, unless its answer was
/// none.
fn check_authors(world: &World, truth: &Truth) {
    for rows in truth.rows.chunk_by(|a, b| a.batch == b.batch) {
        let has_them = |batch: &AppendBatch| {
            let ids = || batch.events.iter().map(|event| event.event_id);
            rows.iter().any(|row| ids().any(|id| id == row.event_id))
        };
        let mut told = 0;
        let mut is_open = false;
        let mut is_behind = false;
        for operation in &world.done {
            match (&operation.what, &operation.done) {
                (What::Append(batch), None) => is_open |= has_them(batch),
                (What::Append(batch), Some(Done::Appended(answer))) => match answer {
                    Ok(receipt) => {
                        let is_it = receipt.stream == rows[0].stream
                            && receipt.first_sequence == rows[0].sequence
                            && receipt.outcome == AppendOutcome::Appended;
                        told += u32::from(is_it);
                        is_behind |= is_it && is_of_a_clock_behind(operation, receipt);
                    }
                    Err(Error::Unclear { .. } | Error::Unreachable { .. }) => {
                        is_open |= has_them(batch);
                    }
                    Err(_) => {}
                },
                _ => {}
            }
        }
        let is_clear = !is_behind && !truth.is_recorded_with_another(&rows[0]);
        assert!(
            told <= 1 || !is_clear,
            "{told} were told that they recorded {rows:?}"
        );
        assert!(told >= 1 || is_open, "nobody was told of {rows:?}");
    }
}

/// The same of what stood there before it was asked for: the clock had gone back behind it by then.
fn is_of_a_clock_behind(operation: &Operation, receipt: &AppendReceipt) -> bool {
    operation.stood && operation.clock <= receipt.recorded_time
}

fn check_operation(operation: &Operation, truth: &Truth) {
    match (&operation.what, &operation.done) {
        (_, None) => {}
        (What::Append(batch), Some(Done::Appended(answer))) => match answer {
            Ok(receipt)
                if operation.stood
                    && !is_of_a_clock_behind(operation, receipt)
                    && !truth.is_of_a_standing_clock(receipt) =>
            {
                assert_eq!(receipt.outcome, AppendOutcome::AlreadyAppended);
            }
            Err(error @ (Error::WrongVersion { .. } | Error::IdConflict { .. }))
                if operation.stood =>
            {
                panic!("it stood there already, and was answered {error}");
            }
            Ok(receipt) => {
                let rows: Vec<_> = truth
                    .rows
                    .iter()
                    .filter(|row| {
                        (receipt.first_sequence..=receipt.last_sequence).contains(&row.sequence)
                    })
                    .collect();
                assert_eq!(rows.len(), batch.events.len(), "{receipt:?} is not there");
                for (row, event) in rows.iter().zip(&batch.events) {
                    assert_eq!(row.event_id, event.event_id, "{receipt:?}");
                    assert!(row.same_content(event));
                }
                assert_eq!(rows.last().unwrap().recorded_time, receipt.recorded_time);
                if receipt.outcome == AppendOutcome::Appended {
                    assert!(batch.expected.holds(receipt.first_sequence - 1));
                    assert_eq!(rows[0].batch.first, receipt.first_sequence);
                }
            }
            Err(Error::WrongVersion {
                expected, actual, ..
            }) => {
                assert!(!expected.holds(*actual));
                assert!(*actual <= truth.rows.len() as u64);
                assert!(*actual >= operation.acknowledged, "an old head");
            }
            Err(Error::IdConflict { event_id, .. }) => {
                assert!(truth.places.contains_key(event_id), "no conflict");
            }
            Err(_) => {}
        },
        (What::Read(query), Some(Done::Read(Ok(read)))) => {
            let limit = query.limit.unwrap_or(u64::MAX) as usize;
            let from = query.from.max(1);
            let expected: Vec<EventEnvelope> = match query.direction {
                Direction::Forward => {
                    let all = truth.rows.iter().filter(|row| row.sequence >= from);
                    all.take(read.len()).cloned().collect()
                }
                Direction::Backward => {
                    let last = read.first().map_or(0, |first| first.sequence);
                    let some = truth.rows.iter().rev();
                    let some = some.filter(|row| (from..=last).contains(&row.sequence));
                    some.take(limit).cloned().collect()
                }
            };
            assert!(*read == expected, "a read of something else");
            let seen = match query.direction {
                Direction::Forward => from - 1 + read.len() as u64,
                Direction::Backward => read.first().map_or(from - 1, |first| first.sequence),
            };
            assert!(
                seen >= operation.acknowledged || operation.acknowledged < from,
                "what was acknowledged is not seen"
            );
        }
        (What::Head(_), Some(Done::Head(Ok(head)))) => {
            assert!(*head <= truth.rows.len() as u64);
            assert!(*head >= operation.acknowledged, "an old head");
        }
        (What::Find(_, id), Some(Done::Found(Ok(found)))) => match found {
            Some(found) => assert!(truth.rows.contains(found)),
            None => {
                let place = truth.places.get(id);
                let is_old = |place: &u64| *place <= operation.acknowledged;
                assert!(!place.is_some_and(is_old), "it was there");
            }
        },
        (_, Some(Done::Read(Err(error)) | Done::Head(Err(error)) | Done::Found(Err(error)))) => {
            assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
        }
        _ => panic!("another answer than was asked for"),
    }
}
