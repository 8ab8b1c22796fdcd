//! A cluster that does what a test says, and a store that publishes to it while it is driven.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_backends::SledStore;
use tidelog_core::{
    AppendBatch, BoxFuture, CheckpointStore as _, Clock as _, ContentType, Error, EventLog,
    ExpectedVersion, ManualClock, ManualSleeper, NewEvent, StreamId, SystemClock, SystemIds, Ticks,
};
use uuid::Uuid;

use crate::kafka::broker::{
    Broker, BrokerError, Cluster, Fatal, Message, NotSent, Offsets, OriginRecord, Outcome, Place,
    Refusal, Report, Tag,
};
use crate::kafka::sink::{Ask, KafkaOptions, KafkaSink};
use crate::kafka::state::{KafkaState, NAME};
use crate::kafka::status::StatusCell;
use crate::kafka::{KafkaConfig, PublishingStatus};
use crate::listeners::StartAt;
use crate::replicate::embedded::Embedded;
use crate::replicate::mailbox::{self, Mailbox};
use crate::replicate::outbox::Outbox;
use crate::replicate::published::Published;
use crate::replicate::replicator::{Env, Pace, Replicator};

/// A message as it stands in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub stream: String,
    pub sequence: u64,
    pub id: String,
    pub epoch: String,
    pub value: Vec<u8>,
}

/// The cluster, whose topics have one partition each.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each stands for a thing of its own"
)]
pub(super) struct World {
    pub id: &'static str,
    pub topics: BTreeMap<String, Vec<Stored>>,
    /// Larger payloads are refused, with all of their batch.
    pub limit: usize,
    /// Nobody takes what is sent.
    pub is_still: bool,
    /// So many reports are lost.
    pub loses: usize,
    pub fatal: Option<Fatal>,
    pub record: Option<OriginRecord>,
    pub is_down: bool,
    /// So many fences are not taken.
    pub unfenced: usize,
    /// So many questions are answered with a refusal.
    pub denies: usize,
    /// Marks have no answer.
    pub is_mute: bool,
    /// So many messages find no room, and one above this size is not queued at all.
    pub full: usize,
    has_room: bool,
    pub message_limit: usize,
    /// A topic that does not say what it has.
    pub silent: Option<&'static str>,
    /// Handshake records that were written.
    pub marks: usize,
    /// Highest sequence of each stream that was ever there.
    highest: BTreeMap<(String, String), u64>,
    flying: Vec<(Tag, String, Stored)>,
    reports: Vec<Report>,
    fence: u64,
    generation: u32,
    waker: Option<Waker>,
    pub generations: usize,
    /// Where a stream begins again is not looked at.
    forgetful: bool,
}

impl World {
    /// Takes all that was sent, each topic's as one batch.
    fn take(&mut self) {
        if self.is_still || self.is_down {
            return;
        }
        let mut batches: BTreeMap<String, Vec<(Tag, Stored)>> = BTreeMap::new();
        for (tag, topic, stored) in self.flying.drain(..) {
            batches.entry(topic).or_default().push((tag, stored));
        }
        for (topic, batch) in batches {
            let is_refused = batch
                .iter()
                .any(|(_, stored)| stored.value.len() > self.limit);
            for (tag, stored) in batch {
                let outcome = match self.topics.get_mut(&topic) {
                    None => Outcome::Failed(crate::kafka::broker::Trouble::NoTopic),
                    Some(_) if is_refused => Outcome::Refused(Refusal::TooLarge),
                    Some(there) => {
                        let key = (topic.clone(), stored.stream.clone());
                        let highest = self.highest.entry(key).or_default();
                        let begins = self.forgetful && *highest == 0;
                        assert!(
                            begins || stored.sequence <= *highest + 1,
                            "a gap: {stored:?}"
                        );
                        *highest = stored.sequence.max(*highest);
                        there.push(stored);
                        let offset = i64::try_from(there.len()).unwrap() - 1;
                        let partition = 0;
                        Outcome::Delivered { partition, offset }
                    }
                };
                if self.loses > 0 {
                    self.loses -= 1;
                } else {
                    self.reports.push(Report { tag, outcome });
                }
            }
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn make(&mut self, topic: &str) {
        self.topics.insert(topic.to_owned(), Vec::new());
        // What was there is gone.
        self.highest.retain(|(of, _), _| of != topic);
    }

    /// Another copy of the store takes its place.
    pub(super) fn take_over(&mut self) {
        self.fence += 1;
        let record = self.record.as_mut().unwrap();
        record.session = Uuid::from_u128(77);
    }

    /// A topic loses what was written last.
    pub(super) fn lose(&mut self, topic: &str, count: usize) {
        let there = self.topics.get_mut(topic).unwrap();
        there.truncate(there.len() - count);
    }

    /// The same, where what was there is not asked for any more: streams begin anywhere.
    pub(super) fn make_without_memory(&mut self, topic: &str) {
        self.make(topic);
        self.forgetful = true;
    }

    /// Sequences of each stream in a topic, in order, doubles left out.
    pub(super) fn sequences(&self, topic: &str) -> BTreeMap<String, Vec<u64>> {
        let mut of: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for stored in &self.topics[topic] {
            let seen = of.entry(stored.stream.clone()).or_default();
            if !seen.contains(&stored.sequence) {
                seen.push(stored.sequence);
            }
        }
        of
    }
}

#[derive(Clone)]
pub(super) struct Script {
    pub world: Arc<Mutex<World>>,
    fence: u64,
}

impl Script {
    pub(super) fn new() -> Self {
        let world = World {
            id: "c1",
            topics: BTreeMap::new(),
            limit: usize::MAX,
            is_still: false,
            loses: 0,
            fatal: None,
            record: None,
            is_down: false,
            unfenced: 0,
            denies: 0,
            is_mute: false,
            full: 0,
            has_room: false,
            message_limit: usize::MAX,
            silent: None,
            marks: 0,
            highest: BTreeMap::new(),
            flying: Vec::new(),
            reports: Vec::new(),
            fence: 0,
            generation: 0,
            waker: None,
            generations: 0,
            forgetful: false,
        };
        let script = Self {
            world: Arc::new(Mutex::new(world)),
            fence: 0,
        };
        script.world.lock().make("tidelog.T");
        script
    }

    fn answer<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&mut World) -> Result<T, BrokerError>,
    ) -> BoxFuture<'static, Result<T, BrokerError>> {
        let mut world = self.world.lock();
        let done = if world.denies > 0 {
            world.denies -= 1;
            Err(BrokerError::Denied("not you".into()))
        } else if world.is_down {
            Err(BrokerError::Passing(Error::Unreachable {
                server: "the script".into(),
                action: "ask".into(),
                reason: "it is down".into(),
            }))
        } else {
            answer(&mut world)
        };
        Box::pin(async move { done })
    }
}

impl Broker for Script {
    fn renew(&mut self, generation: u32) -> Result<(), Error> {
        let mut world = self.world.lock();
        world.generation = generation;
        world.generations += 1;
        world.fatal = None;
        // What is on its way may still arrive; nobody hears of it.
        world.reports.clear();
        Ok(())
    }

    fn cluster(&self, names: Vec<Box<str>>) -> BoxFuture<'static, Result<Cluster, BrokerError>> {
        self.answer(|world| {
            let there = |name: Box<str>| world.topics.contains_key(&*name).then_some(1);
            Ok(Cluster {
                id: world.id.into(),
                topics: names.into_iter().map(there).collect(),
            })
        })
    }

    fn send(&mut self, message: &Message<'_>, tag: Tag) -> Result<(), NotSent> {
        let mut world = self.world.lock();
        if world.fatal.is_some() {
            return Err(NotSent::Fatal);
        }
        if message.value.len() > world.message_limit {
            return Err(NotSent::TooLarge);
        }
        if world.full > 0 {
            world.full -= 1;
            world.has_room = true;
            return Err(NotSent::Full);
        }
        assert_eq!(tag.generation, world.generation);
        let header = |name: &str| {
            let mut headers = message.headers.iter();
            let found = headers.find(|(known, _)| *known == name).unwrap();
            String::from_utf8(found.1.to_vec()).unwrap()
        };
        let stored = Stored {
            stream: header("ce_subject"),
            sequence: header("ce_sequence").parse().unwrap(),
            id: header("ce_id"),
            epoch: header("ce_epoch"),
            value: message.value.to_vec(),
        };
        let is_under_way = world.flying.iter().any(|(other, _, before)| {
            other.generation == tag.generation && before.stream == stored.stream
        });
        assert!(!is_under_way, "two of a stream are in flight");
        world.flying.push((tag, message.topic.to_owned(), stored));
        Ok(())
    }

    fn poll_reports(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Report>,
    ) -> Poll<Result<(), Fatal>> {
        let mut world = self.world.lock();
        world.waker = Some(cx.waker().clone());
        if !world.reports.is_empty() {
            into.append(&mut world.reports);
            return Poll::Ready(Ok(()));
        }
        match world.fatal.clone() {
            Some(fatal) => Poll::Ready(Err(fatal)),
            // There may be room now.
            None if std::mem::take(&mut world.has_room) => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }

    fn offsets(&self, places: Vec<Place>) -> BoxFuture<'static, Result<Vec<Offsets>, BrokerError>> {
        self.answer(|world| {
            let silent = world.silent;
            let of = |place: &Place| match world.topics.get(&*place.topic) {
                _ if silent == Some(&*place.topic) => Offsets::Unknown,
                None => Offsets::Missing,
                Some(there) => Offsets::There {
                    low: 0,
                    high: i64::try_from(there.len()).unwrap(),
                },
            };
            Ok(places.iter().map(of).collect())
        })
    }

    fn record(&self, _: Uuid) -> BoxFuture<'static, Result<Option<OriginRecord>, BrokerError>> {
        self.answer(|world| Ok(world.record.clone()))
    }

    fn fence(&self, _: Uuid) -> BoxFuture<'static, Result<(), BrokerError>> {
        // The script of a test does one thing at a time: who took it last has it.
        let fence = self.fence;
        self.answer(|world| {
            if world.unfenced > 0 {
                world.unfenced -= 1;
                return Err(BrokerError::Passing(Error::Unreachable {
                    server: "the script".into(),
                    action: "take the fence".into(),
                    reason: "nobody keeps it".into(),
                }));
            }
            world.fence = fence;
            Ok(())
        })
    }

    fn mark(&self, record: OriginRecord) -> BoxFuture<'static, Result<(), BrokerError>> {
        let this = self.clone();
        Box::pin(async move {
            poll_fn(|_| {
                if this.world.lock().is_mute {
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            })
            .await;
            let fence = this.fence;
            let marked = this.answer(|world| {
                if world.fence != fence {
                    return Err(BrokerError::Fenced);
                }
                world.marks += 1;
                world.record = Some(record);
                Ok(())
            });
            marked.await
        })
    }

    fn end(&mut self) {
        self.world.lock().reports.clear();
    }
}

/// A store with its publisher, which runs while it is driven.
pub(super) struct Till {
    pub dir: tempfile::TempDir,
    pub store: SledStore,
    pub script: Script,
    pub status: Arc<StatusCell>,
    pub published: Arc<Published>,
    clock: Arc<ManualClock>,
    /// What the machine takes for the time.
    pub wall: Arc<ManualClock>,
    mailbox: Arc<Mailbox<Ask>>,
    work: Option<BoxFuture<'static, ()>>,
    /// The replica that it follows, if there is one.
    pub replica: Option<Arc<StatusCell>>,
    pub begins: StartAt,
}

impl Till {
    pub(super) fn new() -> Self {
        Self::behind(None)
    }

    pub(super) fn behind(replica: Option<Arc<StatusCell>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::open(dir, Script::new(), replica)
    }

    pub(super) fn open(
        dir: tempfile::TempDir,
        script: Script,
        replica: Option<Arc<StatusCell>>,
    ) -> Self {
        let wall = Arc::new(ManualClock::new(SystemClock.now()));
        let builder = SledStore::builder(dir.path().join("events"));
        let builder = builder.sparse_segments().clock(wall.clone());
        let store = builder.open().unwrap();
        let mut till = Self {
            status: Arc::new(StatusCell::new(store.identity().epoch)),
            published: Arc::default(),
            clock: Arc::default(),
            wall,
            mailbox: Arc::default(),
            work: None,
            dir,
            store,
            script,
            replica,
            begins: StartAt::Beginning,
        };
        till.start();
        till
    }

    fn start(&mut self) {
        self.work = None;
        self.script.fence = self.script.world.lock().fence + 1;
        let env = Env {
            ticks: self.clock.clone(),
            sleeper: Arc::new(ManualSleeper::new(self.clock.clone())),
            ids: Arc::new(SystemIds),
        };
        let outbox: Arc<dyn Outbox> = Arc::new(Embedded::new(&self.store).unwrap());
        let outbox = match &self.replica {
            None => outbox,
            Some(replica) => Arc::new(crate::replicate::gate::Gated::new(outbox, replica.clone())),
        };
        self.published = Arc::default();
        let options = KafkaOptions {
            server: "the script".into(),
            name: "till".into(),
            env: env.clone(),
            overlap: 4,
            start: self.begins,
            is_alone: self.replica.is_none(),
            published: self.published.clone(),
        };
        let config = KafkaConfig::new(["a:1"]);
        let origin = self.store.identity().origin;
        self.status = Arc::new(StatusCell::new(self.store.identity().epoch));
        self.mailbox = Arc::default();
        let replicator = Replicator {
            sink: KafkaSink::new(self.script.clone(), &config, origin, options),
            outbox,
            env,
            pace: Pace::default(),
            mailbox: self.mailbox.clone(),
            status: self.status.clone(),
        };
        self.work = Some(Box::pin(replicator.run()));
    }

    /// Ends the publisher where it stands, as a crash would, and starts another.
    pub(super) fn crash(&mut self) {
        self.start();
    }

    pub(super) fn stop(&mut self) {
        self.work = None;
    }

    /// Appends `count` events with payloads of `size` to a stream; the last position.
    pub(super) fn append(&self, stream: &str, count: usize, size: usize) -> u64 {
        let stream: StreamId = stream.parse().unwrap();
        let event = || NewEvent::new("E", 1, ContentType::Postcard, vec![7; size]);
        let events = (0..count).map(|_| event()).collect();
        let batch = AppendBatch::new(stream, ExpectedVersion::Any, events);
        let receipt = self.store.blocking().append(batch).unwrap();
        receipt.last_position.unwrap()
    }

    /// Lets time pass until what is kept is as `done` says: writes to the disk take their own time.
    pub(super) fn run_until_kept(&mut self, done: impl Fn(&KafkaState) -> bool) {
        for _ in 0..1_000 {
            let kept = pollster::block_on(self.store.load(NAME)).unwrap();
            let kept = kept.map(|bytes| KafkaState::decode(&bytes).unwrap());
            if kept.as_ref().is_some_and(&done) {
                return;
            }
            self.run_for(Duration::from_millis(100));
        }
        panic!("it is not kept");
    }

    /// Lets time pass until all is published, and it is kept where it stands.
    pub(super) fn rest(&mut self) {
        self.settle();
        let last = self.store.last_position();
        let script = self.script.clone();
        self.run_until_kept(|kept| {
            let world = script.world.lock();
            let mut topics = world.topics.iter().filter(|(_, there)| !there.is_empty());
            kept.settled.position == last
                && topics.all(|(topic, there)| {
                    let mut places = kept.places.iter();
                    let newest = i64::try_from(there.len()).unwrap() - 1;
                    places.any(|(place, at)| *place.topic == **topic && *at == newest)
                })
        });
    }

    pub(super) fn store_last(&self) -> u64 {
        self.store.last_position()
    }

    /// Lets the cluster work and time pass, once.
    fn turn(&mut self) {
        let cx = &mut Context::from_waker(Waker::noop());
        let work = self.work.as_mut().unwrap();
        assert!(work.as_mut().poll(cx).is_pending(), "it ended");
        self.script.world.lock().take();
        self.clock.advance_micros(5_000);
        std::thread::sleep(Duration::from_micros(50));
    }

    /// Lets time pass until `done`.
    pub(super) fn run_until(&mut self, done: impl Fn(&PublishingStatus) -> bool) {
        for _ in 0..100_000 {
            if done(&self.status.status()) {
                return;
            }
            self.turn();
        }
        panic!("it does not come to that: {:?}", self.status.status());
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let until = Ticks::now(&*self.clock) + time;
        while Ticks::now(&*self.clock) < until {
            self.turn();
        }
    }

    /// Lets much time pass at once.
    pub(super) fn skip(&mut self, time: Duration) {
        let micros = i64::try_from(time.as_micros()).unwrap();
        self.clock.advance_micros(micros);
        self.run_for(Duration::from_secs(2));
    }

    pub(super) fn settle(&mut self) {
        let last = self.store.last_position();
        self.run_until(|status| status.settled == last && status.in_flight == 0);
    }

    /// Asks what a user would, and lets time pass until there is an answer.
    pub(super) fn ask(&mut self, ask: Ask) -> Result<(), Error> {
        self.tell(|reply| mailbox::Message::Sink(ask, reply))
    }

    pub(super) fn tell(
        &mut self,
        message: impl FnOnce(mailbox::Reply) -> mailbox::Message<Ask> + Send + 'static,
    ) -> Result<(), Error> {
        let mailbox = self.mailbox.clone();
        let mut asked = Box::pin(async move { mailbox.ask(message).await });
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..10_000 {
            if let Poll::Ready(answer) = asked.as_mut().poll(cx) {
                return answer;
            }
            self.turn();
        }
        panic!("there is no answer");
    }

    pub(super) fn parked(&self) -> Vec<(String, &'static str, u64)> {
        let parked = self.status.parked();
        let of = |parked: &crate::PublishingParked| {
            let stream = parked.stream.to_string();
            (stream, parked.reason.code(), parked.first_sequence)
        };
        parked.iter().map(of).collect()
    }

    /// Sequences of a stream that stand in the topic of its type, in order, doubles left out.
    pub(super) fn sequences(&self, stream: &str) -> Vec<u64> {
        let all = self.script.world.lock().sequences("tidelog.T");
        all.get(stream).cloned().unwrap_or_default()
    }
}
