//! Events as messages of Kafka: the messages as they stand there, and that nothing is lost by them.

use bytes::Bytes;
use proptest::prelude::*;
use tidelog_core::cloudevents::{
    BatchPlace, Headers, MessageEvent, MessageMode, from_message, to_message, write_line,
};
use tidelog_core::*;

use crate::kit::{self, anything, deposited, log};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn envelope() -> EventEnvelope {
    EventEnvelope {
        stream: StreamId::new("BankAccount", "acc-ä").unwrap(),
        content_type: ContentType::Postcard,
        metadata: Metadata::new()
            .with(TRACEPARENT, TRACE)
            .with(TRACE_ID, "0af7651916cd43dd8448eb211c80319c")
            .with(CORRELATION_ID, "order-7")
            .with(CAUSATION_ID, "command-9")
            .with("actor", "Ada \"the\" first"),
        batch: Batch { first: 1, count: 3 },
        event: Bytes::from_static(&[1, 0, 255]),
        ..deposited()
    }
}

/// A message as it goes: headers and value.
type Sent = (Vec<(String, Vec<u8>)>, Bytes);

fn sent(envelope: &EventEnvelope, batch: BatchPlace, mode: MessageMode) -> Sent {
    let (mut headers, mut line) = (Headers::default(), b"before".to_vec());
    headers.put("before", b"before");
    let value = to_message(envelope, &log(), batch, mode, &mut headers, &mut line);
    let value = Bytes::copy_from_slice(value);
    let headers = headers.iter();
    let headers = headers.map(|(name, text)| (name.to_owned(), text.to_vec()));
    (headers.collect(), value)
}

fn read(sent: &Sent) -> Result<MessageEvent, Error> {
    let headers = sent.0.iter();
    let headers = headers.map(|(name, text)| (name.as_str(), Some(text.as_slice())));
    from_message(headers, Some(&sent.1))
}

fn taken_over(read: MessageEvent) -> EventEnvelope {
    kit::taken_over(read.stream.unwrap(), read.sequence.unwrap(), read.event)
}

fn texts(sent: &Sent) -> Vec<(&str, &str)> {
    let headers = sent.0.iter();
    let text = |text| std::str::from_utf8(text).unwrap();
    headers
        .map(|(name, value)| (name.as_str(), text(value)))
        .collect()
}

#[test]
fn golden_headers_of_a_binary_message() {
    let batch = BatchPlace { index: 1, count: 3 };
    let message = sent(&envelope(), batch, MessageMode::Binary);
    let metadata = format!(
        r#"{{"actor":"Ada \"the\" first","causation-id":"command-9","correlation-id":"order-7","trace-id":"0af7651916cd43dd8448eb211c80319c","traceparent":"{TRACE}"}}"#
    );
    let golden = [
        ("ce_specversion", "1.0"),
        ("ce_id", "00000000-0000-0000-0000-000000000001"),
        ("ce_source", "urn:uuid:00000000-0000-0000-0000-00000000000a"),
        ("ce_type", "Deposited"),
        ("ce_subject", "BankAccount/acc-ä"),
        ("ce_time", "1997-01-01T11:59:59.000000Z"),
        ("content-type", "application/postcard"),
        ("ce_sequence", "3"),
        ("ce_revision", "2"),
        ("ce_position", "9007199254740991"),
        ("ce_epoch", "00000000-0000-0000-0000-00000000000e"),
        ("ce_recordedtime", "2025-11-25T21:15:48.000001Z"),
        ("ce_batchindex", "1"),
        ("ce_batchcount", "3"),
        ("ce_metadata", &*metadata),
        ("ce_tags", r#"["till:3"]"#),
        ("ce_traceparent", TRACE),
        ("ce_traceid", "0af7651916cd43dd8448eb211c80319c"),
        ("ce_correlationid", "order-7"),
        ("ce_causationid", "command-9"),
    ];
    assert_eq!(texts(&message), golden);
    assert_eq!(message.1, &[1, 0, 255][..]);
    let came = read(&message).unwrap();
    assert_eq!((came.sequence, came.batch), (Some(3), batch));
    // Republished by whoever took it over it is the same, byte for byte.
    let again = sent(&taken_over(came), batch, MessageMode::Binary);
    assert_eq!(again, message);
}

#[test]
fn golden_headers_of_the_least_message_outside_the_years_of_calendars() {
    let least = EventEnvelope {
        event_time: Timestamp::from_micros(i64::MIN),
        recorded_time: Timestamp::from_micros(253_402_300_800_000_000),
        metadata: Metadata::new().with("actor", "x"),
        tags: Tags::none(),
        event: Bytes::new(),
        ..envelope()
    };
    let message = sent(&least, BatchPlace::ALONE, MessageMode::Binary);
    let named: Vec<_> = texts(&message).into_iter().skip(5).collect();
    let golden = [
        ("ce_eventmicros", "-9223372036854775808"),
        ("content-type", "application/postcard"),
        ("ce_sequence", "3"),
        ("ce_revision", "2"),
        ("ce_position", "9007199254740991"),
        ("ce_epoch", "00000000-0000-0000-0000-00000000000e"),
        ("ce_recordedmicros", "253402300800000000"),
        ("ce_batchindex", "0"),
        ("ce_batchcount", "1"),
        ("ce_metadata", r#"{"actor":"x"}"#),
    ];
    assert_eq!(named, golden);
    assert_eq!(message.1, "");
    assert_eq!(read(&message).unwrap().event.payload, "");
}

#[test]
fn a_structured_message_is_the_events_line() {
    let batch = BatchPlace { index: 1, count: 3 };
    let cloud_event = EventEnvelope {
        content_type: ContentType::parse("Application/CloudEvents+json").unwrap(),
        ..envelope()
    };
    for (envelope, mode) in [
        (envelope(), MessageMode::Structured),
        // Its payload would be taken for the event itself.
        (cloud_event, MessageMode::Binary),
    ] {
        let message = sent(&envelope, batch, mode);
        let golden = [(
            "content-type",
            "application/cloudevents+json; charset=UTF-8",
        )];
        assert_eq!(texts(&message), golden);
        let mut line = Vec::new();
        write_line(&envelope, &log(), batch, &mut line);
        assert_eq!(line.strip_suffix(b"\n").unwrap(), message.1);
        let came = taken_over(read(&message).unwrap());
        assert_eq!(came.event, envelope.event);
        assert_eq!(came.content_type, envelope.content_type);
    }
}

#[test]
fn a_message_of_another_system_is_a_new_event() {
    let message = |more: &[(&'static str, &'static [u8])]| {
        let mut headers = vec![
            ("CE_SpecVersion", Some(&b"1.0"[..])),
            ("ce_id", Some(b"17")),
            ("ce_source", Some(b"/shop")),
            ("ce_type", Some(b"com.shop.sold")),
            ("ce_unset", None),
            ("other", Some(b"\xff")),
            ("other", Some(b"twice")),
        ];
        headers.extend(more.iter().map(|(name, text)| (*name, Some(*text))));
        headers
    };
    let value = Bytes::from_static(b"\xfftea");
    let plain = from_message(message(&[]), Some(&value)).unwrap();
    assert_eq!((plain.stream, plain.sequence), (None, None));
    assert_eq!(plain.event.payload, value);
    assert_eq!(plain.event.content_type, ContentType::Bytes);
    assert_eq!(plain.event.birth, None);

    let more = [
        ("ce_subject", &b"Till/3"[..]),
        ("Content-Type", b"application/json"),
        ("ce_time", b"2026-11-25T10:00:00.5+01:00"),
        ("ce_partitionkey", b"k"),
        ("ce_traceparent", TRACE.as_bytes()),
    ];
    let named = from_message(message(&more), None).unwrap();
    assert_eq!(named.stream.unwrap().as_str(), "Till/3");
    assert_eq!(named.event.payload, "");
    assert_eq!(named.event.content_type, ContentType::Json);
    let micros = 1_795_597_200_500_000;
    assert_eq!(named.event.event_time, Some(Timestamp::from_micros(micros)));
    let metadata: Vec<_> = named.event.metadata.iter().collect();
    let expected = [
        ("cloudevents-id", "17"),
        ("cloudevents-partitionkey", "k"),
        ("cloudevents-source", "/shop"),
        ("traceparent", TRACE),
    ];
    assert_eq!(metadata, expected);
    // The same id whichever way it comes.
    assert_eq!(plain.event.event_id, named.event.event_id);

    for subject in [&b"x.jpg"[..], b"$tidelog/1", b"/", b""] {
        let odd = from_message(message(&[("ce_subject", subject)]), None).unwrap();
        let kept = odd.event.metadata.get("cloudevents-subject").unwrap();
        assert_eq!((odd.stream, kept.as_bytes()), (None, subject));
    }
    let json = Bytes::from_static(
        br#"{"specversion":"1.0","id":"17","source":"/shop","type":"t","data":{"a": 1}}"#,
    );
    for media_type in [
        &b"application/cloudevents"[..],
        b"APPLICATION/CloudEvents+JSON;v=1",
    ] {
        let headers = [("content-TYPE", Some(media_type))];
        let came = from_message(headers, Some(&json)).unwrap();
        assert_eq!(
            (came.stream, came.event.payload),
            (None, r#"{"a": 1}"#.into())
        );
        assert_eq!(came.event.event_id, plain.event.event_id);
    }
}

#[test]
fn what_is_no_event_is_refused_with_the_header_named() {
    let whole = sent(&envelope(), BatchPlace::ALONE, MessageMode::Binary);
    let refused = |sent: &Sent, reason: &str| {
        let error = read(sent).unwrap_err().to_string();
        assert!(error.contains(reason), "{error} does not say {reason}");
    };
    for name in ["ce_id", "ce_source", "ce_specversion", "ce_type"] {
        let mut without = whole.clone();
        without.0.retain(|(known, _)| known != name);
        refused(&without, &format!("header {name} is missing"));
        let mut twice = whole.clone();
        twice.0.push((name.to_uppercase(), b"x".to_vec()));
        refused(&twice, "twice");
    }
    refused(&(Vec::new(), Bytes::new()), "no CloudEvent");
    for (name, text, reason) in [
        ("ce_specversion", &b"0.3"[..], "only 1.0 is known"),
        ("ce_id", b"", "id"),
        ("ce_id", b"G", "id"),
        ("ce_source", b"", "source"),
        ("ce_type", b"", "type"),
        ("ce_type", b"a\nb", "type"),
        ("ce_type", b"\xff", "UTF-8"),
        ("ce_subject", b"BankAccount", "subject"),
        ("ce_time", b"1997-13-01", "time"),
        ("content-type", b"", "content type"),
        (
            "content-type",
            b"application/cloudevents-batch+json",
            "only JSON is",
        ),
        (
            "content-type",
            b"application/cloudevents+avro",
            "only JSON is",
        ),
        (
            "content-type",
            b"application/cloudevents+json",
            "event line",
        ),
        ("ce_sequence", b"0", "sequence"),
        ("ce_sequence", b"03", "sequence"),
        ("ce_revision", b"4294967296", "revision"),
        ("ce_batchindex", b"+0", "batchindex"),
        ("ce_batchindex", b"1", "batchindex"),
        ("ce_metadata", b"{}", "traceparent"),
        ("ce_metadata", b"{\"a\":\"\",\"a\":\"\"}", "metadata"),
        ("ce_tags", b"[3]", "tags"),
        ("ce_traceid", b"other", "traceid"),
        ("ce_correlationid", b"other", "correlationid"),
        ("ce_causationid", b"other", "causationid"),
        ("ce_traceparent", b"other", "traceparent"),
    ] {
        let mut changed = whole.clone();
        let header = changed.0.iter_mut().find(|(known, _)| known == name);
        header.unwrap().1 = text.to_vec();
        refused(&changed, reason);
    }
    let mut more = whole.clone();
    more.0.push(("ce_color".to_owned(), b"red".to_vec()));
    refused(&more, "would be lost");
    let mut large = whole.clone();
    large.0.push(("x".to_owned(), vec![0; (512 << 10) + 1]));
    refused(&large, "512 KiB");
    let mut many = whole.clone();
    many.0
        .extend((0..256).map(|n| (format!("x{n}"), Vec::new())));
    refused(&many, "256");
    // Ours is never a tombstone.
    let headers = whole.0.iter();
    let headers = headers.map(|(name, text)| (name.as_str(), Some(text.as_slice())));
    assert!(from_message(headers, None).is_err());
    let structured = [("content-type", Some(&b"application/cloudevents+json"[..]))];
    assert!(from_message(structured, None).is_err());
}

proptest! {
    #[test]
    fn every_event_comes_back_by_either_mode_and_makes_the_same_message_again(
        (mut written, _, batch) in anything(-70_000_000_000_000_000..300_000_000_000_000_000),
        content in 0_usize..5,
        structured: bool,
    ) {
        let names = ["application/postcard", "application/json", "application/octet-stream",
            "text/x; y=\"ä\"", "application/CloudEvents+x"];
        written.content_type = ContentType::parse(names[content]).unwrap();
        let mode = if structured { MessageMode::Structured } else { MessageMode::Binary };
        let first = sent(&written, batch, mode);
        let came = read(&first).unwrap();
        prop_assert_eq!(came.batch, batch);
        let there = taken_over(came);
        prop_assert_eq!(there.event_id, written.event_id);
        prop_assert_eq!(&there.stream, &written.stream);
        prop_assert_eq!(there.sequence, written.sequence);
        prop_assert_eq!(&there.event_type, &written.event_type);
        prop_assert_eq!(there.revision, written.revision);
        prop_assert_eq!(&there.content_type, &written.content_type);
        prop_assert_eq!(there.event_time, written.event_time);
        prop_assert_eq!(&there.metadata, &written.metadata);
        prop_assert_eq!(&there.tags, &written.tags);
        prop_assert_eq!(&there.event, &written.event);
        // Times of calendars are those that chrono writes.
        let line = sent(&there, batch, MessageMode::Structured).1;
        prop_assert_eq!(line, sent(&written, batch, MessageMode::Structured).1);
        prop_assert_eq!(sent(&there, batch, mode), first);
    }

    #[test]
    fn no_headers_make_the_reader_panic(
        headers in proptest::collection::vec(
            ("(ce_|CE_)?(id|source|type|specversion|time|sequence|position|epoch|.{0,5})|content-type",
             proptest::option::of("1\\.0|urn:uuid:00000000-0000-0000-0000-00000000000a|application/cloudevents.{0,5}|.{0,9}")), 0..9),
        value: Option<Vec<u8>>,
        at: prop::sample::Index, byte: prop::sample::Index, change: u8,
    ) {
        let value = value.map(Bytes::from);
        let of = headers.iter().map(|(name, text)| (name.as_str(), text.as_ref().map(String::as_bytes)));
        let _ = from_message(of, value.as_ref());
        let mut message = sent(&envelope(), BatchPlace::ALONE, MessageMode::Binary);
        let header = &mut message.0[at.index(14)];
        let at = byte.index(header.1.len());
        header.1[at] = change;
        let _ = read(&message);
        header_cut(&mut message, at);
        let _ = read(&message);
    }
}

fn header_cut(message: &mut Sent, at: usize) {
    for (_, text) in &mut message.0 {
        text.truncate(at);
    }
}

proptest! {
    #[test]
    fn times_are_written_as_rfc_3339_has_them(micros in -62_135_596_800_000_000_i64..=253_402_300_799_999_999) {
        let written = EventEnvelope { event_time: Timestamp::from_micros(micros), ..envelope() };
        let sent = sent(&written, BatchPlace::ALONE, MessageMode::Binary);
        let time = written.event_time.to_datetime();
        let expected = time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let found = texts(&sent).into_iter().find(|(name, _)| *name == "ce_time");
        prop_assert_eq!(found, Some(("ce_time", &*expected)));
    }
}
