//! What was said as text, by path, and read as what it means.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tidelog_core::{Error, Secret};

use super::table::{self, Kind};

/// Settings by their paths. None of the values is shown: some are passwords.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts(BTreeMap<String, Secret>);

impl Texts {
    /// Takes one in; `path` is known.
    pub(super) fn put(&mut self, path: String, value: String) {
        self.0.insert(path, Secret::new(value));
    }

    /// These, and where `other` says something, that.
    pub(super) fn overridden_by(mut self, other: &Self) -> Self {
        let other = other.0.iter();
        self.0
            .extend(other.map(|(path, value)| (path.clone(), value.clone())));
        self
    }

    /// Has paths to files begin in `folder`.
    pub(super) fn within(&mut self, folder: &Path) {
        for (path, value) in &mut self.0 {
            if table::kind(path) == Some(Kind::File) {
                let file = folder.join(value.expose());
                *value = Secret::new(file.to_string_lossy());
            }
        }
    }

    /// Whether a password stands in it itself.
    pub(super) fn has_secrets(&self) -> bool {
        let mut paths = self.0.keys();
        paths.any(|path| {
            let of_librdkafka = table::of_librdkafka(path);
            table::kind(path) == Some(Kind::Secret) || of_librdkafka.is_some_and(is_secret)
        })
    }

    /// What it says of one section; `None` when that is nothing.
    pub(super) fn section(&self, name: &'static str) -> Option<Section<'_>> {
        let begins = format!("{name}.");
        let any = self.0.keys().any(|path| path.starts_with(&begins));
        any.then_some(Section { name, texts: self })
    }
}

#[cfg(feature = "kafka")]
fn is_secret(name: &str) -> bool {
    crate::kafka::settings::is_secret(name)
}

#[cfg(not(feature = "kafka"))]
fn is_secret(_: &str) -> bool {
    false
}

/// One part of a configuration.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    name: &'static str,
    texts: &'a Texts,
}

impl<'a> Section<'a> {
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.secret(name).map(Secret::expose)
    }

    fn secret(&self, name: &str) -> Option<&'a Secret> {
        let path = format!("{}.{name}", self.name);
        debug_assert!(table::kind(&path).is_some(), "{path} is not in the table");
        self.texts.0.get(&path)
    }

    pub(super) fn list(&self, name: &str) -> Option<Vec<String>> {
        let text = self.text(name)?;
        let parts = text.split(',').map(|part| part.trim().to_owned());
        Some(parts.filter(|part| !part.is_empty()).collect())
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Error> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(self.wrong(name, other, "say true or false")),
        }
    }

    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Error> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let number = text.replace('_', "").parse();
        let number = number.map_err(|_| self.wrong(name, text, "it is no number from 0 on"))?;
        Ok(Some(number))
    }

    pub(super) fn millis(&self, name: &str) -> Result<Option<Duration>, Error> {
        let millis = self.number(name)?;
        Ok(millis.map(Duration::from_millis))
    }

    /// Name and password, which is itself there, or in a file.
    pub(super) fn user(&self) -> Result<Option<(&'a str, Secret)>, Error> {
        let password = match (self.secret("password"), self.text("password_file")) {
            (Some(_), Some(_)) => {
                return Err(self.missing(
                    "password_file",
                    "there is a password already: give one of them",
                ));
            }
            (Some(password), None) => Some(password.clone()),
            (None, Some(_)) => self.file("password_file")?.map(|text| {
                let line = text.strip_suffix('\n').unwrap_or(&text);
                Secret::new(line.strip_suffix('\r').unwrap_or(line))
            }),
            (None, None) => None,
        };
        match (self.text("user"), password) {
            (Some(user), Some(password)) => Ok(Some((user, password))),
            (None, None) => Ok(None),
            (None, Some(_)) => {
                Err(self.missing("user", "there is a password, and nobody to log in with it"))
            }
            (Some(_), None) => Err(self.missing("password", "there is a user without one")),
        }
    }

    /// Authorities and what is shown, all PEM; `None` without TLS.
    pub(super) fn tls(&self) -> Result<Option<Pem>, Error> {
        let is_on = self.flag("tls")?;
        let pem = Pem {
            roots: self.file("tls_roots_file")?,
            client: match (self.file("tls_cert_file")?, self.file("tls_key_file")?) {
                (Some(chain), Some(key)) => Some((chain, Secret::new(key))),
                (None, None) => None,
                (Some(_), None) => {
                    return Err(self.missing("tls_key_file", "there is a certificate without it"));
                }
                (None, Some(_)) => {
                    return Err(self.missing("tls_cert_file", "there is a key without it"));
                }
            },
        };
        if !is_on && (pem.roots.is_some() || pem.client.is_some()) {
            let reason = "there are files for TLS: say tls = true, or leave them out";
            return Err(self.missing("tls", reason));
        }
        Ok(is_on.then_some(pem))
    }

    /// Librdkafka's own settings.
    #[cfg(feature = "kafka")]
    pub(super) fn librdkafka(&self) -> impl Iterator<Item = (&'a str, &'a Secret)> {
        let of_this = format!("{}.", self.name);
        let all = self.texts.0.iter();
        let all = all.filter(move |(path, _)| path.starts_with(&of_this));
        all.filter_map(|(path, value)| Some((table::of_librdkafka(path)?, value)))
    }

    fn file(&self, name: &str) -> Result<Option<String>, Error> {
        let Some(path) = self.text(name) else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(path);
        text.map(Some)
            .map_err(|error| Error::io("read", path, error))
    }

    /// A value that cannot be; of nothing secret.
    pub(super) fn wrong(&self, name: &str, value: &str, reason: &str) -> Error {
        let setting = format!("{}.{name}", self.name);
        Error::invalid("setting", value, format!("{setting}: {reason}"))
    }

    /// A value that has to be there, or must not.
    pub(super) fn missing(&self, name: &str, reason: &str) -> Error {
        let path = format!("{}.{name}", self.name);
        let reason = format!("{reason} ({} in the environment)", table::variable(&path));
        Error::invalid("setting", path, reason)
    }
}

/// What TLS is spoken with.
pub(super) struct Pem {
    pub roots: Option<String>,
    pub client: Option<(String, Secret)>,
}
