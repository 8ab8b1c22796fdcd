//! Streams that are set aside, and what refuses.

use std::time::Duration;

use super::super::sink::Ask;
use super::world::Till;
use super::{accepts, counted, halts, replica};

#[test]
fn however_many_streams_are_refused_each_is_parked_and_the_others_go_on() {
    let mut till = Till::new();
    till.script.world.lock().limit = 100;
    for number in 0..60 {
        till.append(&format!("T/{number}"), 1, 200);
    }
    till.append("T/small", 2, 10);
    till.settle();
    assert_eq!(till.parked().len(), 60);
    assert_eq!(till.sequences("T/small"), [1, 2]);
    till.crash();
    till.run_until(|status| status.parked == 60);
    assert_eq!(till.sequences("T/1"), [0; 0], "each is kept");
    till.script.world.lock().limit = 1_000;
    till.ask(Ask::RetryAll).unwrap();
    till.run_until(|status| status.parked == 0);
    till.settle();
    assert_eq!(till.sequences("T/59"), [1]);
}

#[test]
fn streams_that_wait_for_a_missing_topic_keep_no_other_from_coming_back() {
    let mut till = Till::behind(Some(replica(uuid::Uuid::nil())));
    let mut held = Vec::new();
    for number in 10..40 {
        let stream = format!("A/{number}");
        held.push((stream.clone(), till.append(&stream, 1, 10)));
    }
    held.push(("T/z".to_owned(), till.append("T/z", 2, 10) - 1));
    let last = till.store_last();
    let listed: Vec<(&str, u64)> = held.iter().map(|(s, at)| (&**s, *at)).collect();
    accepts(&till, last, &listed);
    till.run_until(|status| status.withheld == 31);
    accepts(&till, last, &[]);
    till.run_until(|status| status.withheld == 30);
    assert_eq!(till.sequences("T/z"), [1, 2]);
    till.script.world.lock().make("tidelog.A");
    till.run_until(|status| status.withheld == 0);
    let world = till.script.world.lock();
    assert_eq!(world.sequences("tidelog.A").len(), 30);
}

#[test]
fn streams_with_much_to_bring_back_take_turns_with_those_that_have_little() {
    let mut till = Till::behind(Some(replica(uuid::Uuid::nil())));
    let mut held = Vec::new();
    for number in 10..30 {
        let stream = format!("T/a{number}");
        let first = till.append(&stream, 1, 100_000);
        for _ in 0..8 {
            till.append(&stream, 1, 100_000);
        }
        held.push((stream, first));
    }
    held.push(("T/z".to_owned(), till.append("T/z", 1, 10)));
    let last = till.store_last();
    let listed: Vec<(&str, u64)> = held.iter().map(|(s, at)| (&**s, *at)).collect();
    accepts(&till, last, &listed);
    till.run_until(|status| status.withheld == 21);
    accepts(&till, last, &[]);
    let script = till.script.clone();
    till.run_until(|_| {
        script
            .world
            .lock()
            .sequences("tidelog.T")
            .contains_key("T/z")
    });
    let there = till.script.world.lock().sequences("tidelog.T");
    let done = there.values().filter(|of| of.len() == 9).count();
    assert_eq!(done, 0, "it came behind others");
    till.run_until(|status| status.withheld == 0);
    assert_eq!(till.sequences("T/a29"), counted(1, 9));
}

#[test]
fn a_refusal_that_passes_halts_nothing_and_one_that_stays_does() {
    let mut till = Till::new();
    till.append("T/a", 3, 10);
    till.script.world.lock().denies = 2;
    till.crash();
    till.settle();
    assert_eq!(till.sequences("T/a"), counted(1, 3));
    till.script.world.lock().denies = usize::MAX;
    till.crash();
    assert_eq!(halts(&mut till), "halted_refused");
    till.script.world.lock().denies = 0;
    till.tell(crate::replicate::mailbox::Message::Retry)
        .unwrap();
    till.append("T/a", 1, 10);
    till.settle();
}

#[test]
fn a_queue_that_is_full_costs_time_and_nothing_else() {
    let mut till = Till::new();
    till.script.world.lock().full = 40;
    for number in 0..10 {
        till.append(&format!("T/{number}"), 3, 10);
    }
    till.settle();
    assert_eq!(till.script.world.lock().full, 0);
    for number in 0..10 {
        assert_eq!(till.sequences(&format!("T/{number}")), [1, 2, 3]);
    }
    assert_eq!(till.status.status().refused, 0);
}

#[test]
fn what_is_too_large_for_the_client_itself_parks_its_stream_alone_however_many_there_are() {
    let mut till = Till::new();
    till.script.world.lock().message_limit = 100;
    for number in 0..40 {
        let stream = format!("T/{number}");
        till.append(&stream, 1, 10);
        till.append(&stream, 1, if number % 2 == 0 { 200 } else { 10 });
        till.append(&stream, 1, 10);
    }
    till.settle();
    assert_eq!(till.parked().len(), 20);
    assert!(
        till.parked()
            .iter()
            .all(|(_, reason, at)| *reason == "too_large" && *at == 2)
    );
    assert_eq!(till.sequences("T/1"), [1, 2, 3]);
    assert_eq!(till.sequences("T/2"), [1]);
    // Tried again it is the same; with a larger limit all of it comes, in order.
    till.ask(Ask::RetryAll).unwrap();
    till.run_for(Duration::from_secs(1));
    assert_eq!(till.parked().len(), 20);
    till.script.world.lock().message_limit = 1_000;
    till.ask(Ask::RetryAll).unwrap();
    till.run_until(|status| status.parked == 0);
    assert_eq!(till.sequences("T/2"), [1, 2, 3]);
}
