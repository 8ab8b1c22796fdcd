//! Random schedules: what is done next, and what goes wrong.

use std::time::Duration;

use tidelog_backends::fake::Table;
use tidelog_core::StreamId;

use super::mutants::Mutant;
use super::world::{Fate, Sizes, World};
use crate::replicate::replicator::Pace;
use crate::sim::outcome::{Outcome, failure_of};
use crate::sim::rng::Rng;

/// Kinds of trouble; a schedule has a few of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Requests and answers are lost, late, doubled, unclear.
    Net,
    /// Replicas are behind.
    Behind,
    /// The server is away for a while.
    Away,
    /// Processes end.
    Crash,
    /// Power is cut.
    Power,
    /// Disks are copied, and both copies live.
    Clone,
    /// Old images are put back.
    Image,
    /// Clocks are set.
    Clock,
    /// The server loses tables, partitions, rows, what it wrote last.
    Loss,
    /// Direct clients write into the same streams.
    Direct,
    /// A store is restored elsewhere, while it lives or not.
    Restore,
    /// Machines sleep.
    Sleep,
    /// Connections die without a word.
    Dead,
    /// Who follows crashes.
    Follower,
    /// Who keeps others' logs crashes.
    Puller,
}

const TROUBLES: [Trouble; 11] = [
    Trouble::Net,
    Trouble::Behind,
    Trouble::Away,
    Trouble::Crash,
    Trouble::Power,
    Trouble::Clone,
    Trouble::Image,
    Trouble::Clock,
    Trouble::Loss,
    Trouble::Direct,
    Trouble::Restore,
];

const MACHINES: [usize; 6] = [1, 1, 1, 2, 2, 3];

/// What is done in a step.
#[derive(Clone, Copy, Debug)]
enum Act {
    Net,
    Job,
    Time,
    Append,
    Sync,
    Trouble(Trouble),
}

/// One schedule.
struct Schedule {
    world: World,
    troubles: Vec<Trouble>,
    streams: Vec<StreamId>,
    appends: u64,
    /// Steps after which nothing goes wrong any more.
    length: u64,
}

/// How many machines the schedule of a seed begins with.
pub(super) fn machines(seed: u64) -> usize {
    Schedule::new(seed, None, false, true).world.nodes.len()
}

/// Runs the schedule of a seed, with one who keeps in files what the others write.
pub(super) fn run_pulled(seed: u64, traced: bool, mutant: Option<Mutant>) -> Outcome {
    let mut schedule = Schedule::new(seed, None, traced, true);
    schedule.world.mutant = mutant;
    let own = schedule.world.rng.index(schedule.world.nodes.len());
    schedule.world.add_puller(own);
    schedule.troubles.push(Trouble::Puller);
    let failure = failure_of(|| schedule.run());
    schedule.world.outcome(failure)
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
    let mut schedule = Schedule::new(seed, cut, traced, false);
    schedule.world.mutant = mutant;
    let failure = failure_of(|| schedule.run());
    schedule.world.outcome(failure)
}

/// A narrow window, or the one that stores have.
pub(super) fn pace(narrow: bool) -> Pace {
    if !narrow {
        return Pace::default();
    }
    Pace {
        window_bytes: 3_000,
        window_records: 12,
        read_bytes: 800,
        probe_every: Duration::from_secs(20),
        ..Pace::default()
    }
}

impl Schedule {
    fn new(seed: u64, cut: Option<u64>, traced: bool, is_pulled: bool) -> Self {
        let mut rng = Rng::new(seed ^ 0x706c_616e);
        // Of chance of their own: what the seeds of before meet else does not change by them.
        let mut more = Rng::new(seed ^ 0x6d6f_7265);
        let is_followed = is_pulled || more.chance(15);
        let mut sizes = Sizes {
            bucket_events: if rng.chance(70) { 10 } else { 1000 },
            chunk_records: if rng.chance(70) { 8 } else { 1000 },
            lanes: if rng.chance(30) { 1 } else { 64 },
            overlap: [0, 3, 2_000][rng.index(3)],
            pace: pace(rng.chance(50)),
        };
        if is_followed {
            sizes.pace.probe_every = Duration::from_secs(20);
        }
        let mut world = World::new(seed, sizes);
        world.trace = traced.then(Vec::new);
        let mut troubles = Vec::new();
        for _ in 0..rng.below(5) {
            troubles.extend(rng.pick(&TROUBLES).copied());
        }
        if troubles.contains(&Trouble::Behind) {
            world.behind = 10;
        }
        let nodes = MACHINES[rng.index(MACHINES.len())];
        for _ in 0..nodes {
            let node = world.add_node();
            world.start(node);
        }
        if more.chance(12) {
            troubles.push(Trouble::Sleep);
        }
        if more.chance(6) {
            troubles.push(Trouble::Dead);
        }
        if is_followed && !is_pulled {
            let own = more.chance(40).then(|| more.index(nodes));
            world.add_follower(own);
            troubles.push(Trouble::Follower);
        }
        let streams = (0..=rng.below(5)).map(|n| StreamId::new("S", &format!("{n}")).unwrap());
        let streams = streams.collect();
        let length = 50 + rng.below(400);
        Self {
            world,
            troubles,
            streams,
            appends: 4 + rng.below(37),
            length: cut.map_or(length, |cut| cut.min(length)),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        self.world.run()?;
        while self.world.steps < self.length {
            self.step()?;
        }
        self.world.come_to_rest()
    }

    fn step(&mut self) -> Result<(), String> {
        self.world.steps += 1;
        let (sent, answered) = self.world.messages();
        let jobs: Vec<u64> = self.world.net.jobs.keys();
        let under_way = !sent.is_empty() || !answered.is_empty();
        let mut acts = vec![
            (if under_way { 60 } else { 0 }, Act::Net),
            (if jobs.is_empty() { 0 } else { 20 }, Act::Job),
            (if under_way { 3 } else { 20 }, Act::Time),
            (if self.appends > 0 { 12 } else { 0 }, Act::Append),
            (3, Act::Sync),
        ];
        acts.extend(self.troubles.iter().map(|trouble| {
            let weight = match trouble {
                Trouble::Net | Trouble::Behind => 0,
                Trouble::Direct => 5,
                Trouble::Clone | Trouble::Image | Trouble::Loss | Trouble::Restore => 1,
                _ => 2,
            };
            (weight, Act::Trouble(*trouble))
        }));
        let Some(act) = self.world.rng.weighted(&acts) else {
            return Ok(());
        };
        match act {
            Act::Net => self.move_a_message(&sent, &answered)?,
            Act::Job => {
                if let Some(key) = self.world.rng.pick(&jobs).copied() {
                    self.world.run_job(key);
                }
            }
            Act::Time => self.pass_time(),
            Act::Append => self.append(),
            Act::Sync => self.sync(),
            Act::Trouble(trouble) => self.trouble(trouble)?,
        }
        self.world.run()
    }

    fn move_a_message(&mut self, sent: &[u64], answered: &[u64]) -> Result<(), String> {
        let faulty = self.troubles.contains(&Trouble::Net);
        let world = &mut self.world;
        let at = world.rng.index(sent.len() + answered.len());
        if let Some(key) = sent.get(at) {
            let fate = if faulty {
                let fates = [
                    (82, Fate::Execute),
                    (4, Fate::ExecuteTwice),
                    (3, Fate::Lose),
                    (4, Fate::Propose),
                    (3, Fate::TimeOutAfter),
                    (4, Fate::Unavailable),
                ];
                world.rng.weighted(&fates).unwrap_or(Fate::Execute)
            } else {
                Fate::Execute
            };
            return world.meet(*key, fate);
        }
        let key = answered[at - sent.len()];
        if faulty && world.rng.chance(4) {
            world.note(|| format!("the answer to {key} is lost"));
            world.net.lose(key);
        } else {
            world.net.deliver(key);
        }
        Ok(())
    }

    fn pass_time(&mut self) {
        let now = self.world.net.lock().now;
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
        let at = &self.world.nodes[node];
        if at.running.is_none() || at.restores.is_some() || at.asleep.is_some() {
            return;
        }
        let rng = &mut self.world.rng;
        let parts = if rng.chance(25) { 1 + rng.below(3) } else { 1 };
        let mut to: Vec<(StreamId, usize)> = Vec::new();
        for _ in 0..parts {
            let stream = self.streams[rng.index(self.streams.len())].clone();
            if to.iter().all(|(known, _)| *known != stream) {
                let count = if rng.chance(70) { 1 } else { 1 + rng.index(12) };
                to.push((stream, count));
            }
        }
        let durable = rng.chance(80);
        self.world.append(node, &to, durable);
    }

    fn sync(&mut self) {
        let node = self.some_node();
        let at = &self.world.nodes[node];
        if at.running.is_some() && at.restores.is_none() {
            let log = &self.world.nodes[node].log;
            log.disk.lock().make_durable();
            log.notify();
        }
    }

    fn trouble(&mut self, trouble: Trouble) -> Result<(), String> {
        let node = self.some_node();
        let world = &mut self.world;
        match trouble {
            Trouble::Net | Trouble::Behind => {}
            Trouble::Away => {
                world.is_up = !world.is_up;
                let up = world.is_up;
                world.note(|| format!("the server answers: {up}"));
            }
            Trouble::Crash | Trouble::Power => {
                if world.nodes[node].running.is_some() {
                    world.crash(node, trouble == Trouble::Power);
                } else if !world.nodes[node].is_off {
                    world.start(node);
                }
            }
            Trouble::Sleep => {
                if world.nodes[node].asleep.is_some() {
                    world.wake_up(node);
                } else if world.nodes[node].running.is_some() {
                    world.put_to_sleep(node);
                }
            }
            Trouble::Puller => {
                if world.pullers[0].running.is_some() {
                    world.crash_puller(0);
                } else {
                    world.start_puller(0);
                }
            }
            Trouble::Dead => world.break_connections(node),
            Trouble::Follower => {
                let at = world.rng.index(world.followers.len());
                if world.followers[at].running.is_some() {
                    world.crash_follower(at);
                } else {
                    world.start_follower(at);
                }
            }
            Trouble::Clone => {
                if world.nodes.len() < 4 && world.nodes[node].restores.is_none() {
                    let copy = world.clone_node(node);
                    world.start(copy);
                }
            }
            Trouble::Image if world.nodes[node].restores.is_some() => {}
            Trouble::Image => {
                if world.nodes[node].images.is_empty() || world.rng.chance(50) {
                    world.keep_image(node);
                } else {
                    world.crash(node, false);
                    world.put_image_back(node);
                    world.start(node);
                }
            }
            Trouble::Clock => {
                const TEN_YEARS: u64 = 10 * 365 * 86_400_000_000;
                let micros = world.rng.below(2 * TEN_YEARS).cast_signed();
                world.set_clock(node, micros - TEN_YEARS.cast_signed());
            }
            Trouble::Loss => self.lose(),
            Trouble::Restore => {
                let identity = world.nodes[node].log.disk.lock().identity();
                if world.nodes.len() < 4 && world.nodes[node].restores.is_none() {
                    let copy = world.add_restore(identity.origin, identity.epoch);
                    world.start(copy);
                }
            }
            Trouble::Direct => {
                let at = world.rng.index(self.streams.len());
                let stream = self.streams[at].clone();
                world.write_directly(&stream)?;
            }
        }
        Ok(())
    }

    fn lose(&mut self) {
        let world = &mut self.world;
        let rng = &mut world.rng;
        let server = &mut world.server;
        let what = match rng.below(7) {
            0 => {
                let table = *rng.pick(&Table::ALL).unwrap();
                server.truncate(table);
                format!("table {table:?}")
            }
            1 => {
                for table in Table::ALL {
                    server.truncate(table);
                }
                "all tables".to_owned()
            }
            2 => {
                let count = 1 + rng.index(20);
                server.lose_last(count);
                format!("the last {count} writes")
            }
            3 | 4 => {
                let buckets: Vec<_> = server.tables().events.keys().cloned().collect();
                let Some(bucket) = rng.pick(&buckets).cloned() else {
                    return;
                };
                let rows = &server.tables().events[&bucket].rows;
                // Every mutation writes the head beside its rows, so a head is not lost alone; and
                // where others write into the stream, be it this store's own earlier life, nothing
                // could tell.
                let others = [
                    Trouble::Direct,
                    Trouble::Clone,
                    Trouble::Image,
                    Trouble::Restore,
                ];
                let is_of_one =
                    world.nodes.len() == 1 && !others.iter().any(|it| self.troubles.contains(it));
                let rows: Vec<u64> = rows.keys().copied().collect();
                match (rng.below(3), rng.pick(&rows)) {
                    (0, Some(sequence)) => {
                        server.lose_event(&bucket, *sequence);
                        format!("event {sequence} of {bucket:?}")
                    }
                    (1, _) if is_of_one => {
                        server.lose_head(&bucket);
                        format!("the head of {bucket:?}")
                    }
                    _ => {
                        server.lose_bucket(&bucket);
                        format!("{bucket:?}")
                    }
                }
            }
            _ => {
                let chunks: Vec<_> = server.tables().log.keys().copied().collect();
                let Some(chunk) = rng.pick(&chunks).copied() else {
                    return;
                };
                let rows = server.tables().log[&chunk].values();
                let rows: Vec<_> = rows.map(|row| (row.position, row.event_id)).collect();
                match (rng.below(2), rng.pick(&rows)) {
                    (0, Some((position, id))) => {
                        server.lose_log_row(&chunk, *position, *id);
                        format!("position {position} of {chunk:?}")
                    }
                    _ => {
                        server.lose_chunk(&chunk);
                        format!("{chunk:?}")
                    }
                }
            }
        };
        world.oracle.lost(&world.server);
        world.note(|| format!("the server loses {what}"));
    }
}
