//! Handshake records, and who may write them.

use uuid::Uuid;

use super::kit::{LIMIT, Subject, cases, id, record};
use crate::kafka::broker::{Broker, BrokerError, OriginRecord};

cases![
    without_their_topic_nothing_is_read_or_written,
    nothing_is_written_without_a_fence,
    the_newest_record_of_an_origin_is_its_own,
    whoever_was_fenced_writes_nothing,
    a_fence_is_taken_again_by_whoever_has_it,
    a_client_holds_one_fence,
    a_record_that_fails_costs_the_fence,
    records_are_gone_with_their_topic,
    what_nobody_waits_for_is_done_once_or_not_at_all,
];

fn newest<S: Subject>(subject: &S, client: &S::Client, origin: Uuid) -> Option<OriginRecord> {
    subject.wait(client.record(origin)).unwrap()
}

fn is_fenced<S: Subject>(subject: &S, client: &S::Client, record: OriginRecord) -> bool {
    match subject.wait(client.mark(record)) {
        Ok(()) => false,
        Err(BrokerError::Fenced) => true,
        Err(other) => panic!("{other:?}"),
    }
}

fn without_their_topic_nothing_is_read_or_written<S: Subject>(subject: &S) {
    let (client, origin) = (subject.client(), id(subject, "origin"));
    let is_missing = |error| match error {
        BrokerError::NoTopic(named) => *named == *subject.origins(),
        other => panic!("{other:?}"),
    };
    assert!(is_missing(subject.wait(client.record(origin)).unwrap_err()));
    subject.wait(client.fence(origin)).unwrap();
    let marked = subject.wait(client.mark(record(origin, 1, 1)));
    assert!(is_missing(marked.unwrap_err()));
    // The fence is still its own.
    subject.make(&subject.origins(), 1, LIMIT);
    assert_eq!(newest(subject, &client, origin), None);
    subject.wait(client.mark(record(origin, 1, 2))).unwrap();
    let found = newest(subject, &client, origin);
    assert_eq!(found, Some(record(origin, 1, 2)));
}

fn nothing_is_written_without_a_fence<S: Subject>(subject: &S) {
    subject.make(&subject.origins(), 1, LIMIT);
    let (client, origin) = (subject.client(), id(subject, "origin"));
    assert!(is_fenced(subject, &client, record(origin, 1, 1)));
    assert_eq!(newest(subject, &client, origin), None);
}

fn the_newest_record_of_an_origin_is_its_own<S: Subject>(subject: &S) {
    subject.make(&subject.origins(), 1, LIMIT);
    let (one, other) = (subject.client(), subject.client());
    let origin = id(subject, "origin");
    let stranger = id(subject, "stranger");
    subject.wait(one.fence(origin)).unwrap();
    subject.wait(other.fence(stranger)).unwrap();
    subject.wait(one.mark(record(origin, 1, 1))).unwrap();
    subject.wait(other.mark(record(stranger, 5, 50))).unwrap();
    subject.wait(one.mark(record(origin, 1, 2))).unwrap();
    subject.wait(other.mark(record(stranger, 5, 51))).unwrap();
    for client in [&one, &other] {
        let found = newest(subject, client, origin);
        assert_eq!(found, Some(record(origin, 1, 2)));
        let found = newest(subject, client, stranger);
        assert_eq!(found, Some(record(stranger, 5, 51)));
    }
}

fn whoever_was_fenced_writes_nothing<S: Subject>(subject: &S) {
    subject.make(&subject.origins(), 1, LIMIT);
    let (one, other) = (subject.client(), subject.client());
    let origin = id(subject, "origin");
    subject.wait(one.fence(origin)).unwrap();
    subject.wait(one.mark(record(origin, 1, 1))).unwrap();
    subject.wait(other.fence(origin)).unwrap();
    assert!(is_fenced(subject, &one, record(origin, 1, 2)));
    // However often it tries.
    assert!(is_fenced(subject, &one, record(origin, 1, 3)));
    let found = newest(subject, &one, origin);
    assert_eq!(found, Some(record(origin, 1, 1)));
    subject.wait(other.mark(record(origin, 2, 4))).unwrap();
    let found = newest(subject, &one, origin);
    assert_eq!(found, Some(record(origin, 2, 4)));
    // And it can be taken back.
    subject.wait(one.fence(origin)).unwrap();
    assert!(is_fenced(subject, &other, record(origin, 2, 5)));
    subject.wait(one.mark(record(origin, 3, 6))).unwrap();
    let found = newest(subject, &other, origin);
    assert_eq!(found, Some(record(origin, 3, 6)));
}

fn a_fence_is_taken_again_by_whoever_has_it<S: Subject>(subject: &S) {
    subject.make(&subject.origins(), 1, LIMIT);
    let (client, origin) = (subject.client(), id(subject, "origin"));
    for round in 1..=3 {
        subject.wait(client.fence(origin)).unwrap();
        subject.wait(client.mark(record(origin, 1, round))).unwrap();
    }
    let found = newest(subject, &client, origin);
    assert_eq!(found, Some(record(origin, 1, 3)));
}

fn a_client_holds_one_fence<S: Subject>(subject: &S) {
    subject.make(&subject.origins(), 1, LIMIT);
    let (client, origin) = (subject.client(), id(subject, "origin"));
    let stranger = id(subject, "stranger");
    subject.wait(client.fence(origin)).unwrap();
    subject.wait(client.fence(stranger)).unwrap();
    subject.wait(client.mark(record(stranger, 1, 1))).unwrap();
    assert!(is_fenced(subject, &client, record(origin, 1, 1)));
    // And what asks without one has none afterwards.
    assert!(is_fenced(subject, &client, record(stranger, 1, 2)));
}

fn a_record_that_fails_costs_the_fence<S: Subject>(subject: &S) {
    subject.make(&subject.origins(), 1, LIMIT);
    let (client, origin) = (subject.client(), id(subject, "origin"));
    subject.wait(client.fence(origin)).unwrap();
    subject.refuse_records(true);
    let mut marked = 0;
    // It is not so at once everywhere.
    let failed = loop {
        match subject.wait(client.mark(record(origin, 1, marked + 1))) {
            Ok(()) => marked += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, BrokerError::Passing(_)), "{failed:?}");
    assert!(is_fenced(subject, &client, record(origin, 1, 100)));
    let found = newest(subject, &client, origin).map(|found| found.position);
    assert_eq!(found, (marked > 0).then_some(marked));
    subject.refuse_records(false);
    loop {
        subject.wait(client.fence(origin)).unwrap();
        if subject.wait(client.mark(record(origin, 2, 101))).is_ok() {
            break;
        }
    }
    let found = newest(subject, &client, origin);
    assert_eq!(found, Some(record(origin, 2, 101)));
}

fn records_are_gone_with_their_topic<S: Subject>(subject: &S) {
    let topic = subject.origins();
    subject.make(&topic, 1, LIMIT);
    let (client, origin) = (subject.client(), id(subject, "origin"));
    subject.wait(client.fence(origin)).unwrap();
    subject.wait(client.mark(record(origin, 1, 1))).unwrap();
    subject.delete(&topic);
    let missing = subject.wait(client.record(origin));
    assert!(
        matches!(missing, Err(BrokerError::NoTopic(_))),
        "{missing:?}"
    );
    subject.make(&topic, 1, LIMIT);
    assert_eq!(newest(subject, &client, origin), None);
    subject.wait(client.fence(origin)).unwrap();
    subject.wait(client.mark(record(origin, 2, 2))).unwrap();
    let found = newest(subject, &client, origin);
    assert_eq!(found, Some(record(origin, 2, 2)));
}

fn what_nobody_waits_for_is_done_once_or_not_at_all<S: Subject>(subject: &S) {
    subject.make(&subject.origins(), 1, LIMIT);
    let (client, origin) = (subject.client(), id(subject, "origin"));
    subject.wait(client.fence(origin)).unwrap();
    subject.wait(client.mark(record(origin, 1, 1))).unwrap();
    drop(client.mark(record(origin, 1, 2)));
    // What is asked behind it is answered behind it.
    let found = newest(subject, &client, origin).unwrap().position;
    assert!((1..=2).contains(&found), "{found}");
    subject.wait(client.mark(record(origin, 1, 3))).unwrap();
    let found = newest(subject, &client, origin);
    assert_eq!(found, Some(record(origin, 1, 3)));
}
