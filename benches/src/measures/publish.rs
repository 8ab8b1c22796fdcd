//! How fast a log is published to Kafka, beside a bare producer of librdkafka with the same settings, which
//! sends the same messages, made before: as fast as its queue takes them, and then one message of a stream
//! after the report of the one before, as the publisher does. And how long an append takes to a consumer.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use tidelog::cloudevents::{BatchPlace, Headers, MessageMode, to_message};
use tidelog::{
    AppendBatch, Batch, BlockingTidelog, ContentType, DistributedConfig, EventEnvelope, EventId,
    ExpectedVersion, KafkaConfig, LogIdentity, Metadata, NewEvent, RecordKind, Stage, StreamId,
    Tags, Tidelog, Timestamp, TopicSpec,
};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::published::{BROKER, SHAPES};
use super::{Figures, Step, figures};
use crate::Outcome;
use crate::load::{Payloads, mix};
use crate::options::Options;

/// Each is one turn of the publisher and one of the bare producer.
pub const ROUNDS: usize = 3;
pub const PARTITIONS: u32 = 12;
/// Appends a second, and for how many, while it is measured how long they take to a consumer.
const PACE: u64 = 1_000;
const PACED: u64 = 20;
/// Whoever has waited so long waits for ever.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// One of the steps.
pub fn run(step: Step, options: &Options) -> Outcome<Figures> {
    let broker = std::env::var(BROKER)?;
    let (dir, payloads) = (options.dir.join("publish"), options.payloads());
    if step == Step::PublishLatency {
        return latency(&dir, &broker, &payloads);
    }
    let all = options.published_events.unwrap_or_default();
    let shape = SHAPES.into_iter().find(|(known, ..)| *known == step);
    let (_, _, streams, one_in) = shape.ok_or("no step of publishing")?;
    let events = all / one_in;
    let shape = (events, streams.min(events));
    publish(&dir, &broker, &payloads, shape, ROUNDS)
}

/// Events a second of `events` in `streams`, by turns: of the publisher, and of the bare producer.
pub fn publish(
    dir: &Path,
    broker: &str,
    payloads: &Payloads,
    (events, streams): (u64, u64),
    rounds: usize,
) -> Outcome<Figures> {
    let (mut ours, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut in_turn, mut turn_ratios) = (Vec::new(), Vec::new());
    let names = names(streams)?;
    let made = made(&names, payloads, events)?;
    for round in 0..rounds {
        let config = config(broker, &format!("{events}-{streams}-{round}"));
        let types = ["BankAccount", "Bare", "InTurn"];
        let ensured = config.ensure_topics(&types, TopicSpec::new(PARTITIONS, 1));
        let topics = Runtime::new()?.block_on(ensured)?.created;
        let topic = |name: &str| {
            let found = topics.iter().find(|topic| topic.ends_with(name));
            found.ok_or("no topic was made")
        };
        let dir = dir.join(format!("round-{round}"));
        let published = published(&dir, config, payloads, events, streams)?;
        let plain = bare_rate(broker, topic("Bare")?, &names, &made)?;
        let turns = in_turn_rate(broker, topic("InTurn")?, &names, &made)?;
        ours.push(published);
        bare.push(plain);
        ratios.push(published / plain);
        in_turn.push(turns);
        turn_ratios.push(published / turns);
        delete(broker, &topics)?;
        fs::remove_dir_all(dir)?;
    }
    Ok(figures([
        ("rate", median(ours)),
        ("bare", median(bare)),
        ("ratio", median(ratios)),
        ("in-turn", median(in_turn)),
        ("in-turn-ratio", median(turn_ratios)),
    ]))
}

/// From the call of an append to a consumer that waits for it, in milliseconds.
pub fn latency(dir: &Path, broker: &str, payloads: &Payloads) -> Outcome<Figures> {
    let config = config(broker, "latency");
    let ensured = config.ensure_topics(&["BankAccount"], TopicSpec::new(PARTITIONS, 1));
    let topics = Runtime::new()?.block_on(ensured)?.created;
    let topic = topics.iter().find(|topic| topic.ends_with("BankAccount"));
    let topic = topic.ok_or("no topic was made")?;
    let consumer = consumer(broker, topic)?;
    let distributed = DistributedConfig::new().kafka(config);
    let log = Tidelog::builder(dir).distributed(distributed).open()?;
    let log = log.blocking();
    // Connected, and warm.
    let last = append(&log, payloads, 0)?;
    log.wait_for_timeout(last, Stage::Published, PATIENCE)?;

    let count = PACE * PACED;
    let (saw, seen) = channel();
    let consuming = thread::spawn(move || {
        let mut left = count + 1;
        while left > 0 {
            let Some(came) = consumer.poll(Duration::from_secs(30)) else {
                break;
            };
            let number = came.ok().and_then(|message| {
                let payload = message.payload()?;
                Some(u64::from_le_bytes(payload.get(..8)?.try_into().ok()?))
            });
            left -= 1;
            if let Some(number) = number.filter(|number| *number > 0) {
                let _ = saw.send((number, Instant::now()));
            }
        }
    });
    let begun = Instant::now();
    let mut called = vec![begun; usize::try_from(count)? + 1];
    for number in 1..=count {
        let due = begun + Duration::from_micros(number * 1_000_000 / PACE);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        called[usize::try_from(number)?] = Instant::now();
        append(&log, payloads, number)?;
    }
    consuming.join().map_err(|_| "the consumer failed")?;
    let mut millis: Vec<f64> = seen
        .iter()
        .filter_map(|(number, at)| {
            let called = called.get(usize::try_from(number).ok()?)?;
            Some(at.duration_since(*called).as_secs_f64() * 1_000.0)
        })
        .collect();
    log.close()?;
    delete(broker, &topics)?;
    if millis.len() < usize::try_from(count)? {
        return Err(format!("{} of {count} events came", millis.len()).into());
    }
    millis.sort_by(f64::total_cmp);
    let at = |part: usize| millis[millis.len() * part / 100];
    Ok(figures([("p50", at(50)), ("p99", at(99))]))
}

pub fn config(broker: &str, of: &str) -> KafkaConfig {
    KafkaConfig::new([broker]).topic_prefix(format!("bench-{}-{of}.", std::process::id()))
}

fn append(log: &BlockingTidelog, payloads: &Payloads, number: u64) -> Outcome<u64> {
    let mut payload = payloads.get(number).to_vec();
    payload[..8].copy_from_slice(&number.to_le_bytes());
    let event = NewEvent::new("Deposited", 1, ContentType::Bytes, payload);
    let stream = StreamId::new("BankAccount", &format!("acc-{:06}", number % 1_000))?;
    let done = log.append(AppendBatch::new(stream, ExpectedVersion::Any, vec![event]))?;
    Ok(done.last_position.ok_or("an append without a position")?)
}

/// All that waits in a log, from the first message on: what connecting takes is not counted.
fn published(
    dir: &Path,
    config: KafkaConfig,
    payloads: &Payloads,
    events: u64,
    streams: u64,
) -> Outcome<f64> {
    let log = Tidelog::open(dir)?.blocking();
    fill(&log, payloads, events, streams)?;
    log.close()?;
    let distributed = DistributedConfig::new().kafka(config);
    let log = Tidelog::builder(dir).distributed(distributed).open()?;
    let log = log.blocking();
    let last = log.last_position();
    let before = loop {
        let delivered = log.publishing().status().delivered;
        if delivered > 0 {
            break delivered;
        }
        thread::sleep(Duration::from_millis(1));
    };
    let begun = Instant::now();
    if !log.wait_for_timeout(last, Stage::Published, PATIENCE)? {
        return Err(format!("{:?}", log.publishing().status()).into());
    }
    let rate = (events - before) as f64 / begun.elapsed().as_secs_f64();
    log.close()?;
    Ok(rate)
}

/// Events in rounds over all streams, in batches over many of them.
fn fill(log: &BlockingTidelog, payloads: &Payloads, events: u64, streams: u64) -> Outcome<()> {
    let mut number = 0;
    let mut parts = Vec::new();
    while number < events {
        let (stream, sequence) = (number % streams, number / streams);
        let payload = Bytes::copy_from_slice(payloads.get(number));
        let event = NewEvent::new("Deposited", 1, ContentType::Bytes, payload);
        let expected = match sequence {
            0 => ExpectedVersion::NoStream,
            sequence => ExpectedVersion::Exact(sequence),
        };
        let name = StreamId::new("BankAccount", &format!("acc-{stream:07}"))?;
        parts.push(AppendBatch::new(name, expected, vec![event]));
        number += 1;
        // A stream stands in a batch once.
        if parts.len() == 1_000 || stream + 1 == streams {
            log.append_streams(std::mem::take(&mut parts))?;
        }
    }
    if !parts.is_empty() {
        log.append_streams(parts)?;
    }
    Ok(())
}

/// Counts what was delivered.
#[derive(Default)]
struct Count {
    delivered: AtomicU64,
    failed: AtomicU64,
}

struct Reports {
    count: Arc<Count>,
    /// Who waits for each.
    heard: Option<Sender<usize>>,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, delivered: &DeliveryResult<'_>, number: usize) {
        let count = match delivered {
            Ok(_) => &self.count.delivered,
            Err(_) => &self.count.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
        if let Some(heard) = &self.heard {
            // Whoever does not wait any more has failed, and says so.
            let _ = heard.send(number);
        }
    }
}

/// The streams.
pub fn names(streams: u64) -> Outcome<Vec<StreamId>> {
    let all = (0..streams).map(|stream| StreamId::new("BankAccount", &format!("acc-{stream:07}")));
    Ok(all.collect::<Result<Vec<_>, _>>()?)
}

/// One message, ready to be given to librdkafka.
pub struct Made {
    stream: usize,
    headers: Headers,
    payload: Bytes,
}

/// The messages that a log of such events is published as, but for ids and times.
pub fn made(names: &[StreamId], payloads: &Payloads, events: u64) -> Outcome<Vec<Made>> {
    let log = LogIdentity {
        origin: Uuid::from_u128(1),
        epoch: Uuid::from_u128(2),
    };
    let now = 1_795_000_000_000_000;
    let first = names.first().ok_or("no streams")?;
    let mut envelope = EventEnvelope {
        event_id: EventId::from_uuid(Uuid::from_u128(3)),
        stream: first.clone(),
        sequence: 0,
        position: Some(0),
        birth: None,
        kind: RecordKind::Event,
        event_type: "Deposited".into(),
        revision: 1,
        content_type: ContentType::Bytes,
        event_time: Timestamp::from_micros(now),
        recorded_time: Timestamp::from_micros(now),
        metadata: Metadata::new(),
        tags: Tags::none(),
        batch: Batch { first: 1, count: 1 },
        event: Bytes::new(),
    };
    let (mut headers, mut line) = (Headers::default(), Vec::new());
    let mut made = Vec::new();
    for number in 0..events {
        let stream = usize::try_from(number)? % names.len();
        // As alike as those of one burst are.
        let id = Uuid::from_u64_pair(0x01a1_0000_0000_7000 | mix(number) >> 52, mix(!number));
        envelope.event_id = EventId::from_uuid(id);
        envelope.stream.clone_from(&names[stream]);
        envelope.sequence = number / names.len() as u64 + 1;
        envelope.position = Some(number + 1);
        envelope.event = Bytes::copy_from_slice(payloads.get(number));
        envelope.event_time = Timestamp::from_micros(now + number.cast_signed());
        let place = BatchPlace {
            index: u32::try_from(number % 1_000)?,
            count: 1_000,
        };
        let mode = MessageMode::Binary;
        to_message(&envelope, &log, place, mode, &mut headers, &mut line);
        made.push(Made {
            stream,
            headers: headers.clone(),
            payload: envelope.event.clone(),
        });
    }
    Ok(made)
}

/// A producer with the publisher's settings, and a thread that hears its reports.
struct Bare {
    producer: Arc<BaseProducer<Reports>>,
    count: Arc<Count>,
    is_over: Arc<AtomicBool>,
    hearing: thread::JoinHandle<()>,
}

impl Bare {
    fn start(broker: &str, heard: Option<Sender<usize>>) -> Outcome<Self> {
        let count = Arc::new(Count::default());
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", broker);
        for (name, value) in [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("message.timeout.ms", "0"),
            ("partitioner", "murmur2_random"),
            ("compression.type", "lz4"),
            ("linger.ms", "0"),
            ("batch.size", "524288"),
            ("batch.num.messages", "2000"),
            ("max.in.flight", "5"),
            ("queue.buffering.max.messages", "33792"),
            ("queue.buffering.max.kbytes", "16384"),
        ] {
            config.set(name, value);
        }
        let reports = Reports {
            count: Arc::clone(&count),
            heard,
        };
        let producer: BaseProducer<Reports> = config.create_with_context(reports)?;
        let producer = Arc::new(producer);
        let is_over = Arc::new(AtomicBool::new(false));
        let hearing = thread::spawn({
            let (producer, is_over) = (Arc::clone(&producer), Arc::clone(&is_over));
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    producer.poll(Duration::from_millis(100));
                }
            }
        });
        Ok(Self {
            producer,
            count,
            is_over,
            hearing,
        })
    }

    /// Queues a message as soon as there is room.
    fn send(&self, topic: &str, names: &[StreamId], made: &[Made], number: usize) -> Outcome<()> {
        let message = made.get(number).ok_or("no such message")?;
        let stream = names.get(message.stream).ok_or("no such stream")?;
        loop {
            let mut all = OwnedHeaders::new_with_capacity(message.headers.len());
            for (key, value) in message.headers.iter() {
                let value = Some(value);
                all = all.insert(Header { key, value });
            }
            let record = BaseRecord::with_opaque_to(topic, number)
                .key(stream.aggregate_id())
                .payload(&message.payload[..])
                .headers(all);
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, _))
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) =>
                {
                    thread::sleep(Duration::from_micros(200));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    /// From the first report on, as the publisher is measured.
    fn first(&self) -> Instant {
        while self.count.delivered.load(Ordering::Relaxed) == 0 {
            thread::sleep(Duration::from_micros(200));
        }
        Instant::now()
    }

    fn finish(self, events: usize, begun: Instant) -> Outcome<f64> {
        while self.count.delivered.load(Ordering::Relaxed) < events as u64 {
            if self.count.failed.load(Ordering::Relaxed) > 0 {
                return Err("the bare producer was refused a message".into());
            }
            thread::sleep(Duration::from_micros(200));
        }
        let rate = (events - 1) as f64 / begun.elapsed().as_secs_f64();
        self.is_over.store(true, Ordering::Relaxed);
        let heard = self.hearing.join();
        heard.map_err(|_| "the thread of reports failed")?;
        Ok(rate)
    }
}

/// The same messages, made before, each queued as soon as there is room.
pub fn bare_rate(broker: &str, topic: &str, names: &[StreamId], made: &[Made]) -> Outcome<f64> {
    let bare = Bare::start(broker, None)?;
    let mut begun = Instant::now();
    for number in 0..made.len() {
        bare.send(topic, names, made, number)?;
        if number == 0 {
            begun = bare.first();
        }
    }
    bare.finish(made.len(), begun)
}

/// The same, each after the report of the one before of its stream.
fn in_turn_rate(broker: &str, topic: &str, names: &[StreamId], made: &[Made]) -> Outcome<f64> {
    let (heard, reports) = channel();
    let bare = Bare::start(broker, Some(heard))?;
    bare.send(topic, names, made, 0)?;
    let begun = bare.first();
    for number in 1..names.len() {
        bare.send(topic, names, made, number)?;
    }
    for _ in 0..made.len() {
        // They go round over all streams.
        let next = reports.recv()? + names.len();
        if next < made.len() {
            bare.send(topic, names, made, next)?;
        }
    }
    bare.finish(made.len(), begun)
}

pub fn consumer(broker: &str, topic: &str) -> Outcome<BaseConsumer> {
    let mut config = ClientConfig::new();
    for (name, value) in [
        ("bootstrap.servers", broker),
        ("group.id", "bench"),
        ("enable.auto.commit", "false"),
        ("fetch.wait.max.ms", "5"),
    ] {
        config.set(name, value);
    }
    let consumer: BaseConsumer = config.create()?;
    let mut places = TopicPartitionList::new();
    for partition in 0..i32::try_from(PARTITIONS)? {
        places.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&places)?;
    Ok(consumer)
}

pub fn delete(broker: &str, topics: &[Box<str>]) -> Outcome<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker);
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
    Runtime::new()?.block_on(admin.delete_topics(&topics, &AdminOptions::new()))?;
    Ok(())
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
