//! Waiting for what is published once more.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::halts;
use super::world::Till;
use crate::Republishing;
use crate::kafka::republish::Over;
use crate::kafka::sink::Ask;
use crate::kafka::status::PublishingState;
use crate::replicate::mailbox::Message;
use tidelog_core::Error;

/// What a user's call does.
fn republish(till: &mut Till) -> Republishing {
    let over = Arc::<Over>::default();
    let (from, to) = (1, u64::MAX);
    till.ask(Ask::Republish { from, to }).unwrap();
    till.ask(Ask::Await(Arc::clone(&over))).unwrap();
    Republishing::new(Arc::clone(&till.status), over)
}

fn now(pass: &Republishing) -> Option<Result<(), Error>> {
    let cx = &mut Context::from_waker(Waker::noop());
    match pin!(pass.wait()).poll(cx) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

#[test]
fn whoever_waits_is_told_when_the_cluster_has_all_of_it_again() {
    let mut till = Till::new();
    till.append("T/a", 10, 10);
    till.settle();
    till.script.world.lock().is_still = true;
    let pass = republish(&mut till);
    let waits = pass.clone();
    let waits = std::thread::spawn(move || waits.blocking().wait());
    till.run_until(|status| status.in_flight > 0);
    assert!(now(&pass).is_none());
    // Trouble in between is no end.
    till.script.world.lock().is_down = true;
    till.run_for(std::time::Duration::from_secs(5));
    assert!(now(&pass).is_none());
    let world = Arc::clone(&till.script.world);
    (world.lock().is_down, world.lock().is_still) = (false, false);
    till.run_until(|_| now(&pass).is_some());
    now(&pass).unwrap().unwrap();
    let state = till.status.status().state;
    assert!(
        !matches!(state, PublishingState::Republishing { .. }),
        "{state:?}"
    );
    assert!(world.lock().topics["tidelog.T"].len() >= 20);
    waits.join().unwrap().unwrap();
    // Of one that is over before anybody asks, it is told at once.
    let over = Arc::<Over>::default();
    till.ask(Ask::Await(Arc::clone(&over))).unwrap();
    over.answer().unwrap().unwrap();
}

#[test]
fn whoever_waits_is_told_that_it_stands_still_and_that_it_was_forgotten() {
    let mut till = Till::new();
    till.append("T/a", 10, 10);
    till.settle();
    till.script.world.lock().is_still = true;
    let pass = republish(&mut till);
    assert!(now(&pass).is_none());
    // Another cluster, which knows nothing of this store.
    till.script.world.lock().id = "c2";
    till.script.world.lock().record = None;
    till.tell(Message::Retry).unwrap();
    assert_eq!(halts(&mut till), "halted_other_cluster");
    let halted = now(&pass).unwrap();
    assert!(matches!(halted, Err(Error::Halted(_))), "{halted:?}");
    till.script.world.lock().is_still = false;
    till.tell(Message::ForgetState).unwrap();
    till.run_until(|_| now(&pass).is_some());
    let forgotten = now(&pass).unwrap().unwrap_err();
    assert_eq!(forgotten.code(), "invalid_input", "{forgotten}");
}
