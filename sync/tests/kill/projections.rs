//! Read models that follow everything: plain, inline, and one that sets streams aside.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tidelog::*;

use crate::child::{Order, Part, say};
use crate::sweep::{Random, Tally};

const TYPE: &str = "Entry";
/// The payload of an event that is not taken in before its cause is gone.
const POISON: &[u8] = b"\"poison\"";
/// Streams of entries.
const STREAMS: usize = 6;
/// Children after which the version of the plain one is raised.
const CHILDREN_A_VERSION: u64 = 12;

/// What one stream, or one aggregate type, adds up to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// Of the code that made the row.
    version: u32,
    events: u64,
    last_position: u64,
    /// Of all payloads, in their order.
    digest: u64,
}

impl Seen {
    fn take_in(&mut self, event: &EventEnvelope, version: u32) {
        self.version = version;
        self.events += 1;
        self.last_position = event.position.unwrap();
        for byte in &event.event {
            self.digest = self.digest.rotate_left(5) ^ u64::from(*byte);
            self.digest = self.digest.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
}

/// All streams by name, found by how many events they have.
struct Streams<const VERSION: u32>(Arc<AtomicBool>);

impl<const VERSION: u32> Projection for Streams<VERSION> {
    const NAME: &'static str = "streams";
    const VERSION: u32 = VERSION;
    /// Every second version reads the rows of the one before.
    const ROWS_SINCE: u32 = VERSION - (VERSION + 1) % 2;
    type Key = StreamId;
    type Row = Seen;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, StreamId, Seen>,
    ) -> Result<(), HandlerError> {
        if event.position == Some(1) {
            self.0.store(true, Ordering::SeqCst);
        }
        rows.update(event.stream.clone(), |row| row.take_in(event, VERSION))
    }

    fn lookups() -> Vec<Lookup<StreamId, Seen>> {
        vec![Lookup::by("events", |_, row: &Seen| Some(row.events))]
    }
}

/// Aggregate types; appends wait for it.
struct Types;

impl Projection for Types {
    const NAME: &'static str = "types";
    type Key = String;
    type Row = Seen;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, Seen>,
    ) -> Result<(), HandlerError> {
        let key = event.aggregate_type().to_owned();
        rows.update(key, |row| row.take_in(event, 1))
    }
}

/// Entries by their stream, save those that are poisoned and not healed.
struct Entries {
    healed: u64,
}

impl Projection for Entries {
    const NAME: &'static str = "entries";
    type Key = StreamId;
    type Row = Seen;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, StreamId, Seen>,
    ) -> Result<(), HandlerError> {
        if event.aggregate_type() != TYPE {
            return Ok(());
        }
        // What it does before it fails must not count.
        rows.update(event.stream.clone(), |row| row.take_in(event, 1))?;
        if is_poison(event, self.healed) {
            return Err(HandlerError::permanent("poison"));
        }
        Ok(())
    }
}

fn is_poison(event: &EventEnvelope, healed: u64) -> bool {
    event.event[..] == *POISON && event.position.unwrap() > healed
}

/// Which version of the plain one this child has.
fn version(child: u64) -> u64 {
    1 + (child / CHILDREN_A_VERSION).min(4)
}

/// A builder with all of them.
pub fn builder(builder: TidelogBuilder, child: u64, healed: u64) -> TidelogBuilder {
    watched(builder, child, healed, &Arc::default())
}

fn watched(
    builder: TidelogBuilder,
    child: u64,
    healed: u64,
    from_the_first: &Arc<AtomicBool>,
) -> TidelogBuilder {
    let park = ProjectionOptions {
        poison: Poison::Park,
        ..ProjectionOptions::default()
    };
    let builder = builder
        .inline_projection(Types)
        .projection_with(Entries { healed }, park);
    let flag = Arc::clone(from_the_first);
    match version(child) {
        1 => builder.projection(Streams::<1>(flag)),
        2 => builder.projection(Streams::<2>(flag)),
        3 => builder.projection(Streams::<3>(flag)),
        4 => builder.projection(Streams::<4>(flag)),
        _ => builder.projection(Streams::<5>(flag)),
    }
}

/// What a child does with them.
pub struct Working {
    rebuild: Box<dyn Fn(&BlockingTidelog)>,
}

impl Working {
    pub fn start(order: &Order) -> Self {
        Self {
            rebuild: match version(order.child) {
                1 => Box::new(rebuild::<1>),
                2 => Box::new(rebuild::<2>),
                3 => Box::new(rebuild::<3>),
                4 => Box::new(rebuild::<4>),
                _ => Box::new(rebuild::<5>),
            },
        }
    }
}

fn rebuild<const VERSION: u32>(log: &BlockingTidelog) {
    say("rebuilding");
    let streams = log.projection::<Streams<VERSION>>().unwrap();
    streams.rebuild().unwrap();
}

fn entry(random: &mut Random) -> NewEvent {
    let payload = if random.one_in(24) {
        POISON.to_vec()
    } else {
        random.below(1 << 20).to_string().into_bytes()
    };
    NewEvent::new("Entered", 1, ContentType::Json, payload)
}

impl Part for Working {
    fn act(&mut self, log: &BlockingTidelog, random: &mut Random) {
        let stream = |number: usize| StreamId::new(TYPE, &format!("e{number}")).unwrap();
        let some = |random: &mut Random| {
            let count = 1 + random.below(3);
            (0..count).map(|_| entry(random)).collect::<Vec<_>>()
        };
        match random.below(24) {
            0 => (self.rebuild)(log),
            1 => {
                let entries = log.projection::<Entries>().unwrap();
                // While rows are made anew nothing is known of them.
                for parked in entries.parked().unwrap_or_default() {
                    // Its cause may not be gone.
                    let _ = entries.resume(&parked.stream);
                }
            }
            2 => {
                let parts = (0..3).map(|number| {
                    AppendBatch::new(stream(number), ExpectedVersion::Any, some(random))
                });
                log.append_streams(parts.collect()).unwrap();
            }
            _ => {
                let stream = stream(random.below(STREAMS));
                let batch = AppendBatch::new(stream, ExpectedVersion::Any, some(random));
                let receipt = log.append(batch).unwrap();
                let types = log.projection::<Types>().unwrap();
                let row = types.get(&TYPE.to_owned());
                let position = receipt.last_position.unwrap();
                let there = matches!(&row, Ok(Some(row)) if row.last_position >= position);
                // Only rows that were lost with a damaged index, and are made again, may lag.
                let excused = || log.info().unwrap().index_rebuilt.is_some();
                assert!(there || excused(), "{row:?} without {position}");
            }
        }
    }
}

/// Looks at the store in `dir`, which holds `events`.
pub fn look(dir: &Path, child: u64, healed: u64, events: &[EventEnvelope], tally: &mut Tally) {
    match version(child) {
        1 => look_with::<1>(dir, child, healed, events, tally),
        2 => look_with::<2>(dir, child, healed, events, tally),
        3 => look_with::<3>(dir, child, healed, events, tally),
        4 => look_with::<4>(dir, child, healed, events, tally),
        _ => look_with::<5>(dir, child, healed, events, tally),
    }
}

fn look_with<const VERSION: u32>(
    dir: &Path,
    child: u64,
    healed: u64,
    events: &[EventEnvelope],
    tally: &mut Tally,
) {
    let from_the_first = Arc::new(AtomicBool::new(false));
    let builder = Tidelog::builder(dir).segment_size(64 << 10);
    let log = watched(builder, child, healed, &from_the_first);
    let log = log.open().unwrap().blocking();
    let last = log.last_position();
    assert_eq!(last, events.len() as u64);

    // Inline: there as soon as the store is open.
    let types = log.projection::<Types>().unwrap();
    let by_type = fold(events, 1, |event| Some(event.aggregate_type().to_owned()));
    assert_eq!(types.scan(.., usize::MAX).unwrap(), by_type);

    let streams = log.projection::<Streams<VERSION>>().unwrap();
    streams.wait_for(last).unwrap();
    let by_stream = fold(events, VERSION, |event| Some(event.stream.clone()));
    assert_eq!(streams.scan(.., usize::MAX).unwrap(), by_stream);
    let mut by_count: Vec<_> = by_stream
        .iter()
        .map(|(key, row)| (row.events, key))
        .collect();
    by_count.sort();
    let found = streams.find_range::<u64>("events", .., usize::MAX).unwrap();
    let found: Vec<_> = found.iter().map(|(count, key, _)| (*count, key)).collect();
    assert_eq!(found, by_count);
    let how = if from_the_first.load(Ordering::SeqCst) {
        "made from the first event on"
    } else {
        "gone on with"
    };
    tally.count("rows after a kill", how);

    let entries = log.projection::<Entries>().unwrap();
    let waited = entries.wait_for(last);
    let parked = entries.parked().unwrap();
    assert_eq!(waited.is_err(), !parked.is_empty(), "{waited:?} {parked:?}");
    look_at_parked(healed, events, &parked);
    let held: BTreeMap<_, _> = parked.iter().map(|one| (&one.stream, one)).collect();
    let taken = fold(events, 1, |event| {
        let ours = event.aggregate_type() == TYPE;
        let free = |one: &&ParkedStream| event.sequence >= one.sequence;
        let is_held = held.get(&event.stream).is_some_and(free);
        (ours && !is_held).then(|| event.stream.clone())
    });
    assert_eq!(entries.scan(.., usize::MAX).unwrap(), taken);
    tally.count("streams parked", parked.len().to_string());
    log.close().unwrap();
}

/// What is parked is poisoned, with all that follows it; and all that is poisoned is parked.
fn look_at_parked(healed: u64, events: &[EventEnvelope], parked: &[ParkedStream]) {
    for one in parked {
        let of_stream: Vec<_> = events.iter().filter(|e| e.stream == one.stream).collect();
        let head = of_stream.last().unwrap().sequence;
        assert_eq!(one.last_sequence, head, "{one:?}");
        let poison = of_stream
            .iter()
            .find(|event| event.sequence == one.sequence);
        assert_eq!(poison.unwrap().event[..], *POISON, "{one:?}");
    }
    for event in events.iter().filter(|e| e.aggregate_type() == TYPE) {
        if is_poison(event, healed) {
            let held = parked.iter().find(|one| one.stream == event.stream);
            let held = held.is_some_and(|one| one.sequence <= event.sequence);
            assert!(held, "{} {} is not parked", event.stream, event.sequence);
        }
    }
}

fn fold<K: Ord>(
    events: &[EventEnvelope],
    version: u32,
    key: impl Fn(&EventEnvelope) -> Option<K>,
) -> Vec<(K, Seen)> {
    let mut rows: BTreeMap<K, Seen> = BTreeMap::new();
    for event in events.iter().filter(|e| e.kind != RecordKind::Control) {
        if let Some(key) = key(event) {
            rows.entry(key).or_default().take_in(event, version);
        }
    }
    rows.into_iter().collect()
}

/// Takes in all that is parked.
pub fn rest(log: &BlockingTidelog) {
    let entries = log.projection::<Entries>().unwrap();
    // Nothing more is appended: it is level once this answers, whatever it says.
    let _ = entries.wait_for(log.last_position());
    for parked in entries.parked().unwrap() {
        entries.resume(&parked.stream).unwrap();
    }
    assert_eq!(entries.parked().unwrap(), []);
}
