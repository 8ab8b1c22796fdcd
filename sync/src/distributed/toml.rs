//! A configuration from TOML.

use std::path::Path;

use tidelog_core::Error;
use toml::{Table, Value};

use super::DistributedConfig;
use super::table;
use super::texts::Texts;

impl DistributedConfig {
    /// What `text` says: sections `[scylla]`, `[replication]` and `[kafka]`, whose names, defaults and
    /// meaning the README lists. A section that is not there leaves that part switched off. One that is
    /// called `[listener]` is for [`KafkaListenerConfig`](crate::KafkaListenerConfig), which reads it
    /// from the same text.
    ///
    /// ```
    /// let text = r#"
    ///     [kafka]
    ///     brokers = ["kafka1:9092", "kafka2:9092"]
    ///     topic_prefix = "shop."
    ///
    ///     [kafka.settings]
    ///     "compression.type" = "zstd"
    /// "#;
    /// # #[cfg(feature = "kafka")]
    /// let config = tidelog::DistributedConfig::from_toml(text)?;
    /// # Ok::<(), tidelog::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for what is no TOML, and for every name that is not known: a typing
    /// error shall not switch anything off. [`Error::Io`] for files that it names.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        Self::new().reading(&read(text)?)
    }

    /// What the file at `path` says, as [`from_toml`](Self::from_toml). Paths in it begin at its
    /// folder. A file that holds a password and may be read by everybody is warned of, by `tracing`.
    ///
    /// # Errors
    /// As there.
    pub fn from_toml_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::new().reading(&read_file(path.as_ref())?)
    }
}

/// The texts of a file, in which paths begin at its folder.
pub(super) fn read_file(path: &Path) -> Result<Texts, Error> {
    let failed = |error| Error::io("read", path, error);
    let mut texts = read(&std::fs::read_to_string(path).map_err(failed)?)?;
    if texts.has_secrets() && is_open(path) {
        tracing::warn!(path = %path.display(), "holds a password, and others may read it");
    }
    texts.within(path.parent().unwrap_or(Path::new("")));
    Ok(texts)
}

#[cfg(unix)]
fn is_open(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o044 != 0)
}

#[cfg(not(unix))]
fn is_open(_: &Path) -> bool {
    false
}

pub(super) fn read(text: &str) -> Result<Texts, Error> {
    let table: Table = toml::from_str(text).map_err(|error| {
        // Its whole text shows the line, which may hold a password.
        let at = error.span().map_or(0, |span| span.start);
        let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        Error::invalid(
            "TOML",
            format!("line {line}"),
            "it is no TOML, or says something twice",
        )
    })?;
    let mut texts = Texts::default();
    for (section, values) in &table {
        if !table::sections().any(|known| known == section) {
            let known = table::sections().map(str::to_owned);
            return Err(table::unknown("section of TOML", section, known));
        }
        let Value::Table(values) = values else {
            let reason = format!("it is a section: write [{section}]");
            return Err(Error::invalid("setting", section, reason));
        };
        for (name, value) in values {
            put(&mut texts, &format!("{section}.{name}"), value)?;
        }
    }
    Ok(texts)
}

fn put(texts: &mut Texts, path: &str, value: &Value) -> Result<(), Error> {
    if let (Some(_), Value::Table(settings)) = (table::kind(&format!("{path}.*")), value) {
        let mut all = settings.iter();
        return all.try_for_each(|(name, value)| nested(texts, &format!("{path}.{name}"), value));
    }
    let Some(kind) = table::kind(path) else {
        let known = table::SETTINGS
            .iter()
            .map(|setting| setting.path.to_owned());
        return Err(table::unknown("setting of TOML", path, known));
    };
    let text = match (kind, value) {
        (table::Kind::List, Value::Array(parts)) => {
            let parts = parts.iter().map(Value::as_str);
            parts
                .collect::<Option<Vec<_>>>()
                .map(|parts| parts.join(","))
        }
        _ => plain(value),
    };
    let reason = "it has to be text, a number, true or false; nodes, brokers, topics, types and origins may be a list of texts";
    let text = text.ok_or_else(|| Error::invalid("setting of TOML", path, reason))?;
    texts.put(path.to_owned(), text);
    Ok(())
}

/// `linger.ms = 5` without quotes is a table in a table.
fn nested(texts: &mut Texts, path: &str, value: &Value) -> Result<(), Error> {
    if let Value::Table(deeper) = value {
        let mut all = deeper.iter();
        return all.try_for_each(|(name, value)| nested(texts, &format!("{path}.{name}"), value));
    }
    put(texts, path, value)
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}
