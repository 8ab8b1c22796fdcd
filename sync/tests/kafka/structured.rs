//! A log published whole, as JSON, over several partitions.

use std::collections::{BTreeMap, BTreeSet};

use tempfile::tempdir;
use tidelog::{
    AppendBatch, BlockingTidelog, ContentType, DistributedConfig, ExpectedVersion, Metadata,
    NewEvent, ParkedReason, StreamId,
};

use crate::consumer::{self, Found};
use crate::stores::{self, Shop};
use crate::sweep::Random;
use crate::{services, topics};

const PARTITIONS: u32 = 7;
const STREAMS: u64 = 40;

fn open(shop: &Shop, dir: &std::path::Path) -> BlockingTidelog {
    let config = shop.config().structured();
    stores::open(dir, DistributedConfig::new().kafka(config))
}

/// An event of each kind of content in every stream, some of them in one commit.
fn fill(log: &BlockingTidelog) {
    let payloads: [(ContentType, &[u8]); 5] = [
        (ContentType::Json, br#"{"cents": 500, "to": "J\u00f6rg"}"#),
        (ContentType::Json, b"7"),
        (ContentType::Postcard, b"\x05\xff\x00\n"),
        (ContentType::Bytes, b""),
        (
            ContentType::parse("text/plain").unwrap(),
            "schön".as_bytes(),
        ),
    ];
    for number in 0..STREAMS {
        let event = |(content, payload): &(ContentType, &[u8])| {
            let event = NewEvent::new("Größe", 3, content.clone(), payload.to_vec());
            let mut metadata = Metadata::new();
            metadata.insert("über", "\"quoted\" ✓");
            event.with_metadata(metadata)
        };
        for part in payloads.chunks(2) {
            let events = part.iter().map(event).collect();
            let any = ExpectedVersion::Any;
            let batch = AppendBatch::new(stores::stream(number), any, events);
            log.append(batch).unwrap();
        }
    }
}

/// Every message carries its event whole.
fn assert_structured(found: &Found) {
    let content = found.header("content-type");
    assert_eq!(content, Some("application/cloudevents+json; charset=UTF-8"));
    let value = std::str::from_utf8(found.value.as_ref().unwrap()).unwrap();
    assert!(value.starts_with('{') && value.contains("\"specversion\":\"1.0\""));
    assert!(found.header("ce_id").is_none(), "{found:?}");
}

#[test]
fn structured_events_stand_in_several_partitions_each_stream_in_order_in_one() {
    let Some(address) = services::kafka() else {
        return;
    };
    let shop = Shop::new("structured", address, PARTITIONS);
    let dir = tempdir().unwrap();
    let log = open(&shop, dir.path());
    fill(&log);
    stores::level(&log);
    log.close().unwrap();
    // What comes later goes behind it, and nothing again.
    let log = open(&shop, dir.path());
    fill(&log);
    stores::level(&log);
    let seen = shop.has_all_of(&log);
    assert_eq!((seen.events(), seen.doubles), (STREAMS as usize * 10, 0));
    let found = consumer::read(&shop.address, &[shop.topic()]);
    let places: BTreeSet<i32> = found.iter().map(|found| found.partition).collect();
    assert!(places.len() > 3, "{places:?}");
    found.iter().for_each(assert_structured);

    // Again they are the same, each where it was.
    let before = log.publishing().status().delivered;
    log.publishing().republish(..).unwrap();
    stores::until(&log, "not again", |status| {
        status.delivered >= before + seen.events() as u64
    });
    stores::level(&log);
    let seen = shop.has_all_of(&log);
    assert!(seen.doubles >= STREAMS as usize * 10, "{}", seen.doubles);
    log.close().unwrap();
    shop.forget();
}

#[test]
fn a_structured_event_that_is_refused_is_set_aside_alone_whatever_its_partition() {
    let Some(address) = services::kafka() else {
        return;
    };
    let shop = Shop::new("guilty", address, PARTITIONS);
    topics::alter(&shop.address, &shop.topic(), "max.message.bytes", "10000");
    let dir = tempdir().unwrap();
    let log = open(&shop, dir.path());
    let mut random = Random(3);
    let guilty: BTreeMap<StreamId, u64> = [3, 17, 31]
        .into_iter()
        .map(|number| (stores::stream(number), 2))
        .collect();
    for sequence in 1..=3 {
        for number in 0..STREAMS {
            let stream = stores::stream(number);
            let is_large = guilty.get(&stream) == Some(&sequence);
            let bytes = if is_large { 30_000 } else { 100 };
            stores::append(&log, &stream, stores::noise(&mut random, bytes));
        }
    }
    stores::level(&log);
    let parked = log.publishing().parked();
    let found: BTreeMap<StreamId, u64> = parked
        .iter()
        .map(|parked| (parked.stream.clone(), parked.first_sequence))
        .collect();
    assert_eq!(found, guilty);
    let is_large = |reason: &ParkedReason| matches!(reason, ParkedReason::TooLarge);
    assert!(parked.iter().all(|parked| is_large(&parked.reason)));
    let seen = shop.seen();
    seen.assert_in_order();
    assert_eq!(seen.events(), STREAMS as usize * 3 - 3 * 2);

    topics::alter(&shop.address, &shop.topic(), "max.message.bytes", "1000000");
    log.publishing().retry_all().unwrap();
    stores::until(&log, "still parked", |status| status.parked == 0);
    stores::level(&log);
    shop.has_all_of(&log);
    log.close().unwrap();
    shop.forget();
}
