//! What is done to all of it while it works.

use std::thread::sleep;
use std::time::Duration;

use crate::processes::Process;
use crate::random::Random;
use crate::services::Own;

/// How much is done.
pub struct Plan {
    /// How often each process and each server is killed.
    pub rounds: usize,
    /// Between two acts, in milliseconds: at least, and how much more.
    pub wait: (u64, u64),
    /// How long a server is stopped.
    pub pause: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    KillServer(usize),
    PauseServer(usize),
    KillProcess(usize),
}

/// Each round hurts everything once, in an order of its own.
pub fn cause(plan: &Plan, random: &mut Random, servers: &[&Own], processes: &mut [Process]) {
    for round in 1..=plan.rounds {
        let kills = (0..servers.len()).map(Act::KillServer);
        let mut acts: Vec<_> = kills.collect();
        acts.push(Act::PauseServer(random.place(servers.len())));
        acts.extend((0..processes.len()).map(Act::KillProcess));
        while !acts.is_empty() {
            let more = random.below(plan.wait.1);
            sleep(Duration::from_millis(plan.wait.0 + more));
            let act = acts.swap_remove(random.place(acts.len()));
            match act {
                Act::KillServer(which) => {
                    servers[which].kill();
                    servers[which].start_again();
                }
                Act::PauseServer(which) => {
                    servers[which].pause();
                    sleep(plan.pause);
                    servers[which].resume();
                }
                Act::KillProcess(which) => processes[which].kill(),
            }
            for process in &mut *processes {
                process.runs();
            }
        }
        crate::say(&format!("round {round} of {} is over", plan.rounds));
    }
}
