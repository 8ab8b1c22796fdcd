//! Copies of a store that is published to Kafka alone.

use std::time::Duration;

use tidelog_core::CheckpointStore as _;

use super::world::Till;
use super::{counted, halts};
use crate::kafka::sink::Ask;
use crate::replicate::Other;
use crate::replicate::mailbox::Message;

fn sent(till: &Till) -> usize {
    till.script.world.lock().topics["tidelog.T"].len()
}

#[test]
fn a_copy_is_noticed_also_while_what_others_are_told_of_the_log_stands_still() {
    let mut till = Till::new();
    till.script.world.lock().limit = 100;
    till.append("T/a", 1, 10);
    // Nothing behind it is told as long as it is parked.
    till.append("T/a", 1, 200);
    till.append("T/b", 1, 10);
    till.settle();
    till.run_for(Duration::from_secs(3));
    till.script.world.lock().take_over();
    till.append("T/b", 1, 10);
    assert_eq!(halts(&mut till), "halted_cloned");
}

#[test]
fn after_a_rest_nothing_is_sent_before_it_is_known_that_no_copy_took_the_place() {
    let mut till = Till::new();
    till.append("T/a", 3, 10);
    till.settle();
    till.run_for(Duration::from_secs(3));
    till.script.world.lock().take_over();
    till.skip(Duration::from_secs(60));
    till.append("T/a", 1, 10);
    assert_eq!(halts(&mut till), "halted_cloned");
    assert_eq!(sent(&till), 3);
}

#[test]
fn while_nobody_says_that_no_copy_took_the_place_nothing_goes_out_for_longer_than_ten_seconds() {
    let mut till = Till::new();
    till.append("T/a", 1, 10);
    till.settle();
    till.script.world.lock().is_mute = true;
    for _ in 0..20 {
        till.append("T/a", 1, 10);
        till.run_for(Duration::from_secs(1));
    }
    let before = sent(&till);
    assert!((6..=12).contains(&before), "{before}");
    till.append("T/a", 1, 10);
    till.run_for(Duration::from_secs(5));
    assert_eq!(sent(&till), before);
    till.script.world.lock().is_mute = false;
    till.settle();
    assert_eq!(till.sequences("T/a"), counted(1, 22));
}

#[test]
fn a_store_that_rests_asks_nobody_and_one_that_publishes_asks_once_a_second() {
    let mut till = Till::new();
    till.append("T/a", 1, 10);
    till.settle();
    till.run_for(Duration::from_secs(5));
    let before = till.script.world.lock().marks;
    till.run_for(Duration::from_secs(60));
    assert_eq!(till.script.world.lock().marks, before);
    for _ in 0..100 {
        till.append("T/a", 1, 10);
        till.run_for(Duration::from_millis(100));
    }
    till.settle();
    till.run_for(Duration::from_secs(5));
    let marks = till.script.world.lock().marks - before;
    assert!((8..=14).contains(&marks), "{marks}");
}

#[test]
fn a_store_that_forgot_while_the_cluster_was_away_is_no_copy_of_itself() {
    let mut till = Till::new();
    till.append("T/a", 3, 10);
    till.settle();
    till.run_for(Duration::from_secs(2));
    till.script.world.lock().is_down = true;
    till.stop();
    till.crash();
    till.run_for(Duration::from_secs(5));
    till.tell(Message::ForgetState).unwrap();
    till.crash();
    till.script.world.lock().is_down = false;
    till.append("T/a", 1, 10);
    till.settle();
    // All of it once more, under its own name.
    assert_eq!(sent(&till), 7);
}

#[test]
fn one_whose_state_cannot_be_read_is_taken_for_a_copy_and_goes_on_by_a_fork() {
    let mut till = Till::new();
    till.append("T/a", 3, 10);
    till.settle();
    till.run_for(Duration::from_secs(2));
    till.stop();
    let damaged = till
        .store
        .save(crate::kafka::state::NAME, 0, b"?"[..].into());
    pollster::block_on(damaged).unwrap();
    till.crash();
    assert_eq!(halts(&mut till), "halted_state_damaged");
    till.tell(Message::ForgetState).unwrap();
    assert_eq!(halts(&mut till), "halted_cloned");
    till.ask(Ask::Fork(Other::Gone)).unwrap();
    till.append("T/a", 1, 10);
    till.settle();
    assert_eq!(till.sequences("T/a"), counted(1, 4));
}
