//! Groups, topics and events of these tests.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;
use tidelog::{
    EventEnvelope, EventListener, EventListenerContainer, HandlerError, KafkaListenerConfig,
    ListenerOptions, RetryPolicy, RunningKafkaListeners, TopicSpec,
};

use crate::{services, topics};

/// Whoever has waited so long waits for ever.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A topic, and a group that reads it.
pub struct Group {
    pub address: String,
    pub topic: String,
    pub name: String,
}

impl Group {
    /// `None` without a broker.
    pub fn new(test: &str, partitions: i32) -> Option<Self> {
        let address = services::kafka()?;
        let topic = topics::unique(test);
        let name = format!("{topic}-group");
        topics::create(&address, &topic, partitions, &[]);
        let group = Self {
            address,
            topic,
            name,
        };
        pollster::block_on(group.config().ensure_topics(TopicSpec::new(2, 1))).unwrap();
        Some(group)
    }

    pub fn config(&self) -> KafkaListenerConfig {
        KafkaListenerConfig::new([&self.address], self.name.as_str())
            .topics([self.topic.as_str()])
            .hold_for(Duration::from_secs(2))
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "500")
            .set("fetch.wait.max.ms", "20")
    }

    pub fn start(&self, listener: impl EventListener) -> RunningKafkaListeners {
        start_with(self.config(), listener, options())
    }

    /// Writes events of streams, each with its sequence.
    pub fn write(&self, events: &[(&str, u64)]) {
        let all: Vec<_> = events
            .iter()
            .map(|(id, at)| (id, headers(id, *at)))
            .collect();
        let plain: Vec<Vec<(&str, &str)>> = all
            .iter()
            .map(|(_, headers)| headers.iter().map(|(n, v)| (*n, v.as_str())).collect())
            .collect();
        let messages = all.iter().zip(&plain).map(|((id, _), headers)| {
            let message: topics::Written<'_> =
                (Some(id.as_bytes()), Some(&b"payload"[..]), &headers[..]);
            message
        });
        topics::write(&self.address, &self.topic, messages);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let (dead, parked) = (
            format!("{}.dead", self.name),
            format!("{}.parked", self.name),
        );
        if !std::thread::panicking() {
            topics::delete(&self.address, &[&self.topic, &dead, &parked]);
        }
    }
}

pub fn start_with(
    config: KafkaListenerConfig,
    listener: impl EventListener,
    options: ListenerOptions,
) -> RunningKafkaListeners {
    let container = EventListenerContainer::kafka(config).listener_with(listener, options);
    container.build().unwrap().start().unwrap()
}

pub fn options() -> ListenerOptions {
    ListenerOptions::default()
        .save_every(Duration::from_millis(200))
        .retry(RetryPolicy {
            attempts: 3,
            first: Duration::from_millis(10),
            ceiling: Duration::from_millis(50),
        })
}

/// What a store's message of `Till/<id>` says.
pub fn headers(id: &str, sequence: u64) -> Vec<(&'static str, String)> {
    let time = "2026-01-02T03:04:05.000006Z".to_owned();
    let event = blake3::hash(format!("{id} {sequence}").as_bytes());
    let event = uuid::Uuid::from_slice(&event.as_bytes()[..16]).unwrap();
    vec![
        ("ce_specversion", "1.0".into()),
        ("ce_id", event.to_string()),
        (
            "ce_source",
            "urn:uuid:00000000-0000-4000-8000-000000000001".into(),
        ),
        ("ce_type", "Sold".into()),
        ("ce_subject", format!("Till/{id}")),
        ("ce_time", time.clone()),
        ("content-type", "application/postcard".into()),
        ("ce_sequence", sequence.to_string()),
        ("ce_revision", "1".into()),
        ("ce_position", sequence.to_string()),
        ("ce_epoch", "00000000-0000-4000-8000-000000000002".into()),
        ("ce_recordedtime", time),
        ("ce_batchindex", "0".into()),
        ("ce_batchcount", "1".into()),
    ]
}

/// Tells what it handled, and fails where it is told to.
pub struct Told {
    told: Mutex<Sender<(String, u64)>>,
    poison: Arc<Mutex<Vec<(String, u64)>>>,
}

pub struct Heard {
    heard: Receiver<(String, u64)>,
    pub poison: Arc<Mutex<Vec<(String, u64)>>>,
}

pub fn told() -> (Told, Heard) {
    let (told, heard) = channel();
    let poison = Arc::<Mutex<Vec<(String, u64)>>>::default();
    let told = Told {
        told: Mutex::new(told),
        poison: Arc::clone(&poison),
    };
    (told, Heard { heard, poison })
}

impl Told {
    /// Another listener that tells whom this one tells.
    pub fn twin(&self) -> Self {
        Self {
            told: Mutex::new(self.told.lock().clone()),
            poison: Arc::clone(&self.poison),
        }
    }
}

impl Heard {
    /// The next `count` that are handled.
    pub fn next(&self, count: usize) -> Vec<(String, u64)> {
        let next = (0..count).map(|at| {
            let heard = self.heard.recv_timeout(PATIENCE);
            heard.unwrap_or_else(|_| panic!("only {at} of {count} were handled"))
        });
        next.collect()
    }

    /// What was handled and not looked at.
    pub fn rest(&self) -> Vec<(String, u64)> {
        self.heard.try_iter().collect()
    }
}

impl EventListener for Told {
    async fn on(&self, event: &EventEnvelope) -> Result<(), HandlerError> {
        let what = (event.aggregate_id().to_owned(), event.sequence);
        if self.poison.lock().contains(&what) {
            return Err(HandlerError::permanent("it is poison"));
        }
        // The test may be over.
        let _ = self.told.lock().send(what);
        Ok(())
    }
}

pub fn of(id: &str, sequences: impl IntoIterator<Item = u64>) -> Vec<(String, u64)> {
    let events = sequences.into_iter();
    events.map(|sequence| (id.to_owned(), sequence)).collect()
}
