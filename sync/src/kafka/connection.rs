//! How the cluster is reached, by publisher and listeners alike.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaType;
use tidelog_core::{Error, Secret};

use crate::kafka::settings::{self, Role};
#[cfg(feature = "kafka-tls")]
use crate::kafka::tls::{KafkaTls, Scram};

/// Brokers, who logs in there, and settings of librdkafka that others may have.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) brokers: Vec<String>,
    user: Option<(String, Secret)>,
    #[cfg(feature = "kafka-tls")]
    pub(crate) scram: Option<Scram>,
    #[cfg(feature = "kafka-tls")]
    pub(crate) tls: Option<KafkaTls>,
    /// By the name that was given.
    set: BTreeMap<String, Value>,
}

#[derive(Clone)]
enum Value {
    Plain(String),
    Hidden(Secret),
}

impl Value {
    fn text(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Hidden(secret) => secret.expose(),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => text.fmt(f),
            Self::Hidden(secret) => secret.fmt(f),
        }
    }
}

impl Connection {
    pub(crate) fn new(brokers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            brokers: brokers.into_iter().map(Into::into).collect(),
            user: None,
            #[cfg(feature = "kafka-tls")]
            scram: None,
            #[cfg(feature = "kafka-tls")]
            tls: None,
            set: BTreeMap::new(),
        }
    }

    /// SASL, in plain text unless SCRAM is asked for.
    pub(crate) fn user(&mut self, name: impl Into<String>, password: impl Into<Secret>) {
        self.user = Some((name.into(), password.into()));
    }

    /// A setting of librdkafka; checked by [`check`](Self::check).
    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        let value = if settings::is_secret(&name) {
            Value::Hidden(Secret::new(value))
        } else {
            Value::Plain(value)
        };
        self.set.insert(name, value);
    }

    /// What was set by `name`, or one of its other names, unless it is hidden.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.set.iter().find_map(|(given, value)| {
            let is_it = settings::name(given).is_ok_and(|given| given == name);
            match value {
                Value::Plain(text) if is_it => Some(text.as_str()),
                _ => None,
            }
        })
    }

    /// Most bytes of a message with its key and headers.
    pub(crate) fn message_max_bytes(&self) -> usize {
        let set = self.get("message.max.bytes");
        set.and_then(|text| text.trim().parse().ok())
            .unwrap_or(settings::MESSAGE_MAX_BYTES)
    }

    /// Whether a client of `role` can be made; asks nobody.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for brokers that are missing, settings that are not to be had, and what
    /// librdkafka refuses.
    pub(crate) fn check(&self, role: Role) -> Result<(), Error> {
        if self.brokers.is_empty() || self.brokers.iter().any(|broker| broker.trim().is_empty()) {
            let reason = "name at least one broker, host:port";
            return Err(Error::invalid("kafka brokers", "", reason));
        }
        for (given, value) in &self.set {
            let name = settings::name(given)?;
            let other = self.set.iter().find(|(other, _)| {
                *other != given && settings::name(other).is_ok_and(|other| other == name)
            });
            if let Some((other, _)) = other {
                let reason = format!("it is the same as {other}: set one of them");
                return Err(Error::invalid("kafka setting", given, reason));
            }
            if value.text().contains('\0') {
                return Err(Error::invalid(
                    "kafka setting",
                    given,
                    "it holds a zero byte",
                ));
            }
        }
        let mut config = self.client(role)?;
        // Without it nobody is called.
        config.remove("bootstrap.servers");
        if role == Role::Member {
            config.set("group.id", "check");
        }
        if role == Role::Transactional {
            config.set("transactional.id", "check");
        }
        let native = config
            .create_native_config()
            .map_err(|e| self.refused(&e))?;
        let kind = match role {
            Role::Member | Role::Reader => RDKafkaType::RD_KAFKA_CONSUMER,
            _ => RDKafkaType::RD_KAFKA_PRODUCER,
        };
        Client::new(&config, native, kind, DefaultClientContext)
            .map(drop)
            .map_err(|error| self.refused(&error))
    }

    /// Everything that a client of `role` is made with, but what is its own: the id of a group, of
    /// transactions, the bounds of its queue.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a setting that is not to be had.
    pub(crate) fn client(&self, role: Role) -> Result<ClientConfig, Error> {
        let mut config = ClientConfig::new();
        for (name, value) in settings::defaults(role) {
            config.set(name, value);
        }
        let is_classic = self
            .get("group.protocol")
            .is_none_or(|with| with == "classic");
        if !is_classic {
            config.remove("session.timeout.ms");
        }
        for (given, value) in &self.set {
            let name = settings::name(given)?;
            if settings::concerns(role, &name) {
                config.set(name, value.text());
            }
        }
        for (name, value) in settings::fixed(role, is_classic) {
            config.set(name, value);
        }
        if role == Role::Transactional {
            for (name, value) in settings::OF_TRANSACTIONS {
                config.set(*name, *value);
            }
        }
        config.set("bootstrap.servers", self.brokers.join(","));
        self.log_in(&mut config);
        // More than that is said when it is asked for.
        config.set_log_level(match config.get("debug") {
            Some(_) => RDKafkaLogLevel::Debug,
            None => RDKafkaLogLevel::Info,
        });
        Ok(config)
    }

    fn log_in(&self, config: &mut ClientConfig) {
        let set = config.get("security.protocol").map(str::to_ascii_lowercase);
        let is_tls = set.is_some_and(|protocol| protocol.ends_with("ssl"));
        #[cfg(feature = "kafka-tls")]
        if let Some(tls) = &self.tls {
            tls.apply(config);
            config.set("security.protocol", "ssl");
        }
        #[cfg(feature = "kafka-tls")]
        let is_tls = is_tls || self.tls.is_some();
        if let Some((name, password)) = &self.user {
            config.set("sasl.username", name);
            config.set("sasl.password", password.expose());
            if config.get("sasl.mechanism").is_none() {
                config.set("sasl.mechanism", "PLAIN");
            }
            #[cfg(feature = "kafka-tls")]
            if let Some(scram) = self.scram {
                config.set("sasl.mechanism", scram.mechanism());
            }
            let protocol = if is_tls { "sasl_ssl" } else { "sasl_plaintext" };
            config.set("security.protocol", protocol);
        }
    }

    /// What no text shows.
    pub(crate) fn secrets(&self) -> Secrets {
        let mut secrets: Vec<Secret> = Vec::new();
        secrets.extend(self.user.iter().map(|(_, password)| password.clone()));
        secrets.extend(self.set.values().filter_map(|value| match value {
            Value::Hidden(secret) => Some(secret.clone()),
            Value::Plain(_) => None,
        }));
        #[cfg(feature = "kafka-tls")]
        secrets.extend(self.tls.iter().filter_map(KafkaTls::secret).cloned());
        // The longest first: one may be a part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        Secrets(secrets.into())
    }

    /// What it is called in errors and spans.
    pub(crate) fn server(&self) -> Box<str> {
        format!("kafka at {}", self.brokers.join(", ")).into()
    }

    /// A setting that librdkafka does not take.
    pub(crate) fn refused(&self, error: &KafkaError) -> Error {
        let (name, mut reason) = match error {
            KafkaError::ClientConfig(_, reason, name, _) => (name.as_str(), reason.clone()),
            KafkaError::ClientCreation(reason) => ("", reason.clone()),
            other => ("", other.to_string()),
        };
        if cfg!(not(feature = "kafka-tls")) && is_about_tls(&reason) {
            reason.push_str("; build with feature kafka-tls");
        }
        let reason = self.secrets().scrub(&reason);
        Error::invalid("kafka setting", name, reason)
    }
}

fn is_about_tls(reason: &str) -> bool {
    let reason = reason.to_ascii_lowercase();
    [
        "openssl",
        "not available at build time",
        "sasl_scram",
        "no provider",
    ]
    .into_iter()
    .any(|word| reason.contains(word))
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Connection");
        shown
            .field("brokers", &self.brokers)
            .field("user", &self.user);
        #[cfg(feature = "kafka-tls")]
        shown.field("scram", &self.scram).field("tls", &self.tls);
        shown.field("set", &self.set).finish()
    }
}

/// Blacks out every secret of a connection in texts that come from elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Secrets(Arc<[Secret]>);

impl Secrets {
    pub(crate) fn scrub(&self, text: &str) -> Box<str> {
        let scrubbed = self.0.iter().fold(None, |text_, secret| {
            let text = text_.as_deref().unwrap_or(text);
            Some(secret.scrub(text))
        });
        scrubbed.map_or_else(|| text.into(), Into::into)
    }
}
