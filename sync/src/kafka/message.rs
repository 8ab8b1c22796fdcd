//! Events as the messages that are sent of them.

use std::collections::HashMap;
use std::sync::Arc;

use tidelog_backends::commits::EpochInfo;
use tidelog_core::cloudevents::{BatchPlace, Headers, MessageMode, to_message};
use tidelog_core::{EventEnvelope, LogIdentity};
use uuid::Uuid;

use crate::kafka::broker::Message;
use crate::kafka::config::KafkaConfig;
use crate::kafka::names::TopicNames;

/// Makes messages, one at a time, in memory that it keeps.
pub(crate) struct Encoder {
    names: TopicNames,
    mode: MessageMode,
    origin: Uuid,
    /// The first position of each epoch, and the epoch.
    epochs: Vec<(u64, Uuid)>,
    /// By aggregate type.
    topics: HashMap<Box<str>, Result<Arc<str>, Box<str>>>,
    headers: Headers,
    line: Vec<u8>,
}

impl Encoder {
    /// For events of the log `origin`, which has these epochs, oldest first.
    pub(crate) fn new(config: &KafkaConfig, origin: Uuid, epochs: &[EpochInfo]) -> Self {
        let mut encoder = Self {
            names: config.names.clone(),
            mode: if config.is_structured {
                MessageMode::Structured
            } else {
                MessageMode::Binary
            },
            origin,
            epochs: Vec::new(),
            topics: HashMap::new(),
            headers: Headers::default(),
            line: Vec::new(),
        };
        encoder.set_epochs(epochs);
        encoder
    }

    /// The log has these epochs now.
    pub(crate) fn set_epochs(&mut self, epochs: &[EpochInfo]) {
        let epochs = epochs.iter();
        self.epochs = epochs
            .map(|epoch| (epoch.first_position, epoch.id))
            .collect();
    }

    /// The topic of an aggregate type; the application is asked once.
    ///
    /// # Errors
    /// Why what the application answered cannot be one.
    pub(crate) fn topic(&mut self, aggregate_type: &str) -> Result<Arc<str>, Box<str>> {
        if let Some(known) = self.topics.get(aggregate_type) {
            return known.clone();
        }
        let topic = self.names.topic(aggregate_type).map(Arc::from);
        self.topics.insert(aggregate_type.into(), topic.clone());
        topic
    }

    /// The message of an event of this log. However often it is made, by whichever epoch is in force, it
    /// has the same bytes.
    pub(crate) fn message<'a>(
        &'a mut self,
        envelope: &'a EventEnvelope,
        topic: &'a str,
    ) -> Message<'a> {
        let position = envelope.position.unwrap_or_default();
        let log = LogIdentity {
            origin: self.origin,
            epoch: self.epoch(position),
        };
        let index = position.saturating_sub(envelope.batch.first);
        let batch = BatchPlace {
            // A batch counts its events in 32 bits.
            index: u32::try_from(index).unwrap_or(u32::MAX),
            count: envelope.batch.count,
        };
        let (headers, line) = (&mut self.headers, &mut self.line);
        let value = to_message(envelope, &log, batch, self.mode, headers, line);
        Message {
            topic,
            key: envelope.aggregate_id().as_bytes(),
            headers: &self.headers,
            value,
        }
    }

    /// The epoch that was in force at `position`.
    fn epoch(&self, position: u64) -> Uuid {
        let begun = self.epochs.partition_point(|(first, _)| *first <= position);
        let found = begun.checked_sub(1).and_then(|at| self.epochs.get(at));
        found.map_or(Uuid::nil(), |(_, epoch)| *epoch)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidelog_core::cloudevents::from_message;
    use tidelog_core::{
        Batch, ContentType, EventId, Metadata, RecordKind, StreamId, Tags, Timestamp,
    };

    use super::*;

    fn epoch(number: u128, first_position: u64) -> EpochInfo {
        EpochInfo {
            id: Uuid::from_u128(number),
            first_position,
            parent: Uuid::nil(),
            parent_position: first_position - 1,
            parent_hash: [0; 32],
        }
    }

    fn envelope(position: u64) -> EventEnvelope {
        EventEnvelope {
            event_id: EventId::from_uuid(Uuid::from_u128(1)),
            stream: StreamId::new("Bank.Account", "acc-ä").unwrap(),
            sequence: 3,
            position: Some(position),
            birth: None,
            kind: RecordKind::Event,
            event_type: "Deposited".into(),
            revision: 2,
            content_type: ContentType::Json,
            event_time: Timestamp::from_micros(0),
            recorded_time: Timestamp::from_micros(0),
            metadata: Metadata::new(),
            tags: Tags::none(),
            batch: Batch {
                first: position - 1,
                count: 2,
            },
            event: Bytes::new(),
        }
    }

    fn header<'a>(message: &Message<'a>, name: &str) -> &'a str {
        let mut headers = message.headers.iter();
        let (_, value) = headers.find(|(known, _)| *known == name).unwrap();
        std::str::from_utf8(value).unwrap()
    }

    #[test]
    fn a_message_says_where_the_event_stands_in_every_epoch() {
        let config = KafkaConfig::new(["a:1"]);
        let mut encoder = Encoder::new(&config, Uuid::from_u128(9), &[epoch(1, 1)]);
        let topic = encoder.topic("Bank.Account").unwrap();
        assert_eq!(&*topic, "tidelog.Bank_2eAccount");
        let event = envelope(7);
        let message = encoder.message(&event, &topic);
        assert_eq!(message.key, "acc-ä".as_bytes());
        assert_eq!(message.value, b"");
        let place = ["ce_batchindex", "ce_batchcount", "ce_position"];
        assert_eq!(place.map(|name| header(&message, name)), ["1", "2", "7"]);
        let first = message.headers.clone();

        // It stays of the epoch that it was recorded in.
        encoder.set_epochs(&[epoch(1, 1), epoch(2, 8)]);
        assert_eq!(*encoder.message(&event, &topic).headers, first);
        let later = envelope(8);
        let message = encoder.message(&later, &topic);
        assert_eq!(header(&message, "ce_epoch"), Uuid::from_u128(2).to_string());
    }

    #[test]
    fn a_structured_message_is_one_object() {
        let config = KafkaConfig::new(["a:1"]).structured();
        let mut encoder = Encoder::new(&config, Uuid::from_u128(9), &[epoch(1, 1)]);
        let event = envelope(7);
        let message = encoder.message(&event, "t");
        assert_eq!(message.headers.len(), 1);
        let value = Bytes::copy_from_slice(message.value);
        assert!(value.starts_with(b"{") && value.ends_with(b"}"));
        let headers = message.headers.iter();
        let read = from_message(headers.map(|(name, text)| (name, Some(text))), Some(&value));
        assert_eq!(read.unwrap().stream, Some(event.stream));
    }

    #[test]
    fn the_application_is_asked_once_a_type() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let config = KafkaConfig::new(["a:1"]).topics(move |of| {
            counted.fetch_add(1, Ordering::Relaxed);
            format!("all {of}")
        });
        let mut encoder = Encoder::new(&config, Uuid::nil(), &[]);
        for _ in 0..3 {
            let refused = encoder.topic("Bank").unwrap_err();
            assert!(refused.contains("all Bank"), "{refused}");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
