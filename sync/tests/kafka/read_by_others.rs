//! Clients that know nothing of tidelog read what it publishes: Kafka's own console consumer, and the
//! SDK of `CloudEvents` for Python.

use std::collections::BTreeMap;

use tempfile::TempDir;
use tidelog::cloudevents::{BatchPlace, Headers, MessageMode, to_message};
use tidelog::{
    AppendBatch, ContentType, EventEnvelope, EventLog as _, ExpectedVersion, LogQuery, Metadata,
    NewEvent, StreamId, Tags, Tidelog, Timestamp,
};

use crate::consumer::{Checker, streams_of};
use crate::java::Java;
use crate::python::{Python, Understood};
use crate::{services, topics};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// The first day of 1997, which no clock of a broker is at.
const LONG_AGO: i64 = 852_076_800_000_001;

/// A store with events of all kinds.
struct Mixed {
    _dir: TempDir,
    log: Tidelog,
}

impl Mixed {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = Tidelog::open(dir.path()).unwrap();
        let payloads: [(ContentType, &[u8]); 8] = [
            (ContentType::Postcard, b"\x05\xff\x00\n"),
            (ContentType::Postcard, b""),
            (ContentType::Json, br#"{"cents":500,"to":"J\u00f6rg"}"#),
            (
                ContentType::Json,
                "{ \"name\" : \"Größe\",\n \"of\": [1, 2.5, null] }".as_bytes(),
            ),
            (ContentType::Json, b"7"),
            (ContentType::Bytes, b"\x00"),
            (ContentType::Bytes, b""),
            (
                ContentType::parse("text/plain").unwrap(),
                "schön".as_bytes(),
            ),
        ];
        for id in ["acc-1", "Konto/é 語🦀", "x"] {
            let stream = StreamId::new("BankAccount", id).unwrap();
            for (at, (content_type, payload)) in payloads.iter().enumerate() {
                let event = NewEvent::new("Größe", 3, content_type.clone(), payload.to_vec());
                let mut metadata = Metadata::new();
                if at % 2 == 0 {
                    metadata.insert("traceparent", TRACEPARENT);
                    metadata.insert("correlation-id", "order-7");
                    metadata.insert("über", "\"quoted\" ✓");
                }
                let event = event
                    .with_event_time(Timestamp::from_micros(LONG_AGO))
                    .with_metadata(metadata)
                    .with_tags(Tags::new(["who:vip", "wo:ü"]).unwrap());
                let alone = NewEvent::new("Seen", 1, ContentType::Json, "{}");
                let any = ExpectedVersion::Any;
                let batch = AppendBatch::new(stream.clone(), any, vec![event, alone]);
                log.append(batch).await.unwrap();
            }
        }
        Self { _dir: dir, log }
    }

    async fn events(&self) -> Vec<EventEnvelope> {
        let (mut all, mut events) = (Vec::new(), self.log.read_all(LogQuery::all()));
        while let Some(event) = events.next().await {
            all.push(event.unwrap());
        }
        all
    }

    /// Puts all of it into a topic of one partition.
    async fn published(&self, address: &str, mode: MessageMode) -> String {
        let topic = topics::unique("mixed");
        topics::create(address, &topic, 1, &[]);
        for event in self.events().await {
            let (mut headers, mut line) = (Headers::default(), Vec::new());
            let identity = self.log.store().identity();
            let place = BatchPlace::ALONE;
            let value = to_message(&event, &identity, place, mode, &mut headers, &mut line);
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (name, std::str::from_utf8(value).unwrap()))
                .collect();
            let key = event.aggregate_id().as_bytes();
            topics::write(address, &topic, [(Some(key), Some(value), &headers[..])]);
        }
        Checker::of(address, &[&topic]).assert_is(&streams_of(&self.log).await);
        topic
    }
}

#[tokio::test]
async fn kafkas_console_consumer_reads_every_message() {
    let (Some(address), Some(java)) = (services::kafka(), Java::find()) else {
        return;
    };
    let mixed = Mixed::new().await;
    let topic = mixed.published(&address, MessageMode::Binary).await;
    // What it would show if an empty payload were a tombstone.
    topics::write(&address, &topic, [(Some(&b"gone"[..]), None, &[][..])]);
    let events = mixed.events().await;
    let shown = java.console_consumer(&address, &topic, events.len() + 1);
    assert_eq!(shown.len(), events.len() + 1);
    assert_eq!(shown.last().unwrap().value, None);
    for (at, (shown, event)) in shown.iter().zip(&events).enumerate() {
        assert_eq!(
            (shown.partition, shown.offset),
            (0, i64::try_from(at).unwrap())
        );
        assert_eq!(shown.key, event.aggregate_id());
        assert_eq!(shown.value.as_deref(), Some(&event.event[..]), "{event:?}");
        let has = |name: &str, value: &str| {
            let header = format!("{name}:{value}");
            assert!(
                shown.headers.contains(&header),
                "{header}: {:?}",
                shown.headers
            );
        };
        has("ce_specversion", "1.0");
        has("ce_id", &event.event_id.to_string());
        has("ce_type", &event.event_type);
        has("ce_subject", event.stream.as_str());
        has("ce_sequence", &event.sequence.to_string());
        has("content-type", event.content_type.as_str());
        if let Some(traceparent) = event.metadata.get("traceparent") {
            has("ce_traceparent", traceparent);
            has("ce_correlationid", "order-7");
        }
    }
    topics::delete(&address, &[&topic]);
    mixed.log.close().await.unwrap();
}

#[tokio::test]
async fn the_sdk_of_cloudevents_understands_every_message_in_both_modes() {
    let (Some(address), Some(python)) = (services::kafka(), Python::find()) else {
        return;
    };
    let mixed = Mixed::new().await;
    let events = mixed.events().await;
    for mode in [MessageMode::Binary, MessageMode::Structured] {
        let topic = mixed.published(&address, mode).await;
        let understood = python.read(&address, &topic);
        assert_eq!(understood.len(), events.len());
        for (at, (understood, event)) in understood.iter().zip(&events).enumerate() {
            let place = (understood.partition, understood.offset);
            assert_eq!(place, (0, i64::try_from(at).unwrap()));
            is_understood(understood, event, mode, mixed.log.store().identity().origin);
        }
        topics::delete(&address, &[&topic]);
    }
    mixed.log.close().await.unwrap();
}

fn is_understood(
    understood: &Understood,
    event: &EventEnvelope,
    mode: MessageMode,
    origin: impl std::fmt::Display,
) {
    let attributes = &understood.attributes;
    let mut expected: BTreeMap<&str, String> = BTreeMap::new();
    expected.insert("specversion", "1.0".to_owned());
    expected.insert("id", event.event_id.to_string());
    expected.insert("source", format!("urn:uuid:{origin}"));
    expected.insert("type", event.event_type.to_string());
    expected.insert("subject", event.stream.to_string());
    expected.insert("datacontenttype", event.content_type.as_str().to_owned());
    expected.insert("sequence", event.sequence.to_string());
    expected.insert("revision", event.revision.to_string());
    if event.event_time == Timestamp::from_micros(LONG_AGO) {
        let time = "1997-01-01T00:00:00.000001+00:00";
        expected.insert("time", time.to_owned());
    }
    if let Some(traceparent) = event.metadata.get("traceparent") {
        expected.insert("traceparent", traceparent.to_owned());
    }
    if mode == MessageMode::Binary {
        let key = event.aggregate_id().to_owned();
        expected.insert("partitionkey", key);
    }
    for (name, value) in expected {
        assert_eq!(attributes.get(name), Some(&value), "{name} of {event:?}");
    }
    let data = understood.data.as_deref().unwrap_or_default();
    let data: Vec<u8> = (0..data.len() / 2)
        .map(|at| u8::from_str_radix(&data[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    if understood.is_json {
        let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        assert_eq!(value(&data), value(&event.event), "{event:?}");
    } else {
        assert_eq!(data, event.event, "{event:?}");
    }
}

#[test]
fn the_sdk_of_cloudevents_sends_what_the_tests_of_listeners_take() {
    let (Some(address), Some(python)) = (services::kafka(), Python::find()) else {
        return;
    };
    let topic = topics::unique("python");
    topics::create(&address, &topic, 3, &[]);
    let sent = python.write(&address, &topic);
    let there = topics::read(&address, &topic);
    let there = there.into_values().map(|part| part.len());
    assert_eq!(there.sum::<usize>(), sent.lines().count());
    topics::delete(&address, &[&topic]);
}
