//! What another copy of a store has listed as parked in the epoch that is this one's.

use std::time::Duration;

use tidelog_backends::wire::{ParkedKey, ParkedRow, Request, Wire};
use tidelog_core::{EventId, EventLog, EventStore, StreamId, Supersede, Supersession};
use uuid::Uuid;

use super::tests::{Till, after_another, replicator, server};

/// Another copy parks a stream of `till` from a position and sequence on.
fn park(till: &Till, stream: &str, first_position: u64, first_sequence: u64) {
    let local_event = EventId::from_uuid(Uuid::from_u128(77));
    park_event(till, stream, first_position, first_sequence, local_event);
}

fn park_event(till: &Till, stream: &str, first_position: u64, first_sequence: u64, id: EventId) {
    let identity = till.store.identity();
    let row = ParkedRow {
        key: ParkedKey {
            origin: identity.origin,
            epoch: identity.epoch,
            stream: stream.parse::<StreamId>().unwrap(),
            first_position,
        },
        first_sequence,
        until_position: None,
        reason: "diverged".into(),
        local_event: id,
        remote: None,
    };
    let wire = till.wire.another();
    pollster::block_on(wire.ask(Request::Park(Box::new(row)))).unwrap();
}

/// What is listed: first positions, and until where it holds.
fn listed(till: &Till) -> Vec<(u64, Option<u64>)> {
    till.wire.with_server(|server| {
        let all = server.tables().parked.values();
        let rows = all.flat_map(|rows| rows.values());
        rows.map(|row| (row.key.first_position, row.until_position))
            .collect()
    })
}

#[test]
fn what_another_copy_parked_holds_nothing_once_this_one_connects() {
    let mut till = Till::new(server());
    till.append("T/a", 3);
    till.settle();
    // In place of an own event, and where there is none of the stream.
    park(&till, "T/a", 2, 2);
    park(&till, "T/b", 1, 1);
    till.crash();
    till.settle();
    assert_eq!(listed(&till), [(2, Some(2)), (1, Some(1))]);
    assert_eq!(till.parked(), []);
    assert_eq!(till.remote("T/a"), till.local("T/a"));
}

#[test]
fn what_another_copy_parks_while_this_one_is_connected_is_found_by_the_next_look() {
    let mut till = Till::new(server());
    let (node, mut work) = replicator(&till.store, &till.wire);
    work.pace.probe_every = Duration::from_secs(1);
    till.runs(node, work);
    till.append("T/a", 3);
    till.settle();
    park(&till, "T/a", 2, 2);
    let wire = till.wire.clone();
    till.run_until(|_| {
        wire.with_server(|server| {
            let mut all = server
                .tables()
                .parked
                .values()
                .flat_map(|rows| rows.values());
            all.all(|row| row.until_position == Some(2))
        })
    });
    assert_eq!(till.parked(), []);
}

#[test]
fn an_own_event_that_is_held_under_anothers_row_is_not_forgotten_with_the_state() {
    let mut second = after_another();
    second.append("T/own", 1);
    second.settle();
    let old = second.state();
    park(&second, "T/a", 2, 1);
    second.append("T/a", 1);
    second.settle();
    let expected = [("T/a".into(), "diverged", 1, false)];
    assert_eq!(second.parked(), expected);
    second.crash_and_find(&old);
    second.append("T/own", 1);
    second.run_until(|status| status.watermark == 3);
    assert_eq!(second.parked(), expected);
    assert_eq!(listed(&second), [(2, None)]);
}

#[test]
fn what_another_copy_parked_of_what_gave_way_here_is_resolved_where_it_gave_way() {
    let mut second = after_another();
    let (node, mut work) = replicator(&second.store, &second.wire);
    work.pace.probe_every = Duration::from_secs(1);
    second.runs(node, work);
    second.append("T/a", 3);
    let own = second.local("T/a");
    second.settle();
    let stream: StreamId = "T/a".parse().unwrap();
    let head = pollster::block_on(second.store.head(&stream)).unwrap();
    let what = Supersession::new(stream, head.unwrap(), 1);
    pollster::block_on(second.store.supersede(what)).unwrap();
    second.settle();
    assert_eq!(listed(&second), [(1, Some(4))]);
    // The copy has parked its events from the second one on, as part of something else.
    park_event(&second, "T/a", 2, 2, own[1]);
    let wire = second.wire.clone();
    second.run_until(|_| {
        wire.with_server(|server| {
            let all = server.tables().parked.values();
            let mut all = all.flat_map(|rows| rows.values());
            all.all(|row| row.until_position.is_some())
        })
    });
    assert_eq!(listed(&second), [(1, Some(4)), (2, Some(4))]);
    assert_eq!(second.parked(), []);
}
