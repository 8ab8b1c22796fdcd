//! A real broker, through librdkafka.

use std::fs;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use parking_lot::Mutex;
use rdkafka::message::{Headers as _, Message as _, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tidelog_core::Sleeper as _;

use super::kit::{BATCH, LIMIT, MESSAGE, QUEUE, Stored, Subject};
use crate::ThreadSleeper;
use crate::kafka::client::KafkaBroker;
use crate::kafka::config::{KafkaConfig, PublishingOptions};
use crate::kafka::services::Own;
use crate::kafka::topics;

/// Whoever has waited so long waits for ever.
const PATIENCE: Duration = Duration::from_secs(100);

pub(super) struct Real<'a> {
    address: String,
    /// One that may be hurt.
    own: Option<&'a Own>,
    prefix: String,
    made: Mutex<Vec<String>>,
}

impl<'a> Real<'a> {
    pub fn new(address: &str, own: Option<&'a Own>) -> Self {
        Self {
            address: address.to_owned(),
            own,
            prefix: topics::unique("case"),
            made: Mutex::default(),
        }
    }

    fn own(&self) -> &Own {
        self.own.expect("this one is not to be hurt")
    }

    fn config(&self) -> KafkaConfig {
        let options = PublishingOptions {
            window_records: QUEUE - 1_024,
            window_bytes: QUEUE * MESSAGE,
            ..PublishingOptions::default()
        };
        KafkaConfig::new([self.address.as_str()])
            .topic_prefix(&self.prefix)
            .options(options)
            .set("message.max.bytes", MESSAGE.to_string())
            .set("batch.num.messages", BATCH.to_string())
            .set("linger.ms", "50")
    }
}

impl Drop for Real<'_> {
    fn drop(&mut self) {
        let made = self.made.lock();
        let made: Vec<&str> = made.iter().map(String::as_str).collect();
        if !made.is_empty() && !std::thread::panicking() {
            topics::delete(&self.address, &made);
        }
    }
}

impl Subject for Real<'_> {
    type Client = KafkaBroker;

    fn client(&self) -> KafkaBroker {
        KafkaBroker::new(self.config())
    }

    fn patient_client(&self) -> KafkaBroker {
        let config = self.config();
        KafkaBroker::new(config.set("topic.metadata.propagation.max.ms", "60000"))
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let sleeper = ThreadSleeper::new();
        match pollster::block_on(select(pin!(work), sleeper.sleep(PATIENCE))) {
            Either::Left((done, _)) => done,
            Either::Right(_) => panic!("nothing came for {PATIENCE:?}"),
        }
    }

    fn name(&self, topic: &str) -> String {
        format!("{}.{topic}", self.prefix)
    }

    fn origins(&self) -> String {
        self.config().names.origins()
    }

    fn make(&self, topic: &str, partitions: usize, limit: usize) {
        let limit = limit.to_string();
        let partitions = i32::try_from(partitions).unwrap();
        topics::create(
            &self.address,
            topic,
            partitions,
            &[("max.message.bytes", &limit)],
        );
        let mut made = self.made.lock();
        if !made.iter().any(|known| known == topic) {
            made.push(topic.to_owned());
        }
    }

    fn grow(&self, topic: &str, partitions: usize) {
        topics::grow(&self.address, topic, partitions);
    }

    fn delete(&self, topic: &str) {
        topics::delete(&self.address, &[topic]);
    }

    fn limit(&self, topic: &str, limit: usize) {
        topics::alter(
            &self.address,
            topic,
            "max.message.bytes",
            &limit.to_string(),
        );
    }

    fn expire(&self, topic: &str, partition: i32, offset: usize) {
        let offset = i64::try_from(offset).unwrap();
        topics::delete_until(&self.address, topic, partition, offset);
    }

    fn intrude(&self, topic: &str) -> Box<dyn Send> {
        let mut config = topics::client(&self.address);
        config.set("transactional.id", self.name("stranger"));
        let open: BaseProducer = config.create().unwrap();
        open.init_transactions(PATIENCE).unwrap();
        open.begin_transaction().unwrap();
        let record = BaseRecord::<[u8], [u8]>::to(topic).payload(b"open");
        let record = record.partition(0);
        open.send(record).map_err(|(error, _)| error).unwrap();
        open.flush(PATIENCE).unwrap();
        Box::new(open)
    }

    fn refuse_records(&self, is_refused: bool) {
        let limit = if is_refused { 10 } else { LIMIT };
        self.limit(&self.origins(), limit);
    }

    fn stop(&self) {
        self.own().pause();
    }

    fn go_on(&self) {
        self.own().resume();
    }

    fn crash(&self) {
        self.own().kill();
        self.own().start_again();
    }

    fn rob(&self, topic: &str, is_all: bool) {
        self.own().kill();
        let folder = self.own().folder().join("data").join(format!("{topic}-0"));
        let files = fs::read_dir(folder).unwrap();
        let files = files.map(|entry| entry.unwrap().path());
        let data = files.filter(|path| path.extension().is_some_and(|ext| ext == "log"));
        let data = data.max().unwrap();
        let bytes = fs::metadata(&data).unwrap().len();
        let file = fs::OpenOptions::new().write(true).open(&data).unwrap();
        file.set_len(if is_all { 0 } else { bytes / 2 }).unwrap();
        drop(file);
        self.own().start_again();
    }

    fn read(&self, topic: &str) -> Vec<Vec<Stored>> {
        let parts = topics::read(&self.address, topic).into_values();
        parts
            .map(|part| part.iter().map(stored).collect())
            .collect()
    }
}

fn stored(message: &OwnedMessage) -> Stored {
    let headers = message.headers().map_or(Vec::new(), |headers| {
        let headers = headers.iter();
        headers
            .map(|header| (header.key.to_owned(), header.value.unwrap().to_vec()))
            .collect()
    });
    Stored {
        key: message.key().unwrap_or_default().to_vec(),
        headers,
        value: message.payload().expect("none is a tombstone").to_vec(),
    }
}
