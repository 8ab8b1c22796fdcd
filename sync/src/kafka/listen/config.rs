//! How a group is reached, and what it reads.

use std::time::Duration;

use rdkafka::ClientConfig;
use tidelog_core::{Error, Secret};

use super::dead::DeadTopics;
use crate::distributed::texts::Texts;
use crate::kafka::connection::Connection;
use crate::kafka::ensure::{TopicSpec, TopicsReport};
use crate::kafka::names::{TopicNames, legal};
use crate::kafka::settings::Role;
#[cfg(feature = "kafka-tls")]
use crate::kafka::tls::{KafkaTls, Scram};

/// Kafka's own bound of a group's name is larger; dead letters are named after it.
const MAX_GROUP: usize = 242;

/// How a Kafka cluster is reached, and what a group reads there.
///
/// ```
/// use tidelog::{KafkaListenerConfig, Secret};
/// let config = KafkaListenerConfig::new(["kafka1:9092"], "mail")
///     .topic_prefix("shop.")
///     .types(["BankAccount"]) // or .topics(["shop.BankAccount"])
///     .user("mail", Secret::new("correct horse"));
/// assert!(!format!("{config:?}").contains("horse"));
/// ```
///
/// Nothing is checked before a container is built: what cannot be is answered then, as
/// [`Error::InvalidInput`]. It may also come from a file ([`from_toml`](Self::from_toml)) or the
/// environment ([`from_env`](Self::from_env)).
#[derive(Clone, Debug)]
pub struct KafkaListenerConfig {
    pub(crate) connection: Connection,
    pub(crate) group: Box<str>,
    names: TopicNames,
    topics: Vec<Topics>,
    dead_letters: Option<Box<str>>,
    parked: Option<Box<str>>,
    name: Option<Box<str>>,
    pub(crate) hold_for: Duration,
    /// What of it was said as text.
    pub(crate) texts: Texts,
}

#[derive(Clone, Debug)]
enum Topics {
    Named(Box<str>),
    OfType(Box<str>),
    Matching(Box<str>),
}

impl KafkaListenerConfig {
    /// A member of `group`, which shares the partitions of its topics among its members, and keeps how
    /// far it is. The cluster is reached by these brokers, each `host:port`; one that answers is enough.
    pub fn new(
        brokers: impl IntoIterator<Item = impl Into<String>>,
        group: impl Into<Box<str>>,
    ) -> Self {
        Self {
            connection: Connection::new(brokers),
            group: group.into(),
            names: TopicNames::default(),
            topics: Vec::new(),
            dead_letters: None,
            parked: None,
            name: None,
            hold_for: Duration::from_secs(60),
            texts: Texts::default(),
        }
    }

    /// Reads these topics, beside what else is named.
    pub fn topics(mut self, topics: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        let named = topics.into_iter().map(|topic| Topics::Named(topic.into()));
        self.topics.extend(named);
        self
    }

    /// Reads the topics of these aggregate types, which a store publishes them to unless it names topics
    /// by itself; see [`topic_prefix`](Self::topic_prefix).
    pub fn types(mut self, types: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        let types = types.into_iter().map(|one| Topics::OfType(one.into()));
        self.topics.extend(types);
        self
    }

    /// What the names of topics of [`types`](Self::types) begin with, `tidelog.` unless set.
    pub fn topic_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.names.prefix = prefix.into();
        self
    }

    /// Reads every topic whose name matches this regular expression, which begins with `^`, also those
    /// that come later.
    pub fn topics_matching(mut self, pattern: impl Into<Box<str>>) -> Self {
        self.topics.push(Topics::Matching(pattern.into()));
        self
    }

    /// The topic to which records go that cannot be handled; the group's name and `.dead` unless set.
    pub fn dead_letters(mut self, topic: impl Into<Box<str>>) -> Self {
        self.dead_letters = Some(topic.into());
        self
    }

    /// The topic that says which keys are parked; the group's name and `.parked` unless set.
    pub fn parked_topic(mut self, topic: impl Into<Box<str>>) -> Self {
        self.parked = Some(topic.into());
        self
    }

    /// What this member calls itself, for people; `listener` unless set.
    pub fn name(mut self, name: impl Into<Box<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long an event waits for those before it in its stream that have not come
    /// ([`HandlerError::gap`](crate::HandlerError::gap)), before its key is parked; 60 s unless set.
    pub fn hold_for(mut self, hold_for: Duration) -> Self {
        self.hold_for = hold_for;
        self
    }

    /// Logs in by SASL with a name and a password, in plain text unless `scram` is set (feature
    /// `kafka-tls`).
    pub fn user(mut self, name: impl Into<String>, password: impl Into<Secret>) -> Self {
        self.connection.user(name, password);
        self
    }

    /// Proves the password of [`user`](Self::user) without sending it. Feature `kafka-tls`.
    #[cfg(feature = "kafka-tls")]
    pub fn scram(mut self, scram: Scram) -> Self {
        self.connection.scram = Some(scram);
        self
    }

    /// Speaks TLS to every broker. Feature `kafka-tls`.
    #[cfg(feature = "kafka-tls")]
    pub fn tls(mut self, tls: KafkaTls) -> Self {
        self.connection.tls = Some(tls);
        self
    }

    /// Any other setting of librdkafka, by its name there. Those that guarantees rest on are refused by
    /// name: how offsets are committed and where reading begins without them, isolation, how places are
    /// divided, the group. With `group.protocol` set to `consumer` the broker divides them (Kafka 4).
    ///
    /// Set here unless you do: `session.timeout.ms` 15,000, `queued.max.messages.kbytes` 8,192,
    /// `fetch.queue.backoff.ms` 50, `statistics.interval.ms` 2,000, `socket.timeout.ms` 30,000,
    /// `socket.keepalive.enable`, `reconnect.backoff.max.ms` 5,000.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.connection.set(name, value);
        self
    }

    /// Makes the topics of dead letters and of the parked set, where they are missing; what is there
    /// stays as it is, and the answer says where it differs. `spec` is about that of dead letters; the
    /// parked set has one partition and is compacted. Letters are kept for ever, unless somebody sets
    /// `retention.ms` of their topic: what is gone there cannot be taken in again.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::Unreachable`] when the cluster does not answer,
    /// [`Error::ServerRefused`] when it refuses.
    pub async fn ensure_topics(&self, spec: TopicSpec) -> Result<TopicsReport, Error> {
        self.check_group()?;
        let topics = self.dead_topics();
        topics.ensure(self.connection.clone(), spec).await
    }

    /// Whether all of it can be; asks nobody.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.check_group()?;
        if self.topics.is_empty() {
            let reason = "name topics by `topics`, `types` or `topics_matching`";
            return Err(Error::invalid("kafka topics", "", reason));
        }
        self.names.check()?;
        for topic in self.subscription()? {
            if !topic.starts_with('^') {
                legal(&topic).map_err(|reason| Error::invalid("kafka topic", &topic, reason))?;
            }
        }
        Ok(())
    }

    /// The same of the group alone, whatever it reads.
    pub(crate) fn check_group(&self) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::invalid("kafka group", &self.group, reason));
        if self.group.is_empty() || self.group.len() > MAX_GROUP {
            return refuse("it must have 1 to 242 bytes");
        }
        if self.group.chars().any(char::is_control) {
            return refuse("it holds control characters");
        }
        self.dead_topics().check()?;
        self.connection.check(Role::Member)
    }

    pub(crate) fn dead_topics(&self) -> DeadTopics {
        let mut topics = DeadTopics::of(&self.group);
        if let Some(letters) = &self.dead_letters {
            topics.letters.clone_from(letters);
        }
        if let Some(parked) = &self.parked {
            topics.parked.clone_from(parked);
        }
        topics
    }

    /// Names, or patterns that begin with `^`.
    pub(crate) fn subscription(&self) -> Result<Vec<String>, Error> {
        let topics = self.topics.iter().map(|topics| match topics {
            Topics::Named(name) => Ok(name.to_string()),
            Topics::OfType(of) => self
                .names
                .topic(of)
                .map(String::from)
                .map_err(|reason| Error::invalid("aggregate type", of, reason)),
            Topics::Matching(pattern) if pattern.starts_with('^') => Ok(pattern.to_string()),
            Topics::Matching(pattern) => {
                let reason = "a pattern begins with '^'";
                Err(Error::invalid("kafka topics", pattern, reason))
            }
        });
        topics.collect()
    }

    /// The member of the group.
    pub(crate) fn member(&self) -> Result<ClientConfig, Error> {
        let mut config = self.connection.client(Role::Member)?;
        config.set("group.id", &*self.group);
        self.named(&mut config);
        if config.get("statistics.interval.ms").is_none() {
            // They say where places end.
            config.set("statistics.interval.ms", "2000");
        }
        Ok(config)
    }

    /// What asks for places and puts offsets down without being a member.
    pub(crate) fn reader(&self) -> Result<ClientConfig, Error> {
        let mut config = self.connection.client(Role::Reader)?;
        config.set("group.id", &*self.group);
        self.named(&mut config);
        Ok(config)
    }

    fn named(&self, config: &mut ClientConfig) {
        if config.get("client.id").is_none() {
            let name = self.name.as_deref().unwrap_or("listener");
            config.set("client.id", format!("tidelog/{name}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> KafkaListenerConfig {
        KafkaListenerConfig::new(["127.0.0.1:1"], "mail")
    }

    #[test]
    fn topics_are_named_by_themselves_by_types_and_by_patterns() {
        let config = config()
            .topics(["others"])
            .topic_prefix("shop.")
            .types(["Konto.Größe"])
            .topics_matching("^x\\..*");
        assert!(config.check().is_ok());
        assert_eq!(
            config.subscription().unwrap(),
            ["others", "shop.Konto_2eGr_c3_b6_c3_9fe", "^x\\..*"]
        );
    }

    #[test]
    fn what_cannot_be_is_refused_by_what_it_is() {
        let refused = |config: KafkaListenerConfig| config.check().unwrap_err().to_string();
        assert!(refused(config()).contains("kafka topics"));
        assert!(refused(config().topics(["a b"])).contains("a b"));
        assert!(refused(config().topics_matching("x")).contains("begins with '^'"));
        assert!(refused(KafkaListenerConfig::new(["h:1"], "").topics(["t"])).contains("group"));
        let same = config().topics(["t"]).dead_letters("x").parked_topic("x");
        assert!(refused(same).contains("dead-letter"));
        for name in [
            "enable.auto.commit",
            "auto.offset.reset",
            "isolation.level",
            "partition.assignment.strategy",
            "group.id",
        ] {
            let refused = refused(config().topics(["t"]).set(name, "x"));
            assert!(refused.contains(name), "{refused}");
        }
    }

    #[test]
    fn a_member_commits_nothing_by_itself_and_skips_nothing() {
        let config = config().topics(["t"]).set("session.timeout.ms", "9000");
        let native = config.member().unwrap().create_native_config().unwrap();
        for (name, value) in [
            ("group.id", "mail"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "smallest"),
            ("isolation.level", "read_committed"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("allow.auto.create.topics", "false"),
            ("session.timeout.ms", "9000"),
            ("client.id", "tidelog/listener"),
        ] {
            assert_eq!(native.get(name).as_deref(), Ok(value), "{name}");
        }
    }
}
