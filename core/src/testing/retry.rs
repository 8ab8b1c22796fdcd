//! Law 4: a retry is safe, and everything that only resembles one is refused.

use std::sync::Barrier;

use super::harness::Harness;
use super::tools::*;
use crate::append::{AppendOutcome, ExpectedVersion};
use crate::content_type::ContentType;
use crate::envelope::NewEvent;
use crate::limits::Limits;
use crate::metadata::{Metadata, Tags};
use crate::store::EventStore;

const EVERY_EXPECTATION: [ExpectedVersion; 6] = [
    ExpectedVersion::Any,
    ExpectedVersion::NoStream,
    ExpectedVersion::StreamExists,
    ExpectedVersion::Exact(0),
    ExpectedVersion::Exact(1),
    ExpectedVersion::Exact(99),
];

/// A store whose retry window is the smallest there is: 1,000 events.
fn store_with_smallest_window<H: Harness>(harness: &mut H) -> H::Store {
    let limits = Limits {
        batch_events: 1_000,
        ..harness.limits()
    };
    assert_eq!(limits.retry_window(), 1_000);
    harness.store_with_limits(limits)
}

/// The same append again, word for word: the first receipt again, and nothing more is there.
pub fn a_literal_retry_gets_the_first_receipt(harness: &mut impl Harness) {
    let store = harness.store();
    for expected in [
        ExpectedVersion::Any,
        ExpectedVersion::NoStream,
        ExpectedVersion::Exact(0),
    ] {
        for size in [1, 3] {
            let stream = stream(&format!("{expected:?} {size}"));
            let added = events(size);
            let first = try_append(&store, &stream, expected, &added).unwrap();
            assert_eq!(first.outcome, AppendOutcome::Appended);
            for _ in 0..3 {
                let retry = try_append(&store, &stream, expected, &added).unwrap();
                assert_first_receipt(&retry, &first);
            }
            assert_holds(&store, &stream, &added);
        }
    }
}

/// A retry after others have appended still gets the first receipt.
pub fn a_retry_after_other_appends_gets_the_first_receipt(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("busy");
    let mut all = events(2);
    append(&store, &stream, &all);
    let mine = events(3);
    let first = try_append(&store, &stream, ExpectedVersion::Exact(2), &mine).unwrap();
    all.extend(mine.clone());
    for _ in 0..5 {
        let other = events(2);
        append(&store, &stream, &other);
        all.extend(other);
        let retry = try_append(&store, &stream, ExpectedVersion::Exact(2), &mine).unwrap();
        assert_first_receipt(&retry, &first);
    }
    assert_holds(&store, &stream, &all);
}

/// Ids are looked at before the version: whatever is expected, a retry is a retry.
pub fn a_retry_is_recognized_whatever_it_expects(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("whatever");
    let (mut all, mine) = (events(3), events(2));
    append(&store, &stream, &all);
    let first = append(&store, &stream, &mine);
    all.extend(mine.clone());
    for expected in EVERY_EXPECTATION {
        let retry = try_append(&store, &stream, expected, &mine).unwrap();
        assert_first_receipt(&retry, &first);
    }
    assert_holds(&store, &stream, &all);
}

/// Time and metadata may differ between an append and its retry; the first ones stay.
pub fn a_retry_may_carry_other_times_and_metadata(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("retold");
    let added = events(1);
    let first = append(&store, &stream, &added);
    let before = read(&store, &stream);
    let retold = added[0]
        .clone()
        .with_event_time(crate::Timestamp::from_micros(77))
        .with_metadata(Metadata::new().with("attempt", "2"));
    let retry = try_append(&store, &stream, ExpectedVersion::Any, &[retold]).unwrap();
    assert_first_receipt(&retry, &first);
    assert_eq!(read(&store, &stream), before);
}

/// Known ids with other content are a conflict, for each part of the content.
pub fn known_ids_with_other_content_conflict(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("changed");
    let added = events(2);
    append(&store, &stream, &added);
    let changes: [fn(&mut NewEvent); 6] = [
        |event| event.payload = b"other".to_vec().into(),
        |event| event.payload = bytes::Bytes::new(),
        |event| event.event_type = "Other".into(),
        |event| event.revision = 2,
        |event| event.content_type = ContentType::Json,
        |event| event.tags = Tags::new(["other:tag"]).unwrap(),
    ];
    for change in changes {
        for at in 0..2 {
            let mut changed = added.clone();
            change(&mut changed[at]);
            for expected in EVERY_EXPECTATION {
                let refused = try_append(&store, &stream, expected, &changed);
                assert_id_conflict(refused, &stream, &changed[at..=at]);
            }
        }
    }
    assert_holds(&store, &stream, &added);
}

/// Known ids in another order are a conflict.
pub fn known_ids_in_another_order_conflict(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("turned");
    let added = events(3);
    append(&store, &stream, &added);
    for order in [[1, 0, 2], [2, 1, 0], [0, 2, 1]] {
        let turned = order.map(|n: usize| added[n].clone());
        for expected in EVERY_EXPECTATION {
            let refused = try_append(&store, &stream, expected, &turned);
            assert_id_conflict(refused, &stream, &added);
        }
    }
    assert_holds(&store, &stream, &added);
}

/// Known ids with events of others between them are a conflict.
pub fn known_ids_that_do_not_stand_together_conflict(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("apart");
    let added = events(3);
    append(&store, &stream, &added);
    let apart = [added[0].clone(), added[2].clone()];
    let refused = try_append(&store, &stream, ExpectedVersion::Any, &apart);
    assert_id_conflict(refused, &stream, &apart);
    assert_holds(&store, &stream, &added);
}

/// Known ids mixed with new ones are a conflict, wherever the new one stands.
pub fn known_ids_beside_new_ones_conflict(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("mixed");
    let added = events(2);
    append(&store, &stream, &added);
    for at in 0..=2 {
        let mut mixed = added.clone();
        mixed.insert(at, event("new"));
        for expected in EVERY_EXPECTATION {
            let refused = try_append(&store, &stream, expected, &mixed);
            assert_id_conflict(refused, &stream, &added);
        }
    }
    for at in 0..2 {
        let mut mixed = added.clone();
        mixed[at] = event("new");
        let refused = try_append(&store, &stream, ExpectedVersion::Any, &mixed);
        assert_id_conflict(refused, &stream, &added);
    }
    assert_holds(&store, &stream, &added);
}

/// New ids with the content of recorded events are new events.
pub fn new_ids_with_known_content_are_appended(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("again");
    let mut all = events(2);
    append(&store, &stream, &all);
    let same: Vec<NewEvent> = all
        .iter()
        .map(|old| {
            let id = event("").event_id;
            old.clone().with_id(id)
        })
        .collect();
    let receipt = append(&store, &stream, &same);
    assert_eq!(receipt.first_sequence, 3);
    all.extend(same);
    assert_holds(&store, &stream, &all);
}

/// An append that was refused leaves its ids free.
pub fn ids_of_a_refused_append_stay_new(harness: &mut impl Harness) {
    let store = harness.store();
    let stream = stream("free");
    let tried = events(2);
    let expected = ExpectedVersion::Exact(4);
    let missed = try_append(&store, &stream, expected, &tried);
    assert_wrong_version(missed, &stream, expected, 0);
    append(&store, &stream, &tried);
    assert_holds(&store, &stream, &tried);
}

/// The same batch from many threads at once: one of them appends it, all get its receipt.
pub fn duplicates_in_flight_are_appended_once(harness: &mut impl Harness) {
    const THREADS: usize = 8;
    let store = harness.store();
    for round in 0..20 {
        let stream = stream(&format!("round {round}"));
        let expected = EVERY_EXPECTATION[[0, 1, 3][round % 3]];
        let added = events(1 + round % 3);
        let start = Barrier::new(THREADS);
        let receipts: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        try_append(&store, &stream, expected, &added).unwrap()
                    })
                })
                .collect();
            racers
                .into_iter()
                .map(|racer| racer.join().unwrap())
                .collect()
        });
        let (first, retries): (Vec<_>, Vec<_>) = receipts
            .iter()
            .partition(|receipt| receipt.outcome == AppendOutcome::Appended);
        assert_eq!(first.len(), 1, "exactly one of them wrote");
        for retry in retries {
            assert_first_receipt(retry, first[0]);
        }
        assert_holds(&store, &stream, &added);
    }
}

/// The same id with other content from many threads at once: one wins, the others conflict.
pub fn clashing_ids_in_flight_conflict(harness: &mut impl Harness) {
    const THREADS: usize = 8;
    let store = harness.store();
    for round in 0..10 {
        let stream = stream(&format!("round {round}"));
        let id = event("").event_id;
        let start = Barrier::new(THREADS);
        let winners: usize = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..THREADS)
                .map(|n| {
                    let (store, stream, start) = (&store, &stream, &start);
                    scope.spawn(move || {
                        let mine = [event(&format!("by {n}")).with_id(id)];
                        start.wait();
                        match try_append(store, stream, ExpectedVersion::Any, &mine) {
                            Ok(receipt) => {
                                assert_eq!(receipt.outcome, AppendOutcome::Appended);
                                1
                            }
                            refused => {
                                assert_id_conflict(refused, stream, &mine);
                                0
                            }
                        }
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).sum()
        });
        assert_eq!(winners, 1);
        assert_eq!(read(&store, &stream).len(), 1);
    }
}

/// In the newest events of the stream, as many as the retry window has, an id is recognized
/// whatever is expected: at its oldest place still, one further no more.
pub fn the_retry_window_ends_where_it_says(harness: &mut impl Harness) {
    let store = store_with_smallest_window(harness);
    let stream = stream("window");
    let old = events(1);
    let first = append(&store, &stream, &old);
    append(&store, &stream, &events(999));
    for expected in EVERY_EXPECTATION {
        let retry = try_append(&store, &stream, expected, &old).unwrap();
        assert_first_receipt(&retry, &first);
    }
    assert!(
        wait(store.find_event(&stream, old[0].event_id))
            .unwrap()
            .is_some()
    );

    append(&store, &stream, &events(1));
    assert!(
        wait(store.find_event(&stream, old[0].event_id))
            .unwrap()
            .is_none()
    );
    let expected = ExpectedVersion::Exact(99);
    let missed = try_append(&store, &stream, expected, &old);
    assert_wrong_version(missed, &stream, expected, 1_001);
    assert_eq!(append(&store, &stream, &old).first_sequence, 1_002);
}

/// A batch of which only some events are still in the window is not appended in part.
pub fn a_batch_on_the_edge_of_the_window_conflicts(harness: &mut impl Harness) {
    let store = store_with_smallest_window(harness);
    let stream = stream("edge");
    let old = events(2);
    append(&store, &stream, &old);
    append(&store, &stream, &events(999));
    let refused = try_append(&store, &stream, ExpectedVersion::Any, &old);
    assert_id_conflict(refused, &stream, &old);
    assert_eq!(head_sequence(&store, &stream), 1_001);
}

/// At the sequences that the expectation implies, ids are recognized for ever.
pub fn implied_sequences_are_recognized_for_ever(harness: &mut impl Harness) {
    let store = store_with_smallest_window(harness);
    let stream = stream("for ever");
    let (opening, second) = (events(2), events(3));
    let first = append(&store, &stream, &opening);
    let next = append(&store, &stream, &second);
    for _ in 0..3 {
        append(&store, &stream, &events(800));
    }
    let head = head_sequence(&store, &stream);

    for expected in [ExpectedVersion::NoStream, ExpectedVersion::Exact(0)] {
        let retry = try_append(&store, &stream, expected, &opening).unwrap();
        assert_first_receipt(&retry, &first);
    }
    let there = ExpectedVersion::Exact(2);
    let retry = try_append(&store, &stream, there, &second).unwrap();
    assert_first_receipt(&retry, &next);

    // Other content, another order, and new ids beside known ones are told apart there, too.
    let mut changed = second.clone();
    changed[1].revision = 2;
    assert_id_conflict(
        try_append(&store, &stream, there, &changed),
        &stream,
        &changed,
    );
    let turned: Vec<_> = second.iter().rev().cloned().collect();
    assert_id_conflict(
        try_append(&store, &stream, there, &turned),
        &stream,
        &second,
    );
    // At whichever of those sequences: these are all at another one than they were.
    let shifted = second[1..].to_vec();
    assert_id_conflict(
        try_append(&store, &stream, there, &shifted),
        &stream,
        &shifted,
    );
    let swapped: Vec<_> = opening.iter().rev().cloned().collect();
    assert_id_conflict(
        try_append(&store, &stream, ExpectedVersion::NoStream, &swapped),
        &stream,
        &opening,
    );
    let mut mixed = second.clone();
    mixed[2] = event("new");
    assert_id_conflict(try_append(&store, &stream, there, &mixed), &stream, &second);

    // New ids at implied sequences are merely late.
    let late = try_append(&store, &stream, there, &events(3));
    assert_wrong_version(late, &stream, there, head);
    assert_eq!(head_sequence(&store, &stream), head);
}

/// An id that stands twice, because it was appended again beyond the window, is recognized where
/// the expectation says.
pub fn an_id_that_stands_twice_is_found_where_it_is_implied(harness: &mut impl Harness) {
    let store = store_with_smallest_window(harness);
    let stream = stream("twice");
    let old = events(1);
    let first = append(&store, &stream, &old);
    append(&store, &stream, &events(1_000));
    let second = append(&store, &stream, &old);
    assert_eq!(second.first_sequence, 1_002);

    let retry = |expected| try_append(&store, &stream, expected, &old).unwrap();
    assert_first_receipt(&retry(ExpectedVersion::NoStream), &first);
    assert_first_receipt(&retry(ExpectedVersion::Exact(1_001)), &second);
    assert_first_receipt(&retry(ExpectedVersion::Any), &second);
    let found = wait(store.find_event(&stream, old[0].event_id)).unwrap();
    assert_eq!(found.unwrap().sequence, 1_002);
}

/// A batch of the largest size is recognized right after it was appended, whatever is expected.
pub fn the_largest_batch_is_recognized(harness: &mut impl Harness) {
    let limits = Limits {
        batch_events: 1_500,
        ..harness.limits()
    };
    let store = harness.store_with_limits(limits);
    let stream = stream("large");
    let added = events(1_500);
    let first = append(&store, &stream, &added);
    let retry = try_append(&store, &stream, ExpectedVersion::Any, &added).unwrap();
    assert_first_receipt(&retry, &first);
    assert_eq!(head_sequence(&store, &stream), 1_500);
}

/// An event is found by its id, whole, and only in its own stream.
pub fn events_are_found_by_their_id(harness: &mut impl Harness) {
    let store = harness.store();
    let (here, there) = (stream("here"), stream("there"));
    let added = events(5);
    append(&store, &here, &added);
    append(&store, &there, &events(2));
    let recorded = read(&store, &here);
    for (event, envelope) in added.iter().zip(&recorded) {
        let found = wait(store.find_event(&here, event.event_id)).unwrap();
        assert_eq!(found.as_ref(), Some(envelope));
        assert_eq!(
            wait(store.find_event(&there, event.event_id)).unwrap(),
            None
        );
    }
    let unknown = event("unknown").event_id;
    assert_eq!(wait(store.find_event(&here, unknown)).unwrap(), None);
}
