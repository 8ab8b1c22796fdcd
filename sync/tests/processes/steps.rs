//! Steps: what they record, and that nothing happens twice.

use tidelog::*;

use crate::domain::*;
use crate::kit::*;

fn place(world: &World, id: &str, goods: u64) {
    let (id, stock) = (id.to_owned(), "tea".to_owned());
    let within = None;
    world.execute(Place {
        id,
        stock,
        goods,
        within,
    });
}

fn fill(world: &World, goods: u64) {
    world.execute(Fill {
        id: "tea".into(),
        goods,
    });
}

fn stock(world: &World) -> u64 {
    let repository = AggregateRepository::<Stock, _>::new(world.store.clone());
    let stock = pollster::block_on(repository.load("tea")).unwrap();
    stock.map_or(0, |stock| stock.state.goods)
}

#[test]
fn a_step_executes_its_command_and_records_the_outcome() {
    let world = World::new();
    fill(&world, 5);
    place(&world, "o1", 3);
    place(&world, "o2", 3);
    world.run(Kind::Right);
    let mut ends = [world.types("Order/o1"), world.types("Order/o2")];
    ends.sort(); // streams are handled side by side
    assert_eq!(ends, [["Placed", "Refused"], ["Placed", "Served"]]);
    assert_eq!(stock(&world), 2);
}

#[test]
fn ids_and_metadata_of_its_commands_follow_from_the_event() {
    let world = World::new();
    fill(&world, 5);
    let parent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        .parse()
        .unwrap();
    for (id, context) in [
        (
            "o1",
            Context::new()
                .with_correlation_id("cart-7")
                .with_traceparent(&parent),
        ),
        ("o2", Context::new()),
    ] {
        let (id, stock) = (id.to_owned(), "tea".to_owned());
        let command = Place {
            id,
            stock,
            goods: 1,
            within: None,
        };
        world.execute_with(command, context);
    }
    world.run(Kind::Right);
    let log = world.log();
    for (placed, correlation) in [
        (&log[1], "cart-7".to_owned()),
        (&log[2], log[2].event_id.to_string()),
    ] {
        let prefix = format!("pm/orders/{}/0", placed.event_id);
        for (id, event_type) in [
            (prefix.clone(), "Taken"),
            (format!("{prefix}/outcome"), "Served"),
        ] {
            let event_id = CommandId::new(id).unwrap().event_id(0);
            let event = log.iter().find(|event| event.event_id == event_id).unwrap();
            assert_eq!(&*event.event_type, event_type);
            let metadata = &event.metadata;
            assert_eq!(
                metadata.get(CAUSATION_ID),
                Some(&*placed.event_id.to_string())
            );
            assert_eq!(metadata.get(CORRELATION_ID), Some(&*correlation));
            assert_eq!(metadata.get(TRACEPARENT), placed.metadata.get(TRACEPARENT));
            assert_eq!(metadata.get(TRACE_ID), placed.metadata.get(TRACE_ID));
        }
    }
}

#[test]
fn everything_delivered_again_records_nothing_again() {
    let world = World::new();
    fill(&world, 5);
    for n in 0..8 {
        place(&world, &format!("o{n}"), 1);
    }
    world.run(Kind::Right);
    let log = world.log();
    assert_eq!(log.len(), 1 + 8 + 5 + 8);
    let executed = world.bus.executed.load(std::sync::atomic::Ordering::SeqCst);
    world.run_from(Kind::Right, Some(1));
    assert_eq!(world.log(), log);
    let again = world.bus.executed.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(
        again, executed,
        "steps whose outcome is recorded are passed over whole"
    );
}

/// The rejection left nothing in the stock's stream, and the command would be accepted now.
#[test]
fn a_command_that_was_rejected_is_not_executed_when_its_event_comes_again() {
    let world = World::new();
    place(&world, "o1", 3);
    world.run(Kind::Right);
    assert_eq!(world.types("Order/o1"), ["Placed", "Refused"]);
    fill(&world, 5);
    world.run_from(Kind::Right, Some(1));
    assert_eq!(world.types("Order/o1"), ["Placed", "Refused"]);
    assert_eq!(stock(&world), 5);
}

#[test]
fn an_answer_lost_at_any_place_changes_nothing() {
    for number in 0..4 {
        for executed in [true, false] {
            let world = World::new();
            fill(&world, 5);
            place(&world, "o1", 3);
            place(&world, "o2", 3);
            world.bus.loses.lock().push((number, executed));
            world.run(Kind::Right);
            let served = [world.types("Order/o1"), world.types("Order/o2")];
            let served = served
                .iter()
                .filter(|types| **types == ["Placed", "Served"]);
            assert_eq!(
                served.count(),
                1,
                "answer {number} lost, executed: {executed}"
            );
            assert_eq!((stock(&world), world.log().len()), (2, 6));
        }
    }
}

#[test]
fn a_rejected_command_without_an_outcome_parks_the_process_and_resuming_tries_it_again() {
    let world = World::new();
    place(&world, "o1", 3);
    let control = world.run(Kind::WithoutOutcome);
    let parked = control.parked();
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].stream.as_str(), "Order/o1");
    assert_eq!(
        &*parked[0].reason,
        r#"Take { id: "tea", goods: 3 } was rejected: there is not enough"#
    );
}

#[test]
fn an_outcome_that_would_not_be_found_again_parks_the_process() {
    for (kind, reason) in [
        (Kind::RecordsNothing, "recorded nothing"),
        (
            Kind::RecordsElsewhere,
            "name the aggregate that the process stands in",
        ),
    ] {
        let world = World::new();
        fill(&world, 5);
        place(&world, "o1", 3);
        let parked = world.run(kind).parked();
        assert!(
            parked[0].reason.contains(reason),
            "{kind:?}: {}",
            parked[0].reason
        );
        assert_eq!(world.types("Order/o1-other"), [] as [String; 0]);
    }
}

#[test]
fn an_event_that_is_none_of_the_process_costs_no_command() {
    let world = World::new();
    fill(&world, 5);
    let control = world.run(Kind::Right);
    assert_eq!(control.status().settled, 1);
    assert_eq!(
        world.bus.executed.load(std::sync::atomic::Ordering::SeqCst),
        0
    );
}
