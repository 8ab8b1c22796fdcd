//! What is said of Kafka, to whoever listens: no secret, whatever goes wrong.

use std::fmt::Write;
use std::process::Command;

use tidelog::{DistributedConfig, KafkaConfig, PublishingState, Secret, TopicSpec};

use crate::heard::Heard;
use crate::services::{Broker, Own};
use crate::{stores, topics};

const PASSWORD: &str = "hunter2-of-the-till";
/// Set for the process that listens: there is one listener a process.
const ALONE: &str = "TIDELOG_TEST_SECRETS";

#[test]
fn no_secret_is_said_of_kafka() {
    let Ok(address) = std::env::var(ALONE) else {
        let Some(own) = Own::kafka_with(&Broker {
            user: Some(("till", PASSWORD)),
            ..Broker::default()
        }) else {
            return;
        };
        let name = "secrets::no_secret_is_said_of_kafka";
        let done = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(ALONE, own.with_password())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        let complained = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said}{complained}");
        assert!(!said.contains("hunter") && !complained.contains("hunter"));
        return;
    };
    let heard = Heard::default();
    tracing::subscriber::set_global_default(heard.clone()).unwrap();
    let mut shown = String::new();
    let config = |password: &str| {
        KafkaConfig::new([&address])
            .topic_prefix(topics::unique("secrets."))
            .user("till", Secret::new(password))
            .set("debug", "all")
    };
    let mut ensure = |config: KafkaConfig| {
        let done = pollster::block_on(config.ensure_topics(&["Account"], TopicSpec::new(1, 1)));
        let _ = write!(shown, "{config:?} {config:#?} {done:?}");
        if let Err(error) = &done {
            let _ = write!(shown, "{error}");
        }
        done.is_ok()
    };
    assert!(ensure(config(PASSWORD)));
    assert!(!ensure(config("hunter3-is-wrong")));
    assert!(!ensure(config("hunter4").set("sasl.mechanism", "no-such")));
    assert!(!ensure(
        config(PASSWORD).set("ssl.key.pem", "hunter5 is no key")
    ));
    assert!(!ensure(
        config(PASSWORD).set("ssl.keystore.password", "hunter6\0")
    ));

    let _ = write!(shown, "{}", published(&config));

    let logged = heard.text();
    for said in [
        "tidelog::kafka",
        "SASL",
        "uthentication",
        "span publishing",
        "span connect",
    ] {
        assert!(logged.contains(said), "{said} is not said");
    }
    shown.push_str(&logged);
    let at = shown.find("hunter");
    let around = at.and_then(|at| shown.get(at.saturating_sub(200)..at));
    assert_eq!(around, None);
}

/// Publishes with the password, and not with another; answers all that a user could print of it.
fn published(config: &impl Fn(&str) -> KafkaConfig) -> String {
    let mut shown = String::new();
    let prefix = format!("{}.", topics::unique("secrets"));
    for password in [PASSWORD, "hunter7-is-wrong"] {
        let dir = tempfile::tempdir().unwrap();
        let kafka = config(password).topic_prefix(&prefix);
        let distributed = DistributedConfig::new().kafka(kafka);
        let _ = write!(shown, "{distributed:?}");
        let log = stores::open(dir.path(), distributed);
        let made = log
            .publishing()
            .ensure_topics(&["Till"], TopicSpec::new(1, 1));
        let _ = write!(shown, "{made:?}");
        stores::append(&log, &stores::stream(1), b"said".to_vec());
        let is_right = password == PASSWORD;
        assert_eq!(made.is_ok(), is_right, "{made:?}");
        stores::until(&log, "neither there nor refused", |status| {
            let is_halted = matches!(status.state, PublishingState::Halted(_));
            if is_right {
                status.delivered == 1
            } else {
                is_halted || status.retries > 0
            }
        });
        let (status, halt) = (log.publishing().status(), log.publishing().halt());
        let _ = write!(shown, "{status:?} {halt:?} {:?}", log.publishing());
        if let Some(error) = &status.last_error {
            let _ = write!(shown, "{error}");
        }
        if let Some(halt) = &halt {
            let _ = write!(shown, "{halt}");
        }
        let _ = write!(shown, "{:?} {log:?}", log.status());
        log.close().unwrap();
    }
    shown
}
