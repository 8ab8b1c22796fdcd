//! Events that gave way to another origin's leave nothing in rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidelog::{
    Birth, Error, EventEnvelope, EventLog, EventStore, HandlerError, MemoryStore, Projection,
    ProjectionState, Projections, Redo, Rows, Supersede, Superseded, Supersession, Timestamp,
};

use crate::common::{Lever, Sum, Sums, add, added, append, stream};

fn start<P: Projection>(store: &MemoryStore, projection: P) -> Projections<MemoryStore> {
    let builder = Projections::builder(store.clone());
    builder.projection(projection).start().unwrap()
}

/// Another origin's amounts take the place of all of `Sum/<id>` from `from` on; the last position.
fn supersede(store: &MemoryStore, id: &str, from: u64, amounts: &[u64]) -> u64 {
    let birth = Birth {
        origin: store.identity().origin,
        epoch: store.identity().epoch,
        position: 3,
        recorded_time: Timestamp::from_micros(4),
    };
    let head = pollster::block_on(store.head(&stream(id)))
        .unwrap()
        .unwrap();
    let adopted = amounts
        .iter()
        .map(|amount| added(*amount).with_birth(birth));
    let what = Supersession::new(stream(id), head, from).with_adopted(adopted.collect());
    let done = pollster::block_on(store.supersede(what)).unwrap();
    done.last_position.unwrap()
}

#[allow(clippy::unnecessary_wraps, reason = "what a question answers")]
fn sum(total: u64, events: u64) -> Option<Sum> {
    Some(Sum { total, events })
}

#[test]
fn rows_are_made_anew_without_what_gave_way() {
    let store = MemoryStore::new();
    let lever = Lever::default();
    let projections = start(&store, Sums(lever.clone()));
    let sums = projections.get::<Sums>().unwrap().blocking();
    append(&store, "a", vec![added(1), added(20), added(300)]);
    sums.wait_for(add(&store, "b", 7)).unwrap();
    assert_eq!(lever.calls(), 4);
    let last = supersede(&store, "a", 2, &[4_000, 50_000]);
    sums.wait_for(last).unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap(), sum(54_001, 3));
    assert_eq!(sums.get(&"b".into()).unwrap(), sum(7, 1));
    assert_eq!(
        sums.find("total", &321_u64, 9).unwrap(),
        [],
        "of the lookups, too"
    );
    assert!(matches!(sums.progress().state, ProjectionState::Live));
    // And again, above and below.
    sums.wait_for(add(&store, "a", 600_000)).unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap(), sum(654_001, 4));
    sums.wait_for(supersede(&store, "a", 3, &[])).unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap(), sum(4_001, 2));
    sums.wait_for(supersede(&store, "a", 1, &[9])).unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap(), sum(9, 1));
}

#[test]
fn a_projection_that_comes_later_never_meets_what_gave_way() {
    let store = MemoryStore::new();
    append(&store, "a", vec![added(1), added(20)]);
    supersede(&store, "a", 2, &[300]);
    let lever = Lever::default();
    lever.fail_permanently(20);
    let projections = start(&store, Sums(lever.clone()));
    let sums = projections.get::<Sums>().unwrap().blocking();
    sums.wait_for(4).unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap(), sum(301, 2));
    assert_eq!(lever.calls(), 2, "once, and without what gave way");
}

#[test]
fn rows_that_slept_through_it_are_made_anew() {
    let store = MemoryStore::new();
    let projections = start(&store, Sums::default());
    let sums = projections.get::<Sums>().unwrap().blocking();
    append(&store, "a", vec![added(1), added(20)]);
    sums.wait_for(2).unwrap();
    drop(projections);
    append(&store, "a", vec![added(300)]);
    let last = supersede(&store, "a", 2, &[4_000]);
    let projections = start(&store, Sums::default());
    let sums = projections.get::<Sums>().unwrap().blocking();
    sums.wait_for(last).unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap(), sum(4_001, 2));
}

#[test]
fn what_is_parked_of_events_that_gave_way_is_forgotten() {
    let store = MemoryStore::new();
    let lever = Lever::default();
    lever.fail_permanently(20);
    let options = tidelog::ProjectionOptions {
        poison: tidelog::Poison::Park,
        ..Default::default()
    };
    let builder = Projections::builder(store.clone());
    let projections = builder
        .projection_with(Sums(lever.clone()), options)
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap().blocking();
    append(&store, "a", vec![added(1), added(20), added(300)]);
    let parked = sums.wait_for(3).unwrap_err();
    assert!(matches!(parked, Error::Parked { .. }), "{parked}");
    sums.wait_for(supersede(&store, "a", 2, &[4_000])).unwrap();
    assert_eq!(sums.parked().unwrap(), []);
    assert_eq!(sums.get(&"a".into()).unwrap(), sum(4_001, 2));
}

#[test]
fn rows_that_cannot_be_made_anew_say_so_and_are_once_they_can() {
    let store = MemoryStore::new();
    let lever = Lever::default();
    let projections = start(&store, Sums(lever.clone()));
    let sums = projections.get::<Sums>().unwrap().blocking();
    append(&store, "a", vec![added(1), added(20)]);
    sums.wait_for(2).unwrap();
    // It takes no 1s any more: the rows there are stay, and stay wrong.
    lever.fail_permanently(1);
    let last = supersede(&store, "a", 2, &[300]);
    let stopped = sums.wait_for(last).unwrap_err();
    assert!(matches!(stopped, Error::Stopped { .. }), "{stopped}");
    assert!(matches!(sums.progress().state, ProjectionState::Stopped(_)));
    lever.mend(1);
    sums.retry().unwrap();
    sums.wait_for(last).unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap(), sum(301, 2));
}

/// Sums that know how to take back what gave way: they keep each amount.
struct Undoing(Arc<AtomicU64>);

impl Projection for Undoing {
    const NAME: &'static str = "undoing";
    type Key = String;
    type Row = Vec<u64>;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, Vec<u64>>,
    ) -> Result<(), HandlerError> {
        let amount = crate::common::amount(event)?;
        self.0.fetch_add(1, Ordering::SeqCst);
        rows.update(event.aggregate_id().to_owned(), |amounts| {
            amounts.push(amount);
        })
    }

    fn superseded(
        &self,
        what: &Superseded,
        rows: &mut Rows<'_, String, Vec<u64>>,
    ) -> Result<Redo, HandlerError> {
        if what.from == 1 {
            return Err(HandlerError::passing("not all of it"));
        }
        rows.update(what.stream.aggregate_id().to_owned(), |amounts| {
            amounts.truncate(usize::try_from(what.from - 1).unwrap_or(usize::MAX));
        })?;
        Ok(Redo::Done)
    }
}

#[test]
fn a_projection_may_take_back_what_gave_way_and_is_made_anew_where_it_cannot() {
    let store = MemoryStore::new();
    let calls = Arc::new(AtomicU64::new(0));
    let projections = start(&store, Undoing(Arc::clone(&calls)));
    let kept = projections.get::<Undoing>().unwrap().blocking();
    append(&store, "a", vec![added(1), added(20), added(300)]);
    kept.wait_for(3).unwrap();
    kept.wait_for(supersede(&store, "a", 2, &[4_000])).unwrap();
    assert_eq!(kept.get(&"a".into()).unwrap(), Some(vec![1, 4_000]));
    assert_eq!(calls.load(Ordering::SeqCst), 4, "nothing came twice");
    drop(projections);
    // Asleep: what gave way meanwhile is taken in as it was, and taken back.
    append(&store, "a", vec![added(50_000)]);
    let last = supersede(&store, "a", 3, &[600_000]);
    let projections = start(&store, Undoing(Arc::clone(&calls)));
    let kept = projections.get::<Undoing>().unwrap().blocking();
    kept.wait_for(last).unwrap();
    let now = Some(vec![1, 4_000, 600_000]);
    assert_eq!(kept.get(&"a".into()).unwrap(), now);
    assert_eq!(calls.load(Ordering::SeqCst), 6);
    kept.wait_for(supersede(&store, "a", 1, &[7])).unwrap();
    assert_eq!(kept.get(&"a".into()).unwrap(), Some(vec![7]));
    assert_eq!(
        calls.load(Ordering::SeqCst),
        8,
        "anew, and once by the old rows"
    );
}

#[test]
fn what_gives_way_while_rows_are_made_anew_is_not_in_them() {
    let store = MemoryStore::new();
    let projections = start(&store, Sums::default());
    let sums = projections.get::<Sums>().unwrap().blocking();
    for n in 0..50 {
        let id = (n % 3).to_string();
        append(&store, &id, vec![added(1), added(2), added(3)]);
        let rebuild = sums.clone();
        let rebuilding = std::thread::spawn(move || rebuild.rebuild());
        let last = supersede(&store, &id, 1 + n / 3 % 3, &[10]);
        add(&store, "other", 1);
        rebuilding.join().unwrap().unwrap();
        sums.wait_for(last).unwrap();
        for id in ["0", "1", "2"] {
            let there = pollster::block_on(
                store
                    .read_stream(tidelog::StreamQuery::new(stream(id)))
                    .collect(),
            );
            let amounts = there.unwrap();
            let amounts = amounts
                .iter()
                .map(|event| crate::common::amount(event).unwrap());
            let total: u64 = amounts.clone().sum();
            let found = sums.get(&id.into()).unwrap().unwrap_or_default();
            assert_eq!(
                (found.total, found.events),
                (total, amounts.count() as u64),
                "{n}"
            );
        }
    }
}

/// Counts events, and takes back as many as gave way; fails at `b` while it is told to.
struct Counting(Arc<AtomicBool>);

impl Projection for Counting {
    const NAME: &'static str = "counting";
    type Key = String;
    type Row = u64;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, u64>,
    ) -> Result<(), HandlerError> {
        if event.aggregate_id() == "b" && self.0.load(Ordering::SeqCst) {
            return Err(HandlerError::permanent("not now"));
        }
        rows.update(event.aggregate_id().to_owned(), |count| *count += 1)
    }

    fn superseded(
        &self,
        what: &Superseded,
        rows: &mut Rows<'_, String, u64>,
    ) -> Result<Redo, HandlerError> {
        let gone = what.replaced + 1 - what.from;
        rows.update(what.stream.aggregate_id().to_owned(), |count| {
            *count -= gone;
        })?;
        Ok(Redo::Done)
    }
}

#[test]
fn nothing_is_taken_back_that_rows_were_begun_without() {
    let store = MemoryStore::new();
    let fails = Arc::new(AtomicBool::new(true));
    append(&store, "a", vec![added(1), added(2)]);
    add(&store, "b", 1);
    append(&store, "a", vec![added(3)]);
    let last = supersede(&store, "a", 2, &[4]);
    // It comes when that is over, passes over the first that gave way, and gets no further.
    let projections = start(&store, Counting(Arc::clone(&fails)));
    let counts = projections.get::<Counting>().unwrap().blocking();
    let stopped = counts.wait_for(last).unwrap_err();
    assert!(matches!(stopped, Error::Stopped { .. }), "{stopped}");
    drop((counts, projections));
    fails.store(false, Ordering::SeqCst);
    let projections = start(&store, Counting(Arc::clone(&fails)));
    let counts = projections.get::<Counting>().unwrap().blocking();
    counts.wait_for(last).unwrap();
    assert_eq!(counts.get(&"a".into()).unwrap(), Some(2));
    // What comes later is taken back by the projection itself.
    let last = supersede(&store, "a", 1, &[5]);
    counts.wait_for(last).unwrap();
    assert_eq!(counts.get(&"a".into()).unwrap(), Some(1));
}
