//! What the publisher is told, and what stands there afterwards: asked of Kafka in memory always, and of
//! a real broker through librdkafka. Both must do the same, since the publisher is simulated on the
//! first and runs on the second.
//!
//! | file | subject |
//! |---|---|
//! | `kit` | who is asked, and short ways to ask |
//! | `memory`, `real` | both of them |
//! | `sending` | what is sent, and where it stands |
//! | `refusing` | what is refused, and what with it |
//! | `topics` | topics that are missing, deleted, made again |
//! | `marks` | handshake records, and who may write them |
//! | `generations` | one producer after another |
//! | `accidents` | what brokers do not survive unhurt |

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "these are tests"
)]

mod accidents;
mod generations;
mod kit;
mod marks;
mod memory;
mod real;
mod refusing;
mod sending;
mod topics;

use std::time::Instant;

use self::kit::{Case, Subject};
use self::memory::Memory;
use self::real::Real;
use crate::kafka::services::{self, Own};

/// In memory each runs in so many orders of what can happen.
const ORDERS: u64 = 100;

type Cases<S> = Vec<(&'static str, Case<S>)>;

/// Those that a broker does not notice.
fn gentle<S: Subject>() -> Cases<S> {
    [
        sending::cases(),
        refusing::cases(),
        topics::cases(),
        marks::cases(),
    ]
    .concat()
}

/// Those that stop, kill and rob it.
fn rough<S: Subject>() -> Cases<S> {
    [generations::cases(), accidents::cases()].concat()
}

/// Those that `TIDELOG_CASE` names by a part of their name; all of them without it.
fn chosen<S: Subject>(mut cases: Cases<S>) -> Cases<S> {
    if let Ok(part) = std::env::var("TIDELOG_CASE") {
        cases.retain(|(name, _)| name.contains(&part));
    }
    cases
}

#[test]
fn kafka_in_memory_does_as_it_should() {
    let cases = [gentle(), rough()].concat();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    for (name, case) in chosen(cases) {
        for order in 0..ORDERS {
            let subject = Memory::new(order);
            let said = kit::outcome(|| case(&subject));
            assert_eq!(said, None, "{name}, order {order}");
        }
    }
}

#[test]
fn a_real_broker_does_the_same() {
    let Some(address) = services::kafka() else {
        return;
    };
    // Most of their time they wait.
    let failed = std::thread::scope(|scope| {
        let running: Vec<_> = chosen(gentle())
            .into_iter()
            .map(|(name, case)| {
                let subject = Real::new(&address, None);
                scope.spawn(move || kit::outcome(|| case(&subject)).map(|said| (name, said)))
            })
            .collect();
        let ended = running.into_iter().map(|one| one.join().unwrap());
        ended.flatten().collect::<Vec<_>>()
    });
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_real_broker_that_is_hurt_does_the_same() {
    let Some(own) = Own::kafka() else { return };
    for (name, case) in chosen(rough()) {
        let begun = Instant::now();
        case(&Real::new(&own.address(), Some(&own)));
        println!("{:>6.1?}  {name}", begun.elapsed());
    }
}
