use std::ffi::OsString;

use tidelog_core::Error;

use super::table::{Kind, SETTINGS, variable};
#[cfg(feature = "kafka")]
use super::texts::Texts;
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
        ("kafka.sasl" | "listener.sasl", _) => "scram-sha-512",
        ("listener.topics_matching", _) => "^shop[.].*",
        (path, _) if path.ends_with(".password_file") => "",
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
        match path.split_once('.').unwrap().0 {
            "kafka" => cfg!(feature = "kafka"),
            // Of a configuration of its own.
            "listener" => false,
            _ => cfg!(feature = "scylla"),
        }
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

#[cfg(feature = "kafka")]
mod of_listener {
    use super::*;
    use crate::kafka::KafkaListenerConfig;

    fn of_env(variables: &[(&str, &str)]) -> Result<KafkaListenerConfig, Error> {
        over(&Texts::default(), variables)
    }

    fn over(texts: &Texts, variables: &[(&str, &str)]) -> Result<KafkaListenerConfig, Error> {
        let variables = variables.iter();
        let variables =
            variables.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        KafkaListenerConfig::reading(texts, &env::read(variables)?)
    }

    fn shown(all: &[(&str, String)]) -> String {
        let all: Vec<_> = all
            .iter()
            .map(|(path, value)| (variable(path), value.as_str()))
            .collect();
        let all: Vec<_> = all
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        let shown = format!("{:#?}", of_env(&all).unwrap());
        shown.split("texts: ").next().unwrap().to_owned()
    }

    #[test]
    fn every_setting_of_the_table_has_an_effect_and_the_default_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pem");
        std::fs::write(&file, "of a file").unwrap();
        let all = SETTINGS
            .iter()
            .filter(|setting| setting.path.starts_with("listener."));
        let all = all.filter(|setting| {
            let tls = ["listener.tls", "listener.sasl"];
            let is_tls = tls.iter().any(|name| setting.path.starts_with(name));
            !setting.path.ends_with('*') && (!is_tls || cfg!(feature = "kafka-tls"))
        });
        let all: Vec<(&str, String)> = all
            .map(|setting| {
                let value = other(setting.path, setting.kind, file.to_str().unwrap());
                (setting.path, value)
            })
            .collect();
        let whole = shown(&all);
        assert!(
            !whole.contains("horse") && !whole.contains("of a file"),
            "{whole}"
        );
        let together = ["brokers", "group", "user", "password", "tls"];
        for (path, value) in &all {
            let name = path.split_once('.').unwrap().1;
            if together.iter().any(|part| name.starts_with(part)) || value.is_empty() {
                continue;
            }
            let mut without: Vec<_> = all.clone();
            without.retain(|(other, _)| other != path);
            let less = shown(&without);
            assert_ne!(less, whole, "{path} does nothing");
            let default = SETTINGS.iter().find(|setting| setting.path == *path);
            let default = default.unwrap().default;
            // A name that is not said is said when a member is made.
            if !default.is_empty() && name != "name" {
                without.push((path, default.to_owned()));
                assert_eq!(shown(&without), less, "{path}: another default counts");
            }
        }
        let named = |config: KafkaListenerConfig| {
            let made = config.topics(["t"]).member().unwrap();
            made.get("client.id").map(str::to_owned)
        };
        let least = [
            ("TIDELOG_LISTENER_BROKERS", "a:1"),
            ("TIDELOG_LISTENER_GROUP", "mail"),
        ];
        let name = SETTINGS
            .iter()
            .find(|setting| setting.path == "listener.name");
        let name = format!("tidelog/{}", name.unwrap().default);
        assert_eq!(named(of_env(&least).unwrap()), Some(name));
    }

    const TOML: &str = r#"
[kafka]
brokers = "x:9"

[listener]
brokers = ["a:1", "b:2"]
group = "mail"
topics = ["others", "more"]
types = "Till"
topic_prefix = "shop."
user = "mail"

[listener.settings]
"fetch.wait.max.ms" = 20
session.timeout.ms = 9_000
"#;

    #[test]
    fn a_file_and_the_environment_say_the_same_and_the_environment_has_the_last_word() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mail.toml");
        std::fs::write(dir.path().join("word"), "correct horse\n").unwrap();
        let toml = TOML.replace(
            "user = \"mail\"",
            "password_file = \"word\"\nuser = \"mail\"",
        );
        std::fs::write(&file, toml).unwrap();
        let of_file = KafkaListenerConfig::from_toml_file(&file).unwrap();
        let word = dir.path().join("word");
        let variables = [
            ("TIDELOG_KAFKA_BROKERS", "x:9"),
            ("TIDELOG_LISTENER_BROKERS", "a:1, b:2"),
            ("TIDELOG_LISTENER_GROUP", "mail"),
            ("TIDELOG_LISTENER_TOPICS", "others,more"),
            ("TIDELOG_LISTENER_TYPES", "Till"),
            ("TIDELOG_LISTENER_TOPIC_PREFIX", "shop."),
            ("TIDELOG_LISTENER_USER", "mail"),
            ("TIDELOG_LISTENER_PASSWORD_FILE", word.to_str().unwrap()),
            ("TIDELOG_LISTENER_SET_FETCH_WAIT_MAX_MS", "20"),
            ("TIDELOG_LISTENER_SET_SESSION_TIMEOUT_MS", "9000"),
            ("TIDELOG_LISTENER_NAME", ""),
        ];
        let of_variables = of_env(&variables).unwrap();
        assert_eq!(format!("{of_file:?}"), format!("{of_variables:?}"));
        assert_eq!(
            of_file.subscription().unwrap(),
            ["others", "more", "shop.Till"]
        );
        let made = of_file.member().unwrap();
        assert_eq!(made.get("sasl.password"), Some("correct horse"));
        assert_eq!(made.get("session.timeout.ms"), Some("9000"));
        assert_eq!(made.get("bootstrap.servers"), Some("a:1,b:2"));
        let variables = [("TIDELOG_LISTENER_GROUP", "post")];
        let overridden = over(&of_file.texts, &variables).unwrap();
        assert_eq!(&*overridden.group, "post");
        assert_eq!(
            overridden.subscription().unwrap(),
            of_file.subscription().unwrap()
        );
    }

    #[test]
    fn the_store_of_the_same_file_passes_its_section_over() {
        let config = DistributedConfig::from_toml(TOML).unwrap();
        assert_eq!(config.kafka.unwrap().connection.brokers, ["x:9"]);
    }

    #[test]
    fn what_cannot_be_is_said_and_no_password_with_it() {
        let listener = "[listener]\nbrokers = \"a:1\"\ngroup = \"mail\"\n";
        for (toml, reason) in [
            (String::new(), "no section [listener]"),
            ("[kafka]\nbrokers = \"a:1\"".into(), "no section [listener]"),
            (
                "[listener]\nbrokers = \"a:1\"".into(),
                "TIDELOG_LISTENER_GROUP",
            ),
            ("[listener]\ngroup = \"a\"".into(), "listener.brokers"),
            (
                format!("{listener}topic = \"a\""),
                "listener.topics is the nearest",
            ),
            (
                format!("{listener}password = \"correct horse\""),
                "listener.user",
            ),
            (
                format!("{listener}hold_for_ms = \"long\""),
                "it is no number",
            ),
        ] {
            let said = KafkaListenerConfig::from_toml(&toml)
                .unwrap_err()
                .to_string();
            assert!(said.contains(reason), "{toml}: {said}");
            assert!(!said.contains("horse"), "{said}");
        }
        let refused = of_env(&[("TIDELOG_LISTENER_GRUOP", "mail")]).unwrap_err();
        let nearest = "TIDELOG_LISTENER_GROUP is the nearest";
        assert!(refused.to_string().contains(nearest), "{refused}");
    }

    #[test]
    fn what_breaks_guarantees_is_refused_by_name_from_text_as_well() {
        let toml = "[listener]\nbrokers = \"a:1\"\ngroup = \"mail\"\ntopics = \"t\"\n[listener.settings]\nenable.auto.commit = true";
        let config = KafkaListenerConfig::from_toml(toml).unwrap();
        let refused = config.check().unwrap_err().to_string();
        assert!(refused.contains("enable.auto.commit"), "{refused}");
    }
}
