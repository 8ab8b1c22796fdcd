//! Kafka over librdkafka.
//!
//! | file | subject |
//! |---|---|
//! | `generation` | one producer, and the thread that hears its reports |
//! | `outcome` | what codes mean for a message |
//! | `desk` | the thread of calls that wait for the network |
//! | `asking` | topics and offsets |
//! | `origins`, `origin_record` | handshake records |

pub(crate) mod asking;
mod desk;
mod generation;
mod origin_record;
mod origins;
pub(crate) mod outcome;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll};

use rdkafka::producer::Producer as _;
use tidelog_core::{BoxFuture, Error};
use uuid::Uuid;

use self::asking::Asked;
use self::desk::Desk;
use self::generation::{Generation, GenerationError};
use crate::kafka::broker::{
    Broker, BrokerError, Cluster, Fatal, Message, NotSent, Offsets, OriginRecord, Place, Report,
    Tag,
};
use crate::kafka::config::KafkaConfig;
use crate::kafka::voice::Voice;

/// Kafka over librdkafka. Making one asks nobody, and starts no thread.
pub(crate) struct KafkaBroker {
    config: Arc<KafkaConfig>,
    voice: Arc<Voice>,
    desk: Desk,
    threads: Arc<AtomicUsize>,
    generation: Option<Generation>,
}

impl KafkaBroker {
    pub(crate) fn new(config: KafkaConfig) -> Self {
        let voice = Arc::new(Voice::new(&config.connection));
        let config = Arc::new(config);
        Self {
            desk: Desk::new(Arc::clone(&config), Arc::clone(&voice)),
            config,
            voice,
            threads: Arc::default(),
            generation: None,
        }
    }
}

impl Broker for KafkaBroker {
    fn renew(&mut self, generation: u32) -> Result<(), Error> {
        self.generation = None;
        let config = self.config.publisher()?;
        let made = Generation::new(generation, &config, &self.voice, &self.threads);
        self.generation = Some(made.map_err(|error| match error {
            GenerationError::Config(error) => self.config.connection.refused(&error),
            GenerationError::Thread(error) => error,
            GenerationError::TooMany => {
                let reason = "the producers before do not end";
                self.voice.unreachable("begin anew", reason)
            }
        })?);
        Ok(())
    }

    fn cluster(&self, names: Vec<Box<str>>) -> BoxFuture<'static, Result<Cluster, BrokerError>> {
        let producer = self
            .generation
            .as_ref()
            .map(|now| Arc::clone(now.producer()));
        let voice = Arc::clone(&self.voice);
        self.desk.ask(move |origins| match producer {
            // It learns by the way of topics that were made since.
            Some(producer) => {
                let client = producer.client();
                // Its own thread hears it.
                let listen = &|| {};
                let voice = &*voice;
                let asked = Asked {
                    client,
                    voice,
                    listen,
                    since: voice.since(),
                };
                asked.cluster(&names)
            }
            None => origins.cluster(&names),
        })
    }

    fn send(&mut self, message: &Message<'_>, tag: Tag) -> Result<(), NotSent> {
        match &self.generation {
            Some(now) => now.send(message, tag.lane),
            None => Err(NotSent::Fatal),
        }
    }

    fn poll_reports(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Report>,
    ) -> Poll<Result<(), Fatal>> {
        match &self.generation {
            Some(now) => now.poll_reports(cx, into),
            None => Poll::Pending,
        }
    }

    fn offsets(&self, places: Vec<Place>) -> BoxFuture<'static, Result<Vec<Offsets>, BrokerError>> {
        self.desk.ask(move |origins| origins.offsets(&places))
    }

    fn record(
        &self,
        origin: Uuid,
    ) -> BoxFuture<'static, Result<Option<OriginRecord>, BrokerError>> {
        self.desk.ask(move |origins| origins.record(origin))
    }

    fn fence(&self, origin: Uuid) -> BoxFuture<'static, Result<(), BrokerError>> {
        self.desk.ask(move |origins| origins.fence(origin))
    }

    fn mark(&self, record: OriginRecord) -> BoxFuture<'static, Result<(), BrokerError>> {
        self.desk.ask(move |origins| origins.mark(&record))
    }

    fn end(&mut self) {
        self.generation = None;
    }
}
