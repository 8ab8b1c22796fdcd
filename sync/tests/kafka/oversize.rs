//! Messages that the broker refuses, and innocents that are refused with them.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tempfile::tempdir;
use tidelog::{BlockingTidelog, ParkedReason, Tidelog};

use crate::consumer::Watch;
use crate::services::Own;
use crate::stores::{self, Shop};
use crate::sweep::{self, Random};
use crate::{services, topics};

/// Streams of one event each, one of which has a large one and another one behind it.
const STREAMS: u64 = 1_499;
const GUILTY: u64 = 700;

/// Appends them all before anything is published, so that they are sent in one go.
fn fill(dir: &std::path::Path) {
    let mut random = Random(7);
    let log = Tidelog::open(dir).unwrap().blocking();
    for number in 0..STREAMS {
        let bytes = if number == GUILTY { 200_000 } else { 100 };
        let payload = stores::noise(&mut random, bytes);
        stores::append(&log, &stores::stream(number), payload);
    }
    stores::append(&log, &stores::stream(GUILTY), b"behind it".to_vec());
    log.close().unwrap();
}

fn assert_one_is_parked(log: &BlockingTidelog) {
    stores::until(log, "none is parked", |status| status.parked > 0);
    let parked = log.publishing().parked();
    let [parked] = &parked[..] else {
        panic!("{parked:?}")
    };
    assert_eq!(parked.stream, stores::stream(GUILTY));
    assert_eq!(parked.first_sequence, 1);
    assert!(
        matches!(parked.reason, ParkedReason::TooLarge),
        "{parked:?}"
    );
}

#[test]
fn one_that_is_refused_is_set_aside_alone_and_comes_in_order_when_it_may() {
    let Some(address) = services::kafka() else {
        return;
    };
    let shop = Shop::new("oversize", address, 2);
    topics::alter(&shop.address, &shop.topic(), "max.message.bytes", "10000");
    let dir = tempdir().unwrap();
    fill(dir.path());
    let watch = Watch::begin(&shop.address, &[shop.topic()]);
    let log = shop.open(dir.path());
    stores::level(&log);
    assert_one_is_parked(&log);
    let mut wanted = stores::wanted(&log);
    wanted.remove(&stores::stream(GUILTY).to_string());
    // Others go on meanwhile.
    let other = stores::stream(0);
    stores::append(&log, &other, b"more".to_vec());
    stores::level(&log);
    let seen = shop.seen();
    assert_eq!(seen.events(), 1_498 + 1);
    assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
    log.close().unwrap();

    // It is known after a restart, tried when it is told to, and parked again for as long as it is so.
    let log = shop.open(dir.path());
    assert_one_is_parked(&log);
    log.publishing()
        .retry_stream(&stores::stream(GUILTY))
        .unwrap();
    stores::until(&log, "not refused again", |status| status.refused > 0);
    assert_one_is_parked(&log);
    topics::alter(&shop.address, &shop.topic(), "max.message.bytes", "1000000");
    log.publishing()
        .retry_stream(&stores::stream(GUILTY))
        .unwrap();
    stores::until(&log, "still parked", |status| status.parked == 0);
    stores::level(&log);
    let seen = shop.has_all_of(&log);
    assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
    watch.until("all of it", |seen| seen.events() == 1_501);
    let seen = watch.end();
    assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
    log.close().unwrap();
    shop.forget();
}

#[test]
fn one_that_is_refused_in_the_first_batch_of_a_producer_leaves_no_gap() {
    let Some(broker) = Own::kafka() else { return };
    for round in 0..2 {
        let shop = Shop::new("first-batch", broker.address(), 1);
        topics::alter(&shop.address, &shop.topic(), "max.message.bytes", "10000");
        let dir = tempdir().unwrap();
        let log = shop.open(dir.path());
        stores::until(&log, "not connected", |status| status.generations > 0);
        let mut random = Random(round);
        // What is sent now is under way, unanswered, when the first of it is refused.
        broker.pause();
        for number in 0..400_u64 {
            let bytes = if number == 0 { 200_000 } else { 100 };
            let payload = stores::noise(&mut random, bytes);
            stores::append(&log, &stores::stream(number % 40), payload);
        }
        broker.resume();
        stores::level(&log);
        let parked = log.publishing().parked();
        assert_eq!(parked.len(), 1, "{parked:?}");
        assert_eq!(parked[0].stream, stores::stream(0));
        let seen = shop.seen();
        assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
        assert_eq!(seen.events(), 390);
        topics::alter(&shop.address, &shop.topic(), "max.message.bytes", "1000000");
        log.publishing().retry_all().unwrap();
        stores::until(&log, "still parked", |status| status.parked == 0);
        stores::level(&log);
        shop.has_all_of(&log);
        log.close().unwrap();
    }
}

#[test]
fn a_limit_lowered_under_load_parks_what_does_not_fit_and_nothing_else() {
    let Some(address) = services::kafka() else {
        return;
    };
    let shop = Shop::new("lowered", address, 3);
    let dir = tempdir().unwrap();
    let log = shop.open(dir.path());
    let (mut random, mut large) = (Random(11), BTreeMap::new());
    let mut load = |events: u64, large: &mut BTreeMap<u64, u64>| {
        for _ in 0..events {
            let number = random.next() % 50;
            let is_large = random.next().is_multiple_of(50);
            let bytes = if is_large { 20_000 } else { 200 };
            let payload = stores::noise(&mut random, bytes);
            stores::append(&log, &stores::stream(number), payload);
            *large.entry(number).or_default() += u64::from(is_large);
        }
    };
    load(2_000, &mut BTreeMap::new());
    stores::level(&log);
    assert!(log.publishing().parked().is_empty());
    topics::alter(&shop.address, &shop.topic(), "max.message.bytes", "10000");
    load(2_000, &mut large);
    stores::level(&log);
    let parked = log.publishing().parked();
    assert!(!parked.is_empty());
    for parked in &parked {
        let number = parked.stream.aggregate_id().trim_start_matches("till-");
        let count = large[&number.parse().unwrap()];
        assert!(count > 0, "{parked:?} had nothing large");
    }
    let guilty = large.values().filter(|count| **count > 0).count();
    assert_eq!(parked.len(), guilty);
    let seen = shop.seen();
    assert!(seen.wrong.is_empty(), "{:?}", seen.wrong);
    topics::alter(&shop.address, &shop.topic(), "max.message.bytes", "1000000");
    log.publishing().retry_all().unwrap();
    stores::until(&log, "still parked", |status| status.parked == 0);
    stores::level(&log);
    shop.has_all_of(&log);
    log.close().unwrap();
    shop.forget();
}

/// Why one message of a stream is in flight at a time, whatever librdkafka promises: a producer that is to
/// stop at the first that is refused has the next on its way already, and the broker takes any sequence
/// first of a producer that it does not know. Whether it happens in a round is a matter of timing.
#[test]
fn a_gapless_producer_leaves_a_gap_at_a_broker() {
    if !sweep::is_full() {
        return;
    }
    let Some(broker) = Own::kafka() else { return };
    let has_gap = (0..20).any(|_| {
        let topic = topics::unique("gapless");
        let limit = [("max.message.bytes", "10000")];
        topics::create(&broker.address(), &topic, 1, &limit);
        let mut config = topics::client(&broker.address());
        config
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("linger.ms", "0")
            .set("batch.num.messages", "1");
        let producer: BaseProducer = config.create().unwrap();
        // It knows the topic and has a connection.
        let found = producer
            .client()
            .fetch_metadata(Some(&topic), stores::PATIENCE);
        found.unwrap();
        broker.pause();
        for number in 0..10 {
            let bytes = if number == 0 { 200_000 } else { 10 };
            let payload = stores::noise(&mut Random(number), bytes);
            let payload = [number.to_string().as_bytes(), b" ", &payload].concat();
            let record = BaseRecord::<str, [u8]>::to(&topic)
                .key("a")
                .payload(&payload);
            producer.send(record).map_err(|(error, _)| error).unwrap();
            producer.poll(Duration::from_millis(20));
        }
        broker.resume();
        let _ = producer.flush(Duration::from_secs(10));
        let there = topics::read(&broker.address(), &topic);
        let mut there = there.values().flatten();
        let first = there.next().and_then(|message| message.payload());
        first.is_some_and(|payload| !payload.starts_with(b"0 "))
    });
    assert!(has_gap, "it kept what it promises");
}
