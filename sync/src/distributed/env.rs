//! A configuration from the environment.

use std::env;
use std::ffi::OsString;

use tidelog_core::Error;

use super::DistributedConfig;
use super::table;
use super::texts::Texts;

impl DistributedConfig {
    /// What the variables `TIDELOG_SCYLLA_…`, `TIDELOG_REPLICATION_…` and `TIDELOG_KAFKA_…` say, which
    /// the README lists; nothing reads them unless this is called. One that is empty counts as absent.
    ///
    /// ```
    /// // Without TIDELOG_SCYLLA_CONTACT_POINTS and TIDELOG_KAFKA_BROKERS it is a local store.
    /// let config = tidelog::DistributedConfig::from_env()?;
    /// # drop(config);
    /// # Ok::<(), tidelog::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for every variable of these prefixes that is not known, and for values
    /// that cannot be. [`Error::Io`] for files that they name.
    pub fn from_env() -> Result<Self, Error> {
        Self::new().overridden_by_env()
    }

    /// The same, and where the variables of [`from_env`](Self::from_env) say something, that: for what
    /// was read by [`from_toml_file`](Self::from_toml_file).
    ///
    /// A section that they touch is made anew of what file and variables say together: call this
    /// before what is set by calls, such as the names of topics.
    ///
    /// # Errors
    /// As there.
    pub fn overridden_by_env(self) -> Result<Self, Error> {
        self.reading(&read(env::vars_os())?)
    }
}

pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Texts, Error> {
    let mut texts = Texts::default();
    for (name, value) in variables {
        let path = name.to_str().and_then(table::path_of);
        let Some(path) = path.transpose()? else {
            continue;
        };
        let value = value.into_string().map_err(|_| {
            let reason = "it is no text in UTF-8";
            Error::invalid("environment variable", table::variable(&path), reason)
        })?;
        if !value.is_empty() {
            texts.put(path, value);
        }
    }
    Ok(texts)
}
