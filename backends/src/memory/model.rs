//! The model: a log as a list, and what the laws make of it.

use std::collections::HashMap;

use tidelog_core::{
    AppendBatch, AppendOutcome, AppendReceipt, Batch, ContentType, Error, EventEnvelope, EventId,
    ExpectedVersion, MAX_SNAPSHOT_BYTES, Metadata, NewEvent, PersistOutcome, RecordKind,
    SnapshotEnvelope, StreamHead, StreamId, Superseded, Supersession, Tags, Timestamp,
};

use super::recorded::recorded_run;

/// Everything that one store holds.
#[derive(Default)]
pub(super) struct Model {
    /// The event at position 1, 2, …
    log: Vec<EventEnvelope>,
    streams: HashMap<StreamId, StreamEvents>,
    snapshots: HashMap<StreamId, SnapshotEnvelope>,
    end: End,
}

/// Whether anything can still happen.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// The last handle is gone: reads under way go on, but nothing new will come.
    Abandoned,
    Closed,
}

/// The events of one stream.
#[derive(Default)]
pub(super) struct StreamEvents {
    /// The event at sequence 1, 2, …
    events: Vec<EventEnvelope>,
    /// The sequences at which an id stands, oldest first: more than one only when it was appended
    /// again beyond the retry window.
    by_id: HashMap<EventId, Vec<u64>>,
    /// Each time that events gave way to others.
    gone: Vec<Gone>,
}

/// Events of a stream that gave way to others.
struct Gone {
    /// Position of the record that says so.
    at: u64,
    /// The first sequence that gave way.
    from: u64,
    /// All of the stream's events before.
    before: Vec<EventEnvelope>,
}

impl Gone {
    fn events(&self) -> &[EventEnvelope] {
        slice_of(&self.before, self.from, u64::MAX)
    }

    /// Whether the id stands among the newest `window` events that gave way, or at one of the implied
    /// sequences.
    fn knows(&self, id: EventId, window: usize, implied: Option<(u64, u64)>) -> bool {
        let oldest = (self.before.len() as u64).saturating_sub(window as u64) + 1;
        let counts = |sequence: u64| {
            let is_implied = |(first, last)| first <= sequence && sequence <= last;
            sequence >= oldest || implied.is_some_and(is_implied)
        };
        let mut events = self.events().iter();
        events.any(|event| event.event_id == id && counts(event.sequence))
    }
}

impl StreamEvents {
    /// Sequence of the newest event, 0 when there is none.
    pub(super) fn last_sequence(&self) -> u64 {
        self.events.len() as u64
    }

    /// The events at these sequences that are there.
    pub(super) fn range(&self, from: u64, to: u64) -> &[EventEnvelope] {
        slice_of(&self.events, from, to)
    }

    /// The newest sequence, among those that `counts` accepts, at which this id stands.
    pub(super) fn newest(&self, id: EventId, counts: impl Fn(u64) -> bool) -> Option<u64> {
        let sequences = self.by_id.get(&id)?;
        sequences.iter().rev().copied().find(|&s| counts(s))
    }

    /// The events at these sequences as of position `pin`.
    pub(super) fn range_at(&self, from: u64, to: u64, pin: u64) -> &[EventEnvelope] {
        match self.gone.iter().find(|gone| gone.at > pin) {
            Some(gone) => slice_of(&gone.before, from, to),
            None => self.range(from, to),
        }
    }

    /// The first of these events that is known to have given way.
    fn given_way(&self, part: &AppendBatch, window: usize) -> Option<EventId> {
        let implied = part.expected.implied_head().map(|head| {
            let first = head.saturating_add(1);
            (first, first.saturating_add(part.events.len() as u64 - 1))
        });
        let ids = |gone: &Gone| {
            let mut ids = part.events.iter().map(|event| event.event_id);
            ids.find(|id| gone.knows(*id, window, implied))
        };
        self.gone.iter().find_map(ids)
    }

    fn push(&mut self, envelope: EventEnvelope) {
        let sequences = self.by_id.entry(envelope.event_id).or_default();
        sequences.push(envelope.sequence);
        self.events.push(envelope);
    }
}

/// The elements numbered `from` to `to` of a list whose first element has number 1.
fn slice_of(list: &[EventEnvelope], from: u64, to: u64) -> &[EventEnvelope] {
    let to = usize::try_from(to).unwrap_or(usize::MAX).min(list.len());
    let from = usize::try_from(from.max(1)).unwrap_or(usize::MAX);
    list.get(from - 1..to).unwrap_or_default()
}

impl Model {
    pub(super) fn close(&mut self) {
        self.end = End::Closed;
    }

    pub(super) fn abandon(&mut self) {
        if self.end == End::Open {
            self.end = End::Abandoned;
        }
    }

    pub(super) fn check_open(&self) -> Result<(), Error> {
        match self.end {
            End::Open | End::Abandoned => Ok(()),
            End::Closed => Err(Error::Closed),
        }
    }

    /// Like [`check_open`](Self::check_open), for those who wait for appends.
    pub(super) fn check_going_on(&self) -> Result<(), Error> {
        match self.end {
            End::Open => Ok(()),
            End::Abandoned | End::Closed => Err(Error::Closed),
        }
    }

    /// Records all parts or none. Ids are looked at before versions.
    pub(super) fn append(
        &mut self,
        parts: &[AppendBatch],
        window: usize,
        now: Timestamp,
    ) -> Result<Vec<AppendReceipt>, Error> {
        if let Some(receipts) = self.first_receipts(parts, window)? {
            return Ok(receipts);
        }
        for part in parts {
            let actual = self.last_sequence(&part.stream);
            if !part.expected.holds(actual) || !self.is_behind(part) {
                return Err(Error::WrongVersion {
                    stream: part.stream.clone(),
                    expected: part.expected,
                    actual,
                });
            }
        }
        Ok(self.record(parts, now))
    }

    /// The receipts that these parts got before; `None` when all of it is new.
    fn first_receipts(
        &self,
        parts: &[AppendBatch],
        window: usize,
    ) -> Result<Option<Vec<AppendReceipt>>, Error> {
        let mut runs = Vec::new();
        for part in parts {
            let Some(stream) = self.streams.get(&part.stream) else {
                continue;
            };
            let run = recorded_run(stream, part, window)?;
            if run.is_none()
                && let Some(event_id) = stream.given_way(part, window)
            {
                return Err(Error::IdConflict {
                    stream: part.stream.clone(),
                    event_id,
                    reason: "it was superseded by another origin's event",
                });
            }
            runs.extend(run);
        }
        let Some(first) = runs.first().and_then(|run| run.first()) else {
            return Ok(None);
        };
        if runs.len() < parts.len() {
            return Err(Error::IdConflict {
                stream: first.stream.clone(),
                event_id: first.event_id,
                reason: "other parts of its batch are not recorded",
            });
        }
        let receipts = runs.iter();
        Ok(Some(
            receipts
                .filter_map(|run| receipt(run, AppendOutcome::AlreadyAppended))
                .collect(),
        ))
    }

    /// Whether the newest event is the one that the part is to follow, where an equal sequence may mean
    /// another event.
    fn is_behind(&self, part: &AppendBatch) -> bool {
        let has_branches = |stream: &StreamEvents| !stream.gone.is_empty();
        let looks = self.streams.get(&part.stream).is_some_and(has_branches);
        let newest = || self.head(&part.stream).map(|head| head.event_id);
        part.after.is_none() || !looks || newest() == part.after
    }

    /// Lets events of a stream give way to others.
    pub(super) fn supersede(
        &mut self,
        what: &Supersession,
        window: usize,
        now: Timestamp,
    ) -> Result<AppendReceipt, Error> {
        let stream = &what.stream;
        if self.head(stream) != Some(what.head) {
            return Err(Error::WrongVersion {
                stream: stream.clone(),
                expected: ExpectedVersion::Exact(what.head.sequence),
                actual: self.last_sequence(stream),
            });
        }
        if let Some(first) = what.reissued.first() {
            let (own, any) = (what.reissued.clone(), ExpectedVersion::Any);
            let own = AppendBatch::new(stream.clone(), any, own);
            if self.first_receipts(&[own], window)?.is_some() {
                return Err(Error::IdConflict {
                    stream: stream.clone(),
                    event_id: first.event_id,
                    reason: "it is recorded already",
                });
            }
        }
        let recorded_time = self.log.last().map_or(now, |e| e.recorded_time.max(now));
        let at = self.last_position() + 1;
        let said = Superseded::new(what, at);
        self.log.push(EventEnvelope {
            event_id: said.record_id()?,
            stream: StreamId::new_reserved("$tidelog", "control")?,
            sequence: 0,
            position: Some(at),
            birth: None,
            kind: RecordKind::Control,
            event_type: Superseded::EVENT_TYPE.into(),
            revision: 1,
            content_type: ContentType::Postcard,
            event_time: recorded_time,
            recorded_time,
            metadata: Metadata::new(),
            tags: Tags::none(),
            batch: Batch {
                first: at,
                count: 1,
            },
            event: said.encode()?.into(),
        });
        if let Some(events) = self.streams.get_mut(stream) {
            let before = std::mem::take(&mut events.events);
            events.by_id.clear();
            for kept in slice_of(&before, 1, what.from - 1) {
                events.push(kept.clone());
            }
            let from = what.from;
            events.gone.push(Gone { at, from, before });
        }
        let events = what.events();
        let nothing = AppendReceipt {
            stream: stream.clone(),
            first_sequence: what.from,
            last_sequence: what.from - 1,
            first_position: Some(at),
            last_position: Some(at),
            recorded_time,
            outcome: AppendOutcome::Appended,
        };
        if events.is_empty() {
            return Ok(nothing);
        }
        let part = AppendBatch::new(stream.clone(), ExpectedVersion::Any, events);
        Ok(self.record(&[part], now).pop().unwrap_or(nothing))
    }

    /// Where the log says that the event gave way to others.
    pub(super) fn superseded_at(&self, event: &EventEnvelope) -> Option<u64> {
        let by = |gone: &&Gone| event.position < Some(gone.at) && gone.from <= event.sequence;
        let gone = self.streams.get(&event.stream)?.gone.iter().find(by);
        gone.map(|gone| gone.at)
    }

    /// The lowest sequence of `stream` that gave way at a position above `after`.
    pub(super) fn superseded_since(&self, stream: &StreamId, after: u64) -> Option<u64> {
        let gone = self.streams.get(stream)?.gone.iter();
        let since = gone.filter(|gone| gone.at > after);
        since.map(|gone| gone.from).min()
    }

    fn record(&mut self, parts: &[AppendBatch], now: Timestamp) -> Vec<AppendReceipt> {
        let recorded_time = self.log.last().map_or(now, |e| e.recorded_time.max(now));
        let count: usize = parts.iter().map(|part| part.events.len()).sum();
        let batch = Batch {
            first: self.last_position() + 1,
            // The limits of any real store are far below.
            count: u32::try_from(count).unwrap_or(u32::MAX),
        };
        let mut receipts = Vec::new();
        for part in parts {
            let stream = self.streams.entry(part.stream.clone()).or_default();
            let first_sequence = stream.last_sequence() + 1;
            for event in &part.events {
                let position = self.log.len() as u64 + 1;
                let sequence = stream.last_sequence() + 1;
                let place = (part.stream.clone(), sequence, position);
                let envelope = envelope_of(event, place, recorded_time, batch);
                self.log.push(envelope.clone());
                stream.push(envelope);
            }
            let run = stream.range(first_sequence, u64::MAX);
            receipts.extend(receipt(run, AppendOutcome::Appended));
        }
        receipts
    }

    pub(super) fn last_sequence(&self, stream: &StreamId) -> u64 {
        self.streams
            .get(stream)
            .map_or(0, StreamEvents::last_sequence)
    }

    pub(super) fn last_position(&self) -> u64 {
        self.log.len() as u64
    }

    /// The events of the whole log at these positions.
    pub(super) fn log_range(&self, from: u64, to: u64) -> &[EventEnvelope] {
        slice_of(&self.log, from, to)
    }

    /// The events of `stream` at these sequences as of position `pin`.
    pub(super) fn stream_range_at(
        &self,
        stream: &StreamId,
        (from, to): (u64, u64),
        pin: u64,
    ) -> &[EventEnvelope] {
        self.streams
            .get(stream)
            .map_or(&[], |events| events.range_at(from, to, pin))
    }

    /// The events of `stream` at these sequences.
    pub(super) fn stream_range(&self, stream: &StreamId, from: u64, to: u64) -> &[EventEnvelope] {
        self.streams
            .get(stream)
            .map_or(&[], |events| events.range(from, to))
    }

    pub(super) fn head(&self, stream: &StreamId) -> Option<StreamHead> {
        let newest = self.streams.get(stream)?.events.last()?;
        Some(StreamHead {
            sequence: newest.sequence,
            event_id: newest.event_id,
        })
    }

    pub(super) fn find_event(
        &self,
        stream: &StreamId,
        event_id: EventId,
        window: usize,
    ) -> Option<EventEnvelope> {
        let stream = self.streams.get(stream)?;
        let oldest = oldest_in_window(stream, window);
        let sequence = stream.newest(event_id, |sequence| sequence >= oldest)?;
        stream.range(sequence, sequence).first().cloned()
    }

    pub(super) fn snapshot(&self, stream: &StreamId) -> Option<SnapshotEnvelope> {
        let snapshot = self.snapshots.get(stream)?;
        self.has_event_of(snapshot).then(|| snapshot.clone())
    }

    pub(super) fn persist_snapshot(
        &mut self,
        snapshot: SnapshotEnvelope,
    ) -> Result<PersistOutcome, Error> {
        if snapshot.state.len() > MAX_SNAPSHOT_BYTES {
            let size = snapshot.state.len();
            return Err(Error::too_large("snapshot", size, MAX_SNAPSHOT_BYTES));
        }
        if !self.has_event_of(&snapshot) {
            return Err(Error::invalid(
                "snapshot",
                format_args!("{} at sequence {}", snapshot.stream, snapshot.sequence),
                "the stream has no event with its id at that sequence",
            ));
        }
        if let Some(kept) = self.snapshots.get(&snapshot.stream)
            && self.has_event_of(kept)
            && kept.sequence >= snapshot.sequence
            && kept.revision >= snapshot.revision
        {
            return Ok(PersistOutcome::Superseded);
        }
        self.snapshots.insert(snapshot.stream.clone(), snapshot);
        Ok(PersistOutcome::Persisted)
    }

    fn has_event_of(&self, snapshot: &SnapshotEnvelope) -> bool {
        let sequence = snapshot.sequence;
        sequence > 0
            && self
                .stream_range(&snapshot.stream, sequence, sequence)
                .first()
                .is_some_and(|event| event.event_id == snapshot.event_id)
    }
}

/// The lowest sequence at which ids are recognized whatever the expectation.
pub(super) fn oldest_in_window(stream: &StreamEvents, window: usize) -> u64 {
    stream.last_sequence().saturating_sub(window as u64) + 1
}

fn envelope_of(
    event: &NewEvent,
    (stream, sequence, position): (StreamId, u64, u64),
    recorded_time: Timestamp,
    batch: Batch,
) -> EventEnvelope {
    EventEnvelope {
        event_id: event.event_id,
        stream,
        sequence,
        position: Some(position),
        birth: event.birth.clone(),
        kind: match event.birth {
            None => RecordKind::Event,
            Some(_) => RecordKind::Adopted,
        },
        event_type: event.event_type.clone(),
        revision: event.revision,
        content_type: event.content_type.clone(),
        event_time: event.event_time.unwrap_or(recorded_time),
        recorded_time,
        metadata: event.metadata.clone(),
        tags: event.tags.clone(),
        batch,
        event: event.payload.clone(),
    }
}

/// The receipt for events that stand one after another in a stream; `None` for no events.
fn receipt(run: &[EventEnvelope], outcome: AppendOutcome) -> Option<AppendReceipt> {
    let (first, last) = (run.first()?, run.last()?);
    Some(AppendReceipt {
        stream: first.stream.clone(),
        first_sequence: first.sequence,
        last_sequence: last.sequence,
        first_position: first.position,
        last_position: last.position,
        recorded_time: last.recorded_time,
        outcome,
    })
}
