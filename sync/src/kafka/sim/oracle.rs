//! What must be true, whatever happens.
//!
//! | rule | |
//! |---|---|
//! | 1 | no key ever shows a gap |
//! | 2 | what comes twice is the same |
//! | 3 | what is settled is there, or durably set aside |
//! | 4 | at rest all is there |
//! | 5 | one message of a stream is in flight |
//! | 6 | who is parked was refused for itself |
//! | 7 | nothing goes out that a replica has not accepted |
//! | 8 | of two copies one stands still, and the other sends for ten seconds at most |
//! | 9 | the status is true, and whoever waits is told rightly |
//! | 10 | memory is bounded |
//! | 11 | it comes to rest |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use tidelog_core::{Error, EventId, RecordKind, StreamId};
use uuid::Uuid;

use super::node::Running;
use super::world::{Node, Sizes};
use crate::kafka::PublishingState;
use crate::kafka::broker::OriginRecord;
use crate::kafka::fake::State;
use crate::kafka::fake::cluster::Stored;
use crate::kafka::state::KafkaState;
use crate::replicate::ParkedReason;
use crate::sim::disk::Disk;

/// How long after a copy has taken its place a machine may send.
const BESIDE: Duration = Duration::from_secs(10);

/// A stream in one life of a topic.
#[derive(Default)]
struct Seen {
    highest: u64,
    sequences: BTreeMap<u64, EventId>,
}

#[derive(Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each stands for a thing of its own"
)]
pub(super) struct Oracle {
    seen: BTreeMap<(Box<str>, u64, Vec<u8>), Seen>,
    /// Sequences that a stream has had in any life of its topic.
    ever: BTreeMap<(Box<str>, Vec<u8>), BTreeSet<u64>>,
    events: BTreeMap<EventId, Stored>,
    /// Topics that lost something: not all that is settled is there any more.
    pub lost: BTreeSet<Box<str>>,
    /// All that was lost is to come back by itself.
    pub comes_back: bool,
    /// Disks were copied, or older ones put back.
    pub is_copied: bool,
    /// Events gave way to others.
    pub is_superseded: bool,
    /// The lane rule is not looked at.
    pub ignores_lanes: bool,
    /// How many handshake records were looked at, by origin.
    marks: BTreeMap<Uuid, usize>,
    /// The sessions that each machine has asked for, or got with a disk.
    sessions: BTreeMap<usize, BTreeSet<Uuid>>,
    /// Records that were on their way when an older disk was put back where they came from.
    pub of_other_logs: Vec<OriginRecord>,
    /// Who has marked in each epoch, newest last.
    owners: BTreeMap<Uuid, Vec<usize>>,
    /// Who wrote the newest record of each origin, and since when nobody else did.
    claims: BTreeMap<Uuid, (usize, Duration)>,
    /// What each machine had kept, and told, when that was looked at last.
    kept: BTreeMap<usize, (Bytes, KafkaState)>,
    told: BTreeMap<usize, (u64, usize)>,
    /// How often each rule was held against something.
    pub looked: BTreeMap<&'static str, u64>,
}

fn header<'a>(message: &'a Stored, name: &str) -> &'a str {
    let mut headers = message.headers.iter();
    let found = headers.find(|(known, _)| known == name);
    found.map_or("", |(_, value)| std::str::from_utf8(value).unwrap())
}

impl Oracle {
    fn look(&mut self, rule: &'static str) {
        *self.looked.entry(rule).or_default() += 1;
    }

    pub(super) fn copied(&mut self, from: usize, to: usize) {
        self.is_copied = true;
        let known = self.sessions.get(&from).cloned().unwrap_or_default();
        self.sessions.insert(to, known);
    }

    /// Whether an event stands in Kafka, or stood there.
    pub(super) fn is_published(&self, id: EventId) -> bool {
        self.events.contains_key(&id)
    }

    /// Looks at everything that Kafka has taken since.
    pub(super) fn looked_at(
        &mut self,
        state: &mut State,
        nodes: &[Node],
        now: Duration,
    ) -> Result<(), String> {
        for written in std::mem::take(&mut state.cluster.written) {
            let topic = &state.cluster.topics[&written.place.topic];
            let part = &topic.parts[usize::try_from(written.place.partition).unwrap()];
            let message = part.messages[written.offset].clone();
            let key = (
                written.place.topic.clone(),
                written.life,
                message.key.clone(),
            );
            self.appended(key, &message, nodes)?;
        }
        for (node, record) in std::mem::take(&mut state.marked) {
            let claim = self.claims.entry(record.origin).or_insert((node, now));
            if claim.0 != node {
                *claim = (node, now);
            }
            self.marked(node, &record, state, nodes)?;
        }
        for (node, origin) in std::mem::take(&mut state.sent) {
            self.look("8");
            let Some((owner, since)) = self.claims.get(&origin) else {
                continue;
            };
            let beside = now.saturating_sub(*since);
            if *owner != node && beside > BESIDE {
                return Err(format!(
                    "8 beside node {owner}, which has taken its place, node {node} sends after {beside:?}"
                ));
            }
        }
        Ok(())
    }

    fn appended(
        &mut self,
        key: (Box<str>, u64, Vec<u8>),
        message: &Stored,
        nodes: &[Node],
    ) -> Result<(), String> {
        let sequence: u64 = header(message, "ce_sequence").parse().unwrap();
        let subject = header(message, "ce_subject").to_owned();
        let id = EventId::from_uuid(header(message, "ce_id").parse().unwrap());
        let has_lost = self.lost.contains(&key.0);
        let ever = self.ever.entry((key.0.clone(), key.2.clone())).or_default();
        ever.insert(sequence);
        let seen = self.seen.entry(key).or_default();
        // What a topic had in an earlier life is not missing by a fault of the publisher's.
        let was_there = has_lost && (seen.highest + 1..sequence).all(|n| ever.contains(&n));
        if sequence > seen.highest + 1 && !was_there {
            let highest = seen.highest;
            return Err(format!("1 {subject}: {sequence} follows {highest}"));
        }
        seen.highest = seen.highest.max(sequence);
        let before = seen.sequences.insert(sequence, id);
        self.look("1");
        if let Some(before) = before {
            self.look("2");
            if before != id && !self.is_copied && !self.is_superseded {
                return Err(format!("2 {subject}: {sequence} is another event"));
            }
        }
        let known = self.events.entry(id).or_insert_with(|| message.clone());
        if known != message {
            return Err(format!("2 {subject}: {sequence} has other bytes"));
        }
        self.accepted(id, &subject, nodes)
    }

    /// Whether a replica has accepted an event that was sent.
    fn accepted(&mut self, id: EventId, subject: &str, nodes: &[Node]) -> Result<(), String> {
        for node in nodes.iter().filter(|node| node.replica.is_used) {
            let disk = node.log.disk.lock();
            let found = disk.records().iter().find(|record| record.event_id == id);
            let Some(record) = found else { continue };
            let position = record.position.unwrap();
            if position > node.replica.most {
                return Err(format!("7 {subject}: {position} is not accepted"));
            }
            let held = &node.replica.held;
            if held
                .iter()
                .any(|(s, from)| *s == record.stream && *from <= position)
            {
                return Err(format!("7 {subject}: {position} is held"));
            }
            drop(disk);
            self.look("7");
        }
        Ok(())
    }

    fn marked(
        &mut self,
        node: usize,
        record: &OriginRecord,
        state: &State,
        nodes: &[Node],
    ) -> Result<(), String> {
        self.look("8");
        let number = self.marks.entry(record.origin).or_default();
        let at = *number;
        *number += 1;
        let records = state
            .cluster
            .origins
            .as_ref()
            .map(|all| &all[&record.origin]);
        let before = at.checked_sub(1).and_then(|at| records?.get(at));
        let mine = self.sessions.entry(node).or_default();
        if let Some(before) = before
            && before.epoch == record.epoch
            && before.session != record.session
            && !mine.contains(&before.session)
        {
            return Err(format!("8 node {node} took over what it had not seen"));
        }
        mine.insert(record.session);
        let owners = self.owners.entry(record.epoch).or_default();
        if owners.last() != Some(&node) {
            if owners.contains(&node) {
                return Err(format!(
                    "8 node {node} comes back to epoch {}",
                    record.epoch
                ));
            }
            owners.push(node);
        }
        // Another machine goes on there, and knows nothing of what is set aside here.
        let is_of_this_log = !self.of_other_logs.contains(record);
        if let Some(at) = nodes.get(node).filter(|_| is_of_this_log) {
            let disk = at.log.disk.lock();
            for event in disk.records() {
                let position = event.position.unwrap();
                if position <= record.position && !self.is_done(event, &disk, None) {
                    return Err(format!(
                        "3 a record says {}, and {position} of {} is not there",
                        record.position, event.stream
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether nothing is left to be done of an event.
    fn is_done(
        &self,
        event: &tidelog_core::EventEnvelope,
        disk: &Disk,
        state: Option<&KafkaState>,
    ) -> bool {
        let position = event.position.unwrap();
        let is_aside = |state: &KafkaState| {
            let entry = state.parked.get(&event.stream);
            entry.is_some_and(|entry| entry.first_position <= position)
        };
        event.kind == RecordKind::Control
            || self.is_published(event.event_id)
            || disk.is_superseded(&event.stream, event.sequence, position)
            || state.is_some_and(is_aside)
    }

    /// After every step.
    pub(super) fn always(
        &mut self,
        state: &State,
        nodes: &mut [Node],
        sizes: Sizes,
    ) -> Result<(), String> {
        self.lanes(state)?;
        for (number, node) in nodes.iter_mut().enumerate() {
            self.saved(number, node)?;
            let disk = node.log.disk.clone();
            let disk = disk.lock();
            if let Some(running) = &mut node.running {
                self.told(number, running, &disk, state, sizes)?;
            }
        }
        Ok(())
    }

    fn lanes(&mut self, state: &State) -> Result<(), String> {
        for producer in state.producers.values() {
            let mut keys = BTreeSet::new();
            for key in producer.keys() {
                if !keys.insert(key) && !self.ignores_lanes {
                    return Err("5 two messages of a stream are in flight".to_owned());
                }
            }
        }
        self.look("5");
        Ok(())
    }

    fn saved(&mut self, number: usize, node: &Node) -> Result<(), String> {
        let disk = node.log.disk.lock();
        let Some(bytes) = disk.saved.get("sink.kafka") else {
            self.kept.remove(&number);
            return Ok(());
        };
        let known = self.kept.get(&number);
        if known.is_some_and(|(known, _)| known.as_ptr() == bytes.as_ptr()) {
            return Ok(());
        }
        let state = KafkaState::decode(bytes)?;
        // What stands there does not go, and what is kept was looked at.
        self.told.remove(&number);
        self.kept.insert(number, (bytes.clone(), state.clone()));
        let sessions = self.sessions.entry(number).or_default();
        sessions.extend([state.session, state.next_session]);
        if state.settled.position > disk.last() {
            return Ok(());
        }
        self.look("3");
        for event in disk.records() {
            let position = event.position.unwrap();
            if position <= state.settled.position && !self.is_done(event, &disk, Some(&state)) {
                return Err(format!(
                    "3 {} is kept for settled, and {position} of {} is nowhere",
                    state.settled.position, event.stream
                ));
            }
        }
        Ok(())
    }

    fn told(
        &mut self,
        number: usize,
        running: &mut Running,
        disk: &Disk,
        state: &State,
        sizes: Sizes,
    ) -> Result<(), String> {
        let status = running.status.status();
        let now = (status.settled, disk.records().len());
        if self.told.insert(number, now) != Some(now) {
            let kept = self.kept.get(&number).map(|(_, state)| state);
            for event in disk.records() {
                let position = event.position.unwrap();
                if position <= status.settled && !self.is_done(event, disk, kept) {
                    return Err(format!(
                        "3 {} is told for settled, and {position} of {} is nowhere",
                        status.settled, event.stream
                    ));
                }
            }
        }
        self.look("9");
        for parked in &*running.status.parked() {
            self.parked(
                &parked.stream,
                &parked.reason,
                parked.first_sequence,
                disk,
                state,
            )?;
        }
        let most = sizes.pace.window_bytes + sizes.pace.read_bytes + 4_000;
        if status.in_flight_bytes > most {
            return Err(format!("10 {} bytes are read", status.in_flight_bytes));
        }
        self.look("10");
        if matches!(status.state, PublishingState::Halted(_)) {
            let mut producers = state.producers.values();
            if producers.any(|producer| producer.node == number && producer.held() > 0) {
                return Err(format!("8 node {number} stands still, and sends"));
            }
        }
        for (position, ended) in running.ended() {
            self.look("9");
            match ended {
                Ok(()) => {
                    let mut events = disk.records().iter();
                    let missing = events.find(|event| {
                        event.position.unwrap() <= position && !self.is_done(event, disk, None)
                    });
                    if let Some(event) = missing {
                        return Err(format!(
                            "9 who waits for {position} is told, and {:?} is not there",
                            event.position
                        ));
                    }
                }
                Err(Error::Parked { .. } | Error::Halted(_) | Error::Closed) => {}
                Err(error) => return Err(format!("9 who waits is told {error}")),
            }
        }
        Ok(())
    }

    fn parked(
        &mut self,
        stream: &StreamId,
        reason: &ParkedReason,
        sequence: u64,
        disk: &Disk,
        state: &State,
    ) -> Result<(), String> {
        if *reason == ParkedReason::NotReplicated {
            return Ok(());
        }
        self.look("6");
        let mut records = disk.records().iter();
        let guilty = records.any(|record| {
            record.stream == *stream
                && record.sequence == sequence
                && state.cluster.condemned.contains(&record.event[..])
        });
        if !guilty {
            return Err(format!(
                "6 {stream} is parked at {sequence}, which is innocent"
            ));
        }
        Ok(())
    }

    /// At rest: everything of this log that may be there is there now, and in order.
    pub(super) fn at_rest(
        &mut self,
        state: &State,
        node: &mut Node,
        aside: bool,
    ) -> Result<(), String> {
        let disk = node.log.disk.lock();
        let Some(running) = &mut node.running else {
            return Ok(());
        };
        let status = running.status.status();
        let parked = running.status.parked();
        if !aside && !parked.is_empty() {
            return Err(format!("4 {} streams are set aside", parked.len()));
        }
        if status.settled != disk.last() || status.in_flight != 0 {
            return Err(format!("9 at rest it is told {status:?}"));
        }
        self.look("4");
        let mut streams: BTreeMap<&StreamId, Vec<(u64, EventId)>> = BTreeMap::new();
        for event in disk.records() {
            let position = event.position.unwrap();
            let is_gone = disk.is_superseded(&event.stream, event.sequence, position);
            let is_parked = |parked: &crate::kafka::park::PublishingParked| {
                parked.stream == event.stream && parked.first_sequence <= event.sequence
            };
            if event.kind != RecordKind::Control && !is_gone && !parked.iter().any(is_parked) {
                let events = streams.entry(&event.stream).or_default();
                events.push((event.sequence, event.event_id));
            }
        }
        for (stream, events) in streams {
            let name = format!("tidelog.{}", stream.aggregate_type());
            let Some(topic) = state.cluster.topics.get(&*name) else {
                return Err(format!("4 {name} is not there"));
            };
            let there: BTreeSet<EventId> = topic
                .parts
                .iter()
                .flat_map(|part| &part.messages)
                .filter(|message| message.key == stream.aggregate_id().as_bytes())
                .map(|message| EventId::from_uuid(header(message, "ce_id").parse().unwrap()))
                .collect();
            for (sequence, id) in events {
                if !there.contains(&id) {
                    return Err(format!("4 {stream}: {sequence} is not there"));
                }
            }
        }
        let left = running.waiting.len();
        if left > 0 {
            return Err(format!("9 {left} still wait"));
        }
        Ok(())
    }
}
