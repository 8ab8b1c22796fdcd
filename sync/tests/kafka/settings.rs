//! Settings that are not to be had are refused when a store is opened, before anything is made.

use tempfile::tempdir;
use tidelog::{DistributedConfig, Error, KafkaConfig, Tidelog};

fn opened(config: KafkaConfig) -> Result<Tidelog, Error> {
    let dir = tempdir().unwrap();
    let path = dir.path().join("store");
    let opened = Tidelog::builder(&path)
        .distributed(DistributedConfig::new().kafka(config))
        .open();
    assert_eq!(path.exists(), opened.is_ok());
    opened
}

#[test]
fn what_breaks_a_guarantee_is_refused_by_name_before_a_store_is_made() {
    for (name, value) in [
        ("acks", "1"),
        ("request.required.acks", "0"),
        ("enable.idempotence", "false"),
        ("message.timeout.ms", "1000"),
        ("partitioner", "consistent"),
        ("max.in.flight", "100"),
        ("allow.auto.create.topics", "true"),
        ("transactional.id", "mine"),
    ] {
        match opened(KafkaConfig::new(["127.0.0.1:1"]).set(name, value)) {
            Err(Error::InvalidInput {
                what: "kafka setting",
                value,
                reason,
            }) => {
                assert_eq!(*value, *name);
                assert!(reason.ends_with("tidelog sets it"), "{reason}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    for config in [
        KafkaConfig::new(["127.0.0.1:1"]).set("compression.type", "rar"),
        KafkaConfig::new(["127.0.0.1:1"]).set("no.such.setting", "1"),
        KafkaConfig::new(["127.0.0.1:1"]).topic_prefix("a/b"),
        KafkaConfig::new(Vec::<String>::new()),
    ] {
        assert!(matches!(opened(config), Err(Error::InvalidInput { .. })));
    }
}

#[test]
fn opening_asks_nobody_and_takes_only_what_a_message_can_hold() {
    // Nobody listens there.
    let config = KafkaConfig::new(["127.0.0.1:1"])
        .set("compression.type", "zstd")
        .set("linger.ms", "5");
    let log = opened(config).unwrap().blocking();
    let event = |metadata: usize| {
        let content_type = tidelog::ContentType::Bytes;
        let metadata = tidelog::Metadata::new().with("k", "v".repeat(metadata));
        tidelog::NewEvent::new("T", 1, content_type, vec![1]).with_metadata(metadata)
    };
    let append = |bytes: usize| {
        let stream = tidelog::StreamId::new("Account", "acc-1").unwrap();
        let any = tidelog::ExpectedVersion::Any;
        log.append(tidelog::AppendBatch::new(stream, any, vec![event(bytes)]))
    };
    assert!(append(1_000).is_ok());
    assert!(matches!(append(17 << 10), Err(Error::TooLarge { .. })));
}
