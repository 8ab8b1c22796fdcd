//! Rows of `events_by_stream`: what comes back, in which order, page by page.

use bytes::Bytes;
use tidelog_backends::wire::{EventRow, Expected, LogPlace};
use tidelog_core::{Batch, Birth, ContentType, Direction, Metadata, RecordKind, Tags, Timestamp};

use crate::kit::{Ask, append_rows, cases};

cases![
    the_server_answers_at_all,
    a_bucket_that_was_never_written_is_empty,
    every_field_comes_back,
    an_empty_payload_comes_back_empty,
    every_content_type_comes_back,
    ids_are_of_the_range_and_in_order,
    ids_tell_whose_they_are,
    a_range_that_ends_before_it_begins_is_empty,
    events_are_of_the_range_forward_and_backward,
    pages_forward_hold_every_row_once,
    pages_backward_hold_every_row_once,
    pages_of_one_row,
    pages_go_over_holes,
    a_page_may_be_larger_than_what_is_there,
];

async fn the_server_answers_at_all(ask: Ask) {
    use tidelog_backends::wire::{Reply, Request};
    ask.done(Request::Ping).await;
    let Reply::Meta(Some(meta)) = ask.ask(Request::Meta).await else {
        panic!("no meta");
    };
    assert_eq!(
        (meta.schema_version, meta.bucket_events, meta.chunk_records),
        (1, 1000, 1000)
    );
    let mut other = meta.clone();
    other.keyspace_id = ask.uuid(1);
    assert!(!ask.applied(Request::PutMeta(other)).await);
    assert_eq!(ask.ask(Request::Meta).await, Reply::Meta(Some(meta)));
}

async fn a_bucket_that_was_never_written_is_empty(ask: Ask) {
    assert_eq!(ask.head(ask.bucket(0)).await, None);
    assert!(ask.ids(ask.bucket(0), 0, 100, true).await.is_empty());
    assert!(ask.ids(ask.bucket(0), 0, 100, false).await.is_empty());
    assert!(ask.events(true).await.is_empty());
    assert!(ask.events(false).await.is_empty());
}

/// An event that has everything.
fn full(ask: &Ask) -> EventRow {
    let mut row = ask.row(1);
    row.event.kind = RecordKind::Adopted;
    row.event.event_type = "Überwiesen \u{1f30a}".into();
    row.event.revision = u32::MAX;
    row.event.event_time = Timestamp::from_micros(-1);
    row.event.metadata = Metadata::new()
        .with("actor", "\"Ada\"\\\n\u{0}")
        .with("", "")
        .with("ключ", "значение");
    row.event.tags = Tags::new(["course:c1", "student:\u{1f30a}", "empty:"]).unwrap();
    row.event.batch = Batch {
        first: 1 << 40,
        count: 10_000,
    };
    row.event.birth = Some(
        Birth {
            origin: ask.uuid(31),
            epoch: ask.uuid(32),
            position: 1 << 50,
            recorded_time: Timestamp::from_micros(-34),
        }
        .into(),
    );
    row.place = Some(LogPlace {
        origin: ask.uuid(41),
        epoch: ask.uuid(42),
        position: 1 << 51,
    });
    let bytes: Vec<u8> = (0..=255).collect();
    row.event.event = Bytes::from(bytes);
    row
}

async fn every_field_comes_back(ask: Ask) {
    let row = full(&ask);
    let append = append_rows(0, Expected::Nothing, vec![row.clone()]);
    assert!(ask.applied(append).await);
    for serial in [true, false] {
        assert_eq!(ask.events(serial).await, std::slice::from_ref(&row));
    }
}

async fn an_empty_payload_comes_back_empty(ask: Ask) {
    let mut row = ask.row(1);
    row.event.event = Bytes::new();
    let append = append_rows(0, Expected::Nothing, vec![row.clone()]);
    assert!(ask.applied(append).await);
    assert_eq!(ask.events(true).await, [row]);
}

async fn every_content_type_comes_back(ask: Ask) {
    let types = [
        ContentType::Postcard,
        ContentType::Json,
        ContentType::Bytes,
        ContentType::parse("text/plain; charset=utf-8").unwrap(),
    ];
    let rows: Vec<EventRow> = (1..)
        .zip(types)
        .map(|(sequence, content_type)| {
            let mut row = ask.row(sequence);
            row.event.content_type = content_type;
            row
        })
        .collect();
    let append = append_rows(0, Expected::Nothing, rows.clone());
    assert!(ask.applied(append).await);
    assert_eq!(ask.events(true).await, rows);
}

async fn ids_are_of_the_range_and_in_order(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 12)).await);
    for serial in [true, false] {
        for (from, to, wanted) in [
            (1, 12, 1..=12),
            (0, 100, 1..=12),
            (3, 3, 3..=3),
            (9, 11, 9..=11),
            (12, 13, 12..=12),
        ] {
            let ids = ask.ids(ask.bucket(0), from, to, serial).await;
            let found: Vec<_> = ids.iter().map(|row| (row.sequence, row.event_id)).collect();
            let wanted: Vec<_> = wanted
                .map(|sequence| (sequence, ask.id(sequence)))
                .collect();
            assert_eq!(found, wanted, "{from}..={to}");
        }
    }
}

async fn ids_tell_whose_they_are(ask: Ask) {
    let mut replicated = ask.row(2);
    replicated.place = Some(LogPlace {
        origin: ask.uuid(41),
        epoch: ask.uuid(42),
        position: 1,
    });
    let rows = vec![ask.row(1), replicated];
    assert!(
        ask.applied(append_rows(0, Expected::Nothing, rows.clone()))
            .await
    );
    let ids = ask.ids(ask.bucket(0), 1, 2, true).await;
    let origins: Vec<_> = ids.iter().map(|row| row.origin).collect();
    assert_eq!(origins, [None, Some(ask.uuid(41))]);
    assert_eq!(ids[1].recorded, rows[1].event.recorded_time);
}

async fn a_range_that_ends_before_it_begins_is_empty(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 5)).await);
    for serial in [true, false] {
        assert!(ask.ids(ask.bucket(0), 4, 3, serial).await.is_empty());
        let direction = Direction::Backward;
        let pages = ask.pages(ask.bucket(0), (4, 3), direction, serial, 10);
        assert!(pages.await.concat().is_empty());
    }
}

fn sequences(pages: &[Vec<EventRow>]) -> Vec<u64> {
    pages
        .concat()
        .iter()
        .map(|row| row.event.sequence)
        .collect()
}

async fn events_are_of_the_range_forward_and_backward(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 12)).await);
    for serial in [true, false] {
        for (from, to) in [(1, 12), (0, 50), (4, 9), (12, 12)] {
            let range = (from, to);
            let inside = from.max(1)..=to.min(12);
            let pages = ask.pages(ask.bucket(0), range, Direction::Forward, serial, 100);
            let wanted: Vec<u64> = inside.clone().collect();
            assert_eq!(sequences(&pages.await), wanted);
            let pages = ask.pages(ask.bucket(0), range, Direction::Backward, serial, 100);
            let wanted: Vec<u64> = inside.rev().collect();
            assert_eq!(sequences(&pages.await), wanted);
        }
    }
}

async fn in_pages(ask: &Ask, direction: Direction, rows: u32) {
    for serial in [true, false] {
        let pages = ask
            .pages(ask.bucket(0), (2, 13), direction, serial, rows)
            .await;
        let mut wanted: Vec<u64> = (2..=13).collect();
        if direction == Direction::Backward {
            wanted.reverse();
        }
        assert_eq!(sequences(&pages), wanted);
        let most = usize::try_from(rows).unwrap();
        assert!(pages.iter().all(|page| page.len() <= most), "{rows} a page");
    }
}

async fn pages_forward_hold_every_row_once(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 14)).await);
    for rows in [3, 4, 5, 11, 12, 13] {
        in_pages(&ask, Direction::Forward, rows).await;
    }
}

async fn pages_backward_hold_every_row_once(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 14)).await);
    for rows in [3, 4, 5, 11, 12, 13] {
        in_pages(&ask, Direction::Backward, rows).await;
    }
}

async fn pages_of_one_row(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 14)).await);
    in_pages(&ask, Direction::Forward, 1).await;
    in_pages(&ask, Direction::Backward, 1).await;
}

async fn pages_go_over_holes(ask: Ask) {
    let rows: Vec<EventRow> = [1, 2, 7, 8, 40].map(|sequence| ask.row(sequence)).into();
    assert!(ask.applied(append_rows(0, Expected::Nothing, rows)).await);
    for (direction, wanted) in [
        (Direction::Forward, [1, 2, 7, 8, 40]),
        (Direction::Backward, [40, 8, 7, 2, 1]),
    ] {
        let pages = ask.pages(ask.bucket(0), (1, 100), direction, true, 2).await;
        assert_eq!(sequences(&pages), wanted);
    }
}

async fn a_page_may_be_larger_than_what_is_there(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 3)).await);
    let pages = ask
        .pages(ask.bucket(0), (1, 3), Direction::Forward, true, 4)
        .await;
    assert_eq!(pages.len(), 1);
}
