//! Topics by librdkafka alone: made, changed, written and read by other means than ours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

/// Whoever has waited so long waits for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// A name that no other test has, of this run or of another.
pub fn unique(test: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{test}-{}-{number}", std::process::id())
}

/// What every client begins with.
pub fn client(address: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address);
    config
}

/// Makes a topic, and waits until it can be written.
pub fn create(address: &str, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let new = settings
        .iter()
        .fold(new, |new, (name, value)| new.set(name, value));
    let done = pollster::block_on(admin(address).create_topics([&new], &within()));
    done.unwrap().remove(0).unwrap();
    let begun = Instant::now();
    while self::partitions(address, topic) != Some(usize::try_from(partitions).unwrap()) {
        assert!(begun.elapsed() < PATIENCE, "{topic} does not appear");
    }
}

/// Gives a topic more partitions, and waits until they can be written.
pub fn grow(address: &str, topic: &str, partitions: usize) {
    let new = NewPartitions::new(topic, partitions);
    let done = pollster::block_on(admin(address).create_partitions([&new], &within()));
    done.unwrap().remove(0).unwrap();
    let begun = Instant::now();
    while self::partitions(address, topic) != Some(partitions) {
        assert!(begun.elapsed() < PATIENCE, "{topic} does not grow");
    }
}

/// Deletes topics; those that are not there are none.
pub fn delete(address: &str, topics: &[&str]) {
    let done = pollster::block_on(admin(address).delete_topics(topics, &within()));
    drop(done.unwrap());
    let begun = Instant::now();
    while topics
        .iter()
        .any(|topic| partitions(address, topic).is_some())
    {
        assert!(begun.elapsed() < PATIENCE, "{topics:?} do not go");
    }
}

/// Changes one setting of a topic.
pub fn alter(address: &str, topic: &str, name: &str, value: &str) {
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
    let done = pollster::block_on(admin(address).alter_configs([&change], &within()));
    done.unwrap().remove(0).unwrap();
}

/// What a setting of a topic is.
pub fn setting(address: &str, topic: &str, name: &str) -> Option<String> {
    let asked = [ResourceSpecifier::Topic(topic)];
    let done = pollster::block_on(admin(address).describe_configs(&asked, &within()));
    let found = done.unwrap().remove(0).unwrap();
    found.get(name)?.value.clone()
}

/// How many partitions a topic has, asked anew; `None` when it is not there.
pub fn partitions(address: &str, topic: &str) -> Option<usize> {
    let client: BaseProducer = client(address).create().unwrap();
    // All of them: asking for one by its name may make it.
    let all = client.client().fetch_metadata(None, PATIENCE).unwrap();
    let found = all.topics().iter().find(|found| found.name() == topic)?;
    let led = found.partitions().iter().all(|part| part.leader() >= 0);
    led.then(|| found.partitions().len())
}

/// Key, value and headers of a message.
pub type Written<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, &'a [(&'a str, &'a str)]);

/// Writes messages in order; returns when all stand there.
pub fn write<'a>(address: &str, topic: &str, messages: impl IntoIterator<Item = Written<'a>>) {
    send(address, topic, None, messages);
}

/// The same, to one partition.
pub fn write_to<'a>(
    address: &str,
    topic: &str,
    partition: i32,
    messages: impl IntoIterator<Item = Written<'a>>,
) {
    send(address, topic, Some(partition), messages);
}

/// Deletes what stands before an offset, as retention does.
pub fn delete_until(address: &str, topic: &str, partition: i32, offset: i64) {
    let mut until = TopicPartitionList::new();
    let added = until.add_partition_offset(topic, partition, Offset::Offset(offset));
    added.unwrap();
    let done = pollster::block_on(admin(address).delete_records(&until, &within()));
    for element in done.unwrap().elements() {
        element.error().unwrap();
    }
}

fn send<'a>(
    address: &str,
    topic: &str,
    partition: Option<i32>,
    messages: impl IntoIterator<Item = Written<'a>>,
) {
    let mut config = client(address);
    config.set("partitioner", "murmur2_random");
    let producer: BaseProducer = config.create().unwrap();
    for (key, value, headers) in messages {
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |all, &(key, value)| {
                let value = Some(value);
                all.insert(Header { key, value })
            });
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).headers(headers);
        (record.key, record.payload, record.partition) = (key, value, partition);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    assert_eq!(producer.in_flight_count(), 0);
}

/// All that is committed in a topic now, by partition.
pub fn read(address: &str, topic: &str) -> BTreeMap<i32, Vec<OwnedMessage>> {
    read_with(address, topic, "read_committed")
}

/// The same with another isolation level.
pub fn read_with(address: &str, topic: &str, isolation: &str) -> BTreeMap<i32, Vec<OwnedMessage>> {
    let mut config = client(address);
    config.set("isolation.level", isolation);
    config
        .set("group.id", "nobody")
        .set("enable.auto.commit", "false");
    config.set("enable.partition.eof", "true");
    config.set("fetch.wait.max.ms", "20");
    let consumer: BaseConsumer = config.create().unwrap();
    let count = i32::try_from(partitions(address, topic).unwrap()).unwrap();
    let mut places = TopicPartitionList::new();
    for partition in 0..count {
        let place = places.add_partition_offset(topic, partition, Offset::Beginning);
        place.unwrap();
    }
    consumer.assign(&places).unwrap();
    let mut found: BTreeMap<i32, Vec<OwnedMessage>> = (0..count).map(|at| (at, vec![])).collect();
    // By partition: one of them may come to its end twice.
    let mut open: BTreeSet<i32> = (0..count).collect();
    let (mut trouble, begun) = (None, Instant::now());
    while !open.is_empty() {
        assert!(
            begun.elapsed() < PATIENCE,
            "{topic} has no end: {trouble:?}"
        );
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let part = found.get_mut(&message.partition()).unwrap();
                part.push(message.detach());
            }
            Some(Err(rdkafka::error::KafkaError::PartitionEOF(at))) => drop(open.remove(&at)),
            // It tries again: a broker that has just started says many things.
            Some(Err(error)) => trouble = Some(error),
            None => {}
        }
    }
    found
}

/// A header's text.
pub fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let headers = message.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    Some(String::from_utf8(found.value?.to_vec()).unwrap())
}

fn admin(address: &str) -> AdminClient<DefaultClientContext> {
    client(address).create().unwrap()
}

fn within() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(PATIENCE))
        .request_timeout(Some(PATIENCE))
}
