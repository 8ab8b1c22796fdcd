//! One producer after another.

use super::kit::{LIMIT, Publisher, QUEUE, Subject, cases, small, stands, values};
use crate::kafka::broker::{Broker as _, NotSent};

cases![
    of_a_generation_before_nothing_is_reported_and_what_it_sent_may_stand_there,
    a_generation_that_was_ended_takes_nothing,
    what_finds_no_room_is_not_queued_and_room_is_told,
    a_broker_that_stands_still_gets_everything_in_order,
];

fn of_a_generation_before_nothing_is_reported_and_what_it_sent_may_stand_there<S: Subject>(
    subject: &S,
) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    publisher.one(&topic, b"first");
    subject.stop();
    publisher.send_all(&topic, (0..20).map(small));
    publisher.renew();
    assert!(publisher.is_silent());
    publisher.send_all(&topic, (100..110).map(small));
    subject.go_on();
    assert_eq!(publisher.outcomes(10).iter().map(stands).count(), 10);
    assert!(publisher.is_silent());
    let found = values(subject, &topic);
    let (old, new): (Vec<_>, Vec<_>) = (0..20)
        .map(small)
        .chain((100..110).map(small))
        .map(|value| found.iter().filter(|it| **it == value).count())
        .enumerate()
        .partition(|(number, _)| *number < 20);
    assert!(old.iter().all(|(_, count)| *count <= 1), "{old:?}");
    assert!(new.iter().all(|(_, count)| *count == 1), "{new:?}");
}

fn a_generation_that_was_ended_takes_nothing<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    publisher.one(&topic, b"first");
    publisher.broker.end();
    assert_eq!(publisher.send(&topic, "key", b"v"), Err(NotSent::Fatal));
    assert!(publisher.is_silent());
    // Others may be asked all the same.
    assert_eq!(publisher.look(&topic), Some(1));
    publisher.renew();
    assert_eq!(stands(&publisher.one(&topic, b"second")), (0, 1));
}

fn what_finds_no_room_is_not_queued_and_room_is_told<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    publisher.one(&topic, b"first");
    subject.stop();
    publisher.send_all(&topic, (0..QUEUE as u64).map(small));
    for _ in 0..3 {
        assert_eq!(publisher.send(&topic, "key", b"v"), Err(NotSent::Full));
    }
    subject.go_on();
    publisher.outcomes(QUEUE);
    let (_, offset) = stands(&publisher.one(&topic, b"last"));
    assert_eq!(offset, i64::try_from(QUEUE).unwrap() + 1);
    assert_eq!(values(subject, &topic).len(), QUEUE + 2);
}

fn a_broker_that_stands_still_gets_everything_in_order<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    subject.stop();
    publisher.send_all(&topic, (0..100).map(small));
    subject.go_on();
    publisher.outcomes(100);
    let wanted: Vec<_> = (0..100).map(small).collect();
    assert_eq!(values(subject, &topic), wanted);
}
