//! Rows of `log_by_origin`.

use tidelog_backends::wire::{LogRow, Request};
use tidelog_core::EventId;
use uuid::Uuid;

use crate::kit::{Ask, cases};

cases![
    a_chunk_that_was_never_written_is_empty,
    log_rows_come_back_whole_and_in_order,
    log_rows_are_of_their_chunk,
    log_rows_put_again_are_there_once,
    two_events_at_one_position_are_both_there,
    one_event_of_two_commits_at_one_position_is_there_twice,
    events_at_one_position_are_ordered_by_version_first,
    without_records_the_rest_is_there,
    pages_of_a_log_hold_every_row_once,
    a_page_may_end_between_two_at_one_position,
    a_log_is_read_from_a_position_on,
    a_batch_of_log_rows_takes_two_hundred,
];

async fn put(ask: &Ask, number: u64, rows: Vec<LogRow>) {
    let chunk = ask.chunk(number);
    ask.done(Request::PutLog { chunk, rows }).await;
}

fn rows(ask: &Ask, from: u64, to: u64) -> Vec<LogRow> {
    (from..=to).map(|position| ask.log_row(position)).collect()
}

async fn a_chunk_that_was_never_written_is_empty(ask: Ask) {
    assert!(ask.log(ask.chunk(0), 0, true, 10).await.concat().is_empty());
}

async fn log_rows_come_back_whole_and_in_order(ask: Ask) {
    let mut wanted = rows(&ask, 1, 6);
    wanted[2].commit_number = 1 << 40;
    wanted[2].commit_first = 1 << 41;
    wanted[2].commit_count = 10_000;
    wanted[2].record = (0..=255).collect::<Vec<u8>>().into();
    let mut mixed = wanted.clone();
    mixed.reverse();
    put(&ask, 0, mixed).await;
    assert_eq!(ask.log(ask.chunk(0), 1, true, 100).await.concat(), wanted);
}

async fn log_rows_are_of_their_chunk(ask: Ask) {
    put(&ask, 0, rows(&ask, 1, 2)).await;
    put(&ask, 1, rows(&ask, 3, 4)).await;
    let mut other = ask.chunk(0);
    other.epoch = ask.uuid(50);
    ask.done(Request::PutLog {
        chunk: other,
        rows: rows(&ask, 9, 9),
    })
    .await;
    assert_eq!(
        ask.log(ask.chunk(0), 1, true, 100).await.concat(),
        rows(&ask, 1, 2)
    );
    assert_eq!(
        ask.log(ask.chunk(1), 1, true, 100).await.concat(),
        rows(&ask, 3, 4)
    );
    assert_eq!(
        ask.log(other, 1, true, 100).await.concat(),
        rows(&ask, 9, 9)
    );
}

async fn log_rows_put_again_are_there_once(ask: Ask) {
    put(&ask, 0, rows(&ask, 1, 4)).await;
    put(&ask, 0, rows(&ask, 2, 5)).await;
    put(&ask, 0, rows(&ask, 3, 3)).await;
    assert_eq!(
        ask.log(ask.chunk(0), 1, true, 100).await.concat(),
        rows(&ask, 1, 5)
    );
}

async fn two_events_at_one_position_are_both_there(ask: Ask) {
    let mut other = ask.log_row(2);
    other.event_id = ask.id(1);
    other.record = "of a clone".into();
    put(&ask, 0, rows(&ask, 1, 3)).await;
    put(&ask, 0, vec![other.clone()]).await;
    let wanted = [ask.log_row(1), other, ask.log_row(2), ask.log_row(3)];
    assert_eq!(ask.log(ask.chunk(0), 1, true, 100).await.concat(), wanted);
}

/// Two copies of a store may adopt the same event at the same position, in commits of their own.
async fn one_event_of_two_commits_at_one_position_is_there_twice(ask: Ask) {
    let mut other = ask.log_row(2);
    other.commit_hash = [255; 32];
    other.record = "of a clone".into();
    put(&ask, 0, rows(&ask, 1, 3)).await;
    put(&ask, 0, vec![other.clone()]).await;
    let wanted = [ask.log_row(1), ask.log_row(2), other, ask.log_row(3)];
    for most in [1, 2, 3, 100] {
        assert_eq!(ask.log(ask.chunk(0), 1, true, most).await.concat(), wanted);
    }
}

async fn events_at_one_position_are_ordered_by_version_first(ask: Ask) {
    let of = |version: u8, first: u8| {
        let mut bytes = *ask.uuid(1).as_bytes();
        bytes[0] = first;
        bytes[6] = version << 4;
        bytes[8] = 0x80;
        EventId::from_uuid(Uuid::from_bytes(bytes))
    };
    let ids = [
        of(4, 200),
        of(7, 1),
        of(7, 2),
        of(7, 200),
        of(8, 0),
        of(8, 255),
    ];
    let row = |event_id| LogRow {
        event_id,
        ..ask.log_row(1)
    };
    let wanted: Vec<LogRow> = ids.into_iter().map(row).collect();
    let mut mixed = wanted.clone();
    mixed.swap(0, 5);
    mixed.swap(1, 3);
    put(&ask, 0, mixed).await;
    assert_eq!(ask.log(ask.chunk(0), 1, true, 100).await.concat(), wanted);
    assert_eq!(ask.log(ask.chunk(0), 1, true, 2).await.concat(), wanted);
}

async fn without_records_the_rest_is_there(ask: Ask) {
    put(&ask, 0, rows(&ask, 1, 3)).await;
    let wanted: Vec<LogRow> = rows(&ask, 1, 3)
        .into_iter()
        .map(|row| LogRow {
            record: bytes::Bytes::new(),
            ..row
        })
        .collect();
    assert_eq!(ask.log(ask.chunk(0), 1, false, 100).await.concat(), wanted);
}

async fn pages_of_a_log_hold_every_row_once(ask: Ask) {
    put(&ask, 0, rows(&ask, 1, 12)).await;
    for most in [1, 3, 4, 5, 11, 12, 13] {
        for records in [true, false] {
            let pages = ask.log(ask.chunk(0), 1, records, most).await;
            let found: Vec<u64> = pages.concat().iter().map(|row| row.position).collect();
            assert_eq!(found, (1..=12).collect::<Vec<u64>>());
            let most = usize::try_from(most).unwrap();
            assert!(pages.iter().all(|page| page.len() <= most));
        }
    }
}

async fn a_page_may_end_between_two_at_one_position(ask: Ask) {
    let twice: Vec<LogRow> = (1..=5)
        .flat_map(|position| {
            let mut other = ask.log_row(position);
            other.event_id = ask.id(100 + position);
            [ask.log_row(position), other]
        })
        .collect();
    put(&ask, 0, twice.clone()).await;
    for most in [1, 2, 3] {
        assert_eq!(ask.log(ask.chunk(0), 1, true, most).await.concat(), twice);
    }
}

async fn a_log_is_read_from_a_position_on(ask: Ask) {
    put(&ask, 0, rows(&ask, 1, 9)).await;
    for from in [0, 1, 5, 9, 10] {
        for most in [2, 100] {
            let found = ask.log(ask.chunk(0), from, true, most).await.concat();
            assert_eq!(found, rows(&ask, from.max(1), 9), "from {from}");
        }
    }
}

async fn a_batch_of_log_rows_takes_two_hundred(ask: Ask) {
    let mut many = rows(&ask, 1, 200);
    for row in &mut many {
        row.record = vec![b'x'; 512].into();
    }
    put(&ask, 0, many.clone()).await;
    assert_eq!(ask.log(ask.chunk(0), 1, true, 64).await.concat(), many);
}
