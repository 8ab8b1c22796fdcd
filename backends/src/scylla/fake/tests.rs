//! What the server in memory does beyond answering: rounds that nobody finished, replicas that are
//! behind, losses, and a wire that fails. What it answers is asked in `backends/tests/wire`.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tidelog_core::{
    Batch, ContentType, EventEnvelope, EventId, Metadata, RecordKind, StreamId, Tags, Timestamp,
};
use uuid::Uuid;

use super::super::request::{
    AppendRows, Bucket, Chunk, ErrorClass, EventRow, Expected, HeadRow, LogRow, MetaRow, PageAt,
    Reply, Request, Wire,
};
use super::{Chance, FakeServer, FakeWire, Fault, Limits, Table};

fn meta() -> MetaRow {
    MetaRow {
        keyspace_id: Uuid::from_u128(7),
        schema_version: 1,
        bucket_events: 1000,
        chunk_records: 1000,
        arbitration_dc: None,
    }
}

fn bucket() -> Bucket {
    Bucket {
        stream: StreamId::new("T", "a").unwrap(),
        number: 0,
    }
}

fn id(n: u64) -> EventId {
    EventId::from_uuid(Uuid::from_u128(n.into()))
}

fn row(sequence: u64, size: usize) -> EventRow {
    EventRow {
        event: EventEnvelope {
            event_id: id(sequence),
            stream: bucket().stream,
            sequence,
            position: Some(99),
            birth: None,
            kind: RecordKind::Event,
            event_type: Arc::from("E"),
            revision: 1,
            content_type: ContentType::Json,
            event_time: Timestamp::from_micros(1),
            recorded_time: Timestamp::from_micros(2),
            metadata: Metadata::new(),
            tags: Tags::none(),
            batch: Batch { first: 1, count: 1 },
            event: vec![b'x'; size].into(),
        },
        place: None,
    }
}

fn append(expected: Expected, sequence: u64) -> Request {
    Request::Append(Box::new(AppendRows {
        bucket: bucket(),
        expected,
        rows: vec![row(sequence, 4)],
        head: HeadRow {
            sequence,
            event_id: id(sequence),
            recorded: Timestamp::from_micros(2),
        },
    }))
}

fn ids(serial: bool) -> Request {
    Request::Ids {
        bucket: bucket(),
        from: 1,
        to: 100,
        serial,
    }
}

fn sequences(server: &mut FakeServer, serial: bool, luck: Chance) -> Vec<u64> {
    let mut luck = |asked| asked == luck;
    match server.execute(&ids(serial), &mut luck).unwrap() {
        Reply::Ids(rows) => rows.iter().map(|row| row.sequence).collect(),
        other => panic!("{other:?}"),
    }
}

fn never(_: Chance) -> bool {
    false
}

/// The answer of a future that needs nobody.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

#[test]
fn a_round_that_was_not_committed_is_finished_or_dropped_by_the_next_at_serial() {
    for finish in [true, false] {
        let mut server = FakeServer::new(meta());
        server.propose(&append(Expected::Nothing, 1), &mut never);
        assert_eq!(server.proposed(), 1);
        assert!(sequences(&mut server, false, Chance::Finish).is_empty());
        let luck = if finish {
            Chance::Finish
        } else {
            Chance::Behind
        };
        let seen = sequences(&mut server, true, luck);
        assert_eq!(seen, if finish { vec![1] } else { vec![] });
        assert_eq!(server.proposed(), 0);
    }
}

#[test]
fn a_round_that_is_finished_by_the_next_write_decides_its_condition() {
    let mut server = FakeServer::new(meta());
    server.propose(&append(Expected::Nothing, 1), &mut never);
    let mut finish = |_| true;
    let again = server.execute(&append(Expected::Nothing, 1), &mut finish);
    assert_eq!(again, Ok(Reply::Applied(false)));
}

#[test]
fn a_replica_that_is_behind_misses_the_last_write_alone_and_only_below_serial() {
    let mut server = FakeServer::new(meta());
    for n in 1..=2 {
        let expected = if n == 1 {
            Expected::Nothing
        } else {
            Expected::Event(1, id(1))
        };
        let applied = server.execute(&append(expected, n), &mut never);
        assert_eq!(applied, Ok(Reply::Applied(true)));
    }
    assert_eq!(sequences(&mut server, false, Chance::Behind), [1]);
    assert_eq!(sequences(&mut server, true, Chance::Behind), [1, 2]);
    server.catch_up();
    assert_eq!(sequences(&mut server, false, Chance::Behind), [1, 2]);
}

#[test]
fn the_last_writes_are_taken_back_newest_first() {
    let mut server = FakeServer::new(meta());
    let image = server.tables().clone();
    server
        .execute(&append(Expected::Nothing, 1), &mut never)
        .unwrap();
    let one = server.tables().clone();
    server
        .execute(&append(Expected::Sequence(1), 2), &mut never)
        .unwrap();
    server.lose_last(1);
    assert_eq!(*server.tables(), one);
    server.lose_last(9);
    assert_eq!(*server.tables(), image);
}

#[test]
fn what_is_lost_is_gone_and_nothing_else() {
    let mut server = FakeServer::new(meta());
    let chunk = Chunk {
        origin: Uuid::from_u128(1),
        epoch: Uuid::from_u128(2),
        number: 0,
    };
    let log = |position| LogRow {
        position,
        event_id: id(position),
        commit_number: position,
        commit_first: position,
        commit_count: 1,
        commit_hash: [0; 32],
        record: vec![1].into(),
    };
    let rows = vec![log(1), log(2)];
    server
        .execute(&Request::PutLog { chunk, rows }, &mut never)
        .unwrap();
    for n in 1..=2 {
        let expected = if n == 1 {
            Expected::Nothing
        } else {
            Expected::Sequence(1)
        };
        server.execute(&append(expected, n), &mut never).unwrap();
    }
    server.lose_log_row(&chunk, 1, id(1));
    let page = PageAt {
        after: None,
        rows: 10,
    };
    let left = Request::Log {
        chunk,
        from: 1,
        wide: false,
        records: false,
        page,
    };
    match server.execute(&left, &mut never).unwrap() {
        Reply::Log(left) => assert_eq!(left.rows.iter().map(|r| r.position).max(), Some(2)),
        other => panic!("{other:?}"),
    }
    server.lose_event(&bucket(), 1);
    assert_eq!(sequences(&mut server, true, Chance::Finish), [2]);
    server.lose_head(&bucket());
    let head = server.execute(&Request::Head(bucket()), &mut never);
    assert_eq!(head, Ok(Reply::Head(None)));
    assert_eq!(sequences(&mut server, true, Chance::Finish), [2]);
    server.lose_chunk(&chunk);
    server.lose_bucket(&bucket());
    assert!(server.tables().log.is_empty() && server.tables().events.is_empty());
    assert!(server.tables().meta.is_some());
    for table in Table::ALL {
        server.truncate(table);
    }
    assert_eq!(*server.tables(), super::Tables::default());
}

#[test]
fn without_tables_and_above_the_limit_it_refuses() {
    let mut server = FakeServer::without_tables();
    let class = |answer: Result<Reply, super::super::request::WireError>| answer.unwrap_err().class;
    assert_eq!(
        class(server.execute(&Request::Meta, &mut never)),
        ErrorClass::Refused
    );
    server.migrate(meta());
    assert_eq!(
        server.execute(&Request::Meta, &mut never),
        Ok(Reply::Meta(Some(meta())))
    );
    server.set_limits(Limits { batch_bytes: 130 });
    let large = server.execute(&append(Expected::Nothing, 1), &mut never);
    assert_eq!(class(large), ErrorClass::Refused);
}

#[test]
fn a_wire_fails_as_it_is_told() {
    let wire = FakeWire::new(FakeServer::new(meta()));
    let ask = |fault: Fault, request| {
        wire.set_faults(move |_| fault.clone());
        now(wire.ask(request))
    };
    let first = || append(Expected::Nothing, 1);
    let class = |answer: Option<Result<Reply, super::super::request::WireError>>| {
        answer.unwrap().unwrap_err().class
    };
    assert_eq!(class(ask(Fault::NotSent, first())), ErrorClass::NotSent);
    assert_eq!(class(ask(Fault::Refused, first())), ErrorClass::Refused);
    assert_eq!(class(ask(Fault::LostRequest, first())), ErrorClass::Unclear);
    assert_eq!(ask(Fault::Silence, first()), None);
    assert!(wire.with_server(|server| server.tables().events.is_empty()));
    assert_eq!(class(ask(Fault::Late, first())), ErrorClass::Unclear);
    assert_eq!(wire.deliver_late(), 1);
    assert_eq!(
        ask(Fault::None, first()),
        Some(Ok(Reply::Applied(false))),
        "the late one came first"
    );
    let next = |n: u64| append(Expected::Event(n - 1, id(n - 1)), n);
    assert_eq!(class(ask(Fault::LostReply, next(2))), ErrorClass::Unclear);
    assert_eq!(ask(Fault::Twice, next(3)), Some(Ok(Reply::Applied(true))));
    assert_eq!(wire.deliver_late(), 1);
    assert_eq!(class(ask(Fault::Proposed, next(4))), ErrorClass::Unclear);
    let seen = ask(Fault::None, ids(true)).unwrap().unwrap();
    assert!(matches!(seen, Reply::Ids(rows) if rows.len() == 4));
    assert_eq!(wire.take_asked().len(), 10);
}
