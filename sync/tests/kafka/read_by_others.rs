//! Clients that know nothing of tidelog read what it publishes.

use crate::java::Java;
use crate::python::Python;
use crate::{services, topics};

const HEADERS: [(&str, &str); 9] = [
    ("ce_specversion", "1.0"),
    ("ce_id", "0192f0c1-7b7a-7cc0-98c4-dc0c0c07398f"),
    ("ce_source", "urn:uuid:0192f0c1-7b7a-7cc0-98c4-dc0c0c073980"),
    ("ce_type", "Deposited"),
    ("ce_subject", "BankAccount/acc-é1"),
    ("ce_time", "1997-01-01T00:00:00.000001Z"),
    ("content-type", "application/postcard"),
    ("ce_sequence", "1"),
    (
        "ce_traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
];

fn topic(address: &str, values: &[&[u8]]) -> String {
    let topic = topics::unique("others");
    topics::create(address, &topic, 1, &[]);
    let key = "acc-é1".as_bytes();
    let messages = values
        .iter()
        .map(|value| (Some(key), Some(*value), &HEADERS[..]));
    topics::write(address, &topic, messages);
    topic
}

#[test]
fn kafkas_console_consumer_reads_every_message() {
    let (Some(address), Some(java)) = (services::kafka(), Java::find()) else {
        return;
    };
    let values: [&[u8]; 3] = [b"\x05\xff\x00\n", b"", b"{}"];
    let topic = topic(&address, &values);
    topics::write(&address, &topic, [(Some(&b"gone"[..]), None, &[][..])]);
    let shown = java.console_consumer(&address, &topic, 4);
    for (at, (shown, value)) in shown.iter().zip(values).enumerate() {
        assert_eq!(
            (shown.partition, shown.offset),
            (0, i64::try_from(at).unwrap())
        );
        let headers: Vec<_> = HEADERS
            .iter()
            .map(|(name, text)| format!("{name}:{text}"))
            .collect();
        assert_eq!(shown.headers, headers);
        assert_eq!(shown.key, "acc-é1");
        assert_eq!(
            shown.value.as_deref(),
            Some(value),
            "an empty value is no tombstone"
        );
    }
    assert_eq!(shown[3].value, None, "a tombstone is shown as one");
    assert_eq!(shown.len(), 4);
    topics::delete(&address, &[&topic]);
}

#[test]
fn the_sdk_of_cloudevents_understands_every_message() {
    let (Some(address), Some(python)) = (services::kafka(), Python::find()) else {
        return;
    };
    let topic = topic(&address, &[b"\x05\xff\x00\n", b""]);
    let understood = python.read(&address, &topic);
    assert_eq!(understood.len(), 2);
    for (at, event) in understood.iter().enumerate() {
        let place = (event.partition, event.offset);
        assert_eq!(place, (0, i64::try_from(at).unwrap()));
        for (name, value) in HEADERS {
            let name = match name {
                "content-type" => "datacontenttype",
                "ce_time" => continue,
                name => &name["ce_".len()..],
            };
            assert_eq!(event.attributes[name], value, "{name}");
        }
        assert_eq!(event.attributes["partitionkey"], "acc-é1");
        assert_eq!(event.attributes["time"], "1997-01-01T00:00:00.000001+00:00");
    }
    assert_eq!(understood[0].data.as_deref(), Some("05ff000a"));
    assert!(!understood[0].is_json);
    topics::delete(&address, &[&topic]);
}

#[test]
fn the_sdk_of_cloudevents_sends_what_the_tests_of_listeners_take() {
    let (Some(address), Some(python)) = (services::kafka(), Python::find()) else {
        return;
    };
    let topic = topics::unique("python");
    topics::create(&address, &topic, 3, &[]);
    let sent = python.write(&address, &topic);
    let there = topics::read(&address, &topic)
        .into_values()
        .map(|part| part.len());
    assert_eq!(there.sum::<usize>(), sent.lines().count());
    topics::delete(&address, &[&topic]);
}
