//! What one machine has on its disk: a log of real commits, and what was saved beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidelog_backends::commits::{Commit, CommitEnd, EpochInfo};
use tidelog_core::{
    Batch, ContentType, EventEnvelope, EventId, Metadata, RecordKind, StreamHead, StreamId,
    Superseded, Supersession, Tags, Timestamp,
};
use uuid::Uuid;

use crate::replicate::outbox::{Identity, LocalEvent};
#[cfg(feature = "scylla")]
use crate::scylla::copy_target::Claim;

/// One part of an append.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub stream: StreamId,
    pub events: Vec<(EventId, Bytes)>,
}

/// A disk, and what opening it would find.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    origin: Uuid,
    first_epoch: Uuid,
    commits: Vec<Arc<Commit>>,
    /// How many of them survive a power cut.
    durable: usize,
    /// What was saved by name; always durable.
    pub saved: BTreeMap<String, Bytes>,
    /// It is no store yet: one is being restored onto it.
    pub is_copy: bool,
    /// What a restore keeps.
    #[cfg(feature = "scylla")]
    pub claim: Option<Claim>,
    index: Index,
}

/// Follows from the commits.
#[derive(Clone, Debug, Default)]
struct Index {
    /// By position, from 1.
    records: Vec<EventEnvelope>,
    /// The newest branch of each stream: position by sequence.
    newest: BTreeMap<StreamId, BTreeMap<u64, u64>>,
    /// Every superseding: from which sequence on, at which position.
    branches: BTreeMap<StreamId, Vec<(u64, u64)>>,
    epochs: Vec<EpochInfo>,
}

impl Disk {
    pub(crate) fn new(origin: Uuid, first_epoch: Uuid) -> Self {
        Self {
            origin,
            first_epoch,
            commits: Vec::new(),
            durable: 0,
            saved: BTreeMap::new(),
            is_copy: false,
            #[cfg(feature = "scylla")]
            claim: None,
            index: Index::default(),
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            origin: self.origin,
            first_epoch: self.first_epoch,
            epoch: self.epochs().last().map_or(self.first_epoch, |e| e.id),
        }
    }

    pub(crate) fn commits(&self) -> &[Arc<Commit>] {
        &self.commits
    }

    /// Every record, by position.
    pub(crate) fn records(&self) -> &[EventEnvelope] {
        &self.index.records
    }

    pub(crate) fn end(&self) -> CommitEnd {
        let genesis = CommitEnd::genesis(self.origin, self.first_epoch);
        self.commits.last().map_or(genesis, |commit| commit.end())
    }

    pub(crate) fn last(&self) -> u64 {
        self.end().position
    }

    pub(crate) fn durable(&self) -> u64 {
        let newest = self.durable.checked_sub(1);
        newest.map_or(0, |at| self.commits[at].last_position())
    }

    pub(crate) fn make_durable(&mut self) {
        self.durable = self.commits.len();
    }

    /// What was not durable is gone.
    pub(crate) fn cut_power(&mut self) {
        self.commits.truncate(self.durable);
        self.build_index();
    }

    pub(crate) fn commit_end(&self, position: u64) -> Option<CommitEnd> {
        if position == 0 {
            return Some(CommitEnd::genesis(self.origin, self.first_epoch));
        }
        let at = self
            .commits
            .partition_point(|commit| commit.last_position() < position);
        let commit = self.commits.get(at)?;
        (commit.last_position() == position).then(|| commit.end())
    }

    /// Durable commits from the one on that holds `after + 1`.
    pub(crate) fn read(&self, after: u64, max_bytes: usize) -> Vec<Arc<Commit>> {
        let durable = &self.commits[..self.durable];
        let at = durable.partition_point(|commit| commit.last_position() <= after);
        let mut bytes = 0;
        durable[at..]
            .iter()
            .take_while(|commit| {
                let fits = bytes == 0 || bytes + commit.body.len() <= max_bytes;
                bytes += commit.body.len();
                fits
            })
            .cloned()
            .collect()
    }

    pub(crate) fn epochs(&self) -> Vec<EpochInfo> {
        let mut epochs = vec![EpochInfo {
            id: self.first_epoch,
            first_position: 1,
            parent: Uuid::nil(),
            parent_position: 0,
            parent_hash: [0; 32],
        }];
        epochs.extend(&self.index.epochs);
        epochs
    }

    pub(crate) fn is_superseded(&self, stream: &StreamId, sequence: u64, position: u64) -> bool {
        self.index.branches.get(stream).is_some_and(|all| {
            all.iter()
                .any(|(from, at)| *at > position && *from <= sequence)
        })
    }

    /// The newest sequence of the stream's newest branch; 0 when it has none.
    pub(crate) fn head(&self, stream: &StreamId) -> u64 {
        let newest = self.index.newest.get(stream);
        newest
            .and_then(|events| events.keys().next_back())
            .map_or(0, |head| *head)
    }

    pub(crate) fn event_at(&self, stream: &StreamId, sequence: u64) -> Option<LocalEvent> {
        let position = *self.index.newest.get(stream)?.get(&sequence)?;
        Some(self.local(position))
    }

    pub(crate) fn event_before(&self, stream: &StreamId, sequence: u64) -> Option<LocalEvent> {
        let events = self.index.newest.get(stream)?;
        let (_, position) = events.range(..sequence).next_back()?;
        Some(self.local(*position))
    }

    pub(crate) fn event_from(&self, stream: &StreamId, sequence: u64) -> Option<LocalEvent> {
        let events = self.index.newest.get(stream)?;
        let (_, position) = events.range(sequence..).next()?;
        Some(self.local(*position))
    }

    fn local(&self, position: u64) -> LocalEvent {
        let record = self.record(position);
        LocalEvent {
            sequence: record.sequence,
            event_id: record.event_id,
            position,
            batch: record.batch,
        }
    }

    /// Durable events of the newest branch.
    pub(crate) fn events(&self, stream: &StreamId, from: u64, to: u64) -> Vec<EventEnvelope> {
        let Some(events) = self.index.newest.get(stream).filter(|_| from <= to) else {
            return Vec::new();
        };
        let durable = self.durable();
        let positions = events.range(from..=to).map(|(_, position)| *position);
        positions
            .take_while(|position| *position <= durable)
            .map(|position| self.record(position).clone())
            .collect()
    }

    pub(crate) fn record(&self, position: u64) -> &EventEnvelope {
        &self.index.records[usize::try_from(position).unwrap() - 1]
    }

    /// Appends events as one commit; answers its last position.
    pub(crate) fn append(&mut self, parts: &[Part], now: Timestamp, durable: bool) -> u64 {
        let first = self.last() + 1;
        let count = parts.iter().map(|part| part.events.len()).sum::<usize>();
        let batch = Batch {
            first,
            count: u32::try_from(count).unwrap(),
        };
        let recorded = self.recorded(now);
        let mut heads = BTreeMap::new();
        let mut records = Vec::new();
        for part in parts {
            let head = heads
                .entry(part.stream.clone())
                .or_insert_with(|| self.head(&part.stream));
            for (event_id, payload) in &part.events {
                *head += 1;
                records.push(EventEnvelope {
                    event_id: *event_id,
                    stream: part.stream.clone(),
                    sequence: *head,
                    position: Some(first + records.len() as u64),
                    birth: None,
                    kind: RecordKind::Event,
                    event_type: "Happened".into(),
                    revision: 1,
                    content_type: ContentType::Bytes,
                    event_time: recorded,
                    recorded_time: recorded,
                    metadata: Metadata::new(),
                    tags: Tags::none(),
                    batch,
                    event: payload.clone(),
                });
            }
        }
        self.commit(&records, durable);
        self.last()
    }

    /// What another wrote takes the place of this stream's events from `from` on, and then come events
    /// of its own again: as the store records it, durable.
    pub(crate) fn supersede(
        &mut self,
        stream: &StreamId,
        from: u64,
        adopted: &[EventEnvelope],
        reissued: &[(EventId, Bytes)],
        (event_id, now): (EventId, Timestamp),
    ) {
        let head = StreamHead {
            sequence: self.head(stream),
            event_id,
        };
        let what = Supersession::new(stream.clone(), head, from);
        let at = self.last() + 1;
        let mut superseded = Superseded::new(&what, at);
        superseded.adopted = u32::try_from(adopted.len()).unwrap();
        superseded.reissued = u32::try_from(reissued.len()).unwrap();
        let payload = superseded.encode().unwrap();
        let mut records = vec![self.control(Superseded::EVENT_TYPE, payload, event_id, now)];
        let recorded = records[0].recorded_time;
        let batch = Batch {
            first: at,
            count: 1 + superseded.adopted + superseded.reissued,
        };
        records[0].batch = batch;
        for event in adopted {
            records.push(EventEnvelope {
                kind: RecordKind::Adopted,
                ..event.clone()
            });
        }
        for (event_id, payload) in reissued {
            records.push(EventEnvelope {
                event_id: *event_id,
                kind: RecordKind::Event,
                birth: None,
                event_type: "Happened".into(),
                content_type: ContentType::Bytes,
                event_time: recorded,
                event: payload.clone(),
                stream: stream.clone(),
                ..records[0].clone()
            });
        }
        for (offset, record) in (0..).zip(&mut records).skip(1) {
            record.sequence = from + offset - 1;
            record.position = Some(at + offset);
            record.recorded_time = recorded;
            record.batch = batch;
        }
        self.commit(&records, true);
    }

    /// Begins an epoch, durable.
    pub(crate) fn begin_epoch(&mut self, id: Uuid, event_id: EventId, now: Timestamp) {
        let (end, parent) = (self.end(), self.identity().epoch);
        let fields = (*id.as_bytes(), *parent.as_bytes(), end.position, end.hash);
        let payload = postcard::to_stdvec(&fields).unwrap();
        let record = self.control("Epoch", payload, event_id, now);
        self.commit(&[record], true);
    }

    pub(crate) fn control(
        &self,
        event_type: &str,
        payload: Vec<u8>,
        event_id: EventId,
        now: Timestamp,
    ) -> EventEnvelope {
        let position = self.last() + 1;
        let recorded = self.recorded(now);
        EventEnvelope {
            event_id,
            stream: StreamId::new_reserved("$tidelog", "control").unwrap(),
            sequence: 0,
            position: Some(position),
            birth: None,
            kind: RecordKind::Control,
            event_type: event_type.into(),
            revision: 1,
            content_type: ContentType::Postcard,
            event_time: recorded,
            recorded_time: recorded,
            metadata: Metadata::new(),
            tags: Tags::none(),
            batch: Batch {
                first: position,
                count: 1,
            },
            event: payload.into(),
        }
    }

    /// Recorded times never go back, whatever the clock does.
    fn recorded(&self, now: Timestamp) -> Timestamp {
        let newest = self.index.records.last();
        newest.map_or(now, |record| record.recorded_time.max(now))
    }

    pub(crate) fn commit(&mut self, records: &[EventEnvelope], durable: bool) {
        let commit = Commit::of(&self.end(), records).unwrap();
        self.push(Arc::new(commit));
        if durable {
            self.make_durable();
        }
    }

    /// Takes a commit that follows.
    pub(crate) fn push(&mut self, commit: Arc<Commit>) {
        self.index.take(&commit);
        self.commits.push(commit);
    }

    fn build_index(&mut self) {
        self.index = Index::default();
        for commit in &self.commits {
            self.index.take(commit);
        }
    }
}

impl Index {
    fn take(&mut self, commit: &Commit) {
        for record in commit.each() {
            let record = record.unwrap();
            if let Some(epoch) = record.epoch() {
                self.epochs.push(epoch);
            }
            if let Some(superseded) = record.superseded() {
                let Superseded {
                    stream, from, at, ..
                } = superseded;
                if let Some(events) = self.newest.get_mut(&stream) {
                    events.split_off(&from);
                }
                self.branches.entry(stream).or_default().push((from, at));
            }
            if record.kind != RecordKind::Control {
                let events = self.newest.entry(record.stream.clone()).or_default();
                events.insert(record.sequence, record.position);
            }
            self.records.push(record.envelope().unwrap());
        }
    }
}
