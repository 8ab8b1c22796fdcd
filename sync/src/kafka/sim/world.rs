//! Everything there is: machines, a Kafka, what is under way between them, and time. One thread; what
//! happens next is chosen from outside, one action at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use tidelog_core::{
    BoxFuture, Clock, EventId, IdSource, ManualClock, ManualSleeper, StreamId, Timestamp,
};

use super::mutants::Mutant;
use super::node::{self, Replica, Running};
use super::oracle::Oracle;
use crate::kafka::KafkaConfig;
use crate::kafka::fake::moves::{Fault, Move};
use crate::kafka::fake::{Fake, Queue};
use crate::kafka::sink::Ask;
use crate::replicate::mailbox::Message;
use crate::replicate::replicator::Pace;
use crate::sim::disk::{Disk, Part};
use crate::sim::jobs::Jobs;
use crate::sim::log::SimLog;
use crate::sim::rng::{Ids, Rng};

/// How large everything is in one schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub pace: Pace,
    /// Records before the place where it stood that are published again after a loss.
    pub overlap: u64,
    pub queue: Queue,
    /// What is published is what a replica accepts.
    pub is_gated: bool,
}

/// A machine with a disk, and what runs on it.
pub(super) struct Node {
    pub log: SimLog,
    pub running: Option<Running>,
    pub flag: Arc<Flag>,
    /// Copies of its disk that somebody kept.
    pub images: Vec<Disk>,
    /// It stands still on purpose.
    pub is_off: bool,
    /// What its replica says, where there is one.
    pub replica: Replica,
}

/// Set when a future is to be polled.
#[derive(Default)]
pub(super) struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) struct World {
    pub rng: Rng,
    pub fake: Fake,
    pub jobs: Jobs,
    pub nodes: Vec<Node>,
    pub oracle: Oracle,
    pub sizes: Sizes,
    pub config: KafkaConfig,
    pub ids: Ids,
    payloads: u64,
    pub now: Duration,
    pub trace: Option<Vec<String>>,
    pub mutant: Option<Mutant>,
    pub steps: u64,
    /// How much was sent, taken, asked and saved.
    pub met: u64,
}

impl World {
    pub(super) fn new(seed: u64, sizes: Sizes) -> Self {
        let fake = Fake::new(sizes.queue);
        fake.lock().cluster.origins = Some(std::collections::BTreeMap::new());
        Self {
            rng: Rng::new(seed),
            fake,
            jobs: Jobs::default(),
            nodes: Vec::new(),
            oracle: Oracle::default(),
            sizes,
            config: KafkaConfig::new(["memory:9092"]),
            ids: Ids::new(seed ^ 0x6964),
            payloads: 0,
            now: Duration::ZERO,
            trace: None,
            mutant: None,
            steps: 0,
            met: 0,
        }
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace
            && trace.len() < 5_000
        {
            let now = self.now.as_millis();
            trace.push(format!("{:>5} {now:>8} ms  {}", self.steps, line()));
        }
    }

    // Machines.

    pub(super) fn add_node(&mut self) -> usize {
        let disk = Disk::new(self.ids.next_uuid(), self.ids.next_uuid());
        self.add_disk(disk)
    }

    fn add_disk(&mut self, disk: Disk) -> usize {
        let node = self.nodes.len();
        let start = Timestamp::from_micros(1_700_000_000_000_000);
        let clock = Arc::new(ManualClock::new(start));
        clock.advance_micros(i64::try_from(self.now.as_micros()).unwrap());
        let epoch = disk.identity().epoch;
        let log = SimLog::new(disk, clock, self.ids.clone(), self.jobs.clone(), node);
        self.nodes.push(Node {
            log,
            running: None,
            flag: Arc::default(),
            images: Vec::new(),
            is_off: false,
            replica: Replica {
                is_used: self.sizes.is_gated,
                ..Replica::new(epoch)
            },
        });
        node
    }

    pub(super) fn start(&mut self, node: usize) {
        let at = &mut self.nodes[node];
        if at.running.is_some() {
            return;
        }
        at.flag = Arc::default();
        // Opening a store makes all that it finds durable.
        at.log.disk.lock().make_durable();
        at.replica.restarted(&at.log);
        let broker = self.fake.broker(node);
        at.running = Some(node::start(
            &at.log,
            broker,
            &self.config,
            self.sizes,
            &at.replica,
            self.mutant,
        ));
        at.flag.clone().wake();
        self.note(|| format!("node {node} starts"));
    }

    /// What runs on a machine is no more. What it sent and asked may still be under way, and what it
    /// was writing to its disk is written, or not.
    pub(super) fn crash(&mut self, node: usize, power: bool) {
        self.note(|| {
            let what = if power { "loses power" } else { "crashes" };
            format!("node {node} {what}")
        });
        self.nodes[node].running = None;
        for key in self.jobs.of_node(node) {
            if self.rng.chance(50) {
                self.run_job(key);
            } else {
                self.jobs.drop(key);
            }
        }
        if power {
            self.nodes[node].log.disk.lock().cut_power();
        }
    }

    pub(super) fn close(&mut self, node: usize) {
        self.note(|| format!("node {node} closes its store"));
        if let Some(running) = &mut self.nodes[node].running {
            running.closes = true;
            running.mailbox.send(Message::Close);
        }
    }

    pub(super) fn clone_node(&mut self, node: usize) -> usize {
        let disk = self.nodes[node].log.disk.lock().clone();
        let copy = self.add_disk(disk);
        self.oracle.copied(node, copy);
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
        *self.nodes[node].log.disk.lock() = disk;
        self.oracle.is_copied = true;
        // What was to be written is of the log that was there.
        self.oracle
            .of_other_logs
            .extend(self.fake.lock().marks_under_way(node));
        self.note(|| format!("an old image of node {node} is put back"));
    }

    /// Asks a publisher something, as a user does.
    pub(super) fn ask(&mut self, node: usize, what: Ask, line: &str) -> bool {
        let Some(running) = &mut self.nodes[node].running else {
            return false;
        };
        if running.is_asking() {
            return false;
        }
        let mailbox = Arc::clone(&running.mailbox);
        running.asking = Some(Box::pin(async move {
            let _ = mailbox.ask(|reply| Message::Sink(what, reply)).await;
        }));
        running.is_asking();
        self.note(|| format!("node {node} is asked to {line}"));
        true
    }

    // Work.

    pub(super) fn new_event(&mut self) -> (EventId, Bytes) {
        self.payloads += 1;
        let size = if self.rng.chance(10) { 60 } else { 8 };
        let mut payload = format!("{}", self.payloads).into_bytes();
        payload.resize(payload.len().max(size), b'.');
        (EventId::from_uuid(self.ids.next_uuid()), payload.into())
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
            let parts = parts.join(", ");
            format!("node {node} appends {parts} (durable: {durable})")
        });
        let log = &self.nodes[node].log;
        let now = log.clock.now();
        let last = log.disk.lock().append(&parts, now, durable);
        log.notify();
        if self.rng.chance(30)
            && let Some(running) = &mut self.nodes[node].running
        {
            running.wait_for(last);
        }
    }

    // What happens next.

    pub(super) fn make(&mut self, what: Move) -> Result<(), String> {
        self.note(|| format!("{what:?}"));
        if matches!(
            what,
            Move::Meet(..) | Move::Ask(_) | Move::Late(_) | Move::Tell(..)
        ) {
            self.met += 1;
        }
        self.fake.lock().make(what);
        self.judge()
    }

    pub(super) fn spoil(&mut self, what: &Fault) -> Result<(), String> {
        self.note(|| format!("{what:?}"));
        self.fake.lock().spoil(what);
        self.judge()
    }

    /// Looks at everything that Kafka has taken since.
    pub(super) fn judge(&mut self) -> Result<(), String> {
        let mut state = self.fake.lock();
        self.oracle.looked_at(&mut state, &self.nodes, self.now)
    }

    pub(super) fn run_job(&mut self, key: u64) {
        if let Some(mutant) = self.mutant
            && let Some(state) = self.jobs.state(key)
        {
            let saved = state.lock().clone();
            if let Some(other) = mutant.save(&saved) {
                *state.lock() = other;
            }
        }
        if let Some((node, label)) = self.jobs.find(key) {
            self.note(|| format!("node {node}: {label} is done"));
        }
        self.met += 1;
        self.jobs.run(key);
    }

    pub(super) fn next_timer(&self) -> Option<Duration> {
        let sleepers = self.nodes.iter().filter_map(|node| {
            let wake = ManualSleeper::new(node.log.clock.clone()).next_wake()?;
            // Time passes, too, where one that is due is heard by nobody: who closes hears but his own.
            Some(self.now + wake.max(Duration::from_millis(1)))
        });
        sleepers.min()
    }

    pub(super) fn advance_to(&mut self, when: Duration) {
        let passed = when.saturating_sub(self.now);
        self.now += passed;
        self.note(|| format!("{} ms pass", passed.as_millis()));
        let micros = i64::try_from(passed.as_micros()).unwrap();
        for node in &self.nodes {
            node.log.clock.advance_micros(micros);
        }
    }

    /// Lets everything run that has something to do, and looks at it then.
    pub(super) fn run(&mut self) -> Result<(), String> {
        self.jobs.begin();
        self.fake.begin();
        for round in 0.. {
            let mut is_quiet = true;
            for (number, node) in self.nodes.iter_mut().enumerate() {
                if node.running.is_none() || !node.flag.0.swap(false, Ordering::Relaxed) {
                    continue;
                }
                is_quiet = false;
                let waker = Waker::from(node.flag.clone());
                let running = node.running.as_mut().unwrap();
                let future: &mut BoxFuture<'static, ()> = &mut running.future;
                let cx = &mut Context::from_waker(&waker);
                if future.as_mut().poll(cx).is_ready() {
                    if !running.closes {
                        return Err(format!("what runs on node {number} has ended"));
                    }
                    node.running = None;
                }
            }
            if is_quiet {
                break;
            }
            if round > 10_000 {
                return Err("11: a future wakes itself without end".to_owned());
            }
        }
        self.judge()?;
        let state = self.fake.lock();
        self.oracle.always(&state, &mut self.nodes, self.sizes)
    }
}
