//! A store's log in a real topic.

use tidelog::{
    AppendBatch, BlockingTidelog, ContentType, DistributedConfig, ExpectedVersion, KafkaConfig,
    NewEvent, PublishingState, Stage, StreamId, Tidelog, TopicSpec,
};

use crate::consumer::{Checker, streams_of};
use crate::stores::PATIENCE;
use crate::{services, topics};

fn config(address: &str, prefix: &str) -> DistributedConfig {
    DistributedConfig::new().kafka(KafkaConfig::new([address]).topic_prefix(prefix))
}

fn append(log: &BlockingTidelog, stream: &StreamId, payload: &[u8]) -> u64 {
    let event = NewEvent::new("Said", 1, ContentType::Json, payload.to_vec());
    let batch = AppendBatch::new(stream.clone(), ExpectedVersion::Any, vec![event]);
    log.append(batch).unwrap().last_position.unwrap()
}

#[test]
fn what_is_appended_stands_in_the_topic_in_order_and_nothing_comes_twice_after_a_restart() {
    let Some(address) = services::kafka() else {
        return;
    };
    let prefix = format!("{}.", topics::unique("publish"));
    let dir = tempfile::tempdir().unwrap();
    let log = Tidelog::builder(dir.path()).distributed(config(&address, &prefix));
    let log = log.open().unwrap().blocking();
    let made = log
        .publishing()
        .ensure_topics(&["Till", "Account"], TopicSpec::new(4, 1));
    let topics = made.unwrap().created;
    let mut last = 0;
    for number in 0..1_000_u32 {
        let kind = if number % 3 == 0 { "Till" } else { "Account" };
        let stream = StreamId::new(kind, &format!("konto-{}", number % 50)).unwrap();
        last = append(&log, &stream, format!("{number}").as_bytes());
    }
    assert!(
        log.wait_for_timeout(last, Stage::Published, PATIENCE)
            .unwrap(),
        "{:?}",
        log.publishing().status()
    );
    let status = log.publishing().status();
    assert_eq!(
        (status.settled, status.lag_events, status.delivered),
        (last, 0, 1_000)
    );
    assert_eq!(status.state, PublishingState::Live);
    log.close().unwrap();

    let log = Tidelog::builder(dir.path()).distributed(config(&address, &prefix));
    let log = log.open().unwrap().blocking();
    let till = StreamId::new("Till", "konto-0").unwrap();
    let last = append(&log, &till, b"again");
    assert!(
        log.wait_for_timeout(last, Stage::Published, PATIENCE)
            .unwrap(),
        "{:?}",
        log.publishing().status()
    );
    assert_eq!(log.publishing().status().delivered, 1);
    let wanted = pollster::block_on(streams_of(log.inner()));
    let checker = Checker::of(&address, &topics[..2]);
    checker.assert_is(&wanted);
    assert_eq!(
        (checker.wrong.len(), checker.doubles, checker.events()),
        (0, 0, 1_001),
        "{:?}",
        checker.wrong
    );
    log.close().unwrap();
    let all: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
    topics::delete(&address, &all);
}
