//! What a store must show when it is opened again.

use std::collections::HashMap;
use std::path::Path;

use tidelog_backends::{LogReader, SledStore};
use tidelog_core::*;
use uuid::Uuid;

use crate::consumers::{Consumed, Kept};
use crate::recording::{Change, Recording};
use crate::tools::read_all;
use crate::workload::{builder, snapshot_state};

/// What was promised up to some moment.
#[derive(Clone, Debug, Default)]
pub struct Promised {
    /// Everything up to here survives a power cut.
    pub durable: u64,
    /// Everything up to here survives the end of the process.
    pub acknowledged: u64,
    /// What the store showed when it was opened last.
    pub opened: u64,
    /// The store was opened, so it exists, under this name.
    pub origin: Option<Uuid>,
    pub consumed: Consumed,
}

impl Promised {
    /// What `self` and the notes before the change `cut` promise.
    pub fn until(mut self, recording: &Recording, cut: usize) -> Self {
        for change in &recording.changes[..cut] {
            if let Change::Note(line) = change {
                self.note(line);
            }
        }
        self
    }

    pub fn note(&mut self, line: &str) {
        let mut words = line.split(' ');
        if self.consumed.note(line) {
            if let (Some("saved"), Some(position)) = (words.next(), words.nth(1)) {
                // The log up to there came first.
                self.durable = self.durable.max(position.parse().unwrap());
            }
            return;
        }
        let (word, position) = (words.next().unwrap(), words.next().unwrap());
        let position: u64 = position.parse().unwrap();
        match word {
            "acknowledged" => {}
            "durable" => self.durable = self.durable.max(position),
            "opened" => {
                // Opening makes durable whatever it shows.
                self.durable = self.durable.max(position);
                self.opened = position;
                self.origin = words.next().map(|origin| origin.parse().unwrap());
                self.consumed.opened(words.next() == Some("anew"));
            }
            other => panic!("{other} is no note"),
        }
        self.acknowledged = self.acknowledged.max(position);
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub survivors: u64,
    pub kept: Kept,
    /// Why the index was made again, when it was.
    pub rebuilt: Option<String>,
}

/// All that ever was in the log, in order.
pub struct History {
    pub events: Vec<EventEnvelope>,
}

impl History {
    /// What stands in the store in `dir`; nobody may have it open.
    pub fn of(dir: &Path) -> Self {
        let store = builder(dir).open().unwrap();
        let events = read_all(&store).unwrap();
        store.crash();
        Self { events }
    }

    /// Whether its first `shown` events are those that stood in the store before.
    pub fn goes_on_from(&self, before: &Self, shown: u64) -> Result<(), String> {
        let shown = self.events.get(..shown as usize).unwrap_or(&self.events);
        match first_difference(shown, &before.events) {
            None => Ok(()),
            Some(wrong) => Err(format!("position {} is not what was written", wrong + 1)),
        }
    }

    /// Opens the store in `dir` and compares; then goes on with it. `stands`: an index that was not
    /// made again has all that was flushed.
    pub fn check(&self, dir: &Path, promised: &Promised, stands: bool) -> Result<Seen, String> {
        let beside = self.beside(dir)?;
        let store = builder(dir).open().map_err(failed("opening"))?;
        let seen = self.look(&store, promised.durable, promised.origin);
        let done = seen.and_then(|mut seen| {
            if beside > seen.survivors {
                return Err(format!("{beside} events were read beside it"));
            }
            let stands = stands && seen.rebuilt.is_none();
            seen.kept = promised.consumed.check(&store, stands)?;
            self.go_on(&store, seen.survivors)?;
            promised.consumed.go_on(&store)?;
            Ok(seen)
        });
        match done {
            Ok(seen) => {
                store.close_blocking().map_err(failed("closing"))?;
                Ok(seen)
            }
            Err(wrong) => {
                store.crash();
                Err(wrong)
            }
        }
    }

    /// Reads without the store's lock; how many events it says survive.
    fn beside(&self, dir: &Path) -> Result<u64, String> {
        let reader = match LogReader::open(dir) {
            // Its making was cut off.
            Err(Error::NotAStore { .. }) => return Ok(0),
            opened => opened.map_err(failed("reading beside it"))?,
        };
        let found: Result<Vec<_>, _> = reader.read(LogQuery::all()).collect();
        let found = found.map_err(failed("reading beside it"))?;
        reader.verify(None).map_err(failed("verifying beside it"))?;
        match first_difference(&found, &self.events) {
            None => Ok(found.len() as u64),
            Some(wrong) => Err(format!("position {} is wrong beside it", wrong + 1)),
        }
    }

    /// Compares what the open store shows with the history.
    pub fn look(
        &self,
        store: &SledStore,
        at_least: u64,
        origin: Option<Uuid>,
    ) -> Result<Seen, String> {
        let info = store.info().map_err(failed("asking for info"))?;
        if origin.is_some_and(|origin| origin != info.origin) {
            return Err("another store was begun in its place".into());
        }
        let found = read_all(store).map_err(failed("reading the log"))?;
        let survivors = found.len() as u64;
        if survivors < at_least {
            return Err(format!(
                "{survivors} events are left of {at_least} promised"
            ));
        }
        if let Some(wrong) = first_difference(&found, &self.events) {
            return Err(format!("position {} is not what was written", wrong + 1));
        }
        let torn = found
            .last()
            .is_some_and(|last| last.batch.first + u64::from(last.batch.count) - 1 > survivors);
        if torn {
            return Err("part of a batch is visible".into());
        }
        let report = store.verify().map_err(failed("verifying"))?;
        if report.records != survivors {
            return Err(format!("verify saw {} of {survivors}", report.records));
        }
        self.streams(store, &found)?;
        Ok(Seen {
            survivors,
            kept: Kept::default(),
            rebuilt: info.index_rebuilt,
        })
    }

    /// Each stream by the index: head, events in both directions, snapshot.
    fn streams(&self, store: &SledStore, found: &[EventEnvelope]) -> Result<(), String> {
        let mut streams: HashMap<&StreamId, Vec<&EventEnvelope>> = HashMap::new();
        let said: Vec<_> = found.iter().filter_map(Superseded::of).collect();
        for event in found.iter().filter(|found| found.sequence > 0) {
            let position = event.position.unwrap_or(0);
            let by = said.iter();
            let mut by = by.filter(|what| what.concerns(&event.stream, event.sequence, position));
            let at = by.next().map(|what| what.at);
            if store.superseded_at(event) != at {
                return Err(format!("{position} gave way at {at:?}, which is not known"));
            }
            let stands = streams.entry(&event.stream).or_default();
            if at.is_none() {
                stands.push(event);
            }
        }
        let face = store.blocking();
        streams.retain(|_, events| !events.is_empty());
        for (stream, events) in &streams {
            let last = events[events.len() - 1];
            let head = face.head(stream).map_err(failed("asking for a head"))?;
            if head
                .is_none_or(|head| (head.sequence, head.event_id) != (last.sequence, last.event_id))
            {
                return Err(format!(
                    "the head of {stream} is {head:?}, not {}",
                    last.sequence
                ));
            }
            let read: Result<Vec<_>, Error> = face
                .read_stream(StreamQuery::new((*stream).clone()))
                .collect();
            let read = read.map_err(failed("reading a stream"))?;
            if !read.iter().eq(events.iter().copied()) {
                return Err(format!("{stream} reads differently than the log"));
            }
            let taken = face
                .read_snapshot(stream)
                .map_err(failed("reading a snapshot"))?;
            if let Some(taken) = taken {
                let event = events.get(taken.sequence as usize - 1);
                let stands = event.is_some_and(|event| event.event_id == taken.event_id);
                let state = snapshot_state(taken.event_id, taken.state.len());
                if !stands || state != taken.state {
                    return Err(format!("a snapshot of {stream} is of other events"));
                }
            }
        }
        // A stream whose events are all gone is gone.
        let absent = self.events.iter().map(|event| &event.stream);
        for stream in absent
            .filter(|stream| !streams.contains_key(stream))
            .take(3)
        {
            let head = face.head(stream).map_err(failed("asking for a head"))?;
            let taken = face
                .read_snapshot(stream)
                .map_err(failed("reading a snapshot"))?;
            if head.is_some() || taken.is_some() {
                return Err(format!("{stream} has no events, but a head or a snapshot"));
            }
        }
        Ok(())
    }

    /// What is lost can be done again, what is left is recognized, and each stream goes on where it
    /// ends.
    fn go_on(&self, store: &SledStore, survivors: u64) -> Result<(), String> {
        let face = store.blocking();
        let mut last = survivors;
        let lost = self.events.get(survivors as usize);
        let kept = self.events[..survivors as usize].last();
        for (event, outcome) in [
            (kept, AppendOutcome::AlreadyAppended),
            (lost, AppendOutcome::Appended),
        ] {
            let Some(event) = event.filter(|event| event.kind == RecordKind::Event) else {
                continue;
            };
            let expected = ExpectedVersion::Exact(event.sequence - 1);
            let batch = AppendBatch::new(event.stream.clone(), expected, vec![again(event)]);
            let receipt = face.append(batch).map_err(failed("appending again"))?;
            if receipt.outcome != outcome || receipt.last_sequence != event.sequence {
                return Err(format!("appending {} again is {receipt:?}", event.event_id));
            }
            last += u64::from(outcome == AppendOutcome::Appended);
        }
        let fresh = NewEvent::new("Fresh", 1, ContentType::Bytes, vec![7; 100]);
        let stream = crate::tools::stream("fresh");
        let batch = AppendBatch::new(stream, ExpectedVersion::NoStream, vec![fresh]);
        let receipt = face.append(batch).map_err(failed("appending"))?;
        if receipt.last_position != Some(last + 1) {
            return Err(format!("after {last} comes {:?}", receipt.last_position));
        }
        Ok(())
    }
}

fn again(event: &EventEnvelope) -> NewEvent {
    NewEvent::new(
        event.event_type.clone(),
        event.revision,
        event.content_type.clone(),
        event.event.clone(),
    )
    .with_id(event.event_id)
}

fn first_difference(found: &[EventEnvelope], history: &[EventEnvelope]) -> Option<usize> {
    if found.len() > history.len() {
        return Some(history.len());
    }
    found.iter().zip(history).position(|(a, b)| a != b)
}

fn failed(doing: &'static str) -> impl Fn(Error) -> String {
    move |error| format!("{doing}: {} ({error})", error.code())
}
