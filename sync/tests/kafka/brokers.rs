//! The brokers that the project starts for its tests are what they were asked to be.

use std::time::Duration;

use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};

use crate::services::{Broker, Own};
use crate::{stores, topics};

fn answers(config: &ClientConfig, within: Duration) -> bool {
    let client: BaseProducer = config.create().unwrap();
    client.client().fetch_metadata(None, within).is_ok()
}

#[test]
fn a_killed_broker_keeps_what_it_acknowledged() {
    let Some(own) = Own::kafka() else { return };
    let topic = topics::unique("kept");
    topics::create(&own.address(), &topic, 1, &[]);
    let messages = [(
        Some(&b"key"[..]),
        Some(&b"value"[..]),
        &[("name", "it")][..],
    )];
    topics::write(&own.address(), &topic, messages);
    own.kill();
    own.start_again();
    let found = topics::read(&own.address(), &topic);
    let [message] = &found[&0][..] else {
        panic!("{found:?}")
    };
    assert_eq!(message.payload(), Some(&b"value"[..]));
    assert_eq!(topics::header(message, "name").as_deref(), Some("it"));
    assert!(
        own.folder()
            .join("data")
            .join(format!("{topic}-0"))
            .is_dir()
    );
}

#[test]
fn a_broker_is_what_it_was_asked_to_be() {
    let broker = Broker {
        settings: &[("auto.create.topics.enable", "true")],
        user: Some(("till", "right")),
        tls: None,
    };
    let Some(own) = Own::kafka_with(&broker) else {
        return;
    };
    let topic = topics::unique("of-itself");
    let messages = [(Some(&b"key"[..]), Some(&b"value"[..]), &[][..])];
    topics::write(&own.address(), &topic, messages);
    assert_eq!(topics::partitions(&own.address(), &topic), Some(1));

    let with = |password: &str| {
        let mut config = topics::client(&own.with_password());
        config.set("security.protocol", "sasl_plaintext");
        config.set("sasl.mechanism", "PLAIN");
        config.set("sasl.username", "till");
        config.set("sasl.password", password);
        config
    };
    assert!(answers(&with("right"), stores::PATIENCE));
    assert!(!answers(&with("wrong"), Duration::from_secs(2)));
    // It asks.
    let without = topics::client(&own.with_password());
    assert!(!answers(&without, Duration::from_secs(2)));
}
