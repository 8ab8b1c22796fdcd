//! What brokers do not survive unhurt.

use super::kit::{LIMIT, Publisher, Subject, cases, id, record, small, stands, values};
use crate::kafka::broker::{Broker as _, BrokerError, NotSent, Outcome};

cases![
    what_was_under_way_when_a_broker_died_stands_there_once_and_in_order,
    a_fence_and_its_records_outlive_the_broker,
    a_record_that_a_broker_died_over_stands_once_or_is_said_to_be_unknown,
    a_broker_that_lost_some_of_what_it_acknowledged_ends_the_generation,
    a_broker_that_lost_all_of_a_place_goes_on_at_a_lower_offset,
];

fn what_was_under_way_when_a_broker_died_stands_there_once_and_in_order<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    publisher.one(&topic, b"first");
    publisher.send_all(&topic, (0..200).map(small));
    subject.crash();
    publisher.send_all(&topic, (200..300).map(small));
    publisher.outcomes(300);
    let mut wanted = vec![b"first".to_vec()];
    wanted.extend((0..300).map(small));
    assert_eq!(values(subject, &topic), wanted);
}

fn a_fence_and_its_records_outlive_the_broker<S: Subject>(subject: &S) {
    subject.make(&subject.origins(), 1, LIMIT);
    let (one, other) = (subject.client(), subject.client());
    let origin = id(subject, "origin");
    subject.wait(other.fence(origin)).unwrap();
    subject.wait(one.fence(origin)).unwrap();
    subject.wait(one.mark(record(origin, 1, 1))).unwrap();
    subject.crash();
    subject.wait(one.mark(record(origin, 1, 2))).unwrap();
    assert!(subject.wait(other.mark(record(origin, 2, 3))).is_err());
    let found = subject.wait(other.record(origin)).unwrap();
    assert_eq!(found, Some(record(origin, 1, 2)));
}

/// Its answer may be lost: then nobody knows, and whoever asks finds out.
fn a_record_that_a_broker_died_over_stands_once_or_is_said_to_be_unknown<S: Subject>(subject: &S) {
    subject.make(&subject.origins(), 1, LIMIT);
    let (client, origin) = (subject.client(), id(subject, "origin"));
    subject.wait(client.fence(origin)).unwrap();
    subject.wait(client.mark(record(origin, 1, 1))).unwrap();
    let marking = client.mark(record(origin, 1, 2));
    subject.crash();
    let marked = subject.wait(marking);
    let newest = || subject.wait(client.record(origin)).unwrap().unwrap();
    let found = newest().position;
    match marked {
        Ok(()) => assert_eq!(found, 2),
        Err(BrokerError::Passing(_)) => {
            assert!((1..=2).contains(&found), "{found}");
            let fenced = subject.wait(client.mark(record(origin, 1, 3)));
            assert!(matches!(fenced, Err(BrokerError::Fenced)), "{fenced:?}");
            subject.wait(client.fence(origin)).unwrap();
        }
        Err(other) => panic!("{other:?}"),
    }
    subject.wait(client.mark(record(origin, 2, 4))).unwrap();
    assert_eq!(newest(), record(origin, 2, 4));
}

fn a_broker_that_lost_some_of_what_it_acknowledged_ends_the_generation<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    publisher.send_all(&topic, (0..40).map(small));
    publisher.outcomes(40);
    subject.rob(&topic, false);
    let left = values(subject, &topic).len();
    assert!((1..40).contains(&left), "{left}");
    publisher.send_all(&topic, (100..110).map(small));
    let (reports, fatal) = publisher.end();
    assert!(fatal.lost_data, "{fatal:?}");
    let purged = reports
        .iter()
        .all(|report| report.outcome == Outcome::Purged);
    // The end may be told before all of them.
    assert!(purged && reports.len() <= 10, "{reports:?}");
    assert_eq!(publisher.send(&topic, "key", b"v"), Err(NotSent::Fatal));
    publisher.renew();
    let (_, offset) = stands(&publisher.one(&topic, b"again"));
    assert_eq!(offset, i64::try_from(left).unwrap());
}

fn a_broker_that_lost_all_of_a_place_goes_on_at_a_lower_offset<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    publisher.send_all(&topic, (0..40).map(small));
    publisher.outcomes(40);
    subject.rob(&topic, true);
    publisher.send_all(&topic, [small(100)]);
    assert_eq!(stands(&publisher.outcomes(1)[0]), (0, 0));
    assert_eq!(values(subject, &topic), [small(100)]);
}
