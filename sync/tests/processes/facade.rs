//! Managers of an embedded store: opened with it, closed with it.

use std::sync::Arc;
use std::time::Duration;

use tidelog::*;

use crate::domain::*;

fn open(path: &std::path::Path, clock: &Arc<ManualClock>) -> Tidelog {
    Tidelog::builder(path)
        .clock(Arc::clone(clock) as Arc<dyn Clock>)
        .sleeper(Arc::new(ManualSleeper::new(Arc::clone(clock))))
        .process_manager(Orders(Kind::Right))
        .open()
        .unwrap()
}

fn place(log: &BlockingTidelog, id: &str, within: Option<i64>) -> u64 {
    let (id, stock) = (id.to_owned(), "tea".to_owned());
    let placed = log
        .execute(Place {
            id,
            stock,
            goods: 1,
            within,
        })
        .unwrap();
    placed.position.unwrap()
}

fn types(log: &BlockingTidelog, id: &str) -> Vec<String> {
    let stream = StreamId::new("Order", id).unwrap();
    let events = log.read_stream(StreamQuery::new(stream));
    events
        .map(|event| event.unwrap().event_type.to_string())
        .collect()
}

fn wait_for_all(log: &BlockingTidelog) {
    let control = log.inner().process_manager::<Orders>().unwrap();
    pollster::block_on(control.wait_for(log.last_position())).unwrap();
}

/// The next event of the log: what a thread of the library records comes some time.
fn await_event(events: &mut BlockingEventStream, event_type: &str) {
    loop {
        let event = events.next_timeout(Duration::from_secs(60)).unwrap();
        if &*event.expect("it comes").event_type == event_type {
            return;
        }
    }
}

#[test]
fn a_manager_runs_while_the_store_is_open_and_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let clock = Arc::new(ManualClock::default());
    for round in 1..=3 {
        let log = open(&path, &clock).blocking();
        log.execute(Fill {
            id: "tea".into(),
            goods: 1,
        })
        .unwrap();
        let id = format!("o{round}");
        place(&log, &id, None);
        wait_for_all(&log);
        assert_eq!(types(&log, &id), ["Placed", "Served"]);
        if round == 2 {
            log.close().unwrap();
        }
        // Else dropping it closes it: the next open finds the lock free.
    }
    let log = open(&path, &clock).blocking();
    wait_for_all(&log);
    assert_eq!(
        log.last_position(),
        log.read_all(LogQuery::all()).count() as u64
    );
    let served = log.read_all(LogQuery::all()).filter(|event| {
        let event = event.as_ref().unwrap();
        &*event.event_type == "Taken"
    });
    assert_eq!(served.count(), 3);
}

#[test]
fn what_was_placed_while_no_manager_ran_is_done_at_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let log = Tidelog::open(&path).unwrap().blocking();
    log.execute(Fill {
        id: "tea".into(),
        goods: 5,
    })
    .unwrap();
    place(&log, "o1", None);
    let none = log.inner().process_manager::<Orders>().unwrap_err();
    assert_eq!(none.code(), "invalid_input");
    drop(log);
    let log = open(&path, &Arc::default()).blocking();
    wait_for_all(&log);
    assert_eq!(types(&log, "o1"), ["Placed", "Served"]);
}

#[test]
fn a_timer_fires_while_the_store_is_open_and_one_missed_meanwhile_after_opening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let clock = Arc::new(ManualClock::default());
    let timers_only = || {
        Tidelog::builder(&path)
            .clock(Arc::clone(&clock) as Arc<dyn Clock>)
            .sleeper(Arc::new(ManualSleeper::new(Arc::clone(&clock))))
            .process_manager(Orders(Kind::TimersOnly))
            .open()
            .unwrap()
            .blocking()
    };
    let log = timers_only();
    let mut events = log.subscribe(Subscribe::All { after: 0 });
    place(&log, "o1", Some(5_000_000));
    place(&log, "o2", Some(500_000_000));
    wait_for_all(&log);
    clock.advance_micros(5_000_000);
    await_event(&mut events, "Expired");
    assert_eq!(types(&log, "o1"), ["Placed", "Expired"]);
    drop((log, events));

    clock.advance_micros(3_600_000_000);
    for _ in 0..2 {
        let log = timers_only();
        let mut events = log.subscribe(Subscribe::All { after: 0 });
        await_event(&mut events, "Expired");
        await_event(&mut events, "Expired");
        assert_eq!(types(&log, "o2"), ["Placed", "Expired"]);
        wait_for_all(&log);
    }
}

#[test]
fn a_process_that_is_parked_is_shown_and_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let opened = || {
        let builder = Tidelog::builder(&path).process_manager(Orders(Kind::WithoutOutcome));
        builder.open().unwrap().blocking()
    };
    let log = opened();
    place(&log, "o1", None);
    wait_for_all(&log);
    log.close().unwrap();
    drop(log);
    std::fs::remove_dir_all(path.join("index")).unwrap();
    let log = opened();
    wait_for_all(&log);
    let control = log.inner().process_manager::<Orders>().unwrap();
    let parked = control.parked();
    assert!(
        parked[0].reason.contains("there is not enough"),
        "{parked:?}"
    );
    log.execute(Fill {
        id: "tea".into(),
        goods: 1,
    })
    .unwrap();
    pollster::block_on(control.resume(&parked[0].stream)).unwrap();
    let stock = log.load::<Stock>("tea").unwrap().unwrap();
    assert_eq!(stock.state.goods, 0);
}

#[tokio::test(flavor = "current_thread")]
async fn closing_asynchronously_ends_the_managers_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let log = open(&path, &Arc::default());
    let control = log.process_manager::<Orders>().unwrap();
    log.execute(Fill {
        id: "tea".into(),
        goods: 1,
    })
    .await
    .unwrap();
    log.close().await.unwrap();
    assert!(matches!(control.status().phase, ListenerPhase::Ended));
    Tidelog::open(&path).unwrap();
}

/// Whoever drops the last handle on the managers' own thread must not wait for that thread.
#[test]
fn the_last_handle_may_be_dropped_by_a_manager() {
    struct Last(Arc<parking_lot::Mutex<Option<Tidelog>>>);
    impl ProcessManager for Last {
        const NAME: &'static str = "last";
        fn on(
            &self,
            event: &EventEnvelope,
            _: &mut Steps<impl CommandBus>,
        ) -> Result<(), HandlerError> {
            if event.aggregate_type() == "Order" {
                drop(self.0.lock().take());
            }
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let held = Arc::new(parking_lot::Mutex::new(None));
    let log = Tidelog::builder(&path)
        .process_manager(Last(Arc::clone(&held)))
        .open()
        .unwrap();
    let control = log.process_manager::<Last>().unwrap();
    place(&log.blocking(), "o1", None);
    // The event may have come before there was anything to drop: then the next one does it.
    *held.lock() = Some(log.clone());
    place(&log.blocking(), "o2", None);
    drop(log);
    pollster::block_on(control.ended());
    // The thread gives its handles up after it said that it ended.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while let Err(error) = Tidelog::open(&path) {
        assert_eq!(error.code(), "locked");
        assert!(std::time::Instant::now() < deadline, "it is never closed");
        std::thread::yield_now();
    }
}
