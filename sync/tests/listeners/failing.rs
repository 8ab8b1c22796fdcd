//! Retries, stopping, hanging, and failures that are not an event's.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidelog::*;

use crate::kit::*;

#[test]
fn a_failing_event_is_tried_again_after_growing_waits_while_other_streams_go_on() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    told.to("a", 1, Does::Fails);
    let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    store.notes("abab");
    driven.settle();
    let mut before = Duration::ZERO;
    for attempt in 1..=4 {
        assert_eq!(told.tried_of("a"), attempt);
        assert_eq!(driven.mail.status().retrying, 1);
        // The save's own wait is longer than the first retries'.
        driven.pass(&time, Duration::ZERO);
        let wait = time.sleeper().next_wake().unwrap();
        let whole = Duration::from_millis(100 << (attempt - 1));
        assert!(wait <= whole, "wait {attempt}: {wait:?}");
        assert!(wait >= before / 2);
        before = wait;
        driven.pass(&time, wait);
    }
    assert_eq!(told.handled(), names(&[("b", 1), ("b", 2)]));
    told.heal("a", 1);
    driven.pass(&time, Duration::from_secs(10));
    assert_eq!(told.handled_of("a"), [1, 2]);
    assert_eq!(driven.mail.status().settled, 4);
}

#[test]
fn a_clock_set_back_does_not_put_a_retry_off() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    told.to("a", 1, Does::Fails);
    store.note("a");
    let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    driven.settle();
    time.0.set(Timestamp::from_micros(-315_360_000_000_000)); // ten years
    told.heal("a", 1);
    driven.pass(&time, Duration::from_millis(100));
    assert_eq!(told.handled_of("a"), [1]);
}

#[test]
fn with_the_stop_policy_it_ends_at_the_event_and_hands_out_none_after_it() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    told.to("a", 2, Does::FailsForGood);
    store.notes("aaa");
    let options = ListenerOptions::default().poison(Poison::Stop);
    let mut driven = Driven::new(&store, &time, &told, options.clone());
    driven.settle();
    match driven.done.as_ref().unwrap() {
        Err(Error::Stopped {
            position: 2,
            source,
            ..
        }) => {
            assert_eq!(source.to_string(), "no such address");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(told.handled_of("a"), [1]);
    drop(driven);
    told.heal_all();
    Driven::new(&store, &time, &told, options).settle();
    assert_eq!(told.handled_of("a"), [1, 2, 3]);
}

#[test]
fn a_started_listener_that_stopped_stands_until_it_is_told_to_try_again() {
    let (store, told) = (Watched::new(), Told::default());
    told.to("a", 1, Does::FailsForGood);
    let running = EventListenerContainer::builder(store.clone())
        .listener_with(
            "mail",
            told.clone(),
            ListenerOptions::default().poison(Poison::Stop),
        )
        .listener("other", Told::default())
        .build()
        .unwrap()
        .start()
        .unwrap();
    let position = store.note("a");
    let mail = running.control("mail").unwrap();
    let stopped = pollster::block_on(mail.wait_for(position)).unwrap_err();
    assert_eq!(stopped.code(), "stopped");
    let other = running.control("other").unwrap();
    pollster::block_on(other.wait_for(position)).unwrap();
    told.heal_all();
    pollster::block_on(mail.retry()).unwrap();
    pollster::block_on(mail.wait_for(position)).unwrap();
    assert_eq!(told.handled_of("a"), [1]);
    running.stop().unwrap();
    let ended = pollster::block_on(mail.retry()).unwrap_err();
    assert_eq!(ended.code(), "stopped");
}

#[test]
fn a_handler_that_never_returns_holds_its_stream_alone_and_is_dropped_when_stopping() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    told.to("a", 1, Does::Hangs);
    store.notes("abb");
    let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    driven.settle();
    assert_eq!(told.handled(), names(&[("b", 1), ("b", 2)]));
    let status = driven.mail.status();
    assert_eq!((status.settled, status.taken, status.in_flight), (0, 3, 1));
    assert_eq!(status.in_flight_since, Some(Timestamp::from_micros(0)));
    driven.mail.stop();
    driven.pass(&time, Duration::from_millis(9_999));
    assert!(driven.done.is_none(), "it waits ten seconds");
    driven.pass(&time, Duration::from_millis(1));
    assert!(matches!(driven.done, Some(Ok(()))));
    drop(driven);
    told.heal_all();
    Driven::new(&store, &time, &told, ListenerOptions::default()).settle();
    assert_eq!(told.handled_of("a"), [1]);
}

#[test]
fn behind_a_hanging_handler_no_more_than_a_bounded_number_of_events_is_taken() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    told.to("a", 1, Does::Hangs);
    store.note("a");
    for _ in 0..30 {
        let events = (0..1_000).map(|_| NewEvent::new("Noted", 1, ContentType::Bytes, "x"));
        let batch = AppendBatch::new(id("b"), ExpectedVersion::Any, events.collect());
        pollster::block_on(store.append(batch)).unwrap();
    }
    let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    driven.settle();
    let status = driven.mail.status();
    // One read beyond the bound.
    assert!((10_000..15_000).contains(&status.taken), "{}", status.taken);
    assert_eq!(status.settled, 0);
}

#[test]
fn when_its_state_cannot_be_saved_it_ends_and_says_so() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    driven.settle();
    store.seen.lock().save_fails = true;
    store.note("a");
    driven.settle();
    assert_eq!(driven.done.unwrap().unwrap_err().code(), "io");
}

#[test]
fn a_checkpoint_of_another_history_is_refused_until_it_is_told_where_to_go_on() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    store.notes("aa");
    let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    driven.settle();
    driven.stop().unwrap();
    let state = pollster::block_on(store.load("mail")).unwrap().unwrap();
    for events in [1, 2, 3] {
        // Shorter, as long, and longer than what the checkpoint speaks of.
        let other = Watched::new();
        other.notes(&"a".repeat(events));
        pollster::block_on(other.inner.save("mail", 0, state.clone())).unwrap();
        let told = Told::default();
        let mut driven = Driven::new(&other, &time, &told, ListenerOptions::default());
        driven.settle();
        let refused = driven.done.take().unwrap().unwrap_err();
        assert_eq!(refused.code(), "other_history");
        assert!(refused.to_string().contains("replay_from"), "{refused}");
        assert_eq!(told.handled(), []);
        drop(driven);
        let mut driven = Driven::new(&other, &time, &told, ListenerOptions::default());
        driven.answer(driven.mail.clone().replay_from(1)).unwrap();
        driven.settle();
        assert_eq!(
            told.handled_of("a"),
            (1..=events as u64).collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_gap_stops_it_and_it_goes_on_behind_the_gap_when_told() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    store.notes("aab");
    store.seen.lock().gap = Some((1, 2));
    let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    driven.settle();
    assert_eq!(driven.done.take().unwrap().unwrap_err().code(), "gap");
    drop(driven);
    let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    driven.answer(driven.mail.clone().replay_from(3)).unwrap();
    driven.settle();
    assert_eq!(told.handled(), names(&[("b", 1)]));
}

#[test]
fn a_handler_that_meets_another_store_closed_fails_as_any_other() {
    struct Elsewhere(MemoryStore);
    impl EventListener for Elsewhere {
        async fn on(&self, event: &EventEnvelope) -> Result<(), HandlerError> {
            self.0.head(&event.stream).await?;
            Ok(())
        }
    }
    let (store, elsewhere) = (MemoryStore::new(), MemoryStore::new());
    elsewhere.close();
    let retry = RetryPolicy {
        attempts: 2,
        first: Duration::ZERO,
        ceiling: Duration::ZERO,
    };
    let running = EventListenerContainer::builder(store.clone())
        .listener_with(
            "mail",
            Elsewhere(elsewhere),
            ListenerOptions::default().retry(retry),
        )
        .build()
        .unwrap()
        .start()
        .unwrap();
    let position = note(&store, "a");
    let mail = running.control("mail").unwrap().blocking();
    mail.wait_for(position).unwrap();
    assert_eq!(mail.inner().parked()[0].attempts, 2);
    // Its own, closed while the handler meets that: it ends.
    note(&store, "a");
    store.close();
    pollster::block_on(mail.inner().ended());
}

#[test]
fn a_stop_that_comes_while_it_ends_to_replay_is_not_lost() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    told.to("a", 1, Does::Hangs);
    store.notes("ab");
    let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    driven.settle();
    let mail = driven.mail.clone();
    let mut replay = Box::pin(mail.replay_from(1));
    let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
    assert!(replay.as_mut().poll(cx).is_pending());
    driven.settle();
    driven.mail.stop();
    driven.pass(&time, Duration::from_secs(60));
    assert!(matches!(driven.done, Some(Ok(()))), "{:?}", driven.done);
}

#[test]
fn a_stop_that_comes_while_it_fails_is_not_lost() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    told.to("a", 1, Does::Hangs);
    told.to("b", 1, Does::FailsForGood);
    store.notes("ab");
    let running = EventListenerContainer::builder(store.clone())
        .listener_with(
            "mail",
            told.clone(),
            ListenerOptions::default().poison(Poison::Stop),
        )
        .sleeper(Arc::new(time.sleeper()))
        .build()
        .unwrap()
        .start()
        .unwrap();
    while time.sleeper().next_wake().is_none() {
        std::thread::yield_now();
    }
    let mail = running.control("mail").unwrap();
    mail.stop();
    // Answered after the stop was heard.
    assert!(pollster::block_on(mail.retry()).is_ok());
    time.0.advance_micros(10_000_000);
    pollster::block_on(mail.ended());
    running.stop().unwrap();
}

/// Handlers that wait for nothing end where they begin: nothing else is looked at by itself.
#[test]
fn handlers_that_never_wait_keep_neither_a_stop_nor_a_save_from_being_seen() {
    #[derive(Clone, Default)]
    struct Busy {
        mail: Arc<Mutex<Option<ListenerControl>>>,
        handled: Arc<AtomicU64>,
        time: Time,
    }
    impl EventListener for Busy {
        async fn on(&self, _: &EventEnvelope) -> Result<(), HandlerError> {
            self.time.0.advance_micros(100_000);
            if self.handled.fetch_add(1, Ordering::SeqCst) == 500 {
                self.mail.lock().as_ref().unwrap().stop();
            }
            Ok(())
        }
    }
    let (store, busy) = (Watched::new(), Busy::default());
    for _ in 0..1_000 {
        store.note("a");
    }
    let container = EventListenerContainer::builder(store.clone())
        .listener("mail", busy.clone())
        .sleeper(Arc::new(busy.time.sleeper()))
        .build()
        .unwrap();
    *busy.mail.lock() = Some(container.control("mail").unwrap());
    pollster::block_on(container.run()).unwrap();
    let handled = busy.handled.load(Ordering::SeqCst);
    assert!(handled < 520, "{handled} events before the stop was seen");
    // 50 s have passed by its clock.
    assert!(store.saves().len() > 40, "{:?}", store.saves());
}

#[test]
fn a_save_that_fails_while_it_stops_is_tried_once_more_and_told() {
    let (store, time, told) = (Watched::new(), Time::default(), Told::default());
    let mut driven = Driven::new(&store, &time, &told, ListenerOptions::default());
    store.note("a");
    store.seen.lock().save_waits = true;
    driven.settle();
    driven.mail.stop();
    driven.settle();
    assert!(driven.done.is_none(), "it waits for the save under way");
    store.seen.lock().save_waits = false;
    store.seen.lock().save_fails = true;
    driven.pass(&time, Duration::from_millis(1));
    assert!(matches!(driven.done, Some(Err(Error::Io { .. }))));
}

#[test]
fn a_replay_that_is_refused_does_not_let_a_stopped_listener_go_on() {
    let (store, told) = (Watched::new(), Told::default());
    told.to("a", 1, Does::FailsForGood);
    let running = EventListenerContainer::builder(store.clone())
        .listener_with(
            "mail",
            told.clone(),
            ListenerOptions::default().poison(Poison::Stop),
        )
        .build()
        .unwrap()
        .start()
        .unwrap();
    let position = store.note("a");
    let mail = running.control("mail").unwrap();
    assert!(pollster::block_on(mail.wait_for(position)).is_err());
    let beyond = pollster::block_on(mail.replay_from(position + 2)).unwrap_err();
    assert_eq!(beyond.code(), "invalid_input");
    // One that stands answers so; one that runs would say that nothing is parked.
    let stands = pollster::block_on(mail.resume(&id("a"))).unwrap_err();
    assert_eq!(stands.code(), "stopped");
    running.stop().unwrap();
    assert_eq!(told.tried_of("a"), 1);
}
