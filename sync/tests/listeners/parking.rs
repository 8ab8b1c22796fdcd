//! Parked streams: visible, durable, and taken in again.

use std::future::Future;
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
fn an_event_that_cannot_be_handled_parks_its_stream_with_the_reason_and_the_others_go_on() {
    let (store, time, told, mut driven) = set_up("abaab");
    told.to("a", 2, Does::FailsForGood);
    time.0.set(Timestamp::from_micros(77));
    driven.settle();
    assert_eq!(told.handled_of("b"), [1, 2]);
    assert_eq!(told.handled_of("a"), [1]);
    let parked = driven.mail.parked();
    let all = pollster::block_on(store.read_all(LogQuery::all()).collect()).unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].stream, id("a"));
    assert_eq!(parked[0].event_id, all[2].event_id);
    assert_eq!(
        (
            parked[0].position,
            parked[0].sequence,
            parked[0].last_sequence
        ),
        (3, 2, 3)
    );
    assert_eq!((parked[0].attempts, parked[0].held()), (1, 2));
    assert_eq!(parked[0].since, Timestamp::from_micros(77));
    assert_eq!(&*parked[0].reason, "no such address");
    assert_eq!(driven.mail.status().settled, 5, "what is held is settled");
}

#[test]
fn an_event_is_parked_after_its_last_attempt_and_not_before() {
    let (_, time, told, mut driven) = set_up("a");
    told.to("a", 1, Does::Fails);
    driven.pass(&time, Duration::from_secs(60));
    assert_eq!(told.tried_of("a"), 8);
    assert_eq!(driven.mail.parked()[0].attempts, 8);
}

#[test]
fn a_handler_that_panics_parks_its_stream() {
    let (_, _, told, mut driven) = set_up("ab");
    told.to("a", 1, Does::Panics);
    driven.settle();
    assert_eq!(
        &*driven.mail.parked()[0].reason,
        "it panicked: out of paper"
    );
    assert_eq!(told.handled_of("b"), [1]);
}

#[test]
fn parked_streams_outlive_a_stop_and_hold_what_comes() {
    let (store, time, told, mut driven) = set_up("aa");
    told.to("a", 1, Does::FailsForGood);
    driven.settle();
    driven.stop().unwrap();
    store.notes("aab");
    let driven = again(&store, &time, &told);
    assert_eq!(driven.parked(), [("a".to_owned(), 1, 4)]);
    assert_eq!(&*driven.mail.parked()[0].reason, "no such address");
    assert_eq!(told.handled(), names(&[("b", 1)]));
}

#[test]
fn resuming_handles_what_is_held_in_order_and_then_what_comes() {
    let (store, time, told, mut driven) = set_up("aaa");
    told.to("a", 1, Does::FailsForGood);
    driven.settle();
    store.notes(&"a".repeat(200));
    driven.settle();
    told.heal_all();
    driven.answer(driven.mail.clone().resume(&id("a"))).unwrap();
    store.notes("aa");
    driven.settle();
    assert_eq!(told.handled_of("a"), (1..=205).collect::<Vec<u64>>());
    assert_eq!(driven.parked(), []);
    driven.crash();
    let driven = again(&store, &time, &told);
    assert_eq!(driven.parked(), [], "the answer came after it was saved");
    assert!(
        told.handled_of("a")[205..]
            .iter()
            .all(|sequence| *sequence > 203)
    );
}

#[test]
fn a_resume_that_fails_parks_the_stream_at_the_event_that_failed() {
    let (_, _, told, mut driven) = set_up("aaaa");
    told.to("a", 2, Does::FailsForGood);
    told.to("a", 4, Does::FailsForGood);
    driven.settle();
    told.heal("a", 2);
    let failed = driven
        .answer(driven.mail.clone().resume(&id("a")))
        .unwrap_err();
    match failed {
        Error::Parked {
            stream,
            position: 4,
            reason,
            ..
        } => {
            assert_eq!((stream, &*reason), (id("a"), "no such address"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(driven.parked(), [("a".to_owned(), 4, 4)]);
    assert_eq!(told.handled_of("a"), [1, 2, 3]);
    told.heal("a", 4);
    driven.answer(driven.mail.clone().resume(&id("a"))).unwrap();
    assert_eq!(told.handled_of("a"), [1, 2, 3, 4]);
}

#[test]
fn skipping_passes_over_the_one_event_alone() {
    let (_, _, told, mut driven) = set_up("aaa");
    told.to("a", 1, Does::FailsForGood);
    told.to("a", 3, Does::FailsForGood);
    driven.settle();
    let failed = driven
        .answer(driven.mail.clone().skip(&id("a")))
        .unwrap_err();
    assert_eq!(failed.code(), "parked");
    assert_eq!(told.handled_of("a"), [2]);
    driven.answer(driven.mail.clone().skip(&id("a"))).unwrap();
    assert_eq!(driven.parked(), []);
    assert_eq!(told.handled_of("a"), [2]);
}

#[test]
fn a_resume_that_was_cut_off_stays_parked_where_it_was_and_skips_nothing() {
    let (store, time, told, mut driven) = set_up("aaaa");
    told.to("a", 1, Does::FailsForGood);
    driven.settle();
    told.heal_all();
    told.to("a", 3, Does::Hangs);
    let (mail, a) = (driven.mail.clone(), id("a"));
    let mut asked = Box::pin(mail.resume(&a));
    let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
    assert!(asked.as_mut().poll(cx).is_pending());
    driven.pass(&time, Duration::from_secs(1));
    driven.crash();
    let mut driven = again(&store, &time, &told);
    assert_eq!(driven.parked(), [("a".to_owned(), 3, 4)]);
    assert_eq!(driven.mail.parked()[0].attempts, 0);
    told.heal_all();
    driven.answer(driven.mail.clone().skip(&a)).unwrap();
    assert_eq!(told.handled_of("a"), [1, 2, 3, 4]);
}

#[test]
fn what_was_skipped_or_resumed_does_not_come_again_though_another_stream_holds_the_mark() {
    let (store, time, told, mut driven) = set_up("baa");
    told.to("b", 1, Does::Hangs);
    told.to("a", 1, Does::FailsForGood);
    driven.settle();
    driven.answer(driven.mail.clone().skip(&id("a"))).unwrap();
    assert_eq!(driven.mail.status().settled, 0);
    driven.crash();
    // Still told to fail, were it tried again.
    let mut driven = again(&store, &time, &told);
    store.note("a");
    driven.settle();
    assert_eq!(driven.parked(), []);
    assert_eq!(told.handled_of("a"), [2, 3]);
    driven.crash();
    told.heal("b", 1);
    let driven = again(&store, &time, &told);
    assert_eq!(driven.mail.status().settled, 4);
    assert_eq!(told.handled_of("a")[..2], [2, 3]);
}

#[test]
fn what_was_skipped_above_the_mark_stays_skipped_after_a_stop() {
    let (store, time, told, mut driven) = set_up("baaa");
    told.to("b", 1, Does::Hangs);
    told.to("a", 2, Does::FailsForGood);
    driven.settle();
    driven.answer(driven.mail.clone().skip(&id("a"))).unwrap();
    assert_eq!(told.handled_of("a"), [1, 3]);
    driven.mail.stop();
    driven.pass(&time, Duration::from_secs(10));
    assert!(matches!(driven.done, Some(Ok(()))));
    drop(driven);
    let driven = again(&store, &time, &told);
    assert_eq!(driven.parked(), [], "it was skipped durably");
    assert_eq!(told.handled_of("a"), [1, 3]);
    assert_eq!(told.tried_of("a"), 3);
}

/// A stream parked above the mark: its earlier events come again after a crash and were handled.
#[test]
fn after_a_crash_events_before_the_parked_one_are_settled_unseen_and_the_others_held() {
    let (store, time, told, mut driven) = set_up("baaaa");
    told.to("b", 1, Does::Hangs);
    told.to("a", 3, Does::FailsForGood);
    driven.pass(&time, Duration::from_secs(1));
    assert_eq!(driven.mail.status().settled, 0);
    assert_eq!(driven.parked(), [("a".to_owned(), 3, 4)]);
    driven.crash();
    let mut driven = again(&store, &time, &told);
    assert_eq!(told.handled_of("a"), [1, 2], "not handled again");
    assert_eq!(driven.parked(), [("a".to_owned(), 3, 4)]);
    told.heal("a", 3);
    driven.answer(driven.mail.clone().resume(&id("a"))).unwrap();
    assert_eq!(told.handled_of("a"), [1, 2, 3, 4]);
}

#[test]
fn an_event_that_arrives_while_its_stream_is_resumed_is_neither_lost_nor_handled_twice() {
    // Live events slip in after each poll of the resume, up to its end and beyond.
    for slips_in in 0..12 {
        let (store, _, told, mut driven) = set_up("aa");
        told.to("a", 1, Does::FailsForGood);
        driven.settle();
        told.heal_all();
        let mail = driven.mail.clone();
        let a = id("a");
        let mut resume = Box::pin(mail.resume(&a));
        let mut polls = 0;
        driven
            .answer(std::future::poll_fn(|cx| {
                if polls == slips_in {
                    store.notes("aa");
                }
                polls += 1;
                resume.as_mut().poll(cx)
            }))
            .unwrap();
        if polls <= slips_in {
            store.notes("aa");
        }
        driven.settle();
        assert_eq!(
            told.handled_of("a"),
            [1, 2, 3, 4],
            "slipped in at {slips_in}"
        );
        assert_eq!(driven.parked(), []);
    }
}

#[test]
fn what_is_not_parked_cannot_be_resumed_or_skipped() {
    let (_, _, _, mut driven) = set_up("a");
    driven.settle();
    let mail = driven.mail.clone();
    for refused in [
        driven.answer(mail.resume(&id("a"))),
        driven.answer(mail.skip(&id("x"))),
    ] {
        assert_eq!(refused.unwrap_err().code(), "invalid_input");
    }
}

#[test]
fn beyond_the_number_of_streams_that_may_be_parked_it_stops() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    store.notes("abc");
    for stream in ["a", "b", "c"] {
        told.to(stream, 1, Does::FailsForGood);
    }
    let options = ListenerOptions::default().max_parked(2);
    let mut driven = Driven::new(&store, &time, &told, options);
    driven.settle();
    let stopped = driven.done.take().unwrap().unwrap_err();
    assert_eq!(stopped.code(), "stopped");
    assert!(
        stopped.to_string().contains("raise `max_parked`"),
        "{stopped}"
    );
    driven.crash();
    let driven = again(&store, &time, &told);
    assert_eq!(
        driven.mail.status().parked,
        3,
        "two were saved, one is met again"
    );
}

#[test]
fn replaying_delivers_anew_and_forgets_what_is_met_again_alone() {
    let (store, _, told, mut driven) = set_up("abcab");
    told.to("a", 1, Does::FailsForGood);
    told.to("b", 2, Does::FailsForGood);
    driven.settle();
    assert_eq!(driven.mail.status().parked, 2);
    told.heal_all();
    driven.answer(driven.mail.clone().replay_from(3)).unwrap();
    driven.settle();
    assert_eq!(told.handled_of("b"), [1, 2]);
    assert_eq!(told.handled_of("c"), [1, 1]);
    assert_eq!(
        driven.parked(),
        [("a".to_owned(), 1, 2)],
        "parked before the place"
    );
    let beyond = store.inner.last_position() + 2;
    let refused = driven.answer(driven.mail.clone().replay_from(beyond));
    assert_eq!(refused.unwrap_err().code(), "invalid_input");
    let mut position = store.note("c");
    driven
        .answer(driven.mail.clone().replay_from(position + 1))
        .unwrap();
    position = store.note("c");
    driven
        .answer(driven.mail.clone().wait_for(position))
        .unwrap();
}

#[test]
fn what_was_parked_in_another_history_holds_nothing_of_this_one() {
    let (before, _, told, mut driven) = set_up("aab");
    told.to("a", 2, Does::FailsForGood);
    driven.settle();
    driven.stop().unwrap();
    let state = pollster::block_on(before.load("mail")).unwrap().unwrap();

    let (store, time) = (Watched::new(), Time::default());
    store.notes("bbba");
    pollster::block_on(store.save("mail", 3, state)).unwrap();
    let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    // Asked before it runs: its checkpoint would be refused.
    driven.answer(driven.mail.clone().replay_from(4)).unwrap();
    driven.settle();
    assert_eq!(driven.parked(), []);
    assert_eq!(told.handled_of("a"), [1, 1]);
}
