//! What is delivered, in which order, and from where on.

use std::time::Duration;

use tidelog::*;

use crate::kit::*;

#[test]
fn events_come_in_order_within_a_stream_and_no_more_at_once_than_allowed() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    store.notes(&"acebd".repeat(40));
    let told = told.checking_durable(&store);
    let options = ListenerOptions::default().concurrency(3);
    let mut driven = Driven::new(&store, &time, &told, options);
    driven.settle();
    for stream in ["a", "b", "c", "d", "e"] {
        assert_eq!(told.handled_of(stream), (1..=40).collect::<Vec<u64>>());
    }
    assert_eq!(told.most_running(), 3, "streams are handled side by side");
    assert_eq!(driven.mail.status().settled, 200);
}

#[test]
fn one_stream_is_handled_one_event_at_a_time() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    store.notes(&"a".repeat(20));
    Driven::new(&store, &time, &told, ListenerOptions::default()).settle();
    assert_eq!(told.most_running(), 1);
    assert_eq!(told.handled_of("a").len(), 20);
}

#[test]
fn what_comes_later_is_delivered_later() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    driven.settle();
    let position = store.note("a");
    assert!(
        driven
            .answer(driven.mail.clone().wait_for(position))
            .is_ok()
    );
    assert_eq!(told.handled(), names(&[("a", 1)]));
}

#[test]
fn what_is_not_wanted_is_settled_unseen() {
    let (store, time) = (Watched::new(), Time::default());
    let told = Told::default().not_wanting("b");
    store.notes("abba");
    let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    driven.settle();
    assert_eq!(told.handled(), names(&[("a", 1), ("a", 2)]));
    assert_eq!(told.tried_of("b"), 0);
    assert_eq!(driven.mail.status().settled, 4);
}

#[test]
fn a_listener_without_a_checkpoint_begins_where_it_is_told() {
    for (start, first) in [
        (StartAt::Beginning, 1),
        (StartAt::After(2), 3),
        (StartAt::End, 4),
    ] {
        let (store, time, told) = (Watched::new(), Time::default(), Told::default());
        store.notes("aaa");
        let options = ListenerOptions::default().start(start);
        // It keeps to its place although nothing was handled before the crash.
        let mut first_run = Driven::new(&store, &time, &told, options.clone());
        if start != StartAt::Beginning {
            told.to("a", 3, Does::Hangs);
            first_run.settle();
        }
        first_run.crash();
        told.heal_all();
        store.note("a");
        Driven::new(&store, &time, &told, options).settle();
        assert_eq!(
            told.handled_of("a"),
            (first..=4).collect::<Vec<u64>>(),
            "{start:?}"
        );
    }
}

#[test]
fn to_begin_beyond_the_end_of_the_log_is_refused() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    let options = ListenerOptions::default().start(StartAt::After(1));
    let mut driven = Driven::new(&store, &time, &told, options);
    driven.settle();
    let refused = driven.done.unwrap().unwrap_err();
    assert_eq!(refused.code(), "invalid_input");
}

#[test]
fn a_stopped_listener_goes_on_where_it_ended() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    for round in 1..=5 {
        store.notes("abab");
        let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
        driven.settle();
        driven.stop().unwrap();
        assert_eq!(told.handled().len(), 4 * round, "neither twice nor skipped");
    }
}

#[test]
fn a_crash_brings_back_what_was_handled_since_the_last_save_and_no_more() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    store.note("a");
    driven.settle(); // saved at once
    store.note("a");
    driven.pass(&time, Duration::from_secs(1)); // saved a second later
    store.notes("aa");
    driven.settle(); // not saved yet
    assert_eq!(store.saves(), [1, 2]);
    driven.crash();
    Driven::new(&store, &time, &told, ListenerOptions::default()).settle();
    assert_eq!(told.handled_of("a"), [1, 2, 3, 4, 3, 4]);
}

#[test]
fn a_busy_listener_saves_once_a_second_and_an_idle_one_not_at_all() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    for _ in 0..40 {
        store.note("a");
        driven.pass(&time, Duration::from_millis(100));
    }
    driven.pass(&time, Duration::from_secs(1));
    let saves = store.saves();
    assert!((4..=5).contains(&saves.len()), "in four seconds: {saves:?}");
    assert_eq!(saves.last(), Some(&40));
    driven.pass(&time, Duration::from_secs(60));
    assert_eq!(store.saves(), saves);
    assert_eq!(time.sleeper().next_wake(), None, "nothing wakes it");
}

#[test]
fn one_name_has_one_listener_at_a_time() {
    let store = Watched::new();
    let build = || {
        EventListenerContainer::builder(store.clone())
            .listener("mail", Told::default())
            .build()
    };
    let first = build().unwrap();
    assert_eq!(build().unwrap_err().code(), "locked");
    drop(first);
    assert!(build().is_ok());
    let twice = EventListenerContainer::builder(store.clone())
        .listener("mail", Told::default())
        .listener("mail", Told::default())
        .build();
    assert_eq!(twice.unwrap_err().code(), "locked");
}

#[test]
fn a_closed_store_ends_it_without_an_error() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    driven.settle();
    store.inner.close();
    driven.settle();
    assert!(matches!(driven.done, Some(Ok(()))));
    assert!(matches!(driven.mail.status().phase, ListenerPhase::Ended));
}

/// A listener knows neither the log nor positions: it can be fed from elsewhere.
#[test]
fn a_listener_takes_an_event_that_has_no_position() {
    let store = MemoryStore::new();
    note(&store, "a");
    let mut event = pollster::block_on(store.read_all(LogQuery::all()).next())
        .unwrap()
        .unwrap();
    event.position = None;
    let told = Told::default();
    pollster::block_on(told.on(&event)).unwrap();
    assert_eq!(told.handled(), names(&[("a", 1)]));
}
