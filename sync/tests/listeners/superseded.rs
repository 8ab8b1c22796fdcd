//! Events that gave way to another origin's: announced in the order of their stream, and handled no
//! more.

use std::time::Duration;

use tidelog::*;

use crate::kit::*;

fn set_up(streams: &str) -> (Watched, Time, Told, Driven) {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    store.notes(streams);
    let driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    (store, time, told, driven)
}

fn again(store: &Watched, time: &Time, told: &Told) -> Driven {
    let mut driven = Driven::new(store, time, told, ListenerOptions::default());
    driven.settle();
    driven
}

#[test]
fn what_gave_way_is_announced_before_what_took_its_place() {
    let (store, _, told, mut driven) = set_up("aabaa");
    driven.settle();
    supersede(&store, "a", 2, 2);
    store.note("b");
    driven.settle();
    assert_eq!(told.handled_of("a"), [1, 2, 3, 4, 0, 2, 3]);
    assert_eq!(told.handled_of("b"), [1, 2]);
    assert_eq!(driven.mail.status().settled, store.last_position());
}

#[test]
fn what_gave_way_while_a_listener_was_behind_never_comes() {
    let (store, _, told, mut driven) = set_up("aaa");
    supersede(&store, "a", 2, 1);
    driven.settle();
    assert_eq!(told.handled_of("a"), [1, 0, 2]);
    assert_eq!(driven.mail.status().settled, 5);
}

#[test]
fn what_gives_way_while_it_waits_for_its_turn_or_its_next_attempt_is_left() {
    let (store, time, told, mut driven) = set_up("aaa");
    told.to("a", 2, Does::Fails);
    driven.settle();
    assert_eq!((told.handled_of("a"), told.tried_of("a")), (vec![1], 2));
    supersede(&store, "a", 2, 1);
    told.heal("a", 2);
    driven.pass(&time, Duration::from_secs(60));
    assert_eq!(told.handled_of("a"), [1, 0, 2], "that of the other origin");
    assert_eq!(driven.parked(), []);
    assert_eq!(driven.mail.status().settled, 5);
}

#[test]
fn a_parked_event_that_gives_way_parks_its_stream_no_more() {
    let (store, time, told, mut driven) = set_up("aaaa");
    told.to("a", 3, Does::FailsForGood);
    driven.settle();
    assert_eq!(driven.parked(), [("a".to_owned(), 3, 4)]);
    supersede(&store, "a", 2, 1);
    driven.settle();
    assert_eq!(told.handled_of("a"), [1, 2, 0, 2]);
    let held = |driven: &Driven| {
        driven
            .mail
            .parked()
            .iter()
            .map(ParkedStream::held)
            .sum::<u64>()
    };
    assert_eq!(held(&driven), 0);
    store.note("a");
    told.heal_all();
    driven.settle();
    assert_eq!(told.handled_of("a"), [1, 2, 0, 2, 3]);
    driven.stop().unwrap();
    let driven = again(&store, &time, &told);
    assert_eq!(told.handled_of("a"), [1, 2, 0, 2, 3], "nothing comes again");
    assert_eq!(held(&driven), 0);
}

#[test]
fn what_is_held_behind_a_parked_event_gives_way_unannounced_and_is_read_anew() {
    let (store, _, told, mut driven) = set_up("aaaa");
    told.to("a", 2, Does::FailsForGood);
    driven.settle();
    supersede(&store, "a", 3, 3);
    driven.settle();
    assert_eq!(driven.parked(), [("a".to_owned(), 2, 5)]);
    assert_eq!(
        told.handled_of("a"),
        [1],
        "none of what gave way was handled"
    );
    told.heal_all();
    let mail = driven.mail.clone();
    driven.answer(mail.resume(&id("a"))).unwrap();
    assert_eq!(told.handled_of("a"), [1, 2, 3, 4, 5]);
    let tried = told.tried_of("a");
    store.note("a");
    driven.settle();
    assert_eq!(
        (told.handled_of("a").len(), told.tried_of("a")),
        (6, tried + 1)
    );
}

#[test]
fn what_gives_way_while_its_stream_is_taken_in_again_is_left() {
    let (store, _, told, mut driven) = set_up("aaaa");
    told.to("a", 2, Does::FailsForGood);
    driven.settle();
    told.to("a", 2, Does::Hangs);
    let mail = driven.mail.clone();
    let stream = id("a");
    let mut resuming: BoxFuture<'_, _> = Box::pin(mail.resume(&stream));
    driven.poll(&mut resuming);
    supersede(&store, "a", 2, 2);
    driven.settle();
    assert_eq!(told.handled_of("a"), [1], "one at a time");
    driven.crash();
    told.heal_all();
    let driven = again(&store, &Time::default(), &told);
    assert_eq!(told.handled_of("a"), [1, 0, 2, 3]);
    assert_eq!(
        driven
            .mail
            .parked()
            .iter()
            .map(ParkedStream::held)
            .sum::<u64>(),
        0
    );
}

#[test]
fn a_listener_that_cannot_take_the_announcement_stands_still_until_it_can() {
    let (store, time, told, mut driven) = set_up("aa");
    driven.settle();
    told.to("a", 0, Does::FailsForGood);
    supersede(&store, "a", 2, 1);
    driven.settle();
    let ended = driven.done.take().unwrap().unwrap_err();
    assert!(
        matches!(ended, Error::Stopped { position: 3, .. }),
        "{ended}"
    );
    assert_eq!(driven.parked(), []);
    told.heal_all();
    again(&store, &time, &told);
    assert_eq!(told.handled_of("a"), [1, 2, 0, 2]);
}

#[test]
fn a_stop_in_order_brings_neither_the_announcement_nor_what_follows_again() {
    let (store, time, told, mut driven) = set_up("baa");
    told.to("b", 1, Does::Hangs);
    driven.settle();
    supersede(&store, "a", 2, 1);
    store.note("a");
    driven.settle();
    assert_eq!(told.handled_of("a"), [1, 2, 0, 2, 3]);
    driven.mail.stop();
    driven.pass(&time, Duration::from_secs(600));
    driven.done.take().unwrap().unwrap();
    told.heal_all();
    again(&store, &time, &told);
    assert_eq!(told.handled_of("b"), [1]);
    assert_eq!(told.handled_of("a"), [1, 2, 0, 2, 3]);
}
