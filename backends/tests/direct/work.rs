//! What clients do, and what they are answered.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidelog_backends::fake::FakeServer;
use tidelog_backends::wire::{Buckets, Direct, DirectSettings, MetaRow};
use tidelog_core::{
    AppendBatch, AppendOutcome, AppendReceipt, BoxFuture, Clock, ContentType, Error, EventEnvelope,
    EventId, ExpectedVersion, IdSource, Limits, ManualClock, NewEvent, StreamId, StreamQuery,
    Timestamp,
};
use uuid::Uuid;

use crate::network::Network;
use crate::oracle;
use crate::random::Random;

/// Sequences in a bucket: every border is near.
pub const SIZE: u64 = 5;

type Store = Arc<Direct<Network>>;

/// One schedule.
pub struct World {
    random: Random,
    network: Network,
    clock: Arc<ManualClock>,
    clients: Vec<Store>,
    streams: Vec<StreamId>,
    /// Under way: by which client, which of `done`, what is left of it.
    tasks: Vec<(usize, usize, BoxFuture<'static, Done>)>,
    pub done: Vec<Operation>,
    /// Every batch that was ever asked to be appended.
    batches: Vec<AppendBatch>,
    says: bool,
}

/// What was asked for, and what came of it.
pub struct Operation {
    pub what: What,
    /// The highest sequence that was acknowledged in each stream when it was asked for.
    pub acknowledged: u64,
    /// Of an append: whether its events stood there already, in order and with its content.
    pub stood: bool,
    /// The clock when it was asked for.
    pub clock: Timestamp,
    /// `None`: its client died before it was answered.
    pub done: Option<Done>,
}

pub enum What {
    Append(AppendBatch),
    Read(StreamQuery),
    Head(StreamId),
    Find(StreamId, EventId),
}

pub enum Done {
    Appended(Result<AppendReceipt, Error>),
    Read(Result<Vec<EventEnvelope>, Error>),
    Head(Result<u64, Error>),
    Found(Result<Option<EventEnvelope>, Error>),
}

/// How often what happened, over many schedules.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub appended: u64,
    already: u64,
    wrong: u64,
    conflicts: u64,
    unclear: u64,
    unreachable: u64,
    died: u64,
    read: u64,
}

impl Seen {
    pub fn add(&mut self, other: &Self) {
        self.appended += other.appended;
        self.already += other.already;
        self.wrong += other.wrong;
        self.conflicts += other.conflicts;
        self.unclear += other.unclear;
        self.unreachable += other.unreachable;
        self.died += other.died;
        self.read += other.read;
    }

    pub fn rare(&self) -> [(&'static str, u64); 7] {
        [
            ("recorded already", self.already),
            ("wrong versions", self.wrong),
            ("conflicts of ids", self.conflicts),
            ("unclear", self.unclear),
            ("unreachable", self.unreachable),
            ("died", self.died),
            ("read", self.read),
        ]
    }
}

impl World {
    pub fn new(seed: u64, says: bool) -> Self {
        let random = Random::new(seed);
        let server = FakeServer::new(MetaRow {
            keyspace_id: Uuid::nil(),
            schema_version: 1,
            bucket_events: SIZE,
            chunk_records: SIZE,
            arbitration_dc: None,
        });
        let is_faulty = !random.percent(10);
        let network = Network::new(server, random.clone(), is_faulty);
        let mut world = Self {
            network,
            clock: Arc::default(),
            clients: Vec::new(),
            streams: (0..=random.below(2))
                .map(|n| StreamId::new("T", &n.to_string()).unwrap())
                .collect(),
            tasks: Vec::new(),
            done: Vec::new(),
            batches: Vec::new(),
            random,
            says,
        };
        for _ in 0..=world.random.below(2) {
            world.clients.push(world.client());
        }
        world
    }

    fn client(&self) -> Store {
        let settings = DirectSettings {
            server: "simulated".into(),
            limits: Limits {
                batch_events: SIZE as usize,
                ..Limits::default()
            },
            buckets: Buckets::of_size(SIZE),
            give_up: Duration::from_secs(60),
            // Sometimes nothing is remembered.
            cache_bytes: *self.random.pick(&[1, 1 << 20, 1 << 20]),
            clock: self.clock.clone(),
            ids: Arc::new(self.random.clone()),
            sleeper: Arc::new(self.network.clone()),
        };
        Arc::new(Direct::new(self.network.clone(), settings))
    }

    pub fn run(mut self) -> Seen {
        let operations = 8 + self.random.below(30);
        let mut asked = 0;
        let mut steps = 0;
        while asked < operations || !self.tasks.is_empty() {
            steps += 1;
            assert!(steps < 200_000, "no progress");
            if asked == operations && steps > 3_000 {
                self.network.heal();
            }
            match self.random.below(10) {
                0 if asked < operations => {
                    asked += 1;
                    self.ask();
                }
                1 if self.random.percent(4) => self.die(),
                2 if self.random.percent(4) => self.clock.set(Timestamp::from_micros(
                    self.random.below(1 << 40).cast_signed() - (1 << 39),
                )),
                _ => {
                    if let Some(moved) = self.network.step()
                        && self.says
                    {
                        println!("{moved}");
                    }
                }
            }
            self.clock.advance_micros(1);
            self.poll();
        }
        // What is late still comes, and must change nothing that was answered.
        self.network.heal();
        while self.network.step().is_some() {}
        oracle::check(&self, &self.network);
        self.seen()
    }

    fn poll(&mut self) {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut at = 0;
        while at < self.tasks.len() {
            match self.tasks[at].2.as_mut().poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(done) => {
                    let (client, operation, _) = self.tasks.remove(at);
                    if self.says {
                        println!("client {client}: {}", told(operation, &done));
                    }
                    self.done[operation].done = Some(done);
                }
            }
        }
    }

    /// A client dies with all that it has under way, and another one begins.
    fn die(&mut self) {
        let client = self.random.below(self.clients.len() as u64) as usize;
        self.tasks.retain(|(of, ..)| *of != client);
        self.clients[client] = self.client();
        if self.says {
            println!("client {client} died");
        }
    }

    fn ask(&mut self) {
        let client = self.random.below(self.clients.len() as u64) as usize;
        let store = Arc::clone(&self.clients[client]);
        let stream = self.random.pick(&self.streams).clone();
        let what = match self.random.below(10) {
            0..=4 => What::Append(self.batch(&stream)),
            5 | 6 => match self.again() {
                Some(batch) => What::Append(batch),
                None => What::Append(self.batch(&stream)),
            },
            7 => What::Head(stream),
            8 if !self.batches.is_empty() => {
                let batch = self.random.pick(&self.batches);
                What::Find(batch.stream.clone(), batch.events[0].event_id)
            }
            _ => {
                let mut query = StreamQuery::new(stream).from(self.random.below(8));
                if self.random.percent(30) {
                    query = query.backward().limit(1 + self.random.below(9));
                }
                What::Read(query)
            }
        };
        let number = self.done.len();
        let work: BoxFuture<'static, Done> = match &what {
            What::Append(batch) => {
                if self.says {
                    let ids: Vec<_> = batch.events.iter().map(|e| short(e.event_id)).collect();
                    println!("client {client} asks {number}: {} {ids:?}", batch.expected);
                }
                let batch = batch.clone();
                Box::pin(async move { Done::Appended(store.append(batch).await) })
            }
            What::Read(query) => {
                let query = query.clone();
                Box::pin(async move { Done::Read(read(&store, query).await) })
            }
            What::Head(stream) => {
                let stream = stream.clone();
                Box::pin(async move {
                    let head = store.head(&stream).await;
                    Done::Head(head.map(|head| head.map_or(0, |head| head.sequence)))
                })
            }
            What::Find(stream, id) => {
                let (stream, id) = (stream.clone(), *id);
                Box::pin(async move { Done::Found(store.find_event(&stream, id).await) })
            }
        };
        let acknowledged = self.acknowledged(stream_of(&what));
        let stood = match &what {
            What::Append(batch) => self
                .network
                .with_server(|server| oracle::stands(server, batch)),
            _ => false,
        };
        self.done.push(Operation {
            what,
            acknowledged,
            stood,
            clock: self.clock.now(),
            done: None,
        });
        self.tasks.push((client, number, work));
    }

    fn acknowledged(&self, stream: &StreamId) -> u64 {
        let receipts = self
            .done
            .iter()
            .filter_map(|operation| match &operation.done {
                Some(Done::Appended(Ok(receipt))) if receipt.stream == *stream => {
                    Some(receipt.last_sequence)
                }
                _ => None,
            });
        receipts.max().unwrap_or(0)
    }

    fn batch(&mut self, stream: &StreamId) -> AppendBatch {
        let at = self.acknowledged(stream);
        let expected = match self.random.below(10) {
            0..=2 => ExpectedVersion::Any,
            3 if at == 0 => ExpectedVersion::NoStream,
            4 => ExpectedVersion::StreamExists,
            5 => ExpectedVersion::Exact(at + self.random.below(3 * SIZE)),
            6 => ExpectedVersion::Exact(at.saturating_sub(self.random.below(4))),
            _ => ExpectedVersion::Exact(at),
        };
        let events = (0..=self.random.below(SIZE - 1))
            .map(|n| {
                let id = EventId::from_uuid(self.random.next_uuid());
                NewEvent::new("E", 1, ContentType::Bytes, n.to_le_bytes().to_vec()).with_id(id)
            })
            .collect();
        let batch = AppendBatch::new(stream.clone(), expected, events);
        self.batches.push(batch.clone());
        batch
    }

    /// A batch once more: as it was, in part, with another expectation, or with other content.
    fn again(&mut self) -> Option<AppendBatch> {
        if self.batches.is_empty() {
            return None;
        }
        let mut batch = self.random.pick(&self.batches).clone();
        match self.random.below(10) {
            0 => batch.expected = ExpectedVersion::Any,
            1 => batch.events[0].revision = 2,
            2 => {
                let keep = 1 + self.random.below(batch.events.len() as u64) as usize;
                batch.events.truncate(keep);
            }
            3 => {
                let from = self.random.below(batch.events.len() as u64) as usize;
                batch.events.drain(..from);
                if let Some(head) = batch.expected.implied_head() {
                    batch.expected = ExpectedVersion::Exact(head + from as u64);
                }
            }
            _ => {}
        }
        Some(batch)
    }

    fn seen(&self) -> Seen {
        let mut seen = Seen::default();
        for operation in &self.done {
            match &operation.done {
                None => seen.died += 1,
                Some(Done::Appended(Ok(receipt))) => match receipt.outcome {
                    AppendOutcome::Appended => seen.appended += 1,
                    AppendOutcome::AlreadyAppended => seen.already += 1,
                },
                Some(Done::Appended(Err(error))) => match error {
                    Error::WrongVersion { .. } => seen.wrong += 1,
                    Error::IdConflict { .. } => seen.conflicts += 1,
                    Error::Unclear { .. } => seen.unclear += 1,
                    Error::Unreachable { .. } => seen.unreachable += 1,
                    other => panic!("{other:?}"),
                },
                Some(_) => seen.read += 1,
            }
        }
        seen
    }
}

async fn read(store: &Store, query: StreamQuery) -> Result<Vec<EventEnvelope>, Error> {
    let mut pages = store.read(query).await?;
    let mut all = Vec::new();
    while let Some(page) = pages.next().await? {
        assert!(!page.is_empty());
        all.extend(page);
    }
    Ok(all)
}

pub fn stream_of(what: &What) -> &StreamId {
    match what {
        What::Append(batch) => &batch.stream,
        What::Read(query) => &query.stream,
        What::Head(stream) | What::Find(stream, _) => stream,
    }
}

fn short(id: EventId) -> String {
    id.to_string()[..8].to_owned()
}

fn told(operation: usize, done: &Done) -> String {
    match done {
        Done::Appended(answer) => format!("{operation} appended: {answer:?}"),
        Done::Read(Ok(events)) => format!("{operation} read {} events", events.len()),
        Done::Read(Err(error)) => format!("{operation} read: {error}"),
        Done::Head(head) => format!("{operation} head: {head:?}"),
        Done::Found(found) => format!("{operation} found: {found:?}"),
    }
}
