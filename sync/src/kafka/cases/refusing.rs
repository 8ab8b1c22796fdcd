//! What is refused, and what with it.

use super::kit::{BATCH, LIMIT, Publisher, Subject, cases, large, noise, small, stands, values};
use crate::kafka::broker::{Offsets, Outcome, Refusal};
use crate::kafka::fake::cluster::partition_of;

cases![
    what_is_too_large_for_the_topic_is_refused_and_takes_no_offset,
    innocents_are_refused_with_the_guilty_one_of_their_batch,
    what_is_too_large_together_is_taken_one_by_one,
    batches_behind_a_refused_one_are_taken_where_nothing_of_the_producer_stands,
    batches_behind_a_refused_one_are_taken_where_something_of_the_producer_stands,
    a_refusal_again_and_again_costs_nobody_else_a_place,
    other_places_go_on_beside_a_refusal,
    a_limit_is_lowered_and_raised_for_a_producer_that_is_there,
];

fn refused() -> Outcome {
    Outcome::Refused(Refusal::TooLarge)
}

fn what_is_too_large_for_the_topic_is_refused_and_takes_no_offset<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    assert_eq!(publisher.one(&topic, &large(1)), refused());
    assert_eq!(stands(&publisher.one(&topic, &small(2))), (0, 0));
    assert_eq!(publisher.one(&topic, &large(3)), refused());
    assert_eq!(stands(&publisher.one(&topic, &small(4))), (0, 1));
    assert_eq!(values(subject, &topic), [small(2), small(4)]);
}

fn innocents_are_refused_with_the_guilty_one_of_their_batch<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    let batch = [small(0), small(1), large(2), small(3)];
    assert_eq!(batch.len(), BATCH);
    publisher.send_all(&topic, &batch);
    assert_eq!(publisher.outcomes(BATCH), vec![refused(); BATCH]);
    assert_eq!(values(subject, &topic), [b""; 0]);
    // Each alone is what it is.
    for (number, value) in batch.iter().enumerate() {
        let outcome = publisher.one(&topic, value);
        assert_eq!(outcome == refused(), number == 2, "{number}: {outcome:?}");
    }
    assert_eq!(values(subject, &topic), [small(0), small(1), small(3)]);
}

fn what_is_too_large_together_is_taken_one_by_one<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    let batch: Vec<Vec<u8>> = (0..4).map(|number| noise(number, LIMIT * 2 / 5)).collect();
    publisher.send_all(&topic, &batch);
    assert_eq!(publisher.outcomes(BATCH), vec![refused(); BATCH]);
    for (value, offset) in batch.iter().zip(0..) {
        assert_eq!(stands(&publisher.one(&topic, value)), (0, offset));
    }
    assert_eq!(values(subject, &topic), batch);
}

/// Three batches, the first of them refused: so order rests on what is sent, and not on the producer.
fn behind_a_refused_one<S: Subject>(publisher: &mut Publisher<'_, S>, topic: &str) {
    publisher.send_all(topic, [large(0), small(1), small(2), small(3)]);
    publisher.send_all(topic, (4..12).map(small));
    let outcomes = publisher.outcomes(12);
    let (first, behind) = outcomes.split_at(BATCH);
    assert_eq!(first, vec![refused(); BATCH]);
    assert!(
        behind
            .iter()
            .map(stands)
            .map(|(_, offset)| offset)
            .is_sorted()
    );
}

fn batches_behind_a_refused_one_are_taken_where_nothing_of_the_producer_stands<S: Subject>(
    subject: &S,
) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    behind_a_refused_one(&mut Publisher::new(subject), &topic);
    let behind: Vec<_> = (4..12).map(small).collect();
    assert_eq!(values(subject, &topic), behind);
}

fn batches_behind_a_refused_one_are_taken_where_something_of_the_producer_stands<S: Subject>(
    subject: &S,
) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    publisher.one(&topic, b"known");
    behind_a_refused_one(&mut publisher, &topic);
    let mut wanted = vec![b"known".to_vec()];
    wanted.extend((4..12).map(small));
    assert_eq!(values(subject, &topic), wanted);
}

fn a_refusal_again_and_again_costs_nobody_else_a_place<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    let mut wanted = Vec::new();
    for round in 0..8 {
        publisher.send_all(&topic, (0..BATCH as u64).map(|n| small(100 * round + n)));
        publisher.send_all(&topic, [large(round), small(1), small(2), small(3)]);
        publisher.send_all(&topic, [small(100 * round + 50)]);
        let outcomes = publisher.outcomes(2 * BATCH + 1);
        let count = outcomes.iter().filter(|it| **it == refused()).count();
        assert_eq!(count, BATCH);
        wanted.extend((0..BATCH as u64).map(|n| small(100 * round + n)));
        wanted.push(small(100 * round + 50));
    }
    assert_eq!(values(subject, &topic), wanted);
}

fn other_places_go_on_beside_a_refusal<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 2, LIMIT);
    let mut publisher = Publisher::new(subject);
    let of = |partition| {
        let keys = (0..).map(|number| format!("key {number}"));
        let mut own = keys.filter(move |key| partition_of(key.as_bytes(), 2) == partition);
        own.next().unwrap()
    };
    let (here, there) = (of(0), of(1));
    for number in 0..20 {
        publisher.send(&topic, &here, &large(number)).unwrap();
        publisher.send(&topic, &there, &small(number)).unwrap();
    }
    let mut next = 0;
    for (number, outcome) in publisher.outcomes(40).iter().enumerate() {
        if number % 2 == 0 {
            assert_eq!(*outcome, refused());
        } else {
            assert_eq!(stands(outcome), (1, next));
            next += 1;
        }
    }
    let parts = subject.read(&topic);
    assert_eq!((parts[0].len(), parts[1].len()), (0, 20));
    let there = |high| Offsets::There { low: 0, high };
    assert_eq!(publisher.offsets(&topic, 2), [there(0), there(20)]);
}

fn a_limit_is_lowered_and_raised_for_a_producer_that_is_there<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, 3 * LIMIT);
    let mut publisher = Publisher::new(subject);
    assert_eq!(stands(&publisher.one(&topic, &large(0))), (0, 0));
    subject.limit(&topic, LIMIT);
    let mut taken = 1;
    // It is not there at once everywhere.
    while publisher.one(&topic, &large(1)) != refused() {
        taken += 1;
    }
    assert_eq!(stands(&publisher.one(&topic, &small(2))), (0, taken));
    subject.limit(&topic, 3 * LIMIT);
    let outcome = loop {
        let outcome = publisher.one(&topic, &large(3));
        if outcome != refused() {
            break outcome;
        }
    };
    assert_eq!(stands(&outcome), (0, taken + 1));
}
