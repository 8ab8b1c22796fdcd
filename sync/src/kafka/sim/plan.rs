//! Random schedules: what is done next, and what goes wrong.

use std::time::Duration;

use tidelog_core::{Clock, StreamId, Timestamp};

use super::mutants::Mutant;
use super::world::{Sizes, World};
use crate::kafka::broker::Place;
use crate::kafka::fake::Queue;
use crate::kafka::fake::moves::{Fault, Move};
use crate::kafka::sink::Ask;
use crate::replicate::replicator::Pace;
use crate::sim::outcome::{Outcome, failure_of};
use crate::sim::rng::Rng;

/// Kinds of trouble; a schedule has a few of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Connections break, questions fail, late copies are lost.
    Net,
    /// Reports are never heard.
    Reports,
    /// Producers give up.
    GiveUp,
    /// Queues are full.
    Full,
    /// Kafka is away for a while.
    Away,
    /// Limits are lowered and raised, events are poison.
    Limit,
    /// Topics are missing, deleted, made again.
    Topics,
    /// Partitions lose what was written last.
    Loss,
    Crash,
    Power,
    Clone,
    Image,
    Clock,
    /// People try again and publish again.
    People,
}

const TROUBLES: [Trouble; 14] = [
    Trouble::Net,
    Trouble::Reports,
    Trouble::GiveUp,
    Trouble::Full,
    Trouble::Away,
    Trouble::Limit,
    Trouble::Topics,
    Trouble::Loss,
    Trouble::Crash,
    Trouble::Power,
    Trouble::Clone,
    Trouble::Image,
    Trouble::Clock,
    Trouble::People,
];

#[derive(Clone, Copy, Debug)]
enum Act {
    Move,
    Job,
    Time,
    Append,
    Sync,
    Accept,
    Hold,
    Release,
    Trouble(Trouble),
}

struct Schedule {
    world: World,
    troubles: Vec<Trouble>,
    streams: Vec<StreamId>,
    types: Vec<String>,
    appends: u64,
    /// Steps after which nothing goes wrong any more.
    length: u64,
}

/// Runs the schedule of a seed; `cut` makes the trouble end after so many steps.
pub(super) fn run(seed: u64, cut: Option<u64>, traced: bool) -> Outcome {
    run_with(seed, cut, traced, None)
}

/// The same with something wrong on purpose.
pub(super) fn run_with(
    seed: u64,
    cut: Option<u64>,
    traced: bool,
    mutant: Option<Mutant>,
) -> Outcome {
    let mut schedule = Schedule::new(seed, cut, traced, mutant);
    let failure = failure_of(|| schedule.run());
    schedule.world.outcome(failure)
}

/// A narrow window, or the one that stores have.
pub(super) fn sizes(narrow: bool, is_gated: bool, overlap: u64) -> Sizes {
    let pace = if narrow {
        Pace {
            window_bytes: 3_000,
            window_records: 12,
            read_bytes: 800,
            probe_every: Duration::from_secs(20),
            ..Pace::default()
        }
    } else {
        Pace::default()
    };
    Sizes {
        pace,
        overlap,
        queue: Queue {
            messages: 6,
            bytes: 400,
            message_bytes: 5_000,
        },
        is_gated,
    }
}

impl Schedule {
    fn new(seed: u64, cut: Option<u64>, traced: bool, mutant: Option<Mutant>) -> Self {
        let mut rng = Rng::new(seed ^ 0x706c_616e);
        let is_gated = rng.chance(25);
        let overlap = [3, 2_000][rng.index(2)];
        let mut sizes = sizes(rng.chance(50), is_gated, overlap);
        if Rng::new(seed ^ 0x6c61_7267).chance(20) {
            // Large events are not even queued.
            sizes.queue.message_bytes = 40;
        }
        let mut world = World::new(seed, sizes);
        world.trace = traced.then(Vec::new);
        world.mutant = mutant;
        world.oracle.ignores_lanes = mutant == Some(Mutant::Pipelined);
        let mut troubles = Vec::new();
        for _ in 0..rng.below(5) {
            troubles.extend(rng.pick(&TROUBLES).copied());
        }
        if is_gated {
            // Whose log it is, the replica finds out.
            troubles.retain(|it| !matches!(it, Trouble::Clone | Trouble::Image));
        }
        let types: Vec<String> = (0..=rng.below(3)).map(|n| format!("T{n}")).collect();
        let count = 2 + rng.below(4);
        let streams = (0..count).map(|n| {
            let of = &types[rng.index(types.len())];
            StreamId::new(of, &format!("{n}")).unwrap()
        });
        let streams = streams.collect();
        if !troubles.contains(&Trouble::Topics) || rng.chance(50) {
            let partitions = 1 + rng.index(3);
            let limit = [30, 50, 1_000][rng.index(3)];
            world.ensure_topics(&types, partitions, limit);
        } else if rng.chance(30) {
            world.fake.lock().cluster.origins = None;
        }
        let node = world.add_node();
        world.start(node);
        let length = 50 + rng.below(400);
        Self {
            world,
            troubles,
            streams,
            types,
            appends: 4 + rng.below(37),
            length: cut.map_or(length, |cut| cut.min(length)),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        self.world.run()?;
        while self.world.steps < self.length {
            self.step()?;
        }
        self.world.come_to_rest(&self.types)
    }

    fn step(&mut self) -> Result<(), String> {
        self.world.steps += 1;
        let moves = self.world.fake.lock().moves();
        let jobs = self.world.jobs.keys();
        let is_gated = u32::from(self.world.sizes.is_gated);
        let mut acts = vec![
            (if moves.is_empty() { 0 } else { 60 }, Act::Move),
            (if jobs.is_empty() { 0 } else { 20 }, Act::Job),
            (if moves.is_empty() { 20 } else { 3 }, Act::Time),
            (if self.appends > 0 { 12 } else { 0 }, Act::Append),
            (3, Act::Sync),
            (12 * is_gated, Act::Accept),
            (2 * is_gated, Act::Hold),
            (2 * is_gated, Act::Release),
        ];
        acts.extend(self.troubles.iter().map(|trouble| {
            let weight = match trouble {
                Trouble::Net | Trouble::Reports | Trouble::Full | Trouble::People => 4,
                Trouble::Limit => 3,
                Trouble::Clone | Trouble::Image | Trouble::Loss => 1,
                _ => 2,
            };
            (weight, Act::Trouble(*trouble))
        }));
        let Some(act) = self.world.rng.weighted(&acts) else {
            return Ok(());
        };
        match act {
            Act::Move => {
                let at = self.world.rng.index(moves.len());
                self.make(moves[at].clone())?;
            }
            Act::Job => {
                let at = self.world.rng.index(jobs.len());
                self.world.run_job(jobs[at]);
            }
            Act::Time => self.pass_time(),
            Act::Append => self.append(),
            Act::Sync => {
                let node = self.some_node();
                let log = &self.world.nodes[node].log;
                log.disk.lock().make_durable();
                log.notify();
            }
            Act::Accept => {
                let node = self.some_node();
                let count = 1 + self.world.rng.index(3);
                self.world.accept(node, count);
            }
            Act::Hold => {
                let (node, at) = (self.some_node(), self.world.rng.index(1_000));
                self.world.hold(node, at);
            }
            Act::Release => {
                let (node, gives_way) = (self.some_node(), self.world.rng.chance(50));
                self.world.release(node, gives_way);
            }
            Act::Trouble(trouble) => self.trouble(trouble, &moves)?,
        }
        self.world.run()
    }

    /// Makes a move; batches and reports are cut by chance.
    fn make(&mut self, what: Move) -> Result<(), String> {
        let rng = &mut self.world.rng;
        let what = match what {
            Move::Cut(id, place, most) => Move::Cut(id, place, 1 + rng.index(most.min(4))),
            Move::Tell(id, place, most) => Move::Tell(id, place, 1 + rng.index(most)),
            other => other,
        };
        self.world.make(what)
    }

    fn pass_time(&mut self) {
        let now = self.world.now;
        let next = self.world.next_timer();
        let short = now + Duration::from_millis(1 + self.world.rng.below(3000));
        let when = next.map_or(short, |next| {
            if self.world.rng.chance(70) {
                next
            } else {
                next.min(short)
            }
        });
        self.world.advance_to(when.max(now));
    }

    fn some_node(&mut self) -> usize {
        let nodes = self.world.nodes.len();
        self.world.rng.index(nodes)
    }

    fn append(&mut self) {
        self.appends -= 1;
        let node = self.some_node();
        if self.world.nodes[node].running.is_none() {
            return;
        }
        let rng = &mut self.world.rng;
        let parts = if rng.chance(25) { 1 + rng.below(3) } else { 1 };
        let mut to: Vec<(StreamId, usize)> = Vec::new();
        for _ in 0..parts {
            let stream = self.streams[rng.index(self.streams.len())].clone();
            if to.iter().all(|(known, _)| *known != stream) {
                let count = if rng.chance(70) { 1 } else { 1 + rng.index(6) };
                to.push((stream, count));
            }
        }
        let durable = rng.chance(80);
        self.world.append(node, &to, durable);
    }

    fn trouble(&mut self, trouble: Trouble, moves: &[Move]) -> Result<(), String> {
        let node = self.some_node();
        match trouble {
            Trouble::Net | Trouble::Reports | Trouble::GiveUp | Trouble::Full => {
                return self.spoil(trouble, moves);
            }
            Trouble::Limit | Trouble::Topics | Trouble::Loss => self.hurt(trouble),
            Trouble::Away => {
                let mut state = self.world.fake.lock();
                state.cluster.is_up = !state.cluster.is_up;
                let up = state.cluster.is_up;
                drop(state);
                self.world.note(|| format!("kafka answers: {up}"));
            }
            Trouble::Crash | Trouble::Power => {
                if self.world.nodes[node].running.is_some() {
                    self.world.crash(node, trouble == Trouble::Power);
                } else {
                    self.world.start(node);
                }
            }
            Trouble::Clone => {
                if self.world.nodes.len() < 3 {
                    let copy = self.world.clone_node(node);
                    self.world.start(copy);
                }
            }
            Trouble::Image => {
                if self.world.nodes[node].images.is_empty() || self.world.rng.chance(50) {
                    self.world.keep_image(node);
                } else {
                    self.world.crash(node, false);
                    self.world.put_image_back(node);
                    self.world.start(node);
                }
            }
            Trouble::Clock => {
                const TEN_YEARS: u64 = 10 * 365 * 86_400_000_000;
                let micros = self.world.rng.below(2 * TEN_YEARS).cast_signed();
                let clock = &self.world.nodes[node].log.clock;
                let now = clock.now().as_micros();
                clock.set(Timestamp::from_micros(
                    now + micros - TEN_YEARS.cast_signed(),
                ));
            }
            Trouble::People => self.people(node),
        }
        Ok(())
    }

    fn people(&mut self, node: usize) {
        let world = &mut self.world;
        match world.rng.below(5) {
            0 => {
                let at = world.rng.index(self.streams.len());
                let stream = self.streams[at].clone();
                let line = format!("try {stream} again");
                world.ask(node, Ask::Retry(stream), &line);
            }
            1 => {
                world.ask(node, Ask::RetryAll, "try all again");
            }
            2 => {
                let last = world.nodes[node].log.disk.lock().last();
                let from = 1 + world.rng.below(last + 1);
                let to = from + world.rng.below(last + 1);
                let line = format!("publish {from} to {to} once more");
                world.ask(node, Ask::Republish { from, to }, &line);
            }
            3 => {
                world.resolve(node);
            }
            _ => {
                world.close(node);
            }
        }
    }

    fn spoil(&mut self, trouble: Trouble, moves: &[Move]) -> Result<(), String> {
        let rng = &mut self.world.rng;
        let producers: Vec<u64> = self.world.fake.lock().producers.keys().copied().collect();
        let some = rng.pick(&producers).copied();
        let fault = match trouble {
            Trouble::GiveUp => some.map(Fault::GiveUp),
            Trouble::Full => some.map(|id| Fault::Full(id, 1 + rng.index(5))),
            _ => {
                let mut faults = Vec::new();
                for what in moves {
                    match what {
                        Move::Tell(id, place, _) if trouble == Trouble::Reports => {
                            faults.push(Fault::LoseReport(*id, place.clone()));
                        }
                        Move::Meet(id, at) if trouble == Trouble::Net => {
                            faults.push(Fault::Break(*id, *at, rng.chance(50)));
                        }
                        Move::Late(at) if trouble == Trouble::Net => {
                            faults.push(Fault::LoseLate(*at));
                        }
                        Move::Ask(key) if trouble == Trouble::Net => {
                            faults.push(Fault::Fail(*key, rng.chance(50)));
                        }
                        _ => {}
                    }
                }
                rng.pick(&faults).cloned()
            }
        };
        fault.map_or(Ok(()), |fault| self.world.spoil(&fault))
    }

    fn hurt(&mut self, trouble: Trouble) {
        let world = &mut self.world;
        let topic = format!("tidelog.{}", self.types[world.rng.index(self.types.len())]);
        match trouble {
            Trouble::Limit => {
                if world.rng.chance(70) {
                    let limit = [10, 30, 50, 1_000][world.rng.index(4)];
                    world.set_limit(&topic, limit);
                } else {
                    let node = world.rng.index(world.nodes.len());
                    let disk = world.nodes[node].log.disk.clone();
                    let disk = disk.lock();
                    if let Some(record) = world.rng.pick(disk.records()) {
                        let value = record.event.to_vec();
                        world.fake.lock().cluster.poison.insert(value);
                    }
                }
            }
            Trouble::Topics => {
                let is_there = world.fake.lock().cluster.topics.contains_key(&*topic);
                if is_there && world.rng.chance(60) {
                    world.delete_topic(&topic);
                } else {
                    let partitions = 1 + world.rng.index(3);
                    world.note(|| format!("all topics are made, of {partitions}"));
                    world.ensure_topics(&self.types, partitions, 50);
                }
            }
            _ => {
                let place = Place {
                    topic: topic.into(),
                    partition: i32::try_from(world.rng.below(3)).unwrap(),
                };
                let count = 1 + world.rng.index(4);
                world.lose(&place, count);
            }
        }
    }
}
