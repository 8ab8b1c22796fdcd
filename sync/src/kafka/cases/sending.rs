//! What is sent, and where it stands.

use super::kit::{
    LIMIT, MESSAGE, Publisher, Stored, Subject, cases, noise, place, small, stands, values,
};
use crate::kafka::broker::{Broker as _, NotSent, Offsets};
use crate::kafka::fake::cluster::partition_of;

cases![
    what_is_sent_stands_there_as_it_was,
    a_value_without_bytes_is_a_value,
    the_same_twice_stands_there_twice,
    a_key_goes_where_java_puts_it,
    reports_of_a_place_come_in_its_order,
    what_is_too_large_for_the_client_is_not_queued,
    offsets_are_those_of_the_places_in_the_order_asked,
    what_is_past_its_retention_is_before_the_oldest_offset,
    what_others_have_not_committed_hides_nothing_of_what_stands_there,
];

fn what_is_sent_stands_there_as_it_was<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    for number in 0..10 {
        let key = format!("key {number}");
        publisher.send(&topic, &key, &small(number)).unwrap();
    }
    let outcomes = publisher.outcomes(10);
    let stand: Vec<(i32, i64)> = outcomes.iter().map(stands).collect();
    let wanted: Vec<(i32, i64)> = (0..10).map(|offset| (0, offset)).collect();
    assert_eq!(stand, wanted);
    let wanted: Vec<Stored> = (0..10)
        .map(|number| {
            let key = format!("key {number}").into_bytes();
            Stored {
                headers: vec![
                    ("ce_id".to_owned(), key.clone()),
                    ("empty".to_owned(), Vec::new()),
                ],
                key,
                value: small(number),
            }
        })
        .collect();
    assert_eq!(subject.read(&topic), [wanted]);
    assert!(publisher.is_silent());
}

fn a_value_without_bytes_is_a_value<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    assert_eq!(stands(&publisher.one(&topic, b"")), (0, 0));
    assert_eq!(values(subject, &topic), [b""]);
}

fn the_same_twice_stands_there_twice<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    publisher.send_all(&topic, [small(1), small(1)]);
    assert_eq!(publisher.outcomes(2).iter().map(stands).count(), 2);
    assert_eq!(values(subject, &topic), [small(1), small(1)]);
}

fn a_key_goes_where_java_puts_it<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 7, LIMIT);
    let mut publisher = Publisher::new(subject);
    let keys: Vec<String> = (0..60)
        .map(|number| format!("{}é{number}", "k".repeat(number % 9)))
        .collect();
    for key in &keys {
        publisher.send(&topic, key, b"").unwrap();
    }
    for (key, outcome) in keys.iter().zip(publisher.outcomes(keys.len())) {
        assert_eq!(stands(&outcome).0, partition_of(key.as_bytes(), 7), "{key}");
    }
}

fn reports_of_a_place_come_in_its_order<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 3, LIMIT);
    let mut publisher = Publisher::new(subject);
    for number in 0..200 {
        let key = format!("{number}");
        publisher.send(&topic, &key, key.as_bytes()).unwrap();
    }
    let mut newest = [(-1, None); 3];
    for report in publisher.reports(200).unwrap() {
        let (partition, offset) = stands(&report.outcome);
        let newest = &mut newest[usize::try_from(partition).unwrap()];
        assert_eq!(offset, newest.0 + 1);
        assert!(Some(report.tag.lane) > newest.1);
        *newest = (offset, Some(report.tag.lane));
    }
    for part in subject.read(&topic) {
        let numbers: Vec<u64> = part
            .iter()
            .map(|stored| String::from_utf8_lossy(&stored.value).parse().unwrap())
            .collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
}

fn what_is_too_large_for_the_client_is_not_queued<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    let sent = publisher.send(&topic, "key", &noise(1, MESSAGE + 1));
    assert_eq!(sent, Err(NotSent::TooLarge));
    assert!(publisher.is_silent());
    assert_eq!(stands(&publisher.one(&topic, b"v")), (0, 0));
}

fn offsets_are_those_of_the_places_in_the_order_asked<S: Subject>(subject: &S) {
    let (topic, missing) = (subject.name("t"), subject.name("missing"));
    subject.make(&topic, 2, LIMIT);
    let mut publisher = Publisher::new(subject);
    publisher.send_all(&topic, [small(1), small(2), small(3)]);
    let partition = stands(&publisher.outcomes(3)[0]).0;
    let partition = usize::try_from(partition).unwrap();
    let asked = vec![
        place(&topic, 2),
        place(&topic, 1 - partition),
        place(&missing, 0),
        place(&topic, partition),
    ];
    let offsets = subject.wait(publisher.broker.offsets(asked)).unwrap();
    let there = |high| Offsets::There { low: 0, high };
    let wanted = [Offsets::Missing, there(0), Offsets::Missing, there(3)];
    assert_eq!(offsets, wanted);
}

fn what_is_past_its_retention_is_before_the_oldest_offset<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    publisher.send_all(&topic, (0..5).map(small));
    publisher.outcomes(5);
    subject.expire(&topic, 0, 3);
    let there = |low, high| [Offsets::There { low, high }];
    assert_eq!(publisher.offsets(&topic, 1), there(3, 5));
    assert_eq!(values(subject, &topic), [small(3), small(4)]);
    subject.expire(&topic, 0, 5);
    assert_eq!(publisher.offsets(&topic, 1), there(5, 5));
    assert_eq!(stands(&publisher.one(&topic, b"v")), (0, 5));
}

fn what_others_have_not_committed_hides_nothing_of_what_stands_there<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    let open = subject.intrude(&topic);
    assert_eq!(stands(&publisher.one(&topic, b"v")), (0, 1));
    let there = [Offsets::There { low: 0, high: 2 }];
    assert_eq!(publisher.offsets(&topic, 1), there);
    drop(open);
}
