//! One producer from its making to its end, with the thread that hears its reports.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig,
};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, ClientContext};
use tidelog_core::Error;

use super::outcome;
use crate::kafka::broker::{Fatal, Message, NotSent, Outcome, Report, Tag};
use crate::kafka::voice::Voice;

/// An event ends the wait at once; an idle publisher wakes so often.
const POLL: Duration = Duration::from_secs(1);

/// Threads whose producer does not end (one hangs in the resolver, say) are left; so many, and no new
/// producer is made before one has ended.
const MOST_THREADS: usize = 5;

pub(super) type Producer = BaseProducer<Reports>;

pub(super) struct Generation {
    number: u32,
    producer: Arc<Producer>,
    reports: Arc<Shared>,
}

/// What the thread of reports and the publisher share.
pub(super) struct Reports {
    number: u32,
    voice: Arc<Voice>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    came: Mutex<Vec<Report>>,
    waker: AtomicWaker,
    /// librdkafka has said that something failed: whether it has given up, only it knows.
    has_failed: AtomicBool,
    /// It has given up.
    is_fatal: AtomicBool,
    /// The publisher has given up.
    is_ended: AtomicBool,
    /// Nobody hears reports any more.
    is_deaf: AtomicBool,
    /// Something was not queued for want of room.
    is_full: AtomicBool,
    /// And there may be room now.
    has_room: AtomicBool,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.voice.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.voice.complain(&error, reason);
        // What it gave up for has the code of that, and no sign that it did.
        self.shared.has_failed.store(true, Ordering::Release);
        self.shared.waker.wake();
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let statistics = String::from_utf8_lossy(statistics);
        tracing::debug!(target: "tidelog::kafka", "{statistics}");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, delivered: &DeliveryResult<'_>, lane: usize) {
        let outcome = match delivered {
            Ok(message) => Outcome::Delivered {
                partition: message.partition(),
                offset: message.offset(),
            },
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                outcome::of_report(code, message.partition())
            }
        };
        let tag = Tag {
            generation: self.number,
            // It was made of one.
            lane: u32::try_from(lane).unwrap_or(u32::MAX),
        };
        let mut came = self.shared.came.lock();
        came.push(Report { tag, outcome });
        let is_first = came.len() == 1;
        drop(came);
        if is_first {
            self.shared.waker.wake();
        }
    }
}

impl Generation {
    /// Makes a producer of `config` and starts its thread, which `threads` counts.
    pub(super) fn new(
        number: u32,
        config: &ClientConfig,
        voice: &Arc<Voice>,
        threads: &Arc<AtomicUsize>,
    ) -> Result<Self, GenerationError> {
        if threads.load(Ordering::Acquire) >= MOST_THREADS {
            return Err(GenerationError::TooMany);
        }
        let shared = Arc::new(Shared::default());
        let reports = Reports {
            number,
            voice: Arc::clone(voice),
            shared: Arc::clone(&shared),
        };
        let producer: Producer = config
            .create_with_context(reports)
            .map_err(GenerationError::Config)?;
        let producer = Arc::new(producer);
        let (heard, alive) = (Arc::clone(&producer), Alive::new(&shared, threads));
        thread::Builder::new()
            .name("tidelog-kafka".to_owned())
            .spawn(move || alive.hear(heard))
            .map_err(|error| {
                GenerationError::Thread(Error::io("start a thread for", "kafka", error))
            })?;
        Ok(Self {
            number,
            producer,
            reports: shared,
        })
    }

    pub(super) fn producer(&self) -> &Arc<Producer> {
        &self.producer
    }

    pub(super) fn send(&self, message: &Message<'_>, lane: u32) -> Result<(), NotSent> {
        let mut headers = OwnedHeaders::new_with_capacity(message.headers.len());
        for (key, value) in message.headers.iter() {
            let value = Some(value);
            headers = headers.insert(Header { key, value });
        }
        let record = BaseRecord::with_opaque_to(message.topic, lane as usize)
            .key(message.key)
            .payload(message.value)
            .headers(headers);
        self.producer.send(record).map_err(|(error, _)| {
            let why = outcome::of_send(error.rdkafka_error_code());
            match why {
                NotSent::Full => self.reports.is_full.store(true, Ordering::Release),
                NotSent::Fatal if !self.reports.is_fatal.load(Ordering::Acquire) => {
                    tracing::warn!(%error, generation = self.number, "a message cannot be queued");
                    self.reports.is_fatal.store(true, Ordering::Release);
                }
                _ => {}
            }
            why
        })
    }

    pub(super) fn poll_reports(
        &self,
        cx: &mut Context<'_>,
        into: &mut Vec<Report>,
    ) -> Poll<Result<(), Fatal>> {
        let reports = &self.reports;
        reports.waker.register(cx.waker());
        if reports.has_failed.swap(false, Ordering::AcqRel)
            && self.producer.client().fatal_error().is_some()
        {
            reports.is_fatal.store(true, Ordering::Release);
        }
        // Before the reports: those that came before the end are not lost with it.
        let is_fatal = reports.is_fatal.load(Ordering::Acquire);
        let is_deaf = reports.is_deaf.load(Ordering::Acquire);
        let had = into.len();
        let mut came = reports.came.lock();
        if had == 0 {
            std::mem::swap(&mut *came, into);
        } else {
            into.append(&mut came);
        }
        drop(came);
        if let Some(fresh) = into.get(had..).filter(|fresh| !fresh.is_empty()) {
            let is_delivered =
                |report: &Report| matches!(report.outcome, Outcome::Delivered { .. });
            if fresh.iter().any(is_delivered) {
                self.producer.context().voice.works();
            }
            if is_fatal || is_deaf {
                cx.waker().wake_by_ref();
            }
            return Poll::Ready(Ok(()));
        }
        if is_fatal {
            return Poll::Ready(Err(self.fatal()));
        }
        if is_deaf {
            let reason = "the thread that hears its reports has ended".into();
            let lost_data = false;
            return Poll::Ready(Err(Fatal { reason, lost_data }));
        }
        if reports.has_room.swap(false, Ordering::AcqRel) {
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    fn fatal(&self) -> Fatal {
        let told = self.producer.client().fatal_error();
        let (code, reason) = told.unwrap_or((Code::Fatal, "a message cannot be queued".to_owned()));
        Fatal {
            reason: self
                .producer
                .context()
                .voice
                .scrub(&format!("{code}: {reason}")),
            lost_data: outcome::is_lost_data(code),
        }
    }
}

impl Drop for Generation {
    /// Gives up what is under way, and leaves the rest to the thread.
    fn drop(&mut self) {
        self.reports.is_ended.store(true, Ordering::Release);
        let everything = PurgeConfig::default().queue().inflight().non_blocking();
        self.producer.purge(everything);
    }
}

/// Why a generation does not begin.
#[derive(Debug)]
pub(super) enum GenerationError {
    Config(KafkaError),
    Thread(Error),
    /// Producers of before do not end.
    TooMany,
}

/// The thread, as long as it lives.
struct Alive {
    shared: Arc<Shared>,
    threads: Arc<AtomicUsize>,
}

impl Alive {
    fn new(shared: &Arc<Shared>, threads: &Arc<AtomicUsize>) -> Self {
        threads.fetch_add(1, Ordering::AcqRel);
        Self {
            shared: Arc::clone(shared),
            threads: Arc::clone(threads),
        }
    }

    fn hear(self, producer: Arc<Producer>) {
        while !self.shared.is_ended.load(Ordering::Acquire) {
            producer.poll(POLL);
            // The room that reports made is there only after they were all heard.
            if self.shared.is_full.swap(false, Ordering::AcqRel) {
                self.shared.has_room.store(true, Ordering::Release);
                self.shared.waker.wake();
            }
        }
        // Waits for what is purged, half a second at most, and then for its threads.
        drop(producer);
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.threads.fetch_sub(1, Ordering::AcqRel);
        self.shared.is_deaf.store(true, Ordering::Release);
        self.shared.waker.wake();
    }
}
