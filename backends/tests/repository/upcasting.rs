//! Sequences count records, not what they are read as: records may be read as several events or none.

use std::convert::Infallible;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use tidelog_backends::MemoryStore;
use tidelog_core::{
    Aggregate, AggregateRepository, Command, ContentType, Context, Decide, Event, EventEnvelope,
    EventStore, ExpectedVersion, NewEvent, SnapshotStore, SnapshotStrategy, StreamHead, StreamId,
    TypedEventStore, Upcast, Upcasters,
};

use crate::now;
use crate::probe::Probe;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Counted {
    Up(u64),
}

static UPCASTERS: LazyLock<Upcasters> = LazyLock::new(|| {
    Upcasters::new()
        .split("Each", 1, |each: Vec<u64>| {
            each.into_iter().map(|by| Upcast::to("Up", 1, by)).collect()
        })
        .drop_event("Noise", 1)
});

impl Event for Counted {
    fn event_type(&self) -> &'static str {
        "Up"
    }

    fn upcasters() -> Option<&'static Upcasters> {
        Some(&UPCASTERS)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Counter {
    value: u64,
    events: u64,
}

impl Aggregate for Counter {
    const TYPE: &'static str = "Counter";
    type Event = Counted;
    type Error = Infallible;

    fn apply(state: Option<Self>, Counted::Up(by): &Counted) -> Result<Self, Infallible> {
        let before = state.unwrap_or(Self {
            value: 0,
            events: 0,
        });
        Ok(Self {
            value: before.value + by,
            events: before.events + 1,
        })
    }
}

/// Counts up by what it holds; by nothing at all when that is zero.
struct Up(u64);

impl Command for Up {
    type Aggregate = Counter;

    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some("a")
    }
}

impl Decide<Up> for Counter {
    type Rejection = Infallible;

    fn decide(_: Option<&Self>, up: &Up, _: &Context) -> Result<Vec<Counted>, Infallible> {
        Ok((up.0 > 0)
            .then_some(Counted::Up(up.0))
            .into_iter()
            .collect())
    }
}

fn stream() -> StreamId {
    StreamId::new("Counter", "a").unwrap()
}

fn noise() -> NewEvent {
    NewEvent::new("Noise", 1, ContentType::Postcard, b"hiss".to_vec())
}

/// A store that holds one record a list: what it is read as; an empty one is noise.
fn store(records: &[&[u64]]) -> MemoryStore {
    let store = MemoryStore::new();
    let events = records.iter().map(|each| {
        if each.is_empty() {
            return noise();
        }
        let count = u8::try_from(each.len()).unwrap();
        let values = each.iter().map(|&by| u8::try_from(by).unwrap());
        let payload: Vec<u8> = std::iter::once(count).chain(values).collect();
        NewEvent::new("Each", 1, ContentType::Postcard, payload)
    });
    let events = events.collect();
    now(store.persist_encoded(&stream(), ExpectedVersion::NoStream, events)).unwrap();
    store
}

type Counters = AggregateRepository<Counter, MemoryStore>;

/// A repository that reads everything anew, and one that keeps states.
fn repositories(store: &MemoryStore) -> [Counters; 2] {
    let plain = Counters::new(store.clone());
    [plain.clone(), plain.with_cache(1 << 20)]
}

#[test]
fn a_split_record_is_applied_event_by_event_under_one_sequence() {
    for which in 0..2 {
        let store = store(&[&[1, 2, 3], &[4]]);
        let counters = &repositories(&store)[which].blocking();
        let loaded = counters.load("a").unwrap().unwrap();
        let expected = Counter {
            value: 10,
            events: 4,
        };
        assert_eq!((&*loaded.state, loaded.sequence), (&expected, 2));

        for sequence in 3..6 {
            assert_eq!(counters.execute(Up(5)).unwrap().sequence, sequence);
        }
        let loaded = counters.load("a").unwrap().unwrap();
        assert_eq!((loaded.state.value, loaded.sequence), (25, 5));
    }
}

#[test]
fn a_stream_whose_records_are_all_dropped_goes_on_after_them() {
    for which in 0..2 {
        let store = store(&[&[], &[]]);
        let counters = &repositories(&store)[which].blocking();
        assert!(counters.load("a").unwrap().is_none());

        // Nothing to do is answered with where the stream is.
        assert_eq!(counters.execute(Up(0)).unwrap().sequence, 2);
        let done = counters.execute(Up(5)).unwrap();
        assert_eq!((done.sequence, done.events), (3, 1));
        let loaded = counters.load("a").unwrap().unwrap();
        assert_eq!((loaded.state.value, loaded.sequence), (5, 3));
    }
}

#[test]
fn whoever_is_faster_with_a_dropped_record_is_caught_up_with() {
    let memory = store(&[&[]]);
    let probe = Probe {
        memory: memory.clone(),
        ..Probe::default()
    };
    let mut left = 2;
    probe.before_append(move |memory| {
        if left > 0 {
            left -= 1;
            now(memory.persist_encoded(&stream(), ExpectedVersion::Any, vec![noise()])).unwrap();
        }
    });
    let counters = AggregateRepository::<Counter, _>::new(probe).blocking();
    assert_eq!(counters.execute(Up(5)).unwrap().sequence, 4);
    assert_eq!(counters.load("a").unwrap().unwrap().state.value, 5);
}

#[test]
fn dropped_records_at_the_end_count_for_sequences_and_snapshots() {
    let store = store(&[&[7], &[]]);
    let snapshots = store.clone();
    let counters = Counters::new(store.clone())
        .with_snapshots(snapshots, SnapshotStrategy::EveryEvents(1))
        .blocking();
    assert_eq!(counters.load("a").unwrap().unwrap().sequence, 2);
    counters.execute(Up(5)).unwrap();

    let kept = now(store.read(&stream())).unwrap().unwrap();
    assert_eq!(kept.sequence, 3);
    now(store.persist_encoded(&stream(), ExpectedVersion::Exact(3), vec![noise()])).unwrap();
    let loaded = counters.load("a").unwrap().unwrap();
    assert_eq!((loaded.state.value, loaded.sequence), (12, 4));
}

#[test]
fn typed_reading_gives_an_envelope_for_each_event() {
    let store = store(&[&[1, 2], &[], &[3]]);
    let events: Vec<EventEnvelope<Counted>> = now(store.read_events(&stream())).unwrap();
    let found: Vec<_> = events
        .iter()
        .map(|envelope| (envelope.sequence, envelope.position, envelope.event.clone()))
        .collect();
    assert_eq!(
        found,
        [
            (1, Some(1), Counted::Up(1)),
            (1, Some(1), Counted::Up(2)),
            (3, Some(3), Counted::Up(3)),
        ]
    );
    assert_eq!(events[0].event_id, events[1].event_id);
    let head: StreamHead = now(store.head(&stream())).unwrap().unwrap();
    assert_eq!(head.sequence, 3);
}
