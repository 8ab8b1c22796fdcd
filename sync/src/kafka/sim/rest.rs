//! How a schedule ends: nothing goes wrong any more, people resolve what stands still, and in the end
//! everything is there.

use super::world::World;
use crate::kafka::sink::Ask;
use crate::sim::outcome::Outcome;

/// Steps within which everything must be there once nothing goes wrong any more.
const REST: u64 = 20_000;

impl World {
    /// What came of running it.
    pub(super) fn outcome(&mut self, failure: Option<String>) -> Outcome {
        Outcome {
            steps: self.steps,
            met: self.met,
            failure,
            trace: self.trace.take().unwrap_or_default(),
            looked: std::mem::take(&mut self.oracle.looked),
        }
    }
}

/// What is left to be done before all is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What is refused is still refused.
    Guilty,
    /// Nothing is refused any more, and what was lost is published once more.
    Refill,
    Last,
}

impl World {
    pub(super) fn come_to_rest(&mut self, types: &[String]) -> Result<(), String> {
        let world = self;
        world.note(|| "nothing goes wrong any more".to_owned());
        world.fake.lock().cluster.is_up = true;
        world.ensure_topics(types, 2, 1_000);
        // Of copies one lives on.
        let live = world.nodes.len() - 1;
        for node in 0..world.nodes.len() {
            if node == live {
                world.nodes[node].is_off = false;
                world.start(node);
            } else {
                world.crash(node, false);
                world.nodes[node].is_off = true;
            }
            let log = world.nodes[node].log.clone();
            log.disk.lock().make_durable();
            log.notify();
        }
        world.run()?;
        let until = world.steps + REST;
        let mut stage = Stage::Guilty;
        while world.steps < until {
            world.steps += 1;
            let moves = world.fake.lock().moves();
            let next = world.rng.pick(&moves).cloned();
            if let Some(next) = next {
                world.make(next)?;
            } else if let Some(key) = world.jobs.first() {
                world.run_job(key);
            } else if world.nodes[live].running.is_none() {
                // It was being closed.
                world.start(live);
            } else if world.is_asked(live) {
                let when = world.next_timer();
                let when = when.ok_or_else(|| "11: an answer never comes".to_owned())?;
                world.advance_to(when);
            } else if world.resolve(live) || world.goes_on(live) {
            } else if world.is_level(live) {
                let is_clean = world.oracle.lost.is_empty() || world.oracle.comes_back;
                match stage {
                    Stage::Guilty => {
                        if is_clean {
                            world.check(live, true)?;
                        }
                        world.forgive();
                        world.ask(live, Ask::RetryAll, "try all again");
                        stage = Stage::Refill;
                    }
                    Stage::Refill => {
                        if !is_clean {
                            let all = Ask::Republish {
                                from: 1,
                                to: u64::MAX,
                            };
                            world.ask(live, all, "publish everything once more");
                        }
                        stage = Stage::Last;
                    }
                    Stage::Last => return world.check(live, false),
                }
            } else if let Some(when) = world.next_timer() {
                world.advance_to(when);
            } else {
                return Err(format!(
                    "11: nothing happens any more: {}",
                    world.standing(live)
                ));
            }
            world.run()?;
        }
        Err(format!("11: no progress: {}", world.standing(live)))
    }

    /// Nothing is refused any more.
    fn forgive(&mut self) {
        self.note(|| "nothing is refused any more".to_owned());
        let mut state = self.fake.lock();
        state.cluster.poison.clear();
        state.raise(5_000);
        for topic in state.cluster.topics.values_mut() {
            topic.limit = 1_000;
        }
    }

    fn is_asked(&mut self, node: usize) -> bool {
        let running = self.nodes[node].running.as_mut();
        running.is_some_and(super::node::Running::is_asking)
    }

    /// A replica accepts what it can, and then somebody resolves what it holds.
    fn goes_on(&mut self, node: usize) -> bool {
        if !self.sizes.is_gated {
            return false;
        }
        let before = self.nodes[node].replica.settled;
        self.accept(node, usize::MAX);
        self.nodes[node].replica.settled > before || self.release(node, true)
    }

    fn is_level(&mut self, node: usize) -> bool {
        let last = self.nodes[node].log.disk.lock().last();
        let Some(running) = &mut self.nodes[node].running else {
            return false;
        };
        let status = running.status.status();
        let is_live = matches!(status.state, crate::kafka::PublishingState::Live);
        is_live && status.settled == last && status.withheld == 0 && status.in_flight == 0
    }

    fn standing(&self, node: usize) -> String {
        let running = self.nodes[node].running.as_ref();
        format!("{:?}", running.map(|running| running.status.status()))
    }

    fn check(&mut self, node: usize, aside: bool) -> Result<(), String> {
        let state = self.fake.lock();
        self.oracle.at_rest(&state, &mut self.nodes[node], aside)
    }
}
