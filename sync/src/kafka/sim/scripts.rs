//! Scripted schedules: each is run once as it stands, and then once for every batch, question, report
//! and save in it and every way to break off there.

use std::time::Duration;

use tidelog_core::StreamId;

use super::mutants::Mutant;
use super::plan;
use super::world::World;
use crate::kafka::broker::Place;
use crate::kafka::fake::moves::{Fault, Move};
use crate::kafka::sink::Ask;
use crate::sim::outcome::{Outcome, failure_of};

/// How long it is waited until nothing happens any more.
const SHORT: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(310);

/// How a machine stops at something under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// It crashes, and then it happens, or is lost.
    Before,
    /// It happens, and then the machine crashes.
    After,
    /// It happens, and then power is cut.
    Power,
}

impl Break {
    pub(super) const ALL: [Self; 3] = [Self::Before, Self::After, Self::Power];
}

/// One thing that a script does.
#[derive(Clone, Copy, Debug)]
enum Do {
    /// Appends so many events to each of these streams, in one batch.
    Append(&'static [(&'static str, usize)]),
    /// All that is under way happens, until nothing is for three seconds.
    Settle,
    /// So much of it happens.
    Some(usize),
    /// The topics are made.
    Topics,
    Delete,
    /// The first topic loses what was written last.
    Lose(usize),
    /// The same as `Settle`, for as long as until it was looked whether topics have what they had.
    Long,
    Limit(usize),
    /// The newest event of the first stream is poison.
    Poison,
    Fatal,
    Retry,
    Republish,
    Accept(usize),
    Hold,
    Release(bool),
    Clone,
    KeepImage,
    PutImageBack,
    Fork,
    Close,
    Start,
    Down,
    Up,
}

pub(super) struct Script {
    pub name: &'static str,
    is_gated: bool,
    /// Batches are cut after so many messages.
    cut: usize,
    steps: Vec<Do>,
}

const ONE: &[(&str, usize)] = &[("a", 1)];
const THREE: &[(&str, usize)] = &[("a", 3)];
const ALL: &[(&str, usize)] = &[("a", 2), ("b", 2), ("c", 1)];

pub(super) fn scripts() -> Vec<Script> {
    use Do::*;
    let script = |name, cut, steps: &[Do]| Script {
        name,
        is_gated: false,
        cut,
        steps: steps.to_vec(),
    };
    let gated = |name, steps: &[Do]| Script {
        is_gated: true,
        ..script(name, 4, steps)
    };
    let mut scripts = vec![
        script("first contact", 4, &[Topics, Append(ONE), Settle]),
        script(
            "steady",
            4,
            &[Topics, Settle, Append(ALL), Settle, Append(THREE), Settle],
        ),
        script(
            "alone",
            4,
            &[
                Topics,
                Append(ONE),
                Poison,
                Settle,
                Append(ALL),
                Settle,
                Retry,
                Settle,
            ],
        ),
        script("missing", 4, &[Append(ALL), Settle, Topics, Settle]),
        script(
            "deleted",
            4,
            &[
                Topics,
                Append(ALL),
                Settle,
                Delete,
                Append(ALL),
                Settle,
                Topics,
                Settle,
            ],
        ),
        script(
            "fatal",
            4,
            &[
                Topics,
                Append(ALL),
                Settle,
                Append(ALL),
                Some(4),
                Fatal,
                Settle,
            ],
        ),
        script(
            "republish",
            4,
            &[
                Topics,
                Append(ALL),
                Settle,
                Republish,
                Append(THREE),
                Settle,
            ],
        ),
        script(
            "lost",
            4,
            &[
                Topics,
                Append(ALL),
                Settle,
                Lose(2),
                Long,
                Append(THREE),
                Long,
            ],
        ),
        script(
            "lost under way",
            2,
            &[
                Topics,
                Append(ALL),
                Append(THREE),
                Settle,
                Lose(3),
                Append(ALL),
                Long,
            ],
        ),
        script(
            "clone",
            4,
            &[Topics, Append(ALL), Settle, Clone, Append(ONE), Settle],
        ),
        script(
            "image",
            4,
            &[
                Topics,
                Append(ONE),
                Settle,
                KeepImage,
                Append(ALL),
                Settle,
                PutImageBack,
                Settle,
                Fork,
                Settle,
            ],
        ),
        script(
            "close",
            4,
            &[
                Topics,
                Append(ALL),
                Some(6),
                Close,
                Settle,
                Start,
                Append(ONE),
                Settle,
            ],
        ),
        script(
            "away",
            4,
            &[
                Topics,
                Append(ALL),
                Some(5),
                Down,
                Append(ONE),
                Settle,
                Up,
                Settle,
            ],
        ),
        gated(
            "accepted",
            &[
                Topics,
                Append(ALL),
                Settle,
                Accept(1),
                Append(ONE),
                Settle,
                Accept(1),
                Settle,
            ],
        ),
        gated(
            "torn",
            &[
                Topics,
                Append(ALL),
                Hold,
                Accept(1),
                Append(ALL),
                Accept(1),
                Settle,
                Release(true),
                Release(false),
                Accept(9),
                Settle,
            ],
        ),
    ];
    for cut in 1..=4 {
        scripts.push(script(
            ["among 1", "among 2", "among 3", "among 4"][cut - 1],
            cut,
            &[
                Topics,
                Settle,
                Append(ALL),
                Poison,
                Append(ALL),
                Settle,
                Retry,
                Settle,
            ],
        ));
        scripts.push(script(
            ["lowered 1", "lowered 2", "lowered 3", "lowered 4"][cut - 1],
            cut,
            &[
                Topics,
                Append(ALL),
                Settle,
                Limit(20),
                Append(ALL),
                Append(ALL),
                Settle,
                Limit(1_000),
                Settle,
            ],
        ));
    }
    scripts
}

fn stream(name: &str) -> StreamId {
    let of = if name == "c" { "T1" } else { "T0" };
    StreamId::new(of, name).unwrap()
}

struct Play {
    world: World,
    cut: usize,
    at: Option<(u64, Break)>,
}

/// Plays a script, broken off at what happens as the given one.
pub(super) fn play(script: &Script, seed: u64, at: Option<(u64, Break)>, traced: bool) -> Outcome {
    play_with(script, seed, at, traced, None)
}

/// The same with something wrong on purpose.
pub(super) fn play_with(
    script: &Script,
    seed: u64,
    at: Option<(u64, Break)>,
    traced: bool,
    mutant: Option<Mutant>,
) -> Outcome {
    let mut world = World::new(seed, plan::sizes(seed % 2 == 1, script.is_gated, 2_000));
    world.trace = traced.then(Vec::new);
    world.mutant = mutant;
    let node = world.add_node();
    world.start(node);
    let mut play = Play {
        world,
        cut: script.cut,
        at,
    };
    let types = ["T0".to_owned(), "T1".to_owned()];
    let mut met = 0;
    let failure = failure_of(|| {
        play.world.run()?;
        for step in &script.steps {
            play.act(*step, &types)?;
            play.world.run()?;
        }
        met = play.world.met;
        play.world.come_to_rest(&types)
    });
    Outcome {
        met,
        ..play.world.outcome(failure)
    }
}

impl Play {
    fn act(&mut self, what: Do, types: &[String]) -> Result<(), String> {
        let world = &mut self.world;
        match what {
            Do::Append(to) => {
                let to: Vec<_> = to.iter().map(|(name, n)| (stream(name), *n)).collect();
                world.append(0, &to, true);
            }
            Do::Settle => return self.settle(usize::MAX, SHORT),
            Do::Long => return self.settle(usize::MAX, LONG),
            Do::Some(count) => return self.settle(count, SHORT),
            Do::Lose(count) => {
                let place = Place {
                    topic: "tidelog.T0".into(),
                    partition: 0,
                };
                world.lose(&place, count);
                world.oracle.comes_back = true;
            }
            Do::Topics => world.ensure_topics(types, 1, 1_000),
            Do::Delete => world.delete_topic("tidelog.T0"),
            Do::Limit(limit) => world.set_limit("tidelog.T0", limit),
            Do::Poison => {
                let disk = world.nodes[0].log.disk.clone();
                let disk = disk.lock();
                let of = stream("a");
                let mut records = disk.records().iter().rev();
                let newest = records.find(|record| record.stream == of).unwrap();
                world
                    .fake
                    .lock()
                    .cluster
                    .poison
                    .insert(newest.event.to_vec());
            }
            Do::Fatal => {
                let producers: Vec<u64> = world.fake.lock().producers.keys().copied().collect();
                for id in producers {
                    world.spoil(&Fault::GiveUp(id))?;
                }
            }
            Do::Retry => {
                world.fake.lock().cluster.poison.clear();
                world.ask(0, Ask::RetryAll, "try all again");
            }
            Do::Republish => {
                let all = Ask::Republish {
                    from: 1,
                    to: u64::MAX,
                };
                world.ask(0, all, "publish everything once more");
            }
            Do::Accept(count) => world.accept(0, count),
            Do::Hold => world.hold(0, 1),
            Do::Release(gives_way) => {
                world.release(0, gives_way);
            }
            Do::Clone => {
                let copy = world.clone_node(0);
                world.start(copy);
            }
            Do::KeepImage => world.keep_image(0),
            Do::PutImageBack => {
                world.crash(0, false);
                world.put_image_back(0);
                world.start(0);
            }
            Do::Fork => {
                world.resolve(0);
            }
            Do::Close => world.close(0),
            Do::Start => world.start(0),
            Do::Down => world.fake.lock().cluster.is_up = false,
            Do::Up => world.fake.lock().cluster.is_up = true,
        }
        world.run()
    }

    /// What is under way happens, first come first served.
    fn settle(&mut self, most: usize, within: Duration) -> Result<(), String> {
        let mut until = None;
        for _ in 0..most.min(5_000) {
            let world = &mut self.world;
            world.steps += 1;
            world.run()?;
            let moves = world.fake.lock().moves();
            // In turn, so that nothing waits for ever.
            let next = world.rng.pick(&moves).cloned();
            let job = world.jobs.first();
            if let Some(next) = next {
                let next = match next {
                    Move::Cut(id, place, most) => Move::Cut(id, place, most.min(self.cut)),
                    other => other,
                };
                self.meet(|world| world.make(next.clone()))?;
            } else if let Some(key) = job {
                self.meet(|world| {
                    world.run_job(key);
                    Ok(())
                })?;
            } else {
                let until = *until.get_or_insert(world.now + within);
                match world.next_timer().filter(|when| *when <= until) {
                    Some(when) => world.advance_to(when),
                    None => return Ok(()),
                }
            }
        }
        if most < 5_000 {
            return Ok(());
        }
        Err("it does not settle".to_owned())
    }

    fn meet(&mut self, happens: impl Fn(&mut World) -> Result<(), String>) -> Result<(), String> {
        let before = self.world.met;
        match self.at {
            Some((at, Break::Before)) if at == before => {
                self.at = None;
                self.world.crash(0, false);
                self.world.start(0);
                Ok(())
            }
            Some((at, how)) if at == before => {
                happens(&mut self.world)?;
                self.world.run()?;
                if self.world.met > before {
                    self.at = None;
                    self.world.crash(0, how == Break::Power);
                    self.world.start(0);
                }
                Ok(())
            }
            _ => happens(&mut self.world),
        }
    }
}
