use std::ffi::OsString;

use tidelog_core::Error;

use super::table::{Kind, SETTINGS, variable};
use super::{DistributedConfig, env};

fn of_env(variables: &[(&str, &str)]) -> Result<DistributedConfig, Error> {
    over(DistributedConfig::new(), variables)
}

fn over(config: DistributedConfig, variables: &[(&str, &str)]) -> Result<DistributedConfig, Error> {
    let variables = variables.iter();
    let variables = variables.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    config.reading(&env::read(variables)?)
}

#[cfg(feature = "kafka")]
fn said(result: Result<DistributedConfig, Error>) -> String {
    result
        .map(|config| format!("{config:?}"))
        .unwrap_err()
        .to_string()
}

/// A value that is not the default one.
fn other(path: &str, kind: Kind, file: &str) -> String {
    match (path, kind) {
        ("scylla.replication", _) => "dc1=3, dc2=2",
        ("scylla.consistency", _) => "each-quorum",
        ("replication.pull", _) => "all",
        ("kafka.start", _) => "end",
        ("kafka.sasl", _) => "scram-sha-512",
        ("scylla.password_file" | "kafka.password_file", _) => "",
        (_, Kind::File) => file,
        (_, Kind::Text) => "other",
        (_, Kind::Secret) => "correct horse",
        (_, Kind::List) => "a:1,b:2",
        (_, Kind::Flag) => "true",
        (_, Kind::Number | Kind::Millis) => "70000",
    }
    .to_owned()
}

/// All of the table that this build knows.
fn everything(file: &str) -> Vec<(String, String)> {
    let built = |path: &str| {
        let tls = ["kafka.tls", "kafka.sasl"];
        if tls.iter().any(|name| path.starts_with(name)) {
            return cfg!(feature = "kafka-tls");
        }
        // Any name, which a test of its own has.
        if path.ends_with('*') {
            return false;
        }
        let of_kafka = path.starts_with("kafka.") && cfg!(feature = "kafka");
        let of_scylla = !path.starts_with("kafka.") && cfg!(feature = "scylla");
        of_kafka || of_scylla
    };
    let all = SETTINGS.iter().filter(|setting| built(setting.path));
    let all = all.map(|setting| {
        let value = other(setting.path, setting.kind, file);
        (setting.path.to_owned(), value)
    });
    all.collect()
}

fn shown(all: &[(String, String)]) -> String {
    let all: Vec<_> = all
        .iter()
        .map(|(path, value)| (variable(path), value))
        .collect();
    let all: Vec<_> = all
        .iter()
        .map(|(name, value)| (&**name, &***value))
        .collect();
    let config = of_env(&all).unwrap();
    // Without the texts themselves.
    let shown = format!("{config:#?}");
    shown.split("texts: ").next().unwrap().to_owned()
}

#[test]
fn every_setting_of_the_table_has_an_effect_and_shows_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pem");
    std::fs::write(&file, "of a file").unwrap();
    let all = everything(file.to_str().unwrap());
    let whole = shown(&all);
    assert!(
        !whole.contains("horse") && !whole.contains("of a file"),
        "{whole}"
    );
    // What only goes with others, and what the others cannot be without.
    let together = ["contact_points", "brokers", "user", "password", "tls"];
    for (path, value) in &all {
        let name = path.split_once('.').unwrap().1;
        if together.iter().any(|part| name.starts_with(part)) || value.is_empty() {
            continue;
        }
        let without: Vec<_> = all
            .iter()
            .filter(|(other, _)| other != path)
            .cloned()
            .collect();
        assert_ne!(shown(&without), whole, "{path} does nothing");
        let setting = SETTINGS
            .iter()
            .find(|setting| setting.path == path)
            .unwrap();
        if !setting.default.is_empty() {
            let mut said = without.clone();
            said.push((path.clone(), setting.default.to_owned()));
            assert_eq!(
                shown(&said),
                shown(&without),
                "{path}: another default counts"
            );
        }
    }
}

#[cfg(feature = "kafka")]
mod of_kafka {
    use super::*;

    const TOML: &str = r#"
[kafka]
brokers = ["a:1", "b:2"]
topic_prefix = "shop."
window_bytes = 1_000_000
user = "till"

[kafka.settings]
"compression.type" = "zstd"
linger.ms = 3
"#;

    #[test]
    fn a_file_and_the_environment_say_the_same_and_the_environment_has_the_last_word() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("till.toml");
        std::fs::write(dir.path().join("word"), "correct horse\n").unwrap();
        let toml = TOML.replace("user =", "password_file = \"word\"\nuser =");
        std::fs::write(&file, toml).unwrap();
        let of_file = DistributedConfig::from_toml_file(&file).unwrap();
        let word = dir.path().join("word");
        let variables = [
            ("TIDELOG_KAFKA_BROKERS", "a:1, b:2"),
            ("TIDELOG_KAFKA_TOPIC_PREFIX", "shop."),
            ("TIDELOG_KAFKA_WINDOW_BYTES", "1000000"),
            ("TIDELOG_KAFKA_USER", "till"),
            ("TIDELOG_KAFKA_PASSWORD_FILE", word.to_str().unwrap()),
            ("TIDELOG_KAFKA_SET_COMPRESSION_TYPE", "zstd"),
            ("TIDELOG_KAFKA_SET_LINGER_MS", "3"),
            ("TIDELOG_KAFKA_NAME", ""),
            ("TIDELOG_SEED", "7"),
        ];
        let of_variables = of_env(&variables).unwrap();
        assert_eq!(format!("{of_file:?}"), format!("{of_variables:?}"));
        let kafka = of_file.kafka.as_ref().unwrap();
        let made = kafka.publisher().unwrap();
        assert_eq!(made.get("sasl.password"), Some("correct horse"));
        assert_eq!(made.get("linger.ms"), Some("3"));
        let variables = [
            ("TIDELOG_KAFKA_TOPIC_PREFIX", "other."),
            ("TIDELOG_KAFKA_SET_LINGER_MS", "4"),
        ];
        let overridden = over(of_file, &variables).unwrap().kafka.unwrap();
        assert_eq!(overridden.names.prefix, "other.");
        let made = overridden.publisher().unwrap();
        assert_eq!(made.get("linger.ms"), Some("4"));
        assert_eq!(made.get("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(made.get("sasl.password"), Some("correct horse"));
    }

    #[test]
    fn a_name_that_is_not_known_is_refused_with_the_nearest_one() {
        for (toml, nearest) in [
            (
                "[kafka]\nbroker = [\"a:1\"]",
                "kafka.brokers is the nearest",
            ),
            (
                "[kafka]\nbrokers = [\"a:1\"]\ntopic_prefx = \"a\"",
                "kafka.topic_prefix",
            ),
            ("[kafak]\nbrokers = [\"a:1\"]", "kafka is the nearest"),
            ("[scylla]\nkeyspce = \"a\"", "scylla.keyspace"),
        ] {
            let said = said(DistributedConfig::from_toml(toml));
            assert!(said.contains(nearest), "{said}");
        }
        let said = said(of_env(&[("TIDELOG_KAFKA_BROKER", "a:1")]));
        assert!(
            said.contains("TIDELOG_KAFKA_BROKERS is the nearest"),
            "{said}"
        );
    }

    #[test]
    fn what_breaks_guarantees_is_refused_by_name_from_text_as_well() {
        for text in [
            "[kafka]\nbrokers = \"a:1\"\n[kafka.settings]\nacks = \"1\"",
            "[kafka]\nbrokers = \"a:1\"\nsettings.enable.idempotence = false",
        ] {
            let config = DistributedConfig::from_toml(text).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let opened = crate::Tidelog::builder(dir.path().join("log"))
                .distributed(config)
                .open();
            let said = opened.unwrap_err().to_string();
            assert!(
                said.contains("acks") || said.contains("idempotence"),
                "{said}"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_said_and_no_password_with_it() {
        let kafka = "[kafka]\nbrokers = \"a:1\"\n";
        for (more, reason) in [
            ("password = \"correct horse\"", "kafka.user"),
            ("user = \"till\"", "TIDELOG_KAFKA_PASSWORD"),
            (
                "password = \"correct horse\"\npassword_file = \"x\"\nuser = \"till\"",
                "give one of them",
            ),
            ("password = \"correct horse", "line 3"),
            (
                "password = \"correct horse\"\npassword = \"correct horse\"",
                "line 4",
            ),
            ("password = [\"correct horse\"]", "it has to be text"),
            ("structured = \"maybe\"", "say true or false"),
            ("window_bytes = -5", "it is no number"),
            ("start = \"yesterday\"", "say beginning, end"),
            ("tls_cert_file = \"/nowhere/x\"", "/nowhere/x"),
        ] {
            let said = said(DistributedConfig::from_toml(&format!("{kafka}{more}")));
            assert!(said.contains(reason), "{more}: {said}");
            assert!(!said.contains("horse"), "{said}");
        }
        let said = said(DistributedConfig::from_toml(
            "[kafka]\ntopic_prefix = \"a\"",
        ));
        assert!(said.contains("TIDELOG_KAFKA_BROKERS"), "{said}");
    }

    #[test]
    fn an_empty_text_is_a_local_store() {
        let config = DistributedConfig::from_toml("").unwrap();
        assert!(config.kafka.is_none());
        #[cfg(feature = "scylla")]
        assert!(config.scylla.is_none());
    }
}
