//! What people do: they resolve what stands still, and write into the same streams.

use tidelog_backends::wire::{AppendRows, Bucket, EventRow, Expected, HeadRow, Reply, Request};
use tidelog_core::{
    Batch, Birth, Clock, ContentType, EventEnvelope, Halt, Metadata, RecordKind, StreamId, Tags,
    Timestamp,
};

use super::world::{Node, World};
use crate::replicate::Other;
use crate::replicate::mailbox::{Message, Reply as MailReply};
use crate::scylla::sink::SinkMessage;
use crate::scylla::{ReplicationParked, ReplicationState};

impl World {
    /// A direct client appends one event behind what stands there.
    pub(super) fn write_directly(&mut self, stream: &StreamId) -> Result<(), String> {
        const DIRECT: usize = usize::MAX;
        if !self.is_up {
            return Ok(());
        }
        let width = self.sizes.bucket_events;
        let (mut number, mut head) = (0, None);
        loop {
            let stream = stream.clone();
            let request = Request::Head(Bucket { stream, number });
            let Ok(Reply::Head(Some(found))) = self.execute(DIRECT, &request)? else {
                break;
            };
            head = Some(found);
            if found.sequence / width == number {
                break;
            }
            number += 1;
        }
        let sequence = head.map_or(1, |head: HeadRow| head.sequence + 1);
        let expected = match head {
            Some(head) if head.sequence / width == number && sequence > 1 => {
                // The first of a bucket finds no head there.
                let stream = stream.clone();
                let bucket = Bucket { stream, number };
                match self.execute(DIRECT, &Request::Head(bucket))? {
                    Ok(Reply::Head(Some(head))) => Expected::Sequence(head.sequence),
                    _ => Expected::Nothing,
                }
            }
            _ => Expected::Nothing,
        };
        let (event_id, payload) = self.new_event();
        let recorded = Timestamp::from_micros(5);
        let event = EventEnvelope {
            event_id,
            stream: stream.clone(),
            sequence,
            position: None,
            birth: None,
            kind: RecordKind::Event,
            event_type: "Direct".into(),
            revision: 1,
            content_type: ContentType::Bytes,
            event_time: recorded,
            recorded_time: recorded,
            metadata: Metadata::new(),
            tags: Tags::none(),
            batch: Batch {
                first: sequence,
                count: 1,
            },
            event: payload,
        };
        self.oracle.wrote_directly(&event);
        let head = HeadRow {
            sequence,
            event_id,
            recorded,
        };
        let stream = stream.clone();
        let append = AppendRows {
            bucket: Bucket { stream, number },
            expected,
            rows: vec![EventRow { event, place: None }],
            head,
        };
        let answer = self.execute(DIRECT, &Request::Append(Box::new(append)))?;
        self.note(|| format!("a direct client writes {sequence}: {answer:?}"));
        Ok(())
    }

    /// Begins restores again that have failed; whether there were any. One that can never succeed is
    /// given up: the server lost what it needs, or somebody else gave the epoch up.
    pub(super) fn go_on_restoring(&mut self) -> bool {
        for node in 0..self.nodes.len() {
            let at = &mut self.nodes[node];
            if at.restores.is_none() || at.running.is_some() || at.is_off {
                continue;
            }
            if at.failed > 3 {
                at.is_off = true;
                self.note(|| format!("node {node} is given up"));
                continue;
            }
            self.start(node);
            return true;
        }
        false
    }

    /// Resolves something that stands still, one thing at a time, parked streams
    /// only if that is wanted; whether there was anything.
    pub(super) fn resolve(&mut self, parked_too: bool) -> Result<bool, String> {
        for node in 0..self.nodes.len() {
            let last = self.nodes[node].log.disk.lock().last();
            let Some(running) = &mut self.nodes[node].running else {
                continue;
            };
            if running.is_asking() {
                continue;
            }
            let status = running.status.status();
            if let ReplicationState::Halted(halt) = status.state {
                self.resolve_halt(node, &halt)?;
                return Ok(true);
            }
            // What was done before is to be seen first.
            if !parked_too || status.state != ReplicationState::Live || status.settled < last {
                continue;
            }
            let parked = running.status.parked();
            let held: Vec<_> = parked.iter().filter(|parked| !parked.accepted).collect();
            if let Some(parked) = self.rng.pick(&held).copied() {
                // From the first event on that the stream holds.
                let of_stream = held.iter().filter(|held| held.stream == parked.stream);
                let first = of_stream.min_by_key(|held| held.first_sequence);
                let first = (*first.unwrap_or(&parked)).clone();
                self.resolve_parked(node, &first);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn resolve_halt(&mut self, node: usize, halt: &Halt) -> Result<(), String> {
        let message = match halt {
            Halt::Cloned { .. }
            | Halt::RestoredBackup { .. }
            | Halt::NewEpoch { .. }
            | Halt::UnknownEpoch { .. }
            | Halt::HistoryMismatch { .. }
            | Halt::EpochRetired { .. } => {
                let other = if self.rng.chance(50) {
                    Other::Gone
                } else {
                    Other::Lives
                };
                let code = halt.code();
                self.note(|| {
                    format!("node {node} stands still: {code}: fork, the other {other:?}")
                });
                SinkMessage::Fork(other)
            }
            // The row about the keyspace is lost, and this machine never knew it.
            Halt::Schema { .. } => {
                self.note(|| format!("node {node} stands still: {halt}: migrate"));
                self.server.migrate(self.meta.clone());
                self.send(node, Message::Retry);
                return Ok(());
            }
            other => return Err(format!("node {node} stands still: {other:?}")),
        };
        self.tell(node, message);
        Ok(())
    }

    fn resolve_parked(&mut self, node: usize, parked: &ReplicationParked) {
        // A sibling of a torn batch may have nothing in its way any more.
        if self.rng.chance(30) {
            self.note(|| format!("node {node}: {} is tried again", parked.stream));
            self.tell(node, SinkMessage::Retry(parked.stream.clone()));
            return;
        }
        let again = self.rng.chance(50);
        self.take_remote(node, &parked.stream, parked.first_sequence, again);
    }

    /// The server's events take the place of a stream's from `from` on, and come again behind them
    /// if that is wanted.
    pub(super) fn take_remote(&mut self, node: usize, stream: &StreamId, from: u64, again: bool) {
        let mut adopted = Vec::new();
        for (bucket, partition) in &self.server.tables().events {
            if bucket.stream == *stream {
                adopted.extend(partition.rows.range(from..).map(|(_, row)| row.clone()));
            }
        }
        let adopted: Vec<EventEnvelope> = adopted
            .into_iter()
            .zip(from..)
            .take_while(|(row, sequence)| row.event.sequence == *sequence)
            .map(|(row, _)| {
                let born = Birth {
                    origin: row
                        .place
                        .map_or(self.meta.keyspace_id, |place| place.origin),
                    epoch: row.place.map_or(self.meta.keyspace_id, |place| place.epoch),
                    position: row.place.map_or(0, |place| place.position),
                    recorded_time: row.event.recorded_time,
                };
                let mut event = row.event;
                event.birth.get_or_insert_with(|| born.into());
                event
            })
            .collect();
        let held = {
            let disk = self.nodes[node].log.disk.lock();
            let head = disk.head(stream);
            if head < from && adopted.is_empty() {
                return;
            }
            usize::try_from((head + 1).saturating_sub(from)).unwrap()
        };
        let count = if again { held } else { 0 };
        let reissued: Vec<_> = (0..count).map(|_| self.new_event()).collect();
        self.note(|| {
            format!(
                "node {node}: {stream} from {from} on gives way to {}, {count} again",
                adopted.len()
            )
        });
        let (event_id, _) = self.new_event();
        let log = &self.nodes[node].log;
        let now = log.clock.now();
        log.disk
            .lock()
            .supersede(stream, from, &adopted, &reissued, (event_id, now));
        log.notify();
    }

    fn tell(&mut self, node: usize, message: SinkMessage) {
        self.send(node, |reply| Message::Sink(message, reply));
    }

    fn send(&mut self, node: usize, message: impl FnOnce(MailReply) -> Message<SinkMessage>) {
        if let Some(running) = &mut self.nodes[node].running {
            let (reply, answer) = oneshot::async_channel();
            running.asking = Some(Box::pin(async move {
                let _ = answer.await;
            }));
            running.mailbox.send(message(reply));
        }
    }

    /// Whether every machine that runs is at work, whatever the server has of it.
    pub(super) fn is_live(&self) -> bool {
        self.nodes.iter().all(|node| {
            let running = node.running.as_ref().map(|running| running.status.status());
            let last = node.log.disk.lock().last();
            node.is_off
                || running.is_some_and(|status| {
                    status.state == ReplicationState::Live && status.settled == last
                })
        })
    }

    /// Has everything sent again.
    pub(super) fn resync(&mut self) {
        self.note(|| "everything is sent again".to_owned());
        for node in 0..self.nodes.len() {
            self.tell(node, SinkMessage::Resync);
        }
    }

    /// Whether every machine that runs has settled what it has.
    pub(super) fn is_level(&self) -> bool {
        self.nodes
            .iter()
            .all(|node| self.what_is_left(node).is_empty())
    }

    /// What keeps a machine from being level.
    fn what_is_left(&self, node: &Node) -> String {
        if node.is_off {
            return String::new();
        }
        let Some(running) = &node.running else {
            return "it does not run".to_owned();
        };
        let disk = node.log.disk.lock();
        let (last, identity) = (disk.last(), disk.identity());
        let status = running.status.status();
        let saved = super::oracle::state_of(&disk).ok().flatten();
        let saved = saved.map_or(0, |state| state.settled.position);
        let mark = self.server.tables().origins.get(&identity.origin);
        let mark = mark.and_then(|epochs| epochs.get(&identity.epoch));
        let mark = mark.map(|row| row.watermark.position);
        let is_level = status.state == ReplicationState::Live
            && status.settled == last
            && saved == last
            && mark == Some(last);
        if is_level {
            return String::new();
        }
        format!("it ends at {last}, saved is {saved}, the watermark is {mark:?}: {status:?}")
    }

    /// Where everything stands.
    pub(super) fn standing(&self) -> String {
        let left = self
            .nodes
            .iter()
            .map(|node| (node.log.node, self.what_is_left(node)));
        let left = left.filter(|(_, left)| !left.is_empty());
        let left: Vec<String> = left
            .map(|(node, left)| format!("node {node}: {left}"))
            .collect();
        left.join("; ")
    }
}
