//! A group that has no members is moved to another place.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tidelog_core::{Error, Timestamp};

use super::config::KafkaListenerConfig;
use super::lists;

/// How long one question to the cluster waits.
const WITHIN: Duration = Duration::from_secs(10);

/// Moves the offsets of a group.
pub(super) struct Replay {
    config: KafkaListenerConfig,
}

impl Replay {
    pub(super) fn new(config: KafkaListenerConfig) -> Arc<Self> {
        Arc::new(Self { config })
    }

    pub(super) async fn from_beginning(self: &Arc<Self>) -> Result<(), Error> {
        self.on_a_thread(None).await
    }

    pub(super) async fn from_time(self: &Arc<Self>, time: Timestamp) -> Result<(), Error> {
        self.on_a_thread(Some(time)).await
    }

    /// librdkafka's questions block.
    async fn on_a_thread(self: &Arc<Self>, time: Option<Timestamp>) -> Result<(), Error> {
        let (reply, answer) = oneshot::async_channel();
        let replay = Arc::clone(self);
        thread::Builder::new()
            .name("tidelog-kafka-replay".into())
            .spawn(move || {
                // Whoever asked may not wait any more.
                let _ = reply.send(replay.run(time));
            })
            .map_err(|error| Error::io("start a thread for", "a replay", error))?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    fn run(&self, time: Option<Timestamp>) -> Result<(), Error> {
        let config = self.config.reader()?;
        let consumer: BaseConsumer = config
            .create()
            .map_err(|error| self.config.connection.refused(&error))?;
        let places = self.places(&consumer)?;
        let moved = match time {
            None => self.beginnings(&consumer, &places),
            Some(time) => consumer
                .offsets_for_times(with(&places, time.as_micros().div_euclid(1_000)), WITHIN)
                .map_err(|error| self.failed(&error)),
        };
        let mut offsets = TopicPartitionList::new();
        for element in moved?.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let offset = match element.offset() {
                Offset::Offset(offset) => offset,
                // Nothing came at that time or later.
                _ => self.watermarks(&consumer, topic, partition)?.1,
            };
            let mut moved = offsets.add_partition(topic, partition);
            // Never negative, which is all that it refuses.
            let _ = moved.set_offset(Offset::Offset(offset));
        }
        consumer
            .commit(&offsets, CommitMode::Sync)
            .map_err(|error| self.failed(&error))
    }

    /// The places of topics that are named, and of others those that the group has offsets for: what a
    /// pattern matches is librdkafka's to say.
    fn places(&self, consumer: &BaseConsumer) -> Result<Vec<(String, i32)>, Error> {
        let all = consumer
            .fetch_metadata(None, WITHIN)
            .map_err(|error| self.failed(&error))?;
        let subscription = self.config.subscription()?;
        let has_pattern = subscription.iter().any(|topic| topic.starts_with('^'));
        let (mut places, mut others) = (Vec::new(), TopicPartitionList::new());
        for topic in all.topics() {
            let is_named = subscription.iter().any(|named| named == topic.name());
            for partition in topic.partitions() {
                if is_named {
                    places.push((topic.name().to_owned(), partition.id()));
                } else if has_pattern {
                    others.add_partition(topic.name(), partition.id());
                }
            }
        }
        for named in subscription.iter().filter(|name| !name.starts_with('^')) {
            if !places.iter().any(|(topic, _)| topic == named) {
                return Err(Error::NoTopic {
                    topic: named.as_str().into(),
                    remedy: "make it, or name another one",
                });
            }
        }
        if others.count() > 0 {
            let committed = lists::put_down(consumer, others, WITHIN);
            let committed = committed.map_err(|error| self.failed(&error))?;
            for element in committed.elements() {
                if matches!(element.offset(), Offset::Offset(_)) {
                    places.push((element.topic().to_owned(), element.partition()));
                }
            }
        }
        Ok(places)
    }

    fn beginnings(
        &self,
        consumer: &BaseConsumer,
        places: &[(String, i32)],
    ) -> Result<TopicPartitionList, Error> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in places {
            let (low, _) = self.watermarks(consumer, topic, *partition)?;
            let mut element = list.add_partition(topic, *partition);
            // Never negative, which is all that it refuses.
            let _ = element.set_offset(Offset::Offset(low));
        }
        Ok(list)
    }

    fn watermarks(
        &self,
        consumer: &BaseConsumer,
        topic: &str,
        partition: i32,
    ) -> Result<(i64, i64), Error> {
        consumer
            .fetch_watermarks(topic, partition, WITHIN)
            .map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &KafkaError) -> Error {
        let connection = &self.config.connection;
        let server = connection.server();
        let action = format!("move group {}", self.config.group).into();
        let is_live = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::UnknownMemberId
                    | RDKafkaErrorCode::IllegalGeneration
                    | RDKafkaErrorCode::RebalanceInProgress
                    | RDKafkaErrorCode::NonEmptyGroup
            )
        );
        if is_live {
            return Error::ServerRefused {
                server,
                action,
                reason: "the group has members; stop all of them first".into(),
            };
        }
        Error::Unreachable {
            server,
            action,
            reason: connection.secrets().scrub(&error.to_string()),
        }
    }
}

fn with(places: &[(String, i32)], millis: i64) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in places {
        let mut element = list.add_partition(topic, *partition);
        // A time before 1970 asks for everything.
        let _ = element.set_offset(Offset::Offset(millis.max(0)));
    }
    list
}
