//! Machines that sleep, and connections that answer nothing any more.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidelog_core::{Clock, Timestamp};

use super::mutants::Mutant;
use super::net::Place;
use super::world::World;
use crate::scylla::ReplicationState;

/// Within which time after it woke up a machine sends something, on connections that live.
const AWAKE: Duration = Duration::from_secs(10);
/// In microseconds.
const DAY: u64 = 86_400_000_000;

impl World {
    pub(super) fn is_asleep(&self, node: usize) -> bool {
        let node = self.nodes.get(node);
        node.is_some_and(|node| node.asleep.is_some())
    }

    /// What a machine asked is not answered any more, nor is what it asks before it connects anew.
    pub(super) fn break_connections(&mut self, node: usize) {
        self.note(|| format!("the connections of node {node} are dead"));
        let under_way: Vec<(u64, bool)> = {
            let mut net = self.net.lock();
            net.dead.insert(node);
            let of_node = net
                .messages
                .iter()
                .filter(|(_, message)| message.node == node && message.deadline.is_some());
            let is_sent = |place: &Place| matches!(place, Place::Sent);
            of_node
                .map(|(key, message)| (*key, is_sent(&message.place)))
                .collect()
        };
        for (key, is_sent) in under_way {
            // It may be at the server already, or is lost on its way.
            if is_sent && self.rng.chance(50) {
                self.net.copy(key);
            }
            self.net.lose(key);
        }
    }

    /// A machine goes to sleep: its time stands still, and its connections die meanwhile.
    pub(super) fn put_to_sleep(&mut self, node: usize) {
        self.break_connections(node);
        self.note(|| format!("node {node} goes to sleep"));
        self.nodes[node].asleep = Some(self.net.lock().now);
    }

    /// It wakes up, after as long as it likes.
    pub(super) fn wake_up(&mut self, node: usize) {
        let Some(since) = self.nodes[node].asleep.take() else {
            return;
        };
        let slept = 60_000_000 + self.rng.below(5 * DAY);
        let log = &self.nodes[node].log;
        if self.mutant != Some(Mutant::SleepIgnored) {
            log.slept.fetch_add(slept, Ordering::Relaxed);
        }
        let now = log.clock.now().as_micros() + slept.cast_signed();
        log.clock.set(Timestamp::from_micros(now));
        {
            let mut net = self.net.lock();
            let passed = net.now.saturating_sub(since);
            let of_node = net
                .messages
                .values_mut()
                .filter(|message| message.node == node);
            for deadline in of_node.filter_map(|message| message.deadline.as_mut()) {
                *deadline += passed;
            }
            let now = net.now;
            net.woken.insert(node, now);
        }
        self.note(|| format!("node {node} wakes up after {} s", slept / 1_000_000));
    }

    /// Rule 11: who wakes up and has something to send, sends it soon.
    pub(super) fn look_at_the_woken(&mut self) -> Result<(), String> {
        let woken: Vec<(usize, Duration)> = {
            let net = self.net.lock();
            net.woken
                .iter()
                .map(|(node, since)| (*node, *since))
                .collect()
        };
        let now = self.net.lock().now;
        for (node, since) in woken {
            let at = &self.nodes[node];
            let status = at.running.as_ref().map(|running| running.status.status());
            let has_work = at.restores.is_none()
                && at.asleep.is_none()
                && status.is_some_and(|status| {
                    !matches!(status.state, ReplicationState::Halted(_))
                        && status.settled < at.log.disk.lock().durable()
                });
            if !has_work {
                self.net.lock().woken.insert(node, now);
                continue;
            }
            let waited = now.saturating_sub(since);
            *self
                .oracle
                .looked
                .entry("11 who wakes up sends soon")
                .or_default() += 1;
            if waited > AWAKE {
                return Err(format!(
                    "11 who wakes up sends soon: node {node} has sent nothing for {waited:?}"
                ));
            }
        }
        Ok(())
    }
}
