//! Against a real broker: that of Maven, or what `TIDELOG_TEST_KAFKA` names.

use std::future::poll_fn;
use std::time::Duration;

use futures_util::future::{Either, select};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tidelog_core::Sleeper as _;
use tidelog_core::cloudevents::Headers;

use super::*;
use crate::ThreadSleeper;
use crate::kafka::broker::{Outcome, Refusal, Trouble};
use crate::kafka::services::{self, Own};
use crate::kafka::topics;

/// Whoever has waited so long waits for ever.
const PATIENCE: Duration = Duration::from_secs(120);

fn patient<T>(work: impl Future<Output = T>) -> T {
    let work = std::pin::pin!(work);
    let sleeper = ThreadSleeper::new();
    match pollster::block_on(select(work, sleeper.sleep(PATIENCE))) {
        Either::Left((done, _)) => done,
        Either::Right(_) => panic!("nothing came for {PATIENCE:?}"),
    }
}

fn broker(address: &str) -> KafkaBroker {
    KafkaBroker::new(config(address))
}

fn config(address: &str) -> KafkaConfig {
    KafkaConfig::new([address])
        .topic_prefix(topics::unique("client"))
        .name("till 3")
}

fn send(broker: &mut KafkaBroker, topic: &str, tag: Tag, value: &[u8]) -> Result<(), NotSent> {
    let mut headers = Headers::default();
    headers.put("ce_id", b"17");
    headers.put("empty", b"");
    let message = Message {
        topic,
        key: b"acc-1",
        headers: &headers,
        value,
    };
    broker.send(&message, tag)
}

fn reports(broker: &mut KafkaBroker, count: usize) -> Result<Vec<Report>, Fatal> {
    let mut all = Vec::new();
    while all.len() < count {
        patient(poll_fn(|cx| broker.poll_reports(cx, &mut all)))?;
    }
    Ok(all)
}

fn tag(generation: u32, lane: u32) -> Tag {
    Tag { generation, lane }
}

#[test]
fn what_is_sent_stands_there_and_is_reported_with_its_tag() {
    let Some(address) = services::kafka() else {
        return;
    };
    let topic = topics::unique("sent");
    let mut broker = broker(&address);
    broker.renew(7).unwrap();
    let names = vec![topic.as_str().into()];
    let before = patient(broker.cluster(names.clone())).unwrap();
    assert_eq!(before.topics, [None]);
    assert!(!before.id.is_empty());
    assert_eq!(topics::partitions(&address, &topic), None);

    topics::create(&address, &topic, 3, &[]);
    let after = patient(broker.cluster(names)).unwrap();
    assert_eq!((after.id, after.topics), (before.id, vec![Some(3)]));
    for (lane, value) in [&b"one"[..], b"", b"three"].into_iter().enumerate() {
        let lane = u32::try_from(lane).unwrap();
        assert_eq!(send(&mut broker, &topic, tag(7, lane), value), Ok(()));
    }
    let mut came = reports(&mut broker, 3).unwrap();
    came.sort_by_key(|report| report.tag.lane);
    let tags: Vec<_> = came.iter().map(|report| report.tag).collect();
    assert_eq!(tags, [tag(7, 0), tag(7, 1), tag(7, 2)]);
    let place = match came[0].outcome {
        Outcome::Delivered { partition, offset } => {
            assert_eq!(offset, 0);
            Place {
                topic: topic.as_str().into(),
                partition,
            }
        }
        ref other => panic!("{other:?}"),
    };
    let found = &topics::read(&address, &topic)[&place.partition];
    let values: Vec<_> = found.iter().map(|message| message.payload()).collect();
    assert_eq!(values, [Some(&b"one"[..]), Some(b""), Some(b"three")]);
    assert_eq!(topics::header(&found[0], "ce_id").as_deref(), Some("17"));
    assert_eq!(topics::header(&found[0], "empty").as_deref(), Some(""));

    let nowhere = Place {
        topic: topics::unique("nowhere").into(),
        partition: 0,
    };
    let offsets = patient(broker.offsets(vec![place, nowhere])).unwrap();
    assert_eq!(
        offsets,
        [Offsets::There { low: 0, high: 3 }, Offsets::Missing]
    );
    topics::delete(&address, &[&topic]);
}

#[test]
fn a_message_that_is_too_large_is_refused_here_or_there() {
    let Some(address) = services::kafka() else {
        return;
    };
    let topic = topics::unique("large");
    topics::create(&address, &topic, 1, &[("max.message.bytes", "10000")]);
    let mut broker = KafkaBroker::new(config(&address).set("message.max.bytes", "50000"));
    broker.renew(1).unwrap();
    let here = send(&mut broker, &topic, tag(1, 1), &vec![1; 60_000]);
    assert_eq!(here, Err(NotSent::TooLarge));
    // What a generator of numbers makes does not become smaller.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(3_000)
    .flatten()
    .collect();
    assert_eq!(send(&mut broker, &topic, tag(1, 2), &noise), Ok(()));
    let there = reports(&mut broker, 1).unwrap();
    assert_eq!(there[0].outcome, Outcome::Refused(Refusal::TooLarge));
    assert_eq!(there[0].tag, tag(1, 2));
    topics::delete(&address, &[&topic]);
}

#[test]
fn of_a_generation_that_ended_nothing_is_reported() {
    // Nobody listens there.
    let mut broker = broker("127.0.0.1:1");
    broker.renew(1).unwrap();
    assert_eq!(send(&mut broker, "t", tag(1, 5), b"v"), Ok(()));
    broker.renew(2).unwrap();
    let mut came = Vec::new();
    let now = poll_fn(|cx| Poll::Ready(broker.poll_reports(cx, &mut came)));
    assert_eq!(patient(now), Poll::Pending);
    assert!(came.is_empty());
    // Both threads end, soon after they are told.
    broker.end();
    assert_eq!(send(&mut broker, "t", tag(2, 5), b"v"), Err(NotSent::Fatal));
    while broker.threads.load(std::sync::atomic::Ordering::Acquire) > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_cluster_that_does_not_answer_is_trouble_with_its_reason() {
    let broker = broker("127.0.0.1:1");
    let Err(BrokerError::Passing(error)) = patient(broker.cluster(vec!["t".into()])) else {
        panic!("it answered");
    };
    let said = error.to_string();
    assert!(said.contains("kafka at 127.0.0.1:1"), "{said}");
    assert!(said.contains("refused"), "{said}");
}

fn record(origin: Uuid, session: u128, position: u64) -> OriginRecord {
    OriginRecord {
        origin,
        first_epoch: Uuid::from_u128(1),
        epoch: Uuid::from_u128(2),
        parent: None,
        session: Uuid::from_u128(session),
        position,
        commit: position,
        hash: [7; 32],
        name: "till 3".into(),
        retired: Vec::new(),
    }
}

#[test]
fn who_was_fenced_writes_nothing_and_the_newest_record_is_the_others() {
    let Some(address) = services::kafka() else {
        return;
    };
    let config = config(&address);
    let topic = config.names.origins();
    let origin = Uuid::from_u128(u128::from(std::process::id()));
    let (one, other) = (
        KafkaBroker::new(config.clone()),
        KafkaBroker::new(config.clone()),
    );
    let missing = |error| matches!(error, BrokerError::NoTopic(named) if *named == *topic);
    assert!(missing(patient(one.record(origin)).unwrap_err()));
    assert!(matches!(
        patient(one.mark(record(origin, 1, 1))),
        Err(BrokerError::Fenced)
    ));

    topics::create(&address, &topic, 1, &[("cleanup.policy", "compact")]);
    assert_eq!(patient(one.record(origin)).unwrap(), None);
    patient(one.fence(origin)).unwrap();
    let stranger = Uuid::from_u128(99);
    patient(other.fence(stranger)).unwrap();
    patient(one.mark(record(origin, 1, 1))).unwrap();
    patient(other.mark(record(stranger, 5, 50))).unwrap();
    patient(one.mark(record(origin, 1, 2))).unwrap();
    assert_eq!(
        patient(other.record(origin)).unwrap(),
        Some(record(origin, 1, 2))
    );

    patient(other.fence(origin)).unwrap();
    assert!(matches!(
        patient(one.mark(record(origin, 1, 3))),
        Err(BrokerError::Fenced)
    ));
    assert_eq!(
        patient(one.record(origin)).unwrap(),
        Some(record(origin, 1, 2))
    );
    patient(other.mark(record(origin, 2, 4))).unwrap();
    assert_eq!(
        patient(one.record(origin)).unwrap(),
        Some(record(origin, 2, 4))
    );
    // And the fence can be taken back.
    patient(one.fence(origin)).unwrap();
    patient(one.mark(record(origin, 3, 5))).unwrap();
    assert!(matches!(
        patient(other.mark(record(origin, 2, 6))),
        Err(BrokerError::Fenced)
    ));
    assert_eq!(
        patient(other.record(stranger)).unwrap(),
        Some(record(stranger, 5, 50))
    );
    topics::delete(&address, &[&topic]);
}

#[test]
fn a_record_is_found_behind_however_many_of_others() {
    let Some(address) = services::kafka() else {
        return;
    };
    let config = config(&address);
    let topic = config.names.origins();
    let origin = Uuid::from_u128(u128::from(std::process::id()) << 1 | 1 << 101);
    topics::create(&address, &topic, 3, &[]);
    let others: Vec<String> = (0..2_000).map(|number| format!("till {number}")).collect();
    let written = others
        .iter()
        .map(|key| (Some(key.as_bytes()), Some(&b"{}"[..]), &[][..]));
    topics::write(&address, &topic, written);
    let broker = KafkaBroker::new(config);
    patient(broker.fence(origin)).unwrap();
    patient(broker.mark(record(origin, 1, 1))).unwrap();
    assert_eq!(
        patient(broker.record(origin)).unwrap(),
        Some(record(origin, 1, 1))
    );
    topics::delete(&address, &[&topic]);
}

#[test]
fn an_open_transaction_of_another_copy_is_passed_over_and_ended_by_the_fence() {
    let Some(address) = services::kafka() else {
        return;
    };
    let config = config(&address);
    let topic = config.names.origins();
    let origin = Uuid::from_u128(u128::from(std::process::id()) << 1 | 1 << 100);
    topics::create(&address, &topic, 1, &[]);
    let broker = KafkaBroker::new(config.clone());
    patient(broker.fence(origin)).unwrap();
    patient(broker.mark(record(origin, 1, 1))).unwrap();

    // Another copy writes its record, and does not come to the end.
    let open: BaseProducer = config.marker(origin).unwrap().create().unwrap();
    open.init_transactions(PATIENCE).unwrap();
    open.begin_transaction().unwrap();
    let value = origin_record::encode(&record(origin, 2, 2));
    let key = origin.to_string();
    open.send(BaseRecord::to(&topic).key(&key).payload(&value))
        .map_err(|(error, _)| error)
        .unwrap();
    open.flush(PATIENCE).unwrap();
    assert_eq!(
        patient(broker.record(origin)).unwrap(),
        Some(record(origin, 1, 1))
    );

    patient(broker.fence(origin)).unwrap();
    open.commit_transaction(PATIENCE).unwrap_err();
    patient(broker.mark(record(origin, 3, 3))).unwrap();
    assert_eq!(
        patient(broker.record(origin)).unwrap(),
        Some(record(origin, 3, 3))
    );
    topics::delete(&address, &[&topic]);
}

#[test]
fn a_record_that_is_none_of_ours_is_said_and_never_taken_for_one() {
    let Some(address) = services::kafka() else {
        return;
    };
    let config = config(&address);
    let topic = config.names.origins();
    let origin = Uuid::from_u128(7);
    topics::create(&address, &topic, 1, &[]);
    let key = origin.to_string();
    let garbage = Some(&b"{}"[..]);
    topics::write(&address, &topic, [(Some(key.as_bytes()), garbage, &[][..])]);
    let broker = KafkaBroker::new(config);
    let Err(BrokerError::Denied(said)) = patient(broker.record(origin)) else {
        panic!("it was read");
    };
    assert!(said.contains(&key) && said.contains(&topic), "{said}");
    topics::delete(&address, &[&topic]);
}

#[test]
fn no_topic_appears_by_itself_at_a_broker_that_makes_them() {
    let settings = [("auto.create.topics.enable", "true")];
    let Some(own) = Own::kafka_with(&services::Broker {
        settings: &settings,
        ..services::Broker::default()
    }) else {
        return;
    };
    let address = own.address();
    let topic = topics::unique("by-itself");
    let mut broker = broker(&address);
    broker.renew(1).unwrap();
    assert_eq!(send(&mut broker, &topic, tag(1, 1), b"v"), Ok(()));
    let came = reports(&mut broker, 1).unwrap();
    assert_eq!(came[0].outcome, Outcome::Failed(Trouble::NoTopic));
    for _ in 0..2 {
        let names = vec![topic.as_str().into()];
        let cluster = patient(broker.cluster(names)).unwrap();
        assert_eq!(cluster.topics, [None]);
    }
    let place = Place {
        topic: topic.as_str().into(),
        partition: 0,
    };
    let offsets = patient(broker.offsets(vec![place])).unwrap();
    assert_eq!(offsets, [Offsets::Missing]);
    let origin = Uuid::from_u128(1);
    assert!(patient(broker.record(origin)).is_err());
    patient(broker.fence(origin)).unwrap();
    assert!(patient(broker.mark(record(origin, 1, 1))).is_err());
    assert_eq!(topics::partitions(&address, &topic), None);
    let origins = broker.config.names.origins();
    assert_eq!(topics::partitions(&address, &origins), None);
    // This broker does make topics for those who let it.
    let messages = [(Some(&b"key"[..]), Some(&b"value"[..]), &[][..])];
    topics::write(&address, &topic, messages);
    assert_eq!(topics::partitions(&address, &topic), Some(1));
}

#[test]
fn a_wrong_password_is_denied_with_its_reason_and_never_shown() {
    let Some(own) = Own::kafka_with(&services::Broker {
        user: Some(("till", "right")),
        ..services::Broker::default()
    }) else {
        return;
    };
    let address = own.with_password();
    let of = |password: &str| KafkaBroker::new(config(&address).user("till", password));
    let cluster = patient(of("right").cluster(vec!["t".into()])).unwrap();
    assert_eq!(cluster.topics, [None]);

    let mut wrong = of("hunter2-wrong");
    let Err(BrokerError::Denied(reason)) = patient(wrong.cluster(vec!["t".into()])) else {
        panic!("it was let in");
    };
    assert!(reason.contains("uthentication"), "{reason}");
    assert!(!reason.contains("hunter2"), "{reason}");
    // By a producer that is there, too.
    wrong.renew(1).unwrap();
    assert!(matches!(
        patient(wrong.cluster(vec!["t".into()])),
        Err(BrokerError::Denied(_))
    ));
}

/// What has come of messages, in the order of the reports.
#[derive(Default)]
struct Codes(parking_lot::Mutex<Vec<rdkafka::types::RDKafkaErrorCode>>);

impl rdkafka::ClientContext for Codes {}

impl rdkafka::producer::ProducerContext for Codes {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &rdkafka::producer::DeliveryResult<'_>, (): ()) {
        let code = result
            .as_ref()
            .err()
            .and_then(|(error, _)| error.rdkafka_error_code());
        self.0.lock().extend(code);
    }
}

#[test]
fn with_one_that_is_no_record_all_others_of_its_batch_are_refused() {
    let Some(address) = services::kafka() else {
        return;
    };
    let topic = topics::unique("no-record");
    // Without a key it is none where only the newest of each key is kept.
    topics::create(&address, &topic, 1, &[("cleanup.policy", "compact")]);
    let mut config = topics::client(&address);
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "60000");
    let producer: BaseProducer<Codes> = config.create_with_context(Codes::default()).unwrap();
    for key in [Some(&b"a"[..]), None, Some(b"b")] {
        let mut record = BaseRecord::<[u8], [u8]>::to(&topic).payload(b"value");
        record.key = key;
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    let codes = producer.context().0.lock().clone();
    assert_eq!(codes.len(), 3, "{codes:?}");
    for code in codes {
        let outcome = outcome::of_report(code, 0);
        let is_refused = matches!(outcome, Outcome::Refused(Refusal::Other(_)));
        assert!(is_refused, "{outcome:?}");
    }
    assert!(topics::read(&address, &topic)[&0].is_empty());
    topics::delete(&address, &[&topic]);
}
