//! What the server answers, request by request: asked of the server in memory always, and of a real
//! one where `TIDELOG_TEST_SCYLLA` names it. Both must answer the same, since everything above is
//! simulated on the first and runs on the second.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

mod appends;
mod events;
#[cfg(feature = "scylla")]
#[allow(dead_code, reason = "what these cases do not need")]
#[path = "../scylla/keyspaces.rs"]
mod keyspaces;
mod kit;
mod logs;
mod origins;
mod parked;
mod sizes;
mod snapshots;

use kit::{Case, Subject};

/// All cases.
fn cases() -> Vec<(&'static str, Case)> {
    [
        appends::cases(),
        events::cases(),
        logs::cases(),
        origins::cases(),
        parked::cases(),
        sizes::cases(),
        snapshots::cases(),
    ]
    .concat()
}

#[test]
fn the_server_in_memory_answers_as_it_should() {
    let cases = cases();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let subject = Subject::in_memory();
    for (number, (name, case)) in cases.into_iter().enumerate() {
        subject.run(number, name, case);
    }
}

#[cfg(feature = "scylla")]
#[test]
fn the_real_server_answers_the_same() {
    let Some(keyspace) = keyspaces::Keyspace::named("wire") else {
        return;
    };
    let subject = Subject::real(&keyspace);
    for (number, (name, case)) in cases().into_iter().enumerate() {
        subject.run(number, name, case);
    }
}
