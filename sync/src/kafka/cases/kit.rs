//! Who is asked, and short ways to ask.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use tidelog_core::cloudevents::Headers;
use uuid::Uuid;

use crate::kafka::broker::{
    Broker, Fatal, Message, NotSent, Offsets, OriginRecord, Outcome, Place, Report, Tag,
};
pub(super) use crate::kafka::fake::cluster::Stored;

/// Most messages of a batch.
pub(super) const BATCH: usize = 4;
/// Most messages in a producer's queue.
pub(super) const QUEUE: usize = 1_024;
/// Most bytes of a message that a producer queues.
pub(super) const MESSAGE: usize = 50_000;
/// Most bytes of a batch, where a case says nothing else.
pub(super) const LIMIT: usize = 10_000;

/// A cluster, and what operators and accidents do to it. One case has it for itself, so names of topics
/// are its own.
pub(super) trait Subject: Sync {
    type Client: Broker;

    fn client(&self) -> Self::Client;

    /// One whose messages wait as long as it takes for a topic that is missing.
    fn patient_client(&self) -> Self::Client {
        self.client()
    }

    /// Waits for `work`, and lets happen meanwhile what happens by itself.
    fn wait<T>(&self, work: impl Future<Output = T>) -> T;

    /// The whole name of a topic of this case.
    fn name(&self, topic: &str) -> String;

    /// The topic of handshake records.
    fn origins(&self) -> String;

    /// Makes a topic; a batch of it has at most `limit` bytes.
    fn make(&self, topic: &str, partitions: usize, limit: usize);

    fn grow(&self, topic: &str, partitions: usize);

    fn delete(&self, topic: &str);

    /// A topic's batches have at most so many bytes from now on, or soon.
    fn limit(&self, topic: &str, limit: usize);

    /// What stands before `offset` is past its retention.
    fn expire(&self, topic: &str, partition: i32, offset: usize);

    /// Somebody else writes a message by a transaction that stays open as long as what is answered.
    fn intrude(&self, topic: &str) -> Box<dyn Send>;

    /// Handshake records are refused, or are not, from now on or soon.
    fn refuse_records(&self, is_refused: bool);

    /// Nothing is answered until [`go_on`](Self::go_on).
    fn stop(&self);

    fn go_on(&self);

    /// Ends without a word, with whatever is under way, and is there again.
    fn crash(&self);

    /// Ends, loses half of what a place had, or all of it, and is there again.
    fn rob(&self, topic: &str, is_all: bool);

    /// All that stands in a topic, by its partitions.
    fn read(&self, topic: &str) -> Vec<Vec<Stored>>;
}

/// One case: it asks, and panics when something is not as it should be.
pub(super) type Case<S> = fn(&S);

/// Writes a list of cases.
macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        pub(super) fn cases<S: super::kit::Subject>() -> Vec<(&'static str, super::kit::Case<S>)> {
            vec![$((stringify!($name), $name::<S>)),+]
        }
    };
}
pub(super) use cases;

/// What a case fails by.
pub(super) fn outcome(case: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(case)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Some(text.unwrap_or_else(|| "something".to_owned()))
}

/// A client that publishes.
pub(super) struct Publisher<'a, S: Subject> {
    pub subject: &'a S,
    pub broker: S::Client,
    generation: u32,
    next: u32,
}

impl<'a, S: Subject> Publisher<'a, S> {
    pub fn new(subject: &'a S) -> Self {
        Self::of(subject, subject.client())
    }

    pub fn of(subject: &'a S, broker: S::Client) -> Self {
        let mut publisher = Self {
            subject,
            broker,
            generation: 0,
            next: 0,
        };
        publisher.renew();
        publisher
    }

    pub fn renew(&mut self) {
        self.generation += 1;
        self.broker.renew(self.generation).unwrap();
    }

    /// Sends a message; answers the number of its lane, which is one more each time.
    pub fn send(&mut self, topic: &str, key: &str, value: &[u8]) -> Result<u32, NotSent> {
        let mut headers = Headers::default();
        headers.put("ce_id", key.as_bytes());
        headers.put("empty", b"");
        let message = Message {
            topic,
            key: key.as_bytes(),
            headers: &headers,
            value,
        };
        let tag = Tag {
            generation: self.generation,
            lane: self.next,
        };
        self.broker.send(&message, tag)?;
        self.next += 1;
        Ok(tag.lane)
    }

    /// Sends all of these, each under a key of its own.
    pub fn send_all<V: AsRef<[u8]>>(&mut self, topic: &str, values: impl IntoIterator<Item = V>) {
        for value in values {
            self.send(topic, "key", value.as_ref()).unwrap();
        }
    }

    /// Waits for so many reports, no more and no less.
    pub fn reports(&mut self, count: usize) -> Result<Vec<Report>, Fatal> {
        let mut all = Vec::new();
        while all.len() < count {
            let broker = &mut self.broker;
            let more = poll_fn(|cx| broker.poll_reports(cx, &mut all));
            self.subject.wait(more)?;
        }
        assert_eq!(all.len(), count, "{all:?}");
        let is_own = |report: &Report| report.tag.generation == self.generation;
        assert!(all.iter().all(is_own), "{all:?}");
        Ok(all)
    }

    /// What has come of the next so many, by their lanes' order.
    pub fn outcomes(&mut self, count: usize) -> Vec<Outcome> {
        let mut reports = self.reports(count).unwrap();
        reports.sort_by_key(|report| report.tag.lane);
        reports.into_iter().map(|report| report.outcome).collect()
    }

    /// Sends one alone; answers what comes of it.
    pub fn one(&mut self, topic: &str, value: &[u8]) -> Outcome {
        self.send(topic, "key", value).unwrap();
        self.outcomes(1).remove(0)
    }

    /// Waits for the end of this generation, and answers what was reported before it.
    pub fn end(&mut self) -> (Vec<Report>, Fatal) {
        let mut all = Vec::new();
        loop {
            let broker = &mut self.broker;
            let more = poll_fn(|cx| broker.poll_reports(cx, &mut all));
            if let Err(fatal) = self.subject.wait(more) {
                return (all, fatal);
            }
        }
    }

    /// Whether anything is reported now.
    pub fn is_silent(&mut self) -> bool {
        let (broker, mut all) = (&mut self.broker, Vec::new());
        let now = poll_fn(|cx| Poll::Ready(broker.poll_reports(cx, &mut all)));
        self.subject.wait(now).is_pending()
    }

    /// How many partitions a topic has, as the cluster says.
    pub fn look(&self, topic: &str) -> Option<u32> {
        let cluster = self.broker.cluster(vec![topic.into()]);
        self.subject.wait(cluster).unwrap().topics[0]
    }

    pub fn offsets(&self, topic: &str, partitions: usize) -> Vec<Offsets> {
        let places = (0..partitions).map(|partition| place(topic, partition));
        let offsets = self.broker.offsets(places.collect());
        self.subject.wait(offsets).unwrap()
    }
}

pub(super) fn place(topic: &str, partition: usize) -> Place {
    Place {
        topic: topic.into(),
        partition: i32::try_from(partition).unwrap(),
    }
}

/// Bytes that no compression makes fewer; `number` makes them others.
pub(super) fn noise(number: u64, bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15 ^ (number << 1);
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(bytes).collect()
}

/// A value that fits into every topic, with many others.
pub(super) fn small(number: u64) -> Vec<u8> {
    noise(number, 100)
}

/// One that fits into none of [`LIMIT`].
pub(super) fn large(number: u64) -> Vec<u8> {
    noise(number, 2 * LIMIT)
}

/// Where a message stands.
pub(super) fn stands(outcome: &Outcome) -> (i32, i64) {
    match outcome {
        Outcome::Delivered { partition, offset } => (*partition, *offset),
        other => panic!("it is not delivered: {other:?}"),
    }
}

/// What stands in a topic of one partition.
pub(super) fn values<S: Subject>(subject: &S, topic: &str) -> Vec<Vec<u8>> {
    let mut parts = subject.read(topic);
    assert_eq!(parts.len(), 1);
    let found = parts.remove(0).into_iter();
    found.map(|stored| stored.value).collect()
}

/// An id of this case and of no other run: fences outlive topics.
pub(super) fn id<S: Subject>(subject: &S, of: &str) -> Uuid {
    let hash = blake3::hash(subject.name(of).as_bytes());
    Uuid::from_bytes(hash.as_bytes()[..16].try_into().unwrap())
}

pub(super) fn record(origin: Uuid, session: u128, position: u64) -> OriginRecord {
    OriginRecord {
        origin,
        first_epoch: Uuid::from_u128(1),
        epoch: Uuid::from_u128(2),
        parent: None,
        session: Uuid::from_u128(session),
        position,
        commit: position,
        hash: [7; 32],
        name: "till 3".into(),
        retired: Vec::new(),
    }
}
