//! An event that fails: tried again, then the projection stops or sets its stream aside.

use std::sync::Arc;
use std::time::Duration;

use tidelog::{
    Error, ManualClock, ManualSleeper, MemoryStore, Poison, ProjectionOptions, ProjectionState,
    Projections, RetryPolicy, Timestamp,
};

use crate::common::{Counts, Lever, Sum, Sums, add, added, append, stream};
use crate::counting::Counting;

fn park() -> ProjectionOptions {
    ProjectionOptions {
        poison: Poison::Park,
        ..ProjectionOptions::default()
    }
}

fn started(store: &MemoryStore, options: ProjectionOptions) -> (Projections<MemoryStore>, Lever) {
    let lever = Lever::default();
    let projections = Projections::builder(store.clone())
        .projection_with(Sums(lever.clone()), options)
        .projection(Counts)
        .start()
        .unwrap();
    (projections, lever)
}

fn sum(total: u64, events: u64) -> Sum {
    Sum { total, events }
}

#[test]
fn an_event_that_fails_now_is_tried_again_after_a_wait_that_grows() {
    let store = MemoryStore::new();
    let clock = Arc::new(ManualClock::default());
    let sleeper = ManualSleeper::new(Arc::clone(&clock));
    let lever = Lever::default();
    lever.fail(7, 2);
    let retry = RetryPolicy {
        attempts: 3,
        first: Duration::from_secs(10),
        ceiling: Duration::from_secs(100),
    };
    let options = ProjectionOptions {
        retry,
        ..ProjectionOptions::default()
    };
    let projections = Projections::builder(store.clone())
        .projection_with(Sums(lever.clone()), options)
        .projection(Counts)
        .sleeper(Arc::new(sleeper.clone()))
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap().blocking();
    sums.wait_for(add(&store, "a", 1)).unwrap();
    let position = add(&store, "a", 7);
    // The other one is not held up.
    let counts = projections.get::<Counts>().unwrap().blocking();
    counts.wait_for(position).unwrap();

    for attempts in 1..=2 {
        let waiting = || match sums.progress().state {
            ProjectionState::Waiting { attempts, reason } => Some((attempts, reason)),
            _ => None,
        };
        let (tried, reason) = until(|| waiting().filter(|(tried, _)| *tried == attempts));
        assert_eq!((tried, &*reason), (attempts, "no 7s today"));
        assert_eq!(
            sums.get(&"a".into()).unwrap(),
            Some(sum(1, 1)),
            "what failed left nothing"
        );
        assert!(!sums.wait_for_timeout(position, Duration::ZERO).unwrap());
        let whole = i64::from(attempts) * 10_000_000;
        clock.advance_micros(whole);
    }
    sums.wait_for(position).unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap(), Some(sum(8, 2)));
    assert_eq!(lever.calls(), 4);
}

/// What `look` finds, as soon as it does.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look() {
            return found;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_projection_that_stops_says_where_goes_on_answering_and_takes_up_again() {
    let store = MemoryStore::new();
    let (projections, lever) = started(&store, ProjectionOptions::default());
    let sums = projections.get::<Sums>().unwrap().blocking();
    lever.fail_permanently(7);
    let receipt = append(&store, "a", vec![added(1), added(7), added(2)]);
    let stopped = sums.wait_for(receipt.last_position).unwrap_err();
    assert!(
        matches!(stopped, Error::Stopped { position: 2, .. }),
        "{stopped}"
    );
    assert!(
        stopped
            .to_string()
            .contains("projection sums stopped at position 2: no 7s today")
    );
    assert_eq!(sums.get(&"a".into()).unwrap(), Some(sum(1, 1)));
    sums.wait_for(1).unwrap();
    let counts = projections.get::<Counts>().unwrap().blocking();
    counts.wait_for(receipt.last_position).unwrap();

    // Not mended yet: it stops at the same place.
    sums.retry().unwrap();
    assert!(matches!(
        sums.wait_for(3),
        Err(Error::Stopped { position: 2, .. })
    ));
    lever.mend(7);
    sums.retry().unwrap();
    sums.wait_for(3).unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap(), Some(sum(10, 3)));
}

#[test]
fn a_stream_is_parked_with_what_follows_while_others_go_on() {
    let store = MemoryStore::new();
    let (projections, lever) = started(&store, park());
    let sums = projections.get::<Sums>().unwrap().blocking();
    lever.fail_permanently(7);
    add(&store, "a", 1);
    let poison = add(&store, "a", 7);
    add(&store, "a", 2);
    let last = add(&store, "b", 3);
    let held = sums.wait_for(last).unwrap_err();
    assert!(
        matches!(&held, Error::Parked { stream: s, position, .. } if *s == stream("a") && *position == poison),
        "{held}"
    );
    sums.wait_for(poison - 1).unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap(), Some(sum(1, 1)));
    assert_eq!(sums.get(&"b".into()).unwrap(), Some(sum(3, 1)));
    let parked = sums.parked().unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].sequence, parked[0].last_sequence), (2, 3));
    assert_eq!((parked[0].held(), &*parked[0].reason), (2, "no 7s today"));
    assert_eq!(sums.progress().parked, 1);

    let still = sums.resume(&stream("a")).unwrap_err();
    assert!(
        matches!(still, Error::Parked { position: 2, .. }),
        "{still}"
    );
    assert_eq!(sums.parked().unwrap()[0].attempts, 2);
    lever.mend(7);
    sums.resume(&stream("a")).unwrap();
    assert_eq!(sums.parked().unwrap(), []);
    assert_eq!(sums.get(&"a".into()).unwrap(), Some(sum(10, 3)));
    sums.wait_for(add(&store, "a", 4)).unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap(), Some(sum(14, 4)));
    // Nothing is held: nothing happens.
    sums.resume(&stream("a")).unwrap();
}

#[test]
fn a_stream_that_fails_again_further_on_keeps_what_was_taken_in() {
    let store = MemoryStore::new();
    let (projections, lever) = started(&store, park());
    let sums = projections.get::<Sums>().unwrap().blocking();
    lever.fail_permanently(7);
    lever.fail_permanently(8);
    for amount in [7, 1, 8, 2] {
        add(&store, "a", amount);
    }
    assert!(matches!(
        sums.wait_for(4),
        Err(Error::Parked { position: 1, .. })
    ));
    lever.mend(7);
    assert!(matches!(
        sums.resume(&stream("a")),
        Err(Error::Parked { position: 3, .. })
    ));
    assert_eq!(sums.get(&"a".into()).unwrap(), Some(sum(8, 2)));
    let parked = sums.parked().unwrap();
    assert_eq!(
        (parked[0].sequence, parked[0].held(), parked[0].attempts),
        (3, 2, 1)
    );
    lever.mend(8);
    sums.resume(&stream("a")).unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap(), Some(sum(18, 4)));
}

#[test]
fn parked_streams_are_there_again_after_a_restart() {
    let store = MemoryStore::new();
    let clock = Arc::new(ManualClock::new(Timestamp::from_micros(77)));
    let lever = Lever::default();
    lever.fail_permanently(7);
    let start = || {
        Projections::builder(store.clone())
            .projection_with(Sums(lever.clone()), park())
            .clock(clock.clone())
            .start()
            .unwrap()
    };
    let projections = start();
    let sums = projections.get::<Sums>().unwrap().blocking();
    add(&store, "a", 7);
    assert!(sums.wait_for(1).is_err());
    let before = sums.parked().unwrap();
    assert_eq!(before[0].since, Timestamp::from_micros(77));
    drop(projections);
    let calls = lever.calls();

    let projections = start();
    let sums = projections.get::<Sums>().unwrap().blocking();
    assert!(matches!(sums.wait_for(1), Err(Error::Parked { .. })));
    assert_eq!(sums.parked().unwrap(), before);
    assert_eq!(lever.calls(), calls, "it was not tried again");
    add(&store, "a", 1);
    assert!(sums.wait_for(2).is_err());
    assert_eq!(sums.parked().unwrap()[0].held(), 2);
    lever.mend(7);
    sums.resume(&stream("a")).unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap(), Some(sum(8, 2)));
}

#[test]
fn a_panic_is_a_permanent_failure() {
    use tidelog::{EventEnvelope, HandlerError, Projection, Rows};
    struct Panics;
    impl Projection for Panics {
        const NAME: &'static str = "panics";
        type Key = u8;
        type Row = u8;
        fn apply(
            &self,
            _: &EventEnvelope,
            rows: &mut Rows<'_, u8, u8>,
        ) -> Result<(), HandlerError> {
            rows.put(1, 1);
            panic!("at the disco");
        }
    }
    let store = MemoryStore::new();
    let projections = Projections::builder(store.clone())
        .projection(Panics)
        .start()
        .unwrap();
    let panics = projections.get::<Panics>().unwrap().blocking();
    let stopped = panics.wait_for(add(&store, "a", 1)).unwrap_err();
    assert!(
        stopped.to_string().contains("it panicked: at the disco"),
        "{stopped}"
    );
    assert_eq!(panics.get(&1).unwrap(), None);
}

#[test]
fn rows_that_cannot_be_written_stop_the_projection_and_are_written_when_it_goes_on() {
    let store = Counting::default();
    let lever = Lever::default();
    let projections = Projections::builder(store.clone())
        .projection(Sums(lever.clone()))
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap().blocking();
    sums.wait_for(add(&store, "a", 1)).unwrap();
    store.fail_commits(Some(Error::Engine {
        engine: "the test's",
        action: "write",
        source: Arc::new(std::io::Error::other("the disk is full")),
    }));
    let position = add(&store, "a", 2);
    let stopped = sums.wait_for(position).unwrap_err();
    assert!(
        stopped.to_string().contains("the disk is full"),
        "{stopped}"
    );
    assert_eq!(sums.get(&"a".into()).unwrap(), Some(sum(1, 1)));
    // Still full.
    sums.retry().unwrap();
    assert!(matches!(
        sums.wait_for(position),
        Err(Error::Stopped { .. })
    ));
    store.fail_commits(None);
    sums.retry().unwrap();
    sums.wait_for(position).unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap(), Some(sum(3, 2)));
    assert_eq!(lever.calls(), 2, "nothing was taken in twice");
}

#[test]
fn a_rebuild_that_gets_no_further_than_what_stopped_says_so() {
    let store = MemoryStore::new();
    let (projections, lever) = started(&store, ProjectionOptions::default());
    let sums = projections.get::<Sums>().unwrap().blocking();
    lever.fail_permanently(7);
    add(&store, "a", 1);
    assert!(sums.wait_for(add(&store, "a", 7)).is_err());
    let still = sums.rebuild().unwrap_err();
    assert!(
        matches!(still, Error::Stopped { position: 2, .. }),
        "{still}"
    );
    assert_eq!(sums.get(&"a".into()).unwrap(), Some(sum(1, 1)));
    lever.mend(7);
    sums.rebuild().unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap(), Some(sum(8, 2)));
}

#[test]
fn held_events_that_cannot_be_read_stay_held_and_stop_nothing() {
    let store = Counting::default();
    let lever = Lever::default();
    let projections = Projections::builder(store.clone())
        .projection_with(Sums(lever.clone()), park())
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap().blocking();
    lever.fail_permanently(7);
    assert!(sums.wait_for(add(&store, "a", 7)).is_err());
    lever.mend(7);
    store.refuse(Some(Error::Cancelled { what: "reading" }));
    let unread = sums.resume(&stream("a")).unwrap_err();
    assert!(matches!(unread, Error::Cancelled { .. }), "{unread}");
    let state = sums.progress().state;
    assert!(matches!(state, ProjectionState::Live), "{state:?}");
    assert_eq!(sums.parked().unwrap().len(), 1);
    store.refuse(None);
    sums.resume(&stream("a")).unwrap();
    assert_eq!(sums.get(&"a".into()).unwrap(), Some(sum(7, 1)));
}

#[test]
fn a_rebuild_that_has_no_place_to_begin_leaves_the_rows_fed() {
    let store = Counting::default();
    let projections = Projections::builder(store.clone())
        .projection(Sums::default())
        .start()
        .unwrap();
    let sums = projections.get::<Sums>().unwrap().blocking();
    sums.wait_for(add(&store, "a", 1)).unwrap();
    store.fail_commits(Some(Error::Engine {
        engine: "the test's",
        action: "write",
        source: Arc::new(std::io::Error::other("the disk is full")),
    }));
    let refused = sums.rebuild().unwrap_err();
    assert!(
        refused.to_string().contains("the disk is full"),
        "{refused}"
    );
    store.fail_commits(None);
    sums.wait_for(add(&store, "a", 2)).unwrap();
    let state = sums.progress().state;
    assert!(matches!(state, ProjectionState::Live), "{state:?}");
    assert_eq!(sums.get(&"a".into()).unwrap(), Some(sum(3, 2)));
    sums.rebuild().unwrap();
}

#[test]
fn times_without_end_are_no_panics() {
    let store = MemoryStore::new();
    let retry = RetryPolicy {
        attempts: u32::MAX,
        first: Duration::MAX,
        ceiling: Duration::MAX,
    };
    let options = ProjectionOptions {
        retry,
        ..ProjectionOptions::default()
    };
    let (projections, lever) = started(&store, options);
    let sums = projections.get::<Sums>().unwrap().blocking();
    let position = add(&store, "a", 1);
    assert!(sums.wait_for_timeout(position, Duration::MAX).unwrap());
    lever.fail(7, 1);
    let position = add(&store, "a", 7);
    let counts = projections.get::<Counts>().unwrap().blocking();
    counts.wait_for(position).unwrap();
    until(|| matches!(sums.progress().state, ProjectionState::Waiting { .. }).then_some(()));
    // Whoever does not want to wait for ever says so.
    sums.retry().unwrap();
    sums.wait_for(position).unwrap();
}
