//! Versions, and rows made anew while the old ones serve.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tidelog::{
    Error, EventEnvelope, HandlerError, Lookup, MemoryStore, Projection, ProjectionState,
    Projections, Rows,
};

use crate::common::{Counts, Lever, Sum, Sums, add, take_in};
use crate::counting::Counting;

fn start<P: Projection>(store: &MemoryStore, projection: P) -> Projections<MemoryStore> {
    let builder = Projections::builder(store.clone());
    builder.projection(projection).start().unwrap()
}

/// Sums of the next version: each amount counts ten times.
struct TenTimes<const SINCE: u32>(Gate);

/// Holds a projection up until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let mut open = self.0.0.lock();
        while !*open {
            self.0.1.wait(&mut open);
        }
    }
}

impl<const SINCE: u32> Projection for TenTimes<SINCE> {
    const NAME: &'static str = "sums";
    const VERSION: u32 = 2;
    const ROWS_SINCE: u32 = SINCE;
    type Key = String;
    type Row = Sum;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, Sum>,
    ) -> Result<(), HandlerError> {
        self.0.pass();
        let amount = crate::common::amount(event)?;
        rows.update(event.aggregate_id().to_owned(), |sum| {
            sum.total += 10 * amount;
            sum.events += 1;
        })
    }

    fn lookups() -> Vec<Lookup<String, Sum>> {
        Sums::lookups()
    }
}

/// Sums without a lookup.
struct Plain;

impl Projection for Plain {
    const NAME: &'static str = "sums";
    type Key = String;
    type Row = Sum;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, Sum>,
    ) -> Result<(), HandlerError> {
        take_in(&Lever::default(), event, rows)
    }
}

#[test]
fn a_restart_goes_on_where_it_was_and_calls_nothing_twice() {
    let store = MemoryStore::new();
    let lever = Lever::default();
    let projections = start(&store, Sums(lever.clone()));
    let sums = projections.get::<Sums>().unwrap().blocking();
    add(&store, "a", 1);
    sums.wait_for(add(&store, "a", 2)).unwrap();
    drop(projections);
    assert!(matches!(sums.get(&"a".into()), Err(Error::Closed)));

    add(&store, "a", 3);
    let projections = start(&store, Sums(lever.clone()));
    let sums = projections.get::<Sums>().unwrap().blocking();
    sums.wait_for(3).unwrap();
    assert_eq!(
        sums.get(&"a".into()).unwrap(),
        Some(Sum {
            total: 6,
            events: 3
        })
    );
    assert_eq!(lever.calls(), 3);
}

#[test]
fn a_rebuild_calls_every_event_again_and_the_old_rows_serve_and_stay_fed_meanwhile() {
    let store = MemoryStore::new();
    let lever = Lever::default();
    let projections = start(&store, Sums(lever.clone()));
    let sums = projections.get::<Sums>().unwrap().blocking();
    for n in 0..600 {
        add(&store, "a", n % 2);
    }
    sums.wait_for(600).unwrap();
    assert_eq!(lever.calls(), 600);
    // Rebuilt while more comes in.
    let rebuild = sums.clone();
    let rebuilding = std::thread::spawn(move || rebuild.rebuild());
    for _ in 0..100 {
        let position = add(&store, "a", 1);
        sums.wait_for(position).unwrap();
        let row = sums.get(&"a".into()).unwrap().unwrap();
        assert_eq!(
            row.events, position,
            "old rows or new ones, they hold what was waited for"
        );
    }
    rebuilding.join().unwrap().unwrap();
    assert_eq!(
        sums.get(&"a".into()).unwrap(),
        Some(Sum {
            total: 400,
            events: 700
        })
    );
    assert!(lever.calls() >= 1_300, "{}", lever.calls());
    assert!(matches!(sums.progress().state, ProjectionState::Live));
}

#[test]
fn a_raised_version_is_built_anew_while_rows_it_can_read_serve() {
    let store = MemoryStore::new();
    let projections = start(&store, Sums::default());
    let sums = projections.get::<Sums>().unwrap().blocking();
    sums.wait_for(add(&store, "a", 1)).unwrap();
    drop(projections);

    let gate = Gate::default();
    let projections = start(&store, TenTimes::<1>(gate.clone()));
    let sums = projections.get::<TenTimes<1>>().unwrap().blocking();
    let old = Some(Sum {
        total: 1,
        events: 1,
    });
    assert_eq!(sums.get(&"a".into()).unwrap(), old);
    assert_eq!(sums.find("total", &1_u64, 9).unwrap().len(), 1);
    gate.open();
    sums.wait_for(1).unwrap();
    assert_eq!(
        sums.get(&"a".into()).unwrap(),
        Some(Sum {
            total: 10,
            events: 1
        })
    );
}

#[test]
fn a_raised_version_that_cannot_read_the_old_rows_says_that_it_is_being_built() {
    let store = MemoryStore::new();
    let projections = start(&store, Sums::default());
    let sums = projections.get::<Sums>().unwrap().blocking();
    sums.wait_for(add(&store, "a", 1)).unwrap();
    drop(projections);

    let gate = Gate::default();
    let projections = start(&store, TenTimes::<2>(gate.clone()));
    let sums = projections.get::<TenTimes<2>>().unwrap().blocking();
    let meanwhile = sums.get(&"a".into()).unwrap_err();
    assert!(
        matches!(
            meanwhile,
            Error::Rebuilding {
                position: 0,
                last: 1,
                ..
            }
        ),
        "{meanwhile}"
    );
    gate.open();
    sums.wait_for(1).unwrap();
    assert_eq!(
        sums.get(&"a".into()).unwrap(),
        Some(Sum {
            total: 10,
            events: 1
        })
    );
}

#[test]
fn lookups_of_other_names_make_the_rows_anew() {
    let store = MemoryStore::new();
    let projections = start(&store, Plain);
    let plain = projections.get::<Plain>().unwrap().blocking();
    plain.wait_for(add(&store, "a", 5)).unwrap();
    drop(projections);

    let lever = Lever::default();
    let projections = start(&store, Sums(lever.clone()));
    let sums = projections.get::<Sums>().unwrap().blocking();
    sums.wait_for(1).unwrap();
    assert_eq!(sums.find("total", &5_u64, 9).unwrap().len(), 1);
    assert_eq!(lever.calls(), 1);
}

#[test]
fn an_older_program_stops_before_newer_rows_and_leaves_them() {
    let store = MemoryStore::new();
    let gate = Gate::default();
    gate.open();
    let newer = start(&store, TenTimes::<1>(gate.clone()));
    let sums = newer.get::<TenTimes<1>>().unwrap().blocking();
    sums.wait_for(add(&store, "a", 1)).unwrap();
    drop(newer);

    let older = start(&store, Sums::default());
    let sums = older.get::<Sums>().unwrap().blocking();
    for refused in [
        sums.get(&"a".into()).unwrap_err(),
        sums.wait_for(1).unwrap_err(),
        sums.retry().unwrap_err(),
        sums.rebuild().unwrap_err(),
    ] {
        assert!(
            refused.to_string().contains("made by version 2"),
            "{refused}"
        );
    }
    drop(older);

    let newer = start(&store, TenTimes::<1>(gate));
    let sums = newer.get::<TenTimes<1>>().unwrap().blocking();
    sums.wait_for(1).unwrap();
    assert_eq!(
        sums.get(&"a".into()).unwrap(),
        Some(Sum {
            total: 10,
            events: 1
        })
    );
}

#[test]
fn rows_that_were_lost_are_made_again() {
    let store = MemoryStore::new();
    let lever = Lever::default();
    let projections = Projections::builder(store.clone())
        .projection(Sums(lever.clone()))
        .projection(Counts)
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap().blocking();
    sums.wait_for(add(&store, "a", 1)).unwrap();
    store.lose_rows();
    // Whoever asks first finds out.
    assert!(matches!(
        sums.get(&"a".into()),
        Err(Error::Rebuilding { .. })
    ));
    sums.wait_for(add(&store, "a", 2)).unwrap();
    while matches!(sums.get(&"a".into()), Err(Error::Rebuilding { .. })) {
        std::thread::yield_now();
    }
    assert_eq!(
        sums.get(&"a".into()).unwrap(),
        Some(Sum {
            total: 3,
            events: 2
        })
    );
    let counts = projections.get::<Counts>().unwrap().blocking();
    counts.wait_for(2).unwrap();
    assert_eq!(counts.get(&"Sum".into()).unwrap(), Some(2));
}

#[test]
fn where_rows_are_lost_again_and_again_the_engine_is_begun_anew() {
    let store = Counting::default();
    let projections = Projections::builder(store.clone())
        .projection(Sums::default())
        .projection(Counts)
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap().blocking();
    let counts = projections.get::<Counts>().unwrap().blocking();
    for n in 0..10 {
        sums.wait_for(add(&store, "a", n)).unwrap();
    }
    counts.wait_for(10).unwrap();
    store.spoil();
    let position = add(&store, "a", 10);
    sums.wait_for(position).unwrap();
    counts.wait_for(position).unwrap();
    assert!(!store.is_spoilt());
    // The other one's rows went with the engine: whoever asks finds out.
    let read = || counts.get(&"Sum".into());
    while matches!(read(), Err(Error::Rebuilding { .. })) {
        std::thread::yield_now();
    }
    assert_eq!(read().unwrap(), Some(11));
    while matches!(sums.get(&"a".into()), Err(Error::Rebuilding { .. })) {
        std::thread::yield_now();
    }
    assert_eq!(sums.get(&"a".into()).unwrap().unwrap().total, 55);
}

#[test]
fn a_first_build_that_stops_lets_its_rows_answer() {
    let store = MemoryStore::new();
    let lever = Lever::default();
    lever.fail_permanently(7);
    add(&store, "a", 1);
    add(&store, "a", 7);
    let projections = start(&store, Sums(lever));
    let sums = projections.get::<Sums>().unwrap().blocking();
    assert!(matches!(
        sums.wait_for(2),
        Err(Error::Stopped { position: 2, .. })
    ));
    assert_eq!(
        sums.get(&"a".into()).unwrap(),
        Some(Sum {
            total: 1,
            events: 1
        })
    );
}

/// Counts, and holds each event up until a gate is open.
struct Slow(Gate, Lever);

impl Projection for Slow {
    const NAME: &'static str = "slow";
    type Key = String;
    type Row = Sum;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, Sum>,
    ) -> Result<(), HandlerError> {
        let taken = take_in(&self.1, event, rows);
        self.0.pass();
        taken
    }
}

#[test]
fn stopping_waits_for_one_event_and_not_for_a_page_of_them() {
    let store = MemoryStore::new();
    for _ in 0..200 {
        add(&store, "a", 1);
    }
    let (gate, lever) = (Gate::default(), Lever::default());
    let projections = start(&store, Slow(gate.clone(), lever.clone()));
    let slow = projections.get::<Slow>().unwrap();
    while lever.calls() == 0 {
        std::thread::yield_now();
    }
    let stopping = std::thread::spawn(move || projections.stop());
    while !matches!(slow.progress().state, ProjectionState::Closed) {
        std::thread::yield_now();
    }
    gate.open();
    stopping.join().unwrap();
    assert_eq!(lever.calls(), 1);

    let projections = start(&store, Slow(gate, lever.clone()));
    let slow = projections.get::<Slow>().unwrap().blocking();
    slow.wait_for(200).unwrap();
    assert_eq!(slow.get(&"a".into()).unwrap().unwrap().events, 200);
    assert_eq!(lever.calls(), 200, "what was taken in is kept");
}

#[test]
fn inline_projections_come_first_and_wait_for_no_other() {
    let store = MemoryStore::new();
    let (gate, lever) = (Gate::default(), Lever::default());
    let projections = Projections::builder(store.clone())
        .projection(Slow(gate.clone(), lever.clone()))
        .inline_projection(Counts)
        .start()
        .unwrap();
    let counts = projections.get::<Counts>().unwrap().blocking();
    counts.wait_for(0).unwrap();
    let slow = projections.get::<Slow>().unwrap().blocking();
    slow.wait_for(0).unwrap();
    let position = add(&store, "a", 1);
    while lever.calls() == 0 {
        std::thread::yield_now();
    }
    let seen = (counts.progress().position, slow.progress().position);
    gate.open();
    assert_eq!(seen, (position, 0));
    slow.wait_for(position).unwrap();
}
