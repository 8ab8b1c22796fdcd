//! Topics that are missing, deleted, made again.

use super::kit::{LIMIT, Publisher, Subject, cases, small, stands, values};
use crate::kafka::broker::{NotSent, Offsets, Outcome, Trouble};
use crate::kafka::fake::cluster::partition_of;

cases![
    a_topic_that_is_missing_is_said_of_what_waits_and_of_what_comes,
    what_waits_for_a_topic_is_taken_when_it_is_made,
    a_topic_that_was_missing_is_found_when_the_cluster_is_asked,
    a_missing_topic_holds_up_no_other,
    a_topic_made_again_begins_at_its_first_offset,
    a_topic_made_again_elsewhere_takes_what_waits,
    a_topic_that_goes_is_said_of_what_waits_and_of_what_comes,
    keys_go_to_places_that_were_added_when_the_cluster_is_asked,
];

const GONE: Outcome = Outcome::Failed(Trouble::NoTopic);

fn a_topic_that_is_missing_is_said_of_what_waits_and_of_what_comes<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    let mut publisher = Publisher::new(subject);
    publisher.send_all(&topic, (0..10).map(small));
    assert_eq!(publisher.outcomes(10), vec![GONE; 10]);
    let sent = publisher.send(&topic, "key", b"v");
    assert_eq!(sent, Err(NotSent::NoTopic));
    assert!(publisher.is_silent());
    assert_eq!(publisher.look(&topic), None);
    assert_eq!(publisher.offsets(&topic, 1), [Offsets::Missing]);
}

fn what_waits_for_a_topic_is_taken_when_it_is_made<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    let mut publisher = Publisher::of(subject, subject.patient_client());
    publisher.send_all(&topic, (0..6).map(small));
    subject.make(&topic, 1, LIMIT);
    let stand: Vec<i64> = publisher
        .outcomes(6)
        .iter()
        .map(|it| stands(it).1)
        .collect();
    assert_eq!(stand, [0, 1, 2, 3, 4, 5]);
    let wanted: Vec<_> = (0..6).map(small).collect();
    assert_eq!(values(subject, &topic), wanted);
}

fn a_topic_that_was_missing_is_found_when_the_cluster_is_asked<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    let mut publisher = Publisher::new(subject);
    assert_eq!(publisher.one(&topic, b"v"), GONE);
    subject.make(&topic, 2, LIMIT);
    assert_eq!(publisher.look(&topic), Some(2));
    assert_eq!(stands(&publisher.one(&topic, b"v")).1, 0);
}

fn a_missing_topic_holds_up_no_other<S: Subject>(subject: &S) {
    let (missing, topic) = (subject.name("missing"), subject.name("t"));
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::of(subject, subject.patient_client());
    publisher.send_all(&missing, [small(0)]);
    publisher.send_all(&topic, [small(1)]);
    let reports = publisher.reports(1).unwrap();
    // In memory it may be given up in the meantime.
    let reports = if reports[0].outcome == GONE {
        publisher.reports(1).unwrap()
    } else {
        reports
    };
    assert_eq!(reports[0].tag.lane, 1);
    assert_eq!(stands(&reports[0].outcome), (0, 0));
}

fn a_topic_made_again_begins_at_its_first_offset<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    publisher.send_all(&topic, (0..5).map(small));
    assert_eq!(stands(&publisher.outcomes(5)[4]), (0, 4));
    subject.delete(&topic);
    subject.make(&topic, 1, LIMIT);
    assert_eq!(
        publisher.offsets(&topic, 1),
        [Offsets::There { low: 0, high: 0 }]
    );
    assert_eq!(publisher.look(&topic), Some(1));
    publisher.send_all(&topic, [small(7), small(8)]);
    let stand: Vec<_> = publisher.outcomes(2).iter().map(stands).collect();
    assert_eq!(stand, [(0, 0), (0, 1)]);
    assert_eq!(values(subject, &topic), [small(7), small(8)]);
}

fn a_topic_made_again_elsewhere_takes_what_waits<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    publisher.one(&topic, b"before");
    subject.delete(&topic);
    subject.make(&topic, 1, LIMIT);
    // Nobody has asked: the producer finds out by itself.
    publisher.send_all(&topic, [small(1)]);
    assert_eq!(stands(&publisher.outcomes(1)[0]), (0, 0));
    assert_eq!(values(subject, &topic), [small(1)]);
}

fn a_topic_that_goes_is_said_of_what_waits_and_of_what_comes<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    publisher.one(&topic, b"before");
    subject.delete(&topic);
    publisher.send_all(&topic, (0..3).map(small));
    assert_eq!(publisher.outcomes(3), vec![GONE; 3]);
    let sent = publisher.send(&topic, "key", b"v");
    assert_eq!(sent, Err(NotSent::NoTopic));
    assert_eq!(publisher.offsets(&topic, 1), [Offsets::Missing]);
    assert_eq!(publisher.look(&topic), None);
    subject.make(&topic, 1, LIMIT);
    assert_eq!(publisher.look(&topic), Some(1));
    assert_eq!(stands(&publisher.one(&topic, b"after")), (0, 0));
}

fn keys_go_to_places_that_were_added_when_the_cluster_is_asked<S: Subject>(subject: &S) {
    let topic = subject.name("t");
    subject.make(&topic, 1, LIMIT);
    let mut publisher = Publisher::new(subject);
    publisher.one(&topic, b"before");
    subject.grow(&topic, 3);
    assert_eq!(publisher.look(&topic), Some(3));
    let keys: Vec<String> = (0..12).map(|number| format!("key {number}")).collect();
    for key in &keys {
        publisher.send(&topic, key, b"").unwrap();
    }
    for (key, outcome) in keys.iter().zip(publisher.outcomes(keys.len())) {
        assert_eq!(stands(&outcome).0, partition_of(key.as_bytes(), 3), "{key}");
    }
}
