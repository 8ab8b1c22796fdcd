//! A record as an event, or why it is none.

use tidelog_core::cloudevents::from_message;
use tidelog_core::{
    Batch, Birth, EventEnvelope, Metadata, ParkedStream, RecordKind, StreamId, Timestamp,
};

use super::feed::{Record, RecordKey};
use super::job::name_of;
use super::record::UNREADABLE;

/// The type of streams of other systems' events whose subject names none.
const FOREIGN: &str = "cloudevents";

/// The event in a record; or a reason of at most
/// [`MAX_REASON_BYTES`](ParkedStream::MAX_REASON_BYTES) why there is none.
///
/// An event of a store comes as it was recorded there, with its birth; it has no position here. One of
/// another system has none of that: it is of the stream that its subject names, `type/id`, or else of
/// `cloudevents` and its key, its sequence is its offset and 1, and where it stood is in its metadata.
pub(super) fn decode(record: &Record) -> Result<EventEnvelope, Box<str>> {
    if let Some((_, reason)) = record
        .headers
        .iter()
        .find(|(name, _)| &**name == UNREADABLE)
    {
        let reason = reason.as_deref().unwrap_or_default();
        return Err(String::from_utf8_lossy(reason).into());
    }
    let headers = record.headers.iter();
    let headers = headers.map(|(name, value)| (&**name, value.as_deref()));
    let read = from_message(headers, record.value.as_ref()).map_err(ParkedStream::reason_of)?;
    let event = read.event;
    let at_least_one = u64::try_from(record.offset).unwrap_or(0).saturating_add(1);
    let sequence = read.sequence.unwrap_or(at_least_one);
    let stream = match read.stream {
        Some(stream) => stream,
        None => stream_of(record).map_err(ParkedStream::reason_of)?,
    };
    let first = first_of_batch(event.birth.as_deref(), sequence, read.batch.index);
    let recorded = event.birth.as_deref().map(|birth| birth.recorded_time);
    let time = event.event_time.or(recorded);
    let metadata = if event.birth.is_some() {
        event.metadata
    } else {
        with_place(event.metadata, record)
    };
    Ok(EventEnvelope {
        event_id: event.event_id,
        stream,
        sequence,
        position: None,
        birth: event.birth,
        kind: RecordKind::Event,
        event_type: event.event_type,
        revision: event.revision,
        content_type: event.content_type,
        event_time: time.unwrap_or(Timestamp::from_micros(0)),
        recorded_time: recorded.or(time).unwrap_or(Timestamp::from_micros(0)),
        metadata,
        tags: event.tags,
        batch: Batch {
            first,
            count: read.batch.count,
        },
        event: event.payload,
    })
}

/// The place of the first event of its append.
fn first_of_batch(birth: Option<&Birth>, sequence: u64, index: u32) -> u64 {
    let place = birth.map_or(sequence, |birth| birth.position);
    place.saturating_sub(u64::from(index)).max(1)
}

/// The stream of an event whose subject names none: its key's.
fn stream_of(record: &Record) -> Result<StreamId, tidelog_core::Error> {
    let key = RecordKey {
        place: record.place.clone(),
        key: record.key.clone().filter(|key| !key.is_empty()),
    };
    let name = name_of(&key);
    StreamId::new(FOREIGN, &name).or_else(|_| {
        // Longer than an id may be: what tells it from others is its hash.
        let hash = blake3::hash(record.key.as_deref().unwrap_or_default());
        StreamId::new(FOREIGN, &format!("0x{}", hash.to_hex()))
    })
}

fn with_place(metadata: Metadata, record: &Record) -> Metadata {
    metadata
        .with("kafka-topic", &*record.place.topic)
        .with("kafka-partition", record.place.partition.to_string())
        .with("kafka-offset", record.offset.to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use tidelog_core::cloudevents::{BatchPlace, Headers, MessageMode, to_message};
    use tidelog_core::{ContentType, EventId, LogIdentity, Tags};
    use uuid::Uuid;

    use super::*;
    use crate::kafka::listen::feed::Place;

    fn record(headers: &[(&str, Option<&[u8]>)], value: Option<&[u8]>) -> Record {
        Record {
            place: Place {
                topic: "shop.Till".into(),
                partition: 3,
            },
            offset: 41,
            key: Some(Bytes::from_static(b"k")),
            value: value.map(Bytes::copy_from_slice),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).into(), value.map(Bytes::copy_from_slice)))
                .collect(),
        }
    }

    const FOREIGN_HEADERS: [(&str, Option<&[u8]>); 4] = [
        ("ce_specversion", Some(b"1.0")),
        ("ce_id", Some(b"A-17")),
        ("ce_source", Some(b"/tills/3")),
        ("CE_TYPE", Some(b"Sold")),
    ];

    #[test]
    fn an_event_of_another_system_is_of_its_key_and_says_where_it_stood() {
        let event = decode(&record(&FOREIGN_HEADERS, None)).unwrap();
        assert_eq!(
            (event.stream.as_str(), event.sequence),
            ("cloudevents/k", 42)
        );
        assert_eq!((event.birth, event.position), (None, None));
        assert!(event.event.is_empty());
        assert_eq!(event.metadata.get("cloudevents-id"), Some("A-17"));
        assert_eq!(event.metadata.get("kafka-partition"), Some("3"));
        assert_eq!(event.metadata.get("kafka-offset"), Some("41"));

        let mut keyless = record(&FOREIGN_HEADERS, Some(b"x"));
        for (key, stream) in [
            (None, "cloudevents/shop.Till/3"),
            (Some(&b"\xff\x00"[..]), "cloudevents/0xff00"),
            (Some(b""), "cloudevents/shop.Till/3"),
        ] {
            keyless.key = key.map(Bytes::from_static);
            assert_eq!(decode(&keyless).unwrap().stream.as_str(), stream);
        }
        keyless.key = Some(vec![b'k'; 10_000].into());
        assert!(decode(&keyless).unwrap().stream.as_str().len() < 100);
    }

    #[test]
    fn what_is_no_event_says_why() {
        let reason = |headers: &[(&str, Option<&[u8]>)]| {
            decode(&record(headers, Some(b"x")))
                .unwrap_err()
                .to_string()
        };
        assert!(reason(&[]).contains("ce_specversion is missing"));
        let mut bad = FOREIGN_HEADERS;
        bad[1].1 = Some(b"\xff");
        assert!(reason(&bad).contains("ce_id"), "{}", reason(&bad));
        bad[1].1 = Some(b"");
        assert!(reason(&bad).contains("id"));
        let unreadable: [(&str, Option<&[u8]>); 1] = [(UNREADABLE, Some(b"a name is not UTF-8"))];
        assert_eq!(reason(&unreadable), "a name is not UTF-8");
        let long = vec![b'x'; 1 << 20];
        let huge: [(&str, Option<&[u8]>); 1] = [("ce_id", Some(&long))];
        assert!(reason(&huge).len() <= ParkedStream::MAX_REASON_BYTES);
    }

    fn arbitrary_envelope() -> impl Strategy<Value = EventEnvelope> {
        let parts = (
            any::<[u8; 16]>(),
            "[A-Za-zé]{1,12}",
            "[a-z0-9/]{1,12}",
            1_u64..1 << 40,
            1_u64..1 << 40,
            any::<i64>(),
            prop::collection::vec(any::<u8>(), 0..60),
            prop::collection::btree_map("[a-z-]{1,8}", ".{0,10}", 0..4),
        );
        parts.prop_map(
            |(id, of, stream, sequence, position, time, payload, metadata)| EventEnvelope {
                event_id: EventId::from_bytes(id),
                stream: StreamId::new(&of, &stream).unwrap(),
                sequence,
                position: Some(position),
                birth: None,
                kind: RecordKind::Event,
                event_type: of.into(),
                revision: 1,
                content_type: ContentType::Postcard,
                event_time: Timestamp::from_micros(time >> 8),
                recorded_time: Timestamp::from_micros(time >> 9),
                metadata: Metadata::from(metadata),
                tags: Tags::none(),
                batch: Batch {
                    first: position,
                    count: 1,
                },
                event: payload.into(),
            },
        )
    }

    proptest! {
        #[test]
        fn an_event_of_a_store_comes_as_it_was_recorded(
            envelope in arbitrary_envelope(),
            is_structured: bool,
        ) {
            let log = LogIdentity {
                origin: Uuid::from_u128(1),
                epoch: Uuid::from_u128(2),
            };
            let mode = if is_structured { MessageMode::Structured } else { MessageMode::Binary };
            let (mut headers, mut line) = (Headers::default(), Vec::new());
            let value = to_message(&envelope, &log, BatchPlace::ALONE, mode, &mut headers, &mut line);
            let mut record = record(&[], Some(value));
            record.headers = headers
                .iter()
                .map(|(name, value)| (name.into(), Some(Bytes::copy_from_slice(value))))
                .collect();
            let read = decode(&record).unwrap();
            let birth = read.birth.clone().unwrap();
            prop_assert_eq!((birth.origin, birth.epoch, birth.position), (log.origin, log.epoch, envelope.position.unwrap()));
            prop_assert_eq!(read.origin_position(), envelope.position);
            let expected = EventEnvelope { position: None, birth: read.birth.clone(), ..envelope };
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn nothing_makes_it_panic_and_reasons_are_short(
            headers in prop::collection::vec(
                (
                    prop_oneof![
                        "ce_(specversion|id|source|type|subject|time|sequence|position|epoch|metadata|tags|batchindex)",
                        "content-type", ".{0,8}",
                    ],
                    prop::option::of(prop_oneof![
                        prop::collection::vec(any::<u8>(), 0..20),
                        Just(b"1.0".to_vec()),
                        Just(b"application/cloudevents+json".to_vec()),
                        Just(b"urn:uuid:00000000-0000-0000-0000-000000000001".to_vec()),
                        Just(b"00000000-0000-0000-0000-000000000001".to_vec()),
                    ]),
                ),
                0..20,
            ),
            value in prop::option::of(prop::collection::vec(any::<u8>(), 0..50)),
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
            offset: i64,
        ) {
            let headers = headers.iter().map(|(n, v)| (n.as_str(), v.as_deref())).collect::<Vec<_>>();
            let mut record = record(&headers, value.as_deref());
            record.key = key.map(Bytes::from);
            record.offset = offset;
            if let Err(reason) = decode(&record) {
                prop_assert!(reason.len() <= ParkedStream::MAX_REASON_BYTES);
            }
        }
    }
}
