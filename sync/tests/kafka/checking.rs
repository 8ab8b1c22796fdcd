//! The consumer that the others are checked by, itself.

use std::collections::BTreeMap;

use crate::consumer::{Checker, Found, Watch, Wrong, streams_of};
use crate::{services, topics};
use tidelog::{AppendBatch, ContentType, ExpectedVersion, NewEvent, StreamId, Tidelog};

/// An event as it is to stand in Kafka, made by hand.
fn found(sequence: u64, id: &str, value: &[u8]) -> Found {
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_type", "Said"),
        ("ce_subject", "Till/7"),
        ("content-type", "application/json"),
    ];
    let text = |(name, value): &(&str, &str)| ((*name).to_owned(), Some(value.as_bytes().to_vec()));
    let mut headers: Vec<_> = headers.iter().map(text).collect();
    headers.push(text(&("ce_sequence", &sequence.to_string())));
    Found {
        topic: "tidelog.Till".to_owned(),
        partition: 0,
        offset: 0,
        key: Some(b"7".to_vec()),
        value: Some(value.to_vec()),
        headers,
    }
}

fn taken(found: &[Found]) -> Checker {
    let mut checker = Checker::default();
    for found in found {
        checker.take(found);
    }
    checker
}

#[test]
fn doubles_are_counted_and_are_not_wrong() {
    let (one, two) = (found(1, "a", b"1"), found(2, "b", b"2"));
    let checker = taken(&[one.clone(), two.clone(), one, two, found(3, "c", b"")]);
    checker.assert_in_order();
    assert_eq!(
        (checker.events(), checker.doubles, checker.messages),
        (3, 2, 5)
    );
}

#[test]
fn the_same_event_is_read_in_both_modes() {
    let binary = taken(&[found(1, "a", b"{\"b\": 1,  \"a\":2}")]);
    let mut structured = found(1, "a", b"");
    let value = r#"{"specversion":"1.0","id":"a","type":"Said","subject":"Till/7","sequence":"1","data":{"b": 1,  "a":2}}"#;
    structured.value = Some(value.into());
    let content = "application/cloudevents+json; charset=UTF-8";
    structured.headers = vec![("content-type".to_owned(), Some(content.into()))];
    taken(&[structured.clone()]).assert_is(binary.streams());
    let value = value.replace(
        r#""data":{"b": 1,  "a":2}"#,
        r#""data_base64":"eyJiIjogMSwgICJhIjoyfQ==""#,
    );
    structured.value = Some(value.into());
    taken(&[structured]).assert_is(binary.streams());
}

#[test]
fn it_sees_what_is_wrong() {
    let (one, two) = (found(1, "a", b"1"), found(2, "b", b"2"));
    let (mut moved, mut no_key, mut tombstone) = (two.clone(), two.clone(), two.clone());
    moved.partition = 1;
    no_key.key = None;
    tombstone.value = None;
    let first = |found: &[Found]| taken(found).wrong.first().cloned();
    let gap = first(&[one.clone(), found(3, "c", b"3")]);
    assert!(
        matches!(
            gap,
            Some(Wrong::Gap {
                expected: 2,
                found: 3,
                ..
            })
        ),
        "{gap:?}"
    );
    let other = first(&[one.clone(), found(1, "a", b"2")]);
    assert!(
        matches!(other, Some(Wrong::Differs { sequence: 1, .. })),
        "{other:?}"
    );
    let other = first(&[one.clone(), found(1, "b", b"1")]);
    assert!(
        matches!(other, Some(Wrong::Differs { sequence: 1, .. })),
        "{other:?}"
    );
    let twice = first(&[one.clone(), found(2, "a", b"1")]);
    assert!(matches!(twice, Some(Wrong::Moved { .. })), "{twice:?}");
    let elsewhere = first(&[one.clone(), moved]);
    assert!(
        matches!(elsewhere, Some(Wrong::Moved { .. })),
        "{elsewhere:?}"
    );
    for garbage in [no_key, tombstone] {
        let garbage = first(&[one.clone(), garbage]);
        assert!(
            matches!(garbage, Some(Wrong::Garbage { .. })),
            "{garbage:?}"
        );
    }
    let whole = taken(&[one.clone(), two]);
    let short = std::panic::catch_unwind(|| taken(&[one]).assert_is(whole.streams()));
    assert!(short.is_err(), "an event that is not there was not missed");
    let none = std::panic::catch_unwind(|| whole.assert_is(&BTreeMap::new()));
    assert!(none.is_err(), "a stream that is nobody's was not seen");
}

#[tokio::test]
async fn it_reads_what_stands_in_a_topic_and_what_comes() {
    let Some(address) = services::kafka() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let log = Tidelog::open(dir.path()).unwrap();
    let name = topics::unique("checking");
    topics::create(&address, &name, 3, &[]);
    let watch = Watch::begin(&address, &[&name]);
    for till in ["1", "2", "3"] {
        let events = ["a", "", "c"].map(|text| NewEvent::new("Said", 1, ContentType::Bytes, text));
        let stream = StreamId::new("Till", till).unwrap();
        let batch = AppendBatch::new(stream, ExpectedVersion::NoStream, events.into());
        log.append(batch).await.unwrap();
    }
    let logs = streams_of(&log).await;
    for (stream, facts) in &logs {
        for (at, fact) in facts.iter().enumerate() {
            let sequence = (at + 1).to_string();
            let headers = [
                ("ce_specversion", "1.0"),
                ("ce_id", &fact.id),
                ("ce_type", &fact.kind),
                ("ce_subject", stream),
                ("ce_sequence", &sequence),
                ("content-type", "application/octet-stream"),
            ];
            let key = &stream.as_bytes()["Till/".len()..];
            let value = ["a", "", "c"][at].as_bytes();
            let message = (Some(key), Some(value), &headers[..]);
            topics::write(&address, &name, [message, message]);
        }
    }
    watch.until("all are there, twice", |seen| seen.messages == 18);
    watch.end().assert_is(&logs);
    let read = Checker::of(&address, &[&name]);
    read.assert_is(&logs);
    assert_eq!((read.events(), read.doubles), (9, 9));
    topics::delete(&address, &[&name]);
    log.close().await.unwrap();
}
