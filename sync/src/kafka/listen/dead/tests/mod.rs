//! Dead letters against a real broker, with consumers as the members that they would be.

mod killed;
mod parking;
mod reading;
mod resuming;
mod topics_made;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use pollster::block_on;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};
use tidelog_core::{Error, Timestamp};
use uuid::Uuid;

use super::client::{Hears, Known};
use super::{Changed, DeadLetters, DeadTopics, Heard};
use crate::kafka::connection::Connection;
use crate::kafka::ensure::TopicSpec;
use crate::kafka::listen::feed::{
    Asked, FeedError, Letter, LetterPlace, ParkedKey, Parking, Place, Record, RecordKey,
};
use crate::kafka::{services, topics};

/// Whoever has waited so long waits for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// A group with a topic of two partitions, ten records each.
struct Group {
    address: String,
    name: String,
    topic: String,
}

/// A member of it.
struct Member {
    consumer: BaseConsumer,
    dead: DeadLetters,
    heard: Receiver<Heard>,
}

impl Group {
    /// `None` where there is no broker.
    fn new(test: &str) -> Option<Self> {
        Some(Self::at(test, services::kafka()?))
    }

    fn at(test: &str, address: String) -> Self {
        let group = Self::without_topics(test, address);
        let spec = TopicSpec::new(3, 1);
        block_on(group.topics().ensure(group.connection(), spec)).unwrap();
        group
    }

    fn without_topics(test: &str, address: String) -> Self {
        let name = topics::unique(test);
        let topic = format!("{name}.in");
        topics::create(&address, &topic, 2, &[]);
        Self {
            address,
            name,
            topic,
        }
    }

    fn topics(&self) -> DeadTopics {
        DeadTopics::of(&self.name)
    }

    fn connection(&self) -> Connection {
        Connection::new([&self.address])
    }

    fn dead(&self) -> (DeadLetters, Receiver<Heard>) {
        let (hear, heard) = channel();
        let hear = move |what| drop(hear.send(what));
        let member = Uuid::from_u128(u128::from(std::process::id()) << 64 | unique());
        let dead = DeadLetters::new(self.connection(), &self.name, self.topics(), member, hear);
        (dead.unwrap(), heard)
    }

    /// Joins, and waits until all places are its own.
    fn join(&self) -> Member {
        let mut config = self.client();
        config.set("group.id", &self.name);
        config.set("enable.auto.commit", "false");
        config.set("auto.offset.reset", "earliest");
        config.set("session.timeout.ms", "6000");
        config.set("max.poll.interval.ms", "6000");
        config.set("partition.assignment.strategy", "cooperative-sticky");
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.subscribe(&[&self.topic]).unwrap();
        while consumer.assignment().unwrap().count() < 2 {
            drop(consumer.poll(Duration::from_millis(50)));
        }
        let (dead, heard) = self.dead();
        Member {
            consumer,
            dead,
            heard,
        }
    }

    fn client(&self) -> ClientConfig {
        topics::client(&self.address)
    }

    fn place(&self, partition: i32) -> Place {
        Place {
            topic: (&*self.topic).into(),
            partition,
        }
    }

    fn key(&self, partition: i32, key: &str) -> RecordKey {
        RecordKey {
            place: self.place(partition),
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
        }
    }

    fn letter(&self, partition: i32, key: &str, offset: i64) -> Letter {
        let RecordKey { place, key } = self.key(partition, key);
        let headers = vec![("ce_id".into(), Some(Bytes::from(offset.to_string())))];
        let record = Record {
            place,
            offset,
            key,
            value: Some(Bytes::from(format!("value of {offset}"))),
            headers,
        };
        Letter {
            record,
            reason: "it is broken".into(),
            attempts: 3,
            since: Timestamp::from_micros(1),
        }
    }

    fn parked(&self, partition: i32, key: &str, offset: i64) -> ParkedKey {
        ParkedKey {
            key: self.key(partition, key),
            stream: format!("Order/{key}").into(),
            reason: "it is broken".into(),
            since: Timestamp::from_micros(1),
            first_offset: offset,
            letter: None,
            attempts: 3,
            asked: None,
        }
    }

    /// Parks a key with its first letter.
    fn parking(&self, partition: i32, key: &str, offset: i64) -> Parking {
        Parking {
            letters: vec![self.letter(partition, key, offset)],
            parked: vec![self.parked(partition, key, offset)],
            resumed: vec![],
            offsets: vec![(self.place(partition), offset + 1)],
        }
    }

    /// What the group is to read next.
    fn committed(&self) -> BTreeMap<i32, i64> {
        let mut config = self.client();
        config.set("group.id", &self.name);
        let consumer: BaseConsumer = config.create().unwrap();
        let mut places = TopicPartitionList::new();
        for partition in 0..2 {
            places.add_partition(&self.topic, partition);
        }
        let found = consumer.committed_offsets(places, PATIENCE);
        let found = found.unwrap();
        let known = found.elements().into_iter().filter_map(|element| {
            let offset = element.offset().to_raw().filter(|offset| *offset >= 0)?;
            Some((element.partition(), offset))
        });
        known.collect()
    }

    fn letters(&self) -> usize {
        let all = topics::read(&self.address, &self.topics().letters);
        all.values().map(Vec::len).sum()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let DeadTopics { letters, parked } = self.topics();
        topics::delete(&self.address, &[&self.topic, &letters, &parked]);
    }
}

impl Member {
    fn park(&self, change: Parking) -> Result<Vec<LetterPlace>, FeedError> {
        let group = self.consumer.group_metadata().unwrap();
        block_on(self.dead.park(change, group))
    }

    fn set(&self) -> Vec<ParkedKey> {
        block_on(self.dead.parked_set()).unwrap()
    }

    fn letters(&self, key: RecordKey, from: LetterPlace) -> Result<super::Letters, FeedError> {
        block_on(self.dead.letters(key, from))
    }

    /// What it hears next of the parked set.
    fn hears(&self) -> Changed {
        match self.heard.recv_timeout(PATIENCE).unwrap() {
            Heard::Changed(changed) => changed,
            Heard::Trouble(error) => panic!("{error}"),
        }
    }
}

fn unique() -> u128 {
    use std::sync::atomic::AtomicU64;
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed).into()
}
