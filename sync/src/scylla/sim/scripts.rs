//! Scripted schedules: each is run once as it stands, and then once for every request that it makes
//! and every way to break off there.

use std::sync::Arc;
use std::time::Duration;

use tidelog_backends::fake::Table;
use tidelog_core::StreamId;

use super::follower::FIRST;
use super::plan;
use super::world::{Fate, Sizes, World};
use crate::sim::outcome::{Outcome, failure_of};

/// How a machine stops at a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// It crashes, and the request never arrives.
    BeforeIt,
    /// It crashes, and the server does it.
    AfterIt,
    /// It crashes when it has got the answer.
    AfterAnswer,
    /// Power is cut, and the server does it.
    Power,
    /// It crashes, and the request arrives when the machine has started again.
    Late,
}

impl Break {
    pub(super) const ALL: [Self; 5] = [
        Self::BeforeIt,
        Self::AfterIt,
        Self::AfterAnswer,
        Self::Power,
        Self::Late,
    ];
}

/// One thing that a script does.
#[derive(Clone, Debug)]
enum Do {
    /// Appends so many events to each of these streams, durable or not.
    Append(usize, &'static [(&'static str, usize)], bool),
    /// Everything that is under way arrives, until nothing is and nobody waits for less than this.
    Settle,
    /// The same for a tenth of a second: the server is not told how far all is.
    Arrive,
    /// The machine's store is closed in order, and opened again.
    Close(usize),
    /// A direct client writes.
    Direct(&'static str),
    /// The server's events take the place of a stream's held ones, and those come again.
    Take(usize, &'static str, bool),
    Clone(usize),
    KeepImage(usize),
    PutImageBack(usize),
    /// The machine's process ends, and starts again.
    Reopen(usize),
    Truncate(Table),
    LoseLast(usize),
    Down,
    Up,
    /// People resolve what stands still.
    Resolve,
}

/// A script with its name and the number of machines.
pub(super) struct Script {
    pub name: &'static str,
    machines: usize,
    /// Somebody follows.
    is_followed: bool,
    steps: Vec<Do>,
}

/// Those that are played once more with somebody who follows, who is broken off as well.
const FOLLOWED: [(&str, &str); 6] = [
    ("conflict", "conflict, followed"),
    ("torn batch", "torn batch, followed"),
    ("re-issue", "re-issue, followed"),
    ("image put back, fork", "image put back, followed"),
    ("clone", "clone, followed"),
    ("truncate", "truncate, followed"),
];

/// All of them.
pub(super) fn scripts() -> Vec<Script> {
    let mut scripts = plain();
    for (name, followed) in FOLLOWED {
        let script = scripts.iter().find(|script| script.name == name).unwrap();
        scripts.push(Script {
            name: followed,
            machines: script.machines,
            is_followed: true,
            steps: script.steps.clone(),
        });
    }
    scripts
}

fn plain() -> Vec<Script> {
    use Do::{
        Append, Arrive, Clone, Close, Direct, Down, KeepImage, LoseLast, PutImageBack, Reopen,
        Resolve, Settle, Take, Truncate, Up,
    };
    const A: &[(&str, usize)] = &[("a", 1)];
    const B: &[(&str, usize)] = &[("b", 2)];
    const BOTH: &[(&str, usize)] = &[("a", 2), ("b", 1)];
    let script = |name, machines, steps| Script {
        name,
        machines,
        is_followed: false,
        steps,
    };
    vec![
        script("first contact", 1, vec![Append(0, A, true), Settle]),
        script(
            "closed in order",
            1,
            vec![
                Append(0, A, true),
                Settle,
                Append(0, BOTH, true),
                Arrive,
                Close(0),
                Append(0, B, true),
                Arrive,
                Down,
                Close(0),
                Up,
                Settle,
            ],
        ),
        script(
            "steady",
            1,
            vec![
                Append(0, A, true),
                Settle,
                Append(0, B, true),
                Append(0, A, false),
                Settle,
                Append(0, A, true),
                Settle,
            ],
        ),
        script(
            "bucket border",
            1,
            vec![
                Append(0, &[("a", 8)], true),
                Settle,
                Append(0, &[("a", 5)], true),
                Append(0, &[("a", 9)], true),
                Settle,
            ],
        ),
        script(
            "batch over a chunk's border",
            1,
            vec![
                Append(0, &[("a", 6)], true),
                Append(0, &[("b", 9)], true),
                Settle,
            ],
        ),
        script(
            "batch over several streams",
            1,
            vec![Append(0, BOTH, true), Append(0, BOTH, true), Settle],
        ),
        script(
            "conflict",
            2,
            vec![
                Append(0, &[("a", 2)], true),
                Settle,
                Append(1, &[("a", 3)], true),
                Append(1, A, true),
                Append(1, B, true),
                Settle,
            ],
        ),
        script(
            "torn batch",
            1,
            vec![
                Direct("b"),
                Append(0, BOTH, true),
                Append(0, A, true),
                Settle,
                Take(0, "b", true),
                Settle,
            ],
        ),
        script(
            "take remote",
            1,
            vec![
                Direct("a"),
                Append(0, &[("a", 2)], true),
                Settle,
                Take(0, "a", false),
                Append(0, A, true),
                Settle,
            ],
        ),
        script(
            "re-issue",
            1,
            vec![
                Append(0, A, true),
                Settle,
                Direct("a"),
                Append(0, &[("a", 2)], true),
                Settle,
                Take(0, "a", true),
                Settle,
            ],
        ),
        script(
            "image put back, fork",
            1,
            vec![
                Append(0, A, true),
                Settle,
                KeepImage(0),
                Append(0, B, true),
                Settle,
                PutImageBack(0),
                Append(0, A, true),
                Settle,
                Resolve,
                Settle,
            ],
        ),
        script(
            "clone",
            1,
            vec![
                Append(0, A, true),
                Settle,
                Clone(0),
                Append(0, A, true),
                Append(1, B, true),
                Settle,
                Resolve,
                Settle,
            ],
        ),
        script(
            "truncate",
            1,
            vec![
                Append(0, BOTH, true),
                Settle,
                Truncate(Table::Events),
                Append(0, A, true),
                Settle,
                Truncate(Table::Origins),
                Append(0, B, true),
                Settle,
            ],
        ),
        script(
            "last writes lost",
            1,
            vec![
                Append(0, BOTH, true),
                Settle,
                LoseLast(5),
                Append(0, A, true),
                Settle,
            ],
        ),
        script(
            "close and open again",
            1,
            vec![
                Append(0, BOTH, true),
                Reopen(0),
                Append(0, A, false),
                Settle,
                Reopen(0),
                Append(0, B, true),
                Settle,
            ],
        ),
        script(
            "server away",
            1,
            vec![
                Append(0, A, true),
                Settle,
                Down,
                Append(0, BOTH, true),
                Settle,
                Up,
                Settle,
            ],
        ),
    ]
}

struct Player {
    world: World,
    at: Option<(u64, Break)>,
    met: u64,
}

/// Plays a script, broken off at the `n`-th request that reaches the server if that is asked for.
/// Answers how many there were.
pub(super) fn play(script: &Script, seed: u64, at: Option<(u64, Break)>, traced: bool) -> Outcome {
    let mut sizes = Sizes {
        bucket_events: 10,
        chunk_records: 8,
        lanes: 64,
        overlap: 3,
        pace: plan::pace(false),
    };
    if script.is_followed {
        sizes.pace.probe_every = Duration::from_secs(20);
    }
    let mut world = World::new(seed, sizes);
    world.trace = traced.then(Vec::new);
    for _ in 0..script.machines {
        let node = world.add_node();
        world.start(node);
    }
    if script.is_followed {
        world.add_follower(None);
    }
    let mut player = Player { world, at, met: 0 };
    let failure = failure_of(|| {
        for step in &script.steps {
            player.act(step)?;
        }
        let settled = player.settle();
        settled.and_then(|()| player.world.come_to_rest())
    });
    Outcome {
        met: player.met,
        ..player.world.outcome(failure)
    }
}

impl Player {
    fn act(&mut self, step: &Do) -> Result<(), String> {
        let world = &mut self.world;
        let stream = |name: &str| StreamId::new("S", name).unwrap();
        match step {
            Do::Append(node, to, durable) => {
                let to: Vec<_> = to.iter().map(|(name, n)| (stream(name), *n)).collect();
                world.append(*node, &to, *durable);
            }
            Do::Settle => return self.settle(),
            Do::Arrive => return self.settle_for(Duration::from_millis(100)),
            Do::Close(node) => return self.close(*node),
            Do::Direct(name) => world.write_directly(&stream(name))?,
            Do::Take(node, name, again) => {
                let running = world.nodes[*node].running.as_ref();
                let parked = running.map(|running| running.status.parked());
                let parked = parked.iter().flat_map(|parked| parked.iter());
                let mut held = parked.filter(|p| !p.accepted && p.stream == stream(name));
                // Where a machine was broken off it may not know yet.
                if let Some(from) = held.next().map(|parked| parked.first_sequence) {
                    world.take_remote(*node, &stream(name), from, *again);
                }
            }
            Do::Clone(node) => {
                let copy = world.clone_node(*node);
                world.start(copy);
            }
            Do::KeepImage(node) => world.keep_image(*node),
            Do::PutImageBack(node) => {
                world.crash(*node, false);
                world.put_image_back(*node);
                world.start(*node);
            }
            Do::Reopen(node) => {
                world.crash(*node, false);
                world.start(*node);
            }
            Do::Truncate(table) => {
                world.server.truncate(*table);
                world.oracle.lost(&world.server);
                world.note(|| format!("table {table:?} is truncated"));
            }
            Do::LoseLast(count) => {
                world.server.lose_last(*count);
                world.oracle.lost(&world.server);
                world.note(|| format!("the last {count} writes are lost"));
            }
            Do::Down => world.is_up = false,
            Do::Up => world.is_up = true,
            Do::Resolve => {
                world.resolve(true)?;
            }
        }
        world.run()
    }

    /// A store that was connected has told the server how far it is; no server is waited for longer
    /// than a second.
    fn close(&mut self, node: usize) -> Result<(), String> {
        let begun = self.world.net.lock().now;
        let running = self.world.nodes[node].running.as_ref();
        let status = running.map(|running| Arc::clone(&running.status));
        self.world.close(node);
        self.settle_for(Duration::from_secs(1))?;
        if self.world.closes(node) {
            return Err("a store is not closed within a second".to_owned());
        }
        let settled = status.map_or(0, |status| status.status().settled);
        let told = self.world.watermark(node);
        let took = self.world.net.lock().now.saturating_sub(begun);
        let is_broken_off = self.at.is_some_and(|(at, _)| at < self.met);
        if self.world.is_up && !is_broken_off && told != settled {
            return Err(format!(
                "{settled} is settled, and {told} is what the server knows"
            ));
        }
        self.world
            .note(|| format!("closed in {took:?}, {told} of {settled} told"));
        self.world.start(node);
        self.world.run()
    }

    /// Everything under way arrives, first come first served, for three seconds after nothing is.
    fn settle(&mut self) -> Result<(), String> {
        self.settle_for(Duration::from_secs(3))
    }

    fn settle_for(&mut self, quiet: Duration) -> Result<(), String> {
        let mut until = None;
        for _ in 0..5_000 {
            let world = &mut self.world;
            world.steps += 1;
            world.run()?;
            let (sent, answered) = world.messages();
            let job = world.net.jobs.first();
            if let Some(key) = answered.first() {
                world.net.deliver(*key);
            } else if let Some(key) = sent.first() {
                self.meet(*key)?;
            } else if let Some(key) = job {
                world.run_job(key);
            } else {
                let now = world.net.lock().now;
                let until = *until.get_or_insert(now + quiet);
                match world.next_timer().filter(|when| *when <= until) {
                    Some(when) => world.advance_to(when),
                    None => return Ok(()),
                }
            }
        }
        Err("it does not settle".to_owned())
    }

    fn meet(&mut self, key: u64) -> Result<(), String> {
        let at = self.met;
        self.met += 1;
        let world = &mut self.world;
        let (_, how) = match self.at {
            Some((n, how)) if n == at => (n, how),
            _ => return world.meet(key, Fate::Execute),
        };
        let node = world.net.lock().messages.get(&key).map(|m| m.node);
        if let Some(follower) = node.and_then(|node| node.checked_sub(FIRST)) {
            world.meet(key, Fate::Execute)?;
            if how == Break::AfterAnswer {
                world.net.deliver(key);
                world.run()?;
            }
            world.crash_follower(follower);
            world.start_follower(follower);
            return Ok(());
        }
        let Some(node) = node.filter(|node| *node < world.nodes.len()) else {
            return world.meet(key, Fate::Execute);
        };
        world.note(|| format!("broken off: {how:?}"));
        match how {
            Break::BeforeIt => world.meet(key, Fate::Lose)?,
            Break::AfterIt | Break::Power => world.meet(key, Fate::Execute)?,
            Break::AfterAnswer => {
                world.meet(key, Fate::Execute)?;
                world.net.deliver(key);
                world.run()?;
            }
            Break::Late => {}
        }
        world.crash(node, how == Break::Power);
        world.start(node);
        if how == Break::Late {
            // The new run goes first.
            world.run()?;
            for _ in 0..6 {
                let (sent, answered) = world.messages();
                if let Some(key) = answered.first() {
                    world.net.deliver(*key);
                } else if let Some(key) = sent.iter().find(|sent| **sent != key) {
                    world.meet(*key, Fate::Execute)?;
                }
                world.run()?;
            }
            world.meet(key, Fate::Execute)?;
        }
        Ok(())
    }
}
