//! How a schedule ends: nothing goes wrong any more, people resolve what stands still, and in the end
//! everything is level.

use super::world::{Fate, World};
use crate::sim::outcome::Outcome;

/// Steps within which everything must be level once nothing goes wrong any more.
const REST: u64 = 20_000;

impl World {
    /// What came of running it.
    pub(super) fn outcome(&mut self, failure: Option<String>) -> Outcome {
        Outcome {
            steps: self.steps,
            met: self.net.lock().asked,
            failure,
            trace: self.trace.take().unwrap_or_default(),
            looked: std::mem::take(&mut self.oracle.looked),
        }
    }

    /// Nothing goes wrong any more: everything under way arrives, everything is resolved, and all is
    /// level.
    pub(super) fn come_to_rest(&mut self) -> Result<(), String> {
        let world = self;
        world.note(|| "nothing goes wrong any more".to_owned());
        world.is_up = true;
        world.behind = 0;
        world.server.catch_up();
        for at in 0..world.followers.len() {
            world.start_follower(at);
        }
        for at in 0..world.pullers.len() {
            world.start_puller(at);
        }
        let mut level_since = None;
        for node in 0..world.nodes.len() {
            world.wake_up(node);
            world.nodes[node].failed = 0;
            if !world.nodes[node].is_off {
                world.start(node);
            }
            world.nodes[node].log.disk.lock().make_durable();
            world.nodes[node].log.notify();
        }
        world.run()?;
        let until = world.steps + REST;
        let mut resynced = !world.oracle.has_lost;
        let mut checked = false;
        while world.steps < until {
            world.steps += 1;
            let (sent, answered) = world.messages();
            let job = world.net.jobs.first();
            let now = world.net.lock().now;
            let level = world.is_level();
            if !level {
                level_since = None;
            } else if level_since.is_none() {
                level_since = Some(now);
            }
            let is_followed = level_since.is_some_and(|since| world.is_followed(since));
            if let Some(key) = answered.first() {
                world.net.deliver(*key);
            } else if let Some(key) = sent.first() {
                world.meet(*key, Fate::Execute)?;
            } else if let Some(key) = job {
                world.run_job(key);
            } else if world.go_on_restoring() {
            } else if !checked && !world.oracle.has_lost && is_followed {
                // With what is parked, before anybody resolves it.
                checked = true;
                world.check()?;
            } else if world.resolve(checked || world.oracle.has_lost)? {
                // Who forks begins anew, and forgets what was to be sent again.
                resynced = !world.oracle.has_lost;
            } else if !resynced && world.is_live() {
                // Rows that were lost one by one are seen by nobody.
                resynced = true;
                world.resync();
            } else if resynced && is_followed {
                return world.check();
            } else if let Some(when) = world.next_timer() {
                world.advance_to(when);
            } else {
                return Err(format!(
                    "10: nothing happens any more: {}",
                    world.standing()
                ));
            }
            world.run()?;
        }
        Err(format!("10: no progress: {}", world.standing()))
    }

    fn check(&mut self) -> Result<(), String> {
        let Self {
            oracle,
            server,
            nodes,
            followers,
            ..
        } = self;
        oracle.at_rest(server, nodes)?;
        oracle.followed(followers, server, nodes)?;
        self.look_at_what_is_kept()
    }
}
