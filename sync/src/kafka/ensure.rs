//! Topics are made on purpose, and by nothing else.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::types::RDKafkaErrorCode as Code;
use tidelog_core::Error;

use crate::kafka::broker::BrokerError;
use crate::kafka::client::asking::{ANSWER, Asked, passing};
use crate::kafka::config::KafkaConfig;
use crate::kafka::connection::Connection;
use crate::kafka::voice::{Clients, Since, Voice};

/// How long brokers may take to make topics.
const MAKING: Duration = Duration::from_secs(30);
/// How often it is looked, this long apart, whether a topic that was made is there.
const LOOKS: u32 = 300;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

const TIMESTAMPS: &str = "message.timestamp.type";
const CLEANUP: &str = "cleanup.policy";

/// How topics are made.
///
/// ```
/// use tidelog::TopicSpec;
/// let spec = TopicSpec::new(12, 3).set("retention.ms", "-1");
/// # drop(spec);
/// ```
///
/// Unless it says otherwise, messages get the broker's time (`message.timestamp.type=LogAppendTime`): the
/// sender's would let retention delete what tells of long ago, and keep out a sender whose clock is ahead.
/// Do not compact topics of events: of a compacted one only the newest event of each stream is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    partitions: i32,
    replication: i32,
    settings: Vec<(String, String)>,
}

impl TopicSpec {
    /// With so many partitions, each on so many brokers.
    pub fn new(partitions: u32, replication: u32) -> Self {
        Self {
            partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
            replication: i32::try_from(replication).unwrap_or(i32::MAX),
            settings: Vec::new(),
        }
    }

    /// With a setting of Kafka's topics, as `retention.ms`.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value.into()));
        self
    }

    pub(crate) fn replication(&self) -> u32 {
        self.replication.unsigned_abs()
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.settings.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The same unless it says otherwise.
    pub(crate) fn or_set(self, name: &str, value: &str) -> Self {
        if self.get(name).is_some() {
            return self;
        }
        self.set(name, value)
    }
}

/// What has become of topics that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicsReport {
    /// Were made.
    pub created: Vec<Box<str>>,
    /// Were there already.
    pub found: Vec<Box<str>>,
    /// What of those is not as was asked for. Nothing of it was changed.
    pub differs: Vec<TopicDiffers>,
}

/// Something about a topic that was there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDiffers {
    /// The topic.
    pub topic: Box<str>,
    /// What it has, and what was asked for.
    pub what: Box<str>,
}

impl KafkaConfig {
    /// Makes the topics of these aggregate types that are not there, and the one in which stores note how
    /// far they are, and waits until they are. What is there already is looked at and left as it is: in
    /// particular no partitions are added, which would move streams.
    ///
    /// For deployments; a program that has a store calls the same of `Publishing`. May be called any
    /// number of times. Dropping the future does not stop what is asked of the brokers by then.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::Unreachable`], [`Error::ServerRefused`] when a broker does not make
    /// one: others may have been made.
    pub async fn ensure_topics(
        &self,
        types: &[&str],
        spec: TopicSpec,
    ) -> Result<TopicsReport, Error> {
        ensure(self.clone(), types, spec, true).await
    }
}

/// The same; `is_alone` is whether there is no replica, so that handshake records have to go to Kafka.
pub(crate) async fn ensure(
    config: KafkaConfig,
    types: &[&str],
    spec: TopicSpec,
    is_alone: bool,
) -> Result<TopicsReport, Error> {
    config.check()?;
    let mut wanted: Vec<Wanted> = Vec::new();
    let spec = spec.or_set(TIMESTAMPS, "LogAppendTime");
    if spec.partitions < 1 || spec.replication < 1 {
        let given = format!(
            "{} partitions, {} copies",
            spec.partitions, spec.replication
        );
        return Err(Error::invalid(
            "topic spec",
            given,
            "there is one of each at least",
        ));
    }
    for aggregate_type in types {
        let name = config.names.topic(aggregate_type);
        let name = name.map_err(|why| Error::invalid("aggregate type", aggregate_type, why))?;
        // Types may share one.
        if !wanted.iter().any(|known| known.name == name) {
            let spec = spec.clone();
            wanted.push(Wanted { name, spec });
        }
    }
    if is_alone {
        let spec = TopicSpec::new(1, spec.replication.unsigned_abs())
            .set(CLEANUP, "compact")
            .set("segment.ms", "3600000")
            .set("min.cleanable.dirty.ratio", "0.1");
        let name = config.names.origins().into();
        wanted.push(Wanted { name, spec });
    }
    let client = config.admin()?;
    make(config.connection, client, wanted).await
}

/// Makes what is missing of these, by an administrator's `client`.
pub(crate) async fn make(
    connection: Connection,
    client: ClientConfig,
    wanted: Vec<Wanted>,
) -> Result<TopicsReport, Error> {
    let (reply, answer) = oneshot::async_channel();
    let work = move || {
        let maker = Maker::new(&connection, &client);
        let _ = reply.send(maker.and_then(|maker| maker.make(&wanted)));
    };
    thread::Builder::new()
        .name("tidelog-kafka-topics".to_owned())
        .spawn(work)
        .map_err(|error| Error::io("start a thread for", "kafka", error))?;
    answer.await.unwrap_or(Err(Error::Closed))
}

/// A topic that is to be there.
pub(crate) struct Wanted {
    pub(crate) name: Box<str>,
    pub(crate) spec: TopicSpec,
}

/// Asks and makes, waiting for the network.
struct Maker {
    voice: Arc<Voice>,
    /// Says why there is no answer, which the other one keeps to itself.
    client: BaseProducer<Clients>,
    admin: AdminClient<Clients>,
    /// When it was made.
    since: Since,
}

impl Maker {
    fn new(connection: &Connection, client: &ClientConfig) -> Result<Self, Error> {
        let voice = Arc::new(Voice::new(connection));
        let refused = |error| connection.refused(&error);
        let heard = || Clients(Arc::clone(&voice));
        Ok(Self {
            client: client.create_with_context(heard()).map_err(refused)?,
            admin: client.create_with_context(heard()).map_err(refused)?,
            since: voice.since(),
            voice,
        })
    }

    fn make(&self, wanted: &[Wanted]) -> Result<TopicsReport, Error> {
        let mut report = TopicsReport::default();
        let there = self.partitions(wanted)?;
        let found: Vec<_> = wanted
            .iter()
            .zip(&there)
            .filter_map(|(wanted, there)| there.map(|_| wanted))
            .collect();
        let missing: Vec<_> = wanted
            .iter()
            .zip(&there)
            .filter_map(|(wanted, there)| there.is_none().then_some(wanted))
            .collect();
        self.create(&missing)?;
        self.wait_for(&missing)?;
        self.compare(&found, &mut report)?;
        let name = |topic: &Wanted| topic.name.clone();
        report.found = found.into_iter().map(name).collect();
        report.created = missing.into_iter().map(name).collect();
        Ok(report)
    }

    /// How many partitions each has; `None` when it is not there.
    fn partitions(&self, wanted: &[Wanted]) -> Result<Vec<Option<u32>>, Error> {
        let names: Vec<_> = wanted.iter().map(|wanted| wanted.name.clone()).collect();
        let asked = Asked {
            client: self.client.client(),
            voice: &self.voice,
            listen: &|| self.client.poll(Duration::from_millis(10)),
            since: self.since,
        };
        let cluster = asked.cluster(&names);
        Ok(cluster
            .map_err(|error| self.answer("ask for topics", error))?
            .topics)
    }

    fn create(&self, missing: &[&Wanted]) -> Result<(), Error> {
        if missing.is_empty() {
            return Ok(());
        }
        let topics: Vec<_> = missing
            .iter()
            .map(|Wanted { name, spec }| {
                let copies = TopicReplication::Fixed(spec.replication);
                let topic = NewTopic::new(name, spec.partitions, copies);
                let settings = spec.settings.iter();
                settings.fold(topic, |topic, (name, value)| topic.set(name, value))
            })
            .collect();
        let made = pollster::block_on(self.admin.create_topics(&topics, &options()));
        let made = made.map_err(|error| {
            self.answer(
                "make topics",
                passing(&error, "make topics", &self.voice, self.since),
            )
        })?;
        for answered in made {
            match answered {
                // Somebody else was faster.
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    return Err(self.refused(&format!("make topic {name}"), code.to_string()));
                }
            }
        }
        Ok(())
    }

    /// Until every broker that is asked knows of them.
    fn wait_for(&self, made: &[&Wanted]) -> Result<(), Error> {
        if made.is_empty() {
            return Ok(());
        }
        for _ in 0..LOOKS {
            let all = self.client.client().fetch_metadata(None, ANSWER);
            let all = all.map_err(|error| {
                self.answer(
                    "ask for topics",
                    passing(&error, "ask for topics", &self.voice, self.since),
                )
            })?;
            let is_led = |topic: &MetadataTopic| {
                let partitions = topic.partitions();
                !partitions.is_empty() && partitions.iter().all(|part| part.leader() >= 0)
            };
            let is_there = |wanted: &&Wanted| {
                let topics = all.topics().iter();
                let mut named = topics.filter(|topic| topic.name() == &*wanted.name);
                named.any(is_led)
            };
            if made.iter().all(is_there) {
                return Ok(());
            }
            thread::sleep(BETWEEN_LOOKS);
        }
        let reason = "they were made, and do not appear";
        Err(self.voice.unreachable("ask for topics", reason))
    }

    /// Looks at topics that were there.
    fn compare(&self, found: &[&Wanted], report: &mut TopicsReport) -> Result<(), Error> {
        if found.is_empty() {
            return Ok(());
        }
        let mut differs = |topic: &Wanted, what: String| {
            report.differs.push(TopicDiffers {
                topic: topic.name.clone(),
                what: what.into(),
            });
        };
        for topic in found {
            let (partitions, copies) = self.shape(topic)?;
            let spec = &topic.spec;
            if partitions != spec.partitions {
                let asked = spec.partitions;
                differs(topic, format!("{partitions} partitions, {asked} asked for"));
            }
            if copies < spec.replication {
                let asked = spec.replication;
                differs(topic, format!("{copies} copies, {asked} asked for"));
            }
        }
        let names: Vec<_> = found
            .iter()
            .map(|topic| ResourceSpecifier::Topic(&topic.name))
            .collect();
        let action = "ask for settings of topics";
        let answered = pollster::block_on(self.admin.describe_configs(&names, &options()));
        let answered = answered.map_err(|error| {
            self.answer(action, passing(&error, action, &self.voice, self.since))
        })?;
        for settings in answered {
            let settings = settings.map_err(|code| self.refused(action, code.to_string()))?;
            let of = |topic: &&&Wanted| match &settings.specifier {
                OwnedResourceSpecifier::Topic(name) => **name == *topic.name,
                _ => false,
            };
            let Some(topic) = found.iter().find(of) else {
                continue;
            };
            // That events are not compacted away goes without saying.
            let spec = topic.spec.clone().or_set(CLEANUP, "delete");
            for (name, asked) in &spec.settings {
                let has = settings.get(name).and_then(|entry| entry.value.as_deref());
                if has != Some(asked) {
                    let has = has.unwrap_or("nothing");
                    differs(topic, format!("{name} is {has}, {asked} asked for"));
                }
            }
        }
        Ok(())
    }

    /// Partitions, and the copies of the one that has fewest.
    fn shape(&self, topic: &Wanted) -> Result<(i32, i32), Error> {
        let found = self
            .client
            .client()
            .fetch_metadata(Some(&topic.name), ANSWER);
        let found = found.map_err(|error| {
            self.answer(
                "ask for topics",
                passing(&error, "ask for topics", &self.voice, self.since),
            )
        })?;
        let topics = found.topics().first();
        let partitions = topics.map_or(&[][..], MetadataTopic::partitions);
        let copies = partitions.iter().map(|part| part.replicas().len()).min();
        let small = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        Ok((small(partitions.len()), small(copies.unwrap_or_default())))
    }

    fn answer(&self, action: &str, error: BrokerError) -> Error {
        match error {
            BrokerError::Passing(error) => error,
            BrokerError::Denied(reason) => self.refused(action, reason),
            BrokerError::NoTopic(topic) => self.refused(action, format!("no topic {topic}")),
            BrokerError::Fenced => self.refused(action, "fenced"),
        }
    }

    fn refused(&self, action: &str, reason: impl Into<Box<str>>) -> Error {
        Error::ServerRefused {
            server: self.voice.server().into(),
            action: action.into(),
            reason: reason.into(),
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .operation_timeout(Some(MAKING))
        .request_timeout(Some(MAKING))
}
