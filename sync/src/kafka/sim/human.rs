//! What people do, and a replica.

use tidelog_core::{Clock, EventId, IdSource, StreamId};

use super::world::World;
use crate::kafka::PublishingState;
use crate::kafka::broker::Place;
use crate::kafka::sink::Ask;
use crate::replicate::mailbox::Message;
use crate::replicate::sink::Other;

impl World {
    /// Makes the topics of all types that are missing.
    pub(super) fn ensure_topics(&mut self, types: &[String], partitions: usize, limit: usize) {
        let mut state = self.fake.lock();
        for name in types {
            let name = format!("tidelog.{name}");
            if !state.cluster.topics.contains_key(&*name) {
                state.cluster.make_topic(&name, partitions, limit);
            }
        }
        if state.cluster.origins.is_none() {
            state.cluster.origins = Some(std::collections::BTreeMap::new());
        }
    }

    pub(super) fn delete_topic(&mut self, name: &str) {
        self.note(|| format!("topic {name} is deleted"));
        self.fake.lock().cluster.topics.remove(name);
        self.oracle.lost.insert(name.into());
    }

    pub(super) fn set_limit(&mut self, name: &str, limit: usize) {
        self.note(|| format!("batches of {name} have at most {limit} bytes"));
        if let Some(topic) = self.fake.lock().cluster.topics.get_mut(name) {
            topic.limit = limit;
        }
    }

    /// A place loses what was written last.
    pub(super) fn lose(&mut self, place: &Place, count: usize) {
        self.note(|| format!("{place:?} loses {count}"));
        self.fake.lock().cluster.lose(place, count);
        self.oracle.lost.insert(place.topic.clone());
    }

    /// Where a machine stands still, asks it to go on; whether it was.
    pub(super) fn resolve(&mut self, node: usize) -> bool {
        let Some(running) = &mut self.nodes[node].running else {
            return false;
        };
        let PublishingState::Halted(halt) = running.status.status().state else {
            return false;
        };
        if running.is_asking() {
            return false;
        }
        let is_refused = halt.code().contains("refused");
        if is_refused || self.sizes.is_gated {
            let mailbox = std::sync::Arc::clone(&running.mailbox);
            running.asking = Some(Box::pin(async move {
                let _ = mailbox.ask(Message::Retry).await;
            }));
            running.is_asking();
            self.note(|| {
                format!(
                    "node {node} stands still ({}), and tries again",
                    halt.code()
                )
            });
            return true;
        }
        let code = halt.code().to_owned();
        self.ask(node, Ask::Fork(Other::Gone), &format!("fork ({code})"))
    }

    // A replica.

    /// It accepts some more, whole commits.
    pub(super) fn accept(&mut self, node: usize, count: usize) {
        let mutant = self.mutant;
        let at = &mut self.nodes[node];
        let settled = at.replica.settled;
        let ends: Vec<u64> = {
            let disk = at.log.disk.lock();
            let durable = disk.durable();
            let ends = disk.commits().iter().map(|commit| commit.last_position());
            ends.filter(|end| *end > settled && *end <= durable)
                .collect()
        };
        let Some(to) = ends.get(count.min(ends.len()).wrapping_sub(1)) else {
            return;
        };
        at.replica.settled = *to;
        at.replica.most = at.replica.most.max(*to);
        at.replica.tell(&at.log, mutant);
        self.note(|| format!("the replica of node {node} has accepted {to}"));
    }

    /// It holds a stream from an event on that it has not accepted, and with it the parts of the
    /// same append that are left.
    pub(super) fn hold(&mut self, node: usize, at: usize) {
        let mutant = self.mutant;
        let it = &mut self.nodes[node];
        let settled = it.replica.settled;
        let held: Vec<(StreamId, u64)> = {
            let disk = it.log.disk.lock();
            let mut found = Vec::new();
            for event in disk.records() {
                let position = event.position.unwrap();
                let is_event = event.kind != tidelog_core::RecordKind::Control
                    && !disk.is_superseded(&event.stream, event.sequence, position);
                if is_event && position > settled && position <= disk.durable() {
                    found.push((event.stream.clone(), position, event.batch.first));
                }
            }
            let Some((_, from, batch)) = found.get(at % found.len().max(1)).cloned() else {
                return;
            };
            found.retain(|(_, position, first)| *first == batch && *position >= from);
            found
                .into_iter()
                .map(|(stream, at, _)| (stream, at))
                .collect()
        };
        for (stream, position) in held {
            if !it.replica.held.iter().any(|(known, _)| *known == stream) {
                it.replica.held.push((stream, position));
            }
        }
        if mutant.is_none() {
            it.replica.list(&it.log);
        }
        self.note(|| format!("the replica of node {node} holds streams"));
    }

    /// Somebody resolves a stream that it holds: what is held is accepted, or gives way to another
    /// origin's.
    pub(super) fn release(&mut self, node: usize, gives_way: bool) -> bool {
        let mutant = self.mutant;
        let ids = self.ids.clone();
        let Some((stream, position)) = self.nodes[node].replica.held.pop() else {
            return false;
        };
        let news: Vec<_> = (0..2).map(|_| self.new_event()).collect();
        let it = &mut self.nodes[node];
        let is_there = {
            let disk = it.log.disk.lock();
            let sequence = disk.record(position).sequence;
            !disk.is_superseded(&stream, sequence, position)
        };
        if gives_way && is_there && it.replica.settled >= position {
            let mut disk = it.log.disk.lock();
            let from = disk.record(position).sequence;
            let mut adopted = disk.record(position).clone();
            adopted.event_id = news[0].0;
            adopted.event = news[0].1.clone();
            adopted.birth = Some(std::sync::Arc::new(tidelog_core::Birth {
                origin: ids.next_uuid(),
                epoch: ids.next_uuid(),
                position: 1,
                recorded_time: adopted.recorded_time,
            }));
            let now = it.log.clock.now();
            let event_id = EventId::from_uuid(ids.next_uuid());
            disk.supersede(&stream, from, &[adopted], &news[1..], (event_id, now));
            self.oracle.is_superseded = true;
            drop(disk);
            it.log.notify();
        }
        it.replica.tell(&it.log, mutant);
        self.note(|| format!("{stream} is resolved at node {node} (gives way: {gives_way})"));
        true
    }
}
