//! Every request once.

use bytes::Bytes;
use tidelog_backends::wire::*;
use tidelog_core::*;
use uuid::Uuid;

use crate::keyspaces::Keyspace;

fn event(stream: &StreamId, sequence: u64) -> EventRow {
    EventRow {
        event: EventEnvelope {
            event_id: EventId::generate(),
            stream: stream.clone(),
            sequence,
            position: None,
            birth: None,
            kind: RecordKind::Event,
            event_type: "Noted".into(),
            revision: 1,
            content_type: ContentType::Bytes,
            event_time: Timestamp::from_micros(-5),
            recorded_time: Timestamp::from_micros(7),
            metadata: Metadata::new().with("a", "b"),
            tags: Tags::new(["x:y"]).unwrap(),
            batch: Batch { first: 1, count: 1 },
            event: Bytes::from_static(b"payload"),
        },
        place: Some(LogPlace {
            origin: Uuid::from_u128(1),
            epoch: Uuid::from_u128(2),
            position: 3,
        }),
    }
}

fn head(row: &EventRow) -> HeadRow {
    HeadRow {
        sequence: row.event.sequence,
        event_id: row.event.event_id,
        recorded: row.event.recorded_time,
    }
}

#[test]
fn every_request_is_answered() {
    let Some(keyspace) = Keyspace::named("smoke") else {
        return;
    };
    let wire = Cql::new(keyspace.config()).unwrap();
    let ask = |request: Request| pollster::block_on(wire.ask(request)).unwrap();
    pollster::block_on(wire.renew()).unwrap();
    let Reply::Meta(Some(meta)) = ask(Request::Meta) else {
        panic!("no meta");
    };
    assert_eq!(ask(Request::PutMeta(meta)), Reply::Applied(false));
    assert_eq!(ask(Request::Ping), Reply::Done);

    let stream = StreamId::new("Test", "a").unwrap();
    let bucket = Bucket {
        stream: stream.clone(),
        number: 0,
    };
    assert_eq!(ask(Request::Head(bucket.clone())), Reply::Head(None));
    let rows = [event(&stream, 1), event(&stream, 2), event(&stream, 3)];
    let append = |expected, row: &EventRow| {
        ask(Request::Append(Box::new(AppendRows {
            bucket: bucket.clone(),
            expected,
            rows: vec![row.clone()],
            head: head(row),
        })))
    };
    assert_eq!(
        append(Expected::Sequence(0), &rows[0]),
        Reply::Applied(false)
    );
    assert_eq!(append(Expected::Nothing, &rows[0]), Reply::Applied(true));
    assert_eq!(append(Expected::Nothing, &rows[0]), Reply::Applied(false));
    assert_eq!(
        append(Expected::Sequence(1), &rows[1]),
        Reply::Applied(true)
    );
    let wrong = Expected::Event(2, rows[0].event.event_id);
    assert_eq!(append(wrong, &rows[2]), Reply::Applied(false));
    let right = Expected::Event(2, rows[1].event.event_id);
    assert_eq!(append(right, &rows[2]), Reply::Applied(true));
    assert_eq!(
        ask(Request::Head(bucket.clone())),
        Reply::Head(Some(head(&rows[2])))
    );
    for serial in [false, true] {
        let Reply::Ids(ids) = ask(Request::Ids {
            bucket: bucket.clone(),
            from: 2,
            to: u64::MAX,
            serial,
        }) else {
            panic!("no ids");
        };
        assert_eq!(ids.len(), 2);
        assert_eq!(ids[0].event_id, rows[1].event.event_id);
        let page = |direction, after| {
            ask(Request::Events {
                bucket: bucket.clone(),
                from: 1,
                to: 3,
                direction,
                serial,
                page: PageAt { after, rows: 2 },
            })
        };
        let Reply::Events(first) = page(Direction::Forward, None) else {
            panic!("no events");
        };
        assert_eq!(first.rows, rows[..2]);
        let Reply::Events(second) = page(Direction::Forward, first.next) else {
            panic!("no events");
        };
        assert_eq!(second.rows, rows[2..]);
        let Reply::Events(newest) = page(Direction::Backward, None) else {
            panic!("no events");
        };
        assert_eq!(newest.rows, [rows[2].clone(), rows[1].clone()]);
    }

    let chunk = Chunk {
        origin: Uuid::from_u128(1),
        epoch: Uuid::from_u128(2),
        number: 0,
    };
    let log: Vec<_> = (1..=3)
        .map(|position| LogRow {
            position,
            event_id: EventId::generate(),
            commit_number: position,
            commit_first: position,
            commit_count: 1,
            commit_hash: [position as u8; 32],
            record: Bytes::from_static(b"record"),
        })
        .collect();
    let put = Request::PutLog {
        chunk,
        rows: log.clone(),
    };
    assert_eq!(ask(put), Reply::Done);
    for wide in [false, true] {
        let read = |records| {
            ask(Request::Log {
                chunk,
                from: 2,
                wide,
                records,
                page: PageAt {
                    after: None,
                    rows: 10,
                },
            })
        };
        let Reply::Log(found) = read(true) else {
            panic!("no log");
        };
        assert_eq!(found.rows, log[1..]);
        let Reply::Log(found) = read(false) else {
            panic!("no log");
        };
        assert_eq!(found.rows[0].record, Bytes::new());
    }

    let mark = Watermark {
        session: Uuid::from_u128(9),
        position: 0,
        hash: [0; 32],
        commit_number: 0,
    };
    let origin = OriginRow {
        origin: chunk.origin,
        epoch: chunk.epoch,
        first_epoch: chunk.epoch,
        parent: None,
        watermark: mark,
        successor: None,
        name: "till".into(),
    };
    let register = || ask(Request::Register(Box::new(origin.clone())));
    assert_eq!(register(), Reply::Applied(true));
    assert_eq!(register(), Reply::Applied(false));
    let of_origin = || ask(Request::Origins(chunk.origin));
    assert_eq!(of_origin(), Reply::Origins(vec![origin.clone()]));
    let claim = |seen, session| {
        ask(Request::Claim {
            origin: chunk.origin,
            epoch: chunk.epoch,
            seen,
            session,
        })
    };
    let mine = Watermark {
        session: Uuid::from_u128(10),
        ..mark
    };
    assert_eq!(claim(mine, mine.session), Reply::Applied(false));
    assert_eq!(claim(mark, mine.session), Reply::Applied(true));
    let to = Watermark {
        position: 3,
        hash: [3; 32],
        commit_number: 3,
        ..mine
    };
    let advance = |seen| {
        ask(Request::Advance {
            origin: chunk.origin,
            epoch: chunk.epoch,
            seen,
            to,
        })
    };
    assert_eq!(advance(mark), Reply::Applied(false));
    assert_eq!(advance(mine), Reply::Applied(true));
    let fork = |seen| {
        ask(Request::Fork(Box::new(ForkRows {
            row: OriginRow {
                epoch: Uuid::from_u128(77),
                parent: Some((chunk.epoch, 3, [3; 32])),
                ..origin.clone()
            },
            retires: Some((chunk.epoch, seen)),
        })))
    };
    assert_eq!(fork(mine), Reply::Applied(false));
    assert_eq!(fork(to), Reply::Applied(true));
    let Reply::Origins(all) = of_origin() else {
        panic!("no origins");
    };
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].successor, Some(Uuid::from_u128(77)));
    assert_eq!(all[0].watermark, to);
    assert_eq!(all[1].parent, Some((chunk.epoch, 3, [3; 32])));
    assert_eq!(ask(Request::AllOrigins), Reply::Origins(all));

    let parked = ParkedRow {
        key: ParkedKey {
            origin: chunk.origin,
            epoch: chunk.epoch,
            stream: stream.clone(),
            first_position: 3,
        },
        first_sequence: 3,
        until_position: None,
        reason: "diverged".into(),
        local_event: EventId::generate(),
        remote: Some((3, EventId::generate())),
    };
    let unpark = |key: &ParkedKey| {
        ask(Request::Unpark {
            key: key.clone(),
            until_position: 9,
        })
    };
    assert_eq!(unpark(&parked.key), Reply::Applied(false));
    let park = || ask(Request::Park(Box::new(parked.clone())));
    assert_eq!(park(), Reply::Applied(true));
    assert_eq!(park(), Reply::Applied(false));
    assert_eq!(unpark(&parked.key), Reply::Applied(true));
    assert_eq!(unpark(&parked.key), Reply::Applied(false));
    let all = ask(Request::Parked {
        origin: chunk.origin,
        epoch: chunk.epoch,
    });
    let resolved = ParkedRow {
        until_position: Some(9),
        ..parked
    };
    assert_eq!(all, Reply::Parked(vec![resolved]));

    assert_eq!(
        ask(Request::Snapshot(stream.clone())),
        Reply::Snapshot(None)
    );
    let snapshot = SnapshotRow {
        stream: stream.clone(),
        sequence: 3,
        event_id: rows[2].event.event_id,
        revision: u32::MAX,
        content_type: ContentType::Json,
        taken_time: Timestamp::from_micros(1),
        version: Uuid::from_u128(5),
        parts: 0,
        state: Bytes::from_static(b""),
    };
    let set = |seen| {
        ask(Request::SetSnapshot {
            seen,
            row: Box::new(snapshot.clone()),
        })
    };
    assert_eq!(set(Some(Uuid::nil())), Reply::Applied(false));
    assert_eq!(set(None), Reply::Applied(true));
    assert_eq!(set(None), Reply::Applied(false));
    assert_eq!(set(Some(snapshot.version)), Reply::Applied(true));
    assert_eq!(
        ask(Request::Snapshot(stream.clone())),
        Reply::Snapshot(Some(Box::new(snapshot.clone())))
    );
    let part = |version| Request::Part {
        stream: stream.clone(),
        version: Uuid::from_u128(version),
        part: 0,
    };
    for version in [1, 2] {
        let put = Request::PutPart {
            stream: stream.clone(),
            version: Uuid::from_u128(version),
            part: 0,
            state: Bytes::from_static(b"part"),
        };
        assert_eq!(ask(put), Reply::Done);
    }
    let drop = Request::DropParts {
        stream: stream.clone(),
        before: Uuid::from_u128(2),
    };
    assert_eq!(ask(drop), Reply::Done);
    assert_eq!(ask(part(1)), Reply::Part(None));
    assert_eq!(ask(part(2)), Reply::Part(Some(Bytes::from_static(b"part"))));
}
