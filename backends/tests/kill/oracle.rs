//! What the parent knows, and what a store must then hold.

use std::collections::{HashMap, HashSet};

use tidelog_backends::SledStore;
use tidelog_core::*;

use crate::history::{SUPERSEDES, branch, number_of, parts, state_at, streams};
use crate::tools::{newest_branches, read_all, read_stream};

/// Where an acknowledged append stands, by its receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    pub first_position: u64,
    /// One for each part.
    pub first_sequences: Vec<u64>,
}

/// All appends that any child of one store's life tried.
#[derive(Default)]
pub struct Oracle {
    tried: HashMap<u64, Option<Ack>>,
    /// What was in the log at the last look; none of it may ever go or change.
    seen: Vec<EventEnvelope>,
    /// What the last backup that ended holds at least.
    pub backed_up: Option<u64>,
    /// Up to where the copy was synced.
    pub copied: u64,
}

impl Oracle {
    pub fn tries(&mut self, number: u64) {
        self.tried.entry(number).or_default();
    }

    pub fn acknowledges(&mut self, number: u64, ack: Ack) {
        let known = self.tried.get_mut(&number).expect("it was tried before");
        match known {
            // A retry gets the first receipt again.
            Some(first) => assert_eq!(*first, ack, "another receipt for append {number}"),
            None => *known = Some(ack),
        }
    }

    pub fn acknowledged(&self) -> usize {
        self.tried.values().flatten().count()
    }

    /// Appends whose fate no child knows: at most `count` of the newest. None of which an event gave
    /// way: that is not appended again.
    pub fn unknown(&self, count: usize) -> Vec<u64> {
        let stands: HashSet<EventId> = newest_branches(&self.seen)
            .into_values()
            .flatten()
            .map(|event| event.event_id)
            .collect();
        let gave_way = self
            .seen
            .iter()
            .filter(|event| event.kind != RecordKind::Control && !stands.contains(&event.event_id));
        let gave_way: HashSet<u64> = gave_way.map(|event| number_of(event.event_id).0).collect();
        let unknown = self.tried.iter().filter(|(number, ack)| {
            ack.is_none() && *number & SUPERSEDES == 0 && !gave_way.contains(number)
        });
        let mut unknown: Vec<u64> = unknown.map(|(number, _)| *number).collect();
        unknown.sort_unstable_by(|a, b| b.cmp(a));
        unknown.truncate(count);
        unknown
    }

    pub fn seen(&self) -> &[EventEnvelope] {
        &self.seen
    }

    /// Everything acknowledged is there, in its place, byte for byte; what was tried is there whole
    /// or not at all; nothing else is; and every way to read says the same.
    pub fn check(&mut self, store: &SledStore) {
        let all = read_all(store).unwrap();
        assert!(
            all.len() >= self.seen.len(),
            "{} records were seen, {} are there",
            self.seen.len(),
            all.len()
        );
        assert!(
            all[..self.seen.len()] == self.seen[..],
            "what was seen before has changed"
        );
        self.check_records(&all);
        check_streams(store, &all);
        let report = store.verify().unwrap();
        assert_eq!(report.records, all.len() as u64);
        let events = all
            .iter()
            .filter(|record| record.kind != RecordKind::Control);
        assert_eq!(report.indexed, events.count() as u64);
        assert_eq!(store.blocking().last_position(), all.len() as u64);
        self.seen = all;
    }

    fn check_records(&self, all: &[EventEnvelope]) {
        let streams: HashSet<StreamId> = streams().into_iter().collect();
        let mut heads: HashMap<&StreamId, u64> = HashMap::new();
        let mut present = HashSet::new();
        let mut rest = all;
        let mut time = Timestamp::from_micros(i64::MIN);
        while let Some(mut first) = rest.first() {
            if let Some(what) = Superseded::of(first) {
                let head = heads.entry(streams.get(&what.stream).unwrap()).or_default();
                rest = &rest[1..];
                first = rest.first().expect("what took their place is torn");
                check_superseded(&what, *head, number_of(first.event_id).0);
                *head = what.from - 1;
            }
            let (number, _) = number_of(first.event_id);
            let ack = self.tried.get(&number);
            let ack = ack.unwrap_or_else(|| panic!("nobody tried {number}: {first:?}"));
            assert!(present.insert(number), "append {number} stands twice");
            let parts = parts(number);
            let events = parts
                .iter()
                .flat_map(|part| part.events.iter().map(|event| (&part.stream, event)));
            let events: Vec<_> = events.collect();
            assert!(rest.len() >= events.len(), "append {number} is torn");
            let (batch, after) = rest.split_at(events.len());
            let position = (all.len() - rest.len()) as u64 + 1;
            for ((stream, event), (place, found)) in events.iter().zip((position..).zip(batch)) {
                let head = heads.entry(&found.stream).or_default();
                *head += 1;
                let same = found.stream == **stream
                    && found.event_id == event.event_id
                    && found.metadata == event.metadata
                    && found.same_content(event);
                assert!(same, "position {place} is not what was appended");
                assert_eq!(found.position, Some(place));
                assert_eq!(
                    found.sequence, *head,
                    "position {place} of {}",
                    found.stream
                );
                let whole = Batch {
                    first: position,
                    count: events.len() as u32,
                };
                assert_eq!(found.batch, whole, "append {number} is torn at {place}");
                assert!(found.recorded_time >= time, "time goes back at {place}");
                time = found.recorded_time;
            }
            if let Some(ack) = ack {
                let mut at = 0;
                let firsts = parts.iter().map(|part| {
                    at += part.events.len();
                    batch[at - part.events.len()].sequence
                });
                let found = Ack {
                    first_position: position,
                    first_sequences: firsts.collect(),
                };
                assert_eq!(*ack, found, "append {number} is not where its receipt says");
            }
            rest = after;
        }
        let lost = self
            .tried
            .iter()
            .filter(|(number, ack)| ack.is_some() && !present.contains(number));
        let lost: Vec<_> = lost.collect();
        assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
    }

    /// In a repaired store whose losses were accepted: no sequence that was seen is given again.
    pub fn check_appends_after_loss(&self, store: &SledStore) {
        let branches = newest_branches(&self.seen);
        for (stream, number) in streams().into_iter().zip(1 << 62..) {
            let seen = branches.get(&stream).and_then(|events| events.last());
            let last = seen.map_or(0, |event| event.sequence);
            let payload = u64::to_le_bytes(number).to_vec();
            let event = NewEvent::new("Noted", 1, ContentType::Bytes, payload);
            let batch = AppendBatch::new(stream, ExpectedVersion::Any, vec![event]);
            let receipt = store.blocking().append(batch).unwrap();
            assert!(receipt.first_sequence > last);
            assert!(receipt.first_position.unwrap() > self.seen.len() as u64);
        }
        store.verify().unwrap();
    }

    /// On a copy that is thrown away: every stream goes on where it ended, and repeating what
    /// nobody answered does it once.
    pub fn check_appends(&self, store: &SledStore, first_free: u64) {
        let face = store.blocking();
        let branches = newest_branches(&self.seen);
        for (stream, number) in streams().into_iter().zip(first_free..) {
            let head = branches.get(&stream).map_or(0, Vec::len) as u64;
            let event = NewEvent::new(
                "Noted",
                1,
                ContentType::Bytes,
                number.to_le_bytes().to_vec(),
            );
            let batch = AppendBatch::new(stream, ExpectedVersion::Exact(head), vec![event]);
            assert_eq!(face.append(batch).unwrap().first_sequence, head + 1);
        }
        for number in self.unknown(3) {
            let there = self
                .seen
                .iter()
                .find(|event| number_of(event.event_id).0 == number);
            let receipts = face.append_streams(parts(number)).unwrap();
            match there {
                Some(first) => {
                    assert_eq!(receipts[0].outcome, AppendOutcome::AlreadyAppended);
                    assert_eq!(receipts[0].first_position, first.position);
                }
                None => assert_eq!(receipts[0].outcome, AppendOutcome::Appended),
            }
        }
        store.verify().unwrap();
    }
}

/// What is said of a branch is what was asked by its number of a stream that ended at `head`.
fn check_superseded(what: &Superseded, head: u64, number: u64) {
    assert_ne!(number & SUPERSEDES, 0, "nobody tried {what:?}");
    let asked = branch(number);
    assert_eq!(what.stream, asked.stream);
    assert_eq!(what.replaced, head, "{what:?}");
    assert_eq!(head + 1 - what.from, asked.gone.min(head), "{what:?}");
    let counts = (what.adopted as usize, what.reissued as usize);
    assert_eq!(counts, (asked.adopted.len(), asked.reissued.len()));
}

/// Every way to read says the same as the log.
fn check_streams(store: &SledStore, all: &[EventEnvelope]) {
    let face = store.blocking();
    let mut branches = newest_branches(all);
    for stream in streams() {
        let of = branches.remove(&stream).unwrap_or_default();
        assert!(
            read_stream(store, &stream).unwrap() == of,
            "reading {stream} differs from the log"
        );
        let head = face.head(&stream).unwrap();
        assert_eq!(head.map_or(0, |head| head.sequence), of.len() as u64);
        if let Some(last) = of.last() {
            assert!(face.find_event(&stream, last.event_id).unwrap().as_ref() == Some(last));
        }
        if let Some(snapshot) = face.read_snapshot(&stream).unwrap() {
            let event = &of[snapshot.sequence as usize - 1];
            assert_eq!(snapshot.event_id, event.event_id);
            assert!(
                snapshot.state == state_at(&stream, snapshot.sequence),
                "a snapshot is torn"
            );
        }
    }
}
