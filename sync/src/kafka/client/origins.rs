//! Handshake records: read to the end, and written under a fence that Kafka keeps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};
use tidelog_core::Error;
use uuid::Uuid;

use super::asking::{Asked, passing};
use super::origin_record;
use super::outcome;
use crate::kafka::broker::{BrokerError, Cluster, Offsets, OriginRecord, Place};
use crate::kafka::config::KafkaConfig;
use crate::kafka::voice::{Clients, Since, Voice};

/// How long the coordinator of transactions may take.
const TRANSACTION: Duration = Duration::from_secs(30);
/// Most of what a client had to say before it is asked anew; each look takes one of it.
const STALE: usize = 100;
/// How often a read may hear nothing, for so long each time; how many records there are is no matter.
const READ_STEPS: usize = 300;
const READ_STEP: Duration = Duration::from_millis(100);

/// The clients that read and write handshake records, each made when it is needed.
pub(super) struct Origins {
    config: Arc<KafkaConfig>,
    voice: Arc<Voice>,
    topic: String,
    /// Is asked for topics and offsets. What others have not committed yet ends nothing for it: messages
    /// that are acknowledged may stand behind that.
    looker: Option<BaseConsumer<Clients>>,
    /// Reads records that are committed.
    reader: Option<BaseConsumer<Clients>>,
    marker: Option<(Uuid, BaseProducer<Clients>)>,
}

impl Origins {
    pub(super) fn new(config: Arc<KafkaConfig>, voice: Arc<Voice>) -> Self {
        let topic = config.names.origins();
        Self {
            config,
            voice,
            topic,
            looker: None,
            reader: None,
            marker: None,
        }
    }

    /// Lets clients say what they have to say.
    pub(super) fn listen(&self) {
        if let Some((_, marker)) = &self.marker {
            marker.poll(Duration::from_millis(10));
        }
        for client in [&self.looker, &self.reader].into_iter().flatten() {
            hear(client);
        }
    }

    /// Asks by a client of its own.
    pub(super) fn cluster(&mut self, names: &[Box<str>]) -> Result<Cluster, BrokerError> {
        let voice = Arc::clone(&self.voice);
        asked(self.looker()?, &voice, |asked| asked.cluster(names))
    }

    /// The same of offsets.
    pub(super) fn offsets(&mut self, places: &[Place]) -> Result<Vec<Offsets>, BrokerError> {
        let voice = Arc::clone(&self.voice);
        asked(self.looker()?, &voice, |asked| Ok(asked.offsets(places)))
    }

    fn looker(&mut self) -> Result<&BaseConsumer<Clients>, BrokerError> {
        let looker = match self.looker.take() {
            Some(looker) => looker,
            None => self.made(&[("isolation.level", "read_uncommitted")])?,
        };
        Ok(self.looker.insert(looker))
    }

    fn reader(&mut self) -> Result<&BaseConsumer<Clients>, BrokerError> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.made(&[])?,
        };
        Ok(self.reader.insert(reader))
    }

    fn made(&self, settings: &[(&str, &str)]) -> Result<BaseConsumer<Clients>, BrokerError> {
        let mut config = self.config.reader().map_err(BrokerError::Passing)?;
        // Places are assigned by hand, which librdkafka wants a group for; none is joined.
        config.set("group.id", "tidelog-reader");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let made = config.create_with_context(Clients(Arc::clone(&self.voice)));
        made.map_err(|error| self.not_made(&error))
    }

    fn not_made(&self, error: &KafkaError) -> BrokerError {
        BrokerError::Denied(self.config.connection.refused(error).to_string().into())
    }

    /// The newest record of `origin` that is committed.
    pub(super) fn record(&mut self, origin: Uuid) -> Result<Option<OriginRecord>, BrokerError> {
        let (voice, topic) = (Arc::clone(&self.voice), self.topic.clone());
        let reader = self.reader()?;
        let found = read(reader, &topic, origin, &voice);
        let done = reader.unassign();
        if found.is_err() || done.is_err() {
            self.reader = None;
        }
        let Some(newest) = found? else {
            return Ok(None);
        };
        let record = origin_record::decode(&newest).map_err(|reason| {
            let reason = format!("the record of origin {origin} in topic {topic}: {reason}");
            BrokerError::Denied(reason.into())
        })?;
        Ok(Some(record))
    }

    /// Takes the fence of `origin`; an open transaction of whoever had it is aborted.
    pub(super) fn fence(&mut self, origin: Uuid) -> Result<(), BrokerError> {
        self.marker = None;
        let config = self.config.marker(origin).map_err(BrokerError::Passing)?;
        let made = config.create_with_context(Clients(Arc::clone(&self.voice)));
        let marker: BaseProducer<Clients> = made.map_err(|error| self.not_made(&error))?;
        let since = self.voice.since();
        let fenced = marker.init_transactions(TRANSACTION);
        marker.poll(Duration::from_millis(10));
        let action = "take the fence of its origin";
        fenced.map_err(|error| passing(&error, action, &self.voice, since))?;
        self.voice.works();
        self.marker = Some((origin, marker));
        Ok(())
    }

    /// Writes a record under the fence taken last. Whatever the outcome is not known of gives the fence
    /// up: it is taken anew.
    pub(super) fn mark(&mut self, record: &OriginRecord) -> Result<(), BrokerError> {
        let held = self.marker.take();
        let Some((origin, marker)) = held.filter(|(origin, _)| *origin == record.origin) else {
            return Err(BrokerError::Fenced);
        };
        // What it had to say before says nothing of what is asked now.
        for _ in 0..STALE {
            marker.poll(Duration::ZERO);
        }
        let since = self.voice.since();
        let asked = Asked {
            client: marker.client(),
            voice: &self.voice,
            listen: &|| marker.poll(Duration::from_millis(10)),
            since,
        };
        let there = asked.cluster(&[self.topic.as_str().into()]);
        match there.map(|there| there.topics == [None]) {
            Ok(false) => {}
            Ok(true) => {
                self.marker = Some((origin, marker));
                return Err(BrokerError::NoTopic(self.topic.as_str().into()));
            }
            Err(error) => {
                self.marker = Some((origin, marker));
                return Err(error);
            }
        }
        match write(&marker, &self.topic, record) {
            Ok(()) => {
                self.marker = Some((origin, marker));
                Ok(())
            }
            Err(error) if error.rdkafka_error_code().is_some_and(outcome::is_fenced) => {
                Err(BrokerError::Fenced)
            }
            Err(error) => Err(passing(&error, "note how far it is", &self.voice, since)),
        }
    }
}

fn asked<T>(
    reader: &BaseConsumer<Clients>,
    voice: &Voice,
    ask: impl FnOnce(&Asked<'_, Clients>) -> Result<T, BrokerError>,
) -> Result<T, BrokerError> {
    ask(&Asked {
        client: reader.client(),
        voice,
        listen: &|| hear(reader),
        since: now(reader, voice),
    })
}

/// When a client is asked that has said what it had to say before.
fn now(reader: &BaseConsumer<Clients>, voice: &Voice) -> Since {
    for _ in 0..STALE {
        reader.poll(Duration::ZERO);
    }
    voice.since()
}

/// Takes what a client has to say; one without places has nothing else. Each line of its log ends a wait
/// of nothing, so it is waited a moment.
fn hear(reader: &BaseConsumer<Clients>) {
    while reader.poll(Duration::from_millis(10)).is_some() {}
}

/// The newest committed value of `origin` in `topic`, up to its end.
fn read(
    reader: &BaseConsumer<Clients>,
    topic: &str,
    origin: Uuid,
    voice: &Voice,
) -> Result<Option<Vec<u8>>, BrokerError> {
    let action = "read the record of its origin";
    let since = now(reader, voice);
    let there = asked(reader, voice, |asked| asked.cluster(&[topic.into()]))?;
    let Some(Some(partitions)) = there.topics.first().copied() else {
        return Err(BrokerError::NoTopic(topic.into()));
    };
    let mut places = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
        places
            .add_partition_offset(topic, partition, Offset::Beginning)
            .map_err(|error| passing(&error, action, voice, since))?;
    }
    reader
        .assign(&places)
        .map_err(|error| passing(&error, action, voice, since))?;
    let key = origin.to_string();
    let (mut ended, mut newest) = (BTreeSet::new(), None);
    let mut steps = 0;
    while steps < READ_STEPS {
        match reader.poll(READ_STEP) {
            Some(Ok(message)) => {
                if message.key() == Some(key.as_bytes()) {
                    newest = message.payload().map(<[u8]>::to_vec);
                }
            }
            // One that goes on may end more than once.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
                if ended.len() >= partitions as usize {
                    return Ok(newest);
                }
            }
            Some(Err(error)) if error.rdkafka_error_code().is_some_and(is_of_the_place) => {
                return Err(passing(&error, action, voice, since));
            }
            // Others are told beside it, and pass.
            Some(Err(_)) | None => steps += 1,
        }
    }
    let late = Error::Unreachable {
        server: voice.server().into(),
        action: action.into(),
        reason: "its end does not come".into(),
    };
    Err(BrokerError::Passing(late))
}

/// Errors that end a read.
fn is_of_the_place(code: Code) -> bool {
    outcome::is_no_topic(code) || outcome::is_denied(code)
}

/// One transaction.
fn write(
    marker: &BaseProducer<Clients>,
    topic: &str,
    record: &OriginRecord,
) -> Result<(), KafkaError> {
    let (key, value) = (record.origin.to_string(), origin_record::encode(record));
    marker.begin_transaction()?;
    let message = BaseRecord::to(topic).key(&key).payload(&value);
    marker.send(message).map_err(|(error, _)| error)?;
    marker.commit_transaction(TRANSACTION)
}
