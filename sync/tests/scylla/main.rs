//! Distributed mode against a real server: Cassandra from Maven, or what `TIDELOG_TEST_SCYLLA` names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod child;
mod clock;
mod clones;
#[path = "../tools/compare.rs"]
mod compare;
mod direct;
mod faults;
mod figures;
#[path = "../../../backends/tests/tools/folder.rs"]
mod folder;
#[path = "../tools/heard.rs"]
mod heard;
mod kill;
mod mend;
mod origins;
mod oversized;
#[path = "../tools/plain.rs"]
mod plain;
mod proxied;
#[path = "../tools/proxy.rs"]
mod proxy;
#[path = "../tools/recorder.rs"]
mod recorder;
mod restore;
mod secrets;
mod servers;
#[allow(dead_code, reason = "what a broker is to be")]
#[path = "../tools/services.rs"]
mod services;
mod stages;
mod stop;
#[path = "../tools/streams.rs"]
mod streams;
#[path = "../../../backends/tests/tools/sweep.rs"]
mod sweep;
mod thin_path;
#[path = "../tools/till.rs"]
mod till;
mod tills;
mod truncate;
mod whole_way;
#[path = "../tools/working.rs"]
mod working;

use std::io::Write;

/// Not a test by itself: what tests that kill an application start.
#[test]
fn child_works_until_it_is_killed() {
    child::run_if_told();
}

/// Not by `eprintln`, which a test that passes keeps to itself: the counts are the result.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
