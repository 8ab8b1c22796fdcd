//! Conditional batches: which condition holds when, and what a batch leaves behind.

use futures_util::future::join_all;
use tidelog_backends::wire::{Expected, LogPlace};
use tidelog_core::{Birth, Metadata, RecordKind, StreamId, Tags, Timestamp};

use crate::kit::{Ask, append_rows, append_under, cases, head_of};

cases![
    a_first_batch_wants_no_head,
    no_head_is_wanted_where_one_is,
    a_sequence_is_wanted_where_no_head_is,
    a_sequence_that_is_the_head,
    a_sequence_below_the_head,
    a_sequence_above_the_head,
    an_event_is_wanted_where_no_head_is,
    an_event_that_is_the_head,
    another_event_at_the_heads_sequence,
    the_heads_event_at_another_sequence,
    the_same_batch_again,
    a_batch_that_is_not_applied_changes_nothing,
    rows_are_put_back_under_a_head_that_stands,
    rows_are_not_put_back_under_a_head_that_moved,
    a_row_that_stands_is_put_back_as_it_is,
    buckets_have_heads_of_their_own,
    streams_have_heads_of_their_own,
    names_are_compared_by_their_bytes,
    a_column_that_is_not_set_stays,
    sequences_and_times_keep_their_ends,
    of_racers_one_is_first,
];

async fn a_first_batch_wants_no_head(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 1)).await);
    assert_eq!(ask.head(ask.bucket(0)).await, Some(head_of(&ask.row(1))));
}

async fn no_head_is_wanted_where_one_is(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 1)).await);
    assert!(!ask.applied(ask.append(Expected::Nothing, 1, 1)).await);
    assert!(!ask.applied(ask.append(Expected::Nothing, 2, 2)).await);
    assert_eq!(ask.sequences().await, [1]);
}

async fn a_sequence_is_wanted_where_no_head_is(ask: Ask) {
    assert!(!ask.applied(ask.append(Expected::Sequence(0), 1, 1)).await);
    assert!(!ask.applied(ask.append(Expected::Sequence(1), 2, 2)).await);
    assert_eq!(ask.head(ask.bucket(0)).await, None);
    assert!(ask.sequences().await.is_empty());
}

async fn a_sequence_that_is_the_head(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 2)).await);
    assert!(ask.applied(ask.append(Expected::Sequence(2), 3, 5)).await);
    assert_eq!(ask.head(ask.bucket(0)).await, Some(head_of(&ask.row(5))));
    assert_eq!(ask.sequences().await, [1, 2, 3, 4, 5]);
}

async fn a_sequence_below_the_head(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 2)).await);
    assert!(!ask.applied(ask.append(Expected::Sequence(1), 2, 2)).await);
    assert_eq!(ask.head(ask.bucket(0)).await, Some(head_of(&ask.row(2))));
}

async fn a_sequence_above_the_head(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 2)).await);
    assert!(!ask.applied(ask.append(Expected::Sequence(3), 4, 4)).await);
    assert_eq!(ask.sequences().await, [1, 2]);
}

async fn an_event_is_wanted_where_no_head_is(ask: Ask) {
    let expected = Expected::Event(1, ask.id(1));
    assert!(!ask.applied(ask.append(expected, 2, 2)).await);
    assert!(ask.sequences().await.is_empty());
}

async fn an_event_that_is_the_head(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 2)).await);
    let expected = Expected::Event(2, ask.id(2));
    assert!(ask.applied(ask.append(expected, 3, 4)).await);
    assert_eq!(ask.head(ask.bucket(0)).await, Some(head_of(&ask.row(4))));
}

async fn another_event_at_the_heads_sequence(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 2)).await);
    let expected = Expected::Event(2, ask.id(9));
    assert!(!ask.applied(ask.append(expected, 3, 3)).await);
    assert_eq!(ask.sequences().await, [1, 2]);
}

async fn the_heads_event_at_another_sequence(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 2)).await);
    let expected = Expected::Event(3, ask.id(2));
    assert!(!ask.applied(ask.append(expected, 4, 4)).await);
    assert_eq!(ask.sequences().await, [1, 2]);
}

async fn the_same_batch_again(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 3)).await);
    let next = || ask.append(Expected::Event(3, ask.id(3)), 4, 6);
    assert!(ask.applied(next()).await);
    assert!(!ask.applied(next()).await);
    assert_eq!(ask.sequences().await, [1, 2, 3, 4, 5, 6]);
}

async fn a_batch_that_is_not_applied_changes_nothing(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 3)).await);
    let before = ask.events(true).await;
    let mut rows = ask.rows(2, 4);
    for row in &mut rows {
        row.event.event = "other".into();
        row.event.event_id = ask.id(50 + row.event.sequence);
    }
    let other = append_rows(0, Expected::Sequence(1), rows);
    assert!(!ask.applied(other).await);
    assert_eq!(ask.events(true).await, before);
    assert_eq!(ask.head(ask.bucket(0)).await, Some(head_of(&ask.row(3))));
}

async fn rows_are_put_back_under_a_head_that_stands(ask: Ask) {
    let with_hole = vec![ask.row(1), ask.row(4)];
    assert!(
        ask.applied(append_rows(0, Expected::Nothing, with_hole))
            .await
    );
    assert_eq!(ask.sequences().await, [1, 4]);
    let head = head_of(&ask.row(4));
    let expected = Expected::Event(4, ask.id(4));
    let refill = append_under(0, expected, ask.rows(2, 3), head);
    assert!(ask.applied(refill).await);
    assert_eq!(ask.sequences().await, [1, 2, 3, 4]);
    assert_eq!(ask.head(ask.bucket(0)).await, Some(head));
}

async fn rows_are_not_put_back_under_a_head_that_moved(ask: Ask) {
    let with_hole = vec![ask.row(1), ask.row(4)];
    assert!(
        ask.applied(append_rows(0, Expected::Nothing, with_hole))
            .await
    );
    assert!(ask.applied(ask.append(Expected::Sequence(4), 5, 5)).await);
    let head = head_of(&ask.row(4));
    let expected = Expected::Event(4, ask.id(4));
    let refill = append_under(0, expected, ask.rows(2, 3), head);
    assert!(!ask.applied(refill).await);
    assert_eq!(ask.sequences().await, [1, 4, 5]);
}

async fn a_row_that_stands_is_put_back_as_it_is(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 3)).await);
    let before = ask.events(true).await;
    let head = head_of(&ask.row(3));
    let expected = Expected::Event(3, ask.id(3));
    let refill = append_under(0, expected, ask.rows(1, 3), head);
    assert!(ask.applied(refill).await);
    assert_eq!(ask.events(true).await, before);
}

async fn buckets_have_heads_of_their_own(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 2)).await);
    let next = || append_rows(1, Expected::Nothing, ask.rows(3, 4));
    assert_eq!(ask.head(ask.bucket(1)).await, None);
    assert!(ask.applied(next()).await);
    assert!(!ask.applied(next()).await);
    assert_eq!(ask.head(ask.bucket(0)).await, Some(head_of(&ask.row(2))));
    assert_eq!(ask.head(ask.bucket(1)).await, Some(head_of(&ask.row(4))));
    assert_eq!(ask.sequences().await, [1, 2]);
}

async fn streams_have_heads_of_their_own(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 1)).await);
    let mut row = ask.row(1);
    row.event.stream = ask.stream("t");
    let other = || append_rows(0, Expected::Nothing, vec![row.clone()]);
    assert!(ask.applied(other()).await);
    assert!(!ask.applied(other()).await);
}

async fn names_are_compared_by_their_bytes(ask: Ask) {
    // Two spellings of "é", upper case, a space at the end, and where type and id meet.
    let names = [
        ("Case", "é"),
        ("Case", "e\u{301}"),
        ("Case", "É"),
        ("Case", "é "),
        ("Case", "/é"),
        ("Cas", "eé"),
    ];
    for (kind, name) in names {
        let mut row = ask.row(1);
        let kind = format!("N{}{kind}", ask.uuid(0).as_u128() >> 64);
        row.event.stream = StreamId::new(&kind, name).unwrap();
        let first = || append_rows(0, Expected::Nothing, vec![row.clone()]);
        assert!(ask.applied(first()).await, "{kind}/{name}");
        assert!(!ask.applied(first()).await, "{kind}/{name}");
    }
}

async fn a_column_that_is_not_set_stays(ask: Ask) {
    let mut full = ask.row(1);
    full.event.metadata = Metadata::new().with("till", "3");
    full.event.tags = Tags::new(["a:b"]).unwrap();
    full.event.kind = RecordKind::Adopted;
    full.event.birth = Some(
        Birth {
            origin: ask.uuid(31),
            epoch: ask.uuid(32),
            position: 33,
            recorded_time: Timestamp::from_micros(34),
        }
        .into(),
    );
    full.place = Some(LogPlace {
        origin: ask.uuid(41),
        epoch: ask.uuid(42),
        position: 43,
    });
    let first = append_rows(0, Expected::Nothing, vec![full.clone()]);
    assert!(ask.applied(first).await);
    let mut bare = ask.row(1);
    bare.event.event = "over it".into();
    bare.event.kind = RecordKind::Adopted;
    let over = append_rows(0, Expected::Sequence(1), vec![bare]);
    assert!(ask.applied(over).await);
    full.event.event = "over it".into();
    assert_eq!(ask.events(true).await, [full]);
}

async fn sequences_and_times_keep_their_ends(ask: Ask) {
    let last = u64::try_from(i64::MAX).unwrap();
    let mut row = ask.row(last);
    row.event.event_id = ask.id(1);
    row.event.event_time = Timestamp::from_micros(i64::MIN);
    row.event.recorded_time = Timestamp::from_micros(i64::MAX);
    let head = head_of(&row);
    let append = append_rows(0, Expected::Nothing, vec![row]);
    assert!(ask.applied(append).await);
    assert_eq!(ask.head(ask.bucket(0)).await, Some(head));
    let found = ask.ids(ask.bucket(0), last, last, true).await;
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].sequence, found[0].recorded),
        (last, head.recorded)
    );
}

async fn of_racers_one_is_first(ask: Ask) {
    assert!(ask.applied(ask.append(Expected::Nothing, 1, 1)).await);
    let racers = (0..6_u64).map(|racer| {
        let mut row = ask.row(2);
        row.event.event_id = ask.id(10 + racer);
        let append = append_rows(0, Expected::Sequence(1), vec![row]);
        let ask = ask.clone();
        // A racer may get no answer at all: the server gives up under contention.
        async move { (racer, ask.maybe_applied(append).await) }
    });
    let outcomes = join_all(racers).await;
    let ids = ask.ids(ask.bucket(0), 1, 9, true).await;
    let winners = outcomes
        .iter()
        .filter(|(_, applied)| *applied == Some(true));
    for (racer, _) in winners {
        assert_eq!(ids[1].event_id, ask.id(10 + racer), "{outcomes:?}");
    }
    assert!(ids.len() <= 2, "{ids:?}");
    let unclear = outcomes.iter().any(|(_, applied)| applied.is_none());
    assert!(ids.len() == 2 || unclear, "{outcomes:?}");
}
