//! Everything that text can say, in one table: names, defaults, what they mean.

use std::fmt::Write as _;

use tidelog_core::Error;

/// One thing that text can say.
#[derive(Debug)]
pub(super) struct Setting {
    /// Section and name, as in TOML.
    pub path: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub what: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    List,
    Flag,
    Number,
    Millis,
    /// Never shown.
    Secret,
    /// A path; in a file of TOML it begins at the folder of that.
    File,
}

/// Of these, any name of librdkafka's may stand behind the dot; and what the environment calls them.
const LIBRDKAFKA: [(&str, &str); 2] = [
    ("kafka.settings.", "TIDELOG_KAFKA_SET_"),
    ("listener.settings.", "TIDELOG_LISTENER_SET_"),
];
/// What variables that are ours begin with.
const PREFIX: &str = "TIDELOG_";

const fn setting(
    path: &'static str,
    kind: Kind,
    default: &'static str,
    what: &'static str,
) -> Setting {
    Setting {
        path,
        kind,
        default,
        what,
    }
}

/// A `*` stands for any name of librdkafka's.
pub(super) const SETTINGS: &[Setting] = &{
    use Kind::{File, Flag, List, Millis, Number, Secret, Text};
    [
        setting(
            "scylla.contact_points",
            List,
            "",
            "nodes, `host:port`; without them there is no replica",
        ),
        setting("scylla.keyspace", Text, "tidelog", "keyspace"),
        setting(
            "scylla.migrate_at_connect",
            Flag,
            "false",
            "make and bring up to date the tables",
        ),
        setting(
            "scylla.replication",
            Text,
            "",
            "copies of a keyspace that is made: `3`, or `dc1=3,dc2=3`",
        ),
        setting(
            "scylla.datacenter",
            Text,
            "",
            "the data centre whose nodes are asked",
        ),
        setting(
            "scylla.arbitration_dc",
            Text,
            "",
            "the one that decides conditional writes",
        ),
        setting(
            "scylla.consistency",
            Text,
            "local-quorum",
            "or `quorum`, `each-quorum`",
        ),
        setting("scylla.user", Text, "", "who logs in"),
        setting("scylla.password", Secret, "", "with what"),
        setting("scylla.password_file", File, "", "a file that holds it"),
        setting("scylla.tls", Flag, "false", "speak TLS"),
        setting(
            "scylla.tls_roots_file",
            File,
            "",
            "authorities to trust, PEM; needed for TLS",
        ),
        setting(
            "scylla.tls_cert_file",
            File,
            "",
            "what to show to nodes, PEM",
        ),
        setting("scylla.tls_key_file", File, "", "its key, PEM"),
        setting(
            "scylla.connect_timeout_ms",
            Millis,
            "5000",
            "for one connection",
        ),
        setting(
            "scylla.request_timeout_ms",
            Millis,
            "12000",
            "for one request",
        ),
        setting(
            "replication.name",
            Text,
            "",
            "what the store calls itself, for people; the machine's name",
        ),
        setting(
            "replication.window_bytes",
            Number,
            "8388608",
            "read and not settled, at most",
        ),
        setting(
            "replication.lanes",
            Number,
            "64",
            "streams that are written to at once",
        ),
        setting(
            "replication.overlap",
            Number,
            "2000",
            "records looked at again after a start",
        ),
        setting(
            "replication.linger_ms",
            Millis,
            "2",
            "wait for more before sending",
        ),
        setting(
            "replication.probe_every_ms",
            Millis,
            "300000",
            "look whether the server has lost something",
        ),
        setting(
            "replication.pull",
            List,
            "off",
            "`all`, or the origins whose events are kept here",
        ),
        setting(
            "kafka.brokers",
            List,
            "",
            "brokers, `host:port`; without them nothing is published",
        ),
        setting(
            "kafka.topic_prefix",
            Text,
            "tidelog.",
            "what names of topics begin with",
        ),
        setting("kafka.structured", Flag, "false", "events whole, as JSON"),
        setting(
            "kafka.origins_topic",
            Text,
            "",
            "where stores note how far they are; `_origins` behind the prefix",
        ),
        setting(
            "kafka.name",
            Text,
            "",
            "what the store calls itself there, for people; the machine's name",
        ),
        setting(
            "kafka.start",
            Text,
            "beginning",
            "of a log never published: `end`, or the position to begin after",
        ),
        setting("kafka.user", Text, "", "who logs in"),
        setting("kafka.password", Secret, "", "with what"),
        setting("kafka.password_file", File, "", "a file that holds it"),
        setting(
            "kafka.sasl",
            Text,
            "plain",
            "or `scram-sha-256`, `scram-sha-512` (feature `kafka-tls`)",
        ),
        setting(
            "kafka.tls",
            Flag,
            "false",
            "speak TLS (feature `kafka-tls`)",
        ),
        setting(
            "kafka.tls_roots_file",
            File,
            "",
            "authorities to trust, PEM; the system's",
        ),
        setting(
            "kafka.tls_cert_file",
            File,
            "",
            "what to show to brokers, PEM",
        ),
        setting("kafka.tls_key_file", File, "", "its key, PEM"),
        setting(
            "kafka.window_bytes",
            Number,
            "8388608",
            "read and not settled, at most",
        ),
        setting(
            "kafka.window_records",
            Number,
            "32768",
            "the same in events",
        ),
        setting(
            "kafka.overlap",
            Number,
            "2000",
            "records sent again when brokers have lost some",
        ),
        setting(
            "kafka.linger_ms",
            Millis,
            "2",
            "wait for more before reading",
        ),
        setting(
            "kafka.probe_every_ms",
            Millis,
            "300000",
            "look whether topics were made again",
        ),
        setting(
            "kafka.settings.*",
            Text,
            "",
            "any setting of librdkafka; `.` is `_` in the environment",
        ),
        setting(
            "listener.brokers",
            List,
            "",
            "brokers, `host:port`; have to be there for a listener",
        ),
        setting(
            "listener.group",
            Text,
            "",
            "the group that it is a member of; has to be there",
        ),
        setting("listener.topics", List, "", "topics that it reads"),
        setting(
            "listener.types",
            List,
            "",
            "aggregate types whose topics it reads",
        ),
        setting(
            "listener.topic_prefix",
            Text,
            "tidelog.",
            "what names of the topics of types begin with",
        ),
        setting(
            "listener.topics_matching",
            Text,
            "",
            "reads every topic that matches, such as `^shop[.].*`",
        ),
        setting(
            "listener.dead_letters",
            Text,
            "",
            "where what cannot be handled goes; `.dead` behind the group",
        ),
        setting(
            "listener.parked_topic",
            Text,
            "",
            "which keys are parked; `.parked` behind the group",
        ),
        setting(
            "listener.name",
            Text,
            "listener",
            "what this member calls itself, for people",
        ),
        setting(
            "listener.hold_for_ms",
            Millis,
            "60000",
            "how long an event waits for those before it, before its key is parked",
        ),
        setting("listener.user", Text, "", "who logs in"),
        setting("listener.password", Secret, "", "with what"),
        setting("listener.password_file", File, "", "a file that holds it"),
        setting(
            "listener.sasl",
            Text,
            "plain",
            "or `scram-sha-256`, `scram-sha-512` (feature `kafka-tls`)",
        ),
        setting(
            "listener.tls",
            Flag,
            "false",
            "speak TLS (feature `kafka-tls`)",
        ),
        setting(
            "listener.tls_roots_file",
            File,
            "",
            "authorities to trust, PEM; the system's",
        ),
        setting(
            "listener.tls_cert_file",
            File,
            "",
            "what to show to brokers, PEM",
        ),
        setting("listener.tls_key_file", File, "", "its key, PEM"),
        setting(
            "listener.settings.*",
            Text,
            "",
            "any setting of librdkafka; `.` is `_` in the environment",
        ),
    ]
};

/// The name of librdkafka's own that a path is about.
pub(super) fn of_librdkafka(path: &str) -> Option<&str> {
    let mut names = LIBRDKAFKA.iter();
    let name = names.find_map(|(begins, _)| path.strip_prefix(begins))?;
    (!name.is_empty()).then_some(name)
}

/// The setting of a path; librdkafka's own are text.
pub(super) fn kind(path: &str) -> Option<Kind> {
    if of_librdkafka(path).is_some() {
        return Some(Kind::Text);
    }
    let found = SETTINGS.iter().find(|setting| setting.path == path);
    found.map(|setting| setting.kind)
}

/// What the environment calls a path.
pub(super) fn variable(path: &str) -> String {
    let mut sections = LIBRDKAFKA.iter();
    let (prefix, name) = sections
        .find_map(|(begins, variable)| Some((*variable, path.strip_prefix(begins)?)))
        .unwrap_or((PREFIX, path));
    format!("{prefix}{}", name.to_ascii_uppercase().replace('.', "_"))
}

/// The path that a variable is about; `None` when it is nothing of ours.
pub(super) fn path_of(variable: &str) -> Option<Result<String, Error>> {
    for (path, begins) in LIBRDKAFKA {
        let name = variable
            .strip_prefix(begins)
            .filter(|name| !name.is_empty());
        if let Some(name) = name {
            let name = name.to_ascii_lowercase().replace('_', ".");
            return Some(Ok(format!("{path}{name}")));
        }
    }
    let mut paths = SETTINGS.iter().map(|setting| setting.path);
    if let Some(path) = paths.find(|path| self::variable(path) == variable) {
        return Some(Ok(path.to_owned()));
    }
    let is_ours = sections().any(|section| {
        let begins = format!("{PREFIX}{}_", section.to_ascii_uppercase());
        variable.starts_with(&begins)
    });
    is_ours.then(|| {
        let known = SETTINGS.iter().map(|setting| self::variable(setting.path));
        Err(unknown("environment variable", variable, known))
    })
}

/// What parts of a file are called.
pub(super) fn sections() -> impl Iterator<Item = &'static str> {
    let mut before = "";
    SETTINGS.iter().filter_map(move |setting| {
        let (section, _) = setting.path.split_once('.')?;
        (std::mem::replace(&mut before, section) != section).then_some(section)
    })
}

/// A name that nothing is set by: most likely a typing error, which must not switch anything off
/// silently.
pub(super) fn unknown(
    what: &'static str,
    name: &str,
    known: impl Iterator<Item = String>,
) -> Error {
    let nearest = known.min_by_key(|known| strsim::levenshtein(known, name));
    let nearest = nearest.unwrap_or_default();
    Error::invalid(
        what,
        name,
        format!("there is no such setting; {nearest} is the nearest"),
    )
}

/// The table as it stands in the README.
pub(super) fn documented() -> String {
    let mut table = String::from("| TOML | environment | default | what |\n|---|---|---|---|\n");
    let mut documented: Vec<&'static str> = Vec::new();
    for setting in SETTINGS {
        let (of, name) = setting.path.split_once('.').unwrap_or_default();
        let head = if documented.contains(&of) {
            String::new()
        } else {
            documented.push(of);
            format!("`[{of}]` ")
        };
        let default = match setting.default {
            "" => "–".to_owned(),
            default => format!("`{default}`"),
        };
        let variable = variable(setting.path);
        // Nothing can be wrong with writing to a text.
        let _ = writeln!(
            table,
            "| {head}`{name}` | `{variable}` | {default} | {} |",
            setting.what
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_name_of_its_own_in_both_worlds() {
        for setting in SETTINGS {
            let same = SETTINGS.iter().filter(|other| other.path == setting.path);
            assert_eq!(same.count(), 1, "{}", setting.path);
            let path = path_of(&variable(setting.path)).unwrap().unwrap();
            assert_eq!(path, setting.path);
        }
        let path = path_of("TIDELOG_KAFKA_SET_LINGER_MS").unwrap().unwrap();
        assert_eq!(path, "kafka.settings.linger.ms");
        assert_eq!(variable(&path), "TIDELOG_KAFKA_SET_LINGER_MS");
        assert_eq!(
            sections().collect::<Vec<_>>(),
            ["scylla", "replication", "kafka", "listener"]
        );
    }

    #[test]
    fn the_table_of_the_readme_is_this_one() {
        let readme = include_str!("../../../README.md");
        assert!(
            readme.contains(&documented()),
            "README.md has to have this table:\n{}",
            documented()
        );
    }
}
