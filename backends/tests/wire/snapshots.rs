//! `snapshots` and `snapshot_parts`.

use bytes::Bytes;
use tidelog_backends::wire::{Reply, Request, SnapshotRow};
use tidelog_core::{ContentType, Timestamp};
use uuid::Uuid;

use crate::kit::{Ask, cases};

cases![
    a_stream_has_no_snapshot_at_first,
    a_first_snapshot_wants_none,
    a_snapshot_takes_the_place_of_the_one_that_was_seen,
    a_snapshot_in_parts,
    parts_that_were_never_put_are_missing,
    parts_of_older_versions_are_dropped,
];

/// A version 7 uuid, `n` in its time.
fn version(n: u8) -> Uuid {
    let mut bytes = [0; 16];
    bytes[5] = n;
    bytes[6] = 0x70;
    bytes[8] = 0x80;
    Uuid::from_bytes(bytes)
}

fn row(ask: &Ask, n: u8) -> SnapshotRow {
    SnapshotRow {
        stream: ask.stream("s"),
        sequence: u64::from(n) * 10,
        event_id: ask.id(n.into()),
        revision: u32::MAX,
        content_type: ContentType::Json,
        taken_time: Timestamp::from_micros(-5),
        version: version(n),
        parts: 0,
        state: vec![n; 1000].into(),
    }
}

fn set(seen: Option<u8>, row: SnapshotRow) -> Request {
    Request::SetSnapshot {
        seen: seen.map(version),
        row: Box::new(row),
    }
}

async fn read(ask: &Ask) -> Option<SnapshotRow> {
    match ask.ask(Request::Snapshot(ask.stream("s"))).await {
        Reply::Snapshot(row) => row.map(|row| *row),
        other => panic!("{other:?}"),
    }
}

async fn part(ask: &Ask, n: u8, part: u32) -> Option<Bytes> {
    let request = Request::Part {
        stream: ask.stream("s"),
        version: version(n),
        part,
    };
    match ask.ask(request).await {
        Reply::Part(state) => state,
        other => panic!("{other:?}"),
    }
}

async fn put_part(ask: &Ask, n: u8, part: u32, state: &'static [u8]) {
    ask.done(Request::PutPart {
        stream: ask.stream("s"),
        version: version(n),
        part,
        state: Bytes::from_static(state),
    })
    .await;
}

async fn a_stream_has_no_snapshot_at_first(ask: Ask) {
    assert_eq!(read(&ask).await, None);
}

async fn a_first_snapshot_wants_none(ask: Ask) {
    assert!(!ask.applied(set(Some(1), row(&ask, 2))).await);
    assert_eq!(read(&ask).await, None);
    assert!(ask.applied(set(None, row(&ask, 1))).await);
    assert!(!ask.applied(set(None, row(&ask, 2))).await);
    assert_eq!(read(&ask).await, Some(row(&ask, 1)));
}

async fn a_snapshot_takes_the_place_of_the_one_that_was_seen(ask: Ask) {
    assert!(ask.applied(set(None, row(&ask, 1))).await);
    assert!(!ask.applied(set(Some(2), row(&ask, 2))).await);
    let mut large = row(&ask, 2);
    large.state = vec![2; 256 << 10].into();
    assert!(ask.applied(set(Some(1), large.clone())).await);
    assert_eq!(read(&ask).await, Some(large));
    assert!(ask.applied(set(Some(2), row(&ask, 1))).await);
    assert_eq!(read(&ask).await, Some(row(&ask, 1)));
}

async fn a_snapshot_in_parts(ask: Ask) {
    put_part(&ask, 1, 0, b"one ").await;
    put_part(&ask, 1, 1, b"two").await;
    put_part(&ask, 1, 2, b"").await;
    let mut row = row(&ask, 1);
    row.parts = 3;
    row.state = Bytes::new();
    assert!(ask.applied(set(None, row.clone())).await);
    assert_eq!(read(&ask).await, Some(row));
    assert_eq!(part(&ask, 1, 0).await, Some("one ".into()));
    assert_eq!(part(&ask, 1, 1).await, Some("two".into()));
    assert_eq!(part(&ask, 1, 2).await, Some(Bytes::new()));
}

async fn parts_that_were_never_put_are_missing(ask: Ask) {
    assert_eq!(part(&ask, 1, 0).await, None);
    put_part(&ask, 1, 0, b"x").await;
    assert_eq!(part(&ask, 1, 1).await, None);
    assert_eq!(part(&ask, 2, 0).await, None);
}

async fn parts_of_older_versions_are_dropped(ask: Ask) {
    for n in 1..=4 {
        put_part(&ask, n, 0, b"x").await;
        put_part(&ask, n, 1, b"y").await;
    }
    ask.done(Request::DropParts {
        stream: ask.stream("s"),
        before: version(3),
    })
    .await;
    for (n, there) in [(1, false), (2, false), (3, true), (4, true)] {
        assert_eq!(part(&ask, n, 0).await.is_some(), there, "version {n}");
        assert_eq!(part(&ask, n, 1).await.is_some(), there, "version {n}");
    }
}
