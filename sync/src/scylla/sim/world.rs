//! Everything there is: machines, a server, what is under way between them, and time. One thread;
//! what happens next is chosen from outside, one action at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use tidelog_backends::fake::{Chance, FakeServer};
use tidelog_backends::wire::{ErrorClass, MetaRow, Reply, Request, WireError};
use tidelog_core::{
    BoxFuture, Clock, EventId, IdSource, ManualClock, ManualSleeper, StreamId, Timestamp,
};
use uuid::Uuid;

use super::follower::Follower;
use super::mutants::Mutant;
use super::net::{Answer, Ask, Place, SharedNet, not_sent, unclear};
use super::node::{self, Running};
use super::oracle::Oracle;
use super::puller::PullNode;
use crate::replicate::mailbox::Message;
use crate::replicate::outbox::Outbox;
use crate::replicate::replicator::Pace;
use crate::sim::disk::{Disk, Part};
use crate::sim::log::SimLog;
use crate::sim::rng::{Ids, Rng};

/// How large everything is in one schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub bucket_events: u64,
    pub chunk_records: u64,
    /// Streams written to at once.
    pub lanes: usize,
    /// Records before the watermark that a machine begins with.
    pub overlap: u64,
    pub pace: Pace,
}

/// A machine with a disk, and what runs on it.
pub(super) struct Node {
    pub log: SimLog,
    pub running: Option<Running>,
    /// Wakes the machine's future.
    pub flag: Arc<Flag>,
    /// Copies of its disk that somebody kept.
    pub images: Vec<Disk>,
    /// Another copy of the same store lives.
    pub is_cloned: bool,
    /// It stands still on purpose.
    pub is_off: bool,
    /// Which epoch of which origin is being restored onto it.
    pub restores: Option<(Uuid, Uuid)>,
    /// How often that has failed.
    pub failed: u32,
    /// Since when it sleeps.
    pub asleep: Option<Duration>,
}

/// Set when a future is to be polled.
#[derive(Default)]
pub(super) struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.set();
    }
}

impl Flag {
    /// Whether it was set, which it is not any more.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What happens to a request that has not reached the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The server does it.
    Execute,
    /// The server does it, and a copy of it is still under way.
    ExecuteTwice,
    /// It never arrives.
    Lose,
    /// The server accepts it, and does not commit it; it says nothing clear.
    Propose,
    /// The server does it, and says that it took too long.
    TimeOutAfter,
    /// The server says that it took too long, or that others are not there; it did nothing.
    Unavailable,
}

pub(super) struct World {
    pub rng: Rng,
    pub server: FakeServer,
    /// Whether the server answers at all.
    pub is_up: bool,
    /// The chance in a hundred that a read below SERIAL meets a replica that is behind.
    pub behind: u64,
    pub net: SharedNet,
    pub nodes: Vec<Node>,
    pub followers: Vec<Follower>,
    pub pullers: Vec<PullNode>,
    pub oracle: Oracle,
    pub sizes: Sizes,
    /// What the keyspace says of itself.
    pub meta: MetaRow,
    ids: Ids,
    payloads: u64,
    /// One line an action, when somebody wants it.
    pub trace: Option<Vec<String>>,
    /// What is wrong on purpose.
    pub mutant: Option<Mutant>,
    pub steps: u64,
}

impl World {
    pub(super) fn new(seed: u64, sizes: Sizes) -> Self {
        let ids = Ids::new(seed ^ 0x6964);
        let meta = MetaRow {
            keyspace_id: ids.next_uuid(),
            schema_version: 1,
            bucket_events: sizes.bucket_events,
            chunk_records: sizes.chunk_records,
            arbitration_dc: None,
        };
        let mut server = FakeServer::new(meta.clone());
        server.watch();
        Self {
            rng: Rng::new(seed),
            server,
            is_up: true,
            behind: 0,
            net: SharedNet::default(),
            nodes: Vec::new(),
            followers: Vec::new(),
            pullers: Vec::new(),
            oracle: Oracle::new(meta.clone()),
            sizes,
            meta,
            ids,
            payloads: 0,
            trace: None,
            mutant: None,
            steps: 0,
        }
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace
            && trace.len() < 5_000
        {
            let now = self.net.lock().now.as_millis();
            trace.push(format!("{:>5} {now:>7} ms  {}", self.steps, line()));
        }
    }

    // Machines.

    /// A machine with an empty store.
    pub(super) fn add_node(&mut self) -> usize {
        let disk = Disk::new(self.ids.next_uuid(), self.ids.next_uuid());
        self.add_disk(disk)
    }

    fn add_disk(&mut self, disk: Disk) -> usize {
        let node = self.nodes.len();
        let start = Timestamp::from_micros(1_700_000_000_000_000);
        let clock = Arc::new(ManualClock::new(start));
        let now = self.net.lock().now;
        clock.advance_micros(i64::try_from(now.as_micros()).unwrap());
        let log = SimLog::new(disk, clock, self.ids.clone(), self.net.jobs.clone(), node);
        self.nodes.push(Node {
            log,
            running: None,
            flag: Arc::default(),
            images: Vec::new(),
            is_cloned: false,
            is_off: false,
            restores: None,
            failed: 0,
            asleep: None,
        });
        node
    }

    /// Starts what runs on a machine.
    pub(super) fn start(&mut self, node: usize) {
        let sizes = self.sizes;
        let at = &mut self.nodes[node];
        if at.running.is_some() {
            return;
        }
        at.flag = Arc::default();
        at.running = Some(match at.restores {
            Some((origin, epoch)) => node::restore(&at.log, &self.net, origin, epoch),
            None => {
                // Opening a store makes all that it finds durable.
                at.log.disk.lock().make_durable();
                node::start(&at.log, &self.net, sizes)
            }
        });
        at.flag.clone().wake();
        self.oracle.started(node);
        self.note(|| format!("node {node} starts"));
    }

    /// What runs on a machine is no more. What it asked may still be under way, and what it was
    /// writing to its disk is written, or not.
    pub(super) fn crash(&mut self, node: usize, power: bool) {
        self.note(|| {
            let what = if power { "loses power" } else { "crashes" };
            format!("node {node} {what}")
        });
        self.nodes[node].running = None;
        self.nodes[node].asleep = None;
        {
            let mut net = self.net.lock();
            net.dead.remove(&node);
            net.woken.remove(&node);
        }
        for key in self.net.jobs.of_node(node) {
            if self.rng.chance(50) {
                self.run_job(key);
            } else {
                self.net.jobs.drop(key);
            }
        }
        if power {
            self.nodes[node].log.disk.lock().cut_power();
        }
    }

    /// The store of a machine is closed in order; what runs there ends when it has told what it has to.
    pub(super) fn close(&mut self, node: usize) {
        self.note(|| format!("node {node} closes its store"));
        if let Some(running) = &mut self.nodes[node].running {
            running.closes = true;
            running.mailbox.send(Message::Close);
        }
    }

    /// Whether the store of a machine is being closed.
    pub(super) fn closes(&self, node: usize) -> bool {
        let running = self.nodes[node].running.as_ref();
        running.is_some_and(|running| running.closes)
    }

    /// How far the server knows the log of a machine.
    pub(super) fn watermark(&mut self, node: usize) -> u64 {
        let identity = self.nodes[node].log.identity();
        let request = Request::Origins(identity.origin);
        let Ok(Reply::Origins(rows)) = self.server.execute(&request, &mut |_| true) else {
            return 0;
        };
        let mut rows = rows.iter();
        let row = rows.find(|row| row.epoch == identity.epoch);
        row.map_or(0, |row| row.watermark.position)
    }

    /// A second machine with a copy of the disk of `node`, as it stands.
    pub(super) fn clone_node(&mut self, node: usize) -> usize {
        let disk = self.nodes[node].log.disk.lock().clone();
        let copy = self.add_disk(disk);
        self.nodes[node].is_cloned = true;
        self.nodes[copy].is_cloned = true;
        self.note(|| format!("node {node} is copied to node {copy}"));
        copy
    }

    pub(super) fn keep_image(&mut self, node: usize) {
        let disk = self.nodes[node].log.disk.lock().clone();
        self.nodes[node].images.push(disk);
        self.note(|| format!("an image of node {node} is kept"));
    }

    /// Puts the newest image of a machine's disk back, on a machine that does not run.
    pub(super) fn put_image_back(&mut self, node: usize) {
        let Some(mut disk) = self.nodes[node].images.pop() else {
            return;
        };
        disk.make_durable();
        self.oracle.remember(&self.nodes[node].log.disk.lock());
        *self.nodes[node].log.disk.lock() = disk;
        self.note(|| format!("an old image of node {node} is put back"));
    }

    /// A machine onto which what the server has of an epoch is restored.
    pub(super) fn add_restore(&mut self, origin: Uuid, epoch: Uuid) -> usize {
        let node = self.add_disk(Disk::new(Uuid::nil(), Uuid::nil()));
        self.nodes[node].restores = Some((origin, epoch));
        self.note(|| format!("node {node} restores epoch {epoch} of {origin}"));
        node
    }

    /// A restore ended: what it made is a store now, or it is to be tried again.
    fn restored(&mut self, node: usize) -> Result<(), String> {
        let running = self.nodes[node].running.take();
        let ended = running.and_then(|running| running.ended);
        let done = ended.and_then(|ended| ended.lock().take());
        self.note(|| format!("node {node} has restored: {done:?}"));
        match done {
            Some(Ok(())) => {
                self.nodes[node].restores = None;
                let disk = self.nodes[node].log.disk.lock();
                self.oracle.restored(node, &disk, &self.nodes)?;
            }
            _ => self.nodes[node].failed += 1,
        }
        Ok(())
    }

    pub(super) fn set_clock(&mut self, node: usize, micros: i64) {
        let clock = &self.nodes[node].log.clock;
        clock.set(Timestamp::from_micros(clock.now().as_micros() + micros));
        self.note(|| {
            format!(
                "the clock of node {node} is set by {} s",
                micros / 1_000_000
            )
        });
    }

    // Work.

    pub(super) fn new_event(&mut self) -> (EventId, Bytes) {
        self.payloads += 1;
        let size = if self.rng.chance(10) { 200 } else { 8 };
        let mut payload = format!("{}", self.payloads).into_bytes();
        payload.resize(payload.len().max(size), b'.');
        let id = EventId::from_uuid(self.ids.next_uuid());
        (id, payload.into())
    }

    /// Appends to the log of `node`: so many events to each stream, in one batch.
    pub(super) fn append(&mut self, node: usize, to: &[(StreamId, usize)], durable: bool) {
        let mut parts = Vec::new();
        for (stream, count) in to {
            let events = (0..*count).map(|_| self.new_event()).collect();
            let stream = stream.clone();
            parts.push(Part { stream, events });
        }
        self.note(|| {
            let parts: Vec<String> = to.iter().map(|(s, n)| format!("{n} to {s}")).collect();
            format!(
                "node {node} appends {} (durable: {durable})",
                parts.join(", ")
            )
        });
        let log = &self.nodes[node].log;
        let now = log.clock.now();
        log.disk.lock().append(&parts, now, durable);
        log.notify();
    }

    // The net.

    /// Keys of what is under way: to the server, and back.
    pub(super) fn messages(&self) -> (Vec<u64>, Vec<u64>) {
        let net = self.net.lock();
        let (mut sent, mut answered) = (Vec::new(), Vec::new());
        for (key, message) in &net.messages {
            match message.place {
                Place::Sent => sent.push(*key),
                Place::Answered(_) => answered.push(*key),
                Place::Lost => {}
            }
        }
        (sent, answered)
    }

    /// What becomes of a request that is under way.
    pub(super) fn meet(&mut self, key: u64, fate: Fate) -> Result<(), String> {
        let found = {
            let net = self.net.lock();
            let message = net.messages.get(&key);
            message.map(|message| {
                (
                    message.node,
                    message.ask.clone(),
                    message.deadline.is_some(),
                )
            })
        };
        let Some((node, mut ask, is_waited_for)) = found else {
            return Ok(());
        };
        if let Ask::Request(request) = &mut ask
            && let Some(answer) = self.mutate(node, request)
        {
            self.net.answer(key, answer);
            return Ok(());
        }
        let answer = match (&ask, fate) {
            (_, Fate::Lose) => None,
            _ if !self.is_up => Some(Err(not_sent("connection refused"))),
            (Ask::Connect, Fate::Unavailable | Fate::TimeOutAfter) => {
                Some(Err(not_sent("no connection in time")))
            }
            (Ask::Connect, _) => Some(Ok(Reply::Done)),
            (Ask::Request(_), Fate::Unavailable) => Some(Err(unclear("Unavailable"))),
            (Ask::Request(request), Fate::Propose) => {
                self.oracle.asked(node, request);
                let rng = &mut self.rng;
                self.server.propose(request, &mut |_| rng.chance(50));
                self.judge()?;
                Some(Err(unclear("WriteTimeout")))
            }
            (Ask::Request(request), Fate::TimeOutAfter) => {
                // Only writes: a read that was answered was not unclear.
                self.execute(node, request)?.ok();
                Some(Err(unclear("WriteTimeout")))
            }
            (Ask::Request(request), Fate::Execute | Fate::ExecuteTwice) => {
                Some(self.execute(node, request)?)
            }
        };
        self.note(|| {
            let name = match &ask {
                Ask::Connect => "connect".to_owned(),
                Ask::Request(request) => asked(request),
            };
            let left = if is_waited_for { "" } else { " (nobody waits)" };
            let answer = answer.as_ref().map_or("lost".to_owned(), said);
            format!("{key} of node {node}{left}: {name}: {fate:?}: {answer}")
        });
        if fate == Fate::ExecuteTwice {
            self.net.copy(key);
        }
        let answer = match (&ask, answer) {
            (Ask::Request(request), Some(answer)) => {
                Some(self.mutate_answer(node, request, answer))
            }
            (_, answer) => answer,
        };
        match answer {
            Some(answer) => self.net.answer(key, answer),
            None => self.net.lose(key),
        }
        Ok(())
    }

    /// The server does what is asked, and is watched.
    pub(super) fn execute(&mut self, node: usize, request: &Request) -> Result<Answer, String> {
        self.oracle.asked(node, request);
        let (rng, behind) = (&mut self.rng, self.behind);
        let answer = self.server.execute(request, &mut |chance| match chance {
            Chance::Finish => rng.chance(50),
            Chance::Behind => rng.chance(behind),
        });
        self.judge()?;
        Ok(answer)
    }

    /// Looks at everything that the server has committed since.
    fn judge(&mut self) -> Result<(), String> {
        for request in self.server.take_committed() {
            self.oracle.committed(&request, &self.server, &self.nodes)?;
        }
        Ok(())
    }

    pub(super) fn run_job(&mut self, key: u64) {
        if let Some(mutant) = self.mutant
            && let Some(state) = self.net.jobs.state(key)
        {
            let saved = state.lock().clone();
            if let Some(other) = mutant.save(&saved) {
                *state.lock() = other;
            }
        }
        if let Some((node, label)) = self.net.jobs.find(key) {
            self.note(|| format!("node {node}: {label} is done"));
        }
        self.net.jobs.run(key);
    }

    // Time.

    /// When the next thing happens by itself.
    pub(super) fn next_timer(&self) -> Option<Duration> {
        let net = self.net.lock();
        let is_awake = |node: usize| !self.is_asleep(node);
        let waited_for = net
            .messages
            .values()
            .filter(|message| is_awake(message.node));
        let deadlines = waited_for.filter_map(|message| message.deadline);
        let awake = self.nodes.iter().filter(|node| node.asleep.is_none());
        let clocks = awake.map(|node| &node.log.clock);
        let clocks = clocks.chain(self.followers.iter().map(|follower| &follower.clock));
        let clocks = clocks.chain(self.pullers.iter().map(|puller| &puller.clock));
        let sleepers = clocks.filter_map(|clock| {
            let wake = ManualSleeper::new(clock.clone()).next_wake()?;
            Some(net.now + wake)
        });
        deadlines.chain(sleepers).min()
    }

    pub(super) fn advance_to(&mut self, when: Duration) {
        let (passed, late) = {
            let mut net = self.net.lock();
            let passed = when.saturating_sub(net.now);
            net.now += passed;
            let now = net.now;
            let late = net.messages.iter().filter(|(_, message)| {
                !self.is_asleep(message.node) && message.deadline.is_some_and(|at| at <= now)
            });
            let late: Vec<u64> = late.map(|(key, _)| *key).collect();
            (passed, late)
        };
        self.note(|| format!("{} ms pass", passed.as_millis()));
        for key in late {
            self.net.give_up(key);
        }
        let micros = i64::try_from(passed.as_micros()).unwrap();
        for node in self.nodes.iter().filter(|node| node.asleep.is_none()) {
            node.log.clock.advance_micros(micros);
        }
        for follower in &self.followers {
            follower.clock.advance_micros(micros);
        }
        for puller in &self.pullers {
            puller.clock.advance_micros(micros);
        }
    }

    /// Lets everything run that has something to do.
    pub(super) fn run(&mut self) -> Result<(), String> {
        self.net.jobs.begin();
        for round in 0.. {
            let mut is_quiet = true;
            let mut ended = Vec::new();
            for (number, node) in self.nodes.iter_mut().enumerate() {
                if node.running.is_none()
                    || node.asleep.is_some()
                    || !node.flag.0.swap(false, Ordering::Relaxed)
                {
                    continue;
                }
                is_quiet = false;
                let waker = Waker::from(node.flag.clone());
                let running = node.running.as_mut().unwrap();
                let future: &mut BoxFuture<'static, ()> = &mut running.future;
                if future
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_ready()
                {
                    if running.closes {
                        node.running = None;
                        continue;
                    }
                    if node.restores.is_none() {
                        return Err(format!("what runs on node {number} has ended"));
                    }
                    ended.push(number);
                }
            }
            for follower in &mut self.followers {
                let Some(running) = &mut follower.running else {
                    continue;
                };
                if !follower.flag.0.swap(false, Ordering::Relaxed) {
                    continue;
                }
                is_quiet = false;
                let waker = Waker::from(follower.flag.clone());
                let polled = running.as_mut().poll(&mut Context::from_waker(&waker));
                if polled.is_ready() {
                    return Err(format!("follower {} has ended", follower.number));
                }
            }
            is_quiet &= !self.run_pullers();
            for node in ended {
                self.restored(node)?;
                if self.nodes[node].restores.is_none() {
                    self.start(node);
                }
            }
            if is_quiet {
                break;
            }
            if round > 10_000 {
                return Err("a future wakes itself without end".to_owned());
            }
        }
        self.look_at_what_came()?;
        self.look_at_the_woken()
    }
}

/// A request in a few words.
fn asked(request: &Request) -> String {
    match request {
        Request::Append(append) => {
            let sequences: Vec<u64> = append.rows.iter().map(|r| r.event.sequence).collect();
            let bucket = &append.bucket;
            format!(
                "append {}#{} {sequences:?} on {}",
                bucket.stream,
                bucket.number,
                expected(append.expected)
            )
        }
        Request::PutLog { chunk, rows } => {
            let positions: Vec<u64> = rows.iter().map(|row| row.position).collect();
            format!("put_log #{} {positions:?}", chunk.number)
        }
        Request::Advance { seen, to, .. } => format!("advance {seen:?} to {to:?}"),
        Request::Claim { seen, session, .. } => format!("claim {seen:?} for {session}"),
        Request::Head(bucket) => format!("head {}#{}", bucket.stream, bucket.number),
        Request::Ids {
            bucket,
            from,
            to,
            serial,
        } => format!(
            "ids {}#{} {from}..={to} serial {serial}",
            bucket.stream, bucket.number
        ),
        Request::Fork(fork) => {
            let parent = fork
                .row
                .parent
                .map(|(epoch, position, _)| (epoch, position));
            let (epoch, mark) = (fork.row.epoch, fork.row.watermark.position);
            format!("fork {epoch} out of {parent:?} at {mark}")
        }
        Request::Park(row) => format!(
            "park {} at {} ({}): {}",
            row.key.stream, row.first_sequence, row.key.first_position, row.reason
        ),
        other => {
            let text: String = format!("{other:?}").chars().take(200).collect();
            text
        }
    }
}

fn expected(expected: tidelog_backends::wire::Expected) -> String {
    use tidelog_backends::wire::Expected;
    match expected {
        Expected::Nothing => "nothing".into(),
        Expected::Sequence(sequence) => format!("{sequence}"),
        Expected::Event(sequence, id) => format!("{sequence} {}", short(*id.as_uuid())),
    }
}

fn short(id: Uuid) -> String {
    id.simple().to_string().chars().take(6).collect()
}

/// An answer in a few words.
fn said(answer: &Answer) -> String {
    match answer {
        Ok(Reply::Ids(rows)) => {
            let rows: Vec<String> = rows
                .iter()
                .map(|row| format!("{} {}", row.sequence, short(*row.event_id.as_uuid())))
                .collect();
            rows.join(", ")
        }
        Ok(Reply::Head(head)) => head.map_or("no head".into(), |head| {
            format!("{} {}", head.sequence, short(*head.event_id.as_uuid()))
        }),
        Ok(reply) => {
            let text: String = format!("{reply:?}").chars().take(300).collect();
            text
        }
        Err(WireError { class, text }) => {
            let class: &ErrorClass = class;
            format!("{class:?}: {text}")
        }
    }
}
