//! Timers: due once, whatever clocks and restarts do.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidelog::*;

use crate::domain::*;
use crate::kit::*;

const SECOND: i64 = 1_000_000;

fn place(world: &World, id: &str, within_seconds: i64) {
    let (id, stock) = (id.to_owned(), "tea".to_owned());
    let within = Some(within_seconds * SECOND);
    world.execute(Place {
        id,
        stock,
        goods: 1,
        within,
    });
}

/// A timer loop, begun as if the program had just been started.
struct Running(Pin<Box<dyn Future<Output = ()>>>);

impl Running {
    fn new(world: &World) -> Self {
        Self::of(world, Kind::TimersOnly)
    }

    fn of(world: &World, kind: Kind) -> Self {
        let sleeper = Arc::new(ManualSleeper::new(Arc::clone(&world.clock)));
        let timers = FoldedTimers::new(Orders(kind), &world.store).unwrap();
        let fires = TimerLoop::new(&world.listener(kind), timers, sleeper);
        let mut running = Self(Box::pin(fires.run(world.store.last_position())));
        running.rest();
        running
    }

    fn rest(&mut self) {
        assert!(rest(self.0.as_mut()).is_pending());
    }
}

fn wait(world: &World) -> Duration {
    let sleeper = ManualSleeper::new(Arc::clone(&world.clock));
    sleeper.next_wake().unwrap()
}

#[test]
fn a_timer_fires_when_it_is_due_and_once() {
    let world = World::new();
    place(&world, "o1", 5);
    let mut running = Running::new(&world);
    assert_eq!(wait(&world), Duration::from_secs(5));
    world.clock.advance_micros(5 * SECOND - 1);
    running.rest();
    assert_eq!(world.types("Order/o1"), ["Placed"]);
    for _ in 0..50 {
        world.clock.advance_micros(SECOND);
        running.rest();
    }
    assert_eq!(world.types("Order/o1"), ["Placed", "Expired"]);
}

#[test]
fn a_timer_that_was_due_while_nobody_ran_fires_once_and_late() {
    let world = World::new();
    place(&world, "o1", 5);
    place(&world, "o2", 500);
    world.clock.advance_micros(3_600 * SECOND);
    for _ in 0..3 {
        Running::new(&world);
    }
    assert_eq!(world.types("Order/o1"), ["Placed", "Expired"]);
    assert_eq!(world.types("Order/o2"), ["Placed", "Expired"]);
}

/// While a machine sleeps its wall clock goes on, and what waiting is measured by does not.
#[test]
fn after_the_machine_slept_what_is_due_is_found_within_half_a_minute() {
    let world = World::new();
    place(&world, "o1", 3_600);
    let mut running = Running::new(&world);
    assert_eq!(
        wait(&world),
        Duration::from_secs(30),
        "it never waits longer"
    );
    world.clock.set(Timestamp::from_micros(7_200 * SECOND));
    world.clock.advance_micros(30 * SECOND);
    running.rest();
    assert_eq!(world.types("Order/o1"), ["Placed", "Expired"]);
}

#[test]
fn a_timer_that_was_cleared_does_not_fire() {
    let world = World::new();
    place(&world, "o1", 5);
    let mut running = Running::new(&world);
    world.execute(Record {
        id: "o1".into(),
        refusal: None,
    });
    world.clock.advance_micros(60 * SECOND);
    running.rest();
    drop(running);
    Running::new(&world);
    assert_eq!(world.types("Order/o1"), ["Placed", "Served"]);
}

#[test]
fn a_clock_that_jumps_either_way_fires_nothing_twice() {
    let world = World::new();
    place(&world, "o1", 5);
    let mut running = Running::new(&world);
    world.clock.set(Timestamp::from_micros(10 * SECOND));
    world.clock.advance_micros(5 * SECOND);
    running.rest();
    world
        .clock
        .set(Timestamp::from_micros(-315_360_000 * SECOND));
    for _ in 0..3 {
        world.clock.advance_micros(30 * SECOND);
        running.rest();
    }
    drop(running);
    world.clock.set(Timestamp::from_micros(10 * SECOND));
    Running::new(&world);
    assert_eq!(world.types("Order/o1"), ["Placed", "Expired"]);
}

#[test]
fn a_timer_set_while_it_waits_for_a_later_one_is_heard_of() {
    let world = World::new();
    place(&world, "o1", 20);
    let sleeper = Arc::new(ManualSleeper::new(Arc::clone(&world.clock)));
    let listener = world.listener(Kind::TimersOnly);
    let timers = FoldedTimers::new(Orders(Kind::TimersOnly), &world.store).unwrap();
    let fires = TimerLoop::new(&listener, timers, sleeper);
    let mut running = Running(Box::pin(fires.run(1)));
    running.rest();
    place(&world, "o2", 5);
    let placed = world.log().pop().unwrap();
    assert!(listener.wants(&placed));
    pollster::block_on(listener.on(&placed)).unwrap();
    running.rest();
    assert_eq!(wait(&world), Duration::from_secs(5));
    world.clock.advance_micros(5 * SECOND);
    running.rest();
    assert_eq!(world.types("Order/o2"), ["Placed", "Expired"]);
}

#[test]
fn a_timer_whose_command_fails_is_tried_again_and_the_others_fire() {
    let world = World::new();
    place(&world, "o1", 5);
    place(&world, "o2", 6);
    world.bus.loses.lock().extend([(0, false), (2, true)]);
    let mut running = Running::new(&world);
    world.clock.advance_micros(7 * SECOND);
    running.rest();
    assert_eq!(world.types("Order/o1"), ["Placed"]);
    assert_eq!(world.types("Order/o2"), ["Placed", "Expired"]);
    assert!(wait(&world) <= Duration::from_millis(100));
    for _ in 0..5 {
        world.clock.advance_micros(SECOND);
        running.rest();
    }
    assert_eq!(world.types("Order/o1"), ["Placed", "Expired"]);
    assert_eq!(world.log().len(), 4);
}

#[test]
fn many_timers_that_fired_and_still_stand_do_not_hide_the_next_and_are_not_fired_in_a_circle() {
    let world = World::new();
    let many = 10_100;
    for n in 0..many {
        place(&world, &format!("o{n}"), 1);
    }
    place(&world, "last", 3);
    let mut running = Running::of(&world, Kind::NeverClears);
    for _ in 0..10 {
        world.clock.advance_micros(SECOND);
        running.rest();
    }
    assert_eq!(world.types("Order/last"), ["Placed", "Expired"]);
    assert_eq!(world.log().len(), 2 * (many + 1));
    let executed = world.bus.executed.load(Ordering::SeqCst);
    assert_eq!(usize::try_from(executed).unwrap(), many + 1);
}

#[test]
fn an_event_whose_timer_cannot_be_told_keeps_no_other_from_firing() {
    let world = World::new();
    place(&world, "odd", 5);
    place(&world, "o1", 5);
    let mut running = Running::of(&world, Kind::CannotSay);
    world.clock.advance_micros(5 * SECOND);
    running.rest();
    world.clock.advance_micros(60 * SECOND);
    running.rest();
    assert_eq!(world.types("Order/o1"), ["Placed", "Expired"]);
    assert_eq!(world.types("Order/odd"), ["Placed"]);
}

#[test]
fn a_timer_set_again_for_the_moment_it_was_cleared_at_fires_and_one_that_fired_does_not() {
    let world = World::new();
    place(&world, "o1", 5);
    let mut running = Running::new(&world);
    let id = "o1".to_owned();
    world.execute(Record { id, refusal: None });
    world.clock.advance_micros(SECOND);
    place(&world, "o1", 4);
    running.rest();
    world.clock.advance_micros(4 * SECOND);
    running.rest();
    world.clock.advance_micros(30 * SECOND);
    running.rest();
    let once = ["Placed", "Served", "Placed", "Expired"];
    assert_eq!(world.types("Order/o1"), once);
    world.clock.set(Timestamp::from_micros(0));
    place(&world, "o1", 5);
    for _ in 0..3 {
        world.clock.advance_micros(30 * SECOND);
        running.rest();
    }
    drop(running);
    Running::new(&world);
    assert_eq!(world.types("Order/o1")[4..], ["Placed"]);
}
