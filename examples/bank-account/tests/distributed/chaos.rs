//! What is done to all of it while it works.

use std::thread::sleep;
use std::time::Duration;

use crate::processes::Process;
use crate::random::Random;
use crate::services::Own;

/// How much is done.
pub struct Plan {
    /// How often each process and each server is killed, at least.
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

/// Hurts everything at least once, in an order of its own.
pub fn round(plan: &Plan, random: &mut Random, servers: &[&Own], processes: &mut [&mut Process]) {
    // While a server is gone nobody can come to an end, however slow this machine is: whoever is
    // killed then was at work.
    let gone = random.place(servers.len());
    wait(plan, random);
    servers[gone].kill();
    let mut order: Vec<_> = (0..processes.len()).collect();
    while !order.is_empty() {
        wait(plan, random);
        let process = &mut *processes[order.swap_remove(random.place(order.len()))];
        assert!(process.kill(), "{} had ended before", process.name);
    }
    servers[gone].start_again();

    let others = (0..servers.len()).filter(|&which| which != gone);
    let mut acts: Vec<_> = others.map(Act::KillServer).collect();
    acts.push(Act::PauseServer(random.place(servers.len())));
    acts.push(Act::KillProcess(random.place(processes.len())));
    while !acts.is_empty() {
        wait(plan, random);
        match acts.swap_remove(random.place(acts.len())) {
            Act::KillServer(which) => {
                servers[which].kill();
                servers[which].start_again();
            }
            Act::PauseServer(which) => {
                servers[which].pause();
                sleep(plan.pause);
                servers[which].resume();
            }
            Act::KillProcess(which) => drop(processes[which].kill()),
        }
        for process in &mut *processes {
            process.runs();
        }
    }
}

fn wait(plan: &Plan, random: &mut Random) {
    let more = random.below(plan.wait.1);
    sleep(Duration::from_millis(plan.wait.0 + more));
}
