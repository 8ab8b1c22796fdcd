//! `parked_by_origin`: what an epoch has parked.

use tidelog_backends::wire::{ParkedKey, ParkedRow, Reply, Request};
use tidelog_core::StreamId;

use crate::kit::{Ask, cases};

cases![
    nothing_is_parked_at_first,
    a_stream_is_parked_once,
    a_parked_stream_without_a_remote,
    parked_entries_are_in_order,
    a_parked_stream_is_resolved_once,
    what_was_never_parked_is_not_resolved,
    parked_entries_are_of_their_epoch,
];

fn entry(ask: &Ask, stream: &StreamId, first_position: u64) -> ParkedRow {
    ParkedRow {
        key: ParkedKey {
            origin: ask.uuid(1),
            epoch: ask.uuid(2),
            stream: stream.clone(),
            first_position,
        },
        first_sequence: 3,
        until_position: None,
        reason: "diverged".into(),
        local_event: ask.id(4),
        remote: Some((5, ask.id(6))),
    }
}

fn park(row: &ParkedRow) -> Request {
    Request::Park(Box::new(row.clone()))
}

async fn parked(ask: &Ask, epoch: u64) -> Vec<ParkedRow> {
    let request = Request::Parked {
        origin: ask.uuid(1),
        epoch: ask.uuid(epoch),
    };
    match ask.ask(request).await {
        Reply::Parked(rows) => rows,
        other => panic!("{other:?}"),
    }
}

async fn nothing_is_parked_at_first(ask: Ask) {
    assert!(parked(&ask, 2).await.is_empty());
}

async fn a_stream_is_parked_once(ask: Ask) {
    let row = entry(&ask, &ask.stream("s"), 10);
    assert!(ask.applied(park(&row)).await);
    let mut other = row.clone();
    other.reason = "torn".into();
    assert!(!ask.applied(park(&other)).await);
    assert_eq!(parked(&ask, 2).await, [row]);
}

async fn a_parked_stream_without_a_remote(ask: Ask) {
    let mut row = entry(&ask, &ask.stream("s"), 10);
    row.remote = None;
    row.until_position = Some(40);
    assert!(ask.applied(park(&row)).await);
    assert_eq!(parked(&ask, 2).await, [row]);
}

async fn parked_entries_are_in_order(ask: Ask) {
    let stream = |kind: &str, id: &str| StreamId::new(kind, id).unwrap();
    let wanted = [
        entry(&ask, &stream("A", "x"), 7),
        entry(&ask, &stream("A", "y"), 1),
        entry(&ask, &stream("A", "y"), 9),
        entry(&ask, &stream("A", "é"), 1),
        entry(&ask, &stream("A a", "a"), 1),
        entry(&ask, &stream("a", "A"), 1),
    ];
    for at in [5, 2, 0, 3, 1, 4] {
        assert!(ask.applied(park(&wanted[at])).await);
    }
    assert_eq!(parked(&ask, 2).await, wanted);
}

async fn a_parked_stream_is_resolved_once(ask: Ask) {
    let mut row = entry(&ask, &ask.stream("s"), 10);
    let later = entry(&ask, &ask.stream("s"), 20);
    assert!(ask.applied(park(&row)).await);
    assert!(ask.applied(park(&later)).await);
    let until = |until_position| Request::Unpark {
        key: row.key.clone(),
        until_position,
    };
    assert!(ask.applied(until(15)).await);
    assert!(!ask.applied(until(16)).await);
    row.until_position = Some(15);
    assert_eq!(parked(&ask, 2).await, [row, later]);
}

async fn what_was_never_parked_is_not_resolved(ask: Ask) {
    let row = entry(&ask, &ask.stream("s"), 10);
    let request = Request::Unpark {
        key: row.key,
        until_position: 15,
    };
    assert!(!ask.applied(request).await);
    assert!(parked(&ask, 2).await.is_empty());
}

async fn parked_entries_are_of_their_epoch(ask: Ask) {
    let row = entry(&ask, &ask.stream("s"), 10);
    let mut other = row.clone();
    other.key.epoch = ask.uuid(3);
    assert!(ask.applied(park(&row)).await);
    assert!(ask.applied(park(&other)).await);
    assert_eq!(parked(&ask, 2).await, [row]);
    assert_eq!(parked(&ask, 3).await, [other]);
}
