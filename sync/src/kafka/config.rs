//! How the log is published to Kafka.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use tidelog_backends::machine;
use tidelog_core::{Error, Limits, Secret};

use crate::kafka::connection::Connection;
use crate::kafka::names::TopicNames;
use crate::kafka::settings::Role;
#[cfg(feature = "kafka-tls")]
use crate::kafka::tls::{KafkaTls, Scram};
use crate::listeners::StartAt;

/// What a message may take beside its payload: metadata, as JSON and as what travels beside it, and the
/// other headers.
const METADATA: usize = 16 << 10;
const BESIDE_PAYLOAD: usize = 7 * METADATA + (8 << 10);

/// How a Kafka cluster is reached, and what is published there how.
///
/// ```
/// use tidelog::{KafkaConfig, Secret};
/// let config = KafkaConfig::new(["kafka1:9092", "kafka2:9092"])
///     .topic_prefix("shop.")
///     .user("till", Secret::new("correct horse"))
///     .set("compression.type", "zstd");
/// assert!(!format!("{config:?}").contains("horse"));
/// ```
///
/// Nothing is checked before the store is opened: what cannot be is answered then, as
/// [`Error::InvalidInput`].
#[derive(Clone)]
pub struct KafkaConfig {
    pub(crate) connection: Connection,
    pub(crate) names: TopicNames,
    pub(crate) is_structured: bool,
    pub(crate) name: Option<Box<str>>,
    pub(crate) start: StartAt,
    pub(crate) options: PublishingOptions,
}

impl KafkaConfig {
    /// Reaches the cluster by these brokers, each `host:port`. One that answers is enough: the others
    /// are learnt from it.
    pub fn new(brokers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            connection: Connection::new(brokers),
            names: TopicNames::default(),
            is_structured: false,
            name: None,
            start: StartAt::Beginning,
            options: PublishingOptions::default(),
        }
    }

    /// What the names of topics begin with, `tidelog.` unless set: at most 57 ASCII letters, digits and
    /// any of `.`, `_`, `-`. Behind it stands the aggregate type, with `_` and two hexadecimal digits
    /// for every byte that is no ASCII letter, digit or `-`: `tidelog.BankAccount`, and
    /// `tidelog.Konto_2eGr_c3_b6_c3_9fe` for `Konto.Größe`.
    pub fn topic_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.names.prefix = prefix.into();
        self
    }

    /// Names the topic of each aggregate type by itself, instead of prefix and type. Several types may
    /// share one.
    ///
    /// A name that Kafka does not take, or that is ours, parks the streams of its type. Another function
    /// than in the run before moves streams to other topics: consumers of both may see them out of
    /// order.
    pub fn topics(mut self, name: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        self.names.chosen = Some(Arc::new(name));
        self
    }

    /// Publishes events whole, as JSON by CloudEvents' structured mode; by its binary mode unless
    /// set, in which a payload goes as it is and its attributes are headers.
    pub fn structured(mut self) -> Self {
        self.is_structured = true;
        self
    }

    /// The topic in which stores note how far they are, when there is no replica to do that;
    /// `_origins` behind the prefix unless set.
    pub fn origins_topic(mut self, name: impl Into<String>) -> Self {
        self.names.origins = Some(name.into());
        self
    }

    /// What this store calls itself there, for people; the machine's name unless set.
    pub fn name(mut self, name: impl Into<Box<str>>) -> Self {
        self.name = Some(name.into());
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
    /// name: acknowledgements, idempotence, time-outs of messages, partitioner, transactions, bounds of
    /// its queue. Values of passwords and private keys are hidden.
    ///
    /// Set here unless you do: `compression.type` lz4, `linger.ms` 0, `batch.size` 512 KiB,
    /// `batch.num.messages` 2,000, `message.max.bytes` 1,000,000, `request.timeout.ms` 20,000,
    /// `socket.timeout.ms` 30,000, `socket.keepalive.enable`, `reconnect.backoff.max.ms` 5,000,
    /// `topic.metadata.refresh.interval.ms` 30,000, `topic.metadata.propagation.max.ms` 5,000.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.connection.set(name, value);
        self
    }

    /// Where publishing begins when this log was never published; with its first event unless set.
    pub fn start(mut self, start: StartAt) -> Self {
        self.start = start;
        self
    }

    /// How much is under way at once, and the like.
    pub fn options(mut self, options: PublishingOptions) -> Self {
        self.options = options;
        self
    }

    /// Whether all of it can be; asks nobody.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.names.check()?;
        self.connection.check(Role::Publisher)?;
        self.connection.check(Role::Transactional)
    }

    /// The producer of events.
    pub(crate) fn publisher(&self) -> Result<ClientConfig, Error> {
        let mut config = self.connection.client(Role::Publisher)?;
        let options = &self.options;
        // A second line of defence: it counts payloads alone, and the sink all that a message takes.
        let kbytes = options.window_bytes.saturating_mul(2).div_ceil(1 << 10);
        config.set(
            "queue.buffering.max.kbytes",
            kbytes.min(i32::MAX as usize).to_string(),
        );
        let messages = options.window_records.saturating_add(1_024);
        config.set(
            "queue.buffering.max.messages",
            messages.min(i32::MAX as usize).to_string(),
        );
        self.named(&mut config);
        Ok(config)
    }

    /// The producer of handshake records of one origin.
    pub(crate) fn marker(&self, origin: uuid::Uuid) -> Result<ClientConfig, Error> {
        let mut config = self.connection.client(Role::Transactional)?;
        config.set("transactional.id", format!("tidelog-{origin}"));
        self.named(&mut config);
        Ok(config)
    }

    /// What reads handshake records, and asks for topics and offsets.
    pub(crate) fn reader(&self) -> Result<ClientConfig, Error> {
        let mut config = self.connection.client(Role::Reader)?;
        config.set("enable.partition.eof", "true");
        self.named(&mut config);
        Ok(config)
    }

    /// What makes topics.
    pub(crate) fn admin(&self) -> Result<ClientConfig, Error> {
        let mut config = self.connection.client(Role::Admin)?;
        self.named(&mut config);
        Ok(config)
    }

    fn named(&self, config: &mut ClientConfig) {
        if config.get("client.id").is_none() {
            let name = match &self.name {
                Some(name) => name.to_string(),
                None => machine::host_name(),
            };
            config.set("client.id", format!("tidelog/{name}"));
        }
    }

    /// The same limits, with no event in them that could not be published as a message.
    pub(crate) fn limited(&self, limits: Limits) -> Limits {
        let most = self.connection.message_max_bytes();
        let most = most.saturating_sub(BESIDE_PAYLOAD);
        // Base64 makes four bytes of three.
        let most = if self.is_structured {
            most / 4 * 3
        } else {
            most
        };
        Limits {
            payload_bytes: limits.payload_bytes.min(most),
            metadata_bytes: limits.metadata_bytes.min(METADATA),
            ..limits
        }
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("connection", &self.connection)
            .field("names", &self.names)
            .field("is_structured", &self.is_structured)
            .field("name", &self.name)
            .field("start", &self.start)
            .field("options", &self.options)
            .finish()
    }
}

/// How a log is published; the defaults are meant to be kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PublishingOptions {
    pub(crate) window_bytes: usize,
    pub(crate) window_records: usize,
    pub(crate) overlap: u64,
    pub(crate) linger: Duration,
    pub(crate) probe_every: Duration,
}

impl Default for PublishingOptions {
    fn default() -> Self {
        Self {
            window_bytes: 8 << 20,
            window_records: 32_768,
            overlap: 2_000,
            linger: Duration::from_millis(2),
            probe_every: Duration::from_secs(300),
        }
    }
}

impl PublishingOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Most bytes that are read from the log and not settled; 8 MiB unless set, at least 64 KiB. A
    /// larger append is taken alone. What librdkafka holds of it comes on top, some 16 MiB.
    pub fn window_bytes(mut self, bytes: usize) -> Self {
        self.window_bytes = bytes.max(64 << 10);
        self
    }

    /// Most events of it; 32,768 unless set, at least 1.
    pub fn window_records(mut self, records: usize) -> Self {
        self.window_records = records.max(1);
        self
    }

    /// How many records before the place where it stood are published again when brokers have lost
    /// what they acknowledged; 2,000 unless set. A loss that others have written over before anybody
    /// looked is not noticed.
    pub fn overlap(mut self, records: u64) -> Self {
        self.overlap = records;
        self
    }

    /// How long it waits for more before it reads what was appended; 2 ms unless set.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// How often it is looked, while nothing is published, whether topics still have what they had; 5
    /// minutes unless set, at least 100 ms.
    pub fn probe_every(mut self, every: Duration) -> Self {
        self.probe_every = every.max(Duration::from_millis(100));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> KafkaConfig {
        KafkaConfig::new(["127.0.0.1:1"])
    }

    #[test]
    fn what_the_producer_is_made_with_is_what_guarantees_need() {
        let config = config()
            .set("queue.buffering.max.ms", "7")
            .set("fetch.wait.max.ms", "5")
            .name("till 3")
            .options(
                PublishingOptions::new()
                    .window_bytes(1 << 20)
                    .window_records(10),
            );
        let native = config.publisher().unwrap().create_native_config().unwrap();
        for (name, value) in [
            ("enable.idempotence", "true"),
            ("request.required.acks", "-1"),
            ("message.timeout.ms", "0"),
            ("message.send.max.retries", "2147483647"),
            ("max.in.flight.requests.per.connection", "5"),
            ("enable.gapless.guarantee", "false"),
            ("partitioner", "murmur2_random"),
            ("queuing.strategy", "fifo"),
            ("allow.auto.create.topics", "false"),
            ("queue.buffering.max.kbytes", "2048"),
            ("queue.buffering.max.messages", "1034"),
            ("linger.ms", "7"),
            ("compression.codec", "lz4"),
            ("batch.size", "524288"),
            ("batch.num.messages", "2000"),
            ("message.max.bytes", "1000000"),
            ("topic.metadata.propagation.max.ms", "5000"),
            ("client.id", "tidelog/till 3"),
        ] {
            assert_eq!(native.get(name).as_deref(), Ok(value), "{name}");
        }
        assert!(
            !native
                .get("transactional.id")
                .is_ok_and(|id| !id.is_empty())
        );
    }

    #[test]
    fn a_setting_that_breaks_a_guarantee_is_refused_by_name_by_any_of_its_names() {
        for name in [
            "acks",
            "request.required.acks",
            "delivery.timeout.ms",
            "bootstrap.servers",
        ] {
            let refused = config().set(name, "1").check().unwrap_err();
            assert!(
                refused.to_string().contains(&format!("{name:?}")),
                "{refused}"
            );
        }
        let twice = config()
            .set("linger.ms", "1")
            .set("queue.buffering.max.ms", "2");
        let refused = twice.check().unwrap_err().to_string();
        assert!(refused.contains("the same as"), "{refused}");
    }

    #[test]
    fn what_librdkafka_refuses_is_answered_before_anything_is_opened() {
        for (name, value, reason) in [
            ("no.such.thing", "1", "no.such.thing"),
            ("linger.ms", "soon", "linger.ms"),
            ("compression.type", "rar", "rar"),
        ] {
            let refused = config().set(name, value).check().unwrap_err().to_string();
            assert!(refused.contains(reason), "{refused}");
        }
        assert!(config().set("linger.ms", "3").check().is_ok());
        assert!(KafkaConfig::new(Vec::<String>::new()).check().is_err());
        assert!(KafkaConfig::new([" "]).check().is_err());
        assert!(config().topic_prefix("ä").check().is_err());
    }

    #[cfg(not(feature = "kafka-tls"))]
    #[test]
    fn tls_without_its_feature_names_the_feature() {
        for (name, value) in [
            ("security.protocol", "SSL"),
            ("sasl.mechanism", "SCRAM-SHA-256"),
        ] {
            let config = config().user("till", "pass").set(name, value);
            let refused = config.check().unwrap_err().to_string();
            assert!(
                refused.contains("build with feature kafka-tls"),
                "{refused}"
            );
        }
    }

    #[test]
    fn no_secret_is_shown_by_a_configuration_or_its_refusals() {
        let config = config()
            .user("till", "hunter2")
            .set("ssl.key.pem", "hunter3")
            .set("ssl.keystore.password", "hunter4")
            .set("sasl.password", "hunter5\0");
        assert!(!format!("{config:?} {config:#?}").contains("hunter"));
        let refused = config.check().unwrap_err();
        assert!(
            !format!("{refused} {refused:?}").contains("hunter"),
            "{refused}"
        );
        let scrubbed = config
            .connection
            .secrets()
            .scrub("at hunter2, hunter3hunter4");
        assert!(!scrubbed.contains("hunter"), "{scrubbed}");
    }

    #[test]
    fn what_is_appended_can_be_published() {
        let limits = config().limited(Limits::default());
        assert_eq!(limits.metadata_bytes, 16 << 10);
        assert!(limits.payload_bytes + BESIDE_PAYLOAD <= 1_000_000);
        let structured = config().structured().limited(Limits::default());
        assert!(structured.payload_bytes.div_ceil(3) * 4 + BESIDE_PAYLOAD <= 1_000_000);
        let raised = config()
            .set("message.max.bytes", "4000000")
            .limited(Limits::default());
        assert_eq!(raised.payload_bytes, Limits::default().payload_bytes);
    }
}
