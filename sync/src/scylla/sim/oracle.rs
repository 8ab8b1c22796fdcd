//! What must be true: after every write that the server commits, and at rest.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidelog_backends::commits::CommitEnd;
use tidelog_backends::fake::FakeServer;
use tidelog_backends::wire::{
    AppendRows, Bucket, Chunk, Expected, LogPlace, MetaRow, ParkedKey, ParkedRow, Request,
    Watermark,
};
use tidelog_core::{EventEnvelope, EventId, RecordKind, StreamId};
use uuid::Uuid;

use super::world::Node;
use crate::scylla::state::SinkState;
use crate::sim::disk::Disk;

/// Places of a log: positions with the chain hash there.
type Marks = BTreeSet<(u64, [u8; 32])>;

/// What the oracle remembers.
pub(super) struct Oracle {
    meta: MetaRow,
    /// Which event stands where, as the server has it.
    pub(super) streams: BTreeMap<StreamId, BTreeMap<u64, EventId>>,
    /// All that ever stood there.
    pub(super) accepted: BTreeSet<EventId>,
    places: BTreeMap<EventId, (StreamId, u64)>,
    /// Events that were on some disk, and survived.
    ever: BTreeSet<EventId>,
    /// Every commit end that ever was, by origin.
    ends: BTreeMap<Uuid, BTreeSet<(u64, [u8; 32], u64)>>,
    /// Events that direct clients wrote.
    direct: BTreeMap<EventId, EventEnvelope>,
    /// Who made a session, and in which of its runs.
    sessions: BTreeMap<Uuid, (usize, u32)>,
    runs: BTreeMap<usize, u32>,
    /// Every place at which the watermark of an epoch ever stood, by origin and epoch.
    pub(super) marks: BTreeMap<(Uuid, Uuid), Marks>,
    /// Who moved the watermark of an epoch: the last one, and those before.
    movers: BTreeMap<(Uuid, Uuid), (usize, BTreeSet<usize>)>,
    /// What was ever parked.
    parked_once: BTreeSet<(Uuid, StreamId, u64)>,
    /// The server has lost something since.
    pub has_lost: bool,
    /// How often a rule was held against something: a rule that never was holds nothing.
    pub looked: BTreeMap<&'static str, u64>,
}

pub(super) type Verdict = Result<(), String>;

macro_rules! rule {
    ($oracle:expr, $name:literal, $holds:expr, $($what:tt)+) => {
        *$oracle.looked.entry($name).or_default() += 1;
        if !$holds {
            return Err(format!("{}: {}", $name, format!($($what)+)));
        }
    };
}

pub(super) use rule;

impl Oracle {
    pub(super) fn new(meta: MetaRow) -> Self {
        Self {
            meta,
            streams: BTreeMap::new(),
            accepted: BTreeSet::new(),
            places: BTreeMap::new(),
            ever: BTreeSet::new(),
            ends: BTreeMap::new(),
            direct: BTreeMap::new(),
            sessions: BTreeMap::new(),
            runs: BTreeMap::new(),
            marks: BTreeMap::new(),
            movers: BTreeMap::new(),
            parked_once: BTreeSet::new(),
            has_lost: false,
            looked: BTreeMap::new(),
        }
    }

    pub(super) fn started(&mut self, node: usize) {
        *self.runs.entry(node).or_default() += 1;
    }

    /// Before a disk loses what it has: what was durable there may be at the server.
    pub(super) fn remember(&mut self, disk: &Disk) {
        let durable = disk.durable();
        let records = disk.records().iter();
        let durable = records.take_while(|record| record.position <= Some(durable));
        self.ever.extend(durable.map(|record| record.event_id));
        let ends = self.ends.entry(disk.identity().origin).or_default();
        for commit in disk.commits() {
            let CommitEnd {
                number,
                position,
                hash,
            } = commit.end();
            ends.insert((position, hash, number));
        }
    }

    pub(super) fn wrote_directly(&mut self, event: &EventEnvelope) {
        self.direct.insert(event.event_id, event.clone());
    }

    /// The server lost something: what it has now is what counts.
    pub(super) fn lost(&mut self, server: &FakeServer) {
        self.has_lost = true;
        self.streams.clear();
        self.places.clear();
        for (bucket, partition) in &server.tables().events {
            for (sequence, row) in &partition.rows {
                let id = row.event.event_id;
                let stream = self.streams.entry(bucket.stream.clone()).or_default();
                stream.insert(*sequence, id);
                self.places.insert(id, (bucket.stream.clone(), *sequence));
            }
        }
    }

    /// Who asks makes the sessions in it.
    pub(super) fn asked(&mut self, node: usize, request: &Request) {
        let session = match request {
            Request::Register(row) => row.watermark.session,
            Request::Claim { session, .. } => *session,
            Request::Fork(fork) => fork.row.watermark.session,
            _ => return,
        };
        let run = self.runs.get(&node).copied().unwrap_or_default();
        self.sessions.entry(session).or_insert((node, run));
    }

    /// A write was committed.
    pub(super) fn committed(
        &mut self,
        request: &Request,
        server: &FakeServer,
        nodes: &[Node],
    ) -> Verdict {
        match request {
            Request::Append(append) => self.appended(append, nodes),
            Request::Register(row) => {
                self.moved(row.origin, row.epoch, row.watermark, server, nodes)
            }
            Request::Fork(fork) => {
                let row = &fork.row;
                self.moved(row.origin, row.epoch, row.watermark, server, nodes)
            }
            Request::Advance {
                origin, epoch, to, ..
            } => {
                self.one_mover(*origin, *epoch, to.session)?;
                self.moved(*origin, *epoch, *to, server, nodes)
            }
            Request::Park(row) => self.parked(row, nodes),
            _ => Ok(()),
        }
    }

    /// Rule 2, as it goes: an event is written once, where nothing else stands, behind the one
    /// before it, into the bucket that the rule says; and only what survives a power cut.
    fn appended(&mut self, append: &AppendRows, nodes: &[Node]) -> Verdict {
        let Bucket { stream, number } = &append.bucket;
        let first = append.rows.first().map_or(0, |row| row.event.sequence);
        let known = self.streams.entry(stream.clone()).or_default();
        let expected = match append.expected {
            Expected::Nothing => first.saturating_sub(1),
            Expected::Sequence(sequence) | Expected::Event(sequence, _) => sequence,
        };
        // The head may stand above its lost row while all else above is lost, too.
        let is_below = known.keys().next_back() >= Some(&first);
        let is_refill =
            first <= append.head.sequence && (is_below || self.has_lost && first <= expected);
        for row in &append.rows {
            let (sequence, id) = (row.event.sequence, row.event.event_id);
            let there = known.get(&sequence).copied();
            rule!(
                self,
                "2 nothing is overwritten",
                there.is_none_or(|there| there == id),
                "{stream} {sequence}: {id} over {there:?}"
            );
            let before = self.places.get(&id);
            rule!(
                self,
                "2 no event stands twice",
                before.is_none_or(|place| *place == (stream.clone(), sequence)),
                "{id} at {stream} {sequence} and {before:?}"
            );
            let is_direct = self.direct.contains_key(&id);
            rule!(
                self,
                "2 only durable events are sent",
                is_direct || self.ever.contains(&id) || is_durable(nodes, id),
                "{id}, {stream} {sequence}"
            );
        }
        if !is_refill {
            let width = self.meta.bucket_events;
            rule!(
                self,
                "2 the bucket is that of the head expected",
                expected / width == *number,
                "{stream} {first} behind {expected} in bucket {number}"
            );
            rule!(
                self,
                "2 sequences are dense",
                self.has_lost || first <= 1 || known.contains_key(&(first - 1)),
                "{stream} {first}"
            );
        }
        for row in &append.rows {
            let (sequence, id) = (row.event.sequence, row.event.event_id);
            known.insert(sequence, id);
            self.accepted.insert(id);
            self.places.insert(id, (stream.clone(), sequence));
        }
        Ok(())
    }

    /// Rule 9: an epoch that another took over is never moved again by the one before.
    fn one_mover(&mut self, origin: Uuid, epoch: Uuid, session: Uuid) -> Verdict {
        let Some((node, _)) = self.sessions.get(&session).copied() else {
            return Err(format!("9: session {session} was never claimed"));
        };
        let (last, before) = self
            .movers
            .entry((origin, epoch))
            .or_insert_with(|| (node, BTreeSet::new()));
        if *last != node {
            before.insert(*last);
            *last = node;
        }
        let came_back = before.contains(&node);
        rule!(
            self,
            "9 one copy moves the watermark",
            self.has_lost || !came_back,
            "node {node} moves epoch {epoch} after another did"
        );
        Ok(())
    }

    /// Rule 3: the watermark is the end of a commit, and everything up to it is settled.
    fn moved(
        &mut self,
        origin: Uuid,
        epoch: Uuid,
        to: Watermark,
        server: &FakeServer,
        nodes: &[Node],
    ) -> Verdict {
        let marks = self.marks.entry((origin, epoch)).or_default();
        marks.insert((to.position, to.hash));
        let made = self.sessions.get(&to.session).copied();
        let Some((number, run)) = made else {
            return Err(format!("3: session {} was never claimed", to.session));
        };
        let Some(node) = nodes.get(number) else {
            return Ok(());
        };
        let disk = node.log.disk.lock();
        let wanted = (to.position, to.hash, to.commit_number);
        let here = disk
            .commit_end(to.position)
            .map(|end| (end.position, end.hash, end.number));
        let ever = self
            .ends
            .get(&origin)
            .is_some_and(|all| all.contains(&wanted));
        rule!(
            self,
            "3 the watermark is the end of a commit",
            here == Some(wanted) || ever,
            "epoch {epoch} moves to {to:?}, here is {here:?}"
        );
        let is_same_run = self.runs.get(&number) == Some(&run) && here == Some(wanted);
        if self.has_lost || !is_same_run {
            return Ok(());
        }
        rule!(
            self,
            "3 the watermark is durable",
            to.position <= disk.durable(),
            "{to:?} above {}",
            disk.durable()
        );
        let state = state_of(&disk)?;
        for record in disk.records().iter().take(index(to.position)) {
            self.settled(record, &disk, state.as_ref(), server, true)?;
        }
        Ok(())
    }

    /// Rule 4: what is parked as diverged has somebody else's event in its stream.
    fn parked(&mut self, row: &ParkedRow, nodes: &[Node]) -> Verdict {
        if self.has_lost || &*row.reason != "diverged" {
            return Ok(());
        }
        let key = &row.key;
        // A new epoch takes over what the one before has parked.
        let what = (key.origin, key.stream.clone(), key.first_position);
        if !self.parked_once.insert(what) {
            return Ok(());
        }
        // Of copies of a store each may be the one that parks: the one that has the event.
        let there = self.streams.get(&key.stream);
        let (mut has_it, mut foreign) = (false, false);
        for node in nodes {
            let disk = node.log.disk.lock();
            let at = disk.records().get(index(key.first_position) - 1);
            if disk.identity().origin != key.origin
                || at.map(|record| record.event_id) != Some(row.local_event)
            {
                continue;
            }
            has_it = true;
            // What gave way here another copy may have had accepted: it is in the way like a stranger's.
            let here = disk.records().iter().filter(|record| {
                let position = record.position.unwrap_or_default();
                !disk.is_superseded(&record.stream, record.sequence, position)
            });
            let mine: BTreeSet<EventId> = here.map(|record| record.event_id).collect();
            foreign |= there.is_some_and(|events| events.values().any(|id| !mine.contains(id)));
        }
        if !has_it {
            return Ok(());
        }
        rule!(
            self,
            "4 only what conflicts is parked",
            foreign,
            "{} at {}",
            key.stream,
            row.first_sequence
        );
        Ok(())
    }

    /// Whether a record is settled: in the log's table, and accepted, superseded or parked on both
    /// sides.
    fn settled(
        &mut self,
        record: &EventEnvelope,
        disk: &Disk,
        state: Option<&SinkState>,
        server: &FakeServer,
        may_be_superseded: bool,
    ) -> Verdict {
        let position = record.position.unwrap_or_default();
        let identity = disk.identity();
        let bytes = bytes_of(disk, position);
        let epochs = disk.epochs();
        let rows = epochs.iter().filter_map(|epoch| {
            let chunk = Chunk {
                origin: identity.origin,
                epoch: epoch.id,
                number: position / self.meta.chunk_records,
            };
            server.tables().log.get(&chunk)
        });
        // A copy that went apart may have taken the same event in at the same place.
        let found = rows.flat_map(BTreeMap::values).any(|row| {
            row.position == position && row.event_id == record.event_id && row.record == bytes
        });
        rule!(
            self,
            "1 every record stands in the log",
            found,
            "position {position} of {}",
            identity.origin
        );
        let (stream, sequence) = (&record.stream, record.sequence);
        let is_control = record.kind == RecordKind::Control;
        if is_control || may_be_superseded && disk.is_superseded(stream, sequence, position) {
            return Ok(());
        }
        let there = self
            .streams
            .get(stream)
            .and_then(|events| events.get(&sequence));
        if there == Some(&record.event_id) {
            return Ok(());
        }
        let entry = state.into_iter().flat_map(|state| state.of(stream));
        let mut entries = entry.filter(|entry| !entry.accepted && entry.first_position <= position);
        let entry = entries.next();
        let here = entry.is_some();
        rule!(
            self,
            "4 what is not accepted is held",
            here,
            "{stream} {sequence} (position {position}): there stands {there:?}"
        );
        let noted = entry.is_some_and(|entry| {
            let of_origin = server.tables().parked.iter();
            let mut rows = of_origin
                .filter(|((origin, _), _)| *origin == identity.origin)
                .flat_map(|(_, rows)| rows.values());
            rows.any(|row| {
                row.key.stream == *stream && row.key.first_position == entry.first_position
            })
        });
        rule!(
            self,
            "3 what is held is parked at the server",
            noted,
            "{stream} {sequence}, {entry:?}"
        );
        Ok(())
    }

    /// Everything, when nothing is under way and every machine that runs is level.
    pub(super) fn at_rest(&mut self, server: &FakeServer, nodes: &[Node]) -> Verdict {
        self.streams_at_rest(server, nodes)?;
        for node in nodes.iter().filter(|node| node.running.is_some()) {
            let disk = node.log.disk.lock();
            let state = state_of(&disk)?;
            let Some(state) = state else {
                return Err(format!("10: node {} has no state", node.log.node));
            };
            rule!(
                self,
                "10 all is settled and saved",
                state.settled.position == disk.last(),
                "node {}: {:?} of {}",
                node.log.node,
                state.settled,
                disk.last()
            );
            for record in disk.records() {
                self.settled(record, &disk, Some(&state), server, true)?;
            }
            self.chain(&disk, server)?;
            self.batches(&disk, &state)?;
        }
        Ok(())
    }

    /// Rule 2, of whole streams.
    fn streams_at_rest(&mut self, server: &FakeServer, nodes: &[Node]) -> Verdict {
        let width = self.meta.bucket_events;
        let mut next: BTreeMap<&StreamId, u64> = BTreeMap::new();
        for (bucket, partition) in &server.tables().events {
            let Bucket { stream, number } = bucket;
            for (sequence, row) in &partition.rows {
                let expected = next.entry(stream).or_insert(1);
                rule!(
                    self,
                    "2 rows are dense from one bucket to the next",
                    self.has_lost || *expected == *sequence,
                    "{stream}#{number} {sequence}, {expected} is next"
                );
                *expected = sequence + 1;
                let upper = (sequence - 1) / width;
                rule!(
                    self,
                    "2 a bucket holds its sequences",
                    upper == *number || upper == number + 1,
                    "{stream} {sequence} in {number}"
                );
                let recorded = self.recorded(row.event.event_id, row.place, nodes);
                rule!(
                    self,
                    "2 rows say what was recorded",
                    recorded.is_empty() || recorded.contains(&row.event),
                    "{stream} {sequence}: {:?}, recorded was {recorded:?}",
                    row.event
                );
            }
            let last = partition.rows.values().next_back();
            let last = last.map(|row| (row.event.sequence, row.event.event_id));
            let head = partition.head.map(|head| (head.sequence, head.event_id));
            rule!(
                self,
                "2 the head is the last row",
                self.has_lost || head == last,
                "{stream}#{number}: {head:?}, {last:?}"
            );
        }
        Ok(())
    }

    /// The event as it was recorded, by each copy of its store that still knows it.
    fn recorded(&self, id: EventId, place: Option<LogPlace>, nodes: &[Node]) -> Vec<EventEnvelope> {
        let Some(place) = place else {
            return self.direct.get(&id).cloned().into_iter().collect();
        };
        let recorded = nodes.iter().filter_map(|node| {
            let disk = node.log.disk.lock();
            if disk.identity().origin != place.origin {
                return None;
            }
            let record = disk.records().get(index(place.position) - 1)?;
            // A store put back may have adopted an event of its own, at the very place where it was.
            let is_it = record.event_id == id && record.kind == RecordKind::Event;
            is_it.then(|| EventEnvelope {
                position: None,
                ..record.clone()
            })
        });
        recorded.collect()
    }

    /// Rules 1 and 8: from the epoch's row at the server the whole log is found, commit by commit.
    fn chain(&mut self, disk: &Disk, server: &FakeServer) -> Verdict {
        let identity = disk.identity();
        let epochs = server.tables().origins.get(&identity.origin);
        let row = epochs.and_then(|epochs| epochs.get(&identity.epoch));
        let Some(row) = row else {
            return Err(format!("1: epoch {} is not at the server", identity.epoch));
        };
        let end = disk.end();
        let mark = row.watermark;
        rule!(
            self,
            "3 at rest the watermark is the log's end",
            (mark.position, mark.hash, mark.commit_number) == (end.position, end.hash, end.number),
            "{mark:?}, the log ends at {end:?}"
        );
        // Which epoch's partitions a position stands in.
        let mut stretches = vec![(row.epoch, 1)];
        let mut oldest = row;
        let mut left_at = u64::MAX;
        while let Some((parent, position, hash)) = oldest.parent {
            let here = disk.commit_end(position).map(|end| end.hash);
            // One that was left below its own beginning has no part in this log: more was lost since, or
            // a restore met a replica that was behind above the watermark.
            rule!(
                self,
                "1 an epoch begins where it left its parent",
                here == Some(hash) || position > left_at,
                "{} at {position}",
                oldest.epoch
            );
            if let Some(last) = stretches.last_mut() {
                last.1 = position + 1;
            }
            stretches.push((parent, 1));
            left_at = left_at.min(position);
            match epochs.and_then(|epochs| epochs.get(&parent)) {
                Some(row) => oldest = row,
                None => break,
            }
        }
        for commit in disk.commits() {
            for record in commit.each() {
                let record = record.map_err(|error| error.to_string())?;
                let position = record.position;
                let (epoch, _) = stretches
                    .iter()
                    .find(|(_, from)| *from <= position)
                    .copied()
                    .unwrap_or_default();
                let chunk = Chunk {
                    origin: identity.origin,
                    epoch,
                    number: position / self.meta.chunk_records,
                };
                let rows = server.tables().log.get(&chunk);
                let rows = rows.into_iter().flat_map(BTreeMap::values);
                let found: Vec<_> = rows
                    .filter(|row| row.position == position && row.event_id == record.event_id)
                    .collect();
                let as_it_stands = found.iter().any(|row| {
                    row.record == record.bytes()
                        && row.commit_number == commit.number
                        && row.commit_first == commit.first_position
                        && row.commit_count == commit.records
                        && row.commit_hash == commit.hash
                });
                rule!(
                    self,
                    "8 the log can be restored",
                    as_it_stands,
                    "position {position} in epoch {epoch}: {found:?}"
                );
            }
        }
        Ok(())
    }

    /// Rule 8: what was restored is what that store had, up to some commit of it.
    pub(super) fn restored(&mut self, node: usize, disk: &Disk, nodes: &[Node]) -> Verdict {
        // The newest commit begins the epoch of its own.
        let end = disk
            .commits()
            .iter()
            .rev()
            .nth(1)
            .map(|commit| commit.end());
        let Some(end) = end else {
            return Ok(());
        };
        let origin = disk.identity().origin;
        let wanted = (end.position, end.hash, end.number);
        let ever = self
            .ends
            .get(&origin)
            .is_some_and(|all| all.contains(&wanted));
        let mut others = nodes.iter().filter(|other| other.log.node != node);
        let there = others.any(|other| {
            let other = other.log.disk.lock();
            other.identity().origin == origin && other.commit_end(end.position) == Some(end)
        });
        rule!(
            self,
            "8 what was restored was a log",
            ever || there,
            "node {node}: {end:?}"
        );
        Ok(())
    }

    /// Rule 5: of a batch of which a part is held, every part that was not accepted is held.
    fn batches(&mut self, disk: &Disk, state: &SinkState) -> Verdict {
        let mut batches: BTreeMap<u64, Vec<&EventEnvelope>> = BTreeMap::new();
        for record in disk.records() {
            if record.batch.count > 1 && record.kind != RecordKind::Control {
                batches.entry(record.batch.first).or_default().push(record);
            }
        }
        for (first, records) in batches {
            let open: Vec<_> = records
                .iter()
                .filter(|record| {
                    let position = record.position.unwrap_or_default();
                    !disk.is_superseded(&record.stream, record.sequence, position)
                })
                .collect();
            let is_held = |record: &EventEnvelope| {
                let mut entries = state.of(&record.stream);
                entries.any(|entry| entry.holds() && Some(entry.first_position) <= record.position)
            };
            let torn = open.iter().any(|record| is_held(record));
            let streams: BTreeSet<&StreamId> = open.iter().map(|record| &record.stream).collect();
            if !torn || streams.len() < 2 {
                continue;
            }
            for record in open {
                let accepted = self
                    .streams
                    .get(&record.stream)
                    .and_then(|events| events.get(&record.sequence))
                    == Some(&record.event_id);
                let listed = state
                    .of(&record.stream)
                    .any(|entry| entry.accepted && entry.batch.first == first || entry.holds());
                rule!(
                    self,
                    "5 a torn batch is listed with all its parts",
                    is_held(record) || accepted && listed,
                    "batch at {first}: {} {} (accepted: {accepted})",
                    record.stream,
                    record.sequence
                );
            }
        }
        Ok(())
    }
}

fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

fn is_durable(nodes: &[Node], id: EventId) -> bool {
    nodes.iter().any(|node| {
        let disk = node.log.disk.lock();
        let durable = disk.durable();
        let mut records = disk.records().iter();
        records.any(|record| record.event_id == id && record.position <= Some(durable))
    })
}

fn bytes_of(disk: &Disk, position: u64) -> Bytes {
    let commits = disk.commits();
    let at = commits.partition_point(|commit| commit.last_position() < position);
    let commit = commits.get(at).into_iter();
    let mut records = commit.flat_map(|commit| commit.each()).flatten();
    let record = records.find(|record| record.position == position);
    record.map_or_else(Bytes::new, |record| record.bytes())
}

pub(super) fn state_of(disk: &Disk) -> Result<Option<SinkState>, String> {
    let saved = disk.saved.get("sink.scylla");
    saved.map(|bytes| SinkState::decode(bytes)).transpose()
}

/// The key that an entry has at the server.
#[allow(dead_code, reason = "for rules that come with resolutions")]
fn key_of(origin: Uuid, epoch: Uuid, stream: &StreamId, first_position: u64) -> ParkedKey {
    ParkedKey {
        origin,
        epoch,
        stream: stream.clone(),
        first_position,
    }
}
