//! What a listener over Kafka is, from text.

use std::env;
use std::path::Path;

use tidelog_core::Error;

use super::env as variables;
use super::texts::Texts;
use super::toml;
use crate::kafka::KafkaListenerConfig;

impl KafkaListenerConfig {
    /// What the section `[listener]` of `text` says, whose names, defaults and meaning the README
    /// lists; other sections may be there, as for
    /// [`DistributedConfig::from_toml`](crate::DistributedConfig::from_toml), and are passed over.
    ///
    /// ```
    /// use tidelog::KafkaListenerConfig;
    /// let text = r#"
    ///     [listener]
    ///     brokers = ["kafka1:9092", "kafka2:9092"]
    ///     group = "mail"
    ///     topic_prefix = "shop."
    ///     types = ["Till"]
    ///
    ///     [listener.settings]
    ///     "session.timeout.ms" = 30000
    /// "#;
    /// let config = KafkaListenerConfig::from_toml(text)?;
    /// # drop(config);
    /// # Ok::<(), tidelog::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for what is no TOML, for every name that is not known, and without
    /// brokers or a group. [`Error::Io`] for files that it names.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        Self::reading(&Texts::default(), &toml::read(text)?)
    }

    /// What the file at `path` says, as [`from_toml`](Self::from_toml). Paths in it begin at its
    /// folder. A file that holds a password and may be read by everybody is warned of, by `tracing`.
    ///
    /// # Errors
    /// As there.
    pub fn from_toml_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::reading(&Texts::default(), &toml::read_file(path.as_ref())?)
    }

    /// What the variables `TIDELOG_LISTENER_…` say, which the README lists; nothing reads them unless
    /// this is called. One that is empty counts as absent.
    ///
    /// ```no_run
    /// // TIDELOG_LISTENER_BROKERS=kafka1:9092 TIDELOG_LISTENER_GROUP=mail TIDELOG_LISTENER_TOPICS=shop.Till
    /// let config = tidelog::KafkaListenerConfig::from_env()?;
    /// # drop(config);
    /// # Ok::<(), tidelog::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for every variable that begins as those of the README and is not known,
    /// for values that cannot be, and without brokers or a group. [`Error::Io`] for files that they
    /// name.
    pub fn from_env() -> Result<Self, Error> {
        Self::reading(&Texts::default(), &variables::read(env::vars_os())?)
    }

    /// The same, and where the variables of [`from_env`](Self::from_env) say something, that: for what
    /// was read by [`from_toml_file`](Self::from_toml_file).
    ///
    /// All of it is made anew of what file and variables say together: call this before what is set by
    /// calls.
    ///
    /// # Errors
    /// As there.
    pub fn overridden_by_env(self) -> Result<Self, Error> {
        Self::reading(&self.texts, &variables::read(env::vars_os())?)
    }
}
