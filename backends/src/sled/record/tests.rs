//! Golden bytes of records, and what is refused.

use super::*;
use proptest::prelude::*;

fn sample<'a>(
    stream: &'a StreamId,
    content_type: &'a ContentType,
    metadata: &'a Metadata,
    tags: &'a Tags,
    payload: &'a [u8],
) -> Record<'a> {
    Record {
        kind: RecordKind::Event,
        event_id: EventId::from_bytes([7; 16]),
        recorded_time: Timestamp::from_micros(1_000_000),
        event_time: Timestamp::from_micros(999_999),
        position: 300,
        sequence: 2,
        revision: 1,
        batch: Batch {
            first: 299,
            count: 2,
        },
        stream,
        event_type: "Deposited",
        content_type,
        metadata,
        tags,
        birth: None,
        payload,
    }
}

#[test]
fn golden_bytes_of_a_record() {
    let stream = StreamId::new("Account", "a1").unwrap();
    let metadata = Metadata::new().with("k", "v");
    let tags = Tags::new(["t:1"]).unwrap();
    let mut out = Vec::new();
    sample(&stream, &ContentType::Json, &metadata, &tags, b"{}").encode(&mut out);
    let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        hex,
        concat!(
            "44000000",
            "634ced81",
            "01030002",
            "07070707070707070707070707070707",
            "40420f0000000000",
            "01",
            "ac02",
            "02",
            "01",
            "01",
            "02",
            "074163636f756e74",
            "026131",
            "094465706f7369746564",
            "01016b0176",
            "0103743a31",
            "7b7d"
        )
    );
}

#[test]
fn golden_bytes_of_an_adopted_record() {
    let stream = StreamId::new("Account", "a1").unwrap();
    let birth = Birth {
        origin: Uuid::from_bytes([0xaa; 16]),
        epoch: Uuid::from_bytes([0xbb; 16]),
        position: 200,
        recorded_time: Timestamp::from_micros(-2),
    };
    let (metadata, tags) = (Metadata::new(), Tags::none());
    let mut record = sample(&stream, &ContentType::Json, &metadata, &tags, b"{}");
    record.kind = RecordKind::Adopted;
    record.birth = Some(&birth);
    let mut out = Vec::new();
    record.encode(&mut out);
    let hex: String = out.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        hex,
        concat!(
            "64000000",
            "76778c28",
            "02080002",
            "07070707070707070707070707070707",
            "40420f0000000000",
            "01",
            "ac02",
            "02",
            "01",
            "01",
            "02",
            "074163636f756e74",
            "026131",
            "094465706f7369746564",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
            "feffffffffffffff",
            "c801",
            "7b7d"
        )
    );
    let page = Bytes::from(out);
    let read = Names::new().envelope(parse(&page).unwrap(), &page).unwrap();
    assert_eq!(
        (read.kind, read.birth.as_deref()),
        (RecordKind::Adopted, Some(&birth))
    );
    assert_eq!(&read.event[..], b"{}");
    // Each goes with the other, and with nothing else.
    for (kind, birth) in [
        (RecordKind::Adopted, None),
        (RecordKind::Event, Some(&birth)),
    ] {
        let mut record = sample(&stream, &ContentType::Json, &metadata, &tags, b"{}");
        (record.kind, record.birth) = (kind, birth);
        let mut out = Vec::new();
        record.encode(&mut out);
        assert!(parse(&out).is_err(), "{kind:?} with {birth:?}");
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        aggregate_id in "[^\\p{Cc}]{1,40}",
        name in proptest::option::of("[a-z]{1,9}/[a-z]{1,9}"),
        metadata in proptest::collection::btree_map(".{0,9}", ".{0,9}", 0..4),
        tags in proptest::collection::vec("[a-z]{1,5}:[a-z]{0,5}", 0..4),
        payload: Vec<u8>,
        event_micros: i64,
        birth: Option<(u128, u128, u64, i64)>,
    ) {
        let birth = birth.map(|(origin, epoch, position, micros)| Birth {
            origin: Uuid::from_u128(origin),
            epoch: Uuid::from_u128(epoch),
            position,
            recorded_time: Timestamp::from_micros(micros),
        });
        let stream = StreamId::new("T", &aggregate_id).unwrap();
        let content_type =
            name.map_or(ContentType::Postcard, |n| ContentType::parse(&n).unwrap());
        let (metadata, tags) = (Metadata::from(metadata), Tags::new(tags).unwrap());
        let mut record = sample(&stream, &content_type, &metadata, &tags, &payload);
        record.event_time = Timestamp::from_micros(event_micros);
        if birth.is_some() {
            (record.kind, record.birth) = (RecordKind::Adopted, birth.as_ref());
        }
        let mut out = Vec::new();
        let len = record.encode(&mut out);
        prop_assert_eq!(len, out.len());
        prop_assert_eq!(total_len(&out), Some(len));
        let page = Bytes::from(out);
        let envelope = Names::new().envelope(parse(&page).unwrap(), &page).unwrap();
        prop_assert_eq!(&envelope.stream, &stream);
        prop_assert_eq!(&envelope.content_type, &content_type);
        prop_assert_eq!(&envelope.metadata, &metadata);
        prop_assert_eq!(&envelope.tags, &tags);
        prop_assert_eq!(envelope.birth.as_deref(), birth.as_ref());
        prop_assert_eq!(&envelope.event[..], &payload[..]);
        prop_assert_eq!(envelope.event_time.as_micros(), event_micros);
        prop_assert_eq!(envelope.batch, Batch { first: 299, count: 2 });
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(mut bytes: Vec<u8>, fix_crc: bool) {
        if fix_crc && bytes.len() > PREFIX {
            let (prefix, body) = bytes.split_at_mut(PREFIX);
            prefix[..4].copy_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
            prefix[4..].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        }
        let page = Bytes::from(bytes);
        if let Ok(parsed) = parse(&page) {
            let _ = Names::new().envelope(parsed, &page);
        }
    }
}
