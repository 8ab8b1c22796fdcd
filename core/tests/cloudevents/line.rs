//! Events as lines of JSON: the lines as they stand in files, and that nothing is lost by them.

use bytes::Bytes;
use proptest::prelude::*;
use tidelog_core::cloudevents::{BatchPlace, LineEvent, read_line, write_line};
use tidelog_core::*;
use uuid::Uuid;

use crate::kit::{self, anything, deposited, log};

fn envelope() -> EventEnvelope {
    EventEnvelope {
        metadata: Metadata::new()
            .with(
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            )
            .with("actor", "Ada \"the\" first"),
        event: Bytes::from_static(br#"{"cents": 500,"by":"caf\u00e9"}"#),
        ..deposited()
    }
}

fn line(envelope: &EventEnvelope, batch: BatchPlace) -> String {
    let mut out = b"before ".to_vec();
    write_line(envelope, &log(), batch, &mut out);
    String::from_utf8(out)
        .unwrap()
        .strip_prefix("before ")
        .unwrap()
        .to_owned()
}

fn taken_over(read: LineEvent) -> EventEnvelope {
    kit::taken_over(read.stream, read.sequence.unwrap(), read.event)
}

#[test]
fn golden_line_of_a_json_event() {
    let golden = concat!(
        r#"{"specversion":"1.0","id":"00000000-0000-0000-0000-000000000001","#,
        r#""source":"urn:uuid:00000000-0000-0000-0000-00000000000a","type":"Deposited","#,
        r#""subject":"BankAccount/acc-1","time":"1997-01-01T11:59:59.000000Z","#,
        r#""datacontenttype":"application/json","sequence":"3","position":"9007199254740991","#,
        r#""revision":"2","epoch":"00000000-0000-0000-0000-00000000000e","#,
        r#""recordedtime":"2025-11-25T21:15:48.000001Z","batchindex":1,"batchcount":3,"#,
        r#""metadata":"{\"actor\":\"Ada \\\"the\\\" first\",\"traceparent\":"#,
        r#"\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"}","tags":"[\"till:3\"]","#,
        r#""traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","#,
        r#""data":{"cents": 500,"by":"caf\u00e9"}}"#,
        "\n",
    );
    let batch = BatchPlace { index: 1, count: 3 };
    assert_eq!(line(&envelope(), batch), golden);
    let read = read_line(golden.as_bytes()).unwrap();
    assert_eq!((read.sequence, read.batch), (Some(3), batch));
    let birth = read.event.birth.as_deref().unwrap();
    assert_eq!((birth.origin, birth.epoch), (log().origin, log().epoch));
    assert_eq!(birth.position, 9_007_199_254_740_991);
    assert_eq!(birth.recorded_time, envelope().recorded_time);
    assert!(taken_over(read.clone()).same_content(&read.event));
    assert_eq!(line(&taken_over(read), batch), golden);
}

#[test]
fn golden_line_of_a_binary_event_outside_the_years_of_calendars() {
    let binary = EventEnvelope {
        content_type: ContentType::Postcard,
        event_time: Timestamp::from_micros(i64::MIN),
        recorded_time: Timestamp::from_micros(253_402_300_800_000_000),
        metadata: Metadata::new(),
        tags: Tags::none(),
        event: Bytes::from_static(&[0, 255, b'\n']),
        ..envelope()
    };
    let golden = concat!(
        r#"{"specversion":"1.0","id":"00000000-0000-0000-0000-000000000001","#,
        r#""source":"urn:uuid:00000000-0000-0000-0000-00000000000a","type":"Deposited","#,
        r#""subject":"BankAccount/acc-1","eventmicros":"-9223372036854775808","#,
        r#""datacontenttype":"application/postcard","sequence":"3","position":"9007199254740991","#,
        r#""revision":"2","epoch":"00000000-0000-0000-0000-00000000000e","#,
        r#""recordedmicros":"253402300800000000","batchindex":0,"batchcount":1,"#,
        r#""data_base64":"AP8K"}"#,
        "\n",
    );
    assert_eq!(line(&binary, BatchPlace::ALONE), golden);
    let read = read_line(golden.as_bytes()).unwrap();
    assert_eq!(line(&taken_over(read), BatchPlace::ALONE), golden);
}

#[test]
fn json_that_a_line_would_change_stands_in_base64() {
    let payloads: [&[u8]; 10] = [
        b"",
        b" {}",
        b"{}\n",
        b"{\n}",
        b"{\r}",
        b"{",
        b"{} {}",
        b"\xff",
        b"\"\xed\xa0\x80\"",
        b"nul",
    ];
    for payload in payloads {
        let event = Bytes::copy_from_slice(payload);
        let written = line(
            &EventEnvelope {
                event,
                ..envelope()
            },
            BatchPlace::ALONE,
        );
        assert!(written.contains("data_base64"), "{written}");
        let read = read_line(written.as_bytes()).unwrap();
        assert_eq!(read.event.payload, payload);
    }
    for payload in [
        "null",
        "0",
        "\"text\"",
        "[1e999,-0.0,1.10]",
        "{\"a\":1,\"a\":2}",
        "\"\u{2028}\"",
    ] {
        let event = Bytes::from(payload);
        let written = line(
            &EventEnvelope {
                event,
                ..envelope()
            },
            BatchPlace::ALONE,
        );
        assert!(
            written.ends_with(&format!("\"data\":{payload}}}\n")),
            "{written}"
        );
        let read = read_line(written.as_bytes()).unwrap();
        assert_eq!(read.event.payload, payload);
    }
}

#[test]
fn a_line_of_another_system_is_a_new_event() {
    let line = r#"{"specversion":"1.0","id":"17","source":"/shop","type":"com.shop.sold","subject":"Till/3",
        "time":"2026-11-25T10:00:00.5+01:00","partitionkey":"k","count":7,
        "traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","data":{ "a": 1 }}"#;
    let read = read_line(line.as_bytes()).unwrap();
    assert_eq!((read.sequence, read.batch), (None, BatchPlace::ALONE));
    assert_eq!(read.stream.as_str(), "Till/3");
    let event = &read.event;
    assert_eq!(
        (&*event.event_type, event.revision, &event.birth),
        ("com.shop.sold", 1, &None)
    );
    assert_eq!(
        event.event_time,
        Some(Timestamp::from_micros(1_795_597_200_500_000))
    );
    assert_eq!(event.payload, "{ \"a\": 1 }");
    let metadata: Vec<_> = event.metadata.iter().collect();
    let expected = [
        ("cloudevents-count", "7"),
        ("cloudevents-id", "17"),
        ("cloudevents-partitionkey", "k"),
        ("cloudevents-source", "/shop"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
    ];
    assert_eq!(metadata, expected);
    // Its id follows from source and id, and from nothing else.
    assert_eq!(
        read_line(line.as_bytes()).unwrap().event.event_id,
        event.event_id
    );
    assert_eq!(event.event_id.as_uuid().get_version_num(), 8);
    for changed in [
        line.replace("\"17\"", "\"18\""),
        line.replace("/shop", "/shops"),
    ] {
        assert_ne!(
            read_line(changed.as_bytes()).unwrap().event.event_id,
            event.event_id
        );
    }
    let uuid = line.replace("\"17\"", "\"00000000-0000-0000-0000-00000000000a\"");
    let uuid = read_line(uuid.as_bytes()).unwrap().event;
    assert_eq!(*uuid.event_id.as_uuid(), Uuid::from_u128(10));
    let text = line.replace(
        "\"data\":{ \"a\": 1 }",
        r#""datacontenttype":"text/plain","data":"caf\u00e9""#,
    );
    let text = read_line(text.as_bytes()).unwrap().event;
    assert_eq!(
        (text.content_type.as_str(), &text.payload[..]),
        ("text/plain", "café".as_bytes())
    );
    // JSON is told by the subtype, whatever stands beside it; a text in it stays one in quotes.
    for media_type in [
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/cloud+json;v=1",
        "text/json",
    ] {
        for data in ["{ \"a\": 1 }", "\"tea\"", "null"] {
            let named = format!("\"datacontenttype\":\"{media_type}\",\"data\":{data}");
            let named = line.replace("\"data\":{ \"a\": 1 }", &named);
            let named = read_line(named.as_bytes()).unwrap().event;
            assert_eq!(named.content_type.as_str(), media_type);
            assert_eq!(named.payload, data);
        }
    }
    // What is null is not there.
    let unset = line.replace(
        "\"partitionkey\":\"k\"",
        "\"partitionkey\":null,\"dataschema\":null,\"datacontenttype\":null,\"data_base64\":null",
    );
    let unset = read_line(unset.as_bytes()).unwrap().event;
    assert_eq!(unset.payload, "{ \"a\": 1 }");
    assert_eq!(unset.metadata.len(), expected.len() - 1);
    let none = line.replace(",\"data\":{ \"a\": 1 }", "");
    assert_eq!(read_line(none.as_bytes()).unwrap().event.payload, "");
}

#[test]
fn what_is_no_event_is_refused_with_the_attribute_named() {
    let whole = line(&envelope(), BatchPlace::ALONE);
    let changes = [
        ("\"1.0\"", "\"0.3\"", "specversion"),
        ("\"id\":\"0000", "\"id\":\"G000", "id"),
        ("000a\"", "000a\",\"time2\":\"x\"", "time2"),
        ("\"Deposited\"", "7", "type"),
        ("BankAccount/acc-1", "BankAccount", "subject"),
        ("1997-01-01", "1997-13-01", "time"),
        ("\"application/json\"", "null", "datacontenttype"),
        ("\"application/json\"", "\"text/plain\"", "data"),
        ("\"sequence\":\"3\"", "\"sequence\":3", "sequence"),
        ("\"sequence\":\"3\"", "\"sequence\":\"03\"", "sequence"),
        ("\"sequence\":\"3\"", "\"sequence\":\"0\"", "sequence"),
        ("\"sequence\":\"3\"", "\"sequence\":\"-3\"", "sequence"),
        ("\"sequence\":\"3\",", "", "sequence"),
        ("9007199254740991", "99999999999999999999", "position"),
        (
            "\"revision\":\"2\"",
            "\"revision\":\"4294967296\"",
            "revision",
        ),
        ("000e\"", "000\"", "epoch"),
        ("\"recordedtime\":", "\"recorded\":", "recordedtime"),
        ("\"batchindex\":0", "\"batchindex\":1", "batchindex"),
        ("\"batchindex\":0", "\"batchindex\":-1", "batchindex"),
        ("\"batchcount\":1", "\"batchcount\":1.5", "batchcount"),
        ("\"batchcount\":1,", "", "batchcount"),
        ("\"metadata\":\"{", "\"metadata\":\"[", "metadata"),
        ("[\\\"till:3\\\"]", "[3]", "tags"),
        (
            "[\\\"till:3\\\"]",
            "[\\\"till:3\\\",\\\"till:3\\\"]",
            "tags",
        ),
        (
            "\"metadata\":\"{",
            "\"metadata\":\"{\\\"actor\\\":\\\"x\\\",",
            "metadata",
        ),
        (
            "\"traceparent\":\"00",
            "\"traceparent\":\"11",
            "traceparent",
        ),
        ("\"data\":", "\"dta\":", "data"),
        ("\"data\":", "\"data_base64\":\"AA==\",\"data\":", "data"),
    ];
    for (from, to, attribute) in changes {
        assert!(whole.contains(from), "{from}");
        match read_line(whole.replacen(from, to, 1).as_bytes()) {
            Err(Error::InvalidInput {
                what: "attribute",
                value,
                ..
            }) => {
                let named = value.split(": ").next();
                assert_eq!(named, Some(attribute), "{from} as {to}");
            }
            other => panic!("{other:?} for {from} as {to}"),
        }
    }
    let tag = whole.replacen("till:3", "till", 1);
    assert!(matches!(
        read_line(tag.as_bytes()),
        Err(Error::InvalidInput { what: "tag", .. })
    ));
    let reserved = whole.replacen("BankAccount", "$tidelog", 1);
    assert!(matches!(
        read_line(reserved.as_bytes()),
        Err(Error::InvalidInput { .. })
    ));
    let many: String = (0..300).map(|n| format!(",\"x{n}\":1")).collect();
    for broken in [
        "",
        "null",
        "[]",
        "17",
        "{",
        &whole[..whole.len() / 2],
        &format!("{whole}x"),
        &whole.replacen("\"id\"", "\"type\"", 1),
        &whole
            .replacen('{', "{\"a\":1,", 1)
            .replacen("}\n", ",\"a\":2}", 1),
        &whole.replacen("}\n", &format!("{many}}}"), 1),
    ] {
        match read_line(broken.as_bytes()) {
            Err(Error::InvalidInput {
                what: "event line", ..
            }) => {}
            other => panic!("{other:?} for {broken}"),
        }
    }
}

#[test]
fn data_nested_without_end_is_read_without_end_of_the_stack() {
    let deep = "[".repeat(1 << 20) + &"]".repeat(1 << 20);
    let written = line(
        &EventEnvelope {
            event: deep.clone().into(),
            ..envelope()
        },
        BatchPlace::ALONE,
    );
    assert_eq!(read_line(written.as_bytes()).unwrap().event.payload, deep);
}

proptest! {
    #[test]
    fn every_event_comes_back_and_makes_the_same_line_again(
        (mut written, identity, batch) in anything(0..4_000_000_000_000_000),
        content in 0_usize..4,
        json in "\\[(\"[a-z]\"|-?[1-9][0-9]{0,4}(\\.[0-9]{1,2})?| null|true)\\]",
    ) {
        let names = [ContentType::Json, ContentType::Json, ContentType::Postcard, ContentType::parse("text/x").unwrap()];
        written.content_type = names[content].clone();
        if content == 0 {
            written.event = json.into();
        }
        let mut first = Vec::new();
        write_line(&written, &identity, batch, &mut first);
        prop_assert_eq!(first.iter().position(|byte| *byte == b'\n'), Some(first.len() - 1));
        let read = read_line(&first).unwrap();
        prop_assert_eq!(read.batch, batch);
        let there = taken_over(read);
        prop_assert_eq!(there.event_id, written.event_id);
        prop_assert_eq!(&there.stream, &written.stream);
        prop_assert_eq!(there.sequence, written.sequence);
        prop_assert_eq!(there.event_time, written.event_time);
        prop_assert_eq!(&there.metadata, &written.metadata);
        prop_assert_eq!(&there.tags, &written.tags);
        prop_assert_eq!(&there.event, &written.event);
        let mut again = Vec::new();
        write_line(&there, &log(), batch, &mut again);
        prop_assert_eq!(String::from_utf8(again), String::from_utf8(first));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, at: prop::sample::Index, change: u8) {
        let _ = read_line(&bytes);
        let mut line = line(&envelope(), BatchPlace::ALONE).into_bytes();
        let at = at.index(line.len());
        line[at] = change;
        let _ = read_line(&line);
        line.truncate(at);
        let _ = read_line(&line);
    }
}
