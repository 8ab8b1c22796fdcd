//! Stores that publish, as the tests open them.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tidelog::{
    AppendBatch, BlockingTidelog, ContentType, DistributedConfig, ExpectedVersion, KafkaConfig,
    NewEvent, PublishingStatus, StreamId, Tidelog, TopicSpec,
};

use crate::consumer::{Checker, Streams, streams_of};
use crate::sweep::Random;
use crate::topics;

/// Whoever has waited so long waits for ever.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A shop with topics of its own, in which all events are of `Till`.
#[derive(Clone, Debug)]
pub struct Shop {
    pub address: String,
    pub prefix: String,
}

impl Shop {
    /// Makes its topic with so many partitions.
    pub fn new(test: &str, address: String, partitions: u32) -> Self {
        let prefix = format!("{}.", topics::unique(test));
        let shop = Self { address, prefix };
        let config = shop.config();
        let made = config.ensure_topics(&["Till"], TopicSpec::new(partitions, 1));
        pollster::block_on(made).unwrap();
        shop
    }

    pub fn config(&self) -> KafkaConfig {
        KafkaConfig::new([&self.address]).topic_prefix(&self.prefix)
    }

    pub fn topic(&self) -> String {
        format!("{}Till", self.prefix)
    }

    /// Opens the store in `dir`, which publishes from now on.
    pub fn open(&self, dir: &Path) -> BlockingTidelog {
        open(dir, DistributedConfig::new().kafka(self.config()))
    }

    /// What a fresh consumer sees now.
    pub fn seen(&self) -> Checker {
        Checker::of(&self.address, &[self.topic()])
    }

    /// Panics unless the topic has just what the log has, without a gap.
    pub fn has_all_of(&self, log: &BlockingTidelog) -> Checker {
        let checker = self.seen();
        checker.assert_is(&wanted(log));
        checker
    }

    pub fn forget(&self) {
        let origins = self.prefix.clone() + "_origins";
        topics::delete(&self.address, &[&self.topic(), &origins]);
    }
}

pub fn open(dir: &Path, config: DistributedConfig) -> BlockingTidelog {
    let log = Tidelog::builder(dir).distributed(config).open();
    log.unwrap().blocking()
}

/// What has to be there.
pub fn wanted(log: &BlockingTidelog) -> Streams {
    pollster::block_on(streams_of(log.inner()))
}

pub fn stream(number: u64) -> StreamId {
    StreamId::new("Till", &format!("till-{number}")).unwrap()
}

/// So many bytes that no codec makes less of.
pub fn noise(random: &mut Random, bytes: usize) -> Vec<u8> {
    let words = std::iter::repeat_with(|| random.next().to_le_bytes());
    words.flatten().take(bytes).collect()
}

/// Appends one event; answers its position.
pub fn append(log: &BlockingTidelog, stream: &StreamId, payload: Vec<u8>) -> u64 {
    let event = NewEvent::new("Rung", 1, ContentType::Bytes, payload);
    let batch = AppendBatch::new(stream.clone(), ExpectedVersion::Any, vec![event]);
    log.append(batch).unwrap().last_position.unwrap()
}

/// Waits until `is` holds of the status.
pub fn until(log: &BlockingTidelog, what: &str, is: impl Fn(&PublishingStatus) -> bool) {
    let begun = Instant::now();
    loop {
        let status = log.publishing().status();
        if is(&status) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: {status:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until everything that is in the log now is published or set aside.
pub fn level(log: &BlockingTidelog) {
    let last = log.last_position();
    until(log, "not level", |status| status.settled >= last);
}
