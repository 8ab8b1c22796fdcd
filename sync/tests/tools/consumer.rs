//! What stands in topics, as a plain consumer of librdkafka reads it: nothing of what wrote it takes
//! part, and headers are looked at here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::value::RawValue;
use tidelog::{LogQuery, RecordKind, Tidelog};

use crate::topics;

/// Whoever has waited so long waits for ever.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(100);

/// One message as it stands in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// What is compared of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub id: String,
    pub kind: String,
    pub payload_bytes: usize,
    /// Of the payload.
    pub hash: u64,
}

/// Events of streams, `type/id`, in order.
pub type Streams = BTreeMap<String, Vec<Fact>>;

/// What is wrong with what stands in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// No `CloudEvent` of a tidelog.
    Garbage { found: Found, reason: String },
    /// An event before this one was never there.
    Gap {
        stream: String,
        expected: u64,
        found: u64,
    },
    /// The same place of a stream twice, with other content.
    Differs {
        stream: String,
        sequence: u64,
        first: Fact,
        second: Fact,
    },
    /// The same event in two places.
    Moved { id: String, found: Found },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Holds what was read against what has to be: of each stream the events from 1 on without a gap, and
/// doubles equal. Streams stay in one partition each.
#[derive(Clone, Debug, Default)]
pub struct Checker {
    streams: Streams,
    places: BTreeMap<String, (String, i32)>,
    ids: BTreeSet<String>,
    pub messages: usize,
    pub doubles: usize,
    pub wrong: Vec<Wrong>,
}

impl Checker {
    /// What a fresh consumer sees of `topics` now.
    pub fn of(address: &str, topics: &[impl AsRef<str>]) -> Self {
        let mut checker = Self::default();
        for found in read(address, topics) {
            checker.take(&found);
        }
        checker
    }

    /// One message more; of one partition they come in order.
    pub fn take(&mut self, found: &Found) {
        self.messages += 1;
        let read = cloud_event(found);
        let (stream, sequence, fact) = match read {
            Ok(read) => read,
            Err(reason) => {
                let found = found.clone();
                return self.wrong.push(Wrong::Garbage { found, reason });
            }
        };
        let place = (found.topic.clone(), found.partition);
        let first_place = self.places.entry(stream.clone()).or_insert(place.clone());
        if *first_place != place {
            let found = found.clone();
            self.wrong.push(Wrong::Moved { id: fact.id, found });
            return;
        }
        let facts = self.streams.entry(stream.clone()).or_default();
        let expected = facts.len() as u64 + 1;
        if sequence == expected {
            if !self.ids.insert(fact.id.clone()) {
                let (id, found) = (fact.id.clone(), found.clone());
                self.wrong.push(Wrong::Moved { id, found });
            }
            facts.push(fact);
        } else if sequence > expected || sequence == 0 {
            self.wrong.push(Wrong::Gap {
                stream,
                expected,
                found: sequence,
            });
        } else {
            self.doubles += 1;
            let first = &facts[usize::try_from(sequence).unwrap() - 1];
            if *first != fact {
                self.wrong.push(Wrong::Differs {
                    stream,
                    sequence,
                    first: first.clone(),
                    second: fact,
                });
            }
        }
    }

    /// Events that were seen, doubles not counted.
    pub fn events(&self) -> usize {
        self.ids.len()
    }

    /// Every stream so far.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Panics if anything was wrong.
    pub fn assert_in_order(&self) {
        let wrong = self.wrong.iter().take(5);
        let wrong: Vec<_> = wrong.map(ToString::to_string).collect();
        assert!(
            wrong.is_empty(),
            "{} wrong of {} messages:\n{}",
            self.wrong.len(),
            self.messages,
            wrong.join("\n")
        );
    }

    /// Panics unless Kafka has just these events, in order.
    pub fn assert_is(&self, logs: &Streams) {
        self.assert_in_order();
        for (stream, facts) in logs {
            let found = self.streams.get(stream).map_or(&[][..], Vec::as_slice);
            if found != facts {
                let at = found.iter().zip(facts).take_while(|(a, b)| a == b).count();
                panic!(
                    "{stream}: {} events, {} in Kafka; the first that differs is {}: {:?}, in Kafka {:?}",
                    facts.len(),
                    found.len(),
                    at + 1,
                    facts.get(at),
                    found.get(at)
                );
            }
        }
        for (stream, facts) in &self.streams {
            assert!(logs.contains_key(stream), "{stream}: nobody's: {facts:?}");
        }
    }
}

/// Events of an open store as they are to stand in Kafka.
pub async fn streams_of(log: &Tidelog) -> Streams {
    let mut streams = Streams::new();
    let mut events = log.read_all(LogQuery::all());
    while let Some(event) = events.next().await {
        let event = event.unwrap();
        if event.kind == RecordKind::Control {
            continue;
        }
        let facts = streams.entry(event.stream.to_string()).or_default();
        assert_eq!(event.sequence, facts.len() as u64 + 1, "{event:?}");
        let fact = Fact {
            id: event.event_id.to_string(),
            kind: event.event_type.to_string(),
            payload_bytes: event.event.len(),
            hash: hash(&event.event),
        };
        facts.push(fact);
    }
    streams
}

/// Everything that stands in `topics` now, in order within each partition.
pub fn read(address: &str, topics: &[impl AsRef<str>]) -> Vec<Found> {
    let topics = topics.iter().map(AsRef::as_ref);
    let parts = topics.flat_map(|topic| topics::read(address, topic).into_values());
    parts.flatten().map(|message| of(&message)).collect()
}

/// A consumer of all partitions, from the beginning. Waits for topics that are not there yet.
fn assigned(address: &str, topics: &[String]) -> BaseConsumer {
    let mut config = topics::client(address);
    config.set("group.id", topics::unique("checking"));
    config.set("enable.auto.commit", "false");
    config.set("auto.offset.reset", "earliest");
    config.set("fetch.wait.max.ms", "50");
    config.set("topic.metadata.refresh.interval.ms", "2000");
    // Brokers of tests are away for seconds.
    config.set("reconnect.backoff.max.ms", "1000");
    let consumer: BaseConsumer = config.create().unwrap();
    let (mut places, begun) = (TopicPartitionList::new(), Instant::now());
    for topic in topics {
        let partitions = loop {
            if let Some(partitions) = topics::partitions(address, topic) {
                break partitions;
            }
            assert!(begun.elapsed() < PATIENCE, "there is no topic {topic}");
            std::thread::sleep(LOOK);
        };
        for partition in 0..i32::try_from(partitions).unwrap() {
            let place = places.add_partition_offset(topic, partition, Offset::Beginning);
            place.unwrap();
        }
    }
    consumer.assign(&places).unwrap();
    consumer
}

fn of(message: &impl Message) -> Found {
    let headers = message.headers().into_iter().flat_map(|headers| {
        let each = headers.iter();
        each.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
    });
    Found {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.collect(),
    }
}

impl Found {
    /// What a header says, if it is there once and has text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(header, _)| header == name);
        let (_, value) = named.next()?;
        let once = named.next().is_none();
        value
            .as_deref()
            .filter(|_| once)
            .and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// What an attribute says.
type Text<'a> = Box<dyn Fn(&str) -> Option<String> + 'a>;

/// The stream, the sequence and the event, in binary and in structured mode.
fn cloud_event(found: &Found) -> Result<(String, u64, Fact), String> {
    let content = found.header("content-type").ok_or("no content type")?;
    let (text, payload): (Text<'_>, Vec<u8>) =
        if content.starts_with("application/cloudevents+json") {
            let value = found.value.as_deref().unwrap_or_default();
            let mut object: BTreeMap<String, Box<RawValue>> =
                serde_json::from_slice(value).map_err(|error| error.to_string())?;
            let payload = match (object.remove("data"), object.remove("data_base64")) {
                (None, Some(base64)) => decoded(&string(&base64).ok_or("data_base64 is no text")?)?,
                // As it stands there, byte by byte.
                (Some(data), None) => data.get().as_bytes().to_vec(),
                _ => return Err("neither data nor data_base64, or both".to_owned()),
            };
            let text = move |name: &str| string(object.get(name)?);
            (Box::new(text), payload)
        } else {
            let value = found.value.clone().ok_or("a tombstone")?;
            let text = |name: &str| Some(found.header(&format!("ce_{name}"))?.to_owned());
            (Box::new(text), value)
        };
    let text = |name: &str| text(name).ok_or(format!("no {name}"));
    if text("specversion")? != "1.0" {
        return Err("another version".to_owned());
    }
    let (stream, sequence) = (text("subject")?, text("sequence")?);
    let sequence = sequence
        .parse()
        .map_err(|_| format!("sequence {sequence}"))?;
    let id = stream.split_once('/').ok_or("no stream")?.1;
    if found.key.as_deref() != Some(id.as_bytes()) {
        return Err(format!("the key of {stream} is {:?}", found.key));
    }
    let fact = Fact {
        id: text("id")?,
        kind: text("type")?,
        payload_bytes: payload.len(),
        hash: hash(&payload),
    };
    Ok((stream, sequence, fact))
}

fn string(json: &RawValue) -> Option<String> {
    serde_json::from_str(json.get()).ok()
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn decoded(base64: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in base64.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(format!("no base64: {base64}")),
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    Ok(bytes)
}

/// Reads topics on a thread of its own, while something else happens.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    checker: Mutex<Checker>,
    news: Condvar,
    ended: AtomicBool,
}

impl Shared {
    fn checker(&self) -> MutexGuard<'_, Checker> {
        self.checker.lock().unwrap()
    }
}

impl Watch {
    /// Begins to read `topics`, which are there or will be soon.
    pub fn begin(address: &str, topics: &[impl AsRef<str>]) -> Self {
        let topics: Vec<_> = topics
            .iter()
            .map(|topic| topic.as_ref().to_owned())
            .collect();
        let shared = Arc::<Shared>::default();
        let (of_thread, address) = (Arc::clone(&shared), address.to_owned());
        let thread = std::thread::spawn(move || {
            let consumer = assigned(&address, &topics);
            while !of_thread.ended.load(Ordering::Relaxed) {
                if let Some(Ok(message)) = consumer.poll(LOOK) {
                    of_thread.checker().take(&of(&message));
                    of_thread.news.notify_all();
                }
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Checker {
        self.shared.checker().clone()
    }

    /// Waits until `is` holds of what it has seen, for as long as it sees more.
    pub fn until(&self, what: &str, is: impl Fn(&Checker) -> bool) {
        let (mut checker, mut since) = (self.shared.checker(), Instant::now());
        let mut messages = checker.messages;
        while !is(&checker) {
            if checker.messages > messages {
                (messages, since) = (checker.messages, Instant::now());
            }
            assert!(
                since.elapsed() < PATIENCE,
                "{what}: {} messages, {} events, wrong: {:?}",
                checker.messages,
                checker.events(),
                checker.wrong.first()
            );
            checker = self.shared.news.wait_timeout(checker, LOOK).unwrap().0;
        }
    }

    /// Ends it; what it has seen.
    pub fn end(mut self) -> Checker {
        self.stop();
        self.seen()
    }

    fn stop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the consumer failed"
            );
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}
