//! How much a batch takes.

use tidelog_backends::wire::{ErrorClass, EventRow, Expected, Oversized, Request};
use tidelog_core::Direction;

use crate::kit::{Ask, append_rows, cases, head_of};

cases![
    a_batch_of_a_thousand_rows,
    a_batch_of_four_mebibytes,
    a_batch_of_eight_mebibytes,
    a_batch_above_what_the_server_takes_is_refused,
    a_thousand_large_rows_in_pages,
    a_log_row_of_eight_mebibytes,
    a_log_row_above_what_the_server_takes_is_refused_with_its_limit,
];

/// `count` rows of `size` bytes each, from sequence 1 on.
fn rows(ask: &Ask, count: u64, size: usize) -> Vec<EventRow> {
    let mut rows = ask.rows(1, count);
    for row in &mut rows {
        let byte = u8::try_from(row.event.sequence % 251).unwrap();
        row.event.event = vec![byte; size].into();
    }
    rows
}

async fn there_whole(ask: &Ask, rows: Vec<EventRow>, page: u32) {
    let head = head_of(rows.last().unwrap());
    let append = append_rows(0, Expected::Nothing, rows.clone());
    assert!(ask.applied(append.clone()).await);
    assert!(!ask.applied(append).await);
    assert_eq!(ask.head(ask.bucket(0)).await, Some(head));
    for direction in [Direction::Forward, Direction::Backward] {
        let pages = ask.pages(ask.bucket(0), (1, 10_000), direction, true, page);
        let mut found = pages.await.concat();
        if direction == Direction::Backward {
            found.reverse();
        }
        assert!(found == rows, "{} of {} rows", found.len(), rows.len());
    }
}

async fn a_batch_of_a_thousand_rows(ask: Ask) {
    there_whole(&ask, rows(&ask, 1000, 100), 300).await;
}

async fn a_batch_of_four_mebibytes(ask: Ask) {
    there_whole(&ask, rows(&ask, 4, 1 << 20), 1).await;
}

async fn a_batch_of_eight_mebibytes(ask: Ask) {
    there_whole(&ask, rows(&ask, 7, (8 << 20) / 7 - 200), 2).await;
}

async fn a_batch_above_what_the_server_takes_is_refused(ask: Ask) {
    let append = append_rows(0, Expected::Nothing, rows(&ask, 20, 1 << 20));
    assert_eq!(ask.refused(append).await, ErrorClass::Refused);
    assert_eq!(ask.head(ask.bucket(0)).await, None);
    assert!(ask.sequences().await.is_empty());
}

async fn a_thousand_large_rows_in_pages(ask: Ask) {
    there_whole(&ask, rows(&ask, 1000, 4000), 256).await;
}

async fn a_log_row_of_eight_mebibytes(ask: Ask) {
    let mut row = ask.log_row(1);
    row.record = vec![7; 8 << 20].into();
    let chunk = ask.chunk(0);
    ask.done(Request::PutLog {
        chunk,
        rows: vec![row.clone()],
    })
    .await;
    assert!(ask.log(chunk, 1, true, 1).await.concat() == [row]);
}

async fn a_log_row_above_what_the_server_takes_is_refused_with_its_limit(ask: Ask) {
    // What stands beside the record in its row counts, too.
    for size in [(16 << 20) - 100, 16 << 20, 40 << 20] {
        let mut row = ask.log_row(1);
        row.record = vec![7; size].into();
        let chunk = ask.chunk(0);
        let rows = vec![row];
        let error = ask.failed(Request::PutLog { chunk, rows }).await;
        let limit = Some(16 << 20);
        assert_eq!(Oversized::of(&error), Some(Oversized { limit }), "{error}");
        assert!(ask.log(chunk, 1, true, 1).await.concat().is_empty());
    }
}
